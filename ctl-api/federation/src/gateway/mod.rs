//! The client of one gateway: its owner says what should be there, and the
//! client sees to it over the control API.
//!
//! - [`key`]: how objects are named, changes, refusals
//! - [`mirror`]: what should be there, and how far the gateway is with it

pub mod key;
pub mod mirror;
