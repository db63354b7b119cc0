//! The end of each operation: whatever it touched is brought up to date.
//!
//! The steps depend on each other in one direction only (interfaces, their
//! next hops, groups of these, underlay routes, tunnels, groups of tunnels),
//! so that the loop ends: a tunnel's way never leads through a tunnel.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_engine::tables::neighbour::NeighbourState;
use tieline_engine::types::{InterfaceId, MacAddr, NeighbourId, NextHopId, VrfId};

use crate::attributes::NodeId;
use crate::compile::next_hops::NextHopKey;
use crate::rib::Rib;
use crate::waits::Target;

/// Touched prefixes whose memory is kept from operation to operation.
const MOST_KEPT: usize = 16_384;

/// What the current operation has touched. Empty between operations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dirty {
    /// Next hops to resolve again.
    pub next_hops: BTreeSet<NodeId>,
    /// Groups to expand again, after the next hops.
    pub groups: BTreeSet<NodeId>,
    /// Prefixes whose entry may be another.
    pub prefixes: Vec<(VrfId, IpNet)>,
    /// Whether tunnels may leave another way.
    pub underlay: bool,
    /// VRFs whose sessions must be decided again.
    pub bumps: BTreeSet<VrfId>,
    /// Whether VRFs may lead to other VRFs than before.
    pub links: bool,
    /// Whether other VRFs than before may have filtered interfaces.
    pub stateful: bool,
    /// Engine next hops that may be unused.
    pub idle_next_hops: Vec<NextHopId>,
    /// Neighbours that may be unused.
    pub idle_neighbours: Vec<NeighbourId>,
    /// Names that may be neither declared nor referred to.
    pub idle_nodes: Vec<NodeId>,
    /// Interfaces that may be gone.
    pub gone_interfaces: Vec<InterfaceId>,
}

impl Rib {
    /// Brings the tables up to date with what is declared.
    pub(crate) fn settle(&mut self, tables: &mut Tables) {
        loop {
            if let Some(node) = self.dirty.next_hops.pop_first() {
                self.resolve_node(node, tables);
            } else if let Some(node) = self.dirty.groups.pop_first() {
                self.resolve_node(node, tables);
            } else if !self.dirty.prefixes.is_empty() {
                let mut prefixes = std::mem::take(&mut self.dirty.prefixes);
                for run in prefixes.chunk_by(|(one, _), (other, _)| one == other) {
                    if let Some((vrf, _)) = run.first() {
                        self.update_fib(*vrf, run, tables);
                    }
                }
                if self.dirty.prefixes.is_empty() {
                    // Its memory serves the next operation.
                    prefixes.clear();
                    self.dirty.prefixes = prefixes;
                }
            } else if std::mem::take(&mut self.dirty.underlay) {
                self.dirty.next_hops.extend(&self.nodes.tunnels);
            } else {
                break;
            }
        }
        if self.dirty.prefixes.capacity() > MOST_KEPT {
            self.dirty.prefixes = Vec::new();
        }
        self.remove_idle(tables);
        self.settle_links(tables);
        self.bump_generations(tables);
    }

    /// Takes out what nothing uses any more.
    fn remove_idle(&mut self, tables: &mut Tables) {
        while let Some(id) = self.dirty.idle_next_hops.pop() {
            self.remove_next_hop_if_idle(id, tables);
        }
        while let Some(id) = self.dirty.idle_neighbours.pop() {
            if tables.neighbours.get(id.index()).is_some_and(|neighbour| neighbour.users == 0) {
                tables.remove_neighbour(id);
            }
        }
        while let Some(id) = self.dirty.gone_interfaces.pop() {
            if tables.interfaces.get(id.index()).is_none() {
                remove_neighbours(id, tables);
            }
        }
        while let Some(id) = self.dirty.idle_nodes.pop() {
            let is_idle = self.nodes.get(id).is_some_and(|node| {
                node.declared.is_none() && node.attributes.is_empty() && node.entries.is_empty()
            });
            if is_idle && !self.dependents.has(&Target::NextHop(id)) {
                self.nodes.remove(id);
            }
        }
    }

    fn remove_next_hop_if_idle(&mut self, id: NextHopId, tables: &mut Tables) {
        let Some(entry) = self.next_hops.remove_if_idle(id) else { return };
        tables.next_hops.remove(id.index());
        if let Some(neighbour) = entry.resolution.neighbour() {
            if matches!(entry.key, NextHopKey::Neighbour(..)) {
                forget_static(neighbour, tables);
            }
            self.release_neighbour(neighbour, tables);
        }
        for member in entry.members {
            self.release_next_hop(member);
        }
        if let NextHopKey::Named(node, tunnel_use) = entry.key {
            if let Some(node) = self.nodes.get_mut(node) {
                node.entries.remove(&id);
            }
            self.uses.release(tunnel_use.0);
        }
    }

    /// Sessions of each touched VRF, and of those that lead to it, are
    /// decided again.
    fn bump_generations(&mut self, tables: &mut Tables) {
        let bumps = std::mem::take(&mut self.dirty.bumps);
        for vrf in self.links.with_sources(bumps) {
            if let Some(vrf) = tables.vrfs.get_mut(vrf.index()) {
                vrf.generation = vrf.generation.wrapping_add(1);
            }
        }
    }
}

/// Takes out everything that was learned on an interface that is gone.
fn remove_neighbours(interface: InterfaceId, tables: &mut Tables) {
    let left: Vec<NeighbourId> =
        tables.neighbour_index.iter().filter(|((at, _), _)| *at == interface).map(|(_, id)| *id).collect();
    for id in left {
        tables.remove_neighbour(id);
    }
}

/// A configured MAC is configured no more: it has to be learned.
pub(crate) fn forget_static(id: NeighbourId, tables: &mut Tables) {
    let is_static =
        tables.neighbours.get(id.index()).is_some_and(|found| found.state == NeighbourState::Static);
    if !is_static {
        return;
    }
    if let Some(neighbour) = tables.neighbours.get_mut(id.index()) {
        neighbour.state = NeighbourState::Resolving;
        neighbour.header.set_destination(MacAddr::default());
    }
}
