//! The RIBs in one table: for each route key the paths of all peers, which of
//! them is best, and which peers were told.
//!
//! - [`Rib`]: the table; [`best`]: the choice among paths
//! - [`interner`]: attributes that many routes share are kept once
//! - [`policy`]: the hooks of the speaker's user
//! - `peer_set`: small sets of peers

pub mod best;
pub mod interner;
mod peer_set;
pub mod policy;
mod table;

use std::sync::Arc;

use crate::wire::{Attributes, Payload};

pub(crate) use peer_set::PeerSet;
pub use table::Rib;

/// Names a peer of the speaker. It is small, and given again to another peer
/// after the first was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl PeerId {
    /// The speaker itself, as the source of routes.
    pub const LOCAL: Self = Self(u32::MAX);
}

/// Why a path is not as good as fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Staleness {
    /// The peer has restarted, or its session is lost, and it has not sent the
    /// route again.
    pub restart: bool,
    /// Kept past the restart time: the last resort (RFC 9494).
    pub long_lived: bool,
    /// A refresh has begun, and the route has not come again (RFC 7313).
    pub refresh: bool,
}

/// What the policy has against a path that is kept all the same. There is one of
/// each kind in a program, and paths point to it.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Objection {
    /// What it is, in a few words.
    pub reason: &'static str,
    /// The path does not count: it is never best, and nobody is told of it. It is
    /// kept, so that it is there when the policy changes its mind. Otherwise it
    /// counts, and the user of the speaker leaves out what is objected to.
    pub hides: bool,
}

/// A path: what one peer said about a route key.
#[derive(Debug, Clone)]
pub struct Path {
    /// Who said so.
    pub peer: PeerId,
    /// Its attributes, shared with other routes.
    pub attributes: Arc<Attributes>,
    /// Its label and the like.
    pub payload: Payload,
    /// Whether it is fresh.
    pub stale: Staleness,
    /// What the policy has against it.
    pub objection: Option<&'static Objection>,
}

impl Path {
    /// Whether it does not count.
    pub fn is_hidden(&self) -> bool {
        self.objection.is_some_and(|objection| objection.hides)
    }
}
