//! What the running gateway does, read without making a worker wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
use crate::problems::Problems;
use crate::stats;

/// Sessions in a reply whose request states no limit.
const DEFAULT_SESSIONS: usize = 1000;
/// Most sessions in a reply.
const MOST_SESSIONS: usize = 100_000;

/// Sessions or neighbours in one reply of a stream. With the longest names each
/// has less than 400 bytes, and clients take 4 MiB unless told otherwise.
const PER_REPLY: usize = 5_000;
/// Longest wait for the workers to copy their sessions.
const DUMP_TIMEOUT: Duration = Duration::from_secs(5);

/// Replies that are all made when the first is sent.
type Replies<R> = tokio_stream::Iter<std::vec::IntoIter<Result<R, Status>>>;

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
    problems: Problems,
    /// Workers copy sessions for one caller at a time.
    one_dump: Arc<Mutex<()>>,
}

impl OperationsService {
    /// The service of a gateway.
    pub fn new(control: Control, facts: Facts, problems: Problems) -> Self {
        Self { control, facts, problems, one_dump: Arc::default() }
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

    type ListSessionsStream = Replies<v1::ListSessionsReply>;

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<Self::ListSessionsStream>, Status> {
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
            engine.sessions(vrf, limit, DUMP_TIMEOUT).map(|sessions| (sessions, total, capacity))
        };
        let (sessions, total, capacity) = tokio::task::spawn_blocking(dump)
            .await
            .map_err(|error| Status::internal(format!("sessions could not be copied: {error}")))?
            .map_err(|late| {
                Status::deadline_exceeded(format!("{late}: ask again, with a smaller limit if it is busy"))
            })?;
        let name = move |gateway: &Gateway| {
            sessions.iter().map(|session| session_message(gateway, session)).collect()
        };
        let sessions = self.control.read(name).await?;
        Ok(replies(sessions, |sessions| v1::ListSessionsReply { sessions, total, capacity }))
    }

    type ListNeighboursStream = Replies<v1::ListNeighboursReply>;

    async fn list_neighbours(
        &self,
        _: Request<v1::ListNeighboursRequest>,
    ) -> Result<Response<Self::ListNeighboursStream>, Status> {
        let neighbours = self.control.read(stats::neighbours).await?;
        Ok(replies(neighbours, |neighbours| v1::ListNeighboursReply { neighbours }))
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

    async fn get_stage_stats(
        &self,
        _: Request<v1::GetStageStatsRequest>,
    ) -> Result<Response<v1::GetStageStatsReply>, Status> {
        self.control.read(stats::stages).await.map(Response::new)
    }

    async fn list_problems(
        &self,
        _: Request<v1::ListProblemsRequest>,
    ) -> Result<Response<v1::ListProblemsReply>, Status> {
        // It is answered even when nothing else is.
        Ok(Response::new(v1::ListProblemsReply { problems: self.problems.list() }))
    }
}

/// Items in as many replies as they need; one if there are none.
fn replies<T, R>(items: Vec<T>, reply: impl Fn(Vec<T>) -> R) -> Response<Replies<R>> {
    Response::new(tokio_stream::iter(in_parts(items).map(|part| Ok(reply(part))).collect::<Vec<_>>()))
}

fn in_parts<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let count = items.len().div_ceil(PER_REPLY).max(1);
    let mut items = items.into_iter();
    (0..count).map(move |_| items.by_ref().take(PER_REPLY).collect())
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
    use prost::Message as _;
    use tieline_rib::Name;

    use super::*;

    #[test]
    fn parts_are_all_in_order_and_never_none() {
        for count in [0, 1, PER_REPLY - 1, PER_REPLY, PER_REPLY + 1, 3 * PER_REPLY] {
            let items: Vec<usize> = (0..count).collect();
            let parts: Vec<Vec<usize>> = in_parts(items.clone()).collect();
            assert_eq!(parts.len(), count.div_ceil(PER_REPLY).max(1), "{count}");
            assert!(parts.iter().all(|part| part.len() <= PER_REPLY), "{count}");
            assert_eq!(parts.concat(), items);
        }
    }

    #[test]
    fn a_reply_is_taken_by_every_client() {
        let name = "n".repeat(Name::MAX_LENGTH);
        let address = "2001:0db8:1111:2222:3333:4444:5555:6666".to_owned();
        let session = v1::Session {
            worker: u32::MAX,
            vrf: name.clone(),
            protocol: u32::MAX,
            source: address.clone(),
            source_port: u32::MAX,
            destination: address.clone(),
            destination_port: u32::MAX,
            state: "a state with a long name".to_owned(),
            expires_in_seconds: u32::MAX,
            forward_packets: u64::MAX,
            forward_bytes: u64::MAX,
            reverse_packets: u64::MAX,
            reverse_bytes: u64::MAX,
            reply_vrf: name.clone(),
        };
        let reply =
            v1::ListSessionsReply { sessions: vec![session; PER_REPLY], total: u64::MAX, capacity: u64::MAX };
        assert!(reply.encoded_len() < 4 << 20, "{} bytes", reply.encoded_len());
        let neighbour = v1::Neighbour {
            interface: name,
            address,
            mac: "02:00:00:00:00:01".to_owned(),
            state: "resolving".to_owned(),
            age_seconds: u64::MAX,
        };
        let reply = v1::ListNeighboursReply { neighbours: vec![neighbour; PER_REPLY] };
        assert!(reply.encoded_len() < 4 << 20, "{} bytes", reply.encoded_len());
    }

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
