//! Whose word a path is, and what of it is not believed.
//!
//! A path is the cluster's own word when it came over an internal session, with
//! an empty AS path, from a declared controller: the peer itself, or the router
//! that a declared reflector names as its originator (RFC 4456 section 8). Each
//! of these alone anybody can write.
//!
//! All others bring routes that networks of this cluster import, if the intent
//! connects them: if it describes clusters on the path with their networks, one
//! network of each has to export the target. A contract that names targets says
//! it instead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use tieline_bgp::rib::Objection;
use tieline_bgp::wire::community::security_groups;
use tieline_bgp::wire::{Attributes, Evpn, Nlri, RouteDistinguisher, RouteTarget};

use super::contracts::prefix_of;
use super::facts::Described;
use super::{Facts, Party, Relation};
use crate::intent::ObjectKey;
use crate::intent::names::Name;

/// Whose word a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A controller of this cluster says so.
    Ours,
    /// Somebody else does.
    Foreign(Foreign),
}

/// Why a path is not the cluster's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It came from another AS.
    External,
    /// It came over an internal session and has been through another AS, or has an
    /// AS path of any other kind.
    Path,
    /// The peer is of this AS and nobody whom the intent declares.
    Undeclared,
    /// The reflector itself has originated it.
    Reflector,
    /// No declared controller has this BGP identifier.
    Originator(Ipv4Addr),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str("it comes from another AS"),
            Self::Path => f.write_str("it has been through another AS"),
            Self::Undeclared => f.write_str(
                "the peer is of this AS, but is no declared controller of this cluster, nor its reflector",
            ),
            Self::Reflector => f.write_str("the reflector itself has originated it"),
            Self::Originator(id) => {
                write!(f, "router {id} has originated it, which is no declared controller of this cluster")
            }
        }
    }
}

/// What is not believed of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A route target that only this cluster gives.
    SystemTarget(RouteTarget, Foreign),
    /// A route target by which the intent does not connect this cluster.
    NotConnected(RouteTarget, Name),
    /// A route distinguisher that this cluster has given.
    Distinguisher(RouteDistinguisher, Foreign),
    /// A next hop that is a gateway of this cluster.
    OwnGateway(IpAddr, Name),
    /// A next hop that is a gateway of another cluster than the one that says so.
    OthersGateway(IpAddr, Name),
    /// A prefix that is somebody else's.
    Subnet(IpNet, ObjectKey),
    /// A security group that only this cluster gives. The route is taken without.
    SystemGroup(u32, Foreign),
}

static SYSTEM_TARGET: Objection =
    Objection { reason: "a route target that only this cluster gives", hides: true };
static NOT_CONNECTED: Objection =
    Objection { reason: "a route target that nothing connects its cluster with", hides: true };
static DISTINGUISHER: Objection =
    Objection { reason: "a route distinguisher that this cluster has given", hides: true };
static OWN_GATEWAY: Objection =
    Objection { reason: "a next hop that is a gateway of this cluster", hides: true };
static OTHERS_GATEWAY: Objection =
    Objection { reason: "a next hop that is a gateway of another cluster", hides: true };
static SUBNET: Objection =
    Objection { reason: "a prefix that is in a subnet of another network", hides: true };
static SYSTEM_GROUP: Objection =
    Objection { reason: "a security group that only this cluster gives", hides: false };

/// What an operator can do about claims of each kind.
static REMEDIES: [(&Objection, &str); 7] = [
    (
        &SYSTEM_TARGET,
        "connect networks by a user route target, in both clusters; declare the cluster's own controllers \
         in the Cluster, and its route reflectors by reflector: true",
    ),
    (
        &NOT_CONNECTED,
        "if it is to be connected, add its networks to the Connection, or name the route target in the \
         peer's contract",
    ),
    (
        &DISTINGUISHER,
        "give each cluster an AS number of its own, and declare the cluster's own controllers and reflectors",
    ),
    (&OWN_GATEWAY, "give each cluster's gateways tunnel addresses of their own"),
    (&OTHERS_GATEWAY, "give each cluster's gateways tunnel addresses of their own"),
    (
        &SUBNET,
        "give networks that are joined subnets of their own, or name the part of the subnet that is the \
         peer's in its contract's prefixes",
    ),
    (&SYSTEM_GROUP, "use a user security group, which means the same in every cluster"),
];

impl Claim {
    /// The kind of it, for the speaker and for whoever counts.
    pub fn objection(&self) -> &'static Objection {
        match self {
            Self::SystemTarget(..) => &SYSTEM_TARGET,
            Self::NotConnected(..) => &NOT_CONNECTED,
            Self::Distinguisher(..) => &DISTINGUISHER,
            Self::OwnGateway(..) => &OWN_GATEWAY,
            Self::OthersGateway(..) => &OTHERS_GATEWAY,
            Self::Subnet(..) => &SUBNET,
            Self::SystemGroup(..) => &SYSTEM_GROUP,
        }
    }
}

/// What an operator can do about claims of a kind.
pub fn remedy(objection: &Objection) -> &'static str {
    REMEDIES.iter().find(|(of, _)| *of == objection).map_or("", |(_, remedy)| remedy)
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemTarget(target, why) => write!(f, "{target}: {why}"),
            Self::NotConnected(target, cluster) => write!(f, "{target}, from cluster {cluster}"),
            Self::Distinguisher(rd, why) => write!(f, "{rd}: {why}"),
            Self::OwnGateway(address, gateway) | Self::OthersGateway(address, gateway) => {
                write!(f, "{address}, which is {gateway}")
            }
            Self::Subnet(subnet, network) => write!(f, "{subnet} of {network}"),
            Self::SystemGroup(id, why) => write!(f, "{id}: {why}"),
        }
    }
}

impl Facts {
    /// Whose word a path of a peer is.
    pub fn origin(&self, party: &Party, attributes: &Attributes) -> Origin {
        let declared = |id: Ipv4Addr| match self.controllers.contains_key(&id) {
            true => Origin::Ours,
            false => Origin::Foreign(Foreign::Originator(id)),
        };
        if party.asn != u32::from(self.asn()) {
            return Origin::Foreign(Foreign::External);
        }
        // Not one without hops: a confederation's segments count for none.
        if !attributes.as_path.0.is_empty() {
            return Origin::Foreign(Foreign::Path);
        }
        match (&party.relation, attributes.originator_id) {
            (Relation::Controller(_), None) => Origin::Ours,
            (Relation::Controller(_) | Relation::Reflector, Some(id)) => declared(id),
            (Relation::Reflector, None) => Origin::Foreign(Foreign::Reflector),
            (Relation::Undeclared | Relation::Stranger | Relation::Cluster(_) | Relation::Other, _) => {
                Origin::Foreign(Foreign::Undeclared)
            }
        }
    }

    /// What of a peer's path is not believed; none: all of it is.
    pub fn doubt(&self, party: &Party, nlri: &Nlri, attributes: &Attributes) -> Option<Claim> {
        if !nlri.family().has_route_targets() {
            return None;
        }
        let Origin::Foreign(why) = self.origin(party, attributes) else { return None };
        if let Some(target) = attributes.route_targets().find(|target| self.is_system(*target)) {
            return Some(Claim::SystemTarget(target, why));
        }
        if let Some(rd) = distinguisher(nlri).filter(|rd| self.is_distinguisher(*rd)) {
            return Some(Claim::Distinguisher(rd, why));
        }
        // What no network of this cluster imports concerns nobody here: a peer
        // without route target constraint sends it all the same.
        for target in attributes.route_targets().filter(|target| self.is_imported(*target)) {
            let claim = self
                .not_connected(party, attributes, target)
                .or_else(|| self.no_gateway_of_its_own(party, attributes))
                .or_else(|| self.no_prefix_of_its_own(party, nlri, attributes, target));
            if claim.is_some() {
                return claim;
            }
        }
        let groups = security_groups(&attributes.extended);
        let group = groups.into_iter().find(|group| self.is_system_group(group.asn, group.id))?;
        Some(Claim::SystemGroup(group.id, why))
    }

    fn not_connected(&self, party: &Party, attributes: &Attributes, target: RouteTarget) -> Option<Claim> {
        // The contract has been looked at, and says more than the intent does.
        if party.terms.has_targets() {
            return None;
        }
        let stranger = self
            .described(party, attributes)
            .find(|cluster| cluster.has_networks && !cluster.brings(target))?;
        Some(Claim::NotConnected(target, stranger.name.clone()))
    }

    fn no_gateway_of_its_own(&self, party: &Party, attributes: &Attributes) -> Option<Claim> {
        let address = attributes.next_hop.address();
        let gateways = self.gateways_at(address);
        let own = u32::from(self.asn());
        if let Some(gateway) = gateways.iter().find(|gateway| gateway.asn == own) {
            return Some(Claim::OwnGateway(address, gateway.name.clone()));
        }
        let speaks = self.described(party, attributes).next().map(Described::asn);
        let first = gateways.first()?;
        let is_its_own = gateways.iter().any(|gateway| Some(gateway.asn) == speaks);
        (!is_its_own).then(|| Claim::OthersGateway(address, first.name.clone()))
    }

    fn no_prefix_of_its_own(
        &self,
        party: &Party,
        nlri: &Nlri,
        attributes: &Attributes,
        target: RouteTarget,
    ) -> Option<Claim> {
        let prefix = prefix_of(nlri)?;
        let speaks = self.described(party, attributes).next().map(Described::asn);
        let owned = self
            .owners(target, prefix)
            .find(|owned| Some(owned.asn) != speaks && !party.is_granted(owned.subnet, prefix))?;
        Some(Claim::Subnet(owned.subnet, owned.network.clone()))
    }

    /// The clusters that a path has been through, as far as the intent describes
    /// them; first the one that speaks for it: the nearest.
    fn described<'a>(
        &'a self,
        party: &'a Party,
        attributes: &'a Attributes,
    ) -> impl Iterator<Item = &'a Described> + 'a {
        let path = attributes.as_path.0.iter().flat_map(|segment| &segment.asns).copied();
        std::iter::once(party.asn).chain(path).filter_map(|asn| self.cluster(asn))
    }
}

/// The route distinguisher of a route, if it has one.
fn distinguisher(nlri: &Nlri) -> Option<RouteDistinguisher> {
    match nlri {
        Nlri::Vpnv4(rd, _) | Nlri::Vpnv6(rd, _) => Some(*rd),
        Nlri::Evpn(
            Evpn::AutoDiscovery { rd, .. }
            | Evpn::MacIp { rd, .. }
            | Evpn::Multicast { rd, .. }
            | Evpn::Segment { rd, .. }
            | Evpn::Prefix { rd, .. },
        ) => Some(*rd),
        Nlri::Evpn(Evpn::Other { .. }) | Nlri::Ipv4(_) | Nlri::Ipv6(_) | Nlri::RouteTarget(_) => None,
    }
}
