//! Devices that one daemon gives to another.
//!
//! What two processes can do with one device depends on its driver:
//!
//! | driver | how it changes hands |
//! |---|---|
//! | `net_af_packet` | both have it open; the new one throws away what it receives until the old one has left it |
//! | `net_tap` | the new one opens a further queue of the same kernel interface once the old one's workers have left it; the interface stays. The old one parts with its own queues as soon as the new one forwards |
//! | `net_af_xdp` | the old one closes it and ends, then the new one opens it: the driver keeps its socket until the process ends |
//! | others | the old one closes it, then the new one opens it |

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use tieline_dpdk::{OpenPort, Rx};
use tieline_engine::io::{PacketBurst, RxQueue as _};
use tieline_engine::tables::port::PortRole;
use tieline_engine::types::{MacAddr, PortId};
use tieline_rib::PortInfo;
use tieline_rib::spec::port::PortSpec;

use super::{DevicePorts, Opened};
use crate::upgrade::socket::Process;

/// Bursts that are thrown away at once: more than wait in a ring.
const DRAINED_BURSTS: usize = 64;
/// Drivers that make a MAC up for a device, unless they are told one.
const MAKE_A_MAC_UP: [&str; 2] = ["net_tap", "net_virtio_user"];

/// When a device can be opened by the daemon that takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// While the other still uses it.
    Beside,
    /// While the other still has it, but does not use it.
    AfterLeaving,
    /// After the other has closed it.
    AfterClosing,
    /// After the other has ended.
    AfterEnding,
}

impl Sharing {
    fn of(spec: &PortSpec) -> Self {
        if spec.device.starts_with("net_af_packet") {
            Sharing::Beside
        } else if spec.device.starts_with("net_tap") {
            Sharing::AfterLeaving
        } else if spec.device.starts_with("net_af_xdp") {
            Sharing::AfterEnding
        } else {
            Sharing::AfterClosing
        }
    }
}

/// A device with the MAC that it had. Those of drivers that make one up would
/// get another one.
fn with_mac(device: &str, mac: MacAddr) -> String {
    let makes_one_up = MAKE_A_MAC_UP.iter().any(|driver| device.starts_with(driver));
    if makes_one_up && !device.contains(",mac=") { format!("{device},mac={mac}") } else { device.to_owned() }
}

/// Ports that are declared before their devices are open.
#[derive(Debug)]
pub(super) struct Plan {
    /// What the other daemon knows of them, by name.
    facts: BTreeMap<String, PortInfo>,
    ports: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    id: PortId,
    spec: PortSpec,
    info: PortInfo,
    device: Option<OpenPort>,
}

impl Plan {
    /// Declares a port as the other daemon has it.
    pub fn declare(&mut self, id: PortId, spec: &PortSpec) -> Result<PortInfo, String> {
        let Some(info) = self.facts.get(spec.name.as_str()).copied() else {
            return Err(format!("port {}: the other daemon does not have it open", spec.name));
        };
        self.ports.push(Planned { id, spec: spec.clone(), info, device: None });
        Ok(info)
    }
}

/// The daemon that goes.
impl DevicePorts {
    /// Names of the open ports, and what is known of their devices.
    pub fn facts(&self) -> Vec<(String, PortInfo)> {
        let facts = |opened: &Opened| {
            let (port, name) = (&opened.port, opened.spec.name.to_string());
            (name, PortInfo { mac: port.mac(), mtu: port.mtu() })
        };
        self.open.values().map(facts).collect()
    }

    /// Takes all devices away from the workers; they stay open.
    pub fn leave(&mut self) {
        for id in self.open.keys() {
            if let Some(queues) = self.engine.detach_port(*id) {
                self.resting.insert(*id, queues);
            }
        }
    }

    /// Closes the devices that only one process can have open.
    pub fn close_exclusive(&mut self) {
        self.close_those(Sharing::AfterClosing);
    }

    /// Closes the devices that another process gets when this one ends.
    pub fn close_last(&mut self) {
        self.close_those(Sharing::AfterEnding);
    }

    /// Closes a device that is of no use any more, so that it can be opened anew.
    fn close_lost(&mut self, id: PortId, why: String) {
        let (Some(queues), Some(Opened { port, spec })) = (self.resting.remove(&id), self.open.remove(&id))
        else {
            return;
        };
        let info = PortInfo { mac: port.mac(), mtu: port.mtu() };
        if let Err(error) = port.close(queues.rx, queues.tx) {
            tracing::warn!(port = %spec.name, "{error}");
        }
        self.lose(id, spec, info, why, None);
    }

    fn close_those(&mut self, which: Sharing) {
        let exclusive = |opened: &Opened| Sharing::of(&opened.spec) == which;
        let ids: Vec<PortId> =
            self.open.iter().filter(|(_, opened)| exclusive(opened)).map(|(id, _)| *id).collect();
        for id in ids {
            let (Some(queues), Some(Opened { port, spec })) =
                (self.resting.remove(&id), self.open.remove(&id))
            else {
                continue;
            };
            let info = PortInfo { mac: port.mac(), mtu: port.mtu() };
            if let Err(error) = port.close(queues.rx, queues.tx) {
                tracing::warn!(port = %spec.name, "{error}");
            }
            self.closed.push((id, spec, info));
        }
    }

    /// Parts with kernel interfaces that the other daemon uses too: the kernel
    /// spreads packets over all queues, and nobody reads those of this daemon.
    pub fn rest(&mut self) {
        let taps = self.open.iter().filter(|(_, opened)| opened.spec.device.starts_with("net_tap"));
        for (id, Opened { port, spec }) in taps {
            match port.part_from_kernel() {
                Ok(queues) => self.parted.push((*id, queues)),
                Err(error) => {
                    tracing::warn!(port = %spec.name, "some of its packets are lost until this process ends: {error}");
                }
            }
        }
    }

    /// Throws away what the devices have received while the other daemon forwarded:
    /// it has received it too.
    pub fn drain_resting(&mut self) {
        self.resting.values_mut().for_each(|queues| drain(&mut queues.rx));
    }

    /// Gives all devices to the workers again, after nobody took them over.
    pub fn come_back(&mut self) {
        for (id, queues) in std::mem::take(&mut self.parted) {
            if let Err(error) = queues.rejoin() {
                self.close_lost(id, format!("the kernel does not give it packets any more: {error}"));
            }
        }
        for (id, queues) in std::mem::take(&mut self.resting) {
            let Some(Opened { spec, .. }) = self.open.get(&id) else { continue };
            if let Err(error) = self.engine.attach_port(id, spec.role == PortRole::Host, queues) {
                let why = error.to_string();
                if let Some(Opened { port, spec }) = self.open.remove(&id) {
                    let info = PortInfo { mac: port.mac(), mtu: port.mtu() };
                    self.lose(id, spec, info, why, None);
                }
            }
        }
        for (id, spec, info) in std::mem::take(&mut self.closed) {
            let device = self.open_like(&spec, info);
            let attached =
                device.and_then(|device| self.attach(id, &spec, device).map_err(anyhow::Error::msg));
            if let Err(error) = attached {
                self.lose(id, spec, info, format!("{error:#}"), None);
            }
        }
    }
}

/// The daemon that comes.
impl DevicePorts {
    /// Ports that are declared from now on have these properties, and are
    /// opened later.
    pub fn plan(&mut self, facts: BTreeMap<String, PortInfo>) {
        self.plan = Some(Plan { facts, ports: Vec::new() });
    }

    /// Opens the planned devices that the other daemon may still use. No
    /// worker has them yet: [`drain`](Self::drain) them until it does not.
    ///
    /// # Errors
    /// When one does not open.
    pub fn open_beside(&mut self) -> anyhow::Result<()> {
        self.open_those(|sharing| sharing == Sharing::Beside)
    }

    /// Throws away what planned devices have received: the other daemon has
    /// received it too.
    pub fn drain(&mut self) {
        let devices =
            self.plan.iter_mut().flat_map(|plan| &mut plan.ports).filter_map(|port| port.device.as_mut());
        devices.for_each(|device| drain(&mut device.rx));
    }

    /// Opens the planned devices that are not open yet, but for those that the
    /// other daemon keeps until it ends.
    ///
    /// # Errors
    /// When one does not open.
    pub fn open_planned(&mut self) -> anyhow::Result<()> {
        self.open_those(|sharing| sharing != Sharing::AfterEnding)
    }

    fn open_those(&mut self, wanted: impl Fn(Sharing) -> bool) -> anyhow::Result<()> {
        let Some(mut plan) = self.plan.take() else { return Ok(()) };
        let mut opened = Ok(());
        for planned in &mut plan.ports {
            if planned.device.is_none() && wanted(Sharing::of(&planned.spec)) && opened.is_ok() {
                opened =
                    self.open_like(&planned.spec, planned.info).map(|device| planned.device = Some(device));
            }
        }
        self.plan = Some(plan);
        opened
    }

    /// Opens a device that must have the MAC and the MTU that it had.
    pub(super) fn open_like(&self, spec: &PortSpec, info: PortInfo) -> anyhow::Result<OpenPort> {
        let mut spec = spec.clone();
        spec.device = with_mac(&spec.device, info.mac);
        let mut device = self.open_device(&spec).map_err(anyhow::Error::msg)?;
        // A device that has made itself a MAC makes another one every time.
        if device.port.mac() != info.mac {
            device.port.set_mac(info.mac);
        }
        let now = PortInfo { mac: device.port.mac(), mtu: device.port.mtu() };
        if now != info {
            bail!(
                "port {}: its device has the MAC {} and the MTU {} here, and had {} and {}: give it fixed ones, \
                 or restart instead",
                spec.name,
                now.mac,
                now.mtu,
                info.mac,
                info.mtu
            );
        }
        Ok(device)
    }

    /// Gives the planned devices that are open to the workers.
    ///
    /// # Errors
    /// When the workers cannot take one.
    pub fn attach_planned(&mut self) -> anyhow::Result<()> {
        let Some(plan) = &mut self.plan else { return Ok(()) };
        let (open, rest) =
            std::mem::take(&mut plan.ports).into_iter().partition(|port| port.device.is_some());
        plan.ports = rest;
        for Planned { id, spec, device, .. } in open {
            let device = device.with_context(|| format!("port {} is not open", spec.name))?;
            self.attach(id, &spec, device).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// Whether a planned device can be opened only after the other daemon has
    /// ended.
    pub fn waits_for_an_end(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.ports.is_empty())
    }

    /// Opens the devices that are left and gives all to the workers. There is no
    /// way back: what does not open is tried again, once the process that may
    /// have it has ended. From now on ports are opened when they are declared.
    pub fn open_rest(&mut self, other: &Process) {
        self.drain();
        for Planned { id, spec, info, device } in self.plan.take().map(|plan| plan.ports).unwrap_or_default()
        {
            let device = device.map_or_else(|| self.open_like(&spec, info), Ok);
            let attached =
                device.and_then(|device| self.attach(id, &spec, device).map_err(anyhow::Error::msg));
            if let Err(error) = attached {
                self.lose(id, spec, info, format!("{error:#}"), Some(other.clone()));
            }
        }
    }

    /// Gives the plan up. From now on ports are opened when they are declared.
    pub fn drop_plan(&mut self) {
        self.plan = None;
    }
}

/// Throws away what queues have received.
fn drain(queues: &mut [Rx]) {
    let mut packets = PacketBurst::new();
    for queue in queues {
        for _ in 0..DRAINED_BURSTS {
            if queue.rx_burst(&mut packets) == 0 {
                break;
            }
            packets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tieline_proto::v1;

    #[test]
    fn drivers_tell_when_a_device_can_be_opened() {
        let sharing = |device: &str| {
            let mut message = v1::Port { name: "p".into(), device: device.into(), ..Default::default() };
            message.set_role(v1::PortRole::Tenant);
            Sharing::of(&PortSpec::parse(&message, 1500).expect("a port"))
        };
        assert_eq!(sharing("net_af_packet0,iface=eth1"), Sharing::Beside);
        assert_eq!(sharing("net_tap3,iface=tap"), Sharing::AfterLeaving);
        assert_eq!(sharing("net_af_xdp0,iface=eth1"), Sharing::AfterEnding);
        for device in ["net_null0", "net_vhost0,iface=/x", "net_virtio_user0,path=/x", "0000:01:00.0"] {
            assert_eq!(sharing(device), Sharing::AfterClosing);
        }
    }
    #[test]
    fn a_device_without_a_mac_of_its_own_is_told_the_one_it_had() {
        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        assert_eq!(with_mac("net_tap3,iface=tap", mac), "net_tap3,iface=tap,mac=02:00:00:00:00:07");
        assert_eq!(
            with_mac("net_virtio_user0,path=/x", mac),
            "net_virtio_user0,path=/x,mac=02:00:00:00:00:07"
        );
        for device in ["net_vhost0,iface=/x", "net_tap3,iface=tap,mac=02:00:00:00:00:08", "0000:01:00.0"] {
            assert_eq!(with_mac(device, mac), device);
        }
    }
}
