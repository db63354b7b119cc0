//! One worker whose ports replay frames: the engine at work and nothing else,
//! for benchmarks.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::io::replay::{ReplayBuf, ReplayIo, ReplayPool, ReplayRx, ReplayTx};
use crate::pipeline::outbox::{NeighbourRings, WorkerRing};
use crate::session::tick::Tick;
use crate::stats::{Balance, Counters};
use crate::tables::Tables;
use crate::testbed::{DEPTH, Size, parts};
use crate::types::{PortId, WorkerId};
use crate::worker::Worker;
use crate::worker::command::{AddPort, Command, Done};
use crate::worker::mailbox::{self, mailbox};

/// A worker and its tables. It has to be driven by the thread that made it,
/// whose free buffers it uses.
pub struct ReplayBed {
    worker: Worker<ReplayIo>,
    commands: Arc<ArrayQueue<Command<ReplayIo>>>,
    counters: Arc<Counters>,
    rings: Box<[WorkerRing<ReplayBuf>]>,
    neighbours: Arc<NeighbourRings<ReplayBuf>>,
    /// Keeps the worker's tables.
    _sender: mailbox::Sender<Tables>,
}

impl std::fmt::Debug for ReplayBed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayBed").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl ReplayBed {
    /// A worker without ports, and these tables. Of `size` the number of
    /// workers is not used: there is one.
    ///
    /// # Panics
    /// Never: the one worker has the one ring.
    pub fn new(size: Size, tables: Tables) -> Self {
        let pool = ReplayPool::new(size.buffers);
        let rings: Box<[WorkerRing<ReplayBuf>]> = Box::new([Arc::new(ArrayQueue::new(DEPTH))]);
        let neighbours = NeighbourRings::new(DEPTH);
        let (sender, reader) = mailbox(Arc::new(tables));
        let parts =
            parts::<ReplayIo>(size, WorkerId(0), reader, (rings.clone(), Arc::clone(&neighbours)), pool);
        let (commands, counters) = (Arc::clone(&parts.commands), Arc::clone(&parts.counters));
        let worker = Worker::new(parts).expect("the worker has a ring");
        Self { worker, commands, counters, rings, neighbours, _sender: sender }
    }

    /// Attaches a port with these receive queues and one transmit queue.
    pub fn attach(&mut self, port: PortId, is_host: bool, rx: Vec<ReplayRx>) {
        let add = AddPort {
            port,
            rx: (0..).zip(rx).collect(),
            tx: Some(ReplayTx),
            tx_owner: WorkerId(0),
            is_host,
            done: Done::new().0,
        };
        let pushed = self.commands.push(Command::AddPort(Box::new(add)));
        assert!(pushed.is_ok(), "the command queue holds {DEPTH}");
        self.turn(Tick(0));
    }

    /// One turn of the worker at a given time.
    #[inline]
    pub fn turn(&mut self, now: Tick) -> bool {
        self.worker.turn(now)
    }

    /// What the worker counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All doors.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        balance.add(&self.counters);
        let waiting = self.rings[0].len() + self.neighbours.unresolved.len();
        balance.in_flight += waiting as u64;
        balance
    }
}
