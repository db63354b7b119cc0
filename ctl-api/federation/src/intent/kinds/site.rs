//! A site: gateways far from the controllers, with endpoints of their own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::names::Name;

/// The listener port of the first site; each further site has the next.
pub const FIRST_LISTENER_PORT: u16 = 19446;
/// The route target number of the first site.
pub const FIRST_ROUTE_TARGET_NUMBER: u32 = 7699;
/// How far apart the route target numbers of sites are.
pub const ROUTE_TARGET_STEP: u32 = 100;

/// A place where only gateways run. The controllers listen for it on a port of
/// its own; who declares in its name may declare nothing but endpoints at its
/// gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Site {
    /// Name of the cluster.
    pub cluster: Name,
    /// Names of the cluster's gateways that are there.
    pub gateways: Vec<Name>,
    /// TCP port on which the controllers listen for the site: 19446, 19447, ...
    /// Absent: allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 19446))]
    pub listener_port: Option<u16>,
    /// Number of the route target that everything from the site carries, beside
    /// those of its network: 7699, 7799, ... Absent: allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7699))]
    pub route_target_number: Option<u32>,
}
