//! Packets and live state, all valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use tieline_engine::local::arp::{ARP_LENGTH, ArpMessage, write_arp};
use tieline_engine::local::nd::{
    ND_LENGTH, NeighbourSolicitation, solicited_node, write_advertisement, write_solicitation,
};
use tieline_engine::packet::encap::{EncapHeader, EncapOptions};
use tieline_engine::packet::flow_key::{Family, FlowKey};
use tieline_engine::session::State;
use tieline_engine::transfer::{ChunkWriter, Names, NeighbourRecord, SessionRecord, stream};
use tieline_engine::types::{InterfaceId, Label, MacAddr, Vni, VrfId};

use super::Seed;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes| seeds.push(Seed { target, name: name.to_owned(), bytes });
    for (name, packet) in ip_packets() {
        add("ethernet_ip", name, [&ethernet(&packet)[..], &packet].concat());
        add("pipeline", name, frames(&packet));
        add("icmp", name, packet.clone());
        add("mss", name, [&[0x05, 0x50][..], &packet].concat());
        add("arp_nd", name, packet);
    }
    for (name, bytes) in tunnels() {
        add("decap", name, bytes.clone());
        add("pipeline", name, bytes);
    }
    let mut arp = vec![0; ARP_LENGTH];
    let request = ArpMessage::request(MAC, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    assert!(write_arp(&request, &mut arp), "the buffer has the message's length");
    add("arp_nd", "arp", arp);
    for (name, bytes) in nd_packets() {
        add("arp_nd", name, bytes);
    }
    add("transfer", "stream", live_state());
    seeds
}

/// A stream of live state with a chunk of each kind.
fn live_state() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |chunk: &[u8]| {
        bytes.extend_from_slice(chunk);
        Ok(())
    };
    let (vrf, interface) = (VrfId(1), InterfaceId(2));
    let names = Names { vrfs: vec![(vrf, "red".into())], interfaces: vec![(interface, "web".into())] };
    let neighbour = NeighbourRecord { interface, address: Ipv6Addr::LOCALHOST.into(), mac: MAC };
    let mut chunk = ChunkWriter::sessions();
    for (protocol, family, state) in [
        (6, Family::V4, State::TcpEstablished),
        (17, Family::V6, State::UdpReplied),
        (1, Family::V4, State::IcmpUnanswered),
        (47, Family::V4, State::OtherReplied),
    ] {
        let key = FlowKey { protocol, family, vrf, source_port: 4000, destination_port: 80, ..FlowKey::ZERO };
        chunk.put(&SessionRecord {
            key,
            reply_vrf: vrf,
            ingress: [interface, InterfaceId::NONE],
            state,
            age: 160,
            idle: [16, 32],
            packets: [300, 2],
            bytes: [70_000, 120],
        });
    }
    stream::write_names(&names, &mut sink)
        .and_then(|()| sink(chunk.finish()))
        .and_then(|()| stream::write_neighbours([neighbour], &mut sink))
        .and_then(|()| stream::write_end(&mut sink))
        .expect("memory takes everything");
    bytes
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7][..], &ethertype].concat()
}

/// A packet from each tenant port of the gateway that the pipeline is fuzzed
/// with: from workload 1 to the far network, and back.
fn frames(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[12..16].copy_from_slice(&[10, 1, 0, 10]);
        packet[16..20].copy_from_slice(&[10, 2, 0, 5]);
        packet[10..12].fill(0);
        let header = usize::from(packet[0] & 15) * 4;
        let sum = tieline_engine::packet::checksum::checksum(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let mut frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1][..], &ethertype, &packet].concat();
    frame.resize(frame.len().next_multiple_of(16), 0);
    [&[1, (frame.len() / 16) as u8][..], &frame].concat()
}

fn ip_packets() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = || PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let v6 = || PacketBuilder::ipv6([0xfd; 16], [0xfc; 16], 64);
    let mss = [2, 4, 5, 180, 1, 3, 3, 7];
    let bytes = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    };
    const FITS: &str = "a small payload fits every length field";
    let udp4 = bytes(&|to| v4().udp(1, 2).write(to, b"data").expect(FITS));
    let udp6 = bytes(&|to| v6().udp(1, 2).write(to, b"data").expect(FITS));
    let syn4 = bytes(&|to| {
        v4().tcp(1, 2, 3, 4).syn().options_raw(&mss).expect(FITS).write(to, &[]).expect(FITS);
    });
    let syn6 = bytes(&|to| {
        v6().tcp(1, 2, 3, 4).syn().options_raw(&mss).expect(FITS).write(to, &[]).expect(FITS);
    });
    let error4 = bytes(&|to| v4().icmpv4_raw(3, 1, [0; 4]).write(to, &udp4).expect(FITS));
    let error6 = bytes(&|to| v6().icmpv6_raw(1, 0, [0; 4]).write(to, &udp6).expect(FITS));
    let mut fragment6 = udp6.clone();
    fragment6[5] += 8;
    fragment6[6] = 44;
    fragment6.splice(40..40, [17, 0, 0, 0, 0, 0, 0, 1]);
    vec![
        ("echo4", bytes(&|to| v4().icmpv4_echo_request(1, 2).write(to, b"data").expect(FITS))),
        ("echo6", bytes(&|to| v6().icmpv6_echo_request(1, 2).write(to, b"data").expect(FITS))),
        ("error4", error4),
        ("error6", error6),
        ("fragment6", fragment6),
        ("syn4", syn4),
        ("syn6", syn6),
        ("udp4", udp4),
        ("udp6", udp6),
    ]
}

fn tunnels() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    let v6 = (IpAddr::from([0xfd; 16]), IpAddr::from([0xfe; 16]));
    let options = EncapOptions::default();
    const SAME: &str = "both addresses are of one family";
    let label = Label::new(100).expect("100 is a label");
    let vni = Vni::new(100).expect("100 is a VNI");
    let headers = [
        ("mpls_udp4", EncapHeader::mpls_udp(v4.0, v4.1, label, options).expect(SAME)),
        ("mpls_udp6", EncapHeader::mpls_udp(v6.0, v6.1, label, options).expect(SAME)),
        ("mpls_gre4", EncapHeader::mpls_gre(v4.0, v4.1, label, options).expect(SAME)),
        ("mpls_gre6", EncapHeader::mpls_gre(v6.0, v6.1, label, options).expect(SAME)),
        ("vxlan4", EncapHeader::vxlan(v4.0, v4.1, vni, MAC, MAC, options).expect(SAME)),
        ("vxlan6", EncapHeader::vxlan(v6.0, v6.1, vni, MAC, MAC, options).expect(SAME)),
    ];
    let inner = ip_packets().pop().map(|(_, bytes)| bytes).unwrap_or_default();
    let wrap = |header: EncapHeader| {
        let mut packet = vec![0; header.length()];
        packet.extend(&inner);
        header.write(&mut packet, Family::V6, 7).expect("a small packet fits");
        packet
    };
    headers.into_iter().map(|(name, header)| (name, wrap(header))).collect()
}

fn nd_packets() -> [(&'static str, Vec<u8>); 2] {
    let (source, target) = (Ipv6Addr::from([0xfd; 16]), Ipv6Addr::from([0xfc; 16]));
    let mut asks = vec![0; ND_LENGTH];
    let asked = write_solicitation(MAC, source, target, solicited_node(target), &mut asks);
    assert!(asked, "the buffer has the message's length");
    let mut answers = vec![0; ND_LENGTH];
    let solicitation = NeighbourSolicitation { source, target, source_mac: Some(MAC) };
    let answered = write_advertisement(&solicitation, MAC, &mut answers);
    assert_eq!(answered, Some(source), "the buffer has the message's length");
    [("solicitation", asks), ("advertisement", answers)]
}
