//! Declared routes as compact records: VPN paths and static routes alike.
//!
//! A record holds numbers only; what many share (names, sets, labels) is
//! interned elsewhere. Two lists run through the records, so that a change of
//! a next hop or of a set of route targets finds its paths without an index.

use std::collections::BTreeMap;

use ipnet::IpNet;
use tieline_engine::types::{NextHopId, SgSetId};

use crate::name::Name;
use crate::rd::RouteDistinguisher;

/// A name of a next hop or group, declared or only referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub u32);

/// A path record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(pub u32);

/// An interned set of route targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RtSetId(pub u32);

/// An interned [`TunnelUse`](crate::spec::TunnelUse).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UseId(pub u32);

/// An interned name of a VRF that static routes are declared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StaticVrfId(pub u32);

/// No record.
const NONE: u32 = u32::MAX;

/// Whose path it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Vpn { rd: RouteDistinguisher, targets: RtSetId },
    Static(StaticVrfId),
}

/// A declared route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub prefix: IpNet,
    pub origin: Origin,
    /// What it names as its next hop.
    pub node: NodeId,
    pub tunnel_use: UseId,
    pub sg_set: SgSetId,
    /// Whether `local_pref` was declared or is the default.
    pub states_local_pref: bool,
    pub local_pref: u32,
    pub med: u32,
    next_hop: u32,
    links: [Links; 2],
}

/// Neighbours in one of the lists.
#[derive(Debug, Clone, Copy)]
struct Links {
    previous: u32,
    next: u32,
}

const UNLINKED: Links = Links { previous: NONE, next: NONE };

/// The lists that run through the records.
#[derive(Debug, Clone, Copy)]
pub(crate) enum List {
    /// All paths that name one next hop.
    ByNode = 0,
    /// All VPN paths with one set of route targets.
    ByTargets = 1,
}

/// The first record of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head(u32);

impl Default for Head {
    fn default() -> Self {
        Self(NONE)
    }
}

impl Head {
    pub fn is_empty(self) -> bool {
        self.0 == NONE
    }
}

impl Path {
    pub fn new(prefix: IpNet, origin: Origin, node: NodeId, tunnel_use: UseId, sg_set: SgSetId) -> Self {
        Self {
            prefix,
            origin,
            node,
            tunnel_use,
            sg_set,
            states_local_pref: false,
            local_pref: 0,
            med: 0,
            next_hop: NONE,
            links: [UNLINKED; 2],
        }
    }

    /// The engine's next hop; `None` while the one it names is not declared.
    pub fn next_hop(&self) -> Option<NextHopId> {
        (self.next_hop != NONE).then_some(NextHopId(self.next_hop))
    }

    pub fn set_next_hop(&mut self, next_hop: Option<NextHopId>) {
        self.next_hop = next_hop.map_or(NONE, |id| id.0);
    }
}

#[derive(Debug, Clone)]
enum Slot {
    Used(Path),
    /// And the next free one.
    Free(u32),
}

/// All path records, and their keys in order.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    slots: Vec<Slot>,
    first_free: u32,
    count: usize,
    pub vpn: BTreeMap<(RouteDistinguisher, IpNet), PathId>,
    pub statics: BTreeMap<Name, BTreeMap<IpNet, PathId>>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { slots: Vec::new(), first_free: NONE, count: 0, vpn: BTreeMap::new(), statics: BTreeMap::new() }
    }
}

impl Paths {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn get(&self, id: PathId) -> Option<&Path> {
        match self.slots.get(id.0 as usize)? {
            Slot::Used(path) => Some(path),
            Slot::Free(_) => None,
        }
    }

    pub fn get_mut(&mut self, id: PathId) -> Option<&mut Path> {
        match self.slots.get_mut(id.0 as usize)? {
            Slot::Used(path) => Some(path),
            Slot::Free(_) => None,
        }
    }

    /// Adds a record, in no list yet.
    pub fn insert(&mut self, path: Path) -> PathId {
        self.count += 1;
        if let Some(slot) = self.slots.get_mut(self.first_free as usize) {
            let id = PathId(self.first_free);
            if let Slot::Free(next) = *slot {
                self.first_free = next;
            }
            *slot = Slot::Used(path);
            return id;
        }
        self.slots.push(Slot::Used(path));
        PathId(self.slots.len() as u32 - 1)
    }

    /// Takes a record out. It must be in no list any more.
    pub fn remove(&mut self, id: PathId) -> Option<Path> {
        let path = *self.get(id)?;
        self.count -= 1;
        self.slots[id.0 as usize] = Slot::Free(self.first_free);
        self.first_free = id.0;
        if self.count == 0 {
            // Nothing refers to any slot: give the memory back.
            self.slots = Vec::new();
            self.first_free = NONE;
        }
        Some(path)
    }

    /// Puts a record at the front of a list.
    pub fn link(&mut self, list: List, head: &mut Head, id: PathId) {
        if let Some(first) = self.get_mut(PathId(head.0)) {
            first.links[list as usize].previous = id.0;
        }
        if let Some(path) = self.get_mut(id) {
            path.links[list as usize] = Links { previous: NONE, next: head.0 };
        }
        head.0 = id.0;
    }

    /// Takes a record out of a list.
    pub fn unlink(&mut self, list: List, head: &mut Head, id: PathId) {
        let Some(path) = self.get_mut(id) else { return };
        let Links { previous, next } = std::mem::replace(&mut path.links[list as usize], UNLINKED);
        match self.get_mut(PathId(previous)) {
            Some(path) => path.links[list as usize].next = next,
            None => head.0 = next,
        }
        if let Some(path) = self.get_mut(PathId(next)) {
            path.links[list as usize].previous = previous;
        }
    }

    /// The records of a list.
    pub fn iter_list(&self, list: List, head: Head) -> impl Iterator<Item = (PathId, &Path)> {
        let at = |id: u32| self.get(PathId(id)).map(|path| (PathId(id), path));
        std::iter::successors(at(head.0), move |(_, path)| at(path.links[list as usize].next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> Path {
        let prefix = "10.0.0.0/8".parse().expect("a prefix");
        Path::new(prefix, Origin::Static(StaticVrfId(0)), NodeId(0), UseId(0), SgSetId::EMPTY)
    }

    proptest! {
        #[test]
        fn lists_hold_what_was_linked(steps in proptest::collection::vec((any::<bool>(), 0usize..8), 1..60)) {
            let mut paths = Paths::default();
            let mut heads = [Head::default(); 2];
            let mut present: Vec<PathId> = Vec::new();
            for (adds, pick) in steps {
                if adds || present.is_empty() {
                    let id = paths.insert(path());
                    paths.link(List::ByNode, &mut heads[0], id);
                    paths.link(List::ByTargets, &mut heads[1], id);
                    prop_assert!(!present.contains(&id));
                    present.push(id);
                } else {
                    let id = present.remove(pick % present.len());
                    paths.unlink(List::ByNode, &mut heads[0], id);
                    paths.unlink(List::ByTargets, &mut heads[1], id);
                    prop_assert!(paths.remove(id).is_some());
                    prop_assert!(paths.remove(id).is_none());
                }
                prop_assert_eq!(paths.len(), present.len());
                for (list, head) in [(List::ByNode, heads[0]), (List::ByTargets, heads[1])] {
                    let mut listed: Vec<PathId> = paths.iter_list(list, head).map(|(id, _)| id).collect();
                    listed.reverse();
                    prop_assert_eq!(&listed, &present);
                }
            }
        }
    }
}
