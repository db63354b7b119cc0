//! A BGP peer: another cluster's controller or a route reflector.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::addresses::Prefix;
use crate::intent::names::Name;
use crate::numbers::{Asn, RouteTarget};

/// The port of BGP (RFC 4271).
pub const BGP_PORT: u16 = 179;

/// Somebody whom a cluster's controllers speak BGP with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Name of the cluster.
    pub cluster: Name,
    /// Its address.
    pub address: IpAddr,
    /// Its TCP port.
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Its AS number; the cluster's own makes it an internal peer.
    pub asn: Asn,
    /// What is exchanged.
    #[schemars(length(min = 1))]
    pub families: Vec<AddressFamily>,
    /// Names of the cluster's controllers that speak with it; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<Name>,
    /// Password of TCP MD5 (RFC 2385). It is kept in the store and never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Wait for it to connect instead of connecting.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passive: bool,
    /// Routers between it and us at most, plus one; 1 is a neighbour, and
    /// packets from farther away are refused (RFC 5082). Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub max_hops: Option<u8>,
    /// It is a route server: it does not put its own AS into paths (RFC 7947).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub route_server: bool,
    /// Of an internal peer: it is a route reflector of this cluster (RFC 4456), which
    /// is told everything and whose word on which controller has originated a route
    /// is taken. All of its internal peers must be controllers of this cluster.
    /// False: it is a stranger in the same AS. Absent: it is treated as one, and the
    /// status asks, unless it is a controller of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reflector: Option<bool>,
    /// What it runs, where that needs care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Software>,
    /// Send it also what other peers have told: the cluster is transit between
    /// them. It needs that only where they cannot reach each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transit: bool,
    /// What it may announce; absent: all that is allowed anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// Prefixes that it must announce while its session stands; one that is
    /// missing is a fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canary: Vec<Prefix>,
}

fn bgp_port() -> u16 {
    BGP_PORT
}

/// A BGP speaker that needs care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Software {
    /// GoBGP. It is sent no E-Tree and multicast-flags communities, for which it
    /// withdraws routes, and no default route target membership, which ends it
    /// (up to 3.10).
    Gobgp,
}

/// An address family of BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamily {
    /// IPv4 unicast (1/1).
    Ipv4,
    /// IPv6 unicast (2/1).
    Ipv6,
    /// IPv4 VPN (1/128, RFC 4364).
    Vpnv4,
    /// IPv6 VPN (2/128, RFC 4659).
    Vpnv6,
    /// EVPN (25/70, RFC 7432).
    Evpn,
    /// Route target constraint (1/132, RFC 4684).
    Rtc,
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Vpnv4 => "vpnv4",
            Self::Vpnv6 => "vpnv6",
            Self::Evpn => "evpn",
            Self::Rtc => "rtc",
        })
    }
}

/// What a peer may announce. What is outside is kept away and named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contract {
    /// Route targets that it may use; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route_targets: Vec<RouteTarget>,
    /// User security group IDs that it may use; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<u32>,
    /// Prefixes that it may announce, or parts of; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Prefix>,
    /// Where its routes may lead: next hops, which are gateways' tunnel addresses;
    /// none: anywhere but to gateways of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<Prefix>,
    /// Most routes of each family.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub max_routes: BTreeMap<AddressFamily, u32>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(#[schemars(length(min = 1, max = 80))] String);

impl Secret {
    /// What stands for it where it would be shown.
    pub const HIDDEN: &str = "(hidden)";

    /// The text itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}
