//! Opens a store that does not open at once, on a thread of its own: another
//! process still has it, its disk is full, its file system is not there yet.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tieline_process::essential;
use tieline_store::{Opened, Options, Store, StoreError};

use crate::identity::NodeId;

/// Pause after an attempt that has failed. One that waits for another process
/// takes its time itself.
const PAUSE: Duration = Duration::from_secs(1);

/// Which store.
#[derive(Debug, Clone)]
pub struct StoreAt {
    /// Its directory.
    pub path: PathBuf,
    /// How long a change may wait until it is on disk.
    pub sync_interval: Duration,
}

impl StoreAt {
    /// Opens it, or makes it with the name that the node has.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open(&self, node: &NodeId) -> Result<(Store, Opened), StoreError> {
        let options =
            Options { sync_interval: self.sync_interval, node_id: node.bytes(), ..Options::default() };
        Store::open(&self.path, options)
    }
}

/// A handle on the thread.
#[derive(Debug, Clone)]
pub struct Opener {
    asks: SyncSender<()>,
    is_wanted: Arc<AtomicBool>,
}

impl Opener {
    /// Has the store opened; it comes out at the other end.
    pub fn open(&self) {
        self.is_wanted.store(true, Ordering::Release);
        // Full: it is asked already. Gone: the daemon ends.
        let _ = self.asks.try_send(());
    }

    /// It is not to be opened any more: another process will have it.
    pub fn stop(&self) {
        self.is_wanted.store(false, Ordering::Release);
    }
}

/// Starts the thread. `failed` hears of each attempt that fails. It ends when
/// both ends are gone.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    at: StoreAt,
    node: NodeId,
    failed: impl Fn(String) + Send + 'static,
) -> std::io::Result<(Opener, Receiver<(Store, Opened)>)> {
    let (asks, asked) = sync_channel(1);
    let (found, receiver) = sync_channel(1);
    let is_wanted = Arc::new(AtomicBool::new(false));
    let opener = Opener { asks, is_wanted: Arc::clone(&is_wanted) };
    essential::spawn("store-open", move || {
        while asked.recv().is_ok() {
            while is_wanted.load(Ordering::Acquire) {
                let error = match at.open(&node) {
                    Ok(opened) => {
                        // Whoever asked meanwhile is answered with this.
                        while asked.try_recv().is_ok() {}
                        if !is_wanted.load(Ordering::Acquire) {
                            break;
                        }
                        match found.send(opened) {
                            Ok(()) => break,
                            Err(_) => return,
                        }
                    }
                    Err(error) => error,
                };
                tracing::debug!("the store does not open: {error}");
                failed(error.to_string());
                let pause = if matches!(error, StoreError::InUse { .. }) { Duration::ZERO } else { PAUSE };
                if asked.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        }
    })?;
    Ok((opener, receiver))
}
