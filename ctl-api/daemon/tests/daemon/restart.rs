//! What is declared survives the daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Daemon, PATIENCE, Place, Session, apply, discard, port, route, vrf};
use tieline_proto::v1;
use tieline_proto::v1::controller_message::Message as To;
use tieline_proto::v1::gateway_message::Message as From;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key;
use tieline_proto::v1::operation::Operation;

const TARGET: &str = "64512:8000001";

fn in_vrf(vrf: &str) -> v1::ListRoutesRequest {
    v1::ListRoutesRequest { vrf: vrf.to_owned(), ..Default::default() }
}

/// X3: the daemon restarts, and its forwarding state is back before any
/// controller.
#[tokio::test]
async fn x3_forwarding_is_back_before_any_controller() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.controller("a").await;
    session.apply(port("quiet", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;
    let interface = v1::Interface {
        name: "red-h1".to_owned(),
        port: "quiet".to_owned(),
        vrf: "red".to_owned(),
        local_addresses: vec!["10.9.0.1/24".to_owned()],
        ..Default::default()
    };
    session.apply(Kind::Interface(interface)).await;
    session.apply(vrf("red", TARGET)).await;
    session.apply(discard("n")).await;
    for n in 0..50 {
        session.apply(route(&format!("10.{n}.0.0/24"), TARGET, "n")).await;
    }
    let table = async |daemon: &Daemon| {
        daemon.operations().await.list_routes(in_vrf("red")).await.expect("a VRF").into_inner().routes
    };
    let before = table(&daemon).await;
    // 10.9.0.0/24 is the interface's own, and it has an address in it.
    assert_eq!(before.len(), 51);
    daemon.kill();
    let daemon = Daemon::start(&place);
    assert_eq!(table(&daemon).await, before);
    let stats =
        daemon.operations().await.get_stats(v1::GetStatsRequest {}).await.expect("stats").into_inner();
    assert_eq!(stats.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["quiet"]);
    // It comes back and declares the same: nothing is published.
    let version = stats.workers[0].table_version;
    let mut session = daemon.controller("a").await;
    assert_eq!(session.hello.held, 54);
    assert_eq!(session.apply(discard("n")).await.1, version);
    assert_eq!(session.end_of_sync().await, 53);
    assert!(daemon.get(object_key::Kind::Vrf("red".into())).await.is_none());
}

#[tokio::test]
async fn a_device_that_is_missing_at_the_start_is_tried_again() {
    let place = Place::new();
    let file = place.socket().with_extension("pcap");
    let daemon = Daemon::start(&place);
    // A capture file without packets.
    let empty: Vec<u8> =
        [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65535, 1].iter().flat_map(|n| n.to_ne_bytes()).collect();
    // Version 2.4: two numbers of 16 bits.
    let mut empty = empty;
    empty[4..6].copy_from_slice(&2_u16.to_ne_bytes());
    empty[6..8].copy_from_slice(&4_u16.to_ne_bytes());
    std::fs::write(&file, &empty).expect("a file");
    let mut session = daemon.program().await;
    let device = format!("net_pcap0,rx_pcap={}", file.display());
    session.apply(port("capture", &device, v1::PortRole::Tenant)).await;
    daemon.kill();
    std::fs::remove_file(&file).expect("it is there");
    let daemon = Daemon::start(&place);
    let state = async || {
        let item = daemon.get(object_key::Kind::Port("capture".to_owned())).await.expect("it is declared");
        item.status.expect("a status").state()
    };
    assert_eq!(state().await, v1::ObjectState::Degraded, "it cannot be opened");
    std::fs::write(&file, &empty).expect("a file");
    let back = async {
        while state().await != v1::ObjectState::Ready {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it is opened");
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_the_daemon_starts() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    daemon.program().await.apply(discard("n")).await;
    daemon.kill();
    let mut store = place.socket().into_os_string();
    store.push(".store");
    let store = std::path::PathBuf::from(store);
    let mut files: Vec<_> =
        std::fs::read_dir(&store).expect("a folder").map(|f| f.expect("an entry").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        let length = std::fs::metadata(file).expect("a file").len();
        std::fs::write(file, vec![0x5a; usize::try_from(length).expect("small")]).expect("a file");
    }
    let daemon = Daemon::start(&place);
    assert!(daemon.get(object_key::Kind::NextHop("n".into())).await.is_none());
    daemon.program().await.apply(discard("m")).await;
    daemon.kill();
    let daemon = Daemon::start(&place);
    assert!(daemon.get(object_key::Kind::NextHop("m".into())).await.is_some(), "the new store works");
}

/// What a controller has declared: keys to a word that stands for the content.
type Model = BTreeMap<String, u32>;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % end
    }
}

/// A random operation, carried out in the model.
fn step(random: &mut Random, model: &mut Model) -> Operation {
    let (n, content) = (random.below(30), random.below(5));
    match random.below(10) {
        0..=1 => {
            model.insert(format!("vrf v{n}"), content);
            apply(Kind::Vrf(v1::Vrf {
                name: format!("v{n}"),
                session_quota: content + 1,
                ..Default::default()
            }))
        }
        2 => {
            model.remove(&format!("vrf v{n}"));
            Operation::Delete(v1::ObjectKey { kind: Some(object_key::Kind::Vrf(format!("v{n}"))) })
        }
        3..=6 => {
            let count = 1 + random.below(40);
            let prefixes: Vec<String> = (n..n + count).map(|n| format!("10.{n}.0.0/16")).collect();
            for prefix in &prefixes {
                model.insert(format!("route {prefix}"), content);
            }
            let attributes = v1::Route {
                rd: "1:1".into(),
                route_targets: vec![TARGET.into()],
                next_hop: "n".into(),
                med: content,
                ..Default::default()
            };
            Operation::ApplyRoutes(v1::RouteSet {
                attributes: Some(attributes),
                prefixes: Some(v1::RoutePrefixes { texts: prefixes, ..Default::default() }),
            })
        }
        _ => {
            let prefixes: Vec<String> =
                (n..n + 1 + random.below(20)).map(|n| format!("10.{n}.0.0/16")).collect();
            for prefix in &prefixes {
                model.remove(&format!("route {prefix}"));
            }
            Operation::DeleteRoutes(v1::RouteSetKey {
                rd: "1:1".into(),
                prefixes: Some(v1::RoutePrefixes { texts: prefixes, ..Default::default() }),
            })
        }
    }
}

async fn declared(daemon: &Daemon) -> Model {
    let mut model = Model::new();
    let mut control = daemon.control().await;
    for kind in [v1::ObjectKind::Vrf, v1::ObjectKind::Route] {
        let request = v1::ListRequest { kind: kind.into(), page_size: 10_000, ..Default::default() };
        for item in control.list(request).await.expect("a list").into_inner().items {
            match item.object.and_then(|object| object.kind) {
                Some(Kind::Vrf(vrf)) => model.insert(format!("vrf {}", vrf.name), vrf.session_quota - 1),
                Some(Kind::Route(route)) => model.insert(format!("route {}", route.prefix), route.med),
                other => panic!("{other:?}"),
            };
        }
    }
    model
}

/// Sends batches until it is told to stop; notes the model after each, and how
/// many were acknowledged.
async fn churn(mut session: Session, random: &mut Random, models: &mut Vec<Model>, acked: &mut usize) {
    loop {
        let mut model = models.last().cloned().unwrap_or_default();
        let operations = (0..1 + random.below(5)).map(|_| step(random, &mut model));
        let operations: Vec<_> = operations.map(|one| v1::Operation { operation: Some(one) }).collect();
        models.push(model);
        session
            .say(To::Batch(v1::Batch { id: models.len() as u64 - 1, operations, ..Default::default() }))
            .await;
        // Up to eight are on their way.
        while models.len() - 1 - *acked > 8 {
            match session.reply().await {
                From::Accepted(accepted) => {
                    assert!(accepted.refused.is_empty(), "{accepted:?}");
                    *acked = usize::try_from(accepted.id).expect("an id");
                }
                From::Programmed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn after_kill_9_the_state_is_what_was_acknowledged() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let seed = now.as_nanos() as u64;
    let mut random = Random(seed);
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    let mut state = Model::new();
    for round in 0..8 {
        let session = daemon.controller("a").await;
        let (mut models, mut acked) = (vec![state.clone()], 0);
        let patience = Duration::from_micros(u64::from(200 + random.below(150_000)));
        let churning = churn(session, &mut random, &mut models, &mut acked);
        let _ = tokio::time::timeout(patience, churning).await;
        daemon.kill();
        daemon = Daemon::start(&place);
        let found = declared(&daemon).await;
        let matches = models.iter().skip(acked).any(|model| *model == found);
        assert!(
            matches,
            "seed {seed}, round {round}: {} batches were sent and {acked} acknowledged, and there is {found:?}",
            models.len() - 1
        );
        state = found;
    }
}
