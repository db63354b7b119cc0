//! Numbers for named things: the lowest free one, stable while the thing
//! lives, given again afterwards.

use std::collections::BTreeSet;

/// Free numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdPool {
    next: u32,
    free: BTreeSet<u32>,
}

impl IdPool {
    /// A pool whose lowest number is `first`.
    pub fn starting_at(first: u32) -> Self {
        Self { next: first, free: BTreeSet::new() }
    }

    /// The lowest free number.
    pub fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives a number back.
    pub fn give(&mut self, id: u32) {
        self.free.insert(id);
        while self.next > 0 && self.free.remove(&(self.next - 1)) {
            self.next -= 1;
        }
    }
}

/// Numbered things, with the lowest free number for each new one.
#[derive(Debug, Clone)]
pub(crate) struct Numbered<T> {
    pool: IdPool,
    slots: Vec<Option<T>>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self::starting_at(0)
    }
}

impl<T> Numbered<T> {
    /// Numbers from `first` on.
    pub fn starting_at(first: u32) -> Self {
        Self { pool: IdPool::starting_at(first), slots: Vec::new() }
    }

    /// Adds a thing and returns its number.
    pub fn insert(&mut self, value: T) -> u32 {
        let id = self.pool.take();
        self.put(id, value);
        id
    }

    fn put(&mut self, id: u32, value: T) {
        let at = id as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = Some(value);
    }

    /// Takes a thing out and frees its number.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.slots.get_mut(id as usize)?.take()?;
        self.pool.give(id);
        while matches!(self.slots.last(), Some(None)) {
            self.slots.pop();
        }
        Some(value)
    }

    /// The thing with this number.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// The thing with this number, to change.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// All things in the order of their numbers.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn new_things_get_the_lowest_free_number(steps in proptest::collection::vec(any::<Option<u8>>(), 1..60)) {
            let mut numbered = Numbered::starting_at(1);
            let mut oracle = BTreeMap::new();
            for step in steps {
                match step {
                    None => {
                        let id = numbered.insert(());
                        prop_assert_eq!(Some(id), (1..).find(|id| !oracle.contains_key(id)));
                        oracle.insert(id, ());
                    }
                    Some(id) => {
                        let id = u32::from(id % 16);
                        prop_assert_eq!(numbered.remove(id), oracle.remove(&id));
                    }
                }
                prop_assert!(numbered.iter().map(|(id, _)| id).eq(oracle.keys().copied()));
            }
        }
    }
}
