//! Routes in order: by address, the shorter prefix first.

use arrayvec::ArrayVec;

use super::key::{FibKey, ROWS};
use super::node::{Branch, Node};

/// Levels of the deepest tree: IPv6 with a fork in every span.
const DEPTH: usize = 23;
/// First number of a child in [`ORDER`].
const CHILDREN: u8 = 64;

/// What a branch holds, in order. Numbers below 64 are bits of `internal`,
/// the others children: the numbers of a binary heap of seven rows, read in
/// pre-order.
static ORDER: [u8; 127] = order();

const fn order() -> [u8; 127] {
    let mut order = [0; 127];
    let mut at = 0;
    let mut number = 1u8;
    while at < order.len() {
        order[at] = number;
        at += 1;
        if number < CHILDREN {
            number *= 2;
        } else {
            // Up to the last turn to the left, and right from there.
            number >>= number.trailing_ones();
            number += 1;
        }
    }
    order
}

/// An iterator over routes; see [`Fib::iter`](super::Fib::iter).
#[derive(Debug)]
pub struct Iter<'a, K: FibKey, V: Copy> {
    stack: ArrayVec<Frame<'a, K, V>, DEPTH>,
    /// A leaf that comes before what is on the stack.
    leaf: Option<(K, u8, &'a V)>,
}

/// A branch and how far it has been read.
#[derive(Debug)]
struct Frame<'a, K: FibKey, V: Copy> {
    branch: &'a Branch<K, V>,
    /// Index into [`ORDER`].
    at: u8,
}

impl<'a, K: FibKey, V: Copy> Iter<'a, K, V> {
    /// All routes below `root`.
    pub(super) fn new(root: Option<&'a Node<K, V>>) -> Self {
        let mut iter = Self { stack: ArrayVec::new(), leaf: None };
        if let Some(root) = root {
            iter.enter(root);
        }
        iter
    }

    /// The routes below `root` from this prefix on, itself included.
    pub(super) fn starting_at(root: Option<&'a Node<K, V>>, start: K, length: u8) -> Self {
        let mut iter = Self { stack: ArrayVec::new(), leaf: None };
        let mut next = root;
        while let Some(node) = next {
            next = iter.seek(node, start, length);
        }
        iter
    }

    fn enter(&mut self, node: &'a Node<K, V>) {
        match node {
            Node::Leaf(leaf) => self.leaf = Some((leaf.key(), leaf.length, &leaf.value)),
            Node::Branch(branch) => self.stack.push(Frame { branch, at: 0 }),
        }
    }

    /// Goes to the first route at or after the start in `node`; returns the
    /// child in which the start lies, which is to be searched first.
    fn seek(&mut self, node: &'a Node<K, V>, start: K, length: u8) -> Option<&'a Node<K, V>> {
        let branch = match node {
            Node::Leaf(leaf) => {
                if (leaf.key(), leaf.length) >= (start, length) {
                    self.enter(node);
                }
                return None;
            }
            Node::Branch(branch) => branch,
        };
        let Some(chunk) = branch.chunk(start) else {
            if branch.key() > start {
                self.enter(node);
            }
            return None;
        };
        // Positions are (chunk, length) pairs, lengths counted so that no
        // row is below 0. A start that goes on past this chunk is longer than
        // any prefix here, so comparing its length suffices.
        let lead = branch.span.lead();
        let end = (chunk, length + lead);
        let before = |number: u8| {
            if number >= CHILDREN {
                return u32::from(number - CHILDREN) < chunk;
            }
            let row = number.ilog2() as u8;
            let first_chunk = (number - (1 << row)) << (ROWS - row);
            (u32::from(first_chunk), branch.span.start + row) < end
        };
        let at = ORDER.partition_point(|number| before(*number));
        let into = ORDER.get(at).is_some_and(|number| u32::from(*number) == u32::from(CHILDREN) + chunk);
        self.stack.push(Frame { branch, at: at as u8 + u8::from(into) });
        if into { branch.child(chunk) } else { None }
    }
}

impl<K: FibKey, V: Copy> Iterator for Iter<'_, K, V> {
    type Item = (K, u8, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, length, value)) = self.leaf.take() {
                return Some((key, length, *value));
            }
            let frame = self.stack.last_mut()?;
            let Some(number) = ORDER.get(usize::from(frame.at)) else {
                self.stack.pop();
                continue;
            };
            frame.at += 1;
            let (branch, number) = (frame.branch, *number);
            if number >= CHILDREN {
                if let Some(child) = branch.child(u32::from(number - CHILDREN)) {
                    self.enter(child);
                }
            } else if let Some(value) = branch.value(u32::from(number)) {
                let (key, length) = branch.prefix(u32::from(number));
                return Some((key, length, *value));
            }
        }
    }
}
