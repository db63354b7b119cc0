use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::packet::checksum::checksum;
use crate::types::InterfaceId;

const SOURCE4: [u8; 4] = [10, 0, 0, 1];
const TARGET4: [u8; 4] = [10, 0, 0, 2];

fn parse(bytes: &[u8], family: Family) -> Result<PacketMeta, DropReason> {
    let mut meta = PacketMeta::new(InterfaceId(0));
    parse_ip(bytes, 0, family, IpChecksum::Unknown, &mut meta).map(|()| meta)
}

/// An IPv4 packet; `options` in whole words, `fragment` the raw field.
fn v4(protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(SOURCE4);
    packet.extend(TARGET4);
    packet.extend(options);
    fix_checksum(&mut packet);
    packet.extend(payload);
    packet
}

fn fix_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn v6(next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, hop_limit]);
    packet.extend([0xfd; 16]);
    packet.extend([0xfc; 16]);
    packet.extend(payload);
    packet
}

const UDP: [u8; 8] = [0x04, 0, 0, 53, 0, 8, 0, 0];

fn tcp(flags: u8) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[..4].copy_from_slice(&[0x04, 0, 0, 80]);
    segment[12] = 0x50;
    segment[13] = flags;
    segment
}

fn ports(meta: &PacketMeta) -> (u16, u16) {
    (meta.key.source_port, meta.key.destination_port)
}

#[test]
fn ipv4_headers_that_lie_say_how() {
    let good = v4(17, &[], 0x4000, &UDP);
    let meta = parse(&good, Family::V4).expect("good");
    assert_eq!((ports(&meta), meta.l4_offset, meta.ip_length), ((1024, 53), 20, 28));
    assert!(meta.flags.contains(PacketFlags::DONT_FRAGMENT));

    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        fix_checksum(&mut packet[..20]);
        parse(&packet, Family::V4).map(|meta| meta.l4_offset)
    };
    assert_eq!(with(0, 0x65), Err(DropReason::BadIpVersion));
    assert_eq!(with(0, 0x44), Err(DropReason::BadIpHeaderLength));
    assert_eq!(with(3, 19), Err(DropReason::BadIpHeaderLength));
    assert_eq!(with(3, 29), Err(DropReason::TruncatedIp));
    assert_eq!(with(3, 27), Err(DropReason::TruncatedL4));
    for length in 0..28 {
        assert_eq!(parse(&good[..length], Family::V4).err(), Some(DropReason::TruncatedIp), "{length}");
    }
    let padded = [&good[..], &[0; 18]].concat();
    assert_eq!(parse(&padded, Family::V4).map(|meta| meta.ip_length), Ok(28));
}

#[test]
fn the_header_checksum_is_taken_from_the_device_when_it_knows() {
    let mut packet = v4(17, &[], 0, &UDP);
    packet[10] ^= 1;
    let mut meta = PacketMeta::new(InterfaceId(0));
    let mut with = |known| parse_ip(&packet, 0, Family::V4, known, &mut meta);
    assert_eq!(with(IpChecksum::Unknown), Err(DropReason::BadIpChecksum));
    assert_eq!(with(IpChecksum::Bad), Err(DropReason::BadIpChecksum));
    assert_eq!(with(IpChecksum::Good), Ok(()));
}

#[test]
fn ipv4_options_are_skipped_unless_they_route_or_overrun() {
    let with = |options: &[u8]| parse(&v4(17, options, 0, &UDP), Family::V4).map(|meta| meta.l4_offset);
    assert_eq!(with(&[1, 1, 1, 0]), Ok(24));
    assert_eq!(with(&[148, 4, 0, 0]), Ok(24));
    assert_eq!(with(&[7, 7, 4, 0, 0, 0, 0, 0]), Ok(28));
    for bad in [[131, 3, 4, 0], [137, 3, 4, 0], [7, 5, 4, 0], [7, 1, 0, 0], [7, 0, 0, 0], [1, 1, 1, 7]] {
        assert_eq!(with(&bad), Err(DropReason::BadIpOptions), "{bad:?}");
    }
}

#[test]
fn fragments_carry_their_identification_and_hash_alike() {
    let first = parse(&v4(17, &[], 0x2000, &UDP), Family::V4).expect("first");
    let later = parse(&v4(17, &[], 1, &[1, 2, 3]), Family::V4).expect("last");
    assert!(first.flags.contains(PacketFlags::FIRST_FRAGMENT));
    assert!(later.flags.contains(PacketFlags::LATER_FRAGMENT));
    assert_eq!((first.scratch, later.scratch), (0x1234, 0x1234));
    assert_eq!((ports(&first), ports(&later)), ((1024, 53), (0, 0)));
    assert_eq!(first.flow_hash, later.flow_hash);
}

#[test]
fn impossible_fragments_are_refused() {
    let bad = |protocol: u8, fragment: u16, payload: &[u8]| {
        let result = parse(&v4(protocol, &[], fragment, payload), Family::V4);
        assert_eq!(result.err(), Some(DropReason::BadFragment), "{fragment:04x} {}", payload.len());
    };
    bad(17, 0x2000, &[0; 9]);
    bad(17, 0x0001, &[]);
    bad(17, 0x1fff, &[0; 8]);
    // First fragments without a whole TCP header, with lying data offset.
    bad(6, 0x2000, &tcp(2)[..16]);
    bad(6, 0x2000, &[&tcp(2)[..12], &[0xf0; 12]].concat());
    // Fragments that reach into the TCP header.
    bad(6, 0x2001, &[0; 8]);
    bad(6, 0x0002, &[0; 8]);
    assert!(parse(&v4(6, &[], 3, &[0; 8]), Family::V4).is_ok());
}

#[test]
fn tcp_flags_tell_what_opens_a_session() {
    for (flags, syn, opens) in [
        (0x02, true, true),
        (0xc2, true, true),
        (0x12, true, false),
        (0x03, true, false),
        (0x06, true, false),
        (0x10, false, false),
    ] {
        let packet = v4(6, &[], 0, &tcp(flags));
        let meta = parse(&packet, Family::V4).expect("good");
        assert_eq!(meta.flags.contains(PacketFlags::TCP_SYN), syn, "{flags:02x}");
        assert_eq!(meta.flags.contains(PacketFlags::TCP_OPENS), opens, "{flags:02x}");
        assert_eq!(tcp_flags(&packet, &meta), Some(flags));
        assert_eq!(icmp_type_code(&packet, &meta), None);
    }
    let mut long = tcp(2);
    long[12] = 0x60;
    assert_eq!(parse(&v4(6, &[], 0, &long), Family::V4).err(), Some(DropReason::TruncatedL4));
    long[12] = 0x40;
    assert_eq!(parse(&v4(6, &[], 0, &long), Family::V4).err(), Some(DropReason::TruncatedL4));
}

#[test]
fn udp_and_sctp_lengths_must_fit() {
    let mut udp = UDP;
    for (length, expected) in
        [(7, Some(DropReason::TruncatedL4)), (8, None), (9, Some(DropReason::TruncatedL4))]
    {
        udp[5] = length;
        assert_eq!(parse(&v4(17, &[], 0, &udp), Family::V4).err(), expected, "{length}");
    }
    udp[5] = 8;
    assert!(parse(&v4(17, &[], 0, &[&udp[..], &[0; 5]].concat()), Family::V4).is_ok());
    assert_eq!(parse(&v4(132, &[], 0, &[0; 11]), Family::V4).err(), Some(DropReason::TruncatedL4));
    let sctp = parse(&v4(132, &[], 0, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]), Family::V4).expect("good");
    assert_eq!(ports(&sctp), (1, 2));
}

#[test]
fn icmp_messages_are_told_apart() {
    let classify = |family: Family, kind: u8| {
        let message = [kind, 0, 0, 0, 0xab, 0xcd, 0, 1];
        let packet = match family {
            Family::V4 => v4(1, &[], 0, &message),
            Family::V6 => v6(58, 255, &message),
        };
        let meta = parse(&packet, family).expect("good");
        assert_eq!(icmp_type_code(&packet, &meta), Some((kind, 0)));
        (PacketFlags(meta.flags.0 & !PacketFlags::DONT_FRAGMENT.0), ports(&meta))
    };
    let none = PacketFlags::default();
    for kind in 0..=255u8 {
        // Queries and their replies have each other's ports; the rest has
        // ports that no other type has either way round.
        let other = (0xff00 | u16::from(kind), u16::from(kind));
        let expected = match kind {
            8 => (PacketFlags::ICMP_QUERY, (0xabcd, 8)),
            0 => (none, (8, 0xabcd)),
            13 => (PacketFlags::ICMP_QUERY, (13, 14)),
            14 => (none, (14, 13)),
            3 | 4 | 11 | 12 => (PacketFlags::ICMP_ERROR, other),
            _ => (none, other),
        };
        assert_eq!(classify(Family::V4, kind), expected, "ICMP {kind}");
        let expected = match kind {
            128 => (PacketFlags::ICMP_QUERY, (0xabcd, 8)),
            129 => (none, (8, 0xabcd)),
            0..=127 => (PacketFlags::ICMP_ERROR, other),
            133..=137 => (PacketFlags::NEIGHBOUR_DISCOVERY, other),
            _ => (none, other),
        };
        assert_eq!(classify(Family::V6, kind), expected, "ICMPv6 {kind}");
    }
    let forwarded = parse(&v6(58, 254, &[135, 0, 0, 0, 0, 0, 0, 0]), Family::V6).expect("good");
    assert!(!forwarded.flags.contains(PacketFlags::NEIGHBOUR_DISCOVERY));
    assert_eq!(parse(&v4(1, &[], 0, &[8; 7]), Family::V4).err(), Some(DropReason::TruncatedL4));
}

/// An extension header of 8 bytes.
fn extension(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

#[test]
fn extension_headers_are_followed_in_their_order() {
    let chain = |types: &[u8]| {
        let mut payload = Vec::new();
        for next in types[1..].iter().chain(&[17]) {
            payload.extend(extension(*next));
        }
        payload.extend(UDP);
        parse(&v6(types[0], 64, &payload), Family::V6).map(|meta| (meta.l4_offset, ports(&meta)))
    };
    assert_eq!(chain(&[0]), Ok((48, (1024, 53))));
    assert_eq!(chain(&[0, 60, 43, 60]), Ok((72, (1024, 53))));
    assert_eq!(chain(&[60; 8]), Ok((104, (1024, 53))));
    assert_eq!(chain(&[60; 9]), Err(DropReason::BadExtensionHeaders));
    assert_eq!(chain(&[60, 0]), Err(DropReason::BadExtensionHeaders));

    let mut source_route = extension(17);
    source_route[2] = 0;
    source_route.extend(UDP);
    assert_eq!(parse(&v6(43, 64, &source_route), Family::V6).err(), Some(DropReason::BadExtensionHeaders));
    let overrun = [17, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(parse(&v6(60, 64, &overrun), Family::V6).err(), Some(DropReason::BadExtensionHeaders));
    // An authentication header of 12 bytes in front of a SYN that stays as it is.
    let mut authenticated = vec![6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    authenticated.extend(tcp(2));
    let meta = parse(&v6(51, 64, &authenticated), Family::V6).expect("good");
    assert_eq!((meta.key.protocol, meta.l4_offset), (6, 52));
    assert!(meta.flags.contains(PacketFlags::TCP_OPENS) && !meta.flags.contains(PacketFlags::TCP_SYN));
    authenticated[0] = 60;
    assert_eq!(parse(&v6(51, 64, &authenticated), Family::V6).err(), Some(DropReason::BadExtensionHeaders));
}

#[test]
fn jumbograms_are_refused_and_nothing_is_fine() {
    assert_eq!(parse(&v6(0, 64, &[]), Family::V6).err(), Some(DropReason::BadIpHeaderLength));
    assert_eq!(parse(&v6(59, 64, &[]), Family::V6).map(|meta| meta.l4_offset), Ok(40));
    assert_eq!(parse(&v6(17, 64, &[]), Family::V6).err(), Some(DropReason::TruncatedL4));
}

#[test]
fn ipv6_fragments_behave_like_those_of_ipv4() {
    let with = |next: u8, field: u16, payload: &[u8]| {
        let mut fragment = vec![next, 0];
        fragment.extend(field.to_be_bytes());
        fragment.extend([0, 1, 2, 3]);
        fragment.extend(payload);
        parse(&v6(44, 64, &fragment), Family::V6)
    };
    let first = with(60, 1, &[extension(17), UDP.to_vec()].concat()).expect("first");
    let later = with(60, 16, &[0; 5]).expect("last");
    assert!(first.flags.contains(PacketFlags::FIRST_FRAGMENT));
    assert!(later.flags.contains(PacketFlags::LATER_FRAGMENT));
    assert_eq!((first.scratch, later.scratch), (0x0001_0203, 0x0001_0203));
    assert_eq!(first.flow_hash, later.flow_hash);
    assert_eq!(ports(&first), (1024, 53));

    let atomic = with(17, 0, &UDP).expect("atomic");
    assert!(!atomic.flags.intersects(PacketFlags::FRAGMENT));
    assert_eq!(atomic.flow_hash, flow_hash(&atomic.key));

    assert_eq!(with(17, 1, &UDP[..4]).err(), Some(DropReason::BadFragment));
    assert_eq!(with(17, 9, &[0; 7]).err(), Some(DropReason::BadFragment));
    assert_eq!(with(17, 0xfff8, &[0; 8]).err(), Some(DropReason::BadFragment));
    assert_eq!(with(44, 0, &extension(17)).err(), Some(DropReason::BadExtensionHeaders));
}

#[test]
fn only_facts_about_the_way_in_survive_a_second_parse() {
    let mut meta = PacketMeta::new(InterfaceId(0));
    meta.flags = PacketFlags(0xffff);
    parse_ip(&v4(17, &[], 0, &UDP), 0, Family::V4, IpChecksum::Unknown, &mut meta).expect("good");
    assert_eq!(meta.flags, PacketFlags::DECAPSULATED.union(PacketFlags::FROM_HOST));
}

#[test]
fn martians_are_recognised() {
    let check = |source: &str, destination: &str| {
        let parse = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
        let (source, destination) = (parse(source), parse(destination));
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let field = crate::packet::flow_key::addr_bytes;
        let key = FlowKey { source: field(source), destination: field(destination), family, ..FlowKey::ZERO };
        check_addresses(&key)
    };
    for bad in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255"] {
        assert_eq!(check(bad, "10.0.0.1"), Err(DropReason::MartianSource), "{bad}");
    }
    for bad in ["::", "::1", "ff02::1", "::ffff:10.0.0.1"] {
        assert_eq!(check(bad, "fd00::1"), Err(DropReason::MartianSource), "{bad}");
    }
    for bad in ["0.0.0.0", "127.1.1.1"] {
        assert_eq!(check("10.0.0.1", bad), Err(DropReason::MartianDestination), "{bad}");
    }
    for bad in ["::", "::1", "::ffff:10.0.0.1"] {
        assert_eq!(check("fd00::1", bad), Err(DropReason::MartianDestination), "{bad}");
    }
    for (source, destination) in [
        ("10.0.0.1", "255.255.255.255"),
        ("10.0.0.1", "224.0.0.5"),
        ("fe80::1", "ff02::1"),
        ("::2", "2001:db8::1"),
    ] {
        assert_eq!(check(source, destination), Ok(()), "{source} {destination}");
    }
}

/// What `Ok` promises.
fn assert_in_bounds(bytes: &[u8], meta: &PacketMeta) {
    let (l3, l4) = (usize::from(meta.l3_offset), usize::from(meta.l4_offset));
    let end = l3 + usize::from(meta.ip_length);
    assert!(l3 < l4 && l4 <= end && end <= bytes.len(), "{l3} {l4} {end} {}", bytes.len());
    assert!(meta.ip_packet(bytes).is_some());
    assert_eq!(meta.segment(bytes).is_none(), meta.flags.contains(PacketFlags::LATER_FRAGMENT));
    assert!(!meta.flags.contains(PacketFlags::FRAGMENT));
}

/// A valid frame: family, transport, VLAN tag and payload as told.
fn frame(is_v4: bool, transport: u8, vlan: bool, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let id = etherparse::VlanId::try_new(77).expect("12 bits");
    let ip = match (vlan, is_v4) {
        (false, true) => link.ipv4(SOURCE4, TARGET4, 64),
        (false, false) => link.ipv6([0xfd; 16], [0xfc; 16], 64),
        (true, true) => link.single_vlan(id).ipv4(SOURCE4, TARGET4, 64),
        (true, false) => link.single_vlan(id).ipv6([0xfd; 16], [0xfc; 16], 64),
    };
    match (transport, is_v4) {
        (0, _) => ip.tcp(ports.0, ports.1, 1, 2).syn().write(&mut bytes, payload),
        (1, _) => ip.udp(ports.0, ports.1).write(&mut bytes, payload),
        (_, true) => ip.icmpv4_echo_request(ports.0, ports.1).write(&mut bytes, payload),
        (_, false) => ip.icmpv6_echo_request(ports.0, ports.1).write(&mut bytes, payload),
    }
    .expect("a frame");
    bytes
}

fn parse_frame(bytes: &[u8], checksum: IpChecksum) -> Result<(LinkLayer, PacketMeta), DropReason> {
    let link = parse_ethernet(bytes)?;
    let family = link.ethertype.family().ok_or(DropReason::UnknownEtherType)?;
    let mut meta = PacketMeta::new(InterfaceId(0));
    parse_ip(bytes, usize::from(link.l3_offset), family, checksum, &mut meta)?;
    Ok((link, meta))
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200), l3 in 0usize..220, is_v4: bool) {
        let _ = parse_ethernet(&bytes);
        let mut meta = PacketMeta::new(InterfaceId(0));
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        if parse_ip(&bytes, l3, family, IpChecksum::Good, &mut meta).is_ok() {
            assert_in_bounds(&bytes, &meta);
        }
    }

    #[test]
    fn mutated_frames_stay_in_bounds(
        is_v4: bool, transport in 0u8..3, vlan: bool, payload in vec(any::<u8>(), 0..60),
        changes in vec((0usize..100, any::<u8>()), 0..6), cut in 0usize..30,
    ) {
        let mut bytes = frame(is_v4, transport, vlan, (1, 2), &payload);
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok((_, meta)) = parse_frame(&bytes, IpChecksum::Good) {
            assert_in_bounds(&bytes, &meta);
        }
    }

    #[test]
    fn any_chain_of_extension_headers_is_survived(
        headers in vec((prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60), Just(17), Just(59)],
            0u8..4, any::<[u8; 6]>()), 0..12),
        tail in vec(any::<u8>(), 0..40), first in prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60)],
    ) {
        let mut payload = Vec::new();
        for (next, units, rest) in headers {
            payload.extend([next, units]);
            payload.extend(rest);
            payload.extend(vec![0; usize::from(units) * 8]);
        }
        payload.extend(tail);
        let packet = v6(first, 64, &payload);
        if let Ok(meta) = parse(&packet, Family::V6) {
            assert_in_bounds(&packet, &meta);
        }
    }

    #[test]
    fn well_formed_frames_read_as_etherparse_reads_them(
        is_v4: bool, transport in 0u8..3, vlan: bool, a: u16, b: u16, payload in vec(any::<u8>(), 0..60),
    ) {
        let bytes = frame(is_v4, transport, vlan, (a, b), &payload);
        let (link, meta) = parse_frame(&bytes, IpChecksum::Unknown).expect("well-formed");
        let theirs = SlicedPacket::from_ethernet(&bytes).expect("well-formed");
        prop_assert_eq!(link.tags.outer, if vlan { 77 } else { 0 });
        let (source, destination) = match theirs.net.expect("IP") {
            NetSlice::Ipv4(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Ipv6(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Arp(_) => return Err(TestCaseError::fail("ARP")),
        };
        prop_assert_eq!((meta.key.source_addr(), meta.key.destination_addr()), (source, destination));
        let (protocol, expected) = match theirs.transport.expect("a transport") {
            TransportSlice::Tcp(tcp) => (6, (tcp.source_port(), tcp.destination_port())),
            TransportSlice::Udp(udp) => (17, (udp.source_port(), udp.destination_port())),
            TransportSlice::Icmpv4(_) => (1, (a, 8)),
            TransportSlice::Icmpv6(_) => (58, (a, 8)),
            TransportSlice::Igmp(_) => return Err(TestCaseError::fail("IGMP")),
        };
        prop_assert_eq!((meta.key.protocol, ports(&meta)), (protocol, expected));
    }
}
