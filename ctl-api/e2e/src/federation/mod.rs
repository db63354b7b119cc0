//! Clusters that are joined over BGP, and who else speaks BGP with them.
//!
//! - [`controller`]: a running `tieline-federation`
//! - [`clusters`]: two clusters with a tenant each, wired to each other
//! - [`intent`]: what their operators apply
//! - [`speakers`]: FRR, GoBGP, BIRD and ExaBGP
//! - [`raw_peer`]: a peer that sends any bytes
//! - [`etcd`]: the store that controllers of a cluster share

pub mod clusters;
pub mod controller;
pub mod etcd;
pub mod intent;
pub mod raw_peer;
pub mod speakers;

pub use clusters::{Clusters, Hub};
pub use controller::{Controller, ControllerConfig, Store};
