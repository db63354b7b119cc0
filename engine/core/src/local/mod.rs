//! What the gateway answers itself, next to the pipeline.
//!
//! - [`arp`]: ARP messages for IPv4 neighbours
//! - [`nd`]: Neighbour Discovery messages for IPv6 neighbours

pub mod arp;
pub mod nd;
