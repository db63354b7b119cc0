//! Whether an object has its effect, what it waits for, what keeps it from
//! working.

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::v1;

use crate::compile::next_hops::Resolution;
use crate::key::Key;
use crate::name::Name;
use crate::nodes::Node;
use crate::paths::{Origin, Path};
use crate::rd::RouteDistinguisher;
use crate::rib::Rib;
use crate::spec::UNDERLAY;
use crate::spec::next_hop::{Definition, Target};
use crate::store::Interface;

impl Rib {
    /// What an object waits for, in a stable order.
    pub(crate) fn waits_for(&self, key: &Key) -> Vec<Key> {
        match key {
            Key::Port(_) | Key::Vrf(_) | Key::SecurityGroup(_) => Vec::new(),
            Key::Interface(name) => {
                self.store.interfaces.get(name).map(|found| self.interface_waits(found)).unwrap_or_default()
            }
            Key::NextHop(name) | Key::NextHopGroup(name) => {
                let declared = self.nodes.declared(name.as_str());
                declared.map(|found| self.definition_waits(&found.definition)).unwrap_or_default()
            }
            Key::Route(rd, prefix) => {
                self.vpn_path(*rd, *prefix).and_then(|path| self.path_waits(path)).into_iter().collect()
            }
            Key::StaticRoute(vrf, prefix) => {
                let Some(path) = self.static_path(vrf.as_str(), *prefix) else { return Vec::new() };
                self.vrf_waits(vrf).into_iter().chain(self.path_waits(path)).collect()
            }
        }
    }

    fn interface_waits(&self, interface: &Interface) -> Vec<Key> {
        let spec = &interface.spec;
        let port = (!self.store.ports.contains_key(&spec.port)).then(|| Key::Port(spec.port.clone()));
        let is_missing = |id: &&SgId| !self.store.security_groups.contains_key(*id);
        let groups = spec.security_groups.iter().filter(is_missing).map(|id| Key::SecurityGroup(*id));
        port.into_iter().chain(self.vrf_waits(&spec.vrf)).chain(groups).collect()
    }

    fn vrf_waits(&self, name: &Name) -> Option<Key> {
        let exists = name.as_str() == UNDERLAY || self.store.vrfs.contains_key(name);
        (!exists).then(|| Key::Vrf(name.clone()))
    }

    fn definition_waits(&self, definition: &Definition) -> Vec<Key> {
        match definition {
            Definition::NextHop(Target::Tunnel(_) | Target::Discard) => Vec::new(),
            Definition::NextHop(Target::Vrf(vrf)) => self.vrf_waits(vrf).into_iter().collect(),
            Definition::NextHop(Target::Interface { interface, .. }) => {
                let exists = self.store.interfaces.contains_key(interface);
                (!exists).then(|| Key::Interface(interface.clone())).into_iter().collect()
            }
            Definition::Group(members) => {
                let mut missing: Vec<Key> = members
                    .iter()
                    .filter(|member| self.nodes.declared(member.next_hop.as_str()).is_none())
                    .map(|member| Key::NextHop(member.next_hop.clone()))
                    .collect();
                missing.sort_unstable();
                missing.dedup();
                missing
            }
        }
    }

    /// The next hop that a path names, if it is not declared.
    pub(crate) fn path_waits(&self, path: &Path) -> Option<Key> {
        if path.next_hop().is_some() {
            return None;
        }
        Some(Key::NextHop(self.nodes.get(path.node)?.name.clone()))
    }

    pub(crate) fn vpn_path(&self, rd: RouteDistinguisher, prefix: IpNet) -> Option<&Path> {
        self.paths.get(*self.paths.vpn.get(&(rd, prefix))?)
    }

    /// The status of a declared object.
    pub(crate) fn status(&self, key: &Key) -> v1::ObjectStatus {
        let waits_for = self.waits_for(key);
        let problem = self.problem(key);
        let state = if !waits_for.is_empty() {
            v1::ObjectState::Waiting
        } else if problem.is_some() {
            v1::ObjectState::Degraded
        } else {
            v1::ObjectState::Ready
        };
        let message = problem.or_else(|| self.remark(key, &waits_for)).unwrap_or_default();
        v1::ObjectStatus {
            state: state.into(),
            waits_for: waits_for.iter().map(v1::ObjectKey::from).collect(),
            message,
        }
    }

    /// What keeps an object from working although all of it is declared.
    fn problem(&self, key: &Key) -> Option<String> {
        match key {
            Key::NextHop(name) | Key::NextHopGroup(name) => {
                self.node_problem(self.nodes.get(self.nodes.find(name.as_str())?)?)
            }
            Key::Route(rd, prefix) => self.path_problem(self.vpn_path(*rd, *prefix)?),
            Key::StaticRoute(vrf, prefix) => self.path_problem(self.static_path(vrf.as_str(), *prefix)?),
            Key::Port(_) | Key::Interface(_) | Key::Vrf(_) | Key::SecurityGroup(_) => None,
        }
    }

    fn node_problem(&self, node: &Node) -> Option<String> {
        match &node.declared.as_ref()?.definition {
            Definition::NextHop(Target::Tunnel(_)) => match node.reach.as_ref()? {
                Ok(_) => None,
                Err(sentence) => Some(sentence.to_string()),
            },
            Definition::NextHop(Target::Interface { interface, .. }) => {
                let found = self.store.interfaces.get(interface)?;
                found.compiled.is_none().then(|| format!("interface {interface} is waiting itself"))
            }
            Definition::NextHop(Target::Vrf(_) | Target::Discard) => None,
            Definition::Group(members) => {
                let is_usable = |name: &Name| {
                    let node = self.nodes.find(name.as_str()).and_then(|id| self.nodes.get(id));
                    node.is_some_and(|node| {
                        node.declared.as_ref().is_some_and(|declared| {
                            self.node_problem(node).is_none()
                                && self.definition_waits(&declared.definition).is_empty()
                        })
                    })
                };
                let none = !members.iter().any(|member| is_usable(&member.next_hop));
                none.then(|| "no member can be used".to_owned())
            }
        }
    }

    fn path_problem(&self, path: &Path) -> Option<String> {
        match self.next_hops.resolution(path.next_hop()?)? {
            Resolution::Unusable(sentence) => Some(sentence.to_string()),
            _ => None,
        }
    }

    /// What is worth saying of an object that is as it should be, or that has
    /// part of its effect.
    fn remark(&self, key: &Key, waits_for: &[Key]) -> Option<String> {
        match key {
            Key::Interface(name) if !waits_for.is_empty() => {
                self.store.interfaces.get(name)?.compiled.as_ref()?;
                Some("in force; what the missing security groups would allow is denied".to_owned())
            }
            Key::Route(rd, prefix) if waits_for.is_empty() => {
                let Origin::Vpn { targets, .. } = self.vpn_path(*rd, *prefix)?.origin else { return None };
                let importers = self.imports.importers(targets);
                importers.is_empty().then(|| "no VRF imports it".to_owned())
            }
            _ => None,
        }
    }
}
