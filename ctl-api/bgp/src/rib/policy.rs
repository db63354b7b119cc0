//! What may come in and go out: the hooks of the speaker's user.

use std::sync::Arc;

use super::PeerId;
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

/// What a policy says about a route.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// As it is.
    Accept,
    /// With other attributes. A next hop that is changed must go with the
    /// label that the new one gave out; labels are not changed here.
    Replace(Arc<Attributes>),
    /// Not at all, for a named reason.
    Reject(&'static str),
}

/// The hooks. Both are called for each route, so an answer that depends on the
/// attributes alone is best remembered by their pointer.
pub trait Policy {
    /// A route from a peer, before it is kept.
    fn import(&mut self, peer: PeerId, route: Candidate<'_>) -> Verdict {
        let _ = (peer, route);
        Verdict::Accept
    }

    /// A best route, before it is sent. The rules of BGP have been applied.
    fn export(&mut self, peer: PeerId, route: Candidate<'_>) -> Verdict {
        let _ = (peer, route);
        Verdict::Accept
    }
}

/// Takes and sends everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AcceptAll;

impl Policy for AcceptAll {}
