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
use tieline_names::Assigned;
pub use tieline_names::{RouteDistinguisher, RouteTarget};

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
        self.assigned(number).map(RouteTarget::of)
    }

    /// The route distinguisher `ASN:number`; none when the number does not fit.
    pub fn distinguisher(self, number: u32) -> Option<RouteDistinguisher> {
        self.assigned(number).map(RouteDistinguisher::of)
    }

    /// Whose a route target is, seen from the cluster with this AS number. System
    /// ranges are every cluster's own: another AS's are like any user route target.
    pub fn range_of(self, target: RouteTarget) -> RouteTargetRange {
        let first = match target.assigned() {
            Assigned::As2 { number: EVPN_RESERVED_NUMBER, .. } => return RouteTargetRange::Evpn,
            Assigned::As2 { .. } => FIRST_SYSTEM_NUMBER,
            Assigned::As4 { .. } => *SYSTEM_NUMBERS_FOUR_BYTE.start(),
            Assigned::Address { .. } => return RouteTargetRange::User,
        };
        if target.asn() == Some(self.into()) && target.number() >= first {
            RouteTargetRange::System
        } else {
            RouteTargetRange::User
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> RouteTarget {
        text.parse().expect(text)
    }

    #[test]
    fn c5_ranges_are_seen_from_the_own_as() {
        let two = Asn::try_from(64512).expect("valid");
        let four = Asn::try_from(4_200_000_000).expect("valid");
        assert_eq!(two.range_of(target("64512:7999998")), RouteTargetRange::User);
        assert_eq!(two.range_of(target("64512:7999999")), RouteTargetRange::Evpn);
        assert_eq!(two.range_of(target("1:7999999")), RouteTargetRange::Evpn);
        assert_eq!(two.range_of(target("64512:8000000")), RouteTargetRange::System);
        assert_eq!(two.range_of(target("64513:8000000")), RouteTargetRange::User);
        assert_eq!(four.range_of(target("4200000000:7999")), RouteTargetRange::User);
        assert_eq!(four.range_of(target("4200000000:8000")), RouteTargetRange::System);
        assert_eq!(two.range_of(target("4200000000:8000")), RouteTargetRange::User);
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
}
