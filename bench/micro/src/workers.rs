//! Several workers at once, each on a core of its own: what a second one is
//! worth.
//!
//! Each worker is fed flows of its own, as by a NIC that spreads packets
//! without regard to sessions: with two workers every second packet of a
//! stateful VRF belongs to the other one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use tieline_engine::DropReason;
use tieline_engine::io::BURST;
use tieline_engine::io::replay::{ReplayExchange, ReplayPool, ReplayWire};
use tieline_engine::session::Tick;
use tieline_engine::stats::stages::{Stage, StageUse};
use tieline_engine::stats::{Balance, Counters};
use tieline_engine::testbed::Size;
use tieline_engine::testbed::replay::{ReplayBed, balance};

use crate::pipeline::{Case, shuffle};
use crate::random::Random;

/// Buffers of each worker: twice those of a NIC's receive ring, as some are on
/// their way to the other worker.
const BUFFERS: usize = 1024;
/// A worker is warm after it has run for so long.
const WARMTH: Duration = Duration::from_millis(20);
/// Turns between two looks at whether it is over.
const TURNS: usize = 16;

/// A gateway, each of whose workers has a wire.
#[derive(Debug)]
pub struct Gateway {
    beds: Vec<ReplayBed>,
    wires: Vec<ReplayWire>,
}

/// What was counted in one sample, over all workers.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Packets a second that left by transmit queues.
    pub rate: f64,
    /// Packets received.
    pub received: u64,
    /// Packets given to another worker.
    pub handed_over: u64,
    /// Packets dropped because they could not be.
    pub ring_full: u64,
    /// Where the cycles went.
    pub stages: Vec<(Stage, StageUse)>,
}

impl Gateway {
    /// A gateway of so many workers. The flows of each are as many as the
    /// case has.
    pub fn new(case: Case, workers: usize) -> Self {
        let size = Size { workers, buffers: 0, sessions: case.flows * 3, counted: 16 };
        let mut beds = ReplayBed::several(size, case.tables(), &ReplayPool::new(0));
        let mut wires = Vec::new();
        for (number, bed) in beds.iter_mut().enumerate() {
            let mut frames = case.frames((number * case.flows) as u32);
            shuffle(&mut frames, &mut Random::new(1 + number as u64));
            let (wire, rx) = ReplayWire::new(frames);
            case.attach(bed, vec![rx]);
            wires.push(wire);
        }
        Self { beds, wires }
    }

    /// All doors. Exact while no worker runs.
    pub fn balance(&self) -> Balance {
        balance(&self.beds)
    }
}

/// Runs all workers of all gateways at once, one on each of these cores, and
/// measures for `time`.
///
/// # Panics
/// If there are fewer cores than workers.
pub fn sample(gateways: &mut [&mut Gateway], cores: &[CoreId], time: Duration) -> Sample {
    let counters: Vec<Arc<Counters>> =
        gateways.iter().flat_map(|gateway| &gateway.beds).map(|bed| Arc::clone(bed.counters())).collect();
    let workers = counters.len();
    assert!(workers <= cores.len(), "{workers} workers and {} cores", cores.len());
    let (ready, stop) = (Barrier::new(workers + 1), AtomicBool::new(false));
    let exchange = ReplayExchange::new(BUFFERS * workers);
    std::thread::scope(|scope| {
        let fed = gateways.iter_mut().flat_map(|gateway| gateway.beds.iter_mut().zip(&gateway.wires));
        for ((bed, wire), core) in fed.zip(cores) {
            let (ready, stop, exchange) = (&ready, &stop, exchange.clone());
            scope.spawn(move || {
                core_affinity::set_for_current(*core);
                ReplayPool::sharing(BUFFERS, exchange);
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..TURNS {
                        wire.send(BURST);
                        bed.turn(Tick(0));
                    }
                }
                wire.send(0);
                // Its buffers go with the thread; what others have of them
                // does not matter.
            });
        }
        ready.wait();
        std::thread::sleep(WARMTH);
        let (start, before) = (Instant::now(), read(&counters));
        std::thread::sleep(time);
        let (elapsed, after) = (start.elapsed(), read(&counters));
        stop.store(true, Ordering::Relaxed);
        after.since(&before, elapsed)
    })
}

/// What all workers have counted at one time.
struct Reading {
    transmitted: u64,
    received: u64,
    handed_over: u64,
    ring_full: u64,
    stages: Vec<StageUse>,
}

fn read(counters: &[Arc<Counters>]) -> Reading {
    let sum = |of: &dyn Fn(&Counters) -> u64| counters.iter().map(|counters| of(counters)).sum();
    let stage = |stage: &Stage| {
        counters.iter().map(|counters| counters.stages.of(*stage)).fold(StageUse::default(), |sum, one| {
            StageUse {
                cycles: sum.cycles + one.cycles,
                bursts: sum.bursts + one.bursts,
                packets: sum.packets + one.packets,
            }
        })
    };
    Reading {
        transmitted: sum(&|counters| counters.transmitted.value()),
        received: sum(&|counters| counters.received.value()),
        handed_over: sum(&|counters| counters.handed_over.value()),
        ring_full: sum(&|counters| counters.drops.of(DropReason::HandoverRingFull)),
        stages: Stage::ALL.iter().map(stage).collect(),
    }
}

impl Reading {
    fn since(&self, before: &Self, time: Duration) -> Sample {
        let stages = self.stages.iter().zip(&before.stages).map(|(now, before)| now.since(*before));
        Sample {
            rate: (self.transmitted - before.transmitted) as f64 / time.as_secs_f64(),
            received: self.received - before.received,
            handed_over: self.handed_over - before.handed_over,
            ring_full: self.ring_full - before.ring_full,
            stages: Stage::ALL.iter().copied().zip(stages).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_hand_over_and_every_packet_is_accounted_for() {
        let case = Case { flows: 500, ..Case::named("stateful_1k").expect("a case") };
        let mut gateway = Gateway::new(case, 2);
        let cores = core_affinity::get_core_ids().expect("there is a core");
        let (first, last) = (cores[0], cores[cores.len() - 1]);
        let sample = sample(&mut [&mut gateway], &[first, last], Duration::from_millis(300));
        assert!(sample.handed_over > 0, "{sample:?}");
        let balance = gateway.balance();
        assert!(balance.is_exact(), "{balance:?}");
        let dropped = |bed: &ReplayBed| bed.counters().drops.of(DropReason::HandoverRingFull);
        assert_eq!(balance.dropped, gateway.beds.iter().map(dropped).sum::<u64>(), "for no other reason");
        // With nothing to receive they finish what they have from each other.
        let _pool = ReplayPool::new(0);
        // A bed is idle, too, while the other one's ring is full.
        let mut balance = gateway.balance();
        for _ in 0..10_000 {
            if balance.in_flight == 0 {
                break;
            }
            for bed in &mut gateway.beds {
                bed.turn(Tick(0));
            }
            balance = gateway.balance();
        }
        assert_eq!((balance.in_flight, balance.is_exact()), (0, true), "{balance:?}");
    }
}
