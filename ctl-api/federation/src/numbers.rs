//! The numbers of BGP VPNs and their ranges: AS numbers, BGP identifiers, route
//! targets, route distinguishers, security group IDs, VNIs.
//!
//! What a cluster allocates itself and what operators choose never meet:
//!
//! | number | operator's ("user") | the cluster's own ("system") |
//! |---|---|---|
//! | route target of a 2-byte AS number | `ASN:n`, n below 8,000,000 | n from 8,000,000 |
//! | route target of a 4-byte AS number | `ASN:n`, n below 8,000 | n from 8,000 to 32,768 |
//! | security group ID | 1 to 7,999,999 | from 8,000,000 |
//!
//! `ASN:7999999` is nobody's: EVPN's ES-import route targets are made from it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tieline_bgp::wire;

use crate::text::text_type;

/// The first system route target number of a 2-byte AS number, and the first
/// system security group ID.
pub const FIRST_SYSTEM_NUMBER: u32 = 8_000_000;
/// Reserved in every AS: EVPN ES-import (RFC 7432 section 7.6).
pub const EVPN_RESERVED_NUMBER: u32 = 7_999_999;
/// System route target numbers of a 4-byte AS number.
pub const SYSTEM_NUMBERS_FOUR_BYTE: RangeInclusive<u32> = 8_000..=32_768;
/// Security group IDs that operators choose; valid in every AS.
pub const USER_SECURITY_GROUPS: RangeInclusive<u32> = 1..=FIRST_SYSTEM_NUMBER - 1;
/// VXLAN network identifiers (RFC 7348 section 5); 0 stands for none.
pub const VNIS: RangeInclusive<u32> = 1..=(1 << 24) - 1;

/// AS_TRANS, which stands for AS numbers that an old speaker cannot write (RFC 6793).
const AS_TRANS: u32 = 23456;

/// An autonomous system number, 2 or 4 bytes (RFC 6793).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Asn(u32);

impl Asn {
    /// Whether it fits into two bytes, which decides how its route targets look.
    pub fn is_two_byte(self) -> bool {
        self.0 <= u32::from(u16::MAX)
    }

    /// System route target numbers.
    pub fn system_route_targets(self) -> RangeInclusive<u32> {
        if self.is_two_byte() { FIRST_SYSTEM_NUMBER..=u32::MAX } else { SYSTEM_NUMBERS_FOUR_BYTE }
    }

    /// Numbers of route distinguishers.
    pub fn distinguishers(self) -> RangeInclusive<u32> {
        if self.is_two_byte() { 1..=u32::MAX } else { 1..=u32::from(u16::MAX) }
    }

    /// `ASN:number` in the form of RFC 4364 type 0 or, for a 4-byte AS number,
    /// type 2. None when the number does not fit.
    fn assigned(self, number: u32) -> Option<Assigned> {
        match u16::try_from(self.0) {
            Ok(asn) => Some(Assigned::As2 { asn, number }),
            Err(_) => u16::try_from(number).ok().map(|number| Assigned::As4 { asn: self.0, number }),
        }
    }

    /// The route target `ASN:number`; none when the number does not fit.
    pub fn route_target(self, number: u32) -> Option<RouteTarget> {
        self.assigned(number).map(RouteTarget)
    }

    /// The route distinguisher `ASN:number`; none when the number does not fit.
    pub fn distinguisher(self, number: u32) -> Option<RouteDistinguisher> {
        self.assigned(number).map(RouteDistinguisher)
    }
}

impl TryFrom<u32> for Asn {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            0 => Err("0 is not an AS number (RFC 7607): use 64512 to 65534 for private use".to_owned()),
            AS_TRANS => Err("23456 is AS_TRANS (RFC 6793) and belongs to nobody".to_owned()),
            65535 | u32::MAX => Err(format!("{number} is the last of its range and reserved (RFC 7300)")),
            number => Ok(Self(number)),
        }
    }
}

impl From<Asn> for u32 {
    fn from(asn: Asn) -> Self {
        asn.0
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Asn {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Asn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer", "format": "asn", "minimum": 1, "maximum": 4_294_967_294_u32,
            "description": "AS number, 2 or 4 bytes (RFC 6793)",
        })
    }
}

/// A BGP identifier (RFC 6286): unique in its AS, not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(Ipv4Addr);

impl RouterId {
    /// The identifier of a speaker that is given none: its IPv4 address, or the
    /// last bytes of its IPv6 address, which differ within a network.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) if !v4.is_unspecified() => Self(v4),
            IpAddr::V4(_) => Self(Ipv4Addr::new(1, 0, 0, 0)),
            IpAddr::V6(v6) => {
                let [.., a, b, c, d] = v6.octets();
                // Never zero.
                Self(Ipv4Addr::new(a | 1, b, c, d))
            }
        }
    }

    /// Its four bytes, in the form of an address.
    pub const fn address(self) -> Ipv4Addr {
        self.0
    }
}

impl FromStr for RouterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id) if id != Ipv4Addr::UNSPECIFIED => Ok(Self(id)),
            _ => Err(format!("{text:?} is not a BGP identifier: write one such as 198.18.0.11, not 0.0.0.0")),
        }
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(RouterId, "router-id", "BGP identifier (RFC 6286): four bytes, not zero", "198.18.0.11");

/// A number under somebody's administration: what route targets (RFC 4360,
/// 5668) and route distinguishers (RFC 4364) have in common.
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

impl Assigned {
    /// The AS that assigns, if it is one.
    fn asn(self) -> Option<u32> {
        match self {
            Self::As2 { asn, .. } => Some(asn.into()),
            Self::As4 { asn, .. } => Some(asn),
            Self::Address { .. } => None,
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::As2 { number, .. } => number,
            Self::Address { number, .. } | Self::As4 { number, .. } => number.into(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some((administrator, number)) = text.split_once(':') else {
            return Err(format!("{text:?} has no colon: write ASN:NUMBER, such as 64512:100"));
        };
        let value: u64 = digits(number).ok_or_else(|| {
            format!("{number:?} in {text:?} is not a number: write ASN:NUMBER, such as 64512:100")
        })?;
        let small = || {
            u16::try_from(value).map_err(|_| {
                format!("{value} in {text:?} is too large: after a 4-byte AS number or an address, 65535 is the largest")
            })
        };
        if administrator.contains('.') {
            let address = administrator
                .parse()
                .map_err(|_| format!("{administrator:?} in {text:?} is not an IPv4 address"))?;
            return Ok(Self::Address { address, number: small()? });
        }
        let (asn, four_byte) = match administrator.strip_suffix('L') {
            Some(asn) => (asn, true),
            None => (administrator, false),
        };
        let asn = digits(asn).and_then(|asn| u32::try_from(asn).ok()).ok_or_else(|| {
            format!("{administrator:?} in {text:?} is neither an AS number nor an IPv4 address")
        })?;
        match u16::try_from(asn) {
            Ok(asn) if !four_byte => {
                let number = u32::try_from(value)
                    .map_err(|_| format!("{value} in {text:?} is too large: 4294967295 is the largest"))?;
                Ok(Self::As2 { asn, number })
            }
            _ => Ok(Self::As4 { asn, number: small()? }),
        }
    }
}

/// Decimal digits alone: no sign, no white space.
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

/// A route target (RFC 4360 section 4, RFC 5668): `64512:100`,
/// `target:64512:100`, `4200000000:100`, `64512L:100`, `198.18.0.1:100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTarget(Assigned);

/// Whose a route target is, as one cluster sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteTargetRange {
    /// Operators choose it.
    User,
    /// The cluster allocates it itself.
    System,
    /// EVPN's; nobody may use it.
    Evpn,
}

impl RouteTarget {
    /// The AS that assigned it, if it was one.
    pub fn asn(self) -> Option<u32> {
        self.0.asn()
    }

    /// The number behind the colon.
    pub fn number(self) -> u32 {
        self.0.number()
    }

    /// Its parts.
    pub fn assigned(self) -> Assigned {
        self.0
    }

    /// Whose it is, seen from the cluster with AS number `local`. System ranges
    /// are every cluster's own: another AS's are like any user route target.
    pub fn range(self, local: Asn) -> RouteTargetRange {
        let first = match self.0 {
            Assigned::As2 { number: EVPN_RESERVED_NUMBER, .. } => return RouteTargetRange::Evpn,
            Assigned::As2 { .. } => FIRST_SYSTEM_NUMBER,
            Assigned::As4 { .. } => *SYSTEM_NUMBERS_FOUR_BYTE.start(),
            Assigned::Address { .. } => return RouteTargetRange::User,
        };
        if self.asn() == Some(local.into()) && self.number() >= first {
            RouteTargetRange::System
        } else {
            RouteTargetRange::User
        }
    }
}

impl From<wire::RouteTarget> for RouteTarget {
    fn from(target: wire::RouteTarget) -> Self {
        let [kind, _, a, b, c, d, e, g] = target.community().0;
        let last = u16::from_be_bytes([e, g]);
        Self(match kind {
            0 => Assigned::As2 { asn: u16::from_be_bytes([a, b]), number: u32::from_be_bytes([c, d, e, g]) },
            1 => Assigned::Address { address: Ipv4Addr::new(a, b, c, d), number: last },
            _ => Assigned::As4 { asn: u32::from_be_bytes([a, b, c, d]), number: last },
        })
    }
}

impl From<RouteTarget> for wire::RouteTarget {
    fn from(target: RouteTarget) -> Self {
        match target.0 {
            Assigned::As2 { asn, number } => Self::as2(asn, number),
            Assigned::As4 { asn, number } => Self::as4(asn, number),
            Assigned::Address { address, number } => Self::ipv4(address, number),
        }
    }
}

impl FromStr for RouteTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Assigned::parse(text.strip_prefix("target:").unwrap_or(text)).map(Self)
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(RouteTarget, "route-target", "Route target (RFC 4360, 5668)", "64512:100");

/// A route distinguisher (RFC 4364 section 4.2), written like a route target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher(Assigned);

impl RouteDistinguisher {
    /// Its parts.
    pub fn assigned(self) -> Assigned {
        self.0
    }
}

impl From<RouteDistinguisher> for wire::Rd {
    fn from(rd: RouteDistinguisher) -> Self {
        match rd.0 {
            Assigned::As2 { asn, number } => Self::as2(asn, number),
            Assigned::As4 { asn, number } => Self::as4(asn, number),
            Assigned::Address { address, number } => Self::ipv4(address, number),
        }
    }
}

impl FromStr for RouteDistinguisher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Assigned::parse(text).map(Self)
    }
}

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(RouteDistinguisher, "route-distinguisher", "Route distinguisher (RFC 4364)", "64512:1");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(text: &str) -> RouteTarget {
        text.parse().expect(text)
    }

    #[test]
    fn texts_have_the_type_that_is_meant() {
        assert_eq!(target("64512:8000001").assigned(), Assigned::As2 { asn: 64512, number: 8_000_001 });
        assert_eq!(target("target:1:2").assigned(), Assigned::As2 { asn: 1, number: 2 });
        assert_eq!(target("64512L:7").assigned(), Assigned::As4 { asn: 64512, number: 7 });
        assert_eq!(target("4200000000:7").assigned(), Assigned::As4 { asn: 4_200_000_000, number: 7 });
        let address = Ipv4Addr::new(198, 18, 0, 1);
        assert_eq!(target("198.18.0.1:7").assigned(), Assigned::Address { address, number: 7 });
    }

    #[test]
    fn noise_is_refused_in_words() {
        for text in
            ["", "1", ":", "1:", ":1", "1:-1", "1:+1", "1: 1", "1:4294967296", "4294967296:1", "70000:65536"]
        {
            assert!(text.parse::<RouteTarget>().is_err(), "{text:?}");
        }
        let error = "70000:70000".parse::<RouteTarget>().expect_err("too large");
        assert!(error.contains("65535 is the largest"), "{error}");
    }

    #[test]
    fn c5_ranges_are_seen_from_the_own_as() {
        let two = Asn::try_from(64512).expect("valid");
        let four = Asn::try_from(4_200_000_000).expect("valid");
        assert_eq!(target("64512:7999998").range(two), RouteTargetRange::User);
        assert_eq!(target("64512:7999999").range(two), RouteTargetRange::Evpn);
        assert_eq!(target("1:7999999").range(two), RouteTargetRange::Evpn);
        assert_eq!(target("64512:8000000").range(two), RouteTargetRange::System);
        assert_eq!(target("64513:8000000").range(two), RouteTargetRange::User);
        assert_eq!(target("4200000000:7999").range(four), RouteTargetRange::User);
        assert_eq!(target("4200000000:8000").range(four), RouteTargetRange::System);
        assert_eq!(target("4200000000:8000").range(two), RouteTargetRange::User);
    }

    #[test]
    fn a_bgp_identifier_is_never_zero() {
        for (address, id) in [
            ("198.18.0.11", "198.18.0.11"),
            ("0.0.0.0", "1.0.0.0"),
            ("2001:db8::11", "1.0.0.17"),
            ("2001:db8::c612:b", "199.18.0.11"),
            ("::", "1.0.0.0"),
        ] {
            let id: RouterId = id.parse().expect("an identifier");
            assert_eq!(RouterId::of(address.parse().expect("an address")), id, "{address}");
        }
        for wrong in ["0.0.0.0", "", "1", "2001:db8::1", "256.0.0.1"] {
            assert!(wrong.parse::<RouterId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn reserved_as_numbers_are_refused() {
        for number in [0, 23456, 65535, u32::MAX] {
            assert!(Asn::try_from(number).is_err(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(asn in any::<u32>(), number in any::<u32>(), form in 0..4) {
            let assigned = match form {
                0 => Assigned::As2 { asn: asn as u16, number },
                1 => Assigned::As4 { asn, number: number as u16 },
                2 => Assigned::As4 { asn: asn & 0xffff, number: number as u16 },
                _ => Assigned::Address { address: asn.into(), number: number as u16 },
            };
            prop_assert_eq!(Assigned::parse(&assigned.to_string()), Ok(assigned));
            let target = wire::RouteTarget::from(RouteTarget(assigned));
            prop_assert_eq!(target.to_string(), assigned.to_string());
            prop_assert_eq!(RouteTarget::from(target), RouteTarget(assigned));
            let rd = wire::Rd::from(RouteDistinguisher(assigned));
            prop_assert_eq!(rd.to_string(), assigned.to_string());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,24}") {
            let _ = text.parse::<RouteTarget>();
        }
    }
}
