//! Which routes a peer is told, and in which form.
//!
//! The cluster's controllers and reflectors are told everything. Others are told
//! the routes of networks that the intent lets them know: by a user route target
//! that, where the intent describes their cluster with its networks, one of these
//! imports, or that their contract names. What others have announced is passed on
//! to who is to have transit.

use tieline_bgp::wire::community::{View, security_group_communities, security_groups};
use tieline_bgp::wire::{Attributes, Community, ExtendedCommunity, Nlri};

use super::{Facts, Origin, Party, Relation};

impl Facts {
    /// Whether a peer is told a path. `origin` is whose word it is.
    pub fn tells(&self, to: &Party, origin: Origin, nlri: &Nlri, attributes: &Attributes) -> bool {
        if origin != Origin::Ours {
            return to.transit;
        }
        if to.relation.is_own() {
            return true;
        }
        match nlri {
            Nlri::RouteTarget(membership) => {
                membership.target().is_some_and(|target| to.asked.contains(&target))
            }
            Nlri::Vpnv4(..) | Nlri::Vpnv6(..) | Nlri::Evpn(_) => {
                attributes.route_targets().any(|target| to.told.contains(&target))
            }
            Nlri::Ipv4(_) | Nlri::Ipv6(_) => false,
        }
    }

    /// Puts what a peer is told of a path into the form that is for it.
    ///
    /// Others are not told of numbers that mean nothing outside of this cluster.
    /// A reflector of the cluster may speak with other ASes too, which none of the
    /// routes is for that only the cluster itself imports (RFC 1997 NO_EXPORT).
    pub fn adapt(&self, to: &Party, origin: Origin, attributes: &mut Attributes) {
        if origin != Origin::Ours {
            return;
        }
        match to.relation {
            Relation::Controller(_) => {}
            Relation::Reflector => {
                if self.is_inner(attributes) && !attributes.has(Community::NO_EXPORT) {
                    attributes.communities.push(Community::NO_EXPORT);
                }
            }
            Relation::Cluster(_) | Relation::Undeclared | Relation::Stranger | Relation::Other => {
                self.strip(attributes);
            }
        }
    }

    /// Whether no network of another cluster can import a route: all its route
    /// targets are the cluster's own.
    fn is_inner(&self, attributes: &Attributes) -> bool {
        let mut targets = attributes.route_targets().peekable();
        targets.peek().is_some() && targets.all(|target| self.is_system(target))
    }

    fn strip(&self, attributes: &mut Attributes) {
        let is_system = |one: &ExtendedCommunity| one.route_target().is_some_and(|of| self.is_system(of));
        attributes.extended.retain(|community| !is_system(community));
        let mut groups = security_groups(&attributes.extended);
        let all = groups.len();
        groups.retain(|group| !self.is_system_group(group.asn, group.id));
        if groups.len() < all {
            let is_group = |one: &ExtendedCommunity| {
                matches!(one.view(), View::SecurityGroup { .. } | View::SecurityGroupAs { .. })
            };
            attributes.extended.retain(|community| !is_group(community));
            attributes.extended.extend(security_group_communities(&groups));
        }
    }
}
