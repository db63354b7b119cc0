//! What each gateway should hold: a function of intent and allocations.
//!
//! A gateway gets the networks that it has endpoints of, and of groups and
//! policies those that concern them. What it imports is the topology's targets
//! in numbers; what routes it then gets is BGP's business.
//!
//! The structures are those of the control API, in types that cannot be wrong:
//! texts are names of the gateway's own objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;
use thiserror::Error;

use crate::intent::ObjectKey;
use crate::intent::addresses::{InterfaceAddress, Mac, Prefix};
use crate::intent::kinds::network_policy::Action;
use crate::intent::names::{Name, PortName};
use crate::intent::traffic::{Family, PortRange, Protocol};
use crate::numbers::{Asn, RouteDistinguisher, RouteTarget};

mod build;
#[cfg(test)]
mod tests;

pub use build::desired;

/// A number that is needed was not allocated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{object} has no {what} yet: allocate for this intent first")]
pub struct NotAllocated {
    /// Who needs it.
    pub object: ObjectKey,
    /// What is needed.
    pub what: &'static str,
}

/// What one gateway should hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DesiredGateway {
    /// Name of its cluster.
    pub cluster: Name,
    /// AS number of its cluster.
    pub asn: Asn,
    /// VRFs, by name.
    pub vrfs: BTreeMap<String, Vrf>,
    /// Bridge domains, by name: that of the VRF of the same network.
    pub bridge_domains: BTreeMap<String, BridgeDomain>,
    /// Interfaces of endpoints, by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// Security groups of these interfaces, by ID.
    pub security_groups: BTreeMap<u32, SecurityGroup>,
    /// Policies that concern these VRFs, by name.
    pub policies: BTreeMap<String, Policy>,
}

/// A network's routing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vrf {
    /// The network.
    pub network: ObjectKey,
    /// Distinguishes this gateway's routes from all others (C16).
    pub rd: RouteDistinguisher,
    /// Routes with one of these are imported.
    pub imports: BTreeSet<RouteTarget>,
    /// Its own routes have all of these.
    pub exports: BTreeSet<RouteTarget>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Number of the network in its AS, for the origin VN community.
    pub network_number: u32,
    /// Subnets.
    pub subnets: BTreeSet<Prefix>,
}

/// A network's layer 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgeDomain {
    /// The network.
    pub network: ObjectKey,
    /// Distinguishes this gateway's routes from all others.
    pub rd: RouteDistinguisher,
    /// EVPN routes with one of these are imported.
    pub imports: BTreeSet<RouteTarget>,
    /// Its own EVPN routes have all of these.
    pub exports: BTreeSet<RouteTarget>,
    /// VXLAN network identifier, the VRF's: one network, one number.
    pub vni: u32,
    /// Frames to unknown stations are sent everywhere.
    pub flooding: bool,
}

/// An endpoint's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Name of the port.
    pub port: PortName,
    /// 802.1Q VLAN ID.
    pub vlan: Option<u16>,
    /// Inner VLAN ID of a pair.
    pub inner_vlan: Option<u16>,
    /// Name of the VRF.
    pub vrf: String,
    /// Name of the bridge domain, if the network has one.
    pub bridge_domain: Option<String>,
    /// The gateway's own addresses here: the workload's default gateways.
    pub local_addresses: BTreeSet<InterfaceAddress>,
    /// The workload's MAC.
    pub workload_mac: Option<Mac>,
    /// The workload's addresses.
    pub workload_addresses: BTreeSet<IpAddr>,
    /// IDs of the security groups.
    pub security_groups: BTreeSet<u32>,
    /// Sources that the workload may use beside its own.
    pub allowed_sources: Vec<(Prefix, Option<Mac>)>,
    /// Largest IP packet in bytes towards the workload.
    pub mtu: Option<u16>,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityGroup {
    /// The group.
    pub group: ObjectKey,
    /// What may enter.
    pub ingress: Vec<GroupRule>,
    /// What may leave.
    pub egress: Vec<GroupRule>,
}

/// A rule of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupRule {
    /// IP version.
    pub family: Option<Family>,
    /// IP protocol.
    pub protocol: Option<Protocol>,
    /// Destination ports.
    pub ports: Option<PortRange>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
    /// Who is at the other end.
    pub remote: Remote,
}

/// Who is at the other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remote {
    /// Anyone.
    Any,
    /// Addresses.
    Prefix(Prefix),
    /// What is in the group with this ID.
    Group(u32),
}

/// What may pass between networks; the first rule that fits decides, and what
/// none fits is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Rules, in order.
    pub rules: Vec<PolicyRule>,
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyRule {
    /// Who begins.
    pub from: PolicyEnd,
    /// Who is reached.
    pub to: PolicyEnd,
    /// What happens.
    pub action: Action,
    /// IP version.
    pub family: Option<Family>,
    /// IP protocol.
    pub protocol: Option<Protocol>,
    /// Destination ports.
    pub ports: Option<PortRange>,
}

/// A network as a policy sees it: also what is reached through it in other
/// clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyEnd {
    /// The network; its VRF's name, where the gateway has it.
    pub network: String,
    /// Whose route has one of these is of this network.
    pub route_targets: BTreeSet<RouteTarget>,
}
