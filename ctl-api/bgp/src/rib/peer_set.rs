//! A set of peers: one word for the first 64, a list for the others.

use super::PeerId;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PeerSet {
    low: u64,
    /// Words for peers from 64 on.
    high: Option<Box<Vec<u64>>>,
}

impl PeerSet {
    fn place(peer: PeerId) -> (usize, u64) {
        ((peer.0 / 64) as usize, 1 << (peer.0 % 64))
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        let (word, bit) = Self::place(peer);
        let value = match word {
            0 => self.low,
            _ => self.high.as_ref().and_then(|high| high.get(word - 1)).copied().unwrap_or(0),
        };
        value & bit != 0
    }

    /// Returns whether it was not in yet.
    pub(crate) fn insert(&mut self, peer: PeerId) -> bool {
        let (word, bit) = Self::place(peer);
        let value = match word {
            0 => &mut self.low,
            _ => {
                let high = self.high.get_or_insert_default();
                if high.len() < word {
                    high.resize(word, 0);
                }
                &mut high[word - 1]
            }
        };
        let new = *value & bit == 0;
        *value |= bit;
        new
    }

    /// Returns whether it was in.
    pub(crate) fn remove(&mut self, peer: PeerId) -> bool {
        let (word, bit) = Self::place(peer);
        let value = match word {
            0 => Some(&mut self.low),
            _ => self.high.as_mut().and_then(|high| high.get_mut(word - 1)),
        };
        let Some(value) = value else { return false };
        let was_in = *value & bit != 0;
        *value &= !bit;
        if self.high.as_ref().is_some_and(|high| high.iter().all(|word| *word == 0)) {
            self.high = None;
        }
        was_in
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..300_u32), 0..200)) {
            let (mut set, mut oracle) = (PeerSet::default(), BTreeSet::new());
            for (add, peer) in steps {
                if add {
                    prop_assert_eq!(set.insert(PeerId(peer)), oracle.insert(peer));
                } else {
                    prop_assert_eq!(set.remove(PeerId(peer)), oracle.remove(&peer));
                }
                prop_assert_eq!(set.is_empty(), oracle.is_empty());
            }
            for peer in 0..300 {
                prop_assert_eq!(set.contains(PeerId(peer)), oracle.contains(&peer));
            }
        }
    }
}
