//! A set of peers: one word for the first 64, a list for the others.

use super::PeerId;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PeerSet {
    low: u64,
    /// Words for peers from 64 on; the last one is not zero.
    high: Box<[u64]>,
}

impl PeerSet {
    fn place(peer: PeerId) -> (usize, u64) {
        ((peer.0 / 64) as usize, 1 << (peer.0 % 64))
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        let (word, bit) = Self::place(peer);
        let value = match word {
            0 => self.low,
            _ => self.high.get(word - 1).copied().unwrap_or(0),
        };
        value & bit != 0
    }

    fn resize(&mut self, words: usize) {
        let mut high = std::mem::take(&mut self.high).into_vec();
        high.resize(words, 0);
        self.high = high.into_boxed_slice();
    }

    /// Returns whether it was not in yet.
    pub(crate) fn insert(&mut self, peer: PeerId) -> bool {
        let (word, bit) = Self::place(peer);
        let value = match word {
            0 => &mut self.low,
            _ => {
                if self.high.len() < word {
                    self.resize(word);
                }
                &mut self.high[word - 1]
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
            _ => self.high.get_mut(word - 1),
        };
        let Some(value) = value else { return false };
        let was_in = *value & bit != 0;
        *value &= !bit;
        if self.high.last() == Some(&0) {
            self.resize(self.high.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1));
        }
        was_in
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_empty()
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
