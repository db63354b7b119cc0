//! A gateway of one test: the control API over a model of the RIB, which can be
//! slow, refuse, be silent, break sessions and close them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ipnet::IpNet;
use tieline_proto::v1;
use tieline_proto::v1::control_server::{Control, ControlServer};
use tieline_proto::v1::controller_message::Message as From;
use tieline_proto::v1::gateway_message::Message as To;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::operations_server::{Operations, OperationsServer};
use tieline_proto::v1::watch_exports_reply::What;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// What a test does to open sessions.
#[derive(Debug, Clone)]
pub enum Order {
    /// They end without a word.
    Break,
    /// They are closed.
    Close(v1::ClosingReason),
    /// Watches tell this.
    Tell(What),
    /// Watches lose their position.
    Lose,
}

/// What a gateway knows, and how it behaves.
#[derive(Debug, Default)]
pub struct Model {
    /// By key, as text.
    pub objects: BTreeMap<String, v1::Object>,
    pub routes: BTreeMap<(String, IpNet), v1::Route>,
    stale: BTreeSet<String>,
    stale_routes: BTreeSet<(String, IpNet)>,
    pub exports: BTreeMap<(String, String), v1::Export>,
    /// Highest term seen.
    pub term: u64,
    pub capabilities: Vec<String>,
    /// Objects that are refused, by key, and why.
    pub refuse: BTreeMap<String, v1::ErrorCode>,
    /// Why nothing is stored that is accepted; empty: it is.
    pub not_stored: String,
    /// Prefixes that have no forwarding entry, whatever is declared.
    pub not_forwarded: BTreeSet<IpNet>,
    /// Time for a batch.
    pub slow: Duration,
    /// Says nothing, not even heartbeats.
    pub mute: bool,
    /// What came: "hello", "batch", "sync", "heartbeat", "end", "break".
    pub log: Vec<&'static str>,
    /// Operations that came, by the key of their object; of routes one each set.
    pub operations: BTreeMap<String, usize>,
    /// Hellos that came.
    pub hellos: Vec<v1::ControllerHello>,
}

impl Model {
    fn begin(&mut self) -> u64 {
        self.stale = self.objects.keys().cloned().collect();
        self.stale_routes = self.routes.keys().cloned().collect();
        (self.stale.len() + self.stale_routes.len()) as u64
    }

    fn end_of_sync(&mut self) -> u64 {
        let (stale, routes) = (std::mem::take(&mut self.stale), std::mem::take(&mut self.stale_routes));
        self.objects.retain(|key, _| !stale.contains(key));
        self.routes.retain(|key, _| !routes.contains(key));
        (stale.len() + routes.len()) as u64
    }

    fn carry_out(&mut self, operation: Operation) -> Result<(), v1::Refused> {
        let name = match &operation {
            Operation::Apply(object) => name_of_object(object),
            Operation::Delete(key) => name_of(key),
            Operation::ApplyRoutes(_) | Operation::DeleteRoutes(_) => "routes".to_owned(),
        };
        *self.operations.entry(name.clone()).or_default() += 1;
        if let Some(code) = self.refuse.get(&name) {
            let message = format!("{name} is not wanted here");
            return Err(v1::Refused { code: (*code).into(), message, ..Default::default() });
        }
        match operation {
            Operation::Apply(v1::Object { kind: Some(v1::object::Kind::Route(route)) }) => {
                let prefix = route.prefix.parse().expect("a prefix");
                self.declare(v1::Route { prefix: String::new(), ..route }, vec![prefix]);
            }
            Operation::Apply(object) => {
                self.stale.remove(&name);
                self.objects.insert(name, object);
            }
            Operation::Delete(_) => {
                self.stale.remove(&name);
                self.objects.remove(&name);
            }
            Operation::ApplyRoutes(set) => {
                self.declare(set.attributes.expect("attributes"), unpack(&set.prefixes.expect("prefixes")));
            }
            Operation::DeleteRoutes(set) => {
                for prefix in unpack(&set.prefixes.expect("prefixes")) {
                    let key = (set.rd.clone(), prefix);
                    self.stale_routes.remove(&key);
                    self.routes.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, attributes: v1::Route, prefixes: Vec<IpNet>) {
        for prefix in prefixes {
            let key = (attributes.rd.clone(), prefix);
            self.stale_routes.remove(&key);
            self.routes.insert(key, attributes.clone());
        }
    }
}

/// A name for an object: its kind's, and its own.
pub fn name_of_object(object: &v1::Object) -> String {
    tieline_federation::gateway::key::Key::of(object)
        .map_or_else(|| "route".to_owned(), |key| key.to_string())
}

fn name_of(key: &v1::ObjectKey) -> String {
    use v1::object_key::Kind;
    match key.kind.as_ref().expect("a kind") {
        Kind::Vrf(name) => format!("vrf/{name}"),
        Kind::NextHop(name) => format!("next_hop/{name}"),
        other => format!("{other:?}"),
    }
}

fn unpack(prefixes: &v1::RoutePrefixes) -> Vec<IpNet> {
    assert!(prefixes.texts.is_empty(), "they are packed");
    let packed = prefixes.packed().expect("nothing is left over");
    packed.map(|one| IpNet::new(one.address, one.length).expect("a prefix")).collect()
}

/// A running gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    model: Arc<Mutex<Model>>,
    orders: broadcast::Sender<Order>,
    socket: PathBuf,
}

impl Gateway {
    /// One that is not started yet, with a socket in this directory.
    pub fn new(directory: &Path) -> Self {
        let capabilities = ["route_sets", "exports"].map(str::to_owned).into();
        let model = Arc::new(Mutex::new(Model { capabilities, ..Default::default() }));
        Self { model, orders: broadcast::channel(1024).0, socket: directory.join("control.sock") }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("no test has panicked in it")
    }

    /// Starts it on its socket.
    pub fn start(&self) {
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        let server = Server::builder()
            .add_service(ControlServer::new(self.clone()))
            .add_service(OperationsServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    }

    /// Starts it with TLS on loopback; returns its port.
    pub async fn start_tls(&self, tls: ServerTlsConfig) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut server = Server::builder().tls_config(tls).expect("a TLS configuration");
        let server = server.add_service(ControlServer::new(self.clone()));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(server.serve_with_incoming(incoming));
        port
    }

    pub fn order(&self, order: Order) {
        // Without a session nobody hears it.
        let _ = self.orders.send(order);
    }

    /// Changes what a VRF originates, and tells watchers.
    pub fn export(&self, prefix: &str, label: Option<u32>) {
        let (vrf, prefix) = ("red".to_owned(), prefix.to_owned());
        match label {
            Some(label) => self.originate(v1::Export { vrf, prefix, label, ..Default::default() }),
            None => {
                self.model().exports.remove(&(vrf.clone(), prefix.clone()));
                self.order(Order::Tell(What::Withdrawn(v1::ExportKey { vrf, prefix })));
            }
        }
    }

    /// A VRF originates this, whatever is declared; watchers are told.
    pub fn originate(&self, export: v1::Export) {
        let key = (export.vrf.clone(), export.prefix.clone());
        self.model().exports.insert(key, export.clone());
        self.order(Order::Tell(What::Export(export)));
    }

    async fn session(self, mut requests: Streaming<v1::ControllerMessage>, replies: Replies) {
        let mut orders = self.orders.subscribe();
        let Ok(Some(v1::ControllerMessage { message: Some(From::Hello(hello)) })) = requests.message().await
        else {
            return;
        };
        let heartbeat = Duration::from_secs(hello.heartbeat_seconds.max(1).into());
        let answer = {
            let mut model = self.model();
            model.log.push("hello");
            model.hellos.push(hello.clone());
            if hello.term < model.term {
                To::Closing(closing(v1::ClosingReason::Fenced))
            } else {
                model.term = hello.term;
                To::Hello(v1::GatewayHello {
                    revision: 1,
                    node_id: "node".to_owned(),
                    boot_id: "boot".to_owned(),
                    software: "a model".to_owned(),
                    capabilities: model.capabilities.clone(),
                    heartbeat_seconds: hello.heartbeat_seconds,
                    held: model.begin(),
                    ..Default::default()
                })
            }
        };
        let closes = matches!(answer, To::Closing(_));
        if say(&replies, answer).await.is_err() || closes {
            return;
        }
        let mut ticks = tokio::time::interval(heartbeat / 2);
        let mut heard = tokio::time::Instant::now();
        loop {
            let message = tokio::select! {
                message = requests.message() => message,
                order = orders.recv() => match order {
                    Ok(Order::Break) => {
                        let _ = replies.send(Err(Status::unavailable("killed"))).await;
                        return;
                    }
                    Ok(Order::Close(reason)) => {
                        let _ = say(&replies, To::Closing(closing(reason))).await;
                        return;
                    }
                    _ => continue,
                },
                _ = ticks.tick() => {
                    if heard.elapsed() > 3 * heartbeat {
                        let _ = say(&replies, To::Closing(closing(v1::ClosingReason::Silent))).await;
                        return;
                    }
                    if !self.model().mute && say(&replies, To::Heartbeat(v1::Heartbeat {})).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            heard = tokio::time::Instant::now();
            let message = match message {
                Ok(Some(message)) => message.message.expect("a message"),
                end => {
                    self.model().log.push(if end.is_ok() { "end" } else { "break" });
                    return;
                }
            };
            if self.answer(message, &replies).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, message: From, replies: &Replies) -> Result<(), ()> {
        let (slow, mute) = {
            let model = self.model();
            (model.slow, model.mute)
        };
        let answers = match message {
            From::Batch(batch) => {
                tokio::time::sleep(slow).await;
                let mut model = self.model();
                model.log.push("batch");
                let id = batch.id;
                let operations = batch.operations.into_iter().zip(0..);
                let refused = operations.filter_map(|(operation, index)| {
                    let refused = model.carry_out(operation.operation.expect("an operation")).err()?;
                    Some(v1::RefusedOperation { index, refused: Some(refused) })
                });
                let refused = refused.collect();
                let not_stored = model.not_stored.clone();
                let accepted = v1::BatchAccepted { id, refused, waiting: Vec::new(), not_stored };
                vec![To::Accepted(accepted), To::Programmed(v1::BatchProgrammed { id, table_version: id })]
            }
            From::EndOfSync(v1::EndOfSync { id }) => {
                let mut model = self.model();
                model.log.push("sync");
                vec![To::Synced(v1::Synced { id, withdrawn: model.end_of_sync() })]
            }
            From::Heartbeat(_) => {
                self.model().log.push("heartbeat");
                Vec::new()
            }
            From::Hello(_) => return Err(()),
        };
        for answer in answers.into_iter().filter(|_| !mute) {
            say(replies, answer).await?;
        }
        Ok(())
    }

    async fn watch(
        self,
        mut orders: broadcast::Receiver<Order>,
        replies: mpsc::Sender<Result<v1::WatchExportsReply, Status>>,
    ) {
        let mut first = true;
        loop {
            let told: Vec<What> = {
                let exports: Vec<What> = self.model().exports.values().cloned().map(What::Export).collect();
                let lost = (!first).then(|| What::Lost(v1::Lost::default()));
                lost.into_iter().chain(exports).chain([What::CaughtUp(v1::CaughtUp {})]).collect()
            };
            first = false;
            for what in told {
                if replies.send(Ok(v1::WatchExportsReply { what: Some(what) })).await.is_err() {
                    return;
                }
            }
            loop {
                match orders.recv().await {
                    Ok(Order::Tell(what)) => {
                        if replies.send(Ok(v1::WatchExportsReply { what: Some(what) })).await.is_err() {
                            return;
                        }
                    }
                    Ok(Order::Lose) => break,
                    Ok(Order::Break) | Err(_) => return,
                    Ok(Order::Close(_)) => {}
                }
            }
        }
    }
}

type Replies = mpsc::Sender<Result<v1::GatewayMessage, Status>>;

fn closing(reason: v1::ClosingReason) -> v1::Closing {
    v1::Closing { reason: reason.into(), message: "by the test".to_owned() }
}

async fn say(replies: &Replies, message: To) -> Result<(), ()> {
    replies.send(Ok(v1::GatewayMessage { message: Some(message) })).await.map_err(|_| ())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not in this model"))
}

fn kind_of(object: &v1::Object) -> v1::ObjectKind {
    use v1::object::Kind;
    match object.kind.as_ref().expect("a kind") {
        Kind::Port(_) => v1::ObjectKind::Port,
        Kind::Interface(_) => v1::ObjectKind::Interface,
        Kind::Vrf(_) => v1::ObjectKind::Vrf,
        Kind::NextHop(_) => v1::ObjectKind::NextHop,
        Kind::NextHopGroup(_) => v1::ObjectKind::NextHopGroup,
        Kind::Route(_) => v1::ObjectKind::Route,
        Kind::SecurityGroup(_) => v1::ObjectKind::SecurityGroup,
        Kind::StaticRoute(_) => v1::ObjectKind::StaticRoute,
    }
}

#[tonic::async_trait]
impl Operations for Gateway {
    type ListSessionsStream = Answers<v1::ListSessionsReply>;
    type ListNeighboursStream = Answers<v1::ListNeighboursReply>;

    async fn list_routes(
        &self,
        request: Request<v1::ListRoutesRequest>,
    ) -> Result<Response<v1::ListRoutesReply>, Status> {
        let name = request.into_inner().vrf;
        let model = self.model();
        let object = model.objects.get(&format!("vrf/{name}")).and_then(|object| object.kind.as_ref());
        let Some(v1::object::Kind::Vrf(vrf)) = object else {
            return Err(Status::not_found("there is no such VRF"));
        };
        let imported = |route: &v1::Route| {
            route.route_targets.iter().any(|target| vrf.import_route_targets.contains(target))
        };
        let routes = model
            .routes
            .iter()
            .filter(|((_, prefix), route)| imported(route) && !model.not_forwarded.contains(prefix));
        let entry = |((_, prefix), _): (&(String, IpNet), _)| v1::RouteEntry {
            prefix: prefix.to_string(),
            ..Default::default()
        };
        Ok(Response::new(v1::ListRoutesReply { routes: routes.map(entry).collect(), ..Default::default() }))
    }

    async fn get_version(
        &self,
        _: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionReply>, Status> {
        not_here()
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<Self::ListSessionsStream>, Status> {
        not_here()
    }

    async fn list_neighbours(
        &self,
        _: Request<v1::ListNeighboursRequest>,
    ) -> Result<Response<Self::ListNeighboursStream>, Status> {
        not_here()
    }

    async fn get_drops(
        &self,
        _: Request<v1::GetDropsRequest>,
    ) -> Result<Response<v1::GetDropsReply>, Status> {
        not_here()
    }

    async fn get_stats(
        &self,
        _: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsReply>, Status> {
        not_here()
    }

    async fn get_stage_stats(
        &self,
        _: Request<v1::GetStageStatsRequest>,
    ) -> Result<Response<v1::GetStageStatsReply>, Status> {
        not_here()
    }

    async fn list_problems(
        &self,
        _: Request<v1::ListProblemsRequest>,
    ) -> Result<Response<v1::ListProblemsReply>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl Control for Gateway {
    type SessionStream = Answers<v1::GatewayMessage>;
    type WatchStream = Answers<v1::WatchReply>;
    type WatchExportsStream = Answers<v1::WatchExportsReply>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ControllerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (replies, receiver) = mpsc::channel(8);
        tokio::spawn(self.clone().session(request.into_inner(), replies));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn watch_exports(
        &self,
        _: Request<v1::WatchExportsRequest>,
    ) -> Result<Response<Self::WatchExportsStream>, Status> {
        let (replies, receiver) = mpsc::channel(8);
        // Before the first reply is read: no change is missed.
        tokio::spawn(self.clone().watch(self.orders.subscribe(), replies));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn preview(&self, _: Request<v1::PreviewRequest>) -> Result<Response<v1::PreviewReply>, Status> {
        not_here()
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        not_here()
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let kind = request.into_inner().kind();
        let model = self.model();
        let routes = model.routes.iter().map(|((_, prefix), route)| {
            let route = v1::Route { prefix: prefix.to_string(), ..route.clone() };
            v1::Object { kind: Some(v1::object::Kind::Route(route)) }
        });
        let all = model.objects.values().cloned().chain(routes);
        let items = all
            .filter(|object| kind_of(object) == kind)
            .map(|object| v1::ObjectWithStatus { object: Some(object), ..Default::default() });
        Ok(Response::new(v1::ListReply { items: items.collect(), ..Default::default() }))
    }

    async fn list_controllers(
        &self,
        _: Request<v1::ListControllersRequest>,
    ) -> Result<Response<v1::ListControllersReply>, Status> {
        not_here()
    }

    async fn forget_controller(
        &self,
        _: Request<v1::ForgetControllerRequest>,
    ) -> Result<Response<v1::ForgetControllerReply>, Status> {
        not_here()
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        not_here()
    }
}
