//! Numbers for named things, stable while the thing lives, given again
//! afterwards: the lowest free one at once, or in rotation as late as possible.

use std::collections::BTreeSet;

/// Free numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdPool {
    /// Neither this nor a larger number was given yet, or it is free again.
    next: u32,
    /// Free numbers below `next`.
    free: BTreeSet<u32>,
    rotation: Option<Rotation>,
}

/// Numbers go round before one is given again: packets of its former owner are
/// gone by then.
#[derive(Debug, Clone)]
struct Rotation {
    /// The first number that is too large.
    end: u32,
    /// The number given last.
    last: Option<u32>,
}

impl IdPool {
    /// A pool that gives the lowest free number from `first` on.
    pub fn starting_at(first: u32) -> Self {
        Self { next: first, free: BTreeSet::new(), rotation: None }
    }

    /// A pool that gives the next free number after the last one, and begins
    /// again at `first` after the last of `count`. It is for at most `count`
    /// things at once.
    pub fn rotating(first: u32, count: u32) -> Self {
        let rotation = Rotation { end: first.saturating_add(count), last: None };
        Self { next: first, free: BTreeSet::new(), rotation: Some(rotation) }
    }

    /// A free number.
    pub fn take(&mut self) -> u32 {
        let Some(rotation) = &mut self.rotation else {
            return self.free.pop_first().unwrap_or_else(|| Self::take_new(&mut self.next));
        };
        let after = rotation.last.map_or(0, |last| last.saturating_add(1));
        let id = match self.free.range(after..).next().copied() {
            Some(id) => id,
            None if self.next < rotation.end => Self::take_new(&mut self.next),
            None => self.free.first().copied().unwrap_or_else(|| Self::take_new(&mut self.next)),
        };
        self.free.remove(&id);
        rotation.last = Some(id);
        id
    }

    /// Takes this very number, if it is free.
    pub fn take_exact(&mut self, id: u32) -> bool {
        if id < self.next {
            return self.free.remove(&id);
        }
        self.free.extend(self.next..id);
        self.next = id + 1;
        true
    }

    fn take_new(next: &mut u32) -> u32 {
        *next += 1;
        *next - 1
    }

    /// Gives a number back.
    pub fn give(&mut self, id: u32) {
        self.free.insert(id);
        if self.rotation.is_some() {
            return;
        }
        while self.next > 0 && self.free.remove(&(self.next - 1)) {
            self.next -= 1;
        }
    }
}

/// Numbered things.
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
    /// Numbers from `first` on, the lowest free one for each new thing.
    pub fn starting_at(first: u32) -> Self {
        Self { pool: IdPool::starting_at(first), slots: Vec::new() }
    }

    /// Numbers in rotation, `count` of them from `first` on, for at most so
    /// many things at once.
    pub fn rotating(first: u32, count: u32) -> Self {
        Self { pool: IdPool::rotating(first, count), slots: Vec::new() }
    }

    /// Adds a thing and returns its number.
    pub fn insert(&mut self, value: T) -> u32 {
        let id = self.pool.take();
        self.put(id, value);
        id
    }

    /// Adds a thing under a number of its own. False, and nothing done, if the
    /// number is taken. The numbers below it take room, free or not.
    pub fn insert_at(&mut self, id: u32, value: T) -> bool {
        let is_free = self.pool.take_exact(id);
        if is_free {
            self.put(id, value);
        }
        is_free
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
        self.iter_from(0)
    }

    /// Things in the order of their numbers, from `start` on.
    pub fn iter_from(&self, start: u32) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.slots.get(start as usize..).unwrap_or_default();
        (start..).zip(slots).filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
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

        #[test]
        fn a_number_can_be_asked_for(ids in proptest::collection::vec((any::<bool>(), 0u32..12), 1..40)) {
            let mut numbered = Numbered::starting_at(0);
            let mut oracle = BTreeMap::new();
            for (adds, id) in ids {
                if adds {
                    prop_assert_eq!(numbered.insert_at(id, id), oracle.insert(id, id).is_none());
                } else {
                    prop_assert_eq!(numbered.remove(id), oracle.remove(&id));
                }
                prop_assert!(numbered.iter_from(0).map(|(id, _)| id).eq(oracle.keys().copied()));
                let next = (0..).find(|id| !oracle.contains_key(id)).expect("a free one");
                prop_assert_eq!(numbered.insert(next), next);
                numbered.remove(next);
            }
        }

        #[test]
        fn a_number_comes_round_after_all_others(steps in proptest::collection::vec(any::<Option<u8>>(), 1..80)) {
            let numbers = 1u32..9;
            let mut numbered = Numbered::rotating(1, 8);
            let mut taken = BTreeMap::new();
            let mut last = 8;
            for step in steps {
                match step {
                    None if taken.len() < 8 => {
                        let id = numbered.insert(());
                        let mut round = (last + 1..numbers.end).chain(numbers.clone());
                        prop_assert_eq!(Some(id), round.find(|id| !taken.contains_key(id)));
                        taken.insert(id, ());
                        last = id;
                    }
                    None => {}
                    Some(id) => {
                        let id = u32::from(id % 10);
                        prop_assert_eq!(numbered.remove(id), taken.remove(&id));
                    }
                }
                prop_assert!(numbered.iter().map(|(id, _)| id).eq(taken.keys().copied()));
            }
        }
    }
}
