//! Packets and their metadata, side by side.

use std::ops::Range;

use arrayvec::ArrayVec;

use crate::io::{BURST, PacketBurst};
use crate::packet::meta::PacketMeta;
use crate::types::PortId;

/// Indices of the packets of a burst that a stage works on, in order.
pub type Lane = ArrayVec<u8, BURST>;

/// Up to [`BURST`] packets. A slot is empty once its packet has left.
#[derive(Debug)]
pub struct Burst<B> {
    slots: ArrayVec<Option<B>, BURST>,
    meta: [PacketMeta; BURST],
    /// The port that it was received on.
    pub port: PortId,
}

impl<B> Default for Burst<B> {
    fn default() -> Self {
        Self { slots: ArrayVec::new(), meta: [PacketMeta::UNKNOWN; BURST], port: PortId(0) }
    }
}

impl<B> Burst<B> {
    /// Empties it; packets that are still inside go back to their pool.
    pub fn clear(&mut self) {
        self.slots.clear();
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

    /// Takes a packet out.
    #[inline]
    pub fn take(&mut self, index: u8) -> Option<B> {
        self.slots.get_mut(usize::from(index))?.take()
    }
}
