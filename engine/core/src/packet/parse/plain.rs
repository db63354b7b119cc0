//! Plain packets: whole, UDP or TCP, without options, extension headers or
//! anything else that somebody has to think about. Nearly all packets are, so
//! they have a parser of their own that answers in few instructions: yes, with
//! what [`parse_ip`](super::parse_ip) would find, or no, for any reason.

use crate::packet::buffer::IpChecksum;
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{be16, chunk, ipv4, ipv6, protocol, tcp, udp};
use crate::types::VrfId;

/// TCP flags that say more than "here is more".
const CONTROL: u8 = tcp::SYN | tcp::FIN | tcp::RST;

/// A plain packet.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    /// Its key.
    pub key: FlowKey,
    /// Where its IP header starts.
    pub l3_offset: u16,
    /// Where its UDP or TCP header starts.
    pub l4_offset: u16,
    /// Length from its IP header on, in bytes.
    pub ip_length: u16,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
}

/// Reads the IP packet at `l3_offset`, which is routed in `vrf`. `None`: it is
/// not plain, or not right.
///
/// A plain TCP segment has none of SYN, FIN and RST. Whether the addresses are
/// plain too is for [`has_plain_addresses`] to say.
#[inline(always)]
pub fn read_plain(
    bytes: &[u8],
    l3_offset: usize,
    family: Family,
    checksum: IpChecksum,
    vrf: VrfId,
) -> Option<Plain> {
    match family {
        Family::V4 => read_v4(bytes, l3_offset, checksum, vrf),
        Family::V6 => read_v6(bytes, l3_offset, vrf),
    }
}

/// Version and header length, "more fragments" and the fragment offset of an
/// IPv4 header's first eight bytes, and what they are in a plain packet.
const V4_MASK: u64 = u64::from_le_bytes([0xff, 0, 0, 0, 0, 0, 0x3f, 0xff]);
const V4_PLAIN: u64 = 0x45;

#[inline(always)]
fn read_v4(bytes: &[u8], l3_offset: usize, checksum: IpChecksum, vrf: VrfId) -> Option<Plain> {
    // As much of what follows as UDP has, a word at a time: fields are cut out
    // of registers.
    let head: &[u8; ipv4::LENGTH + udp::LENGTH] = chunk(bytes, l3_offset)?;
    let [first, second, third] = [le64(head, 0), le64(head, 8), le64(head, 16)];
    let total = (first >> (8 * ipv4::TOTAL_LENGTH)) as u16;
    let total = u16::from_le(total.to_be());
    if first & V4_MASK != V4_PLAIN || usize::from(total) > bytes.len() - l3_offset {
        return None;
    }
    let is_right = match checksum {
        IpChecksum::Unknown => header_sum_is_right(first, second, third as u32),
        IpChecksum::Good => true,
        IpChecksum::Bad => false,
    };
    let protocol = (second >> 8) as u8;
    if !is_right || !is_plain_segment(bytes, l3_offset, ipv4::LENGTH, total, protocol, head) {
        return None;
    }
    let ports = ((third >> 32) as u32).swap_bytes();
    let key = FlowKey {
        source: u128::from(second >> 32).to_le_bytes(),
        destination: u128::from(third as u32).to_le_bytes(),
        source_port: (ports >> 16) as u16,
        destination_port: ports as u16,
        vrf,
        protocol,
        family: Family::V4,
    };
    Some(Plain {
        key,
        // Within a packet of at most 64 KiB.
        l3_offset: l3_offset as u16,
        l4_offset: (l3_offset + ipv4::LENGTH) as u16,
        ip_length: total,
        traffic_class: (first >> 8) as u8,
        hop_limit: second as u8,
    })
}

/// The eight bytes at `at`, the first of them lowest.
#[inline(always)]
fn le64(head: &[u8; ipv4::LENGTH + udp::LENGTH], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline(always)]
fn read_v6(bytes: &[u8], l3_offset: usize, vrf: VrfId) -> Option<Plain> {
    let head: &[u8; ipv6::LENGTH + udp::LENGTH] = chunk(bytes, l3_offset)?;
    let length = u16::checked_add(be16(head, ipv6::PAYLOAD_LENGTH), ipv6::LENGTH as u16)?;
    if head[0] >> 4 != 6 || usize::from(length) > bytes.len() - l3_offset {
        return None;
    }
    let protocol = head[ipv6::NEXT_HEADER];
    if !is_plain_segment(bytes, l3_offset, ipv6::LENGTH, length, protocol, head) {
        return None;
    }
    let key = FlowKey {
        source: *chunk(head, ipv6::SOURCE)?,
        destination: *chunk(head, ipv6::DESTINATION)?,
        source_port: be16(head, ipv6::LENGTH + udp::SOURCE_PORT),
        destination_port: be16(head, ipv6::LENGTH + udp::DESTINATION_PORT),
        vrf,
        protocol,
        family: Family::V6,
    };
    Some(Plain {
        key,
        // Within a packet of at most 64 KiB.
        l3_offset: l3_offset as u16,
        l4_offset: (l3_offset + ipv6::LENGTH) as u16,
        ip_length: length,
        traffic_class: head[0] << 4 | head[1] >> 4,
        hop_limit: head[ipv6::HOP_LIMIT],
    })
}

/// Whether the IP packet of `total` bytes at `l3_offset` carries a whole UDP
/// datagram, or a TCP segment that only says "here is more". `head` is its IP
/// header, of `header` bytes, and as much again as a UDP header has.
#[inline(always)]
fn is_plain_segment(
    bytes: &[u8],
    l3_offset: usize,
    header: usize,
    total: u16,
    protocol: u8,
    head: &[u8],
) -> bool {
    let total = usize::from(total);
    if protocol == protocol::UDP {
        let length = usize::from(be16(head, header + udp::LENGTH_FIELD));
        return length >= udp::LENGTH && header + length <= total;
    }
    protocol == protocol::TCP && is_plain_tcp(bytes, l3_offset + header, l3_offset + total)
}

/// Whether the TCP segment at `at`, which ends at `end`, is a plain one.
#[inline(always)]
fn is_plain_tcp(bytes: &[u8], at: usize, end: usize) -> bool {
    let Some(head) = chunk::<{ tcp::LENGTH }>(bytes, at) else { return false };
    let length = usize::from(head[tcp::DATA_OFFSET] >> 4) * 4;
    head[tcp::FLAGS] & CONTROL == 0 && length >= tcp::LENGTH && at + length <= end
}

/// Whether the checksum of an IPv4 header without options is right: all of its
/// words add up to ones (RFC 1071), which is to be a multiple of them, and not
/// zero. The header is given as its bytes, the first of each word lowest.
#[inline(always)]
fn header_sum_is_right(first: u64, second: u64, last: u32) -> bool {
    let (sum, carry) = first.overflowing_add(second);
    // A carry out of 64 bits is worth as much as one out of 16.
    let (sum, carry) = sum.overflowing_add(u64::from(carry) + u64::from(last));
    // The version is not zero.
    (sum + u64::from(carry)).is_multiple_of(0xffff)
}

/// Whether both addresses are unicast and neither link-local, loopback nor
/// unspecified.
#[inline(always)]
pub fn has_plain_addresses(key: &FlowKey) -> bool {
    match key.family {
        Family::V4 => is_plain_v4(&key.source) && is_plain_v4(&key.destination),
        Family::V6 => is_plain_v6(&key.source) && is_plain_v6(&key.destination),
    }
}

/// Unicast, and not 0.0.0.0/8, 127.0.0.0/8 or 169.254.0.0/16.
#[inline(always)]
fn is_plain_v4(address: &[u8; 16]) -> bool {
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
    use crate::packet::meta::{PacketFlags, PacketMeta};
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
        let Some(found) = read_plain(bytes, 3, family, checksum, vrf) else { return Ok(false) };
        let mut meta = PacketMeta::new(InterfaceId(1));
        meta.key.vrf = vrf;
        prop_assert_eq!(parse_ip(bytes, 3, family, checksum, &mut meta), Ok(()));
        prop_assert_eq!(found.key, meta.key);
        let places = (meta.l3_offset, meta.l4_offset, meta.ip_length);
        prop_assert_eq!((found.l3_offset, found.l4_offset, found.ip_length), places);
        prop_assert_eq!(flow_hash(&found.key), meta.flow_hash);
        prop_assert!(PacketFlags::DONT_FRAGMENT.contains(meta.flags), "{:?}", meta.flags);
        prop_assert_eq!(tcp_flags(bytes, &meta).unwrap_or(0) & CONTROL, 0);
        prop_assert_eq!(crate::packet::ip::traffic_class(bytes, 3, family), Some(found.traffic_class));
        let hop_limit = if family == Family::V4 { bytes[3 + ipv4::TTL] } else { bytes[3 + ipv6::HOP_LIMIT] };
        prop_assert_eq!(found.hop_limit, hop_limit);
        if !has_plain_addresses(&found.key) {
            return Ok(false);
        }
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
