//! What BGP brings.

use std::collections::BTreeSet;

use tieline_bgp::rib::{Objection, PeerId};
use tieline_bgp::speaker::Event;
use tieline_bgp::wire::{Attributes, Nlri};
use tieline_proto::federation::v1::EventKind;
use tracing::{debug, error, info, warn};

use super::canary::Turn;
use super::lately::Kept;
use super::{Controller, ControllerError, now};
use crate::exchange::Origin;
use crate::exchange::believe::remedy;
use crate::exchange::contracts::is_violation;
use crate::routes::distribution::Said;
use crate::routes::duplicates::Finding;

impl Controller {
    /// BGP has brought something.
    pub(super) async fn learned(&mut self, batch: Vec<Event>) -> Result<(), ControllerError> {
        // Many events of one route are one look at it.
        let mut changed: BTreeSet<Nlri> = BTreeSet::new();
        for event in batch {
            match event {
                Event::Best { nlri, .. } => {
                    changed.insert(nlri);
                }
                Event::Path { peer, nlri, .. } => self.canaries.path(peer, &nlri),
                Event::PathGone { peer, nlri } => self.canaries.gone(peer, &nlri),
                Event::Up { peer, negotiated } => {
                    info!(peer = self.peers.name(peer), families = ?negotiated.families, "BGP session up");
                    self.peers.up(peer);
                    self.canaries.up(peer, negotiated.families, self.start.elapsed());
                    let families: Vec<String> =
                        negotiated.families.iter().map(|family| family.to_string()).collect();
                    let message = format!("session up, with {}", families.join(", "));
                    self.note(EventKind::PeerUp, self.peers.name(peer).to_owned(), message);
                    if let Some(unlearned) = &mut self.unlearned {
                        unlearned.retain(|(of, family)| *of != peer || negotiated.families.contains(*family));
                    }
                }
                Event::Down { peer, down } => {
                    warn!(peer = self.peers.name(peer), "BGP session down: {}", down.reason);
                    self.peers.ended(peer, &down.reason, now());
                    self.canaries.down(peer);
                    let message = format!("session down: {}", down.reason);
                    self.note(EventKind::PeerDown, self.peers.name(peer).to_owned(), message);
                }
                Event::Failed { peer, reason } => match self.peers.failed(peer, &reason, now()) {
                    Some(news) => warn!(peer = self.peers.name(peer), "no BGP session: {news}"),
                    None => debug!(peer = self.peers.name(peer), "no BGP session: {reason}"),
                },
                // Peers may send any number: all are counted, the last are kept.
                Event::Refused { peer, nlri, reason } => {
                    debug!(peer = self.peers.name(peer), %nlri, "refused: {reason}");
                    self.peers.refused(peer, reason);
                    self.canaries.refused(peer, &nlri, reason);
                    let kind = match is_violation(reason) {
                        true => EventKind::ContractViolated,
                        false => EventKind::RouteRefused,
                    };
                    let (time, name) = (self.time(), self.peers.name(peer));
                    self.journal.note_often(time, kind, name, reason, || format!("{nlri}: {reason}"));
                    self.kept_away.note(Kept { peer, nlri, reason: reason.to_owned(), at: now() });
                }
                Event::Objected { peer, nlri, attributes, objection } => {
                    self.doubted(peer, nlri, &attributes, objection);
                }
                Event::Unsendable { peer, nlri, reason } => {
                    warn!(peer = self.peers.name(peer), %nlri, "cannot be sent: {reason}");
                }
                Event::Fault { peer, fault } => {
                    warn!(peer = self.peers.name(peer), "damaged update: {fault:?}");
                }
                Event::EndOfRib { peer, family } => {
                    self.peers.complete(peer, family);
                    self.canaries.complete(peer, family);
                    if let Some(unlearned) = &mut self.unlearned {
                        unlearned.remove(&(peer, family));
                    }
                }
                Event::PrefixLimit { peer, family, count, limit } => {
                    error!(peer = self.peers.name(peer), %family, count, limit, "prefix limit");
                    let message = match count > limit {
                        true => format!("cut off: more than {limit} {family} routes"),
                        false => format!("{count} of at most {limit} {family} routes"),
                    };
                    self.note(EventKind::PrefixLimit, self.peers.name(peer).to_owned(), message);
                }
            }
        }
        self.look_at_canaries();
        if !changed.is_empty() {
            let paths = self
                .speaker
                .with(move |speaker, _| {
                    let best = |nlri: Nlri| {
                        let path = speaker.rib().best(&nlri).cloned();
                        (nlri, path)
                    };
                    changed.into_iter().map(best).collect::<Vec<_>>()
                })
                .await?;
            for (nlri, path) in paths {
                let peer = path.as_ref().map(|path| path.peer);
                let said = path.as_ref().and_then(|path| {
                    let origin = self.origin(path.peer, &path.attributes)?;
                    Some(Said { origin, attributes: &path.attributes, payload: &path.payload })
                });
                if let Err(reason) = self.distribution.best(&nlri, said) {
                    debug!(%nlri, "not for gateways: {reason}");
                    let peer = peer.unwrap_or(PeerId::LOCAL);
                    self.kept_away.note(Kept { peer, nlri, reason: reason.to_owned(), at: now() });
                }
            }
            self.look_for_duplicates();
            self.tell_gateways();
        }
        if self.unlearned.as_ref().is_some_and(BTreeSet::is_empty) {
            self.all_learned();
        }
        Ok(())
    }

    /// Whose word a path is; none where its peer has gone meanwhile.
    fn origin(&self, peer: PeerId, attributes: &Attributes) -> Option<Origin> {
        if peer == PeerId::LOCAL {
            return Some(Origin::Ours);
        }
        Some(self.facts.origin(self.peers.party(peer)?, attributes))
    }

    /// A peer says what it is not believed about. Peers may send any number: the
    /// status counts those that are there, and the last are kept.
    fn doubted(&mut self, peer: PeerId, nlri: Nlri, attributes: &Attributes, objection: &'static Objection) {
        let claim = self.peers.party(peer).and_then(|party| self.facts.doubt(party, &nlri, attributes));
        let reason = match claim {
            Some(claim) => format!("{} ({claim})", objection.reason),
            None => objection.reason.to_owned(),
        };
        debug!(peer = self.peers.name(peer), %nlri, "not believed: {reason}");
        let (time, name) = (self.time(), self.peers.name(peer));
        let message = || {
            let remedy = remedy(objection);
            match objection.hides {
                true => format!("{nlri} is kept away: it bears {reason}: {remedy}"),
                false => format!("{nlri} is taken without {reason}: {remedy}"),
            }
        };
        self.journal.note_often(time, EventKind::NotBelieved, name, objection.reason, message);
        if objection.hides {
            self.canaries.refused(peer, &nlri, objection.reason);
            self.kept_away.note(Kept { peer, nlri, reason: format!("it bears {reason}"), at: now() });
        }
    }

    /// Says which prefixes that a peer must announce are missing, and which are
    /// there again (R2).
    pub(super) fn look_at_canaries(&mut self) {
        for Turn { peer, prefix, missing } in self.canaries.turns(self.start.elapsed()) {
            let peer = self.peers.name(peer).to_owned();
            match missing {
                Some(why) => {
                    error!(peer, %prefix, "canary is missing: {why}");
                    self.note(EventKind::CanaryLost, peer, format!("canary {prefix} is missing: {why}"));
                }
                None => {
                    info!(peer, %prefix, "canary is there again");
                    self.note(EventKind::CanaryBack, peer, format!("canary {prefix} is there again"));
                }
            }
        }
    }

    /// Says which addresses are claimed by several, and which are not any more
    /// (C7).
    fn look_for_duplicates(&mut self) {
        for finding in self.distribution.look_for_duplicates() {
            match finding {
                Finding::Found(prefix, owners) => {
                    let owners = owners.iter().map(|key| key.rd.to_string()).collect::<Vec<_>>();
                    let message = format!("claimed by several gateways: {}", owners.join(", "));
                    error!(%prefix, "{message}");
                    self.note(EventKind::DuplicateFound, prefix.to_string(), message);
                }
                Finding::Gone(prefix) => {
                    info!(%prefix, "claimed by one gateway only again");
                    self.note(EventKind::DuplicateGone, prefix.to_string(), "claimed by one gateway again");
                }
            }
        }
    }
}
