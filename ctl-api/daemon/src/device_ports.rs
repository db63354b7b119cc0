//! The devices behind declared ports: opens them, gives their queues to the
//! workers, and takes them back.
//!
//! Devices take up to seconds to open and to close. While the tables change,
//! under a lock that the neighbour service needs too, queues only change
//! hands: [`DevicePorts::prepare`] opens a device before that, and
//! [`DevicePorts::finish`] closes what was left over after it.
//!
//! - [`handover`]: devices that one daemon gives to another
//! - [`missing`]: devices that were to change hands, and did not open

mod handover;
mod missing;

use std::collections::BTreeMap;

use tieline_dpdk::{DeviceSpec, DpdkIo, Eal, KernelQueues, OpenPort, Pool, Port, PortConfig, PortCounters};
use tieline_engine::engine::Engine;
use tieline_engine::engine::ports::PortQueues;
use tieline_engine::tables::port::PortRole;
use tieline_engine::types::{MacAddr, PortId};
use tieline_rib::spec::port::PortSpec;
use tieline_rib::{PortInfo, Ports};

/// Descriptors of a queue: what waits while a worker is busy elsewhere.
const DESCRIPTORS: u16 = 1024;

/// All open devices.
pub struct DevicePorts {
    eal: Eal,
    pool: Pool,
    engine: Engine<DpdkIo>,
    workers: u16,
    open: BTreeMap<PortId, Opened>,
    /// In a take-over: ports that are declared before their devices are open.
    plan: Option<handover::Plan>,
    /// In a take-over: queues that no worker has at the moment.
    resting: BTreeMap<PortId, PortQueues<DpdkIo>>,
    /// In a take-over: devices that are closed so that another can have them.
    closed: Vec<(PortId, PortSpec, PortInfo)>,
    /// In a take-over: queues of kernel interfaces that the other daemon uses.
    parted: Vec<(PortId, KernelQueues)>,
    /// Without their devices.
    missing: BTreeMap<PortId, missing::Missing>,
    /// Opened, or not, for an operation that is about to be carried out.
    prepared: Vec<(PortSpec, Result<OpenPort, String>)>,
    /// Without a port any more, and not closed yet.
    detached: Vec<(Port, PortQueues<DpdkIo>)>,
}

/// An open device, and what it was opened for.
struct Opened {
    port: Port,
    spec: PortSpec,
}

/// What a device tells about itself.
#[derive(Debug, Clone, Copy)]
pub struct DeviceView {
    /// Its own MAC.
    pub mac: MacAddr,
    /// Whether it has a link.
    pub link_up: bool,
    /// What it has counted.
    pub counters: PortCounters,
}

impl DevicePorts {
    /// No devices yet.
    pub fn new(eal: Eal, pool: Pool, engine: Engine<DpdkIo>) -> Self {
        let workers = u16::try_from(engine.workers().len()).unwrap_or(u16::MAX);
        let open = BTreeMap::new();
        Self {
            eal,
            pool,
            engine,
            workers,
            open,
            plan: None,
            resting: BTreeMap::new(),
            closed: Vec::new(),
            parted: Vec::new(),
            missing: BTreeMap::new(),
            prepared: Vec::new(),
            detached: Vec::new(),
        }
    }

    /// Whether a port's device has a link; true if there is no such port.
    pub fn link_up(&self, id: PortId) -> bool {
        if self.missing.contains_key(&id) {
            return false;
        }
        self.open.get(&id).is_none_or(|opened| opened.port.link_up())
    }

    /// What a port's device tells about itself.
    pub fn view(&self, id: PortId) -> Option<DeviceView> {
        let port = &self.open.get(&id)?.port;
        Some(DeviceView { mac: port.mac(), link_up: port.link_up(), counters: port.stats() })
    }

    /// Opens a device for a port that is about to be declared.
    pub fn prepare(&mut self, spec: PortSpec) {
        if self.plan.is_some() {
            return;
        }
        let device = self.open_device(&spec);
        self.prepared.push((spec, device));
    }

    /// Closes the devices of ports that were withdrawn, and those that nobody
    /// has asked for since they were prepared.
    pub fn finish(&mut self) {
        self.prepared.clear();
        for (port, PortQueues { rx, tx }) in self.detached.drain(..) {
            let name = port.name().to_owned();
            match port.close(rx, tx) {
                Ok(()) => tracing::info!(port = %name, "port removed"),
                Err(error) => tracing::warn!(port = %name, "{error}"),
            }
        }
    }

    fn open_device(&self, spec: &PortSpec) -> Result<OpenPort, String> {
        let device: DeviceSpec = spec.device.parse().map_err(|error| format!("{error}"))?;
        let config = PortConfig {
            name: spec.name.to_string(),
            device,
            mtu: spec.mtu,
            rx_queues: spec.rx_queues.unwrap_or(self.workers),
            tx_queues: self.workers,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
        };
        Port::open(&self.eal, &self.pool, &config).map_err(|error| error.to_string())
    }

    /// The device that was prepared for a port, or else opens it now: an
    /// operation before it in its batch may have made room for it.
    fn take_prepared(&mut self, spec: &PortSpec) -> Result<OpenPort, String> {
        match self.prepared.iter().position(|(prepared, _)| prepared == spec) {
            Some(at) => self.prepared.swap_remove(at).1,
            None => {
                self.finish();
                self.open_device(spec)
            }
        }
    }

    fn try_open(&mut self, id: PortId, spec: &PortSpec) -> Result<PortInfo, String> {
        let device = self.take_prepared(spec)?;
        self.attach(id, spec, device)
    }

    /// Gives the queues of an open device to the workers.
    fn attach(&mut self, id: PortId, spec: &PortSpec, device: OpenPort) -> Result<PortInfo, String> {
        let OpenPort { port, rx, tx, messages } = device;
        let queues = PortQueues { rx, tx };
        let counts = (queues.rx.len(), queues.tx.len());
        // When it is refused the queues are dropped, and with them and the
        // handle the device is closed.
        self.engine
            .attach_port(id, spec.role == PortRole::Host, queues)
            .map_err(|error| format!("port {}: {error}", spec.name))?;
        if !messages.is_empty() {
            tracing::debug!(port = %spec.name, "DPDK says: {messages}");
        }
        let info = PortInfo { mac: port.mac(), mtu: port.mtu() };
        tracing::info!(
            port = %spec.name, device = %spec.device, mac = %info.mac, mtu = info.mtu,
            rx_queues = counts.0, tx_queues = counts.1, "port added"
        );
        self.open.insert(id, Opened { port, spec: spec.clone() });
        Ok(info)
    }
}

impl Ports for DevicePorts {
    fn open(&mut self, id: PortId, spec: &PortSpec) -> Result<PortInfo, String> {
        match &mut self.plan {
            Some(plan) => plan.declare(id, spec),
            None => self.try_open(id, spec),
        }
    }

    fn close(&mut self, id: PortId) {
        self.missing.remove(&id);
        let Some(Opened { port, .. }) = self.open.remove(&id) else { return };
        let queues = self.engine.detach_port(id).unwrap_or(PortQueues { rx: Vec::new(), tx: Vec::new() });
        self.detached.push((port, queues));
    }
}
