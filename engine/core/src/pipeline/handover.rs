//! Handover: packets from thread to thread, a burst at a time.
//!
//! ```text
//!   worker 0 --- open burst for worker 1 ---> ring of worker 1 ---> worker 1
//!      ^                                                               |
//!      +------------------------ spare bursts <------------------------+
//! ```
//!
//! A packet is written into the burst that is open for its new owner. The
//! burst goes into the owner's ring when it is full, or at the end of the turn;
//! while half of the ring is taken it waits until it is full. The owner works
//! on it where it is, and keeps it for what it has to hand over itself. So a
//! packet and its metadata are written once, and threads meet once a burst.
//!
//! All bursts are made at the start. When none is left, or the ring of the
//! owner is full, packets are dropped and counted.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::drop_reason::DropReason;
use crate::io::BURST;
use crate::packet::meta::PacketMeta;
use crate::pipeline::burst::Burst;
use crate::stats::Counters;
use crate::types::{PortId, WorkerId};

/// Workers that can hand over to each other.
pub const MAX_WORKERS: usize = 64;

/// Spare bursts that a thread keeps for itself: the last ones that it had are
/// still in its cache.
const KEPT: usize = 4;

/// The fewest bursts that a ring can hold.
const SHORTEST: usize = 4;

/// What is to be done with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Its packets are classified; the receiver goes on with them, with express
    /// if they are plain.
    Packets,
    /// They are finished frames for ports whose transmit queues the receiver
    /// owns; `scratch` holds the port of each.
    Frames,
}

impl Work {
    const COUNT: usize = 2;
}

/// A burst on its way to a worker.
#[derive(Debug)]
pub struct Handover<B> {
    /// What to do with it.
    pub work: Work,
    /// The packets.
    pub burst: Box<Burst<B>>,
}

/// The bounded rings into the workers, and the bursts that go through them.
#[derive(Debug)]
pub struct HandoverRings<B> {
    rings: Box<[ArrayQueue<Handover<B>>]>,
    /// Holds as many as there are.
    spare: ArrayQueue<Box<Burst<B>>>,
}

impl<B> HandoverRings<B> {
    /// Rings for so many workers, each of which holds `depth` packets.
    pub fn new(workers: usize, depth: usize) -> Arc<Self> {
        let bursts = (depth / BURST).max(SHORTEST);
        // In the rings, kept by threads, and open: the neighbour service is
        // one more thread.
        let count = workers * bursts + (workers + 1) * (KEPT + workers);
        let spare = ArrayQueue::new(count);
        for _ in 0..count {
            // It holds as many.
            let _ = spare.push(Box::default());
        }
        Arc::new(Self { rings: (0..workers).map(|_| ArrayQueue::new(bursts)).collect(), spare })
    }

    /// Bursts that wait in the ring of a worker.
    #[inline]
    pub fn waiting(&self, worker: WorkerId) -> usize {
        self.rings.get(worker.index()).map_or(0, ArrayQueue::len)
    }
}

/// The bursts that are open for one worker, by [`Work`].
type Open<B> = [Option<Box<Burst<B>>>; Work::COUNT];

/// One thread's end of the rings.
pub struct HandoverEnd<B> {
    rings: Arc<HandoverRings<B>>,
    open: Box<[Open<B>]>,
    /// One bit for each worker that a burst is open for.
    dirty: u64,
    /// Never grows beyond the capacity it starts with.
    kept: Vec<Box<Burst<B>>>,
}

const _: () = assert!(MAX_WORKERS <= u64::BITS as usize);

impl<B> std::fmt::Debug for HandoverEnd<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandoverEnd").field("dirty", &self.dirty).finish_non_exhaustive()
    }
}

impl<B> HandoverEnd<B> {
    /// An end for one thread, with nothing in it.
    pub fn new(rings: Arc<HandoverRings<B>>) -> Self {
        let open = rings.rings.iter().map(|_| Open::default()).collect();
        Self { rings, open, dirty: 0, kept: Vec::with_capacity(KEPT) }
    }

    /// Workers that there are.
    #[inline]
    pub fn workers(&self) -> usize {
        self.open.len()
    }

    /// Gives a packet to a worker, sooner or later in this turn. Counts it, or
    /// the drop.
    #[inline]
    pub fn give(&mut self, to: WorkerId, work: Work, packet: B, meta: &PacketMeta, counters: &Counters) {
        self.give_any(to, work, packet, meta, false, counters);
    }

    /// The same for a plain packet, which stays known as one.
    #[inline]
    pub fn give_plain(&mut self, to: WorkerId, packet: B, meta: &PacketMeta, counters: &Counters) {
        self.give_any(to, Work::Packets, packet, meta, true, counters);
    }

    #[inline]
    fn give_any(
        &mut self,
        to: WorkerId,
        work: Work,
        packet: B,
        meta: &PacketMeta,
        is_plain: bool,
        counters: &Counters,
    ) {
        if self.add(to, work, packet, meta, is_plain) {
            counters.handed_over.add(1);
        } else {
            counters.drop_at(DropReason::HandoverRingFull, Some(meta.ingress), Some(meta.key.vrf));
        }
    }

    #[inline]
    fn add(&mut self, to: WorkerId, work: Work, packet: B, meta: &PacketMeta, is_plain: bool) -> bool {
        let Some(open) = self.open.get_mut(to.index()) else { return false };
        if open[work as usize].as_ref().is_some_and(|burst| burst.is_full()) {
            // The ring was full when the burst was.
            self.send(to, work);
        }
        let slot = &mut self.open[to.index()][work as usize];
        if slot.is_none() {
            *slot = self.kept.pop().or_else(|| self.rings.spare.pop());
        }
        let Some(burst) = slot else { return false };
        let index = burst.len() as u8;
        if burst.push(packet, *meta).is_err() {
            return false;
        }
        if is_plain {
            burst.set_plain(index, None, false);
        }
        self.dirty |= 1 << to.index();
        if burst.is_full() {
            self.send(to, work);
        }
        true
    }

    /// Puts an open burst into its ring, if there is room.
    fn send(&mut self, to: WorkerId, work: Work) {
        let Some(slot) = self.open.get_mut(to.index()).map(|open| &mut open[work as usize]) else { return };
        let Some(burst) = slot.take() else { return };
        if let Err(back) = self.rings.rings[to.index()].push(Handover { work, burst }) {
            *slot = Some(back.burst);
        }
    }

    /// Sends what waits. A burst that is not full stays open while its ring
    /// is half full, so that rings fill with packets rather than with bursts
    /// of few.
    #[inline]
    pub fn flush(&mut self) {
        let mut left = self.dirty;
        while left != 0 {
            let to = WorkerId(left.trailing_zeros() as u16);
            left &= left - 1;
            self.flush_to(to);
        }
    }

    fn flush_to(&mut self, to: WorkerId) {
        let ring = &self.rings.rings[to.index()];
        let is_busy = ring.len() > ring.capacity() / 2;
        for work in [Work::Packets, Work::Frames] {
            let open = &self.open[to.index()][work as usize];
            if open.as_ref().is_some_and(|burst| burst.is_full() || !is_busy) {
                self.send(to, work);
            }
        }
        if self.open[to.index()].iter().all(Option::is_none) {
            self.dirty &= !(1 << to.index());
        }
    }

    /// Whether something waits to be sent.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.dirty != 0
    }

    /// Sends what waits for a port, which is about to go: after this, none of
    /// it is here any more. What does not fit into the ring is dropped.
    pub fn flush_port(&mut self, port: PortId, counters: &Counters) {
        for to in 0..self.open.len() {
            self.send(WorkerId(to as u16), Work::Frames);
            let Some(burst) = &mut self.open[to][Work::Frames as usize] else { continue };
            for index in 0..burst.len() as u8 {
                if burst.meta(index).scratch == u32::from(port.0) && burst.take(index).is_some() {
                    counters.taken_over.add(1);
                    counters.drop_at(DropReason::TxPortGone, None, None);
                }
            }
        }
    }

    /// Bursts that wait for `worker`.
    #[inline]
    pub fn arrived(&self, worker: WorkerId) -> usize {
        self.rings.waiting(worker)
    }

    /// Takes the next burst that waits for `worker`, which is the caller.
    #[inline]
    pub fn take(&mut self, worker: WorkerId, counters: &Counters) -> Option<Handover<B>> {
        let item = self.rings.rings.get(worker.index())?.pop()?;
        counters.taken_over.add(item.burst.packets() as u64);
        Some(item)
    }

    /// Takes an empty burst back for what is to be handed over next.
    #[inline]
    pub fn recycle(&mut self, mut burst: Box<Burst<B>>) {
        burst.clear();
        if self.kept.len() < KEPT {
            self.kept.push(burst);
        } else {
            // It holds all that there are.
            let _ = self.rings.spare.push(burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: WorkerId = WorkerId(1);

    struct Rig {
        rings: Arc<HandoverRings<u32>>,
        giver: HandoverEnd<u32>,
        taker: HandoverEnd<u32>,
        counters: Counters,
        next: u32,
    }

    impl Rig {
        /// Two workers, with rings of `depth` packets.
        fn new(depth: usize) -> Self {
            let rings = HandoverRings::new(2, depth);
            let (giver, taker) = (HandoverEnd::new(Arc::clone(&rings)), HandoverEnd::new(Arc::clone(&rings)));
            Self { rings, giver, taker, counters: Counters::new(1, 1), next: 0 }
        }

        /// Numbers packets from 0 on.
        fn give(&mut self, count: usize) {
            for _ in 0..count {
                self.giver.give(TO, Work::Packets, self.next, &PacketMeta::UNKNOWN, &self.counters);
                self.next += 1;
            }
        }

        /// The numbers of the packets in the next burst.
        fn take(&mut self) -> Vec<u32> {
            let Some(mut item) = self.taker.take(TO, &self.counters) else { return Vec::new() };
            assert_eq!(item.work, Work::Packets);
            let packets = (0..item.burst.len() as u8).filter_map(|at| item.burst.take(at)).collect();
            item.burst.clear();
            self.taker.recycle(item.burst);
            packets
        }

        fn dropped(&self) -> u64 {
            self.counters.drops.of(DropReason::HandoverRingFull)
        }

        fn in_flight(&self) -> u64 {
            self.counters.handed_over.value() - self.counters.taken_over.value()
        }
    }

    #[test]
    fn packets_arrive_in_their_order_when_a_burst_is_full_or_flushed() {
        let mut rig = Rig::new(4096);
        rig.give(BURST + 3);
        assert!(rig.giver.is_waiting());
        assert_eq!(rig.taker.arrived(TO), 1, "the full one");
        assert_eq!(rig.in_flight(), BURST as u64 + 3);
        assert_eq!(rig.take(), (0..BURST as u32).collect::<Vec<_>>());
        assert!(rig.take().is_empty());
        rig.giver.flush();
        assert!(!rig.giver.is_waiting());
        assert_eq!(rig.take(), [64, 65, 66]);
        assert_eq!((rig.in_flight(), rig.dropped()), (0, 0));
    }

    #[test]
    fn a_ring_that_is_half_full_gets_full_bursts_only_and_a_full_one_drops() {
        let mut rig = Rig::new(4 * BURST);
        for _ in 0..3 {
            rig.give(1);
            rig.giver.flush();
        }
        assert_eq!(rig.taker.arrived(TO), 3);
        rig.give(1);
        rig.giver.flush();
        assert_eq!(rig.taker.arrived(TO), 3, "it waits for more");
        rig.give(2 * BURST - 1);
        assert_eq!((rig.taker.arrived(TO), rig.dropped()), (4, 0), "one in the ring, one in the hand");
        rig.give(5);
        rig.giver.flush();
        assert_eq!((rig.giver.is_waiting(), rig.dropped()), (true, 5));
        assert_eq!([rig.take(), rig.take(), rig.take()], [[0], [1], [2]]);
        rig.giver.flush();
        let rest = [rig.take(), rig.take()].concat();
        assert_eq!(rest, (3..3 + 2 * BURST as u32).collect::<Vec<_>>());
        assert_eq!(rig.in_flight(), 0);
        // The next finds room again.
        rig.give(1);
        rig.giver.flush();
        assert_eq!(rig.take().len(), 1);
    }

    #[test]
    fn a_worker_that_is_not_there_gets_nothing() {
        let mut rig = Rig::new(4096);
        rig.giver.give(WorkerId(2), Work::Packets, 7, &PacketMeta::UNKNOWN, &rig.counters);
        assert_eq!((rig.dropped(), rig.in_flight()), (1, 0));
    }

    #[test]
    fn bursts_come_back_however_one_sided_the_traffic_is() {
        let mut rig = Rig::new(8 * BURST);
        let total = rig.rings.spare.len();
        for _ in 0..10 * total {
            rig.give(BURST);
            assert_eq!(rig.take().len(), BURST);
        }
        assert_eq!(rig.dropped(), 0);
        assert_eq!(rig.rings.spare.len() + rig.giver.kept.len() + rig.taker.kept.len(), total);
        assert_eq!(rig.taker.kept.capacity(), KEPT, "nothing was allocated");
    }

    #[test]
    fn frames_for_a_port_that_goes_do_not_stay() {
        let mut rig = Rig::new(4 * BURST);
        rig.give(4 * BURST);
        let frame = |port: u32| PacketMeta { scratch: port, ..PacketMeta::UNKNOWN };
        for (packet, port) in [(1, 5), (2, 6), (3, 5)] {
            rig.giver.give(TO, Work::Frames, packet, &frame(port), &rig.counters);
        }
        rig.giver.flush_port(PortId(5), &rig.counters);
        assert_eq!(rig.counters.drops.of(DropReason::TxPortGone), 2, "the ring is full");
        assert_eq!(rig.in_flight(), 4 * BURST as u64 + 1);
        (0..4).for_each(|_| assert_eq!(rig.take().len(), BURST));
        rig.giver.give(TO, Work::Frames, 4, &frame(5), &rig.counters);
        rig.giver.flush_port(PortId(5), &rig.counters);
        let mut item = rig.taker.take(TO, &rig.counters).expect("a burst");
        assert_eq!(item.work, Work::Frames);
        let frames: Vec<u32> = (0..item.burst.len() as u8).filter_map(|at| item.burst.take(at)).collect();
        assert_eq!(frames, [2, 4]);
        assert_eq!((rig.in_flight(), rig.giver.is_waiting()), (0, true));
        rig.giver.flush();
        assert!(!rig.giver.is_waiting());
    }
}
