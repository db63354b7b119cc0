//! Next hops and next-hop groups.

use std::net::IpAddr;

use tieline_engine::types::{Label, MacAddr, Vni};
use tieline_proto::v1;

use crate::refusal::Refusal;
use crate::spec::{Encapsulations, field};
use tieline_names::Name;

/// Most members of one group.
const MAX_MEMBERS: usize = 64;

/// What a name of a next hop or group stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A next hop.
    NextHop(Target),
    /// Several, by the hash of the flow.
    Group(Vec<Member>),
}

/// Where packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To a remote gateway.
    Tunnel(TunnelTarget),
    /// To a neighbour.
    Interface {
        /// Name of the interface.
        interface: Name,
        /// The neighbour; `None`: the packet's destination.
        address: Option<IpAddr>,
    },
    /// Into another VRF.
    Vrf(Name),
    /// Nowhere.
    Discard,
}

/// A remote gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelTarget {
    /// The remote endpoint.
    pub remote: IpAddr,
    /// The local endpoint; `None`: one of the interface that leads there.
    pub local: Option<IpAddr>,
    /// What the remote accepts; none: MPLS-in-UDP alone.
    pub encapsulations: Encapsulations,
    /// Inner destination of layer 3 over VXLAN.
    pub router_mac: Option<MacAddr>,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of a next hop.
    pub next_hop: Name,
    /// Share of the flows, at least 1.
    pub weight: u8,
    /// Instead of the route's.
    pub label: Option<Label>,
    /// Instead of the route's.
    pub vni: Option<Vni>,
}

/// A next hop, from its message.
pub fn parse_next_hop(message: &v1::NextHop) -> Result<(Name, Definition), Refusal> {
    let name = field::name("next_hop.name", &message.name)?;
    let target = match &message.target {
        None => {
            let sentence = "no target: set one of tunnel, interface, vrf and discard";
            return Err(Refusal::invalid("next_hop.target", sentence));
        }
        Some(v1::next_hop::Target::Tunnel(tunnel)) => Target::Tunnel(parse_tunnel(tunnel)?),
        Some(v1::next_hop::Target::Interface(target)) => Target::Interface {
            interface: field::name("next_hop.interface.interface", &target.interface)?,
            address: match target.address.as_str() {
                "" => None,
                text => Some(field::host_address("next_hop.interface.address", text)?),
            },
        },
        Some(v1::next_hop::Target::Vrf(vrf)) => Target::Vrf(field::name("next_hop.vrf", vrf)?),
        Some(v1::next_hop::Target::Discard(_)) => Target::Discard,
    };
    Ok((name, Definition::NextHop(target)))
}

fn parse_tunnel(message: &v1::TunnelNextHop) -> Result<TunnelTarget, Refusal> {
    let remote = field::host_address("next_hop.tunnel.remote", &message.remote)?;
    let local = match message.local.as_str() {
        "" => None,
        text => Some(field::host_address("next_hop.tunnel.local", text)?),
    };
    if local.is_some_and(|local| local.is_ipv4() != remote.is_ipv4() || local == remote) {
        let sentence = format!("a tunnel to {remote} needs another local address of the same IP version");
        return Err(Refusal::invalid("next_hop.tunnel.local", sentence));
    }
    Ok(TunnelTarget {
        remote,
        local,
        encapsulations: field::encapsulations("next_hop.tunnel.encapsulations", &message.encapsulations)?,
        router_mac: field::mac("next_hop.tunnel.router_mac", &message.router_mac)?,
    })
}

/// A next-hop group, from its message.
pub fn parse_group(message: &v1::NextHopGroup) -> Result<(Name, Definition), Refusal> {
    let name = field::name("next_hop_group.name", &message.name)?;
    if message.members.is_empty() || message.members.len() > MAX_MEMBERS {
        let sentence = format!("{} members: use 1 to {MAX_MEMBERS}", message.members.len());
        return Err(Refusal::invalid("next_hop_group.members", sentence));
    }
    let members: Result<Vec<Member>, Refusal> =
        message.members.iter().enumerate().map(|(at, member)| parse_member(at, member)).collect();
    Ok((name, Definition::Group(members?)))
}

fn parse_member(at: usize, message: &v1::NextHopGroupMember) -> Result<Member, Refusal> {
    let field = |part: &str| format!("next_hop_group.members[{at}].{part}");
    let weight = u8::try_from(message.weight.max(1)).map_err(|_| {
        Refusal::invalid(field("weight"), format!("{} is not a weight: use 1 to 255", message.weight))
    })?;
    Ok(Member {
        next_hop: field::name(&field("next_hop"), &message.next_hop)?,
        weight,
        label: field::label(&field("label"), message.label)?,
        vni: field::vni(&field("vni"), message.vni)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field() {
        let member = v1::NextHopGroupMember { next_hop: "a".into(), ..Default::default() };
        let group = |members| v1::NextHopGroup { name: "g".into(), members };
        assert!(parse_group(&group(vec![])).is_err());
        assert!(parse_group(&group(vec![member.clone(); 65])).is_err());
        let heavy = v1::NextHopGroupMember { weight: 256, ..member.clone() };
        let refusal = parse_group(&group(vec![member.clone(), heavy])).expect_err("too heavy");
        assert_eq!(refusal.field, "next_hop_group.members[1].weight");
        let Definition::Group(members) = parse_group(&group(vec![member])).expect("valid").1 else {
            panic!("a group")
        };
        assert_eq!(members[0].weight, 1, "an absent weight is one");
        let message = v1::NextHop { name: "n".into(), target: None };
        assert_eq!(parse_next_hop(&message).expect_err("no target").field, "next_hop.target");
    }

    #[test]
    fn a_tunnels_ends_are_of_one_family() {
        let tunnel = |local: &str| v1::NextHop {
            name: "n".into(),
            target: Some(v1::next_hop::Target::Tunnel(v1::TunnelNextHop {
                remote: "198.18.0.2".into(),
                local: local.into(),
                ..Default::default()
            })),
        };
        assert!(parse_next_hop(&tunnel("198.18.0.1")).is_ok());
        for bad in ["2001:db8::1", "198.18.0.2", "127.0.0.1", "x"] {
            assert_eq!(parse_next_hop(&tunnel(bad)).expect_err(bad).field, "next_hop.tunnel.local");
        }
    }
}
