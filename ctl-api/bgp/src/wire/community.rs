//! Communities: standard (RFC 1997), large (RFC 8092) and extended (RFC 4360).
//!
//! An extended community is kept and passed on as the eight bytes that came.
//! The typed views read them; bytes that a view does not know stay as they are.

use std::fmt;

use tieline_names::RouteTarget;

/// A standard community: AS number in the upper half.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community(pub u32);

impl Community {
    /// Not to be advertised to other speakers at all (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not to be advertised outside the AS (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Kept past the restart time of who announced it (RFC 9494).
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// Not to be kept past the restart time (RFC 9494).
    pub const NO_LLGR: Self = Self(0xffff_0007);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A large community: global administrator and two local values.
pub type LargeCommunity = [u32; 3];

/// An extended community, as eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// A tunnel encapsulation (RFC 9012 section 4.1), by its number in the
/// registry of tunnel types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encapsulation(pub u16);

impl Encapsulation {
    /// VXLAN (RFC 7348).
    pub const VXLAN: Self = Self(8);
    /// MPLS (RFC 4023's sibling without GRE).
    pub const MPLS: Self = Self(10);
    /// MPLS in GRE (RFC 4023).
    pub const MPLS_GRE: Self = Self(11);
    /// MPLS in UDP (RFC 7510).
    pub const MPLS_UDP: Self = Self(13);
    /// Geneve (RFC 8926).
    pub const GENEVE: Self = Self(19);
}

/// What an extended community says, as far as this speaker's users know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A route target.
    RouteTarget(RouteTarget),
    /// A tunnel encapsulation (RFC 9012).
    Encapsulation(Encapsulation),
    /// A security group of a 2-byte AS; or the second half of a pair, whose
    /// `asn` is then the index of the first half.
    SecurityGroup {
        /// AS number, or the index of a [`View::SecurityGroupAs`].
        asn: u16,
        /// The group's identifier.
        id: u32,
    },
    /// The first half of a security group of a 4-byte AS.
    SecurityGroupAs {
        /// AS number.
        asn: u32,
        /// Joins it to second halves.
        index: u16,
    },
    /// The virtual network that a route comes from.
    OriginNetwork {
        /// AS number.
        asn: u32,
        /// The network's identifier; 16 bits with a 4-byte AS.
        id: u32,
    },
    /// MAC mobility (RFC 7432 section 7.7).
    MacMobility {
        /// The address must not move.
        sticky: bool,
        /// Grows with each move.
        sequence: u32,
    },
    /// The router's MAC address (RFC 9135).
    RouterMac([u8; 6]),
    /// The address is a default gateway (RFC 7432 section 7.8).
    DefaultGateway,
    /// Anything else.
    Other,
}

impl From<RouteTarget> for ExtendedCommunity {
    fn from(target: RouteTarget) -> Self {
        Self(target.bytes())
    }
}

impl ExtendedCommunity {
    /// The route target that it is, if it is one.
    pub const fn route_target(self) -> Option<RouteTarget> {
        RouteTarget::from_bytes(self.0)
    }

    /// What it says.
    pub fn view(self) -> View {
        if let Some(target) = self.route_target() {
            return View::RouteTarget(target);
        }
        let [kind, sub, a, b, c, d, e, g] = self.0;
        let low = u32::from_be_bytes([c, d, e, g]);
        let short = u16::from_be_bytes([a, b]);
        let (wide, last) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]));
        match (kind, sub) {
            (0x03, 0x0c) => View::Encapsulation(Encapsulation(last)),
            (0x80, 0x04) => View::SecurityGroup { asn: short, id: low },
            (0x82, 0x04) => View::SecurityGroupAs { asn: wide, index: last },
            (0x80, 0x71) => View::OriginNetwork { asn: u32::from(short), id: low },
            (0x82, 0x71) => View::OriginNetwork { asn: wide, id: u32::from(last) },
            (0x06, 0x00) => View::MacMobility { sticky: a & 1 != 0, sequence: low },
            (0x06, 0x03) => View::RouterMac([a, b, c, d, e, g]),
            (0x03, 0x0d) => View::DefaultGateway,
            _ => View::Other,
        }
    }

    /// The community of a tunnel encapsulation.
    pub fn encapsulation(encapsulation: Encapsulation) -> Self {
        let [high, low] = encapsulation.0.to_be_bytes();
        Self([0x03, 0x0c, 0, 0, 0, 0, high, low])
    }

    /// The community of MAC mobility.
    pub fn mac_mobility(sticky: bool, sequence: u32) -> Self {
        let [a, b, c, d] = sequence.to_be_bytes();
        Self([0x06, 0, u8::from(sticky), 0, a, b, c, d])
    }

    /// The community of a router's MAC address.
    pub fn router_mac(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, g] = mac;
        Self([0x06, 0x03, a, b, c, d, e, g])
    }

    /// The community of an origin virtual network. With an AS number above
    /// 65535, 16 bits of the identifier are left.
    pub fn origin_network(asn: u32, id: u32) -> Self {
        let mut bytes = [0x80, 0x71, 0, 0, 0, 0, 0, 0];
        if let Ok(short) = u16::try_from(asn) {
            bytes[2..4].copy_from_slice(&short.to_be_bytes());
            bytes[4..].copy_from_slice(&id.to_be_bytes());
        } else {
            bytes[0] = 0x82;
            bytes[2..6].copy_from_slice(&asn.to_be_bytes());
            bytes[6..].copy_from_slice(&id.to_be_bytes()[2..]);
        }
        Self(bytes)
    }

    /// Whether it may leave the AS: bit 6 of the type is clear (RFC 4360
    /// section 2).
    pub const fn is_transitive(self) -> bool {
        self.0[0] & 0x40 == 0
    }
}

impl fmt::Debug for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view() {
            View::Other => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
            view => write!(f, "{view:?}"),
        }
    }
}

/// A security group with the AS that defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecurityGroup {
    /// AS number.
    pub asn: u32,
    /// The group's identifier in that AS.
    pub id: u32,
}

/// The security groups in a list of communities: those of a 2-byte AS as they
/// stand, those of a 4-byte AS joined from their two halves.
///
/// An index is taken as such only when its first half is in the list; the
/// second half then belongs to that AS.
pub fn security_groups(communities: &[ExtendedCommunity]) -> Vec<SecurityGroup> {
    let mut wide: Vec<(u16, u32)> = Vec::new();
    for community in communities {
        if let View::SecurityGroupAs { asn, index } = community.view() {
            wide.push((index, asn));
        }
    }
    let mut groups = Vec::new();
    for community in communities {
        if let View::SecurityGroup { asn, id } = community.view() {
            let pair = wide.iter().find(|(index, _)| *index == asn);
            groups.push(SecurityGroup { asn: pair.map_or(u32::from(asn), |(_, asn)| *asn), id });
        }
    }
    groups
}

/// The communities of security groups. Each 4-byte AS gets one first half,
/// with an index that no 2-byte AS of the list uses.
pub fn security_group_communities(groups: &[SecurityGroup]) -> Vec<ExtendedCommunity> {
    let mut communities = Vec::with_capacity(groups.len());
    let mut wide: Vec<(u32, u16)> = Vec::new();
    for group in groups {
        let short = match u16::try_from(group.asn) {
            Ok(short) => short,
            Err(_) => match wide.iter().find(|(asn, _)| *asn == group.asn) {
                Some((_, index)) => *index,
                None => {
                    let taken = |index: u16| {
                        wide.iter().any(|(_, used)| *used == index)
                            || groups.iter().any(|other| other.asn == u32::from(index))
                    };
                    let Some(index) = (1..=u16::MAX).find(|index| !taken(*index)) else { continue };
                    wide.push((group.asn, index));
                    let [a, b, c, d] = group.asn.to_be_bytes();
                    let [e, g] = index.to_be_bytes();
                    communities.push(ExtendedCommunity([0x82, 0x04, a, b, c, d, e, g]));
                    index
                }
            },
        };
        let [a, b] = short.to_be_bytes();
        let [c, d, e, g] = group.id.to_be_bytes();
        communities.push(ExtendedCommunity([0x80, 0x04, a, b, c, d, e, g]));
    }
    communities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_read_the_documented_bytes() {
        let vxlan = ExtendedCommunity([3, 0x0c, 0, 0, 0, 0, 0, 8]);
        assert_eq!(vxlan.view(), View::Encapsulation(Encapsulation::VXLAN));
        assert_eq!(ExtendedCommunity::encapsulation(Encapsulation::VXLAN), vxlan);
        assert_eq!(
            ExtendedCommunity([6, 0, 1, 0, 0, 0, 0, 9]).view(),
            View::MacMobility { sticky: true, sequence: 9 }
        );
        assert_eq!(ExtendedCommunity::mac_mobility(true, 9).0, [6, 0, 1, 0, 0, 0, 0, 9]);
        assert_eq!(ExtendedCommunity([6, 5, 0, 0, 0, 0, 0, 1]).view(), View::Other);
        for (asn, id) in [(64512, 0x12345), (4_200_000_000, 77)] {
            assert_eq!(ExtendedCommunity::origin_network(asn, id).view(), View::OriginNetwork { asn, id });
        }
    }

    #[test]
    fn security_groups_of_both_kinds_come_back() {
        let groups = [
            SecurityGroup { asn: 64512, id: 8_000_001 },
            SecurityGroup { asn: 4_200_000_000, id: 5 },
            SecurityGroup { asn: 1, id: 6 },
            SecurityGroup { asn: 4_200_000_000, id: 7 },
            SecurityGroup { asn: 4_200_000_001, id: 8 },
        ];
        let communities = security_group_communities(&groups);
        assert_eq!(communities.len(), 7, "one first half for each of the two wide ASes");
        assert_eq!(security_groups(&communities), groups);
    }

    #[test]
    fn a_pair_without_its_first_half_is_a_group_of_a_short_as() {
        let alone = [ExtendedCommunity([0x80, 4, 0, 1, 0, 0, 0, 9])];
        assert_eq!(security_groups(&alone), [SecurityGroup { asn: 1, id: 9 }]);
    }
}
