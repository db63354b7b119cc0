//! The client of one gateway: its owner says what should be there, and the
//! client sees to it over the control API.
//!
//! ```text
//!            change, complete, lead            batches
//!   owner ---------------------------> mirror ----------> session ---> gateway
//!         <---------------------------        <----------         <---
//!            events                          answers     exports
//! ```
//!
//! - [`key`]: how objects are named, changes, refusals
//! - [`mirror`]: what should be there, and how far the gateway is with it
//! - `session`: one session: hello, batches, heartbeats, end of synchronisation
//! - `exports`: what the gateway's VRFs originate, as differences
//! - `client`: the task that keeps a session, and its handle
//! - [`events`]: what it tells its owner
//! - `address`, `backoff`: the way there, and pauses before it is tried again

mod address;
mod backoff;
mod client;
pub mod events;
mod exports;
pub mod key;
pub mod mirror;
mod session;

pub use address::Address;
pub use client::{Gateway, Settings};
