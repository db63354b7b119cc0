//! What the intent says that decides about paths: who the cluster's controllers
//! are, which numbers are its own, which networks are joined by what, and whose
//! subnets and gateways are where.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use tieline_bgp::wire::{RouteDistinguisher, RouteTarget};

use crate::allocation::Allocations;
use crate::intent::addresses::{Pool, Prefix};
use crate::intent::kinds::connection::Layer;
use crate::intent::kinds::virtual_network::Subnet;
use crate::intent::kinds::{Cluster, Connection, Kind, VirtualNetwork};
use crate::intent::names::Name;
use crate::intent::topology::{Place, Target, Topology};
use crate::intent::{Intent, ObjectKey};
use crate::numbers::{Asn, FIRST_SYSTEM_NUMBER, RouteTargetRange};

/// Stands for a [`Target`] in [`Facts`].
type TargetId = u32;

/// What the intent says, as one cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    asn: Asn,
    /// The cluster's controllers, by BGP identifier and by address.
    pub(super) controllers: BTreeMap<Ipv4Addr, Name>,
    pub(super) addresses: BTreeMap<IpAddr, Name>,
    /// Route targets of the cluster's sites.
    sites: HashSet<RouteTarget>,
    /// Route distinguishers that the cluster has given.
    distinguishers: HashSet<RouteDistinguisher>,
    /// Gateways of all clusters, by tunnel address; clusters may use the same
    /// (C16).
    gateways: HashMap<IpAddr, Vec<Gateway>>,
    /// Clusters but this one, by AS number.
    clusters: HashMap<u32, Described>,
    /// User route targets that networks of this cluster import, each with
    /// everything that those networks import.
    imports: HashMap<RouteTarget, Vec<TargetId>>,
    /// User route targets that this cluster's networks export, by network.
    networks: BTreeMap<ObjectKey, HashSet<RouteTarget>>,
    /// Whose a prefix is, for who imports a target.
    subnets: HashMap<(IpNet, TargetId), Vec<Owned>>,
    /// The lengths of prefixes that are somebody's: of IPv4, of IPv6.
    lengths: [BTreeSet<u8>; 2],
}

/// Another cluster that the intent describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: Name,
    asn: Asn,
    /// Whether the intent has networks of it. Of one without, nothing is known but
    /// its AS.
    pub has_networks: bool,
    imports: HashSet<RouteTarget>,
    exports: HashSet<RouteTarget>,
}

impl Described {
    /// Whether the intent has a network of it that exports a target, or the target
    /// is one that the cluster gives itself.
    pub fn brings(&self, target: RouteTarget) -> bool {
        self.exports.contains(&target) || self.gives(target)
    }

    /// Whether the intent has a network of it that imports a target, or the target
    /// is one that the cluster gives itself.
    pub fn needs(&self, target: RouteTarget) -> bool {
        self.imports.contains(&target) || self.gives(target)
    }

    /// Its AS number.
    pub fn asn(&self) -> u32 {
        self.asn.into()
    }

    fn gives(&self, target: RouteTarget) -> bool {
        self.asn.range_of(target) == RouteTargetRange::System
    }
}

/// A gateway, and the AS of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// AS number of its cluster.
    pub asn: u32,
    /// Its name.
    pub name: Name,
}

/// A network's subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// AS number of its cluster.
    pub asn: u32,
    /// The network.
    pub network: ObjectKey,
    /// The prefix.
    pub subnet: IpNet,
    /// On a layer 2 connection: the parts that are this network's. None: all of
    /// it is.
    pools: Vec<Pool>,
}

impl Owned {
    fn has(&self, prefix: IpNet) -> bool {
        let bounds = Pool { first: prefix.network(), last: prefix.broadcast() };
        self.pools.is_empty() || self.pools.iter().any(|pool| pool.overlaps(&bounds))
    }
}

impl Facts {
    /// Nothing is known but the cluster's AS number: nobody is believed about
    /// anything, nor told anything.
    pub fn none(asn: Asn) -> Self {
        Self {
            asn,
            controllers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            sites: HashSet::new(),
            distinguishers: HashSet::new(),
            gateways: HashMap::new(),
            clusters: HashMap::new(),
            imports: HashMap::new(),
            networks: BTreeMap::new(),
            subnets: HashMap::new(),
            lengths: Default::default(),
        }
    }

    /// Those of a cluster; none where the intent does not have it.
    pub fn of(intent: &Intent, allocations: &Allocations, cluster: &Name) -> Option<Self> {
        let own = intent.cluster(cluster)?;
        let mut facts = Self::none(own.asn);
        for controller in &own.controllers {
            facts.controllers.insert(controller.router_id().address(), controller.name.clone());
            facts.addresses.insert(controller.address, controller.name.clone());
        }
        facts.sites.extend(allocations.site_route_targets(own.asn));
        facts.distinguishers.extend(allocations.distinguishers(own.asn));
        for (key, described) in intent.all::<Cluster>() {
            facts.place(key, described, own.asn);
        }
        Weaving { intent, cluster, ids: HashMap::new(), facts: &mut facts }.weave();
        Some(facts)
    }

    fn place(&mut self, key: &ObjectKey, cluster: &Cluster, own: Asn) {
        for gateway in &cluster.gateways {
            for address in &gateway.tunnel_addresses {
                let gateway = Gateway { asn: cluster.asn.into(), name: gateway.name.clone() };
                self.gateways.entry(*address).or_default().push(gateway);
            }
        }
        if cluster.asn != own {
            let described = Described {
                name: key.name.clone(),
                asn: cluster.asn,
                has_networks: false,
                imports: HashSet::new(),
                exports: HashSet::new(),
            };
            self.clusters.insert(cluster.asn.into(), described);
        }
    }

    /// A gateway of this cluster is at this address too, whatever the intent says.
    pub fn add_endpoint(&mut self, gateway: &Name, address: IpAddr) {
        let gateway = Gateway { asn: self.asn.into(), name: gateway.clone() };
        let known = self.gateways.entry(address).or_default();
        if !known.contains(&gateway) {
            known.push(gateway);
        }
    }

    /// AS number of the cluster.
    pub const fn asn(&self) -> Asn {
        self.asn
    }

    /// Whether a route target is one that only this cluster gives: of its system
    /// range, or of one of its sites.
    pub fn is_system(&self, target: RouteTarget) -> bool {
        self.asn.range_of(target) == RouteTargetRange::System || self.sites.contains(&target)
    }

    /// Whether a security group is one that only this cluster gives.
    pub fn is_system_group(&self, asn: u32, id: u32) -> bool {
        asn == u32::from(self.asn) && id >= FIRST_SYSTEM_NUMBER
    }

    /// Whether this cluster has given a route distinguisher.
    pub fn is_distinguisher(&self, rd: RouteDistinguisher) -> bool {
        self.distinguishers.contains(&rd)
    }

    /// Whether a network of this cluster imports a target that others may bring.
    pub fn is_imported(&self, target: RouteTarget) -> bool {
        self.imports.contains_key(&target)
    }

    /// The targets that others may bring and networks of this cluster import.
    pub fn imported(&self) -> impl Iterator<Item = RouteTarget> + '_ {
        self.imports.keys().copied()
    }

    /// The user route targets that networks of this cluster export.
    pub fn exported(&self) -> impl Iterator<Item = RouteTarget> + '_ {
        self.networks.values().flatten().copied()
    }

    /// Networks of this cluster, with the user route targets that each exports.
    pub fn networks(&self) -> impl Iterator<Item = (&ObjectKey, &HashSet<RouteTarget>)> {
        self.networks.iter()
    }

    /// Another cluster that the intent describes.
    pub fn cluster(&self, asn: u32) -> Option<&Described> {
        self.clusters.get(&asn)
    }

    /// The gateways with a tunnel address.
    pub fn gateways_at(&self, address: IpAddr) -> &[Gateway] {
        self.gateways.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Who a prefix, or what it is a part of, belongs to: among the networks that
    /// are known to who imports this target.
    pub fn owners(&self, target: RouteTarget, prefix: IpNet) -> impl Iterator<Item = &Owned> {
        let lengths = &self.lengths[usize::from(prefix.addr().is_ipv6())];
        let outer = lengths
            .range(..=prefix.prefix_len())
            .filter_map(move |length| IpNet::new(prefix.addr(), *length).ok().map(|net| net.trunc()));
        let known = self.imports.get(&target).map_or(&[][..], Vec::as_slice);
        let owned = outer.flat_map(move |net| known.iter().map(move |id| (net, *id)));
        owned.filter_map(|key| self.subnets.get(&key)).flatten().filter(move |owned| owned.has(prefix))
    }
}

/// Facts in the making: who is joined with whom.
struct Weaving<'a> {
    intent: &'a Intent,
    cluster: &'a Name,
    ids: HashMap<Target, TargetId>,
    facts: &'a mut Facts,
}

impl Weaving<'_> {
    fn weave(mut self) {
        let topology = Topology::of(self.intent);
        let layer2 = layer2(self.intent);
        for (key, place) in &topology.networks {
            let Some(network) = self.intent.spec::<VirtualNetwork>(key) else { continue };
            if network.cluster == *self.cluster {
                self.own(key, place);
            } else if let Some(asn) = self.intent.cluster(&network.cluster).map(|of| of.asn)
                && let Some(described) = self.facts.clusters.get_mut(&asn.into())
            {
                described.has_networks = true;
                described.imports.extend(imports(place).filter_map(user));
                described.exports.extend(exports(place).filter_map(user));
            }
        }
        // Whom nobody of this cluster knows, nobody of it can take for another.
        let known: HashSet<TargetId> = self.facts.imports.values().flatten().copied().collect();
        for (key, place) in &topology.networks {
            let Some(network) = self.intent.spec::<VirtualNetwork>(key) else { continue };
            let Some(asn) = self.intent.cluster(&network.cluster).map(|of| of.asn) else { continue };
            let ids: BTreeSet<TargetId> = exports(place).map(|target| self.id(target)).collect();
            for id in ids.into_iter().filter(|id| known.contains(id)) {
                for subnet in &network.subnets {
                    let pools = if layer2.contains(key) { subnet.pools.clone() } else { Vec::new() };
                    self.owns(key, asn, id, subnet, pools);
                }
            }
        }
    }

    /// A network of this cluster.
    fn own(&mut self, key: &ObjectKey, place: &Place) {
        let everything: Vec<TargetId> = imports(place).map(|target| self.id(target)).collect();
        let others = |target: &RouteTarget| !self.facts.is_system(*target);
        let brought: HashSet<RouteTarget> = imports(place).filter_map(user).filter(others).collect();
        let exported: HashSet<RouteTarget> = exports(place).filter_map(user).filter(others).collect();
        for target in brought {
            let known = self.facts.imports.entry(target).or_default();
            known.extend(&everything);
            known.sort_unstable();
            known.dedup();
        }
        self.facts.networks.insert(key.clone(), exported);
    }

    fn owns(&mut self, key: &ObjectKey, asn: Asn, id: TargetId, subnet: &Subnet, pools: Vec<Pool>) {
        let net = Prefix::net(subnet.prefix);
        let owned = Owned { asn: asn.into(), network: key.clone(), subnet: net, pools };
        self.facts.subnets.entry((net, id)).or_default().push(owned);
        self.facts.lengths[usize::from(net.addr().is_ipv6())].insert(net.prefix_len());
    }

    fn id(&mut self, target: &Target) -> TargetId {
        let next = TargetId::try_from(self.ids.len()).unwrap_or(TargetId::MAX);
        *self.ids.entry(target.clone()).or_insert(next)
    }
}

fn imports(place: &Place) -> impl Iterator<Item = &Target> {
    place.routed.imports.iter().chain(place.bridged.iter().flat_map(|reach| &reach.imports))
}

fn exports(place: &Place) -> impl Iterator<Item = &Target> {
    place.routed.exports.iter().chain(place.bridged.iter().flat_map(|reach| &reach.exports))
}

/// The route target of an operator, if it is one.
fn user(target: &Target) -> Option<RouteTarget> {
    match target {
        Target::User(target) => Some(*target),
        Target::Network(_) | Target::Router(..) => None,
    }
}

/// Networks on layer 2 connections: others may have other parts of their subnets.
fn layer2(intent: &Intent) -> HashSet<ObjectKey> {
    let connections = intent.all::<Connection>().filter(|(_, one)| one.layer == Layer::L2);
    let networks = connections.flat_map(|(key, one)| {
        one.networks.iter().map(move |reference| key.resolve(Kind::VirtualNetwork, reference))
    });
    networks.collect()
}
