//! What the caller's threads and the store's own have in common: the open
//! database behind a lock, and everything that is done with it.
//!
//! The lock is held for one short thing at a time: a write, some blocks. What
//! takes long (merging, reading everything) takes `maintenance` in addition,
//! so that there is one such thing at a time, and lets writes in between.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::block::BlockWriter;
use crate::changes::Changes;
use crate::database::{Checkpointer, Database};
use crate::error::StoreError;
use crate::merge::{SortedLog, Stopped, merge};
use crate::options::Options;
use crate::place::{Files, Place};
use crate::position::PositionFile;

/// Blocks that are written at once while merging.
const STAGED_BLOCKS: usize = 4;
/// Bytes of the log that are read at once.
const READ_BYTES: usize = 256 << 10;
/// The journal starts anew after about as many bytes.
const JOURNAL_BYTES: u64 = 8 << 20;
/// When it has grown to more than that, writers wait until it is cut.
const JOURNAL_LIMIT_BYTES: u64 = 16 << 20;
/// Pages that a small write touches, about.
const WRITE_OVERHEAD_BYTES: u64 = 8 << 10;
/// A write waits at most so long for merging.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) options: Options,
    /// The database's journal, to bring it to disk without any lock.
    pub(crate) journal: File,
    /// The files that were opened.
    files: Files,
    inner: Mutex<Inner>,
    maintenance: Mutex<()>,
    /// Something is to be brought to disk.
    pub(crate) unsynced: Condvar,
    /// Something is to be merged or copied.
    pub(crate) work: Condvar,
    /// The log has become shorter, or does not.
    pub(crate) merged: Condvar,
    /// The store is being closed.
    pub(crate) stopping: Condvar,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) database: Database,
    pub(crate) position: PositionFile,
    /// Bytes of changes in the log.
    log_bytes: usize,
    /// Bytes written since the journal was last copied.
    journal_bytes: u64,
    /// An earlier process may have left something to sweep.
    leftovers: bool,
    /// Why changes are not stored, since everything was.
    pub(crate) lost: Option<String>,
    /// Why the last merging or copying failed.
    pub(crate) trouble: Option<String>,
    pub(crate) stop: bool,
}

impl Inner {
    pub(crate) fn new(database: Database, position: PositionFile, log_bytes: usize) -> Self {
        Self {
            database,
            position,
            log_bytes,
            journal_bytes: 0,
            leftovers: true,
            lost: None,
            trouble: None,
            stop: false,
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.position.synced() >= self.database.last()
    }
}

impl Shared {
    pub(crate) fn new(place: Place, files: Files, options: Options, journal: File, inner: Inner) -> Self {
        Self {
            place,
            options,
            journal,
            files,
            inner: Mutex::new(inner),
            maintenance: Mutex::new(()),
            unsynced: Condvar::new(),
            work: Condvar::new(),
            merged: Condvar::new(),
            stopping: Condvar::new(),
        }
    }

    /// A panic elsewhere leaves nothing half done: the database sees to that.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock, unless somebody has it: perhaps for as long as a disk takes.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Some(inner),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn maintenance(&self) -> MutexGuard<'_, ()> {
        self.maintenance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds changes to the log.
    pub(crate) fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        let mut inner = self.wait_for_room();
        let was_synced = inner.is_synced();
        let gap = inner.lost.is_some();
        if let Err(error) = inner.database.append(changes.as_bytes(), gap) {
            inner.lost.get_or_insert_with(|| error.to_string());
            return Err(error);
        }
        inner.log_bytes += changes.bytes();
        inner.journal_bytes += changes.bytes() as u64 + WRITE_OVERHEAD_BYTES;
        self.written(inner, was_synced)
    }

    /// Puts `records` in place of everything.
    pub(crate) fn replace(&self, records: &Changes, version: u32) -> Result<(), StoreError> {
        let _turn = self.maintenance();
        let mut inner = self.lock();
        let was_synced = inner.is_synced();
        // Staged blocks of a failure are left behind.
        inner.leftovers = true;
        let bytes = replace(&mut inner.database, records, version, false)?;
        inner.log_bytes = 0;
        inner.journal_bytes += bytes;
        inner.lost = None;
        self.work.notify_one();
        self.written(inner, was_synced)
    }

    /// Notes that a change is in the operating system, and sees to it that it
    /// comes to disk.
    fn written(&self, mut inner: MutexGuard<'_, Inner>, was_synced: bool) -> Result<(), StoreError> {
        let last = inner.database.last();
        // The file tells less if that fails, and nothing wrong.
        let _ = inner.position.set_written(last);
        self.check_files(&mut inner)?;
        if self.has_work(&inner) {
            self.work.notify_one();
        }
        if self.options.sync_interval.is_zero() {
            drop(inner);
            return self.sync();
        }
        if was_synced {
            self.unsynced.notify_one();
        }
        Ok(())
    }

    /// Whether the names of the store still mean the files that are open here:
    /// a process that opens it later finds nothing else.
    pub(crate) fn check_files(&self, inner: &mut Inner) -> Result<(), StoreError> {
        if self.place.files() == Some(self.files) {
            return Ok(());
        }
        let error = StoreError::Gone { path: self.place.path().into() };
        inner.lost.get_or_insert_with(|| error.to_string());
        Err(error)
    }

    /// Brings everything written so far to disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let last = self.lock().database.last();
        let result = self.journal.sync_data();
        let mut inner = self.lock();
        match result {
            Ok(()) => {
                let _ = inner.position.set_synced(last);
                Ok(())
            }
            Err(error) => {
                // What the system has given up on is not tried again: only
                // writing it anew helps.
                let error = StoreError::io(self.place.path(), "brought to disk")(error);
                inner.lost.get_or_insert_with(|| error.to_string());
                Err(error)
            }
        }
    }

    /// Calls `emit` with every record, in the order of keys.
    pub(crate) fn walk(
        &self,
        emit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _turn = self.maintenance();
        let (log, _, _) = self.read_log(usize::MAX)?;
        self.merge(log, emit)
    }

    fn merge(
        &self,
        log: Vec<u8>,
        emit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let sorted = SortedLog::new(&log).map_err(|_| self.damaged("its log cannot be read".into()))?;
        merge(|number| self.lock().database.block(number), &sorted, emit).map_err(|stopped| match stopped {
            Stopped::Block(number) => self.damaged(format!("block {number} cannot be read")),
            Stopped::Caller(error) => error,
        })
    }

    /// At least `limit` bytes of the log, or all that it has now; the number of the last
    /// change in them, and whether there is any.
    fn read_log(&self, limit: usize) -> Result<(Vec<u8>, u64, bool), StoreError> {
        let (floor, end, in_log) = {
            let inner = self.lock();
            (inner.database.head().floor, inner.database.last(), inner.log_bytes)
        };
        let mut log = Vec::with_capacity(in_log.min(limit).saturating_add(READ_BYTES));
        let mut through = floor;
        while log.len() < limit && through < end {
            let part = log.len().saturating_add(READ_BYTES).min(limit);
            let last = self.lock().database.read_log(through, part, &mut log)?;
            if last == through {
                break;
            }
            through = last;
        }
        if log.len() > SortedLog::LIMIT {
            return Err(self.damaged(format!("its log of {} bytes is too long", log.len())));
        }
        Ok((log, through, through > floor))
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::damaged(self.place.path(), reason)
    }

    fn has_work(&self, inner: &Inner) -> bool {
        inner.leftovers || inner.log_bytes > self.options.log_bytes || inner.journal_bytes > JOURNAL_BYTES
    }

    /// Waits until merging has caught up, when it is far behind: memory for
    /// reading the log stays bounded.
    fn wait_for_room(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        let begun = Instant::now();
        while inner.log_bytes > 2 * self.options.log_bytes
            && inner.trouble.is_none()
            && let Some(left) = PATIENCE.checked_sub(begun.elapsed())
        {
            let waited = self.merged.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        inner
    }

    /// Waits until there is something to merge or to copy; `false` when the
    /// store is being closed.
    pub(crate) fn wait_for_work(&self) -> bool {
        let idle = |inner: &mut Inner| !inner.stop && !self.has_work(inner);
        let inner = self.work.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !inner.stop
    }

    /// Merges a long log, sweeps, and copies a long journal.
    pub(crate) fn maintain(&self, checkpointer: &Checkpointer) -> Result<(), StoreError> {
        if self.lock().log_bytes > self.options.log_bytes {
            self.fold()?;
        }
        if self.lock().leftovers {
            let _turn = self.maintenance();
            while self.lock().database.sweep()? {}
            while self.lock().database.shrink()? {}
            self.lock().leftovers = false;
        }
        if self.lock().journal_bytes > JOURNAL_BYTES {
            let left = checkpointer.copy()?;
            let length = self.journal.metadata().map_or(0, |metadata| metadata.len());
            if left.max(length) > JOURNAL_LIMIT_BYTES {
                let _writers_wait = self.lock();
                checkpointer.truncate()?;
            }
            self.lock().journal_bytes = 0;
        }
        Ok(())
    }

    /// Merges the log into blocks of a new generation.
    fn fold(&self) -> Result<(), StoreError> {
        let _turn = self.maintenance();
        let (log, through, any) = self.read_log(self.options.log_bytes)?;
        if !any {
            return Ok(());
        }
        let log_bytes = log.len();
        let mut stage = Staging::default();
        self.merge(
            log,
            |key, value| {
                if stage.add(key, value) { stage.write(&self.lock().database) } else { Ok(()) }
            },
        )?;
        let (blocks, bytes) = stage.finish(&self.lock().database)?;
        let mut inner = self.lock();
        inner.database.adopt(blocks, through)?;
        inner.journal_bytes += bytes;
        inner.log_bytes = inner.log_bytes.saturating_sub(log_bytes);
        inner.leftovers = true;
        drop(inner);
        self.merged.notify_all();
        Ok(())
    }
}

/// Blocks of the generation to come, some at a time.
#[derive(Default)]
struct Staging {
    writer: BlockWriter,
    pending: Vec<Vec<u8>>,
    blocks: u32,
    bytes: u64,
}

impl Staging {
    /// Adds a record, whose key is above all before. Returns whether it is
    /// time to write.
    fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.pending.extend(self.writer.add(key, value));
        self.pending.len() >= STAGED_BLOCKS
    }

    /// How many blocks there are, and of how many bytes.
    fn finish(mut self, database: &Database) -> Result<(u32, u64), StoreError> {
        self.pending.extend(self.writer.finish());
        self.write(database)?;
        Ok((self.blocks, self.bytes))
    }

    fn write(&mut self, database: &Database) -> Result<(), StoreError> {
        database.stage(self.blocks, &self.pending)?;
        self.blocks += self.pending.len() as u32;
        self.bytes += self.pending.iter().map(|block| block.len() as u64).sum::<u64>();
        self.pending.clear();
        Ok(())
    }
}

/// Puts `records` in place of everything in a database, whose format is this
/// from now on. Returns how many bytes of blocks that took.
pub(crate) fn replace(
    database: &mut Database,
    records: &Changes,
    version: u32,
    gap: bool,
) -> Result<u64, StoreError> {
    let damaged = || StoreError::damaged(database.path(), "records to be written cannot be read");
    let sorted = SortedLog::new(records.as_bytes()).map_err(|_| damaged())?;
    let mut stage = Staging::default();
    let put = |key: &[u8], value: &[u8]| {
        if stage.add(key, value) { stage.write(database) } else { Ok(()) }
    };
    merge(|_| Ok(None), &sorted, put).map_err(|stopped| match stopped {
        Stopped::Block(_) => damaged(),
        Stopped::Caller(error) => error,
    })?;
    let (blocks, bytes) = stage.finish(database)?;
    database.replace(blocks, version, gap)?;
    Ok(bytes)
}
