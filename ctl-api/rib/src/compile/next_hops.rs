//! Engine next hops: one for each thing that a FIB entry can lead to, shared
//! and counted. A named next hop yields one for each different use (label,
//! VNI, encapsulations); its number stays when what it resolves to changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use foldhash::fast::RandomState;
use tieline_engine::tables::Tables;
use tieline_engine::tables::neighbour::NeighbourState;
use tieline_engine::tables::next_hop::{Group, NextHop};
use tieline_engine::types::{InterfaceId, NeighbourId, NextHopId, VrfId};

use crate::attributes::{NodeId, UseId};
use crate::compile::settle::forget_static;
use crate::compile::tunnels::TunnelResolution;
use crate::ids::Numbered;
use crate::rib::Rib;
use crate::spec::TunnelUse;
use crate::spec::next_hop::{Definition, Member, Target as NextHopTarget};
use crate::waits::Target;

/// What an engine next hop was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NextHopKey {
    Local(InterfaceId),
    Connected(InterfaceId),
    /// A workload, or a static neighbour that no prefix may lead to.
    Neighbour(InterfaceId, IpAddr),
    Named(NodeId, UseId),
}

/// What an engine next hop is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution {
    Discard,
    /// And a sentence that says why.
    Unusable(Box<str>),
    Local(InterfaceId),
    Connected(InterfaceId),
    Neighbour(NeighbourId),
    Vrf(VrfId),
    Tunnel(Box<TunnelResolution>),
    /// Usable members and their weights.
    Group(Box<[(NextHopId, u8)]>),
}

impl Resolution {
    pub fn unusable(sentence: impl Into<Box<str>>) -> Self {
        Self::Unusable(sentence.into())
    }

    pub fn is_usable(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }

    /// The neighbour that it counts as a user of.
    pub fn neighbour(&self) -> Option<NeighbourId> {
        match self {
            Self::Neighbour(id) => Some(*id),
            Self::Tunnel(tunnel) => Some(tunnel.neighbour),
            _ => None,
        }
    }

    /// Whether a change between two of these leaves sessions as they are:
    /// they look at the next hop again for each packet.
    fn is_tunnel_or_none(&self) -> bool {
        matches!(self, Self::Tunnel(_) | Self::Unusable(_))
    }

    fn may_lead_into_vrf(&self) -> bool {
        matches!(self, Self::Vrf(_) | Self::Group(_))
    }
}

/// One engine next hop.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: NextHopKey,
    pub resolution: Resolution,
    /// Of a group: all members, the unusable too; each is counted as used.
    pub members: Vec<NextHopId>,
    users: u32,
}

/// All engine next hops beside the one that always discards.
#[derive(Debug, Clone)]
pub(crate) struct NextHops {
    entries: Numbered<Entry>,
    index: HashMap<NextHopKey, NextHopId, RandomState>,
    /// FIB entries by next hop and VRF.
    in_fib: BTreeMap<(NextHopId, VrfId), u32>,
    /// Those that lead into another VRF.
    to_vrf: BTreeMap<NextHopId, VrfId>,
}

impl Default for NextHops {
    fn default() -> Self {
        Self {
            entries: Numbered::starting_at(NextHopId::DISCARD.0 + 1),
            index: HashMap::default(),
            in_fib: BTreeMap::new(),
            to_vrf: BTreeMap::new(),
        }
    }
}

impl NextHops {
    pub fn find(&self, key: NextHopKey) -> Option<NextHopId> {
        self.index.get(&key).copied()
    }

    pub fn resolution(&self, id: NextHopId) -> Option<&Resolution> {
        self.entries.get(id.0).map(|entry| &entry.resolution)
    }

    /// The name that a next hop was made from.
    pub fn node(&self, id: NextHopId) -> Option<NodeId> {
        match self.entries.get(id.0)?.key {
            NextHopKey::Named(node, _) => Some(node),
            _ => None,
        }
    }

    /// Next hops that lead into another VRF, and into which.
    pub fn leading_into_vrfs(&self) -> impl Iterator<Item = (NextHopId, VrfId)> {
        self.to_vrf.iter().map(|(id, vrf)| (*id, *vrf))
    }

    /// VRFs with a FIB entry that uses a next hop.
    pub fn vrfs_using(&self, id: NextHopId) -> impl Iterator<Item = VrfId> {
        self.in_fib.range((id, VrfId(0))..=(id, VrfId(u16::MAX))).map(|((_, vrf), _)| *vrf)
    }

    /// Counts FIB entries; true if those are the first, or were the last, of
    /// their VRF.
    fn count_in_fib(&mut self, id: NextHopId, vrf: VrfId, more: u32, less: u32) -> bool {
        let count = self.in_fib.entry((id, vrf)).or_default();
        let before = *count;
        *count = before + more - less;
        let after = *count;
        if after == 0 {
            self.in_fib.remove(&(id, vrf));
        }
        (before == 0) != (after == 0)
    }

    pub fn remove_if_idle(&mut self, id: NextHopId) -> Option<Entry> {
        if self.entries.get(id.0)?.users > 0 {
            return None;
        }
        let entry = self.entries.remove(id.0)?;
        self.index.remove(&entry.key);
        self.to_vrf.remove(&id);
        Some(entry)
    }

    /// All, with how often each is used.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (NextHopId, &Entry, u32)> {
        self.entries.iter().map(|(id, entry)| (NextHopId(id), entry, entry.users))
    }

    /// FIB entries by next hop and VRF.
    #[cfg(test)]
    pub fn fib_counts(&self) -> &BTreeMap<(NextHopId, VrfId), u32> {
        &self.in_fib
    }
}

impl Rib {
    /// The engine next hop for `key`, used once more.
    pub(crate) fn acquire_next_hop(&mut self, key: NextHopKey, tables: &mut Tables) -> NextHopId {
        if let Some(id) = self.next_hops.find(key) {
            if let Some(entry) = self.next_hops.entries.get_mut(id.0) {
                entry.users += 1;
            }
            // An interface comes back with other properties under its number.
            if !matches!(key, NextHopKey::Named(..)) {
                self.resolve_entry(id, tables);
            }
            return id;
        }
        let resolution = Resolution::unusable("not resolved yet");
        let id = NextHopId(self.next_hops.entries.insert(Entry {
            key,
            resolution,
            members: Vec::new(),
            users: 1,
        }));
        self.next_hops.index.insert(key, id);
        tables.next_hops.insert(id.index(), NextHop::Unusable);
        if let NextHopKey::Named(node, tunnel_use) = key {
            if let Some(value) = self.uses.get(tunnel_use.0).copied() {
                self.uses.acquire(&value);
            }
            if let Some(node) = self.nodes.get_mut(node) {
                node.entries.insert(id);
            }
        }
        self.resolve_entry(id, tables);
        id
    }

    /// An engine next hop is used once less.
    pub(crate) fn release_next_hop(&mut self, id: NextHopId) {
        let Some(entry) = self.next_hops.entries.get_mut(id.0) else { return };
        entry.users -= 1;
        if entry.users == 0 {
            self.dirty.idle_next_hops.push(id);
        }
    }

    pub(crate) fn release_neighbour(&mut self, id: NeighbourId, tables: &mut Tables) {
        let Some(neighbour) = tables.neighbours.get_mut(id.index()) else { return };
        neighbour.users = neighbour.users.saturating_sub(1);
        if neighbour.users == 0 {
            self.dirty.idle_neighbours.push(id);
        }
    }

    /// So many FIB entries more, and so many less, lead to `id`.
    pub(crate) fn change_uses_in_fib(&mut self, id: NextHopId, vrf: VrfId, more: u32, less: u32) {
        if self.next_hops.count_in_fib(id, vrf, more, less) {
            self.note_link(id);
        }
    }

    fn note_link(&mut self, id: NextHopId) {
        self.dirty.links |= self.next_hops.resolution(id).is_some_and(Resolution::may_lead_into_vrf);
    }

    /// Resolves again everything made from a name.
    pub(crate) fn resolve_node(&mut self, id: NodeId, tables: &mut Tables) {
        let reach = match self.nodes.get(id).and_then(|node| node.target()) {
            Some(NextHopTarget::Tunnel(tunnel)) => Some(self.tunnel_reach(tunnel, tables)),
            _ => None,
        };
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.reach = reach;
        let entries: Vec<NextHopId> = node.entries.iter().copied().collect();
        for entry in entries {
            self.resolve_entry(entry, tables);
        }
    }

    /// Resolves one engine next hop, and notes what depends on it.
    fn resolve_entry(&mut self, id: NextHopId, tables: &mut Tables) {
        let Some(entry) = self.next_hops.entries.get(id.0) else { return };
        let (resolution, engine, members) = match entry.key {
            NextHopKey::Local(interface) => {
                (Resolution::Local(interface), NextHop::Local(interface), Vec::new())
            }
            NextHopKey::Connected(interface) => {
                (Resolution::Connected(interface), NextHop::Connected(interface), Vec::new())
            }
            NextHopKey::Neighbour(interface, address) => {
                let (resolution, engine) = self.resolve_neighbour(interface, address, tables);
                (resolution, engine, Vec::new())
            }
            NextHopKey::Named(node, tunnel_use) => self.resolve_named(node, tunnel_use, tables),
        };
        if let Some(neighbour) = resolution.neighbour().and_then(|id| tables.neighbours.get_mut(id.index())) {
            neighbour.users += 1;
        }
        let Some(entry) = self.next_hops.entries.get_mut(id.0) else { return };
        let old_members = std::mem::replace(&mut entry.members, members);
        let key = entry.key;
        let is_same = entry.resolution == resolution;
        let old = std::mem::replace(&mut entry.resolution, resolution);
        if let Some(neighbour) = old.neighbour() {
            self.release_neighbour(neighbour, tables);
        }
        for member in old_members {
            self.release_next_hop(member);
        }
        if !is_same {
            tables.next_hops.insert(id.index(), engine);
            self.note_change(id, key, &old);
        }
    }

    /// Notes who has to know that `id` resolves to something else than `old`.
    fn note_change(&mut self, id: NextHopId, key: NextHopKey, old: &Resolution) {
        let Some(entry) = self.next_hops.entries.get(id.0) else { return };
        let new = &entry.resolution;
        let is_quiet = old.is_tunnel_or_none() && new.is_tunnel_or_none();
        let flips = old.is_usable() != new.is_usable();
        self.dirty.links |= old.may_lead_into_vrf() || new.may_lead_into_vrf();
        match new {
            Resolution::Vrf(vrf) => {
                let vrf = *vrf;
                self.next_hops.to_vrf.insert(id, vrf);
            }
            _ => {
                self.next_hops.to_vrf.remove(&id);
            }
        }
        if !is_quiet {
            self.note_users(id);
        }
        let NextHopKey::Named(node, _) = key else { return };
        if is_quiet && !flips {
            return;
        }
        for group in self.dependents.next_hops(&Target::NextHop(node)) {
            self.dirty.groups.insert(group);
            if !is_quiet {
                let entries: BTreeSet<NextHopId> =
                    self.nodes.get(group).map(|group| group.entries.clone()).unwrap_or_default();
                for entry in entries {
                    self.note_users(entry);
                }
            }
        }
    }

    /// Whatever uses a next hop is decided again.
    fn note_users(&mut self, id: NextHopId) {
        for vrf in self.next_hops.vrfs_using(id) {
            self.dirty.underlay |= vrf == VrfId::UNDERLAY;
            self.dirty.bumps.insert(vrf);
        }
    }

    /// A neighbour that its interface names; its MAC is declared or learned.
    fn resolve_neighbour(
        &self,
        interface: InterfaceId,
        address: IpAddr,
        tables: &mut Tables,
    ) -> (Resolution, NextHop) {
        let Some(id) = tables.intern_neighbour(interface, address) else {
            return (Resolution::unusable("its interface is not in force"), NextHop::Unusable);
        };
        let mac = self.store.interface(interface).and_then(|interface| interface.spec.declared_mac(address));
        match (mac, tables.neighbours.get(id.index())) {
            (None, _) => forget_static(id, tables),
            (Some(mac), Some(found))
                if found.state == NeighbourState::Static && found.header.destination() == mac => {}
            (Some(mac), _) => {
                if let Some(neighbour) = tables.neighbours.get_mut(id.index()) {
                    neighbour.state = NeighbourState::Static;
                    neighbour.header.set_destination(mac);
                }
            }
        }
        (Resolution::Neighbour(id), NextHop::Neighbour(id))
    }

    fn resolve_named(
        &mut self,
        node: NodeId,
        tunnel_use: UseId,
        tables: &mut Tables,
    ) -> (Resolution, NextHop, Vec<NextHopId>) {
        let unusable = |sentence: String| (Resolution::unusable(sentence), NextHop::Unusable, Vec::new());
        let Some(found) = self.nodes.get(node) else {
            return unusable("it is not declared".into());
        };
        let name = &found.name;
        let Some(declared) = &found.declared else {
            return unusable(format!("next hop {name} is not declared"));
        };
        let target = match &declared.definition {
            Definition::NextHop(target) => target,
            Definition::Group(members) => {
                let members = members.clone();
                let name = name.clone();
                return self.resolve_group(name.as_str(), &members, tunnel_use, tables);
            }
        };
        let tunnel_use = self.uses.get(tunnel_use.0).copied().unwrap_or_default();
        let (resolution, engine) = match target {
            NextHopTarget::Discard => (Resolution::Discard, NextHop::Discard),
            NextHopTarget::Vrf(vrf) => match self.vrf_id(vrf.as_str()) {
                Some(id) => (Resolution::Vrf(id), NextHop::Vrf(id)),
                None => return unusable(format!("VRF {vrf} is not declared")),
            },
            NextHopTarget::Interface { interface, address } => {
                let Some(id) = self.compiled_interface(interface.as_str()) else {
                    return unusable(format!("interface {interface} is not in force"));
                };
                match address {
                    None => (Resolution::Connected(id), NextHop::Connected(id)),
                    Some(address) => match tables.intern_neighbour(id, *address) {
                        Some(id) => (Resolution::Neighbour(id), NextHop::Neighbour(id)),
                        None => return unusable(format!("interface {interface} is not in force")),
                    },
                }
            }
            NextHopTarget::Tunnel(tunnel) => {
                self.resolve_tunnel(tunnel, found.reach.as_ref(), tunnel_use, tables)
            }
        };
        (resolution, engine, Vec::new())
    }

    fn resolve_group(
        &mut self,
        name: &str,
        members: &[Member],
        tunnel_use: UseId,
        tables: &mut Tables,
    ) -> (Resolution, NextHop, Vec<NextHopId>) {
        let route_use = self.uses.get(tunnel_use.0).copied().unwrap_or_default();
        let mut held = Vec::with_capacity(members.len());
        let mut slots = Vec::with_capacity(members.len());
        for member in members {
            let Some(node) = self.nodes.find(member.next_hop.as_str()) else { continue };
            // A group inside a group was refused.
            if self.nodes.get(node).and_then(|node| node.target()).is_none() {
                continue;
            }
            let member_use = TunnelUse {
                label: member.label.or(route_use.label),
                vni: member.vni.or(route_use.vni),
                encapsulations: route_use.encapsulations,
            };
            let (use_id, _) = self.uses.acquire(&member_use);
            let id = self.acquire_next_hop(NextHopKey::Named(node, UseId(use_id)), tables);
            self.uses.release(use_id);
            held.push(id);
            if self.next_hops.resolution(id).is_some_and(Resolution::is_usable) {
                slots.push((id, member.weight));
            }
        }
        reduce_weights(&mut slots);
        match Group::new(&slots) {
            Some(group) => (Resolution::Group(slots.into()), NextHop::Group(group), held),
            None => {
                let sentence = format!("no member of group {name} can be used");
                (Resolution::unusable(sentence), NextHop::Unusable, held)
            }
        }
    }

    /// The number of an interface in force.
    pub(crate) fn compiled_interface(&self, name: &str) -> Option<InterfaceId> {
        let interface = self.store.interfaces.get(name)?;
        interface.compiled.as_ref().map(|_| interface.id)
    }
}

/// Divides weights by their greatest common divisor: the same shares in fewer
/// slots.
fn reduce_weights(slots: &mut [(NextHopId, u8)]) {
    fn gcd(a: u8, b: u8) -> u8 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let divisor = slots.iter().fold(0, |divisor, (_, weight)| gcd(divisor, *weight));
    if divisor > 1 {
        for (_, weight) in slots {
            *weight /= divisor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_shrink_to_their_ratio() {
        let mut slots = [(NextHopId(1), 50), (NextHopId(2), 100)];
        reduce_weights(&mut slots);
        assert_eq!(slots, [(NextHopId(1), 1), (NextHopId(2), 2)]);
        reduce_weights(&mut []);
    }
}
