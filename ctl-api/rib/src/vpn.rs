//! Import of VPN paths by route target, and the choice among those to one
//! prefix.
//!
//! Paths share attributes, and attributes share interned sets of route targets.
//! For each set the importing VRFs are known, so that a path finds its VRFs at
//! once; for each VRF the candidates by prefix are known, so that the best is
//! found without a search.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use tieline_engine::types::VrfId;

use crate::attributes::{Attributes, AttributesId, AttributesTable, Origin, RtSetId, Shared};
use crate::controllers::Controllers;
use crate::ids::Numbered;
use crate::interner::Interner;
use crate::paths::{PathId, Paths};
use crate::spec::route::DEFAULT_LOCAL_PREF;
use tieline_names::RouteTarget;

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
    /// Attributes with it that are counted among the importers' paths.
    attributes: BTreeSet<AttributesId>,
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

    /// Paths with these attributes can come from now on.
    pub fn add_attributes(&mut self, targets: RtSetId, id: AttributesId) {
        if let Some(set) = self.uses.get_mut(&targets) {
            set.attributes.insert(id);
        }
    }

    /// There are no more paths with these attributes.
    pub fn remove_attributes(&mut self, targets: RtSetId, id: AttributesId) {
        if let Some(set) = self.uses.get_mut(&targets) {
            set.attributes.remove(&id);
        }
    }

    /// Adds paths with one set of route targets to every VRF that imports them.
    pub fn add_paths(&mut self, targets: RtSetId, paths: &[(IpNet, PathId)]) {
        let Some(set) = self.uses.get_mut(&targets) else { return };
        set.path_count += paths.len();
        self.imported += set.importers.len() * paths.len();
        for vrf in &set.importers {
            let Some(vrf) = self.vrfs.get_mut(vrf) else { continue };
            for (prefix, id) in paths {
                vrf.candidates.add(*prefix, *id);
            }
        }
    }

    /// Takes paths with one set of route targets out of every VRF that imports
    /// them.
    pub fn remove_paths(&mut self, targets: RtSetId, paths: &[(IpNet, PathId)]) {
        let Some(set) = self.uses.get_mut(&targets) else { return };
        set.path_count -= paths.len();
        self.imported -= set.importers.len() * paths.len();
        for vrf in &set.importers {
            let Some(vrf) = self.vrfs.get_mut(vrf) else { continue };
            for (prefix, id) in paths {
                vrf.candidates.remove(*prefix, *id);
            }
            vrf.candidates.give_memory_back();
        }
    }

    /// Sets what a VRF imports; `each` is told the prefixes whose candidates
    /// changed. Looks only at the sets that the difference touches.
    pub fn set_vrf(
        &mut self,
        paths: &Paths,
        attributes: &AttributesTable,
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
                (true, Err(at)) => {
                    set.importers.insert(at, vrf);
                    self.imported += set.path_count;
                }
                (false, Ok(at)) => {
                    set.importers.remove(at);
                    self.imported -= set.path_count;
                }
                _ => continue,
            }
            let heads = set.attributes.iter().filter_map(|id| Some(attributes.get(*id)?.paths));
            for (path, record) in heads.flat_map(|head| paths.iter_list(head)) {
                if imports {
                    state.candidates.add(record.prefix, path);
                } else {
                    state.candidates.remove(record.prefix, path);
                }
                each(record.prefix);
            }
        }
        if !import.is_empty() {
            state.candidates.give_memory_back();
            self.vrfs.insert(vrf, state);
        }
    }

    /// The VPN paths of a VRF.
    pub fn candidates_of(&self, vrf: VrfId) -> Option<&Candidates> {
        self.vrfs.get(&vrf).map(|vrf| &vrf.candidates)
    }

    /// The VPN paths to a prefix in a VRF.
    pub fn candidates(&self, vrf: VrfId, prefix: IpNet) -> &[PathId] {
        self.candidates_of(vrf).map_or(&[], |candidates| candidates.get(prefix))
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

/// The best of several paths that can be used.
///
/// Highest local preference; then, of a host that moves, the latest place (it
/// counts before the length of the AS path, as in RFC 7432 section 15: the old
/// place may be nearer, but the host is not there); then the shortest AS path,
/// the lowest MED, the lowest route distinguisher, the controller that counts
/// before the others.
///
/// Of a route that several controllers declare, what is stale counts only where
/// nobody has declared it since: who has gone did not hear what changed.
pub(crate) fn best<'a>(
    paths: &Paths,
    table: &'a AttributesTable,
    controllers: &Controllers,
    candidates: &[PathId],
) -> Option<(PathId, &'a Shared)> {
    let usable = |id: &PathId| {
        let shared = table.get(paths.get(*id)?.attributes)?;
        shared.next_hop.is_some().then_some((*id, shared))
    };
    if let [only] = candidates {
        return usable(only);
    }
    let distinguisher = |shared: &Shared| match shared.attributes.origin {
        Origin::Vpn(vpn) => Some(vpn.rd),
        Origin::Static(_) => None,
    };
    let is_stale = |id: PathId, shared: &Shared| match shared.attributes.origin {
        Origin::Vpn(vpn) => paths.get(id).is_some_and(|path| path.mark != controllers.mark(vpn.controller)),
        Origin::Static(_) => false,
    };
    let is_superseded = |(id, shared): &(PathId, &Shared)| {
        is_stale(*id, shared)
            && candidates.iter().filter_map(usable).any(|(other, theirs)| {
                distinguisher(theirs) == distinguisher(shared) && !is_stale(other, theirs)
            })
    };
    let counting = candidates.iter().filter_map(usable).filter(|path| !is_superseded(path));
    counting.max_by(|(_, one), (_, other)| {
        let rank = |shared: &Shared| rank(&shared.attributes);
        let precedence = |shared: &Shared| match shared.attributes.origin {
            Origin::Vpn(vpn) => controllers.precedence(vpn.controller),
            Origin::Static(_) => None,
        };
        rank(one).cmp(&rank(other)).then_with(|| precedence(other).cmp(&precedence(one)))
    })
}

/// Larger is better, as far as numbers decide.
fn rank(attributes: &Attributes) -> impl Ord + use<> {
    match attributes.origin {
        Origin::Vpn(vpn) => Some((
            vpn.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            vpn.mobility,
            Reverse((vpn.as_path_length, vpn.med, vpn.rd)),
        )),
        Origin::Static(_) => None,
    }
}

/// VPN paths of one VRF by prefix.
#[derive(Debug, Clone, Default)]
pub(crate) struct Candidates {
    v4: HashMap<u64, Few, RandomState>,
    v6: HashMap<(u128, u8), Few, RandomState>,
    several: Numbered<Vec<PathId>>,
}

/// One path, or the number of a list of several.
#[derive(Debug, Clone, Copy)]
enum Few {
    One(PathId),
    Several(u32),
}

/// A change of the paths to one prefix.
trait Places<K> {
    fn add(&mut self, key: K, id: PathId, several: &mut Numbered<Vec<PathId>>);
    fn remove(&mut self, key: K, id: PathId, several: &mut Numbered<Vec<PathId>>);
    fn give_memory_back(&mut self);
}

impl<K: std::hash::Hash + Eq> Places<K> for HashMap<K, Few, RandomState> {
    fn add(&mut self, key: K, id: PathId, several: &mut Numbered<Vec<PathId>>) {
        match self.entry(key) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Few::One(id));
            }
            std::collections::hash_map::Entry::Occupied(mut entry) => match *entry.get() {
                Few::One(first) => {
                    entry.insert(Few::Several(several.insert(vec![first, id])));
                }
                Few::Several(list) => {
                    if let Some(list) = several.get_mut(list) {
                        list.push(id);
                    }
                }
            },
        }
    }

    fn remove(&mut self, key: K, id: PathId, several: &mut Numbered<Vec<PathId>>) {
        match self.get_mut(&key) {
            None => {}
            Some(Few::One(_)) => {
                HashMap::remove(self, &key);
            }
            Some(few) => {
                let Few::Several(number) = *few else { return };
                let Some(list) = several.get_mut(number) else { return };
                list.retain(|present| *present != id);
                if let [only] = list[..] {
                    *few = Few::One(only);
                    several.remove(number);
                }
            }
        }
    }

    fn give_memory_back(&mut self) {
        if self.capacity() > 64 && self.len() < self.capacity() / 8 {
            self.shrink_to_fit();
        }
    }
}

impl Candidates {
    pub fn get(&self, prefix: IpNet) -> &[PathId] {
        let few = match prefix {
            IpNet::V4(net) => self.v4.get(&key4(net)),
            IpNet::V6(net) => self.v6.get(&key6(net)),
        };
        match few {
            None => &[],
            Some(Few::One(id)) => std::slice::from_ref(id),
            Some(Few::Several(list)) => self.several.get(*list).map_or(&[], |list| list),
        }
    }

    fn add(&mut self, prefix: IpNet, id: PathId) {
        match prefix {
            IpNet::V4(net) => self.v4.add(key4(net), id, &mut self.several),
            IpNet::V6(net) => self.v6.add(key6(net), id, &mut self.several),
        }
    }

    fn remove(&mut self, prefix: IpNet, id: PathId) {
        match prefix {
            IpNet::V4(net) => Places::remove(&mut self.v4, key4(net), id, &mut self.several),
            IpNet::V6(net) => Places::remove(&mut self.v6, key6(net), id, &mut self.several),
        }
    }

    /// When most of it is unused.
    fn give_memory_back(&mut self) {
        self.v4.give_memory_back();
        self.v6.give_memory_back();
    }
}

fn key4(net: ipnet::Ipv4Net) -> u64 {
    u64::from(u32::from(net.addr())) << 8 | u64::from(net.prefix_len())
}

fn key6(net: ipnet::Ipv6Net) -> (u128, u8) {
    (u128::from(net.addr()), net.prefix_len())
}

#[cfg(test)]
mod tests;
