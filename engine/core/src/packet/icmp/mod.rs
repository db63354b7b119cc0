//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages that the engine makes or
//! looks into.
//!
//! - this file: who may be told of an error
//! - `error`: an offending packet becomes the message about it
//! - `echo`: an echo request becomes its reply
//! - `quote`: the packet that a received error is about

mod echo;
mod error;
mod quote;
#[cfg(test)]
mod tests;

pub use echo::echo_reply_in_place;
pub use error::{IcmpError, error_in_place};
pub use quote::quoted_key;

use crate::packet::flow_key::Family;
use crate::packet::headers::{ethernet, icmp};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{check_addresses, icmp_type_code, is_multicast};

/// Whether an error message may be sent about this packet (RFC 1122 section
/// 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4(e)).
///
/// Broadcast addresses of subnets look like any other here; the caller, who
/// knows the subnets, must not ask about those.
pub fn may_answer(bytes: &[u8], meta: &PacketMeta) -> bool {
    if meta.flags.intersects(PacketFlags::ICMP_ERROR.union(PacketFlags::LATER_FRAGMENT)) {
        return false;
    }
    // Redirects are errors in this respect, although they ask for no session.
    let is_redirect = match (icmp_type_code(bytes, meta), meta.key.family) {
        (Some((kind, _)), Family::V4) => kind == icmp::V4_REDIRECT,
        (Some((kind, _)), Family::V6) => kind == icmp::ND_REDIRECT,
        (None, _) => false,
    };
    let family = meta.key.family;
    let (source, destination) = (&meta.key.source, &meta.key.destination);
    // 240.0.0.0/4 holds no host, and ends with the broadcast address.
    let is_reserved = |address: &[u8; 16]| family == Family::V4 && address[0] >= 240;
    !is_redirect
        && check_addresses(&meta.key).is_ok()
        && !is_reserved(source)
        && !is_reserved(destination)
        && !is_multicast(family, destination)
        && !came_by_link_multicast(bytes, meta)
}

/// Whether the frame was sent to many stations. Behind a tunnel, and where
/// the buffer starts with the IP packet, there is no such frame to see.
fn came_by_link_multicast(bytes: &[u8], meta: &PacketMeta) -> bool {
    usize::from(meta.l3_offset) >= ethernet::LENGTH
        && !meta.flags.contains(PacketFlags::DECAPSULATED)
        && bytes.first().is_some_and(|first| first & 1 != 0)
}
