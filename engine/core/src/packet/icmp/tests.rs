use std::net::IpAddr;

use etherparse::{Icmpv4Slice, Icmpv6Slice, PacketBuilder};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::io::memory::{MemoryBuf, MemoryPool};
use crate::packet::buffer::{HEADROOM, IpChecksum, PacketBuf};
use crate::packet::checksum::{checksum, transport_is_valid};
use crate::packet::headers::ipv4;
use crate::packet::parse::parse_ip;
use crate::types::{InterfaceId, VrfId};

const V4: ([u8; 4], [u8; 4]) = ([10, 0, 0, 1], [10, 0, 0, 2]);
const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfc; 16]);

fn router(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, 254]),
        Family::V6 => IpAddr::from([0xfb; 16]),
    }
}

fn udp(family: Family, payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = match family {
        Family::V4 => PacketBuilder::ipv4(V4.0, V4.1, 1),
        Family::V6 => PacketBuilder::ipv6(V6.0, V6.1, 1),
    };
    builder.udp(1111, 2222).write(&mut packet, &vec![0x5a; payload]).expect("a packet");
    packet
}

fn parse(bytes: &[u8], l3_offset: usize, family: Family) -> PacketMeta {
    let mut meta = PacketMeta::new(InterfaceId(0));
    meta.key.vrf = VrfId(7);
    parse_ip(bytes, l3_offset, family, IpChecksum::Unknown, &mut meta).expect("well-formed");
    meta
}

fn buffer(bytes: &[u8]) -> MemoryBuf {
    MemoryPool::new(1).packet(bytes).expect("room")
}

const ERRORS: [IcmpError; 4] = [
    IcmpError::TtlExpired,
    IcmpError::FragmentationNeeded { mtu: 1400 },
    IcmpError::NoRoute,
    IcmpError::AddressUnreachable,
];

#[test]
fn errors_have_the_types_and_codes_of_their_rfcs() {
    let expected4 = [[11, 0, 0, 0], [3, 4, 5, 0x78], [3, 0, 0, 0], [3, 1, 0, 0]];
    let expected6 = [[3, 0, 0, 0], [2, 0, 5, 0x78], [1, 0, 0, 0], [1, 3, 0, 0]];
    for (family, l4, table) in [(Family::V4, 20, expected4), (Family::V6, 40, expected6)] {
        for (error, expected) in ERRORS.into_iter().zip(table) {
            let offending = udp(family, 10);
            let frame = [&[0u8; 14][..], &offending, &[0xee; 9]].concat();
            let mut packet = buffer(&frame);
            let meta = parse(&frame, 14, family);
            assert!(error_in_place(&mut packet, &meta, error, router(family)));
            let bytes = packet.bytes();
            let head = [bytes[l4], bytes[l4 + 1], bytes[l4 + 6], bytes[l4 + 7]];
            assert_eq!(head, expected, "{family:?} {error:?}");
            assert_eq!(bytes[l4 + 8..], offending, "the quote has no Ethernet padding");

            let told = parse(bytes, 0, family);
            assert_eq!(told.key.source_addr(), router(family));
            assert_eq!(told.key.destination_addr(), meta.key.source_addr());
            assert!(told.flags.contains(PacketFlags::ICMP_ERROR));
            assert_eq!(quoted_key(bytes, &told), Some(meta.key));
            match family {
                Family::V4 => {
                    let message = Icmpv4Slice::from_slice(&bytes[20..]).expect("ICMP");
                    let expected = message.icmp_type().calc_checksum(message.payload());
                    assert_eq!(message.checksum(), expected);
                }
                Family::V6 => {
                    let message = Icmpv6Slice::from_slice(&bytes[40..]).expect("ICMPv6");
                    assert!(message.is_checksum_valid([0xfb; 16], V6.0));
                }
            }
        }
    }
}

#[test]
fn an_ipv4_error_byte_by_byte() {
    let offending = udp(Family::V4, 0);
    let mut packet = buffer(&offending);
    let meta = parse(&offending, 0, Family::V4);
    assert!(error_in_place(&mut packet, &meta, IcmpError::TtlExpired, router(Family::V4)));
    #[rustfmt::skip]
    let expected = [
        // 45c0+0038+4000+4001+0a00+00fe+0a00+0001 = daf8.
        0x45, 0xc0, 0, 56, 0, 0, 0x40, 0, 64, 1, 0x25, 0x07,
        10, 0, 0, 254, 10, 0, 0, 1,
        11, 0,
    ];
    assert_eq!(packet.bytes()[..22], expected);
}

#[test]
fn long_packets_are_quoted_to_the_limit() {
    for (family, limit) in [(Family::V4, 576), (Family::V6, 1280)] {
        let offending = udp(family, 3000);
        let mut packet = buffer(&offending);
        let meta = parse(&offending, 0, family);
        assert!(error_in_place(&mut packet, &meta, IcmpError::NoRoute, router(family)));
        assert_eq!(packet.bytes().len(), limit);
        let told = parse(packet.bytes(), 0, family);
        assert_eq!(quoted_key(packet.bytes(), &told), Some(meta.key));
    }
}

#[test]
fn nobody_is_told_when_nobody_may_be() {
    let offending = udp(Family::V4, 10);
    let meta = parse(&offending, 0, Family::V4);
    let refused = |meta: &PacketMeta, source: IpAddr| {
        let mut packet = buffer(&offending);
        let made = error_in_place(&mut packet, meta, IcmpError::NoRoute, source);
        assert_eq!(packet.bytes(), offending, "untouched");
        !made
    };
    assert!(refused(&meta, router(Family::V6)), "other family");
    for flag in [PacketFlags::LATER_FRAGMENT, PacketFlags::ICMP_ERROR] {
        let mut other = meta;
        other.flags.insert(flag);
        assert!(refused(&other, router(Family::V4)));
    }
    for source in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [127, 0, 0, 1], [250, 1, 1, 1]] {
        let mut other = meta;
        other.key.source[..4].copy_from_slice(&source);
        assert!(refused(&other, router(Family::V4)), "{source:?}");
    }
    for destination in [[224, 0, 0, 1], [255, 255, 255, 255]] {
        let mut other = meta;
        other.key.destination[..4].copy_from_slice(&destination);
        assert!(refused(&other, router(Family::V4)), "{destination:?}");
    }

    // Without room in front the packet stays as it is.
    let mut packet = buffer(&offending);
    assert!(packet.prepend(HEADROOM - 20));
    packet.bytes_mut()[..offending.len()].copy_from_slice(&offending);
    packet.truncate(offending.len());
    assert!(!error_in_place(&mut packet, &meta, IcmpError::NoRoute, router(Family::V4)));
    assert_eq!(packet.bytes(), offending);
}

#[test]
fn link_multicast_and_redirects_are_not_answered() {
    let mut frame = [&[0u8; 14][..], &udp(Family::V4, 10)].concat();
    let mut meta = parse(&frame, 14, Family::V4);
    assert!(may_answer(&frame, &meta));
    frame[0] = 1;
    assert!(!may_answer(&frame, &meta));
    meta.flags.insert(PacketFlags::DECAPSULATED);
    assert!(may_answer(&frame, &meta), "behind a tunnel these bytes are no frame");

    let mut redirect = Vec::new();
    PacketBuilder::ipv4(V4.0, V4.1, 64)
        .icmpv4_raw(icmp::V4_REDIRECT, 1, [0; 4])
        .write(&mut redirect, &[0; 28])
        .expect("a packet");
    let meta = parse(&redirect, 0, Family::V4);
    assert!(!may_answer(&redirect, &meta));
}

fn echo_request(family: Family, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match family {
        Family::V4 => {
            PacketBuilder::ipv4(V4.0, V4.1, 9).icmpv4_echo_request(7, 8).write(&mut packet, payload)
        }
        Family::V6 => {
            PacketBuilder::ipv6(V6.0, V6.1, 9).icmpv6_echo_request(7, 8).write(&mut packet, payload)
        }
    }
    .expect("a packet");
    packet
}

proptest! {
    #[test]
    fn an_echo_request_becomes_a_valid_reply(is_v4: bool, payload in vec(any::<u8>(), 0..100)) {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let mut packet = echo_request(family, &payload);
        let asked = parse(&packet, 0, family);
        prop_assert!(echo_reply_in_place(&mut packet, &asked));
        let reply = parse(&packet, 0, family);
        prop_assert_eq!(reply.key, asked.key.reversed(VrfId(7)));
        prop_assert_eq!(&packet[packet.len() - payload.len()..], &payload[..]);
        match family {
            Family::V4 => {
                prop_assert_eq!(icmp_type_code(&packet, &reply), Some((0, 0)));
                prop_assert_eq!(packet[ipv4::TTL], 64);
                prop_assert_eq!(checksum(&packet[20..]), 0);
            }
            Family::V6 => {
                prop_assert_eq!(icmp_type_code(&packet, &reply), Some((129, 0)));
                prop_assert_eq!(packet[7], 64);
                prop_assert!(transport_is_valid(&reply.key, &packet[40..]));
            }
        }
        prop_assert!(!echo_reply_in_place(&mut packet, &reply), "a reply is no request");
    }

    #[test]
    fn mutated_errors_never_panic(
        is_v4: bool, changes in vec((0usize..90, any::<u8>()), 0..6), length in 0usize..120,
        kind in 0u8..16,
    ) {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let mut inner = udp(family, 4);
        for (at, value) in changes {
            if let Some(byte) = inner.get_mut(at) {
                *byte = value;
            }
        }
        inner.truncate(length);
        let mut bytes = Vec::new();
        match family {
            Family::V4 => PacketBuilder::ipv4(V4.1, V4.0, 9).icmpv4_raw(kind, 0, [0; 4]).write(&mut bytes, &inner),
            Family::V6 => PacketBuilder::ipv6(V6.1, V6.0, 9).icmpv6_raw(kind, 0, [0; 4]).write(&mut bytes, &inner),
        }.expect("a packet");
        let meta = parse(&bytes, 0, family);
        if let Some(key) = quoted_key(&bytes, &meta) {
            prop_assert!(meta.flags.contains(PacketFlags::ICMP_ERROR));
            prop_assert_eq!((key.vrf, key.family), (VrfId(7), family));
        }
        let mut packet = buffer(&bytes);
        if error_in_place(&mut packet, &meta, IcmpError::NoRoute, router(family)) {
            parse(packet.bytes(), 0, family);
        }
        let _ = echo_reply_in_place(&mut bytes, &meta);
    }
}

#[test]
fn quotes_tell_ports_and_identifiers_from_eight_bytes() {
    let quoted = |inner: &[u8]| {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(V4.1, V4.0, 9)
            .icmpv4_raw(3, 1, [0; 4])
            .write(&mut bytes, inner)
            .expect("a packet");
        let meta = parse(&bytes, 0, Family::V4);
        quoted_key(&bytes, &meta).map(|key| (key.protocol, key.source_port, key.destination_port))
    };
    assert_eq!(quoted(&udp(Family::V4, 50)[..28]), Some((17, 1111, 2222)));
    assert_eq!(quoted(&echo_request(Family::V4, &[0; 50])[..28]), Some((1, 7, 8)));
    assert_eq!(quoted(&udp(Family::V4, 50)[..22]), None, "too short for ports");
    let mut error_about_error = echo_request(Family::V4, &[]);
    error_about_error[20] = 3;
    assert_eq!(quoted(&error_about_error), None);
    let mut later = udp(Family::V4, 8);
    later[7] = 1;
    assert_eq!(quoted(&later), None);
}
