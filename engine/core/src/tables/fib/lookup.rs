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

/// A table of at most so many bytes is near enough to look up one key after
/// the other: the processor overlaps what misses its first cache.
const NEAR_BYTES: usize = 256 << 10;

/// Steps from the root of a larger table whose nodes are near all the same.
const NEAR_STEPS: usize = 2;

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
    /// In a branch: the bits of `internal` that match. The highest is the
    /// longest prefix.
    matching: u64,
}

impl<K: FibKey, V> Clone for Best<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: FibKey, V> Copy for Best<'_, K, V> {}

impl<'a, K: FibKey, V: Copy> Best<'a, K, V> {
    const NONE: Self = Self { node: None, matching: 0 };

    /// Where its value is.
    #[inline(always)]
    fn value(self) -> Option<&'a V> {
        match self.node? {
            Node::Leaf(leaf) => Some(&leaf.value),
            Node::Branch(branch) => branch.value(self.matching.ilog2()),
        }
    }

    fn prefix(self) -> Option<(K, u8)> {
        match self.node? {
            Node::Leaf(leaf) => Some((leaf.key(), leaf.length)),
            Node::Branch(branch) => Some(branch.prefix(self.matching.ilog2())),
        }
    }
}

/// Takes one step down from `node`; `None` at the end of the way.
#[inline(always)]
fn step<'a, K: FibKey, V: Copy>(
    node: &'a Node<K, V>,
    key: K,
    best: &mut Best<'a, K, V>,
) -> Option<&'a Node<K, V>> {
    let branch: &Branch<K, V> = match node {
        Node::Leaf(leaf) => {
            if key.common_bits(leaf.key()) >= leaf.length {
                *best = Best { node: Some(node), matching: 0 };
            }
            return None;
        }
        Node::Branch(branch) => branch,
    };
    let chunk = branch.window(key)?;
    let matching = branch.internal & MATCHES[chunk as usize >> 1 & 31];
    if matching != 0 {
        *best = Best { node: Some(node), matching };
    }
    branch.child(chunk)
}

#[inline(always)]
fn search<K: FibKey, V: Copy>(root: &Node<K, V>, key: K) -> Best<'_, K, V> {
    let mut best = Best::NONE;
    let mut next = Some(root);
    while let Some(node) = next {
        next = step(node, key, &mut best);
    }
    best
}

/// The value of the longest match.
#[inline]
pub(super) fn one<K: FibKey, V: Copy>(root: Option<&Node<K, V>>, key: K) -> Option<V> {
    let root = root?;
    with_bit_instructions(
        #[inline(always)]
        || search(root, key).value().copied(),
    )
}

/// The longest match with its prefix.
pub(super) fn one_with_prefix<K: FibKey, V: Copy>(root: Option<&Node<K, V>>, key: K) -> Option<(K, u8, V)> {
    let best = search(root?, key);
    let (prefix, length) = best.prefix()?;
    Some((prefix, length, *best.value()?))
}

/// The values of the longest matches of many keys in a table of so many bytes.
#[inline]
pub(super) fn burst<K: FibKey, V: Copy>(
    root: Option<&Node<K, V>>,
    bytes: usize,
    keys: &[K],
    out: &mut [Option<V>],
) {
    let count = keys.len().min(out.len());
    let (keys, out) = (&keys[..count], &mut out[..count]);
    let Some(root) = root else { return out.fill(None) };
    with_bit_instructions(
        #[inline(always)]
        || {
            if bytes <= NEAR_BYTES {
                for (key, out) in keys.iter().zip(out) {
                    *out = search(root, *key).value().copied();
                }
                return;
            }
            for (keys, out) in keys.chunks(LANES).zip(out.chunks_mut(LANES)) {
                interleaved(root, keys, out);
            }
        },
    );
}

/// A lookup on its way.
struct Lane<'a, K: FibKey, V> {
    /// The node to be read next, if any.
    next: &'a Node<K, V>,
    best: Best<'a, K, V>,
}

impl<K: FibKey, V> Clone for Lane<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: FibKey, V> Copy for Lane<'_, K, V> {}

/// At most [`LANES`] lookups, a step each in turn. The first steps, to nodes
/// that every lookup reads, are taken in one go.
#[inline(always)]
fn interleaved<K: FibKey, V: Copy>(root: &Node<K, V>, keys: &[K], out: &mut [Option<V>]) {
    let mut lanes = [Lane { next: root, best: Best::NONE }; LANES];
    let mut under_way = [0u8; LANES];
    let mut count = 0;
    for (at, (lane, key)) in lanes.iter_mut().zip(keys).enumerate() {
        let mut best = Best::NONE;
        let mut next = step(root, *key, &mut best);
        for _ in 1..NEAR_STEPS {
            next = next.and_then(
                #[inline(always)]
                |node| step(node, *key, &mut best),
            );
        }
        lane.best = best;
        if let Some(next) = next {
            prefetch(next);
            lane.next = next;
            under_way[count & (LANES - 1)] = at as u8;
            count += 1;
        }
    }
    while count > 0 {
        let mut kept = 0;
        for position in 0..count {
            let at = under_way[position & (LANES - 1)];
            let lane = &mut lanes[usize::from(at) & (LANES - 1)];
            // A lane is under way only if there is a key for it.
            let Some(key) = keys.get(usize::from(at)) else { continue };
            match step(lane.next, *key, &mut lane.best) {
                Some(next) => {
                    prefetch(next);
                    lane.next = next;
                    under_way[kept & (LANES - 1)] = at;
                    kept += 1;
                }
                None => {
                    if let Some(value) = lane.best.value() {
                        prefetch(value);
                    }
                }
            }
        }
        count = kept;
    }
    for (out, lane) in out.iter_mut().zip(&lanes) {
        *out = lane.best.value().copied();
    }
}
