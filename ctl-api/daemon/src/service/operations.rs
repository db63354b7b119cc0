//! What the running gateway does, read without making a worker wait.

use std::sync::Arc;
use std::time::Instant;

use tieline_engine::drop_reason::DropReason;
use tieline_engine::session::entry::Direction;
use tieline_engine::session::tick::Tick;
use tieline_engine::worker::command::DumpedSession;
use tieline_proto::v1;
use tieline_proto::v1::operations_server;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::status;
use crate::control::Control;
use crate::gateway::Gateway;
use crate::stats;

/// Sessions in a reply whose request states no limit.
const DEFAULT_SESSIONS: usize = 1000;
/// Most sessions in a reply.
const MOST_SESSIONS: usize = 100_000;

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Changes at every start.
    pub boot_id: String,
    /// Version of DPDK.
    pub dpdk_version: String,
    /// Whether hugepages are in use.
    pub hugepages: bool,
    /// When the daemon started.
    pub started: Instant,
}

/// The service.
pub struct OperationsService {
    control: Control,
    facts: Facts,
    /// Workers copy sessions for one caller at a time.
    one_dump: Arc<Mutex<()>>,
}

impl OperationsService {
    /// The service of a gateway.
    pub fn new(control: Control, facts: Facts) -> Self {
        Self { control, facts, one_dump: Arc::default() }
    }
}

#[tonic::async_trait]
impl operations_server::Operations for OperationsService {
    async fn get_version(
        &self,
        _: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionReply>, Status> {
        Ok(Response::new(v1::GetVersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            dpdk_version: self.facts.dpdk_version.clone(),
            api_versions: vec!["tieline.v1".to_owned()],
            boot_id: self.facts.boot_id.clone(),
            uptime_seconds: self.facts.started.elapsed().as_secs(),
            hugepages: self.facts.hugepages,
        }))
    }

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesReply>, Status> {
        let request = request.into_inner();
        let vrf = request.vrf.clone();
        let known = move |gateway: &Gateway| gateway.rib().vrf_id(&vrf).is_some();
        if !self.control.read(known).await? {
            return Err(no_such("VRF", &request.vrf));
        }
        let reply = self.control.read(move |gateway| gateway.routes(&request)).await?;
        reply.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsReply>, Status> {
        let request = request.into_inner();
        let limit = match request.limit as usize {
            0 => DEFAULT_SESSIONS,
            limit => limit.min(MOST_SESSIONS),
        };
        let (engine, vrf) = self
            .control
            .read(move |gateway| {
                let vrf = match request.vrf.as_str() {
                    "" => None,
                    name => Some(gateway.rib().vrf_id(name).ok_or_else(|| no_such("VRF", name))?),
                };
                Ok::<_, Status>((gateway.engine().clone(), vrf))
            })
            .await??;
        let _guard = Arc::clone(&self.one_dump).lock_owned().await;
        let dump = move || {
            let workers = engine.workers();
            let total = workers.iter().map(|worker| worker.counters.sessions.value()).sum();
            let capacity = workers.iter().map(|worker| worker.session_capacity as u64).sum();
            (engine.sessions(vrf, limit), total, capacity)
        };
        let (sessions, total, capacity) = tokio::task::spawn_blocking(dump)
            .await
            .map_err(|error| Status::internal(format!("sessions could not be copied: {error}")))?;
        let name = move |gateway: &Gateway| {
            sessions.iter().map(|session| session_message(gateway, session)).collect()
        };
        let sessions = self.control.read(name).await?;
        Ok(Response::new(v1::ListSessionsReply { sessions, total, capacity }))
    }

    async fn list_neighbours(
        &self,
        _: Request<v1::ListNeighboursRequest>,
    ) -> Result<Response<v1::ListNeighboursReply>, Status> {
        let neighbours = self.control.read(stats::neighbours).await?;
        Ok(Response::new(v1::ListNeighboursReply { neighbours }))
    }

    async fn get_drops(
        &self,
        request: Request<v1::GetDropsRequest>,
    ) -> Result<Response<v1::GetDropsReply>, Status> {
        let request = request.into_inner();
        let drops = self.control.read(move |gateway| drops(gateway, &request)).await??;
        Ok(Response::new(v1::GetDropsReply { drops: drop_messages(drops) }))
    }

    async fn get_stats(
        &self,
        _: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsReply>, Status> {
        self.control.read(stats::all).await.map(Response::new)
    }
}

fn no_such(what: &str, name: &str) -> Status {
    Status::not_found(format!("there is no {what} {}", tieline_rib::spec::field::quoted(name)))
}

fn drops(gateway: &Gateway, request: &v1::GetDropsRequest) -> Result<Vec<(DropReason, u64)>, Status> {
    let engine = gateway.engine();
    match (request.interface.as_str(), request.vrf.as_str()) {
        ("", "") => Ok(engine.drops()),
        (interface, "") => {
            let id = gateway.rib().interface_id(interface).ok_or_else(|| no_such("interface", interface))?;
            Ok(engine.interface_totals(id).drops.by_reason())
        }
        ("", vrf) => {
            let id = gateway.rib().vrf_id(vrf).ok_or_else(|| no_such("VRF", vrf))?;
            Ok(engine.vrf_totals(id).drops.by_reason())
        }
        _ => Err(Status::invalid_argument("interface and vrf are both set: set one of them, or none")),
    }
}

/// Reasons that have counted something, most packets first.
fn drop_messages(mut drops: Vec<(DropReason, u64)>) -> Vec<v1::DropCount> {
    drops.retain(|(_, packets)| *packets > 0);
    drops.sort_by_key(|(reason, packets)| (std::cmp::Reverse(*packets), *reason));
    let message = |(reason, packets): (DropReason, u64)| v1::DropCount {
        reason: reason.name().to_owned(),
        description: reason.description().to_owned(),
        packets,
    };
    drops.into_iter().map(message).collect()
}

fn session_message(gateway: &Gateway, session: &DumpedSession) -> v1::Session {
    let [forward, reverse] = &session.keys;
    let vrf_name = |id| gateway.rib().vrf_name(id).unwrap_or_default().to_owned();
    let (there, back) = (Direction::Forward as usize, Direction::Reverse as usize);
    v1::Session {
        worker: u32::from(session.worker.0),
        vrf: vrf_name(forward.vrf),
        protocol: u32::from(forward.protocol),
        source: forward.source_addr().to_string(),
        source_port: u32::from(forward.source_port),
        destination: forward.destination_addr().to_string(),
        destination_port: u32::from(forward.destination_port),
        state: session.state.name().to_owned(),
        expires_in_seconds: session.expires_in.div_ceil(Tick::PER_SECOND),
        forward_packets: session.packets[there],
        forward_bytes: session.bytes[there],
        reverse_packets: session.packets[back],
        reverse_bytes: session.bytes[back],
        reply_vrf: vrf_name(reverse.vrf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_listed_by_weight_and_only_if_there_are_any() {
        let drops = vec![
            (DropReason::TruncatedIp, 3),
            (DropReason::NoRoute, 7),
            (DropReason::SgDeniedEgress, 0),
            (DropReason::TtlExpired, 3),
        ];
        let reasons: Vec<_> =
            drop_messages(drops).into_iter().map(|drop| (drop.reason, drop.packets)).collect();
        let expected = [("no_route", 7), ("truncated_ip", 3), ("ttl_expired", 3)];
        assert_eq!(reasons, expected.map(|(name, packets)| (name.to_owned(), packets)));
    }
}
