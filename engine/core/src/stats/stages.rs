//! Where a worker's cycles go: by stage, and idle.
//!
//! A worker reads the processor's clock once at each boundary between stages,
//! for a whole burst, and charges the time since the boundary before to the
//! stage that has ended. Its loop has no gaps, so the parts add up to all of
//! its time: turns that found nothing to do, sleeping included, are idle, and
//! the rest is the stages'.

use std::time::{Duration, Instant};

use super::Counter;
use crate::cycles::cycles;

macro_rules! stages {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal; )*) => {
        /// A part of a worker's turn.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Stage {
            $( $(#[$doc])* $variant, )*
        }

        impl Stage {
            /// Every stage, in the order of a packet's way.
            pub const ALL: &'static [Stage] = &[ $( Stage::$variant, )* ];
            /// How many stages there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable identifier, as APIs and scripts use it.
            pub fn name(self) -> &'static str {
                match self { $( Stage::$variant => $name, )* }
            }
        }
    };
}

stages! {
    /// Receive queues are polled; also those that turn out to be empty in a
    /// turn that has work.
    Receive = "receive";
    /// Packets are taken from other workers.
    Handover = "handover";
    /// Plain packets, from their headers to their outer ones.
    Express = "express";
    /// Headers, checksums and the flow key.
    Parse = "parse";
    /// Anti-spoofing, decapsulation, ARP, ND and punts.
    Classify = "classify";
    /// Which worker has the session; fragments find their ports.
    Owner = "owner";
    /// Sessions are looked up.
    SessionLookup = "session_lookup";
    /// Routes are looked up.
    VrfLookup = "vrf_lookup";
    /// Policies are asked, sessions made.
    SgCheck = "sg_check";
    /// Neighbour, TTL, MTU and MSS.
    NextHop = "next_hop";
    /// The outer headers.
    Encap = "encap";
    /// Packets made here are put on their way.
    Originated = "originated";
    /// Frames are given to transmit queues.
    Transmit = "transmit";
    /// Commands, expiry, gauges.
    Housekeeping = "housekeeping";
}

/// What one stage has used and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageUse {
    /// Ticks of [`cycles`].
    pub cycles: u64,
    /// Times that it had packets to work on.
    pub bursts: u64,
    /// Packets that came to it.
    pub packets: u64,
}

impl StageUse {
    /// What was added since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cycles: self.cycles.saturating_sub(earlier.cycles),
            bursts: self.bursts.saturating_sub(earlier.bursts),
            packets: self.packets.saturating_sub(earlier.packets),
        }
    }
}

#[derive(Debug, Default)]
struct StageCounter {
    cycles: Counter,
    bursts: Counter,
    packets: Counter,
}

/// The time of one worker. Only the worker may charge; anyone may read.
#[derive(Debug)]
pub struct StageCounters {
    stages: [StageCounter; Stage::COUNT],
    idle: Counter,
    /// The clock at the last boundary.
    boundary: Counter,
}

impl Default for StageCounters {
    /// The first boundary is now.
    fn default() -> Self {
        Self::starting_at(cycles())
    }
}

impl StageCounters {
    fn starting_at(now: u64) -> Self {
        let boundary = Counter::default();
        boundary.set(now);
        Self { stages: std::array::from_fn(|_| StageCounter::default()), idle: Counter::default(), boundary }
    }

    /// A stage has ended that `packets` came to. Without packets its time
    /// counts, but no burst.
    #[inline]
    pub fn end(&self, stage: Stage, packets: usize) {
        self.end_at(stage, packets, cycles());
    }

    /// What has passed since the last boundary was idle.
    #[inline]
    pub fn end_idle(&self) {
        self.end_idle_at(cycles());
    }

    /// A stage stops in its middle for another. Returns what it has used, for
    /// [`resume`](Self::resume).
    #[inline]
    pub fn interrupt(&self) -> u64 {
        self.elapsed(cycles())
    }

    /// A stage goes on that was interrupted, right after another has ended:
    /// what it had used is charged together with the rest.
    #[inline]
    pub fn resume(&self, used: u64) {
        self.boundary.set(self.boundary.value().saturating_sub(used));
    }

    #[inline]
    fn end_at(&self, stage: Stage, packets: usize, now: u64) {
        let counter = &self.stages[stage as usize];
        counter.cycles.add(self.elapsed(now));
        counter.bursts.add(u64::from(packets > 0));
        counter.packets.add(packets as u64);
    }

    #[inline]
    fn end_idle_at(&self, now: u64) {
        self.idle.add(self.elapsed(now));
    }

    /// Since the last boundary; `now` is the next one.
    #[inline]
    fn elapsed(&self, now: u64) -> u64 {
        let before = self.boundary.value();
        self.boundary.set(now);
        // A thread that is not pinned may meet a core whose clock is behind.
        now.saturating_sub(before)
    }

    /// What one stage has used and done.
    pub fn of(&self, stage: Stage) -> StageUse {
        let counter = &self.stages[stage as usize];
        StageUse {
            cycles: counter.cycles.value(),
            bursts: counter.bursts.value(),
            packets: counter.packets.value(),
        }
    }

    /// Ticks of [`cycles`] in turns that found nothing to do, and between
    /// turns.
    pub fn idle(&self) -> u64 {
        self.idle.value()
    }
}

/// Two clocks read together, to learn the rate of one from the other.
#[derive(Debug, Clone, Copy)]
pub struct CycleRate {
    cycles: u64,
    time: Instant,
}

impl CycleRate {
    /// Starts to measure.
    pub fn start() -> Self {
        Self { cycles: cycles(), time: Instant::now() }
    }

    /// Ticks of [`cycles`] in a second, by all the time since the start; 0
    /// where there is no such clock.
    pub fn hertz(&self) -> u64 {
        hertz(cycles().saturating_sub(self.cycles), self.time.elapsed())
    }
}

fn hertz(cycles: u64, time: Duration) -> u64 {
    let rate = (u128::from(cycles) * 1_000_000_000).checked_div(time.as_nanos()).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_order() {
        let names: std::collections::BTreeSet<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        assert_eq!(names.len(), Stage::COUNT);
        for (number, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, number);
        }
    }

    #[test]
    fn every_cycle_is_charged_once() {
        let counters = StageCounters::starting_at(1000);
        counters.end_idle_at(1010);
        counters.end_at(Stage::Receive, 64, 1110);
        counters.end_at(Stage::Parse, 64, 1150);
        counters.end_at(Stage::Receive, 0, 1160);
        counters.end_at(Stage::Receive, 2, 1163);
        counters.end_idle_at(1263);
        assert_eq!(counters.idle(), 110);
        assert_eq!(counters.of(Stage::Receive), StageUse { cycles: 113, bursts: 2, packets: 66 });
        assert_eq!(counters.of(Stage::Parse), StageUse { cycles: 40, bursts: 1, packets: 64 });
        let busy: u64 = Stage::ALL.iter().map(|stage| counters.of(*stage).cycles).sum();
        assert_eq!(busy + counters.idle(), 1263 - 1000);
    }

    #[test]
    fn an_interrupted_stage_pays_for_itself_only() {
        let counters = StageCounters::starting_at(1000);
        let used = counters.elapsed(1030);
        counters.end_at(Stage::Transmit, 64, 1100);
        counters.resume(used);
        counters.end_at(Stage::Encap, 64, 1120);
        assert_eq!(counters.of(Stage::Transmit), StageUse { cycles: 70, bursts: 1, packets: 64 });
        assert_eq!(counters.of(Stage::Encap), StageUse { cycles: 50, bursts: 1, packets: 64 });
    }

    #[test]
    fn a_clock_that_steps_back_charges_nothing() {
        let counters = StageCounters::starting_at(1000);
        counters.end_at(Stage::Encap, 1, 900);
        assert_eq!(counters.of(Stage::Encap).cycles, 0);
        counters.end_at(Stage::Encap, 1, 950);
        assert_eq!(counters.of(Stage::Encap), StageUse { cycles: 50, bursts: 2, packets: 2 });
    }

    #[test]
    fn differences_never_wrap() {
        let earlier = StageUse { cycles: 100, bursts: 2, packets: 20 };
        let now = StageUse { cycles: 150, bursts: 3, packets: 84 };
        assert_eq!(now.since(earlier), StageUse { cycles: 50, bursts: 1, packets: 64 });
        assert_eq!(earlier.since(now), StageUse::default());
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(hertz(3_000_000, Duration::from_millis(1)), 3_000_000_000);
        assert_eq!(hertz(u64::MAX, Duration::from_nanos(1)), u64::MAX);
        assert_eq!(hertz(5, Duration::ZERO), 0);
    }
}
