//! Which VLAN of a port is which interface.
//!
//! Frames with one tag are by far the most, so these have an index: one load,
//! whichever of 4,096 VLANs a frame comes from. Pairs of tags (QinQ) have a hash
//! table.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::tables::port::VlanTags;
use crate::types::InterfaceId;

/// VLAN IDs have 12 bits.
const IDS: usize = 1 << 12;

/// The interfaces of a port's VLANs. Copies are cheap; a change copies what
/// other copies still refer to, at most 16 KiB and the pairs.
#[derive(Debug, Clone, Default)]
pub struct Vlans {
    /// By VLAN ID, of frames with one tag; [`InterfaceId::NONE`] where there
    /// is none.
    single: Option<Arc<[InterfaceId; IDS]>>,
    /// All others.
    others: Arc<HashMap<VlanTags, InterfaceId, RandomState>>,
}

impl Vlans {
    /// The interface of frames with these tags.
    #[inline]
    pub fn get(&self, tags: VlanTags) -> Option<InterfaceId> {
        match tags.single() {
            Some(id) => Some(*self.single.as_ref()?.get(id)?).filter(|found| *found != InterfaceId::NONE),
            None => self.others.get(&tags).copied(),
        }
    }

    /// Gives a VLAN to an interface.
    pub fn insert(&mut self, tags: VlanTags, interface: InterfaceId) {
        match tags.single() {
            Some(id) => {
                let index = self.single.get_or_insert_with(|| Arc::new([InterfaceId::NONE; IDS]));
                Arc::make_mut(index)[id] = interface;
            }
            None => {
                Arc::make_mut(&mut self.others).insert(tags, interface);
            }
        }
    }

    /// Takes a VLAN from its interface.
    pub fn remove(&mut self, tags: VlanTags) {
        match tags.single() {
            Some(id) => {
                let Some(index) = &mut self.single else { return };
                let index = Arc::make_mut(index);
                index[id] = InterfaceId::NONE;
                if index.iter().all(|interface| *interface == InterfaceId::NONE) {
                    self.single = None;
                }
            }
            None => {
                if self.others.contains_key(&tags) {
                    Arc::make_mut(&mut self.others).remove(&tags);
                }
            }
        }
    }

    /// All of them: one tag first, each kind sorted.
    pub fn iter(&self) -> impl Iterator<Item = (VlanTags, InterfaceId)> {
        let single = self.single.iter().flat_map(|index| index.iter().enumerate());
        let single = single
            .filter(|(_, interface)| **interface != InterfaceId::NONE)
            .map(|(id, interface)| (VlanTags { outer: id as u16, inner: 0 }, *interface));
        let mut others: Vec<_> = self.others.iter().map(|(tags, interface)| (*tags, *interface)).collect();
        others.sort_unstable();
        single.chain(others)
    }
}

impl VlanTags {
    /// The VLAN ID of a frame with one tag.
    #[inline]
    fn single(self) -> Option<usize> {
        let id = usize::from(self.outer);
        (self.inner == 0 && id < IDS).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few different ones, so that they meet; some that no frame can have.
    fn tags() -> impl Strategy<Value = VlanTags> {
        let id = || prop_oneof![Just(0u16), 1..5u16, 4090..4100u16, Just(u16::MAX)];
        (id(), prop_oneof![2 => Just(0), 1 => id()]).prop_map(|(outer, inner)| VlanTags { outer, inner })
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_and_old_copies_never_change(
            steps in proptest::collection::vec((tags(), proptest::option::of(0..9u32)), 1..60),
            others in proptest::collection::vec(tags(), 20),
        ) {
            let (mut vlans, mut map) = (Vlans::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (tags, interface) in steps {
                copies.push((vlans.clone(), map.clone()));
                match interface.map(InterfaceId) {
                    Some(interface) => {
                        vlans.insert(tags, interface);
                        map.insert(tags, interface);
                    }
                    None => {
                        vlans.remove(tags);
                        map.remove(&tags);
                    }
                }
            }
            copies.push((vlans, map));
            for (vlans, map) in copies {
                for tags in map.keys().chain(&others) {
                    prop_assert_eq!(vlans.get(*tags), map.get(tags).copied());
                }
                prop_assert_eq!(vlans.iter().count(), map.len());
                prop_assert_eq!(vlans.iter().collect::<BTreeMap<_, _>>(), map);
            }
        }
    }

    #[test]
    fn the_index_goes_with_its_last_vlan() {
        let mut vlans = Vlans::default();
        let tags = VlanTags { outer: 7, inner: 0 };
        vlans.insert(tags, InterfaceId(1));
        assert!(vlans.single.is_some());
        vlans.remove(tags);
        assert!(vlans.single.is_none());
    }
}
