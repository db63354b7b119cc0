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
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tieline_dpdk::{DeviceSpec, Driver, OpenPort, Port, Rx};
use tieline_engine::engine::ports::PortQueues;
use tieline_engine::io::{PacketBurst, RxQueue as _};
use tieline_engine::tables::port::PortRole;
use tieline_engine::types::{MacAddr, PortId};
use tieline_rib::PortInfo;

use super::{DevicePorts, Slot, State, Wanted};
use crate::other_process::Process;

/// Bursts that are thrown away at once: more than wait in a ring.
const DRAINED_BURSTS: usize = 64;
/// How long devices that did not open are tried again soon after an upgrade:
/// whoever has them ends, and the kernel takes its time to free them.
const HURRY: Duration = Duration::from_secs(30);

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
    fn of(driver: Driver) -> Self {
        match driver {
            Driver::AfPacket => Sharing::Beside,
            Driver::Tap => Sharing::AfterLeaving,
            Driver::AfXdp => Sharing::AfterEnding,
            _ => Sharing::AfterClosing,
        }
    }

    /// The same of a port that is open.
    fn of_open(wanted: &Wanted) -> Self {
        wanted
            .spec
            .device
            .parse()
            .map_or(Sharing::AfterClosing, |device: DeviceSpec| Self::of(device.driver()))
    }
}

/// A device with the MAC that it had. Those of drivers that make one up would
/// get another one.
fn with_mac(device: &DeviceSpec, mac: MacAddr) -> DeviceSpec {
    match device.driver() {
        Driver::Tap | Driver::VirtioUser => {
            device.with_argument("mac", &mac.to_string()).unwrap_or_else(|_| device.clone())
        }
        _ => device.clone(),
    }
}

fn info_of(port: &Port) -> PortInfo {
    PortInfo { mac: port.mac(), mtu: port.mtu() }
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
    wanted: Wanted,
    device: DeviceSpec,
    info: PortInfo,
    open: Option<OpenPort>,
}

impl Plan {
    /// Whether a port is planned.
    pub fn has(&self, id: PortId) -> bool {
        self.ports.iter().any(|planned| planned.wanted.id == id)
    }
}

/// The daemon that goes.
impl DevicePorts {
    /// Names of the open ports, and what is known of their devices.
    pub fn facts(&self) -> Vec<(String, PortInfo)> {
        let facts = |slot: &Slot| match &slot.state {
            State::Open(port, _) => Some((slot.wanted.spec.name.to_string(), info_of(port))),
            State::Opening(_) | State::Closed { .. } => None,
        };
        self.slots.values().filter_map(facts).collect()
    }

    /// Takes all devices away from the workers; they stay open.
    pub fn leave(&mut self) {
        for (id, slot) in &self.slots {
            if matches!(slot.state, State::Open(..))
                && let Some(queues) = self.engine.detach_port(*id)
            {
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

    /// Closes a device that is of no use any more, so that it is opened anew.
    fn close_lost(&mut self, id: PortId, why: String, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let State::Open(port, _) = std::mem::replace(&mut slot.state, State::not_yet()) {
            let PortQueues { rx, tx } =
                self.resting.remove(&id).unwrap_or(PortQueues { rx: Vec::new(), tx: Vec::new() });
            if let Err(error) = port.close(rx, tx) {
                tracing::warn!(port = %slot.wanted.spec.name, "{error}");
            }
        }
        self.failed(id, why, now);
    }

    fn close_those(&mut self, which: Sharing) {
        for (id, slot) in &mut self.slots {
            if Sharing::of_open(&slot.wanted) != which || !matches!(slot.state, State::Open(..)) {
                continue;
            }
            let Some(PortQueues { rx, tx }) = self.resting.remove(id) else { continue };
            if let State::Open(port, _) = std::mem::replace(&mut slot.state, State::not_yet()) {
                let info = info_of(&port);
                if let Err(error) = port.close(rx, tx) {
                    tracing::warn!(port = %slot.wanted.spec.name, "{error}");
                }
                self.closed.push((*id, info));
            }
        }
    }

    /// Parts with kernel interfaces that the other daemon uses too: the kernel
    /// spreads packets over all queues, and nobody reads those of this daemon.
    pub fn rest(&mut self) {
        for (id, slot) in &self.slots {
            let State::Open(port, _) = &slot.state else { continue };
            if Sharing::of_open(&slot.wanted) != Sharing::AfterLeaving {
                continue;
            }
            match port.part_from_kernel() {
                Ok(queues) => self.parted.push((*id, queues)),
                Err(error) => tracing::warn!(
                    port = %slot.wanted.spec.name,
                    "some of its packets are lost until this process ends: {error}"
                ),
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
        let now = Instant::now();
        for (id, queues) in std::mem::take(&mut self.parted) {
            if let Err(error) = queues.rejoin() {
                self.close_lost(id, format!("the kernel does not give it packets any more: {error}"), now);
            }
        }
        for (id, queues) in std::mem::take(&mut self.resting) {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            let is_host = slot.wanted.spec.role == PortRole::Host;
            if let Err(error) = self.engine.attach_port(id, is_host, queues) {
                // Its queues are gone, and it has to be opened again.
                self.failed(id, error.to_string(), now);
            }
        }
        for (id, info) in std::mem::take(&mut self.closed) {
            let Some(wanted) = self.slots.get(&id).map(|slot| slot.wanted.clone()) else { continue };
            let opened = self.parse_allowed(&wanted).map_err(anyhow::Error::msg);
            let opened = opened.and_then(|device| self.open_like(&wanted, &device, info));
            if let Err(error) = opened.and_then(|device| self.attach(id, device).map_err(anyhow::Error::msg))
            {
                self.failed(id, format!("{error:#}"), now);
            }
        }
    }
}

/// The daemon that comes.
impl DevicePorts {
    /// Ports that are declared from now on, and that the other daemon has open,
    /// have these properties and are opened later.
    pub fn plan(&mut self, facts: BTreeMap<String, PortInfo>) {
        self.plan = Some(Plan { facts, ports: Vec::new() });
    }

    /// In a take-over: plans a port that the other daemon has open, as it is
    /// there. False if it has not, or if the device may not be used here.
    pub(super) fn plan_port(&mut self, wanted: &Wanted) -> bool {
        let Some(info) =
            self.plan.as_ref().and_then(|plan| plan.facts.get(wanted.spec.name.as_str()).copied())
        else {
            return false;
        };
        let Ok(device) = self.parse_allowed(wanted) else { return false };
        let Some(plan) = &mut self.plan else { return false };
        plan.ports.push(Planned { wanted: wanted.clone(), device, info, open: None });
        self.news.push((wanted.id, Ok(info)));
        true
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
            self.plan.iter_mut().flat_map(|plan| &mut plan.ports).filter_map(|port| port.open.as_mut());
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

    fn open_those(&mut self, which: impl Fn(Sharing) -> bool) -> anyhow::Result<()> {
        let Some(mut plan) = self.plan.take() else { return Ok(()) };
        let mut opened = Ok(());
        for planned in &mut plan.ports {
            if planned.open.is_none() && which(Sharing::of(planned.device.driver())) && opened.is_ok() {
                opened = self
                    .open_like(&planned.wanted, &planned.device, planned.info)
                    .map(|device| planned.open = Some(device));
            }
        }
        self.plan = Some(plan);
        opened
    }

    /// Opens a device that must have the MAC and the MTU that it had.
    fn open_like(&self, wanted: &Wanted, device: &DeviceSpec, info: PortInfo) -> anyhow::Result<OpenPort> {
        let spec = &wanted.spec;
        let mut open = self.opening.open(spec, &with_mac(device, info.mac)).map_err(anyhow::Error::msg)?;
        // A device that has made itself a MAC makes another one every time.
        if open.port.mac() != info.mac {
            open.port.set_mac(info.mac);
        }
        let now = info_of(&open.port);
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
        Ok(open)
    }

    /// Gives the planned devices that are open to the workers.
    ///
    /// # Errors
    /// When the workers cannot take one.
    pub fn attach_planned(&mut self) -> anyhow::Result<()> {
        let Some(plan) = &mut self.plan else { return Ok(()) };
        let (open, rest) = std::mem::take(&mut plan.ports).into_iter().partition(|port| port.open.is_some());
        plan.ports = rest;
        for Planned { wanted, open, .. } in open {
            let open = open.with_context(|| format!("port {} is not open", wanted.spec.name))?;
            self.attach_new(wanted, open).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    fn attach_new(&mut self, wanted: Wanted, open: OpenPort) -> Result<(), String> {
        let id = wanted.id;
        self.slots.insert(id, Slot { wanted, state: State::not_yet() });
        self.attach(id, open)
    }

    /// Whether a planned device can be opened only after the other daemon has
    /// ended.
    pub fn waits_for_an_end(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.ports.is_empty())
    }

    /// Opens the devices that are left and gives all to the workers. There is no
    /// way back: what does not open is tried again, at once when the process that
    /// may have it has ended. From now on ports are opened when they are declared.
    pub fn open_rest(&mut self, other: &Process) {
        self.drain();
        let now = Instant::now();
        self.hurried_until = Some(now + HURRY);
        for Planned { wanted, device, info, open } in
            self.plan.take().map(|plan| plan.ports).unwrap_or_default()
        {
            let id = wanted.id;
            let open = open.map_or_else(|| self.open_like(&wanted, &device, info), Ok);
            self.slots.insert(id, Slot { wanted, state: State::not_yet() });
            let attached = open.and_then(|open| self.attach(id, open).map_err(anyhow::Error::msg));
            if let Err(error) = attached {
                self.failed_beside(id, format!("{error:#}"), other, now);
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

    fn device(text: &str) -> DeviceSpec {
        text.parse().expect("a device")
    }

    #[test]
    fn drivers_tell_when_a_device_can_be_opened() {
        let sharing = |text: &str| Sharing::of(device(text).driver());
        assert_eq!(sharing("net_af_packet0,iface=eth1"), Sharing::Beside);
        assert_eq!(sharing("net_tap3,iface=tap"), Sharing::AfterLeaving);
        assert_eq!(sharing("net_af_xdp0,iface=eth1"), Sharing::AfterEnding);
        for text in ["net_null0", "net_vhost0,iface=/x", "net_virtio_user0,path=/x", "0000:01:00.0"] {
            assert_eq!(sharing(text), Sharing::AfterClosing);
        }
    }

    #[test]
    fn a_device_without_a_mac_of_its_own_is_told_the_one_it_had() {
        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        let with = |text: &str| with_mac(&device(text), mac).to_string();
        assert_eq!(with("net_tap3,iface=tap"), "net_tap3,iface=tap,mac=02:00:00:00:00:07");
        assert_eq!(with("net_virtio_user0,path=/x"), "net_virtio_user0,path=/x,mac=02:00:00:00:00:07");
        for text in ["net_vhost0,iface=/x", "net_tap3,iface=tap,mac=02:00:00:00:00:08", "0000:01:00.0"] {
            assert_eq!(with(text), text);
        }
    }
}
