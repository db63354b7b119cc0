//! What can be chosen about a store.

use std::time::Duration;

/// What can be chosen about a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a change may wait until it is on disk: what a power loss can
    /// take. [`Duration::ZERO`]: every write waits until it is on disk.
    pub sync_interval: Duration,
    /// Bytes of changes that are kept as they came before they are merged
    /// into the sorted records. Memory follows it: merging takes about three
    /// times as much for routes, loading up to six times.
    pub log_bytes: usize,
    /// Bytes of the database's pages that are kept in memory.
    pub cache_bytes: usize,
    /// The identity that a store gets when it is made, also in place of one
    /// that is set aside. `None`: one at random. A store that is there keeps
    /// its own.
    pub node_id: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_millis(200),
            log_bytes: 6 << 20,
            cache_bytes: 2 << 20,
            node_id: None,
        }
    }
}
