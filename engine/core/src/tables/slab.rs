//! A table of numbered entries that is cheap to copy and to change.
//!
//! A copy shares all chunks with the original; a change copies the chunk it
//! touches, if that is shared, and the list of chunks. Reading follows two
//! pointers. The writer changes its own copy and publishes copies of it.

use std::sync::Arc;

/// Entries in one chunk.
const CHUNK: usize = 256;

type Chunk<T> = Arc<Vec<Option<T>>>;

/// Numbered entries, sparse or dense.
#[derive(Debug, Clone)]
pub struct Slab<T> {
    chunks: Arc<Vec<Option<Chunk<T>>>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Arc::new(Vec::new()), len: 0 }
    }
}

impl<T: Clone> Slab<T> {
    /// The entry at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.as_ref()?.get(index % CHUNK)?.as_ref()
    }

    /// The entry at `index`, to change. Copies what is shared.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.get(index)?;
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(index / CHUNK)?.as_mut()?;
        Arc::make_mut(chunk).get_mut(index % CHUNK)?.as_mut()
    }

    /// Puts an entry at `index` and returns the one that was there.
    pub fn insert(&mut self, index: usize, value: T) -> Option<T> {
        let chunks = Arc::make_mut(&mut self.chunks);
        let at = index / CHUNK;
        if chunks.len() <= at {
            chunks.resize_with(at + 1, || None);
        }
        let chunk = chunks[at].get_or_insert_with(|| Arc::new(vec![None; CHUNK]));
        let old = Arc::make_mut(chunk)[index % CHUNK].replace(value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes out the entry at `index`.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        self.get(index)?;
        let slot = Arc::make_mut(&mut self.chunks).get_mut(index / CHUNK)?;
        let chunk = Arc::make_mut(slot.as_mut()?);
        let old = chunk[index % CHUNK].take();
        if chunk.iter().all(Option::is_none) {
            *slot = None;
        }
        self.len -= usize::from(old.is_some());
        old
    }

    /// Puts an entry at the lowest free index, which is returned.
    pub fn push(&mut self, value: T) -> usize {
        let index = self.first_free();
        self.insert(index, value);
        index
    }

    fn first_free(&self) -> usize {
        for (at, chunk) in self.chunks.iter().enumerate() {
            match chunk {
                None => return at * CHUNK,
                Some(chunk) => {
                    if let Some(free) = chunk.iter().position(Option::is_none) {
                        return at * CHUNK + free;
                    }
                }
            }
        }
        self.chunks.len() * CHUNK
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries with their indices, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            chunk.iter().flat_map(move |chunk| {
                chunk
                    .iter()
                    .enumerate()
                    .filter_map(move |(offset, slot)| Some((at * CHUNK + offset, slot.as_ref()?)))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(usize, u32),
        Remove(usize),
        Push(u32),
        Change(usize, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..2000, any::<u32>()).prop_map(|(i, v)| Step::Insert(i, v)),
            (0usize..2000).prop_map(Step::Remove),
            any::<u32>().prop_map(Step::Push),
            (0usize..2000, any::<u32>()).prop_map(|(i, v)| Step::Change(i, v)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_and_old_copies_never_change(steps in proptest::collection::vec(step(), 1..80)) {
            let mut slab = Slab::default();
            let mut map = BTreeMap::new();
            for step in steps {
                let before = slab.clone();
                let map_before = map.clone();
                match step {
                    Step::Insert(i, v) => prop_assert_eq!(slab.insert(i, v), map.insert(i, v)),
                    Step::Remove(i) => prop_assert_eq!(slab.remove(i), map.remove(&i)),
                    Step::Push(v) => {
                        let i = slab.push(v);
                        prop_assert_eq!(map.insert(i, v), None);
                        prop_assert!((0..i).all(|lower| map.contains_key(&lower)));
                    }
                    Step::Change(i, v) => {
                        let changed = slab.get_mut(i).map(|slot| *slot = v).is_some();
                        prop_assert_eq!(changed, map.get_mut(&i).map(|slot| *slot = v).is_some());
                    }
                }
                prop_assert!(slab.iter().eq(map.iter().map(|(i, v)| (*i, v))));
                prop_assert_eq!(slab.len(), map.len());
                prop_assert!(before.iter().eq(map_before.iter().map(|(i, v)| (*i, v))));
            }
        }
    }
}
