//! Routes in: checks, policy, the table.

use std::sync::Arc;
use std::time::Duration;

use super::{Event, Speaker};
use crate::rib::policy::{Candidate, Policy, Verdict};
use crate::rib::{Path, PeerId, Staleness};
use crate::wire::message::Refresh;
use crate::wire::notification::cease;
use crate::wire::update::{Announcement, Update};
use crate::wire::{Attributes, Family, FamilySet, Nlri, Notification};

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
            let objection = match self.policy.import(id, candidate) {
                Verdict::Accept => None,
                Verdict::Object(objection) => Some(objection),
                Verdict::Reject(reason) => {
                    self.refuse(id, route.nlri, reason);
                    continue;
                }
            };
            let family = route.nlri.family();
            let (attributes, stale) = (Arc::clone(&attributes), Staleness::default());
            let path = Path { peer: id, attributes, payload: route.payload, stale, objection };
            self.put(route.nlri, path);
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

    /// Looks at all that peers have said again: after the policy for what comes in
    /// has changed. What it has rejected before was not kept; a peer that should
    /// say that again has to be asked ([`Speaker::refresh`]).
    pub fn import_again(&mut self) {
        for family in Family::ALL {
            let mut different: Vec<(Nlri, PeerId, Verdict)> = Vec::new();
            for (nlri, entry) in self.rib.entries_mut(family) {
                for path in entry.paths.iter().filter(|path| path.peer != PeerId::LOCAL) {
                    let candidate = Candidate { nlri, payload: &path.payload, attributes: &path.attributes };
                    let verdict = self.policy.import(path.peer, candidate);
                    let objection = match verdict {
                        Verdict::Accept => None,
                        Verdict::Object(objection) => Some(objection),
                        Verdict::Reject(_) => {
                            different.push((nlri.clone(), path.peer, verdict));
                            continue;
                        }
                    };
                    if objection != path.objection {
                        different.push((nlri.clone(), path.peer, verdict));
                    } else if let Some(objection) = objection
                        && let Some(Some(peer)) = self.peers.get_mut(path.peer.0 as usize)
                    {
                        // Those that were examples may be among what is different.
                        peer.example(nlri, objection);
                    }
                }
            }
            for (nlri, peer, verdict) in different {
                let objection = match verdict {
                    Verdict::Accept => None,
                    Verdict::Object(objection) => Some(objection),
                    Verdict::Reject(reason) => {
                        self.refuse(peer, nlri, reason);
                        continue;
                    }
                };
                if let Some(path) = self.rib.path_of(&nlri, peer).cloned() {
                    self.put(nlri, Path { objection, ..path });
                }
            }
        }
    }

    /// Puts a path into the table and says what changed. What a hidden membership
    /// asks for still counts: it limits what its peer is sent.
    pub(super) fn put(&mut self, nlri: Nlri, path: Path) {
        let Path { peer: id, payload, stale, objection, .. } = path;
        let (attributes, hidden) = (Arc::clone(&path.attributes), path.is_hidden());
        let peers = &self.peers;
        let changed = self.rib.insert(&nlri, path, |peer| Self::source_of(peers, peer));
        let family = nlri.family();
        if let Some(peer) = self.peer_mut(id) {
            peer.counts[family.index()] += u32::from(changed.count);
            if changed.path {
                peer.objected(&nlri, changed.objection, objection);
                if let Nlri::RouteTarget(membership) = &nlri {
                    peer.add_membership(*membership);
                }
            }
        }
        if changed.path {
            let was_hidden = changed.objection.is_some_and(|objection| objection.hides);
            if !hidden {
                let attributes = Arc::clone(&attributes);
                let path = Event::Path { peer: id, nlri: nlri.clone(), attributes, payload, stale };
                self.events.push_back(path);
            } else if !changed.count && !was_hidden {
                self.events.push_back(Event::PathGone { peer: id, nlri: nlri.clone() });
            }
            // That it is stale by now is no news of it.
            if let Some(objection) = objection.filter(|_| !stale.restart || changed.objection != objection) {
                self.events.push_back(Event::Objected {
                    peer: id,
                    nlri: nlri.clone(),
                    attributes,
                    objection,
                });
            }
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
            peer.objected(nlri, changed.objection, None);
            if let Nlri::RouteTarget(membership) = nlri {
                peer.remove_membership(*membership);
            }
        }
        if !changed.objection.is_some_and(|objection| objection.hides) {
            self.events.push_back(Event::PathGone { peer: id, nlri: nlri.clone() });
        }
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
