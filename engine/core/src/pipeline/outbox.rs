//! Packets on their way out of a worker: to ports, to other workers, to the
//! neighbour service, and around again.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use crate::drop_reason::DropReason;
use crate::io::{BURST, Io, PacketBurst, TxQueue};
use crate::packet::meta::PacketMeta;
use crate::pipeline::burst::Burst;
use crate::pipeline::handover::{Handover, HandoverEnd, HandoverRings, Work};
use crate::stats::Counters;
use crate::stats::stages::Stage;
use crate::types::{InterfaceId, MacAddr, NeighbourId, PortId, WorkerId};

/// Ports that an engine can have at once.
pub const MAX_PORTS: usize = 64;

/// Packets that can be made in one burst.
const MAX_ORIGINATED: usize = 4 * BURST;

/// A packet that needs a neighbour whose MAC is not known.
#[derive(Debug)]
pub struct Unresolved<B> {
    /// Where the neighbour is.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
    /// The packet, which goes on from the routing decision.
    pub packet: B,
    /// What is known about it.
    pub meta: PacketMeta,
}

/// Why somebody's MAC was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// In answer to a question of ours, as far as the message shows.
    Answer,
    /// Of their own accord.
    Claim,
    /// To the process before this one, which had it confirmed.
    Carried,
}

/// What a worker has heard of somebody's MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// A neighbour has said where it is.
    Neighbour {
        /// The neighbour.
        neighbour: NeighbourId,
        /// Where it is, and
        interface: InterfaceId,
        /// its address, to see that the ID still means the same.
        address: IpAddr,
        /// Its MAC.
        mac: MacAddr,
        /// Why it was said.
        said: Said,
    },
    /// The host has said where it is.
    Host {
        /// The host port.
        port: PortId,
        /// The host's MAC.
        mac: MacAddr,
    },
}

/// The bounded rings into the neighbour service. What is heard has its own,
/// so that packets without a neighbour cannot crowd it out.
#[derive(Debug)]
pub struct NeighbourRings<B> {
    /// Packets that wait.
    pub unresolved: ArrayQueue<Unresolved<B>>,
    /// What was heard.
    pub learned: ArrayQueue<Learned>,
}

impl<B> NeighbourRings<B> {
    /// Rings that hold `depth` items each.
    pub fn new(depth: usize) -> Arc<Self> {
        Arc::new(Self { unresolved: ArrayQueue::new(depth), learned: ArrayQueue::new(depth) })
    }

    /// Whether there is nothing in them.
    pub fn is_empty(&self) -> bool {
        self.unresolved.is_empty() && self.learned.is_empty()
    }
}

/// How a worker reaches one port.
struct TxSlot<I: Io> {
    queue: Option<I::Tx>,
    pending: PacketBurst<I::Buf>,
    /// Who owns the transmit queue to use; `None`: there is no such port.
    owner: Option<WorkerId>,
    is_host: bool,
}

impl<I: Io> Default for TxSlot<I> {
    fn default() -> Self {
        Self { queue: None, pending: ArrayVec::new(), owner: None, is_host: false }
    }
}

/// Packets on their way out of one worker.
pub struct Outbox<I: Io> {
    worker: WorkerId,
    ports: Box<[TxSlot<I>]>,
    /// One bit for each port with pending frames.
    dirty: u64,
    handover: HandoverEnd<I::Buf>,
    neighbours: Arc<NeighbourRings<I::Buf>>,
    /// Never grows beyond the capacity it starts with.
    originated: VecDeque<(I::Buf, PacketMeta)>,
}

const _: () = assert!(MAX_PORTS <= u64::BITS as usize);

impl<I: Io> std::fmt::Debug for Outbox<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("worker", &self.worker)
            .field("dirty", &self.dirty)
            .finish_non_exhaustive()
    }
}

impl<I: Io> Outbox<I> {
    /// The outbox of `worker`, one of as many as `rings` are for.
    pub fn new(
        worker: WorkerId,
        rings: Arc<HandoverRings<I::Buf>>,
        neighbours: Arc<NeighbourRings<I::Buf>>,
    ) -> Self {
        Self {
            worker,
            ports: (0..MAX_PORTS).map(|_| TxSlot::default()).collect(),
            dirty: 0,
            handover: HandoverEnd::new(rings),
            neighbours,
            originated: VecDeque::with_capacity(MAX_ORIGINATED),
        }
    }

    /// Workers that share the sessions.
    #[inline]
    pub fn worker_count(&self) -> usize {
        self.handover.workers()
    }

    /// Makes a port known: `owner` transmits on it, and if that is this
    /// worker, on `queue`.
    pub fn add_port(&mut self, port: PortId, owner: WorkerId, queue: Option<I::Tx>, is_host: bool) {
        if let Some(slot) = self.ports.get_mut(port.index()) {
            *slot = TxSlot { queue, pending: ArrayVec::new(), owner: Some(owner), is_host };
        }
    }

    /// Stops sending to a port. What other workers are to send there is on
    /// its way to them, or dropped.
    pub fn unroute_port(&mut self, port: PortId, counters: &Counters) {
        self.handover.flush_port(port, counters);
        if let Some(slot) = self.ports.get_mut(port.index()) {
            slot.owner = None;
        }
    }

    /// Gives the transmit queue of a port back, after sending what waits.
    pub fn release_port(&mut self, port: PortId, counters: &Counters) -> Option<I::Tx> {
        self.flush_port(port.index(), counters);
        self.ports.get_mut(port.index())?.queue.take()
    }

    /// Transmit queues that this worker owns, by port.
    pub fn owned_ports(&self) -> impl Iterator<Item = PortId> {
        self.ports
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.queue.is_some())
            .map(|(at, _)| PortId(at as u16))
    }

    /// Sends a finished frame out of a port, sooner or later in this turn.
    #[inline]
    pub fn transmit(&mut self, port: PortId, packet: I::Buf, counters: &Counters) {
        let at = port.index();
        let Some(slot) = self.ports.get_mut(at) else {
            return counters.drop_at(DropReason::TxPortGone, None, None);
        };
        let Some(owner) = slot.owner else {
            return counters.drop_at(DropReason::TxPortGone, None, None);
        };
        if owner != self.worker {
            let meta = PacketMeta { scratch: u32::from(port.0), ..PacketMeta::UNKNOWN };
            return self.handover.give(owner, Work::Frames, packet, &meta, counters);
        }
        self.transmit_own(port, packet, counters);
    }

    /// The same for the frames in some slots, which are empty afterwards.
    #[inline]
    pub fn transmit_all(&mut self, port: PortId, mut frames: &mut [Option<I::Buf>], counters: &Counters) {
        let (at, worker) = (port.index(), self.worker);
        let is_own = |slot: &&mut TxSlot<I>| slot.owner == Some(worker) && slot.queue.is_some();
        while !frames.is_empty() {
            let Some(slot) = self.ports.get_mut(at).filter(is_own) else {
                let packets = frames.iter_mut().filter_map(Option::take);
                return packets.for_each(|packet| self.transmit(port, packet, counters));
            };
            let (fitting, rest) = frames.split_at_mut(frames.len().min(slot.pending.remaining_capacity()));
            for packet in fitting.iter_mut().filter_map(Option::take) {
                slot.pending.push(packet);
            }
            self.dirty |= u64::from(!slot.pending.is_empty()) << at;
            if slot.pending.is_full() {
                self.flush_port(at, counters);
            }
            frames = rest;
        }
    }

    /// Sends a frame that another thread has handed over: by the own transmit
    /// queue, also if the port is about to go, and otherwise as any other.
    pub fn transmit_handed_over(&mut self, port: PortId, packet: I::Buf, counters: &Counters) {
        let owns = self.ports.get(port.index()).is_some_and(|slot| slot.queue.is_some());
        if owns {
            self.transmit_own(port, packet, counters);
        } else {
            self.transmit(port, packet, counters);
        }
    }

    #[inline]
    fn transmit_own(&mut self, port: PortId, packet: I::Buf, counters: &Counters) {
        let at = port.index();
        let Some(slot) = self.ports.get_mut(at).filter(|slot| slot.queue.is_some()) else {
            return counters.drop_at(DropReason::TxPortGone, None, None);
        };
        slot.pending.push(packet);
        let full = slot.pending.is_full();
        self.dirty |= 1 << at;
        if full {
            self.flush_port(at, counters);
        }
    }

    /// Sends everything that waits.
    #[inline]
    pub fn flush(&mut self, counters: &Counters) {
        while self.dirty != 0 {
            self.flush_port(self.dirty.trailing_zeros() as usize, counters);
        }
    }

    fn flush_port(&mut self, at: usize, counters: &Counters) {
        self.dirty &= !(1 << at);
        let Some(slot) = self.ports.get_mut(at) else { return };
        // A buffer that fills up is sent in the middle of another stage.
        let interrupted = counters.stages.interrupt();
        let frames = slot.pending.len();
        let sent = match &mut slot.queue {
            Some(queue) if !slot.pending.is_empty() => queue.tx_burst(&mut slot.pending),
            _ => 0,
        };
        let door = if slot.is_host { &counters.punted } else { &counters.transmitted };
        door.add(sent as u64);
        counters.drops.add(DropReason::TxQueueFull, slot.pending.len() as u64);
        slot.pending.clear();
        counters.stages.end(Stage::Transmit, frames);
        counters.stages.resume(interrupted);
    }

    /// Gives a classified packet to another worker, or drops it when there is
    /// no room.
    #[inline]
    pub fn hand_over(
        &mut self,
        to: WorkerId,
        packet: I::Buf,
        meta: &PacketMeta,
        is_plain: bool,
        counters: &Counters,
    ) {
        match is_plain {
            true => self.handover.give_plain(to, packet, meta, counters),
            false => self.handover.give(to, Work::Packets, packet, meta, counters),
        }
    }

    /// Sends what was handed over in this turn to its workers.
    #[inline]
    pub fn flush_handovers(&mut self) {
        self.handover.flush();
    }

    /// Whether something to hand over waits for room.
    #[inline]
    pub fn is_handing_over(&self) -> bool {
        self.handover.is_waiting()
    }

    /// Bursts that other threads have handed over to this worker.
    #[inline]
    pub fn arrived(&self) -> usize {
        self.handover.arrived(self.worker)
    }

    /// Takes the next burst that another thread has handed over.
    #[inline]
    pub fn take_arrived(&mut self, counters: &Counters) -> Option<Handover<I::Buf>> {
        self.handover.take(self.worker, counters)
    }

    /// Takes an empty burst back.
    #[inline]
    pub fn recycle(&mut self, burst: Box<Burst<I::Buf>>) {
        self.handover.recycle(burst);
    }

    /// Leaves a packet with the neighbour service. Returns whether there was
    /// room; the packet is gone either way.
    #[must_use]
    pub fn wait_for_neighbour(&self, item: Unresolved<I::Buf>) -> bool {
        self.neighbours.unresolved.push(item).is_ok()
    }

    /// Tells the neighbour service what was heard. When its ring is full that
    /// is lost: whoever said it will say it again. Half of the ring is for
    /// answers alone, so that nobody drowns them.
    pub fn tell_learned(&self, item: Learned) {
        let ring = &self.neighbours.learned;
        let is_claim = matches!(item, Learned::Neighbour { said: Said::Claim, .. });
        if is_claim && ring.len() >= ring.capacity() / 2 {
            return;
        }
        let _ = ring.push(item);
    }

    /// Keeps a packet that was made here until the burst is done.
    ///
    /// # Errors
    /// The packet, when there is no more room in this burst.
    pub fn originate(&mut self, packet: I::Buf, meta: PacketMeta) -> Result<(), I::Buf> {
        if self.originated.len() == MAX_ORIGINATED {
            return Err(packet);
        }
        self.originated.push_back((packet, meta));
        Ok(())
    }

    /// Packets that were made here and wait.
    pub fn originated(&self) -> usize {
        self.originated.len()
    }

    /// Moves up to `count` of what was originated into a burst.
    pub fn take_originated(&mut self, burst: &mut Burst<I::Buf>, count: usize) {
        for _ in 0..count {
            if burst.is_full() {
                break;
            }
            let Some((packet, meta)) = self.originated.pop_front() else { break };
            // There is room.
            let _ = burst.push(packet, meta);
        }
    }

    /// Takes the oldest packet that was originated.
    pub fn pop_originated(&mut self) -> Option<(I::Buf, PacketMeta)> {
        self.originated.pop_front()
    }
}
