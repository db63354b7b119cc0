//! From a device's name to a running port.

use std::ffi::{CStr, CString, c_int};
use std::ptr;
use std::sync::Arc;

use sys::{rte_eth_conf, rte_eth_dev_info};
use tieline_dpdk_sys as sys;
use tieline_engine::types::MacAddr;

use crate::device::{DeviceSpec, Driver};
use crate::eal::Eal;
use crate::log;
use crate::pool::Pool;
use crate::port::error::{PortError, PortProblem, Step, advice};
use crate::port::running::{Running, bus, control, detach};
use crate::port::{OpenPort, Port, PortConfig, fanout, kernel_mtu};
use crate::queue::{Rx, Tx};

/// Bytes of an Ethernet header with two VLAN tags.
const LAYER2: usize = 22;

/// DPDK's SOCKET_ID_ANY: memory of any NUMA node.
const ANY_NODE: u32 = u32::MAX;

/// The MTU of Ethernet without jumbo frames, bytes (RFC 894).
const ETHERNET_MTU: u16 = 1500;

/// Packets that the ring of a software device holds, whatever its descriptors.
const SOFTWARE_RING: usize = 1024;

/// What the device was configured for.
struct Configured {
    rx_queues: u16,
    tx_queues: u16,
    rx_descriptors: u16,
    tx_descriptors: u16,
}

pub(super) fn open(eal: &Eal, pool: &Pool, config: &PortConfig) -> Result<OpenPort, PortError> {
    let refuse =
        |problem| PortError { port: config.name.clone(), device: config.device.to_string(), problem };
    check_wishes(eal, pool, config).map_err(refuse)?;

    let _one_at_a_time = control();
    if port_of(&config.device).is_some() {
        return Err(refuse(PortProblem::InUse));
    }
    let attempt = || log::capture(|| attach(&config.device).and_then(|id| start(id, pool, config)));
    let (outcome, said) = match config.device.name().starts_with("net_af_packet") {
        true => fanout::in_a_group_of_its_own(attempt, |(outcome, said)| {
            outcome.is_err() && fanout::is_refused(said.text())
        }),
        false => attempt(),
    };
    match outcome {
        Ok(mut open) => {
            open.messages = said.into_text();
            Ok(open)
        }
        Err(PortProblem::Refused { step, errno, .. }) => {
            let (messages, advice) = (said.in_one_line(), advice(&config.device));
            Err(refuse(PortProblem::Refused { step, errno, messages, advice }))
        }
        Err(problem) => Err(refuse(problem)),
    }
}

fn check_wishes(eal: &Eal, pool: &Pool, config: &PortConfig) -> Result<(), PortProblem> {
    if config.device.is_pci() && !eal.pci() {
        return Err(PortProblem::WithoutPci);
    }
    if config.rx_queues == 0 || config.tx_queues == 0 {
        return Err(PortProblem::NoQueues);
    }
    let (needed, data_room) = (usize::from(config.mtu) + LAYER2, pool.data_room());
    if needed > data_room {
        return Err(PortProblem::BuffersTooSmall { mtu: config.mtu, needed, data_room });
    }
    Ok(())
}

/// DPDK's number of the port of a device that is attached.
fn port_of(device: &DeviceSpec) -> Option<u16> {
    let name = CString::new(device.name()).ok()?;
    let mut id = 0;
    // SAFETY: a terminated string and a place for the answer.
    let status = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) };
    (status == 0).then_some(id)
}

fn attach(device: &DeviceSpec) -> Result<u16, PortProblem> {
    let devargs = device.devargs();
    // SAFETY: a terminated string.
    check(Step::Attach, unsafe { sys::rte_dev_probe(devargs.as_ptr()) })?;
    port_of(device).ok_or_else(|| {
        detach(bus(device), device.name());
        refused(Step::Attach, -libc::ENODEV)
    })
}

/// Starts the port `id` of a device that was just attached, or detaches it.
fn start(id: u16, pool: &Pool, config: &PortConfig) -> Result<OpenPort, PortProblem> {
    let running = Running::new(id, &config.device);
    match bring_up(id, pool, config) {
        Ok((configured, mac)) => Ok(hand_out(running, config, &configured, mac)),
        Err(problem) => {
            running.abandon();
            Err(problem)
        }
    }
}

fn bring_up(id: u16, pool: &Pool, config: &PortConfig) -> Result<(Configured, MacAddr), PortProblem> {
    // SAFETY: a plain structure; DPDK fills it.
    let mut info: rte_eth_dev_info = unsafe { std::mem::zeroed() };
    // SAFETY: the port exists; there is a place for the answer.
    check(Step::Query, unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) })?;
    check_driver(&info, &config.device)?;
    let mtu = choose_mtu(&info, config)?;
    let configured = configure(id, &info, config, mtu)?;
    set_up_queues(id, pool, &configured)?;
    set_mtu(id, &info, config.mtu, mtu)?;
    // SAFETY: the port exists.
    tolerate_unsupported(Step::SetPromiscuous, unsafe { sys::rte_eth_promiscuous_enable(id) })?;
    // SAFETY: the port is configured and all its queues are set up.
    check(Step::Start, unsafe { sys::rte_eth_dev_start(id) })?;
    // SAFETY: the port exists. A device without counters refuses, which is fine.
    unsafe { sys::rte_eth_stats_reset(id) };
    Ok((configured, mac(id)?))
}

/// DPDK chooses a virtual device's driver by the name of the device: it must be
/// the one that the arguments were checked for.
fn check_driver(info: &rte_eth_dev_info, device: &DeviceSpec) -> Result<(), PortProblem> {
    if device.is_pci() {
        return Ok(());
    }
    let found = if info.driver_name.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so a terminated string of a driver that is loaded.
        unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
    };
    if found == device.driver().name() { Ok(()) } else { Err(PortProblem::OtherDriver { found }) }
}

/// What DPDK is told of the MTU.
#[derive(Debug, Clone, Copy)]
enum Mtu {
    /// The driver knows and enforces it.
    Driver(u16),
    /// The driver passes frames of any length but claims to take none longer
    /// than usual, so that DPDK would refuse to tell it.
    Untold,
}

/// Drivers whose claim to be limited to 1500 bytes, or lack of a way to set
/// another MTU, does not keep them from passing longer packets.
const PASS_ANY_LENGTH: [Driver; 4] = [Driver::AfPacket, Driver::Memif, Driver::Ring, Driver::Pcap];

fn choose_mtu(info: &rte_eth_dev_info, config: &PortConfig) -> Result<Mtu, PortProblem> {
    let mtu = config.mtu;
    if mtu > ETHERNET_MTU && PASS_ANY_LENGTH.contains(&config.device.driver()) {
        return Ok(Mtu::Untold);
    }
    let (smallest, largest) = (info.min_mtu, largest_mtu(info));
    if (smallest..=largest).contains(&mtu) {
        Ok(Mtu::Driver(mtu))
    } else {
        Err(PortProblem::Mtu { mtu, smallest, largest })
    }
}

/// The largest MTU that DPDK accepts for the device: it takes what the driver
/// says of packets and of frames together.
fn largest_mtu(info: &rte_eth_dev_info) -> u16 {
    const HEADER_AND_FCS: u32 = 18;
    let max_mtu = u32::from(info.max_mtu);
    let said = info.max_mtu != u16::MAX && info.max_rx_pktlen > max_mtu;
    let overhead = if said { info.max_rx_pktlen - max_mtu } else { HEADER_AND_FCS };
    let largest = max_mtu.min(info.max_rx_pktlen.saturating_sub(overhead));
    u16::try_from(largest).unwrap_or(u16::MAX)
}

/// Settles on numbers of queues. Some drivers want as many in one direction as
/// in the other, some offer RSS and refuse it: the wish is reduced step by
/// step.
fn configure(
    id: u16,
    info: &rte_eth_dev_info,
    config: &PortConfig,
    mtu: Mtu,
) -> Result<Configured, PortProblem> {
    let rx = config.rx_queues.min(info.max_rx_queues);
    let tx = config.tx_queues.min(info.max_tx_queues);
    let both = rx.min(tx);
    let rss = if rx > 1 { info.flow_type_rss_offloads & sys::TIELINE_RSS_IP_TCP_UDP } else { 0 };
    let mut outcome = 0;
    for (rx_queues, tx_queues, rss) in [(rx, tx, rss), (both, both, rss), (rx, tx, 0), (both, both, 0)] {
        let conf = conf(mtu, rss);
        // SAFETY: the port exists and is stopped; the structure is complete.
        outcome = unsafe { sys::rte_eth_dev_configure(id, rx_queues, tx_queues, &raw const conf) };
        if outcome < 0 {
            continue;
        }
        let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port exists; both numbers are in and out.
        check(Step::Configure, unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx_descriptors, &raw mut tx_descriptors)
        })?;
        return Ok(Configured { rx_queues, tx_queues, rx_descriptors, tx_descriptors });
    }
    Err(refused(Step::Configure, outcome))
}

fn conf(mtu: Mtu, rss: u64) -> rte_eth_conf {
    // SAFETY: a plain structure; zero asks for defaults everywhere.
    let mut conf: rte_eth_conf = unsafe { std::mem::zeroed() };
    if let Mtu::Driver(mtu) = mtu {
        conf.rxmode.mtu = u32::from(mtu);
    }
    if rss != 0 {
        conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = rss;
    }
    conf
}

fn set_up_queues(id: u16, pool: &Pool, configured: &Configured) -> Result<(), PortProblem> {
    for queue in 0..configured.rx_queues {
        // SAFETY: the port is configured for the queue; null asks for the
        // device's defaults; the pool lives for ever.
        check(Step::SetUpRx, unsafe {
            sys::rte_eth_rx_queue_setup(
                id,
                queue,
                configured.rx_descriptors,
                ANY_NODE,
                ptr::null(),
                pool.as_ptr(),
            )
        })?;
    }
    for queue in 0..configured.tx_queues {
        // SAFETY: as above.
        check(Step::SetUpTx, unsafe {
            sys::rte_eth_tx_queue_setup(id, queue, configured.tx_descriptors, ANY_NODE, ptr::null())
        })?;
    }
    Ok(())
}

/// Devices that have no MTU of their own may go without being told, but
/// somebody has to be in charge of jumbo frames.
fn set_mtu(id: u16, info: &rte_eth_dev_info, wanted: u16, mtu: Mtu) -> Result<(), PortProblem> {
    match mtu {
        Mtu::Driver(mtu) => {
            // SAFETY: the port exists.
            let status = unsafe { sys::rte_eth_dev_set_mtu(id, mtu) };
            if mtu > ETHERNET_MTU {
                check(Step::SetMtu, status)
            } else {
                tolerate_unsupported(Step::SetMtu, status)
            }
        }
        // An interface of the kernel has the last word all the same.
        Mtu::Untold if info.if_index != 0 => kernel_mtu::raise(info.if_index, wanted)
            .map_err(|error| refused(Step::SetMtu, error.raw_os_error().unwrap_or(libc::EIO))),
        Mtu::Untold => Ok(()),
    }
}

fn mac(id: u16) -> Result<MacAddr, PortProblem> {
    let mut address = sys::rte_ether_addr { addr_bytes: [0; 6] };
    // SAFETY: the port exists; there is a place for the answer.
    check(Step::Query, unsafe { sys::rte_eth_macaddr_get(id, &raw mut address) })?;
    Ok(MacAddr(address.addr_bytes))
}

fn hand_out(running: Running, config: &PortConfig, configured: &Configured, mac: MacAddr) -> OpenPort {
    let running = Arc::new(running);
    let rx: Vec<Rx> = (0..configured.rx_queues).map(|queue| Rx::new(Arc::clone(&running), queue)).collect();
    let tx: Vec<Tx> = (0..configured.tx_queues).map(|queue| Tx::new(Arc::clone(&running), queue)).collect();
    let port = Port {
        name: config.name.clone(),
        mac,
        mtu: config.mtu,
        rx_backlog: usize::from(configured.rx_descriptors).max(SOFTWARE_RING),
        rx_queues: rx.len(),
        tx_queues: tx.len(),
        running,
    };
    OpenPort { port, rx, tx, messages: String::new() }
}

fn check(step: Step, status: c_int) -> Result<(), PortProblem> {
    if status < 0 { Err(refused(step, status)) } else { Ok(()) }
}

/// A refusal; [`open`] adds what DPDK has said.
fn refused(step: Step, status: c_int) -> PortProblem {
    PortProblem::Refused { step, errno: status.saturating_abs(), messages: String::new(), advice: "" }
}

fn tolerate_unsupported(step: Step, status: c_int) -> Result<(), PortProblem> {
    if status == -libc::ENOTSUP { Ok(()) } else { check(step, status) }
}
