//! The RIB: declared objects, import by route target, and their compilation
//! into forwarding tables.
//!
//! Pure logic: no threads, sockets or clocks. A caller owns [`Rib`] and the
//! working copy of the engine's `Tables`, and publishes the latter.
//!
//! - [`rib`]: the RIB itself: apply, delete
//! - [`spec`]: messages to types that cannot be wrong; [`key`]: names of objects
//! - [`refusal`], [`limits`]: what is not taken, and why
//! - [`controllers`], `holders`: who declares what, and which of several
//!   declarations of one object is in force
//! - `store`, `nodes`, `waits`, `ids`, `interner`, `labels`: what is declared, and who
//!   refers to whom
//! - `attributes`, `paths`, `route_keys`: routes, in numbers
//! - `journal`, [`persist`]: what changed, for a copy that survives a restart
//! - `vpn`: import by route target, and the best path
//! - `declare`: one file a kind: conflicts, limits, storing
//! - `compile`: what is declared, written into the tables
//! - [`listing`], [`status`], [`fib_view`]: reading back
//! - [`exports`]: what VRFs originate; [`difference`]: what a change would do
//!
//! An operation is checked against everything declared before it changes
//! anything. Conflicts are between declared objects, whether or not they are
//! in force, so that the order of declarations does not matter.

mod attributes;
mod compile;
pub mod controllers;
mod declare;
pub mod difference;
pub mod exports;
pub mod fib_view;
mod holders;
mod ids;
mod interner;
mod journal;
pub mod key;
mod labels;
pub mod limits;
pub mod listing;
mod nodes;
mod paths;
pub mod persist;
pub mod ports;
pub mod ranks;
pub mod refusal;
pub mod rib;
mod route_keys;
pub mod spec;
pub mod status;
mod store;
mod vpn;
mod waits;

#[cfg(test)]
mod tests;

pub use controllers::ControllerId;
pub use key::Key;
pub use limits::{Limits, RibOptions};
pub use ports::{DeclaredPort, DeviceState, PortInfo};
pub use ranks::Ranks;
pub use refusal::Refusal;
pub use rib::{Applied, Rib};
pub use tieline_names::{Name, RouteDistinguisher, RouteTarget};
