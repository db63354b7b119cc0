//! What a batch would do: tried on a copy of everything, off the control thread.

use prost::Message as _;
use tieline_engine::tables::Tables;
use tieline_engine::types::{MacAddr, PortId};
use tieline_proto::v1;
use tieline_rib::spec::port::PortSpec;
use tieline_rib::{PortInfo, Ports, Rib};
use tonic::Status;

use super::status;
use crate::batch;
use crate::control::Control;

/// Bytes of a reply, below the 4 MiB that clients accept.
const MAX_REPLY: usize = 3 << 20;

/// Devices that always open.
#[derive(Debug)]
struct NoDevices;

impl Ports for NoDevices {
    fn open(&mut self, _: PortId, spec: &PortSpec) -> Result<PortInfo, String> {
        // A device's own MAC is not known before it is open.
        Ok(PortInfo { mac: MacAddr([0x02, 0, 0, 0, 0, 0]), mtu: spec.mtu })
    }

    fn close(&mut self, _: PortId) {}
}

/// Says what a batch would do.
///
/// # Errors
/// When the request is not valid, or the daemon is stopping.
pub async fn preview(control: &Control, request: v1::PreviewRequest) -> Result<v1::PreviewReply, Status> {
    let (rib, tables, sessions) = control
        .read(|gateway| {
            let (rib, tables) = gateway.copy();
            let sessions =
                rib.vrfs().map(|(name, id)| (name.to_owned(), gateway.engine().vrf_totals(id).sessions));
            let sessions: Vec<(String, u64)> = sessions.collect();
            (rib, tables, sessions)
        })
        .await?;
    let tried = tokio::task::spawn_blocking(move || try_out(rib, tables, request));
    let mut reply =
        tried.await.map_err(|error| Status::internal(format!("the preview failed: {error}")))??;
    for vrf in &mut reply.vrfs {
        let found = sessions.iter().find(|(name, _)| *name == vrf.vrf);
        vrf.sessions = found.map_or(0, |(_, sessions)| *sessions);
    }
    while reply.encoded_len() > MAX_REPLY && !reply.objects.is_empty() {
        let half = reply.objects.len() / 2;
        reply.more_objects += (reply.objects.len() - half) as u64;
        reply.objects.truncate(half);
    }
    Ok(reply)
}

fn try_out(
    mut rib: Rib,
    mut tables: Tables,
    request: v1::PreviewRequest,
) -> Result<v1::PreviewReply, Status> {
    let batch = request.batch.ok_or_else(|| Status::invalid_argument("batch: no batch: set it"))?;
    let (rib_before, tables_before) = (rib.clone(), tables.clone());
    let by = rib.controller(&request.controller).map_err(|refusal| status(&refusal))?;
    rib.keep_journal(true);
    if request.replaces_all {
        rib.begin_sync(by, &mut tables);
    }
    let mut devices = NoDevices;
    let done = batch::carry_out(&mut rib, &mut tables, &mut devices, by, batch, &|_, _| {});
    if request.replaces_all && done.refused.is_empty() {
        while !rib.sweep(by, usize::MAX, &mut tables, &mut devices).1 {}
    }
    let difference = tieline_rib::difference::between((&rib_before, &tables_before), (&mut rib, &tables));
    Ok(v1::PreviewReply { refused: done.refused, waiting: done.waiting, ..difference })
}
