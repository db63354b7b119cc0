//! What the engine tells about itself. Nothing here makes a worker wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::stats::{Balance, Counters};
use crate::types::{PortId, VrfId, WorkerId};
use crate::worker::command::{Command, DumpedSession, SessionDump};

use super::{Engine, push_command, tables_of};

/// A worker has not copied its sessions in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("worker {} has not copied its sessions within {} s", .worker.0, .timeout.as_secs_f32())]
pub struct DumpTimeout {
    /// The first such worker.
    pub worker: WorkerId,
    /// How long all of them had.
    pub timeout: Duration,
}

/// One worker, from outside.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Which one.
    pub id: WorkerId,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Sessions that it can hold.
    pub session_capacity: usize,
    /// Version of the tables that it uses.
    pub table_version: u64,
    /// Receive queues that it owns: port and queue number.
    pub rx_queues: Vec<(PortId, u16)>,
    /// Transmit queues that it owns: port and queue number.
    pub tx_queues: Vec<(PortId, u16)>,
}

impl<I: Io> Engine<I> {
    /// All workers.
    pub fn workers(&self) -> Vec<WorkerView> {
        let owners = self.queue_owners();
        let versions: Vec<u64> =
            tables_of(&self.shared.writer).senders.iter().map(tieline_mailbox::Sender::seen).collect();
        let queues_of = |id: WorkerId, pick: fn(&super::ports::QueueOwners) -> &Vec<WorkerId>| {
            let mut queues = Vec::new();
            for (port, owners) in &owners {
                for (number, owner) in pick(owners).iter().enumerate() {
                    if *owner == id {
                        queues.push((*port, number as u16));
                    }
                }
            }
            queues
        };
        let view = |(at, worker): (usize, &super::WorkerHandle<I>)| {
            let id = WorkerId(at as u16);
            WorkerView {
                id,
                core: worker.core,
                counters: Arc::clone(&worker.counters),
                session_capacity: worker.session_capacity,
                table_version: versions.get(at).copied().unwrap_or(0),
                rx_queues: queues_of(id, |owners| &owners.rx),
                tx_queues: queues_of(id, |owners| &owners.tx),
            }
        };
        self.shared.workers.iter().enumerate().map(view).collect()
    }

    /// All doors of all threads.
    pub fn balance(&self) -> Balance {
        Balance::of(self.all_counters(), self.shared.neighbour_rings.unresolved.len() as u64)
    }

    /// Drops by reason over all threads, in the order of the reasons.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let sum = |reason: &DropReason| self.all_counters().map(|counters| counters.drops.of(*reason)).sum();
        DropReason::ALL.iter().map(|reason| (*reason, sum(reason))).collect()
    }

    pub(super) fn all_counters(&self) -> impl Iterator<Item = &Counters> + Clone {
        let workers = self.shared.workers.iter().map(|worker| worker.counters.as_ref());
        workers.chain(std::iter::once(self.shared.neighbour_counters.as_ref()))
    }

    /// Copies up to `limit` sessions, of one VRF or of all. Workers copy a
    /// few at a time between bursts.
    ///
    /// # Errors
    /// When a worker does not do so in time: a part would look like all.
    pub fn sessions(
        &self,
        vrf: Option<VrfId>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Vec<DumpedSession>, DumpTimeout> {
        let waiting: Vec<_> = self
            .shared
            .workers
            .iter()
            .map(|worker| {
                let (dump, receiver) = SessionDump::new(vrf, limit);
                push_command(worker, Command::DumpSessions(dump));
                receiver
            })
            .collect();
        let deadline = Instant::now() + timeout;
        let mut sessions: Vec<DumpedSession> = Vec::new();
        for (at, receiver) in waiting.into_iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let worker = WorkerId(at as u16);
            sessions.extend(receiver.recv_timeout(left).map_err(|_| DumpTimeout { worker, timeout })?);
        }
        sessions.truncate(limit);
        Ok(sessions)
    }

    /// Cycles in a second, as [`cycles`](crate::cycles::cycles) counts them;
    /// 0 where there is no such clock.
    pub fn cycles_per_second(&self) -> u64 {
        self.shared.cycle_rate.hertz()
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use crate::engine::EngineConfig;
    use crate::io::memory::{MemoryIo, MemoryPool};

    use super::*;

    #[test]
    fn sessions_that_are_not_copied_in_time_are_an_error() {
        // The threads of this engine wait here before they do anything else.
        let (start, started) = channel::<()>();
        let started = Mutex::new(started);
        let thread_setup = Arc::new(move || {
            let _ = crate::engine::lock(&started).recv();
            Box::new(()) as Box<dyn std::any::Any>
        });
        let config = EngineConfig { sessions: 16, thread_setup, ..EngineConfig::default() };
        let engine: Engine<MemoryIo> = Engine::start(config, MemoryPool::new(1)).expect("threads");
        let late = engine.sessions(None, 10, Duration::from_millis(20)).expect_err("nobody answers");
        assert_eq!(late.worker, WorkerId(0));
        assert_eq!(late.to_string(), "worker 0 has not copied its sessions within 0.02 s");
        drop(start);
        let all = engine.sessions(None, 10, Duration::from_secs(60)).expect("the worker runs");
        assert!(all.is_empty());
        engine.stop();
    }
}
