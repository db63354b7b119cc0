//! What IP carries: TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260), ICMP
//! (RFC 792) and ICMPv6 (RFC 4443).

use crate::drop_reason::DropReason;
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{be16, chunk, icmp, protocol, sctp, tcp, udp};
use crate::packet::meta::{PacketFlags, PacketMeta};

/// Reads the header at the start of `segment`, which ends with the IP packet,
/// into ports and flags. Not for later fragments.
///
/// A first fragment must hold the whole header (RFC 7112, RFC 3128): what does
/// not is a [`DropReason::BadFragment`].
#[inline]
pub(super) fn parse(
    segment: &[u8],
    hop_limit: u8,
    key: &mut FlowKey,
    flags: &mut PacketFlags,
) -> Result<(), DropReason> {
    let is_fragment = flags.contains(PacketFlags::FIRST_FRAGMENT);
    let read = match (key.protocol, key.family) {
        (protocol::TCP, _) => read_tcp(segment, flags).then(|| segment.first_chunk()),
        (protocol::UDP, _) => read_udp(segment, is_fragment).then(|| segment.first_chunk()),
        (protocol::SCTP, _) => (segment.len() >= sctp::LENGTH).then(|| segment.first_chunk()),
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
            let header = segment.first_chunk().ok_or_else(|| truncated(is_fragment))?;
            read_icmp(header, hop_limit, key, flags);
            return Ok(());
        }
        _ => return Ok(()),
    };
    let ports: &[u8; 4] = read.flatten().ok_or_else(|| truncated(is_fragment))?;
    key.source_port = be16(ports, tcp::SOURCE_PORT);
    key.destination_port = be16(ports, tcp::DESTINATION_PORT);
    Ok(())
}

fn truncated(is_fragment: bool) -> DropReason {
    if is_fragment { DropReason::BadFragment } else { DropReason::TruncatedL4 }
}

#[inline]
fn read_tcp(segment: &[u8], flags: &mut PacketFlags) -> bool {
    let Some(header) = chunk::<{ tcp::LENGTH }>(segment, 0) else { return false };
    let length = usize::from(header[tcp::DATA_OFFSET] >> 4) * 4;
    let bits = header[tcp::FLAGS];
    if bits & tcp::SYN != 0 {
        flags.insert(PacketFlags::TCP_SYN);
        if bits & (tcp::ACK | tcp::FIN | tcp::RST) == 0 {
            flags.insert(PacketFlags::TCP_OPENS);
        }
    }
    (tcp::LENGTH..=segment.len()).contains(&length)
}

#[inline]
fn read_udp(segment: &[u8], is_fragment: bool) -> bool {
    let Some(header) = chunk::<{ udp::LENGTH }>(segment, 0) else { return false };
    let length = usize::from(be16(header, udp::LENGTH_FIELD));
    // The field counts the whole datagram, of which a fragment has a part.
    length >= udp::LENGTH && (is_fragment || length <= segment.len())
}

#[inline]
fn read_icmp(header: &[u8; icmp::LENGTH], hop_limit: u8, key: &mut FlowKey, flags: &mut PacketFlags) {
    let kind = header[icmp::TYPE];
    (key.source_port, key.destination_port) = icmp_ports(key.family, kind, be16(header, icmp::IDENTIFIER));
    if is_error(key.family, kind) {
        flags.insert(PacketFlags::ICMP_ERROR);
    }
    let is_query = match key.family {
        Family::V4 => matches!(kind, icmp::V4_ECHO_REQUEST | icmp::V4_TIMESTAMP),
        Family::V6 => kind == icmp::V6_ECHO_REQUEST,
    };
    if is_query {
        flags.insert(PacketFlags::ICMP_QUERY);
    }
    // A hop limit of 255 shows that no router forwarded it (RFC 4861 section
    // 7.1), and ND never comes in fragments (RFC 6980).
    let is_discovery = key.family == Family::V6
        && (icmp::ND_ROUTER_SOLICITATION..=icmp::ND_REDIRECT).contains(&kind)
        && hop_limit == 255
        && !flags.contains(PacketFlags::FIRST_FRAGMENT);
    if is_discovery {
        flags.insert(PacketFlags::NEIGHBOUR_DISCOVERY);
    }
}

/// What stands for the ports of an ICMP message in its key, so that the reply
/// to a query, and nothing else, has the query's key reversed.
#[inline]
fn icmp_ports(family: Family, kind: u8, identifier: u16) -> (u16, u16) {
    match (family, kind) {
        (Family::V4, icmp::V4_ECHO_REQUEST) | (Family::V6, icmp::V6_ECHO_REQUEST) => {
            (identifier, ECHO_SERVICE)
        }
        (Family::V4, icmp::V4_ECHO_REPLY) | (Family::V6, icmp::V6_ECHO_REPLY) => (ECHO_SERVICE, identifier),
        (Family::V4, icmp::V4_TIMESTAMP) => TIMESTAMP_PORTS,
        (Family::V4, icmp::V4_TIMESTAMP_REPLY) => (TIMESTAMP_PORTS.1, TIMESTAMP_PORTS.0),
        // Its reverse stands for nothing.
        _ => (OTHER_ICMP | u16::from(kind), u16::from(kind)),
    }
}

/// The "port" that echo requests go to: the type of the request in ICMP.
const ECHO_SERVICE: u16 = icmp::V4_ECHO_REQUEST as u16;
/// The types of a timestamp request and its reply.
const TIMESTAMP_PORTS: (u16, u16) = (icmp::V4_TIMESTAMP as u16, icmp::V4_TIMESTAMP_REPLY as u16);
const OTHER_ICMP: u16 = 0xff00;

/// Whether a message quotes a packet that failed.
#[inline]
fn is_error(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => matches!(
            kind,
            icmp::V4_UNREACHABLE
                | icmp::V4_SOURCE_QUENCH
                | icmp::V4_TIME_EXCEEDED
                | icmp::V4_PARAMETER_PROBLEM
        ),
        Family::V6 => kind < icmp::V6_FIRST_INFORMATIONAL,
    }
}

/// Source and destination port of a packet of which an ICMP error quotes the
/// start; `segment` is the quote's transport header, often only 8 bytes of it
/// (RFC 792). `None` if the quote is too short, or itself an ICMP error.
pub(in crate::packet) fn ports_of_quote(family: Family, protocol: u8, segment: &[u8]) -> Option<(u16, u16)> {
    match (protocol, family) {
        (protocol::TCP | protocol::UDP | protocol::SCTP, _) => {
            let ports: &[u8; 4] = segment.first_chunk()?;
            Some((be16(ports, tcp::SOURCE_PORT), be16(ports, tcp::DESTINATION_PORT)))
        }
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => {
            let header: &[u8; icmp::LENGTH] = segment.first_chunk()?;
            let kind = header[icmp::TYPE];
            if is_error(family, kind) {
                return None;
            }
            Some(icmp_ports(family, kind, be16(header, icmp::IDENTIFIER)))
        }
        _ => Some((0, 0)),
    }
}

/// The flags byte of a TCP segment; `None` if the packet is none.
#[inline]
pub fn tcp_flags(bytes: &[u8], meta: &PacketMeta) -> Option<u8> {
    if meta.key.protocol != protocol::TCP {
        return None;
    }
    meta.segment(bytes)?.get(tcp::FLAGS).copied()
}

/// Type and code of an ICMP or ICMPv6 message; `None` if the packet is none.
#[inline]
pub fn icmp_type_code(bytes: &[u8], meta: &PacketMeta) -> Option<(u8, u8)> {
    let is_icmp = matches!(
        (meta.key.protocol, meta.key.family),
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6)
    );
    if !is_icmp {
        return None;
    }
    let header: &[u8; 2] = meta.segment(bytes)?.first_chunk()?;
    Some((header[icmp::TYPE], header[icmp::CODE]))
}
