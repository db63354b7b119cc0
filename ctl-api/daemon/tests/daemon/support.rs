//! A daemon of one test, and the client that drives it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operations_client::OperationsClient;
use tieline_proto::v1::program_reply::Outcome;
use tieline_proto::v1::program_request::Operation;
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
        let config =
            "[sessions]\ncapacity = 10000\n[dpdk]\nhugepages = \"never\"\nmemory_mib = 96\nbuffers = 4096\n";
        std::fs::write(path.join("tieline.toml"), config).expect("a file");
        Self(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("run/control.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.0.join("tieline.toml")
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
        let mut child =
            place.command().args(arguments).stderr(Stdio::inherit()).spawn().expect("the binary starts");
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

    async fn channel(&self) -> Channel {
        let uri = format!("unix:{}", self.socket.display());
        Endpoint::from_shared(uri).expect("a URI").connect().await.expect("the daemon listens")
    }

    pub async fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel().await)
    }

    pub async fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel().await)
    }

    /// Opens a stream of operations.
    pub async fn program(&self) -> Program {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = self.control().await;
        let replies = client.program(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Program { requests, replies, next_id: 1 }
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status();
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

/// A stream of operations.
pub struct Program {
    requests: mpsc::Sender<v1::ProgramRequest>,
    replies: Streaming<v1::ProgramReply>,
    next_id: u64,
}

impl Program {
    /// Sends an operation; returns its id.
    pub async fn send(&mut self, operation: Option<Operation>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.requests.send(v1::ProgramRequest { id, operation }).await.expect("the stream is open");
        id
    }

    pub async fn reply(&mut self) -> v1::ProgramReply {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message()).await.expect("a reply in time");
        reply.expect("a good stream").expect("a reply")
    }

    /// Closes the sending side, and checks that the other ends too.
    pub async fn close(self) {
        let Self { requests, mut replies, .. } = self;
        drop(requests);
        let end = tokio::time::timeout(PATIENCE, replies.message()).await.expect("an end in time");
        assert_eq!(end.expect("a good stream"), None);
    }

    /// Applies an object; returns what it waits for and the version that
    /// holds it.
    pub async fn apply(&mut self, kind: Kind) -> (Vec<v1::ObjectKey>, u64) {
        let id = self.send(Some(apply(kind))).await;
        self.accepted(id).await
    }

    /// Withdraws an object.
    pub async fn delete(&mut self, key: v1::object_key::Kind) -> u64 {
        let id = self.send(Some(Operation::Delete(v1::ObjectKey { kind: Some(key) }))).await;
        self.accepted(id).await.1
    }

    /// Sends an operation that is refused.
    pub async fn refused(&mut self, operation: Option<Operation>) -> v1::Refused {
        let id = self.send(operation).await;
        match self.reply().await {
            v1::ProgramReply { id: of, outcome: Some(Outcome::Refused(refused)) } if of == id => refused,
            other => panic!("not a refusal: {other:?}"),
        }
    }

    async fn accepted(&mut self, id: u64) -> (Vec<v1::ObjectKey>, u64) {
        let accepted = self.reply().await;
        assert_eq!(accepted.id, id);
        let Some(Outcome::Accepted(accepted)) = accepted.outcome else {
            panic!("not accepted: {accepted:?}")
        };
        let programmed = self.reply().await;
        assert_eq!(programmed.id, id);
        let Some(Outcome::Programmed(programmed)) = programmed.outcome else {
            panic!("not programmed: {programmed:?}")
        };
        (accepted.waits_for, programmed.table_version)
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
