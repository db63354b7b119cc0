//! Names of next hops and groups, declared or only referred to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tieline_engine::types::{InterfaceId, NextHopId};
use tieline_proto::v1;

use crate::attributes::{AttributesId, NodeId};
use crate::ids::Numbered;
use crate::spec::next_hop::{Definition, Target};
use tieline_names::Name;

/// How a tunnel's remote is reached, or a sentence why it is not.
pub(crate) type Reach = Result<Egress, Box<str>>;

/// Where a tunnel's packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Egress {
    pub interface: InterfaceId,
    /// The next station on the way.
    pub gateway: IpAddr,
    /// The local endpoint.
    pub source: IpAddr,
    /// Of the interface, in bytes.
    pub mtu: u16,
}

/// A next hop or group as declared.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub definition: Definition,
    pub message: v1::object::Kind,
}

/// One name.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub name: Name,
    pub declared: Option<Declared>,
    /// Attributes of routes that name it.
    pub attributes: BTreeSet<AttributesId>,
    /// Engine next hops made from it, one for each use.
    pub entries: BTreeSet<NextHopId>,
    /// Of a tunnel.
    pub reach: Option<Reach>,
}

impl Node {
    pub fn target(&self) -> Option<&Target> {
        match &self.declared.as_ref()?.definition {
            Definition::NextHop(target) => Some(target),
            Definition::Group(_) => None,
        }
    }
}

/// All names, in order, and by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    by_name: BTreeMap<Name, NodeId>,
    nodes: Numbered<Node>,
    /// Those that are declared as tunnels.
    pub tunnels: BTreeSet<NodeId>,
    /// Where they end, and how many of them there.
    remotes: BTreeMap<IpAddr, usize>,
    pub declared_count: usize,
}

impl Nodes {
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0)
    }

    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The declaration under a name.
    pub fn declared(&self, name: &str) -> Option<&Declared> {
        self.get(self.find(name)?)?.declared.as_ref()
    }

    /// The declaration under a name, to change.
    pub fn declared_mut(&mut self, name: &str) -> Option<&mut Declared> {
        self.get_mut(self.find(name)?)?.declared.as_mut()
    }

    /// One more tunnel ends there. Returns whether it is the first.
    pub fn add_remote(&mut self, remote: IpAddr) -> bool {
        let tunnels = self.remotes.entry(remote).or_default();
        *tunnels += 1;
        *tunnels == 1
    }

    /// One tunnel less ends there. Returns whether it was the last.
    pub fn remove_remote(&mut self, remote: IpAddr) -> bool {
        let Some(tunnels) = self.remotes.get_mut(&remote) else { return false };
        *tunnels -= 1;
        let is_last = *tunnels == 0;
        if is_last {
            self.remotes.remove(&remote);
        }
        is_last
    }

    /// The number of a name. `None` only if the text is no name.
    pub fn intern(&mut self, name: &str) -> Option<NodeId> {
        if let Some(id) = self.find(name) {
            return Some(id);
        }
        let name = Name::new(name)?;
        let node = Node {
            name: name.clone(),
            declared: None,
            attributes: BTreeSet::new(),
            entries: BTreeSet::new(),
            reach: None,
        };
        let id = NodeId(self.nodes.insert(node));
        self.by_name.insert(name, id);
        Some(id)
    }

    /// Forgets a name.
    pub fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(id.0) {
            self.by_name.remove(&node.name);
        }
    }

    /// Declared ones after `start`, in the order of their names.
    pub fn declared_after<'a>(&'a self, start: &str) -> impl Iterator<Item = (&'a Name, &'a Declared)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.by_name
            .range::<str, _>((Excluded(start), Unbounded))
            .filter_map(|(name, id)| Some((name, self.get(*id)?.declared.as_ref()?)))
    }

    /// All names with their nodes, in the order of their numbers.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (NodeId(id), node))
    }
}
