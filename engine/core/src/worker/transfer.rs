//! A worker's part in the transfer of live state: copies sessions out, or takes
//! them, a few in each turn of its loop. All memory is the control side's,
//! which gets it back.

use crate::session::tick::Tick;
use crate::session::{Allowance, NotRestored, SessionTable};
use crate::tables::Tables;
use crate::transfer::{ChunkWriter, SessionRecord};

/// A chunk of sessions in the making.
#[derive(Debug)]
pub struct SessionExport {
    chunk: ChunkWriter,
    cursor: u32,
    since: Option<Tick>,
    began: Option<Tick>,
    sessions: u64,
    more: bool,
}

impl SessionExport {
    /// Sessions of a worker from the first on: all, or those that have had a
    /// packet since that moment of its time. Allocates the chunk.
    pub fn new(since: Option<Tick>) -> Self {
        Self { chunk: ChunkWriter::sessions(), cursor: 0, since, began: None, sessions: 0, more: true }
    }

    /// Copies some more. Returns whether the chunk is full, or all is copied.
    pub(super) fn fill(&mut self, table: &SessionTable, now: Tick, budget: usize) -> bool {
        let (chunk, sessions) = (&mut self.chunk, &mut self.sessions);
        let places = budget.min(chunk.room());
        self.began.get_or_insert(now);
        self.more = table.copy_out(&mut self.cursor, places, self.since, now, &mut |session| {
            chunk.put(session);
            *sessions += 1;
        });
        !self.more || chunk.room() < budget
    }

    /// The chunk, unless it is empty.
    pub fn chunk(&mut self) -> Option<&[u8]> {
        (!self.chunk.is_empty()).then(|| self.chunk.finish())
    }

    /// Whether the worker has more sessions; gives the chunk's memory to them.
    pub fn go_on(&mut self) -> bool {
        self.chunk.clear();
        self.more
    }

    /// When the first chunk was begun, in the worker's time. What has a packet
    /// later than that may have been copied too early.
    pub fn began(&self) -> Option<Tick> {
        self.began
    }

    /// Sessions copied so far.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }
}

/// What became of sessions that came from another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// They go on here.
    pub restored: u64,
    /// They were idle for their timeout as it is here.
    pub over: u64,
    /// Their VRF has as many as it may.
    pub quota: u64,
    /// The table of the worker that would own them is full.
    pub full: u64,
}

impl Taken {
    fn count(&mut self, outcome: Result<(), NotRestored>) {
        *match outcome {
            Ok(()) => &mut self.restored,
            Err(NotRestored::Over) => &mut self.over,
            Err(NotRestored::Quota) => &mut self.quota,
            Err(NotRestored::Full) => &mut self.full,
        } += 1;
    }

    /// Adds up.
    pub fn add(&mut self, other: Taken) {
        self.restored += other.restored;
        self.over += other.over;
        self.quota += other.quota;
        self.full += other.full;
    }
}

/// Sessions for a worker to take, and what became of them.
#[derive(Debug)]
pub struct SessionImport {
    sessions: Vec<SessionRecord>,
    next: usize,
    taken: Taken,
}

impl SessionImport {
    /// Room for so many sessions.
    pub fn new(capacity: usize) -> Self {
        Self { sessions: Vec::with_capacity(capacity), next: 0, taken: Taken::default() }
    }

    /// Adds one. Returns whether there is room for more.
    pub fn push(&mut self, session: SessionRecord) -> bool {
        self.sessions.push(session);
        self.sessions.len() < self.sessions.capacity()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes some more. Returns whether all are done.
    pub(super) fn work_off(
        &mut self,
        table: &mut SessionTable,
        tables: &Tables,
        now: Tick,
        budget: usize,
    ) -> bool {
        for session in self.sessions.iter().skip(self.next).take(budget) {
            let vrf = tables.vrfs.get(session.key.vrf.index());
            let allowance = vrf.map_or(Allowance::NONE, |vrf| vrf.sessions);
            self.taken.count(table.restore(session, allowance, now));
        }
        self.next = self.next.saturating_add(budget).min(self.sessions.len());
        self.next == self.sessions.len()
    }

    /// What became of them; empties it.
    pub fn finish(&mut self) -> Taken {
        self.sessions.clear();
        self.next = 0;
        std::mem::take(&mut self.taken)
    }
}
