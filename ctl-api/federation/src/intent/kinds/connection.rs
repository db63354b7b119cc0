//! A connection: networks that share a user route target.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::names::Reference;
use crate::numbers::RouteTarget;

/// Connects networks by a user route target, also with those of other clusters
/// that have the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connection {
    /// The layer that is shared.
    pub layer: Layer,
    /// The user route target; another connection has another.
    pub user_route_target: RouteTarget,
    /// The networks, as NAME or NAMESPACE/NAME.
    pub networks: Vec<Reference>,
}

/// The layer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Layer {
    /// One broadcast domain: the same subnets, disjoint pools; MACs and
    /// addresses are advertised (EVPN types 2 and 3).
    L2,
    /// Routes alone: different subnets.
    L3,
}
