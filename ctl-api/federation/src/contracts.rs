//! What each BGP peer may announce: contracts (X7), and what nobody may. And
//! what it is sent: a cluster's own routes, unless it is to be transit.
//!
//! A route outside its peer's contract is kept away from everything, is counted
//! by its reason, and the session goes on.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;
use tieline_bgp::rib::policy::{Candidate, Policy, Verdict};
use tieline_bgp::rib::{Path, PeerId};
use tieline_bgp::speaker::PrefixLimit;
use tieline_bgp::wire::community::security_groups;
use tieline_bgp::wire::{Evpn, Family, Nlri, RouteTarget};

use crate::intent::kinds::peer::{AddressFamily, Contract};
use crate::numbers::USER_SECURITY_GROUPS;
use crate::routes::check_prefix;

/// Why a route is outside of its peer's contract.
const VIOLATIONS: [&str; 3] = [
    "a route target outside its contract",
    "a security group outside its contract",
    "a prefix outside its contract",
];

/// Whether the reason of a refusal is the peer's contract.
pub fn is_violation(reason: &str) -> bool {
    VIOLATIONS.contains(&reason)
}

/// The contracts of a speaker's peers.
#[derive(Debug, Default)]
pub struct Contracts {
    by_peer: HashMap<PeerId, Terms>,
    /// Peers that are told what other peers have told too.
    transit: BTreeSet<PeerId>,
}

/// A contract, ready to be looked at for each route.
#[derive(Debug)]
struct Terms {
    targets: BTreeSet<RouteTarget>,
    groups: BTreeSet<u32>,
    prefixes: Vec<IpNet>,
}

impl Contracts {
    /// A peer is there, with its contract if it has one; the cluster may be transit
    /// for it.
    pub fn set(&mut self, peer: PeerId, contract: Option<&Contract>, transit: bool) {
        self.transit.remove(&peer);
        if transit {
            self.transit.insert(peer);
        }
        let Some(contract) = contract else {
            self.by_peer.remove(&peer);
            return;
        };
        let terms = Terms {
            targets: contract
                .route_targets
                .iter()
                .filter_map(|target| target.to_string().parse().ok())
                .collect(),
            groups: contract.security_groups.iter().copied().collect(),
            prefixes: contract.prefixes.iter().map(|prefix| prefix.net()).collect(),
        };
        self.by_peer.insert(peer, terms);
    }
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
    fn check(&self, route: Candidate<'_>) -> Result<(), &'static str> {
        let [target, group, prefix] = VIOLATIONS;
        if !self.targets.is_empty()
            && route.nlri.family().has_route_targets()
            && !route.attributes.route_targets().all(|of| self.targets.contains(&of))
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
        Ok(())
    }
}

impl Policy for Contracts {
    fn import(&mut self, peer: PeerId, route: Candidate<'_>) -> Verdict {
        let prefix = prefix_of(route.nlri).map_or(Ok(()), |prefix| check_prefix(prefix, false));
        let terms = self.by_peer.get(&peer).map_or(Ok(()), |terms| terms.check(route));
        match prefix.and(terms) {
            Ok(()) => Verdict::Accept,
            Err(reason) => Verdict::Reject(reason),
        }
    }

    fn export(&mut self, peer: PeerId, _: &Nlri, path: &Path) -> bool {
        self.transit.contains(&peer) || path.attributes.as_path.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use tieline_bgp::rib::Staleness;
    use tieline_bgp::wire::as_path::{Segment, SegmentKind};
    use tieline_bgp::wire::community::{SecurityGroup, security_group_communities};
    use tieline_bgp::wire::{AsPath, Attributes, Payload, Rd};

    use super::*;

    const PEER: PeerId = PeerId(0);

    fn contract() -> Contract {
        Contract {
            route_targets: vec!["64513:100".parse().expect("a route target")],
            security_groups: vec![5],
            prefixes: vec!["10.2.0.0/16".parse().expect("a prefix")],
            max_routes: [(AddressFamily::Vpnv4, 10)].into(),
        }
    }

    fn verdict(contracts: &mut Contracts, prefix: &str, target: u32, group: u32) -> Option<&'static str> {
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 2]));
        attributes.extended = security_group_communities(&[SecurityGroup { asn: 64513, id: group }]);
        attributes.extended.push(RouteTarget::as2(64513, target).community());
        let nlri = Nlri::Vpnv4(Rd::as2(64513, 1), prefix.parse().expect("a prefix"));
        let route =
            Candidate { nlri: &nlri, payload: &Payload::default(), attributes: &Arc::new(attributes) };
        match contracts.import(PEER, route) {
            Verdict::Accept => None,
            Verdict::Reject(reason) => Some(reason),
            Verdict::Object(_) => panic!("what is outside is not kept"),
        }
    }

    #[test]
    fn x7_a_leak_is_stopped_and_named() {
        let mut contracts = Contracts::default();
        contracts.set(PEER, Some(&contract()), false);
        assert_eq!(verdict(&mut contracts, "10.2.3.0/24", 100, 5), None);
        // System groups of others are stripped elsewhere.
        assert_eq!(verdict(&mut contracts, "10.2.3.0/24", 100, 8_000_001), None);
        for (prefix, target, group, reason) in [
            ("10.2.3.0/24", 101, 5, "a route target outside its contract"),
            ("10.2.3.0/24", 100, 6, "a security group outside its contract"),
            ("10.3.0.0/24", 100, 5, "a prefix outside its contract"),
            ("10.0.0.0/8", 100, 5, "a prefix outside its contract"),
            ("0.0.0.0/0", 100, 5, "a default route, which is not asked for"),
        ] {
            assert_eq!(verdict(&mut contracts, prefix, target, group), Some(reason), "{prefix}");
            assert_eq!(is_violation(reason), reason.ends_with("contract"));
        }
        contracts.set(PEER, None, false);
        assert_eq!(verdict(&mut contracts, "10.3.0.0/24", 101, 6), None);
    }

    #[test]
    fn x7_the_most_routes_are_those_of_the_contract() {
        let limits = prefix_limits(Some(&contract()));
        let vpnv4 = limits[Family::Vpnv4.index()].expect("a limit");
        assert_eq!((vpnv4.limit, vpnv4.warn), (10, 9));
        assert_eq!(limits[Family::Evpn.index()], Some(PrefixLimit::DEFAULT));
    }
    #[test]
    fn what_others_announce_is_passed_on_to_nobody_unless_it_is_wanted() {
        let nlri = Nlri::Vpnv4(Rd::as2(64514, 1), "10.3.0.0/24".parse().expect("a prefix"));
        let sent = |contracts: &mut Contracts, as_path: AsPath| {
            let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 3]));
            attributes.as_path = as_path;
            let path = Path {
                peer: PeerId(1),
                attributes: Arc::new(attributes),
                payload: Payload::default(),
                stale: Staleness::default(),
                objection: None,
            };
            contracts.export(PEER, &nlri, &path)
        };
        let confederation =
            AsPath(vec![Segment { kind: SegmentKind::ConfederationSequence, asns: vec![64514] }]);
        let mut contracts = Contracts::default();
        contracts.set(PEER, None, false);
        assert!(sent(&mut contracts, AsPath::default()));
        for path in [AsPath::sequence([64514]), confederation] {
            assert!(!sent(&mut contracts, path), "others' routes, however their paths look");
        }
        contracts.set(PEER, None, true);
        assert!(sent(&mut contracts, AsPath::sequence([64514, 64515])));
    }
}
