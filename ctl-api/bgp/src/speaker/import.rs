//! Routes in: checks, policy, the table.

use std::sync::Arc;
use std::time::Duration;

use super::{Event, Speaker};
use crate::rib::policy::{Candidate, Policy, Verdict};
use crate::rib::{Path, PeerId, Staleness};
use crate::wire::message::Refresh;
use crate::wire::notification::cease;
use crate::wire::update::{Announcement, Update};
use crate::wire::{Attributes, Family, FamilySet, Nlri, Notification, Payload};

impl<P: Policy> Speaker<P> {
    pub(super) fn import(&mut self, now: Duration, id: PeerId, update: Update) {
        let reason = update.withdraw_reason().unwrap_or("treated as withdrawn");
        for fault in update.faults {
            self.events.push_back(Event::Fault { peer: id, fault });
        }
        for nlri in &update.withdrawn {
            self.take(id, nlri);
        }
        for nlri in update.treated_as_withdrawn {
            self.refuse(id, nlri, reason);
        }
        for group in update.announced {
            if !self.import_group(now, id, group) {
                return;
            }
        }
        if let Some(family) = update.disable {
            self.drop_routes(id, [family].into_iter().collect());
        }
        if let Some(family) = update.end_of_rib {
            self.sweep_stale(id, family);
            if family == Family::RouteTarget {
                self.memberships_complete(id);
            }
            self.events.push_back(Event::EndOfRib { peer: id, family });
        }
    }

    /// Takes routes with the same attributes; returns whether the session still
    /// stands.
    fn import_group(&mut self, now: Duration, id: PeerId, group: Announcement) -> bool {
        if let Some(reason) = self.refusal(id, &group.attributes) {
            for route in group.routes {
                self.refuse(id, route.nlri, reason);
            }
            return true;
        }
        let attributes = self.interner.intern(group.attributes);
        for route in group.routes {
            let candidate = Candidate { nlri: &route.nlri, payload: &route.payload, attributes: &attributes };
            let taken = match self.policy.import(id, candidate) {
                Verdict::Accept => Arc::clone(&attributes),
                Verdict::Replace(other) => self.interner.intern(other),
                Verdict::Reject(reason) => {
                    self.refuse(id, route.nlri, reason);
                    continue;
                }
            };
            let family = route.nlri.family();
            self.put(id, route.nlri, taken, route.payload, Staleness::default());
            if !self.within_limit(now, id, family) {
                return false;
            }
        }
        true
    }

    /// Why BGP itself refuses routes with these attributes.
    fn refusal(&self, id: PeerId, attributes: &Attributes) -> Option<&'static str> {
        let peer = self.peer(id)?;
        let internal = peer.source?.internal;
        if attributes.weight() > peer.config.attribute_limit {
            return Some("the attributes are longer than the limit");
        }
        if attributes.as_path.contains(self.config.asn) {
            return Some("own AS in the path");
        }
        if !internal && peer.config.enforce_first_as {
            let first = attributes.as_path.neighbour();
            if first != Some(peer.config.session.asn) {
                return Some("the path does not begin with the peer's AS");
            }
        }
        if attributes.originator_id == Some(self.config.router_id) {
            return Some("this speaker originated it");
        }
        if attributes.cluster_list.contains(&self.cluster_id()) {
            return Some("own cluster in the cluster list");
        }
        if self.config.own_addresses.contains(&attributes.next_hop.address()) {
            return Some("the next hop is this speaker");
        }
        None
    }

    /// A route that is not taken; what the peer said before no longer counts.
    fn refuse(&mut self, id: PeerId, nlri: Nlri, reason: &'static str) {
        self.take(id, &nlri);
        if let Some(peer) = self.peer_mut(id) {
            *peer.refused.entry(reason).or_default() += 1;
        }
        self.events.push_back(Event::Refused { peer: id, nlri, reason });
    }

    /// Warns, or ends the session (RFC 4486 section 4).
    fn within_limit(&mut self, now: Duration, id: PeerId, family: Family) -> bool {
        let Some(peer) = self.peer_mut(id) else { return false };
        let Some(limits) = peer.config.prefix_limits[family.index()] else { return true };
        let (count, limit) = (peer.counts[family.index()], limits.limit);
        let over = count > limit;
        if over || (count >= limits.warn && !peer.warned.contains(family)) {
            peer.warned.insert(family);
            self.events.push_back(Event::PrefixLimit { peer: id, family, count, limit });
        }
        if over {
            let mut data = family.afi().to_be_bytes().to_vec();
            data.push(family.safi());
            data.extend_from_slice(&limit.to_be_bytes());
            let reason = format!("more than {limit} {family} routes");
            let notification = Notification::new(6, cease::MAX_PREFIXES, data, reason);
            if let Some(peer) = self.peer_mut(id) {
                peer.session.stop(now, &notification, limits.again);
            }
        }
        !over
    }

    /// Puts a path into the table and says what changed.
    pub(super) fn put(
        &mut self,
        id: PeerId,
        nlri: Nlri,
        attributes: Arc<Attributes>,
        payload: Payload,
        stale: Staleness,
    ) {
        let path = Path { peer: id, attributes: Arc::clone(&attributes), payload, stale };
        let peers = &self.peers;
        let changed = self.rib.insert(&nlri, path, |peer| Self::source_of(peers, peer));
        let family = nlri.family();
        if changed.count
            && let Some(peer) = self.peer_mut(id)
        {
            peer.counts[family.index()] += 1;
        }
        if changed.path {
            if let Nlri::RouteTarget(membership) = &nlri
                && let Some(peer) = self.peer_mut(id)
            {
                peer.add_membership(*membership);
            }
            let path = Event::Path { peer: id, nlri: nlri.clone(), attributes, payload, stale };
            self.events.push_back(path);
        }
        if changed.best {
            self.best_changed(nlri);
        }
    }

    /// Takes a path out of the table and says what changed.
    pub(super) fn take(&mut self, id: PeerId, nlri: &Nlri) {
        let peers = &self.peers;
        let changed = self.rib.remove(nlri, id, |peer| Self::source_of(peers, peer));
        if !changed.path {
            return;
        }
        let family = nlri.family();
        if let Some(peer) = self.peer_mut(id) {
            peer.counts[family.index()] = peer.counts[family.index()].saturating_sub(1);
            if let Nlri::RouteTarget(membership) = nlri {
                peer.remove_membership(*membership);
            }
        }
        self.events.push_back(Event::PathGone { peer: id, nlri: nlri.clone() });
        if changed.best {
            self.best_changed(nlri.clone());
        }
    }

    /// Removes all paths of a peer in some families.
    pub(super) fn drop_routes(&mut self, id: PeerId, families: FamilySet) {
        for family in families.iter() {
            for nlri in self.rib.keys_of(family, id, |_| true) {
                self.take(id, &nlri);
            }
        }
    }

    fn best_changed(&mut self, nlri: Nlri) {
        let peer = self.rib.best(&nlri).map(|path| path.peer);
        for at in 0..self.live[nlri.family().index()].len() {
            let live = self.live[nlri.family().index()][at];
            self.queue(live, &nlri);
        }
        self.rib.tidy(&nlri);
        self.events.push_back(Event::Best { nlri, peer });
    }

    /// A ROUTE-REFRESH came.
    pub(super) fn refreshed(&mut self, id: PeerId, family: Family, refresh: Refresh) {
        match refresh {
            Refresh::Request => self.send_again(id, family),
            Refresh::Begin => {
                for (_, entry) in self.rib.entries_mut(family) {
                    for path in entry.paths.iter_mut().filter(|path| path.peer == id) {
                        path.stale.refresh = true;
                    }
                }
            }
            Refresh::End => {
                for nlri in self.rib.keys_of(family, id, |path| path.stale.refresh) {
                    self.take(id, &nlri);
                }
            }
        }
    }
}
