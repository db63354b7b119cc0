//! Keeps what is declared in the store, and knows whether that is true.
//!
//! The store belongs to the thread that acknowledges ([`Keeper`]); the control
//! thread has the other end ([`KeeperWatch`]). A store that cannot be opened, or
//! whose files were taken away, is opened by a thread of its own ([`opener`]),
//! again and again. Whenever the store has missed something, nothing is added to
//! it until everything was written anew: what it holds was the state at one
//! moment, and never a mixture.

pub mod opener;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tieline_proto::v1::{EventKind, ProblemKind};
use tieline_store::{Monitor, Opened, Store, StoreError};

use crate::changes::Changes;
use crate::identity::NodeId;
use crate::keeper::opener::{Opener, StoreAt};
use crate::persist::ToStore;
use crate::problems::Problems;

/// Time between two attempts to write everything.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of the records of a store that is not open yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Everything in them is declared here: they may be replaced.
    Known,
    /// Nobody has read them. They may be the last state, and are not replaced.
    Unread,
}

/// Whether a restart would bring back all that is declared.
#[derive(Debug)]
enum Standing {
    /// Nobody has tried to open the store yet.
    Before,
    /// Yes.
    Complete,
    /// Not all of it, for this reason.
    Incomplete(String),
    /// No, and so it was configured.
    Off,
}

/// What both ends know.
#[derive(Debug)]
struct State {
    standing: Standing,
    /// Why it was incomplete since somebody looked, even if it is complete again:
    /// some acknowledgement may have said so.
    was_incomplete: Option<String>,
    /// The store, while it is open.
    monitor: Option<Monitor>,
    /// Everything is on its way to the store.
    underway: bool,
}

type Shared = Arc<Mutex<State>>;

/// Why what was declared is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStored(pub String);

/// Writes to the store, on a thread of its own.
#[derive(Debug)]
pub struct Keeper {
    store: Option<Store>,
    shared: Shared,
    opener: Option<Opener>,
}

/// The other end of a [`Keeper`]: tells events and problems, and what has to be
/// done about the store.
#[derive(Debug)]
pub struct KeeperWatch {
    shared: Shared,
    /// An event has told that something is missing; when to write everything.
    told: Option<Instant>,
    contents: Contents,
    opener: Option<Opener>,
    found: Option<Receiver<(Store, Opened)>>,
    /// Where the store is.
    path: Option<PathBuf>,
}

/// What the control thread has to do about the store.
#[derive(Debug)]
pub enum Task {
    /// Nothing.
    None,
    /// Write everything into it.
    WriteAll,
    /// It was opened: take it.
    Take(Box<Store>, Opened),
}

/// Both ends, without a store yet. `at` is where it is; `None`: there is to be
/// none.
///
/// # Errors
/// When the system gives no thread.
pub fn new(at: Option<StoreAt>, node: NodeId) -> std::io::Result<(Keeper, KeeperWatch)> {
    let standing = match at {
        Some(_) => Standing::Before,
        None => Standing::Off,
    };
    let shared =
        Arc::new(Mutex::new(State { standing, was_incomplete: None, monitor: None, underway: false }));
    let path = at.as_ref().map(|at| at.path.clone());
    let (opener, found) = match at {
        Some(at) => {
            let shared = Arc::clone(&shared);
            let (opener, found) = opener::start(at, node, move |why| lock(&shared).fail(why))?;
            (Some(opener), Some(found))
        }
        None => (None, None),
    };
    let keeper = Keeper { store: None, shared: Arc::clone(&shared), opener: opener.clone() };
    Ok((keeper, KeeperWatch { shared, told: None, contents: Contents::Unread, opener, found, path }))
}

impl Keeper {
    /// Writes changes, and says whether the store has all that is declared,
    /// these changes included. Forwarding goes on when it does not.
    ///
    /// # Errors
    /// Why a restart would not bring all of it back.
    pub fn keep(&mut self, mut changes: ToStore) -> Result<(), NotStored> {
        if let Some(store) = changes.take_store() {
            lock(&self.shared).monitor = Some(store.monitor());
            self.store = Some(store);
        }
        // Beside a gap they would make a state that never was.
        let may_write = changes.is_whole() || matches!(lock(&self.shared).standing, Standing::Complete);
        if let Some(store) = self.store.as_ref().filter(|_| may_write && !changes.is_empty()) {
            let whole = changes.is_whole();
            let result = changes.write_to(store);
            let lost = store.health().lost;
            let is_gone = matches!(result, Err(StoreError::Gone { .. }));
            let mut state = lock(&self.shared);
            state.underway &= !whole;
            match (result.map_err(|error| error.to_string()), lost) {
                (Err(why), _) | (Ok(()), Some(why)) => state.fail(why),
                (Ok(()), None) if whole => state.standing = Standing::Complete,
                (Ok(()), None) => {}
            }
            if is_gone {
                state.monitor = None;
                drop(state);
                self.store = None;
                self.opener.iter().for_each(Opener::open);
            }
        }
        match &lock(&self.shared).standing {
            Standing::Complete => Ok(()),
            Standing::Before => Err(NotStored("the store is not open yet".to_owned())),
            Standing::Incomplete(why) => Err(NotStored(why.clone())),
            Standing::Off => Err(NotStored("the store is switched off: store.enabled = false".to_owned())),
        }
    }

    /// Closes the store for another process. Says whether it has all that was
    /// handed to [`keep`](Self::keep). From then on nothing is stored.
    ///
    /// # Errors
    /// Why it does not.
    pub fn close(&mut self) -> Result<(), NotStored> {
        self.opener.iter().for_each(Opener::stop);
        let verdict = self.keep(ToStore::default());
        let closed = self.store.take().map_or(Ok(()), Store::close);
        let mut state = lock(&self.shared);
        state.monitor = None;
        if !matches!(state.standing, Standing::Off) {
            state.fail("it was closed for a daemon that takes over".to_owned());
        }
        verdict.and(closed.map_err(|error| NotStored(error.to_string())))
    }
}

impl KeeperWatch {
    /// What is known of the records of a store that is opened from now on.
    pub fn set_contents(&mut self, contents: Contents) {
        self.contents = contents;
    }

    /// What is known of the records of a store that was just opened.
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// Where the store is; `None`: there is to be none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Why the records of the store were not read, if they were not.
    pub fn why_unread(&self) -> Option<String> {
        match (&lock(&self.shared).standing, self.contents) {
            (Standing::Incomplete(why), Contents::Unread) => Some(why.clone()),
            _ => None,
        }
    }

    /// Lets go of a store that was opened and that nobody has taken yet.
    pub fn drop_found(&self) {
        self.found.iter().for_each(|found| drop(found.try_recv()));
    }

    /// The store has all that is declared, and is on its way to the [`Keeper`].
    pub fn is_complete(&self, store: &Store) {
        let mut state = lock(&self.shared);
        state.standing = Standing::Complete;
        state.monitor = Some(store.monitor());
    }

    /// The store cannot be used for this reason. It is opened again.
    pub fn open(&self, why: String) {
        lock(&self.shared).fail(why);
        self.opener.iter().for_each(Opener::open);
    }

    /// Waits for the store to be opened, at most so long, while no client is here.
    pub fn wait(&self, patience: Duration) -> Option<(Store, Opened)> {
        let found = self.found.as_ref()?.recv_timeout(patience).ok()?;
        // Nobody has been told anything else.
        lock(&self.shared).was_incomplete = None;
        Some(found)
    }

    /// Looks, and notes what is different.
    pub fn look(&mut self, changes: &mut Changes, problems: &Problems, now: Instant) -> Task {
        match self.found.as_ref().map(Receiver::try_recv) {
            Some(Ok((store, opened))) => return Task::Take(Box::new(store), opened),
            None | Some(Err(TryRecvError::Empty | TryRecvError::Disconnected)) => {}
        }
        let mut state = lock(&self.shared);
        let health = state.monitor.as_ref().and_then(Monitor::health);
        if let (Standing::Complete, Some(why)) =
            (&state.standing, health.as_ref().and_then(|h| h.lost.clone()))
        {
            state.fail(why);
        }
        let was_incomplete = state.was_incomplete.take();
        match &state.standing {
            Standing::Off | Standing::Before => {}
            Standing::Complete => match health.map(|health| health.trouble) {
                Some(Some(why)) => problems.begin(
                    ProblemKind::Store,
                    "",
                    format!("nothing is missing in the store, but it grows: {why}"),
                ),
                Some(None) => problems.end(ProblemKind::Store, ""),
                // It is at work: how it was is how it is.
                None => {}
            },
            Standing::Incomplete(why) => problems.begin(
                ProblemKind::Store,
                "",
                format!("a restart would not bring back all that is declared; it is tried again: {why}"),
            ),
        }
        match (&state.standing, self.told) {
            (Standing::Off | Standing::Before, _) => Task::None,
            (Standing::Complete, None) => {
                if let Some(why) = was_incomplete {
                    tell_incomplete(changes, &why);
                    tell_complete(changes);
                }
                Task::None
            }
            (Standing::Complete, Some(_)) => {
                self.told = None;
                tell_complete(changes);
                Task::None
            }
            (Standing::Incomplete(why), None) => {
                self.told = Some(now + AGAIN);
                tell_incomplete(changes, why);
                Task::None
            }
            (Standing::Incomplete(_), Some(next)) => {
                let is_due = next <= now && !state.underway && state.monitor.is_some();
                if !is_due {
                    return Task::None;
                }
                self.told = Some(now + AGAIN);
                state.underway = true;
                Task::WriteAll
            }
        }
    }
}

impl State {
    /// A store that is to have everything does not.
    fn fail(&mut self, why: String) {
        self.was_incomplete = Some(why.clone());
        self.standing = Standing::Incomplete(why);
    }
}

fn tell_incomplete(changes: &mut Changes, why: &str) {
    tracing::error!("forwarding goes on, but a restart would not bring all of it back: {why}");
    let message = format!("a restart would not bring all of it back: {why}");
    changes.event(EventKind::StoreIncomplete, "", message);
}

fn tell_complete(changes: &mut Changes) {
    tracing::info!("the store has all that is declared again");
    changes.event(EventKind::StoreComplete, "", "the store has all that is declared again".to_owned());
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
