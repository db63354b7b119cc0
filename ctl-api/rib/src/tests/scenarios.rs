//! What an operator expects, one story each.

use std::net::IpAddr;

use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::tables::neighbour::NeighbourState;
use tieline_engine::types::{InterfaceId, Label, MacAddr, PortId, SgId};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use super::invariants;
use super::world::{BROKEN, World, key_of};
use crate::{Limits, PortInfo, Rib, RibOptions};

fn port(name: &str, role: v1::PortRole) -> Kind {
    let device = format!("net_null_{name}");
    Kind::Port(v1::Port { name: name.into(), device, role: role.into(), ..Default::default() })
}

fn vrf(name: &str, import: &[&str], label: u32) -> Kind {
    let import_route_targets = import.iter().map(|text| (*text).to_owned()).collect();
    Kind::Vrf(v1::Vrf { name: name.into(), import_route_targets, label, ..Default::default() })
}

fn fabric() -> Kind {
    Kind::Interface(v1::Interface {
        name: "fab0".into(),
        port: "f".into(),
        vrf: "underlay".into(),
        local_addresses: vec!["198.18.0.1/24".into()],
        ..Default::default()
    })
}

fn workload(name: &str, vlan: u32, vrf: &str, address: &str) -> v1::Interface {
    v1::Interface {
        name: name.into(),
        port: "t".into(),
        vlan,
        vrf: vrf.into(),
        local_addresses: vec!["10.1.0.1/24".into()],
        workload_mac: "02:00:00:00:00:05".into(),
        workload_addresses: vec![address.into()],
        ..Default::default()
    }
}

fn tunnel(name: &str, remote: &str) -> Kind {
    let tunnel = v1::TunnelNextHop { remote: remote.into(), ..Default::default() };
    Kind::NextHop(v1::NextHop { name: name.into(), target: Some(v1::next_hop::Target::Tunnel(tunnel)) })
}

fn vrf_next_hop(name: &str, vrf: &str) -> Kind {
    Kind::NextHop(v1::NextHop { name: name.into(), target: Some(v1::next_hop::Target::Vrf(vrf.into())) })
}

fn gateway(name: &str, interface: &str, address: &str) -> Kind {
    let target = v1::InterfaceNextHop { interface: interface.into(), address: address.into() };
    Kind::NextHop(v1::NextHop { name: name.into(), target: Some(v1::next_hop::Target::Interface(target)) })
}

fn group(name: &str, members: &[(&str, u32)]) -> Kind {
    let member = |(next_hop, weight): &(&str, u32)| v1::NextHopGroupMember {
        next_hop: (*next_hop).into(),
        weight: *weight,
        ..Default::default()
    };
    Kind::NextHopGroup(v1::NextHopGroup { name: name.into(), members: members.iter().map(member).collect() })
}

fn route(rd: &str, prefix: &str, target: &str, next_hop: &str, label: u32) -> v1::Route {
    v1::Route {
        rd: rd.into(),
        prefix: prefix.into(),
        route_targets: vec![target.into()],
        next_hop: next_hop.into(),
        label,
        ..Default::default()
    }
}

fn static_route(vrf: &str, prefix: &str, next_hop: &str) -> Kind {
    let route = v1::StaticRoute {
        vrf: vrf.into(),
        prefix: prefix.into(),
        next_hop: next_hop.into(),
        ..Default::default()
    };
    Kind::StaticRoute(route)
}

/// A fabric and a tenant port, VRF blue, and a remote gateway behind `nh`.
fn site() -> World {
    site_with(Limits::default())
}

fn site_with(limits: Limits) -> World {
    let mut world = World::with(limits);
    for kind in [
        port("f", v1::PortRole::Fabric),
        port("t", v1::PortRole::Tenant),
        fabric(),
        vrf("blue", &["64512:1"], 100),
        tunnel("nh", "198.18.0.2"),
    ] {
        world.add(kind);
    }
    world
}

fn state(status: &v1::ObjectStatus) -> v1::ObjectState {
    status.state()
}

#[test]
fn a_path_lands_where_it_is_imported_and_leaves_through_its_tunnel() {
    let mut world = site();
    let path = route("64512:7", "10.2.0.0/24", "64512:1", "nh", 200);
    let applied = world.add(Kind::Route(path));
    assert!(applied.changed && applied.waits_for.is_empty());
    let entry = world.route("blue", "10.2.0.0/24").expect("an entry");
    assert_eq!(entry.origin(), v1::RouteOrigin::Vpn);
    assert_eq!((entry.next_hop.as_str(), entry.rd.as_str(), entry.paths), ("nh", "64512:7", 1));
    // 1500 without IPv4 (20), UDP (8) and the label (4).
    let words = "MPLS-in-UDP label 200 from 198.18.0.1 to 198.18.0.2 (MTU 1468) via 198.18.0.2 on fab0";
    assert_eq!(entry.via, words);
    assert_eq!(world.tables.labels.get(100), world.rib.vrf_id("blue").as_ref());
    // Nobody imports this one: it says so, and is nowhere.
    let other = Kind::Route(route("64512:7", "10.3.0.0/24", "64512:2", "nh", 200));
    world.add(other.clone());
    assert_eq!(world.status(&other).message, "no VRF imports it");
    assert!(world.route("blue", "10.3.0.0/24").is_none());
    world.add(vrf("blue", &["64512:1", "64512:2"], 100));
    assert!(world.route("blue", "10.3.0.0/24").is_some());
    world.add(vrf("blue", &["64512:2"], 100));
    assert!(world.route("blue", "10.2.0.0/24").is_none());
    invariants::check(&world);
}

#[test]
fn a_tunnel_follows_the_underlay_without_touching_sessions() {
    let mut world = site();
    let path = Kind::Route(route("64512:7", "10.2.0.0/24", "64512:1", "nh", 200));
    world.add(path.clone());
    let generation = world.generation("blue");
    world.remove(&fabric());
    let status = world.status(&tunnel("nh", ""));
    assert_eq!(state(&status), v1::ObjectState::Degraded);
    assert_eq!(status.message, "no route to 198.18.0.2 in the underlay");
    assert_eq!(state(&world.status(&path)), v1::ObjectState::Degraded);
    assert!(world.via("blue", "10.2.0.0/24").starts_with("unusable"));
    assert!(world.tables.neighbours.is_empty());
    world.add(fabric());
    assert_eq!(state(&world.status(&path)), v1::ObjectState::Ready);
    // Over a gateway that a static route names.
    world.add(gateway("spine", "fab0", "198.18.0.254"));
    world.add(static_route("underlay", "198.18.0.2/32", "spine"));
    assert!(world.via("blue", "10.2.0.0/24").ends_with("via 198.18.0.254 on fab0"));
    assert_eq!(world.generation("blue"), generation);
    invariants::check(&world);
}

#[test]
fn tunnels_spread_over_a_group_in_the_underlay_but_never_over_a_tunnel() {
    let mut world = site();
    world.add(gateway("spine1", "fab0", "198.18.0.251"));
    world.add(gateway("spine2", "fab0", "198.18.0.252"));
    world.add(group("spines", &[("spine1", 1), ("spine2", 1), ("t1", 1)]));
    world.add(static_route("underlay", "198.19.0.0/16", "spines"));
    world.add(tunnel("t1", "198.19.0.1"));
    world.add(tunnel("t2", "198.19.0.2"));
    for (at, name) in ["t1", "t2"].into_iter().enumerate() {
        let prefix = format!("10.{at}.0.0/16");
        world.add(Kind::Route(route("64512:7", &prefix, "64512:1", name, 200)));
        assert_eq!(state(&world.status(&tunnel(name, ""))), v1::ObjectState::Ready);
    }
    assert!(world.via("blue", "10.0.0.0/16").ends_with("198.18.0.252 on fab0"));
    assert!(world.via("blue", "10.1.0.0/16").ends_with("198.18.0.251 on fab0"));
    let underlay = static_route("underlay", "198.20.0.0/16", "t1");
    world.add(underlay);
    world.add(tunnel("t3", "198.20.0.1"));
    assert_eq!(state(&world.status(&tunnel("t3", ""))), v1::ObjectState::Degraded);
    invariants::check(&world);
}

#[test]
fn a_route_says_why_no_encapsulation_fits() {
    let mut world = site();
    let mut path = route("64512:7", "10.2.0.0/24", "64512:1", "nh", 0);
    path.vni = 7;
    path.encapsulations = vec![v1::Encapsulation::Vxlan.into(), v1::Encapsulation::MplsGre.into()];
    world.add(Kind::Route(path.clone()));
    let status = world.status(&Kind::Route(path.clone()));
    assert_eq!(state(&status), v1::ObjectState::Degraded);
    assert!(status.message.contains("router_mac"), "{}", status.message);
    let tunnel = v1::TunnelNextHop {
        remote: "198.18.0.2".into(),
        router_mac: "02:00:00:00:00:99".into(),
        ..Default::default()
    };
    let target = Some(v1::next_hop::Target::Tunnel(tunnel));
    world.add(Kind::NextHop(v1::NextHop { name: "nh".into(), target }));
    assert_eq!(state(&world.status(&Kind::Route(path))), v1::ObjectState::Ready);
    assert!(world.via("blue", "10.2.0.0/24").starts_with("VXLAN VNI 7 to 02:00:00:00:00:99"));
}

#[test]
fn a_static_route_comes_before_vpn_paths_and_an_interface_before_both() {
    let mut world = site();
    world.add(Kind::Route(route("64512:7", "10.1.0.5/32", "64512:1", "nh", 200)));
    let mut better = route("64512:8", "10.1.0.5/32", "64512:1", "nh", 201);
    better.local_pref = Some(101);
    world.add(Kind::Route(better.clone()));
    assert!(world.via("blue", "10.1.0.5/32").contains("label 201"));
    // A route that waits is none.
    let waiting = static_route("blue", "10.1.0.5/32", "later");
    let applied = world.add(waiting.clone());
    assert_eq!(applied.waits_for.len(), 1);
    assert_eq!(state(&world.status(&waiting)), v1::ObjectState::Waiting);
    assert!(world.via("blue", "10.1.0.5/32").contains("label 201"));
    let discard = Some(v1::next_hop::Target::Discard(v1::DiscardNextHop {}));
    world.add(Kind::NextHop(v1::NextHop { name: "later".into(), target: discard }));
    assert_eq!(world.via("blue", "10.1.0.5/32"), "discard");
    let interface = Kind::Interface(workload("w", 1, "blue", "10.1.0.5"));
    world.add(interface.clone());
    let entry = world.route("blue", "10.1.0.5/32").expect("an entry");
    assert_eq!((entry.origin(), entry.paths), (v1::RouteOrigin::Workload, 4));
    let neighbour = world.tables.neighbours.iter().map(|(_, n)| n).find(|n| n.interface == InterfaceId(1));
    assert_eq!(neighbour.expect("the workload").state, NeighbourState::Static);
    world.remove(&interface);
    world.remove(&waiting);
    world.remove(&Kind::Route(better));
    assert!(world.via("blue", "10.1.0.5/32").contains("label 200"));
    invariants::check(&world);
}

#[test]
fn workloads_of_one_subnet_share_their_gateway_and_nothing_else() {
    let mut world = site();
    let first = Kind::Interface(workload("w1", 1, "blue", "10.1.0.5"));
    world.add(first.clone());
    world.add(Kind::Interface(workload("w2", 2, "blue", "10.1.0.6")));
    assert_eq!(world.via("blue", "10.1.0.1/32"), "local on w1");
    let refusal = world.apply(Kind::Interface(workload("w3", 3, "blue", "10.1.0.6"))).expect_err("taken");
    assert_eq!(
        (refusal.code, refusal.field.as_str()),
        (v1::ErrorCode::Conflict, "interface.workload_addresses[0]")
    );
    assert!(refusal.message.contains("w2"), "{refusal}");
    let subnet = v1::Interface {
        workload_mac: String::new(),
        workload_addresses: vec![],
        ..workload("s", 3, "blue", "10.1.0.7")
    };
    let refusal = world.apply(Kind::Interface(subnet.clone())).expect_err("the gateway is taken");
    assert_eq!(refusal.field, "interface.local_addresses[0]");
    let moved = v1::Interface { local_addresses: vec!["10.1.0.2/24".into()], ..subnet };
    world.add(Kind::Interface(moved.clone()));
    let same_subnet =
        v1::Interface { name: "s2".into(), vlan: 4, local_addresses: vec!["10.1.0.3/24".into()], ..moved };
    let refusal = world.apply(Kind::Interface(same_subnet)).expect_err("the subnet is taken");
    assert!(refusal.message.contains("interface s has the subnet 10.1.0.0/24"), "{refusal}");
    world.remove(&first);
    assert_eq!(world.via("blue", "10.1.0.1/32"), "local on w2");
    invariants::check(&world);
}

/// Applies what must be refused, for a reason that names the other object.
#[track_caller]
fn refused(world: &mut World, kind: Kind, code: v1::ErrorCode, field: &str, names: &str) {
    let refusal = world.apply(kind).expect_err(names);
    assert_eq!((refusal.code, refusal.field.as_str()), (code, field), "{refusal}");
    assert!(refusal.message.contains(names), "{refusal}");
    invariants::check(world);
}

#[test]
fn contradictions_are_refused_and_name_the_other() {
    let mut world = site();
    world.add(Kind::Interface(workload("w", 7, "blue", "10.1.0.5")));
    world.add(vrf("red", &[], 101));
    world.add(port("h", v1::PortRole::Host));
    let conflict = v1::ErrorCode::Conflict;
    refused(&mut world, vrf("red", &[], 100), conflict, "vrf.label", "blue");
    refused(&mut world, vrf("underlay", &[], 0), v1::ErrorCode::InvalidField, "vrf.name", "underlay");
    refused(&mut world, port("t", v1::PortRole::Fabric), conflict, "port.role", "interface w");
    refused(&mut world, port("h2", v1::PortRole::Host), conflict, "port.role", "port h ");
    let on = |port: &str, vrf: &str| {
        Kind::Interface(v1::Interface {
            name: "x".into(),
            port: port.into(),
            vrf: vrf.into(),
            ..Default::default()
        })
    };
    refused(&mut world, on("f", "blue"), conflict, "interface.vrf", "fabric port f");
    refused(&mut world, on("t", "underlay"), conflict, "interface.vrf", "fabric port");
    refused(&mut world, on("h", "blue"), conflict, "interface.vrf", "host port h");
    let same_vlan = workload("w2", 7, "red", "10.1.0.5");
    refused(&mut world, Kind::Interface(same_vlan), conflict, "interface.vlan", "interface w has VLAN 7");
    refused(&mut world, group("nh", &[("a", 1)]), conflict, "next_hop_group.name", "next hop");
    world.add(group("g", &[("a", 1)]));
    refused(&mut world, tunnel("g", "198.18.0.3"), conflict, "next_hop.name", "group");
    refused(
        &mut world,
        group("g2", &[("nh", 1), ("g", 1)]),
        conflict,
        "next_hop_group.members[1].next_hop",
        "g is",
    );
    refused(&mut world, group("a", &[("nh", 1)]), conflict, "next_hop_group.name", "group g ");
    // The port comes after what is on it.
    world.remove(&port("t", v1::PortRole::Tenant));
    refused(&mut world, port("t", v1::PortRole::Fabric), conflict, "port.role", "interface w");
    world.add(port("t", v1::PortRole::Tenant));
}

#[test]
fn a_port_and_what_is_on_it_follow_its_device() {
    let mut world = World::default();
    let with_device = |device: &str| {
        Kind::Port(v1::Port {
            name: "t".into(),
            device: device.into(),
            role: v1::PortRole::Tenant.into(),
            ..Default::default()
        })
    };
    let (broken, good) = (with_device(BROKEN), with_device("net_null1"));
    let interface = Kind::Interface(workload("w", 0, "red", "10.1.0.5"));
    world.add(vrf("red", &[], 0));
    world.add(broken.clone());
    world.add(interface.clone());
    let words = |world: &World, kind: &Kind| {
        let status = world.status(kind);
        (status.state(), status.message)
    };
    let degraded = v1::ObjectState::Degraded;
    assert_eq!(words(&world, &broken), (degraded, "there is no such device".into()));
    assert_eq!(words(&world, &interface), (degraded, "port t: there is no such device".into()));
    assert_eq!(world.via("red", "10.1.0.5/32"), "");

    // Declared otherwise, it gets its device anew.
    let object = v1::Object { kind: Some(good.clone()) };
    assert!(world.rib.apply(world.by, object, &mut world.tables).expect("valid").changed);
    for kind in [&good, &interface] {
        assert_eq!(state(&world.status(kind)), v1::ObjectState::Pending);
    }
    world.open_devices();
    for kind in [&good, &interface] {
        assert_eq!(state(&world.status(kind)), v1::ObjectState::Ready);
    }
    let via = world.via("red", "10.1.0.5/32");
    assert!(!via.is_empty());

    // It vanishes, and comes back.
    let id = world.rib.port_id("t").expect("declared");
    assert!(world.rib.port_closed(id, "it is gone".into(), &mut world.tables));
    assert_eq!(words(&world, &interface), (degraded, "port t: it is gone".into()));
    assert_eq!(world.via("red", "10.1.0.5/32"), "");
    let info = PortInfo { mac: MacAddr([2, 0, 0, 0, 1, 9]), mtu: 1500 };
    assert!(world.rib.port_opened(id, info, &mut world.tables));
    assert!(!world.rib.port_opened(id, info, &mut world.tables), "no news");
    assert_eq!(world.via("red", "10.1.0.5/32"), via);
    assert!(!world.rib.port_opened(PortId(7), info, &mut world.tables), "there is none");
}

#[test]
fn two_ports_never_have_one_device() {
    let options = RibOptions {
        device_claims: |device| device.split(',').skip(1).map(str::to_owned).collect(),
        ..RibOptions::default()
    };
    let mut world = World::default();
    world.rib = Rib::new(Limits::default(), options);
    world.by = world.rib.controller("test").expect("a name");
    let port = |name: &str, device: &str| {
        Kind::Port(v1::Port {
            name: name.into(),
            device: device.into(),
            role: v1::PortRole::Tenant.into(),
            ..Default::default()
        })
    };
    world.add(port("a", "net_af_packet0,eth1"));
    let conflict = v1::ErrorCode::Conflict;
    refused(&mut world, port("b", "net_af_xdp0,x,eth1"), conflict, "port.device", "port a has eth1");
    world.add(port("b", "net_af_packet1,eth2"));
    refused(&mut world, port("b", "net_af_packet1,eth1"), conflict, "port.device", "port a has eth1");
    world.add(port("a", "net_af_packet0,eth1,eth3"));
}

#[test]
fn an_interface_waits_and_numbers_stay() {
    let mut world = World::default();
    let message = v1::Interface { security_groups: vec![7], ..workload("w", 7, "blue", "10.1.0.5") };
    let interface = Kind::Interface(message);
    let waits = world.add(interface.clone()).waits_for;
    let expected = [port("t", v1::PortRole::Tenant), vrf("blue", &[], 0)].map(|kind| key_of(&kind));
    assert_eq!(waits[..2], expected);
    assert_eq!(waits.len(), 3);
    assert!(world.tables.interfaces.is_empty());
    world.add(vrf("blue", &[], 0));
    world.add(port("t", v1::PortRole::Tenant));
    let id = world.rib.interface_id("w").expect("a number");
    assert!(world.tables.interfaces.get(id.index()).is_some());
    let status = world.status(&interface);
    assert_eq!(state(&status), v1::ObjectState::Waiting);
    assert!(status.message.contains("denied"));
    world.remove(&port("t", v1::PortRole::Tenant));
    assert!(world.tables.interfaces.is_empty() && world.route("blue", "10.1.0.5/32").is_none());
    world.add(port("t", v1::PortRole::Tenant));
    assert_eq!(world.rib.interface_id("w"), Some(id));
    invariants::check(&world);
}

#[test]
fn policies_follow_their_groups() {
    let mut world = site();
    let message = v1::Interface { security_groups: vec![7, 8], ..workload("w", 7, "blue", "10.1.0.5") };
    world.add(Kind::Interface(message));
    let policy = |world: &World| {
        let id = world.rib.interface_id("w").expect("a number");
        world.tables.interfaces.get(id.index()).expect("in force").policy.clone().expect("a policy")
    };
    let text = |policy: &Policy| format!("{policy:?}");
    let denies_all = policy(&world);
    assert_eq!(text(&denies_all), text(&Policy::new(denies_all.sg_set(), [])));
    let blue = world.rib.vrf_id("blue").expect("a VRF");
    assert!(world.tables.vrfs.get(blue.index()).expect("a table").stateful);

    let generation = world.generation("blue");
    let rule = |direction: v1::Direction| v1::SecurityGroupRule {
        direction: direction.into(),
        ..Default::default()
    };
    let group = |rules| Kind::SecurityGroup(v1::SecurityGroup { id: 8, name: String::new(), rules });
    world.add(group(vec![rule(v1::Direction::Egress)]));
    assert_ne!(world.generation("blue"), generation);
    let any = Rule { group: SgId(8), family: None, protocol: None, l4: L4Match::Any, remote: Remote::Any };
    assert_eq!(text(&policy(&world)), text(&Policy::new(denies_all.sg_set(), [(Direction::Egress, any)])));
    // While the interface is out of force the rules change.
    world.remove(&port("t", v1::PortRole::Tenant));
    world.add(group(vec![]));
    world.add(port("t", v1::PortRole::Tenant));
    assert_eq!(text(&policy(&world)), text(&denies_all));
    invariants::check(&world);
}

#[test]
fn a_kept_set_of_groups_does_not_keep_old_rules() {
    let mut world = site();
    let interface = |name: &str, vlan, address| {
        Kind::Interface(v1::Interface { security_groups: vec![100], ..workload(name, vlan, "blue", address) })
    };
    let rule = v1::SecurityGroupRule { direction: v1::Direction::Egress.into(), ..Default::default() };
    let group = |rules| Kind::SecurityGroup(v1::SecurityGroup { id: 100, name: String::new(), rules });
    let first = interface("i", 7, "10.1.0.5");
    world.add(first.clone());
    // The route keeps the set when no interface has it any more.
    let path = route("64512:7", "10.2.0.0/24", "64512:1", "nh", 200);
    world.add(Kind::Route(v1::Route { security_groups: vec![100], ..path }));
    world.add(group(vec![rule]));
    world.remove(&first);
    world.add(group(vec![]));
    world.add(interface("j", 8, "10.1.0.6"));
    let id = world.rib.interface_id("j").expect("a number");
    let entry = world.tables.interfaces.get(id.index()).expect("in force");
    let policy = entry.policy.as_ref().expect("a policy");
    assert_eq!(format!("{policy:?}"), format!("{:?}", Policy::new(policy.sg_set(), [])));
    invariants::check(&world);
}

#[test]
fn a_vrf_that_leads_to_a_filtered_one_is_stateful_and_follows_its_generation() {
    let mut world = site();
    world.add(vrf("red", &[], 101));
    world.add(vrf("green", &[], 102));
    world.add(vrf_next_hop("to-blue", "blue"));
    world.add(group("maybe-blue", &[("to-blue", 1), ("nowhere", 1)]));
    world.add(static_route("red", "0.0.0.0/0", "maybe-blue"));
    let stateful = |world: &World, name: &str| {
        let id = world.rib.vrf_id(name).expect("a VRF");
        world.tables.vrfs.get(id.index()).expect("a table").stateful
    };
    assert!(!stateful(&world, "red"));
    let message = v1::Interface { security_groups: vec![7], ..workload("w", 7, "blue", "10.1.0.5") };
    world.add(Kind::Interface(message));
    assert!(stateful(&world, "red") && stateful(&world, "blue") && !stateful(&world, "green"));
    let generations = (world.generation("red"), world.generation("green"));
    world.add(Kind::Route(route("64512:7", "10.2.0.0/24", "64512:1", "nh", 200)));
    assert_ne!(world.generation("red"), generations.0);
    assert_eq!(world.generation("green"), generations.1);
    world.remove(&vrf_next_hop("to-blue", ""));
    assert!(!stateful(&world, "red") && stateful(&world, "blue"));
    invariants::check(&world);
}

#[test]
fn a_group_leaves_out_what_cannot_be_used() {
    let mut world = site();
    world.add(tunnel("far", "203.0.113.1"));
    let both = group("g", &[("nh", 2), ("far", 4)]);
    world.add(both.clone());
    world.add(Kind::Route(route("64512:7", "10.2.0.0/24", "64512:1", "g", 200)));
    assert!(world.via("blue", "10.2.0.0/24").starts_with("one of: MPLS-in-UDP label 200"));
    assert_eq!(state(&world.status(&both)), v1::ObjectState::Ready);
    let generation = world.generation("blue");
    world.add(gateway("spine", "fab0", "198.18.0.254"));
    world.add(static_route("underlay", "203.0.113.0/24", "spine"));
    assert!(
        world.via("blue", "10.2.0.0/24").contains("; 2 x MPLS-in-UDP"),
        "{}",
        world.via("blue", "10.2.0.0/24")
    );
    assert_ne!(world.generation("blue"), generation, "flows spread over other members");
    world.remove(&fabric());
    assert_eq!(state(&world.status(&both)), v1::ObjectState::Degraded);
    assert_eq!(world.via("blue", "10.2.0.0/24"), "unusable: no member of group g can be used");
    invariants::check(&world);
}

#[test]
fn a_number_given_again_does_not_revive_sessions() {
    let mut world = site_with(Limits { vrfs: 1, ..Limits::default() });
    world.add(Kind::Interface(workload("w", 7, "blue", "10.1.0.5")));
    let generation = world.generation("blue");
    let id = world.rib.vrf_id("blue");
    world.remove(&vrf("blue", &[], 0));
    world.add(vrf("red", &[], 0));
    assert_eq!(world.rib.vrf_id("red"), id);
    assert!(world.generation("red") > generation);
}

#[test]
fn numbers_are_not_given_again_at_once() {
    let mut world = site();
    let interface = Kind::Interface(workload("w", 7, "blue", "10.1.0.5"));
    world.add(interface.clone());
    let before = (world.rib.vrf_id("blue"), world.rib.interface_id("w"));
    world.remove(&interface);
    world.remove(&vrf("blue", &[], 0));
    world.add(vrf("blue", &[], 0));
    world.add(interface);
    assert_ne!(world.rib.vrf_id("blue"), before.0);
    assert_ne!(world.rib.interface_id("w"), before.1);
    invariants::check(&world);
}

#[test]
fn the_underlay_is_neither_declared_nor_deleted() {
    let mut world = site();
    assert!(world.apply(vrf("underlay", &[], 0)).is_err());
    let refusal = world.delete(&key_of(&vrf("underlay", &[], 0))).expect_err("always there");
    assert_eq!(refusal.field, "key.vrf");
}

#[test]
fn limits_refuse_one_more_and_name_themselves() {
    let limits = Limits {
        vrfs: 1,
        routes: 2,
        imported_routes: 1,
        next_hops: 1,
        interfaces: 0,
        rules: 1,
        ..Limits::default()
    };
    let mut world = World::with(limits);
    let refused = |world: &mut World, kind: Kind, limit: &str| {
        let refusal = world.apply(kind).expect_err(limit);
        assert_eq!(refusal.code, v1::ErrorCode::LimitReached);
        assert!(refusal.message.contains(limit), "{refusal}");
    };
    world.add(vrf("blue", &["1:1"], 0));
    refused(&mut world, vrf("red", &[], 0), "vrfs = 1");
    world.add(tunnel("nh", "198.18.0.2"));
    refused(&mut world, group("g", &[("nh", 1)]), "next_hops = 1");
    refused(&mut world, fabric(), "interfaces = 0");
    world.add(Kind::Route(route("1:1", "10.1.0.0/24", "1:1", "nh", 0)));
    refused(&mut world, Kind::Route(route("1:1", "10.2.0.0/24", "1:1", "nh", 0)), "imported_routes = 1");
    world.add(Kind::Route(route("1:1", "10.2.0.0/24", "1:2", "nh", 0)));
    refused(&mut world, vrf("blue", &["1:1", "1:2"], 0), "imported_routes = 1");
    refused(&mut world, static_route("blue", "10.9.0.0/24", "nh"), "routes = 2");
    // Replacing is no growth.
    world.add(Kind::Route(route("1:1", "10.1.0.0/24", "1:1", "other", 0)));
    world.add(vrf("blue", &["1:2"], 0));
    let rule = v1::SecurityGroupRule { direction: v1::Direction::Egress.into(), ..Default::default() };
    let rules = vec![rule; 2];
    refused(
        &mut world,
        Kind::SecurityGroup(v1::SecurityGroup { id: 1, name: "".into(), rules }),
        "rules = 1",
    );
    invariants::check(&world);
}

#[test]
fn lists_and_tables_are_read_page_by_page() {
    let mut world = site();
    for n in 0..7 {
        world.add(Kind::Route(route("64512:7", &format!("10.{n}.0.0/16"), "64512:1", "nh", 200)));
        world.add(static_route("blue", &format!("2001:db8:{n}::/48"), "nh"));
        world.add(static_route("red", &format!("10.{n}.0.0/16"), "nh"));
        world.add(vrf(&format!("v{n}"), &[], 0));
    }
    use v1::ObjectKind;
    for (kind, total) in [(ObjectKind::Route, 7), (ObjectKind::StaticRoute, 14), (ObjectKind::Vrf, 8)] {
        let list = |page_size, token: &str| {
            let page_token = token.to_owned();
            world.rib.list(&v1::ListRequest { kind: kind.into(), page_size, page_token, filter: None })
        };
        let all = list(0, "").expect("a list").items;
        assert_eq!(all.len(), total);
        let (mut paged, mut token) = (Vec::new(), String::new());
        loop {
            let reply = list(3, &token).expect("a page");
            assert!(reply.items.len() <= 3);
            paged.extend(reply.items);
            token = reply.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, all);
        assert!(list(3, "no such token!").is_err());
    }
    let page = |token: &str| {
        let request = v1::ListRoutesRequest {
            vrf: "blue".into(),
            page_size: 4,
            page_token: token.into(),
            ..Default::default()
        };
        world.rib.routes(&request, &world.tables).expect("a page")
    };
    let (mut prefixes, mut token) = (Vec::new(), String::new());
    loop {
        let reply = page(&token);
        prefixes.extend(reply.routes.into_iter().map(|route| route.prefix));
        token = reply.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(prefixes.len(), 14);
    assert_eq!((prefixes[0].as_str(), prefixes[13].as_str()), ("10.0.0.0/16", "2001:db8:6::/48"));
    let request =
        v1::ListRoutesRequest { vrf: "blue".into(), address: "10.3.9.9".into(), ..Default::default() };
    let found = world.rib.routes(&request, &world.tables).expect("a reply").routes;
    assert_eq!(found[0].prefix, "10.3.0.0/16");
}

#[test]
fn a_learned_neighbour_is_forgotten_with_its_link() {
    let mut world = site();
    let subnet = |mac: &str| {
        Kind::Interface(v1::Interface {
            name: "s".into(),
            port: "t".into(),
            vrf: "blue".into(),
            local_addresses: vec!["10.5.0.1/24".into()],
            local_mac: mac.into(),
            ..Default::default()
        })
    };
    world.add(subnet(""));
    let id = world.rib.interface_id("s").expect("a number");
    let learned = world.tables.intern_neighbour(id, IpAddr::from([10, 5, 0, 9])).expect("a neighbour");
    let entry = world.tables.neighbours.get_mut(learned.index()).expect("a neighbour");
    entry.state = NeighbourState::Resolved;
    world.add(subnet("02:00:00:00:00:44"));
    let entry = world.tables.neighbours.get(learned.index()).expect("still wanted");
    assert_eq!(entry.state, NeighbourState::Resolving);
    world.remove(&subnet(""));
    assert!(world.tables.neighbours.get(learned.index()).is_none());
    assert!(Label::new(100).is_some_and(|label| world.tables.labels.get(label.value() as usize).is_some()));
}

#[test]
fn a_configured_mac_is_forgotten_when_it_is_configured_no_more() {
    let mut world = site();
    world.add(Kind::Interface(workload("w", 7, "blue", "10.1.0.5")));
    world.add(gateway("appliance", "w", "10.1.0.5"));
    world.add(static_route("blue", "10.8.0.0/16", "appliance"));
    let at = |world: &World| {
        let key = (world.rib.interface_id("w").expect("a number"), IpAddr::from([10, 1, 0, 5]));
        let id = world.tables.neighbour_index.get(&key).expect("a neighbour");
        world.tables.neighbours.get(id.index()).expect("a neighbour").clone()
    };
    assert_eq!((at(&world).state, at(&world).users), (NeighbourState::Static, 2));
    world.add(Kind::Interface(workload("w", 7, "blue", "10.1.0.6")));
    assert_eq!((at(&world).state, at(&world).users), (NeighbourState::Resolving, 1));
    world.add(Kind::Interface(workload("w", 7, "blue", "10.1.0.5")));
    assert_eq!(at(&world).state, NeighbourState::Static);
    let learned = v1::Interface { workload_mac: String::new(), ..workload("w", 7, "blue", "10.1.0.5") };
    world.add(Kind::Interface(learned));
    assert_eq!((at(&world).state, at(&world).users), (NeighbourState::Resolving, 2));
    invariants::check(&world);
}

#[test]
fn a_static_neighbour_stands_as_long_as_its_interface_declares_it() {
    let mut world = site();
    world.add(Kind::Route(route("64512:7", "10.2.0.0/24", "64512:1", "nh", 200)));
    let with = |neighbours: &[(&str, &str)]| {
        let Kind::Interface(bare) = fabric() else { panic!("the fabric's interface") };
        let neighbour = |(address, mac): &(&str, &str)| v1::StaticNeighbour {
            address: (*address).into(),
            mac: (*mac).into(),
        };
        Kind::Interface(v1::Interface {
            static_neighbours: neighbours.iter().map(neighbour).collect(),
            ..bare
        })
    };
    let at = |world: &World, last: u8| {
        let key = (world.rib.interface_id("fab0").expect("a number"), IpAddr::from([198, 18, 0, last]));
        let id = world.tables.neighbour_index.get(&key)?;
        let found = world.tables.neighbours.get(id.index())?;
        Some((found.state, found.header.destination().to_string(), found.users))
    };
    let unknown = (NeighbourState::Resolving, "00:00:00:00:00:00".to_owned(), 1);
    assert_eq!(at(&world, 2), Some(unknown.clone()), "the tunnel's remote");

    let (far, idle) = (("198.18.0.2", "02:00:00:00:00:22"), ("198.18.0.3", "02:00:00:00:00:33"));
    world.add(with(&[far, idle]));
    assert_eq!(at(&world, 2), Some((NeighbourState::Static, far.1.to_owned(), 2)));
    assert_eq!(at(&world, 3), Some((NeighbourState::Static, idle.1.to_owned(), 1)), "before anyone needs it");
    assert!(!world.add(with(&[idle, far])).changed, "the order means nothing");
    world.add(with(&[(far.0, idle.1)]));
    assert_eq!(at(&world, 2), Some((NeighbourState::Static, idle.1.to_owned(), 2)));
    assert_eq!(at(&world, 3), None);
    invariants::check(&world);

    // Without its port the interface waits; then the neighbour is back.
    let fabric_port = port("f", v1::PortRole::Fabric);
    world.remove(&fabric_port);
    assert_eq!(at(&world, 2), None);
    world.add(fabric_port);
    assert_eq!(at(&world, 2), Some((NeighbourState::Static, idle.1.to_owned(), 2)));
    world.add(with(&[]));
    assert_eq!(at(&world, 2), Some(unknown));
    invariants::check(&world);
}

#[test]
fn a_tunnel_follows_a_gateway_that_is_declared_anew() {
    let mut world = site();
    world.add(gateway("spine", "fab0", "198.18.0.251"));
    world.add(group("spines", &[("spine", 1)]));
    world.add(static_route("underlay", "198.19.0.0/16", "spine"));
    world.add(static_route("underlay", "198.20.0.0/16", "spines"));
    for (name, remote, prefix) in [("t1", "198.19.0.1", "10.1.0.0/16"), ("t2", "198.20.0.1", "10.2.0.0/16")] {
        world.add(tunnel(name, remote));
        world.add(Kind::Route(route("64512:7", prefix, "64512:1", name, 200)));
        assert!(world.via("blue", prefix).ends_with("198.18.0.251 on fab0"));
    }
    world.add(gateway("spine", "fab0", "198.18.0.252"));
    for prefix in ["10.1.0.0/16", "10.2.0.0/16"] {
        assert!(world.via("blue", prefix).ends_with("198.18.0.252 on fab0"), "{}", world.via("blue", prefix));
    }
    invariants::check(&world);
}

#[test]
fn who_may_send_tunnels_follows_the_next_hops_and_what_the_interface_declares() {
    use tieline_engine::tables::interface::TunnelSources;
    let mut world = World::default();
    world.add(port("f", v1::PortRole::Fabric));
    let fabric = |change: &dyn Fn(&mut v1::Interface)| {
        let Kind::Interface(mut interface) = fabric() else { panic!("the fabric's interface") };
        change(&mut interface);
        Kind::Interface(interface)
    };
    let remotes = |world: &World| {
        let mut remotes: Vec<String> = world.tables.remotes.iter().map(|remote| remote.to_string()).collect();
        remotes.sort();
        remotes.join(" ")
    };
    // Declared is enough, whatever becomes of the way there; several may share a remote.
    for (name, remote) in [("a", "198.18.0.2"), ("b", "198.18.0.2"), ("c", "203.0.113.1")] {
        world.add(tunnel(name, remote));
    }
    assert_eq!(remotes(&world), "198.18.0.2 203.0.113.1");
    world.remove(&tunnel("a", "198.18.0.2"));
    assert_eq!(remotes(&world), "198.18.0.2 203.0.113.1");
    world.add(tunnel("b", "198.18.0.7"));
    assert_eq!(remotes(&world), "198.18.0.7 203.0.113.1");
    world.add(vrf_next_hop("c", "blue"));
    assert_eq!(remotes(&world), "198.18.0.7", "it is no tunnel any more");
    invariants::check(&world);

    let sources = |world: &World| {
        let id = world.rib.interface_id("fab0").expect("a number");
        world.tables.interfaces.get(id.index()).expect("in force").tunnel_sources.clone()
    };
    world.add(fabric(&|_| {}));
    assert_eq!(sources(&world), TunnelSources::default());
    world.add(fabric(&|interface| interface.tunnel_sources = vec!["198.18.9.0/24".into()]));
    let net = "198.18.9.0/24".parse().expect("a prefix");
    assert_eq!(sources(&world), TunnelSources::Known([net].into()));
    world.add(fabric(&|interface| interface.anti_spoofing_disabled = true));
    assert_eq!(sources(&world), TunnelSources::Any);
}

#[test]
fn a_vrfs_own_addresses_are_those_of_its_interfaces() {
    let mut world = site();
    let own = |world: &World, vrf: &str| {
        let id = world.rib.vrf_id(vrf).expect("a VRF");
        let vrf = world.tables.vrfs.get(id.index()).expect("in force");
        let mut own: Vec<String> = vrf.own_addresses.iter().map(|own| own.to_string()).collect();
        own.sort();
        own.join(" ")
    };
    world.add(port("t", v1::PortRole::Tenant));
    // Workloads share their gateway's address.
    let [one, two] = [("w8", 8, "10.1.0.8"), ("w9", 9, "10.1.0.9")]
        .map(|(name, vlan, address)| Kind::Interface(workload(name, vlan, "blue", address)));
    world.add(one.clone());
    world.add(two);
    assert_eq!(own(&world, "blue"), "10.1.0.1");
    world.remove(&one);
    assert_eq!(own(&world, "blue"), "10.1.0.1");
    let elsewhere = v1::Interface {
        local_addresses: vec!["10.1.0.254/24".into()],
        ..workload("w9", 9, "blue", "10.1.0.9")
    };
    world.add(Kind::Interface(elsewhere));
    assert!(own(&world, "blue").contains("10.1.0.254"), "{}", own(&world, "blue"));
    invariants::check(&world);
}
