//! What may come in and go out: the hooks of the speaker's user.

use std::sync::Arc;

use super::{Objection, Path, PeerId};
use crate::wire::{Attributes, Nlri, Payload};

/// A route that a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What it is about.
    pub nlri: &'a Nlri,
    /// Its label and the like.
    pub payload: &'a Payload,
    /// Its attributes. Routes of one message share them: the same pointer is
    /// the same attributes.
    pub attributes: &'a Arc<Attributes>,
}

/// What a policy says about a route from a peer.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// It is taken as it is.
    Accept,
    /// It is kept with an objection, which may hide it.
    Object(&'static Objection),
    /// It is not kept at all, for a named reason.
    Reject(&'static str),
}

/// The hooks. The first two are called for each route, so an answer that depends
/// on the attributes alone is best remembered by their pointer.
pub trait Policy {
    /// A route from a peer, before it is kept; and one that is kept, when
    /// [`Speaker::import_again`] asks.
    ///
    /// [`Speaker::import_again`]: crate::speaker::Speaker::import_again
    fn import(&mut self, peer: PeerId, route: Candidate<'_>) -> Verdict {
        let _ = (peer, route);
        Verdict::Accept
    }

    /// Whether a peer is told of a route's best path, as far as the rules of BGP
    /// allow it. The path is as it is in the table.
    fn export(&mut self, to: PeerId, nlri: &Nlri, path: &Path) -> bool {
        let _ = (to, nlri, path);
        true
    }

    /// Changes what a peer is told of a path: attributes as the rules of BGP make
    /// them. Called once for many routes with the same attributes. A next hop
    /// must go with the label that it gave out, and labels are not changed here.
    fn adapt(&self, to: PeerId, path: &Path, attributes: &mut Attributes) {
        let _ = (to, path, attributes);
    }
}

/// Takes and sends everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptAll;

impl Policy for AcceptAll {}
