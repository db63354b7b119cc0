//! A BGP speaker (RFC 4271) for controllers, with neither clock nor socket
//! inside: time and bytes come in as arguments, messages and events go out.
//!
//! - [`speaker`]: peers and RIBs together; begin here
//! - [`rib`]: paths of all peers, the best ones, the hooks for policy
//! - [`session`]: one peer: connections, timers, what both sides agree on
//! - [`wire`]: messages, attributes, routes, with the error handling of RFC 7606
//! - `net`, with the feature of that name: sockets and a clock, on tokio
//!
//! ```text
//!   bytes --> wire --> session --> rib (in, best, out) --> session --> bytes
//!                                    |
//!                                    +--> events: paths and best paths
//! ```

#[cfg(feature = "net")]
pub mod net;
pub mod rib;
pub mod session;
pub mod speaker;
pub mod wire;
