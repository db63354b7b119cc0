//! Programming and reading a running daemon.

use crate::support::{Daemon, PATIENCE, Place, apply, discard, port, route, vrf};
use tieline_proto::v1;
use tieline_proto::v1::gateway_message::Message;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key;
use tonic::Code;

const TARGET: &str = "64512:8000001";

fn in_vrf(vrf: &str) -> v1::ListRoutesRequest {
    v1::ListRoutesRequest { vrf: vrf.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn objects_in_the_wrong_order_come_into_force() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    let mut operations = daemon.operations().await;

    let (waits_for, first) = program.apply(route("10.1.2.0/24", TARGET, "nowhere")).await;
    let next_hop = v1::ObjectKey { kind: Some(object_key::Kind::NextHop("nowhere".to_owned())) };
    assert_eq!(waits_for, std::slice::from_ref(&next_hop));
    let (waits_for, _) = program.apply(vrf("red", TARGET)).await;
    assert!(waits_for.is_empty());
    let (waits_for, last) = program.apply(discard("nowhere")).await;
    assert!(waits_for.is_empty());
    assert!(last > first, "{last} {first}");
    // Again: nothing is published.
    assert_eq!(program.apply(discard("nowhere")).await.1, last);

    let reply = operations.list_routes(in_vrf("red")).await.expect("a VRF").into_inner();
    assert_eq!(reply.routes.len(), 1);
    let entry = &reply.routes[0];
    assert_eq!((entry.prefix.as_str(), entry.next_hop.as_str()), ("10.1.2.0/24", "nowhere"));
    assert_eq!((entry.via.as_str(), entry.rd.as_str()), ("discard", "64512:2"));
    let request = v1::ListRoutesRequest { address: "10.1.2.77".to_owned(), ..in_vrf("red") };
    let matching = operations.list_routes(request).await.expect("a VRF").into_inner();
    assert_eq!(matching.routes, reply.routes);

    program.delete(object_key::Kind::NextHop("nowhere".to_owned())).await;
    let key = v1::RouteKey { rd: "64512:2".to_owned(), prefix: "10.1.2.0/24".to_owned() };
    let key = v1::ObjectKey { kind: Some(object_key::Kind::Route(key)) };
    let request = v1::GetRequest { key: Some(key), ..Default::default() };
    let item = daemon.control().await.get(request).await.expect("the route").into_inner().item.expect("it");
    let status = item.status.expect("a status");
    assert_eq!((status.state(), status.waits_for), (v1::ObjectState::Waiting, vec![next_hop]));
    program.close().await;
}

#[tokio::test]
async fn refusals_name_the_field_and_change_nothing() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;

    let refused = program.refused(None).await;
    assert_eq!((refused.code(), refused.field.as_str()), (v1::ErrorCode::InvalidField, "operation"));
    let refused = program.refused(Some(apply(vrf("red", "not a target")))).await;
    assert_eq!(refused.code(), v1::ErrorCode::InvalidField);
    assert_eq!(refused.field, "vrf.import_route_targets[0]");
    let refused = program.refused(Some(apply(vrf("underlay", TARGET)))).await;
    assert!(!refused.message.is_empty());
    let device = "net_pcap7,rx_pcap=/nonexistent/file.pcap";
    let refused = program.refused(Some(apply(port("p", device, v1::PortRole::Tenant)))).await;
    assert_eq!((refused.code(), refused.field.as_str()), (v1::ErrorCode::Permission, "port.device"));
    assert!(refused.message.contains("file /nonexistent/file.pcap"), "{}", refused.message);

    let mut control = daemon.control().await;
    for kind in [v1::ObjectKind::Vrf, v1::ObjectKind::Port] {
        let request = v1::ListRequest { kind: kind.into(), ..Default::default() };
        let reply = control.list(request).await.expect("a list").into_inner();
        assert!(reply.items.is_empty(), "{reply:?}");
    }
}

#[tokio::test]
async fn reading_says_what_is_wrong() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let (mut control, mut operations) = (daemon.control().await, daemon.operations().await);

    let get = |kind| v1::GetRequest { key: Some(v1::ObjectKey { kind }), ..Default::default() };
    let vrf = get(Some(object_key::Kind::Vrf("red".to_owned())));
    assert_eq!(control.get(vrf).await.expect_err("none").code(), Code::NotFound);
    assert_eq!(control.get(get(None)).await.expect_err("no key").code(), Code::InvalidArgument);
    assert_eq!(
        control.get(v1::GetRequest::default()).await.expect_err("no key").code(),
        Code::InvalidArgument
    );
    let list = v1::ListRequest::default();
    assert_eq!(control.list(list).await.expect_err("no kind").code(), Code::InvalidArgument);
    let list = v1::ListRequest {
        kind: v1::ObjectKind::SecurityGroup.into(),
        page_token: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(control.list(list).await.expect_err("no token").code(), Code::InvalidArgument);
    assert_eq!(operations.list_routes(in_vrf("blue")).await.expect_err("none").code(), Code::NotFound);
    let drops =
        |interface: &str, vrf: &str| v1::GetDropsRequest { interface: interface.into(), vrf: vrf.into() };
    assert_eq!(operations.get_drops(drops("i", "")).await.expect_err("none").code(), Code::NotFound);
    assert_eq!(operations.get_drops(drops("", "blue")).await.expect_err("none").code(), Code::NotFound);
    assert_eq!(operations.get_drops(drops("i", "v")).await.expect_err("both").code(), Code::InvalidArgument);
    let sessions = v1::ListSessionsRequest { vrf: "blue".to_owned(), limit: 0 };
    assert_eq!(operations.list_sessions(sessions).await.expect_err("none").code(), Code::NotFound);
}

#[tokio::test]
async fn many_operations_are_all_answered_and_lists_come_in_pages() {
    const COUNT: u64 = 5000;
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    program.apply(vrf("red", TARGET)).await;
    program.apply(discard("nowhere")).await;

    let first = 3;
    let prefix = |n: u64| format!("10.{}.{}.0/24", n / 256, n % 256);
    let mut replies = 0;
    let mut accepted = Vec::new();
    let mut programmed = Vec::new();
    let mut sent = 0;
    // More than the daemon takes at once: reading and writing take turns.
    while replies < 2 * COUNT {
        if sent < COUNT {
            let operation = apply(route(&prefix(sent), TARGET, "nowhere"));
            assert_eq!(program.send(Some(operation)).await, first + sent);
            sent += 1;
            if sent % 25 != 0 {
                continue;
            }
        }
        let until = if sent < COUNT { 2 * sent.saturating_sub(50) } else { 2 * COUNT };
        while replies < until {
            let reply = program.reply().await;
            replies += 1;
            match reply {
                Message::Accepted(reply) if reply.refused.is_empty() => accepted.push(reply.id),
                Message::Programmed(reply) => programmed.push(reply.id),
                other => panic!("{other:?}"),
            }
        }
    }
    let expected: Vec<u64> = (first..first + COUNT).collect();
    assert_eq!(accepted, expected, "accepted in their order");
    assert_eq!(programmed, expected, "programmed in their order");
    program.close().await;

    let mut control = daemon.control().await;
    let mut operations = daemon.operations().await;
    let (mut routes, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::ListRequest {
            kind: v1::ObjectKind::Route.into(),
            page_size: 700,
            page_token: token,
            ..Default::default()
        };
        let reply = control.list(request).await.expect("a page").into_inner();
        pages += 1;
        assert!(reply.items.len() <= 700);
        routes.extend(reply.items);
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((routes.len() as u64, pages), (COUNT, 8));
    assert!(
        routes.iter().all(|item| item.status.as_ref().is_some_and(|s| s.state() == v1::ObjectState::Ready))
    );

    let (mut entries, mut token) = (0, String::new());
    loop {
        let request = v1::ListRoutesRequest { page_size: 999, page_token: token, ..in_vrf("red") };
        let reply = operations.list_routes(request).await.expect("a page").into_inner();
        entries += reply.routes.len() as u64;
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(entries, COUNT);
    let stats = operations.get_stats(v1::GetStatsRequest {}).await.expect("stats").into_inner();
    let red = stats.vrfs.iter().find(|vrf| vrf.name == "red").expect("red");
    assert_eq!(red.ipv4_routes, COUNT);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_else() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut deaf = daemon.program().await;
    let flood = tokio::spawn(async move {
        for n in 0..200_000u64 {
            let sending = deaf.send(Some(apply(discard(&format!("d{}", n % 100)))));
            if tokio::time::timeout(std::time::Duration::from_millis(500), sending).await.is_err() {
                return (deaf, n);
            }
        }
        (deaf, u64::MAX)
    });
    let (deaf, sent) = flood.await.expect("no panic");
    assert!(sent < 200_000, "the daemon took everything although nobody reads the replies");
    let mut program = daemon.program().await;
    let done = tokio::time::timeout(PATIENCE, program.apply(discard("other"))).await;
    assert!(done.is_ok(), "another stream goes on");
    drop(deaf);
}

#[tokio::test]
async fn ports_come_and_go() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    let mut operations = daemon.operations().await;
    let missing = format!("net_pcap7,rx_pcap={}", place.path("missing.pcap").display());
    program.apply(port("missing", &missing, v1::PortRole::Tenant)).await;
    let status = program.settled("missing").await;
    assert_eq!(status.state(), v1::ObjectState::Degraded);
    assert!(status.message.contains("net_pcap7") && status.message.contains("No such file"), "{status:?}");
    program.delete(object_key::Kind::Port("missing".to_owned())).await;

    for round in 0..3 {
        program.apply(port("quiet", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;
        program.apply(port("ring", "net_ring0", v1::PortRole::Fabric)).await;
        let taken = program.refused(Some(apply(port("again", "net_ring0", v1::PortRole::Tenant)))).await;
        assert_eq!(taken.code(), v1::ErrorCode::Conflict, "round {round}");

        let stats = operations.get_stats(v1::GetStatsRequest {}).await.expect("stats").into_inner();
        let names: Vec<&str> = stats.ports.iter().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["quiet", "ring"]);
        assert!(stats.workers[0].rx_queues.contains(&"quiet:0".to_owned()), "{:?}", stats.workers);
        assert!(stats.workers[0].tx_queues.contains(&"ring:0".to_owned()), "{:?}", stats.workers);

        program.delete(object_key::Kind::Port("quiet".to_owned())).await;
        program.delete(object_key::Kind::Port("ring".to_owned())).await;
        let stats = operations.get_stats(v1::GetStatsRequest {}).await.expect("stats").into_inner();
        assert!(stats.ports.is_empty() && stats.workers[0].rx_queues.is_empty(), "round {round}");
    }
}

#[tokio::test]
async fn an_interface_has_routes_neighbours_and_counters() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    let mut operations = daemon.operations().await;
    let interface = v1::Interface {
        name: "red-h1".to_owned(),
        port: "quiet".to_owned(),
        vrf: "red".to_owned(),
        local_addresses: vec!["10.1.1.1/24".to_owned()],
        workload_mac: "02:00:00:00:01:0a".to_owned(),
        workload_addresses: vec!["10.1.1.10".to_owned()],
        ..Default::default()
    };
    let (waits_for, _) = program.apply(Kind::Interface(interface)).await;
    assert_eq!(waits_for.len(), 2, "{waits_for:?}");
    program.apply(vrf("red", TARGET)).await;
    program.apply(port("quiet", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;

    let mut reply =
        operations.list_neighbours(v1::ListNeighboursRequest {}).await.expect("a list").into_inner();
    let reply = reply.message().await.expect("a reply").expect("at least one");
    let [neighbour] = &reply.neighbours[..] else { panic!("{reply:?}") };
    assert_eq!((neighbour.interface.as_str(), neighbour.address.as_str()), ("red-h1", "10.1.1.10"));
    assert_eq!((neighbour.mac.as_str(), neighbour.state.as_str()), ("02:00:00:00:01:0a", "static"));
    let routes = operations.list_routes(in_vrf("red")).await.expect("a VRF").into_inner().routes;
    let prefixes: Vec<&str> = routes.iter().map(|route| route.prefix.as_str()).collect();
    assert_eq!(prefixes, ["10.1.1.1/32", "10.1.1.10/32"]);
    let stats = operations.get_stats(v1::GetStatsRequest {}).await.expect("stats").into_inner();
    assert_eq!(stats.interfaces.len(), 1);
    assert_eq!(stats.interfaces[0].name, "red-h1");
}

#[tokio::test]
async fn an_idle_daemon_balances_and_says_what_it_is() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut operations = daemon.operations().await;
    let version = operations.get_version(v1::GetVersionRequest {}).await.expect("a version").into_inner();
    assert_eq!(version.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(version.api_versions, ["tieline.v1"]);
    assert!(version.dpdk_version.contains("DPDK") && !version.hugepages, "{version:?}");
    assert_eq!(version.boot_id.len(), 32);

    let stats = operations.get_stats(v1::GetStatsRequest {}).await.expect("stats").into_inner();
    assert_eq!(stats.balance, Some(v1::Balance::default()));
    assert_eq!(
        (stats.workers.len(), stats.workers[0].core, stats.workers[0].session_capacity),
        (1, -1, 10_000)
    );
    assert!(stats.uptime_nanoseconds > 0);
    let stages = loop {
        let request = v1::GetStageStatsRequest {};
        let stages = operations.get_stage_stats(request).await.expect("stages").into_inner();
        // The worker charges a turn when it is over.
        if stages.workers.iter().all(|worker| worker.idle_cycles > 0) {
            break stages;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(stages.cycles_per_second > 0);
    let [worker] = &stages.workers[..] else { panic!("{stages:?}") };
    assert!(worker.stages.iter().all(|stage| stage.packets == 0 && stage.bursts == 0), "{worker:?}");
    let drops = operations.get_drops(v1::GetDropsRequest::default()).await.expect("drops").into_inner();
    assert!(drops.drops.is_empty());
    let mut replies =
        operations.list_sessions(v1::ListSessionsRequest::default()).await.expect("sessions").into_inner();
    let sessions = replies.message().await.expect("a reply").expect("one, though there are no sessions");
    assert!(replies.message().await.expect("an end").is_none());
    assert_eq!((sessions.sessions.len(), sessions.total, sessions.capacity), (0, 0, 10_000));
}
