//! Address families (RFC 4760): the pairs of AFI and SAFI that this speaker
//! carries.

use std::fmt;
use std::str::FromStr;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
    /// AFI 1, SAFI 128 (RFC 4364).
    Vpnv4,
    /// AFI 2, SAFI 128 (RFC 4659).
    Vpnv6,
    /// AFI 25, SAFI 70 (RFC 7432).
    Evpn,
    /// AFI 1, SAFI 132: route target constraint (RFC 4684).
    RouteTarget,
}

impl Family {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 6] =
        [Self::Ipv4Unicast, Self::Ipv6Unicast, Self::Vpnv4, Self::Vpnv6, Self::Evpn, Self::RouteTarget];

    /// A small number for tables: 0 to 5.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The address family identifier.
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast | Self::Vpnv4 | Self::RouteTarget => 1,
            Self::Ipv6Unicast | Self::Vpnv6 => 2,
            Self::Evpn => 25,
        }
    }

    /// The subsequent address family identifier.
    pub const fn safi(self) -> u8 {
        match self {
            Self::Ipv4Unicast | Self::Ipv6Unicast => 1,
            Self::Vpnv4 | Self::Vpnv6 => 128,
            Self::Evpn => 70,
            Self::RouteTarget => 132,
        }
    }

    /// The family of a pair, if this speaker carries it.
    pub fn from_pair(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.afi() == afi && family.safi() == safi)
    }

    /// Whether routes of this family carry route targets, so that route target
    /// constraint (RFC 4684) applies to them.
    pub const fn has_route_targets(self) -> bool {
        matches!(self, Self::Vpnv4 | Self::Vpnv6 | Self::Evpn)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Unicast => "ipv4",
            Self::Ipv6Unicast => "ipv6",
            Self::Vpnv4 => "vpnv4",
            Self::Vpnv6 => "vpnv6",
            Self::Evpn => "evpn",
            Self::RouteTarget => "rtc",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text names no address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address family: ipv4, ipv6, vpnv4, vpnv6, evpn or rtc")]
pub struct ParseFamilyError;

impl FromStr for Family {
    type Err = ParseFamilyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|family| family.name() == text).ok_or(ParseFamilyError)
    }
}

/// A set of address families.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FamilySet(u8);

impl FamilySet {
    /// No family.
    pub const EMPTY: Self = Self(0);
    /// Every family that this speaker carries.
    pub const ALL: Self = Self(0x3f);

    /// Whether the family is in the set.
    pub const fn contains(self, family: Family) -> bool {
        self.0 & (1 << family.index()) != 0
    }

    /// Adds a family.
    pub const fn insert(&mut self, family: Family) {
        self.0 |= 1 << family.index();
    }

    /// Takes a family out.
    pub const fn remove(&mut self, family: Family) {
        self.0 &= !(1 << family.index());
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether no family is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The families, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for FamilySet {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        let mut set = Self::EMPTY;
        for family in families {
            set.insert(family);
        }
        set
    }
}

impl fmt::Debug for FamilySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_pair_and_by_name() {
        for family in Family::ALL {
            assert_eq!(Family::from_pair(family.afi(), family.safi()), Some(family));
            assert_eq!(family.to_string().parse(), Ok(family));
        }
        assert_eq!(Family::from_pair(1, 2), None);
        assert_eq!("l2vpn".parse::<Family>(), Err(ParseFamilyError));
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set: FamilySet = [Family::Evpn, Family::Ipv4Unicast].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Family::Ipv4Unicast, Family::Evpn]);
        set.remove(Family::Evpn);
        assert!(!set.contains(Family::Evpn) && set.contains(Family::Ipv4Unicast));
        assert_eq!(Family::ALL.into_iter().collect::<FamilySet>(), FamilySet::ALL);
    }
}
