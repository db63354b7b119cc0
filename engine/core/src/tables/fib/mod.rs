//! Longest-prefix match.
//!
//! [`Fib`] is a tree bitmap (Eatherton, Varghese and Dittia, 2004) of up to
//! six bits a node, paths without forks left out, and every array shared
//! between copies. A copy costs two reference counts. A change copies
//! the arrays on the one path it touches, and only those that a copy still
//! shares, so loading a table copies no path. No route is
//! spread over others' nodes: a change touches one node, and sometimes its
//! parent.
//!
//! One writer changes its own table; workers read copies. Reading touches no
//! reference count.
//!
//! - `key`: addresses and how they are cut into chunks
//! - `node`, `array`: the tree and the shared arrays
//! - `epoch`: when arrays may be freed
//! - `lookup`, `kernel`: what workers run
//! - `iter`: routes in order
//!
//! A node takes 40 bytes for IPv4 and 56 for IPv6, a value 8 more.

mod array;
mod epoch;
mod iter;
mod kernel;
mod key;
mod lookup;
mod node;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::tables::vrf::FibEntry;
use epoch::Place;
pub use iter::Iter;
pub use key::FibKey;
use node::Node;

/// A longest-prefix match table. Bits of a prefix past its length are
/// ignored, and a length past the width of the key means the width.
pub struct Fib<K: FibKey, V: Copy = FibEntry> {
    root: Option<Node<K, V>>,
    routes: usize,
    bytes: usize,
    place: Place<K, V>,
}

impl<K: FibKey, V: Copy> Default for Fib<K, V> {
    fn default() -> Self {
        Self { root: None, routes: 0, bytes: 0, place: Place::default() }
    }
}

impl<K: FibKey, V: Copy> Clone for Fib<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root, routes: self.routes, bytes: self.bytes, place: self.place.clone() }
    }
}

impl<K: FibKey, V: Copy> Drop for Fib<K, V> {
    fn drop(&mut self) {
        self.place.leave(self.root.take());
    }
}

impl<K: FibKey, V: Copy> fmt::Debug for Fib<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib").field("routes", &self.routes).field("bytes", &self.bytes).finish()
    }
}

impl<K: FibKey, V: Copy> Fib<K, V> {
    /// Routes in the table.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// Bytes that its arrays ask of the allocator, shared ones included. An
    /// empty table and one with a single route have none.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

impl<K: FibKey, V: Copy> Fib<K, V> {
    /// Puts in a route and returns the value that the prefix had.
    pub fn insert(&mut self, prefix: K, length: u8, value: V) -> Option<V> {
        let (prefix, length) = canonical(prefix, length);
        let old = self.place.change(&mut self.root, &mut self.bytes, |root, change| match root {
            Some(root) => root.insert(prefix, length, value, change),
            None => {
                *root = Some(Node::leaf(prefix, length, value));
                None
            }
        });
        self.routes += usize::from(old.is_none());
        old
    }

    /// Takes out a route and returns its value.
    pub fn remove(&mut self, prefix: K, length: u8) -> Option<V> {
        let (prefix, length) = canonical(prefix, length);
        // Nothing is copied for a route that is not there.
        let old = *self.root.as_ref()?.exact(prefix, length)?;
        self.place.change(&mut self.root, &mut self.bytes, |root, change| {
            if let Some(node) = root {
                node.remove(prefix, length, change);
                if node.is_vacant() {
                    *root = None;
                }
            }
        });
        self.routes -= 1;
        Some(old)
    }

    /// The value of exactly this prefix.
    pub fn exact(&self, prefix: K, length: u8) -> Option<V> {
        let (prefix, length) = canonical(prefix, length);
        self.root.as_ref()?.exact(prefix, length).copied()
    }

    /// The value of the longest prefix that matches.
    #[inline]
    pub fn lookup(&self, key: K) -> Option<V> {
        lookup::one(self.root.as_ref(), key)
    }

    /// The longest prefix that matches: address, length and value.
    pub fn lookup_prefix(&self, key: K) -> Option<(K, u8, V)> {
        lookup::one_with_prefix(self.root.as_ref(), key)
    }

    /// `lookup`(Self::lookup) for each key, side by side, so that trips to
    /// memory overlap. Goes as far as the shorter of the two slices.
    #[inline]
    pub fn lookup_burst(&self, keys: &[K], out: &mut [Option<V>]) {
        lookup::burst(self.root.as_ref(), self.bytes, keys, out);
    }

    /// All routes in order of their addresses, the shorter prefix first.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(self.root.as_ref())
    }

    /// The routes in the order of `iter`(Self::iter) from this prefix on,
    /// itself included. It need not be in the table.
    pub fn iter_from(&self, start: K, length: u8) -> Iter<'_, K, V> {
        let (start, length) = canonical(start, length);
        Iter::starting_at(self.root.as_ref(), start, length)
    }
}

fn canonical<K: FibKey>(prefix: K, length: u8) -> (K, u8) {
    let length = length.min(K::WIDTH);
    (prefix.truncate(length), length)
}
