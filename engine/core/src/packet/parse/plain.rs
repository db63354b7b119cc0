//! Plain packets: whole, UDP or TCP, without options, extension headers or
//! anything else that somebody has to think about. Nearly all packets are, so
//! they have a parser of their own that answers in few instructions: yes, with
//! what [`parse_ip`](super::parse_ip) would find, or no, for any reason.

use crate::packet::buffer::IpChecksum;
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, chunk, ipv4, ipv6, protocol, tcp, udp};
use crate::packet::meta::PacketMeta;
use crate::types::VrfId;

/// TCP flags that say more than "here is more".
const CONTROL: u8 = tcp::SYN | tcp::FIN | tcp::RST;

/// What a plain packet has besides what its metadata says.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
}

/// Reads the IP packet at `l3_offset` into `meta`: the key with `vrf`, offsets
/// and length. `None`: it is not plain, or not right; the same fields of
/// `meta` then mean nothing.
///
/// Plain addresses are unicast and neither link-local, loopback nor
/// unspecified; a plain TCP segment has none of SYN, FIN and RST.
#[inline(always)]
pub fn read_plain(
    bytes: &[u8],
    l3_offset: usize,
    family: Family,
    checksum: IpChecksum,
    vrf: VrfId,
    meta: &mut PacketMeta,
) -> Option<Plain> {
    // Within the bytes of a packet of at most 64 KiB, or read_ports finds none.
    meta.l3_offset = l3_offset as u16;
    meta.key.vrf = vrf;
    meta.key.family = family;
    match family {
        Family::V4 => read_v4(bytes, l3_offset, checksum, meta),
        Family::V6 => read_v6(bytes, l3_offset, meta),
    }
}

#[inline(always)]
fn read_v4(bytes: &[u8], l3_offset: usize, checksum: IpChecksum, meta: &mut PacketMeta) -> Option<Plain> {
    // As much of what follows as UDP has.
    let head: &[u8; ipv4::LENGTH + udp::LENGTH] = chunk(bytes, l3_offset)?;
    let total = be16(head, ipv4::TOTAL_LENGTH);
    let end = l3_offset + usize::from(total);
    let whole = be16(head, ipv4::FRAGMENT) & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) == 0;
    if head[ipv4::VERSION_IHL] != 0x45 || !whole || end > bytes.len() {
        return None;
    }
    let is_right = match checksum {
        IpChecksum::Unknown => header_sum_is_right(head),
        IpChecksum::Good => true,
        IpChecksum::Bad => false,
    };
    let source: &[u8; 4] = chunk(head, ipv4::SOURCE)?;
    let destination: &[u8; 4] = chunk(head, ipv4::DESTINATION)?;
    if !is_right || !is_plain_v4(source) || !is_plain_v4(destination) {
        return None;
    }
    meta.key.source = widened(source);
    meta.key.destination = widened(destination);
    meta.key.protocol = head[ipv4::PROTOCOL];
    meta.ip_length = total;
    read_ports(bytes, l3_offset + ipv4::LENGTH, end, meta)?;
    Some(Plain { traffic_class: head[ipv4::TRAFFIC_CLASS], hop_limit: head[ipv4::TTL] })
}

/// An IPv4 address as a key has it.
#[inline(always)]
fn widened(address: &[u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = *address;
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[inline(always)]
fn read_v6(bytes: &[u8], l3_offset: usize, meta: &mut PacketMeta) -> Option<Plain> {
    let head: &[u8; ipv6::LENGTH + udp::LENGTH] = chunk(bytes, l3_offset)?;
    let length = u16::checked_add(be16(head, ipv6::PAYLOAD_LENGTH), ipv6::LENGTH as u16)?;
    let end = l3_offset + usize::from(length);
    if head[0] >> 4 != 6 || end > bytes.len() {
        return None;
    }
    let source: &[u8; 16] = chunk(head, ipv6::SOURCE)?;
    let destination: &[u8; 16] = chunk(head, ipv6::DESTINATION)?;
    if !is_plain_v6(source) || !is_plain_v6(destination) {
        return None;
    }
    meta.key.source = *source;
    meta.key.destination = *destination;
    meta.key.protocol = head[ipv6::NEXT_HEADER];
    meta.ip_length = length;
    read_ports(bytes, l3_offset + ipv6::LENGTH, end, meta)?;
    Some(Plain { traffic_class: head[0] << 4 | head[1] >> 4, hop_limit: head[ipv6::HOP_LIMIT] })
}

/// The ports of the segment at `at`, which ends at `end`.
#[inline(always)]
fn read_ports(bytes: &[u8], at: usize, end: usize, meta: &mut PacketMeta) -> Option<()> {
    meta.l4_offset = u16::try_from(at).ok()?;
    let key = &mut meta.key;
    let segment = bytes.get(at..end)?;
    let head: &[u8; udp::LENGTH] = chunk(segment, 0)?;
    match key.protocol {
        protocol::UDP => {
            let length = usize::from(be16(head, udp::LENGTH_FIELD));
            if length < udp::LENGTH || length > segment.len() {
                return None;
            }
        }
        protocol::TCP => {
            let head: &[u8; tcp::LENGTH] = chunk(segment, 0)?;
            let length = usize::from(head[tcp::DATA_OFFSET] >> 4) * 4;
            if head[tcp::FLAGS] & CONTROL != 0 || length < tcp::LENGTH || length > segment.len() {
                return None;
            }
        }
        _ => return None,
    }
    key.source_port = be16(head, udp::SOURCE_PORT);
    key.destination_port = be16(head, udp::DESTINATION_PORT);
    Some(())
}

/// Whether the checksum of an IPv4 header without options is right: all of its
/// words add up to ones (RFC 1071).
#[inline(always)]
fn header_sum_is_right(head: &[u8; ipv4::LENGTH + udp::LENGTH]) -> bool {
    let mut sum = 0u64;
    for word in head[..ipv4::LENGTH].as_chunks::<4>().0 {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    // Five words of 32 bits carry three bits at most.
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

/// Unicast, and not 0.0.0.0/8, 127.0.0.0/8 or 169.254.0.0/16.
#[inline(always)]
fn is_plain_v4(address: &[u8; 4]) -> bool {
    let first = address[0];
    // 1 to 223 in one comparison.
    first.wrapping_sub(1) < 223 && first != 127 && (first != 169 || address[1] != 254)
}

/// Unicast, not fe80::/10, and not among the first 2^64 addresses, where the
/// unspecified one, loopback and the mapped ones are.
#[inline(always)]
fn is_plain_v6(address: &[u8; 16]) -> bool {
    let first = be16(address, 0);
    first >> 8 != 0xff && first & 0xffc0 != 0xfe80 && address[..8] != [0; 8]
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::flow_hash::flow_hash;
    use crate::packet::meta::PacketFlags;
    use crate::packet::parse::{check_addresses, is_multicast, parse_ip, tcp_flags};
    use crate::types::InterfaceId;

    fn packet(is_v4: bool, is_tcp: bool, length: usize) -> Vec<u8> {
        let mut bytes = vec![0xaa; 3];
        let payload = vec![0x55; length];
        let step = if is_v4 {
            PacketBuilder::ipv4([10, 1, 0, 10], [10, 2, 0, 1], 64)
        } else {
            let last = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
            PacketBuilder::ipv6(last(1), last(2), 64)
        };
        let written = if is_tcp {
            step.tcp(1000, 80, 7, 512).ack(9).write(&mut bytes, &payload)
        } else {
            step.udp(1000, 53).write(&mut bytes, &payload)
        };
        written.expect("a packet");
        bytes
    }

    fn family(is_v4: bool) -> Family {
        if is_v4 { Family::V4 } else { Family::V6 }
    }

    /// Whatever is plain, the full parser finds the same and nothing special.
    fn agrees(bytes: &[u8], family: Family, checksum: IpChecksum) -> Result<bool, TestCaseError> {
        let vrf = VrfId(7);
        // Nothing of what stood there before may be left.
        let mut found = PacketMeta::UNKNOWN;
        (found.key.source, found.key.destination) = ([0xee; 16], [0xee; 16]);
        let Some(plain) = read_plain(bytes, 3, family, checksum, vrf, &mut found) else { return Ok(false) };
        let mut meta = PacketMeta::new(InterfaceId(1));
        meta.key.vrf = vrf;
        prop_assert_eq!(parse_ip(bytes, 3, family, checksum, &mut meta), Ok(()));
        prop_assert_eq!(found.key, meta.key);
        let places = |meta: &PacketMeta| (meta.l3_offset, meta.l4_offset, meta.ip_length);
        prop_assert_eq!(places(&found), places(&meta));
        prop_assert_eq!(flow_hash(&found.key), meta.flow_hash);
        prop_assert!(PacketFlags::DONT_FRAGMENT.contains(meta.flags), "{:?}", meta.flags);
        prop_assert_eq!(tcp_flags(bytes, &meta).unwrap_or(0) & CONTROL, 0);
        prop_assert_eq!(crate::packet::ip::traffic_class(bytes, 3, family), Some(plain.traffic_class));
        let hop_limit = if family == Family::V4 { bytes[3 + ipv4::TTL] } else { bytes[3 + ipv6::HOP_LIMIT] };
        prop_assert_eq!(plain.hop_limit, hop_limit);
        prop_assert_eq!(check_addresses(&meta.key), Ok(()));
        prop_assert!(!is_multicast(family, &meta.key.destination));
        for address in [meta.key.source_addr(), meta.key.destination_addr()] {
            let link_local = match address {
                std::net::IpAddr::V4(v4) => v4.is_link_local(),
                std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            prop_assert!(!link_local, "{address}");
        }
        Ok(true)
    }

    #[test]
    fn ordinary_packets_are_plain_with_and_without_padding() {
        for (is_v4, is_tcp) in [(true, true), (true, false), (false, true), (false, false)] {
            for (length, padding) in [(0, 0), (18, 0), (3, 7), (1400, 0)] {
                let mut bytes = packet(is_v4, is_tcp, length);
                bytes.resize(bytes.len() + padding, 0);
                assert!(agrees(&bytes, family(is_v4), IpChecksum::Unknown).expect("they agree"));
            }
        }
        let mut bytes = packet(true, false, 18);
        bytes[3 + ipv4::CHECKSUM] ^= 1;
        assert!(!agrees(&bytes, Family::V4, IpChecksum::Unknown).expect("they agree"));
        assert!(agrees(&bytes, Family::V4, IpChecksum::Good).expect("they agree"));
        assert!(!agrees(&packet(true, false, 18), Family::V4, IpChecksum::Bad).expect("they agree"));
    }

    proptest! {
        #[test]
        fn what_is_plain_is_what_the_full_parser_finds(
            is_v4: bool, is_tcp: bool, length in 0usize..40, cut in 0usize..30,
            changes in proptest::collection::vec((3usize..80, any::<u8>()), 0..3), fix: bool,
        ) {
            let mut bytes = packet(is_v4, is_tcp, length);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if is_v4 && fix {
                bytes[3 + ipv4::CHECKSUM..][..2].fill(0);
                let sum = crate::packet::checksum::checksum(&bytes[3..3 + ipv4::LENGTH]);
                bytes[3 + ipv4::CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
            }
            agrees(&bytes, family(is_v4), IpChecksum::Unknown)?;
            bytes.truncate(bytes.len().saturating_sub(cut));
            agrees(&bytes, family(is_v4), IpChecksum::Unknown)?;
            agrees(&bytes, family(!is_v4), IpChecksum::Good)?;
        }
    }
}
