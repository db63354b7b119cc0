//! The store's own threads: one brings writes to disk, one merges the log.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::database::Checkpointer;
use crate::shared::Shared;

/// What failed is tried again after that.
const RETRY: Duration = Duration::from_secs(1);
/// How often somebody looks whether the files are still there while nothing is
/// written.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the threads that this store needs.
pub(crate) fn start(shared: &Arc<Shared>, checkpointer: Checkpointer) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    let of_merge = Arc::clone(shared);
    threads.push(Builder::new().name("store-merge".into()).spawn(move || merge(&of_merge, &checkpointer))?);
    if !shared.options.sync_interval.is_zero() {
        let of_sync = Arc::clone(shared);
        threads.push(Builder::new().name("store-sync".into()).spawn(move || sync(&of_sync))?);
    }
    Ok(threads)
}

/// Ends the threads.
pub(crate) fn stop(shared: &Shared, threads: &mut Vec<JoinHandle<()>>) {
    shared.lock().stop = true;
    shared.work.notify_all();
    shared.unsynced.notify_all();
    shared.stopping.notify_all();
    for thread in threads.drain(..) {
        // A thread that has panicked has nothing more to say.
        let _ = thread.join();
    }
}

fn merge(shared: &Shared, checkpointer: &Checkpointer) {
    while shared.wait_for_work() {
        let result = shared.maintain(checkpointer);
        let failed = result.is_err();
        let mut inner = shared.lock();
        if let Err(error) = &result
            && error.is_damage()
        {
            // What cannot be merged cannot be loaded either.
            inner.lost.get_or_insert_with(|| error.to_string());
        }
        inner.trouble = result.err().map(|error| error.to_string());
        drop(inner);
        if failed {
            shared.merged.notify_all();
            pause(shared, RETRY);
        }
    }
}

fn sync(shared: &Shared) {
    loop {
        let idle = |inner: &mut crate::shared::Inner| !inner.stop && inner.is_synced();
        let waited = shared.unsynced.wait_timeout_while(shared.lock(), LOOK, idle);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        // It is kept in `lost`.
        let _ = shared.check_files(&mut inner);
        if idle(&mut inner) {
            continue;
        }
        if inner.stop {
            return;
        }
        drop(inner);
        pause(shared, shared.options.sync_interval);
        // A failure is kept in `lost`, and the caller asks for it.
        let _ = shared.sync();
    }
}

/// Waits, unless the store is being closed.
fn pause(shared: &Shared, time: Duration) {
    let waited = shared.stopping.wait_timeout_while(shared.lock(), time, |inner| !inner.stop);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}
