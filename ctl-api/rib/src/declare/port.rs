//! Ports: opened when they are declared, closed when they are withdrawn.

use tieline_engine::tables::Tables;
use tieline_engine::tables::port::{Port as TablePort, PortRole};
use tieline_engine::tables::vlans::Vlans;
use tieline_engine::types::PortId;
use tieline_proto::v1;

use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::name::Name;
use crate::refusal::Refusal;
use crate::rib::{Ports, Rib};
use crate::spec::interface::InterfaceSpec;
use crate::spec::port::PortSpec;
use crate::store::Port;
use crate::waits::Target;

impl Rib {
    /// The port that applying this would open. `None` if it is open already,
    /// or would be refused. A device takes long to open: who knows beforehand
    /// can do it while nobody waits for the tables.
    pub fn port_to_open(&self, message: &v1::Port) -> Option<PortSpec> {
        let spec = PortSpec::parse(message, self.options.default_mtu).ok()?;
        let is_new = !self.store.ports.contains_key(&spec.name);
        (is_new && self.check_port(&spec).is_ok()).then_some(spec)
    }

    pub(crate) fn apply_port(
        &mut self,
        message: v1::Port,
        tables: &mut Tables,
        ports: &mut dyn Ports,
    ) -> Declaration {
        let spec = PortSpec::parse(&message, self.options.default_mtu)?;
        let key = Key::Port(spec.name.clone());
        if let Some(present) = self.store.ports.get_mut(&spec.name) {
            check_same(&present.spec, &spec)?;
            present.message = message;
            return Ok((self.waits_for(&key), false));
        }
        self.check_port(&spec)?;
        let number = self.store.port_names.insert(spec.name.clone());
        let id = PortId(number as u16);
        let info = match ports.open(id, &spec) {
            Ok(info) => info,
            Err(sentence) => {
                self.store.port_names.remove(number);
                return Err(Refusal::device(sentence));
            }
        };
        let entry = TablePort {
            role: spec.role,
            mac: info.mac,
            host_mac: None,
            mtu: info.mtu,
            untagged: None,
            tagged: Vlans::default(),
        };
        tables.ports.insert(id.index(), entry);
        if spec.role == PortRole::Host {
            tables.host_port = Some(id);
        }
        let name = spec.name.clone();
        self.store.ports.insert(name.clone(), Port { id, spec, info, message });
        for interface in self.dependents.interfaces(&Target::Port(name)) {
            self.compile_interface(interface.as_str(), tables);
        }
        Ok((self.waits_for(&key), true))
    }

    fn check_port(&self, spec: &PortSpec) -> Result<(), Refusal> {
        for (name, other) in &self.store.ports {
            if other.spec.device == spec.device {
                let sentence = format!("port {name} has this device already: delete it first");
                return Err(Refusal::conflict("port.device", sentence));
            }
            if spec.role == PortRole::Host && other.spec.role == PortRole::Host {
                let sentence = format!("port {name} is the host port already: there can be one");
                return Err(Refusal::conflict("port.role", sentence));
            }
        }
        for name in self.dependents.interfaces(&Target::Port(spec.name.clone())) {
            if let Some(interface) = self.store.interfaces.get(&name) {
                check_role("port.role", spec, &interface.spec)?;
            }
        }
        limits::check(self.store.ports.len() + 1, self.limits.ports, "ports", "ports")
    }

    pub(crate) fn delete_port(&mut self, name: &Name, tables: &mut Tables, ports: &mut dyn Ports) -> bool {
        let Some(port) = self.store.ports.get(name) else { return false };
        let id = port.id;
        for interface in self.dependents.interfaces(&Target::Port(name.clone())) {
            self.uncompile_interface(interface.as_str(), tables);
        }
        self.store.ports.remove(name);
        self.store.port_names.remove(u32::from(id.0));
        tables.ports.remove(id.index());
        if tables.host_port == Some(id) {
            tables.host_port = None;
        }
        ports.close(id);
        true
    }
}

/// A live port stays as it is.
fn check_same(present: &PortSpec, wanted: &PortSpec) -> Result<(), Refusal> {
    let field = if present.device != wanted.device {
        "port.device"
    } else if present.role != wanted.role {
        "port.role"
    } else if present.mtu != wanted.mtu {
        "port.mtu"
    } else if present.rx_queues != wanted.rx_queues {
        "port.rx_queues"
    } else {
        return Ok(());
    };
    let sentence = format!("port {} is open with another value: delete the port and add it", present.name);
    Err(Refusal::conflict(field, sentence))
}

/// Fabric ports carry the underlay and nothing else does; the host port
/// carries no interface.
pub(super) fn check_role(field: &str, port: &PortSpec, interface: &InterfaceSpec) -> Result<(), Refusal> {
    let (port_name, name) = (&port.name, &interface.name);
    let sentence = match (port.role, interface.is_underlay()) {
        (PortRole::Fabric, true) | (PortRole::Tenant, false) => return Ok(()),
        (PortRole::Host, _) => {
            format!("interface {name} is on host port {port_name}, which takes no interfaces")
        }
        (PortRole::Fabric, false) => format!(
            "interface {name} is on fabric port {port_name} and must be in VRF \"underlay\", not {}",
            interface.vrf
        ),
        (PortRole::Tenant, true) => {
            format!("interface {name} is in VRF \"underlay\" and must be on a fabric port, not {port_name}")
        }
    };
    Err(Refusal::conflict(field, sentence))
}
