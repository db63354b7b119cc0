//! Next hops and next-hop groups, which share their names.

use std::sync::Arc;

use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::attributes::{AttributesId, NodeId};
use crate::compile::next_hops::NextHopKey;
use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::nodes::{Declared, Node};
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::next_hop::{self, Definition, Target as NextHopTarget};
use crate::waits::{Dependent, Target};
use tieline_names::Name;

impl Rib {
    pub(crate) fn apply_next_hop(&mut self, message: v1::NextHop, tables: &mut Tables) -> Declaration {
        let (name, definition) = next_hop::parse_next_hop(&message)?;
        self.apply_definition(&name, Declared { definition, message: Kind::NextHop(message) }, tables)
    }

    pub(crate) fn apply_next_hop_group(
        &mut self,
        message: v1::NextHopGroup,
        tables: &mut Tables,
    ) -> Declaration {
        let (name, definition) = next_hop::parse_group(&message)?;
        self.apply_definition(&name, Declared { definition, message: Kind::NextHopGroup(message) }, tables)
    }

    fn apply_definition(&mut self, name: &Name, declared: Declared, tables: &mut Tables) -> Declaration {
        let key = match declared.definition {
            Definition::NextHop(_) => Key::NextHop(name.clone()),
            Definition::Group(_) => Key::NextHopGroup(name.clone()),
        };
        let same = |present: &&mut Declared| present.definition == declared.definition;
        if let Some(same) = self.nodes.declared_mut(name.as_str()).filter(same) {
            same.message = declared.message;
            return Ok((self.waits_for(&key), false));
        }
        let present = self.nodes.declared(name.as_str());
        self.check_definition(name, &declared.definition, present)?;
        let is_new = present.is_none();
        let Some(id) = self.nodes.intern(name.as_str()) else { return Ok((self.waits_for(&key), false)) };
        self.forget_references(id, tables);
        self.add_references(id, &declared.definition);
        if let Definition::NextHop(NextHopTarget::Tunnel(tunnel)) = &declared.definition {
            self.nodes.tunnels.insert(id);
            if self.nodes.add_remote(tunnel.remote) {
                Arc::make_mut(&mut tables.remotes).insert(tunnel.remote);
            }
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.declared = Some(declared);
        }
        self.resolve_node(id, tables);
        if is_new {
            self.nodes.declared_count += 1;
            self.serve_waiting_paths(id, tables);
            // Groups that wait for it take it in.
            self.dirty.groups.extend(self.dependents.next_hops(&Target::NextHop(id)));
        }
        Ok((self.waits_for(&key), true))
    }

    fn check_definition(
        &self,
        name: &Name,
        definition: &Definition,
        present: Option<&Declared>,
    ) -> Result<(), Refusal> {
        match (present.map(|present| &present.definition), definition) {
            (Some(Definition::Group(_)), Definition::NextHop(_)) => {
                let sentence = format!("a next-hop group is named {name} already: the two share their names");
                return Err(Refusal::conflict("next_hop.name", sentence));
            }
            (Some(Definition::NextHop(_)), Definition::Group(_)) => {
                let sentence = format!("a next hop is named {name} already: the two share their names");
                return Err(Refusal::conflict("next_hop_group.name", sentence));
            }
            (None, _) => {
                let count = self.nodes.declared_count + 1;
                limits::check(count, self.limits.next_hops, "next hops and groups", "next_hops")?;
            }
            _ => {}
        }
        let Definition::Group(members) = definition else { return Ok(()) };
        for (at, member) in members.iter().enumerate() {
            let other = self.nodes.declared(member.next_hop.as_str());
            let is_group = other.is_some_and(|other| matches!(other.definition, Definition::Group(_)));
            if is_group || member.next_hop == *name {
                let sentence = format!("{} is a group: members must be next hops", member.next_hop);
                let field = format!("next_hop_group.members[{at}].next_hop");
                return Err(Refusal::conflict(field, sentence));
            }
        }
        let id = self.nodes.find(name.as_str());
        let containing = id.map(|id| self.dependents.next_hops(&Target::NextHop(id))).unwrap_or_default();
        if let Some(group) = containing.first().and_then(|group| self.nodes.get(*group)) {
            let sentence = format!("group {} has {name} as a member: members must be next hops", group.name);
            return Err(Refusal::conflict("next_hop_group.name", sentence));
        }
        Ok(())
    }

    pub(crate) fn delete_next_hop(&mut self, name: &Name, tables: &mut Tables, group: bool) -> bool {
        let Some(id) = self.nodes.find(name.as_str()) else { return false };
        let declared = self.nodes.get(id).and_then(|node| node.declared.as_ref());
        let Some(declared) = declared else { return false };
        if matches!(declared.definition, Definition::Group(_)) != group {
            return false;
        }
        self.forget_references(id, tables);
        if let Some(node) = self.nodes.get_mut(id) {
            node.declared = None;
        }
        self.nodes.declared_count -= 1;
        for attributes in self.attributes_of(id) {
            let Some(shared) = self.attributes.get_mut(attributes) else { continue };
            if let Some(next_hop) = shared.next_hop.take() {
                self.release_next_hop(next_hop);
                self.note_attributes(attributes);
            }
        }
        self.resolve_node(id, tables);
        self.dirty.groups.extend(self.dependents.next_hops(&Target::NextHop(id)));
        self.dirty.idle_nodes.push(id);
        true
    }

    /// A name has been declared: the routes that wait for it take effect.
    fn serve_waiting_paths(&mut self, id: NodeId, tables: &mut Tables) {
        for attributes in self.attributes_of(id) {
            let Some(tunnel_use) = self.attributes.get(attributes).map(|shared| shared.attributes.tunnel_use)
            else {
                continue;
            };
            let next_hop = self.acquire_next_hop(NextHopKey::Named(id, tunnel_use), tables);
            if let Some(shared) = self.attributes.get_mut(attributes) {
                shared.next_hop = Some(next_hop);
            }
            self.note_attributes(attributes);
        }
    }

    /// Attributes of the routes that name a next hop.
    fn attributes_of(&self, id: NodeId) -> Vec<AttributesId> {
        self.nodes.get(id).map(|node| node.attributes.iter().copied().collect()).unwrap_or_default()
    }

    fn add_references(&mut self, id: NodeId, definition: &Definition) {
        for target in self.referred(definition) {
            self.dependents.add(target, Dependent::NextHop(id));
        }
    }

    /// Takes back what the present definition of a name refers to.
    fn forget_references(&mut self, id: NodeId, tables: &mut Tables) {
        self.nodes.tunnels.remove(&id);
        let Some(definition) =
            self.nodes.get(id).and_then(|node: &Node| node.declared.as_ref()).map(|d| d.definition.clone())
        else {
            return;
        };
        if let Definition::NextHop(NextHopTarget::Tunnel(tunnel)) = &definition
            && self.nodes.remove_remote(tunnel.remote)
        {
            Arc::make_mut(&mut tables.remotes).remove(&tunnel.remote);
        }
        for target in self.referred(&definition) {
            self.dependents.remove(&target, &Dependent::NextHop(id));
            if let Target::NextHop(member) = target {
                self.dirty.idle_nodes.push(member);
            }
        }
    }

    /// What a definition refers to; the names of members get numbers.
    fn referred(&mut self, definition: &Definition) -> Vec<Target> {
        match definition {
            Definition::NextHop(NextHopTarget::Interface { interface, .. }) => {
                vec![Target::Interface(interface.clone())]
            }
            Definition::NextHop(NextHopTarget::Vrf(vrf)) => vec![Target::Vrf(vrf.clone())],
            Definition::NextHop(NextHopTarget::Tunnel(_) | NextHopTarget::Discard) => Vec::new(),
            Definition::Group(members) => members
                .iter()
                .filter_map(|member| self.nodes.intern(member.next_hop.as_str()))
                .map(Target::NextHop)
                .collect(),
        }
    }
}
