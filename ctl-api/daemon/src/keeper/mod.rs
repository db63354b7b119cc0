//! Writes what changes to the store, and has everything written again when some
//! of it could not be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tieline_proto::v1::EventKind;
use tieline_store::Store;

use crate::changes::Changes;
use crate::persist::ToStore;

/// Time between two attempts to write everything.
const AGAIN: Duration = Duration::from_secs(5);

/// What both ends know.
#[derive(Debug, Default)]
struct State {
    /// Why the store does not have all that is declared; nothing while it has.
    missing: Option<String>,
    /// Everything is on its way to the store.
    underway: bool,
}

type Shared = Arc<Mutex<State>>;

/// Writes to the store, on a thread of its own.
#[derive(Debug)]
pub struct Keeper {
    store: Option<Store>,
    shared: Shared,
}

/// The other end of a [`Keeper`]: tells events, and when everything has to be
/// written.
#[derive(Debug, Default)]
pub struct KeeperWatch {
    shared: Shared,
    /// An event has told that something is missing; when to write everything.
    told: Option<Instant>,
}

impl Keeper {
    /// Writes to `store`; nothing is kept without one.
    pub fn new(store: Option<Store>) -> (Self, KeeperWatch) {
        let shared = Shared::default();
        (Self { store, shared: Arc::clone(&shared) }, KeeperWatch { shared, told: None })
    }

    /// Writes changes. Forwarding goes on without a store, and so do
    /// acknowledgements: what is not stored is lost only at the next start, when
    /// controllers declare it again.
    pub fn keep(&mut self, changes: ToStore) {
        let Some(store) = self.store.as_ref().filter(|_| !changes.is_empty()) else { return };
        let whole = changes.is_whole();
        let result = changes.write_to(store);
        let mut state = lock(&self.shared);
        state.underway &= !whole;
        match result {
            Ok(()) if whole => state.missing = None,
            // What was refused before is missing still.
            Ok(()) => {}
            Err(error) => {
                tracing::debug!("not stored: {error}");
                state.missing = Some(error.to_string());
            }
        }
    }
}

impl KeeperWatch {
    /// Looks, and notes what is different. Whether everything has to be written.
    pub fn look(&mut self, changes: &mut Changes, now: Instant) -> bool {
        let mut state = lock(&self.shared);
        match (&state.missing, self.told) {
            (None, None) => false,
            (None, Some(_)) => {
                self.told = None;
                tracing::info!("the store has all that is declared again");
                let message = "the store has all that is declared again";
                changes.event(EventKind::StoreComplete, "", message.to_owned());
                false
            }
            (Some(why), None) => {
                self.told = Some(now + AGAIN);
                tracing::error!("forwarding goes on, but a restart would not bring all of it back: {why}");
                let message = format!("a restart would not bring all of it back: {why}");
                changes.event(EventKind::StoreIncomplete, "", message);
                false
            }
            (Some(_), Some(next)) if next <= now && !state.underway => {
                self.told = Some(now + AGAIN);
                state.underway = true;
                true
            }
            (Some(_), Some(_)) => false,
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
