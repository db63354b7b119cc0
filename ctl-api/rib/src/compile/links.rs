//! Which VRF leads to which, and which VRFs therefore remember sessions.

use std::collections::{BTreeMap, BTreeSet};

use tieline_engine::tables::Tables;
use tieline_engine::types::VrfId;

use crate::compile::next_hops::Resolution;
use crate::rib::Rib;
use crate::waits::Target;

/// What is derived from all VRFs together.
#[derive(Debug, Clone, Default)]
pub(crate) struct VrfLinks {
    /// (to, from): a route of `from` leads into `to`.
    edges: BTreeSet<(VrfId, VrfId)>,
    /// Interfaces in force that have a policy, by VRF.
    filtered: BTreeMap<VrfId, u32>,
    /// Generations of VRFs that were deleted: whoever gets the number next
    /// continues from there, so that no session survives.
    retired: BTreeMap<VrfId, u32>,
}

impl VrfLinks {
    /// The VRFs and those that lead into them in one step; a packet takes no
    /// second one.
    pub fn with_sources(&self, vrfs: BTreeSet<VrfId>) -> BTreeSet<VrfId> {
        if self.edges.is_empty() {
            return vrfs;
        }
        let mut all = vrfs.clone();
        for vrf in vrfs {
            all.extend(self.edges.range((vrf, VrfId(0))..=(vrf, VrfId(u16::MAX))).map(|(_, from)| *from));
        }
        all
    }

    /// Counts an interface with a policy. True if it is the VRF's first.
    pub fn add_filtered(&mut self, vrf: VrfId) -> bool {
        let count = self.filtered.entry(vrf).or_default();
        *count += 1;
        *count == 1
    }

    /// Counts an interface with a policy less. True if it was the last.
    pub fn remove_filtered(&mut self, vrf: VrfId) -> bool {
        let Some(count) = self.filtered.get_mut(&vrf) else { return false };
        *count -= 1;
        let was_last = *count == 0;
        if was_last {
            self.filtered.remove(&vrf);
        }
        was_last
    }

    /// Remembers the generation of a VRF that goes.
    pub fn retire(&mut self, vrf: VrfId, generation: u32) {
        self.retired.insert(vrf, generation);
    }

    /// The generation of a VRF that comes.
    pub fn first_generation(&mut self, vrf: VrfId) -> u32 {
        self.retired.remove(&vrf).map_or(0, |generation| generation.wrapping_add(1))
    }

    /// All VRFs whose packets can meet a policy: those with one, and those
    /// joined to such a VRF in either direction, over any number of steps.
    fn stateful(&self) -> BTreeSet<VrfId> {
        let mut joined: BTreeMap<VrfId, Vec<VrfId>> = BTreeMap::new();
        for (to, from) in &self.edges {
            joined.entry(*to).or_default().push(*from);
            joined.entry(*from).or_default().push(*to);
        }
        let mut stateful: BTreeSet<VrfId> = self.filtered.keys().copied().collect();
        let mut next: Vec<VrfId> = stateful.iter().copied().collect();
        while let Some(vrf) = next.pop() {
            for other in joined.get(&vrf).into_iter().flatten() {
                if stateful.insert(*other) {
                    next.push(*other);
                }
            }
        }
        stateful
    }

    /// Whether nothing leads anywhere and nothing is filtered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty() && self.filtered.is_empty()
    }
}

impl Rib {
    /// Derives again what changed among the VRFs.
    pub(crate) fn settle_links(&mut self, tables: &mut Tables) {
        if std::mem::take(&mut self.dirty.links) {
            let edges = self.vrf_edges();
            if edges != self.links.edges {
                self.links.edges = edges;
                self.dirty.stateful = true;
            }
        }
        if !std::mem::take(&mut self.dirty.stateful) {
            return;
        }
        let stateful = self.links.stateful();
        let changed: Vec<(VrfId, bool)> = self
            .vrfs()
            .map(|(_, id)| (id, stateful.contains(&id)))
            .filter(|(id, now)| tables.vrfs.get(id.index()).is_some_and(|vrf| vrf.stateful != *now))
            .collect();
        for (id, now) in changed {
            if let Some(vrf) = tables.vrfs.get_mut(id.index()) {
                vrf.stateful = now;
                self.dirty.bumps.insert(id);
            }
        }
    }

    /// (to, from) for every route that leads into another VRF, by itself or
    /// through a group.
    fn vrf_edges(&self) -> BTreeSet<(VrfId, VrfId)> {
        let mut edges = BTreeSet::new();
        for (id, to) in self.next_hops.leading_into_vrfs() {
            edges.extend(self.next_hops.vrfs_using(id).map(|from| (to, from)));
            let Some(node) = self.next_hops.node(id) else { continue };
            let groups = self.dependents.next_hops(&Target::NextHop(node));
            for group in groups.iter().filter_map(|group| self.nodes.get(*group)) {
                for group_entry in &group.entries {
                    let Some(Resolution::Group(slots)) = self.next_hops.resolution(*group_entry) else {
                        continue;
                    };
                    if slots.iter().any(|(member, _)| *member == id) {
                        edges.extend(self.next_hops.vrfs_using(*group_entry).map(|from| (to, from)));
                    }
                }
            }
        }
        edges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_spreads_over_links_in_both_directions() {
        let mut links = VrfLinks::default();
        let link = |from: u16, to: u16| (VrfId(to), VrfId(from));
        links.edges = BTreeSet::from([link(1, 2), link(3, 2), link(4, 5)]);
        assert!(links.stateful().is_empty());
        assert!(links.add_filtered(VrfId(1)) && !links.add_filtered(VrfId(1)));
        assert_eq!(links.stateful(), BTreeSet::from([VrfId(1), VrfId(2), VrfId(3)]));
        assert!(!links.remove_filtered(VrfId(1)) && links.remove_filtered(VrfId(1)));
        assert!(links.stateful().is_empty());
        let touched = links.with_sources(BTreeSet::from([VrfId(2)]));
        assert_eq!(touched, BTreeSet::from([VrfId(1), VrfId(2), VrfId(3)]));
        assert_eq!(links.with_sources(BTreeSet::from([VrfId(4)])), BTreeSet::from([VrfId(4)]));
    }
}
