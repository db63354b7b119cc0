//! Random objects over small pools of names, so that they meet.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use super::world::BROKEN;

const VRFS: [&str; 3] = ["v0", "v1", "v2"];
const PREFIXES: [&str; 6] =
    ["10.0.0.0/8", "10.1.0.0/24", "10.1.0.5/32", "0.0.0.0/0", "2001:db8::/32", "198.18.9.0/24"];

fn strings(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn groups() -> impl Strategy<Value = Vec<u32>> {
    subsequence(vec![1u32, 2, 3], 0..=2)
}

/// Mostly none.
fn label() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(0u32), 3 => 100u32..103]
}

fn port() -> impl Strategy<Value = Kind> {
    let roles = [v1::PortRole::Fabric, v1::PortRole::Tenant, v1::PortRole::Tenant, v1::PortRole::Host];
    (0usize..4, prop::bool::weighted(0.1), prop::bool::weighted(0.05)).prop_map(move |(n, odd, broken)| {
        let role = roles[if odd { (n + 1) % 4 } else { n }];
        Kind::Port(v1::Port {
            name: format!("p{n}"),
            device: if broken { BROKEN.into() } else { format!("net_null{n}") },
            role: role.into(),
            ..Default::default()
        })
    })
}

/// Neighbours with a declared MAC: tunnels' ends, gateways, workloads.
fn static_neighbours(addresses: Vec<&'static str>) -> impl Strategy<Value = Vec<v1::StaticNeighbour>> {
    let macs = select(vec!["02:00:00:00:00:55", "02:00:00:00:00:66"]);
    (subsequence(addresses, 0..=2), macs).prop_map(|(addresses, mac)| {
        let neighbour = |address| v1::StaticNeighbour { address, mac: mac.into() };
        strings(addresses).into_iter().map(neighbour).collect()
    })
}

fn fabric_interface() -> impl Strategy<Value = Kind> {
    let addresses = vec!["198.18.1.1/24", "198.18.2.1/24", "198.18.0.1/32", "2001:db8:1::1/64"];
    let neighbours = static_neighbours(vec!["198.18.1.9", "198.18.1.254", "2001:db8:1::9"]);
    let sources = (any::<bool>(), subsequence(vec!["198.18.0.0/16", "2001:db8::/32"], 0..=2));
    (0u32..2, 0u32..2, subsequence(addresses, 0..=2), neighbours, sources).prop_map(
        |(n, vlan, addresses, neighbours, (anti_spoofing_disabled, sources))| {
            Kind::Interface(v1::Interface {
                name: format!("f{n}"),
                port: "p0".into(),
                vlan,
                vrf: "underlay".into(),
                local_addresses: strings(addresses),
                static_neighbours: neighbours,
                anti_spoofing_disabled,
                tunnel_sources: strings(sources),
                ..Default::default()
            })
        },
    )
}

fn tenant_interface() -> impl Strategy<Value = Kind> {
    let names = (0u32..4, select(vec!["p1", "p1", "p2", "p3"]), 0u32..3, select(VRFS.to_vec()));
    let local = subsequence(vec!["10.1.0.1/24", "10.2.0.1/24", "2001:db8:2::1/64"], 0..=2);
    let workload = subsequence(vec!["10.1.0.5", "10.1.0.6", "2001:db8:2::5"], 0..=2);
    let rest = (any::<bool>(), groups(), prop::bool::weighted(0.2), select(vec![0u32, 1400, 9000]));
    // Some of them are refused: a workload has a MAC of its own.
    let neighbours = static_neighbours(vec!["10.1.0.5", "10.1.0.7"]);
    (names, local, workload, rest, neighbours).prop_map(
        |((n, port, vlan, vrf), local, workload, (mac, groups, open, mtu), static_neighbours)| {
            let has_mac = mac && !workload.is_empty();
            Kind::Interface(v1::Interface {
                name: format!("i{n}"),
                port: port.into(),
                vlan,
                vrf: vrf.into(),
                local_addresses: strings(local),
                workload_mac: if has_mac { "02:00:00:00:00:77".into() } else { String::new() },
                workload_addresses: strings(workload),
                security_groups: groups,
                anti_spoofing_disabled: open,
                mtu,
                static_neighbours,
                ..Default::default()
            })
        },
    )
}

fn vrf() -> impl Strategy<Value = Kind> {
    let targets = subsequence(vec!["1:1", "1:2", "1:3"], 0..=2);
    (select(VRFS.to_vec()), targets, label(), 0u32..4, (0u32..2, 0u32..2, any::<bool>())).prop_map(
        |(name, import, label, vni, (quota, rate, strict_sources))| {
            Kind::Vrf(v1::Vrf {
                name: name.into(),
                import_route_targets: strings(import),
                label,
                vni,
                session_quota: quota,
                session_rate: rate,
                strict_sources,
                ..Default::default()
            })
        },
    )
}

fn target() -> impl Strategy<Value = v1::next_hop::Target> {
    use v1::next_hop::Target;
    let remotes = vec!["198.18.1.9", "198.18.2.9", "198.18.9.9", "2001:db8:1::9"];
    let encapsulations = subsequence(vec![1i32, 2, 3], 0..=2);
    let mac = select(vec!["", "02:00:00:00:00:99"]);
    let tunnel =
        (select(remotes), any::<bool>(), encapsulations, mac).prop_map(|(remote, local, encaps, mac)| {
            let local = if local && remote.contains('.') { "198.18.0.1" } else { "" };
            Target::Tunnel(v1::TunnelNextHop {
                remote: remote.into(),
                local: local.into(),
                encapsulations: encaps,
                router_mac: mac.into(),
            })
        });
    let interface = (select(vec!["f0", "f1", "i0", "i1"]), select(vec!["", "198.18.1.254", "10.1.0.5"]))
        .prop_map(|(interface, address)| {
            Target::Interface(v1::InterfaceNextHop { interface: interface.into(), address: address.into() })
        });
    let vrf = select(VRFS.to_vec()).prop_map(|vrf| Target::Vrf(vrf.into()));
    prop_oneof![4 => tunnel, 3 => interface, 2 => vrf, 1 => Just(Target::Discard(v1::DiscardNextHop {}))]
}

fn next_hop() -> impl Strategy<Value = Kind> {
    (select(vec!["n0", "n1", "n2", "n3", "g0"]), target())
        .prop_map(|(name, target)| Kind::NextHop(v1::NextHop { name: name.into(), target: Some(target) }))
}

fn group() -> impl Strategy<Value = Kind> {
    let member = (select(vec!["n0", "n1", "n2", "n3", "n3", "g1"]), 0u32..4, label());
    let members = proptest::collection::vec(member, 1..4);
    (select(vec!["g0", "g1", "n3"]), members).prop_map(|(name, members)| {
        let members = members.into_iter().map(|(next_hop, weight, label)| v1::NextHopGroupMember {
            next_hop: next_hop.into(),
            weight,
            label,
            vni: 0,
        });
        Kind::NextHopGroup(v1::NextHopGroup { name: name.into(), members: members.collect() })
    })
}

fn any_next_hop() -> impl Strategy<Value = &'static str> {
    select(vec!["n0", "n1", "n2", "n3", "g0", "g1"])
}

pub fn route() -> impl Strategy<Value = Kind> {
    let key = (0u32..3, select(PREFIXES.to_vec()));
    let targets = subsequence(vec!["1:1", "1:2", "1:3"], 1..=2);
    let values = (label(), 0u32..2, subsequence(vec![1i32, 3], 0..=2));
    let rank = (proptest::option::of(99u32..102), 0u32..2, 0u32..2, 0u32..2);
    (key, targets, groups(), any_next_hop(), values, rank).prop_map(
        |((rd, prefix), targets, groups, next_hop, (label, vni, encapsulations), rank)| {
            let (local_pref, med, as_path_length, mobility_sequence) = rank;
            Kind::Route(v1::Route {
                rd: format!("65000:{rd}"),
                prefix: prefix.into(),
                route_targets: strings(targets),
                security_groups: groups,
                next_hop: next_hop.into(),
                label,
                vni,
                encapsulations,
                local_pref,
                med,
                as_path_length,
                mobility_sequence,
            })
        },
    )
}

fn static_route() -> impl Strategy<Value = Kind> {
    let vrf = select(vec!["underlay", "underlay", "v0", "v1", "v2"]);
    (vrf, select(PREFIXES.to_vec()), any_next_hop(), groups(), label()).prop_map(
        |(vrf, prefix, next_hop, groups, label)| {
            Kind::StaticRoute(v1::StaticRoute {
                vrf: vrf.into(),
                prefix: prefix.into(),
                next_hop: next_hop.into(),
                security_groups: groups,
                label,
                vni: 0,
            })
        },
    )
}

fn security_group() -> impl Strategy<Value = Kind> {
    let rule = (1i32..3, 0i32..3, proptest::option::of(6u32..8), proptest::option::of(1u32..4)).prop_map(
        |(direction, family, protocol, remote)| v1::SecurityGroupRule {
            direction,
            family,
            protocol,
            remote: remote.map(v1::security_group_rule::Remote::RemoteSecurityGroup),
            ..Default::default()
        },
    );
    (1u32..4, select(vec!["", "web"]), proptest::collection::vec(rule, 0..3))
        .prop_map(|(id, name, rules)| Kind::SecurityGroup(v1::SecurityGroup { id, name: name.into(), rules }))
}

/// Any object.
pub fn object() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => port(),
        3 => fabric_interface(),
        4 => tenant_interface(),
        3 => vrf(),
        5 => next_hop(),
        2 => group(),
        6 => route(),
        3 => static_route(),
        2 => security_group(),
    ]
}
