//! Early fragments: later fragments that came before the first of their
//! packet, which alone has the ports. They wait, a bounded number of them for
//! a bounded time. When as many wait as can, the VRF that has most of them makes
//! room for the others.

use std::collections::VecDeque;

use crate::packet::meta::PacketMeta;
use crate::session::tick::Tick;

/// Fragments that can wait in one worker.
const CAPACITY: usize = 256;
/// How long one waits, in ticks: as long as a first fragment is remembered.
const PATIENCE: u32 = 2 * Tick::PER_SECOND;
/// Of the oldest fragments, how many are looked at when one has to give way.
const LOOKS: usize = 32;

struct Early<B> {
    packet: B,
    meta: PacketMeta,
    deadline: Tick,
}

/// Fragments that wait for the first of their packet, oldest first.
pub struct EarlyFragments<B> {
    /// Never grows beyond the capacity it starts with.
    waiting: VecDeque<Early<B>>,
    /// How many of them are of each VRF.
    of_vrf: Box<[u16]>,
}

impl<B> Default for EarlyFragments<B> {
    fn default() -> Self {
        Self { waiting: VecDeque::with_capacity(CAPACITY), of_vrf: vec![0; 1 << u16::BITS].into() }
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

    /// Keeps a fragment. Returns what there is no room for: another that had
    /// to give way, or the fragment itself.
    #[must_use = "it is to be counted as dropped"]
    pub fn hold(&mut self, packet: B, meta: PacketMeta, now: Tick) -> Option<(B, PacketMeta)> {
        let mut gives_way = None;
        if self.waiting.len() == CAPACITY {
            let Some(at) = self.who_gives_way(&meta) else { return Some((packet, meta)) };
            gives_way = self.take(at);
        }
        self.of_vrf[meta.key.vrf.index()] += 1;
        self.waiting.push_back(Early { packet, meta, deadline: now.after(PATIENCE) });
        gives_way
    }

    /// Among the oldest, the first of the VRF that has most, if that is more
    /// than the VRF of `meta` has.
    fn who_gives_way(&self, meta: &PacketMeta) -> Option<usize> {
        let count = |meta: &PacketMeta| self.of_vrf[meta.key.vrf.index()];
        let oldest = self.waiting.iter().take(LOOKS).map(|early| count(&early.meta)).enumerate();
        let (at, most) = oldest.rev().max_by_key(|(_, count)| *count)?;
        (most > count(meta)).then_some(at)
    }

    fn take(&mut self, at: usize) -> Option<(B, PacketMeta)> {
        let early = self.waiting.remove(at)?;
        self.of_vrf[early.meta.key.vrf.index()] -= 1;
        Some((early.packet, early.meta))
    }

    /// Takes out the oldest fragment of the packet that `first` is from.
    pub fn release(&mut self, first: &PacketMeta) -> Option<(B, PacketMeta)> {
        let at = self.waiting.iter().position(|early| belongs_to(&early.meta, first))?;
        self.take(at)
    }

    /// Takes out the oldest fragment if it has waited long enough.
    pub fn expire(&mut self, now: Tick) -> Option<(B, PacketMeta)> {
        self.waiting.front().filter(|early| now.has_reached(early.deadline))?;
        self.take(0)
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
    use crate::types::VrfId;

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
            assert!(early.hold(packet, meta(identification), start).is_none());
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
        let held = (0..1000).filter(|n| early.hold(*n, meta(1), Tick(0)).is_none()).count();
        assert_eq!((held, early.len()), (CAPACITY, CAPACITY));
        assert!(early.waiting.capacity() < 2 * CAPACITY, "it never grew");
    }

    #[test]
    fn s5_vrfs_that_flood_make_room_for_others_and_for_nobody_else() {
        let of = |vrf, identification| {
            let mut meta = meta(identification);
            meta.key.vrf = VrfId(vrf);
            meta
        };
        let mut early = EarlyFragments::default();
        let flood = |early: &mut EarlyFragments<u32>, n| {
            for vrf in 0..10 {
                let _ = early.hold(n, of(vrf, n), Tick(0));
            }
        };
        (0..100).for_each(|n| flood(&mut early, n));
        for n in 0..20 {
            let gone = early.hold(n, of(10, n), Tick(0)).expect("it was full");
            assert!(gone.1.key.vrf.0 < 10, "a flooder's");
            flood(&mut early, 1000 + n);
        }
        let kept = (0..20).filter(|n| early.release(&of(10, *n)).is_some()).count();
        assert_eq!(kept, 20);
        let counted: usize = early.of_vrf.iter().map(|count| usize::from(*count)).sum();
        assert_eq!(counted, early.len());
    }
}
