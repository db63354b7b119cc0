//! Which gateway gets which route.
//!
//! A gateway gets the routes with a route target that one of its VRFs imports.
//! Those that lead back to itself, from one of its networks to another, lead
//! straight into the other's VRF. It is told differences: what a change of
//! BGP, or of what the gateway imports, makes of what it has been told before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tieline_bgp::wire::{Attributes, Nlri, Payload, RouteDistinguisher, RouteTarget};

use super::check_prefix;
use super::duplicates::{Duplicates, Finding};
use super::inward::{self, Key, NextHop, Shared};
use crate::exchange::Origin;
use crate::numbers::Asn;

/// A path of BGP, and whose word it is.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Whose word it is.
    pub origin: Origin,
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Its label and the like.
    pub payload: &'a Payload,
}

/// Fewer shared parts than this are not worth looking through.
const LEAST: usize = 1024;

/// What a gateway is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A next hop that routes need.
    NextHop(NextHop),
    /// A next hop that no route needs any more, by name.
    NoNextHop(String),
    /// A route is new or different.
    Route(Key, Arc<Shared>),
    /// A route is gone.
    NoRoute(Key),
}

/// What a gateway imports, and where it is itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Route targets that its VRFs import.
    pub imports: BTreeSet<RouteTarget>,
    /// Its tunnel endpoints.
    pub endpoints: BTreeSet<IpAddr>,
    /// Its VRFs, by the route distinguisher of what they export.
    pub vrfs: BTreeMap<RouteDistinguisher, LocalVrf>,
}

/// A VRF of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalVrf {
    /// Its name.
    pub name: String,
    /// Route targets that it imports.
    pub imports: BTreeSet<RouteTarget>,
}

/// What a gateway has been told.
#[derive(Debug, Default)]
struct Told {
    member: Member,
    routes: HashMap<Key, Arc<Shared>>,
    /// Routes that need each next hop.
    next_hops: HashMap<NextHop, usize>,
    changes: Vec<Change>,
}

/// The paths of one key: the VPN route comes before the EVPN route.
#[derive(Debug, Default)]
struct Paths {
    vpn: Option<Arc<Shared>>,
    evpn: Option<Arc<Shared>>,
}

impl Paths {
    fn best(&self) -> Option<&Arc<Shared>> {
        self.vpn.as_ref().or(self.evpn.as_ref())
    }
}

/// The routes of a cluster and its gateways.
#[derive(Debug)]
pub struct Distribution {
    local: Asn,
    routes: HashMap<Key, Paths>,
    /// What many routes share is kept once.
    shared: HashSet<Arc<Shared>>,
    /// How many there were when those that no route shares were last forgotten.
    used: usize,
    gateways: BTreeMap<String, Told>,
    duplicates: Duplicates,
    /// Routes that gateways cannot use, and why.
    unusable: HashMap<Nlri, &'static str>,
}

impl Distribution {
    /// Without routes and gateways.
    pub fn new(local: Asn) -> Self {
        Self {
            local,
            routes: HashMap::new(),
            shared: HashSet::new(),
            used: 0,
            gateways: BTreeMap::new(),
            duplicates: Duplicates::default(),
            unusable: HashMap::new(),
        }
    }

    /// Routes that gateways can use.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Routes that a gateway has.
    pub fn told(&self, gateway: &str) -> usize {
        self.gateways.get(gateway).map_or(0, |told| told.routes.len())
    }

    /// Every route target that a gateway imports: what peers are asked for
    /// (RFC 4684).
    pub fn wanted(&self) -> BTreeSet<RouteTarget> {
        self.gateways.values().flat_map(|told| told.member.imports.iter().copied()).collect()
    }

    /// A gateway is there, or imports something else than before.
    pub fn set_gateway(&mut self, name: &str, member: Member) {
        let told = self.gateways.entry(name.to_owned()).or_default();
        if told.member == member {
            return;
        }
        told.member = member;
        for (key, paths) in &self.routes {
            told.tell(*key, paths.best());
        }
    }

    /// A gateway is not programmed any more. It keeps what it was told.
    pub fn forget_gateway(&mut self, name: &str) {
        self.gateways.remove(name);
    }

    /// The best path of a route is another one, or gone.
    ///
    /// # Errors
    /// Why the path is not for gateways; whatever was there before is gone.
    pub fn best(&mut self, nlri: &Nlri, path: Option<Said<'_>>) -> Result<(), &'static str> {
        let Some((key, is_vpn)) = key_of(nlri) else { return Ok(()) };
        let new = path.map(|said| self.usable(nlri, said)).transpose();
        let (new, outcome) = match new {
            Ok(new) => {
                if !self.unusable.is_empty() {
                    self.unusable.remove(nlri);
                }
                (new, Ok(()))
            }
            Err(reason) => {
                self.unusable.insert(nlri.clone(), reason);
                (None, Err(reason))
            }
        };
        let new = new.map(|shared| self.intern(shared));
        if new.is_none() && !self.routes.contains_key(&key) {
            return outcome;
        }
        let paths = self.routes.entry(key).or_default();
        let place = if is_vpn { &mut paths.vpn } else { &mut paths.evpn };
        let old = std::mem::replace(place, new);
        for told in self.gateways.values_mut() {
            told.tell(key, paths.best());
        }
        let is_there = paths.best().is_some();
        if !is_there {
            self.routes.remove(&key);
        }
        self.duplicates.note(key, is_there);
        if old.is_some() {
            self.tidy();
        }
        outcome
    }

    fn usable(&self, nlri: &Nlri, said: Said<'_>) -> Result<Shared, &'static str> {
        let (key, shared) = inward::route(self.local, said.origin, nlri, said.attributes, said.payload)?;
        check_prefix(key.prefix, false)?;
        Ok(shared)
    }

    fn intern(&mut self, shared: Shared) -> Arc<Shared> {
        let shared = Arc::new(shared);
        match self.shared.get(&shared) {
            Some(present) => Arc::clone(present),
            None => {
                self.shared.insert(Arc::clone(&shared));
                shared
            }
        }
    }

    /// Forgets, from time to time, what no route shares any more.
    fn tidy(&mut self) {
        if self.shared.len() >= 2 * self.used.max(LEAST) {
            self.shared.retain(|shared| Arc::strong_count(shared) > 1);
            self.used = self.shared.len();
        }
    }

    /// What each gateway is to be told since the last time, in order.
    pub fn take_changes(&mut self) -> BTreeMap<String, Vec<Change>> {
        let taken = self.gateways.iter_mut().filter(|(_, told)| !told.changes.is_empty());
        taken.map(|(name, told)| (name.clone(), std::mem::take(&mut told.changes))).collect()
    }

    /// Looks for addresses of hosts that several gateways claim in networks that
    /// are joined (C7): what is new and what is over since the last look.
    pub fn look_for_duplicates(&mut self) -> Vec<Finding> {
        let routes = &self.routes;
        self.duplicates.look(|key| routes.get(key)?.best())
    }

    /// The duplicates of the last look: each address with those who claim it,
    /// and where their packets go.
    pub fn duplicates(&self) -> impl Iterator<Item = (IpNet, Vec<(Key, IpAddr)>)> + '_ {
        let remote = |key: &Key| Some((*key, self.routes.get(key)?.best()?.next_hop.remote()?));
        let found = self.duplicates.found().iter();
        found.map(move |(prefix, owners)| (*prefix, owners.iter().filter_map(remote).collect()))
    }

    /// How many addresses were claimed twice at the last look.
    pub fn duplicates_len(&self) -> usize {
        self.duplicates.found().len()
    }

    /// Routes of VPNs that gateways cannot use, by reason.
    pub fn unusable(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for reason in self.unusable.values() {
            *counts.entry(*reason).or_default() += 1;
        }
        counts
    }

    /// Each route target that a route has or a gateway imports: how many routes
    /// have it, and how many gateways import it.
    pub fn by_target(&self) -> BTreeMap<RouteTarget, (u64, u64)> {
        // Routes that share everything are counted before their targets are
        // looked at.
        let mut shared: HashMap<*const Shared, (&Shared, u64)> = HashMap::new();
        for best in self.routes.values().filter_map(Paths::best) {
            shared.entry(Arc::as_ptr(best)).or_insert((best, 0)).1 += 1;
        }
        let mut counts: BTreeMap<RouteTarget, (u64, u64)> = BTreeMap::new();
        for (shared, routes) in shared.into_values() {
            for target in &shared.targets {
                counts.entry(*target).or_default().0 += routes;
            }
        }
        for target in self.gateways.values().flat_map(|told| &told.member.imports) {
            counts.entry(*target).or_default().1 += 1;
        }
        counts
    }
}

impl Told {
    /// The route as the gateway should have it, if it should.
    fn wanted(&self, key: Key, shared: &Arc<Shared>) -> Option<Arc<Shared>> {
        if self.member.imports.is_disjoint(&shared.targets) {
            return None;
        }
        let is_own = shared.next_hop.remote().is_some_and(|remote| self.member.endpoints.contains(&remote));
        if !is_own {
            return Some(Arc::clone(shared));
        }
        // Nobody but the cluster itself says what leads into one of its VRFs. An
        // empty AS path alone does not make it say so.
        if !shared.is_ours {
            return None;
        }
        // A VRF has its own routes without being told.
        let vrf = self.member.vrfs.get(&key.rd)?;
        let others = self.member.vrfs.iter().filter(|(rd, _)| **rd != key.rd);
        let is_imported = others.into_iter().any(|(_, other)| !other.imports.is_disjoint(&shared.targets));
        is_imported.then(|| Arc::new(shared.within(&vrf.name)))
    }

    /// Notes what has to be said of a route.
    fn tell(&mut self, key: Key, best: Option<&Arc<Shared>>) {
        let wanted = best.and_then(|shared| self.wanted(key, shared));
        let before = self.routes.get(&key);
        if before == wanted.as_ref() {
            return;
        }
        let before = before.cloned();
        if let Some(wanted) = wanted {
            // A new next hop comes before its first route.
            let routes = self.next_hops.entry(wanted.next_hop.clone()).or_default();
            *routes += 1;
            if *routes == 1 {
                self.changes.push(Change::NextHop(wanted.next_hop.clone()));
            }
            self.routes.insert(key, Arc::clone(&wanted));
            self.changes.push(Change::Route(key, wanted));
        } else {
            self.routes.remove(&key);
            self.changes.push(Change::NoRoute(key));
        }
        // And goes after its last.
        if let Some(before) = before
            && let Some(routes) = self.next_hops.get_mut(&before.next_hop)
        {
            *routes -= 1;
            if *routes == 0 {
                self.next_hops.remove(&before.next_hop);
                self.changes.push(Change::NoNextHop(before.next_hop.name()));
            }
        }
    }
}

/// The key of a route of a VPN or of EVPN type 5, and whether it is of a VPN.
fn key_of(nlri: &Nlri) -> Option<(Key, bool)> {
    use tieline_bgp::wire::Evpn;
    match nlri {
        Nlri::Vpnv4(rd, prefix) => Some((Key { rd: *rd, prefix: IpNet::V4(*prefix) }, true)),
        Nlri::Vpnv6(rd, prefix) => Some((Key { rd: *rd, prefix: IpNet::V6(*prefix) }, true)),
        Nlri::Evpn(Evpn::Prefix { rd, prefix, .. }) => Some((Key { rd: *rd, prefix: *prefix }, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tieline_bgp::wire::{AsPath, Evpn, ExtendedCommunity, Label};

    use super::*;
    use crate::exchange::Foreign;

    fn target(number: u32) -> RouteTarget {
        RouteTarget::as2(64512, number)
    }

    fn nlri(host: u8, is_vpn: bool) -> Nlri {
        let prefix: ipnet::Ipv4Net = format!("10.0.0.{host}/32").parse().expect("a prefix");
        let rd = RouteDistinguisher::as2(64513, 1);
        if is_vpn {
            Nlri::Vpnv4(rd, prefix)
        } else {
            Nlri::Evpn(Evpn::Prefix { rd, tag: 0, prefix: prefix.into() })
        }
    }

    fn path(remote: u8, targets: &[u32]) -> (Attributes, Payload) {
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, remote]));
        attributes.extended = targets.iter().map(|number| target(*number).into()).collect();
        attributes.extended.push(ExtendedCommunity::router_mac([2, 0, 0, 0, 0, remote]));
        (attributes, Payload::labelled(Label::mpls(1000 + u32::from(remote))))
    }

    /// A controller of the cluster says so.
    fn said<'a>(attributes: &'a Attributes, payload: &'a Payload) -> Said<'a> {
        Said { origin: Origin::Ours, attributes, payload }
    }

    fn member(imports: &[u32], endpoint: u8) -> Member {
        Member {
            imports: imports.iter().map(|number| target(*number)).collect(),
            endpoints: [IpAddr::from([198, 18, 0, endpoint])].into(),
            vrfs: BTreeMap::new(),
        }
    }

    fn distribution() -> Distribution {
        Distribution::new(Asn::try_from(64512).expect("an AS number"))
    }

    #[test]
    fn c6_a_gateway_gets_what_it_imports_and_nothing_else() {
        let mut all = distribution();
        all.set_gateway("a", member(&[1], 1));
        all.set_gateway("b", member(&[2], 2));
        let (attributes, payload) = path(9, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        let changes = all.take_changes();
        assert_eq!(changes.keys().collect::<Vec<_>>(), ["a"]);
        assert!(matches!(changes["a"][..], [Change::NextHop(_), Change::Route(..)]), "{changes:?}");
        assert_eq!(all.wanted(), [target(1), target(2)].into());
    }

    #[test]
    fn n9_joining_and_leaving_is_what_is_imported() {
        let mut all = distribution();
        all.set_gateway("a", member(&[], 1));
        let (attributes, payload) = path(9, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        assert!(all.take_changes().is_empty());
        all.set_gateway("a", member(&[1], 1));
        assert!(matches!(all.take_changes()["a"][..], [Change::NextHop(_), Change::Route(..)]));
        all.set_gateway("a", member(&[2], 1));
        assert!(matches!(all.take_changes()["a"][..], [Change::NoRoute(_), Change::NoNextHop(_)]));
    }

    #[test]
    fn a_route_to_itself_is_not_for_a_gateway() {
        let mut all = distribution();
        all.set_gateway("a", member(&[1], 9));
        let (attributes, payload) = path(9, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        assert!(all.take_changes().is_empty());
    }

    #[test]
    fn n7_networks_of_one_gateway_look_into_each_other() {
        let mut all = distribution();
        let vrf = |name: &str, imports: &[u32]| LocalVrf {
            name: name.to_owned(),
            imports: imports.iter().map(|number| target(*number)).collect(),
        };
        let own = RouteDistinguisher::as2(64513, 1);
        let one = |other: &[u32]| Member {
            vrfs: [(own, vrf("red", &[1])), (RouteDistinguisher::as2(64513, 2), vrf("blue", other))].into(),
            ..member(&[1, 2], 9)
        };
        // Red exports 1 and imports it; blue does not.
        all.set_gateway("a", one(&[2]));
        let (attributes, payload) = path(9, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        assert!(all.take_changes().is_empty(), "red has its own routes");
        all.set_gateway("a", one(&[1, 2]));
        let changes = all.take_changes().remove("a").expect("changes");
        let [Change::NextHop(next_hop), Change::Route(key, shared)] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((next_hop, key.rd), (&NextHop::Vrf("red".to_owned()), own));
        let message = shared.message();
        assert_eq!((message.next_hop.as_str(), message.label, message.encapsulations.len()), ("red", 0, 0));
        assert_eq!(message.route_targets, ["64512:1"]);
        // Nobody else may lead anybody into red, whatever its path looks like.
        for (why, as_path) in [
            (Foreign::External, AsPath::sequence([64513])),
            (Foreign::Path, AsPath(Vec::new())),
            (Foreign::Undeclared, AsPath::default()),
        ] {
            let (mut attributes, payload) = path(9, &[1]);
            attributes.as_path = as_path;
            let foreign = Said { origin: Origin::Foreign(why), ..said(&attributes, &payload) };
            all.best(&nlri(2, true), Some(foreign)).expect("usable");
            assert!(all.take_changes().is_empty(), "{why}");
            all.best(&nlri(2, true), None).expect("gone");
        }
        // Another gateway goes through the tunnel.
        all.set_gateway("b", member(&[1], 8));
        let changes = all.take_changes();
        assert!(matches!(changes["b"][..], [Change::NextHop(NextHop::Tunnel(_)), _]), "{changes:?}");
        all.set_gateway("a", one(&[2]));
        let changes = all.take_changes().remove("a").expect("changes");
        assert!(matches!(changes[..], [Change::NoRoute(_), Change::NoNextHop(_)]), "{changes:?}");
    }

    #[test]
    fn next_hop_and_label_change_together() {
        let mut all = distribution();
        all.set_gateway("a", member(&[1], 1));
        let (attributes, payload) = path(8, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        all.take_changes();
        let (attributes, payload) = path(9, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        let changes = all.take_changes().remove("a").expect("changes");
        let [Change::NextHop(new), Change::Route(_, shared), Change::NoNextHop(old)] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((new, shared.label), (&shared.next_hop, 1009));
        assert!(old.starts_with("bgp-198.18.0.8"), "{old}");
    }

    #[test]
    fn r7_a_default_route_goes_to_no_gateway() {
        let mut all = distribution();
        all.set_gateway("a", member(&[1], 1));
        let (attributes, payload) = path(9, &[1]);
        let default = Nlri::Vpnv4(RouteDistinguisher::as2(64513, 1), "0.0.0.0/0".parse().expect("a prefix"));
        let refused = all.best(&default, Some(said(&attributes, &payload))).expect_err("refused");
        assert!(refused.contains("default"));
        assert!(all.take_changes().is_empty() && all.is_empty());
    }

    #[test]
    fn c7_an_address_that_two_gateways_claim_is_reported() {
        let mut all = distribution();
        let (one, payload) = path(8, &[1]);
        all.best(&nlri(1, true), Some(said(&one, &payload))).expect("usable");
        let prefix: ipnet::Ipv4Net = "10.0.0.1/32".parse().expect("a prefix");
        let (other, payload) = path(9, &[1, 2]);
        let elsewhere = Nlri::Vpnv4(RouteDistinguisher::as2(64514, 1), prefix);
        all.best(&elsewhere, Some(said(&other, &payload))).expect("usable");
        let found = all.look_for_duplicates();
        assert!(
            matches!(&found[..], [Finding::Found(of, owners)] if *of == prefix.into() && owners.len() == 2)
        );
        let told: Vec<_> = all.duplicates().collect();
        let [(_, claims)] = &told[..] else { panic!("{told:?}") };
        let remotes: BTreeSet<IpAddr> = claims.iter().map(|(_, remote)| *remote).collect();
        assert_eq!(remotes, [8, 9].map(|host| IpAddr::from([198, 18, 0, host])).into());
        assert!(all.look_for_duplicates().is_empty(), "it is told once");
        let (apart, payload) = path(9, &[2]);
        all.best(&elsewhere, Some(said(&apart, &payload))).expect("usable");
        let gone = all.look_for_duplicates();
        assert_eq!(gone, [Finding::Gone(prefix.into())], "networks that are not joined may reuse addresses");
        assert_eq!(all.duplicates_len(), 0);
    }

    #[test]
    fn what_gateways_cannot_use_is_counted_while_it_is_there() {
        let mut all = distribution();
        let (attributes, payload) = path(9, &[]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect_err("no route target");
        all.best(&nlri(2, true), Some(said(&attributes, &payload))).expect_err("no route target");
        assert_eq!(all.unusable(), [("it has no route target", 2)].into());
        let (attributes, payload) = path(9, &[1]);
        all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
        all.best(&nlri(2, true), None).expect("gone");
        assert!(all.unusable().is_empty());
    }

    #[test]
    fn route_targets_are_counted_with_who_imports_them() {
        let mut all = distribution();
        all.set_gateway("a", member(&[1, 3], 1));
        all.set_gateway("b", member(&[1], 2));
        for host in 0..3 {
            let (attributes, payload) = path(9, if host == 0 { &[1, 2] } else { &[1] });
            all.best(&nlri(host, true), Some(said(&attributes, &payload))).expect("usable");
        }
        let counts = all.by_target();
        assert_eq!(counts, [(target(1), (3, 2)), (target(2), (1, 0)), (target(3), (0, 1))].into());
    }

    /// A gateway that does what it is told, and complains when that is wrong.
    #[derive(Debug, Default)]
    struct Gateway {
        next_hops: BTreeSet<String>,
        routes: BTreeMap<Key, Arc<Shared>>,
    }

    impl Gateway {
        fn take(&mut self, changes: Vec<Change>) {
            for change in changes {
                match change {
                    Change::NextHop(tunnel) => assert!(self.next_hops.insert(tunnel.name()), "told twice"),
                    Change::NoNextHop(name) => assert!(self.next_hops.remove(&name), "{name} was not there"),
                    Change::Route(key, shared) => {
                        assert!(self.next_hops.contains(&shared.next_hop.name()), "before its next hop");
                        self.routes.insert(key, shared);
                    }
                    Change::NoRoute(key) => assert!(self.routes.remove(&key).is_some(), "was not there"),
                }
                let used =
                    self.routes.values().all(|shared| self.next_hops.contains(&shared.next_hop.name()));
                assert!(used, "a next hop went before its routes");
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Path { host: u8, is_vpn: bool, remote: u8, targets: Vec<u32> },
        Gone { host: u8, is_vpn: bool },
        Imports { gateway: u8, imports: Vec<u32> },
        Forget(u8),
        Tell,
    }

    fn step() -> impl Strategy<Value = Step> {
        let targets = || proptest::collection::vec(0u32..4, 0..3);
        prop_oneof![
            6 => (0u8..6, any::<bool>(), 1u8..6, targets())
                .prop_map(|(host, is_vpn, remote, targets)| Step::Path { host, is_vpn, remote, targets }),
            2 => (0u8..6, any::<bool>()).prop_map(|(host, is_vpn)| Step::Gone { host, is_vpn }),
            2 => (0u8..3, targets()).prop_map(|(gateway, imports)| Step::Imports { gateway, imports }),
            1 => (0u8..3).prop_map(Step::Forget),
            3 => Just(Step::Tell),
        ]
    }

    proptest! {
        #[test]
        fn gateways_have_what_their_imports_ask_for(steps in proptest::collection::vec(step(), 1..60)) {
            let mut all = distribution();
            let mut gateways: BTreeMap<String, Gateway> = BTreeMap::new();
            let mut members: BTreeMap<String, Member> = BTreeMap::new();
            let mut paths: BTreeMap<(u8, bool), (u8, Vec<u32>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Path { host, is_vpn, remote, targets } => {
                        let (attributes, payload) = path(remote, &targets);
                        let usable = all.best(&nlri(host, is_vpn), Some(said(&attributes, &payload))).is_ok();
                        prop_assert_eq!(usable, !targets.is_empty());
                        paths.remove(&(host, is_vpn));
                        if usable {
                            paths.insert((host, is_vpn), (remote, targets));
                        }
                    }
                    Step::Gone { host, is_vpn } => {
                        all.best(&nlri(host, is_vpn), None).expect("nothing to refuse");
                        paths.remove(&(host, is_vpn));
                    }
                    Step::Imports { gateway, imports } => {
                        let member = member(&imports, gateway + 1);
                        all.set_gateway(&gateway.to_string(), member.clone());
                        members.insert(gateway.to_string(), member);
                        gateways.entry(gateway.to_string()).or_default();
                    }
                    Step::Forget(gateway) => {
                        all.forget_gateway(&gateway.to_string());
                        members.remove(&gateway.to_string());
                        gateways.remove(&gateway.to_string());
                    }
                    Step::Tell => {}
                }
                for (name, changes) in all.take_changes() {
                    gateways.get_mut(&name).expect("it is known").take(changes);
                }
            }
            for (name, member) in &members {
                let mut expected = BTreeMap::new();
                for host in 0..6 {
                    // VPN before EVPN.
                    let best = [true, false].into_iter().find_map(|is_vpn| paths.get(&(host, is_vpn)));
                    let Some((remote, targets)) = best else { continue };
                    let wanted = targets.iter().any(|number| member.imports.contains(&target(*number)));
                    if wanted && !member.endpoints.contains(&IpAddr::from([198, 18, 0, *remote])) {
                        let (key, _) = key_of(&nlri(host, true)).expect("a key");
                        expected.insert(key, IpAddr::from([198, 18, 0, *remote]));
                    }
                }
                let has: BTreeMap<Key, IpAddr> =
                    gateways[name].routes.iter().filter_map(|(key, shared)| Some((*key, shared.next_hop.remote()?))).collect();
                prop_assert_eq!(has, expected);
                prop_assert_eq!(all.told(name), gateways[name].routes.len());
            }
        }
    }

    #[test]
    fn what_no_route_shares_is_forgotten() {
        let mut all = distribution();
        all.set_gateway("a", member(&[1], 1));
        for round in 0..10_000_u32 {
            let (attributes, _) = path(9, &[1]);
            let payload = Payload::labelled(Label::mpls(100 + round));
            all.best(&nlri(1, true), Some(said(&attributes, &payload))).expect("usable");
            all.take_changes();
        }
        assert!(all.shared.len() <= 2 * LEAST, "{} are kept", all.shared.len());
    }
}
