//! A store in one file, for one process: the default.
//!
//! The file is a redb database: what a commit has returned for is on disk, and
//! a crash or a power loss leaves the state before or after a commit. The last
//! changes are kept too, so that watchers can resume over a restart.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Change, Entries, Leadership, Revision, Snapshot, Store, StoreError, Term, Update, WATCH_QUEUE, Watch,
};

const ENTRIES: TableDefinition<'_, &str, &str> = TableDefinition::new("entries");
const CHANGES: TableDefinition<'_, u64, &str> = TableDefinition::new("changes");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

const REVISION: &str = "revision";
const TERM: &str = "term";

/// Changes that are kept for watchers.
const KEPT_CHANGES: u64 = 1024;

/// A store in one file.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: String,
    database: Database,
    revision: watch::Sender<Revision>,
    office: Arc<tokio::sync::Mutex<()>>,
    /// The term that lasts.
    leader: Mutex<Option<Term>>,
}

/// A change as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    puts: Entries,
    deletes: BTreeSet<String>,
}

impl EmbeddedStore {
    /// Opens the store, or makes it.
    ///
    /// # Errors
    /// Another process has it open, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: name.clone() },
            DatabaseError::Storage(redb::StorageError::Corrupted(reason)) => {
                StoreError::Damaged { reason: format!("{name}: {reason}") }
            }
            other => StoreError::Unavailable { reason: format!("cannot open {name}: {other}") },
        })?;
        let inner = Inner {
            path: name,
            database,
            revision: watch::channel(Revision::default()).0,
            office: Arc::default(),
            leader: Mutex::new(None),
        };
        inner.make_tables()?;
        let revision = inner.snapshot()?.revision;
        inner.revision.send_replace(revision);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs what blocks, away from the threads that must not.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let result = tokio::task::spawn_blocking(move || work(&inner)).await;
        result.unwrap_or_else(|error| Err(StoreError::Unknown { reason: error.to_string() }))
    }
}

impl Inner {
    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Corrupted(reason) => {
                StoreError::Damaged { reason: format!("{}: {reason}", self.path) }
            }
            error => StoreError::Unavailable { reason: format!("{}: {error}", self.path) },
        }
    }

    fn make_tables(&self) -> Result<(), StoreError> {
        let writing = self.database.begin_write().map_err(|error| self.failed(error))?;
        writing.open_table(ENTRIES).map_err(|error| self.failed(error))?;
        writing.open_table(CHANGES).map_err(|error| self.failed(error))?;
        writing.open_table(NUMBERS).map_err(|error| self.failed(error))?;
        writing.commit().map_err(|error| self.failed(error))
    }

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let reading = self.database.begin_read().map_err(|error| self.failed(error))?;
        let numbers = reading.open_table(NUMBERS).map_err(|error| self.failed(error))?;
        let revision = numbers.get(REVISION).map_err(|error| self.failed(error))?.map_or(0, |n| n.value());
        let table = reading.open_table(ENTRIES).map_err(|error| self.failed(error))?;
        let mut entries = Entries::new();
        for entry in table.iter().map_err(|error| self.failed(error))? {
            let (key, value) = entry.map_err(|error| self.failed(error))?;
            entries.insert(key.value().to_owned(), value.value().to_owned());
        }
        Ok(Snapshot { revision: Revision(revision), entries, stale: None })
    }

    fn leader(&self) -> std::sync::MutexGuard<'_, Option<Term>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, change: Change) -> Result<Revision, StoreError> {
        // Held until it is on disk: a term that ends meanwhile ends afterwards.
        let leader = self.leader();
        if let Some(term) = change.term.filter(|term| *leader != Some(*term)) {
            return Err(StoreError::Fenced { term });
        }
        let writing = self.database.begin_write().map_err(|error| self.failed(error))?;
        let revision = {
            let mut numbers = writing.open_table(NUMBERS).map_err(|error| self.failed(error))?;
            let found = numbers.get(REVISION).map_err(|error| self.failed(error))?.map_or(0, |n| n.value());
            if Revision(found) != change.base {
                return Err(StoreError::Conflict { base: change.base, found: Revision(found) });
            }
            if change.is_empty() {
                return Ok(change.base);
            }
            let mut entries = writing.open_table(ENTRIES).map_err(|error| self.failed(error))?;
            for key in &change.deletes {
                entries.remove(key.as_str()).map_err(|error| self.failed(error))?;
            }
            for (key, value) in &change.puts {
                entries.insert(key.as_str(), value.as_str()).map_err(|error| self.failed(error))?;
            }
            numbers.insert(REVISION, found + 1).map_err(|error| self.failed(error))?;
            let kept = Kept { puts: change.puts, deletes: change.deletes };
            let text = serde_json::to_string(&kept)
                .map_err(|error| StoreError::Damaged { reason: error.to_string() })?;
            let mut changes = writing.open_table(CHANGES).map_err(|error| self.failed(error))?;
            changes.insert(found + 1, text.as_str()).map_err(|error| self.failed(error))?;
            while changes.len().map_err(|error| self.failed(error))? > KEPT_CHANGES {
                changes.pop_first().map_err(|error| self.failed(error))?;
            }
            Revision(found + 1)
        };
        writing.commit().map_err(|error| self.failed(error))?;
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// What comes after a revision; the whole state if that is not known any
    /// more. None when nothing has come yet.
    fn after(&self, revision: Revision) -> Result<Option<Update>, StoreError> {
        let current = *self.revision.borrow();
        if revision == current {
            return Ok(None);
        }
        let reading = self.database.begin_read().map_err(|error| self.failed(error))?;
        let changes = reading.open_table(CHANGES).map_err(|error| self.failed(error))?;
        let next = Revision(revision.0.saturating_add(1));
        let kept = changes.get(next.0).map_err(|error| self.failed(error))?;
        match kept.and_then(|kept| serde_json::from_str::<Kept>(kept.value()).ok()) {
            Some(Kept { puts, deletes }) => Ok(Some(Update::Changed { revision: next, puts, deletes })),
            None => Ok(Some(Update::Relisted(self.snapshot()?))),
        }
    }

    fn next_term(&self) -> Result<Term, StoreError> {
        let writing = self.database.begin_write().map_err(|error| self.failed(error))?;
        let term = {
            let mut numbers = writing.open_table(NUMBERS).map_err(|error| self.failed(error))?;
            let last = numbers.get(TERM).map_err(|error| self.failed(error))?.map_or(0, |n| n.value());
            numbers.insert(TERM, last + 1).map_err(|error| self.failed(error))?;
            Term(last + 1)
        };
        writing.commit().map_err(|error| self.failed(error))?;
        *self.leader() = Some(term);
        Ok(term)
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn read(&self) -> Result<Snapshot, StoreError> {
        self.blocking(Inner::snapshot).await
    }

    async fn commit(&self, change: Change) -> Result<Revision, StoreError> {
        self.blocking(move |inner| inner.commit(change)).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, StoreError> {
        let (sender, updates) = mpsc::channel(WATCH_QUEUE);
        let mut seen = self.inner.revision.subscribe();
        let store = Arc::downgrade(&self.inner);
        let mut position = after;
        tokio::spawn(async move {
            loop {
                let Some(inner) = store.upgrade() else { return };
                let found = EmbeddedStore { inner }.blocking(move |inner| inner.after(position)).await;
                let update = match found {
                    Ok(Some(update)) => update,
                    Ok(None) => match seen.changed().await {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    // The file cannot be read any more: who watches is told by the end.
                    Err(_) => return,
                };
                position = match &update {
                    Update::Changed { revision, .. } => *revision,
                    Update::Relisted(snapshot) => snapshot.revision,
                };
                if sender.send(update).await.is_err() {
                    return;
                }
            }
        });
        Ok(Watch { updates })
    }

    async fn campaign(&self, _candidate: &str) -> Result<Leadership, StoreError> {
        let office = Arc::clone(&self.inner.office).lock_owned().await;
        let term = self.blocking(Inner::next_term).await?;
        let (lost_sender, lost) = watch::channel(false);
        let (resign, mut resigned) = mpsc::channel::<oneshot::Sender<()>>(1);
        // Who leads does not keep the file open.
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            // None when the leadership was dropped.
            let done = resigned.recv().await;
            if let Some(inner) = inner.upgrade() {
                *inner.leader() = None;
            }
            lost_sender.send_replace(true);
            drop(office);
            if let Some(done) = done {
                let _ = done.send(());
            }
        });
        Ok(Leadership { term, lost, resign })
    }
}
