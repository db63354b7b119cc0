//! Declared routes as compact records: VPN paths and static routes alike.
//!
//! A record is a prefix and the number of its attributes. A list runs through
//! the records with the same attributes, so that a change of these finds its
//! routes without an index.

use ipnet::IpNet;

use crate::attributes::AttributesId;
use crate::controllers::Mark;

/// A path record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathId(pub u32);

/// No record.
const NONE: u32 = u32::MAX;

/// A declared route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub prefix: IpNet,
    pub attributes: AttributesId,
    /// Of a VPN path: when it was last declared. (Static routes are objects;
    /// their holders are kept elsewhere.)
    pub mark: Mark,
    links: Links,
}

/// Neighbours in the list.
#[derive(Debug, Clone, Copy)]
struct Links {
    previous: u32,
    next: u32,
}

const UNLINKED: Links = Links { previous: NONE, next: NONE };

/// The first record of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head(u32);

impl Default for Head {
    fn default() -> Self {
        Self(NONE)
    }
}

impl Path {
    pub fn new(prefix: IpNet, attributes: AttributesId, mark: Mark) -> Self {
        Self { prefix, attributes, mark, links: UNLINKED }
    }
}

#[derive(Debug, Clone)]
enum Slot {
    Used(Path),
    /// And the next free one.
    Free(u32),
}

/// All path records. Their keys are in [`route_keys`](crate::route_keys).
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    slots: Vec<Slot>,
    first_free: u32,
    count: usize,
}

impl Default for Paths {
    fn default() -> Self {
        Self { slots: Vec::new(), first_free: NONE, count: 0 }
    }
}

impl Paths {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Memory for so many more, at once.
    pub fn reserve(&mut self, count: usize) {
        if self.first_free == NONE {
            self.slots.reserve(count);
        }
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
    pub fn link(&mut self, head: &mut Head, id: PathId) {
        if let Some(first) = self.get_mut(PathId(head.0)) {
            first.links.previous = id.0;
        }
        if let Some(path) = self.get_mut(id) {
            path.links = Links { previous: NONE, next: head.0 };
        }
        head.0 = id.0;
    }

    /// Takes a record out of a list.
    pub fn unlink(&mut self, head: &mut Head, id: PathId) {
        let Some(path) = self.get_mut(id) else { return };
        let Links { previous, next } = std::mem::replace(&mut path.links, UNLINKED);
        match self.get_mut(PathId(previous)) {
            Some(path) => path.links.next = next,
            None => head.0 = next,
        }
        if let Some(path) = self.get_mut(PathId(next)) {
            path.links.previous = previous;
        }
    }

    /// The records of a list.
    pub fn iter_list(&self, head: Head) -> impl Iterator<Item = (PathId, &Path)> {
        let at = |id: u32| self.get(PathId(id)).map(|path| (PathId(id), path));
        std::iter::successors(at(head.0), move |(_, path)| at(path.links.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> Path {
        Path::new("10.0.0.0/8".parse().expect("a prefix"), AttributesId(0), Mark(0))
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(std::mem::size_of::<Slot>(), 36);
    }

    proptest! {
        #[test]
        fn a_list_holds_what_was_linked(steps in proptest::collection::vec((any::<bool>(), 0usize..8), 1..60)) {
            let mut paths = Paths::default();
            let mut head = Head::default();
            let mut present: Vec<PathId> = Vec::new();
            for (adds, pick) in steps {
                if adds || present.is_empty() {
                    let id = paths.insert(path());
                    paths.link(&mut head, id);
                    prop_assert!(!present.contains(&id));
                    present.push(id);
                } else {
                    let id = present.remove(pick % present.len());
                    paths.unlink(&mut head, id);
                    prop_assert!(paths.remove(id).is_some());
                    prop_assert!(paths.remove(id).is_none());
                }
                prop_assert_eq!(paths.len(), present.len());
                let mut listed: Vec<PathId> = paths.iter_list(head).map(|(id, _)| id).collect();
                listed.reverse();
                prop_assert_eq!(&listed, &present);
            }
        }
    }
}
