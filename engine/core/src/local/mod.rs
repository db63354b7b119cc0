//! What the engine says itself.
//!
//! - [`arp`], [`nd`]: the messages of ARP and neighbour discovery
//! - [`neighbours`]: who is where: the logic, without thread or clock
//! - `neighbour_thread`: the thread around it
//! - [`probe`]: questions for neighbours, as whole frames
//! - [`rate_limit`]: how often the engine answers

pub mod arp;
pub mod nd;
pub(crate) mod neighbour_thread;
pub mod neighbours;
pub mod probe;
pub mod rate_limit;
