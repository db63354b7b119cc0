//! A running controller, asked over its API, with a BGP peer on the loopback
//! interface.

mod beliefs;
mod metrics;
mod peer;
mod place;

use peer::Peer;
use place::{Place, eventually};
use tieline_proto::federation::v1::{self, EventKind};

use crate::fake;

/// A cluster with a network, whose gateway cannot be reached.
const CLUSTER: &str = "
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: east}
spec:
  asn: 64512
  controllers: [{name: c1, address: 127.0.0.1}]
  gateways: [{name: east-1, endpoint: 'unix:/nowhere/control.sock', tunnelAddresses: [198.18.0.1]}]
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: red}
spec: {cluster: east, subnets: [{prefix: 10.1.0.0/24}], routeTargets: {both: ['64999:7']}}
---
apiVersion: tieline.io/v1
kind: Endpoint
metadata: {name: h1}
spec: {network: red, gateway: east-1, interface: {port: h1}, mac: '02:00:00:00:00:01', addresses: [10.1.0.9]}
";

#[tokio::test]
async fn before_it_knows_who_it_is_it_says_that() {
    let place = Place::start().await;
    let why = "does not answer yet: the intent has no cluster east with a controller c1";
    eventually(why, async || {
        let early = place.client().await.get_status(v1::GetStatusRequest {}).await.expect_err("no intent");
        assert_eq!(early.code(), tonic::Code::Unavailable);
        early.message().contains(why).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_status_tells_what_a_peer_announces_and_what_is_wrong() {
    let place = Place::start().await;
    let peer = Peer::start(64513).await;
    place.apply(&format!("{CLUSTER}{}", peer.object("families: [vpnv4, vpnv6]"))).await;
    eventually("the session is up, and its routes are there", async || {
        let status = place.status().await;
        let west = status.peers.first()?;
        let done = west.families.first().is_some_and(|vpnv4| vpnv4.complete);
        (west.state == "Established" && done).then_some(())
    })
    .await;
    peer.announce("64513:1", "10.2.0.0/24", "64999:7", 2).await;
    peer.announce("64513:1", "10.3.0.0/24", "64999:8", 2).await;
    peer.announce("64513:1", "0.0.0.0/0", "64999:7", 2).await;
    let status = eventually("the routes come", async || {
        let status = place.status().await;
        (status.routes == 2 && !status.refused_routes.is_empty()).then_some(status)
    })
    .await;
    let west = &status.peers[0];
    assert_eq!((west.name.as_str(), west.address.as_str(), west.asn), ("west", "127.0.0.2", 64513));
    let families: Vec<_> = west.families.iter().map(|one| (one.name.as_str(), one.accepted)).collect();
    assert_eq!(families, [("vpnv4", 2), ("vpnv6", 0)]);
    assert!(west.since.abs_diff(place::now()) < 30, "{west:?}");
    let refused = &status.refused_routes[0];
    assert_eq!(
        (refused.peer.as_str(), refused.route.as_str(), refused.reason.as_str()),
        ("west", "64513:1:0.0.0.0/0", "a default route, which is not asked for")
    );
    let targets: Vec<_> = status
        .route_targets
        .iter()
        .map(|one| (one.route_target.as_str(), one.routes, one.gateways))
        .collect();
    assert_eq!(targets, [("64999:7", 1, 1), ("64999:8", 1, 0), ("64512:8000000", 0, 1)]);
    let gateway = &status.gateways[0];
    assert_eq!((gateway.connected_since, gateway.objects, gateway.routes), (0, 3, 1));
    let faults: Vec<_> = status.faults.iter().map(|fault| fault.subject.as_str()).collect();
    assert_eq!(status.awaited_gateways, ["east-1"]);
    assert_eq!(faults, ["start", "gateway east-1"], "{:?}", status.faults);
    let held: Vec<_> = status.allocations.iter().map(|pool| (pool.resource.as_str(), pool.held)).collect();
    assert_eq!(held, [("route-target", 1), ("vni", 1), ("route-distinguisher", 1)]);

    peer.stop().await;
    let status = eventually("the session is down", async || {
        let status = place.status().await;
        (status.peers[0].state != "Established").then_some(status)
    })
    .await;
    assert!(status.peers[0].last_error_at > 0 && !status.peers[0].last_error.is_empty());
    assert!(status.faults.iter().any(|fault| fault.subject == "peer west"), "{:?}", status.faults);
}

#[tokio::test]
async fn x7_what_breaks_a_contract_is_a_fault_until_the_session_ends() {
    let place = Place::start().await;
    let peer = Peer::start(64513).await;
    let contract = "families: [vpnv4], contract: {prefixes: [10.2.0.0/16]}";
    place.apply(&format!("{CLUSTER}{}", peer.object(contract))).await;
    peer.announce("64513:1", "10.2.0.0/24", "64999:7", 2).await;
    peer.announce("64513:1", "10.9.0.0/24", "64999:7", 2).await;
    let status = eventually("the leak is told", async || {
        let status = place.status().await;
        let told = !status.peers.first()?.violations.is_empty() && status.routes == 1;
        told.then_some(status)
    })
    .await;
    let expected = "broke its contract in 1 routes, which are kept away: a prefix outside its contract";
    assert!(status.faults.iter().any(|fault| fault.message == expected), "{:?}", status.faults);
    assert_eq!(status.refused_routes[0].route, "64513:1:10.9.0.0/24");
    let event = place.event(EventKind::ContractViolated).await;
    assert_eq!(event.message, "64513:1:10.9.0.0/24: a prefix outside its contract");
}

#[tokio::test]
async fn c7_an_address_that_two_gateways_claim_is_told_with_who_claims_it() {
    let place = Place::start().await;
    let peer = Peer::start(64513).await;
    place.apply(&format!("{CLUSTER}{}", peer.object("families: [vpnv4]"))).await;
    peer.announce("64513:1", "10.2.0.9/32", "64999:7", 2).await;
    peer.announce("64513:2", "10.2.0.9/32", "64999:7", 3).await;
    let status = eventually("the duplicate is told", async || {
        let status = place.status().await;
        (!status.duplicates.is_empty()).then_some(status)
    })
    .await;
    assert_eq!(status.duplicates[0].prefix, "10.2.0.9/32");
    assert_eq!(status.duplicates[0].claims, ["64513:1 at 198.18.0.2", "64513:2 at 198.18.0.3"]);
    assert!(status.faults.iter().any(|fault| fault.subject == "address 10.2.0.9/32"));
    let found = place.event(EventKind::DuplicateFound).await;
    assert_eq!(
        (found.subject.as_str(), found.message.as_str()),
        ("10.2.0.9/32", "claimed by several gateways: 64513:1, 64513:2")
    );
    peer.withdraw("64513:2", "10.2.0.9/32").await;
    place.event(EventKind::DuplicateGone).await;
    assert!(place.status().await.duplicates.is_empty());
}

#[tokio::test]
async fn events_are_told_to_who_was_there_and_to_who_comes_later() {
    let place = Place::start().await;
    let peer = Peer::start(64513).await;
    place.apply(&format!("{CLUSTER}{}", peer.object("families: [vpnv4]"))).await;
    let up = place.event(EventKind::PeerUp).await;
    assert_eq!((up.subject.as_str(), up.message.as_str()), ("west", "session up, with vpnv4"));
    let down = place.event(EventKind::GatewayDown).await;
    assert!(down.message.contains("unreachable"), "{down:?}");
    // Who follows after that event is told what comes.
    let request = v1::WatchEventsRequest { after: up.position.clone(), follow: true };
    let mut stream = place.client().await.watch_events(request).await.expect("a stream").into_inner();
    peer.stop().await;
    let down = loop {
        let event =
            stream.message().await.expect("it goes on").expect("an event").event.expect("nothing is lost");
        if event.kind() == EventKind::PeerDown {
            break event;
        }
    };
    assert!(down.message.starts_with("session down: "), "{down:?}");
    // And who comes back with that position misses nothing.
    let downs = place.events(&up.position).await;
    assert_eq!(downs.iter().filter(|event| event.kind() == EventKind::PeerDown).count(), 1);
    let gateway_downs = place.events("").await;
    let count = gateway_downs.iter().filter(|event| event.kind() == EventKind::GatewayDown).count();
    assert_eq!(count, 1, "that it still cannot be reached is no news");
    let wrong = v1::WatchEventsRequest { after: "yesterday".into(), follow: false };
    let error = place.client().await.watch_events(wrong).await.expect_err("no position");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn an_intent_that_cannot_be_followed_is_a_fault() {
    let place = Place::start().await;
    place.apply(CLUSTER).await;
    place.status().await;
    place.apply(&CLUSTER.replace("name: c1", "name: c2")).await;
    let status = eventually("the fault is told", async || {
        let status = place.status().await;
        (!status.intent_problem.is_empty()).then_some(status)
    })
    .await;
    assert_eq!(status.faults[0].subject, "intent");
    assert!(status.intent_problem.contains("is not in it any more"), "{}", status.intent_problem);
}

#[tokio::test]
async fn r2_the_canary_of_a_reflector_is_watched() {
    let place = Place::start().await;
    let peer = Peer::start(64513).await;
    let spec = "families: [ipv4, vpnv4], canary: [1.0.0.2/32]";
    place.apply(&format!("{CLUSTER}{}", peer.object(spec))).await;
    let canary = async || place.status().await.peers.first().and_then(|peer| peer.canaries.first().cloned());
    let lost = place.event(EventKind::CanaryLost).await;
    assert_eq!(
        lost.message,
        "canary 1.0.0.2/32 is missing: it is not among the routes that the peer has told"
    );
    assert_eq!(canary().await.expect("a canary").state(), v1::CanaryState::Missing);
    assert!(place.status().await.faults.iter().any(|fault| fault.message.contains("canary 1.0.0.2/32")));

    peer.announce("", "1.0.0.2/32", "", 2).await;
    place.event(EventKind::CanaryBack).await;
    let status = place.status().await;
    assert_eq!(status.peers[0].canaries[0].state(), v1::CanaryState::Present);
    assert!(status.faults.iter().all(|fault| !fault.message.contains("canary")), "{:?}", status.faults);
    assert_eq!((status.routes, status.gateways[0].routes), (0, 0), "it is not for gateways");

    peer.withdraw("", "1.0.0.2/32").await;
    eventually("its loss is told", async || {
        let canary = canary().await?;
        (canary.message == "it was withdrawn").then_some(())
    })
    .await;
}

#[tokio::test]
async fn x6_an_audit_names_what_a_gateway_does_not_hold() {
    let place = Place::start().await;
    let peer = Peer::start(64513).await;
    let gateway = fake::Gateway::new(place.directory());
    gateway.start();
    let cluster = CLUSTER.replace("unix:/nowhere/control.sock", &gateway.endpoint());
    place.apply(&format!("{cluster}{}", peer.object("families: [vpnv4]"))).await;
    for prefix in ["10.2.0.0/24", "10.3.0.0/24"] {
        peer.announce("64513:1", prefix, "64999:7", 2).await;
    }
    eventually("the gateway is programmed", async || {
        let status = place.status().await;
        let east = status.gateways.first()?;
        (east.synchronised && east.up_to_date && east.routes == 2).then_some(())
    })
    .await;
    let (texts, reply) = place.audit().await;
    assert_eq!(texts, [""; 0], "{reply:?}");
    assert_eq!((reply.objects, reply.routes, reply.unseen.len()), (3, 2, 0));

    // Behind the controller's back.
    {
        let mut model = gateway.model();
        let vrf = model.objects.get_mut("vrf/default/red").expect("a VRF");
        let Some(tieline_proto::v1::object::Kind::Vrf(vrf)) = &mut vrf.kind else { panic!("{vrf:?}") };
        vrf.vni += 1;
        model.objects.retain(|key, _| !key.starts_with("interface/"));
        let mut routes = model.routes.iter_mut();
        routes.next().expect("a route").1.label += 1;
        model.not_forwarded.insert("10.3.0.0/24".parse().expect("a prefix"));
        let stray = tieline_proto::v1::NextHop { name: "stray".to_owned(), ..Default::default() };
        let kind = Some(tieline_proto::v1::object::Kind::NextHop(stray));
        model.objects.insert("next_hop/stray".to_owned(), tieline_proto::v1::Object { kind });
    }
    let (texts, reply) = place.audit().await;
    assert_eq!(
        texts,
        [
            "gateway east-1: interface/default/h1",
            "gateway east-1: next_hop/stray",
            "gateway east-1: route/64513:1/10.2.0.0/24 label",
            "gateway east-1: vrf/default/red 10.3.0.0/24",
            "gateway east-1: vrf/default/red vni",
        ],
        "{reply:?}"
    );
    let label = &reply.differences[2];
    assert_eq!((label.expected.as_str(), label.found.as_str()), ("1000", "1001"));
}

#[tokio::test]
async fn x6_a_gateway_that_cannot_be_asked_is_not_taken_for_right() {
    let place = Place::start().await;
    place.apply(CLUSTER).await;
    place.status().await;
    let (texts, reply) = place.audit().await;
    assert_eq!(texts, [""; 0]);
    assert_eq!(reply.unseen.len(), 1);
    assert_eq!(reply.unseen[0].place, "gateway east-1");
    assert!(reply.unseen[0].reason.contains("/nowhere/control.sock"), "{:?}", reply.unseen);
}
