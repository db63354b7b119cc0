//! Ports: devices that come and go while others keep passing packets.
//!
//! - this file: what callers see
//! - `error`: why a port did not open or close
//! - `setup`: from a device's name to a running port
//! - `kernel_mtu`, `kernel_queues`: the MTU and the queues of an interface of
//!   the kernel
//! - `fanout`: AF_PACKET sockets of several processes, kept apart
//! - `running`: a running port, and how it ends
//!
//! Drivers' habits to know: net_af_packet puts VLAN tags that the kernel has
//! taken off back on, but always as 802.1Q, so an outer 802.1ad tag (0x88a8)
//! arrives as 0x8100. It takes frames up to its `framesz` (2048 unless the
//! device says otherwise) less some 70 bytes. net_tap takes an MTU up to 1504.
//! net_af_xdp (DPDK 22.11) keeps its socket after closing: the same interface
//! can be opened again only by another process.

mod error;
mod fanout;
mod kernel_mtu;
mod kernel_queues;
mod running;
mod setup;

use std::io;
use std::sync::Arc;

use tieline_dpdk_sys as sys;
use tieline_engine::io::{PacketBurst, RxQueue as _};
use tieline_engine::types::MacAddr;

use crate::device::DeviceSpec;
use crate::eal::Eal;
use crate::pool::Pool;
use crate::queue::{Rx, Tx};

pub use error::{ClosePortError, PortError, PortProblem, Step};
pub use kernel_queues::KernelQueues;
pub(crate) use running::Running;

/// What to open, and how.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// The port's name among operators.
    pub name: String,
    /// The device.
    pub device: DeviceSpec,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Receive queues wanted; the device may offer fewer.
    pub rx_queues: u16,
    /// Transmit queues wanted; the device may offer fewer.
    pub tx_queues: u16,
    /// Descriptors of a receive queue, adjusted to what the device allows.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue, adjusted to what the device allows.
    pub tx_descriptors: u16,
}

/// A port that has just been opened, and all its queues.
#[derive(Debug)]
pub struct OpenPort {
    /// The port.
    pub port: Port,
    /// Its receive queues: each needs a worker that polls it.
    pub rx: Vec<Rx>,
    /// Its transmit queues.
    pub tx: Vec<Tx>,
    /// What DPDK has said meanwhile, for a debug log: drivers also warn of
    /// what does not matter.
    pub messages: String,
}

/// What a device has counted since its port was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets lost because no worker took them in time.
    pub rx_missed: u64,
    /// Packets received broken.
    pub rx_errors: u64,
    /// Packets lost because the pool was empty.
    pub rx_no_buffer: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

/// The handle of an open port, for control threads.
///
/// The device is closed by [`close`](Self::close). If the handle is dropped
/// instead, the device goes on until its last queue is dropped, and is closed
/// by whoever drops that.
#[derive(Debug)]
pub struct Port {
    running: Arc<Running>,
    name: String,
    mac: MacAddr,
    mtu: u16,
    /// How many packets can wait in a receive queue.
    rx_backlog: usize,
    rx_queues: usize,
    tx_queues: usize,
}

impl Port {
    /// Attaches the device, configures it and starts it.
    ///
    /// With several receive queues flows are spread over them by address and
    /// port (RSS), if the device can. Promiscuous mode is turned on if the
    /// device has one. Checksum offloads stay off.
    ///
    /// Slow: tens of milliseconds for virtual devices, seconds for NICs. Other
    /// ports keep working.
    ///
    /// # Errors
    /// See [`PortError`]. The device is detached again then.
    pub fn open(eal: &Eal, pool: &Pool, config: &PortConfig) -> Result<OpenPort, PortError> {
        setup::open(eal, pool, config)
    }

    /// The port's name among operators.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's MAC.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Gives the port another MAC. A device that cannot be told one (vhost-user,
    /// some virtio) hands over all that it receives, so the port has it all the
    /// same. Returns whether it has it.
    pub fn set_mac(&mut self, mac: MacAddr) -> bool {
        let mut address = sys::rte_ether_addr { addr_bytes: mac.0 };
        // SAFETY: the port runs as long as `self.running` lives, and the
        // address is read during the call.
        let status = unsafe { sys::rte_eth_dev_default_mac_addr_set(self.running.id(), &raw mut address) };
        let taken = status == 0 || status == -libc::ENOTSUP;
        if taken {
            self.mac = mac;
        }
        taken
    }

    /// Largest IP packet, bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Whether the device has a link. Devices without such a notion have one.
    pub fn link_up(&self) -> bool {
        // SAFETY: the port runs as long as `self.running` lives.
        unsafe { sys::tieline_eth_link_up(self.running.id()) == 1 }
    }

    /// Whether the device was taken out of the host. Only drivers of NICs know.
    pub fn is_removed(&self) -> bool {
        // SAFETY: the port runs as long as `self.running` lives.
        unsafe { sys::rte_eth_dev_is_removed(self.running.id()) == 1 }
    }

    /// What the device has counted; all zero if it does not count.
    pub fn stats(&self) -> PortCounters {
        // SAFETY: plain integers; zero is a value.
        let mut stats: sys::rte_eth_stats = unsafe { std::mem::zeroed() };
        // SAFETY: the port runs as long as `self.running` lives.
        if unsafe { sys::rte_eth_stats_get(self.running.id(), &raw mut stats) } != 0 {
            return PortCounters::default();
        }
        PortCounters {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_buffer: stats.rx_nombuf,
            tx_errors: stats.oerrors,
        }
    }

    /// Has the kernel send nothing more to the queues of this port, which stands
    /// on a TAP that another process uses too.
    ///
    /// # Errors
    /// When it is no TAP, or the kernel refuses.
    pub fn part_from_kernel(&self) -> io::Result<KernelQueues> {
        // SAFETY: a plain structure; DPDK fills it.
        let mut info: sys::rte_eth_dev_info = unsafe { std::mem::zeroed() };
        // SAFETY: the port runs as long as `self.running` lives.
        unsafe { sys::rte_eth_dev_info_get(self.running.id(), &raw mut info) };
        KernelQueues::part(&kernel_mtu::name_of(info.if_index)?)
    }

    /// Stops the device and detaches it. Packets waiting in its receive queues
    /// are freed.
    ///
    /// # Errors
    /// Unless `rx` and `tx` are all the queues of this port, everything is
    /// given back and goes on working. If the device does not let go, the port
    /// is gone all the same.
    pub fn close(self, mut rx: Vec<Rx>, tx: Vec<Tx>) -> Result<(), ClosePortError> {
        let own_rx = rx.iter().all(|queue| Arc::ptr_eq(queue.port(), &self.running));
        let own_tx = tx.iter().all(|queue| Arc::ptr_eq(queue.port(), &self.running));
        if !own_rx || !own_tx || rx.len() != self.rx_queues || tx.len() != self.tx_queues {
            return Err(ClosePortError::QueuesInUse(Box::new(OpenPort {
                port: self,
                rx,
                tx,
                messages: String::new(),
            })));
        }
        for queue in &mut rx {
            drain(queue, self.rx_backlog);
        }
        drop((rx, tx));
        let Self { running, name, .. } = self;
        match Arc::try_unwrap(running) {
            Ok(running) => running.close().map_err(|refusal| ClosePortError::Refused { port: name, refusal }),
            // The queues were counted: there is no other handle.
            Err(_) => unreachable!("a queue of the port exists twice"),
        }
    }
}

/// Frees what waits in a queue: software devices forget it when they close,
/// and the pool would never see it again.
fn drain(queue: &mut Rx, backlog: usize) {
    let mut left = backlog;
    let mut packets = PacketBurst::new();
    while left > 0 {
        let received = queue.rx_burst(&mut packets);
        if received == 0 {
            break;
        }
        packets.clear();
        left = left.saturating_sub(received);
    }
}
