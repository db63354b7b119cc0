//! A number under somebody's administration: what route targets (RFC 4360, RFC
//! 5668) and route distinguishers (RFC 4364) have in common.
//!
//! Text: `64512:100` (2-byte AS, 4-byte number), `4200000000:100` or `64512L:100`
//! (4-byte AS, 2-byte number), `198.18.0.1:100` (IPv4 address, 2-byte number).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Who assigns, and what is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assigned {
    /// Type 0: of a 2-byte AS.
    As2 {
        /// Who assigns.
        asn: u16,
        /// What is assigned.
        number: u32,
    },
    /// Type 1: of who owns an IPv4 address.
    Address {
        /// Who assigns.
        address: Ipv4Addr,
        /// What is assigned.
        number: u16,
    },
    /// Type 2: of a 4-byte AS.
    As4 {
        /// Who assigns.
        asn: u32,
        /// What is assigned.
        number: u16,
    },
}

/// A text that is none, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAssigned {
    /// It has no two parts.
    #[error("{0:?} has no colon: write ASN:NUMBER, such as 64512:100")]
    NoColon(String),
    /// What is in front of the colon assigns nothing.
    #[error(
        "{0:?} in front of the colon is neither an AS number nor an IPv4 address: write it such as 64512, 64512L (a 4-byte AS) or 198.18.0.1"
    )]
    Administrator(String),
    /// What stands behind the colon is no number.
    #[error("{0:?} behind the colon is not a number: write decimal digits, such as 100")]
    Number(String),
    /// The number does not fit.
    #[error("{number} is too large: {most} is the largest number behind {what}")]
    TooLarge {
        /// The number.
        number: u64,
        /// The largest.
        most: u32,
        /// Who assigns it.
        what: &'static str,
    },
}

impl Assigned {
    /// Type (0, 1 or 2), and the value as on the wire.
    pub const fn encode(self) -> (u8, [u8; 6]) {
        match self {
            Self::As2 { asn, number } => {
                let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
                (0, [a, b, c, d, e, f])
            }
            Self::Address { address, number } => {
                let ([a, b, c, d], [e, f]) = (address.octets(), number.to_be_bytes());
                (1, [a, b, c, d, e, f])
            }
            Self::As4 { asn, number } => {
                let ([a, b, c, d], [e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
                (2, [a, b, c, d, e, f])
            }
        }
    }

    /// From the wire. `None` for a type that is not defined.
    pub const fn decode(kind: u8, value: [u8; 6]) -> Option<Self> {
        let [a, b, c, d, e, f] = value;
        let last = u16::from_be_bytes([e, f]);
        Some(match kind {
            0 => Self::As2 { asn: u16::from_be_bytes([a, b]), number: u32::from_be_bytes([c, d, e, f]) },
            1 => Self::Address { address: Ipv4Addr::new(a, b, c, d), number: last },
            2 => Self::As4 { asn: u32::from_be_bytes([a, b, c, d]), number: last },
            _ => return None,
        })
    }

    /// The AS that assigns, if it is one.
    pub fn asn(self) -> Option<u32> {
        match self {
            Self::As2 { asn, .. } => Some(asn.into()),
            Self::As4 { asn, .. } => Some(asn),
            Self::Address { .. } => None,
        }
    }

    /// The number behind the colon.
    pub fn number(self) -> u32 {
        match self {
            Self::As2 { number, .. } => number,
            Self::Address { number, .. } | Self::As4 { number, .. } => number.into(),
        }
    }
}

impl FromStr for Assigned {
    type Err = NotAssigned;

    fn from_str(text: &str) -> Result<Self, NotAssigned> {
        let (administrator, number) =
            text.split_once(':').ok_or_else(|| NotAssigned::NoColon(text.to_owned()))?;
        let number = digits(number).ok_or_else(|| NotAssigned::Number(number.to_owned()))?;
        let fits = |most: u32, what| match u32::try_from(number) {
            Ok(number) if number <= most => Ok(number),
            _ => Err(NotAssigned::TooLarge { number, most, what }),
        };
        let short = |what| fits(u16::MAX.into(), what).map(|number| number as u16);
        let unknown = || NotAssigned::Administrator(administrator.to_owned());
        if administrator.contains('.') {
            let address = administrator.parse().map_err(|_| unknown())?;
            return Ok(Self::Address { address, number: short("an address")? });
        }
        let (asn, is_marked) = match administrator.strip_suffix('L') {
            Some(asn) => (asn, true),
            None => (administrator, false),
        };
        let asn = digits(asn).and_then(|asn| u32::try_from(asn).ok()).ok_or_else(unknown)?;
        match u16::try_from(asn) {
            Ok(asn) if !is_marked => Ok(Self::As2 { asn, number: fits(u32::MAX, "a 2-byte AS number")? }),
            _ => Ok(Self::As4 { asn, number: short("a 4-byte AS number")? }),
        }
    }
}

/// Decimal digits alone: the standard parser would take a plus sign, too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Assigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As2 { asn, number } => write!(f, "{asn}:{number}"),
            Self::Address { address, number } => write!(f, "{address}:{number}"),
            // Without the mark it would be read as a 2-byte AS number.
            Self::As4 { asn, number } if *asn <= u32::from(u16::MAX) => write!(f, "{asn}L:{number}"),
            Self::As4 { asn, number } => write!(f, "{asn}:{number}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn assigned() -> impl Strategy<Value = Assigned> {
        prop_oneof![
            any::<(u16, u32)>().prop_map(|(asn, number)| Assigned::As2 { asn, number }),
            any::<(u32, u16)>().prop_map(|(asn, number)| Assigned::As4 { asn, number }),
            any::<(u16, u16)>().prop_map(|(asn, number)| Assigned::As4 { asn: asn.into(), number }),
            any::<(u32, u16)>()
                .prop_map(|(address, number)| Assigned::Address { address: address.into(), number }),
        ]
    }

    proptest! {
        #[test]
        fn text_and_bytes_agree(assigned in assigned()) {
            let text = assigned.to_string();
            prop_assert_eq!(text.parse(), Ok(assigned));
            let (kind, value) = assigned.encode();
            prop_assert_eq!(Assigned::decode(kind, value), Some(assigned));
        }

        #[test]
        fn a_text_that_is_read_has_one_form(text in "[0-9.L:+ ]{0,20}|.{0,16}") {
            if let Ok(assigned) = text.parse::<Assigned>() {
                prop_assert_eq!(assigned.to_string().parse(), Ok(assigned));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let refused = |text: &str| text.parse::<Assigned>().expect_err(text).to_string();
        for text in [
            "",
            "1",
            ":",
            "1:",
            ":1",
            "1:-1",
            "1:+1",
            "+1:1",
            "1: 1",
            " 1:1",
            "1:4294967296",
            "4294967296:1",
            "70000:65536",
            "1L:65536",
            "1.2.3:4",
            "1.2.3.4:65536",
            "x:1",
            "1l:1",
            "L:1",
            "1:1:1",
        ] {
            refused(text);
        }
        assert_eq!(
            refused("70000:70000"),
            "70000 is too large: 65535 is the largest number behind a 4-byte AS number"
        );
        assert!(refused("a:1").starts_with("\"a\" in front of the colon is neither"));
        assert!(refused("1:a").starts_with("\"a\" behind the colon is not a number"));
    }
}
