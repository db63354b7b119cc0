//! Bytes to metadata, for anything that a wire can bring.
//!
//! - [`ethernet`]: the frame, its VLAN tags and its EtherType
//! - `ipv4`, `ipv6`: the network header, to one shape for both
//! - `l4`: ports, identifiers and flags of what IP carries
//! - [`plain`]: the same in few instructions, for nearly all packets
//!
//! No function here panics, loops longer than a header is, or reads beyond
//! what the headers claim. After `Ok`, every offset and length in the metadata
//! lies within the bytes.

pub mod ethernet;
mod ipv4;
mod ipv6;
mod l4;
pub mod plain;
#[cfg(test)]
mod tests;

pub use ethernet::{EtherType, LinkLayer, parse_ethernet};
pub use l4::{icmp_type_code, tcp_flags};
pub use plain::{Plain, has_plain_addresses, read_plain};

pub(in crate::packet) use ipv6::walk as walk_extension_headers;
pub(in crate::packet) use l4::ports_of_quote;

use crate::drop_reason::DropReason;
use crate::packet::buffer::IpChecksum;
use crate::packet::flow_hash::{flow_hash, fragment_hash};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{protocol, tcp};
use crate::packet::meta::{PacketFlags, PacketMeta};

/// What an IP header says, of either version. Offsets count from the start of
/// the buffer.
struct IpHeader {
    source: [u8; 16],
    destination: [u8; 16],
    /// After IPv6 extension headers.
    protocol: u8,
    hop_limit: u8,
    /// Where `protocol`'s header starts.
    l4_offset: usize,
    /// Where the IP packet ends.
    end: usize,
    dont_fragment: bool,
    fragment: Option<Fragment>,
    /// Behind an IPsec authentication header: no byte may be rewritten.
    authenticated: bool,
}

/// Where a fragment stands in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::packet) struct Fragment {
    /// Offset in the fragmented part, bytes.
    pub offset: u32,
    /// Not the last one.
    pub more: bool,
    pub identification: u32,
    /// Where its share of the fragmented part starts in the buffer.
    pub payload: usize,
    /// Bytes of the reassembled packet in front of the fragmented part, as
    /// far as its length field counts them.
    pub unfragmented: usize,
}

/// Reads the IP packet at `l3_offset` into `meta`: the key but for its VRF,
/// offsets, length, flags and hash, and for fragments the identification in
/// `scratch`. Of the flags that were set, [`PacketFlags::DECAPSULATED`] and
/// [`PacketFlags::FROM_HOST`] stay.
///
/// `checksum` is what the device found out about this very header; inside a
/// tunnel that is [`IpChecksum::Unknown`].
///
/// # Errors
/// The drop reason; `meta` is as it was.
#[inline]
pub fn parse_ip(
    bytes: &[u8],
    l3_offset: usize,
    family: Family,
    checksum: IpChecksum,
    meta: &mut PacketMeta,
) -> Result<(), DropReason> {
    let header = match family {
        Family::V4 => ipv4::parse(bytes, l3_offset, checksum)?,
        Family::V6 => ipv6::parse(bytes, l3_offset)?,
    };
    let mut key = FlowKey {
        source: header.source,
        destination: header.destination,
        source_port: 0,
        destination_port: 0,
        vrf: meta.key.vrf,
        protocol: header.protocol,
        family,
    };
    let kept = PacketFlags::DECAPSULATED.union(PacketFlags::FROM_HOST);
    let mut flags = PacketFlags(meta.flags.0 & kept.0);
    if header.dont_fragment {
        flags.insert(PacketFlags::DONT_FRAGMENT);
    }
    if let Some(fragment) = &header.fragment {
        check_fragment(fragment, header.end, header.protocol)?;
        let is_first = fragment.offset == 0;
        flags.insert(if is_first { PacketFlags::FIRST_FRAGMENT } else { PacketFlags::LATER_FRAGMENT });
    }
    if !flags.contains(PacketFlags::LATER_FRAGMENT) {
        let segment = bytes.get(header.l4_offset..header.end).ok_or(DropReason::TruncatedL4)?;
        l4::parse(segment, header.hop_limit, &mut key, &mut flags)?;
    }
    if header.authenticated {
        flags = PacketFlags(flags.0 & !PacketFlags::TCP_SYN.0);
    }

    // Buffers longer than 64 KiB exist in fuzzers only; offsets must still fit.
    let offset = |at: usize| u16::try_from(at).map_err(|_| DropReason::TruncatedIp);
    let (l3, l4, length) = (offset(l3_offset)?, offset(header.l4_offset)?, offset(header.end - l3_offset)?);
    meta.flow_hash =
        if flags.intersects(PacketFlags::FRAGMENT) { fragment_hash(&key) } else { flow_hash(&key) };
    if let Some(fragment) = header.fragment {
        meta.scratch = fragment.identification;
    }
    meta.key = key;
    meta.flags = flags;
    meta.l3_offset = l3;
    meta.l4_offset = l4;
    meta.ip_length = length;
    Ok(())
}

/// Whether a fragment can be part of a packet.
fn check_fragment(fragment: &Fragment, end: usize, protocol: u8) -> Result<(), DropReason> {
    let length = end.saturating_sub(fragment.payload);
    let reassembled = fragment.unfragmented + fragment.offset as usize + length;
    let overlaps_tcp_header = protocol == protocol::TCP && (1..tcp::LENGTH as u32).contains(&fragment.offset);
    let possible = length > 0
        // All but the last are cut at multiples of 8 (RFC 791, RFC 8200 section 4.5).
        && (!fragment.more || length.is_multiple_of(8))
        && reassembled <= usize::from(u16::MAX)
        // RFC 3128: it would replace flags that the first fragment has shown.
        && !overlaps_tcp_header;
    possible.then_some(()).ok_or(DropReason::BadFragment)
}

/// Refuses addresses that no packet on a wire may have (RFC 1122 section
/// 3.2.1.3, RFC 4291 section 2.5, RFC 6890).
///
/// An unspecified source is refused as well: packets that may have one (DHCP,
/// duplicate address detection) are the caller's business before it asks.
///
/// # Errors
/// [`DropReason::MartianSource`] or [`DropReason::MartianDestination`].
#[inline]
pub fn check_addresses(key: &FlowKey) -> Result<(), DropReason> {
    let (source, destination) = (&key.source, &key.destination);
    let (source_bad, destination_bad) = match key.family {
        Family::V4 => (
            is_host_only_v4(source) || is_multicast(key.family, source) || source[..4] == [255; 4],
            is_host_only_v4(destination),
        ),
        Family::V6 => {
            (is_host_only_v6(source) || is_multicast(key.family, source), is_host_only_v6(destination))
        }
    };
    if source_bad {
        return Err(DropReason::MartianSource);
    }
    if destination_bad {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

/// Whether an address in a key's field is a multicast group.
#[inline]
pub(in crate::packet) fn is_multicast(family: Family, address: &[u8; 16]) -> bool {
    match family {
        Family::V4 => address[0] & 0xf0 == 0xe0,
        Family::V6 => address[0] == 0xff,
    }
}

/// "This network" 0.0.0.0/8 or loopback 127.0.0.0/8.
#[inline]
fn is_host_only_v4(address: &[u8; 16]) -> bool {
    address[0] == 0 || address[0] == 127
}

/// `::`, `::1`, or an IPv4-mapped address, which never goes on a wire.
#[inline]
fn is_host_only_v6(address: &[u8; 16]) -> bool {
    let value = u128::from_be_bytes(*address);
    value <= 1 || value >> 32 == 0xffff
}
