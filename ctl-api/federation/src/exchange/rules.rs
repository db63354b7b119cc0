//! The rules as the hooks of the speaker.

use std::collections::HashMap;
use std::sync::Arc;

use tieline_bgp::rib::policy::{Candidate, Policy, Verdict};
use tieline_bgp::rib::{Path, PeerId};
use tieline_bgp::wire::{Attributes, Nlri};

use super::contracts::prefix_of;
use super::{Facts, Origin, Party};
use crate::routes::check_prefix;

/// What comes in and goes out, peer by peer.
#[derive(Debug, Clone)]
pub struct Rules {
    facts: Arc<Facts>,
    parties: HashMap<PeerId, Arc<Party>>,
}

impl Rules {
    /// Without peers.
    pub fn new(facts: Arc<Facts>) -> Self {
        Self { facts, parties: HashMap::new() }
    }

    /// Other facts, and the peers as they are by these. The speaker is to look at
    /// its routes again.
    pub fn set(&mut self, facts: Arc<Facts>, parties: impl IntoIterator<Item = (PeerId, Arc<Party>)>) {
        self.facts = facts;
        self.parties = parties.into_iter().collect();
    }

    /// A peer is there.
    pub fn add(&mut self, peer: PeerId, party: Arc<Party>) {
        self.parties.insert(peer, party);
    }

    /// Whose word a path is; none where nobody knows the peer.
    pub fn origin(&self, peer: PeerId, attributes: &Attributes) -> Option<Origin> {
        if peer == PeerId::LOCAL {
            return Some(Origin::Ours);
        }
        Some(self.facts.origin(self.parties.get(&peer)?, attributes))
    }
}

impl Policy for Rules {
    fn import(&mut self, peer: PeerId, route: Candidate<'_>) -> Verdict {
        let Some(party) = self.parties.get(&peer) else { return Verdict::Reject("nobody knows the peer") };
        let prefix = prefix_of(route.nlri).map_or(Ok(()), |prefix| check_prefix(prefix, false));
        // A contract is for what others say.
        let is_ours = self.facts.origin(party, route.attributes) == Origin::Ours;
        let terms = |()| if is_ours { Ok(()) } else { party.terms.check(route) };
        if let Err(reason) = prefix.and_then(terms) {
            return Verdict::Reject(reason);
        }
        match self.facts.doubt(party, route.nlri, route.attributes) {
            Some(claim) => Verdict::Object(claim.objection()),
            None => Verdict::Accept,
        }
    }

    fn export(&mut self, to: PeerId, nlri: &Nlri, path: &Path) -> bool {
        let (Some(to), Some(origin)) = (self.parties.get(&to), self.origin(path.peer, &path.attributes))
        else {
            return false;
        };
        self.facts.tells(to, origin, nlri, &path.attributes)
    }

    fn adapt(&self, to: PeerId, path: &Path, attributes: &mut Attributes) {
        if let (Some(to), Some(origin)) = (self.parties.get(&to), self.origin(path.peer, &path.attributes)) {
            self.facts.adapt(to, origin, attributes);
        }
    }
}
