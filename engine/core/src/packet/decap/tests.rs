use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::packet::buffer::IpChecksum;
use crate::packet::checksum::{transport_checksum, udp_on_wire};
use crate::packet::encap::{EncapHeader, EncapOptions};
use crate::packet::headers::set_be16;
use crate::packet::parse::parse_ip;
use crate::types::{InterfaceId, MacAddr};

const INNER: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0x40, 0, 64, 253, 0x26, 0xeb, 10, 0, 0, 1, 10, 0, 0, 2];
const LOCAL: [u8; 4] = [192, 0, 2, 1];

/// An outer IPv4 packet of `protocol` that carries `payload`.
fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend([192, 0, 2, 9]);
    packet.extend(LOCAL);
    set_be16(&mut packet, 2, total);
    let sum = checksum(&packet);
    set_be16(&mut packet, 10, sum);
    packet.extend(payload);
    packet
}

fn udp_to(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 0, 0, 0, 0];
    set_be16(&mut datagram, 2, port);
    set_be16(&mut datagram, 4, (8 + payload.len()) as u16);
    datagram.extend(payload);
    outer(protocol::UDP, &datagram)
}

fn labelled(entry: u32, inner: &[u8]) -> Vec<u8> {
    [&entry.to_be_bytes()[..], inner].concat()
}

fn parsed(packet: &[u8]) -> PacketMeta {
    let mut meta = PacketMeta::new(InterfaceId(0));
    parse_ip(packet, 0, Family::V4, IpChecksum::Unknown, &mut meta).expect("well-formed outer header");
    meta
}

fn decap(packet: &[u8]) -> Result<Option<Decapsulated>, DropReason> {
    decapsulate(packet, &parsed(packet), Some(51234))
}

const ENTRY: u32 = 100 << 12 | 0x140;

fn mpls_at(offset: usize, end: usize) -> Result<Option<Decapsulated>, DropReason> {
    let key = TunnelKey::Mpls(Label::new(100).expect("a label"));
    Ok(Some(Decapsulated { key, inner: Inner::Ip { family: Family::V4, offset }, end }))
}

#[test]
fn mpls_in_udp_on_its_port_and_on_the_further_one() {
    let payload = labelled(ENTRY, &INNER);
    for port in [6635, 51234] {
        assert_eq!(decap(&udp_to(port, &payload)), mpls_at(32, 52));
    }
    let other = udp_to(51234, &payload);
    assert_eq!(decapsulate(&other, &parsed(&other), None), Ok(None));
    assert_eq!(decap(&outer(protocol::TCP, &[0x50; 20])), Ok(None));
}

#[test]
fn a_label_stack_must_be_one_label() {
    let udp = |entry: u32, inner: &[u8]| decap(&udp_to(6635, &labelled(entry, inner)));
    assert_eq!(udp(100 << 12 | 0x40, &INNER), Err(DropReason::BadLabelStack));
    assert_eq!(udp(100 << 12 | 0x100, &INNER), Err(DropReason::MplsTtlExpired));
    assert_eq!(udp(3 << 12 | 0x140, &INNER), Err(DropReason::UnknownLabel));
    assert_eq!(udp(ENTRY, &[]), Err(DropReason::BadMplsPayload));
    assert_eq!(udp(ENTRY, &[0x50; 20]), Err(DropReason::BadMplsPayload));
    assert_eq!(decap(&udp_to(6635, &[0; 3])), Err(DropReason::BadLabelStack));
}

#[test]
fn gre_with_checksum_and_key_and_nothing_else() {
    let gre = |flags: u16, protocol_type: u16, options: &[u8]| {
        let mut packet = flags.to_be_bytes().to_vec();
        packet.extend(protocol_type.to_be_bytes());
        packet.extend(options);
        packet.extend(labelled(ENTRY, &INNER));
        if flags & gre::CHECKSUM_PRESENT != 0 {
            let sum = checksum(&packet);
            set_be16(&mut packet, 4, sum);
        }
        outer(protocol::GRE, &packet)
    };
    assert_eq!(decap(&gre(0, 0x8847, &[])), mpls_at(28, 48));
    assert_eq!(decap(&gre(0x2000, 0x8847, &[1; 4])), mpls_at(32, 52));
    assert_eq!(decap(&gre(0x8000, 0x8847, &[0; 4])), mpls_at(32, 52));
    assert_eq!(decap(&gre(0xa000, 0x8847, &[0; 8])), mpls_at(36, 56));
    // Reserved bits 6 to 12 are ignored.
    assert_eq!(decap(&gre(0x03f8, 0x8847, &[])), mpls_at(28, 48));
    for flags in [0x4000, 0x1000, 0x0800, 0x0400, 1, 2, 4] {
        assert_eq!(decap(&gre(flags, 0x8847, &[])), Err(DropReason::BadGreHeader), "{flags:04x}");
    }
    assert_eq!(decap(&gre(0, 0x0800, &[])), Err(DropReason::BadGreHeader));
    assert_eq!(decap(&outer(protocol::GRE, &[0x20, 0, 0x88, 0x47, 0])), Err(DropReason::BadGreHeader));
    let mut damaged = gre(0x8000, 0x8847, &[0; 4]);
    *damaged.last_mut().expect("bytes") ^= 1;
    assert_eq!(decap(&damaged), Err(DropReason::BadOuterChecksum));
}

#[test]
fn a_vxlan_header_needs_its_flag_and_a_vni() {
    let vxlan = |header: [u8; 8]| decap(&udp_to(4789, &[&header[..], &[0; 14]].concat()));
    let good = vxlan([0x08, 0, 0, 0, 0, 0, 7, 0]).expect("valid").expect("a tunnel packet");
    assert_eq!(good.key, TunnelKey::Vxlan(Vni::new(7).expect("a VNI")));
    assert_eq!((good.inner, good.end), (Inner::Ethernet { offset: 36 }, 50));
    assert_eq!(vxlan([0, 0, 0, 0, 0, 0, 7, 0]), Err(DropReason::BadVxlanHeader));
    assert_eq!(vxlan([0x08, 0, 0, 0, 0, 0, 0, 0]), Err(DropReason::UnknownVni));
    assert_eq!(decap(&udp_to(4789, &[0x08; 7])), Err(DropReason::BadVxlanHeader));
}

#[test]
fn a_udp_checksum_is_verified_when_there_is_one() {
    let mut packet = udp_to(6635, &labelled(ENTRY, &INNER));
    let sum = transport_checksum(&parsed(&packet).key, &packet[20..]);
    set_be16(&mut packet, 26, udp_on_wire(sum));
    assert_eq!(decap(&packet), mpls_at(32, 52));
    packet[51] ^= 1;
    assert_eq!(decap(&packet), Err(DropReason::BadOuterChecksum));
}

#[test]
fn the_udp_length_ends_the_payload_not_the_padding() {
    let mut packet = udp_to(6635, &labelled(ENTRY, &INNER));
    packet.extend([0; 6]);
    assert_eq!(decap(&packet), mpls_at(32, 52));
    // The datagram ends within the label.
    set_be16(&mut packet, 24, 8 + 3);
    assert_eq!(decap(&packet), Err(DropReason::BadLabelStack));
}

#[test]
fn fragments_of_tunnel_packets_have_a_reason_of_their_own() {
    let mut udp = udp_to(6635, &labelled(ENTRY, &INNER));
    let mut gre = outer(protocol::GRE, &labelled(ENTRY, &[0; 20]));
    for packet in [&mut udp, &mut gre] {
        packet[6] = 0x20;
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        set_be16(packet, 10, sum);
    }
    assert_eq!(decap(&udp), Err(DropReason::OuterFragment));
    assert_eq!(decap(&gre), Err(DropReason::OuterFragment));
}

proptest! {
    #[test]
    fn any_bytes_behind_an_outer_header_stay_in_bounds(
        payload in vec(any::<u8>(), 0..80), kind in 0u8..4,
    ) {
        let packet = match kind {
            0 => outer(protocol::GRE, &payload),
            1 => udp_to(6635, &payload),
            2 => udp_to(4789, &payload),
            _ => outer(protocol::GRE, &[&[0x20, 0, 0x88, 0x47][..], &payload].concat()),
        };
        if let Ok(Some(out)) = decap(&packet) {
            let (Inner::Ip { offset, .. } | Inner::Ethernet { offset }) = out.inner;
            prop_assert!(offset <= out.end && out.end <= packet.len());
        }
    }

    #[test]
    fn mutated_tunnel_packets_stay_in_bounds(
        changes in vec((0usize..90, any::<u8>()), 1..6), cut in 0usize..90, vxlan: bool,
    ) {
        let (source, destination) = (IpAddr::from([192, 0, 2, 9]), IpAddr::from(LOCAL));
        let options = EncapOptions::default();
        let header = if vxlan {
            let vni = Vni::new(7).expect("a VNI");
            EncapHeader::vxlan(source, destination, vni, MacAddr::default(), MacAddr::default(), options)
        } else {
            EncapHeader::mpls_gre(source, destination, Label::new(100).expect("a label"), options)
        }.expect("one family");
        let mut packet = vec![0; header.length()];
        packet.extend(INNER);
        header.write(&mut packet, Family::V4, 1).expect("fits");
        for (at, value) in changes {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        packet.truncate(packet.len().min(90 - cut));
        let mut meta = PacketMeta::new(InterfaceId(0));
        // The checksum is declared good, or nearly nothing would pass.
        if parse_ip(&packet, 0, Family::V4, IpChecksum::Good, &mut meta).is_ok()
            && let Ok(Some(out)) = decapsulate(&packet, &meta, None)
        {
            let (Inner::Ip { offset, .. } | Inner::Ethernet { offset }) = out.inner;
            prop_assert!(offset <= out.end && out.end <= packet.len());
        }
    }
}
