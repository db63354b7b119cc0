//! A network policy: lets networks of one cluster reach each other, as far as
//! its rules allow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::names::{Name, Reference};
use crate::intent::traffic::{Family, PortRange, Protocol};

/// Joins networks of one cluster and says what may pass between them. Layer 3
/// only: what stays inside a network, or a layer 2 connection, is not its
/// business.
///
/// Networks that a rule allows to talk learn each other's routes. The first
/// rule that fits decides; what none fits is denied. Replies pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicy {
    /// Name of the cluster.
    pub cluster: Name,
    /// Rules, in order.
    pub rules: Vec<PolicyRule>,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRule {
    /// The network that begins, as NAME or NAMESPACE/NAME.
    pub from: Reference,
    /// The network that is reached.
    pub to: Reference,
    /// What happens.
    #[serde(default)]
    pub action: Action,
    /// IP version; absent is both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// IP protocol; absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Destination ports; need tcp, udp or sctp. Absent is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
}

/// What happens to traffic that a rule fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passes.
    #[default]
    Allow,
    /// It is dropped.
    Deny,
}
