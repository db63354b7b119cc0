//! Declared objects as tables: one for each kind, status last.

use tieline_proto::v1::security_group_rule::Remote;
use tieline_proto::v1::{
    AddressFamily, Direction, Encapsulation, NextHopGroupMember, Object, ObjectState, ObjectStatus,
    ObjectWithStatus, PortRole, SecurityGroup, SecurityGroupRule, next_hop, object,
};

use super::Column::{self, Left, Right};
use super::{dashed, holders, listed, nonzero, table as draw};
use crate::friendly::protocol;
use crate::kind::{Kind, display_keys};

/// Objects of one kind; wide with those who hold them.
pub fn table(kind: Kind, items: &[ObjectWithStatus], wide: bool) -> String {
    let mut shown = columns(kind).to_vec();
    if wide {
        // The status may be long and stays last.
        shown.insert(shown.len() - 1, Left("HOLDERS"));
    }
    draw(
        &shown,
        items.iter().map(|item| {
            let mut row = item.object.as_ref().map(cells).unwrap_or_default();
            // An object of another kind than was asked for keeps the table's shape.
            row.resize(columns(kind).len() - 1, "?".to_owned());
            if wide {
                row.push(holders(&item.holders));
            }
            row.push(status_of(item));
            row
        }),
    )
}

/// One object: its row, and what a row has no room for.
pub fn detail(kind: Kind, items: &[ObjectWithStatus]) -> String {
    let mut text = table(kind, items, true);
    for item in items {
        let inner = item.object.as_ref().and_then(|object| object.kind.as_ref());
        if let Some(object::Kind::SecurityGroup(group)) = inner
            && !group.rules.is_empty()
        {
            text.push('\n');
            text.push_str(&rules(group));
        }
    }
    text
}

/// The status, and whether nobody has declared the object again.
pub fn status_of(item: &ObjectWithStatus) -> String {
    let status = status(item.status.as_ref());
    if !item.holders.is_empty() && item.holders.iter().all(|holder| holder.stale) {
        format!("stale, {status}")
    } else {
        status
    }
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Port => {
            &[Left("NAME"), Left("DEVICE"), Left("ROLE"), Right("MTU"), Right("RX QUEUES"), Left("STATUS")]
        }
        Kind::Interface => &[
            Left("NAME"),
            Left("PORT"),
            Left("VLAN"),
            Left("VRF"),
            Left("LOCAL ADDRESSES"),
            Left("WORKLOAD"),
            Left("GROUPS"),
            Left("STATUS"),
        ],
        Kind::Vrf => &[
            Left("NAME"),
            Left("RD"),
            Left("IMPORT"),
            Left("EXPORT"),
            Right("LABEL"),
            Right("VNI"),
            Left("STATUS"),
        ],
        Kind::NextHop => &[Left("NAME"), Left("TARGET"), Left("STATUS")],
        Kind::NextHopGroup => &[Left("NAME"), Left("MEMBERS"), Left("STATUS")],
        Kind::Route => &[
            Left("RD"),
            Left("PREFIX"),
            Left("ROUTE TARGETS"),
            Left("NEXT HOP"),
            Right("LABEL"),
            Right("VNI"),
            Right("PREFERENCE"),
            Right("MED"),
            Left("GROUPS"),
            Left("STATUS"),
        ],
        Kind::SecurityGroup => {
            &[Right("ID"), Left("NAME"), Right("INGRESS RULES"), Right("EGRESS RULES"), Left("STATUS")]
        }
        Kind::StaticRoute => &[
            Left("VRF"),
            Left("PREFIX"),
            Left("NEXT HOP"),
            Right("LABEL"),
            Right("VNI"),
            Left("GROUPS"),
            Left("STATUS"),
        ],
    }
}

fn cells(object: &Object) -> Vec<String> {
    match &object.kind {
        None => Vec::new(),
        Some(object::Kind::Port(port)) => vec![
            port.name.clone(),
            port.device.clone(),
            match port.role() {
                PortRole::Unspecified => "-",
                PortRole::Fabric => "fabric",
                PortRole::Tenant => "tenant",
                PortRole::Host => "host",
            }
            .to_owned(),
            nonzero(port.mtu),
            nonzero(port.rx_queues),
        ],
        Some(object::Kind::Interface(interface)) => vec![
            interface.name.clone(),
            interface.port.clone(),
            match (interface.vlan, interface.inner_vlan) {
                (0, _) => "-".to_owned(),
                (vlan, 0) => vlan.to_string(),
                (vlan, inner) => format!("{vlan}.{inner}"),
            },
            interface.vrf.clone(),
            listed(&interface.local_addresses),
            listed(&interface.workload_addresses),
            listed(&interface.security_groups),
        ],
        Some(object::Kind::Vrf(vrf)) => vec![
            vrf.name.clone(),
            dashed(&vrf.rd),
            listed(&vrf.import_route_targets),
            listed(&vrf.export_route_targets),
            nonzero(vrf.label),
            nonzero(vrf.vni),
        ],
        Some(object::Kind::NextHop(next_hop)) => {
            vec![next_hop.name.clone(), target(next_hop.target.as_ref())]
        }
        Some(object::Kind::NextHopGroup(group)) => {
            vec![group.name.clone(), listed(group.members.iter().map(member))]
        }
        Some(object::Kind::Route(route)) => vec![
            route.rd.clone(),
            route.prefix.clone(),
            listed(&route.route_targets),
            route.next_hop.clone(),
            nonzero(route.label),
            nonzero(route.vni),
            route.local_pref.unwrap_or(100).to_string(),
            route.med.to_string(),
            listed(&route.security_groups),
        ],
        Some(object::Kind::SecurityGroup(group)) => {
            let count = |direction: Direction| {
                group.rules.iter().filter(|rule| rule.direction() == direction).count().to_string()
            };
            vec![
                group.id.to_string(),
                dashed(&group.name),
                count(Direction::Ingress),
                count(Direction::Egress),
            ]
        }
        Some(object::Kind::StaticRoute(route)) => vec![
            route.vrf.clone(),
            route.prefix.clone(),
            route.next_hop.clone(),
            nonzero(route.label),
            nonzero(route.vni),
            listed(&route.security_groups),
        ],
    }
}

fn target(target: Option<&next_hop::Target>) -> String {
    match target {
        None => "-".to_owned(),
        Some(next_hop::Target::Tunnel(tunnel)) => {
            let from =
                if tunnel.local.is_empty() { String::new() } else { format!(" from {}", tunnel.local) };
            let encapsulations: Vec<&str> = tunnel
                .encapsulations()
                .map(|encapsulation| match encapsulation {
                    Encapsulation::Unspecified => "?",
                    Encapsulation::MplsUdp => "mpls_udp",
                    Encapsulation::MplsGre => "mpls_gre",
                    Encapsulation::Vxlan => "vxlan",
                })
                .collect();
            let by = if encapsulations.is_empty() {
                String::new()
            } else {
                format!(" by {}", encapsulations.join(", "))
            };
            format!("tunnel to {}{from}{by}", tunnel.remote)
        }
        Some(next_hop::Target::Interface(neighbour)) if neighbour.address.is_empty() => {
            format!("on interface {}", neighbour.interface)
        }
        Some(next_hop::Target::Interface(neighbour)) => {
            format!("{} on interface {}", neighbour.address, neighbour.interface)
        }
        Some(next_hop::Target::Vrf(vrf)) => format!("lookup in vrf {vrf}"),
        Some(next_hop::Target::Discard(_)) => "discard".to_owned(),
    }
}

fn member(member: &NextHopGroupMember) -> String {
    match member.weight {
        0 | 1 => member.next_hop.clone(),
        weight => format!("{} x{weight}", member.next_hop),
    }
}

fn status(status: Option<&ObjectStatus>) -> String {
    let Some(status) = status else { return "unknown".to_owned() };
    let state = match status.state() {
        ObjectState::Unspecified => "unknown".to_owned(),
        ObjectState::Ready => "ready".to_owned(),
        ObjectState::Waiting => format!("waits for {}", display_keys(&status.waits_for)),
        ObjectState::Degraded => "degraded".to_owned(),
        ObjectState::Pending => "pending".to_owned(),
    };
    if status.message.is_empty() { state } else { format!("{state}: {}", status.message) }
}

fn rules(group: &SecurityGroup) -> String {
    let columns = [Left("DIRECTION"), Left("FAMILY"), Left("PROTOCOL"), Left("PORTS"), Left("REMOTE")];
    draw(&columns, group.rules.iter().map(rule))
}

fn rule(rule: &SecurityGroupRule) -> Vec<String> {
    let any = || "any".to_owned();
    let ports = match (&rule.ports, rule.icmp_type, rule.icmp_code) {
        (Some(ports), _, _) if ports.first == ports.last => ports.first.to_string(),
        (Some(ports), _, _) => format!("{}-{}", ports.first, ports.last),
        (None, Some(kind), Some(code)) => format!("type {kind} code {code}"),
        (None, Some(kind), None) => format!("type {kind}"),
        (None, None, _) => any(),
    };
    vec![
        match rule.direction() {
            Direction::Unspecified => "-",
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
        .to_owned(),
        match rule.family() {
            AddressFamily::Unspecified => "any",
            AddressFamily::Ipv4 => "ipv4",
            AddressFamily::Ipv6 => "ipv6",
        }
        .to_owned(),
        rule.protocol.map_or_else(any, protocol),
        ports,
        match &rule.remote {
            None => any(),
            Some(Remote::RemotePrefix(prefix)) => prefix.clone(),
            Some(Remote::RemoteSecurityGroup(id)) => format!("security-group/{id}"),
        },
    ]
}

#[cfg(test)]
mod tests;
