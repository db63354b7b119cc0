//! Packets and their metadata, side by side.

use std::ops::Range;

use arrayvec::ArrayVec;

use crate::io::{BURST, PacketBurst};
use crate::packet::meta::PacketMeta;
use crate::session::KeyHash;
use crate::types::{PortId, SgSetId, VrfId};

/// Indices of the packets of a burst that a stage works on, in order.
pub type Lane = ArrayVec<u8, BURST>;

/// What stages have found out about a packet for those behind them, beside its
/// metadata. It stays in this worker and in this burst.
#[derive(Debug, Clone, Copy)]
pub struct Note {
    /// The hash of its key among the sessions. From session_lookup on, for
    /// packets that it has looked for.
    pub hash: Option<KeyHash>,
    /// The security groups behind its route. From vrf_lookup on, for packets
    /// that it has routed.
    pub sg_set: SgSetId,
    /// The VRF in which the route was found. As `sg_set`.
    pub route_vrf: VrfId,
}

impl Note {
    const EMPTY: Note = Note { hash: None, sg_set: SgSetId::EMPTY, route_vrf: VrfId::NONE };
}

/// Up to [`BURST`] packets. A slot is empty once its packet has left.
#[derive(Debug)]
pub struct Burst<B> {
    slots: ArrayVec<Option<B>, BURST>,
    meta: [PacketMeta; BURST],
    notes: [Note; BURST],
    /// A bit for each plain packet.
    plain: u64,
    /// A bit for each of them that has no session.
    absent: u64,
    /// The port that it was received on.
    pub port: PortId,
}

const _: () = assert!(BURST <= u64::BITS as usize);

impl<B> Default for Burst<B> {
    fn default() -> Self {
        Self {
            slots: ArrayVec::new(),
            meta: [PacketMeta::UNKNOWN; BURST],
            notes: [Note::EMPTY; BURST],
            plain: 0,
            absent: 0,
            port: PortId(0),
        }
    }
}

impl<B> Burst<B> {
    /// Empties it; packets that are still inside go back to their pool.
    pub fn clear(&mut self) {
        self.slots.clear();
        (self.plain, self.absent) = (0, 0);
    }

    /// Takes packets of which nothing is known yet: their metadata is whatever
    /// was there, until parse fills it in.
    ///
    /// What does not fit goes back to its pool; a burst from a queue fits into
    /// an empty one.
    #[inline]
    pub fn fill(&mut self, packets: &mut PacketBurst<B>) {
        let room = self.slots.remaining_capacity();
        self.slots.extend(packets.drain(..).take(room).map(Some));
    }

    /// Adds a packet. Gives it back when the burst is full.
    ///
    /// # Errors
    /// The packet, when the burst is full.
    #[inline]
    pub fn push(&mut self, packet: B, meta: PacketMeta) -> Result<(), B> {
        let at = self.slots.len();
        if at == BURST {
            return Err(packet);
        }
        self.slots.push(Some(packet));
        self.meta[at] = meta;
        self.notes[at] = Note::EMPTY;
        Ok(())
    }

    /// Slots in use, left packets included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Packets that have not left.
    pub fn packets(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether there are no slots in use.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether there is no room for another packet.
    pub fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    /// All packets.
    pub fn lane(&self) -> Lane {
        (0..self.slots.len() as u8).collect()
    }

    /// A packet and its metadata; `None` if it has left.
    #[inline]
    pub fn packet(&mut self, index: u8) -> Option<(&mut B, &mut PacketMeta)> {
        let at = usize::from(index);
        let packet = self.slots.get_mut(at)?.as_mut()?;
        Some((packet, &mut self.meta[at]))
    }

    /// The metadata of a packet, left or not.
    #[inline]
    pub fn meta(&self, index: u8) -> &PacketMeta {
        &self.meta[usize::from(index) % BURST]
    }

    /// The metadata of a packet, to change.
    #[inline]
    pub fn meta_mut(&mut self, index: u8) -> &mut PacketMeta {
        &mut self.meta[usize::from(index) % BURST]
    }

    /// Neighbouring slots, to take packets out.
    #[inline]
    pub fn slots_mut(&mut self, range: Range<u8>) -> &mut [Option<B>] {
        self.slots.get_mut(usize::from(range.start)..usize::from(range.end)).unwrap_or_default()
    }

    /// Notes that a packet is plain: express has read it, so that it needs no
    /// classify, and has left its traffic class in `meta.scratch`. If this
    /// worker owns its session, `hash` is that of its key; express may have
    /// looked for the session and found `absent` that there is none.
    #[inline]
    pub fn set_plain(&mut self, index: u8, hash: Option<KeyHash>, absent: bool) {
        let bit = usize::from(index) % BURST;
        self.plain |= 1 << bit;
        self.absent |= u64::from(absent) << bit;
        self.note_mut(index).hash = hash;
    }

    /// Whether a packet is known to be plain.
    #[inline]
    pub fn is_plain(&self, index: u8) -> bool {
        self.plain >> (usize::from(index) % BURST) & 1 != 0
    }

    /// Whether a packet is known to be plain and to have had no session when
    /// the burst came.
    #[inline]
    pub fn is_absent(&self, index: u8) -> bool {
        self.absent >> (usize::from(index) % BURST) & 1 != 0
    }

    /// Whether any packet is known to be plain.
    #[inline]
    pub fn has_plain(&self) -> bool {
        self.plain != 0
    }

    /// The hash of a plain packet's key, if express has made it.
    #[inline]
    pub fn plain_hash(&self, index: u8) -> Option<KeyHash> {
        if self.is_plain(index) { self.note(index).hash } else { None }
    }

    /// The packets of a lane that are not known to be plain.
    pub fn without_plain(&self, lane: &Lane) -> Lane {
        match self.plain {
            0 => lane.clone(),
            _ => lane.iter().copied().filter(|index| !self.is_plain(*index)).collect(),
        }
    }

    /// The packets of `all` that are known to be plain or in `others`, in the
    /// order of `all`.
    pub fn with_plain(&self, others: Lane, all: &Lane) -> Lane {
        if self.plain == 0 {
            return others;
        }
        let bit = |index: &u8| 1u64 << (usize::from(*index) % BURST);
        let bits = others.iter().fold(self.plain, |bits, index| bits | bit(index));
        all.iter().copied().filter(|index| bits & bit(index) != 0).collect()
    }

    /// What stages have noted about a packet.
    #[inline]
    pub fn note(&self, index: u8) -> &Note {
        &self.notes[usize::from(index) % BURST]
    }

    /// What stages have noted about a packet, to change.
    #[inline]
    pub fn note_mut(&mut self, index: u8) -> &mut Note {
        &mut self.notes[usize::from(index) % BURST]
    }

    /// Takes a packet out.
    #[inline]
    pub fn take(&mut self, index: u8) -> Option<B> {
        self.slots.get_mut(usize::from(index))?.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::flow_key::FlowKey;
    use crate::session::{SessionLimits, SessionTable};

    proptest! {
        #[test]
        fn plain_packets_leave_a_lane_and_come_back_in_order(kinds in proptest::collection::vec(0u8..4, 0..=BURST)) {
            let hash = SessionTable::new(SessionLimits { capacity: 1, ..SessionLimits::with_seed(1) }).hash(&FlowKey::ZERO);
            let mut burst = Burst::<u8>::default();
            for (index, kind) in (0..).zip(&kinds) {
                burst.push(*kind, PacketMeta::UNKNOWN).expect("it fits");
                if *kind < 2 {
                    burst.set_plain(index, Some(hash), *kind == 1);
                }
            }
            let all = burst.lane();
            let of = |wanted: &dyn Fn(u8) -> bool| -> Lane {
                (0..).zip(&kinds).filter(|(_, kind)| wanted(**kind)).map(|(index, _)| index).collect()
            };
            prop_assert_eq!(all.iter().copied().filter(|index| burst.is_absent(*index)).collect::<Lane>(), of(&|kind| kind == 1));
            let mut others = burst.without_plain(&all);
            prop_assert_eq!(&others, &of(&|kind| kind > 1));
            // Some leave on the way.
            others.retain(|index| kinds[usize::from(*index)] == 2);
            prop_assert_eq!(burst.with_plain(others, &all), of(&|kind| kind < 3));
            burst.clear();
            prop_assert!(!all.iter().any(|index| burst.is_plain(*index) || burst.is_absent(*index)));
        }
    }
}
