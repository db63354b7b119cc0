//! VXLAN network identifiers (RFC 7348).

/// A VXLAN network identifier, 24 bits (RFC 7348).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = (1 << 24) - 1;

    /// An identifier, or `None` if it is 0 or too large.
    pub fn new(value: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&value).then_some(Self(value))
    }

    /// The identifier as a number.
    #[inline]
    pub fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_keep_to_their_range() {
        assert!(Vni::new(0).is_none() && Vni::new(1 << 24).is_none());
        assert_eq!(Vni::new(Vni::MAX).map(Vni::value), Some(Vni::MAX));
    }
}
