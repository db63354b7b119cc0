//! What the engine counts.
//!
//! Each thread has a [`Counters`] of its own and is its only writer; anyone may
//! read. Every packet that enters (received or originated) leaves by exactly
//! one counted door: transmitted, punted, consumed, or one [`DropReason`].
//! [`Balance`] adds the doors up.
//!
//! - [`stages`]: the cycles of each stage

pub mod stages;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::drop_reason::DropReason;
use crate::session::Eviction;
use crate::types::{InterfaceId, VrfId};
use stages::StageCounters;

/// A number that one thread increases and others read.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only the owning thread may.
    #[inline]
    pub fn add(&self, count: u64) {
        // One writer: a plain load and store need no locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Its value now.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces it, for what is measured rather than counted.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Packets and their bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: Counter,
    /// Bytes, of whatever layer the owner says.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts one packet.
    #[inline]
    pub fn add(&self, bytes: usize) {
        self.packets.add(1);
        self.bytes.add(bytes as u64);
    }
}

/// Drops by reason.
#[derive(Debug)]
pub struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    /// Counts `packets` drops.
    #[inline]
    pub fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].add(packets);
    }

    /// Drops for one reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].value()
    }

    /// Drops for all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::value).sum()
    }
}

/// Of one interface.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    /// Frames that came in, with their Ethernet headers.
    pub rx: Traffic,
    /// Frames that were made ready to leave, with their Ethernet headers.
    pub tx: Traffic,
    /// What came in here and was dropped.
    pub drops: Drops,
}

/// Of one VRF.
#[derive(Debug, Default)]
pub struct VrfCounters {
    /// IP packets looked up in it.
    pub routed: Traffic,
    /// What was dropped while it was routed here.
    pub drops: Drops,
    /// Live sessions of the worker.
    pub sessions: Counter,
    /// Sessions of the worker that had to give way, by [`Eviction`].
    pub evicted: [Counter; Eviction::COUNT],
}

/// What one thread counts.
#[derive(Debug)]
pub struct Counters {
    /// Packets from receive queues.
    pub received: Counter,
    /// Packets made here.
    pub originated: Counter,
    /// Packets that a transmit queue took, the host's excepted.
    pub transmitted: Counter,
    /// Packets that the host port took.
    pub punted: Counter,
    /// Packets that ended here on purpose.
    pub consumed: Counter,
    /// Packets dropped, by reason.
    pub drops: Drops,
    /// Packets given to another worker.
    pub handed_over: Counter,
    /// Packets taken from other threads.
    pub taken_over: Counter,
    /// Packets that wait in this thread.
    pub held: Counter,
    /// Live sessions.
    pub sessions: Counter,
    /// Turns of the loop.
    pub loops: Counter,
    /// Turns that found something to do.
    pub busy_loops: Counter,
    /// Where the time goes.
    pub stages: StageCounters,
    interfaces: Box<[InterfaceCounters]>,
    vrfs: Box<[VrfCounters]>,
}

impl Counters {
    /// Counters for so many interfaces and VRFs.
    pub fn new(interfaces: usize, vrfs: usize) -> Self {
        Self {
            received: Counter::default(),
            originated: Counter::default(),
            transmitted: Counter::default(),
            punted: Counter::default(),
            consumed: Counter::default(),
            drops: Drops::default(),
            handed_over: Counter::default(),
            taken_over: Counter::default(),
            held: Counter::default(),
            sessions: Counter::default(),
            loops: Counter::default(),
            busy_loops: Counter::default(),
            stages: StageCounters::default(),
            interfaces: (0..interfaces).map(|_| InterfaceCounters::default()).collect(),
            vrfs: (0..vrfs).map(|_| VrfCounters::default()).collect(),
        }
    }

    /// Of one interface; `None` beyond the configured limit.
    #[inline]
    pub fn interface(&self, id: InterfaceId) -> Option<&InterfaceCounters> {
        self.interfaces.get(id.index())
    }

    /// Of one VRF; `None` beyond the configured limit.
    #[inline]
    pub fn vrf(&self, id: VrfId) -> Option<&VrfCounters> {
        self.vrfs.get(id.index())
    }

    /// Counts one drop, for the thread and for where it happened as far as
    /// that is known.
    #[inline]
    pub fn drop_at(&self, reason: DropReason, interface: Option<InterfaceId>, vrf: Option<VrfId>) {
        self.drops.add(reason, 1);
        if let Some(counters) = interface.and_then(|id| self.interface(id)) {
            counters.drops.add(reason, 1);
        }
        if let Some(counters) = vrf.and_then(|id| self.vrf(id)) {
            counters.drops.add(reason, 1);
        }
    }
}

/// All doors added up, over any number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Packets from receive queues.
    pub received: u64,
    /// Packets made here.
    pub originated: u64,
    /// Packets that left.
    pub transmitted: u64,
    /// Packets given to the host.
    pub punted: u64,
    /// Packets that ended here on purpose.
    pub consumed: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets that wait somewhere.
    pub in_flight: u64,
}

impl Balance {
    /// All doors of these threads. What waits in none of them, but between
    /// them and others, is `waiting`.
    pub fn of<'a>(threads: impl Iterator<Item = &'a Counters> + Clone, waiting: u64) -> Self {
        // Before what was given, which is never less.
        let taken: u64 = threads.clone().map(|counters| counters.taken_over.value()).sum();
        let given: u64 = threads.clone().map(|counters| counters.handed_over.value()).sum();
        let in_flight = waiting + given.saturating_sub(taken);
        threads.fold(Self { in_flight, ..Self::default() }, |mut sum, counters| {
            sum.received += counters.received.value();
            sum.originated += counters.originated.value();
            sum.transmitted += counters.transmitted.value();
            sum.punted += counters.punted.value();
            sum.consumed += counters.consumed.value();
            sum.dropped += counters.drops.total();
            sum.in_flight += counters.held.value();
            sum
        })
    }

    /// Whether every packet that entered has left or waits. Exact while no
    /// packet moves; while packets move the parts are read at different times.
    pub fn is_exact(&self) -> bool {
        self.received + self.originated
            == self.transmitted + self.punted + self.consumed + self.dropped + self.in_flight
    }
}
