//! The shared store: one set of entries, changed as a whole or not at all,
//! watched, with an election beside it.
//!
//! | | [`embedded`] | [`etcd`] |
//! |---|---|---|
//! | for | one controller on one machine, the default | several controllers |
//! | survives | crash and power loss | that, and the loss of members while a quorum is left |
//! | leader | whoever asks first in this process | a campaign with a lease |
//!
//! Entries are keys and texts; [`state`] says what they mean. A [`Change`] names
//! the revision that it was made from and is refused when the store has gone on
//! since. A change made in a term is refused when that term is over, so that a
//! leader that was cut off cannot write (scenario A2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

mod buckets;
pub mod embedded;
pub mod etcd;
pub mod seal;
pub mod state;

/// A state of the store; each change makes the next one. 0 is the empty store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A leader's time in office; a later one is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// Keys and texts.
pub type Entries = BTreeMap<String, String>;

/// All entries at a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// The entries.
    pub entries: Entries,
    /// Why this may not be the newest revision; none: it was when it was read.
    pub stale: Option<String>,
}

/// A change of several entries: all of it or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The revision that it was made from.
    pub base: Revision,
    /// The term that must last; none: anybody may write.
    pub term: Option<Term>,
    /// Entries that are new or different.
    pub puts: Entries,
    /// Keys that go.
    pub deletes: BTreeSet<String>,
}

impl Change {
    /// What makes `after` of a snapshot.
    pub fn between(before: &Snapshot, after: &Entries) -> Self {
        let puts = after
            .iter()
            .filter(|(key, value)| before.entries.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let deletes = before.entries.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
        Self { base: before.revision, term: None, puts, deletes }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// One change.
    Changed {
        /// The revision that it made.
        revision: Revision,
        /// Entries that are new or different.
        puts: Entries,
        /// Keys that are gone.
        deletes: BTreeSet<String>,
    },
    /// Changes were missed, and are no longer known one by one: all entries.
    Relisted(Snapshot),
}

/// Changes as they come.
#[derive(Debug)]
pub struct Watch {
    updates: mpsc::Receiver<Update>,
}

/// Updates that wait for a watcher; the store waits for one that is slow.
const WATCH_QUEUE: usize = 64;

impl Watch {
    /// The next update. None once the store is closed.
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }
}

/// An office that was won. It ends when this is dropped.
#[derive(Debug)]
pub struct Leadership {
    term: Term,
    lost: watch::Receiver<bool>,
    resign: mpsc::Sender<tokio::sync::oneshot::Sender<()>>,
}

impl Leadership {
    /// The term, for [`Change::term`].
    pub fn term(&self) -> Term {
        self.term
    }

    /// Returns once the office is lost.
    pub async fn lost(&mut self) {
        // An error means that who kept the office is gone: it is lost too.
        let _ = self.lost.wait_for(|lost| *lost).await;
    }

    /// Whether the office is lost already.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Gives the office up, so that the next one need not wait for a lease to
    /// end. Returns when that is done.
    pub async fn resign(self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        if self.resign.send(done).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// Why the store does not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Somebody else was first.
    #[error(
        "the store has gone on from revision {base} to {found}: look at what is there now, and apply again"
    )]
    Conflict {
        /// The revision that the change was made from.
        base: Revision,
        /// The one that is there.
        found: Revision,
    },
    /// Somebody else leads by now.
    #[error("this controller does not lead any more (term {}): the leader writes", .term.0)]
    Fenced {
        /// The term that is over.
        term: Term,
    },
    /// It cannot be reached, or has no quorum.
    #[error(
        "the store cannot be written or read now: {reason}; nothing was changed. Forwarding goes on; try again once the store is back"
    )]
    Unavailable {
        /// What was tried, and what came of it.
        reason: String,
    },
    /// Whether it was carried out is not known.
    #[error(
        "the store did not answer whether the change was carried out: {reason}. Read it before applying again"
    )]
    Unknown {
        /// What came instead of an answer.
        reason: String,
    },
    /// Another process has it open.
    #[error("the store {path} is open in another process: end that one, or ask it with --server")]
    InUse {
        /// Where it is.
        path: String,
    },
    /// More than it takes at once.
    #[error(
        "the change is too large for the store: {bytes} bytes, at most {most}: apply fewer objects at a time"
    )]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The largest that is taken, in bytes.
        most: usize,
    },
    /// Others can get at what has to be private, or it cannot be kept private.
    #[error("{reason}")]
    Exposed {
        /// What, and what to do.
        reason: String,
    },
    /// What is in it cannot be right.
    #[error(
        "the store holds what cannot be right: {reason}; restore it from a copy, or remove it and apply the intent again"
    )]
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    fn exposed(exposed: tieline_private::Exposed) -> Self {
        Self::Exposed { reason: exposed.to_string() }
    }
}

/// The shared store.
#[async_trait]
pub trait Store: Send + Sync {
    /// What is wrong with the store itself, in sentences.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// All entries. When the store cannot be asked, what was known last, which
    /// is then marked as stale.
    ///
    /// # Errors
    /// Nothing is known yet, or what is there cannot be read.
    async fn read(&self) -> Result<Snapshot, StoreError>;

    /// Carries a change out, all of it or nothing.
    ///
    /// # Errors
    /// Nothing was changed, but for [`StoreError::Unknown`].
    async fn commit(&self, change: Change) -> Result<Revision, StoreError>;

    /// Changes after a revision, as they come.
    ///
    /// # Errors
    /// The store cannot be asked.
    async fn watch(&self, after: Revision) -> Result<Watch, StoreError>;

    /// Waits until this candidate leads.
    ///
    /// # Errors
    /// The store cannot be asked; it may be asked again.
    async fn campaign(&self, candidate: &str) -> Result<Leadership, StoreError>;
}
