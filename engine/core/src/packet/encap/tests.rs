use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, PacketBuilder, UdpHeaderSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::packet::buffer::IpChecksum;
use crate::packet::decap::{Inner, TunnelKey, decapsulate};
use crate::packet::meta::PacketMeta;
use crate::packet::parse::{parse_ethernet, parse_ip};
use crate::types::InterfaceId;

const REMOTE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const HASH: u32 = 0xabcd_1234;

fn ends(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])),
        Family::V6 => {
            (IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]))
        }
    }
}

fn header(kind: EncapKind, family: Family, id: u32, options: EncapOptions) -> EncapHeader {
    let (source, destination) = ends(family);
    let label = || Label::new(id).expect("a label");
    match kind {
        EncapKind::MplsUdp => EncapHeader::mpls_udp(source, destination, label(), options),
        EncapKind::MplsGre => EncapHeader::mpls_gre(source, destination, label(), options),
        EncapKind::Vxlan => {
            let vni = Vni::new(id).expect("a VNI");
            EncapHeader::vxlan(source, destination, vni, REMOTE_MAC, OUR_MAC, options)
        }
    }
    .expect("one family")
}

/// An inner IPv4 packet of 21 bytes with traffic class 0xba (EF, ECT(0)).
fn inner4() -> Vec<u8> {
    #[rustfmt::skip]
    let mut packet = vec![
        0x45, 0xba, 0, 21, 0, 1, 0, 0, 64, 253, 0, 0,
        10, 0, 0, 1, 10, 0, 0, 2, 0x7f,
    ];
    let sum = checksum(&packet[..20]);
    set_be16(&mut packet, ipv4::CHECKSUM, sum);
    packet
}

fn encapsulate(header: &EncapHeader, inner: &[u8], family: Family, hash: u32) -> Vec<u8> {
    let mut packet = vec![0xee; header.length()];
    packet.extend(inner);
    header.write(&mut packet, family, hash).expect("fits");
    packet
}

#[test]
fn mpls_in_udp_over_ipv4_byte_by_byte() {
    let header = header(EncapKind::MplsUdp, Family::V4, 0x12345, EncapOptions::default());
    assert_eq!((header.length(), header.overhead(), header.kind()), (32, 32, EncapKind::MplsUdp));
    let packet = encapsulate(&header, &inner4(), Family::V4, HASH);
    #[rustfmt::skip]
    let expected = [
        // 32 + 21 bytes, DF; the sum of the words without the checksum is
        // 45ba+0035+4000+4011+c000+0201+c000+0202 = 24a03, folded 4a05.
        0x45, 0xba, 0, 53, 0, 0, 0x40, 0, 64, 17, 0xb5, 0xfa,
        192, 0, 2, 1, 192, 0, 2, 2,
        // Port c000 | low 14 bits of the hash, 6635, 33 bytes, no checksum.
        0xd2, 0x34, 0x19, 0xeb, 0, 33, 0, 0,
        // Label 12345, class 0, bottom, TTL 64.
        0x12, 0x34, 0x51, 0x40,
    ];
    assert_eq!(packet[..32], expected);
    assert_eq!(packet[32..], inner4());
}

#[test]
fn mpls_in_gre_over_ipv4_byte_by_byte() {
    let options = EncapOptions { hop_limit: 255, ..EncapOptions::default() };
    let header = header(EncapKind::MplsGre, Family::V4, 16, options);
    assert_eq!(header.length(), 28);
    let packet = encapsulate(&header, &inner4(), Family::V4, HASH);
    #[rustfmt::skip]
    let expected = [
        // 45ba+0031+4000+ff2f+c000+0201+c000+0202 = 3091d, folded 0920.
        0x45, 0xba, 0, 49, 0, 0, 0x40, 0, 255, 47, 0xf6, 0xdf,
        192, 0, 2, 1, 192, 0, 2, 2,
        0, 0, 0x88, 0x47,
        0x00, 0x01, 0x01, 0x40,
    ];
    assert_eq!(packet[..28], expected);
}

#[test]
fn vxlan_over_ipv4_byte_by_byte() {
    let header = header(EncapKind::Vxlan, Family::V4, 0x123456, EncapOptions::default());
    assert_eq!((header.length(), header.outer_family()), (50, Family::V4));
    let packet = encapsulate(&header, &inner4(), Family::V4, 0);
    #[rustfmt::skip]
    let expected = [
        0xc0, 0, 0x12, 0xb5, 0, 51, 0, 0,
        0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0,
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00,
    ];
    assert_eq!(packet[20..50], expected);
    assert_eq!(packet[2..4], [0, 71]);
    let mut inner6 = vec![0; 40];
    inner6[0] = 0x60;
    let packet = encapsulate(&header, &inner6, Family::V6, 0);
    assert_eq!(packet[48..50], [0x86, 0xdd]);
}

#[test]
fn over_ipv6_the_udp_checksum_is_there_unless_switched_off() {
    let options = EncapOptions::default();
    let tunnel = header(EncapKind::MplsUdp, Family::V6, 100, options);
    let packet = encapsulate(&tunnel, &inner4(), Family::V4, HASH);
    // Traffic class ba, flow label = low 20 bits of the hash, 8 + 4 + 21 bytes.
    assert_eq!(packet[..8], [0x6b, 0xad, 0x12, 0x34, 0, 33, 17, 64]);
    assert_eq!(packet[40..46], [0xd2, 0x34, 0x19, 0xeb, 0, 33]);
    let ip = Ipv6HeaderSlice::from_slice(&packet).expect("IPv6").to_header();
    let udp = UdpHeaderSlice::from_slice(&packet[40..]).expect("UDP").to_header();
    assert_eq!(udp.calc_checksum_ipv6(&ip, &packet[48..]).expect("a checksum"), udp.checksum);
    assert_ne!(udp.checksum, 0);

    let without = EncapOptions { udp6_zero_checksum: true, ..options };
    let packet = encapsulate(&header(EncapKind::MplsUdp, Family::V6, 100, without), &inner4(), Family::V4, 1);
    assert_eq!(packet[46..48], [0, 0]);
}

#[test]
fn ends_of_two_families_are_refused() {
    let (v4, _) = ends(Family::V4);
    let (v6, _) = ends(Family::V6);
    let label = Label::new(100).expect("a label");
    let error = EncapHeader::mpls_udp(v4, v6, label, EncapOptions::default()).expect_err("mixed");
    assert!(error.to_string().contains("192.0.2.1") && error.to_string().contains("2001:db8::1"));
}

#[test]
fn what_does_not_fit_is_refused_and_untouched() {
    let tunnel = header(EncapKind::MplsUdp, Family::V4, 100, EncapOptions::default());
    for length in 0..tunnel.length() + 2 {
        let mut bytes = vec![0xee; length];
        assert_eq!(tunnel.write(&mut bytes, Family::V4, 0), Err(DropReason::TruncatedIp), "{length}");
        assert!(bytes.iter().all(|byte| *byte == 0xee));
    }
    let mut large = vec![0xee; 65_536];
    assert_eq!(tunnel.write(&mut large, Family::V4, 0), Err(DropReason::PacketTooBig));
    assert!(large.iter().all(|byte| *byte == 0xee));
    assert_eq!(tunnel.write(&mut large[..65_535], Family::V4, 0), Ok(()));
}

fn inner_packet(family: Family, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = match family {
        Family::V4 => PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
        Family::V6 => PacketBuilder::ipv6([0xfd; 16], [0xfc; 16], 64),
    };
    builder.udp(1, 2).write(&mut packet, payload).expect("a packet");
    packet
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        kind in prop_oneof![Just(EncapKind::MplsUdp), Just(EncapKind::MplsGre), Just(EncapKind::Vxlan)],
        outer in any_family(), inner in any_family(),
        payload in vec(any::<u8>(), 0..200), id in 16u32..1 << 20, hash: u32, udp6_zero_checksum: bool,
        padding in 0usize..20,
    ) {
        let options = EncapOptions { udp6_zero_checksum, ..EncapOptions::default() };
        let header = header(kind, outer, id, options);
        let inner_bytes = inner_packet(inner, &payload);
        let mut packet = encapsulate(&header, &inner_bytes, inner, hash);
        let outer_length = packet.len();
        prop_assert_eq!(outer_length, inner_bytes.len() + usize::from(header.overhead()));
        match outer {
            Family::V4 => {
                let ip = Ipv4HeaderSlice::from_slice(&packet).expect("IPv4").to_header();
                prop_assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
                prop_assert_eq!(usize::from(ip.total_len), outer_length);
            }
            Family::V6 => {
                let ip = Ipv6HeaderSlice::from_slice(&packet).expect("IPv6");
                prop_assert_eq!(usize::from(ip.payload_length()), outer_length - 40);
            }
        }
        packet.resize(outer_length + padding, 0xa5);

        let mut meta = PacketMeta::new(InterfaceId(0));
        prop_assert_eq!(parse_ip(&packet, 0, outer, IpChecksum::Unknown, &mut meta), Ok(()));
        let out = decapsulate(&packet, &meta, None).expect("valid").expect("a tunnel packet");
        prop_assert_eq!(out.end, outer_length);
        let start = match (out.key, out.inner) {
            (TunnelKey::Mpls(label), Inner::Ip { family, offset }) => {
                prop_assert_eq!((label.value(), family), (id, inner));
                offset
            }
            (TunnelKey::Vxlan(vni), Inner::Ethernet { offset }) => {
                let link = parse_ethernet(&packet[offset..out.end]).expect("a frame");
                prop_assert_eq!((vni.value(), link.ethertype.family()), (id, Some(inner)));
                prop_assert_eq!((link.destination, link.source), (REMOTE_MAC, OUR_MAC));
                offset + usize::from(link.l3_offset)
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(&packet[start..out.end], &inner_bytes[..]);
    }
}
