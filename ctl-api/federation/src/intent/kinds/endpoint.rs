//! An endpoint: a workload's interface at a gateway.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::addresses::{Mac, Prefix};
use crate::intent::names::{Name, PortName, Reference};

/// A workload's interface at a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Its network, as NAME or NAMESPACE/NAME.
    pub network: Reference,
    /// Name of the gateway, one of the network's cluster.
    pub gateway: Name,
    /// Where it is at the gateway.
    pub interface: Attachment,
    /// The workload's MAC; learned by ARP and ND when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The workload's addresses, in the network's subnets.
    pub addresses: Vec<IpAddr>,
    /// Security groups, as NAME or NAMESPACE/NAME; none: not filtered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub security_groups: Vec<Reference>,
    /// Sources that the workload may use beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_sources: Vec<AllowedSource>,
    /// Largest IP packet in bytes towards the workload; absent is the port's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 9000))]
    pub mtu: Option<u16>,
}

/// Where an endpoint is at its gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// Name of the gateway's port.
    pub port: PortName,
    /// 802.1Q VLAN ID; absent is untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// Inner VLAN ID of a pair (802.1ad outside); needs vlan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub inner_vlan: Option<u16>,
}

/// A further source that a workload may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedSource {
    /// Prefix.
    pub prefix: Prefix,
    /// MAC; absent is the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}
