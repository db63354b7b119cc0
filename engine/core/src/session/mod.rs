//! What one worker remembers of flows.
//!
//! Everything here belongs to one worker thread, is allocated when it is
//! made, and never grows. Time comes in as an argument.
//!
//! - [`table`]: the sessions: find, insert, touch, expire, dump
//! - [`shares`]: which VRF has how much of the table, and who gives way
//! - [`entry`]: what is kept of one session
//! - [`state`], [`tcp`]: what the ends have said so far
//! - [`timeouts`], [`tick`]: how long silence may last, and the unit of time
//! - [`fragments`]: the ports of fragmented packets
//! - `index`: from a key's hash to its session, a cache line a bucket
//! - `tags`: comparing the tags of a bucket
//! - `wheel`: the timer wheel
//! - [`hash`]: the keyed hash of flow keys

pub mod entry;
pub mod fragments;
pub mod hash;
mod index;
pub mod shares;
pub mod state;
pub mod table;
mod tags;
pub mod tcp;
pub mod tick;
pub mod timeouts;
mod wheel;

pub use entry::{Decision, Direction, Flow, NewSession, Session, SessionRef};
pub use fragments::{FragmentLimits, FragmentTable};
pub use hash::KeyHash;
pub use shares::{Allowance, Eviction};
pub use state::State;
pub use table::restore::NotRestored;
pub use table::{SessionLimits, SessionTable, Settled, Verdict};
pub use tick::Tick;
pub use timeouts::Timeouts;
