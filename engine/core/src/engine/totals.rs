//! What all threads together have counted of one interface or VRF.
//!
//! Threads count by number, and numbers are given again. Nobody but its thread
//! may change a counter, so a number's new owner starts from what the counters
//! showed then, and readers subtract that.

use std::collections::HashMap;

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::session::Eviction;
use crate::stats::{Drops, InterfaceCounters, Traffic, VrfCounters};
use crate::types::{InterfaceId, VrfId};

use super::{Engine, lock};

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrafficTotal {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl TrafficTotal {
    fn add(&mut self, counted: &Traffic) {
        self.packets += counted.packets.value();
        self.bytes += counted.bytes.value();
    }

    fn since(self, start: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(start.packets),
            bytes: self.bytes.saturating_sub(start.bytes),
        }
    }
}

/// Drops by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropTotals([u64; DropReason::COUNT]);

impl Default for DropTotals {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl DropTotals {
    /// Drops for one reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Drops for all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Drops by reason, in the order of the reasons.
    pub fn by_reason(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.iter().map(|reason| (*reason, self.of(*reason))).collect()
    }

    fn add(&mut self, counted: &Drops) {
        for reason in DropReason::ALL {
            self.0[*reason as usize] += counted.of(*reason);
        }
    }

    fn since(mut self, start: &Self) -> Self {
        for (now, start) in self.0.iter_mut().zip(start.0) {
            *now = now.saturating_sub(start);
        }
        self
    }
}

/// Of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceTotals {
    /// Frames that came in, with their Ethernet headers.
    pub rx: TrafficTotal,
    /// Frames that were made ready to leave, with their Ethernet headers.
    pub tx: TrafficTotal,
    /// What came in here and was dropped.
    pub drops: DropTotals,
}

impl InterfaceTotals {
    fn sum<'a>(threads: impl Iterator<Item = &'a InterfaceCounters>) -> Self {
        threads.fold(Self::default(), |mut sum, counted| {
            sum.rx.add(&counted.rx);
            sum.tx.add(&counted.tx);
            sum.drops.add(&counted.drops);
            sum
        })
    }

    fn since(self, start: &Self) -> Self {
        Self {
            rx: self.rx.since(start.rx),
            tx: self.tx.since(start.tx),
            drops: self.drops.since(&start.drops),
        }
    }
}

/// Of one VRF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VrfTotals {
    /// IP packets looked up in it.
    pub routed: TrafficTotal,
    /// What was dropped while it was routed here.
    pub drops: DropTotals,
    /// Live sessions at this moment.
    pub sessions: u64,
    /// Sessions that had to give way, by [`Eviction`].
    pub evicted: [u64; Eviction::COUNT],
}

impl VrfTotals {
    fn sum<'a>(threads: impl Iterator<Item = &'a VrfCounters>) -> Self {
        threads.fold(Self::default(), |mut sum, counted| {
            sum.routed.add(&counted.routed);
            sum.drops.add(&counted.drops);
            sum.sessions += counted.sessions.value();
            for (evicted, counted) in sum.evicted.iter_mut().zip(&counted.evicted) {
                *evicted += counted.value();
            }
            sum
        })
    }

    fn since(self, start: &Self) -> Self {
        Self {
            routed: self.routed.since(start.routed),
            drops: self.drops.since(&start.drops),
            sessions: self.sessions,
            evicted: std::array::from_fn(|why| self.evicted[why].saturating_sub(start.evicted[why])),
        }
    }
}

/// What the counters showed when their numbers were given last.
#[derive(Debug, Default)]
pub(super) struct Starts {
    interfaces: HashMap<InterfaceId, InterfaceTotals>,
    vrfs: HashMap<VrfId, VrfTotals>,
}

impl<I: Io> Engine<I> {
    /// What was counted of an interface.
    pub fn interface_totals(&self, id: InterfaceId) -> InterfaceTotals {
        let start = lock(&self.shared.starts).interfaces.get(&id).copied().unwrap_or_default();
        self.sum_interface(id).since(&start)
    }

    /// What was counted of a VRF.
    pub fn vrf_totals(&self, id: VrfId) -> VrfTotals {
        let start = lock(&self.shared.starts).vrfs.get(&id).copied().unwrap_or_default();
        self.sum_vrf(id).since(&start)
    }

    /// Counts an interface from zero: its number has a new owner.
    pub fn restart_interface(&self, id: InterfaceId) {
        let now = self.sum_interface(id);
        lock(&self.shared.starts).interfaces.insert(id, now);
    }

    /// Counts a VRF from zero: its number has a new owner. Live sessions are
    /// what they are.
    pub fn restart_vrf(&self, id: VrfId) {
        let now = self.sum_vrf(id);
        lock(&self.shared.starts).vrfs.insert(id, now);
    }

    fn sum_interface(&self, id: InterfaceId) -> InterfaceTotals {
        InterfaceTotals::sum(self.all_counters().filter_map(|counters| counters.interface(id)))
    }

    fn sum_vrf(&self, id: VrfId) -> VrfTotals {
        VrfTotals::sum(self.all_counters().filter_map(|counters| counters.vrf(id)))
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::EngineConfig;
    use crate::io::memory::{MemoryIo, MemoryPool};

    use super::*;

    #[test]
    fn a_number_that_is_given_again_counts_from_zero() {
        let config =
            EngineConfig { cores: vec![None, None], interfaces: 2, vrfs: 2, ..EngineConfig::default() };
        let engine: Engine<MemoryIo> = Engine::start(config, MemoryPool::new(1)).expect("threads");
        let workers = engine.workers();
        let (interface, vrf) = (InterfaceId(1), VrfId(1));
        // There is no traffic: nobody else writes.
        let count = |packets: u64| {
            for worker in &workers {
                let of = worker.counters.interface(interface).expect("two are counted");
                for _ in 0..packets {
                    of.rx.add(100);
                    of.tx.add(50);
                }
                of.drops.add(DropReason::NoRoute, packets);
                let of = worker.counters.vrf(vrf).expect("two are counted");
                of.routed.add(80);
                of.drops.add(DropReason::TtlExpired, packets);
                of.sessions.set(7);
                of.evicted[Eviction::Quota as usize].add(packets);
            }
        };
        count(3);
        let totals = engine.interface_totals(interface);
        assert_eq!((totals.rx.packets, totals.rx.bytes), (6, 600));
        assert_eq!((totals.tx.packets, totals.tx.bytes), (6, 300));
        assert_eq!((totals.drops.of(DropReason::NoRoute), totals.drops.total()), (6, 6));

        engine.restart_interface(interface);
        assert_eq!(engine.interface_totals(interface), InterfaceTotals::default());
        assert_eq!(engine.vrf_totals(vrf).routed.packets, 2, "the VRF counts on");
        engine.restart_vrf(vrf);
        assert_eq!(engine.vrf_totals(vrf), VrfTotals { sessions: 14, ..VrfTotals::default() });

        count(1);
        let totals = engine.interface_totals(interface);
        assert_eq!((totals.rx.packets, totals.tx.bytes, totals.drops.total()), (2, 100, 2));
        let totals = engine.vrf_totals(vrf);
        assert_eq!((totals.routed.bytes, totals.drops.of(DropReason::TtlExpired)), (160, 2));
        assert_eq!(totals.evicted, [0, 2]);
        assert_eq!(engine.interface_totals(InterfaceId(0)), InterfaceTotals::default());
        assert_eq!(engine.interface_totals(InterfaceId(9)), InterfaceTotals::default(), "not counted");
        engine.stop();
    }
}
