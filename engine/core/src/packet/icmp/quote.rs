//! The packet that a received ICMP error is about.

use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{be16, chunk, icmp, ipv4, ipv6};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{ports_of_quote, walk_extension_headers};

/// The key of the packet that an ICMP error quotes, as that packet was sent,
/// in the VRF of the error itself. The session it belongs to is the one the
/// error belongs to.
///
/// `None` if the packet is no ICMP error, the quote too short to tell the
/// flow (RFC 792 promises its first 8 bytes), a later fragment, or itself an
/// ICMP error.
pub fn quoted_key(bytes: &[u8], meta: &PacketMeta) -> Option<FlowKey> {
    if !meta.flags.contains(PacketFlags::ICMP_ERROR) {
        return None;
    }
    let quote = meta.segment(bytes)?.get(icmp::LENGTH..)?;
    let mut key = FlowKey { vrf: meta.key.vrf, family: meta.key.family, ..FlowKey::ZERO };
    let l4_offset = match meta.key.family {
        Family::V4 => read_v4(quote, &mut key)?,
        Family::V6 => read_v6(quote, &mut key)?,
    };
    let segment = quote.get(l4_offset..)?;
    (key.source_port, key.destination_port) = ports_of_quote(key.family, key.protocol, segment)?;
    Some(key)
}

/// Fills in addresses and protocol; returns where the transport header starts.
/// Lengths and checksum are not looked at: routers on the way may have cut
/// and changed the packet before they quoted it.
fn read_v4(quote: &[u8], key: &mut FlowKey) -> Option<usize> {
    let fixed: &[u8; ipv4::LENGTH] = quote.first_chunk()?;
    let header_length = usize::from(fixed[ipv4::VERSION_IHL] & 0x0f) * 4;
    let is_later_fragment = be16(fixed, ipv4::FRAGMENT) & ipv4::FRAGMENT_OFFSET != 0;
    if fixed[ipv4::VERSION_IHL] >> 4 != 4 || header_length < ipv4::LENGTH || is_later_fragment {
        return None;
    }
    key.protocol = fixed[ipv4::PROTOCOL];
    key.source[..4].copy_from_slice(&fixed[ipv4::SOURCE..ipv4::DESTINATION]);
    key.destination[..4].copy_from_slice(&fixed[ipv4::DESTINATION..]);
    Some(header_length)
}

fn read_v6(quote: &[u8], key: &mut FlowKey) -> Option<usize> {
    let fixed: &[u8; ipv6::LENGTH] = chunk(quote, 0)?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    let chain = walk_extension_headers(quote, fixed[ipv6::NEXT_HEADER], ipv6::LENGTH).ok()?;
    if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return None;
    }
    key.protocol = chain.protocol;
    key.source.copy_from_slice(&fixed[ipv6::SOURCE..ipv6::DESTINATION]);
    key.destination.copy_from_slice(&fixed[ipv6::DESTINATION..]);
    Some(chain.offset)
}
