//! The keyed hash of flow keys.
//!
//! Five words are reduced to 128 bits by NH (the compression of UMAC,
//! RFC 4418): a sum of products of keyed words. Whoever does not know the
//! keys cannot find two inputs that collide there with more than negligible
//! chance. Two folded multiplications then spread the sum over 64 bits.
//! Workloads choose their addresses and ports, so the seed must be random and
//! stay secret.

use crate::packet::flow_key::FlowKey;

/// The hash of one key in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct KeyHash(pub(super) u64);

/// Hash functions chosen by a seed.
#[derive(Clone)]
pub(super) struct KeyedHash {
    keys: [u64; 8],
}

impl KeyedHash {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self { keys: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    #[inline(always)]
    pub(super) fn of(&self, key: &FlowKey) -> KeyHash {
        self.of_words(&key.words())
    }

    #[inline(always)]
    pub(super) fn of_words(&self, words: &[u64; 5]) -> KeyHash {
        let k = &self.keys;
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let sum = product(words[0].wrapping_add(k[0]), words[1].wrapping_add(k[1]))
            .wrapping_add(product(words[2].wrapping_add(k[2]), words[3].wrapping_add(k[3])))
            .wrapping_add(product(words[4].wrapping_add(k[4]), k[5]));
        KeyHash(fold(product(sum as u64 ^ k[6], (sum >> 64) as u64 ^ k[7])))
    }
}

/// The fraction of the golden ratio: odd, with evenly mixed bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Both halves of a product together, so that every bit of the factors
/// reaches every bit of the result.
#[inline(always)]
fn fold(product: u128) -> u64 {
    product as u64 ^ (product >> 64) as u64
}

/// The next number of Vigna's SplitMix64: turns one seed into many keys.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(SPREAD);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::flow_key::addr_bytes;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr};

    /// 65,536 keys that differ as little as real ones do.
    fn neighbouring_keys() -> impl Iterator<Item = FlowKey> {
        (0..=u16::MAX).map(|n| {
            let mut key = FlowKey { protocol: 17, destination_port: 53, ..FlowKey::ZERO };
            let [host, port] = n.to_be_bytes();
            key.source = addr_bytes(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)));
            key.destination = addr_bytes(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)));
            key.source_port = 1024 + u16::from(port);
            key
        })
    }

    /// Sum over all cells of (count - mean)^2 / mean.
    fn chi_squared(cells: &[u32], total: u32) -> f64 {
        let mean = f64::from(total) / cells.len() as f64;
        cells.iter().map(|count| (f64::from(*count) - mean).powi(2) / mean).sum()
    }

    #[test]
    fn neighbouring_keys_spread_evenly_in_every_byte_of_the_hash() {
        for seed in [0, 1, 0xFEED_FACE_CAFE_BEEF] {
            let hash = KeyedHash::new(seed);
            let mut cells = [[0u32; 256]; 8];
            let mut all = HashSet::new();
            for key in neighbouring_keys() {
                let value = hash.of(&key).0;
                assert!(all.insert(value), "two keys share all 64 bits");
                for (byte, cells) in value.to_be_bytes().into_iter().zip(&mut cells) {
                    cells[usize::from(byte)] += 1;
                }
            }
            // 255 degrees of freedom: mean 255, standard deviation 22.6.
            for cells in &cells {
                let chi = chi_squared(cells, 1 << 16);
                assert!((120.0..400.0).contains(&chi), "chi squared {chi}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_bit_of_key_and_seed_counts(words: [u64; 5], seed: u64, bit in 0usize..320) {
            let hash = KeyedHash::new(seed);
            let mut other = words;
            other[bit / 64] ^= 1 << (bit % 64);
            let changed = (hash.of_words(&words).0 ^ hash.of_words(&other).0).count_ones();
            prop_assert!((8..=56).contains(&changed), "{changed} bits changed");
            prop_assert_ne!(hash.of_words(&words), KeyedHash::new(seed ^ 1).of_words(&words));
        }
    }
}
