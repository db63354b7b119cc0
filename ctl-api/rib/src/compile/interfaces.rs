//! Interfaces in force: those whose VRF exists, and whose port has its device.

use std::sync::Arc;

use tieline_engine::tables::Tables;
use tieline_engine::tables::interface::Interface;
use tieline_engine::tables::neighbour::{EthernetHeader, NeighbourState};
use tieline_engine::tables::port::VlanTags;
use tieline_engine::types::{InterfaceId, MacAddr, NeighbourId, PortId};

use crate::compile::next_hops::NextHopKey;
use crate::compile::routes::claim_key;
use crate::rib::Rib;
use crate::spec::interface::ClaimKind;
use crate::store::Compiled;
use crate::waits::Target;
use tieline_names::Name;

impl Rib {
    /// Puts an interface into the tables if what it needs exists.
    pub(crate) fn compile_interface(&mut self, name: &str, tables: &mut Tables) {
        let Some(declared) = self.store.interfaces.get(name) else { return };
        let spec = Arc::clone(&declared.spec);
        let (id, sg_set) = (declared.id, declared.sg_set);
        let Some(port) = self.store.ports.get(&spec.port) else { return };
        let Some(device) = port.open() else { return };
        let Some(vrf) = self.vrf_id(spec.vrf.as_str()) else { return };
        let port_id = port.id;
        let entry = Interface {
            port: port_id,
            tags: spec.tags,
            vrf,
            mac: spec.local_mac.unwrap_or(device.mac),
            mtu: spec.mtu.unwrap_or(device.mtu).min(device.mtu),
            local_addresses: spec.local_addresses.as_slice().into(),
            policy: self.policy(sg_set),
            sources: spec.sources(),
            tunnel_sources: spec.tunnel_sources(),
        };
        if entry.policy.is_some() && self.links.add_filtered(vrf) {
            self.dirty.stateful = true;
        }
        tables.interfaces.insert(id.index(), entry);
        attach(port_id, spec.tags, id, tables);
        let mut next_hops = Vec::new();
        for (prefix, kind) in spec.claims() {
            next_hops.push((prefix, self.acquire_next_hop(claim_key(id, kind, prefix), tables)));
            self.dirty.prefixes.push((vrf, prefix));
            if kind != ClaimKind::Local {
                continue;
            }
            if spec.is_underlay() {
                Arc::make_mut(&mut tables.underlay_addresses).insert(prefix.addr());
            } else if let Some(vrf) = tables.vrfs.get_mut(vrf.index()) {
                vrf.own_addresses.insert(prefix.addr());
            }
        }
        let neighbours = spec.static_neighbours.keys();
        let static_neighbours = neighbours
            .map(|address| self.acquire_next_hop(NextHopKey::Neighbour(id, *address), tables))
            .collect();
        if let Some(declared) = self.store.interfaces.get_mut(name) {
            declared.compiled = Some(Compiled { port: port_id, vrf, next_hops, static_neighbours });
        }
        self.note_interface(&spec.name, spec.is_underlay());
        self.dirty.bumps.insert(vrf);
    }

    /// Takes an interface out of the tables; it waits from now on.
    pub(crate) fn uncompile_interface(&mut self, name: &str, tables: &mut Tables) {
        let Some(declared) = self.store.interfaces.get_mut(name) else { return };
        let Some(compiled) = declared.compiled.take() else { return };
        let spec = Arc::clone(&declared.spec);
        let id = declared.id;
        detach(compiled.port, spec.tags, id, tables);
        let entry = tables.interfaces.remove(id.index());
        if entry.is_some_and(|entry| entry.policy.is_some()) && self.links.remove_filtered(compiled.vrf) {
            self.dirty.stateful = true;
        }
        for (prefix, next_hop) in compiled.next_hops {
            self.release_next_hop(next_hop);
            self.dirty.prefixes.push((compiled.vrf, prefix));
        }
        for local in &spec.local_addresses {
            if spec.is_underlay() {
                Arc::make_mut(&mut tables.underlay_addresses).remove(&local.addr());
            } else if let Some(vrf) = tables.vrfs.get_mut(compiled.vrf.index()) {
                vrf.own_addresses.remove(local.addr());
            }
        }
        for next_hop in compiled.static_neighbours {
            self.release_next_hop(next_hop);
        }
        self.note_interface(&spec.name, spec.is_underlay());
        self.dirty.bumps.insert(compiled.vrf);
        self.dirty.gone_interfaces.push(id);
    }

    /// Notes who looks at an interface.
    fn note_interface(&mut self, name: &Name, is_underlay: bool) {
        let next_hops = self.dependents.next_hops(&Target::Interface(name.clone()));
        self.dirty.next_hops.extend(next_hops);
        self.dirty.underlay |= is_underlay;
    }
}

/// Gives a port's VLAN to an interface.
fn attach(port: PortId, tags: VlanTags, id: InterfaceId, tables: &mut Tables) {
    let Some(port) = tables.ports.get_mut(port.index()) else { return };
    if tags == VlanTags::default() {
        port.untagged = Some(id);
    } else {
        port.tagged.insert(tags, id);
    }
}

/// Takes a port's VLAN back from an interface.
fn detach(port: PortId, tags: VlanTags, id: InterfaceId, tables: &mut Tables) {
    let Some(port) = tables.ports.get_mut(port.index()) else { return };
    if port.untagged == Some(id) {
        port.untagged = None;
    }
    if port.tagged.get(tags) == Some(id) {
        port.tagged.remove(tags);
    }
}

/// After an interface's port, VLAN or MAC changed: what was learned there
/// holds no more, and every header starts with other bytes.
pub(crate) fn readdress_neighbours(id: InterfaceId, tables: &mut Tables) {
    let Some(interface) = tables.interfaces.get(id.index()).cloned() else { return };
    let on_it: Vec<NeighbourId> =
        tables.neighbour_index.iter().filter(|((at, _), _)| *at == id).map(|(_, id)| *id).collect();
    for neighbour in on_it {
        let Some(neighbour) = tables.neighbours.get_mut(neighbour.index()) else { continue };
        let mut destination = neighbour.header.destination();
        if neighbour.state != NeighbourState::Static {
            neighbour.state = NeighbourState::Resolving;
            destination = MacAddr::default();
        }
        neighbour.port = interface.port;
        neighbour.header = EthernetHeader::new(destination, interface.mac, interface.tags);
    }
}
