//! Longest-prefix match.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::tables::vrf::FibEntry;

/// An address as a number in host order: `u32` or `u128`.
pub trait FibKey: Copy + Ord {
    /// Bits of an address.
    const BITS: u8;
    /// The address with all bits after the first `length` cleared.
    #[must_use]
    fn masked(self, length: u8) -> Self;
}

impl FibKey for u32 {
    const BITS: u8 = 32;
    fn masked(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }
}

impl FibKey for u128 {
    const BITS: u8 = 128;
    fn masked(self, length: u8) -> Self {
        self & Self::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }
}

/// A longest-prefix match table.
#[derive(Debug, Clone)]
pub struct Fib<K> {
    routes: Arc<BTreeMap<(K, u8), FibEntry>>,
}

impl<K> Default for Fib<K> {
    fn default() -> Self {
        Self { routes: Arc::default() }
    }
}

impl<K: FibKey> Fib<K> {
    /// Sets a route and returns the one that was there.
    pub fn insert(&mut self, prefix: K, length: u8, entry: FibEntry) -> Option<FibEntry> {
        Arc::make_mut(&mut self.routes).insert((prefix, length), entry)
    }

    /// Takes out a route.
    pub fn remove(&mut self, prefix: K, length: u8) -> Option<FibEntry> {
        Arc::make_mut(&mut self.routes).remove(&(prefix, length))
    }

    /// The route to exactly this prefix.
    pub fn exact(&self, prefix: K, length: u8) -> Option<FibEntry> {
        self.routes.get(&(prefix, length)).copied()
    }

    /// The longest match.
    pub fn lookup(&self, key: K) -> Option<FibEntry> {
        self.lookup_prefix(key).map(|(_, _, entry)| entry)
    }

    /// The longest match and its prefix.
    pub fn lookup_prefix(&self, key: K) -> Option<(K, u8, FibEntry)> {
        (0..=K::BITS).rev().find_map(|length| {
            let prefix = key.masked(length);
            Some((prefix, length, self.exact(prefix, length)?))
        })
    }

    /// Routes in the order of their prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (K, u8, FibEntry)> {
        self.routes.iter().map(|((prefix, length), entry)| (*prefix, *length, *entry))
    }

    /// Routes from this prefix on.
    pub fn iter_from(&self, start: K, length: u8) -> impl Iterator<Item = (K, u8, FibEntry)> {
        self.routes.range((start, length)..).map(|((prefix, length), entry)| (*prefix, *length, *entry))
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}
