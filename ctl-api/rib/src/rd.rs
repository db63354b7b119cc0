//! Route distinguishers (RFC 4364 section 4.2) and route targets (RFC 4360,
//! RFC 5668): eight bytes each, and one text form for both.
//!
//! Text: `64512:100` (2-byte AS, 4-byte number), `4200000000:100` or
//! `64512L:100` (4-byte AS, 2-byte number), `198.18.0.1:100` (IPv4 address,
//! 2-byte number).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Sub-type of a route target among the extended communities (RFC 4360).
const ROUTE_TARGET: u8 = 0x02;

/// A text was no route distinguisher or route target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected ADMINISTRATOR:NUMBER such as 64512:100 (2-byte AS), 4200000000:100 or 64512L:100 (4-byte AS, number at most 65535), or 198.18.0.1:100 (number at most 65535)"
)]
pub struct ParseAdministratorError;

/// What the text names: an administrator and a number that it assigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Assigned {
    As2(u16, u32),
    Ipv4(Ipv4Addr, u16),
    As4(u32, u16),
}

impl Assigned {
    /// Type (0, 1 or 2) and value.
    fn encode(self) -> (u8, [u8; 6]) {
        let mut value = [0; 6];
        let kind = match self {
            Self::As2(asn, number) => {
                value[..2].copy_from_slice(&asn.to_be_bytes());
                value[2..].copy_from_slice(&number.to_be_bytes());
                0
            }
            Self::Ipv4(address, number) => {
                value[..4].copy_from_slice(&address.octets());
                value[4..].copy_from_slice(&number.to_be_bytes());
                1
            }
            Self::As4(asn, number) => {
                value[..4].copy_from_slice(&asn.to_be_bytes());
                value[4..].copy_from_slice(&number.to_be_bytes());
                2
            }
        };
        (kind, value)
    }

    fn decode(kind: u8, value: [u8; 6]) -> Option<Self> {
        let [a, b, c, d, e, g] = value;
        Some(match kind {
            0 => Self::As2(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
            1 => Self::Ipv4(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, g])),
            2 => Self::As4(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g])),
            _ => return None,
        })
    }
}

impl FromStr for Assigned {
    type Err = ParseAdministratorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (administrator, number) = text.split_once(':').ok_or(ParseAdministratorError)?;
        let number = decimal(number)?;
        let short = || u16::try_from(number).map_err(|_| ParseAdministratorError);
        if administrator.contains('.') {
            let address = administrator.parse().map_err(|_| ParseAdministratorError)?;
            return Ok(Self::Ipv4(address, short()?));
        }
        if let Some(asn) = administrator.strip_suffix('L') {
            return Ok(Self::As4(decimal(asn)?, short()?));
        }
        let asn = decimal(administrator)?;
        match u16::try_from(asn) {
            Ok(asn) => Ok(Self::As2(asn, number)),
            Err(_) => Ok(Self::As4(asn, short()?)),
        }
    }
}

/// Digits only: the standard parser would take a plus sign too.
fn decimal(text: &str) -> Result<u32, ParseAdministratorError> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(ParseAdministratorError);
    }
    text.parse().map_err(|_| ParseAdministratorError)
}

impl fmt::Display for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As2(asn, number) => write!(f, "{asn}:{number}"),
            Self::Ipv4(address, number) => write!(f, "{address}:{number}"),
            Self::As4(asn, number) if *asn <= u32::from(u16::MAX) => write!(f, "{asn}L:{number}"),
            Self::As4(asn, number) => write!(f, "{asn}:{number}"),
        }
    }
}

macro_rules! eight_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 8]);

        impl $name {
            /// As on the wire.
            pub fn bytes(self) -> [u8; 8] {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

eight_bytes! {
    /// A route distinguisher. The order is that of the bytes.
    RouteDistinguisher
}
eight_bytes! {
    /// A route target. The order is that of the bytes.
    RouteTarget
}

impl RouteDistinguisher {
    /// From the wire. `None` for a type that is not defined.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        let [zero, kind, value @ ..] = bytes;
        (zero == 0 && Assigned::decode(kind, value).is_some()).then_some(Self(bytes))
    }
}

impl RouteTarget {
    /// From an extended community. `None` if it is no route target.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        let [kind, sub_type, value @ ..] = bytes;
        (sub_type == ROUTE_TARGET && Assigned::decode(kind, value).is_some()).then_some(Self(bytes))
    }
}

impl FromStr for RouteDistinguisher {
    type Err = ParseAdministratorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, [a, b, c, d, e, f]) = text.parse::<Assigned>()?.encode();
        Ok(Self([0, kind, a, b, c, d, e, f]))
    }
}

impl FromStr for RouteTarget {
    type Err = ParseAdministratorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, [a, b, c, d, e, f]) = text.parse::<Assigned>()?.encode();
        Ok(Self([kind, ROUTE_TARGET, a, b, c, d, e, f]))
    }
}

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, kind, value @ ..] = self.0;
        // Both constructors have made sure of the type.
        Assigned::decode(kind, value).map_or(Err(fmt::Error), |assigned| assigned.fmt(f))
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, _, value @ ..] = self.0;
        Assigned::decode(kind, value).map_or(Err(fmt::Error), |assigned| assigned.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_bytes_are_those_of_the_rfcs() {
        let rd: RouteDistinguisher = "64512:100".parse().expect("2-byte AS");
        assert_eq!(rd.bytes(), [0, 0, 0xfc, 0, 0, 0, 0, 100]);
        let rt: RouteTarget = "198.18.0.1:7".parse().expect("IPv4");
        assert_eq!(rt.bytes(), [1, 2, 198, 18, 0, 1, 0, 7]);
        let rt: RouteTarget = "4200000000:100".parse().expect("4-byte AS");
        assert_eq!(rt.bytes(), [2, 2, 0xfa, 0x56, 0xea, 0, 0, 100]);
        let forced: RouteTarget = "64512L:100".parse().expect("forced 4-byte AS");
        assert_eq!(forced.bytes(), [2, 2, 0, 0, 0xfc, 0, 0, 100]);
        assert_eq!(forced.to_string(), "64512L:100");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            "",
            ":",
            "1",
            "1:",
            ":1",
            "+1:1",
            "1:+1",
            "1:4294967296",
            "4294967296:1",
            "70000:65536",
            "1L:65536",
            "1.2.3:4",
            "1.2.3.4:65536",
            "1:1:1",
        ] {
            assert!(bad.parse::<RouteTarget>().is_err(), "{bad}");
        }
        assert!(RouteTarget::from_bytes([3, 2, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(RouteTarget::from_bytes([0, 3, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(RouteDistinguisher::from_bytes([0, 3, 0, 0, 0, 0, 0, 0]).is_none());
    }

    proptest! {
        #[test]
        fn text_round_trips(kind in 0u8..3, value in any::<[u8; 6]>()) {
            let [a, b, c, d, e, f] = value;
            let rd = RouteDistinguisher::from_bytes([0, kind, a, b, c, d, e, f]).expect("a known type");
            prop_assert_eq!(rd.to_string().parse(), Ok(rd));
            let rt = RouteTarget::from_bytes([kind, 2, a, b, c, d, e, f]).expect("a known type");
            prop_assert_eq!(rt.to_string().parse(), Ok(rt));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "[0-9.:L+]{0,24}") {
            if let Ok(rt) = text.parse::<RouteTarget>() {
                prop_assert_eq!(rt.to_string().parse(), Ok(rt));
            }
        }
    }
}
