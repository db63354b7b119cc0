//! One connection of a session.

use std::time::Duration;

use super::ConnectionId;
use crate::wire::message::Framer;
use crate::wire::open::Open;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// This side asked for it.
    pub(super) outgoing: bool,
    pub(super) framer: Framer,
    /// The peer's OPEN, once it was accepted.
    pub(super) peer: Option<Open>,
    /// When the connection is given up for silence.
    pub(super) hold_at: Option<Duration>,
    /// When the next KEEPALIVE goes out.
    pub(super) keepalive_at: Option<Duration>,
    /// Agreed hold time; zero is without, or not agreed yet.
    pub(super) hold_time: Duration,
    /// Bytes given to send that the network has not taken.
    pub(super) waiting: usize,
    /// When the connection is given up because it takes nothing.
    pub(super) send_hold_at: Option<Duration>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, outgoing: bool, hold_at: Duration) -> Self {
        Self {
            id,
            outgoing,
            framer: Framer::default(),
            peer: None,
            hold_at: Some(hold_at),
            keepalive_at: None,
            hold_time: Duration::ZERO,
            waiting: 0,
            send_hold_at: None,
        }
    }

    /// A message came: the peer is alive.
    pub(super) fn heard(&mut self, now: Duration) {
        if self.peer.is_some() {
            self.hold_at = (!self.hold_time.is_zero()).then(|| now + self.hold_time);
        }
    }

    /// The earliest of its timers.
    pub(super) fn deadline(&self) -> Option<Duration> {
        [self.hold_at, self.keepalive_at, self.send_hold_at].into_iter().flatten().min()
    }
}
