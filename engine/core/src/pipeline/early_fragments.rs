//! Early fragments: later fragments that came before the first of their
//! packet, which alone has the ports. They wait, a bounded number of them for
//! a bounded time.

use std::collections::VecDeque;

use crate::packet::meta::PacketMeta;
use crate::session::tick::Tick;

/// Fragments that can wait in one worker.
const CAPACITY: usize = 256;
/// How long one waits, in ticks: as long as a first fragment is remembered.
const PATIENCE: u32 = 2 * Tick::PER_SECOND;

struct Early<B> {
    packet: B,
    meta: PacketMeta,
    deadline: Tick,
}

/// Fragments that wait for the first of their packet, oldest first.
pub struct EarlyFragments<B> {
    /// Never grows beyond the capacity it starts with.
    waiting: VecDeque<Early<B>>,
}

impl<B> Default for EarlyFragments<B> {
    fn default() -> Self {
        Self { waiting: VecDeque::with_capacity(CAPACITY) }
    }
}

impl<B> std::fmt::Debug for EarlyFragments<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarlyFragments").field("waiting", &self.waiting.len()).finish()
    }
}

impl<B> EarlyFragments<B> {
    /// Fragments that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a fragment. Without room it is dropped, and this returns false.
    #[must_use]
    pub fn hold(&mut self, packet: B, meta: PacketMeta, now: Tick) -> bool {
        let has_room = self.waiting.len() < CAPACITY;
        if has_room {
            self.waiting.push_back(Early { packet, meta, deadline: now.after(PATIENCE) });
        }
        has_room
    }

    /// Takes out the oldest fragment of the packet that `first` is from.
    pub fn release(&mut self, first: &PacketMeta) -> Option<(B, PacketMeta)> {
        let at = self.waiting.iter().position(|early| belongs_to(&early.meta, first))?;
        self.waiting.remove(at).map(|early| (early.packet, early.meta))
    }

    /// Takes out the oldest fragment if it has waited long enough.
    pub fn expire(&mut self, now: Tick) -> Option<(B, PacketMeta)> {
        self.waiting.front().filter(|early| now.has_reached(early.deadline))?;
        self.waiting.pop_front().map(|early| (early.packet, early.meta))
    }
}

/// RFC 791 section 3.2 and RFC 8200 section 4.5: fragments of one packet have
/// addresses and identification in common.
fn belongs_to(later: &PacketMeta, first: &PacketMeta) -> bool {
    later.scratch == first.scratch
        && later.key.source == first.key.source
        && later.key.destination == first.key.destination
        && later.key.vrf == first.key.vrf
        && later.key.family == first.key.family
        && later.key.protocol == first.key.protocol
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(identification: u32) -> PacketMeta {
        let mut meta = PacketMeta::UNKNOWN;
        meta.scratch = identification;
        meta
    }

    #[test]
    fn fragments_leave_with_their_first_in_order_or_when_their_time_is_over() {
        let mut early = EarlyFragments::default();
        let start = Tick(u32::MAX - 3);
        for (packet, identification) in [(1, 7), (2, 8), (3, 7)] {
            assert!(early.hold(packet, meta(identification), start));
        }
        let released: Vec<i32> = std::iter::from_fn(|| early.release(&meta(7))).map(|(p, _)| p).collect();
        assert_eq!(released, [1, 3]);
        assert!(early.expire(start.after(PATIENCE - 1)).is_none());
        assert_eq!(early.expire(start.after(PATIENCE)).map(|(p, _)| p), Some(2));
        assert!(early.is_empty());
    }

    #[test]
    fn the_number_that_waits_is_bounded() {
        let mut early = EarlyFragments::default();
        let held = (0..1000).filter(|n| early.hold(*n, meta(1), Tick(0))).count();
        assert_eq!((held, early.len()), (CAPACITY, CAPACITY));
        assert!(early.waiting.capacity() < 2 * CAPACITY, "it never grew");
    }
}
