//! What comes in packets: the parsers and what writes packets anew.
//!
//! A target whose input is an IP packet takes the version from its first
//! nibble. Header checksums are declared good, because an input that had to
//! guess them would hardly ever get further.

use std::net::IpAddr;
use std::sync::LazyLock;

use tieline_engine::io::memory::MemoryPool;
use tieline_engine::local::arp::{ARP_LENGTH, parse_arp, write_arp};
use tieline_engine::local::nd::{ND_LENGTH, NdMessage, parse_nd, write_advertisement};
use tieline_engine::packet::buffer::{IpChecksum, PacketBuf};
use tieline_engine::packet::checksum::{self, checksum};
use tieline_engine::packet::decap::{Inner, decapsulate};
use tieline_engine::packet::flow_key::Family;
use tieline_engine::packet::icmp::{IcmpError, echo_reply_in_place, error_in_place, quoted_key};
use tieline_engine::packet::ip::{decrement_ttl, ecn_decapsulate};
use tieline_engine::packet::meta::{PacketFlags, PacketMeta};
use tieline_engine::packet::mss::clamp_mss;
use tieline_engine::packet::parse::{check_addresses, icmp_type_code, parse_ethernet, parse_ip, tcp_flags};
use tieline_engine::types::{InterfaceId, MacAddr};

static POOL: LazyLock<MemoryPool> = LazyLock::new(|| MemoryPool::new(4));

fn family_of(bytes: &[u8]) -> Family {
    if bytes.first().is_some_and(|first| first >> 4 == 4) { Family::V4 } else { Family::V6 }
}

/// Parses an IP packet and checks what `Ok` promises.
fn parse(bytes: &[u8], l3_offset: usize, family: Family) -> Option<PacketMeta> {
    let mut meta = PacketMeta::new(InterfaceId(0));
    parse_ip(bytes, l3_offset, family, IpChecksum::Good, &mut meta).ok()?;
    let (l3, l4) = (usize::from(meta.l3_offset), usize::from(meta.l4_offset));
    let end = l3 + usize::from(meta.ip_length);
    assert_eq!((l3, meta.key.family), (l3_offset, family));
    assert!(l3 < l4 && l4 <= end && end <= bytes.len(), "{l3} {l4} {end} {}", bytes.len());
    assert_eq!(meta.segment(bytes).is_none(), meta.flags.contains(PacketFlags::LATER_FRAGMENT));
    assert!(!meta.flags.contains(PacketFlags::FRAGMENT), "first and later at once");
    Some(meta)
}

/// Frames: Ethernet, VLAN tags, IP and transport headers.
pub fn ethernet_ip(data: &[u8]) {
    let Ok(link) = parse_ethernet(data) else { return };
    assert!(matches!(link.l3_offset, 14 | 18 | 22) && usize::from(link.l3_offset) <= data.len());
    let Some(family) = link.ethertype.family() else { return };
    let l3_offset = usize::from(link.l3_offset);
    let Some(meta) = parse(data, l3_offset, family) else { return };
    let _ = check_addresses(&meta.key);
    let _ = icmp_type_code(data, &meta);
    if meta.flags.contains(PacketFlags::TCP_SYN) {
        assert!(tcp_flags(data, &meta).is_some_and(|flags| flags & 2 != 0));
    }
    let mut bytes = data.to_vec();
    let header_is_right = checksum(&data[l3_offset..usize::from(meta.l4_offset)]) == 0;
    let changed = decrement_ttl(&mut bytes, l3_offset, family).is_ok()
        | ecn_decapsulate(3, &mut bytes, l3_offset, family).is_ok();
    if changed && header_is_right && family == Family::V4 {
        assert_eq!(checksum(&bytes[l3_offset..usize::from(meta.l4_offset)]), 0);
    }
}

/// Tunnel packets and what they carry.
pub fn decap(data: &[u8]) {
    let Some(meta) = parse(data, 0, family_of(data)) else { return };
    let Ok(Some(out)) = decapsulate(data, &meta, Some(51234)) else { return };
    assert!(out.end <= usize::from(meta.ip_length));
    let payload = &data[..out.end];
    match out.inner {
        Inner::Ip { family, offset } => {
            assert!(offset < out.end);
            parse(payload, offset, family);
        }
        Inner::Ethernet { offset } => {
            assert!(offset <= out.end);
            ethernet_ip(&payload[offset..]);
        }
    }
}

/// ICMP errors made, errors read, echo requests answered.
pub fn icmp(data: &[u8]) {
    let family = family_of(data);
    let Some(meta) = parse(data, 0, family) else { return };
    if quoted_key(data, &meta).is_some() {
        assert!(meta.flags.contains(PacketFlags::ICMP_ERROR));
    }
    let mut reply = data.to_vec();
    if echo_reply_in_place(&mut reply, &meta) {
        let back = parse(&reply, 0, family).expect("the reply to a packet that parses");
        assert_eq!(back.key, meta.key.reversed(meta.key.vrf));
    } else {
        assert_eq!(reply, data);
    }
    error_about(data, &meta);
}

fn error_about(data: &[u8], meta: &PacketMeta) {
    let Some(mut packet) = POOL.packet(data) else { return };
    let (source, limit) = match meta.key.family {
        Family::V4 => (IpAddr::from([192, 0, 2, 1]), 576),
        Family::V6 => (IpAddr::from([0xfd; 16]), 1280),
    };
    if !error_in_place(&mut packet, meta, IcmpError::FragmentationNeeded { mtu: 1400 }, source) {
        assert_eq!(packet.bytes(), data);
        return;
    }
    let mut told = PacketMeta::new(InterfaceId(0));
    parse_ip(packet.bytes(), 0, meta.key.family, IpChecksum::Unknown, &mut told)
        .expect("our own message, checksum included");
    assert_eq!(told.key.destination, meta.key.source);
    assert!(told.flags.contains(PacketFlags::ICMP_ERROR) && packet.bytes().len() <= limit);
    let segment = told.segment(packet.bytes()).expect("a whole packet");
    match meta.key.family {
        Family::V4 => assert_eq!(checksum(segment), 0),
        Family::V6 => assert!(checksum::transport_is_valid(&told.key, segment)),
    }
    // The quote may be cut within a long chain of headers, but tells no lie.
    if let Some(key) = quoted_key(packet.bytes(), &told) {
        assert_eq!(key, meta.key);
    }
}

/// ARP and Neighbour Discovery messages.
pub fn arp_nd(data: &[u8]) {
    if let Some(message) = parse_arp(data) {
        let mut again = [0; ARP_LENGTH];
        assert!(message.sender_mac.is_unicast() && write_arp(&message, &mut again));
        assert_eq!(again, data[..ARP_LENGTH]);
    }
    // The checksum and the hop limit are made right: no input would guess both.
    let mut packet = data.to_vec();
    let Some(hop_limit) = packet.get_mut(7) else { return };
    *hop_limit = 255;
    let Some(meta) = parse(&packet, 0, Family::V6) else { return };
    if let Some([_, _, high, low, ..]) = meta.segment_mut(&mut packet) {
        (*high, *low) = (0, 0);
    }
    let sum = checksum::transport_checksum(&meta.key, meta.segment(&packet).unwrap_or_default());
    if let Some([_, _, high, low, ..]) = meta.segment_mut(&mut packet) {
        [*high, *low] = sum.to_be_bytes();
    }
    if let Some(NdMessage::NeighbourSolicitation(asked)) = parse_nd(&packet, &meta) {
        assert!(!asked.target.is_multicast());
        let mut answer = [0; ND_LENGTH];
        let to = write_advertisement(&asked, MacAddr([2, 0, 0, 0, 0, 1]), &mut answer);
        let meta = parse(&answer, 0, Family::V6).expect("our own message");
        assert_eq!(to.map(IpAddr::from), Some(meta.key.destination_addr()));
        // A source that is a group makes an answer that no one may accept.
        if !asked.source.is_multicast() {
            assert!(parse_nd(&answer, &meta).is_some());
        }
    }
}

/// TCP options of a SYN: two bytes MSS, then an IP packet.
pub fn mss(data: &[u8]) {
    let Some((max_mss, packet)) = data.split_first_chunk::<2>() else { return };
    let Some(meta) = parse(packet, 0, family_of(packet)) else { return };
    let mut bytes = packet.to_vec();
    let max_mss = u16::from_be_bytes(*max_mss);
    let changed = clamp_mss(&mut bytes, &meta, max_mss);
    assert_eq!(changed, bytes != packet);
    if changed {
        let valid =
            |bytes: &[u8]| checksum::transport_is_valid(&meta.key, meta.segment(bytes).unwrap_or_default());
        assert_eq!(valid(packet), valid(&bytes));
        assert!(!clamp_mss(&mut bytes, &meta, max_mss), "a second time changes nothing");
    }
}
