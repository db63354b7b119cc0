//! A virtual network router: networks selected by label, joined as a mesh or
//! as hubs and spokes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::names::{Name, Reference, Selector};

/// Joins networks of one cluster that labels select: those of its own
/// namespace, and of the others those that are not isolated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualNetworkRouter {
    /// Name of the cluster.
    pub cluster: Name,
    /// Each network reaches each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
    /// Spokes reach hubs and hubs reach spokes; spokes do not reach each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_and_spoke: Option<HubAndSpoke>,
}

/// A full mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mesh {
    /// Labels of the networks.
    pub networks: Selector,
    /// Mesh routers of the cluster whose networks this one's learn. Traffic
    /// passes once both routers import each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub import: Vec<Reference>,
}

/// Hubs and spokes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubAndSpoke {
    /// Labels of the hubs.
    pub hubs: Selector,
    /// Labels of the spokes. A network that both select is refused.
    pub spokes: Selector,
}
