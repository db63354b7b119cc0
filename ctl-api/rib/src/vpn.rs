//! Import of VPN paths by route target, and the choice among those to one
//! prefix.
//!
//! Paths share interned sets of route targets. For each set the importing
//! VRFs are known, so that a path finds its VRFs at once; for each VRF the
//! candidates by prefix are known, so that the best is found without a search.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use tieline_engine::types::VrfId;

use crate::ids::Numbered;
use crate::interner::Interner;
use crate::paths::{Head, List, Origin, Path, PathId, Paths, RtSetId};
use crate::rd::RouteTarget;

/// What is known of one route target.
#[derive(Debug, Clone, Default)]
struct TargetUse {
    /// VRFs that import it.
    vrfs: BTreeSet<VrfId>,
    /// Sets that contain it.
    sets: BTreeSet<RtSetId>,
}

/// What is known of one set of route targets.
#[derive(Debug, Clone, Default)]
struct SetUse {
    /// VRFs that import any of it; sorted.
    importers: Vec<VrfId>,
    paths: Head,
    path_count: usize,
}

/// Who imports what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Imports {
    sets: Interner<Box<[RouteTarget]>>,
    uses: HashMap<RtSetId, SetUse, RandomState>,
    targets: HashMap<RouteTarget, TargetUse, RandomState>,
    vrfs: HashMap<VrfId, VrfImports, RandomState>,
    imported: usize,
}

/// One VRF's side.
#[derive(Debug, Clone, Default)]
struct VrfImports {
    targets: Vec<RouteTarget>,
    candidates: Candidates,
}

impl Imports {
    /// The number of a set, counted once more.
    pub fn acquire_set(&mut self, targets: &[RouteTarget]) -> RtSetId {
        let (id, is_new) = self.sets.acquire_with(targets, || targets.into());
        let id = RtSetId(id);
        if is_new {
            let mut importers: Vec<VrfId> = Vec::new();
            for target in targets {
                let entry = self.targets.entry(*target).or_default();
                entry.sets.insert(id);
                importers.extend(&entry.vrfs);
            }
            importers.sort_unstable();
            importers.dedup();
            self.uses.insert(id, SetUse { importers, ..SetUse::default() });
        }
        id
    }

    /// Counts a set once less.
    pub fn release_set(&mut self, id: RtSetId) {
        if let Some(targets) = self.sets.release(id.0) {
            self.uses.remove(&id);
            for target in targets {
                self.change_target(target, |entry| {
                    entry.sets.remove(&id);
                });
            }
        }
    }

    /// The route targets of a set.
    pub fn set(&self, id: RtSetId) -> &[RouteTarget] {
        self.sets.get(id.0).map_or(&[], |targets| targets)
    }

    /// The VRFs that import a set's paths.
    pub fn importers(&self, id: RtSetId) -> &[VrfId] {
        self.uses.get(&id).map_or(&[], |set| &set.importers)
    }

    /// How many VRFs would import a path with these targets.
    pub fn count_importers(&self, targets: &[RouteTarget]) -> usize {
        let vrfs: BTreeSet<VrfId> = targets
            .iter()
            .filter_map(|target| self.targets.get(target))
            .flat_map(|t| &t.vrfs)
            .copied()
            .collect();
        vrfs.len()
    }

    /// Imports of all VRFs together.
    pub fn imported(&self) -> usize {
        self.imported
    }

    /// How many paths a VRF with these import targets would import.
    pub fn count_paths(&self, import: &[RouteTarget]) -> usize {
        let sets: BTreeSet<RtSetId> = import
            .iter()
            .filter_map(|target| self.targets.get(target))
            .flat_map(|t| &t.sets)
            .copied()
            .collect();
        sets.iter().filter_map(|set| self.uses.get(set)).map(|set| set.path_count).sum()
    }

    /// How many paths a VRF imports now.
    pub fn imported_by(&self, vrf: VrfId) -> usize {
        self.vrfs.get(&vrf).map_or(0, |vrf| self.count_paths(&vrf.targets))
    }

    /// Adds a path to every VRF that imports it; `each` is told which.
    pub fn add_path(&mut self, paths: &mut Paths, id: PathId, mut each: impl FnMut(VrfId)) {
        let Some(&Path { prefix, origin: Origin::Vpn { targets, .. }, .. }) = paths.get(id) else { return };
        let Some(set) = self.uses.get_mut(&targets) else { return };
        paths.link(List::ByTargets, &mut set.paths, id);
        set.path_count += 1;
        self.imported += set.importers.len();
        for vrf in &set.importers {
            if let Some(vrf) = self.vrfs.get_mut(vrf) {
                vrf.candidates.add(prefix, id);
            }
            each(*vrf);
        }
    }

    /// Takes a path out of every VRF that imports it; `each` is told which.
    pub fn remove_path(&mut self, paths: &mut Paths, id: PathId, mut each: impl FnMut(VrfId)) {
        let Some(&Path { prefix, origin: Origin::Vpn { targets, .. }, .. }) = paths.get(id) else { return };
        let Some(set) = self.uses.get_mut(&targets) else { return };
        paths.unlink(List::ByTargets, &mut set.paths, id);
        set.path_count -= 1;
        self.imported -= set.importers.len();
        for vrf in &set.importers {
            if let Some(vrf) = self.vrfs.get_mut(vrf) {
                vrf.candidates.remove(prefix, id);
            }
            each(*vrf);
        }
    }

    /// Sets what a VRF imports; `each` is told the prefixes whose candidates
    /// changed. Looks only at the sets that the difference touches.
    pub fn set_vrf(
        &mut self,
        paths: &Paths,
        vrf: VrfId,
        import: &[RouteTarget],
        mut each: impl FnMut(IpNet),
    ) {
        let mut state = self.vrfs.remove(&vrf).unwrap_or_default();
        let mut touched = BTreeSet::new();
        let old = std::mem::replace(&mut state.targets, import.to_vec());
        for target in old.iter().filter(|target| import.binary_search(target).is_err()) {
            self.change_target(*target, |entry| {
                entry.vrfs.remove(&vrf);
                touched.extend(&entry.sets);
            });
        }
        for target in import.iter().filter(|target| old.binary_search(target).is_err()) {
            let entry = self.targets.entry(*target).or_default();
            entry.vrfs.insert(vrf);
            touched.extend(&entry.sets);
        }
        for id in touched {
            let imports = self.set(id).iter().any(|target| import.binary_search(target).is_ok());
            let Some(set) = self.uses.get_mut(&id) else { continue };
            match (imports, set.importers.binary_search(&vrf)) {
                (true, Err(at)) => set.importers.insert(at, vrf),
                (false, Ok(at)) => {
                    set.importers.remove(at);
                }
                _ => continue,
            }
            if imports {
                self.imported += set.path_count;
            } else {
                self.imported -= set.path_count;
            }
            for (path, record) in paths.iter_list(List::ByTargets, set.paths) {
                if imports {
                    state.candidates.add(record.prefix, path);
                } else {
                    state.candidates.remove(record.prefix, path);
                }
                each(record.prefix);
            }
        }
        if !import.is_empty() {
            self.vrfs.insert(vrf, state);
        }
    }

    /// The VPN paths to a prefix in a VRF.
    pub fn candidates(&self, vrf: VrfId, prefix: IpNet) -> &[PathId] {
        self.vrfs.get(&vrf).map_or(&[], |vrf| vrf.candidates.get(prefix))
    }

    /// Forgets a route target that nothing uses after `change`.
    fn change_target(&mut self, target: RouteTarget, change: impl FnOnce(&mut TargetUse)) {
        let Some(entry) = self.targets.get_mut(&target) else { return };
        change(entry);
        if entry.vrfs.is_empty() && entry.sets.is_empty() {
            self.targets.remove(&target);
        }
    }

    /// Whether nothing is imported, exported or remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty() && self.targets.is_empty() && self.vrfs.is_empty() && self.imported == 0
    }
}

/// The best of several paths that can be used: highest local preference, then
/// lowest MED, then lowest route distinguisher.
pub(crate) fn best<'a>(paths: &'a Paths, candidates: &[PathId]) -> Option<(PathId, &'a Path)> {
    candidates
        .iter()
        .filter_map(|id| Some((*id, paths.get(*id)?)))
        .filter(|(_, path)| path.next_hop().is_some())
        .max_by_key(|(_, path)| {
            let rd = match path.origin {
                Origin::Vpn { rd, .. } => Some(rd),
                Origin::Static(_) => None,
            };
            (path.local_pref, Reverse(path.med), Reverse(rd))
        })
}

/// VPN paths of one VRF by prefix.
#[derive(Debug, Clone, Default)]
struct Candidates {
    by_prefix: HashMap<IpNet, Few, RandomState>,
    several: Numbered<Vec<PathId>>,
}

/// One path, or the number of a list of several.
#[derive(Debug, Clone, Copy)]
enum Few {
    One(PathId),
    Several(u32),
}

impl Candidates {
    fn get(&self, prefix: IpNet) -> &[PathId] {
        match self.by_prefix.get(&prefix) {
            None => &[],
            Some(Few::One(id)) => std::slice::from_ref(id),
            Some(Few::Several(list)) => self.several.get(*list).map_or(&[], |list| list),
        }
    }

    fn add(&mut self, prefix: IpNet, id: PathId) {
        let Some(few) = self.by_prefix.get_mut(&prefix) else {
            self.by_prefix.insert(prefix, Few::One(id));
            return;
        };
        match *few {
            Few::One(first) => *few = Few::Several(self.several.insert(vec![first, id])),
            Few::Several(list) => {
                if let Some(list) = self.several.get_mut(list) {
                    list.push(id);
                }
            }
        }
    }

    fn remove(&mut self, prefix: IpNet, id: PathId) {
        match self.by_prefix.get_mut(&prefix) {
            None => {}
            Some(Few::One(_)) => {
                self.by_prefix.remove(&prefix);
                // Give memory back when most of it is unused.
                if self.by_prefix.capacity() > 64 && self.by_prefix.len() < self.by_prefix.capacity() / 8 {
                    self.by_prefix.shrink_to_fit();
                }
            }
            Some(few) => {
                let Few::Several(number) = *few else { return };
                let Some(list) = self.several.get_mut(number) else { return };
                list.retain(|present| *present != id);
                if let [only] = list[..] {
                    *few = Few::One(only);
                    self.several.remove(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
