//! A virtual network: subnets that tenants live in, and who may know them.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::addresses::{Pool, Prefix};
use crate::intent::names::Name;
use crate::numbers::RouteTarget;

/// A network of one cluster: a VRF on every gateway that has one of its
/// endpoints and, where it is a layer 2 network too, a bridge domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualNetwork {
    /// Name of the cluster.
    pub cluster: Name,
    /// Subnets, IPv4 and IPv6 as you like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<Subnet>,
    /// User route targets beside the allocated one.
    #[serde(default, skip_serializing_if = "RouteTargets::is_empty")]
    pub route_targets: RouteTargets,
    /// Has addresses of its own, which may be those of other networks; only
    /// objects of its own namespace may connect it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Makes it a layer 2 network too. A layer 2 connection does that as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l2: Option<Layer2>,
    /// VXLAN network identifier; allocated when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_215))]
    pub vni: Option<u32>,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subnet {
    /// Its prefix. Every address in it can be a host's, also the first.
    pub prefix: Prefix,
    /// The workloads' default gateway; absent is the address after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Parts that this cluster gives addresses from; none: all of it. A layer 2
    /// connection needs them, apart from those of the other networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
}

impl Subnet {
    /// The workloads' default gateway.
    pub fn gateway(&self) -> IpAddr {
        self.gateway.unwrap_or_else(|| self.prefix.first_host())
    }
}

/// User route targets of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTargets {
    /// Imported and exported: connects all networks that have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub both: Vec<RouteTarget>,
    /// Imported only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub import: Vec<RouteTarget>,
    /// Exported only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export: Vec<RouteTarget>,
}

impl RouteTargets {
    fn is_empty(&self) -> bool {
        self.both.is_empty() && self.import.is_empty() && self.export.is_empty()
    }
}

/// Layer 2 of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Layer2 {
    /// Send frames to unknown stations everywhere in the network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flooding: bool,
}
