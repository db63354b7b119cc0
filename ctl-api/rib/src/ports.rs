//! Declared ports and their devices. The RIB opens none: whoever does reads
//! [which are declared](Rib::declared_ports), and says here what became of each
//! device. A port has its place in the tables while its device is open.

use tieline_engine::tables::Tables;
use tieline_engine::tables::port::{Port as TablePort, PortRole};
use tieline_engine::tables::vlans::Vlans;
use tieline_engine::types::{MacAddr, PortId};

use crate::controllers::ControllerId;
use crate::holders::Stand;
use crate::key::Key;
use crate::rib::Rib;
use crate::spec::port::PortSpec;
use crate::waits::Target;
use tieline_names::Name;

/// What an open device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortInfo {
    /// Its own MAC.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

/// What became of a port's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// Nothing yet: it is to be opened.
    Opening,
    /// It is open.
    Open(PortInfo),
    /// It is not open; a sentence says why.
    Closed(String),
}

/// A port that is declared.
#[derive(Debug, Clone, Copy)]
pub struct DeclaredPort<'a> {
    /// Its number.
    pub id: PortId,
    /// What is declared.
    pub spec: &'a PortSpec,
    /// Its device.
    pub device: &'a DeviceState,
    /// The controller whose declaration is in force.
    pub by: ControllerId,
}

impl Rib {
    /// All declared ports in the order of their names.
    pub fn declared_ports(&self) -> impl Iterator<Item = DeclaredPort<'_>> {
        self.store.ports.iter().filter_map(|(name, port)| {
            let holdings = self.holders.of(&Key::Port(name.clone()));
            let by = holdings.iter().find(|holding| holding.stand == Stand::InForce)?.by;
            Some(DeclaredPort { id: port.id, spec: &port.spec, device: &port.device, by })
        })
    }

    /// Another whenever a port is declared, declared otherwise or withdrawn.
    pub fn ports_version(&self) -> u64 {
        self.store.ports_version
    }

    /// All ports in the order of their names.
    pub fn ports(&self) -> impl Iterator<Item = (&str, PortId)> {
        self.store.ports.iter().map(|(name, port)| (name.as_str(), port.id))
    }

    /// The number of a port.
    pub fn port_id(&self, name: &str) -> Option<PortId> {
        self.store.ports.get(name).map(|port| port.id)
    }

    /// The name of a port.
    pub fn port_name(&self, id: PortId) -> Option<&str> {
        self.store.port_names.get(u32::from(id.0)).map(Name::as_str)
    }

    /// The device of a port is open. Whether that is news.
    pub fn port_opened(&mut self, id: PortId, info: PortInfo, tables: &mut Tables) -> bool {
        let Some(name) = self.store.port_names.get(u32::from(id.0)).cloned() else { return false };
        let Some(port) = self.store.ports.get_mut(&name) else { return false };
        let now = DeviceState::Open(info);
        if port.device == now {
            return false;
        }
        self.take_port_out(&name, tables);
        let Some(port) = self.store.ports.get_mut(&name) else { return false };
        port.device = now;
        let entry = TablePort {
            role: port.spec.role,
            mac: info.mac,
            host_mac: None,
            mtu: info.mtu,
            untagged: None,
            tagged: Vlans::default(),
        };
        tables.ports.insert(id.index(), entry);
        if port.spec.role == PortRole::Host {
            tables.host_port = Some(id);
        }
        for interface in self.dependents.interfaces(&Target::Port(name.clone())) {
            self.compile_interface(interface.as_str(), tables);
        }
        self.note_port_status(&name);
        self.settle(tables);
        true
    }

    /// The device of a port is not open (any more); `why` is a sentence for the
    /// operator. Whether the tables are different.
    pub fn port_closed(&mut self, id: PortId, why: String, tables: &mut Tables) -> bool {
        let Some(name) = self.store.port_names.get(u32::from(id.0)).cloned() else { return false };
        let Some(port) = self.store.ports.get_mut(&name) else { return false };
        let now = DeviceState::Closed(why);
        if port.device == now {
            return false;
        }
        port.device = now;
        let changed = self.take_port_out(&name, tables);
        self.note_port_status(&name);
        self.settle(tables);
        changed
    }

    /// Takes a port and the interfaces on it out of the tables. Whether it was in
    /// them.
    pub(crate) fn take_port_out(&mut self, name: &Name, tables: &mut Tables) -> bool {
        let Some(port) = self.store.ports.get(name) else { return false };
        let id = port.id;
        for interface in self.dependents.interfaces(&Target::Port(name.clone())) {
            self.uncompile_interface(interface.as_str(), tables);
        }
        if tables.host_port == Some(id) {
            tables.host_port = None;
        }
        tables.ports.remove(id.index()).is_some()
    }

    /// The status of a port, and of the interfaces on it, is another.
    fn note_port_status(&mut self, name: &Name) {
        self.exports_generation += 1;
        self.journal.status(Key::Port(name.clone()));
        for interface in self.dependents.interfaces(&Target::Port(name.clone())) {
            self.journal.status(Key::Interface(interface));
        }
    }
}
