//! What the engine tells about itself. Nothing here makes a worker wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::stats::{Balance, Counters};
use crate::types::{PortId, VrfId, WorkerId};
use crate::worker::command::{Command, DumpedSession, SessionDump};

use super::{Engine, lock, push_command};

/// Longest wait for a worker to copy its sessions.
const DUMP_TIMEOUT: Duration = Duration::from_secs(5);

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
            lock(&self.shared.writer).senders.iter().map(crate::worker::mailbox::Sender::seen).collect();
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
        let mut balance = Balance::default();
        for counters in self.all_counters() {
            balance.add(counters);
        }
        let rings: usize = self.shared.rings.iter().map(|ring| ring.len()).sum();
        balance.in_flight += (rings + self.shared.neighbour_rings.unresolved.len()) as u64;
        balance
    }

    /// Drops by reason over all threads, in the order of the reasons.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let sum = |reason: &DropReason| self.all_counters().map(|counters| counters.drops.of(*reason)).sum();
        DropReason::ALL.iter().map(|reason| (*reason, sum(reason))).collect()
    }

    pub(super) fn all_counters(&self) -> impl Iterator<Item = &Counters> {
        let workers = self.shared.workers.iter().map(|worker| worker.counters.as_ref());
        workers.chain(std::iter::once(self.shared.neighbour_counters.as_ref()))
    }

    /// Copies up to `limit` sessions, of one VRF or of all. Workers copy a
    /// few at a time between bursts.
    pub fn sessions(&self, vrf: Option<VrfId>, limit: usize) -> Vec<DumpedSession> {
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
        let deadline = Instant::now() + DUMP_TIMEOUT;
        let mut sessions: Vec<DumpedSession> = Vec::new();
        for receiver in waiting {
            let left = deadline.saturating_duration_since(Instant::now());
            sessions.extend(receiver.recv_timeout(left).unwrap_or_default());
        }
        sessions.truncate(limit);
        sessions
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }
}
