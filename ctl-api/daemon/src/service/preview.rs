//! What a batch would do: tried on a copy of everything, off the control thread.

use std::sync::Arc;

use prost::Message as _;
use tieline_engine::tables::Tables;
use tieline_engine::types::{MacAddr, PortId};
use tieline_proto::v1;
use tieline_rib::{DeviceState, PortInfo, Rib};
use tonic::Status;

use super::status;
use crate::admission::Admission;
use crate::batch;
use crate::control::Control;
use crate::rights::Rights;

/// Bytes of a reply, below the 4 MiB that clients accept.
const MAX_REPLY: usize = 3 << 20;

/// Stands for the MAC of a device that is not open yet.
const SOME_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0]);

/// Says what a batch would do, if somebody with these rights sent it.
///
/// # Errors
/// When the request is not valid, or the daemon is stopping.
pub async fn preview(
    control: &Control,
    request: v1::PreviewRequest,
    rights: Rights,
) -> Result<v1::PreviewReply, Status> {
    let (rib, tables, sessions, devices) = control
        .read(|gateway| {
            let (rib, tables) = gateway.copy();
            let sessions =
                rib.vrfs().map(|(name, id)| (name.to_owned(), gateway.engine().vrf_totals(id).sessions));
            let sessions: Vec<(String, u64)> = sessions.collect();
            (rib, tables, sessions, Arc::clone(gateway.ports().allowed()))
        })
        .await?;
    let tried = tokio::task::spawn_blocking(move || {
        try_out(rib, tables, request, Admission { rights: &rights, devices: &devices })
    });
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
    admission: Admission<'_>,
) -> Result<v1::PreviewReply, Status> {
    let batch = request.batch.ok_or_else(|| Status::invalid_argument("batch: no batch: set it"))?;
    let (rib_before, tables_before) = (rib.clone(), tables.clone());
    let by = rib.controller(&request.controller).map_err(|refusal| status(&refusal))?;
    rib.keep_journal(true);
    if request.replaces_all {
        rib.begin_sync(by, &mut tables);
    }
    let done = batch::carry_out(&mut rib, &mut tables, admission, by, batch, &|_, _| {});
    if request.replaces_all && done.refused.is_empty() {
        while !rib.sweep(by, usize::MAX, &mut tables).1 {}
    }
    open_devices(&rib_before, &mut rib, &mut tables);
    let difference = tieline_rib::difference::between((&rib_before, &tables_before), (&mut rib, &tables));
    Ok(v1::PreviewReply { refused: done.refused, waiting: done.waiting, ..difference })
}

/// Supposes that the devices open that would be asked for. Ports whose devices
/// are as they were before stay as they are.
fn open_devices(before: &Rib, rib: &mut Rib, tables: &mut Tables) {
    let mac_before = |id: PortId| {
        before.declared_ports().find(|port| port.id == id).and_then(|port| match port.device {
            DeviceState::Open(info) => Some(info.mac),
            DeviceState::Opening | DeviceState::Closed(_) => None,
        })
    };
    let is_new = |id: PortId, rib: &Rib| {
        let spec = |rib: &Rib| rib.declared_ports().find(|port| port.id == id).map(|port| port.spec.clone());
        spec(before) != spec(rib)
    };
    let opening = rib.declared_ports().filter(|port| *port.device == DeviceState::Opening);
    let opening: Vec<(PortId, u16)> =
        opening.filter(|port| is_new(port.id, rib)).map(|port| (port.id, port.spec.mtu)).collect();
    for (id, mtu) in opening {
        rib.port_opened(id, PortInfo { mac: mac_before(id).unwrap_or(SOME_MAC), mtu }, tables);
    }
}
