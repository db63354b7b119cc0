//! When arrays may be freed.
//!
//! A table and its copies share arrays without counting references to each:
//! copying a node of 64 children would otherwise touch 64 places in memory.
//! Instead, the life of a table is cut into epochs by the copies that are
//! taken of it:
//!
//! ```text
//!   epoch 1 ----after----> epoch 2 ----after----> epoch 3
//!   copy A, copy B         copy C                 the table that is changed
//! ```
//!
//! A table that has an epoch for itself changes the arrays that it made in
//! this epoch in place. One that shares its epoch with copies begins the next
//! with its first change. An array of an earlier epoch that it replaces is
//! handed in at the epoch before its own, the last in which a copy can have
//! it. An epoch lives as long as a table is in it or in an earlier one, and
//! frees then what was handed in. The last one frees the tree itself.
//!
//! A copy that is kept therefore keeps everything that was replaced since, a
//! few KiB a change. Copies are for moments: until the workers have taken the
//! next one, which the control side waits for.
//!
//! Only one table goes on from an epoch. Should another one that is in it be
//! changed as well, that one first makes a tree of its own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::array::{Array, Block};
use super::key::FibKey;
use super::node::Node;

/// A time in the life of a table and of the copies taken of it.
#[derive(Debug)]
pub(super) struct Epoch<K: FibKey, V: Copy> {
    /// No other epoch has it.
    stamp: u64,
    /// Tables in it.
    holders: AtomicUsize,
    before: Weak<Self>,
    after: OnceLock<Arc<Self>>,
    leftovers: Mutex<Leftovers<K, V>>,
}

/// What an epoch frees at its end.
#[derive(Debug)]
struct Leftovers<K: FibKey, V: Copy> {
    blocks: Vec<Block>,
    /// The tree of the tables that were in it, if no epoch comes after.
    root: Option<Node<K, V>>,
}

/// A change that a table is under.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// Of the epoch.
    pub stamp: u64,
    /// Bytes of the table's arrays.
    pub bytes: &'a mut usize,
    /// Arrays of earlier epochs that the table has no more.
    replaced: Vec<Block>,
}

impl Change<'_> {
    /// Takes an array that the table has no more.
    pub fn discard<T: Copy>(&mut self, array: Array<T>) {
        let is_own = array.stamp() == self.stamp;
        let Some(block) = array.into_block() else { return };
        *self.bytes -= block.bytes();
        if is_own {
            // SAFETY: made in this epoch, which the table has for itself.
            unsafe { block.free() };
        } else {
            self.replaced.push(block);
        }
    }
}

impl<K: FibKey, V: Copy> Epoch<K, V> {
    fn new(before: Weak<Self>) -> Arc<Self> {
        static STAMPS: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            stamp: STAMPS.fetch_add(1, Ordering::Relaxed),
            holders: AtomicUsize::new(1),
            before,
            after: OnceLock::new(),
            leftovers: Mutex::new(Leftovers { blocks: Vec::new(), root: None }),
        })
    }

    fn leftovers(&self) -> MutexGuard<'_, Leftovers<K, V>> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a table in it may change its arrays: no other table is in it,
    /// or has gone on from it.
    fn is_of_one(&self) -> bool {
        // What a table that left has read was read before.
        self.holders.load(Ordering::Acquire) == 1 && self.after.get().is_none()
    }

    /// Frees what was handed in, and the tree after the last epoch.
    fn clean_up(&mut self) {
        let is_last = self.after.get().is_none();
        let leftovers = self.leftovers.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no table is in this epoch or an earlier one, so that nobody
        // has what was replaced since.
        leftovers.blocks.drain(..).for_each(|block| unsafe { block.free() });
        if let Some(root) = leftovers.root.take()
            && is_last
        {
            // SAFETY: nor is one in a later epoch.
            unsafe { root.free() };
        }
    }
}

impl<K: FibKey, V: Copy> Drop for Epoch<K, V> {
    fn drop(&mut self) {
        self.clean_up();
        // One after the other: there may be too many to do it recursively.
        let mut after = self.after.take();
        while let Some(mut epoch) = after.and_then(Arc::into_inner) {
            epoch.clean_up();
            after = epoch.after.take();
        }
    }
}

/// A table's place in an epoch. A table without arrays needs none.
#[derive(Debug)]
pub(super) struct Place<K: FibKey, V: Copy>(Option<Arc<Epoch<K, V>>>);

impl<K: FibKey, V: Copy> Default for Place<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: FibKey, V: Copy> Clone for Place<K, V> {
    fn clone(&self) -> Self {
        if let Some(epoch) = &self.0 {
            epoch.holders.fetch_add(1, Ordering::Relaxed);
        }
        Self(self.0.clone())
    }
}

impl<K: FibKey, V: Copy> Place<K, V> {
    /// Changes the tree of the table whose place it is, in an epoch that it
    /// has for itself.
    pub fn change<R>(
        &mut self,
        root: &mut Option<Node<K, V>>,
        bytes: &mut usize,
        work: impl FnOnce(&mut Option<Node<K, V>>, &mut Change<'_>) -> R,
    ) -> R {
        let epoch = match self.0.take() {
            None => Epoch::new(Weak::new()),
            Some(epoch) if epoch.is_of_one() => epoch,
            Some(epoch) => go_on(epoch, root, bytes),
        };
        let epoch = self.0.insert(epoch);
        let mut change = Change { stamp: epoch.stamp, bytes, replaced: Vec::new() };
        let result = work(root, &mut change);
        let replaced = change.replaced;
        match epoch.before.upgrade() {
            Some(before) => before.leftovers().blocks.extend(replaced),
            // SAFETY: no table is in an earlier epoch, so nobody else has them.
            None => replaced.into_iter().for_each(|block| unsafe { block.free() }),
        }
        result
    }

    /// Leaves the epoch together with the tree.
    pub fn leave(&mut self, root: Option<Node<K, V>>) {
        let Some(epoch) = self.0.take() else { return };
        // Tables in the last epoch all have the same tree.
        epoch.leftovers().root = root;
        epoch.holders.fetch_sub(1, Ordering::Release);
    }
}

/// From an epoch that has other tables to one without.
fn go_on<K: FibKey, V: Copy>(
    epoch: Arc<Epoch<K, V>>,
    root: &mut Option<Node<K, V>>,
    bytes: &mut usize,
) -> Arc<Epoch<K, V>> {
    let after = Epoch::new(Arc::downgrade(&epoch));
    let after = match epoch.after.set(Arc::clone(&after)) {
        Ok(()) => after,
        Err(_) => {
            let alone = Epoch::new(Weak::new());
            *bytes = 0;
            let mut change = Change { stamp: alone.stamp, bytes, replaced: Vec::new() };
            *root = root.map(|root| root.copied(&mut change));
            alone
        }
    };
    epoch.holders.fetch_sub(1, Ordering::Release);
    after
}
