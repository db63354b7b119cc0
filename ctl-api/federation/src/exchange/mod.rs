//! What passes between this cluster and its BGP peers: who is believed about
//! what, and who is told what.
//!
//! ```text
//!   intent, numbers --> Facts --+--> believe: a path in    --+
//!              Peer --> Party --+--> announce: a path out  --+--> Rules, the speaker's hooks
//!                       contracts ---------------------------+
//! ```
//!
//! - [`facts`]: what the intent says of clusters, networks and numbers
//! - [`party`]: who a peer is to the cluster
//! - [`believe`]: whose word a path is, and which of its claims are refused
//! - [`announce`]: which routes a peer is told, and in which form
//! - [`contracts`]: what each peer may announce (X7)
//! - [`rules`]: all of it as the hooks of the speaker
//!
//! BGP proves nothing of what it carries. What only the cluster itself can say,
//! its own route targets and group IDs, counts when one of its declared
//! controllers says it over an internal session, and from nobody else. All others
//! bring what the intent expects of them and are told what it lets them know.
//!
//! Everything here is a function of its arguments: no clock, no socket.

pub mod announce;
pub mod believe;
pub mod contracts;
pub mod facts;
pub mod party;
pub mod rules;
#[cfg(test)]
mod tests;

pub use believe::{Claim, Foreign, Origin};
pub use facts::Facts;
pub use party::{Party, Relation};
pub use rules::Rules;
