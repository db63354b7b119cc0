//! A security group: what may enter and leave the endpoints that are in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::addresses::Prefix;
use crate::intent::names::{Name, Reference};
use crate::intent::traffic::{Family, PortRange, Protocol};

/// What may enter and leave the endpoints that are in it; what no rule of any
/// of an endpoint's groups allows is denied. Replies to what was allowed pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityGroup {
    /// Name of the cluster.
    pub cluster: Name,
    /// A user ID, 1 to 7999999: the same group in every cluster that uses it.
    /// Absent: the cluster allocates one, which means nothing to other clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub id: Option<u32>,
    /// What may enter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// What may leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
}

/// Allows one kind of traffic; an empty rule allows all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// IP version; absent is both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// IP protocol; absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Destination ports; need tcp, udp or sctp. Absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
    /// ICMP type; needs icmp or icmpv6. Absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code; needs icmpType. Absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// Who is at the other end; absent is anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
}

/// Who is at the other end: one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remote {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
    /// Whatever is in this group of the cluster, as NAME or NAMESPACE/NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Reference>,
    /// Whatever is in the user group with this ID, in any cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub id: Option<u32>,
}
