//! Why a port did not open or close.

use std::fmt;

use thiserror::Error;

use crate::device::{DeviceSpec, Driver};
use crate::port::OpenPort;

/// A port that could not be opened. Its device is detached again.
#[derive(Debug, Error)]
#[error("port {port}: device {device} {problem}")]
pub struct PortError {
    /// The port's name among operators.
    pub port: String,
    /// The device, as it was asked for.
    pub device: String,
    /// What is wrong.
    pub problem: PortProblem,
}

/// What keeps a device from being a running port.
#[derive(Debug, Error)]
pub enum PortProblem {
    /// The EAL has not looked for PCI devices.
    #[error("is on the PCI bus, but DPDK was started without PCI: enable it and restart")]
    WithoutPci,
    /// The device has a port.
    #[error("belongs to a port already: close that one or name another device")]
    InUse,
    /// DPDK has given the device to a driver that its arguments were not checked
    /// for.
    #[error(
        "was given to the driver {found:?} by DPDK, which is not the one that it names: use another name"
    )]
    OtherDriver {
        /// The driver.
        found: String,
    },
    /// No queues in one direction.
    #[error("needs at least one queue in each direction")]
    NoQueues,
    /// Frames would not fit into a buffer.
    #[error(
        "would need buffers of {needed} bytes for an MTU of {mtu}, but the pool has buffers of {data_room}: lower \
         the MTU or enlarge the buffers"
    )]
    BuffersTooSmall {
        /// The MTU wanted.
        mtu: u16,
        /// Bytes of the largest frame with that MTU.
        needed: usize,
        /// Bytes of a buffer.
        data_room: usize,
    },
    /// The device cannot carry such packets.
    #[error("takes an MTU of {smallest} to {largest}, not {mtu}")]
    Mtu {
        /// The MTU wanted.
        mtu: u16,
        /// The least that the device takes.
        smallest: u16,
        /// The most that the device takes.
        largest: u16,
    },
    /// DPDK or the device's driver refused a step.
    #[error("could not be {step}: {}. DPDK says: {messages}. {advice}", crate::errno_text(*.errno))]
    Refused {
        /// What was to be done.
        step: Step,
        /// The error number, positive. Drivers often give a meaningless one.
        errno: i32,
        /// DPDK's own messages.
        messages: String,
        /// What to look at.
        advice: &'static str,
    },
}

/// What is done to a device on its way to a running port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Finding the device and its driver.
    Attach,
    /// Asking for limits.
    Query,
    /// Setting numbers of queues.
    Configure,
    /// Setting up a receive queue.
    SetUpRx,
    /// Setting up a transmit queue.
    SetUpTx,
    /// Setting the MTU.
    SetMtu,
    /// Turning on promiscuous mode.
    SetPromiscuous,
    /// Starting.
    Start,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Attach => "attached",
            Step::Query => "asked for its limits",
            Step::Configure => "configured",
            Step::SetUpRx => "given a receive queue",
            Step::SetUpTx => "given a transmit queue",
            Step::SetMtu => "given its MTU",
            Step::SetPromiscuous => "made promiscuous",
            Step::Start => "started",
        })
    }
}

/// Why a port was not closed as it should be.
#[derive(Debug, Error)]
pub enum ClosePortError {
    /// Some queues are missing, or belong to another port.
    #[error("port {} cannot be closed without all its queues and no others: take them from the workers first",
        .0.port.name())]
    QueuesInUse(Box<OpenPort>),
    /// The driver did not let go. The port does not exist any more, but its
    /// device may stay unusable.
    #[error("port {port} is closed, but its device {refusal}: restart the process before it is opened again")]
    Refused {
        /// The port.
        port: String,
        /// What went wrong.
        refusal: String,
    },
}

/// What to look at if a device of this kind is refused.
pub(super) fn advice(device: &DeviceSpec) -> &'static str {
    match device.driver() {
        Driver::Pci => "Check that the device exists and is bound to vfio-pci",
        Driver::AfPacket => {
            "Check that the interface of \"iface=\" exists in this network namespace and that the process has \
             CAP_NET_RAW and CAP_NET_ADMIN"
        }
        Driver::AfXdp => {
            "Check that the interface of \"iface=\" exists in this network namespace, that no other XDP program \
             holds it and that the process keeps CAP_SYS_ADMIN (process.capabilities in the configuration). An \
             interface that this process has had open before is free only after a restart"
        }
        Driver::Tap => "Check that /dev/net/tun exists and that the process has CAP_NET_ADMIN",
        Driver::Vhost => "Check that the directory of the socket of \"iface=\" exists and is writable",
        Driver::VirtioUser => "Check that the socket or device of \"path=\" exists and is accessible",
        Driver::Memif => "Check that the directory of the socket of \"socket=\" exists and is accessible",
        Driver::Pcap => "Check that the files exist and are capture files of Ethernet frames",
        Driver::Null | Driver::Ring => "Check the driver's arguments",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_driver() {
        let advice_for = |text: &str| advice(&text.parse().expect("a device"));
        assert!(advice_for("net_af_packet0,iface=x").contains("iface"));
        assert!(advice_for("net_pcap_in").contains("capture"));
        assert!(advice_for("net_null0").contains("arguments"));
        assert!(advice_for("0000:01:00.0").contains("vfio-pci"));
    }
}
