//! What a gateway really holds, read over its API.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::operations_client::OperationsClient;
use tieline_proto::v1::watch_exports_reply::What;
use tonic::transport::Channel;

use crate::gateway::Address;

/// Objects in one reply: below any limit of a message's size.
const PAGE: u32 = 5000;
/// Most entries of anything: no gateway has more.
const LIMIT: usize = 4_000_000;
/// Largest reply in bytes.
const MAX_REPLY: usize = 64 << 20;

/// Kinds of objects that a controller declares.
const KINDS: [v1::ObjectKind; 4] =
    [v1::ObjectKind::SecurityGroup, v1::ObjectKind::Vrf, v1::ObjectKind::Interface, v1::ObjectKind::NextHop];

/// What a gateway holds of one controller, and forwards by.
#[derive(Debug, Default)]
pub struct Holds {
    /// Objects, routes apart.
    pub objects: Vec<v1::ObjectWithStatus>,
    /// Routes.
    pub routes: Vec<v1::ObjectWithStatus>,
    /// Prefixes with a forwarding entry, by VRF; a VRF that is not there has
    /// none.
    pub forwarding: BTreeMap<String, BTreeSet<IpNet>>,
    /// What VRFs originate.
    pub exports: Vec<v1::Export>,
}

/// Reads what a gateway holds of a controller, with the forwarding entries of
/// these VRFs.
///
/// # Errors
/// Why it cannot be read.
pub async fn read(address: &Address, controller: &str, vrfs: &[String]) -> Result<Holds, String> {
    let channel = address.connect().await?;
    let mut control = ControlClient::new(channel.clone()).max_decoding_message_size(MAX_REPLY);
    let mut operations = OperationsClient::new(channel).max_decoding_message_size(MAX_REPLY);
    let mut holds = Holds::default();
    for kind in KINDS {
        holds.objects.append(&mut list(&mut control, kind, controller).await?);
    }
    holds.routes = list(&mut control, v1::ObjectKind::Route, controller).await?;
    for vrf in vrfs {
        holds.forwarding.insert(vrf.clone(), forwarding(&mut operations, vrf).await?);
    }
    holds.exports = exports(&mut control).await?;
    Ok(holds)
}

fn cannot(what: &str) -> impl Fn(tonic::Status) -> String {
    let what = what.to_owned();
    move |status| format!("cannot read its {what}: {}", status.message())
}

async fn list(
    control: &mut ControlClient<Channel>,
    kind: v1::ObjectKind,
    controller: &str,
) -> Result<Vec<v1::ObjectWithStatus>, String> {
    let filter = v1::ListFilter { controller: controller.to_owned(), ..Default::default() };
    let mut request =
        v1::ListRequest { kind: kind.into(), page_size: PAGE, filter: Some(filter), ..Default::default() };
    let mut all = Vec::new();
    loop {
        let reply = control.list(request.clone()).await.map_err(cannot("objects"))?.into_inner();
        all.extend(reply.items);
        if reply.next_page_token.is_empty() {
            return Ok(all);
        }
        if all.len() > LIMIT || reply.next_page_token == request.page_token {
            return Err("it lists objects without an end".to_owned());
        }
        request.page_token = reply.next_page_token;
    }
}

async fn forwarding(
    operations: &mut OperationsClient<Channel>,
    vrf: &str,
) -> Result<BTreeSet<IpNet>, String> {
    let mut request = v1::ListRoutesRequest { vrf: vrf.to_owned(), page_size: PAGE, ..Default::default() };
    let mut all = BTreeSet::new();
    loop {
        let reply = match operations.list_routes(request.clone()).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(BTreeSet::new()),
            Err(status) => return Err(cannot("forwarding entries")(status)),
        };
        all.extend(reply.routes.iter().filter_map(|entry| entry.prefix.parse::<IpNet>().ok()));
        if reply.next_page_token.is_empty() {
            return Ok(all);
        }
        if all.len() > LIMIT || reply.next_page_token == request.page_token {
            return Err(format!("it lists forwarding entries of {vrf} without an end"));
        }
        request.page_token = reply.next_page_token;
    }
}

async fn exports(control: &mut ControlClient<Channel>) -> Result<Vec<v1::Export>, String> {
    let stream = control.watch_exports(v1::WatchExportsRequest::default()).await;
    let mut stream = stream.map_err(cannot("exports"))?.into_inner();
    let mut all = BTreeMap::new();
    loop {
        let reply = stream.message().await.map_err(cannot("exports"))?;
        match reply.ok_or("it ended the list of its exports too early")?.what {
            Some(What::Export(export)) => {
                all.insert((export.vrf.clone(), export.prefix.clone()), export);
            }
            Some(What::Withdrawn(v1::ExportKey { vrf, prefix })) => {
                all.remove(&(vrf, prefix));
            }
            Some(What::CaughtUp(_)) => return Ok(all.into_values().collect()),
            Some(What::Lost(_)) => all.clear(),
            None => {}
        }
        if all.len() > LIMIT {
            return Err("it lists exports without an end".to_owned());
        }
    }
}
