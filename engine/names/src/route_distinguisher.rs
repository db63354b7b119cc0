//! Route distinguishers (RFC 4364 section 4.2).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::administrator::{Assigned, NotAssigned};

/// A route distinguisher: eight bytes, whose order is theirs. Types that are not
/// defined (0 to 2 are) stay as they came; their text is `0x` and sixteen
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher([u8; 8]);

impl RouteDistinguisher {
    /// The distinguisher of next hops: all zeros (RFC 4364 section 4.3.2).
    pub const ZERO: Self = Self([0; 8]);

    /// From the wire.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// As on the wire.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }

    /// Who assigned what, if its type is defined.
    pub const fn assigned(self) -> Option<Assigned> {
        match self.0 {
            [0, kind, a, b, c, d, e, f] => Assigned::decode(kind, [a, b, c, d, e, f]),
            _ => None,
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

    /// The distinguisher of what is assigned.
    pub const fn of(assigned: Assigned) -> Self {
        let (kind, [a, b, c, d, e, f]) = assigned.encode();
        Self([0, kind, a, b, c, d, e, f])
    }
}

impl FromStr for RouteDistinguisher {
    type Err = NotAssigned;

    fn from_str(text: &str) -> Result<Self, NotAssigned> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 16);
        if let Some(digits) = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            && let Ok(number) = u64::from_str_radix(digits, 16)
        {
            let rd = Self(number.to_be_bytes());
            // Those that are defined have another text.
            if rd.assigned().is_none() {
                return Ok(rd);
            }
        }
        text.parse().map(Self::of)
    }
}

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.assigned() {
            Some(assigned) => assigned.fmt(f),
            None => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl fmt::Debug for RouteDistinguisher {
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
        fn every_eight_bytes_have_one_text(bytes: [u8; 8], assigned in assigned()) {
            for rd in [RouteDistinguisher::from_bytes(bytes), RouteDistinguisher::of(assigned)] {
                prop_assert_eq!(rd.to_string().parse(), Ok(rd));
                prop_assert_eq!(RouteDistinguisher::from_bytes(rd.bytes()), rd);
            }
            prop_assert_eq!(RouteDistinguisher::of(assigned).assigned(), Some(assigned));
        }
    }

    #[test]
    fn text_and_bytes_are_those_of_the_rfc() {
        for (text, bytes) in [
            ("64512:100", [0, 0, 0xfc, 0, 0, 0, 0, 100]),
            ("198.18.0.1:7", [0, 1, 198, 18, 0, 1, 0, 7]),
            ("64512L:9", [0, 2, 0, 0, 0xfc, 0, 0, 9]),
            ("4200000000:5", [0, 2, 0xfa, 0x56, 0xea, 0, 0, 5]),
            ("0x0009000000000001", [0, 9, 0, 0, 0, 0, 0, 1]),
        ] {
            assert_eq!(text.parse(), Ok(RouteDistinguisher::from_bytes(bytes)));
            assert_eq!(RouteDistinguisher::from_bytes(bytes).to_string(), text);
        }
        for other in ["0x0000000000000001", "0x9", "0x+009000000000001", "0X0009000000000001"] {
            assert!(other.parse::<RouteDistinguisher>().is_err(), "{other}");
        }
    }
}
