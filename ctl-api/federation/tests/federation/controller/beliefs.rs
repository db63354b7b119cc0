//! Who is believed about what, and who is told what (S3): a running controller
//! with a gateway and a peer.

use tieline_bgp::wire::ExtendedCommunity;
use tieline_bgp::wire::community::{SecurityGroup, security_group_communities};
use tieline_proto::federation::v1::{self, EventKind};
use tieline_proto::v1::Export;

use super::peer::{ADDRESS, Peer};
use super::place::{Place, eventually};
use crate::fake;

/// Red's own route target: the second that the cluster gives.
const RED: &str = "64512:8000001";

/// The cluster east with the networks red, by a user route target, and green,
/// without. `controllers` are further ones.
fn east(gateway: &fake::Gateway, controllers: &str, more: &str) -> String {
    format!(
        "
apiVersion: tieline.io/v1
kind: Cluster
metadata: {{name: east}}
spec:
  asn: 64512
  controllers: [{{name: c1, address: 127.0.0.1}}{controllers}]
  gateways: [{{name: east-1, endpoint: '{}', tunnelAddresses: [198.18.0.1]}}]
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {{name: green}}
spec: {{cluster: east, subnets: [{{prefix: 10.4.0.0/24}}]}}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {{name: red}}
spec: {{cluster: east, subnets: [{{prefix: 10.1.0.0/24}}], routeTargets: {{both: ['64999:7']}}}}
---
apiVersion: tieline.io/v1
kind: Endpoint
metadata: {{name: h1}}
spec: {{network: red, gateway: east-1, interface: {{port: h1}}, mac: '02:00:00:00:00:01', addresses: [10.1.0.9]}}
---
apiVersion: tieline.io/v1
kind: Endpoint
metadata: {{name: h2}}
spec: {{network: green, gateway: east-1, interface: {{port: h2}}, mac: '02:00:00:00:00:02', addresses: [10.4.0.9]}}
{more}",
        gateway.endpoint()
    )
}

/// A place with a gateway.
async fn start() -> (Place, fake::Gateway) {
    let place = Place::start().await;
    let gateway = fake::Gateway::new(place.directory());
    gateway.start();
    (place, gateway)
}

/// What the gateway holds of other gateways, by prefix: groups.
fn held(gateway: &fake::Gateway) -> Vec<(String, Vec<u32>)> {
    let model = gateway.model();
    let routes = model.routes.iter();
    routes.map(|((_, prefix), route)| (prefix.to_string(), route.security_groups.clone())).collect()
}

/// Waits until the gateway holds these prefixes.
async fn holds(gateway: &fake::Gateway, prefixes: &[&str]) {
    let what = format!("the gateway holds {prefixes:?}");
    eventually(&what, async || {
        let held = held(gateway);
        let held: Vec<&str> = held.iter().map(|(prefix, _)| prefix.as_str()).collect();
        (held == prefixes).then_some(())
    })
    .await;
}

async fn disbeliefs(place: &Place, count: usize) -> (v1::PeerStatus, Vec<v1::Fault>) {
    eventually(&format!("{count} kinds of claims are told"), async || {
        let status = place.status().await;
        let peer = status.peers.first()?.clone();
        (peer.disbeliefs.len() == count).then_some((peer, status.faults))
    })
    .await
}

fn message<'a>(faults: &'a [v1::Fault], words: &str) -> &'a str {
    let found = faults.iter().find(|fault| fault.subject == "peer west" && fault.message.contains(words));
    &found.unwrap_or_else(|| panic!("no problem says {words:?}: {faults:#?}")).message
}

#[tokio::test]
async fn s3_a_foreign_peer_does_not_get_in_by_the_clusters_own_route_target() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    place.apply(&east(&gateway, "", &peer.object("families: [vpnv4]"))).await;
    peer.announce("64513:1", "10.2.0.9/32", RED, 2).await;
    peer.announce("64513:1", "10.2.0.10/32", "64999:7", 2).await;
    holds(&gateway, &["10.2.0.10/32"]).await;
    let (west, faults) = disbeliefs(&place, 1).await;
    assert_eq!((west.relation.as_str(), west.families[0].accepted), ("other", 1));
    let disbelief = &west.disbeliefs[0];
    assert_eq!((disbelief.routes, disbelief.taken), (1, false));
    assert_eq!(disbelief.examples, ["64513:1:10.2.0.9/32 with 64512:8000001: it comes from another AS"]);
    let told = message(&faults, "a route target that only this cluster gives");
    assert!(
        told.contains("announces 1 routes") && told.contains("connect networks by a user route target"),
        "{told}"
    );
    let event = place.event(EventKind::NotBelieved).await;
    assert_eq!(event.subject, "west");
    assert!(event.message.starts_with("64513:1:10.2.0.9/32 is kept away: it bears"), "{}", event.message);
    let status = place.status().await;
    assert_eq!(status.refused_routes[0].route, "64513:1:10.2.0.9/32");
    assert_eq!(status.routes, 1);
    let (texts, reply) = place.audit().await;
    assert!(texts.iter().all(|text| !text.starts_with("BGP")), "{texts:?} {reply:?}");

    // It takes it back: nothing is wrong with it any more.
    peer.announce("64513:1", "10.2.0.9/32", "64999:7", 2).await;
    holds(&gateway, &["10.2.0.9/32", "10.2.0.10/32"]).await;
    let (_, faults) = disbeliefs(&place, 0).await;
    assert!(faults.iter().all(|fault| fault.subject != "peer west"), "{faults:?}");
}

#[tokio::test]
async fn s3_c12_a_claimed_group_is_struck_and_told() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    place.apply(&east(&gateway, "", &peer.object("families: [vpnv4]"))).await;
    let groups = [(64512, 8_000_000), (64512, 5), (64513, 8_000_000), (64513, 6)];
    let groups = groups.map(|(asn, id)| SecurityGroup { asn, id });
    let claim = |attributes: &mut tieline_bgp::wire::Attributes| {
        attributes.extended.extend(security_group_communities(&groups));
    };
    peer.announce_with("64513:1", "10.2.0.9/32", "64999:7", 2, claim).await;
    holds(&gateway, &["10.2.0.9/32"]).await;
    assert_eq!(held(&gateway), [("10.2.0.9/32".to_owned(), vec![5, 6])]);
    let (west, faults) = disbeliefs(&place, 1).await;
    assert!(west.disbeliefs[0].taken);
    let told = message(&faults, "a security group that only this cluster gives");
    assert!(told.contains("8000000") && told.contains("taken without"), "{told}");
    assert!(place.event(EventKind::NotBelieved).await.message.contains("is taken without"));
}

#[tokio::test]
async fn s3_who_is_declared_later_is_believed_then_and_no_longer_than_that() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64512).await;
    let object = peer.object("families: [vpnv4]");
    place.apply(&east(&gateway, "", &object)).await;
    // A high preference does not help it.
    let prefer = |attributes: &mut tieline_bgp::wire::Attributes| attributes.local_pref = Some(u32::MAX);
    peer.announce_with("64512:77", "10.2.0.9/32", RED, 2, prefer).await;
    let (west, faults) = disbeliefs(&place, 1).await;
    assert_eq!(west.relation, "undeclared");
    let told = message(&faults, "a route target that only this cluster gives");
    assert!(told.contains("is no declared controller of this cluster, nor its reflector"), "{told}");
    assert!(told.contains("declare the cluster's own controllers"), "{told}");
    holds(&gateway, &[]).await;

    place.apply(&east(&gateway, &format!(", {{name: c2, address: {ADDRESS}}}"), &object)).await;
    holds(&gateway, &["10.2.0.9/32"]).await;
    let (west, faults) = disbeliefs(&place, 0).await;
    assert_eq!(west.relation, "controller c2");
    assert!(faults.iter().all(|fault| fault.subject != "peer west"), "{faults:?}");

    place.apply(&east(&gateway, "", &object)).await;
    holds(&gateway, &[]).await;
    disbeliefs(&place, 1).await;
}

#[tokio::test]
async fn s3_a_reflector_is_believed_about_declared_originators() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64512).await;
    let controllers =
        ", {name: c2, address: 198.18.0.12}, {name: c3, address: '2001:db8::13', routerId: 198.18.0.13}";
    place.apply(&east(&gateway, controllers, &peer.object("families: [vpnv4], reflector: true"))).await;
    for (host, originator) in
        [(12, Some([198, 18, 0, 12])), (13, Some([198, 18, 0, 13])), (14, Some([198, 18, 0, 14])), (15, None)]
    {
        let reflected = |attributes: &mut tieline_bgp::wire::Attributes| {
            attributes.originator_id = originator.map(Into::into);
        };
        peer.announce_with("64512:77", &format!("10.2.0.{host}/32"), RED, 2, reflected).await;
    }
    holds(&gateway, &["10.2.0.12/32", "10.2.0.13/32"]).await;
    let (west, faults) = disbeliefs(&place, 1).await;
    assert_eq!((west.relation.as_str(), west.disbeliefs[0].routes), ("reflector", 2));
    let mut examples = west.disbeliefs[0].examples.clone();
    examples.sort();
    assert_eq!(
        examples,
        [
            "64512:77:10.2.0.14/32 with 64512:8000001: router 198.18.0.14 has originated it, which is no declared controller of this cluster",
            "64512:77:10.2.0.15/32 with 64512:8000001: the reflector itself has originated it",
        ]
    );
    message(&faults, "announces 2 routes");
}

fn export(network: &str, prefix: &str, rd: &str, targets: &[&str]) -> Export {
    Export {
        vrf: format!("default/{network}"),
        prefix: prefix.to_owned(),
        rd: rd.to_owned(),
        route_targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        label: 1001,
        security_groups: vec![5, 8_000_000],
        endpoints: vec!["198.18.0.1".to_owned()],
        ..Default::default()
    }
}

/// Waits until a peer has heard these routes, with these targets.
async fn hears(peer: &Peer, routes: &[(&str, &[&str])]) {
    let what = format!("the peer hears {routes:?}");
    eventually(&what, async || {
        let heard = peer.heard().await;
        let routes = routes.iter().map(|(nlri, targets)| {
            ((*nlri).to_owned(), targets.iter().map(|target| (*target).to_owned()).collect::<Vec<_>>())
        });
        (heard == routes.collect()).then_some(())
    })
    .await;
}

const CONNECTION: &str = "
---
apiVersion: tieline.io/v1
kind: Connection
metadata: {name: greens}
spec: {layer: L3, userRouteTarget: '64999:20', networks: [green]}
";
/// What the peer hears of red, whatever else is connected.
const RED_ROUTE: (&str, &[&str]) = ("64512:2:10.1.0.9/32", &["64999:7"]);

#[tokio::test]
async fn s3_c4_a_network_is_told_when_something_connects_it_and_taken_back_with_that() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    let base = east(&gateway, "", &peer.object("families: [vpnv4]"));
    place.apply(&base).await;
    gateway.originate(export("red", "10.1.0.9/32", "64512:2", &[RED, "64999:7"]));
    gateway.originate(export("green", "10.4.0.9/32", "64512:1", &["64512:8000000"]));
    hears(&peer, &[RED_ROUTE]).await;
    let west = place.status().await.peers[0].clone();
    assert_eq!((west.networks_told, west.networks_kept), (1, 1));
    assert_eq!(west.kept_networks, ["default/green"]);

    place.apply(&format!("{base}{CONNECTION}")).await;
    // As the gateway does once its VRF has another target.
    gateway.originate(export("green", "10.4.0.9/32", "64512:1", &["64512:8000000", "64999:20"]));
    let green = ("64512:1:10.4.0.9/32", &["64999:20"][..]);
    hears(&peer, &[green, RED_ROUTE]).await;
    assert_eq!(place.status().await.peers[0].networks_kept, 0);

    // It is taken back with the connection, not when the gateway has heard of it.
    place.apply_only(&base).await;
    hears(&peer, &[RED_ROUTE]).await;
    let (texts, _) = place.audit().await;
    assert!(texts.iter().all(|text| !text.contains("to peer west")), "{texts:?}");
}

#[tokio::test]
async fn s3_a_reflector_is_told_everything_and_keeps_what_is_the_clusters() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64512).await;
    place.apply(&east(&gateway, "", &peer.object("families: [vpnv4], reflector: true"))).await;
    gateway.originate(export("red", "10.1.0.9/32", "64512:2", &[RED, "64999:7"]));
    gateway.originate(export("green", "10.4.0.9/32", "64512:1", &["64512:8000000"]));
    let green = ("64512:1:10.4.0.9/32", &["64512:8000000"][..]);
    let red = ("64512:2:10.1.0.9/32", &[RED, "64999:7"][..]);
    hears(&peer, &[green, red]).await;
    let status = place.status().await;
    assert_eq!((status.peers[0].networks_told, status.peers[0].networks_kept), (2, 0));
}

#[tokio::test]
async fn s3_a_claimed_distinguisher_takes_no_route_from_the_cluster() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    place.apply(&east(&gateway, "", &peer.object("families: [vpnv4]"))).await;
    let mobile = |attributes: &mut tieline_bgp::wire::Attributes| {
        attributes.extended.push(ExtendedCommunity::mac_mobility(true, u32::MAX));
    };
    peer.announce_with("64512:2", "10.77.0.0/24", "64999:7", 2, mobile).await;
    let (_, faults) = disbeliefs(&place, 1).await;
    let told = message(&faults, "a route distinguisher that this cluster has given");
    assert!(told.contains("64512:2"), "{told}");
    holds(&gateway, &[]).await;
}

#[tokio::test]
async fn s3_nobody_leads_into_a_gateway_whose_address_the_intent_does_not_say() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    let east = east(&gateway, "", &peer.object("families: [vpnv4]"));
    place.apply(&east.replace(", tunnelAddresses: [198.18.0.1]", "")).await;
    peer.announce("64513:1", "10.2.0.9/32", "64999:7", 1).await;
    holds(&gateway, &["10.2.0.9/32"]).await;
    // The gateway itself says where it is.
    gateway.originate(export("red", "10.1.0.9/32", "64512:2", &[RED, "64999:7"]));
    let (_, faults) = disbeliefs(&place, 1).await;
    let told = message(&faults, "a next hop that is a gateway of this cluster");
    assert!(told.contains("198.18.0.1, which is east-1"), "{told}");
    eventually("the gateway has lost the route", async || {
        let held = held(&gateway);
        held.iter().all(|(prefix, _)| prefix != "10.2.0.9/32").then_some(())
    })
    .await;
}

#[tokio::test]
async fn s3_x6_an_audit_names_what_is_believed_and_told_against_the_intent() {
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    let base = east(&gateway, "", &peer.object("families: [vpnv4]"));
    place.apply(&base).await;
    gateway.originate(export("red", "10.1.0.9/32", "64512:2", &[RED, "64999:7"]));
    peer.announce("64513:1", "10.2.0.9/32", "64999:7", 2).await;
    holds(&gateway, &["10.2.0.9/32"]).await;
    hears(&peer, &[RED_ROUTE]).await;
    // An intent that the controller cannot follow without a start: it says that the
    // peer's cluster has nothing to do with red.
    let west = "
---
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: west}
spec: {asn: 64513}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: blue}
spec: {cluster: west, subnets: [{prefix: 10.2.0.0/24}]}
";
    let named = base
        .replace("{name: c1, address: 127.0.0.1}", "{name: c1, address: 127.0.0.1, routerId: 198.18.0.77}");
    place.apply(&format!("{named}{west}")).await;
    eventually("the controller has to be started again", async || {
        let status = place.status().await;
        status.intent_problem.contains("BGP identifier").then_some(())
    })
    .await;
    let (_, reply) = place.audit().await;
    let found: Vec<_> = reply.differences.iter().filter(|one| one.place == "BGP").collect();
    let texts: Vec<String> =
        found.iter().map(|one| format!("{}: {}: {}", one.what, one.expected, one.found)).collect();
    assert_eq!(
        texts,
        [
            "64512:2:10.1.0.9/32 to peer west: not announced: nothing connects it with the peer: it is announced",
            "64513:1:10.2.0.9/32 of peer west: kept away: a route target that nothing connects its cluster with: it is taken",
        ]
    );
}

#[tokio::test]
async fn s3_however_many_claims_there_are_the_status_is_short() {
    const CLAIMS: u32 = 3000;
    let (place, gateway) = start().await;
    let peer = Peer::start(64513).await;
    place.apply(&east(&gateway, "", &peer.object("families: [vpnv4]"))).await;
    for number in 0..CLAIMS {
        let prefix = format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
        peer.announce("64513:1", &prefix, RED, 2).await;
    }
    let west = eventually("all claims are counted", async || {
        let west = place.status().await.peers.first()?.clone();
        (west.disbeliefs.first()?.routes == u64::from(CLAIMS)).then_some(west)
    })
    .await;
    assert_eq!((west.disbeliefs.len(), west.disbeliefs[0].examples.len()), (1, 3));
    let status = place.status().await;
    assert_eq!(status.faults.iter().filter(|fault| fault.subject == "peer west").count(), 1);
    assert_eq!(status.refused_routes.len(), 100);
    let events = place.events("").await;
    let told = events.iter().filter(|event| event.kind() == EventKind::NotBelieved).count();
    assert!((1..=100).contains(&told), "{told} events");
}
