//! Peers that claim what they have no right to (S3): nothing of it gets in, the
//! networks that nothing connects are not told to anybody, and the status says
//! what was refused.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tieline_e2e::federation::clusters::{ASNS, MIDDLE, MIDDLE_ASN, NAMES, SPEAKERS, peers};
use tieline_e2e::federation::intent::{self, USER_TARGET};
use tieline_e2e::federation::raw_peer::{RawPeer, VpnRoute, label, route_target, security_group};
use tieline_e2e::federation::speakers::Frr;
use tieline_e2e::federation::{Clusters, Controller, ControllerConfig, Hub};
use tieline_e2e::gateway::number;
use tieline_e2e::scenario::run_scenario;
use tieline_e2e::{Steps, eventually, with_one_and_two_workers};

/// Longer than a route takes on a busy machine.
const SOON: Duration = Duration::from_secs(15);
/// The first route target that each cluster gives, after its AS number.
const FIRST_SYSTEM_TARGET: u32 = 8_000_000;
/// The first number that a cluster gives to a group.
const FIRST_SYSTEM_GROUP: u32 = 8_000_000;

/// A network of a cluster with the host `h{number}`. `more` are further members of
/// the network, `endpoint` of its endpoint.
fn network(cluster: &str, number: usize, name: &str, gateway: &str, more: &str, endpoint: &str) -> String {
    let prefixes = intent::prefixes(number);
    intent::network(cluster, name, &[&prefixes[0], &prefixes[1]], more)
        + &intent::endpoint(number, name, gateway, endpoint)
}

/// Routes of VPNs that a controller has taken from its first peer.
fn accepted(controller: &Controller) -> Result<u64> {
    let status = controller.status()?;
    let families = status["peers"][0]["families"].as_array().context("families")?.clone();
    let is_vpn = |one: &&Value| one["name"].as_str().is_some_and(|name| name.starts_with("vpn"));
    Ok(families.iter().filter(is_vpn).map(|family| number(&family["accepted"])).sum())
}

/// Waits until a controller has taken so many routes from its first peer.
fn accepts(controller: &Controller, count: u64) -> Result<()> {
    eventually(SOON, || {
        let accepted = accepted(controller)?;
        ensure!(accepted == count, "{accepted} routes are taken, not {count}");
        Ok(())
    })
}

/// Another cluster uses this one's own route target for its network, as its
/// operator may write.
fn foreign_cluster_claims_a_target(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(workers)?;
    let claimed = format!("{}:{FIRST_SYSTEM_TARGET}", ASNS[0]);
    clusters.start_controllers(&clusters.intent(Hub::None, [None, Some(&claimed)]))?;
    let [east, west] = &clusters.controllers[..] else { anyhow::bail!("two controllers") };
    steps.check("S3: a foreign cluster with our own route target: the status names it", || {
        east.names_problem(&["peer east", &claimed, "it comes from another AS", "user route target"])?;
        east.logs(&["not believed", &claimed])?;
        let events = east.ask(&["events"], "")?;
        ensure!(events.contains("not-believed") && events.contains(&claimed), "{events}");
        Ok(())
    });
    steps.check("S3: no route and no packet passes, either way", || {
        clusters.are_apart()?;
        clusters.hosts[1].does_not_reach("10.1.0.9")?;
        clusters.hosts[1].does_not_reach("2001:db8:1::9")?;
        ensure!(accepted(west)? == 0, "the foreign cluster was told of a network that nothing connects");
        Ok(())
    });
    steps.check("S3, X6: an audit finds nothing of it at the gateways, nor told", || {
        east.ask(&["audit"], "").map(drop)
    });
    steps.check("S3, C4: connected by a user route target on both sides they reach each other", || {
        let joined = clusters.joined(Hub::None);
        clusters.controllers.iter().try_for_each(|controller| controller.apply(&joined).map(drop))?;
        clusters.reach_each_other()?;
        east.names_no_problem("route target")
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

/// An independent cluster that has taken the same AS number, and so gives the
/// same numbers, and the operator of each has made an internal peer of the other.
fn foreign_cluster_in_our_as(_: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(1)?;
    let intents: Vec<String> = (0..2)
        .map(|at| {
            let (cluster, tunnel) = (NAMES[at], format!("198.18.0.{}", at + 1));
            let gateways = [(clusters.gateways[at].socket(), tunnel)];
            let gateways = gateways.each_ref().map(|(socket, tunnel)| (socket.as_str(), tunnel.as_str()));
            let network_name = ["red", "blue"][at];
            intent::cluster(cluster, ASNS[0], &[("c1", SPEAKERS[at])], &gateways)
                + &network(cluster, at + 1, network_name, &format!("{cluster}-1"), "", "")
                + &intent::peer(cluster, "twin", SPEAKERS[1 - at], ASNS[0], "vpnv4, vpnv6", "")
        })
        .collect();
    for (at, intent) in intents.iter().enumerate() {
        clusters.start_controller(at, ControllerConfig::new(NAMES[at], SPEAKERS[at]), intent)?;
    }
    steps.check("S3: a foreign cluster in our AS, over an internal session: nothing passes", || {
        for controller in &clusters.controllers {
            eventually(SOON, || {
                ensure!(controller.status()?["peers"][0]["state"] == "Established", "no session");
                Ok(())
            })?;
            ensure!(accepted(controller)? == 0, "it was told of a network that nothing connects");
        }
        clusters.are_apart()?;
        clusters.hosts[1].does_not_reach("10.1.0.9")
    });
    // Each tells the other of a network now that a user route target connects, and
    // bears the cluster's own number beside it, which the other has given too.
    steps.check("S3: a user route target connects, and brings none of the other's own numbers in", || {
        for (controller, intent) in clusters.controllers.iter().zip(&intents) {
            let shares = format!("}}], routeTargets: {{both: ['{USER_TARGET}']}}}}\n---");
            let connected = intent.replace("}]}\n---", &shares);
            ensure!(connected.contains(USER_TARGET), "no network is connected: {connected}");
            controller.apply(&connected)?;
        }
        for controller in &clusters.controllers {
            controller.names_problem(&["peer twin", "a route distinguisher that this cluster has given"])?;
            controller
                .names_problem(&["is no declared controller of this cluster", "AS number of its own"])?;
        }
        clusters.are_apart()
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

/// Two controllers of one cluster, each of which reaches one of its gateways alone:
/// what it knows of the other comes through the cluster's route reflector.
fn own_controllers_behind_a_reflector(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(workers)?;
    let Some(_frr) =
        Frr::start_reflector(&clusters.net, &clusters.middle, &["ipv4 vpn", "ipv6 vpn"], &SPEAKERS)?
    else {
        return Ok(());
    };
    let sockets = clusters.gateways.each_ref().map(tieline_e2e::Gateway::socket);
    let of = |at: usize, more: &str| {
        let socket = |gateway: usize| if gateway == at { sockets[at].clone() } else { "/nowhere".to_owned() };
        let sockets = [socket(0), socket(1)];
        let gateways = [(sockets[0].as_str(), "198.18.0.1"), (sockets[1].as_str(), "198.18.0.2")];
        let controllers = [("c1", SPEAKERS[0]), ("c2", SPEAKERS[1])];
        let router = "---\napiVersion: tieline.io/v1\nkind: VirtualNetworkRouter\nmetadata: {name: all}\n\
                      spec: {cluster: east, mesh: {networks: {matchExpressions: [{key: network, operator: Exists}]}}}\n";
        let own = "egress: [{}], ingress: [{remote: {group: own}}]";
        intent::cluster("east", ASNS[0], &controllers, &gateways)
            + &network("east", 1, "red", "east-1", "", ", securityGroups: [own]")
            + &network("east", 2, "green", "east-2", "", ", securityGroups: [own]")
            + &intent::security_group("east", "own", own)
            + router
            + &intent::peer("east", "reflector", MIDDLE, ASNS[0], "vpnv4, vpnv6", more)
    };
    for (at, name) in ["c1", "c2"].into_iter().enumerate() {
        let config =
            ControllerConfig { name: name.to_owned(), ..ControllerConfig::new("east", SPEAKERS[at]) };
        clusters.start_controller(at, config, &of(at, ", reflector: true"))?;
    }
    let reach = || {
        clusters.hosts[0].reaches("10.2.0.9")?;
        clusters.hosts[1].reaches("10.1.0.9")?;
        clusters.hosts[0].reaches("2001:db8:2::9")
    };
    steps.check("S3, C10: own controllers behind an own reflector: networks and groups work", || {
        reach()?;
        for (at, prefix) in [(0, "10.2.0.9/32"), (1, "10.1.0.9/32")] {
            let routes = clusters.gateways[at].tlctl("list route")?.to_string();
            ensure!(routes.contains(prefix), "no route to {prefix}: {routes}");
            ensure!(routes.contains(&FIRST_SYSTEM_GROUP.to_string()), "not in the group: {routes}");
        }
        Ok(())
    });
    steps.check("S3: and nothing is refused", || {
        for controller in &clusters.controllers {
            controller.names_no_problem("peer reflector")?;
            let peer = controller.status()?["peers"][0].clone();
            ensure!(
                peer["relation"] == "reflector" && peer["disbeliefs"] == Value::Array(Vec::new()),
                "{peer}"
            );
            // FRR sends a controller back what it has said itself (RFC 4456 section 8).
            let refused = peer["refused"].as_array().context("a list")?;
            let is_echo = |one: &Value| one["reason"] == "this speaker originated it";
            ensure!(refused.iter().all(is_echo), "{peer}");
        }
        Ok(())
    });
    steps.check(
        "S3: a reflector that is not declared is believed about nothing, and the status says so",
        || {
            for (at, controller) in clusters.controllers.iter().enumerate() {
                controller.apply(&of(at, ""))?;
            }
            for controller in &clusters.controllers {
                controller.names_problem(&["peer reflector", "not declared", "reflector: true"])?;
            }
            clusters.gateways[0].loses_route("10.2.0.9/32")?;
            clusters.hosts[0].does_not_reach("10.2.0.9")
        },
    );
    steps.check("S3: declared again, it works again", || {
        for (at, controller) in clusters.controllers.iter().enumerate() {
            controller.apply(&of(at, ", reflector: true"))?;
        }
        reach()?;
        clusters.controllers.iter().try_for_each(|controller| controller.names_no_problem("peer reflector"))
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

/// What a peer can write into a route to get in, and how the status names it. The
/// cluster east has red at its first and green at its second gateway; red has a
/// user route target.
fn claims() -> Vec<(&'static str, VpnRoute, Vec<&'static str>)> {
    let system = route_target(ASNS[0] as u16, FIRST_SYSTEM_TARGET);
    // Red's, the second of the cluster by name.
    let reds = route_target(ASNS[0] as u16, FIRST_SYSTEM_TARGET + 1);
    let site = route_target(ASNS[0] as u16, 7699);
    let user = route_target(MIDDLE_ASN as u16, 7);
    let route = |host: u8| VpnRoute::good([10, 66, 0, host], 32);
    let with =
        |host: u8, communities: &[[u8; 8]]| VpnRoute { communities: communities.to_vec(), ..route(host) };
    let target = "a route target that only this cluster gives";
    vec![
        ("our route target", with(1, &[reds]), vec![target, "10.66.0.1/32"]),
        ("our route target beside a good one", with(2, &[user, system]), vec![target]),
        ("the route target of our site", with(3, &[site, user]), vec![target]),
        (
            "our route distinguisher",
            VpnRoute { distinguisher: (ASNS[0] as u16, 1), ..route(4) },
            vec!["a route distinguisher that this cluster has given", "64512:1"],
        ),
        (
            "a gateway of ours as the next hop",
            VpnRoute { next_hop: [198, 18, 0, 2].into(), label: label(16), ..route(5) },
            vec!["a next hop that is a gateway of this cluster", "198.18.0.2", "east-2"],
        ),
        (
            "R7: a host of our subnet",
            VpnRoute { prefix: ([10, 1, 0, 77].into(), 32), ..route(6) },
            vec!["a prefix that is in a subnet of another network", "10.1.0.0/24", "default/red"],
        ),
        (
            "R7: our subnet",
            VpnRoute { prefix: ([10, 1, 0, 0].into(), 24), ..route(7) },
            vec!["a prefix that is in a subnet of another network"],
        ),
    ]
}

/// A peer that writes whatever it likes: of another AS, and of ours.
fn raw_claims(_: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(1)?;
    let peer = |asn: u32| intent::peer("east", "hostile", MIDDLE, asn, "vpnv4, rtc", ", passive: true");
    let site = "---\napiVersion: tieline.io/v1\nkind: Site\nmetadata: {name: far}\nspec: {cluster: east, gateways: [east-2]}\n";
    let intent = |asn: u32| {
        clusters.east_alone(&[SPEAKERS[0]])
            + &clusters.red_and_green(Some(USER_TARGET), "")
            + site
            + &peer(asn)
    };
    let (external, internal) = (intent(MIDDLE_ASN), intent(ASNS[0]));
    clusters.start_controller(0, ControllerConfig::new("east", SPEAKERS[0]), &external)?;
    let (controller, gateways) = (&clusters.controllers[0], &clusters.gateways);
    let holds_none = |routes: &[(&str, VpnRoute, Vec<&str>)]| {
        for gateway in gateways {
            let held = gateway.tlctl("list route")?.to_string();
            for (what, VpnRoute { prefix: (address, length), .. }, _) in routes {
                ensure!(
                    !held.contains(&format!("\"{address}/{length}\"")),
                    "{what}: a gateway has it: {held}"
                );
            }
        }
        anyhow::Ok(())
    };
    let good = VpnRoute::good([10, 77, 1, 0], 24);
    steps.check("S3: of what a peer of another AS claims nothing gets in, and each claim is named", || {
        let claims = claims();
        let mut messages: Vec<Vec<u8>> = claims.iter().map(|(_, route, _)| route.update()).collect();
        messages.push(good.update());
        let mut peer = RawPeer::start(&clusters.middle, &messages)?;
        gateways[0].gets_route("10.77.1.0/24")?;
        for (what, _, words) in &claims {
            controller.names_problem(words).with_context(|| (*what).to_owned())?;
        }
        holds_none(&claims)?;
        ensure!(peer.is_standing(), "the session is over");
        Ok(())
    });
    controller.apply(&internal)?;
    for (how, originator) in [
        ("of our AS", None),
        ("of our AS that names our controller as the originator", Some([198, 18, 9, 1])),
        ("of our AS that names somebody else", Some([198, 18, 9, 12])),
    ] {
        steps.check(&format!("S3: nor of what a peer {how} claims"), || {
            // A route that this speaker has originated itself is refused by BGP.
            let is_own = originator == Some([198, 18, 9, 1]);
            let claims = claims();
            let said = |route: VpnRoute| route.internal(originator.map(Into::into));
            let mut messages: Vec<Vec<u8>> =
                claims.iter().map(|(_, route, _)| said(route.clone()).update()).collect();
            messages.push(said(good.clone()).update());
            let mut peer = RawPeer::start_as(ASNS[0], &clusters.middle, &messages)?;
            if is_own {
                controller.logs(&["10.77.1.0/24", "this speaker originated it"])?;
            } else {
                gateways[0].gets_route("10.77.1.0/24")?;
                for (what, _, words) in &claims {
                    controller.names_problem(words).with_context(|| (*what).to_owned())?;
                }
                controller
                    .names_problem(&["is no declared controller of this cluster, nor its reflector"])?;
            }
            holds_none(&claims)?;
            ensure!(peer.is_standing(), "the session is over");
            drop(peer);
            gateways[0].loses_route("10.77.1.0/24")
        });
    }
    Ok(())
}

/// A peer that puts another cluster's host into a group of ours.
fn forged_group(_: usize, steps: &mut Steps) -> Result<()> {
    const SERVER: &str = "10.1.0.9:80";
    let mut clusters = Clusters::new(1)?;
    // East knows nothing of west but what BGP says, and takes no route from it.
    let tunnel = clusters.gateways[0].socket();
    let more = ", contract: {prefixes: [10.250.0.0/16]}";
    let own = "egress: [{}], ingress: [{remote: {group: own}}]";
    let shares = intent::shares(USER_TARGET);
    let east = intent::cluster(NAMES[0], ASNS[0], &[("c1", SPEAKERS[0])], &[(&tunnel, "198.18.0.1")])
        + &network(NAMES[0], 1, "red", "east-1", &shares, ", securityGroups: [own]")
        + &intent::security_group(NAMES[0], "own", own)
        + &intent::peer(NAMES[0], "west", SPEAKERS[1], ASNS[1], "vpnv4, vpnv6", more)
        + &intent::peer(NAMES[0], "hostile", MIDDLE, MIDDLE_ASN, "vpnv4", ", passive: true");
    let socket = clusters.gateways[1].socket();
    let west = intent::cluster(NAMES[1], ASNS[1], &[("c1", SPEAKERS[1])], &[(&socket, "198.18.0.2")])
        + &network(NAMES[1], 2, "blue", "west-1", &shares, "")
        + &intent::peer(NAMES[1], "east", SPEAKERS[0], ASNS[0], "vpnv4, vpnv6", "");
    for (at, intent) in [&east, &west].into_iter().enumerate() {
        clusters.start_controller(at, ControllerConfig::new(NAMES[at], SPEAKERS[at]), intent)?;
    }
    let _server = clusters.hosts[0].serve_tcp(SERVER)?;
    let [here, there] = &clusters.gateways;
    there.gets_route("10.1.0.9/32")?;
    let vrf = there.tlctl("get vrf default/blue")?.to_string();
    let label_of = |exports: &Value| {
        let all = exports.as_array()?;
        let one = all.iter().find(|one| one.to_string().contains("\"10.2.0.9/32\""))?;
        one.to_string().split("\"label\":").nth(1)?.split([',', '}']).next()?.trim_matches('"').parse().ok()
    };
    let exports = there.tlctl("exports")?;
    let own_label: u32 = label_of(&exports).with_context(|| format!("no label in {exports}, nor {vrf}"))?;
    let forged = |groups: &[(u16, u32)]| {
        let mut communities = vec![route_target(MIDDLE_ASN as u16, 7)];
        communities.extend(groups.iter().map(|(asn, id)| security_group(*asn, *id)));
        let next_hop = [198, 18, 0, 2].into();
        let (label, prefix) = (label(own_label), ([10, 2, 0, 9].into(), 32));
        VpnRoute { communities, next_hop, label, prefix, ..VpnRoute::good([10, 2, 0, 9], 32) }.update()
    };
    let controller = &clusters.controllers[0];
    steps.check("S3, C12: a claimed group of ours makes no member: the status names it", || {
        let groups = [(ASNS[0] as u16, FIRST_SYSTEM_GROUP), (MIDDLE_ASN as u16, FIRST_SYSTEM_GROUP)];
        let _peer = RawPeer::start(&clusters.middle, &[forged(&groups)])?;
        here.gets_route("10.2.0.9/32")?;
        controller.names_problem(&[
            "peer hostile",
            "a security group that only this cluster gives",
            &FIRST_SYSTEM_GROUP.to_string(),
        ])?;
        let routes = here.tlctl("list route")?.to_string();
        ensure!(!routes.contains(&FIRST_SYSTEM_GROUP.to_string()), "the gateway believes it: {routes}");
        // The way there and back is there, and the group keeps it closed.
        clusters.hosts[0].reaches("10.2.0.9")?;
        here.expect_drops("sg_denied_ingress", || clusters.hosts[1].cannot_connect(SERVER))
    });
    steps.check("C10: a user group of the same route counts", || {
        let with_user =
            east.replace(&format!("{{cluster: east, {own}}}"), &format!("{{cluster: east, id: 100, {own}}}"));
        ensure!(with_user != east, "the group has no number: {east}");
        controller.apply(&with_user)?;
        let _peer = RawPeer::start(&clusters.middle, &[forged(&[(MIDDLE_ASN as u16, 100)])])?;
        here.gets_route("10.2.0.9/32")?;
        clusters.hosts[1].connect(SERVER)?;
        controller.names_no_problem("security group")
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

/// A network is told to a peer while something connects it, and no longer.
fn unconnected_networks_stay_at_home(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(workers)?;
    let both =
        clusters.clusters(false) + &clusters.networks([None, None]) + &peers(Hub::None, "vpnv4, vpnv6, rtc");
    let connection = |networks: &str| {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: Connection\nmetadata: {{name: reds}}\n\
             spec: {{layer: L3, userRouteTarget: '{USER_TARGET}', networks: [{networks}]}}\n"
        )
    };
    clusters.start_controllers(&both)?;
    let [east, west] = &clusters.controllers[..] else { anyhow::bail!("two controllers") };
    let told = |controller: &Controller, told: u64| {
        eventually(SOON, || {
            let peer = controller.status()?["peers"][0].clone();
            let figures = (number(&peer["networks_told"]), number(&peer["networks_kept"]));
            ensure!(figures == (told, 1 - told), "{peer}");
            Ok(())
        })
    };
    steps.check("S3: a network that nothing connects is not announced, and the status says so", || {
        for controller in [east, west] {
            eventually(SOON, || {
                ensure!(controller.status()?["peers"][0]["state"] == "Established", "no session");
                Ok(())
            })?;
            told(controller, 0)?;
            ensure!(accepted(controller)? == 0, "it was announced");
        }
        let said = east.ask(&["status"], "")?;
        ensure!(said.contains("is not told of default/red: nothing connects them"), "{said}");
        ensure!(
            !clusters.gateways[1].tlctl("list route")?.to_string().contains("10.1.0."),
            "a gateway has it"
        );
        Ok(())
    });
    steps.check("S3, C4: a connection on one side alone announces on that side alone", || {
        east.apply(&(both.clone() + &connection("red, blue")))?;
        told(east, 1)?;
        // Until the other side connects it too, nobody there has use for it; and it
        // tells nothing itself.
        ensure!(accepted(east)? == 0, "the other side has announced its network");
        clusters.hosts[0].does_not_reach("10.2.0.9")
    });
    steps.check("S3, C4: on both sides it joins them", || {
        west.apply(&(both.clone() + &connection("red, blue")))?;
        told(west, 1)?;
        accepts(east, 2)?;
        accepts(west, 2)?;
        clusters.reach_each_other()
    });
    steps.check("S3, C4: and removed, everything is taken back", || {
        for controller in [east, west] {
            controller.apply_only(&both)?;
            told(controller, 0)?;
        }
        accepts(east, 0)?;
        accepts(west, 0)?;
        clusters.are_apart()
    });
    steps.check("S3, X6: audits find nothing announced that should not be", || {
        [east, west].into_iter().try_for_each(|controller| controller.ask(&["audit"], "").map(drop))
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

with_one_and_two_workers!(foreign_cluster_claims_a_target);
with_one_and_two_workers!(own_controllers_behind_a_reflector);
with_one_and_two_workers!(unconnected_networks_stay_at_home);

#[test]
fn twin() {
    run_scenario("foreign_cluster_in_our_as", 1, foreign_cluster_in_our_as);
}

#[test]
fn raw() {
    run_scenario("raw_claims", 1, raw_claims);
}

#[test]
fn group() {
    run_scenario("forged_group", 1, forged_group);
}
