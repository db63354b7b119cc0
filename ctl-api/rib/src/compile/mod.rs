//! What is declared, written into the engine's tables.
//!
//! - [`interfaces`]: interfaces in force, and what they bring into their VRF
//! - [`next_hops`], [`tunnels`]: named next hops to engine next hops
//! - [`routes`]: the entry of each prefix
//! - [`policy`]: security groups to policies
//! - [`links`]: which VRF leads to which, and what follows from it
//! - [`settle`]: the end of each operation: everything that a change touched
//!   is brought up to date, and what nothing uses any more is taken out

pub mod interfaces;
pub mod links;
pub mod next_hops;
pub mod policy;
pub mod routes;
pub mod settle;
pub mod tunnels;
