//! What holds between operations, whatever is declared: nothing dangles, and
//! every count is what counting again yields.

use std::collections::{BTreeMap, BTreeSet};

use tieline_engine::tables::Tables;
use tieline_engine::tables::next_hop::NextHop;
use tieline_engine::tables::vrf::FibEntry;
use tieline_engine::types::{InterfaceId, NeighbourId, NextHopId, SgSetId, VrfId};

use super::world::World;
use crate::attributes::{AttributesId, Origin, Shared};
use crate::compile::next_hops::NextHopKey;
use crate::compile::routes::exact;
use crate::controllers::ControllerId;
use crate::holders::Stand;
use crate::ports::DeviceState;
use crate::rib::Rib;

pub fn check(world: &World) {
    let World { rib, tables, .. } = world;
    check_tables(tables);
    check_paths(rib);
    check_choices(rib, tables);
    check_next_hop_users(rib, tables);
    check_sg_sets(rib, tables);
    check_uses(rib);
    check_stateful(rib, tables);
    let open = rib.declared_ports().filter(|port| matches!(port.device, DeviceState::Open(_)));
    let open: BTreeSet<usize> = open.map(|port| port.id.index()).collect();
    assert_eq!(open, tables.ports.iter().map(|(id, _)| id).collect(), "open ports");
    assert!(rib.dirty.prefixes.is_empty() && rib.dirty.bumps.is_empty(), "work left over");
    for (id, node) in rib.nodes.iter() {
        let is_referred = rib.dependents.has(&crate::waits::Target::NextHop(id));
        assert!(
            node.declared.is_some() || !node.attributes.is_empty() || is_referred,
            "{} is remembered for nothing",
            node.name
        );
    }
}

/// Whatever has led there, each VRF forwards by what would be chosen now.
fn check_choices(rib: &Rib, tables: &Tables) {
    for (.., path) in rib.vpn_keys.iter_from(None) {
        let path = rib.paths.get(path).expect("a record");
        let shared = rib.attributes.get(path.attributes).expect("attributes");
        let Origin::Vpn(vpn) = shared.attributes.origin else { panic!("a VPN path: {shared:?}") };
        for vrf in rib.imports.importers(vpn.targets) {
            let table = tables.vrfs.get(vrf.index()).expect("a VRF");
            let chosen = rib.choose(*vrf, path.prefix).map(|(entry, _)| entry);
            assert_eq!(exact(table, path.prefix), chosen, "{} in {vrf:?}", path.prefix);
        }
    }
}

fn all_attributes(rib: &Rib) -> impl Iterator<Item = &Shared> {
    rib.attributes.iter_from(AttributesId(0)).map(|(_, shared)| shared)
}

/// Every key leads to a record, every record is in the list of its attributes,
/// and controllers hold what they say.
fn check_paths(rib: &Rib) {
    let mut users: BTreeMap<AttributesId, usize> = BTreeMap::new();
    let mut held: BTreeMap<ControllerId, (usize, usize)> = BTreeMap::new();
    let mut hold = |by: ControllerId, is_fresh: bool| {
        let counts = held.entry(by).or_default();
        counts.0 += 1;
        counts.1 += usize::from(is_fresh);
    };
    let mut all = BTreeSet::new();
    for (rd, prefix, by, id) in rib.vpn_keys.iter_from(None) {
        let path = rib.paths.get(id).expect("a record");
        let shared = rib.attributes.get(path.attributes).expect("attributes");
        let Origin::Vpn(vpn) = shared.attributes.origin else { panic!("a VPN path: {shared:?}") };
        assert_eq!((vpn.rd, path.prefix, vpn.controller), (rd, prefix, by));
        assert!(all.insert(id));
        *users.entry(path.attributes).or_default() += 1;
        hold(by, path.mark == rib.controllers.mark(by));
    }
    for id in rib.static_keys.values().flat_map(|of| of.values()) {
        let path = rib.paths.get(*id).expect("a record");
        assert!(all.insert(*id));
        *users.entry(path.attributes).or_default() += 1;
    }
    assert_eq!(all.len(), rib.paths.len());
    assert_eq!(users.len(), rib.attributes.len());
    for (id, shared) in rib.attributes.iter_from(AttributesId(0)) {
        assert_eq!(Some(&shared.users), users.get(&id));
        let listed: BTreeSet<_> = rib.paths.iter_list(shared.paths).map(|(id, _)| id).collect();
        assert_eq!(listed.len(), shared.users);
        assert!(listed.is_subset(&all));
        let node = rib.nodes.get(shared.attributes.node).expect("a next hop's name");
        assert!(node.attributes.contains(&id));
        assert_eq!(shared.next_hop.is_some(), node.declared.is_some());
    }
    for key in rib.holders.keys() {
        let holdings = rib.holders.of(key);
        let in_force = holdings.iter().filter(|holding| holding.stand == Stand::InForce).count();
        assert_eq!(in_force, 1, "{key} {holdings:?}");
        let message = rib.message(key).expect("an object in force");
        for holding in holdings {
            hold(holding.by, holding.mark == rib.controllers.mark(holding.by));
            if let Stand::Other(other) = &holding.stand {
                assert_ne!(**other, message);
            }
        }
    }
    for (id, controller) in rib.controllers.iter() {
        let counted = held.get(&id).copied().unwrap_or_default();
        assert_eq!((controller.held, controller.fresh), counted, "{}", controller.name);
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
    for shared in all_attributes(rib) {
        if let Some(id) = shared.next_hop {
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
    let of_paths = all_attributes(rib).map(|shared| shared.attributes.sg_set);
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
    for shared in all_attributes(rib) {
        *users.entry(shared.attributes.tunnel_use.0).or_default() += 1;
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
    assert_eq!(rib.attributes.len(), 0);
    assert!(rib.vpn_keys.is_empty() && rib.static_keys.is_empty());
    assert_eq!(rib.holders.keys().count(), 0);
    assert!(rib.imports.is_empty() && rib.dependents.is_empty() && rib.links.is_empty());
    assert_eq!(rib.uses.iter().count() + rib.static_vrfs.iter().count(), 0);
    assert!(rib.policies.is_empty());
    assert!(rib.store.vlans.is_empty() && rib.store.labels.is_empty() && rib.store.vnis.is_empty());
    assert_eq!(rib.store.rules, 0);
}
