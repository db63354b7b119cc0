//! An engine in the hand: workers that are driven turn by turn, with ports in
//! memory. For tests, fuzzers and benchmarks.
//!
//! - [`Testbed`]: the workers, the wires, and the tables
//! - [`replay`]: one worker, for benchmarks
//! - [`topology`]: a small gateway to start from

pub mod replay;
pub mod topology;

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use tieline_mailbox::{self as mailbox, mailbox};

use crate::engine::ports::PortQueues;
use crate::io::Io;
use crate::io::memory::{MemoryBuf, MemoryIo, MemoryPool, MemoryWire};
use crate::local::rate_limit::RateLimits;
use crate::packet::flow_hash::flow_hash;
use crate::pipeline::handover::HandoverRings;
use crate::pipeline::outbox::{Learned, NeighbourRings, Unresolved};
use crate::pipeline::owner::worker_of;
use crate::session::fragments::{FragmentLimits, FragmentTable};
use crate::session::table::{SessionLimits, SessionTable};
use crate::session::tick::Tick;
use crate::session::timeouts::Timeouts;
use crate::stats::{Balance, Counters};
use crate::tables::Tables;
use crate::transfer::SessionRecord;
use crate::transfer::stream::{self, Chunk, Reader};
use crate::types::{PortId, WorkerId};
use crate::worker::command::{AddPort, Command, Done};
use crate::worker::idle::IdlePolicy;
use crate::worker::transfer::{SessionExport, SessionImport, Taken};
use crate::worker::{Worker, WorkerParts};

/// Packets that fit on a wire or into a ring.
const DEPTH: usize = 1024;

/// How large a testbed is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Workers.
    pub workers: usize,
    /// Buffers.
    pub buffers: usize,
    /// Sessions of each worker.
    pub sessions: usize,
    /// Interfaces and VRFs that are counted.
    pub counted: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { workers: 1, buffers: 2048, sessions: 4096, counted: 16 }
    }
}

/// Workers, wires and tables.
pub struct Testbed {
    /// Where all buffers come from.
    pub pool: MemoryPool,
    /// The workers, to be driven one by one where that matters.
    pub workers: Vec<Worker<MemoryIo>>,
    /// The time, as the workers see it.
    pub now: Tick,
    tables: Tables,
    senders: Vec<mailbox::Sender<Tables>>,
    commands: Vec<Arc<ArrayQueue<Command<MemoryIo>>>>,
    counters: Vec<Arc<Counters>>,
    neighbours: Arc<NeighbourRings<MemoryBuf>>,
    wires: Vec<MemoryWire>,
    /// Packets that the test has taken in place of the neighbour service.
    taken: u64,
}

impl std::fmt::Debug for Testbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Testbed").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Testbed {
    /// Workers without ports, and these tables.
    pub fn new(size: Size, tables: Tables) -> Self {
        let pool = MemoryPool::new(size.buffers);
        let rings = HandoverRings::new(size.workers, DEPTH);
        let neighbours = NeighbourRings::new(DEPTH);
        let first = Arc::new(tables.clone());
        let mut bed = Self {
            pool,
            workers: Vec::new(),
            now: Tick(0),
            tables,
            senders: Vec::new(),
            commands: Vec::new(),
            counters: Vec::new(),
            neighbours,
            wires: Vec::new(),
            taken: 0,
        };
        for id in 0..size.workers {
            let (sender, reader) = mailbox(Arc::clone(&first));
            let rings = (Arc::clone(&rings), Arc::clone(&bed.neighbours));
            let parts = parts::<MemoryIo>(size, WorkerId(id as u16), reader, rings, bed.pool.clone());
            bed.senders.push(sender);
            bed.commands.push(Arc::clone(&parts.commands));
            bed.counters.push(Arc::clone(&parts.counters));
            bed.workers.push(Worker::new(parts));
        }
        bed
    }

    /// Attaches a port in memory; its receive queue goes to the workers in
    /// turn, like its transmit queue.
    pub fn attach(&mut self, is_host: bool) -> PortId {
        let id = PortId(self.wires.len() as u16);
        let (wire, rx, tx) = MemoryWire::new(DEPTH);
        self.wires.push(wire);
        self.attach_queues(id, is_host, PortQueues { rx: vec![rx], tx: vec![tx] });
        id
    }

    fn attach_queues(&mut self, port: PortId, is_host: bool, queues: PortQueues<MemoryIo>) {
        let owner = WorkerId(port.0 % self.workers.len() as u16);
        let mut rx: Vec<_> = queues.rx.into_iter().enumerate().map(|(n, rx)| (n as u16, rx)).collect();
        let mut tx = queues.tx.into_iter().next();
        for (at, commands) in self.commands.iter().enumerate() {
            let owns = owner.index() == at;
            let add = AddPort {
                port,
                rx: if owns { std::mem::take(&mut rx) } else { Vec::new() },
                tx: if owns { tx.take() } else { None },
                tx_owner: owner,
                is_host,
                done: Done::new().0,
            };
            let pushed = commands.push(Command::AddPort(Box::new(add)));
            assert!(pushed.is_ok(), "the command queue holds {DEPTH}");
        }
    }

    /// Changes the tables and gives them to all workers.
    pub fn update(&mut self, change: impl FnOnce(&mut Tables)) {
        change(&mut self.tables);
        self.tables.version += 1;
        let snapshot = Arc::new(self.tables.clone());
        for sender in &mut self.senders {
            sender.publish(self.tables.version, Arc::clone(&snapshot));
        }
    }

    /// The tables as they were last changed.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Copies all sessions, as for another process.
    pub fn export_sessions(&mut self) -> Vec<SessionRecord> {
        let mut bytes = Vec::new();
        for at in 0..self.commands.len() {
            let mut export = Box::new(SessionExport::new(None));
            loop {
                let (done, receiver) = Done::new();
                self.command(at, Command::ExportSessions(export, done));
                export = receiver.try_recv().expect("the worker has nothing else to do");
                bytes.extend_from_slice(export.chunk().unwrap_or_default());
                if !export.go_on() {
                    break;
                }
            }
        }
        stream::write_end(&mut |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .expect("memory takes everything");
        let (mut reader, mut sessions) = (Reader::new(&bytes[..]), Vec::new());
        while let Chunk::Sessions(records) = reader.next_chunk().expect("our own stream") {
            sessions.extend(records.map(|record| record.expect("our own stream")));
        }
        sessions
    }

    /// Takes sessions of another process, each by the worker that owns it.
    pub fn import_sessions(&mut self, sessions: &[SessionRecord]) -> Taken {
        let mut taken = Taken::default();
        for session in sessions {
            let owner = worker_of(flow_hash(&session.key), self.workers.len());
            let mut import = Box::new(SessionImport::new(1));
            import.push(*session);
            let (done, receiver) = Done::new();
            self.command(owner.index(), Command::ImportSessions(import, done));
            taken.add(receiver.try_recv().expect("the worker has nothing else to do").finish());
        }
        taken
    }

    /// Gives a worker a command and lets it work.
    fn command(&mut self, at: usize, command: Command<MemoryIo>) {
        assert!(self.commands[at].push(command).is_ok(), "the command queue holds {DEPTH}");
        self.run();
    }

    /// Puts a frame on a wire. Returns whether there was a buffer and room.
    pub fn send(&self, port: PortId, frame: &[u8]) -> bool {
        let packet = self.pool.packet(frame);
        packet.is_some_and(|packet| self.wires[port.index()].send(packet).is_ok())
    }

    /// Lets all workers turn until none of them finds work.
    pub fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let now = self.now;
            let busy = self.workers.iter_mut().fold(false, |busy, worker| worker.turn(now) | busy);
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    /// Takes the next frame that came out of a port.
    pub fn receive(&self, port: PortId) -> Option<Vec<u8>> {
        use crate::packet::buffer::PacketBuf;
        self.wires[port.index()].receive().map(|packet| packet.bytes().to_vec())
    }

    /// Drops what came out of a port and returns how many frames it was.
    pub fn discard(&self, port: PortId) -> usize {
        std::iter::from_fn(|| self.wires[port.index()].receive()).count()
    }

    /// Takes the next packet that waits for a neighbour. It counts as in
    /// flight from then on.
    pub fn unresolved(&mut self) -> Option<Unresolved<MemoryBuf>> {
        let item = self.neighbours.unresolved.pop();
        self.taken += u64::from(item.is_some());
        item
    }

    /// Takes what was heard of a neighbour next.
    pub fn learned(&mut self) -> Option<Learned> {
        self.neighbours.learned.pop()
    }

    /// What one worker counts.
    pub fn counters(&self, worker: usize) -> &Counters {
        &self.counters[worker]
    }

    /// All drops for one reason.
    pub fn drops(&self, reason: crate::DropReason) -> u64 {
        self.counters.iter().map(|counters| counters.drops.of(reason)).sum()
    }

    /// All doors.
    pub fn balance(&self) -> Balance {
        let counters = self.counters.iter().map(Arc::as_ref);
        Balance::of(counters, self.neighbours.unresolved.len() as u64 + self.taken)
    }
}

/// The rings of all workers, and those to the neighbour service.
type Rings<B> = (Arc<HandoverRings<B>>, Arc<NeighbourRings<B>>);

/// What a worker of a testbed is made of.
fn parts<I: Io>(
    size: Size,
    id: WorkerId,
    tables: mailbox::Reader<Tables>,
    (rings, neighbours): Rings<I::Buf>,
    pool: I::Pool,
) -> WorkerParts<I> {
    let limits = SessionLimits {
        capacity: size.sessions,
        vrfs: size.counted,
        timeouts: Timeouts::default(),
        seed: 1,
        tcp_pickup: false,
    };
    WorkerParts {
        id,
        tables,
        commands: Arc::new(ArrayQueue::new(DEPTH)),
        rings,
        neighbours,
        pool,
        sessions: SessionTable::new(limits),
        fragments: FragmentTable::new(FragmentLimits::with_seed(1)),
        limits: RateLimits::new(size.counted, Tick(0)),
        counters: Arc::new(Counters::new(size.counted, size.counted)),
        idle: IdlePolicy::Poll,
    }
}
