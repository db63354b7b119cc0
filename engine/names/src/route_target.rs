//! Route targets (RFC 4360 section 4, RFC 5668).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::administrator::{Assigned, NotAssigned};

/// Sub-type of a route target among the extended communities (RFC 4360).
const ROUTE_TARGET: u8 = 0x02;

/// A route target: an extended community of type 0, 1 or 2 and sub-type 2. The
/// order is that of its bytes. Texts that begin with `target:` are read, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTarget([u8; 8]);

impl RouteTarget {
    /// From an extended community. `None` if it is no route target.
    pub const fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        match bytes {
            [0..=2, ROUTE_TARGET, ..] => Some(Self(bytes)),
            _ => None,
        }
    }

    /// As an extended community.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }

    /// Who assigned what.
    pub const fn assigned(self) -> Assigned {
        let [kind, _, value @ ..] = self.0;
        match Assigned::decode(kind, value) {
            Some(assigned) => assigned,
            // Both constructors have made sure of the type.
            None => unreachable!(),
        }
    }

    /// A number that a 2-byte AS assigns.
    pub const fn as2(asn: u16, number: u32) -> Self {
        Self::of(Assigned::As2 { asn, number })
    }

    /// A number that a 4-byte AS assigns.
    pub const fn as4(asn: u32, number: u16) -> Self {
        Self::of(Assigned::As4 { asn, number })
    }

    /// A number that the owner of an IPv4 address assigns.
    pub const fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        Self::of(Assigned::Address { address, number })
    }

    /// The route target of what is assigned.
    pub const fn of(assigned: Assigned) -> Self {
        let (kind, [a, b, c, d, e, f]) = assigned.encode();
        Self([kind, ROUTE_TARGET, a, b, c, d, e, f])
    }

    /// The AS that assigned it, if it was one.
    pub fn asn(self) -> Option<u32> {
        self.assigned().asn()
    }

    /// The number behind the colon.
    pub fn number(self) -> u32 {
        self.assigned().number()
    }

    /// AS number and assigned number, if an AS administers it.
    pub fn asn_and_number(self) -> Option<(u32, u32)> {
        Some((self.asn()?, self.number()))
    }
}

impl FromStr for RouteTarget {
    type Err = NotAssigned;

    fn from_str(text: &str) -> Result<Self, NotAssigned> {
        text.strip_prefix("target:").unwrap_or(text).parse().map(Self::of)
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.assigned().fmt(f)
    }
}

impl fmt::Debug for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::administrator::tests::assigned;

    proptest! {
        #[test]
        fn text_and_bytes_agree(assigned in assigned(), bytes: [u8; 8]) {
            let target = RouteTarget::of(assigned);
            prop_assert_eq!(target.assigned(), assigned);
            prop_assert_eq!(target.to_string().parse(), Ok(target));
            prop_assert_eq!(format!("target:{target}").parse(), Ok(target));
            prop_assert_eq!(RouteTarget::from_bytes(target.bytes()), Some(target));
            if let Some(target) = RouteTarget::from_bytes(bytes) {
                prop_assert_eq!(RouteTarget::of(target.assigned()), target);
            }
        }
    }

    #[test]
    fn bytes_are_those_of_the_rfcs() {
        for (text, bytes) in [
            ("64512:100", [0, 2, 0xfc, 0, 0, 0, 0, 100]),
            ("198.18.0.1:7", [1, 2, 198, 18, 0, 1, 0, 7]),
            ("4200000000:100", [2, 2, 0xfa, 0x56, 0xea, 0, 0, 100]),
            ("64512L:100", [2, 2, 0, 0, 0xfc, 0, 0, 100]),
        ] {
            assert_eq!(text.parse::<RouteTarget>().expect(text).bytes(), bytes);
        }
        // A source AS, and a route target that is not transitive (RFC 4360).
        assert_eq!(RouteTarget::from_bytes([0, 9, 0, 1, 0, 0, 0, 0]), None);
        assert_eq!(RouteTarget::from_bytes([0x40, 2, 0, 1, 0, 0, 0, 0]), None);
    }
}
