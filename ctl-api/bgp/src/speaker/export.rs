//! Routes out: what each peer may have, in which form, in how many messages.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::peer::Peer;
use super::{Event, Speaker};
use crate::rib::policy::Policy;
use crate::rib::{Path, PeerId};
use crate::session::Negotiated;
use crate::wire::message::{Refresh, encode_refresh};
use crate::wire::update::{EncodeError, encode, encode_end_of_rib, encode_withdrawals};
use crate::wire::{Attributes, Community, Family, Membership, NextHop, Nlri, Payload};

/// Keys that are looked at in one go: enough to fill messages, little enough
/// that the window of what may wait for the network is not overrun by far.
const BATCH: usize = 4096;

/// Bytes after which a batch ends early, where attributes are long.
const BATCH_BYTES: usize = 1024 * 1024;

/// Attributes as a peer gets them, by the pointer of those in the table. The
/// table's are held along, so that no pointer is used twice.
type Outgoing = HashMap<(*const Attributes, PeerId), (Arc<Attributes>, Option<Arc<Attributes>>)>;

/// Routes of one message after the other, with their attributes.
type Groups = Vec<(Arc<Attributes>, Vec<(Nlri, Payload)>)>;

impl<P: Policy> Speaker<P> {
    pub(super) fn cluster_id(&self) -> Ipv4Addr {
        self.config.cluster_id.unwrap_or(self.config.router_id)
    }

    /// Notes that a peer is to be told of a route key.
    pub(super) fn queue(&mut self, id: PeerId, nlri: &Nlri) {
        let Some(entry) = self.rib.entry_mut(nlri) else { return };
        if entry.queued.insert(id)
            && let Some(Some(peer)) = self.peers.get_mut(id.0 as usize)
        {
            peer.queues[nlri.family().index()].keys.push_back(nlri.clone());
        }
    }

    /// Notes that a peer is to be told of all routes of a family.
    pub(super) fn queue_all(&mut self, id: PeerId, family: Family) {
        let Some(Some(peer)) = self.peers.get_mut(id.0 as usize) else { return };
        for (nlri, entry) in self.rib.entries_mut(family) {
            if entry.queued.insert(id) {
                peer.queues[family.index()].keys.push_back(nlri.clone());
            }
        }
    }

    /// Notes that a peer is to be told of the routes of a family that it should
    /// know of and was not told, or the other way round.
    pub(super) fn queue_untold(&mut self, id: PeerId, family: Family) {
        let mut outgoing = Outgoing::new();
        let keys: Vec<Nlri> = self.rib.keys(family).cloned().collect();
        for nlri in keys {
            let best = self.rib.best(&nlri).cloned();
            let wanted = best.is_some_and(|path| self.outgoing(id, &nlri, &path, &mut outgoing).is_some());
            if self.rib.entry(&nlri).is_some_and(|entry| entry.told.contains(id) != wanted) {
                self.queue(id, &nlri);
            }
        }
    }

    /// The peer asked for all routes of a family again.
    pub(super) fn send_again(&mut self, id: PeerId, family: Family) {
        self.queue_all(id, family);
        if let Some(peer) = self.peer_mut(id) {
            let framed = peer.session.negotiated().is_some_and(|negotiated| negotiated.enhanced_refresh);
            let queue = &mut peer.queues[family.index()];
            queue.begin_of_refresh = framed;
            queue.end_of_refresh = framed;
        }
    }

    /// The peer has sent its memberships, or time is up.
    pub(super) fn memberships_complete(&mut self, id: PeerId) {
        if let Some(peer) = self.peer_mut(id) {
            peer.membership_wait = None;
        }
    }

    /// Writes updates for all peers, as far as they take them.
    pub(super) fn write_updates(&mut self, now: Duration) {
        for index in 0..self.peers.len() {
            let id = PeerId(u32::try_from(index).unwrap_or(u32::MAX));
            self.look_through_memberships(id);
            while self.peers[index].as_ref().is_some_and(|peer| peer.session.is_writable()) {
                let Some(family) = self.next_family(id) else { break };
                self.write_family(now, id, family);
            }
            self.pump(now, id);
        }
    }

    /// A family with something to send: memberships first, so that the other
    /// side knows soon what is wanted.
    fn next_family(&self, id: PeerId) -> Option<Family> {
        let peer = self.peer(id)?;
        let order = [
            Family::RouteTarget,
            Family::Ipv4Unicast,
            Family::Ipv6Unicast,
            Family::Vpnv4,
            Family::Vpnv6,
            Family::Evpn,
        ];
        order.into_iter().find(|family| {
            let queue = &peer.queues[family.index()];
            let ends = queue.end_of_refresh || (queue.end_of_rib && self.restart_until.is_none());
            !peer.holds_back(*family) && (ends || !queue.keys.is_empty())
        })
    }

    /// After memberships changed: queues the VPN routes that the peer now is to
    /// have and was not told, or the other way round.
    fn look_through_memberships(&mut self, id: PeerId) {
        let Some(Some(peer)) = self.peers.get_mut(id.0 as usize) else { return };
        if peer.membership_wait.is_some() || !std::mem::take(&mut peer.memberships_changed) {
            return;
        }
        for family in Family::ALL.into_iter().filter(|family| family.has_route_targets()) {
            if !peer.session.negotiated().is_some_and(|negotiated| negotiated.families.contains(family)) {
                continue;
            }
            for (nlri, entry) in self.rib.entries_mut(family) {
                let wanted = entry.best().is_some_and(|best| wants(peer, &best.attributes));
                if wanted != entry.told.contains(id) && entry.queued.insert(id) {
                    peer.queues[family.index()].keys.push_back(nlri.clone());
                }
            }
        }
    }

    /// Writes one batch of a family, and what follows the last one.
    fn write_family(&mut self, now: Duration, id: PeerId, family: Family) {
        let Some(peer) = self.peer_mut(id) else { return };
        let Some(negotiated) = peer.session.negotiated().cloned() else { return };
        let queue = &mut peer.queues[family.index()];
        let begin = std::mem::take(&mut queue.begin_of_refresh);
        let size = queue.keys.len().min(BATCH);
        let keys: Vec<Nlri> = queue.keys.drain(..size).collect();
        if queue.keys.is_empty() && queue.keys.capacity() > BATCH {
            queue.keys.shrink_to(0);
        }
        let mut bytes = Vec::with_capacity(64 * keys.len());
        if begin {
            encode_refresh(family, Refresh::Begin, &mut bytes);
        }
        self.write_keys(id, family, &negotiated, keys, &mut bytes);
        let deferred = self.restart_until.is_some();
        let Some(peer) = self.peer_mut(id) else { return };
        let queue = &mut peer.queues[family.index()];
        if queue.keys.is_empty() {
            if std::mem::take(&mut queue.end_of_refresh) {
                encode_refresh(family, Refresh::End, &mut bytes);
            }
            if queue.end_of_rib && !deferred {
                queue.end_of_rib = false;
                encode_end_of_rib(family, &mut bytes);
            }
        }
        if !bytes.is_empty() {
            let messages = count_messages(&bytes);
            peer.session.send(now, bytes, messages);
            self.pump(now, id);
        }
    }

    fn write_keys(
        &mut self,
        id: PeerId,
        family: Family,
        negotiated: &Negotiated,
        keys: Vec<Nlri>,
        bytes: &mut Vec<u8>,
    ) {
        let mut outgoing = Outgoing::new();
        let mut groups: Groups = Vec::new();
        let mut places: HashMap<*const Attributes, usize> = HashMap::new();
        let mut gone = Vec::new();
        for nlri in keys {
            let best = match self.rib.entry_mut(&nlri) {
                Some(entry) => {
                    entry.queued.remove(id);
                    entry.best().cloned()
                }
                None => continue,
            };
            match best.and_then(|path| Some((self.outgoing(id, &nlri, &path, &mut outgoing)?, path.payload)))
            {
                Some((attributes, payload)) => {
                    let place = *places.entry(Arc::as_ptr(&attributes)).or_insert_with(|| {
                        groups.push((attributes, Vec::new()));
                        groups.len() - 1
                    });
                    groups[place].1.push((nlri, payload));
                }
                None => gone.push(nlri),
            }
        }
        let mut sent = 0;
        let context = negotiated.encode_context();
        let mut announcements = Vec::new();
        for (attributes, routes) in groups {
            if announcements.len() > BATCH_BYTES {
                self.put_back(id, family, routes);
                continue;
            }
            let pairs = routes.iter().map(|(nlri, payload)| (nlri, payload));
            match encode(family, &attributes, pairs, &context, &mut announcements) {
                Ok(()) => {
                    sent += routes.len() as u64;
                    for (nlri, _) in &routes {
                        if let Some(entry) = self.rib.entry_mut(nlri) {
                            entry.told.insert(id);
                        }
                    }
                }
                Err(error) => self.unsendable(id, routes, error, &mut gone),
            }
        }
        // What the peer was not told needs no withdrawal.
        gone.retain(|nlri| {
            let told = self.rib.entry_mut(nlri).is_some_and(|entry| entry.told.remove(id));
            self.rib.tidy(nlri);
            told
        });
        encode_withdrawals(family, &gone, &context, bytes);
        bytes.append(&mut announcements);
        if let Some(peer) = self.peer_mut(id) {
            peer.announced += sent;
            peer.withdrawn += gone.len() as u64;
        }
    }

    /// Routes whose turn comes with the next batch.
    fn put_back(&mut self, id: PeerId, family: Family, routes: Vec<(Nlri, Payload)>) {
        for (nlri, _) in routes.into_iter().rev() {
            if let Some(entry) = self.rib.entry_mut(&nlri)
                && entry.queued.insert(id)
                && let Some(Some(peer)) = self.peers.get_mut(id.0 as usize)
            {
                peer.queues[family.index()].keys.push_front(nlri);
            }
        }
    }

    fn unsendable(
        &mut self,
        id: PeerId,
        routes: Vec<(Nlri, Payload)>,
        error: EncodeError,
        gone: &mut Vec<Nlri>,
    ) {
        for (nlri, _) in routes {
            gone.push(nlri.clone());
            self.events.push_back(Event::Unsendable { peer: id, nlri, reason: error.to_string() });
        }
    }

    /// The attributes with which a peer gets a path, or `None` if it does not.
    fn outgoing(
        &mut self,
        id: PeerId,
        nlri: &Nlri,
        path: &Path,
        known: &mut Outgoing,
    ) -> Option<Arc<Attributes>> {
        let peer = self.peers.get(id.0 as usize)?.as_ref()?;
        if peer.config.spare_gobgp && *nlri == Nlri::RouteTarget(Membership::DEFAULT) {
            return None;
        }
        if !self.policy.export(id, nlri, path) {
            return None;
        }
        let key = (Arc::as_ptr(&path.attributes), path.peer);
        if let Some((_, attributes)) = known.get(&key) {
            return attributes.clone();
        }
        let made = self.transform(peer, nlri.family(), id, path);
        let made = made.map(|attributes| self.interner.intern(attributes));
        known.insert(key, (Arc::clone(&path.attributes), made.clone()));
        made
    }

    /// The rules of BGP for sending a path on.
    fn transform(&self, peer: &Peer, family: Family, id: PeerId, path: &Path) -> Option<Attributes> {
        let negotiated = peer.session.negotiated()?;
        let source = Self::source_of(&self.peers, path.peer);
        let from_internal = source.is_some_and(|source| source.internal);
        let attributes = &path.attributes;
        if path.peer == id
            || attributes.has(Community::NO_ADVERTISE)
            || (!negotiated.internal && attributes.has(Community::NO_EXPORT))
            || (family.has_route_targets() && !wants(peer, attributes))
        {
            return None;
        }
        // RFC 9494 section 4.3: only who knows what the community says.
        if attributes.has(Community::LLGR_STALE) && negotiated.long_lived(family).is_none() {
            return None;
        }
        let mut out = Attributes::clone(attributes);
        if negotiated.internal {
            if from_internal {
                let client = |id| self.peer(id).is_some_and(|peer: &Peer| peer.config.reflector_client);
                if !peer.config.reflector_client && !client(path.peer) {
                    return None;
                }
                out.originator_id = out.originator_id.or(source.map(|source| source.router_id));
                out.cluster_list.insert(0, self.cluster_id());
            }
            out.local_pref = Some(out.local_pref.unwrap_or(100));
        } else {
            // The peer would only refuse what has been there.
            if attributes.as_path.contains(peer.config.session.asn) {
                return None;
            }
            out.as_path.prepend(self.config.asn);
            out.local_pref = None;
            out.originator_id = None;
            out.cluster_list.clear();
            if path.peer != PeerId::LOCAL {
                // RFC 4271 section 5.1.4: not from one neighbouring AS to another.
                out.med = None;
            }
            out.extended.retain(|community| community.is_transitive());
        }
        if let (Some(address), Family::Ipv4Unicast | Family::Ipv6Unicast) =
            (peer.config.unicast_next_hop, family)
        {
            out.next_hop = NextHop::from(address);
        }
        if peer.config.spare_gobgp {
            out.extended.retain(|community| !matches!(community.0, [0x06, 0x05 | 0x09, ..]));
        }
        self.policy.adapt(id, path, &mut out);
        Some(out)
    }
}

/// Whether a peer with route target constraint wants routes with these
/// attributes; one without wants all.
fn wants(peer: &Peer, attributes: &Attributes) -> bool {
    peer.wants_all() || attributes.route_targets().any(|target| peer.wants(target))
}

fn count_messages(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some([high, low]) = bytes.get(16..18) {
        count += 1;
        bytes = bytes.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or(&[]);
    }
    count
}
