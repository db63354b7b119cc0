//! Who comes in, what each may do, and clients that do not behave.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::operations_client::OperationsClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::certificates::{Authority, Identity};
use crate::support::{Daemon, PATIENCE, Place, discard, resident, run_to_end, vrf};
use crate::wire;

const TARGET: &str = "64512:1";

/// A place whose daemon listens with TLS.
pub struct Secure {
    pub place: Place,
    pub address: SocketAddr,
    pub ca: Authority,
}

impl Secure {
    pub fn new(more: &str) -> Self {
        let place = Place::new();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("it has one");
        let ca = Authority::new();
        let path = |name: &str| place.path(name).display().to_string();
        place.configure(&format!(
            "[api]\nlisten = \"{address}\"\n\
             [api.tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\ncheck_s = 1\n\
             [[api.roles]]\nname = \"ctl-*.example\"\nrole = \"controller\"\n\
             [[api.roles]]\nname = \"spiffe://site/operator\"\nrole = \"operator\"\n\
             [[api.roles]]\nname = \"watcher.example\"\nrole = \"read-only\"\n{more}",
            path("cert.pem"),
            path("key.pem"),
            path("ca.pem"),
        ));
        let secure = Self { place, address, ca };
        secure.put("ca.pem", &secure.ca.pem());
        secure.put_identity(&secure.ca.issue("gw.example"));
        secure
    }

    /// Replaces a file at once, as an operator should.
    fn put(&self, name: &str, text: &str) {
        let (new, path) = (self.place.path("new"), self.place.path(name));
        std::fs::write(&new, text).expect("a file");
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("its mode");
        std::fs::rename(new, path).expect("a file");
    }

    fn put_identity(&self, identity: &Identity) {
        self.put("cert.pem", &identity.certificate);
        self.put("key.pem", &identity.key);
    }

    /// A connection whose daemon is from `ca`.
    async fn connect_to(
        &self,
        ca: &Authority,
        identity: Option<&Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem())).domain_name("gw.example");
        if let Some(Identity { certificate, key }) = identity {
            tls = tls.identity(tonic::transport::Identity::from_pem(certificate, key));
        }
        let uri = format!("https://{}", self.address);
        Endpoint::from_shared(uri).expect("a URI").tls_config(tls).expect("good files").connect().await
    }

    pub async fn connect(&self, identity: &Identity) -> Channel {
        self.connect_to(&self.ca, Some(identity)).await.expect("a connection")
    }

    /// Whether this identity gets in, and if not why.
    async fn try_version(&self, ca: &Authority, identity: Option<&Identity>) -> Result<(), String> {
        let channel = self.connect_to(ca, identity).await.map_err(|error| format!("{error:?}"))?;
        version(&channel).await.map_err(|status| format!("{status:?}"))
    }
}

async fn version(channel: &Channel) -> Result<(), Status> {
    let mut client = OperationsClient::new(channel.clone());
    client.get_version(v1::GetVersionRequest {}).await.map(|_| ())
}

async fn list(channel: &Channel) -> Result<usize, Status> {
    let request =
        v1::ListRequest { kind: v1::ObjectKind::Vrf.into(), page_size: 10_000, ..Default::default() };
    let mut client = ControlClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    client.list(request).await.map(|reply| reply.into_inner().items.len())
}

/// Opens a stream of operations; what is refused at once is returned.
async fn program(channel: &Channel) -> Result<(), Status> {
    let (_requests, receiver) = tokio::sync::mpsc::channel(1);
    ControlClient::new(channel.clone()).session(ReceiverStream::new(receiver)).await.map(|_| ())
}

/// Tries until it works.
async fn until<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(mut attempt: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn is_well(daemon: &Daemon) {
    let mut operations = daemon.operations().await;
    operations.get_version(v1::GetVersionRequest {}).await.expect("the daemon is well");
}

fn random_bytes(seed: &mut u64, length: usize) -> Vec<u8> {
    let next = |_| {
        // Xorshift: no test needs better.
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 32) as u8
    };
    (0..length).map(next).collect()
}

#[tokio::test]
async fn each_role_may_do_what_it_may() {
    let secure = Secure::new("");
    let _daemon = Daemon::start(&secure.place);
    let controller = secure.connect(&secure.ca.issue("ctl-1.example")).await;
    program(&controller).await.expect("a controller programs");
    list(&controller).await.expect("a controller reads");
    let operator = secure.connect(&secure.ca.issue_uri("spiffe://site/operator")).await;
    program(&operator).await.expect("an operator programs");
    list(&operator).await.expect("an operator reads");
    let watcher = secure.connect(&secure.ca.issue("watcher.example")).await;
    list(&watcher).await.expect("it may read");
    version(&watcher).await.expect("it may read");
    let refused = program(&watcher).await.expect_err("it may not program");
    assert_eq!(refused.code(), Code::PermissionDenied);
    for word in ["watcher.example", "read-only", "tieline.v1.Control/Session", "controller or operator"] {
        assert!(refused.message().contains(word), "{refused}");
    }
    let stranger = secure.connect(&secure.ca.issue("someone.example")).await;
    for refused in [version(&stranger).await, program(&stranger).await, list(&stranger).await.map(|_| ())] {
        let refused = refused.expect_err("it has no role");
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("someone.example"), "{refused}");
    }
}

#[tokio::test]
async fn nobody_comes_in_without_a_good_certificate() {
    let secure = Secure::new("");
    let config = std::fs::read_to_string(secure.place.config()).expect("a file");
    let crl = secure.place.path("crl.pem").display().to_string();
    let config = config.replace("check_s = 1", &format!("check_s = 1\ncrl = \"{crl}\""));
    std::fs::write(secure.place.config(), config).expect("a file");
    secure.put("crl.pem", &secure.ca.revoke(&[66]));
    let daemon = Daemon::start(&secure.place);
    let (ca, other) = (&secure.ca, Authority::new());
    secure.try_version(ca, Some(&ca.issue_serial("ctl-1.example", 65))).await.expect("a good one");
    for (identity, word) in [
        (None, "CertificateRequired"),
        (Some(other.issue("ctl-1.example")), "UnknownCA"),
        (Some(ca.issue_expired("ctl-1.example")), "CertificateExpired"),
        (Some(ca.issue_serial("ctl-1.example", 66)), "CertificateRevoked"),
    ] {
        // The client may notice the end of the connection before it has read
        // why; but it never gets in.
        let mut said = String::new();
        for _ in 0..20 {
            said = secure.try_version(ca, identity.as_ref()).await.expect_err(word);
            if said.contains(word) {
                break;
            }
        }
        assert!(said.contains(word), "{word}: {said}");
    }
    let error = secure.try_version(&other, Some(&ca.issue("ctl-1.example"))).await.expect_err("not its CA");
    assert!(error.contains("UnknownIssuer"), "{error}");
    let plain = Endpoint::from_shared(format!("http://{}", secure.address)).expect("a URI");
    let refused = match plain.connect().await {
        Ok(channel) => version(&channel).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "without TLS");
    is_well(&daemon).await;
}

#[tokio::test]
async fn files_are_replaced_while_it_runs() {
    let secure = Secure::new("");
    let daemon = Daemon::start(&secure.place);
    let (ca, client) = (&secure.ca, secure.ca.issue("ctl-1.example"));
    let before = secure.connect(&client).await;
    version(&before).await.expect("it is in");

    // Bad files change nothing: neither for those who are in, nor for others.
    secure.put("cert.pem", "nonsense");
    daemon.signal("HUP");
    secure.put("key.pem", "");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    secure.try_version(ca, Some(&client)).await.expect("the old files are in force");

    // A certificate from another CA is shown to new connections only.
    let new_ca = Authority::new();
    secure.put_identity(&new_ca.issue("gw.example"));
    until(|| secure.try_version(&new_ca, Some(&client))).await;
    secure.try_version(ca, Some(&client)).await.expect_err("it is not shown any more");
    version(&before).await.expect("it stays in");

    // Clients of a CA that is not trusted any more are sent away.
    secure.put("ca.pem", &new_ca.pem());
    daemon.signal("HUP");
    let new_client = new_ca.issue("ctl-1.example");
    until(|| secure.try_version(&new_ca, Some(&new_client))).await;
    secure.try_version(&new_ca, Some(&client)).await.expect_err("its CA is gone");
    until(|| async { version(&before).await.err().ok_or("it is still in") }).await;
    is_well(&daemon).await;
}

#[tokio::test]
async fn a_client_goes_when_its_certificate_has_expired() {
    let secure = Secure::new("");
    let daemon = Daemon::start(&secure.place);
    let lasting = secure.connect(&secure.ca.issue("ctl-1.example")).await;
    let short = secure.connect(&secure.ca.issue_short("ctl-1.example", Duration::from_secs(4))).await;
    version(&short).await.expect("it is good yet");
    until(|| async { version(&short).await.err().ok_or("it is still in") }).await;
    version(&lasting).await.expect("another one of the same name stays in");
    is_well(&daemon).await;
}

#[tokio::test]
async fn a_gateway_starts_without_its_certificate_and_takes_it_when_it_comes() {
    let secure = Secure::new("");
    std::fs::remove_file(secure.place.path("cert.pem")).expect("it is there");
    let (status, _, error) = run_to_end(secure.place.command().arg("--check"));
    assert!(!status.success());
    assert!(error.contains("api.tls.certificate") && error.contains("cert.pem"), "{error}");
    let daemon = Daemon::start(&secure.place);
    is_well(&daemon).await;
    let client = secure.ca.issue("ctl-1.example");
    secure.try_version(&secure.ca, Some(&client)).await.expect_err("there is no certificate");
    secure.put_identity(&secure.ca.issue("gw.example"));
    until(|| secure.try_version(&secure.ca, Some(&client))).await;
}

#[tokio::test]
async fn who_asks_too_fast_is_told_and_others_notice_nothing() {
    let secure = Secure::new("[api.limits]\nrequests_per_second = 40\n");
    let _daemon = Daemon::start(&secure.place);
    let fast = secure.connect(&secure.ca.issue("ctl-1.example")).await;
    let other = secure.connect(&secure.ca.issue("ctl-2.example")).await;
    let mut refused = Vec::new();
    for _ in 0..60 {
        refused.extend(version(&fast).await.err());
    }
    let first = refused.first().expect("a second's worth is 40");
    assert_eq!(first.code(), Code::ResourceExhausted);
    assert!(first.message().contains("ctl-1.example"), "{first}");
    assert!(first.message().contains("api.limits.requests_per_second = 40"), "{first}");
    version(&other).await.expect("it has asked nothing");
    tokio::time::sleep(Duration::from_millis(200)).await;
    version(&fast).await.expect("it has waited");
}

#[tokio::test]
async fn connections_of_a_peer_are_limited_and_given_back() {
    let secure = Secure::new("[api.limits]\nconnections_per_peer = 3\n");
    let daemon = Daemon::start(&secure.place);
    let one = secure.ca.issue("ctl-1.example");
    let mut open = Vec::new();
    for _ in 0..3 {
        let channel = secure.connect(&one).await;
        version(&channel).await.expect("it is in");
        open.push(channel);
    }
    secure.try_version(&secure.ca, Some(&one)).await.expect_err("a fourth");
    let other = secure.ca.issue("ctl-2.example");
    secure.try_version(&secure.ca, Some(&other)).await.expect("another peer");
    is_well(&daemon).await;
    open.pop();
    until(|| secure.try_version(&secure.ca, Some(&one))).await;
    for channel in &open {
        version(channel).await.expect("it was in all the time");
    }
}

#[tokio::test]
async fn calls_of_a_peer_are_limited_and_given_back() {
    let place = Place::new();
    place.configure("[api.limits]\ncalls_per_peer = 3\n");
    let daemon = Daemon::start(&place);
    let mut open = vec![daemon.program().await, daemon.program().await, daemon.program().await];
    let mut operations = daemon.operations().await;
    let refused = operations.get_version(v1::GetVersionRequest {}).await.expect_err("a fourth call");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("api.limits.calls_per_peer = 3"), "{refused}");
    open.pop().expect("there are three").close().await;
    until(async || operations.clone().get_version(v1::GetVersionRequest {}).await).await;
    open[0].apply(vrf("red", TARGET)).await;
}

#[test]
fn silent_and_half_open_connections_are_closed() {
    let secure = Secure::new("[api.limits]\nhandshake_s = 1\nkeepalive_s = 1\nkeepalive_timeout_s = 1\n");
    let daemon = Daemon::start(&secure.place);
    let unix = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert!(wire::write_while_open(&mut stream, bytes));
        wire::read_to_close(&mut stream)
    };
    let bounds = Duration::from_millis(900)..Duration::from_secs(10);
    for (what, bytes) in
        [("nothing", &b""[..]), ("half a preface", &wire::HELLO[..11]), ("hello", wire::HELLO)]
    {
        let took = unix(bytes);
        assert!(bounds.contains(&took), "{what}: {took:?}");
    }
    let mut stream = TcpStream::connect(secure.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let took = wire::read_to_close(&mut stream);
    assert!(bounds.contains(&took), "no TLS: {took:?}");
}

#[tokio::test]
async fn clients_that_never_prove_who_they_are_keep_nobody_out() {
    let secure = Secure::new("[api.limits]\nhandshakes = 32\nhandshake_s = 60\n");
    let _daemon = Daemon::start(&secure.place);
    let client = secure.ca.issue("ctl-1.example");
    let inside = secure.connect(&client).await;
    // Some say nothing, others begin and say no more; all from one source, and from
    // many.
    let mut silent = Vec::new();
    for at in 0..160_u32 {
        let source = if at < 80 { 1 } else { at };
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let address = Ipv4Addr::from(0x7f00_0000 + source);
        socket.bind((address, 0).into()).expect("loopback has it");
        let mut stream = socket.connect(secure.address).await.expect("it listens");
        if at % 2 == 0 {
            // A record of a handshake that does not come whole.
            let begun = tokio::io::AsyncWriteExt::write_all(&mut stream, &[22, 3, 1, 2, 0, 1]);
            begun.await.expect("it is open");
        }
        silent.push(stream);
    }
    for _ in 0..10 {
        secure.try_version(&secure.ca, Some(&client)).await.expect("there is room at once");
    }
    version(&inside).await.expect("those who are in stay in");
    drop(silent);
}

#[tokio::test]
async fn garbage_leaves_the_daemon_well() {
    let secure = Secure::new("[api.limits]\nhandshake_s = 1\n");
    let daemon = Daemon::start(&secure.place);
    let before = resident(&daemon);
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for round in 0..400 {
        let mut bytes = random_bytes(&mut seed, 1 + round * 7);
        if round % 2 == 0 {
            // Past the door of HTTP/2.
            bytes.splice(0..0, wire::HELLO.iter().copied());
        }
        if round % 4 < 2 {
            let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
            wire::write_while_open(&mut stream, &bytes);
        } else {
            let mut stream = TcpStream::connect(secure.address).expect("it listens");
            wire::write_while_open(&mut stream, &bytes);
        }
    }
    is_well(&daemon).await;
    // Messages that are none, in calls that are good.
    let client = secure.ca.issue("ctl-1.example");
    // So many at once may have taken all places for handshakes.
    let channel = until(|| secure.connect_to(&secure.ca, Some(&client))).await;
    for _ in 0..200 {
        let bytes = random_bytes(&mut seed, 64);
        let body: Vec<u8> = [&[0, 0, 0, 0, 64][..], &bytes].concat();
        for path in ["Control/Session", "Control/Get", "Control/List", "Operations/ListRoutes"] {
            let request = http_request(path, body.clone());
            let mut channel = channel.clone();
            std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("it is open");
            let response = channel.call(request).await.expect("an answer");
            assert_eq!(response.status(), 200, "{path}");
        }
    }
    is_well(&daemon).await;
    let grown = resident(&daemon).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

/// A call with any body.
fn http_request(path: &str, body: Vec<u8>) -> tonic::codegen::http::Request<tonic::body::Body> {
    let body = tonic::body::Body::new(Whole(Some(body.into())));
    tonic::codegen::http::Request::builder()
        .method("POST")
        .uri(format!("/tieline.v1.{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

/// A body of one frame.
struct Whole(Option<hyper::body::Bytes>);

impl hyper::body::Body for Whole {
    type Data = hyper::body::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Status>>> {
        std::task::Poll::Ready(self.0.take().map(|data| Ok(hyper::body::Frame::data(data))))
    }
}

#[tokio::test]
async fn messages_and_headers_that_are_too_large_are_refused() {
    let place = Place::new();
    place.configure("[api.limits]\nmessage_kib = 64\nheaders_kib = 4\n");
    let daemon = Daemon::start(&place);
    let mut control = daemon.control().await;
    let name = |length: usize| v1::GetRequest {
        key: Some(v1::ObjectKey { kind: Some(v1::object_key::Kind::Vrf("x".repeat(length))) }),
        ..Default::default()
    };
    let refused = control.get(name(70_000)).await.expect_err("it is too large");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("api.limits.message_kib = 64"), "{refused}");
    let refused = control.get(name(60_000)).await.expect_err("it is no name, but may arrive");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut request = tonic::Request::new(name(3));
    request.metadata_mut().insert("x-large", "x".repeat(8000).parse().expect("ASCII"));
    control.get(request).await.expect_err("its headers are too large");
    is_well(&daemon).await;
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut stream = UnixStream::connect(daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    assert!(wire::write_while_open(&mut stream, wire::HELLO));
    let mut reader = stream.try_clone().expect("a handle");
    let closed = std::thread::spawn(move || wire::read_to_close(&mut reader));
    let mut sent = 0;
    let before = resident(&daemon);
    for at in 0..200_000 {
        let call = [wire::headers(2 * at + 1, "/tieline.v1.Operations/GetVersion"), wire::reset(2 * at + 1)];
        if !wire::write_while_open(&mut stream, &call.concat()) {
            break;
        }
        sent = at;
    }
    let grown = resident(&daemon).saturating_sub(before);
    assert!(sent < 190_000, "it is not closed after {sent} resets");
    assert!(grown < 32 << 20, "{grown} bytes more");
    closed.join().expect("it is closed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(is_well(&daemon));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_reads_take_bounded_memory() {
    let place = Place::new();
    place.configure("[api.limits]\nstalled_s = 3\n");
    let daemon = Daemon::start(&place);
    let mut stream = daemon.program().await;
    for at in 0..4000 {
        let targets = (0..20).map(|target| format!("64512:{target}")).collect();
        let vrf = v1::Vrf { name: format!("v{at}"), import_route_targets: targets, ..Default::default() };
        stream.apply(v1::object::Kind::Vrf(vrf)).await;
    }
    let mut reader = daemon.control().await.max_decoding_message_size(64 << 20);
    let request =
        v1::ListRequest { kind: v1::ObjectKind::Vrf.into(), page_size: 10_000, ..Default::default() };
    let whole = reader.list(request.clone()).await.expect("a list").into_inner();
    assert_eq!(whole.items.len(), 4000);
    let size = prost::Message::encoded_len(&whole);
    assert!(size > 800_000, "{size}");
    let before = resident(&daemon);
    // In the daemon's memory each would be at least as large: 2,000 take more
    // than a gigabyte.
    let uri = format!("unix:{}", daemon.socket().display());
    let mut calls = Vec::new();
    for _ in 0..20 {
        let endpoint = Endpoint::from_shared(uri.clone()).expect("a URI").initial_stream_window_size(1);
        let channel = endpoint.connect().await.expect("the daemon listens");
        for _ in 0..100 {
            let mut client = ControlClient::new(channel.clone()).max_decoding_message_size(64 << 20);
            let request = request.clone();
            calls.push(tokio::spawn(async move { client.list(request).await }));
        }
    }
    let mut most = 0;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(resident(&daemon).saturating_sub(before));
    }
    assert!(most < 200 << 20, "{most} bytes more");
    // Others come in meanwhile, and reads go on after the limit of time.
    let refused = reader.list(request.clone()).await;
    if let Err(refused) = refused {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }
    for call in calls {
        call.abort();
    }
    until(async || reader.clone().list(request.clone()).await).await;
    assert!(resident(&daemon).saturating_sub(before) < 200 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_whose_replies_nobody_reads_take_bounded_memory() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let before = resident(&daemon);
    let mut streams = Vec::new();
    for at in 0..32 {
        let stream = daemon.program().await;
        let send = tokio::spawn(async move {
            let mut stream = stream;
            for _ in 0..100_000 {
                let object = v1::Object { kind: Some(discard(&format!("n{at}"))) };
                stream.send(Some(v1::operation::Operation::Apply(object))).await;
            }
        });
        streams.push(send);
    }
    let mut most = 0;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(resident(&daemon).saturating_sub(before));
    }
    assert!(streams.iter().all(|stream| !stream.is_finished()), "nobody reads, so nobody goes on");
    assert!(most < 200 << 20, "{most} bytes more");
    let mut other = daemon.program().await;
    other.apply(vrf("red", TARGET)).await;
}

#[tokio::test]
async fn the_socket_has_the_permissions_that_are_configured() {
    let place = Place::new();
    place.configure(
        "[api]\nsocket_mode = \"0600\"\nsocket_directory_mode = \"0711\"\nsocket_role = \"read-only\"\n",
    );
    let daemon = Daemon::start(&place);
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").mode() & 0o7777;
    assert_eq!(mode(daemon.socket()), 0o600);
    assert_eq!(mode(daemon.socket().parent().expect("a directory")), 0o711);
    // The daemon's own user is an operator, whatever others are.
    daemon.program().await.apply(vrf("red", TARGET)).await;
}

#[tokio::test]
async fn a_user_of_the_socket_has_the_role_of_its_entry() {
    let place = Place::new();
    let uid = std::fs::metadata("/proc/self").expect("it is there").uid();
    place.configure(&format!("[[api.roles]]\nuid = {uid}\nrole = \"read-only\"\n"));
    let daemon = Daemon::start(&place);
    is_well(&daemon).await;
    let (_requests, receiver) = tokio::sync::mpsc::channel(1);
    let refused =
        daemon.control().await.session(ReceiverStream::new(receiver)).await.expect_err("it may read");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains(&format!("uid {uid} has the role read-only")), "{refused}");
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let channel = daemon.channel().await;
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "tieline.v1.Control", "tieline.v1.Operations"] {
        let reply = health.check(HealthCheckRequest { service: service.to_owned() }).await.expect(service);
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "x".to_owned() }).await.expect_err("none");
    assert_eq!(unknown.code(), Code::NotFound);
    let ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut replies =
            client.server_reflection_info(tokio_stream::once(request)).await.expect("a stream").into_inner();
        replies.message().await.expect("a good stream").expect("a reply").message_response
    };
    let Some(MessageResponse::ListServicesResponse(services)) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list")
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["tieline.v1.Control", "tieline.v1.Operations", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("tieline.v1.Route".to_owned());
    let Some(MessageResponse::FileDescriptorResponse(file)) = ask(symbol).await else { panic!("no file") };
    assert!(!file.file_descriptor_proto.is_empty());
}
