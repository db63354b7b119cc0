//! An offending packet becomes the error message about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::may_answer;
use crate::packet::buffer::PacketBuf;
use crate::packet::checksum::{checksum, transport_checksum};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{icmp, ipv4, ipv6, protocol, set_be16};
use crate::packet::meta::PacketMeta;

/// Longest ICMP error, IP header included (RFC 1812 section 4.3.2.3).
const MAX_V4: usize = 576;
/// Longest ICMPv6 error: IPv6's smallest MTU (RFC 4443 section 2.4(c)).
const MAX_V6: usize = 1280;
/// IP precedence "internetwork control" (RFC 1812 section 4.3.2.5).
const V4_TRAFFIC_CLASS: u8 = 0xc0;
const TTL: u8 = 64;

/// What went wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// TTL or hop limit ran out.
    TtlExpired,
    /// Too big for the way, and not to be fragmented.
    FragmentationNeeded {
        /// Largest IP packet that fits, bytes.
        mtu: u16,
    },
    /// No route to the destination.
    NoRoute,
    /// The destination does not answer on its link.
    AddressUnreachable,
}

impl IcmpError {
    /// Type, code, and the four bytes that follow the checksum.
    fn fields(self, family: Family) -> (u8, u8, u32) {
        match (family, self) {
            (Family::V4, IcmpError::TtlExpired) => (icmp::V4_TIME_EXCEEDED, 0, 0),
            (Family::V4, IcmpError::NoRoute) => (icmp::V4_UNREACHABLE, 0, 0),
            (Family::V4, IcmpError::AddressUnreachable) => (icmp::V4_UNREACHABLE, 1, 0),
            // The MTU in the lower half (RFC 1191 section 4).
            (Family::V4, IcmpError::FragmentationNeeded { mtu }) => (icmp::V4_UNREACHABLE, 4, u32::from(mtu)),
            (Family::V6, IcmpError::TtlExpired) => (icmp::V6_TIME_EXCEEDED, 0, 0),
            (Family::V6, IcmpError::NoRoute) => (icmp::V6_UNREACHABLE, 0, 0),
            (Family::V6, IcmpError::AddressUnreachable) => (icmp::V6_UNREACHABLE, 3, 0),
            (Family::V6, IcmpError::FragmentationNeeded { mtu }) => {
                (icmp::V6_PACKET_TOO_BIG, 0, u32::from(mtu))
            }
        }
    }
}

/// Turns a packet into the error message about it, from our address `source`
/// to the packet's source. The buffer then starts with the message's IP header
/// and ends with the message; `meta` no longer describes it.
///
/// Returns false, and leaves the packet as it was, if nobody may be told of
/// it ([`may_answer`]), if `source` is of the other IP version, or if the
/// buffer has no room.
#[must_use]
pub fn error_in_place<B: PacketBuf>(
    packet: &mut B,
    meta: &PacketMeta,
    error: IcmpError,
    source: IpAddr,
) -> bool {
    let (added, longest) = match meta.key.family {
        Family::V4 => (ipv4::LENGTH + icmp::LENGTH, MAX_V4),
        Family::V6 => (ipv6::LENGTH + icmp::LENGTH, MAX_V6),
    };
    let l3_offset = usize::from(meta.l3_offset);
    let Some(offending) = meta.ip_packet(packet.bytes()) else { return false };
    let quote = offending.len().min(longest - added);
    if !may_answer(packet.bytes(), meta)
        || source.is_ipv4() != (meta.key.family == Family::V4)
        || packet.headroom() + l3_offset < added
    {
        return false;
    }
    packet.advance(l3_offset);
    packet.truncate(quote);
    if !packet.prepend(added) {
        return false;
    }
    let bytes = packet.bytes_mut();
    let (kind, code, rest) = error.fields(meta.key.family);
    match (source, &meta.key.source) {
        (IpAddr::V4(source), [a, b, c, d, ..]) => {
            write_v4(bytes, source, Ipv4Addr::new(*a, *b, *c, *d));
            write_icmp(&mut bytes[ipv4::LENGTH..], kind, code, rest);
            let sum = checksum(&bytes[ipv4::LENGTH..]);
            set_be16(bytes, ipv4::LENGTH + icmp::CHECKSUM, sum);
        }
        (IpAddr::V6(source), to) => {
            write_v6(bytes, source, Ipv6Addr::from(*to));
            write_icmp(&mut bytes[ipv6::LENGTH..], kind, code, rest);
            let key = FlowKey {
                source: source.octets(),
                destination: *to,
                protocol: protocol::ICMPV6,
                family: Family::V6,
                ..FlowKey::ZERO
            };
            let sum = transport_checksum(&key, &bytes[ipv6::LENGTH..]);
            set_be16(bytes, ipv6::LENGTH + icmp::CHECKSUM, sum);
        }
    }
    true
}

/// An IPv4 header for all of `bytes`, which are at most [`MAX_V4`].
fn write_v4(bytes: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr) {
    let total = bytes.len() as u16;
    let header = &mut bytes[..ipv4::LENGTH];
    header.fill(0);
    header[ipv4::VERSION_IHL] = 0x45;
    header[ipv4::TRAFFIC_CLASS] = V4_TRAFFIC_CLASS;
    set_be16(header, ipv4::TOTAL_LENGTH, total);
    set_be16(header, ipv4::FRAGMENT, ipv4::DONT_FRAGMENT);
    header[ipv4::TTL] = TTL;
    header[ipv4::PROTOCOL] = protocol::ICMP;
    header[ipv4::SOURCE..ipv4::DESTINATION].copy_from_slice(&source.octets());
    header[ipv4::DESTINATION..].copy_from_slice(&destination.octets());
    let sum = checksum(header);
    set_be16(header, ipv4::CHECKSUM, sum);
}

/// An IPv6 header for all of `bytes`, which are at most [`MAX_V6`].
fn write_v6(bytes: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    let payload = (bytes.len() - ipv6::LENGTH) as u16;
    let header = &mut bytes[..ipv6::LENGTH];
    header.fill(0);
    header[0] = 0x60;
    set_be16(header, ipv6::PAYLOAD_LENGTH, payload);
    header[ipv6::NEXT_HEADER] = protocol::ICMPV6;
    header[ipv6::HOP_LIMIT] = TTL;
    header[ipv6::SOURCE..ipv6::DESTINATION].copy_from_slice(&source.octets());
    header[ipv6::DESTINATION..].copy_from_slice(&destination.octets());
}

/// The ICMP header with its checksum still zero.
fn write_icmp(bytes: &mut [u8], kind: u8, code: u8, rest: u32) {
    bytes[icmp::TYPE] = kind;
    bytes[icmp::CODE] = code;
    set_be16(bytes, icmp::CHECKSUM, 0);
    bytes[4..icmp::LENGTH].copy_from_slice(&rest.to_be_bytes());
}
