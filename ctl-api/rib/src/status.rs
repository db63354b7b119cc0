//! Whether an object has its effect, what it waits for, what keeps it from
//! working.

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::attributes::{AttributesId, Origin};
use crate::compile::next_hops::Resolution;
use crate::key::Key;
use crate::nodes::Node;
use crate::paths::PathId;
use crate::ports::DeviceState;
use crate::rib::Rib;
use crate::spec::UNDERLAY;
use crate::spec::next_hop::{Definition, Target};
use crate::store::Interface;
use crate::vpn;
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

impl Rib {
    /// What an object that is declared like this waits for. (Of routes: what any
    /// with this next hop waits for.)
    pub fn waits_for_of(&self, object: &v1::Object) -> Vec<v1::ObjectKey> {
        let waits = match &object.kind {
            Some(Kind::Route(route)) => self.name_waits(&route.next_hop),
            Some(kind) => Key::of(kind).map(|key| self.waits_for(&key)).unwrap_or_default(),
            None => Vec::new(),
        };
        waits.iter().map(v1::ObjectKey::from).collect()
    }

    /// What a set of routes waits for.
    pub fn waits_for_of_set(&self, set: &v1::RouteSet) -> Vec<v1::ObjectKey> {
        let next_hop = set.attributes.as_ref().map_or("", |attributes| attributes.next_hop.as_str());
        self.name_waits(next_hop).iter().map(v1::ObjectKey::from).collect()
    }

    /// Whether an object is declared. A next hop's key stands for groups too: the
    /// two share their names.
    pub fn is_declared(&self, key: &v1::ObjectKey) -> bool {
        match Key::parse(key) {
            Ok(Key::NextHop(name) | Key::NextHopGroup(name)) => self.nodes.declared(name.as_str()).is_some(),
            Ok(Key::Route(rd, prefix)) => self.vpn_keys.all(rd, prefix).next().is_some(),
            Ok(Key::Vrf(name)) => self.vrf_id(name.as_str()).is_some(),
            Ok(key) => self.message(&key).is_some(),
            Err(_) => false,
        }
    }

    fn name_waits(&self, next_hop: &str) -> Vec<Key> {
        let is_declared = self.nodes.declared(next_hop).is_some();
        Name::new(next_hop).filter(|_| !is_declared).map(Key::NextHop).into_iter().collect()
    }

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
            Key::Route(..) => Vec::new(),
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
    fn path_waits(&self, path: PathId) -> Option<Key> {
        self.attributes_wait(self.paths.get(path)?.attributes)
    }

    /// The next hop that attributes name, if it is not declared.
    pub(crate) fn attributes_wait(&self, id: AttributesId) -> Option<Key> {
        let shared = self.attributes.get(id)?;
        if shared.next_hop.is_some() {
            return None;
        }
        Some(Key::NextHop(self.nodes.get(shared.attributes.node)?.name.clone()))
    }

    /// The best of the paths of all controllers under one key.
    pub(crate) fn vpn_path(&self, rd: RouteDistinguisher, prefix: IpNet) -> Option<PathId> {
        let all: Vec<PathId> = self.vpn_keys.all(rd, prefix).map(|(_, path)| path).collect();
        let best = vpn::best(&self.paths, &self.attributes, &self.controllers, &all);
        best.map(|(path, _)| path).or(all.first().copied())
    }

    /// The status of a VPN path.
    pub(crate) fn path_status(&self, path: PathId) -> v1::ObjectStatus {
        let waits_for: Vec<Key> = self.path_waits(path).into_iter().collect();
        let remark = if waits_for.is_empty() { self.path_remark(path) } else { None };
        status_message(&waits_for, self.path_problem(path).map(Problem::Degraded), remark)
    }

    /// The status of a declared object, other than a VPN path.
    pub(crate) fn status(&self, key: &Key) -> v1::ObjectStatus {
        let waits_for = self.waits_for(key);
        status_message(&waits_for, self.problem(key), self.remark(key, &waits_for))
    }

    /// What keeps an object from working although all of it is declared.
    fn problem(&self, key: &Key) -> Option<Problem> {
        match key {
            Key::Port(name) => self.port_problem(name),
            Key::Interface(name) => {
                let port = &self.store.interfaces.get(name)?.spec.port;
                let problem = self.port_problem(port)?;
                Some(problem.of(|why| format!("port {port}: {why}")))
            }
            Key::NextHop(name) | Key::NextHopGroup(name) => {
                self.node_problem(self.nodes.get(self.nodes.find(name.as_str())?)?).map(Problem::Degraded)
            }
            Key::StaticRoute(vrf, prefix) => {
                self.path_problem(self.static_path(vrf.as_str(), *prefix)?).map(Problem::Degraded)
            }
            Key::Vrf(_) | Key::SecurityGroup(_) | Key::Route(..) => None,
        }
    }

    fn port_problem(&self, name: &Name) -> Option<Problem> {
        match &self.store.ports.get(name)?.device {
            DeviceState::Open(_) => None,
            DeviceState::Opening => Some(Problem::Pending("its device is being opened".to_owned())),
            DeviceState::Closed(why) => Some(Problem::Degraded(why.clone())),
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

    fn path_problem(&self, path: PathId) -> Option<String> {
        let shared = self.attributes.get(self.paths.get(path)?.attributes)?;
        match self.next_hops.resolution(shared.next_hop?)? {
            Resolution::Unusable(sentence) => Some(sentence.to_string()),
            _ => None,
        }
    }

    fn path_remark(&self, path: PathId) -> Option<String> {
        let path = self.paths.get(path)?;
        let Origin::Vpn(vpn) = self.attributes.get(path.attributes)?.attributes.origin else { return None };
        let importers = self.imports.importers(vpn.targets);
        importers.is_empty().then(|| "no VRF imports it".to_owned())
    }

    /// What is worth saying of an object that is as it should be, or that has
    /// part of its effect.
    fn remark(&self, key: &Key, waits_for: &[Key]) -> Option<String> {
        match key {
            Key::Interface(name) if !waits_for.is_empty() => {
                self.store.interfaces.get(name)?.compiled.as_ref()?;
                Some("in force; what the missing security groups would allow is denied".to_owned())
            }
            _ => None,
        }
    }
}

/// What keeps an object from working.
enum Problem {
    /// It is being seen to.
    Pending(String),
    /// It has to change first.
    Degraded(String),
}

impl Problem {
    fn of(self, message: impl FnOnce(String) -> String) -> Self {
        match self {
            Problem::Pending(why) => Problem::Pending(message(why)),
            Problem::Degraded(why) => Problem::Degraded(message(why)),
        }
    }
}

fn status_message(waits_for: &[Key], problem: Option<Problem>, remark: Option<String>) -> v1::ObjectStatus {
    let (state, message) = match problem {
        None => (v1::ObjectState::Ready, remark.unwrap_or_default()),
        Some(Problem::Pending(why)) => (v1::ObjectState::Pending, why),
        Some(Problem::Degraded(why)) => (v1::ObjectState::Degraded, why),
    };
    let state = if waits_for.is_empty() { state } else { v1::ObjectState::Waiting };
    v1::ObjectStatus {
        state: state.into(),
        waits_for: waits_for.iter().map(v1::ObjectKey::from).collect(),
        message,
    }
}
