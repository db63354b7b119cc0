//! Routing tables of a realistic shape.
//!
//! The Internet's tables are made of allocations: an operator announces the
//! aggregate, and longer prefixes of it here and there, mostly /24 (IPv4) and
//! /48 (IPv6), in runs. How dense the runs are differs from operator to
//! operator, and decides what a table costs. Scattered tables, without any
//! runs, are the worst case of a trie.

use std::collections::BTreeSet;

use crate::random::Random;

/// A prefix: address and length.
pub type Prefix<K> = (K, u8);

/// `count` IPv4 prefixes, /8 to /24, in random order.
pub fn ipv4(count: usize, random: &mut Random) -> Vec<Prefix<u32>> {
    let mut routes = BTreeSet::new();
    while routes.len() < count {
        let length = match random.below(100) {
            0 => 8 + random.below(6) as u8,
            1..25 => 14 + random.below(3) as u8,
            25..60 => 17 + random.below(3) as u8,
            _ => 20 + random.below(3) as u8,
        };
        let base = (random.below(223 << 24) as u32 + (1 << 24)) & (u32::MAX << (32 - length));
        routes.insert((base, length));
        let percent = 5 + random.below(60);
        // Past /14, operators leave most of an aggregate unannounced.
        let slots = 1u32 << (24 - length.max(14));
        let mut slot = 0;
        while slot < slots {
            let (length, step) = match random.below(100) {
                0..66 => (24, 1),
                66..83 => (23, 2),
                _ => (22, 4),
            };
            if random.chance(percent) {
                let address = base + (slot << 8);
                routes.insert((address & (u32::MAX << (32 - length)), length));
            }
            slot += step;
        }
    }
    shuffled(routes, count, random)
}

/// `count` IPv6 prefixes, /29 to /48, in random order.
pub fn ipv6(count: usize, random: &mut Random) -> Vec<Prefix<u128>> {
    let mut routes = BTreeSet::new();
    while routes.len() < count {
        let length = if random.chance(80) { 32 } else { 29 };
        let region = 0x2000 + (random.below(0x20) << 4);
        let base = (region << 48 | random.bits() >> 12 & 0xF_FFFF << 28) & (u64::MAX << (64 - length));
        routes.insert((u128::from(base) << 64, length));
        // Few operators have most of the longer prefixes.
        let runs = 1 << random.below(5);
        for _ in 0..runs {
            let start = base | random.below(1 << 16) << 16;
            let (length, run) = match random.below(100) {
                0..12 => (36, 1),
                12..24 => (40, 1 + random.below(4)),
                24..36 => (44, 1 + random.below(6)),
                36..66 => (48, 1),
                _ => (48, 2 + random.below(14)),
            };
            for n in 0..run {
                let address = (start & (u64::MAX << (64 - length))).wrapping_add(n << (64 - length));
                routes.insert((u128::from(address) << 64, length as u8));
            }
        }
    }
    shuffled(routes, count, random)
}

/// `count` IPv4 host routes of pods: runs in the /24 of a node.
pub fn pods(count: usize, random: &mut Random) -> Vec<Prefix<u32>> {
    let mut routes = BTreeSet::new();
    while routes.len() < count {
        let node = 10 << 24 | (random.below(1 << 16) as u32) << 8;
        let pods = 10 + random.below(100) as u32;
        routes.extend((0..pods).map(|pod| (node + 2 + pod, 32)));
    }
    shuffled(routes, count, random)
}

/// `count` IPv4 prefixes of length 24 anywhere: the worst case.
pub fn scattered(count: usize, random: &mut Random) -> Vec<Prefix<u32>> {
    let mut routes = BTreeSet::new();
    while routes.len() < count {
        routes.insert(((random.bits() as u32) & 0xFFFF_FF00, 24));
    }
    shuffled(routes, count, random)
}

/// `count` IPv6 prefixes of length 48 anywhere in 2000::/3: the worst case.
pub fn scattered6(count: usize, random: &mut Random) -> Vec<Prefix<u128>> {
    let mut routes = BTreeSet::new();
    while routes.len() < count {
        let address = 1 << 61 | random.bits() >> 3 & (u64::MAX << 16);
        routes.insert((u128::from(address) << 64, 48));
    }
    shuffled(routes, count, random)
}

fn shuffled<K: Copy + Ord>(routes: BTreeSet<Prefix<K>>, count: usize, random: &mut Random) -> Vec<Prefix<K>> {
    let mut routes: Vec<Prefix<K>> = routes.into_iter().collect();
    for last in (1..routes.len()).rev() {
        routes.swap(last, random.below(last as u64 + 1) as usize);
    }
    routes.truncate(count);
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_prefixes_have_the_longest_length() {
        let mut random = Random::new(1);
        let routes = ipv4(100_000, &mut random);
        let longest = routes.iter().filter(|(_, length)| *length == 24).count();
        assert_eq!(routes.len(), 100_000);
        assert!((55_000..75_000).contains(&longest), "{longest} of /24");
        assert!(routes.iter().all(|(address, length)| (8..=24).contains(length) && address & 0xFF == 0));

        let routes = ipv6(100_000, &mut random);
        let longest = routes.iter().filter(|(_, length)| *length == 48).count();
        assert!((55_000..80_000).contains(&longest), "{longest} of /48");
        assert!(routes.iter().all(|(address, length)| (29..=48).contains(length) && address >> 125 == 1));
    }
}
