//! Who a peer is to the cluster, and what follows from that.

use std::collections::HashSet;
use std::fmt;

use ipnet::IpNet;
use tieline_bgp::wire::RouteTarget;

use super::Facts;
use super::contracts::Terms;
use crate::intent::ObjectKey;
use crate::intent::kinds::peer::Peer;
use crate::intent::names::Name;

/// How [`Relation::Undeclared`] is written.
pub const UNDECLARED: &str = "undeclared";

/// Who a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// A controller of this cluster.
    Controller(Name),
    /// A route reflector of this cluster.
    Reflector,
    /// Another cluster that the intent describes.
    Cluster(Name),
    /// Of this cluster's AS, and not declared to be one of its own. The operator is
    /// asked who it is.
    Undeclared,
    /// Of this cluster's AS, and declared not to be one of its own.
    Stranger,
    /// Anybody else: a cluster, a route server, a provider.
    Other,
}

impl Relation {
    /// Whether it is the cluster's own.
    pub const fn is_own(&self) -> bool {
        matches!(self, Self::Controller(_) | Self::Reflector)
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(name) => write!(f, "controller {name}"),
            Self::Reflector => f.write_str("reflector"),
            Self::Cluster(name) => write!(f, "cluster {name}"),
            Self::Undeclared => f.write_str(UNDECLARED),
            Self::Stranger => f.write_str("stranger"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// A peer, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Who it is.
    pub relation: Relation,
    /// Its AS number.
    pub(super) asn: u32,
    /// It is told what other peers have told.
    pub(super) transit: bool,
    pub(super) terms: Terms,
    /// Routes with one of these are told to it.
    pub(super) told: HashSet<RouteTarget>,
    /// It is asked for routes with these (RFC 4684).
    pub(super) asked: HashSet<RouteTarget>,
}

impl Party {
    /// A peer of the cluster.
    pub fn new(facts: &Facts, peer: &Peer) -> Self {
        let terms = peer.contract.as_ref().map(Terms::new).unwrap_or_default();
        let asn = u32::from(peer.asn);
        let described = facts.cluster(asn).filter(|cluster| cluster.has_networks);
        let mut told: HashSet<RouteTarget> = facts
            .exported()
            .filter(|target| described.is_none_or(|cluster| cluster.needs(*target)))
            .collect();
        told.extend(terms.targets().filter(|target| !facts.is_system(*target)));
        let expected = |target: &RouteTarget| match terms.has_targets() {
            true => terms.allows(*target),
            false => described.is_none_or(|cluster| cluster.brings(*target)),
        };
        let asked = facts.imported().filter(expected).collect();
        Self { relation: relation(facts, peer), asn, transit: peer.transit, terms, told, asked }
    }

    /// Whether the contract names a part of a subnet that a prefix is in: then the
    /// operator wants it from this peer, whoever else has the subnet.
    pub(super) fn is_granted(&self, subnet: IpNet, prefix: IpNet) -> bool {
        self.terms.prefixes().iter().any(|one| subnet.contains(one) && one.contains(&prefix))
    }

    /// Networks of the cluster that the peer is not told of.
    pub fn kept<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = &'a ObjectKey> {
        let is_kept = move |exported: &HashSet<RouteTarget>| {
            !self.relation.is_own() && exported.is_disjoint(&self.told)
        };
        facts.networks().filter(move |(_, exported)| is_kept(exported)).map(|(network, _)| network)
    }

    /// Whether it is told of other routes than another one would be.
    pub fn is_told_as(&self, other: &Self) -> bool {
        (&self.told, &self.asked, self.transit) == (&other.told, &other.asked, other.transit)
    }
}

fn relation(facts: &Facts, peer: &Peer) -> Relation {
    if peer.asn == facts.asn() {
        return match facts.addresses.get(&peer.address) {
            _ if peer.reflector == Some(true) => Relation::Reflector,
            _ if peer.reflector == Some(false) => Relation::Stranger,
            Some(name) => Relation::Controller(name.clone()),
            None => Relation::Undeclared,
        };
    }
    match facts.cluster(peer.asn.into()) {
        Some(cluster) => Relation::Cluster(cluster.name.clone()),
        None => Relation::Other,
    }
}
