//! What holds between operations, whatever is declared: nothing dangles, and
//! every count is what counting again yields.

use std::collections::{BTreeMap, BTreeSet};

use tieline_engine::tables::Tables;
use tieline_engine::tables::next_hop::NextHop;
use tieline_engine::tables::vrf::FibEntry;
use tieline_engine::types::{InterfaceId, NeighbourId, NextHopId, SgSetId, VrfId};

use super::world::World;
use crate::compile::next_hops::NextHopKey;
use crate::rib::Rib;

pub fn check(world: &World) {
    let World { rib, tables, ports } = world;
    check_tables(tables);
    check_next_hop_users(rib, tables);
    check_sg_sets(rib, tables);
    check_uses(rib);
    check_stateful(rib, tables);
    let open: BTreeSet<usize> = ports.open.iter().map(|id| id.index()).collect();
    assert_eq!(open, tables.ports.iter().map(|(id, _)| id).collect(), "open ports");
    assert!(rib.dirty.prefixes.is_empty() && rib.dirty.bumps.is_empty(), "work left over");
    for (id, node) in rib.nodes.iter() {
        let is_referred = rib.dependents.has(&crate::waits::Target::NextHop(id));
        assert!(
            node.declared.is_some() || !node.paths.is_empty() || is_referred,
            "{} is remembered for nothing",
            node.name
        );
    }
}

/// All FIB entries with their VRF.
fn fib_entries(tables: &Tables) -> Vec<(VrfId, FibEntry)> {
    let mut all = Vec::new();
    for (id, vrf) in tables.vrfs.iter() {
        let id = VrfId(id as u16);
        all.extend(vrf.fib4.iter().map(|(_, _, entry)| (id, entry)));
        all.extend(vrf.fib6.iter().map(|(_, _, entry)| (id, entry)));
    }
    all
}

/// Nothing dangles, and neighbours are used as often as they say.
fn check_tables(tables: &Tables) {
    for (_, entry) in fib_entries(tables) {
        assert!(tables.next_hops.get(entry.next_hop.index()).is_some(), "{entry:?}");
        assert!(tables.sg_sets.get(entry.sg_set.index()).is_some(), "{entry:?}");
    }
    let has_interface = |id: InterfaceId| tables.interfaces.get(id.index()).is_some();
    let mut users: BTreeMap<NeighbourId, u32> = BTreeMap::new();
    for (_, next_hop) in tables.next_hops.iter() {
        match next_hop {
            NextHop::Discard | NextHop::Unusable => {}
            NextHop::Local(id) | NextHop::Connected(id) => assert!(has_interface(*id)),
            NextHop::Neighbour(id) => *users.entry(*id).or_default() += 1,
            NextHop::Vrf(id) => assert!(tables.vrfs.get(id.index()).is_some()),
            NextHop::Tunnel(tunnel) => {
                assert!(has_interface(tunnel.interface));
                *users.entry(tunnel.neighbour).or_default() += 1;
            }
            NextHop::Group(group) => {
                assert!(group.slots().iter().all(|id| tables.next_hops.get(id.index()).is_some()));
            }
        }
    }
    for (id, neighbour) in tables.neighbours.iter() {
        let id = NeighbourId(id as u32);
        assert_eq!(users.remove(&id).unwrap_or(0), neighbour.users, "{neighbour:?}");
        assert!(neighbour.users > 0, "{neighbour:?} is kept for nothing");
        assert!(has_interface(neighbour.interface));
        assert_eq!(tables.neighbour_index.get(&(neighbour.interface, neighbour.address)), Some(&id));
    }
    assert!(users.is_empty(), "neighbours that are gone are used: {users:?}");
    assert_eq!(tables.neighbour_index.len(), tables.neighbours.len());
    for (id, interface) in tables.interfaces.iter() {
        let port = tables.ports.get(interface.port.index()).expect("the interface's port");
        assert_eq!(port.interface(interface.tags), Some(InterfaceId(id as u32)));
        assert!(tables.vrfs.get(interface.vrf.index()).is_some());
    }
    for (_, port) in tables.ports.iter() {
        let of_port = port.tagged.iter().map(|(_, id)| id).chain(port.untagged);
        assert!(of_port.into_iter().all(has_interface));
    }
}

fn check_next_hop_users(rib: &Rib, tables: &Tables) {
    let mut users: BTreeMap<NextHopId, u32> = BTreeMap::new();
    let paths = rib.paths.vpn.values().chain(rib.paths.statics.values().flat_map(|of| of.values()));
    for path in paths.filter_map(|id| rib.paths.get(*id)) {
        if let Some(id) = path.next_hop() {
            *users.entry(id).or_default() += 1;
        }
    }
    for interface in rib.store.interfaces.values() {
        if let Some(compiled) = &interface.compiled {
            let of_claims = compiled.next_hops.iter().map(|(_, id)| id);
            for id in of_claims.chain(&compiled.static_neighbours) {
                *users.entry(*id).or_default() += 1;
            }
        }
    }
    for (_, entry, _) in rib.next_hops.iter() {
        for member in &entry.members {
            *users.entry(*member).or_default() += 1;
        }
    }
    let counted: BTreeMap<NextHopId, u32> = rib.next_hops.iter().map(|(id, _, count)| (id, count)).collect();
    assert_eq!(counted, users, "users of next hops");
    let present: BTreeSet<usize> =
        tables.next_hops.iter().map(|(id, _)| id).filter(|id| *id != NextHopId::DISCARD.index()).collect();
    assert_eq!(present, users.keys().map(|id| id.index()).collect(), "next hops in the tables");

    let mut in_fib: BTreeMap<(NextHopId, VrfId), u32> = BTreeMap::new();
    for (vrf, entry) in fib_entries(tables) {
        *in_fib.entry((entry.next_hop, vrf)).or_default() += 1;
    }
    assert_eq!(rib.next_hops.fib_counts(), &in_fib, "FIB entries by next hop");
}

fn check_sg_sets(rib: &Rib, tables: &Tables) {
    let mut users: BTreeMap<SgSetId, u32> = BTreeMap::new();
    let paths = rib.paths.vpn.values().chain(rib.paths.statics.values().flat_map(|of| of.values()));
    let of_paths = paths.filter_map(|id| rib.paths.get(*id)).map(|path| path.sg_set);
    let of_interfaces = rib.store.interfaces.values().map(|interface| interface.sg_set);
    for id in of_paths.chain(of_interfaces).filter(|id| *id != SgSetId::EMPTY) {
        *users.entry(id).or_default() += 1;
    }
    let counted: BTreeMap<SgSetId, u32> =
        rib.sg_sets.iter().map(|(id, _, count)| (SgSetId(id), count)).collect();
    assert_eq!(counted, users, "users of sets of groups");
    let present: BTreeSet<usize> = tables.sg_sets.iter().map(|(id, _)| id).collect();
    let expected = users.keys().map(|id| id.index()).chain([SgSetId::EMPTY.index()]);
    assert_eq!(present, expected.collect(), "sets of groups in the tables");
    for (id, set, _) in rib.sg_sets.iter() {
        assert_eq!(tables.sg_sets.get(id as usize), Some(set));
    }
    assert!(rib.policies.keys().all(|id| users.contains_key(id)), "policies of sets that are gone");
}

fn check_uses(rib: &Rib) {
    let mut users: BTreeMap<u32, u32> = BTreeMap::new();
    let paths = rib.paths.vpn.values().chain(rib.paths.statics.values().flat_map(|of| of.values()));
    for path in paths.filter_map(|id| rib.paths.get(*id)) {
        *users.entry(path.tunnel_use.0).or_default() += 1;
    }
    for (id, entry, _) in rib.next_hops.iter() {
        if let NextHopKey::Named(node, tunnel_use) = entry.key {
            *users.entry(tunnel_use.0).or_default() += 1;
            assert!(rib.nodes.get(node).is_some_and(|node| node.entries.contains(&id)));
        }
    }
    let counted: BTreeMap<u32, u32> = rib.uses.iter().map(|(id, _, count)| (id, count)).collect();
    assert_eq!(counted, users, "users of labels and VNIs");
}

/// Statefulness straight from its definition.
fn check_stateful(rib: &Rib, tables: &Tables) {
    let mut joined: BTreeSet<(VrfId, VrfId)> = BTreeSet::new();
    for (from, entry) in fib_entries(tables) {
        let mut next_hops = vec![entry.next_hop];
        while let Some(id) = next_hops.pop() {
            match tables.next_hops.get(id.index()) {
                Some(NextHop::Vrf(to)) => joined.extend([(from, *to), (*to, from)]),
                Some(NextHop::Group(group)) => next_hops.extend(group.slots()),
                _ => {}
            }
        }
    }
    let filtered = tables.interfaces.iter().filter(|(_, interface)| interface.policy.is_some());
    let mut stateful: BTreeSet<VrfId> = filtered.map(|(_, interface)| interface.vrf).collect();
    loop {
        let more: BTreeSet<VrfId> =
            joined.iter().filter(|(from, _)| stateful.contains(from)).map(|(_, to)| *to).collect();
        if more.is_subset(&stateful) {
            break;
        }
        stateful.extend(more);
    }
    for (name, id) in rib.vrfs() {
        let vrf = tables.vrfs.get(id.index()).expect("a table");
        assert_eq!(vrf.stateful, stateful.contains(&id), "VRF {name}");
    }
}

/// Nothing is left of anything: as it was at the start.
pub fn check_empty(world: &World) {
    let rib = &world.rib;
    assert_eq!(rib.nodes.iter().count(), 0);
    assert_eq!(rib.paths.len(), 0);
    assert!(rib.imports.is_empty() && rib.dependents.is_empty() && rib.links.is_empty());
    assert_eq!(rib.uses.iter().count() + rib.static_vrfs.iter().count(), 0);
    assert!(rib.policies.is_empty());
    assert!(rib.store.vlans.is_empty() && rib.store.labels.is_empty() && rib.store.vnis.is_empty());
    assert_eq!(rib.store.rules, 0);
}
