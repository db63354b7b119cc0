//! Frames for tests of whole gateways, and what is checked after each.

#![allow(dead_code, missing_docs)]

pub mod random;

use std::net::IpAddr;

use etherparse::{PacketBuilder, PacketBuilderStep, VlanId};
use tieline_engine::DropReason;
use tieline_engine::testbed::Testbed;
use tieline_engine::testbed::topology::{FABRIC, REMOTE_MAC, TENANT_1, TENANT_2, own_mac, workload_mac};
use tieline_engine::types::{MacAddr, PortId};

/// Workload 1.
pub const W1: &str = "10.1.0.10";
pub const W1_V6: &str = "2001:db8:1::10";
/// Workload 2.
pub const W2: &str = "10.1.0.20";
/// A host behind the remote gateway.
pub const FAR: &str = "10.2.0.5";
pub const FAR_V6: &str = "2001:db8:2::5";

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An Ethernet and IP header, to put something behind.
pub fn headers(
    from: MacAddr,
    to: MacAddr,
    source: &str,
    destination: &str,
    ttl: u8,
) -> PacketBuilderStep<etherparse::IpHeaders> {
    let builder = PacketBuilder::ethernet2(from.0, to.0);
    match (ip(source), ip(destination)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => builder.ipv4(s.octets(), d.octets(), ttl),
        (IpAddr::V6(s), IpAddr::V6(d)) => builder.ipv6(s.octets(), d.octets(), ttl),
        _ => panic!("addresses of one family"),
    }
}

fn finish_udp(step: PacketBuilderStep<etherparse::IpHeaders>, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = step.udp(ports.0, ports.1);
    let mut frame = Vec::with_capacity(step.size(payload.len()));
    step.write(&mut frame, payload).expect("a frame");
    frame
}

/// A UDP packet that a workload sends.
pub fn udp_from(port: PortId, source: &str, destination: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = headers(workload_mac(port), own_mac(port), source, destination, 64);
    finish_udp(step, ports, payload)
}

/// A UDP packet as it is inside a tunnel: without an Ethernet header.
pub fn inner_udp(source: &str, destination: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let step = headers(MacAddr::default(), MacAddr::default(), source, destination, 64);
    finish_udp(step, ports, payload)[14..].to_vec()
}

/// Flags of a TCP segment.
#[derive(Clone, Copy)]
pub enum Tcp {
    Syn,
    SynAck,
    Ack,
    Rst,
}

pub fn tcp_segment(
    step: PacketBuilderStep<etherparse::IpHeaders>,
    ports: (u16, u16),
    kind: Tcp,
    mss: Option<u16>,
) -> Vec<u8> {
    let mut step = step.tcp(ports.0, ports.1, 1000, 64000);
    step = match kind {
        Tcp::Syn => step.syn(),
        Tcp::SynAck => step.syn().ack(1),
        Tcp::Ack => step.ack(1),
        Tcp::Rst => step.rst(),
    };
    if let Some(mss) = mss {
        step = step.options(&[etherparse::TcpOptionElement::MaximumSegmentSize(mss)]).expect("an option");
    }
    let mut frame = Vec::with_capacity(step.size(0));
    step.write(&mut frame, &[]).expect("a frame");
    frame
}

pub fn tcp_from(port: PortId, source: &str, destination: &str, ports: (u16, u16), kind: Tcp) -> Vec<u8> {
    let step = headers(workload_mac(port), own_mac(port), source, destination, 64);
    tcp_segment(step, ports, kind, None)
}

pub fn inner_tcp(source: &str, destination: &str, ports: (u16, u16), kind: Tcp) -> Vec<u8> {
    let step = headers(MacAddr::default(), MacAddr::default(), source, destination, 64);
    tcp_segment(step, ports, kind, None)[14..].to_vec()
}

/// An echo request that a workload sends.
pub fn echo_from(port: PortId, source: &str, destination: &str, ttl: u8) -> Vec<u8> {
    let step = headers(workload_mac(port), own_mac(port), source, destination, ttl);
    let v6 = destination.contains(':');
    let mut frame = Vec::new();
    if v6 {
        let step = step.icmpv6_echo_request(77, 1);
        step.write(&mut frame, b"are you there?").expect("a frame");
    } else {
        let step = step.icmpv4_echo_request(77, 1);
        step.write(&mut frame, b"are you there?").expect("a frame");
    }
    frame
}

/// A frame that the remote gateway sends: `inner` behind MPLS-in-UDP.
pub fn tunnelled(label: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = (label << 12 | 1 << 8 | 64).to_be_bytes().to_vec();
    payload.extend_from_slice(inner);
    let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 64);
    finish_udp(step, (50000, 6635), &payload)
}

/// The inner packet of an MPLS-in-UDP frame over IPv4, and its label.
pub fn untunnelled(frame: &[u8]) -> (u32, Vec<u8>) {
    let label = u32::from_be_bytes(frame[42..46].try_into().expect("four bytes")) >> 12;
    (label, frame[46..].to_vec())
}

/// The workload's end of a tagged frame.
pub fn tagged(from: MacAddr, to: MacAddr, vlan: u16, source: &str, destination: &str) -> Vec<u8> {
    let vlan = VlanId::try_new(vlan).expect("a VLAN");
    let builder = PacketBuilder::ethernet2(from.0, to.0).single_vlan(vlan);
    let (IpAddr::V4(s), IpAddr::V4(d)) = (ip(source), ip(destination)) else { panic!("IPv4") };
    let step = builder.ipv4(s.octets(), d.octets(), 64).udp(1, 2);
    let mut frame = Vec::new();
    step.write(&mut frame, b"tagged").expect("a frame");
    frame
}

/// Sends one frame, lets the gateway work, and returns what came out where.
pub fn exchange(bed: &mut Testbed, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
    assert!(bed.send(port, frame), "a buffer and room");
    bed.run();
    collect(bed)
}

pub fn collect(bed: &Testbed) -> Vec<(PortId, Vec<u8>)> {
    let mut out = Vec::new();
    for port in (0..4).map(PortId) {
        while let Some(frame) = bed.receive(port) {
            out.push((port, frame));
        }
    }
    out
}

/// Sends one frame and returns the only frame that comes out, at `to`.
#[track_caller]
pub fn forwarded(bed: &mut Testbed, port: PortId, frame: &[u8], to: PortId) -> Vec<u8> {
    let mut out = exchange(bed, port, frame);
    assert_eq!(out.len(), 1, "one frame comes out; drops: {:?}", drops(bed));
    let (at, frame) = out.remove(0);
    assert_eq!(at, to, "the port it comes out of");
    frame
}

/// Sends one frame, which is dropped for `reason` without a word.
#[track_caller]
pub fn dropped(bed: &mut Testbed, port: PortId, frame: &[u8], reason: DropReason) {
    let before = bed.drops(reason);
    let out = exchange(bed, port, frame);
    assert!(out.is_empty(), "nothing comes out");
    assert_eq!(bed.drops(reason), before + 1, "{}; drops: {:?}", reason.name(), drops(bed));
}

pub fn drops(bed: &Testbed) -> Vec<(&'static str, u64)> {
    DropReason::ALL.iter().map(|r| (r.name(), bed.drops(*r))).filter(|(_, n)| *n > 0).collect()
}

/// Every packet left by one door, and every buffer is back.
#[track_caller]
pub fn settled(bed: &Testbed) {
    let balance = bed.balance();
    assert!(balance.is_exact(), "{balance:?}");
    assert_eq!(balance.in_flight, 0, "{balance:?}");
    assert_eq!(bed.pool.available(), bed.pool.capacity(), "buffers are back in the pool");
}

/// Both tenant ports.
pub const TENANTS: [PortId; 2] = [TENANT_1, TENANT_2];
