//! How workers find the longest match: alone, or a burst interleaved.
//!
//! Both take the same steps down the tree. On the way only the place of the
//! best match is remembered; its value is read at the end, once.

use super::kernel::{prefetch, with_bit_instructions};
use super::key::FibKey;
use super::node::{Branch, Node};

/// Lookups that are under way together. Enough to hide a trip to memory
/// behind the work of the others.
const LANES: usize = 32;

/// By the first five bits of a chunk: the bits of `internal` that match it.
static MATCHES: [u64; 32] = matches();

const fn matches() -> [u64; 32] {
    let mut table = [0; 32];
    let mut chunk = 0;
    while chunk < 32 {
        let mut bit = 32 + chunk;
        while bit > 0 {
            table[chunk] |= 1 << bit;
            bit >>= 1;
        }
        chunk += 1;
    }
    table
}

/// The longest match so far.
struct Best<'a, K: FibKey, V> {
    node: Option<&'a Node<K, V>>,
    /// In a branch: the bit of `internal`.
    bit: u32,
}

impl<K: FibKey, V> Clone for Best<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: FibKey, V> Copy for Best<'_, K, V> {}

impl<'a, K: FibKey, V: Copy> Best<'a, K, V> {
    const NONE: Self = Self { node: None, bit: 0 };

    /// Where its value is.
    #[inline]
    fn value(self) -> Option<&'a V> {
        match self.node? {
            Node::Leaf(leaf) => Some(&leaf.value),
            Node::Branch(branch) => branch.value(self.bit),
        }
    }

    fn prefix(self) -> Option<(K, u8)> {
        match self.node? {
            Node::Leaf(leaf) => Some((leaf.key(), leaf.length)),
            Node::Branch(branch) => Some(branch.prefix(self.bit)),
        }
    }
}

/// Takes one step down from `node`; `None` at the end of the way.
#[inline(always)]
fn step<'a, K: FibKey, V>(node: &'a Node<K, V>, key: K, best: &mut Best<'a, K, V>) -> Option<&'a Node<K, V>> {
    let branch: &Branch<K, V> = match node {
        Node::Leaf(leaf) => {
            if key.common_bits(leaf.key()) >= leaf.length {
                *best = Best { node: Some(node), bit: 0 };
            }
            return None;
        }
        Node::Branch(branch) => branch,
    };
    let chunk = branch.chunk(key)?;
    let matching = branch.internal & MATCHES[chunk as usize >> 1 & 31];
    if matching != 0 {
        // A longer prefix has a higher bit.
        *best = Best { node: Some(node), bit: matching.ilog2() };
    }
    branch.child(chunk)
}

#[inline]
fn search<K: FibKey, V: Copy>(root: Option<&Node<K, V>>, key: K) -> Best<'_, K, V> {
    let mut best = Best::NONE;
    let mut next = root;
    while let Some(node) = next {
        next = step(node, key, &mut best);
    }
    best
}

/// The value of the longest match.
#[inline]
pub(super) fn one<K: FibKey, V: Copy>(root: Option<&Node<K, V>>, key: K) -> Option<V> {
    search(root, key).value().copied()
}

/// The longest match with its prefix.
pub(super) fn one_with_prefix<K: FibKey, V: Copy>(root: Option<&Node<K, V>>, key: K) -> Option<(K, u8, V)> {
    let best = search(root, key);
    let (prefix, length) = best.prefix()?;
    Some((prefix, length, *best.value()?))
}

/// The values of the longest matches of many keys.
#[inline]
pub(super) fn burst<K: FibKey, V: Copy>(root: Option<&Node<K, V>>, keys: &[K], out: &mut [Option<V>]) {
    let count = keys.len().min(out.len());
    let (keys, out) = (&keys[..count], &mut out[..count]);
    let Some(root) = root else { return out.fill(None) };
    with_bit_instructions(
        #[inline(always)]
        || {
            for (keys, out) in keys.chunks(LANES).zip(out.chunks_mut(LANES)) {
                interleaved(root, keys, out);
            }
        },
    );
}

/// At most [`LANES`] lookups, a step each in turn.
#[inline(always)]
fn interleaved<K: FibKey, V: Copy>(root: &Node<K, V>, keys: &[K], out: &mut [Option<V>]) {
    let mut at = [root; LANES];
    let mut best = [Best::NONE; LANES];
    let mut under_way: [u8; LANES] = std::array::from_fn(|lane| lane as u8);
    let mut count = keys.len().min(LANES);
    while count > 0 {
        let mut kept = 0;
        for position in 0..count {
            let lane = under_way[position];
            let here = usize::from(lane) & (LANES - 1);
            match step(at[here], keys[here], &mut best[here]) {
                Some(next) => {
                    prefetch(next);
                    at[here] = next;
                    under_way[kept] = lane;
                    kept += 1;
                }
                None => {
                    if let Some(value) = best[here].value() {
                        prefetch(value);
                    }
                }
            }
        }
        count = kept;
    }
    for (out, best) in out.iter_mut().zip(&best) {
        *out = best.value().copied();
    }
}
