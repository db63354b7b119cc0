//! A daemon of plain maps: it keeps what it is sent, waits for ports and VRFs
//! that are not declared, and refuses VRFs with a reserved label.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tieline_proto::v1::control_server::{Control, ControlServer};
use tieline_proto::v1::operations_server::{Operations, OperationsServer};
use tieline_proto::v1::program_reply::Outcome;
use tieline_proto::v1::program_request::Operation;
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

#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<BTreeMap<Key, Object>>>,
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

impl Fake {
    fn waits_for(&self, object: &Object) -> Vec<ObjectKey> {
        let Some(object::Kind::Interface(interface)) = &object.kind else { return Vec::new() };
        let wanted =
            [object_key::Kind::Port(interface.port.clone()), object_key::Kind::Vrf(interface.vrf.clone())];
        let objects = self.objects.lock().expect("not poisoned");
        wanted
            .into_iter()
            .map(|kind| ObjectKey { kind: Some(kind) })
            .filter(|wanted| !objects.contains_key(&key(wanted)))
            .collect()
    }

    fn with_status(&self, object: Object) -> ObjectWithStatus {
        let waits_for = self.waits_for(&object);
        let state = if waits_for.is_empty() { ObjectState::Ready } else { ObjectState::Waiting };
        let status = ObjectStatus { state: state.into(), waits_for, message: String::new() };
        ObjectWithStatus { object: Some(object), status: Some(status) }
    }

    fn carry_out(&self, operation: Option<Operation>) -> Vec<Outcome> {
        let programmed = Outcome::Programmed(Programmed { table_version: 1 });
        match operation {
            Some(Operation::Apply(object)) => {
                if let Some(object::Kind::Vrf(Vrf { label: 1..=15, .. })) = object.kind {
                    return vec![Outcome::Refused(Refused {
                        code: ErrorCode::InvalidField.into(),
                        field: "vrf.label".into(),
                        message: "labels 0 to 15 are reserved; use 16 to 1048575".into(),
                    })];
                }
                let waits_for = self.waits_for(&object);
                self.objects.lock().expect("not poisoned").insert(key(&key_of(&object)), object);
                vec![Outcome::Accepted(Accepted { waits_for }), programmed]
            }
            Some(Operation::Delete(name)) => {
                self.objects.lock().expect("not poisoned").remove(&key(&name));
                vec![Outcome::Accepted(Accepted::default()), programmed]
            }
            None => Vec::new(),
        }
    }
}

#[tonic::async_trait]
impl Control for Fake {
    type ProgramStream = ReceiverStream<Result<ProgramReply, Status>>;

    async fn program(
        &self,
        request: Request<Streaming<ProgramRequest>>,
    ) -> Result<Response<Self::ProgramStream>, Status> {
        let fake = self.clone();
        let (replies, outgoing) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            while let Ok(Some(request)) = requests.message().await {
                for outcome in fake.carry_out(request.operation) {
                    let reply = ProgramReply { id: request.id, outcome: Some(outcome) };
                    if replies.send(Ok(reply)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let wanted = request.into_inner().key.unwrap_or_default();
        let found = self.objects.lock().expect("not poisoned").get(&key(&wanted)).cloned();
        let object = found.ok_or_else(|| Status::not_found("it is not declared"))?;
        Ok(Response::new(GetReply { item: Some(self.with_status(object)) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let request = request.into_inner();
        let start: usize = request.page_token.parse().unwrap_or(0);
        let objects: Vec<Object> = self.objects.lock().expect("not poisoned").values().cloned().collect();
        let wanted: Vec<Object> =
            objects.into_iter().filter(|object| kind_of(object) == request.kind()).collect();
        let end = (start + PAGE).min(wanted.len());
        Ok(Response::new(ListReply {
            items: wanted[start..end].iter().map(|object| self.with_status(object.clone())).collect(),
            next_page_token: if end < wanted.len() { end.to_string() } else { String::new() },
        }))
    }
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
