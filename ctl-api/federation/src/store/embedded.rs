//! A store in one file, for one process: the default.
//!
//! The file is a redb database: what a commit has returned for is on disk, and
//! a crash or a power loss leaves the state before or after a commit. The last
//! changes are kept too, so that watchers can resume over a restart. Passwords are
//! sealed, with a key in a file beside it; see [`super::seal`].
//!
//! - `files`: the files, which are private
//! - `damage`: a file that cannot be right

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use serde::{Deserialize, Serialize};
use tieline_process::essential;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use super::seal::{self, Seal};
use super::{
    Change, Entries, Leadership, Revision, Snapshot, Store, StoreError, Term, Update, WATCH_QUEUE, Watch,
};

mod damage;
mod files;

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
    path: PathBuf,
    database: Database,
    seal: Seal,
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

/// All that is in the tables.
#[derive(Default)]
struct Rows {
    entries: Entries,
    changes: BTreeMap<u64, Kept>,
    numbers: BTreeMap<String, u64>,
}

impl EmbeddedStore {
    /// Opens the store, or makes it. All of it is read and checked.
    ///
    /// # Errors
    /// Another process has it open, it is not private, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (file, repaired) = files::open(path)?;
        for repaired in repaired {
            warn!("{repaired}");
        }
        let name = path.display().to_string();
        let inner = damage::sound(|| {
            let inner = Inner {
                path: path.to_owned(),
                database: open_database(file, &name)?,
                seal: Seal::read_or_make(&files::key_of(path))?,
                revision: watch::channel(Revision::default()).0,
                office: Arc::default(),
                leader: Mutex::new(None),
            };
            inner.make_tables()?;
            let inner = inner.without_clear_passwords()?;
            let revision = inner.snapshot()?.revision;
            inner.revision.send_replace(revision);
            Ok(inner)
        });
        let damaged = |reason| Err(StoreError::Damaged { reason: format!("{name}: {reason}") });
        Ok(Self { inner: Arc::new(inner.unwrap_or_else(damaged)?) })
    }

    /// Opens the store as [`EmbeddedStore::open`] does. One that is damaged is set aside
    /// under a new name, which [`Store::problems`] tells, and a new one begun: gateways
    /// keep what they have until the intent is applied again.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`]; also where what is there was never a store.
    pub fn open_or_set_aside(path: &Path) -> Result<Self, StoreError> {
        match Self::open(path) {
            Err(StoreError::Damaged { reason }) if damage::was_a_store(path) => {
                let aside = damage::set_aside(path)?;
                error!("the store was damaged and is now {}; a new one is begun: {reason}", aside.display());
                Self::open(path)
            }
            other => other,
        }
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

fn open_database(file: File, name: &str) -> Result<Database, StoreError> {
    let failed = |error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: name.to_owned() },
        DatabaseError::Storage(redb::StorageError::Corrupted(reason)) => {
            StoreError::Damaged { reason: format!("{name}: {reason}") }
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) if damage::is_of_content(&error) => {
            StoreError::Damaged { reason: format!("{name}: {error}") }
        }
        other => StoreError::Unavailable { reason: format!("cannot open {name}: {other}") },
    };
    let mut database = Database::builder().create_file(file).map_err(failed)?;
    if !database.check_integrity().map_err(failed)? {
        warn!("the store {name} was repaired: what was applied last may be missing; apply the intent again");
    }
    Ok(database)
}

impl Inner {
    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::Corrupted(reason) => {
                StoreError::Damaged { reason: format!("{}: {reason}", self.path.display()) }
            }
            // The tables of a store have always been these.
            error @ redb::Error::TableTypeMismatch { .. } => {
                StoreError::Damaged { reason: format!("{}: {error}", self.path.display()) }
            }
            error => StoreError::Unavailable { reason: format!("{}: {error}", self.path.display()) },
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
            entries.insert(key.value().to_owned(), self.seal.open_text(key.value(), value.value()));
        }
        Ok(Snapshot { revision: Revision(revision), entries, stale: None })
    }

    /// The store with all passwords sealed. One of an earlier program is written anew:
    /// passwords would still be in pages that are free, and in changes that are kept.
    fn without_clear_passwords(self) -> Result<Self, StoreError> {
        let rows = self.rows()?;
        let is_clear = |puts: &Entries| puts.iter().any(|(key, text)| seal::is_clear(key, text));
        if !is_clear(&rows.entries) && !rows.changes.values().any(|kept| is_clear(&kept.puts)) {
            return Ok(self);
        }
        let (file, path) = files::replacement(&self.path)?;
        let new = Self { database: open_database(file, &path.display().to_string())?, ..self };
        new.write(&rows)?;
        files::replace(&path, &new.path)?;
        warn!(
            "passwords of peers stood in {} as they are: they are sealed now. Copies of it still have them",
            new.path.display()
        );
        Ok(new)
    }

    fn rows(&self) -> Result<Rows, StoreError> {
        let reading = self.database.begin_read().map_err(|error| self.failed(error))?;
        let mut rows = Rows::default();
        let entries = reading.open_table(ENTRIES).map_err(|error| self.failed(error))?;
        for row in entries.iter().map_err(|error| self.failed(error))? {
            let (key, text) = row.map_err(|error| self.failed(error))?;
            rows.entries.insert(key.value().to_owned(), text.value().to_owned());
        }
        let changes = reading.open_table(CHANGES).map_err(|error| self.failed(error))?;
        for row in changes.iter().map_err(|error| self.failed(error))? {
            let (revision, text) = row.map_err(|error| self.failed(error))?;
            // One that cannot be read is not told to watchers; they are told everything.
            if let Ok(kept) = serde_json::from_str(text.value()) {
                rows.changes.insert(revision.value(), kept);
            }
        }
        let numbers = reading.open_table(NUMBERS).map_err(|error| self.failed(error))?;
        for row in numbers.iter().map_err(|error| self.failed(error))? {
            let (name, number) = row.map_err(|error| self.failed(error))?;
            rows.numbers.insert(name.value().to_owned(), number.value());
        }
        Ok(rows)
    }

    fn write(&self, rows: &Rows) -> Result<(), StoreError> {
        self.make_tables()?;
        let writing = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut entries = writing.open_table(ENTRIES).map_err(|error| self.failed(error))?;
            for (key, text) in self.seal.seal(&rows.entries)? {
                entries.insert(key.as_str(), text.as_str()).map_err(|error| self.failed(error))?;
            }
            let mut changes = writing.open_table(CHANGES).map_err(|error| self.failed(error))?;
            for (revision, kept) in &rows.changes {
                let kept = Kept { puts: self.seal.seal(&kept.puts)?, deletes: kept.deletes.clone() };
                let text = serde_json::to_string(&kept)
                    .map_err(|error| StoreError::Damaged { reason: error.to_string() })?;
                changes.insert(revision, text.as_str()).map_err(|error| self.failed(error))?;
            }
            let mut numbers = writing.open_table(NUMBERS).map_err(|error| self.failed(error))?;
            for (name, number) in &rows.numbers {
                numbers.insert(name.as_str(), number).map_err(|error| self.failed(error))?;
            }
        }
        writing.commit().map_err(|error| self.failed(error))
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
        let puts = self.seal.seal(&change.puts)?;
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
            for (key, value) in &puts {
                entries.insert(key.as_str(), value.as_str()).map_err(|error| self.failed(error))?;
            }
            numbers.insert(REVISION, found + 1).map_err(|error| self.failed(error))?;
            let kept = Kept { puts, deletes: change.deletes };
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
            Some(Kept { puts, deletes }) => {
                Ok(Some(Update::Changed { revision: next, puts: self.seal.open(puts), deletes }))
            }
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
    fn problems(&self) -> Vec<String> {
        let set_aside = damage::set_aside_before(&self.inner.path);
        let problem = |path: PathBuf| {
            let path = path.display();
            format!(
                "it was damaged, and is now {path}: apply the intent again, all of it. Numbers that were allocated \
                 may be others now. Remove {path} when nobody wants to look at it any more"
            )
        };
        set_aside.into_iter().map(problem).collect()
    }

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
        tokio::spawn(essential::task(async move {
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
        }));
        Ok(Watch { updates })
    }

    async fn campaign(&self, _candidate: &str) -> Result<Leadership, StoreError> {
        let office = Arc::clone(&self.inner.office).lock_owned().await;
        let term = self.blocking(Inner::next_term).await?;
        let (lost_sender, lost) = watch::channel(false);
        let (resign, mut resigned) = mpsc::channel::<oneshot::Sender<()>>(1);
        // Who leads does not keep the file open.
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(essential::task(async move {
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
        }));
        Ok(Leadership { term, lost, resign })
    }
}
