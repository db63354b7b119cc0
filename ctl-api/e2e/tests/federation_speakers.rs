//! Clusters and other people's BGP speakers: FRR, GoBGP and BIRD.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::federation::clusters::{MIDDLE, MIDDLE_ASN, SPEAKERS, peers, peers_with};
use tieline_e2e::federation::intent::{self, USER_TARGET};
use tieline_e2e::federation::speakers::{Bird, BirdConfig, BirdSession, Frr, GoBgp};
use tieline_e2e::federation::{Clusters, ControllerConfig, Hub};
use tieline_e2e::scenario::run_scenario;
use tieline_e2e::{Steps, eventually, with_one_and_two_workers};

/// Longer than a route takes on a busy machine.
const SOON: Duration = Duration::from_secs(15);
/// What FRR originates, and its peers watch.
const CANARY: &str = "1.0.0.2/32";

fn frr_between_clusters(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(workers)?;
    let families = ["ipv4 vpn", "ipv6 vpn", "ipv4 unicast"];
    let Some(mut frr) = Frr::start(&clusters.net, &clusters.middle, &families)? else {
        return Ok(());
    };
    let peers = peers_with(Hub::Middle, "vpnv4, vpnv6, ipv4", &format!(", canary: [{CANARY}]"));
    let intent = clusters.clusters(false) + &clusters.networks([Some(USER_TARGET); 2]) + &peers;
    clusters.start_controllers(&intent)?;
    steps.check("R1: routes go through FRR, packets do not", || {
        clusters.reach_each_other()?;
        clusters.route_is_direct()
    });
    steps.check("R2: FRR's canary is seen, and a fault while it is not announced", || {
        let is_missing = |missing: bool| {
            eventually(SOON, || {
                let status = clusters.controllers[0].ask(&["status"], "")?;
                let is = status.contains(&format!("does not announce its canary {CANARY}"));
                ensure!(is == missing, "missing: {is}, in {status}");
                Ok(())
            })
        };
        is_missing(true)?;
        frr.announces(CANARY, true)?;
        is_missing(false)?;
        frr.announces(CANARY, false)?;
        is_missing(true)
    });
    steps.check("R6: FRR dies, and forwarding goes on", || {
        frr.0.kill()?;
        clusters.hosts[0].pings_lossless("10.2.0.9", 100)
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

fn gobgp_between_clusters(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(workers)?;
    let families = ["l3vpn-ipv4-unicast", "l3vpn-ipv6-unicast", "l2vpn-evpn", "rtc"];
    let Some(mut gobgp) = GoBgp::start(&clusters.net, &clusters.middle, &families)? else {
        return Ok(());
    };
    let with_rtc = |targets| {
        clusters.clusters(false)
            + &clusters.networks(targets)
            + &peers_with(Hub::Middle, "vpnv4, vpnv6, evpn, rtc", ", routeServer: true, software: gobgp")
    };
    let (joined, apart) = (with_rtc([Some(USER_TARGET); 2]), with_rtc([Some(USER_TARGET), None]));
    clusters.start_controllers(&joined)?;
    steps.check(
        "R1, C4: routes go through GoBGP, a route server with route target constraint, packets do not",
        || {
            clusters.reach_each_other()?;
            clusters.route_is_direct()
        },
    );
    steps.check("C4: removed on one side, the routes are withdrawn through GoBGP", || {
        clusters.controllers[1].apply(&apart)?;
        clusters.are_apart()
    });
    steps.check("C4: and given back, they are there again", || {
        clusters.controllers[1].apply(&joined)?;
        clusters.reach_each_other()
    });
    steps.check("GoBGP has survived all that it was sent", || gobgp.0.check_alive());
    Ok(())
}

with_one_and_two_workers!(frr_between_clusters);

#[test]
fn gobgp() {
    run_scenario("gobgp_between_clusters", 1, gobgp_between_clusters);
}

fn bird_announces(_: usize, steps: &mut Steps) -> Result<()> {
    const KEY: &str = "between us";
    let mut clusters = Clusters::new(1)?;
    clusters.middle.ip("address add 198.18.9.4/24 dev bgp")?;
    let routes = [
        ("64999:1", "10.99.1.0/24", 1001, "64999, 7"),
        ("64999:1", "10.99.2.0/24", 1002, "64999, 8"),
        ("64999:1", "0.0.0.0/0", 1003, "64999, 7"),
    ];
    let right = BirdSession { name: "right", address: MIDDLE, asn: MIDDLE_ASN, password: KEY };
    let guesses = BirdSession { name: "guesses", address: "198.18.9.4", password: "guessed", ..right };
    let sessions = [right, guesses];
    let config = BirdConfig { sessions: &sessions, routes: &routes, next_hop: "198.18.9.77" };
    let Some(bird) = Bird::start(&clusters.net, &clusters.middle, config)? else { return Ok(()) };
    let more = format!(", password: '{KEY}', maxHops: 1");
    let peer = |of: &BirdSession| intent::peer("east", of.name, of.address, MIDDLE_ASN, "vpnv4", &more);
    let peers: String = sessions.iter().map(peer).collect();
    let intent =
        clusters.east_alone(&[SPEAKERS[0]]) + &clusters.red_and_green(Some(USER_TARGET), "") + &peers;
    clusters.start_controller(0, ControllerConfig::new("east", SPEAKERS[0]), &intent)?;
    let controller = &clusters.controllers[0];
    let [importer, other] = &clusters.gateways;
    steps.check(
        "BIRD's routes are programmed where they are imported, with their label and next hop",
        || {
            importer.gets_route("10.99.1.0/24")?;
            let route = importer.route("default/red", "10.99.1.0/24")?.context("not in the VRF")?.to_string();
            ensure!(route.contains("198.18.9.77"), "next hop: {route}");
            let held = importer.tlctl("list route")?.to_string();
            ensure!(held.contains("1001"), "label: {held}");
            ensure!(!importer.holds_route("10.99.2.0/24")?, "it holds what it does not import");
            ensure!(!other.holds_route("10.99.1.0/24")?, "the other gateway holds what it does not import");
            Ok(())
        },
    );
    steps.check("R7: a default route is refused, and the log says so", || {
        controller.logs(&["right", "0.0.0.0/0", "default route"])?;
        ensure!(!importer.holds_route("0.0.0.0/0")?, "the gateway has it");
        Ok(())
    });
    steps.check("BIRD has what the gateways export", || {
        eventually(SOON, || {
            let table = bird.ask("show route table known protocol right all")?;
            ensure!(table.contains("10.1.0.9/32") && table.contains("(rt, 64999, 7)"), "{table}");
            Ok(())
        })
    });
    steps.check("what BIRD withdraws is withdrawn from the gateway", || {
        bird.configure(BirdConfig { routes: &routes[1..], ..config })?;
        importer.loses_route("10.99.1.0/24")
    });
    steps.check("R7: with a wrong MD5 key there is no session, and the log says so", || {
        // A connection is given up after 20 s.
        eventually(Duration::from_secs(20), || controller.logs(&["WARN", "guesses", "password"]))?;
        let session = bird.ask("show protocols guesses")?;
        ensure!(session.contains("guesses") && !session.contains("Established"), "{session}");
        ensure!(controller.count_logged("BGP session up")? == 1, "more than one session came up");
        Ok(())
    });
    steps.check("R7: with a wrong AS number there is no session, and the log says so", || {
        let pretends = [BirdSession { asn: 64998, ..right }];
        bird.configure(BirdConfig { sessions: &pretends, ..config })?;
        controller.logs(&["WARN", "right", "AS 64998, not 64999"])?;
        ensure!(controller.count_logged("BGP session up")? == 1, "more than one session came up");
        Ok(())
    });
    Ok(())
}

fn frr_has_type_5(_: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(1)?;
    let Some(frr) = Frr::start(&clusters.net, &clusters.middle, &["l2vpn evpn"])? else { return Ok(()) };
    let intent =
        clusters.clusters(false) + &clusters.networks([Some(USER_TARGET); 2]) + &peers(Hub::Middle, "evpn");
    clusters.start_controllers(&intent)?;
    steps.check("R1: EVPN routes of type 5 go through FRR, and VXLAN packets straight", || {
        clusters.reach_each_other()?;
        clusters.route_is_direct()
    });
    steps.check("FRR has type 5 of both address families, with route target, VXLAN and router MAC", || {
        let table = frr.show("bgp l2vpn evpn")?.to_string();
        for prefix in ["[32]:[10.1.0.9]", "[128]:[2001:db8:1::9]", "[32]:[10.2.0.9]", "[128]:[2001:db8:2::9]"]
        {
            ensure!(table.contains(&format!("[5]:[0]:{prefix}")), "no {prefix}: {table}");
        }
        ensure!(table.contains("RT:64999:7") && table.contains("ET:8") && table.contains("Rmac:"), "{table}");
        Ok(())
    });
    Ok(())
}

#[test]
fn bird() {
    run_scenario("bird_announces", 1, bird_announces);
}

#[test]
fn frr_evpn() {
    run_scenario("frr_has_type_5", 1, frr_has_type_5);
}
