//! Ports.

use tieline_engine::tables::Tables;
use tieline_engine::tables::port::PortRole;
use tieline_engine::types::PortId;
use tieline_proto::v1;

use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::ports::DeviceState;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::interface::InterfaceSpec;
use crate::spec::port::PortSpec;
use crate::store::Port;
use crate::waits::Target;
use tieline_names::Name;

impl Rib {
    /// A port that is declared otherwise than before gets its device anew.
    pub(crate) fn apply_port(&mut self, message: v1::Port, tables: &mut Tables) -> Declaration {
        let spec = PortSpec::parse(&message, &self.options)?;
        let key = Key::Port(spec.name.clone());
        if let Some(present) = self.store.ports.get_mut(&spec.name)
            && present.spec == spec
        {
            present.message = message;
            return Ok((self.waits_for(&key), false));
        }
        self.check_port(&spec)?;
        let name = spec.name.clone();
        let id = match self.store.ports.get(&name) {
            Some(present) => present.id,
            None => PortId(self.store.port_names.insert(name.clone()) as u16),
        };
        self.take_port_out(&name, tables);
        self.store.ports_version += 1;
        self.store.ports.insert(name, Port { id, spec, device: DeviceState::Opening, message });
        Ok((self.waits_for(&key), true))
    }

    fn check_port(&self, spec: &PortSpec) -> Result<(), Refusal> {
        let others = self.store.ports.iter().filter(|(name, _)| **name != spec.name);
        for (name, other) in others {
            let shared = spec.claims.iter().find(|claim| other.spec.claims.contains(claim));
            if let Some(claim) = shared.filter(|_| !self.is_restoring) {
                let sentence = format!("port {name} has {claim} already: delete it first");
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
        let more = usize::from(!self.store.ports.contains_key(&spec.name));
        limits::check(self.store.ports.len() + more, self.limits.ports, "ports", "ports")
    }

    pub(crate) fn delete_port(&mut self, name: &Name, tables: &mut Tables) -> bool {
        self.take_port_out(name, tables);
        let Some(port) = self.store.ports.remove(name) else { return false };
        self.store.ports_version += 1;
        self.store.port_names.remove(u32::from(port.id.0));
        true
    }
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
