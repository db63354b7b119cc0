//! MPLS labels (RFC 3032).

/// An MPLS label, 20 bits (RFC 3032).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u32);

impl Label {
    /// Labels 0 to 15 are reserved (RFC 3032 section 2.1).
    pub const FIRST_UNRESERVED: u32 = 16;
    /// The largest label.
    pub const MAX: u32 = (1 << 20) - 1;

    /// A label that may name a VRF, or `None` if it is reserved or too large.
    pub fn new(value: u32) -> Option<Self> {
        (Self::FIRST_UNRESERVED..=Self::MAX).contains(&value).then_some(Self(value))
    }

    /// The label as a number.
    #[inline]
    pub fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_to_their_range() {
        assert!(Label::new(15).is_none() && Label::new(1 << 20).is_none());
        assert_eq!(Label::new(16).map(Label::value), Some(16));
    }
}
