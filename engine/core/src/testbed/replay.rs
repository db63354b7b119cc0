//! Workers whose ports replay frames: the engine at work and nothing else, for
//! benchmarks.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use tieline_mailbox::{self as mailbox, mailbox};

use crate::io::replay::{ReplayBuf, ReplayIo, ReplayPool, ReplayRx, ReplayTx};
use crate::pipeline::handover::HandoverRings;
use crate::pipeline::outbox::NeighbourRings;
use crate::session::tick::Tick;
use crate::stats::{Balance, Counters};
use crate::tables::Tables;
use crate::testbed::{DEPTH, Size, parts};
use crate::types::{PortId, WorkerId};
use crate::worker::Worker;
use crate::worker::command::{AddPort, Command, Done};

/// A worker and its tables. It has to be driven by the thread that made its
/// free buffers, whichever thread made the worker.
pub struct ReplayBed {
    worker: Worker<ReplayIo>,
    id: WorkerId,
    commands: Arc<ArrayQueue<Command<ReplayIo>>>,
    counters: Arc<Counters>,
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
    /// A worker without ports, and these tables, for the calling thread to
    /// drive, which gets the buffers. Of `size` the number of workers is not
    /// used: there is one.
    ///
    /// # Panics
    /// Never: the one worker has the one ring.
    pub fn new(size: Size, tables: Tables) -> Self {
        let pool = ReplayPool::new(size.buffers);
        Self::several(Size { workers: 1, ..size }, tables, &pool).pop().expect("there is one worker")
    }

    /// The workers of one gateway, without ports, each for a thread of its
    /// own. Every such thread has to make a [`ReplayPool`] before it drives
    /// its worker; `size.buffers` is not used.
    pub fn several(size: Size, tables: Tables, pool: &ReplayPool) -> Vec<Self> {
        let rings = HandoverRings::new(size.workers, DEPTH);
        let neighbours = NeighbourRings::new(DEPTH);
        let tables = Arc::new(tables);
        let bed = |number: usize| {
            let id = WorkerId(number as u16);
            let (sender, reader) = mailbox(Arc::clone(&tables));
            let shared = (Arc::clone(&rings), Arc::clone(&neighbours));
            let parts = parts::<ReplayIo>(size, id, reader, shared, pool.clone());
            let (commands, counters) = (Arc::clone(&parts.commands), Arc::clone(&parts.counters));
            let neighbours = Arc::clone(&neighbours);
            Self { worker: Worker::new(parts), id, commands, counters, neighbours, _sender: sender }
        };
        (0..size.workers).map(bed).collect()
    }

    /// Attaches a port with these receive queues and one transmit queue.
    pub fn attach(&mut self, port: PortId, is_host: bool, rx: Vec<ReplayRx>) {
        let add = AddPort {
            port,
            rx: (0..).zip(rx).collect(),
            tx: Some(ReplayTx),
            tx_owner: self.id,
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
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// All doors of a gateway that has this worker alone.
    pub fn balance(&self) -> Balance {
        balance(std::slice::from_ref(self))
    }
}

/// All doors of the workers of one gateway.
pub fn balance(beds: &[ReplayBed]) -> Balance {
    let waiting = beds.first().map_or(0, |bed| bed.neighbours.unresolved.len());
    Balance::of(beds.iter().map(|bed| bed.counters.as_ref()), waiting as u64)
}
