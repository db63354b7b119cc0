//! Decapsulation: MPLS in UDP (RFC 7510), MPLS in GRE (RFC 4023) and VXLAN
//! (RFC 7348).
//!
//! Called with a parsed packet for one of our underlay addresses. It only
//! reads: the caller removes the outer headers.

use crate::drop_reason::DropReason;
use crate::packet::checksum::{checksum, transport_is_valid};
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, be32, ethernet, gre, mpls, protocol, udp, vxlan};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::types::{Label, Vni};

/// What names the VRF of a tunnel packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKey {
    /// The MPLS label.
    Mpls(Label),
    /// The VXLAN network identifier.
    Vxlan(Vni),
}

/// What a tunnel packet carries. Offsets count from the start of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// An IP packet.
    Ip {
        /// Its version.
        family: Family,
        /// Where it starts.
        offset: usize,
    },
    /// An Ethernet frame.
    Ethernet {
        /// Where it starts.
        offset: usize,
    },
}

/// A tunnel packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decapsulated {
    /// What names the VRF.
    pub key: TunnelKey,
    /// What it carries.
    pub inner: Inner,
    /// Where the tunnel's payload ends. The inner headers must be parsed from
    /// `&bytes[..end]`: what the buffer holds beyond is padding.
    pub end: usize,
}

/// The kind of tunnel that a packet's outer headers announce, and where its
/// header starts and its payload ends.
enum Outer {
    Mpls { start: usize, end: usize },
    Vxlan { start: usize, end: usize },
}

/// Reads the tunnel headers of a packet that [`parse_ip`](super::parse::parse_ip)
/// has read into `outer`. `Ok(None)`: not a tunnel packet. A later fragment of
/// UDP is none, as its ports are not known.
///
/// MPLS in UDP is taken on port 6635 and on `extra_mpls_udp_port`.
///
/// # Errors
/// The drop reason.
#[inline]
pub fn decapsulate(
    bytes: &[u8],
    outer: &PacketMeta,
    extra_mpls_udp_port: Option<u16>,
) -> Result<Option<Decapsulated>, DropReason> {
    let tunnel = match outer.key.protocol {
        protocol::UDP => udp_tunnel(bytes, outer, extra_mpls_udp_port)?,
        protocol::GRE => Some(gre_tunnel(bytes, outer)?),
        _ => None,
    };
    match tunnel {
        Some(Outer::Mpls { start, end }) => mpls_payload(bytes, start, end).map(Some),
        Some(Outer::Vxlan { start, end }) => vxlan_payload(bytes, start, end).map(Some),
        None => Ok(None),
    }
}

#[inline]
fn udp_tunnel(
    bytes: &[u8],
    outer: &PacketMeta,
    extra_mpls_udp_port: Option<u16>,
) -> Result<Option<Outer>, DropReason> {
    if outer.flags.contains(PacketFlags::LATER_FRAGMENT) {
        return Ok(None);
    }
    let port = outer.key.destination_port;
    let is_mpls = port == udp::MPLS_PORT || extra_mpls_udp_port == Some(port);
    if !is_mpls && port != udp::VXLAN_PORT {
        return Ok(None);
    }
    if outer.flags.contains(PacketFlags::FIRST_FRAGMENT) {
        return Err(DropReason::OuterFragment);
    }
    let segment = outer.segment(bytes).ok_or(DropReason::TruncatedL4)?;
    let header: &[u8; udp::LENGTH] = segment.first_chunk().ok_or(DropReason::TruncatedL4)?;
    let length = usize::from(be16(header, udp::LENGTH_FIELD));
    let datagram = segment.get(..length).ok_or(DropReason::TruncatedL4)?;
    // Zero is "none", for tunnels over IPv6 too (RFC 6935).
    if be16(header, udp::CHECKSUM) != 0 && !transport_is_valid(&outer.key, datagram) {
        return Err(DropReason::BadOuterChecksum);
    }
    let udp_start = usize::from(outer.l4_offset);
    let (start, end) = (udp_start + udp::LENGTH, udp_start + length);
    Ok(Some(if is_mpls { Outer::Mpls { start, end } } else { Outer::Vxlan { start, end } }))
}

#[inline]
fn gre_tunnel(bytes: &[u8], outer: &PacketMeta) -> Result<Outer, DropReason> {
    if outer.flags.intersects(PacketFlags::FRAGMENT) {
        return Err(DropReason::OuterFragment);
    }
    let packet = outer.segment(bytes).ok_or(DropReason::BadGreHeader)?;
    let header: &[u8; gre::LENGTH] = packet.first_chunk().ok_or(DropReason::BadGreHeader)?;
    let flags = be16(header, 0);
    if flags & gre::REFUSED != 0 || be16(header, 2) != ethernet::MPLS {
        return Err(DropReason::BadGreHeader);
    }
    let mut length = gre::LENGTH;
    for option in [gre::CHECKSUM_PRESENT, gre::KEY_PRESENT] {
        if flags & option != 0 {
            length += gre::OPTIONAL_LENGTH;
        }
    }
    if packet.len() < length {
        return Err(DropReason::BadGreHeader);
    }
    // It covers header and payload (RFC 2784 section 2.5).
    if flags & gre::CHECKSUM_PRESENT != 0 && checksum(packet) != 0 {
        return Err(DropReason::BadOuterChecksum);
    }
    let start = usize::from(outer.l4_offset);
    Ok(Outer::Mpls { start: start + length, end: start + packet.len() })
}

#[inline]
fn mpls_payload(bytes: &[u8], start: usize, end: usize) -> Result<Decapsulated, DropReason> {
    let payload = bytes.get(start..end).ok_or(DropReason::BadLabelStack)?;
    let entry: &[u8; mpls::LENGTH] = payload.first_chunk().ok_or(DropReason::BadLabelStack)?;
    let entry = be32(entry, 0);
    if entry & mpls::BOTTOM == 0 {
        return Err(DropReason::BadLabelStack);
    }
    if entry & mpls::TTL == 0 {
        return Err(DropReason::MplsTtlExpired);
    }
    let label = Label::new(entry >> mpls::LABEL_SHIFT).ok_or(DropReason::UnknownLabel)?;
    let family = match payload.get(mpls::LENGTH).map(|first| first >> 4) {
        Some(4) => Family::V4,
        Some(6) => Family::V6,
        _ => return Err(DropReason::BadMplsPayload),
    };
    let inner = Inner::Ip { family, offset: start + mpls::LENGTH };
    Ok(Decapsulated { key: TunnelKey::Mpls(label), inner, end })
}

#[inline]
fn vxlan_payload(bytes: &[u8], start: usize, end: usize) -> Result<Decapsulated, DropReason> {
    let payload = bytes.get(start..end).ok_or(DropReason::BadVxlanHeader)?;
    let header: &[u8; vxlan::LENGTH] = payload.first_chunk().ok_or(DropReason::BadVxlanHeader)?;
    // The other bits are reserved and ignored (RFC 7348 section 5).
    if header[0] & vxlan::VNI_VALID == 0 {
        return Err(DropReason::BadVxlanHeader);
    }
    let vni = Vni::new(be32(header, vxlan::VNI) >> 8).ok_or(DropReason::UnknownVni)?;
    let inner = Inner::Ethernet { offset: start + vxlan::LENGTH };
    Ok(Decapsulated { key: TunnelKey::Vxlan(vni), inner, end })
}

#[cfg(test)]
mod tests;
