//! What many routes share: everything but their prefixes, as in a BGP UPDATE.
//!
//! A route is a prefix and the number of its attributes. Whatever concerns all
//! routes with the same attributes (the next hop that they name is declared, a
//! VRF begins to import their route targets) is done once for all of them.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use tieline_engine::types::{NextHopId, SgSetId};

use crate::controllers::ControllerId;
use crate::ids::Numbered;
use crate::paths::Head;
use tieline_names::RouteDistinguisher;

/// A name of a next hop or group, declared or only referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub u32);

/// An interned set of route targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RtSetId(pub u32);

/// An interned [`TunnelUse`](crate::spec::TunnelUse).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UseId(pub u32);

/// An interned name of a VRF that static routes are declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StaticVrfId(pub u32);

/// The number of what routes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttributesId(pub u32);

/// What only VPN paths have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Vpn {
    pub controller: ControllerId,
    pub rd: RouteDistinguisher,
    pub targets: RtSetId,
    /// As declared; `None` counts as the default.
    pub local_pref: Option<u32>,
    pub med: u32,
    pub as_path_length: u16,
    pub mobility: u32,
}

/// Whose paths they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Vpn(Vpn),
    Static(StaticVrfId),
}

/// What routes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attributes {
    pub origin: Origin,
    /// What they name as their next hop.
    pub node: NodeId,
    pub tunnel_use: UseId,
    pub sg_set: SgSetId,
}

/// Attributes and the routes that have them.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub attributes: Attributes,
    /// The engine's next hop; `None` while the one they name is not declared.
    pub next_hop: Option<NextHopId>,
    pub paths: Head,
    /// Routes, and whoever is about to add some.
    pub users: usize,
}

/// All attributes by number and by value.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttributesTable {
    shared: Numbered<Shared>,
    ids: HashMap<Attributes, AttributesId, RandomState>,
    /// The number for the next new attributes, where that matters.
    pub next_number: Option<u32>,
}

impl AttributesTable {
    pub fn get(&self, id: AttributesId) -> Option<&Shared> {
        self.shared.get(id.0)
    }

    pub fn get_mut(&mut self, id: AttributesId) -> Option<&mut Shared> {
        self.shared.get_mut(id.0)
    }

    pub fn find(&self, attributes: &Attributes) -> Option<AttributesId> {
        self.ids.get(attributes).copied()
    }

    /// Adds attributes that are not there; nothing uses them yet.
    pub fn insert(&mut self, attributes: Attributes) -> AttributesId {
        let shared = Shared { attributes, next_hop: None, paths: Head::default(), users: 0 };
        let id = match self.next_number.take() {
            Some(number) if self.shared.get(number).is_none() => {
                self.shared.insert_at(number, shared);
                AttributesId(number)
            }
            _ => AttributesId(self.shared.insert(shared)),
        };
        self.ids.insert(attributes, id);
        id
    }

    pub fn remove(&mut self, id: AttributesId) -> Option<Shared> {
        let shared = self.shared.remove(id.0)?;
        self.ids.remove(&shared.attributes);
        Some(shared)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// In the order of their numbers, from one on.
    pub fn iter_from(&self, start: AttributesId) -> impl Iterator<Item = (AttributesId, &Shared)> {
        self.shared.iter_from(start.0).map(|(id, shared)| (AttributesId(id), shared))
    }
}
