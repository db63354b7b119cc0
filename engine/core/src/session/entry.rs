//! What is kept of one session.
//!
//! Each direction has a cache line of its own, a [`Flow`], with all that a
//! packet in this direction needs and counts while the session is settled. What both share is a `Record`
//! in a table beside it, two to a cache line.

use crate::packet::flow_key::FlowKey;
use crate::session::hash::KeyHash;
use crate::session::state::State;
use crate::session::tick::Tick;
use crate::types::{InterfaceId, NextHopId};

/// Which way a packet of a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// As the session's first packet.
    Forward = 0,
    /// As the replies.
    Reverse = 1,
}

impl Direction {
    /// The other one.
    #[inline]
    #[must_use]
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        }
    }
}

/// A session of one table, and a direction in it.
///
/// It is good until a session is removed from the table. Whoever keeps one
/// over a removal asks [`SessionTable::holds`](super::SessionTable::holds)
/// before using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionRef(u32);

impl SessionRef {
    #[inline]
    pub(super) fn new(index: u32, direction: Direction) -> Self {
        Self(index << 1 | direction as u32)
    }

    /// The session's number in its table.
    #[inline]
    pub fn index(self) -> u32 {
        self.0 >> 1
    }

    /// The direction.
    #[inline]
    pub fn direction(self) -> Direction {
        if self.0 & 1 == 0 { Direction::Forward } else { Direction::Reverse }
    }

    /// The number of its flow, two to a session, the forward one first.
    #[inline]
    pub(super) fn flow(self) -> usize {
        self.0 as usize
    }

    /// As a number that is never zero.
    #[inline]
    pub(super) fn to_bits(self) -> u32 {
        self.0 + 1
    }

    /// From [`to_bits`](Self::to_bits); zero is none.
    #[inline]
    pub(super) fn from_bits(bits: u32) -> Option<Self> {
        bits.checked_sub(1).map(Self)
    }
}

/// What was decided for one direction of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Where its packets go.
    pub next_hop: NextHopId,
    /// The generation of its VRF at the time.
    pub generation: u32,
    /// The interface that its packets come in on.
    pub ingress: InterfaceId,
}

/// What a session begins with.
#[derive(Debug, Clone, Copy)]
pub struct NewSession {
    /// For packets like the first one.
    pub forward: Decision,
    /// For replies. `None`: decided when the first of them comes.
    pub reverse: Option<Decision>,
    /// Flags of the first packet's TCP header, if it has one.
    pub tcp_flags: Option<u8>,
}

/// One direction of a session: one cache line, all that a packet of a settled
/// session reads and writes.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Flow {
    pub(super) key: FlowKey,
    next_hop: NextHopId,
    generation: u32,
    last_seen: Tick,
    packets_low: u32,
    bytes_low: u32,
    /// The carries of the two above: [`PACKETS_HIGH`] bits of packets, and
    /// above them bytes.
    high: u32,
}

/// Stands in a flow for which nothing has been decided. The next-hop table
/// never grows to this entry.
const UNDECIDED: NextHopId = NextHopId(u32::MAX >> 1);

/// In [`Flow::next_hop`]: an ordinary packet in this direction changes
/// nothing about the session's state.
const SETTLED: u32 = 1 << 31;

/// Bits of `high` that belong to packets: 2^44 packets and 2^52 bytes are
/// counted before the numbers start again.
const PACKETS_HIGH: u32 = 12;

impl Flow {
    /// Stands in a place that has never been used.
    pub(super) const UNUSED: Flow = Flow {
        key: FlowKey::ZERO,
        next_hop: UNDECIDED,
        generation: 0,
        last_seen: Tick(0),
        packets_low: 0,
        bytes_low: 0,
        high: 0,
    };

    #[inline]
    pub(super) fn new(key: FlowKey, decision: Option<&Decision>, now: Tick) -> Self {
        let (next_hop, generation) = decision.map_or((UNDECIDED, 0), |d| (d.next_hop, d.generation));
        Self { key, next_hop, generation, last_seen: now, packets_low: 0, bytes_low: 0, high: 0 }
    }

    /// A flow that has counted before, and for which nothing is decided.
    pub(super) fn restored(key: FlowKey, packets: u64, bytes: u64, last_seen: Tick) -> Self {
        let packets_high = (packets >> 32) as u32 & ((1 << PACKETS_HIGH) - 1);
        let high = ((bytes >> 32) as u32) << PACKETS_HIGH | packets_high;
        let (packets_low, bytes_low) = (packets as u32, bytes as u32);
        Self { packets_low, bytes_low, high, ..Self::new(key, None, last_seen) }
    }

    /// Addresses and ports of the packets in this direction.
    #[inline]
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// Where the packets go, if that was decided under this generation of the
    /// VRF. `None`: decide (again).
    #[inline]
    pub fn next_hop(&self, generation: u32) -> Option<NextHopId> {
        let next_hop = NextHopId(self.next_hop.0 & !SETTLED);
        (self.generation == generation && next_hop != UNDECIDED).then_some(next_hop)
    }

    /// Packets seen.
    pub fn packets(&self) -> u64 {
        let high = self.high & ((1 << PACKETS_HIGH) - 1);
        u64::from(high) << 32 | u64::from(self.packets_low)
    }

    /// Bytes of the IP packets seen.
    pub fn bytes(&self) -> u64 {
        u64::from(self.high >> PACKETS_HIGH) << 32 | u64::from(self.bytes_low)
    }

    /// When the latest packet passed, or the session began.
    pub fn last_seen(&self) -> Tick {
        self.last_seen
    }

    /// Whether an ordinary packet, one that is not of TCP or has none of SYN,
    /// FIN and RST, leaves the session's state as it is.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.next_hop.0 & SETTLED != 0
    }

    #[inline]
    pub(super) fn set_settled(&mut self, settled: bool) {
        self.next_hop.0 = self.next_hop.0 & !SETTLED | if settled { SETTLED } else { 0 };
    }

    #[inline]
    pub(super) fn decide(&mut self, decision: &Decision) {
        self.next_hop.0 = self.next_hop.0 & SETTLED | decision.next_hop.0;
        self.generation = decision.generation;
    }

    #[inline]
    pub(super) fn count(&mut self, packet_length: u32, now: Tick) {
        self.last_seen = now;
        let (packets, packets_carry) = self.packets_low.overflowing_add(1);
        let (bytes, bytes_carry) = self.bytes_low.overflowing_add(packet_length);
        (self.packets_low, self.bytes_low) = (packets, bytes);
        if packets_carry | bytes_carry {
            self.carry(packets_carry, bytes_carry);
        }
    }

    #[cold]
    fn carry(&mut self, packets: bool, bytes: bool) {
        let mask = (1 << PACKETS_HIGH) - 1;
        let of_packets = (self.high + u32::from(packets)) & mask;
        let of_bytes = (self.high >> PACKETS_HIGH) + u32::from(bytes);
        self.high = of_bytes << PACKETS_HIGH | of_packets;
    }

    pub(super) fn reset_counters(&mut self) {
        (self.packets_low, self.bytes_low, self.high) = (0, 0, 0);
    }
}

/// What both directions of a session share, or a free place.
#[derive(Debug, Clone)]
#[repr(align(32))]
pub(super) struct Record {
    /// By direction: the hash of its key, so that the session can leave the
    /// index without asking for it again.
    pub hashes: [KeyHash; 2],
    /// By direction; [`InterfaceId::NONE`] until the direction is decided.
    pub ingress: [InterfaceId; 2],
    pub created: Tick,
    /// `None`: the place is free.
    pub state: Option<State>,
}

impl Record {
    /// A free place that has never been used.
    pub(super) const FREE: Record =
        Record { hashes: [KeyHash(0); 2], ingress: [InterfaceId::NONE; 2], created: Tick(0), state: None };

    pub(super) fn new(hashes: [KeyHash; 2], state: State, init: &NewSession, now: Tick) -> Self {
        let reverse = init.reverse.map_or(InterfaceId::NONE, |reverse| reverse.ingress);
        Self { hashes, ingress: [init.forward.ingress, reverse], created: now, state: Some(state) }
    }
}

/// A look at one live session.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    pub(super) index: u32,
    pub(super) flows: &'a [Flow; 2],
    pub(super) record: &'a Record,
    pub(super) state: State,
    /// Idle timeout of the state, in ticks.
    pub(super) timeout: u32,
}

impl<'a> Session<'a> {
    /// Its number in the table.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// One direction of it.
    pub fn flow(&self, direction: Direction) -> &'a Flow {
        &self.flows[direction as usize]
    }

    /// Its protocol state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The interface that packets of one direction come in on, once known.
    pub fn ingress(&self, direction: Direction) -> Option<InterfaceId> {
        let ingress = self.record.ingress[direction as usize];
        (ingress != InterfaceId::NONE).then_some(ingress)
    }

    /// When it began.
    pub fn created(&self) -> Tick {
        self.record.created
    }

    /// When its latest packet passed.
    pub fn last_seen(&self) -> Tick {
        let [forward, reverse] = self.flows.each_ref().map(Flow::last_seen);
        if forward.has_reached(reverse) { forward } else { reverse }
    }

    /// Ticks until it ends without traffic.
    pub fn expires_in(&self, now: Tick) -> u32 {
        self.last_seen().after(self.timeout).since(now)
    }
}

const _: () = assert!(size_of::<Flow>() == 64);
const _: () = assert!(size_of::<Record>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_keeps_its_parts() {
        for index in [0, 1, 77, super::super::table::MAX_CAPACITY as u32 - 1] {
            for direction in [Direction::Forward, Direction::Reverse] {
                let reference = SessionRef::new(index, direction);
                assert_eq!((reference.index(), reference.direction()), (index, direction));
                assert_eq!(SessionRef::from_bits(reference.to_bits()), Some(reference));
            }
        }
        assert_eq!(SessionRef::from_bits(0), None);
    }

    #[test]
    fn a_decision_counts_only_under_its_generation() {
        let decision = Decision { next_hop: NextHopId(7), generation: 3, ingress: InterfaceId(1) };
        let mut flow = Flow::new(FlowKey::ZERO, None, Tick(0));
        assert_eq!(flow.next_hop(0), None, "nothing was decided");
        for settled in [false, true] {
            flow.set_settled(settled);
            assert_eq!(flow.next_hop(0), None, "nothing was decided");
        }
        flow.decide(&decision);
        for settled in [false, true] {
            flow.set_settled(settled);
            assert_eq!(flow.next_hop(3), Some(NextHopId(7)));
            assert_eq!(flow.next_hop(4), None);
            assert_eq!(flow.is_settled(), settled);
        }
    }

    #[test]
    fn counters_carry_beyond_32_bits() {
        let mut flow = Flow::new(FlowKey::ZERO, None, Tick(0));
        (flow.packets_low, flow.bytes_low) = (u32::MAX, u32::MAX - 99);
        flow.count(100, Tick(5));
        assert_eq!((flow.packets(), flow.bytes(), flow.last_seen()), (1 << 32, 1 << 32, Tick(5)));
        flow.bytes_low = u32::MAX;
        flow.count(1500, Tick(6));
        assert_eq!((flow.packets(), flow.bytes()), ((1 << 32) + 1, (2 << 32) + 1499));
        flow.high |= (1 << PACKETS_HIGH) - 1;
        flow.packets_low = u32::MAX;
        flow.count(1, Tick(6));
        assert_eq!((flow.packets(), flow.bytes()), (0, (2 << 32) + 1500), "no carry into bytes");
    }
}
