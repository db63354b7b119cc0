//! What a packet's bytes are put through.

use std::hint::black_box;
use std::net::IpAddr;

use tieline_engine::packet::buffer::IpChecksum;
use tieline_engine::packet::checksum::{checksum, update_u16};
use tieline_engine::packet::decap::decapsulate;
use tieline_engine::packet::encap::{EncapHeader, EncapKind, EncapOptions};
use tieline_engine::packet::flow_hash::flow_hash;
use tieline_engine::packet::flow_key::Family;
use tieline_engine::packet::meta::PacketMeta;
use tieline_engine::packet::parse::{parse_ethernet, parse_ip};
use tieline_engine::types::{InterfaceId, Label, MacAddr, Vni};

use super::{Operation, Run, operation, over};
use crate::pipeline::Case;

/// Different inputs of an operation: few enough to stay in the first cache.
const INPUTS: u32 = 128;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

const VALID: &str = "the benchmark's own packet is valid";

pub(super) fn all() -> Vec<Operation> {
    let mut all = vec![
        operation("parse_ipv4", || parse("stateful_1k")),
        operation("parse_ipv6", || parse("ipv6_stateful_1k")),
        operation("flow_hash_ipv4", || hash("stateful_1k")),
        operation("flow_hash_ipv6", || hash("ipv6_stateful_1k")),
        operation("checksum_1400", || {
            let packets = (0..8).map(|seed| vec![seed; 1400]).collect();
            over(packets, |packet: &mut Vec<u8>| {
                black_box(checksum(black_box(packet)));
            })
        }),
        operation("checksum_update", || {
            over((0..INPUTS as u16).collect(), |n| {
                *n = update_u16(black_box(*n), 0x4011, 0x3f11);
            })
        }),
    ];
    for (write, read, kind, family) in TUNNELS {
        all.push(operation(write, move || encap(kind, family)));
        all.push(operation(read, move || decap(kind, family)));
    }
    all
}

/// Tunnels, by the IP version of the underlay.
const TUNNELS: [(&str, &str, EncapKind, Family); 5] = [
    ("encap_mpls_udp_v4", "decap_mpls_udp_v4", EncapKind::MplsUdp, Family::V4),
    ("encap_mpls_udp_v6", "decap_mpls_udp_v6", EncapKind::MplsUdp, Family::V6),
    ("encap_mpls_gre_v4", "decap_mpls_gre_v4", EncapKind::MplsGre, Family::V4),
    ("encap_vxlan_v4", "decap_vxlan_v4", EncapKind::Vxlan, Family::V4),
    ("encap_vxlan_v6", "decap_vxlan_v6", EncapKind::Vxlan, Family::V6),
];

/// Frames of the first flows of a case.
fn frames(case: &str) -> Vec<Vec<u8>> {
    let case = Case::named(case).expect(VALID);
    (0..INPUTS).map(|flow| case.frame(flow)).collect()
}

fn parsed(frame: &[u8]) -> PacketMeta {
    let link = parse_ethernet(frame).expect(VALID);
    let family = link.ethertype.family().expect(VALID);
    let mut meta = PacketMeta::new(InterfaceId(1));
    parse_ip(frame, usize::from(link.l3_offset), family, IpChecksum::Unknown, &mut meta).expect(VALID);
    meta
}

/// Ethernet and IP headers, the header's checksum included.
fn parse(case: &str) -> Run {
    over(frames(case), |frame: &mut Vec<u8>| {
        black_box(parsed(black_box(frame)));
    })
}

fn hash(case: &str) -> Run {
    let keys = frames(case).iter().map(|frame| parsed(frame).key).collect();
    over(keys, |key| {
        black_box(flow_hash(black_box(key)));
    })
}

fn tunnel(kind: EncapKind, family: Family) -> EncapHeader {
    let ends: [&str; 2] = match family {
        Family::V4 => ["198.18.0.1", "198.18.0.2"],
        Family::V6 => ["2001:db8:f::1", "2001:db8:f::2"],
    };
    let [near, far] = ends.map(|end| end.parse::<IpAddr>().expect(VALID));
    let (label, vni) = (Label::new(1001).expect(VALID), Vni::new(5001).expect(VALID));
    let options = EncapOptions::default();
    let header = match kind {
        EncapKind::MplsUdp => EncapHeader::mpls_udp(near, far, label, options),
        EncapKind::MplsGre => EncapHeader::mpls_gre(near, far, label, options),
        EncapKind::Vxlan => {
            let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
            EncapHeader::vxlan(near, far, vni, macs[0], macs[1], options)
        }
    };
    header.expect(VALID)
}

/// Room for the tunnel's header, and behind it the IPv4 packets of some flows.
fn packets_to_encapsulate(header: &EncapHeader) -> Vec<Vec<u8>> {
    let packet = |frame: Vec<u8>| [&vec![0; header.length()], &frame[ETHERNET..]].concat();
    frames("stateful_1k").into_iter().map(packet).collect()
}

/// The write of a tunnel's header in front of an IPv4 packet of 46 bytes.
fn encap(kind: EncapKind, family: Family) -> Run {
    let header = tunnel(kind, family);
    let mut hash = 0u32;
    over(packets_to_encapsulate(&header), move |packet| {
        hash = hash.wrapping_add(0x9E37_79B9);
        header.write(black_box(packet), Family::V4, hash).expect(VALID);
    })
}

/// The reading of a tunnel's header, the outer IP header being parsed.
fn decap(kind: EncapKind, family: Family) -> Run {
    let header = tunnel(kind, family);
    let mut packets = packets_to_encapsulate(&header);
    let arrived = |packet: &mut Vec<u8>| {
        header.write(packet, Family::V4, 1).expect(VALID);
        let mut meta = PacketMeta::new(InterfaceId(0));
        parse_ip(packet, 0, family, IpChecksum::Unknown, &mut meta).expect(VALID);
        (std::mem::take(packet), meta)
    };
    let arrived = packets.iter_mut().map(arrived).collect();
    over(arrived, |(packet, meta)| {
        let inner = decapsulate(black_box(packet), meta, None).expect(VALID);
        black_box(inner.expect(VALID));
    })
}
