//! How a controller is, for tired eyes: what is wrong comes first, then tables.

use std::fmt::Write as _;

use tieline_proto::federation::v1;

use super::{printable, table};

/// Rows of a table of which there may be many.
const ROWS: usize = 20;
/// Networks that are named where there may be many.
const NAMES: usize = 5;

/// A status as text. `now` is in seconds since 1970.
pub fn status(status: &v1::GetStatusReply, now: u64) -> String {
    let mut text = format!(
        "cluster {}, controller {} at {}, AS {}, intent revision {}, up {}\n",
        status.cluster,
        status.controller,
        status.address,
        status.asn,
        status.intent_revision,
        span(now.saturating_sub(status.started_at)),
    );
    match status.faults.len() {
        0 => text.push_str("\nnothing is wrong\n"),
        1 => text.push_str("\n1 PROBLEM\n"),
        many => {
            let _ = writeln!(text, "\n{many} PROBLEMS");
        }
    }
    for fault in &status.faults {
        let _ = writeln!(text, "{}: {}", printable(&fault.subject), printable(&fault.message));
    }
    let mut section = |title: &str, table: String| {
        let _ = write!(text, "\n{title}\n{table}");
    };
    section("BGP PEERS", peers(&status.peers, now));
    section("GATEWAYS", gateways(&status.gateways, now));
    let title = format!("ROUTES: {} that gateways can use", status.routes);
    section(&title, route_targets(status));
    if !status.unusable_routes.is_empty() {
        let rows = status.unusable_routes.iter().map(|one| vec![one.count.to_string(), one.reason.clone()]);
        section("ROUTES THAT NO GATEWAY CAN USE", table(&["ROUTES", "WHY"], rows));
    }
    if !status.refused_routes.is_empty() {
        section("ROUTES KEPT AWAY LATELY", refused_routes(&status.refused_routes, now));
    }
    if !status.allocations.is_empty() {
        section("NUMBERS", allocations(&status.allocations));
    }
    text
}

/// A span of time in its two largest units.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(unit, _)| seconds >= *unit) else {
        return "0s".to_owned();
    };
    let (unit, name) = units[first];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((smaller, name)) = units.get(first + 1) {
        let _ = write!(text, "{}{name}", seconds % unit / smaller);
    }
    text
}

fn since(at: u64, now: u64) -> String {
    if at == 0 { "-".to_owned() } else { span(now.saturating_sub(at)) }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn peers(peers: &[v1::PeerStatus], now: u64) -> String {
    let row = |peer: &v1::PeerStatus| {
        let accepted = peer.families.iter().map(|family| {
            let more = if family.complete { "" } else { "+" };
            format!("{} {}{more}", family.name, family.accepted)
        });
        let refused: u64 = peer.refused.iter().map(|one| one.count).sum();
        vec![
            peer.name.clone(),
            peer.address.clone(),
            peer.asn.to_string(),
            or_dash(peer.relation.clone()),
            if peer.left_out.is_empty() { peer.state.clone() } else { "left out".to_owned() },
            since(peer.since, now),
            or_dash(accepted.collect::<Vec<_>>().join(", ")),
            or_dash(peer.canaries.iter().map(canary).collect::<Vec<_>>().join(", ")),
            refused.to_string(),
            networks(peer),
            peer.routes_sent.to_string(),
            last_error(peer, now),
        ]
    };
    let headings = [
        "NAME",
        "ADDRESS",
        "AS",
        "WHO",
        "STATE",
        "FOR",
        "ACCEPTED",
        "CANARY",
        "REFUSED",
        "NETWORKS",
        "SENT",
        "LAST ERROR",
    ];
    let mut text = table(&headings, peers.iter().map(row));
    for peer in peers.iter().filter(|peer| peer.networks_kept > 0) {
        let _ = writeln!(text, "{} is not told of {}", printable(&peer.name), kept(peer));
    }
    text
}

/// How many of the cluster's networks a peer is told of.
fn networks(peer: &v1::PeerStatus) -> String {
    match peer.networks_told + peer.networks_kept {
        0 => "-".to_owned(),
        all => format!("{} of {all}", peer.networks_told),
    }
}

/// The networks that a peer is not told of.
fn kept(peer: &v1::PeerStatus) -> String {
    let named = peer.kept_networks.iter().take(NAMES).map(|name| printable(name)).collect::<Vec<_>>();
    match peer.networks_kept.saturating_sub(named.len() as u64) {
        0 => format!("{}: nothing connects them", named.join(", ")),
        more => format!("{} and {more} more: nothing connects them", named.join(", ")),
    }
}

fn canary(canary: &v1::CanaryStatus) -> String {
    let state = match canary.state() {
        v1::CanaryState::Present => "present",
        v1::CanaryState::Missing => "MISSING",
        v1::CanaryState::Waiting | v1::CanaryState::Unspecified => "not yet known",
    };
    format!("{} {state}", canary.prefix)
}

fn last_error(peer: &v1::PeerStatus, now: u64) -> String {
    match peer.last_error.as_str() {
        "" => "-".to_owned(),
        error => format!("{} ago: {error}", since(peer.last_error_at, now)),
    }
}

fn gateways(gateways: &[v1::GatewayStatus], now: u64) -> String {
    let row = |gateway: &v1::GatewayStatus| {
        let state = match (gateway.connected_since, gateway.synchronised, gateway.up_to_date) {
            _ if !gateway.left_out.is_empty() => "left out",
            (0, ..) => "not connected",
            (_, false, _) => "synchronising",
            (_, true, false) => "being programmed",
            (_, true, true) => "synchronised",
        };
        vec![
            gateway.name.clone(),
            state.to_owned(),
            since(gateway.connected_since, now),
            gateway.objects.to_string(),
            gateway.routes.to_string(),
            gateway.refused.to_string(),
            gateway.exports.to_string(),
            or_dash(gateway.software.clone()),
        ]
    };
    let headings = ["NAME", "STATE", "FOR", "OBJECTS", "ROUTES", "REFUSED", "EXPORTS", "SOFTWARE"];
    table(&headings, gateways.iter().map(row))
}

fn route_targets(status: &v1::GetStatusReply) -> String {
    let row = |target: &v1::RouteTargetStatus| {
        vec![target.route_target.clone(), target.routes.to_string(), target.gateways.to_string()]
    };
    let mut text =
        table(&["ROUTE TARGET", "ROUTES", "GATEWAYS"], status.route_targets.iter().take(ROWS).map(row));
    let hidden = status.route_targets.len().saturating_sub(ROWS) as u64 + status.more_route_targets;
    if hidden > 0 {
        let _ = writeln!(text, "and {hidden} more route targets: see -o json");
    }
    text
}

fn refused_routes(routes: &[v1::RefusedRoute], now: u64) -> String {
    let row = |route: &v1::RefusedRoute| {
        let peer = if route.peer.is_empty() { "(own)" } else { &route.peer };
        let ago = format!("{} ago", since(route.at, now));
        vec![ago, peer.to_owned(), route.route.clone(), route.reason.clone()]
    };
    table(&["WHEN", "PEER", "ROUTE", "WHY"], routes.iter().take(ROWS).map(row))
}

fn allocations(pools: &[v1::AllocationStatus]) -> String {
    let row = |pool: &v1::AllocationStatus| {
        vec![
            pool.asn.to_string(),
            pool.resource.clone(),
            pool.held.to_string(),
            pool.resting.to_string(),
            pool.free.to_string(),
        ]
    };
    table(&["AS", "WHAT", "HELD", "RESTING", "LEFT"], pools.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90_000, "1d1h"), (864_000, "10d0h")]
        {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn problems_come_first() {
        let fault = v1::Fault { subject: "peer west".into(), message: "has no session\u{1b}[2J".into() };
        let vpnv4 = v1::FamilyStatus { name: "vpnv4".into(), accepted: 7, complete: true };
        let evpn = v1::FamilyStatus { name: "evpn".into(), accepted: 1, complete: false };
        let canary = v1::CanaryStatus {
            prefix: "1.0.0.2/32".into(),
            state: v1::CanaryState::Missing.into(),
            message: String::new(),
        };
        let peer = v1::PeerStatus {
            name: "north".into(),
            address: "198.18.2.11".into(),
            asn: 64514,
            relation: "cluster north".into(),
            networks_told: 1,
            networks_kept: 7,
            kept_networks: (1..=7).map(|number| format!("default/n{number}")).collect(),
            state: "Established".into(),
            since: 940,
            families: vec![vpnv4, evpn],
            canaries: vec![canary],
            routes_sent: 12,
            last_error: "hold timer expired".into(),
            last_error_at: 900,
            ..Default::default()
        };
        let gateway = v1::GatewayStatus {
            name: "east-1".into(),
            connected_since: 880,
            synchronised: true,
            up_to_date: true,
            objects: 3,
            routes: 8,
            software: "tieline 0.1.0".into(),
            ..Default::default()
        };
        let targets = (0..25).map(|number| v1::RouteTargetStatus {
            route_target: format!("64512:{number}"),
            routes: 1,
            gateways: 1,
        });
        let reply = v1::GetStatusReply {
            cluster: "east".into(),
            controller: "c1".into(),
            asn: 64512,
            address: "198.18.0.11".into(),
            started_at: 0,
            intent_revision: 9,
            faults: vec![fault],
            peers: vec![peer],
            gateways: vec![gateway],
            routes: 8,
            route_targets: targets.collect(),
            ..Default::default()
        };
        let text = status(&reply, 1000);
        let start = "cluster east, controller c1 at 198.18.0.11, AS 64512, intent revision 9, up 16m40s\n\n\
                     1 PROBLEM\npeer west: has no session [2J\n\n\
                     BGP PEERS\n\
                     NAME   ADDRESS      AS     WHO STATE        FOR  ACCEPTED CANARY REFUSED  NETWORKS SENT  LAST ERROR\n\
                     north  198.18.2.11  64514  cluster north Established  1m0s vpnv4 7, evpn 1+  1.0.0.2/32 MISSING 0  1 of 8      12    1m40s ago: hold timer expired\n\
                     north is not told of default/n1, default/n2, default/n3, default/n4, default/n5 and 2 more: nothing connects them\n\n\
                     GATEWAYS\n\
                     NAME    STATE         FOR   OBJECTS  ROUTES  REFUSED  EXPORTS  SOFTWARE\n\
                     east-1  synchronised  2m0s  3        8       0        0        tieline 0.1.0\n\n\
                     ROUTES: 8 that gateways can use\n";
        let squeeze = |text: &str| -> String {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
        };
        assert!(squeeze(&text).starts_with(&squeeze(start)), "{text}");
        assert!(text.contains("and 5 more route targets: see -o json\n"), "{text}");
        assert!(status(&v1::GetStatusReply::default(), 0).contains("\nnothing is wrong\n"));
    }
}
