//! Values that many records share, kept once each and counted.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

use crate::ids::Numbered;

/// Counted values by number.
#[derive(Debug, Clone)]
pub(crate) struct Interner<T> {
    ids: HashMap<T, u32, RandomState>,
    values: Numbered<(T, u32)>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self::starting_at(0)
    }
}

impl<T> Interner<T> {
    /// Numbers from `first` on.
    pub fn starting_at(first: u32) -> Self {
        Self { ids: HashMap::default(), values: Numbered::starting_at(first) }
    }

    /// The value with this number.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.values.get(id).map(|(value, _)| value)
    }

    /// Numbers, values and their counts.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T, u32)> {
        self.values.iter().map(|(id, (value, count))| (id, value, *count))
    }
}

impl<T: Hash + Eq + Clone> Interner<T> {
    /// The number of a value, counted once more; and whether it is new.
    pub fn acquire(&mut self, value: &T) -> (u32, bool) {
        self.acquire_with(value, || value.clone())
    }

    /// The number of the value that equals `key`, counted once more; and
    /// whether it is new, which is when it is made.
    pub fn acquire_with<Q>(&mut self, key: &Q, make: impl FnOnce() -> T) -> (u32, bool)
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(id) = self.ids.get(key) {
            if let Some((_, count)) = self.values.get_mut(*id) {
                *count += 1;
            }
            return (*id, false);
        }
        let value = make();
        let id = self.values.insert((value.clone(), 1));
        self.ids.insert(value, id);
        (id, true)
    }

    /// Counts a value once less; returns it when that was the last.
    pub fn release(&mut self, id: u32) -> Option<T> {
        let (_, count) = self.values.get_mut(id)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        let (value, _) = self.values.remove(id)?;
        self.ids.remove(&value);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_as_long_as_it_is_counted() {
        let mut interner = Interner::starting_at(1);
        assert_eq!(interner.acquire(&"a"), (1, true));
        assert_eq!(interner.acquire(&"b"), (2, true));
        assert_eq!(interner.acquire(&"a"), (1, false));
        assert_eq!(interner.release(1), None);
        assert_eq!(interner.release(1), Some("a"));
        assert_eq!(interner.get(1), None);
        assert_eq!(interner.acquire(&"c"), (1, true));
    }
}
