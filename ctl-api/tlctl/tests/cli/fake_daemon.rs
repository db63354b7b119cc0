//! A daemon of plain maps: it keeps what it is sent, waits for ports and VRFs
//! that are not declared, and refuses VRFs with a reserved label. Some names of
//! controllers make it behave badly: see `session`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tieline_proto::v1::control_server::{Control, ControlServer};
use tieline_proto::v1::controller_message::Message as Said;
use tieline_proto::v1::gateway_message::Message;
use tieline_proto::v1::operation::Operation as Change;
use tieline_proto::v1::operations_server::{Operations, OperationsServer};
use tieline_proto::v1::*;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// Objects on a page of the fake's lists, whatever was asked for.
const PAGE: usize = 2;

/// A directory of its own, removed at the end.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tlctl-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves on `socket` until the runtime ends.
pub fn serve(socket: &Path) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime.block_on(async { UnixListener::bind(socket) }).expect("a socket");
    let fake = Fake::default();
    runtime.spawn(
        Server::builder()
            .add_service(ControlServer::new(fake.clone()))
            .add_service(OperationsServer::new(fake))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    runtime
}

/// Serves with mutual TLS until the runtime ends; returns where.
pub fn serve_tls(tls: ServerTlsConfig) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let address = listener.local_addr().expect("it has one");
    let fake = Fake::default();
    // Refuses to program, as a daemon does whose client may only read.
    let no = |_: Request<()>| Err(Status::permission_denied("reader.example has the role read-only"));
    runtime.spawn(
        Server::builder()
            .tls_config(tls)
            .expect("good files")
            .add_service(ControlServer::with_interceptor(fake.clone(), no))
            .add_service(OperationsServer::new(fake))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (runtime, address)
}

/// Sorts by kind, then by key.
type Key = String;

type Objects = BTreeMap<Key, Declared>;

#[derive(Clone, PartialEq)]
struct Declared {
    object: Object,
    holders: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<Objects>>,
    samples: Arc<AtomicU64>,
}

fn key(key: &ObjectKey) -> Key {
    format!("{:?}", key.kind)
}

fn key_of(object: &Object) -> ObjectKey {
    use object_key::Kind as K;
    let kind = object.kind.as_ref().map(|kind| match kind {
        object::Kind::Port(o) => K::Port(o.name.clone()),
        object::Kind::Interface(o) => K::Interface(o.name.clone()),
        object::Kind::Vrf(o) => K::Vrf(o.name.clone()),
        object::Kind::NextHop(o) => K::NextHop(o.name.clone()),
        object::Kind::NextHopGroup(o) => K::NextHopGroup(o.name.clone()),
        object::Kind::Route(o) => K::Route(RouteKey { rd: o.rd.clone(), prefix: o.prefix.clone() }),
        object::Kind::SecurityGroup(o) => K::SecurityGroup(o.id),
        object::Kind::StaticRoute(o) => {
            K::StaticRoute(StaticRouteKey { vrf: o.vrf.clone(), prefix: o.prefix.clone() })
        }
    });
    ObjectKey { kind }
}

fn kind_of(object: &Object) -> ObjectKind {
    match object.kind {
        None => ObjectKind::Unspecified,
        Some(object::Kind::Port(_)) => ObjectKind::Port,
        Some(object::Kind::Interface(_)) => ObjectKind::Interface,
        Some(object::Kind::Vrf(_)) => ObjectKind::Vrf,
        Some(object::Kind::NextHop(_)) => ObjectKind::NextHop,
        Some(object::Kind::NextHopGroup(_)) => ObjectKind::NextHopGroup,
        Some(object::Kind::Route(_)) => ObjectKind::Route,
        Some(object::Kind::SecurityGroup(_)) => ObjectKind::SecurityGroup,
        Some(object::Kind::StaticRoute(_)) => ObjectKind::StaticRoute,
    }
}

fn waits_for(objects: &Objects, object: &Object) -> Vec<ObjectKey> {
    let Some(object::Kind::Interface(interface)) = &object.kind else { return Vec::new() };
    let wanted =
        [object_key::Kind::Port(interface.port.clone()), object_key::Kind::Vrf(interface.vrf.clone())];
    wanted
        .into_iter()
        .map(|kind| ObjectKey { kind: Some(kind) })
        .filter(|wanted| !objects.contains_key(&key(wanted)))
        .collect()
}

fn with_status(objects: &Objects, declared: &Declared) -> ObjectWithStatus {
    let waits_for = waits_for(objects, &declared.object);
    let state = if waits_for.is_empty() { ObjectState::Ready } else { ObjectState::Waiting };
    let status = ObjectStatus { state: state.into(), waits_for, message: String::new() };
    let holder = |name: &String| Holder {
        controller: name.clone(),
        // Whoever is called so has gone away.
        stale: name == "gone",
        differs: false,
    };
    ObjectWithStatus {
        object: Some(declared.object.clone()),
        status: Some(status),
        holders: declared.holders.iter().map(holder).collect(),
    }
}

/// A VRF of this name does not find room in the store.
const UNSTORED: &str = "unstored";

/// Carries a batch out as a controller's.
fn carry_out(objects: &mut Objects, by: &str, batch: &Batch) -> BatchAccepted {
    let before = objects.clone();
    let mut accepted = BatchAccepted { id: batch.id, ..Default::default() };
    for (index, operation) in batch.operations.iter().enumerate() {
        let index = index as u32;
        match &operation.operation {
            Some(Change::Apply(object)) => {
                if matches!(&object.kind, Some(object::Kind::Vrf(vrf)) if vrf.name == UNSTORED) {
                    accepted.not_stored = "it is full".to_owned();
                }
                if let Some(object::Kind::Vrf(Vrf { label: 1..=15, .. })) = object.kind {
                    let refused = Some(Refused {
                        code: ErrorCode::InvalidField.into(),
                        field: "vrf.label".into(),
                        message: "labels 0 to 15 are reserved; use 16 to 1048575".into(),
                        limit: None,
                    });
                    accepted.refused.push(RefusedOperation { index, refused });
                    continue;
                }
                let waits_for = waits_for(objects, object);
                if !waits_for.is_empty() {
                    accepted.waiting.push(WaitingOperation { index, waits_for });
                }
                let declared = objects
                    .entry(key(&key_of(object)))
                    .or_insert_with(|| Declared { object: object.clone(), holders: BTreeSet::new() });
                declared.object = object.clone();
                declared.holders.insert(by.to_owned());
            }
            Some(Change::Delete(name)) => withdraw(objects, by, &key(name)),
            other => panic!("tlctl does not send {other:?}"),
        }
    }
    if batch.mode() == BatchMode::Atomic && !accepted.refused.is_empty() {
        *objects = before;
        accepted.refused.truncate(1);
        accepted.waiting.clear();
    }
    accepted
}

fn withdraw(objects: &mut Objects, by: &str, key: &Key) {
    if let Some(declared) = objects.get_mut(key) {
        declared.holders.remove(by);
        if declared.holders.is_empty() {
            objects.remove(key);
        }
    }
}

impl Fake {
    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().expect("not poisoned")
    }
}

fn export(prefix: &str) -> Export {
    Export {
        vrf: "red".into(),
        prefix: prefix.into(),
        origin: ExportOrigin::Workload.into(),
        rd: "64512:1".into(),
        label: 1001,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Control for Fake {
    type SessionStream = ReceiverStream<Result<GatewayMessage, Status>>;
    type WatchStream = Replies<WatchReply>;
    type WatchExportsStream = Replies<WatchExportsReply>;

    /// The controller "crowd" is closed at once, "slow" gets its second
    /// acknowledgements only after a heartbeat, and "deaf" gets none.
    async fn session(
        &self,
        request: Request<Streaming<ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let fake = self.clone();
        let (replies, outgoing) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut messages = request.into_inner();
            let mut by = String::new();
            let mut held_back = Vec::new();
            while let Ok(Some(message)) = messages.message().await {
                let answers = match message.message {
                    Some(Said::Hello(hello)) => {
                        assert!(hello.lasting && hello.software.starts_with("tlctl "));
                        assert_eq!((hello.lowest_revision, hello.highest_revision), (1, 1));
                        by = hello.controller;
                        first_words(&by)
                    }
                    Some(Said::Batch(batch)) => {
                        let accepted = carry_out(&mut fake.objects(), &by, &batch);
                        let programmed =
                            Message::Programmed(BatchProgrammed { id: batch.id, table_version: 1 });
                        match by.as_str() {
                            "deaf" => vec![],
                            "slow" => {
                                held_back.push(programmed);
                                vec![Message::Accepted(accepted)]
                            }
                            _ => vec![Message::Accepted(accepted), programmed],
                        }
                    }
                    Some(Said::Heartbeat(_)) => std::mem::take(&mut held_back),
                    other => panic!("tlctl does not say {other:?}"),
                };
                for answer in answers {
                    if replies.send(Ok(GatewayMessage { message: Some(answer) })).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn preview(&self, request: Request<PreviewRequest>) -> Result<Response<PreviewReply>, Status> {
        let PreviewRequest { controller, batch, replaces_all } = request.into_inner();
        let batch = batch.unwrap_or_default();
        let before = self.objects().clone();
        let mut after = before.clone();
        if replaces_all {
            before.keys().for_each(|key| withdraw(&mut after, &controller, key));
        }
        let accepted = carry_out(&mut after, &controller, &batch);
        let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
        let change = |key: &&Key| {
            let (change, declared) = match (before.get(*key), after.get(*key)) {
                (None, Some(new)) => (tieline_proto::v1::Change::Added, new),
                (Some(old), None) => (tieline_proto::v1::Change::Removed, old),
                (Some(old), Some(new)) if old.object != new.object => {
                    (tieline_proto::v1::Change::Changed, new)
                }
                _ => return None,
            };
            Some(ObjectChange { key: Some(key_of(&declared.object)), change: change.into() })
        };
        let objects: Vec<ObjectChange> = keys.iter().filter_map(change).collect();
        let vrfs = (!objects.is_empty()).then(|| VrfChange {
            vrf: "red".into(),
            routes_added: objects.len() as u64,
            sessions: 2,
            ..Default::default()
        });
        Ok(Response::new(PreviewReply {
            refused: accepted.refused,
            waiting: accepted.waiting,
            objects,
            vrfs: vrfs.into_iter().collect(),
            ..Default::default()
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let GetRequest { key: wanted, controller } = request.into_inner();
        let objects = self.objects();
        let found = objects
            .get(&key(&wanted.unwrap_or_default()))
            .filter(|declared| controller.is_empty() || declared.holders.contains(&controller))
            .ok_or_else(|| Status::not_found("it is not declared"))?;
        Ok(Response::new(GetReply { item: Some(with_status(&objects, found)) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let request = request.into_inner();
        let filter = request.filter.clone().unwrap_or_default();
        let start: usize = request.page_token.parse().unwrap_or(0);
        let objects = self.objects();
        let wanted: Vec<ObjectWithStatus> = objects
            .values()
            .filter(|declared| kind_of(&declared.object) == request.kind())
            .filter(|declared| filter.controller.is_empty() || declared.holders.contains(&filter.controller))
            .map(|declared| with_status(&objects, declared))
            .filter(|item| {
                let state = item.status.as_ref().map(|status| status.state);
                filter.state == 0 || state == Some(filter.state)
            })
            .collect();
        // The other filters come back, so that a test sees that they were sent.
        if !filter.within.is_empty() {
            return Err(Status::invalid_argument(format!(
                "within {}, vrf {}, route target {}, next hop {}",
                filter.within, filter.vrf, filter.route_target, filter.next_hop
            )));
        }
        let end = (start + PAGE).min(wanted.len());
        Ok(Response::new(ListReply {
            items: wanted[start..end].to_vec(),
            next_page_token: if end < wanted.len() { end.to_string() } else { String::new() },
        }))
    }

    async fn list_controllers(
        &self,
        _: Request<ListControllersRequest>,
    ) -> Result<Response<ListControllersReply>, Status> {
        let objects = self.objects();
        let names: BTreeSet<&String> = objects.values().flat_map(|declared| &declared.holders).collect();
        let info = |name: &String| ControllerInfo {
            name: name.clone(),
            held: objects.values().filter(|declared| declared.holders.contains(name)).count() as u64,
            lasting: true,
            since_seconds: 60,
            software: "tlctl".into(),
            ..Default::default()
        };
        Ok(Response::new(ListControllersReply { controllers: names.into_iter().map(info).collect() }))
    }

    async fn forget_controller(
        &self,
        request: Request<ForgetControllerRequest>,
    ) -> Result<Response<ForgetControllerReply>, Status> {
        let ForgetControllerRequest { controller, withdraw } = request.into_inner();
        let mut objects = self.objects();
        let held = objects.values().filter(|declared| declared.holders.contains(&controller)).count() as u64;
        if held == 0 {
            return Err(Status::not_found("no controller of that name is known"));
        }
        if !withdraw {
            return Err(Status::failed_precondition(format!("it holds {held} objects and routes")));
        }
        objects.retain(|_, declared| {
            declared.holders.retain(|holder| *holder != controller);
            !declared.holders.is_empty()
        });
        Ok(Response::new(ForgetControllerReply { withdrawn: held }))
    }

    /// All objects, one event if asked for, and then the stream ends.
    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let objects = self.objects();
        let mut all: Vec<watch_reply::What> = objects
            .values()
            .filter(|declared| {
                let kind = kind_of(&declared.object) as i32;
                request.kinds.is_empty() || request.kinds.contains(&kind)
            })
            .map(|declared| watch_reply::What::Object(with_status(&objects, declared)))
            .collect();
        if !request.resume_token.is_empty() {
            all = vec![watch_reply::What::Lost(Lost { message: format!("{} is old", request.resume_token) })];
        }
        all.push(watch_reply::What::CaughtUp(CaughtUp {}));
        if request.events {
            all.push(watch_reply::What::Event(Event {
                number: 1,
                time_unix_nanoseconds: 1_000_000_000,
                kind: EventKind::PortDown.into(),
                subject: "t0".into(),
                message: "no carrier".into(),
            }));
        }
        let reply = |what| WatchReply { what: Some(what), resume_token: "1".into() };
        Ok(replies(all.into_iter().map(reply).collect()))
    }

    /// One that is lost again, one that stays, and one that comes later.
    async fn watch_exports(
        &self,
        request: Request<WatchExportsRequest>,
    ) -> Result<Response<Self::WatchExportsStream>, Status> {
        use watch_exports_reply::What;
        let vrfs = request.into_inner().vrfs;
        if !vrfs.is_empty() && vrfs != ["red"] {
            return Err(Status::not_found(format!("there is no VRF {}", vrfs.join(", "))));
        }
        let gone = ExportKey { vrf: "red".into(), prefix: "10.1.0.5/32".into() };
        let all = [
            What::Export(export("10.9.0.9/32")),
            What::Lost(Lost { message: "too slow".into() }),
            What::Export(export("10.1.0.5/32")),
            What::CaughtUp(CaughtUp {}),
            What::Withdrawn(gone),
        ];
        Ok(replies(all.into_iter().map(|what| WatchExportsReply { what: Some(what) }).collect()))
    }
}

/// The answer to a controller's hello.
fn first_words(by: &str) -> Vec<Message> {
    if by == "crowd" {
        let message = "64 sessions are open, and no more may be".into();
        return vec![Message::Closing(Closing { reason: ClosingReason::Limit.into(), message })];
    }
    let hello = GatewayHello { revision: 1, heartbeat_seconds: 1, ..Default::default() };
    vec![Message::Hello(hello), Message::Heartbeat(Heartbeat {})]
}

type Replies<R> = tokio_stream::Iter<std::vec::IntoIter<Result<R, Status>>>;

fn replies<R>(replies: Vec<R>) -> Response<Replies<R>> {
    Response::new(tokio_stream::iter(replies.into_iter().map(Ok).collect::<Vec<_>>()))
}

#[tonic::async_trait]
impl Operations for Fake {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<GetVersionReply>, Status> {
        Ok(Response::new(GetVersionReply {
            version: "9.9.9".into(),
            dpdk_version: "22.11.7".into(),
            api_versions: vec!["tieline.v1".into()],
            boot_id: "b007".into(),
            uptime_seconds: 60,
            hugepages: false,
        }))
    }

    async fn list_routes(
        &self,
        request: Request<ListRoutesRequest>,
    ) -> Result<Response<ListRoutesReply>, Status> {
        let request = request.into_inner();
        if request.vrf != "red" {
            return Err(Status::not_found(format!("there is no VRF {}", request.vrf)));
        }
        if request.address == "192.0.2.1" {
            return Ok(Response::new(ListRoutesReply::default()));
        }
        let entry = |prefix: &str| RouteEntry {
            prefix: prefix.into(),
            origin: RouteOrigin::Vpn.into(),
            next_hop: "gw".into(),
            via: "vxlan to 198.18.0.2".into(),
            rd: "64512:1".into(),
            security_groups: vec![],
            paths: 1,
        };
        let first = request.page_token.is_empty();
        Ok(Response::new(ListRoutesReply {
            routes: vec![entry(if first { "10.0.0.0/8" } else { "10.1.0.0/16" })],
            next_page_token: if first { "next".into() } else { String::new() },
        }))
    }

    type ListSessionsStream = Replies<ListSessionsReply>;

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<Self::ListSessionsStream>, Status> {
        let request = request.into_inner();
        if request.vrf == "busy" {
            return Err(Status::deadline_exceeded("worker 0 has not copied its sessions within 5 s"));
        }
        let session = Session {
            vrf: request.vrf,
            protocol: 17,
            source: "10.0.0.1".into(),
            source_port: 5000,
            destination: "10.0.0.2".into(),
            destination_port: 53,
            state: "established".into(),
            expires_in_seconds: 30,
            ..Default::default()
        };
        let reply = ListSessionsReply { sessions: vec![session], total: 3, capacity: 1000 };
        Ok(replies(vec![reply; request.limit.min(3) as usize]))
    }

    type ListNeighboursStream = Replies<ListNeighboursReply>;

    async fn list_neighbours(
        &self,
        _: Request<ListNeighboursRequest>,
    ) -> Result<Response<Self::ListNeighboursStream>, Status> {
        let neighbour = Neighbour {
            interface: "up".into(),
            address: "192.0.2.1".into(),
            mac: "02:00:00:00:00:01".into(),
            state: "resolved".into(),
            age_seconds: 5,
        };
        Ok(replies(vec![ListNeighboursReply { neighbours: vec![neighbour] }; 2]))
    }

    async fn get_drops(&self, request: Request<GetDropsRequest>) -> Result<Response<GetDropsReply>, Status> {
        let request = request.into_inner();
        let packets = if request.interface == "up" { 7 } else { 1500 };
        let drop = DropCount {
            reason: "no_route".into(),
            description: "No route to the destination.".into(),
            packets,
        };
        Ok(Response::new(GetDropsReply { drops: vec![drop] }))
    }

    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Result<Response<GetStatsReply>, Status> {
        let sample = self.samples.fetch_add(1, Ordering::Relaxed);
        let packets = sample * 2000;
        Ok(Response::new(GetStatsReply {
            workers: vec![WorkerStats {
                core: -1,
                received_packets: packets,
                busy_loops: sample,
                loops: sample * 4,
                ..Default::default()
            }],
            balance: Some(Balance { received: packets, dropped: packets, ..Default::default() }),
            uptime_nanoseconds: sample * 1_000_000_000,
            ..Default::default()
        }))
    }

    async fn list_problems(
        &self,
        _: Request<ListProblemsRequest>,
    ) -> Result<Response<ListProblemsReply>, Status> {
        // One while something is declared that is not stored.
        let problem = Problem {
            kind: ProblemKind::Store.into(),
            subject: String::new(),
            message: "a restart would not bring back all that is declared; it is tried again: it is full"
                .into(),
            since_seconds: 61,
        };
        let is_wrong = self.objects.lock().expect("not poisoned").keys().any(|key| key.contains(UNSTORED));
        Ok(Response::new(ListProblemsReply { problems: is_wrong.then_some(problem).into_iter().collect() }))
    }

    async fn get_stage_stats(
        &self,
        _: Request<GetStageStatsRequest>,
    ) -> Result<Response<GetStageStatsReply>, Status> {
        let sample = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        let worker = |worker| WorkerStages {
            worker,
            idle_cycles: sample * 3_000,
            stages: vec![StageStats {
                stage: "receive".into(),
                cycles: sample * 1_000,
                bursts: sample,
                packets: sample * 10,
            }],
        };
        Ok(Response::new(GetStageStatsReply {
            cycles_per_second: 4_000,
            uptime_nanoseconds: sample * 1_000_000_000,
            workers: vec![worker(0), worker(1)],
        }))
    }
}
