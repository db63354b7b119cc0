//! Longest-prefix match.

/// A longest-prefix match table.
#[derive(Debug, Clone)]
pub struct Fib<K> {
    key: std::marker::PhantomData<K>,
}

impl<K> Default for Fib<K> {
    fn default() -> Self {
        Self { key: std::marker::PhantomData }
    }
}
