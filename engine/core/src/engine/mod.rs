//! The engine from outside: starts the workers, changes the tables, attaches
//! ports, and reads what the workers count.
//!
//! An [`Engine`] is cheap to clone and may be used from any control thread.
//! Tables have one writer at a time, behind a lock that no worker ever takes.
//!
//! - [`ports`]: attaching and detaching ports while packets flow
//! - [`totals`]: what is counted of interfaces and VRFs
//! - [`transfer`]: live state to and from another process
//! - [`view`]: what the engine tells about itself

pub mod ports;
pub mod totals;
pub mod transfer;
pub mod view;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use tieline_mailbox::{self as mailbox, mailbox};
use tieline_process::essential;

use crate::io::Io;
use crate::local::neighbour_thread::{self, NeighbourThread};
use crate::local::neighbours::NeighbourTimers;
use crate::local::rate_limit::RateLimits;
use crate::pipeline::handover::{HandoverEnd, HandoverRings, MAX_WORKERS};
use crate::pipeline::outbox::NeighbourRings;
use crate::session::fragments::{FragmentLimits, FragmentTable};
use crate::session::table::{SessionLimits, SessionTable};
use crate::session::tick::Tick;
use crate::session::timeouts::Timeouts;
use crate::stats::Counters;
use crate::stats::stages::CycleRate;
use crate::tables::{Options, Tables};
use crate::types::{VrfId, WorkerId};
use crate::worker::command::Command;
use crate::worker::idle::IdlePolicy;
use crate::worker::{Worker, WorkerParts};
use ports::PortMap;
use totals::Starts;

/// Commands that can wait for one worker.
const COMMAND_DEPTH: usize = 64;
/// How often a thread that waits for workers gives way before it sleeps: a
/// worker that is awake needs less time than any sleep takes.
const QUICK_LOOKS: u32 = 100;
/// How often threads that wait for workers look again.
const POLL_INTERVAL: Duration = Duration::from_micros(20);

/// Prepares a thread that handles buffers; what it returns lives as long as
/// the thread.
pub type ThreadSetup = Arc<dyn Fn() -> Box<dyn Any> + Send + Sync>;

/// What an engine is made with. Everything that grows with use has its limit
/// here.
#[derive(Clone)]
pub struct EngineConfig {
    /// The core of each worker; `None`: not pinned. At least one worker.
    pub cores: Vec<Option<usize>>,
    /// What workers do without work.
    pub idle: IdlePolicy,
    /// Sessions of each worker.
    pub sessions: usize,
    /// Fragmented packets of each worker at once.
    pub fragments: usize,
    /// Interfaces that are counted.
    pub interfaces: usize,
    /// VRFs that are counted.
    pub vrfs: usize,
    /// Packets that can wait in each ring.
    pub ring_depth: usize,
    /// Idle timeouts of sessions.
    pub timeouts: Timeouts,
    /// Accept TCP connections in their middle, as after a restart.
    pub tcp_pickup: bool,
    /// How neighbours are probed and aged.
    pub neighbours: NeighbourTimers,
    /// Behaviour of the packet path.
    pub options: Options,
    /// Called first in every thread that handles buffers.
    pub thread_setup: ThreadSetup,
}

impl std::fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineConfig")
            .field("cores", &self.cores)
            .field("idle", &self.idle)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cores: vec![None],
            idle: IdlePolicy::Sleep { longest: Duration::from_millis(1) },
            sessions: 1_000_000,
            fragments: 4096,
            interfaces: 4096,
            vrfs: 4096,
            ring_depth: 4096,
            timeouts: Timeouts::default(),
            tcp_pickup: false,
            neighbours: NeighbourTimers::default(),
            options: Options::default(),
            thread_setup: Arc::new(|| Box::new(())),
        }
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration names no worker, or more than there can be.
    #[error("{0} workers are configured; there must be 1 to {MAX_WORKERS}")]
    Workers(usize),
    /// A core does not exist or may not be used.
    #[error("core {0} does not exist or this process may not use it")]
    Core(usize),
    /// The system gave no thread.
    #[error("could not start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The control side's hold on one worker.
struct WorkerHandle<I: Io> {
    core: Option<usize>,
    commands: Arc<ArrayQueue<Command<I>>>,
    counters: Arc<Counters>,
    session_capacity: usize,
    thread: Thread,
}

/// The tables and where they go.
struct Writer {
    tables: Tables,
    senders: Vec<mailbox::Sender<Tables>>,
}

struct Shared<I: Io> {
    workers: Vec<WorkerHandle<I>>,
    neighbour_rings: Arc<NeighbourRings<I::Buf>>,
    neighbour_counters: Arc<Counters>,
    writer: Arc<Mutex<Writer>>,
    ports: Mutex<PortMap>,
    starts: Mutex<Starts>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
    started: Instant,
    cycle_rate: CycleRate,
}

/// A running engine.
pub struct Engine<I: Io> {
    shared: Arc<Shared<I>>,
}

impl<I: Io> Clone for Engine<I> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<I: Io> std::fmt::Debug for Engine<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("workers", &self.shared.workers.len()).finish_non_exhaustive()
    }
}

/// For what a panic cannot leave half changed: maps of which each change is one
/// assignment. Tables have [`tables_of`].
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tables, which only whole changes leave. Whoever changes them in an
/// [essential] thread takes the process with it when it panics;
/// until it is gone, nobody sees, changes or publishes what it has left.
fn tables_of(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(|_: PoisonError<_>| {
        panic!("the tables are half changed: whoever changed them panicked")
    })
}

/// Changes tables and publishes them to the workers.
#[derive(Clone)]
pub(crate) struct TableWriter(Arc<Mutex<Writer>>);

impl TableWriter {
    /// Changes the tables; publishes them if the change says that it changed
    /// something. Returns the version that holds the change.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut Tables) -> (R, bool)) -> (R, u64) {
        let mut writer = tables_of(&self.0);
        let writer = &mut *writer;
        let (result, changed) = change(&mut writer.tables);
        if changed {
            writer.tables.version += 1;
            let version = writer.tables.version;
            let snapshot = Arc::new(writer.tables.clone());
            for sender in &mut writer.senders {
                sender.publish(version, Arc::clone(&snapshot));
            }
        }
        for sender in &mut writer.senders {
            sender.collect();
        }
        (result, writer.tables.version)
    }
}

impl<I: Io> Engine<I> {
    /// Starts the workers, with no ports and empty tables.
    ///
    /// # Errors
    /// See [`EngineError`]; nothing is left running.
    pub fn start(config: EngineConfig, pool: I::Pool) -> Result<Self, EngineError> {
        let count = config.cores.len();
        if !(1..=MAX_WORKERS).contains(&count) {
            return Err(EngineError::Workers(count));
        }
        let cores = core_ids(&config.cores)?;
        let rings = HandoverRings::new(count, config.ring_depth);
        let neighbour_rings = NeighbourRings::new(config.ring_depth);
        let tables = Tables { options: config.options, ..Tables::default() };
        let first = Arc::new(tables.clone());
        let stopping = Arc::new(AtomicBool::new(false));
        let mut start =
            Starting { threads: Vec::new(), stopping: Arc::clone(&stopping), workers: Vec::new() };
        let mut senders = Vec::new();
        for (at, core) in cores.into_iter().enumerate() {
            let (sender, reader) = mailbox(Arc::clone(&first));
            senders.push(sender);
            let parts = worker_parts(&config, WorkerId(at as u16), reader, &rings, &neighbour_rings, &pool);
            start.worker(parts, config.cores[at], core, &config)?;
        }
        let writer = Arc::new(Mutex::new(Writer { tables, senders }));
        let neighbour_counters = Arc::new(Counters::new(config.interfaces, config.vrfs));
        let neighbours = NeighbourThread {
            tables: TableWriter(Arc::clone(&writer)),
            rings: Arc::clone(&neighbour_rings),
            handover: HandoverEnd::new(rings),
            pool,
            counters: Arc::clone(&neighbour_counters),
            timers: config.neighbours,
            stopping: Arc::clone(&stopping),
            thread_setup: Arc::clone(&config.thread_setup),
        };
        start.threads.push(neighbour_thread::spawn::<I>(neighbours)?);
        let (workers, threads) = start.finish();
        let shared = Shared {
            workers,
            neighbour_rings,
            neighbour_counters,
            writer,
            ports: Mutex::new(PortMap::default()),
            starts: Mutex::default(),
            threads: Mutex::new(threads),
            stopping,
            started: Instant::now(),
            cycle_rate: CycleRate::start(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Changes the tables and publishes them. Returns what the change returns
    /// and the version that holds it.
    pub fn update<R>(&self, change: impl FnOnce(&mut Tables) -> R) -> (R, u64) {
        TableWriter(Arc::clone(&self.shared.writer)).update(|tables| (change(tables), true))
    }

    /// Like [`update`](Self::update), but publishes only if the change
    /// returns true beside its result.
    pub fn update_if<R>(&self, change: impl FnOnce(&mut Tables) -> (R, bool)) -> (R, u64) {
        TableWriter(Arc::clone(&self.shared.writer)).update(change)
    }

    /// Reads the tables as they were last changed.
    pub fn read<R>(&self, read: impl FnOnce(&Tables) -> R) -> R {
        read(&tables_of(&self.shared.writer).tables)
    }

    /// A copy of the tables, to read at leisure.
    pub fn snapshot(&self) -> Tables {
        self.read(Clone::clone)
    }

    /// The version of the tables as they were last published.
    pub fn version(&self) -> u64 {
        self.read(|tables| tables.version)
    }

    /// The newest version that every worker forwards by.
    pub fn programmed(&self) -> u64 {
        tables_of(&self.shared.writer).senders.iter().map(mailbox::Sender::seen).min().unwrap_or(0)
    }

    /// Waits until every worker forwards by `version` or a newer one; returns
    /// whether that came true in time.
    pub fn wait_programmed(&self, version: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut looks = 0;
        while self.programmed() < version {
            if Instant::now() >= deadline {
                return false;
            }
            looks += 1;
            if looks <= QUICK_LOOKS {
                std::thread::yield_now();
            } else {
                self.wake_workers();
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        true
    }

    /// Wakes workers that sleep, so that they see at once what was published.
    pub fn wake_workers(&self) {
        for worker in &self.shared.workers {
            worker.thread.unpark();
        }
    }

    /// Stops all threads. Packets on their way are dropped.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        for worker in &self.shared.workers {
            push_command(worker, Command::Stop);
        }
        for thread in lock(&self.shared.threads).drain(..) {
            // A worker that panicked has ended too.
            let _ = thread.join();
        }
    }
}

/// Puts a command in front of a worker, waiting while its queue is full.
fn push_command<I: Io>(worker: &WorkerHandle<I>, mut command: Command<I>) {
    while let Err(back) = worker.commands.push(command) {
        command = back;
        worker.thread.unpark();
        std::thread::sleep(POLL_INTERVAL);
    }
    worker.thread.unpark();
}

/// The system's names of the configured cores.
fn core_ids(wanted: &[Option<usize>]) -> Result<Vec<Option<core_affinity::CoreId>>, EngineError> {
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    wanted
        .iter()
        .map(|core| match core {
            None => Ok(None),
            Some(number) => usable
                .iter()
                .find(|id| id.id == *number)
                .map(|id| Some(*id))
                .ok_or(EngineError::Core(*number)),
        })
        .collect()
}

fn worker_parts<I: Io>(
    config: &EngineConfig,
    id: WorkerId,
    tables: mailbox::Reader<Tables>,
    rings: &Arc<HandoverRings<I::Buf>>,
    neighbours: &Arc<NeighbourRings<I::Buf>>,
    pool: &I::Pool,
) -> WorkerParts<I> {
    let start = Tick(0);
    let limits = SessionLimits {
        capacity: config.sessions,
        vrfs: config.vrfs,
        timeouts: config.timeouts,
        tcp_pickup: config.tcp_pickup,
        seed: random_seed(),
    };
    WorkerParts {
        id,
        tables,
        commands: Arc::new(ArrayQueue::new(COMMAND_DEPTH)),
        rings: Arc::clone(rings),
        neighbours: Arc::clone(neighbours),
        pool: pool.clone(),
        sessions: SessionTable::new(limits),
        fragments: FragmentTable::new(FragmentLimits {
            capacity: config.fragments,
            ..FragmentLimits::with_seed(random_seed())
        }),
        limits: RateLimits::new(config.interfaces, start),
        counters: Arc::new(Counters::new(config.interfaces, config.vrfs)),
        idle: config.idle,
    }
}

/// A number that an outsider cannot guess, for keyed hashes.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Threads started so far; stops them again if the start fails half way.
struct Starting<I: Io> {
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    workers: Vec<WorkerHandle<I>>,
}

impl<I: Io> Starting<I> {
    fn worker(
        &mut self,
        parts: WorkerParts<I>,
        core_number: Option<usize>,
        core: Option<core_affinity::CoreId>,
        config: &EngineConfig,
    ) -> Result<(), EngineError> {
        let commands = Arc::clone(&parts.commands);
        let counters = Arc::clone(&parts.counters);
        let session_capacity = parts.sessions.capacity();
        let name = format!("worker-{}", parts.id.0);
        let setup = Arc::clone(&config.thread_setup);
        let thread = essential::spawn(name, move || {
            if let Some(core) = core {
                core_affinity::set_for_current(core);
            }
            let guard = setup();
            Worker::new(parts).run();
            drop(guard);
        })?;
        let handle = WorkerHandle {
            core: core_number,
            commands,
            counters,
            session_capacity,
            thread: thread.thread().clone(),
        };
        self.workers.push(handle);
        self.threads.push(thread);
        Ok(())
    }

    fn finish(mut self) -> (Vec<WorkerHandle<I>>, Vec<JoinHandle<()>>) {
        (std::mem::take(&mut self.workers), std::mem::take(&mut self.threads))
    }
}

impl<I: Io> Drop for Starting<I> {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.stopping.store(true, Ordering::Release);
        for worker in &self.workers {
            push_command(worker, Command::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The number of VRFs that can be counted and looked up.
pub const MAX_VRFS: usize = VrfId::NONE.0 as usize;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::io::memory::{MemoryIo, MemoryPool};

    #[test]
    fn tables_that_a_panic_left_half_changed_are_neither_seen_nor_published() {
        let config = EngineConfig { sessions: 16, ..EngineConfig::default() };
        let engine: Engine<MemoryIo> = Engine::start(config, MemoryPool::new(1)).expect("threads");
        let (_, version) = engine.update(|_| ());
        assert!(engine.wait_programmed(version, Duration::from_secs(60)));
        // The engine's own threads change tables too, and would end this process.
        engine.stop();

        let half = catch_unwind(AssertUnwindSafe(|| {
            engine.update(|tables| {
                tables.options.clamp_mss ^= true;
                panic!("in the middle of a change");
            })
        }));
        assert!(half.is_err());

        assert!(catch_unwind(AssertUnwindSafe(|| engine.update(|_| ()))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| engine.snapshot())).is_err());
        assert_eq!(lock(&engine.shared.writer).tables.version, version);
    }
}
