//! The APIs of a running controller from outside: who comes in, what each may do,
//! health and reflection.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tieline_proto::federation::v1;
use tieline_proto::federation::v1::intent_client::IntentClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::{CLUSTERS, Place};

/// Longest wait for something that should happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name in the controller's certificate.
const NAME: &str = "ctl.example";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A controller that runs, with a CA for itself and its clients.
struct Controller {
    place: Place,
    ca: Authority,
    address: SocketAddr,
    process: Child,
}

impl Controller {
    /// Starts it; `more` stands at the end of its configuration.
    fn start(more: &str) -> Self {
        let place = Place::new();
        let ca = authority("the CA");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("it has one");
        drop(free);
        let path = |name: &str| place.path().join(name).display().to_string();
        place.write(
            "federation.toml",
            &format!(
                "[api]\nlisten = \"{address}\"\n\
                 [api.tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
                 [[api.roles]]\nname = \"viewer.example\"\nrole = \"read-only\"\n\
                 [[api.roles]]\nname = \"ops.example\"\nrole = \"operator\"\n{more}",
                path("ctl.pem"),
                path("ctl.key"),
                path("ca.pem"),
            ),
        );
        place.write("ca.pem", &ca.pem());
        put_identity(&place, &ca, "ctl", NAME);
        put_identity(&place, &ca, "viewer", "viewer.example");
        put_identity(&place, &ca, "ops", "ops.example");
        put_identity(&place, &ca, "stranger", "stranger.example");
        put_identity(&place, &authority("another CA"), "foreign", "ops.example");
        let run = "run --cluster east --controller c1 --store store --socket socket --config federation.toml";
        let process = place.command(run).stderr(Stdio::null()).spawn().expect("the program runs");
        let mut controller = Self { place, ca, address, process };
        controller.wait();
        controller
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while UnixStream::connect(self.place.path().join("socket")).is_err()
            || std::net::TcpStream::connect(self.address).is_err()
        {
            assert_eq!(self.process.try_wait().expect("it is a child"), None, "it runs");
            assert!(started.elapsed() < PATIENCE, "it does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the program as somebody over TCP, and expects an exit code.
    fn ask(&self, who: &str, command: &str, code: i32) -> (String, String) {
        let server = self.address;
        self.place.run(
            &format!(
                "--server https://{server} --server-name {NAME} --ca ca.pem --cert {who}.pem --key {who}.key {command}"
            ),
            code,
        )
    }

    /// A connection over TCP as somebody, or without a certificate.
    async fn connect(&self, who: Option<&str>) -> Result<Channel, tonic::transport::Error> {
        let read = |name: &str| std::fs::read(self.place.path().join(name)).expect("a file of the test");
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.ca.pem())).domain_name(NAME);
        if let Some(who) = who {
            tls = tls.identity(Identity::from_pem(read(&format!("{who}.pem")), read(&format!("{who}.key"))));
        }
        let uri = format!("https://{}", self.address);
        Endpoint::from_shared(uri).expect("a URI").tls_config(tls).expect("good files").connect().await
    }

    /// Whether somebody over TCP gets as far as an answer, and if not why.
    async fn list(&self, who: Option<&str>) -> Result<(), String> {
        let channel = self.connect(who).await.map_err(|error| format!("{error:?}"))?;
        list(channel).await.map_err(|status| format!("{status:?}"))
    }

    async fn by_socket(&self) -> Channel {
        let path = format!("unix:{}", self.place.path().join("socket").display());
        Endpoint::from_shared(path).expect("a path").connect().await.expect("it listens")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn put_identity(place: &Place, ca: &Authority, file: &str, name: &str) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, ca).expect("a certificate");
    place.write(&format!("{file}.pem"), &certificate.pem());
    place.write(&format!("{file}.key"), &key.serialize_pem());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(place.path().join(format!("{file}.key")), mode).expect("its mode");
}

async fn list(channel: Channel) -> Result<(), Status> {
    IntentClient::new(channel).list(v1::ListRequest::default()).await.map(|_| ())
}

async fn apply(channel: Channel, text: &str) -> Result<v1::ApplyReply, Status> {
    let file = v1::File { name: "test.yaml".to_owned(), text: text.to_owned() };
    let request = v1::ApplyRequest { files: vec![file], ..Default::default() };
    IntentClient::new(channel).apply(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn who_has_no_good_certificate_does_not_come_in() {
    let controller = Controller::start("");
    for who in [None, Some("foreign")] {
        let refused = controller.list(who).await.expect_err("it is nobody");
        assert!(!refused.contains("role"), "{who:?} has got as far as the roles: {refused}");
    }
    let refused = controller.list(Some("stranger")).await.expect_err("no role");
    assert!(refused.contains("PermissionDenied") && refused.contains("stranger.example"), "{refused}");
    controller.list(Some("viewer")).await.expect("it has a role");
}

#[test]
fn a_viewer_sees_everything_and_declares_nothing() {
    let controller = Controller::start("");
    controller.place.write("clusters.yaml", CLUSTERS);
    let (_, refused) = controller.ask("viewer", "apply -f clusters.yaml", 1);
    for word in ["viewer.example", "read-only", "tieline.federation.v1.Intent/Apply", "[[api.roles]]"] {
        assert!(refused.contains(word), "{refused}");
    }
    let (out, _) = controller.ask("viewer", "get", 0);
    assert!(!out.contains("east"), "nothing is there: {out}");
    controller.ask("viewer", "diff -f clusters.yaml", 1);
    controller.ask("ops", "apply -f clusters.yaml", 0);
    let (out, _) = controller.ask("viewer", "get", 0);
    assert!(out.contains("east"), "{out}");
    let (_, refused) = controller.ask("viewer", "delete cluster/east", 1);
    assert!(refused.contains("read-only"), "{refused}");
    let (out, _) = controller.place.run("--server unix:socket get", 0);
    assert!(out.contains("east"), "{out}");
}

#[tokio::test]
async fn users_of_the_socket_have_roles_too() {
    let place = Place::new();
    let own = std::fs::metadata(place.path()).expect("it is there").uid();
    let controller = Controller::start(&format!("[[api.roles]]\nuid = {own}\nrole = \"read-only\"\n"));
    list(controller.by_socket().await).await.expect("it may read");
    let refused = apply(controller.by_socket().await, CLUSTERS).await.expect_err("it may not declare");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn health_answers_and_reflection_lists_the_services() {
    let controller = Controller::start("");
    let over_tls = controller.connect(Some("viewer")).await.expect("it has a role");
    for channel in [controller.by_socket().await, over_tls] {
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "tieline.federation.v1.Intent", "tieline.federation.v1.Federation"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let reply = health.check(request).await.expect("an answer").into_inner();
            assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
        }
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(channel);
        let replies = reflection.server_reflection_info(tokio_stream::iter([ask])).await.expect("an answer");
        let reply = replies.into_inner().message().await.expect("a reply").expect("one");
        let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
            panic!("no list: {reply:?}");
        };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "tieline.federation.v1.Federation",
                "tieline.federation.v1.Intent",
            ]
        );
    }
}

#[tokio::test]
async fn messages_are_bounded() {
    let controller = Controller::start("[api.limits]\nmessage_kib = 16\n");
    let comment = format!("# {}\n", "x".repeat(17 << 10));
    let refused = apply(controller.by_socket().await, &comment).await.expect_err("too large");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("api.limits.message_kib = 16"), "{refused}");
    apply(controller.by_socket().await, CLUSTERS).await.expect("small enough");
}

#[test]
fn a_configuration_that_will_not_do_is_refused_before_anything_else() {
    let place = Place::new();
    place.write("federation.toml", "[api]\nlisten = \"127.0.0.1:1\"\n");
    let (_, error) = place
        .run("run --cluster east --controller c1 --store store --socket socket --config federation.toml", 2);
    assert!(error.contains("federation.toml:2: api.listen: TCP is served with mutual TLS only"), "{error}");
    assert!(!place.path().join("store").exists(), "no store was made");
}
