//! What each BGP peer may announce: contracts (X7).
//!
//! A route outside its peer's contract is kept away from everything, is counted
//! by its reason, and the session goes on.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tieline_bgp::rib::policy::Candidate;
use tieline_bgp::speaker::PrefixLimit;
use tieline_bgp::wire::community::security_groups;
use tieline_bgp::wire::{Evpn, Family, Nlri, RouteTarget};

use crate::intent::kinds::peer::{AddressFamily, Contract};
use crate::numbers::USER_SECURITY_GROUPS;

/// Why a route is outside of its peer's contract.
const VIOLATIONS: [&str; 4] = [
    "a route target outside its contract",
    "a security group outside its contract",
    "a prefix outside its contract",
    "a next hop outside its contract",
];

/// Whether the reason of a refusal is the peer's contract.
pub fn is_violation(reason: &str) -> bool {
    VIOLATIONS.contains(&reason)
}

/// A contract, ready to be looked at for each route; by default it allows
/// everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    targets: BTreeSet<RouteTarget>,
    groups: BTreeSet<u32>,
    prefixes: Vec<IpNet>,
    next_hops: Vec<IpNet>,
}

/// The limits of a contract, for the speaker.
pub fn prefix_limits(contract: Option<&Contract>) -> [Option<PrefixLimit>; Family::ALL.len()] {
    let mut limits = [Some(PrefixLimit::DEFAULT); Family::ALL.len()];
    for (family, limit) in contract.iter().flat_map(|contract| &contract.max_routes) {
        let warn = u32::try_from(u64::from(*limit) * 9 / 10).unwrap_or(*limit);
        limits[bgp_family(*family).index()] =
            Some(PrefixLimit { limit: *limit, warn, ..PrefixLimit::DEFAULT });
    }
    limits
}

/// An address family in the speaker's words.
pub fn bgp_family(family: AddressFamily) -> Family {
    match family {
        AddressFamily::Ipv4 => Family::Ipv4Unicast,
        AddressFamily::Ipv6 => Family::Ipv6Unicast,
        AddressFamily::Vpnv4 => Family::Vpnv4,
        AddressFamily::Vpnv6 => Family::Vpnv6,
        AddressFamily::Evpn => Family::Evpn,
        AddressFamily::Rtc => Family::RouteTarget,
    }
}

/// Whether routes of a family can lead to a prefix.
pub const fn carries(family: Family, prefix: IpNet) -> bool {
    match family {
        Family::Ipv4Unicast | Family::Vpnv4 => matches!(prefix, IpNet::V4(_)),
        Family::Ipv6Unicast | Family::Vpnv6 => matches!(prefix, IpNet::V6(_)),
        Family::Evpn => true,
        Family::RouteTarget => false,
    }
}

/// The prefix that a route leads to, if it has one.
pub fn prefix_of(nlri: &Nlri) -> Option<IpNet> {
    match nlri {
        Nlri::Ipv4(prefix) | Nlri::Vpnv4(_, prefix) => Some(IpNet::V4(*prefix)),
        Nlri::Ipv6(prefix) | Nlri::Vpnv6(_, prefix) => Some(IpNet::V6(*prefix)),
        Nlri::Evpn(Evpn::Prefix { prefix, .. }) => Some(*prefix),
        Nlri::Evpn(Evpn::MacIp { ip: Some(ip), .. }) => Some(IpNet::from(*ip)),
        Nlri::Evpn(_) | Nlri::RouteTarget(_) => None,
    }
}

impl Terms {
    /// Those of a contract.
    pub fn new(contract: &Contract) -> Self {
        Self {
            targets: contract.route_targets.iter().copied().collect(),
            groups: contract.security_groups.iter().copied().collect(),
            prefixes: contract.prefixes.iter().map(|prefix| prefix.net()).collect(),
            next_hops: contract.next_hops.iter().map(|prefix| prefix.net()).collect(),
        }
    }

    /// The route targets that it names.
    pub fn targets(&self) -> impl Iterator<Item = RouteTarget> + '_ {
        self.targets.iter().copied()
    }

    /// Whether it names any.
    pub fn has_targets(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Whether it allows a route target.
    pub fn allows(&self, target: RouteTarget) -> bool {
        self.targets.is_empty() || self.targets.contains(&target)
    }

    /// The prefixes that it names.
    pub fn prefixes(&self) -> &[IpNet] {
        &self.prefixes
    }

    /// Whether a route is within it.
    ///
    /// # Errors
    /// What of it is outside.
    pub fn check(&self, route: Candidate<'_>) -> Result<(), &'static str> {
        let [target, group, prefix, next_hop] = VIOLATIONS;
        if route.nlri.family().has_route_targets()
            && !route.attributes.route_targets().all(|of| self.allows(of))
        {
            return Err(target);
        }
        let outside = |id: u32| USER_SECURITY_GROUPS.contains(&id) && !self.groups.contains(&id);
        if !self.groups.is_empty()
            && security_groups(&route.attributes.extended).iter().any(|of| outside(of.id))
        {
            return Err(group);
        }
        if let Some(announced) = prefix_of(route.nlri)
            && !self.prefixes.is_empty()
            && !self.prefixes.iter().any(|allowed| allowed.contains(&announced))
        {
            return Err(prefix);
        }
        let leads_to = route.attributes.next_hop.address();
        if route.nlri.family().has_route_targets()
            && !self.next_hops.is_empty()
            && !self.next_hops.iter().any(|allowed| allowed.contains(&leads_to))
        {
            return Err(next_hop);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use tieline_bgp::wire::community::{SecurityGroup, security_group_communities};
    use tieline_bgp::wire::{Attributes, Payload, RouteDistinguisher};

    use super::*;

    fn contract() -> Contract {
        Contract {
            route_targets: vec!["64513:100".parse().expect("a route target")],
            security_groups: vec![5],
            prefixes: vec!["10.2.0.0/16".parse().expect("a prefix")],
            next_hops: Vec::new(),
            max_routes: [(AddressFamily::Vpnv4, 10)].into(),
        }
    }

    fn refused(terms: &Terms, prefix: &str, target: u32, group: u32) -> Option<&'static str> {
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 2]));
        attributes.extended = security_group_communities(&[SecurityGroup { asn: 64513, id: group }]);
        attributes.extended.push(RouteTarget::as2(64513, target).into());
        let nlri = Nlri::Vpnv4(RouteDistinguisher::as2(64513, 1), prefix.parse().expect("a prefix"));
        let route =
            Candidate { nlri: &nlri, payload: &Payload::default(), attributes: &Arc::new(attributes) };
        terms.check(route).err()
    }

    #[test]
    fn x7_a_leak_is_stopped_and_named() {
        let terms = Terms::new(&contract());
        assert_eq!(refused(&terms, "10.2.3.0/24", 100, 5), None);
        // System groups of others are stripped elsewhere.
        assert_eq!(refused(&terms, "10.2.3.0/24", 100, 8_000_001), None);
        for (prefix, target, group, reason) in [
            ("10.2.3.0/24", 101, 5, "a route target outside its contract"),
            ("10.2.3.0/24", 100, 6, "a security group outside its contract"),
            ("10.3.0.0/24", 100, 5, "a prefix outside its contract"),
            ("10.0.0.0/8", 100, 5, "a prefix outside its contract"),
        ] {
            assert_eq!(refused(&terms, prefix, target, group), Some(reason), "{prefix}");
            assert!(is_violation(reason));
        }
        assert_eq!(refused(&Terms::default(), "10.3.0.0/24", 101, 6), None, "without a contract");
        assert!(!is_violation("a default route, which is not asked for"));
        let leads = |next_hops: &[&str]| {
            let next_hops = next_hops.iter().map(|one| one.parse().expect("a prefix")).collect();
            refused(&Terms::new(&Contract { next_hops, ..contract() }), "10.2.3.0/24", 100, 5)
        };
        assert_eq!(leads(&["198.18.0.0/24", "2001:db8::/32"]), None);
        assert_eq!(leads(&["198.18.1.0/24", "2001:db8::/32"]), Some("a next hop outside its contract"));
        assert!(is_violation("a next hop outside its contract"));
    }

    #[test]
    fn x7_the_most_routes_are_those_of_the_contract() {
        let limits = prefix_limits(Some(&contract()));
        let vpnv4 = limits[Family::Vpnv4.index()].expect("a limit");
        assert_eq!((vpnv4.limit, vpnv4.warn), (10, 9));
        assert_eq!(limits[Family::Evpn.index()], Some(PrefixLimit::DEFAULT));
    }
}
