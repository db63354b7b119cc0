use super::*;
use crate::paths::{NodeId, UseId};
use crate::rd::RouteDistinguisher;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tieline_engine::types::{NextHopId, SgSetId};

fn target(n: u8) -> RouteTarget {
    RouteTarget::from_bytes([0, 2, 0, 1, 0, 0, 0, n]).expect("a route target")
}

fn rd(n: u8) -> RouteDistinguisher {
    RouteDistinguisher::from_bytes([0, 0, 0, 1, 0, 0, 0, n]).expect("a route distinguisher")
}

fn prefix(n: u8) -> IpNet {
    format!("10.{n}.0.0/16").parse().expect("a prefix")
}

#[derive(Debug, Clone)]
enum Step {
    Vrf(u16, BTreeSet<u8>),
    Add(u8, u8, BTreeSet<u8>),
    Remove(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let targets = || proptest::collection::btree_set(0u8..5, 0..4);
    prop_oneof![
        (1u16..4, targets()).prop_map(|(vrf, targets)| Step::Vrf(vrf, targets)),
        (0u8..4, 0u8..4, targets()).prop_map(|(rd, prefix, targets)| Step::Add(rd, prefix, targets)),
        (0u8..4, 0u8..4).prop_map(|(rd, prefix)| Step::Remove(rd, prefix)),
    ]
}

fn set(targets: &BTreeSet<u8>) -> Vec<RouteTarget> {
    targets.iter().copied().map(target).collect()
}

/// The RIB's part of what follows: paths by key.
#[derive(Default)]
struct Harness {
    imports: Imports,
    paths: Paths,
    ids: BTreeMap<(u8, u8), PathId>,
}

impl Harness {
    fn add(&mut self, key: (u8, u8), targets: &BTreeSet<u8>) {
        let targets = self.imports.acquire_set(&set(targets));
        let origin = Origin::Vpn { rd: rd(key.0), targets };
        let path = Path::new(prefix(key.1), origin, NodeId(0), UseId(0), SgSetId::EMPTY);
        let id = self.paths.insert(path);
        self.imports.add_path(&mut self.paths, id, |_| {});
        self.ids.insert(key, id);
    }

    fn remove(&mut self, key: (u8, u8)) {
        let Some(id) = self.ids.remove(&key) else { return };
        self.imports.remove_path(&mut self.paths, id, |_| {});
        let path = self.paths.remove(id).expect("a record");
        let Origin::Vpn { targets, .. } = path.origin else { panic!("a VPN path") };
        self.imports.release_set(targets);
    }
}

proptest! {
    #[test]
    fn a_path_is_where_its_route_targets_are_imported(steps in proptest::collection::vec(step(), 1..40)) {
        let mut harness = Harness::default();
        let mut vrfs: BTreeMap<u16, BTreeSet<u8>> = BTreeMap::new();
        let mut declared: BTreeMap<(u8, u8), BTreeSet<u8>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Vrf(vrf, targets) => {
                    harness.imports.set_vrf(&harness.paths, VrfId(vrf), &set(&targets), |_| {});
                    vrfs.insert(vrf, targets);
                }
                Step::Add(rd, prefix, targets) => {
                    harness.remove((rd, prefix));
                    harness.add((rd, prefix), &targets);
                    declared.insert((rd, prefix), targets);
                }
                Step::Remove(rd, prefix) => {
                    harness.remove((rd, prefix));
                    declared.remove(&(rd, prefix));
                }
            }
            let mut total = 0;
            for (vrf, import) in &vrfs {
                let lands = |targets: &BTreeSet<u8>| !targets.is_disjoint(import);
                for p in 0..4 {
                    let found: BTreeSet<PathId> =
                        harness.imports.candidates(VrfId(*vrf), prefix(p)).iter().copied().collect();
                    let expected: BTreeSet<PathId> = declared
                        .iter()
                        .filter(|((_, at), targets)| *at == p && lands(targets))
                        .map(|(key, _)| harness.ids[key])
                        .collect();
                    total += expected.len();
                    prop_assert_eq!(found, expected);
                }
                let imported = declared.values().filter(|targets| lands(targets)).count();
                prop_assert_eq!(harness.imports.imported_by(VrfId(*vrf)), imported);
            }
            prop_assert_eq!(harness.imports.imported(), total);
        }
        for key in declared.keys() {
            harness.remove(*key);
        }
        for vrf in vrfs.keys() {
            harness.imports.set_vrf(&harness.paths, VrfId(*vrf), &[], |_| {});
        }
        prop_assert!(harness.imports.is_empty());
    }
}

#[test]
fn preference_then_med_then_distinguisher_decide_among_usable_paths() {
    let mut paths = Paths::default();
    let mut imports = Imports::default();
    let targets = imports.acquire_set(&[target(1)]);
    let mut add = |n: u8, local_pref: u32, med: u32, usable: bool| {
        let origin = Origin::Vpn { rd: rd(n), targets };
        let mut path = Path::new(prefix(0), origin, NodeId(0), UseId(0), SgSetId::EMPTY);
        path.local_pref = local_pref;
        path.med = med;
        path.set_next_hop(usable.then_some(NextHopId(5)));
        paths.insert(path)
    };
    let waiting = add(0, 900, 0, false);
    let preferred = add(9, 200, 50, true);
    let low_med = add(8, 100, 1, true);
    let high_med = add(1, 100, 2, true);
    let high_rd = add(7, 100, 2, true);
    let mut all = vec![waiting, high_rd, high_med, low_med, preferred];
    for expected in [preferred, low_med, high_med, high_rd] {
        assert_eq!(best(&paths, &all).map(|(id, _)| id), Some(expected));
        all.retain(|id| *id != expected);
    }
    assert!(best(&paths, &all).is_none(), "what waits is no candidate");
}
