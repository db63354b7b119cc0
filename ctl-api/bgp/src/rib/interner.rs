//! Attributes that many routes share, kept once.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::wire::Attributes;

/// The attributes in use.
#[derive(Debug, Default)]
pub struct Interner {
    all: HashSet<Arc<Attributes>, RandomState>,
    /// Size at which unused ones are looked for.
    sweep_at: usize,
}

impl Interner {
    /// The one shared copy of these attributes.
    pub fn intern(&mut self, attributes: impl Into<Arc<Attributes>> + AsRef<Attributes>) -> Arc<Attributes> {
        if let Some(known) = self.all.get(attributes.as_ref()) {
            return Arc::clone(known);
        }
        self.sweep();
        let new = attributes.into();
        self.all.insert(Arc::clone(&new));
        new
    }

    /// Forgets what nobody uses any more, when there may be a lot of it: at
    /// most half of what is kept is unused, and the cost is spread.
    fn sweep(&mut self) {
        if self.all.len() >= self.sweep_at.max(1024) {
            self.all.retain(|attributes| Arc::strong_count(attributes) > 1);
            self.all.shrink_to(self.all.len() * 2);
            self.sweep_at = self.all.len() * 2;
        }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none are kept.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl AsRef<Self> for Attributes {
    fn as_ref(&self) -> &Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn attributes(med: u32) -> Attributes {
        Attributes { med: Some(med), ..Attributes::new(IpAddr::from([198, 18, 0, 1])) }
    }

    #[test]
    fn equal_attributes_are_one_and_unused_ones_go() {
        let mut interner = Interner::default();
        let kept = interner.intern(attributes(1));
        assert!(Arc::ptr_eq(&kept, &interner.intern(attributes(1))));
        for med in 0..100_000 {
            interner.intern(attributes(med));
        }
        assert!(interner.len() <= 2048, "{}", interner.len());
        assert!(Arc::ptr_eq(&kept, &interner.intern(attributes(1))));
    }
}
