//! A daemon of one test, and the client that drives it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::controller_message::Message as To;
use tieline_proto::v1::gateway_message::Message as From;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::operations_client::OperationsClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of one test, removed with it.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tieline-daemon-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        // Small tables: several daemons of several tests run at once.
        let config = format!(
            "[sessions]\ncapacity = 10000\n[dpdk]\nhugepages = \"never\"\nmemory_mib = 96\nbuffers = 4096\n\
             test_drivers = [\"net_null\", \"net_ring\", \"net_pcap\"]\ndevices = [\"{0}/\", \"{0}/run/\"]\n",
            path.display()
        );
        std::fs::write(path.join("tieline.toml"), config).expect("a file");
        Self(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("run/control.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("tieline.toml")
    }

    /// A further file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Adds to the configuration.
    pub fn configure(&self, more: &str) {
        let before = std::fs::read_to_string(self.config()).expect("a file");
        std::fs::write(self.config(), format!("{before}{more}")).expect("a file");
    }

    /// The daemon's command line.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tieline"));
        command.arg("--config").arg(self.config()).arg("--socket").arg(self.socket());
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts one and waits until it is ready.
    pub fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// The same with more arguments.
    pub fn start_with(place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.command();
        command.args(arguments).stderr(Stdio::inherit());
        Self::start_command(command, place)
    }

    /// The same with a command line of the test's own.
    pub fn start_command(mut command: Command, place: &Place) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let socket = place.socket();
        assert_eq!(line, format!("tieline ready: control API on unix:{}\n", socket.display()));
        Self { child, socket }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn channel(&self) -> Channel {
        let uri = format!("unix:{}", self.socket.display());
        Endpoint::from_shared(uri).expect("a URI").connect().await.expect("the daemon listens")
    }

    /// Whether somebody answers at its socket.
    pub async fn answers(&self) -> bool {
        let uri = format!("unix:{}", self.socket.display());
        let Ok(channel) = Endpoint::from_shared(uri).expect("a URI").connect().await else { return false };
        OperationsClient::new(channel).get_version(v1::GetVersionRequest {}).await.is_ok()
    }

    pub async fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel().await)
    }

    pub async fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel().await)
    }

    /// Begins a lasting session.
    pub async fn program(&self) -> Session {
        self.session(hello("operator", true)).await
    }

    /// Begins a session of a controller that synchronises.
    pub async fn controller(&self, name: &str) -> Session {
        self.session(hello(name, false)).await
    }

    /// Begins a session.
    pub async fn session(&self, hello: v1::ControllerHello) -> Session {
        let mut session = self.raw_session().await;
        session.say(To::Hello(hello)).await;
        match session.reply().await {
            From::Hello(hello) => Session { hello, ..session },
            other => panic!("not a hello: {other:?}"),
        }
    }

    /// Opens the stream of a session, without a hello.
    pub async fn raw_session(&self) -> Session {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = self.control().await;
        let replies = client.session(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Session { requests, replies, client, next_id: 1, hello: v1::GatewayHello::default() }
    }

    /// Reads one object.
    pub async fn get(&self, key: object_key::Kind) -> Option<v1::ObjectWithStatus> {
        let key = Some(v1::ObjectKey { kind: Some(key) });
        match self.control().await.get(v1::GetRequest { key, ..Default::default() }).await {
            Ok(reply) => reply.into_inner().item,
            Err(status) if status.code() == tonic::Code::NotFound => None,
            Err(status) => panic!("{status}"),
        }
    }

    /// What is wrong, as kinds and subjects.
    pub async fn problems(&self) -> Vec<(v1::ProblemKind, String)> {
        let request = v1::ListProblemsRequest {};
        let reply = self.operations().await.list_problems(request).await.expect("a list").into_inner();
        reply.problems.iter().map(|problem| (problem.kind(), problem.subject.clone())).collect()
    }

    /// Waits until these are all problems, by kind.
    pub async fn until_problems(&self, kinds: &[v1::ProblemKind]) {
        let started = Instant::now();
        loop {
            let problems = self.problems().await;
            if problems.iter().map(|(kind, _)| *kind).eq(kinds.iter().copied()) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{kinds:?} are expected, and there are {problems:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end; returns how it ended.
    pub fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a daemon that does not get ready; returns what it says.
pub fn run_to_end(command: &mut Command) -> (ExitStatus, String, String) {
    let mut child = command.spawn().expect("the binary starts");
    let (mut out, mut error) = (String::new(), String::new());
    child.stdout.take().expect("it is piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("it is piped").read_to_string(&mut error).expect("text");
    (child.wait().expect("it ends"), out, error)
}

/// What a controller says first.
pub fn hello(controller: &str, lasting: bool) -> v1::ControllerHello {
    v1::ControllerHello {
        lowest_revision: 1,
        highest_revision: 1,
        controller: controller.to_owned(),
        lasting,
        ..Default::default()
    }
}

/// A session, and its stream.
pub struct Session {
    requests: mpsc::Sender<v1::ControllerMessage>,
    replies: Streaming<v1::GatewayMessage>,
    client: ControlClient<Channel>,
    next_id: u64,
    /// What the gateway has said first.
    pub hello: v1::GatewayHello,
}

impl Session {
    /// Says something.
    pub async fn say(&mut self, message: To) {
        let message = v1::ControllerMessage { message: Some(message) };
        self.requests.send(message).await.expect("the stream is open");
    }

    /// Sends a batch; returns its id.
    pub async fn send_batch(&mut self, batch: v1::Batch) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.say(To::Batch(v1::Batch { id, ..batch })).await;
        id
    }

    /// Sends an operation in a batch of its own; returns the batch's id.
    pub async fn send(&mut self, operation: Option<Operation>) -> u64 {
        let operations = vec![v1::Operation { operation }];
        self.send_batch(v1::Batch { operations, ..Default::default() }).await
    }

    /// The next message that is no heartbeat; `None` at the end.
    pub async fn next(&mut self) -> Option<From> {
        loop {
            let reply =
                tokio::time::timeout(PATIENCE, self.replies.message()).await.expect("a reply in time");
            match reply.expect("a good stream")?.message {
                Some(From::Heartbeat(_)) => {}
                other => return Some(other.expect("a message that says something")),
            }
        }
    }

    pub async fn reply(&mut self) -> From {
        self.next().await.expect("a reply")
    }

    /// Why the gateway closes the session, as it has to now.
    pub async fn closing(&mut self) -> v1::Closing {
        loop {
            match self.reply().await {
                From::Closing(closing) => {
                    assert!(self.next().await.is_none(), "it is the last");
                    return closing;
                }
                From::Accepted(_) | From::Programmed(_) => {}
                other => panic!("not closed: {other:?}"),
            }
        }
    }

    /// Closes the sending side, and checks that the other ends too.
    pub async fn close(self) {
        let Self { requests, mut replies, .. } = self;
        drop(requests);
        while let Some(message) =
            tokio::time::timeout(PATIENCE, replies.message()).await.expect("an end in time").expect("good")
        {
            assert!(matches!(message.message, Some(From::Heartbeat(_))), "{message:?}");
        }
    }

    /// Applies an object; returns why it is not stored, or nothing.
    pub async fn apply_unstored(&mut self, kind: Kind) -> String {
        let id = self.send(Some(apply(kind))).await;
        let (accepted, _) = self.acknowledged(id).await;
        assert!(accepted.refused.is_empty(), "{accepted:?}");
        accepted.not_stored
    }

    /// Applies an object; returns what it waits for and the version that
    /// holds it.
    pub async fn apply(&mut self, kind: Kind) -> (Vec<v1::ObjectKey>, u64) {
        let id = self.send(Some(apply(kind.clone()))).await;
        let (accepted, version) = self.acknowledged(id).await;
        assert!(accepted.refused.is_empty(), "{accepted:?}");
        if let Kind::Port(port) = &kind {
            self.settled(&port.name).await;
        }
        let waits_for = accepted.waiting.into_iter().next().map(|waiting| waiting.waits_for);
        (waits_for.unwrap_or_default(), version)
    }

    /// Waits until the device of a port is open, or does not open.
    pub async fn settled(&mut self, port: &str) -> v1::ObjectStatus {
        let settled = async {
            loop {
                let key = v1::ObjectKey { kind: Some(object_key::Kind::Port(port.to_owned())) };
                let request = v1::GetRequest { key: Some(key), ..Default::default() };
                let item = self.client.get(request).await.expect("it is declared").into_inner().item;
                let status = item.and_then(|item| item.status).expect("a status");
                if status.state() != v1::ObjectState::Pending {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("devices open, or not")
    }

    /// Withdraws an object.
    pub async fn delete(&mut self, key: object_key::Kind) -> u64 {
        let id = self.send(Some(Operation::Delete(v1::ObjectKey { kind: Some(key) }))).await;
        let (accepted, version) = self.acknowledged(id).await;
        assert!(accepted.refused.is_empty(), "{accepted:?}");
        version
    }

    /// Sends an operation that is refused.
    pub async fn refused(&mut self, operation: Option<Operation>) -> v1::Refused {
        let id = self.send(operation).await;
        let (accepted, _) = self.acknowledged(id).await;
        let [refused] = &accepted.refused[..] else { panic!("not a refusal: {accepted:?}") };
        refused.refused.clone().expect("a reason")
    }

    /// Both acknowledgements of a batch.
    pub async fn acknowledged(&mut self, id: u64) -> (v1::BatchAccepted, u64) {
        let From::Accepted(accepted) = self.reply().await else { panic!("not accepted") };
        let From::Programmed(programmed) = self.reply().await else { panic!("not programmed") };
        assert_eq!((accepted.id, programmed.id), (id, id));
        (accepted, programmed.table_version)
    }

    /// Says that all is declared; returns how much was withdrawn.
    pub async fn end_of_sync(&mut self) -> u64 {
        self.say(To::EndOfSync(v1::EndOfSync { id: 77 })).await;
        match self.reply().await {
            From::Synced(v1::Synced { id: 77, withdrawn }) => withdrawn,
            other => panic!("not synced: {other:?}"),
        }
    }
}

pub fn apply(kind: Kind) -> Operation {
    Operation::Apply(v1::Object { kind: Some(kind) })
}

pub fn vrf(name: &str, target: &str) -> Kind {
    Kind::Vrf(v1::Vrf {
        name: name.to_owned(),
        import_route_targets: vec![target.to_owned()],
        label: 1001,
        ..Default::default()
    })
}

pub fn discard(name: &str) -> Kind {
    let target = Some(v1::next_hop::Target::Discard(v1::DiscardNextHop {}));
    Kind::NextHop(v1::NextHop { name: name.to_owned(), target })
}

pub fn route(prefix: &str, target: &str, next_hop: &str) -> Kind {
    Kind::Route(v1::Route {
        rd: "64512:2".to_owned(),
        prefix: prefix.to_owned(),
        route_targets: vec![target.to_owned()],
        next_hop: next_hop.to_owned(),
        label: 1001,
        ..Default::default()
    })
}

pub fn port(name: &str, device: &str, role: v1::PortRole) -> Kind {
    Kind::Port(v1::Port {
        name: name.to_owned(),
        device: device.to_owned(),
        role: role.into(),
        ..Default::default()
    })
}
