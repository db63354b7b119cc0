use super::*;
use crate::attributes::{NodeId, UseId, Vpn};
use crate::controllers::{ControllerId, Mark};
use crate::paths::Path;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tieline_engine::types::{NextHopId, SgSetId};
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

fn target(n: u8) -> RouteTarget {
    RouteTarget::from_bytes([0, 2, 0, 1, 0, 0, 0, n]).expect("a route target")
}

fn rd(n: u8) -> RouteDistinguisher {
    RouteDistinguisher::from_bytes([0, 0, 0, 1, 0, 0, 0, n])
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
    attributes: AttributesTable,
    ids: BTreeMap<(u8, u8), PathId>,
}

fn attributes(vpn: Vpn) -> Attributes {
    Attributes { origin: Origin::Vpn(vpn), node: NodeId(0), tunnel_use: UseId(0), sg_set: SgSetId::EMPTY }
}

fn vpn(n: u8, targets: RtSetId) -> Vpn {
    let controller = ControllerId(0);
    Vpn { controller, rd: rd(n), targets, local_pref: None, med: 0, as_path_length: 0, mobility: 0 }
}

impl Harness {
    fn add(&mut self, key: (u8, u8), targets: &BTreeSet<u8>) {
        let targets = self.imports.acquire_set(&set(targets));
        let attributes = attributes(vpn(key.0, targets));
        let id = self.attributes.find(&attributes).unwrap_or_else(|| self.attributes.insert(attributes));
        self.imports.add_attributes(targets, id);
        let path = self.paths.insert(Path::new(prefix(key.1), id, Mark::default()));
        let shared = self.attributes.get_mut(id).expect("attributes");
        shared.users += 1;
        self.paths.link(&mut shared.paths, path);
        self.imports.add_paths(targets, &[(prefix(key.1), path)]);
        self.ids.insert(key, path);
    }

    fn remove(&mut self, key: (u8, u8)) {
        let Some(id) = self.ids.remove(&key) else { return };
        let attributes = self.paths.get(id).expect("a record").attributes;
        let shared = self.attributes.get_mut(attributes).expect("attributes");
        let Origin::Vpn(vpn) = shared.attributes.origin else { panic!("a VPN path") };
        self.imports.remove_paths(vpn.targets, &[(prefix(key.1), id)]);
        self.paths.unlink(&mut shared.paths, id);
        self.paths.remove(id).expect("a record");
        shared.users -= 1;
        if shared.users == 0 {
            self.attributes.remove(attributes);
            self.imports.remove_attributes(vpn.targets, attributes);
        }
        self.imports.release_set(vpn.targets);
    }

    fn set_vrf(&mut self, vrf: VrfId, import: &[RouteTarget]) {
        self.imports.set_vrf(&self.paths, &self.attributes, vrf, import, |_| {});
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
                    harness.set_vrf(VrfId(vrf), &set(&targets));
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
            harness.set_vrf(VrfId(*vrf), &[]);
        }
        prop_assert!(harness.imports.is_empty());
    }
}

#[test]
fn the_best_of_the_usable_paths_is_chosen_step_by_step() {
    let mut controllers = Controllers::default();
    let first = controllers.add(&Name::new("a").expect("a name"));
    let second = controllers.add(&Name::new("b").expect("a name"));
    let mut paths = Paths::default();
    let mut table = AttributesTable::default();
    let mut imports = Imports::default();
    let targets = imports.acquire_set(&[target(1)]);
    let mut add = |usable: bool, vpn: Vpn| {
        let id = table.insert(attributes(vpn));
        table.get_mut(id).expect("attributes").next_hop = usable.then_some(NextHopId(5));
        paths.insert(Path::new(prefix(0), id, Mark::default()))
    };
    let plain = |n| Vpn { controller: first, ..vpn(n, targets) };
    let waiting = add(false, Vpn { local_pref: Some(900), ..plain(0) });
    let preferred = add(true, Vpn { local_pref: Some(200), med: 50, ..plain(9) });
    let moved_here = add(true, Vpn { mobility: 2, as_path_length: 9, ..plain(9) });
    let moved_away = add(true, Vpn { mobility: 1, ..plain(1) });
    let near = add(true, Vpn { as_path_length: 1, med: 9, ..plain(8) });
    let low_med = add(true, Vpn { as_path_length: 2, med: 1, ..plain(8) });
    let low_rd = add(true, Vpn { as_path_length: 2, med: 2, ..plain(1) });
    let high_rd = add(true, Vpn { as_path_length: 2, med: 2, ..plain(7) });
    let other = add(true, Vpn { as_path_length: 2, med: 2, controller: second, ..plain(7) });
    let mut all = vec![waiting, other, high_rd, low_rd, low_med, near, moved_away, moved_here, preferred];
    for expected in [preferred, moved_here, moved_away, near, low_med, low_rd, high_rd, other] {
        assert_eq!(best(&paths, &table, &controllers, &all).map(|(id, _)| id), Some(expected));
        all.retain(|id| *id != expected);
    }
    assert!(best(&paths, &table, &controllers, &all).is_none(), "what waits is no candidate");
}
