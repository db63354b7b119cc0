//! The nodes of the tree, and how routes come and go.
//!
//! A [`Branch`] is about a [`Span`]: a chunk of the address, up to six bits.
//! Prefixes that end in it are bits of `internal`, numbered as a binary heap:
//! in row `r` (0 to 5), with `b` for the first `r` bits of the chunk, that is
//! bit `2^r + b`. (A chunk of fewer bits counts as one with zeros ahead.)
//! Subtrees are bits of `external`, by chunk. Values and children stand in
//! arrays without gaps; the rank of a bit is the position. A subtree with a
//! single route is a [`Leaf`] wherever it hangs, and a branch names the whole
//! path to it, so spans in which nothing forks take no node.

use arrayvec::ArrayVec;

use super::array::Array;
use super::epoch::Change;
use super::key::{FibKey, ROWS, Span};

/// A subtree.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node<K: FibKey, V> {
    /// With one route.
    Leaf(Leaf<K, V>),
    /// With several.
    Branch(Branch<K, V>),
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf<K: FibKey, V> {
    key: K::Packed,
    pub length: u8,
    pub value: V,
}

/// Several routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branch<K: FibKey, V> {
    /// The path: zeros from the span on.
    key: K::Packed,
    pub span: Span,
    #[allow(dead_code, reason = "the compiler reads it: its unused values are the tag of a node")]
    kind: Kind,
    pub internal: u64,
    pub external: u64,
    values: Array<V>,
    children: Array<Node<K, V>>,
}

/// Says that a node is a branch: any other value says that it is a leaf. It
/// saves a node the eight bytes of a tag of its own.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Kind {
    Branch = 1,
}

/// How many bits are set below `bit`.
#[inline]
fn rank(bits: u64, bit: u32) -> usize {
    (bits & ((1 << (bit & 63)) - 1)).count_ones() as usize
}

#[inline]
fn has(bits: u64, bit: u32) -> bool {
    bits >> (bit & 63) & 1 != 0
}

impl<K: FibKey, V> Leaf<K, V> {
    #[inline]
    pub fn key(&self) -> K {
        K::unpack(self.key)
    }
}

impl<K: FibKey, V: Copy> Node<K, V> {
    /// A subtree with one route.
    pub fn leaf(key: K, length: u8, value: V) -> Self {
        Self::Leaf(Leaf { key: key.pack(), length, value })
    }

    /// What stands for no route at all; only ever for a moment.
    fn vacant() -> Self {
        Self::Branch(Branch::new(K::default(), Span::of_length::<K>(0)))
    }

    /// Whether nothing is left here.
    pub fn is_vacant(&self) -> bool {
        matches!(self, Self::Branch(branch) if branch.internal == 0 && branch.external == 0)
    }

    fn key(&self) -> K {
        match self {
            Self::Leaf(leaf) => leaf.key(),
            Self::Branch(branch) => branch.key(),
        }
    }

    fn span(&self) -> Span {
        match self {
            Self::Leaf(leaf) => Span::of_length::<K>(leaf.length),
            Self::Branch(branch) => branch.span,
        }
    }

    /// The value of exactly this prefix.
    pub fn exact(&self, key: K, length: u8) -> Option<&V> {
        let span = Span::of_length::<K>(length);
        let mut node = self;
        loop {
            let branch = match node {
                Self::Leaf(leaf) => {
                    return (leaf.length == length && leaf.key() == key).then_some(&leaf.value);
                }
                Self::Branch(branch) => branch,
            };
            if span.start < branch.span.start {
                return None;
            }
            let chunk = branch.chunk(key)?;
            if span == branch.span {
                return branch.value(branch.bit(chunk, length));
            }
            node = branch.child(chunk)?;
        }
    }

    /// Puts in a route; `change` is the table's.
    pub fn insert(&mut self, key: K, length: u8, value: V, change: &mut Change<'_>) -> Option<V> {
        // What both prefixes have in common.
        let common = key.common_bits(self.key()).min(length).min(self.span().start);
        let fork = Span::of_length::<K>(common);
        match self {
            Self::Leaf(leaf) if leaf.length == length && leaf.key() == key => {
                return Some(std::mem::replace(&mut leaf.value, value));
            }
            Self::Branch(branch) if branch.span == fork => {
                return branch.insert(key, length, value, change);
            }
            _ => {}
        }
        let mut branch = Branch::new(key, fork);
        branch.adopt(*self, change);
        branch.adopt(Self::leaf(key, length, value), change);
        *self = Self::Branch(branch);
        None
    }

    /// Takes out a route that is there. The node may be vacant afterwards.
    pub fn remove(&mut self, key: K, length: u8, change: &mut Change<'_>) {
        match self {
            Self::Leaf(_) => *self = Self::vacant(),
            Self::Branch(branch) => {
                branch.remove(key, length, change);
                if let Some(simpler) = branch.simplify(change) {
                    *self = simpler;
                }
            }
        }
    }

    /// The subtree in arrays of its own.
    pub fn copied(&self, change: &mut Change<'_>) -> Self {
        let Self::Branch(branch) = self else { return *self };
        let (values, children) = (branch.values.as_slice(), branch.children.as_slice());
        let values = Array::build(values.len(), change, |at| values[at]);
        let copies: ArrayVec<Self, 64> = children.iter().map(|child| child.copied(change)).collect();
        let children = Array::build(copies.len(), change, |at| copies[at]);
        Self::Branch(Branch { values, children, ..*branch })
    }

    /// Frees all arrays of the subtree.
    ///
    /// # Safety
    /// Nobody else has any of them, and nobody uses the subtree afterwards.
    pub unsafe fn free(self) {
        let Self::Branch(branch) = self else { return };
        for child in branch.children.as_slice() {
            // SAFETY: as the caller says.
            unsafe { child.free() };
        }
        let blocks = [branch.values.into_block(), branch.children.into_block()];
        // SAFETY: as the caller says; the children were read before.
        blocks.into_iter().flatten().for_each(|block| unsafe { block.free() });
    }

    /// Bytes that it holds on the heap, by counting.
    #[cfg(test)]
    pub fn count_bytes(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Branch(branch) => {
                let below: usize = branch.children.as_slice().iter().map(Self::count_bytes).sum();
                branch.values.bytes() + branch.children.bytes() + below
            }
        }
    }

    /// Of those, how many are of the epoch of the last change below.
    #[cfg(test)]
    pub fn count_unshared_bytes(&self) -> usize {
        self.count_bytes_of(self.newest_stamp())
    }

    #[cfg(test)]
    fn newest_stamp(&self) -> u64 {
        let Self::Branch(branch) = self else { return 0 };
        let below = branch.children.as_slice().iter().map(Self::newest_stamp).max().unwrap_or(0);
        below.max(branch.values.stamp()).max(branch.children.stamp())
    }

    #[cfg(test)]
    fn count_bytes_of(&self, stamp: u64) -> usize {
        let Self::Branch(branch) = self else { return 0 };
        let of_values = if branch.values.stamp() == stamp { branch.values.bytes() } else { 0 };
        let of_children = if branch.children.stamp() == stamp { branch.children.bytes() } else { 0 };
        let below = branch.children.as_slice().iter().map(|child| child.count_bytes_of(stamp));
        of_values + of_children + below.sum::<usize>()
    }

    /// Panics unless the tree below has the one shape that its routes allow.
    #[cfg(test)]
    pub fn check(&self) {
        let Self::Branch(branch) = self else { return };
        assert_eq!(branch.values.as_slice().len(), branch.internal.count_ones() as usize);
        assert_eq!(branch.children.as_slice().len(), branch.external.count_ones() as usize);
        assert_eq!(branch.internal & 1, 0);
        let (values, children) = (branch.internal.count_ones(), branch.external.count_ones());
        assert!(values + children >= 2, "{values} values and {children} children");
        assert_eq!(branch.key().truncate(branch.span.start), branch.key());
        assert_eq!(branch.span, Span::of_length::<K>(branch.span.start));
        for chunk in (0..64).filter(|chunk| has(branch.external, *chunk)) {
            let child = branch.child(chunk).expect("its bit is set");
            assert!(child.span().start > branch.span.start);
            assert_eq!(branch.chunk(child.key()), Some(chunk));
            child.check();
        }
    }
}

impl<K: FibKey, V: Copy> Branch<K, V> {
    #[inline]
    pub fn key(&self) -> K {
        K::unpack(self.key)
    }

    /// The subtree of a chunk.
    #[inline]
    pub fn child(&self, chunk: u32) -> Option<&Node<K, V>> {
        if !has(self.external, chunk) {
            return None;
        }
        // SAFETY: there is a child for each bit of `external`, in their order.
        // The bit is set, and the rank is how many come before it.
        Some(unsafe { self.children.get_unchecked(rank(self.external, chunk)) })
    }

    /// The value of a bit of `internal`.
    #[inline]
    pub fn value(&self, bit: u32) -> Option<&V> {
        if !has(self.internal, bit) {
            return None;
        }
        // SAFETY: there is a value for each bit of `internal`, in their order.
        // The bit is set, and the rank is how many come before it.
        Some(unsafe { self.values.get_unchecked(rank(self.internal, bit)) })
    }

    /// The prefix of a bit of `internal`.
    pub fn prefix(&self, bit: u32) -> (K, u8) {
        let row = bit.ilog2() as u8;
        let length = self.span.length(row);
        (self.key().place((bit - (1 << row)) as u8, length), length)
    }

    /// The chunk of a key that lies on the path, `None` for any other.
    #[inline]
    pub fn chunk(&self, key: K) -> Option<u32> {
        key.chunk(self.key(), self.span)
    }

    /// The chunk of a key for a search: `None` for most keys that do not lie on
    /// the path, and a chunk that nothing here has for the others.
    #[inline(always)]
    pub fn window(&self, key: K) -> Option<u32> {
        key.window(self.key, self.span)
    }

    /// The chunk of a route of this subtree.
    fn chunk_of_own(&self, key: K) -> u32 {
        self.chunk(key).expect("the routes of a subtree share its path")
    }

    /// The bit of `internal` of a prefix with this chunk.
    fn bit(&self, chunk: u32, length: u8) -> u32 {
        let row = self.span.row(length);
        1 << row | chunk >> (ROWS - row)
    }

    /// Whether prefixes of this length stand here.
    fn covers(&self, length: u8) -> bool {
        Span::of_length::<K>(length) == self.span
    }
}

impl<K: FibKey, V: Copy> Branch<K, V> {
    fn new(key: K, span: Span) -> Self {
        Self {
            key: key.truncate(span.start).pack(),
            span,
            kind: Kind::Branch,
            internal: 0,
            external: 0,
            values: Array::default(),
            children: Array::default(),
        }
    }

    /// Puts in a route whose path is this branch's.
    fn insert(&mut self, key: K, length: u8, value: V, change: &mut Change<'_>) -> Option<V> {
        let chunk = self.chunk_of_own(key);
        if self.covers(length) {
            return self.set_value(self.bit(chunk, length), value, change);
        }
        if !has(self.external, chunk) {
            self.adopt(Node::leaf(key, length, value), change);
            return None;
        }
        let at = rank(self.external, chunk);
        self.children.edit(change)[at].insert(key, length, value, change)
    }

    /// Takes in a subtree whose chunk is free, or a route that ends here.
    fn adopt(&mut self, node: Node<K, V>, change: &mut Change<'_>) {
        let chunk = self.chunk_of_own(node.key());
        match node {
            Node::Leaf(leaf) if self.covers(leaf.length) => {
                self.set_value(self.bit(chunk, leaf.length), leaf.value, change);
            }
            node => {
                self.children.insert(rank(self.external, chunk), node, change);
                self.external |= 1 << chunk;
            }
        }
    }

    fn set_value(&mut self, bit: u32, value: V, change: &mut Change<'_>) -> Option<V> {
        let at = rank(self.internal, bit);
        if has(self.internal, bit) {
            return Some(std::mem::replace(&mut self.values.edit(change)[at], value));
        }
        self.values.insert(at, value, change);
        self.internal |= 1 << bit;
        None
    }

    /// Takes out a route that is there.
    fn remove(&mut self, key: K, length: u8, change: &mut Change<'_>) {
        let chunk = self.chunk_of_own(key);
        if self.covers(length) {
            let bit = self.bit(chunk, length);
            self.values.remove(rank(self.internal, bit), change);
            self.internal &= !(1 << bit);
            return;
        }
        let at = rank(self.external, chunk);
        let child = &mut self.children.edit(change)[at];
        child.remove(key, length, change);
        if child.is_vacant() {
            self.children.remove(at, change);
            self.external &= !(1 << chunk);
        }
    }

    /// What this branch should be replaced by now that it has lost a route.
    fn simplify(&mut self, change: &mut Change<'_>) -> Option<Node<K, V>> {
        match (self.internal.count_ones(), self.external.count_ones()) {
            (0, 1) => {
                let only = *self.children.as_slice().first()?;
                self.children.remove(0, change);
                Some(only)
            }
            (1, 0) => {
                let bit = self.internal.trailing_zeros();
                let (key, length) = self.prefix(bit);
                let value = *self.value(bit)?;
                self.values.remove(0, change);
                Some(Node::leaf(key, length, value))
            }
            _ => None,
        }
    }
}
