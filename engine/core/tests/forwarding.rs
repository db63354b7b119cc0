//! A whole gateway in memory: routing, tunnels, local addresses, sizes.

mod support;

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use support::*;
use tieline_engine::DropReason;
use tieline_engine::packet::encap::{EncapHeader, EncapOptions};
use tieline_engine::tables::port::VlanTags;
use tieline_engine::testbed::topology::*;
use tieline_engine::types::{InterfaceId, Label, MacAddr, PortId, Vni};

/// IP header checksum and, where there is one, transport checksum of a frame.
fn assert_checksums(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
    let (source, destination) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            (IpAddr::V4(header.source.into()), IpAddr::V4(header.destination.into()))
        }
        Some(NetSlice::Ipv6(ip)) => {
            (IpAddr::V6(ip.header().source_addr()), IpAddr::V6(ip.header().destination_addr()))
        }
        other => panic!("not IP: {other:?}"),
    };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return };
    if udp.checksum() == 0 {
        return;
    }
    let expected = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            udp.to_header().calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload())
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            udp.to_header().calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload())
        }
        _ => panic!("two families"),
    };
    assert_eq!(Ok(udp.checksum()), expected.map_err(|_| ()));
}

fn ttl(ip_packet: &[u8]) -> u8 {
    if ip_packet[0] >> 4 == 4 { ip_packet[8] } else { ip_packet[7] }
}

#[test]
fn a_workload_reaches_a_far_host_through_the_tunnel() {
    for workers in [1, 2] {
        let mut bed = gateway(workers);
        for (source, destination) in [(W1, FAR), (W1_V6, FAR_V6)] {
            let sent = udp_from(TENANT_1, source, destination, (4000, 53), b"question");
            let frame = forwarded(&mut bed, TENANT_1, &sent, FABRIC);
            assert_eq!(frame[..12], [REMOTE_MAC.0, own_mac(FABRIC).0].concat());
            assert_checksums(&frame);
            let (label, inner) = untunnelled(&frame);
            assert_eq!(label, LABEL);
            assert_eq!(ttl(&inner), 63);
            assert_eq!(inner[inner.len() - 8..], *b"question");
        }
        settled(&bed);
    }
}

#[test]
fn a_far_host_reaches_a_workload_out_of_every_tunnel() {
    for workers in [1, 2] {
        let mut bed = gateway(workers);
        for (source, destination) in [(FAR, W1), (FAR_V6, W1_V6)] {
            let inner = inner_udp(source, destination, (53, 4000), b"answer");
            for frame in every_encapsulation(&inner) {
                let frame = forwarded(&mut bed, FABRIC, &frame, TENANT_1);
                assert_eq!(frame[..12], [workload_mac(TENANT_1).0, own_mac(TENANT_1).0].concat());
                assert_checksums(&frame);
                assert_eq!(ttl(&frame[14..]), 63);
                assert_eq!(frame[14..].len(), inner.len());
            }
        }
        settled(&bed);
    }
}

/// `inner` as the remote gateway would send it, in each encapsulation over
/// IPv4 and IPv6, by the same code that our own tunnels use.
fn every_encapsulation(inner: &[u8]) -> Vec<Vec<u8>> {
    let family = tieline_engine::packet::flow_key::Family::V4;
    let v6 = tieline_engine::packet::flow_key::Family::V6;
    let inner_family = if inner[0] >> 4 == 4 { family } else { v6 };
    let label = Label::new(LABEL).expect("a label");
    let vni = Vni::new(VNI).expect("a VNI");
    let options = EncapOptions::default();
    let mut frames = Vec::new();
    for (source, destination, ethertype) in
        [("198.18.0.2", "198.18.0.1", [8, 0]), ("2001:db8:f::2", "2001:db8:f::1", [0x86, 0xdd])]
    {
        let (s, d) = (ip(source), ip(destination));
        let headers = [
            EncapHeader::mpls_udp(s, d, label, options),
            EncapHeader::mpls_gre(s, d, label, options),
            EncapHeader::vxlan(s, d, vni, ROUTER_MAC, REMOTE_MAC, options),
        ];
        for header in headers {
            let header = header.expect("one family");
            let mut frame = [own_mac(FABRIC).0, REMOTE_MAC.0].concat();
            frame.extend(ethertype);
            frame.resize(14 + header.length(), 0);
            frame.extend_from_slice(inner);
            header.write(&mut frame[14..], inner_family, 7).expect("room");
            frames.push(frame);
        }
    }
    frames
}

#[test]
fn what_is_not_for_a_vrf_is_dropped_by_name() {
    let mut bed = gateway(1);
    let inner = inner_udp(FAR, W1, (53, 4000), b"answer");
    dropped(&mut bed, FABRIC, &tunnelled(1002, &inner), DropReason::UnknownLabel);
    dropped(&mut bed, FABRIC, &tunnelled(3, &inner), DropReason::UnknownLabel);
    let mut other = every_encapsulation(&inner).remove(2);
    other[48] ^= 1;
    dropped(&mut bed, FABRIC, &other, DropReason::UnknownVni);
    let mut wrong_router = every_encapsulation(&inner).remove(2);
    wrong_router[50 + 5] ^= 1;
    dropped(&mut bed, FABRIC, &wrong_router, DropReason::NotOurRouterMac);
    let nowhere = udp_from(TENANT_1, W1, "10.99.0.1", (1, 2), b"");
    let out = exchange(&mut bed, TENANT_1, &nowhere);
    assert_eq!(bed.drops(DropReason::NoRoute), 1);
    assert_eq!(icmp_type_and_code(&out[0].1), (3, 0), "network unreachable");
    let mut stranger = udp_from(TENANT_1, W1, FAR, (1, 2), b"");
    stranger[0..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    dropped(&mut bed, TENANT_1, &stranger, DropReason::NotOurMac);
    settled(&bed);
}

fn icmp_type_and_code(frame: &[u8]) -> (u8, u8) {
    let l4 = if frame[14] >> 4 == 4 { 34 } else { 54 };
    (frame[l4], frame[l4 + 1])
}

#[test]
fn a_workload_may_only_use_its_own_addresses() {
    let mut bed = gateway(1);
    dropped(&mut bed, TENANT_1, &udp_from(TENANT_1, W2, FAR, (1, 2), b""), DropReason::SpoofedIp);
    let wrong_mac = headers(workload_mac(TENANT_2), own_mac(TENANT_1), W1, FAR, 64).udp(1, 2);
    let mut frame = Vec::new();
    wrong_mac.write(&mut frame, b"").expect("a frame");
    dropped(&mut bed, TENANT_1, &frame, DropReason::SpoofedMac);
    let martian = udp_from(TENANT_1, "127.0.0.1", FAR, (1, 2), b"");
    dropped(&mut bed, TENANT_1, &martian, DropReason::MartianSource);
    settled(&bed);
}

#[test]
fn neighbours_in_one_vrf_reach_each_other() {
    let mut bed = gateway(2);
    let frame = forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, W1, W2, (1, 2), b"hello"), TENANT_2);
    assert_eq!(frame[..6], workload_mac(TENANT_2).0);
    settled(&bed);
}

#[test]
fn ttl_that_runs_out_is_told_to_the_sender() {
    let mut bed = gateway(1);
    for (source, destination, expected) in [(W1, FAR, (11, 0)), (W1_V6, FAR_V6, (3, 0))] {
        let reply = forwarded(&mut bed, TENANT_1, &echo_from(TENANT_1, source, destination, 1), TENANT_1);
        assert_eq!(icmp_type_and_code(&reply), expected);
        let packet = SlicedPacket::from_ethernet(&reply).expect("a frame");
        let from = match packet.net {
            Some(NetSlice::Ipv4(ip)) => IpAddr::V4(ip.header().source_addr()),
            Some(NetSlice::Ipv6(ip)) => IpAddr::V6(ip.header().source_addr()),
            _ => panic!("IP"),
        };
        assert!(from == ip("10.1.0.1") || from == ip("2001:db8:1::1"), "{from}: our address there");
    }
    assert_eq!(bed.drops(DropReason::TtlExpired), 2);
    settled(&bed);
}

#[test]
fn errors_are_rate_limited() {
    let mut bed = gateway(1);
    for _ in 0..200 {
        bed.send(TENANT_1, &echo_from(TENANT_1, W1, FAR, 1));
    }
    bed.run();
    assert_eq!(bed.drops(DropReason::TtlExpired), 200);
    assert_eq!(bed.discard(TENANT_1), 50, "the burst of the bucket");
    settled(&bed);
}

#[test]
fn too_big_packets_are_refused_with_the_size_that_fits_or_cut() {
    let mut bed = gateway(1);
    // Outer IPv4 20, UDP 8, label 4.
    let inner_mtu = 1500 - 32u32;
    let big = vec![0x5a; 1450];
    let mut dont_fragment = udp_from(TENANT_1, W1, FAR, (1, 2), &big);
    dont_fragment[20] |= 0x40;
    fix_ipv4_checksum(&mut dont_fragment[14..34]);
    let reply = forwarded(&mut bed, TENANT_1, &dont_fragment, TENANT_1);
    assert_eq!(icmp_type_and_code(&reply), (3, 4));
    assert_eq!(u32::from_be_bytes(reply[38..42].try_into().expect("4")), inner_mtu);
    let reply = forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, W1_V6, FAR_V6, (1, 2), &big), TENANT_1);
    assert_eq!(icmp_type_and_code(&reply), (2, 0));
    assert_eq!(u32::from_be_bytes(reply[58..62].try_into().expect("4")), inner_mtu);

    let mut may_fragment = udp_from(TENANT_1, W1, FAR, (1, 2), &big);
    may_fragment[20] &= !0x40;
    fix_ipv4_checksum(&mut may_fragment[14..34]);
    let pieces = exchange(&mut bed, TENANT_1, &may_fragment);
    assert_eq!(pieces.len(), 2);
    let mut payload = Vec::new();
    for (port, piece) in &pieces {
        assert_eq!(*port, FABRIC);
        assert!(piece.len() <= 1514);
        assert_checksums(piece);
        let (_, inner) = untunnelled(piece);
        assert_eq!(ttl(&inner), 63);
        payload.extend_from_slice(&inner[20..]);
    }
    assert_eq!(payload[8..], big);
    settled(&bed);
}

fn fix_ipv4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = tieline_engine::packet::checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn the_mss_of_a_syn_fits_the_tunnel() {
    let mut bed = gateway(1);
    let step = headers(workload_mac(TENANT_1), own_mac(TENANT_1), W1, FAR, 64);
    let syn = tcp_segment(step, (1, 2), Tcp::Syn, Some(1460));
    let (_, inner) = untunnelled(&forwarded(&mut bed, TENANT_1, &syn, FABRIC));
    let mss = u16::from_be_bytes([inner[42], inner[43]]);
    assert_eq!(mss, 1500 - 32 - 40);
    bed.update(|tables| tables.options.clamp_mss = false);
    let (_, inner) = untunnelled(&forwarded(&mut bed, TENANT_1, &syn, FABRIC));
    assert_eq!(u16::from_be_bytes([inner[42], inner[43]]), 1460);
    settled(&bed);
}

#[test]
fn gateway_addresses_answer_pings() {
    let mut bed = gateway(1);
    for (source, gateway, kind) in [(W1, "10.1.0.1", 0), (W1_V6, "2001:db8:1::1", 129)] {
        let reply = forwarded(&mut bed, TENANT_1, &echo_from(TENANT_1, source, gateway, 1), TENANT_1);
        assert_eq!(icmp_type_and_code(&reply), (kind, 0));
        assert!(reply.ends_with(b"are you there?"));
    }
    let tcp = tcp_from(TENANT_1, W1, "10.1.0.1", (1, 22), Tcp::Syn);
    dropped(&mut bed, TENANT_1, &tcp, DropReason::LocalNotServed);
    settled(&bed);
}

#[test]
fn arp_for_the_gateway_is_answered_and_for_others_not() {
    let mut bed = gateway(1);
    let ask = |target: [u8; 4]| {
        let mut frame = [0xff; 6].to_vec();
        frame.extend(workload_mac(TENANT_1).0);
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(workload_mac(TENANT_1).0);
        frame.extend([10, 1, 0, 10]);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    };
    let reply = forwarded(&mut bed, TENANT_1, &ask([10, 1, 0, 1]), TENANT_1);
    assert_eq!(reply[..6], workload_mac(TENANT_1).0);
    assert_eq!(reply[20..22], [0, 2], "a reply");
    assert_eq!(reply[22..28], own_mac(TENANT_1).0);
    assert!(exchange(&mut bed, TENANT_1, &ask([10, 1, 0, 99])).is_empty());
    let mut spoofed = ask([10, 1, 0, 1]);
    spoofed[31] = 20;
    dropped(&mut bed, TENANT_1, &spoofed, DropReason::SpoofedIp);
    let mut other_mac = ask([10, 1, 0, 1]);
    other_mac[27] ^= 1;
    dropped(&mut bed, TENANT_1, &other_mac, DropReason::SpoofedMac);
    settled(&bed);
}

#[test]
fn tagged_frames_belong_to_their_own_interface() {
    let mut bed = gateway(1);
    bed.update(|tables| {
        let id = InterfaceId(9);
        let mut interface = tables.interfaces.get(1).expect("tenant 1").clone();
        interface.tags = VlanTags { outer: 7, inner: 0 };
        tables.interfaces.insert(id.index(), interface);
        let port = tables.ports.get_mut(TENANT_1.index()).expect("tenant 1");
        port.tagged.insert(VlanTags { outer: 7, inner: 0 }, id);
    });
    let (from, to) = (workload_mac(TENANT_1), own_mac(TENANT_1));
    forwarded(&mut bed, TENANT_1, &tagged(from, to, 7, W1, FAR), FABRIC);
    dropped(&mut bed, TENANT_1, &tagged(from, to, 8, W1, FAR), DropReason::UnknownVlan);
    settled(&bed);
}

#[test]
fn what_the_underlay_sends_outside_of_tunnels_is_the_hosts() {
    let mut bed = gateway(2);
    let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 1);
    let bgp = tcp_segment(step, (40000, 179), Tcp::Syn, None);
    let punted = forwarded(&mut bed, FABRIC, &bgp, HOST);
    assert_eq!(punted[..6], own_mac(HOST).0, "the TAP's MAC is the host's");
    assert_eq!(punted[22], 1, "TTL untouched");
    // And back, with TTL 1 as well.
    let step = headers(own_mac(HOST), MacAddr([2, 0, 0, 0, 0, 0xff]), "198.18.0.1", "198.18.0.2", 1);
    let answer = tcp_segment(step, (179, 40000), Tcp::SynAck, None);
    let frame = forwarded(&mut bed, HOST, &answer, FABRIC);
    assert_eq!(frame[..6], REMOTE_MAC.0);
    assert_eq!(frame[22], 1);
    let stranger = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.77", 9);
    let not_ours = tcp_segment(stranger, (1, 2), Tcp::Syn, None);
    dropped(&mut bed, FABRIC, &not_ours, DropReason::NotForUs);
    assert_eq!(bed.balance().punted, 1);
    settled(&bed);
}

#[test]
fn without_a_host_port_the_underlay_address_answers_pings_itself() {
    let mut bed = gateway(1);
    bed.update(|tables| tables.host_port = None);
    let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 64);
    let mut ping = Vec::new();
    step.icmpv4_echo_request(1, 1).write(&mut ping, b"underlay").expect("a frame");
    let reply = forwarded(&mut bed, FABRIC, &ping, FABRIC);
    assert_eq!(icmp_type_and_code(&reply), (0, 0));
    let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 1);
    let bgp = tcp_segment(step, (40000, 179), Tcp::Syn, None);
    dropped(&mut bed, FABRIC, &bgp, DropReason::NoHostPort);
    settled(&bed);
}

#[test]
fn a_packet_for_an_unknown_neighbour_is_left_with_the_service() {
    let mut bed = gateway(1);
    let step = headers(own_mac(HOST), MacAddr([2, 0, 0, 0, 0, 0xff]), "198.18.0.1", "198.18.0.9", 1);
    let frame = tcp_segment(step, (179, 40000), Tcp::Syn, None);
    assert!(exchange(&mut bed, HOST, &frame).is_empty());
    let waiting = bed.unresolved().expect("a packet that waits");
    assert_eq!(waiting.interface, FABRIC_INTERFACE);
    assert_eq!(waiting.address, IpAddr::V4(Ipv4Addr::new(198, 18, 0, 9)));
    assert_eq!(bed.balance().in_flight, 1);
    assert!(bed.balance().is_exact());
}

#[test]
fn padding_behind_the_packet_stays_behind() {
    let mut bed = gateway(1);
    let mut frame = udp_from(TENANT_1, W1, FAR, (1, 2), b"");
    let length = frame.len() - 14;
    frame.resize(60, 0xaa);
    let (_, inner) = untunnelled(&forwarded(&mut bed, TENANT_1, &frame, FABRIC));
    assert_eq!(inner.len(), length);
    settled(&bed);
}

#[test]
fn a_full_transmit_queue_is_a_counted_drop() {
    let mut bed = gateway(1);
    for round in 0..20u16 {
        for n in 0..64u16 {
            assert!(bed.send(TENANT_1, &udp_from(TENANT_1, W1, FAR, (round, n), b"x")));
        }
        bed.run();
    }
    assert_eq!(bed.drops(DropReason::TxQueueFull), 20 * 64 - 1024);
    assert_eq!(bed.discard(FABRIC), 1024);
    settled(&bed);
    assert_eq!(PortId(0), FABRIC);
}
