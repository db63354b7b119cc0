//! An echo request becomes its reply.

use crate::packet::checksum::update_u16;
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, chunk_mut, icmp, ipv4, ipv6, set_be16};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{icmp_type_code, is_multicast};

const TTL: u8 = 64;

/// Turns an echo request into the reply to it, and returns whether it was one.
/// The frame's Ethernet header stays as it is.
///
/// Fragments are not answered, since only whole messages can be; nor are
/// requests to a group, and IPv6 ones with extension headers, which a reply
/// must not carry back. A wrong ICMP checksum stays wrong, so that the asker
/// sees the damage.
#[must_use]
pub fn echo_reply_in_place(bytes: &mut [u8], meta: &PacketMeta) -> bool {
    let (request, reply) = match meta.key.family {
        Family::V4 => (icmp::V4_ECHO_REQUEST, icmp::V4_ECHO_REPLY),
        Family::V6 => (icmp::V6_ECHO_REQUEST, icmp::V6_ECHO_REPLY),
    };
    let answerable = icmp_type_code(bytes, meta) == Some((request, 0))
        && meta.segment(bytes).is_some_and(|message| message.len() >= icmp::LENGTH)
        && !meta.flags.intersects(PacketFlags::FRAGMENT)
        && !is_multicast(meta.key.family, &meta.key.destination);
    if !answerable {
        return false;
    }
    let l3_offset = usize::from(meta.l3_offset);
    let turned = match meta.key.family {
        Family::V4 => turn_v4(bytes, l3_offset),
        Family::V6 if usize::from(meta.l4_offset) != l3_offset + ipv6::LENGTH => None,
        Family::V6 => turn_v6(bytes, l3_offset),
    };
    let message = chunk_mut::<{ icmp::LENGTH }>(bytes, usize::from(meta.l4_offset));
    let (Some(()), Some(message)) = (turned, message) else { return false };
    let old = be16(message, icmp::TYPE);
    message[icmp::TYPE] = reply;
    let sum = update_u16(be16(message, icmp::CHECKSUM), old, be16(message, icmp::TYPE));
    set_be16(message, icmp::CHECKSUM, sum);
    true
}

/// Swaps the addresses, which no checksum notices, and renews the TTL.
fn turn_v4(bytes: &mut [u8], l3_offset: usize) -> Option<()> {
    let header: &mut [u8; ipv4::LENGTH] = chunk_mut(bytes, l3_offset)?;
    let (source, destination) = header[ipv4::SOURCE..].split_at_mut(4);
    source.swap_with_slice(destination);
    let old = be16(header, ipv4::TTL);
    header[ipv4::TTL] = TTL;
    let sum = update_u16(be16(header, ipv4::CHECKSUM), old, be16(header, ipv4::TTL));
    set_be16(header, ipv4::CHECKSUM, sum);
    Some(())
}

/// Swaps the addresses, which no checksum notices, and renews the hop limit.
fn turn_v6(bytes: &mut [u8], l3_offset: usize) -> Option<()> {
    let header: &mut [u8; ipv6::LENGTH] = chunk_mut(bytes, l3_offset)?;
    let (source, destination) = header[ipv6::SOURCE..].split_at_mut(16);
    source.swap_with_slice(destination);
    header[ipv6::HOP_LIMIT] = TTL;
    Some(())
}
