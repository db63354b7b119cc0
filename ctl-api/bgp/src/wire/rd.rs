//! Route distinguishers (RFC 4364 section 4.2) and route targets (RFC 4360
//! section 4, RFC 5668): eight bytes, one text form.
//!
//! Text: `64512:100` (2-byte AS, 4-byte number), `4200000000:100` or
//! `64512L:100` (4-byte AS, 2-byte number), `198.18.0.1:100`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::community::ExtendedCommunity;

/// A text was no route distinguisher or route target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ADMINISTRATOR:NUMBER, such as 64512:100, 4200000000:100, 64512L:100 or 198.18.0.1:100")]
pub struct ParseRdError;

/// Type (0 AS2, 1 IPv4, 2 AS4) and six bytes of value, from text.
fn parse(text: &str) -> Result<(u8, [u8; 6]), ParseRdError> {
    let (admin, number) = text.split_once(':').ok_or(ParseRdError)?;
    let number: u32 = number.parse().map_err(|_| ParseRdError)?;
    let mut value = [0; 6];
    let short = u16::try_from(number).map_err(|_| ParseRdError);
    if admin.contains('.') {
        let address: Ipv4Addr = admin.parse().map_err(|_| ParseRdError)?;
        value[..4].copy_from_slice(&address.octets());
        value[4..].copy_from_slice(&short?.to_be_bytes());
        return Ok((1, value));
    }
    let (asn, wide) = match admin.strip_suffix('L') {
        Some(asn) => (asn, true),
        None => (admin, false),
    };
    let asn: u32 = asn.parse().map_err(|_| ParseRdError)?;
    match u16::try_from(asn) {
        Ok(asn) if !wide => {
            value[..2].copy_from_slice(&asn.to_be_bytes());
            value[2..].copy_from_slice(&number.to_be_bytes());
            Ok((0, value))
        }
        _ => {
            value[..4].copy_from_slice(&asn.to_be_bytes());
            value[4..].copy_from_slice(&short?.to_be_bytes());
            Ok((2, value))
        }
    }
}

fn show(kind: u8, value: [u8; 6], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [a, b, c, d, e, g] = value;
    let last = u16::from_be_bytes([e, g]);
    match kind {
        0 => write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g])),
        1 => write!(f, "{}:{last}", Ipv4Addr::new(a, b, c, d)),
        _ => {
            let asn = u32::from_be_bytes([a, b, c, d]);
            let mark = if asn <= u32::from(u16::MAX) { "L" } else { "" };
            write!(f, "{asn}{mark}:{last}")
        }
    }
}

/// A route distinguisher. Every eight bytes are one: types above 2 are kept as
/// they came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rd(pub [u8; 8]);

impl Rd {
    /// The distinguisher of next hops: all zeros (RFC 4364 section 4.3.2).
    pub const ZERO: Self = Self([0; 8]);

    /// A 2-byte AS number and a number that it assigns.
    pub fn as2(asn: u16, number: u32) -> Self {
        let [a, b] = asn.to_be_bytes();
        let [c, d, e, g] = number.to_be_bytes();
        Self([0, 0, a, b, c, d, e, g])
    }

    /// An IPv4 address and a number that its owner assigns.
    pub fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        let [a, b, c, d] = address.octets();
        let [e, g] = number.to_be_bytes();
        Self([0, 1, a, b, c, d, e, g])
    }

    /// A 4-byte AS number and a number that it assigns.
    pub fn as4(asn: u32, number: u16) -> Self {
        let [a, b, c, d] = asn.to_be_bytes();
        let [e, g] = number.to_be_bytes();
        Self([0, 2, a, b, c, d, e, g])
    }
}

impl fmt::Display for Rd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, kind, value @ ..] = self.0;
        if high == 0 && kind <= 2 {
            return show(kind, value, f);
        }
        write!(f, "0x{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Rd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Rd {
    type Err = ParseRdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, [a, b, c, d, e, g]) = parse(text)?;
        Ok(Self([0, kind, a, b, c, d, e, g]))
    }
}

/// A route target: an extended community of type 0, 1 or 2 and sub-type 2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteTarget([u8; 8]);

impl RouteTarget {
    /// The route target in a community, if it is one.
    pub const fn from_community(community: ExtendedCommunity) -> Option<Self> {
        match community.0 {
            [0..=2, 2, ..] => Some(Self(community.0)),
            _ => None,
        }
    }

    /// A 2-byte AS number and a number that it assigns.
    pub fn as2(asn: u16, number: u32) -> Self {
        let mut bytes = Rd::as2(asn, number).0;
        bytes[1] = 2;
        Self(bytes)
    }

    /// A 4-byte AS number and a number that it assigns.
    pub fn as4(asn: u32, number: u16) -> Self {
        let [a, b, c, d] = asn.to_be_bytes();
        let [e, g] = number.to_be_bytes();
        Self([2, 2, a, b, c, d, e, g])
    }

    /// An IPv4 address and a number that its owner assigns.
    pub fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        let mut bytes = Rd::ipv4(address, number).0;
        (bytes[0], bytes[1]) = (1, 2);
        Self(bytes)
    }

    /// The extended community of it.
    pub const fn community(self) -> ExtendedCommunity {
        ExtendedCommunity(self.0)
    }

    /// AS number and assigned number, if an AS administers it.
    pub fn asn_and_number(self) -> Option<(u32, u32)> {
        let [kind, _, a, b, c, d, e, g] = self.0;
        match kind {
            0 => Some((u32::from(u16::from_be_bytes([a, b])), u32::from_be_bytes([c, d, e, g]))),
            2 => Some((u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, g])))),
            _ => None,
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, _, value @ ..] = self.0;
        show(kind, value, f)
    }
}

impl fmt::Debug for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RouteTarget {
    type Err = ParseRdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, [a, b, c, d, e, g]) = parse(text)?;
        Ok(Self([kind, 2, a, b, c, d, e, g]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        for (text, bytes) in [
            ("64512:100", [0, 0, 0xfc, 0, 0, 0, 0, 100]),
            ("198.18.0.1:7", [0, 1, 198, 18, 0, 1, 0, 7]),
            ("64512L:9", [0, 2, 0, 0, 0xfc, 0, 0, 9]),
            ("4200000000:5", [0, 2, 0xfa, 0x56, 0xea, 0, 0, 5]),
        ] {
            assert_eq!(text.parse::<Rd>(), Ok(Rd(bytes)));
            assert_eq!(Rd(bytes).to_string(), text);
            let target: RouteTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(target.community().0[..2], [bytes[1], 2]);
            assert_eq!(RouteTarget::from_community(target.community()), Some(target));
        }
        for wrong in ["", "1", "1:", ":1", "1:4294967296", "4200000000:65536", "1.2.3:4", "x:1", "1L:65536"] {
            assert_eq!(wrong.parse::<Rd>(), Err(ParseRdError), "{wrong}");
        }
        assert_eq!(Rd([0, 9, 0, 0, 0, 0, 0, 1]).to_string(), "0x0009000000000001");
    }

    #[test]
    fn a_source_as_community_is_no_route_target() {
        assert_eq!(RouteTarget::from_community(ExtendedCommunity([0, 9, 0, 1, 0, 0, 0, 0])), None);
        assert_eq!(RouteTarget::from_community(ExtendedCommunity([0x40, 2, 0, 1, 0, 0, 0, 0])), None);
    }
}
