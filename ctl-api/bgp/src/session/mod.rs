//! Sessions: the state machine of RFC 4271 section 8 for one peer, with up to
//! two connections while it is not clear which one stays.
//!
//! - [`config`]: what a session is told, what two sides agree on
//! - [`Session`]: the machine; `connection`: one connection of it
//!
//! Time is a [`Duration`] since some start that the caller chose; it never runs
//! backwards.

pub mod config;
mod connection;
mod machine;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::wire::message::Refresh;
use crate::wire::update::Update;
use crate::wire::{Family, Notification};

pub use config::{LocalConfig, Negotiated, SessionConfig};
pub use machine::Session;

/// Names a connection of a session. The caller chooses it, and never twice for
/// one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is tried: shut down, or waiting to try again.
    Idle,
    /// A connection is being made.
    Connect,
    /// Waiting for the peer to connect.
    Active,
    /// Connected; an OPEN was sent.
    OpenSent,
    /// The peer's OPEN was accepted.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// What happens to a session.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The operator wants the session.
    Start,
    /// A connection stands: one that was asked for, or one from the peer.
    Opened {
        /// Its name from here on.
        connection: ConnectionId,
        /// This side asked for it.
        outgoing: bool,
    },
    /// The connection that was asked for cannot be had.
    ConnectFailed {
        /// Why.
        reason: &'a str,
    },
    /// Bytes came.
    Bytes {
        /// Where.
        connection: ConnectionId,
        /// In the order of the stream.
        bytes: &'a [u8],
    },
    /// The network took bytes of [`Output::Transmit`].
    Sent {
        /// Where.
        connection: ConnectionId,
        /// How many.
        bytes: usize,
    },
    /// A connection ended.
    Closed {
        /// Which one.
        connection: ConnectionId,
    },
    /// Time has passed.
    Timer,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Connect to the peer; answer with [`Input::Opened`] or
    /// [`Input::ConnectFailed`].
    Connect,
    /// Give up a connection that is being made. No answer is needed; one that
    /// comes all the same is closed.
    Abandon,
    /// Send bytes; answer with [`Input::Sent`] as the network takes them.
    Transmit {
        /// Where.
        connection: ConnectionId,
        /// All of them, in order.
        bytes: Vec<u8>,
    },
    /// Close a connection after what was given to send before, if the network
    /// takes it at once. No answer is needed.
    Close {
        /// Which one.
        connection: ConnectionId,
    },
    /// The session stands.
    Established(Box<Negotiated>),
    /// The session that stood is over.
    Down(Down),
    /// A connection was tried and came to nothing.
    Failed(String),
    /// An update came.
    Update(Box<Update>),
    /// A ROUTE-REFRESH came.
    Refresh(Family, Refresh),
}

/// Why a session is over.
#[derive(Debug, Clone)]
pub struct Down {
    /// The notification, if there was one.
    pub notification: Option<Notification>,
    /// It came from the peer.
    pub from_peer: bool,
    /// Routes of the peer are to be kept for its restart time, where it asked
    /// for that.
    pub graceful: bool,
    /// In words.
    pub reason: String,
}

/// What the counters of a session say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages that came.
    pub received: u64,
    /// UPDATE messages among them.
    pub updates_received: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// How often the session was established.
    pub established: u64,
    /// Errors in updates that did not end the session.
    pub faults: u64,
}

/// How many bytes may wait for the network before no more routes are written.
pub const SEND_WINDOW: usize = 256 * 1024;

/// Time that the first OPEN may take (RFC 4271 section 8.2.2 suggests four
/// minutes).
pub(crate) const OPEN_TIME: Duration = Duration::from_secs(240);
