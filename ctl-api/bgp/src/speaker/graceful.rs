//! Routes of peers that restart (RFC 4724), and of those that stay away
//! (RFC 9494).

use std::sync::Arc;
use std::time::Duration;

use super::Speaker;
use crate::rib::policy::Policy;
use crate::rib::{Path, PeerId, Staleness};
use crate::session::Negotiated;
use crate::wire::{Attributes, Community, Family, FamilySet};

/// Longest time that a peer that is back may take to send its routes again.
const RETURN_LIMIT: Duration = Duration::from_secs(360);

impl<P: Policy> Speaker<P> {
    /// The session is lost: routes are kept or go.
    pub(super) fn stale_after_loss(&mut self, now: Duration, id: PeerId, graceful: bool) {
        let Some(peer) = self.peer_mut(id) else { return };
        let restart = peer.last_restart.take();
        let kept = restart.as_ref().filter(|_| graceful).map_or(FamilySet::EMPTY, |restart| restart.families);
        let time = restart.map_or(Duration::ZERO, |restart| Duration::from_secs(restart.time.into()));
        for family in Family::ALL {
            if !kept.contains(family) {
                self.drop_routes(id, [family].into_iter().collect());
                self.clear_timers(id, family);
                continue;
            }
            // RFC 4724 section 4.2: what was not sent again since the last
            // restart goes.
            for nlri in self.rib.keys_of(family, id, |path| path.stale.restart && !path.stale.long_lived) {
                self.take(id, &nlri);
            }
            self.mark(id, family, |stale| stale.restart = true);
            if let Some(peer) = self.peer_mut(id) {
                peer.stale_until[family.index()] = Some(now + time);
            }
        }
    }

    /// The session stands again: what the peer did not keep goes.
    pub(super) fn stale_after_return(&mut self, now: Duration, id: PeerId, negotiated: &Negotiated) {
        let restart = negotiated.graceful_restart.as_ref();
        for family in Family::ALL {
            let Some(peer) = self.peer_mut(id) else { return };
            let own_limit = peer.config.session.long_lived_time;
            peer.long_lived_time[family.index()] =
                negotiated.long_lived(family).map(|time| time.min(own_limit)).filter(|time| !time.is_zero());
            let kept = restart.is_some_and(|restart| restart.forwarding.contains(family))
                && negotiated.families.contains(family);
            if !kept {
                self.sweep_stale(id, family);
            } else if peer.stale_until[family.index()].is_some() {
                peer.stale_until[family.index()] = Some(now + RETURN_LIMIT);
            }
        }
        if let Some(peer) = self.peer_mut(id) {
            peer.last_restart.clone_from(&negotiated.graceful_restart);
        }
    }

    /// All routes of the family that the peer still has were sent again.
    pub(super) fn sweep_stale(&mut self, id: PeerId, family: Family) {
        let timed = self.peer(id).is_some_and(|peer| {
            peer.stale_until[family.index()].is_some() || peer.long_lived_until[family.index()].is_some()
        });
        if timed {
            for nlri in self.rib.keys_of(family, id, |path| path.stale.restart) {
                self.take(id, &nlri);
            }
            self.clear_timers(id, family);
        }
    }

    fn clear_timers(&mut self, id: PeerId, family: Family) {
        if let Some(peer) = self.peer_mut(id) {
            peer.stale_until[family.index()] = None;
            peer.long_lived_until[family.index()] = None;
        }
    }

    /// Timers of a peer's stale routes, and of its memberships.
    pub(super) fn stale_timers(&mut self, now: Duration, id: PeerId) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        for family in Family::ALL {
            let Some(peer) = self.peer_mut(id) else { return };
            if due(peer.long_lived_until[family.index()]) {
                self.sweep_stale(id, family);
                continue;
            }
            if !due(peer.stale_until[family.index()]) {
                continue;
            }
            let back = peer.session.negotiated().is_some();
            match peer.long_lived_time[family.index()].filter(|_| !back) {
                Some(time) => {
                    peer.stale_until[family.index()] = None;
                    let until = &mut peer.long_lived_until[family.index()];
                    if until.is_none() {
                        *until = Some(now + time);
                    }
                    self.make_long_lived(id, family);
                }
                None => self.sweep_stale(id, family),
            }
        }
        if self.peer(id).is_some_and(|peer| due(peer.membership_wait)) {
            self.memberships_complete(id);
        }
    }

    /// Stale routes become a last resort (RFC 9494 section 4.3).
    fn make_long_lived(&mut self, id: PeerId, family: Family) {
        for nlri in self.rib.keys_of(family, id, |path| path.stale.restart && !path.stale.long_lived) {
            let path =
                self.rib.entry(&nlri).and_then(|entry| entry.paths.iter().find(|path| path.peer == id));
            let Some(path) = path.cloned() else { continue };
            if path.attributes.has(Community::NO_LLGR) {
                self.take(id, &nlri);
                continue;
            }
            let attributes = if path.attributes.has(Community::LLGR_STALE) {
                Arc::clone(&path.attributes)
            } else {
                let mut attributes = Attributes::clone(&path.attributes);
                attributes.communities.push(Community::LLGR_STALE);
                self.interner.intern(Arc::new(attributes))
            };
            let stale = Staleness { long_lived: true, ..path.stale };
            self.put(nlri, Path { attributes, stale, ..path });
        }
    }

    /// Marks a peer's paths; they stay as good as they were.
    fn mark(&mut self, id: PeerId, family: Family, set: impl Fn(&mut Staleness)) {
        let mut marked = Vec::new();
        for (nlri, entry) in self.rib.entries_mut(family) {
            for path in entry.paths.iter_mut().filter(|path| path.peer == id) {
                set(&mut path.stale);
                marked.push((nlri.clone(), path.clone()));
            }
        }
        for (nlri, path) in marked.into_iter().filter(|(_, path)| !path.is_hidden()) {
            self.events.push_back(super::Event::Path {
                peer: id,
                nlri,
                attributes: path.attributes,
                payload: path.payload,
                stale: path.stale,
            });
        }
    }
}
