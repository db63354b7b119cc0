//! Ports that stand on interfaces of the kernel, in a network namespace of
//! the test's own. Needs root; without it the test says so and passes.

mod support;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{config, eal, open, packet, pool};
use tieline_dpdk::{Mbuf, OpenPort, Port, PortConfig, Rx};
use tieline_engine::io::{PacketBurst, RxQueue as _, TxQueue as _};
use tieline_engine::packet::buffer::PacketBuf as _;

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

/// Ethernet frame of an experimental type (RFC 9542), so that the kernel has
/// no answer to it; `tag` goes between the addresses and the type.
fn frame(tag: &[u8], length: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame.extend_from_slice(tag);
    frame.extend_from_slice(&[0x88, 0xb5]);
    frame.extend((frame.len()..length).map(|at| at as u8));
    frame
}

/// The next packet with our source address: the kernel sends packets as well.
fn receive(rx: &mut Rx) -> Option<Mbuf> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut packets = PacketBurst::new();
    while Instant::now() < end {
        rx.rx_burst(&mut packets);
        if let Some(packet) = packets.drain(..).find(|packet| packet.bytes()[6..12] == [2, 0, 0, 0, 0, 1]) {
            return Some(packet);
        }
    }
    None
}

/// Moves this thread to a network namespace with a veth pair, `left` and
/// `right`; false if that cannot be.
fn with_a_veth_pair() -> bool {
    // SAFETY: has no preconditions; affects this thread and those it makes.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("skipped: a network namespace of its own needs root");
        return false;
    }
    if !(ip("link add left type veth peer name right") && ip("link set left up") && ip("link set right up")) {
        eprintln!("skipped: the kernel or iproute2 has no veth");
        return false;
    }
    true
}

#[test]
fn frames_cross_a_veth_pair_unchanged() {
    if !with_a_veth_pair() {
        return;
    }
    let pool = pool("kernel", 1023, 2048);
    let jumbo = |device: &str| Port::open(eal(), &pool, &PortConfig { mtu: 1700, ..config(device) });
    let mut left = jumbo("net_af_packet0,iface=left").expect("opens");
    let mut right = jumbo("net_af_packet1,iface=right").expect("opens");

    let mut sent = PacketBurst::new();
    for (tag, length) in [(&[][..], 60), (&[0x81, 0, 0, 7], 64), (&[0x81, 0, 0, 5, 0x81, 0, 0, 7], 1522)] {
        let frame = frame(tag, length);
        sent.push(packet(&pool, &frame));
        assert_eq!(left.tx[0].tx_burst(&mut sent), 1);
        let received =
            receive(&mut right.rx[0]).unwrap_or_else(|| panic!("no frame with tag {tag:x?} arrives"));
        assert_eq!(received.bytes(), &frame[..]);
    }
    assert!(left.port.link_up());
    assert!(left.port.stats().tx_packets >= 3);
    right.port.close(right.rx, right.tx).expect("closes");

    // The far side again as a TAP's neighbour: made, used and removed.
    let tap = open(&pool, "net_tap0,iface=tl-test").expect("opens");
    assert!(ip("link show tl-test"));
    tap.port.close(tap.rx, tap.tx).expect("closes");
    assert!(!ip("link show tl-test"));
    left.port.close(left.rx, left.tx).expect("closes");
    drop(sent);
    assert_eq!(pool.available(), pool.capacity());
}

/// A socket on an interface, in the fanout group of this number.
fn in_group(interface: &str, number: u16) -> OwnedFd {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: has no preconditions.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
    assert!(socket >= 0);
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let name = CString::new(interface).expect("a name");
    // SAFETY: a plain structure; zero is a value of each field.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    // SAFETY: a terminated string.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
    let length = size_of_val(&address) as u32;
    // SAFETY: the address lives during the call, and has this length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0);
    let group = u32::from(number) | libc::PACKET_FANOUT_HASH << 16;
    // SAFETY: the option is four bytes, which live during the call.
    let joined = unsafe {
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_FANOUT);
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const group).cast(), 4)
    };
    assert_eq!(joined, 0);
    socket
}

#[test]
fn another_process_whose_groups_would_be_ours_is_no_obstacle() {
    if !with_a_veth_pair() {
        return;
    }
    let pool = pool("groups", 1023, 2048);
    let name = CString::new("left").expect("a name");
    // SAFETY: a terminated string.
    let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // The group that the driver would take, at another interface.
    let _other = in_group("right", (std::process::id() ^ interface) as u16);
    let left = open(&pool, "net_af_packet7,iface=left").expect("opens all the same");
    left.port.close(left.rx, left.tx).expect("closes");
}

/// Sends a datagram of each of many flows out by a TAP, and returns how many of
/// them come to this port.
fn flows_that_reach(port: &mut OpenPort) -> usize {
    const FLOWS: u16 = 100;
    for flow in 0..FLOWS {
        let socket = UdpSocket::bind("198.18.7.1:0").expect("an address of the TAP");
        socket.send_to(b"flow", ("198.18.7.2", 10_000 + flow)).expect("it is sent");
    }
    let mut seen = BTreeSet::new();
    let mut packets = PacketBurst::new();
    let end = Instant::now() + Duration::from_secs(5);
    while seen.len() < usize::from(FLOWS) && Instant::now() < end {
        if port.rx[0].rx_burst(&mut packets) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        for packet in packets.drain(..) {
            // Ethernet, IPv4 without options, the destination port.
            let bytes = packet.bytes();
            if bytes.len() > 40 && bytes[12..14] == [8, 0] && bytes[23] == 17 {
                seen.insert([bytes[36], bytes[37]]);
            }
        }
    }
    seen.len()
}

#[test]
fn queues_of_a_tap_that_nobody_reads_get_nothing() {
    if !with_a_veth_pair() {
        return;
    }
    let pool = pool("queues", 2047, 2048);
    let old = open(&pool, "net_tap5,iface=tl-queues").expect("opens");
    assert!(ip("link set tl-queues up") && ip("address add 198.18.7.1/24 dev tl-queues"));
    let parted = old.port.part_from_kernel().expect("it has a queue");
    // As another process does that takes over.
    let mut new = open(&pool, "net_tap6,iface=tl-queues").expect("a further queue");
    // It has brought another MAC, and the kernel has forgotten its neighbours.
    assert!(ip("neigh add 198.18.7.2 lladdr 02:00:00:00:00:02 dev tl-queues nud permanent"));
    assert_eq!(flows_that_reach(&mut new), 100, "all of them");
    parted.rejoin().expect("the kernel takes it");
    let some = flows_that_reach(&mut new);
    assert!(some < 100, "both queues are used again: {some}");
    new.port.close(new.rx, new.tx).expect("closes");
    drop(old);
}

#[test]
fn only_a_tap_parts_from_the_kernel() {
    if !with_a_veth_pair() {
        return;
    }
    let pool = pool("veth", 1023, 2048);
    let port = open(&pool, "net_af_packet8,iface=left").expect("opens");
    let error = port.port.part_from_kernel().expect_err("it is no TAP").to_string();
    assert!(error.contains("no queue of left"), "{error}");
    port.port.close(port.rx, port.tx).expect("closes");
}
