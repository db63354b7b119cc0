//! What Tieline is told for a case.

use tieline_proto::v1::{
    Direction, Encapsulation, Interface, NextHop, Object, Port, PortRange, PortRole, Route, SecurityGroup,
    SecurityGroupRule, StaticNeighbour, TunnelNextHop, Vrf, next_hop, object,
};

use crate::case::{Case, Traffic, Tunnel, Way};
use crate::engines::Wiring;
use crate::frames::{
    FABRIC_MAC, FIRST_VNI, GATEWAY_MAC, LABEL, LOCAL, REMOTE, REMOTE_MAC, REMOTE_ROUTER_MAC, ROUTE_VNIS,
    SERVICE, VNI, WORKLOAD, WORKLOAD_MAC, WORKLOAD6, prefixes, vlans_of,
};

/// The label on which the gateway's only VRF is reached.
const OWN_LABEL: u32 = 1001;
/// The security group of stateful cases.
const GROUP: u32 = 100;
/// Protocol numbers.
const TCP: u32 = 6;
const UDP: u32 = 17;

/// Everything but the ports.
pub fn tables(case: &Case) -> Vec<Object> {
    let mut objects = vec![fabric_interface(), far_end(case)];
    if case.stateful {
        objects.push(security_group());
    }
    for vrf in 0..case.vrfs {
        objects.extend([vrf_object(case, vrf), tenant_interface(case, vrf), route_to_far_end(case, vrf)]);
    }
    objects.extend(prefixes(case.routes).into_iter().zip(0..).map(|((network, length), at)| {
        let vni = VNI + at % ROUTE_VNIS;
        object(object::Kind::Route(Route { vni, ..route(0, format!("{network}/{length}")) }))
    }));
    objects
}

/// The port where packets come in.
pub fn input_port(case: &Case, wiring: &Wiring) -> Object {
    let device = wiring.source(case.workers);
    match case.way {
        Way::ToFabric => port(case, "tenant0", PortRole::Tenant, device),
        Way::ToTenant => port(case, "fabric0", PortRole::Fabric, device),
    }
}

/// The port where packets go out.
pub fn output_port(case: &Case, wiring: &Wiring) -> Object {
    match case.way {
        Way::ToTenant => port(case, "tenant0", PortRole::Tenant, wiring.sink()),
        Way::ToFabric => port(case, "fabric0", PortRole::Fabric, wiring.sink()),
    }
}

/// A MAC as text.
pub fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn object(kind: object::Kind) -> Object {
    Object { kind: Some(kind) }
}

fn port(case: &Case, name: &str, role: PortRole, device: String) -> Object {
    // An IMIX's largest packets need room for the tunnel.
    let mtu = if role == PortRole::Fabric && case.traffic == Traffic::Imix { 1600 } else { 0 };
    object(object::Kind::Port(Port {
        name: name.to_owned(),
        device,
        role: role.into(),
        mtu,
        ..Port::default()
    }))
}

fn fabric_interface() -> Object {
    object(object::Kind::Interface(Interface {
        name: "fabric0".to_owned(),
        port: "fabric0".to_owned(),
        vrf: "underlay".to_owned(),
        local_addresses: vec![format!("{LOCAL}/24")],
        local_mac: mac(FABRIC_MAC),
        static_neighbours: vec![StaticNeighbour { address: REMOTE.to_string(), mac: mac(REMOTE_MAC) }],
        ..Interface::default()
    }))
}

fn far_end(case: &Case) -> Object {
    let encapsulation = match case.tunnel {
        Tunnel::Vxlan => Encapsulation::Vxlan,
        Tunnel::MplsUdp => Encapsulation::MplsUdp,
    };
    let tunnel = TunnelNextHop {
        remote: REMOTE.to_string(),
        encapsulations: vec![encapsulation.into()],
        router_mac: mac(REMOTE_ROUTER_MAC),
        ..TunnelNextHop::default()
    };
    object(object::Kind::NextHop(NextHop {
        name: "gw2".to_owned(),
        target: Some(next_hop::Target::Tunnel(tunnel)),
    }))
}

fn vrf_object(case: &Case, vrf: u32) -> Object {
    let (label, vni) = if case.vrfs == 1 { (OWN_LABEL, VNI) } else { (0, FIRST_VNI + vrf) };
    object(object::Kind::Vrf(Vrf {
        name: format!("red{vrf}"),
        rd: format!("64512:{}", 100_000 + vrf),
        import_route_targets: vec![route_target(vrf)],
        export_route_targets: vec![route_target(vrf)],
        label,
        vni,
        ..Vrf::default()
    }))
}

fn route_target(vrf: u32) -> String {
    format!("64512:{}", 8_000_000 + vrf)
}

fn tenant_interface(case: &Case, vrf: u32) -> Object {
    let (vlan, inner_vlan) = if case.vrfs > 1 { vlans_of(vrf) } else { (0, 0) };
    object(object::Kind::Interface(Interface {
        name: format!("red{vrf}-h1"),
        port: "tenant0".to_owned(),
        vlan: vlan.into(),
        inner_vlan: inner_vlan.into(),
        vrf: format!("red{vrf}"),
        local_addresses: vec!["10.1.0.1/24".to_owned(), "2001:db8:1::1/64".to_owned()],
        local_mac: mac(GATEWAY_MAC),
        workload_mac: mac(WORKLOAD_MAC),
        workload_addresses: vec![WORKLOAD.to_string(), WORKLOAD6.to_string()],
        security_groups: if case.stateful { vec![GROUP] } else { Vec::new() },
        ..Interface::default()
    }))
}

fn route(vrf: u32, prefix: String) -> Route {
    Route {
        rd: format!("64512:{}", 200_000 + vrf),
        prefix,
        route_targets: vec![route_target(vrf)],
        next_hop: "gw2".to_owned(),
        ..Route::default()
    }
}

fn route_to_far_end(case: &Case, vrf: u32) -> Object {
    let prefix = if case.traffic == Traffic::Ipv6 { "2001:db8:2::/48" } else { "10.2.0.0/16" };
    let vni = if case.vrfs == 1 { VNI } else { FIRST_VNI + vrf };
    let (label, vni) = match case.tunnel {
        Tunnel::Vxlan => (0, vni),
        Tunnel::MplsUdp => (LABEL, 0),
    };
    object(object::Kind::Route(Route { label, vni, ..route(vrf, prefix.to_owned()) }))
}

/// What an operator would write for a service; the traffic meets the last of
/// its rules.
fn security_group() -> Object {
    let rule = |direction: Direction, protocol: u32, port: u16| SecurityGroupRule {
        direction: direction.into(),
        protocol: Some(protocol),
        ports: Some(PortRange { first: port.into(), last: port.into() }),
        ..SecurityGroupRule::default()
    };
    let services = [(TCP, 22), (TCP, 80), (TCP, 443), (UDP, 53), (UDP, SERVICE)];
    let rules = [Direction::Egress, Direction::Ingress]
        .iter()
        .flat_map(|direction| services.map(|(protocol, port)| rule(*direction, protocol, port)))
        .collect();
    object(object::Kind::SecurityGroup(SecurityGroup { id: GROUP, name: "service".to_owned(), rules }))
}
