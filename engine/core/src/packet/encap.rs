//! Encapsulation: from a packet to its tunnel.
//!
//! An [`EncapHeader`] is everything between the Ethernet header and the inner
//! IP packet, built once for a route and patched for each packet:
//!
//! ```text
//! MPLS in UDP (RFC 7510)   IP | UDP 6635 | label
//! MPLS in GRE (RFC 4023)   IP | GRE      | label
//! VXLAN (RFC 7348)         IP | UDP 4789 | VXLAN | Ethernet
//! ```
//!
//! The tunnel is a pipe for the TTL and uniform for DSCP and ECN (RFC 2983,
//! RFC 6040 normal mode): the outer traffic class is the inner one's copy.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::drop_reason::DropReason;
use crate::packet::checksum::{Sum, checksum, udp_on_wire};
use crate::packet::flow_key::Family;
use crate::packet::headers::{chunk_mut, ethernet, ipv4, ipv6, mpls, protocol, set_be16, udp, vxlan};
use crate::packet::ip::traffic_class;
use crate::types::{Label, MacAddr, Vni};

/// Room for the longest header: IPv6, UDP, VXLAN and Ethernet take 70 bytes.
const CAPACITY: usize = 80;

/// TTL of the MPLS label: the pipe's own (RFC 3443).
const MPLS_TTL: u8 = 64;

/// First UDP source port for entropy (RFC 7510 section 3, RFC 7348 section 5).
const FIRST_ENTROPY_PORT: u16 = 0xc000;

/// The kinds of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EncapKind {
    /// MPLS in UDP (RFC 7510).
    MplsUdp,
    /// MPLS in GRE (RFC 4023).
    MplsGre,
    /// VXLAN (RFC 7348).
    Vxlan,
}

/// What an operator can choose about a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapOptions {
    /// TTL or hop limit of the outer header.
    pub hop_limit: u8,
    /// Send UDP over IPv6 without a checksum. Only for paths and remotes that
    /// are known to accept it (RFC 6936 section 4).
    pub udp6_zero_checksum: bool,
}

impl Default for EncapOptions {
    fn default() -> Self {
        Self { hop_limit: 64, udp6_zero_checksum: false }
    }
}

/// A tunnel's two ends are of different IP versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "tunnel from {source_address} to {destination}: the two addresses are of different IP versions; \
     give the tunnel a local address of the remote's version"
)]
pub struct FamilyMismatch {
    /// The local address.
    pub source_address: IpAddr,
    /// The remote address.
    pub destination: IpAddr,
}

/// What goes between the Ethernet header and the packet.
#[derive(Debug, Clone)]
pub struct EncapHeader {
    bytes: ArrayVec<u8, CAPACITY>,
    kind: EncapKind,
    family: Family,
    udp_checksum: bool,
    /// One's complement sum of the template's IPv4 header, lengths and
    /// traffic class being zero in it.
    ipv4_sum: u16,
}

impl EncapHeader {
    /// MPLS in UDP.
    ///
    /// # Errors
    /// [`FamilyMismatch`].
    pub fn mpls_udp(
        source: IpAddr,
        destination: IpAddr,
        label: Label,
        options: EncapOptions,
    ) -> Result<Self, FamilyMismatch> {
        let mut header = Self::new(EncapKind::MplsUdp, source, destination, protocol::UDP, options)?;
        header.push_udp(udp::MPLS_PORT);
        header.push_label(label);
        Ok(header)
    }

    /// MPLS in GRE.
    ///
    /// # Errors
    /// [`FamilyMismatch`].
    pub fn mpls_gre(
        source: IpAddr,
        destination: IpAddr,
        label: Label,
        options: EncapOptions,
    ) -> Result<Self, FamilyMismatch> {
        let mut header = Self::new(EncapKind::MplsGre, source, destination, protocol::GRE, options)?;
        header.push(&0u16.to_be_bytes());
        header.push(&ethernet::MPLS.to_be_bytes());
        header.push_label(label);
        Ok(header)
    }

    /// VXLAN that carries layer 3: `inner_destination` is the remote router's
    /// MAC, `inner_source` our own.
    ///
    /// # Errors
    /// [`FamilyMismatch`].
    pub fn vxlan(
        source: IpAddr,
        destination: IpAddr,
        vni: Vni,
        inner_destination: MacAddr,
        inner_source: MacAddr,
        options: EncapOptions,
    ) -> Result<Self, FamilyMismatch> {
        let mut header = Self::new(EncapKind::Vxlan, source, destination, protocol::UDP, options)?;
        header.push_udp(udp::VXLAN_PORT);
        header.push(&[vxlan::VNI_VALID, 0, 0, 0]);
        header.push(&(vni.value() << 8).to_be_bytes());
        header.push(&inner_destination.0);
        header.push(&inner_source.0);
        header.push(&ethernet::IPV4.to_be_bytes());
        Ok(header)
    }

    fn new(
        kind: EncapKind,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        options: EncapOptions,
    ) -> Result<Self, FamilyMismatch> {
        let mut header =
            Self { bytes: ArrayVec::new(), kind, family: Family::V4, udp_checksum: false, ipv4_sum: 0 };
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                header.push(&[0x45, 0, 0, 0]);
                // An atomic datagram needs no identification (RFC 6864 section 4.1).
                header.push(&0u16.to_be_bytes());
                header.push(&ipv4::DONT_FRAGMENT.to_be_bytes());
                header.push(&[options.hop_limit, protocol, 0, 0]);
                header.push(&source.octets());
                header.push(&destination.octets());
                header.ipv4_sum = !checksum(&header.bytes);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                header.family = Family::V6;
                header.udp_checksum = protocol == protocol::UDP && !options.udp6_zero_checksum;
                header.push(&[0x60, 0, 0, 0, 0, 0, protocol, options.hop_limit]);
                header.push(&source.octets());
                header.push(&destination.octets());
            }
            _ => return Err(FamilyMismatch { source_address: source, destination }),
        }
        Ok(header)
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes.extend(part.iter().copied());
    }

    fn push_udp(&mut self, destination_port: u16) {
        self.push(&[0, 0]);
        self.push(&destination_port.to_be_bytes());
        self.push(&[0, 0, 0, 0]);
    }

    fn push_label(&mut self, label: Label) {
        let entry = label.value() << mpls::LABEL_SHIFT | mpls::BOTTOM | u32::from(MPLS_TTL);
        self.push(&entry.to_be_bytes());
    }

    /// Length in bytes, from the outer IP header to the inner one.
    #[inline]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes by which the outer IP packet is longer than the inner one.
    #[inline]
    pub fn overhead(&self) -> u16 {
        // At most `CAPACITY`.
        self.bytes.len() as u16
    }

    /// IP version of the outer header.
    #[inline]
    pub fn outer_family(&self) -> Family {
        self.family
    }

    /// The kind of tunnel.
    #[inline]
    pub fn kind(&self) -> EncapKind {
        self.kind
    }

    /// The header with all that is the same for every packet, if no checksum
    /// of whole packets has to be made for it.
    pub fn without_checksum(&self) -> Option<&[u8]> {
        (!self.udp_checksum).then_some(&self.bytes)
    }

    /// One's complement sum of the IPv4 header, lengths and traffic class left
    /// out; 0 over IPv6.
    pub fn ipv4_sum(&self) -> u16 {
        self.ipv4_sum
    }

    /// Writes the header to the front of `packet`, which starts where the
    /// outer IP header goes, holds an inner IP packet of `inner_family` from
    /// [`length`](Self::length) on, and ends with it.
    ///
    /// # Errors
    /// [`DropReason::PacketTooBig`] if an outer length field cannot count the
    /// packet, [`DropReason::TruncatedIp`] if there is no inner packet; the
    /// bytes are then as they were.
    #[inline]
    pub fn write(&self, packet: &mut [u8], inner_family: Family, flow_hash: u32) -> Result<(), DropReason> {
        let class = traffic_class(packet, self.length(), inner_family).ok_or(DropReason::TruncatedIp)?;
        let ip_length = match self.family {
            Family::V4 => ipv4::LENGTH,
            Family::V6 => ipv6::LENGTH,
        };
        let total = u16::try_from(packet.len()).map_err(|_| DropReason::PacketTooBig)?;
        packet.get_mut(..self.length()).ok_or(DropReason::TruncatedIp)?.copy_from_slice(&self.bytes);
        // The template is longer than its IP header, hence so is the packet.
        let payload = total.saturating_sub(ip_length as u16);
        match self.family {
            Family::V4 => self.patch_ipv4(packet, total, class),
            Family::V6 => patch_ipv6(packet, payload, class, flow_hash),
        }
        .ok_or(DropReason::TruncatedIp)?;
        if self.kind == EncapKind::Vxlan {
            let ethertype = match inner_family {
                Family::V4 => ethernet::IPV4,
                Family::V6 => ethernet::IPV6,
            };
            set_be16(packet, self.length() - 2, ethertype);
        }
        if self.kind != EncapKind::MplsGre {
            self.patch_udp(packet, ip_length, payload, flow_hash).ok_or(DropReason::TruncatedIp)?;
        }
        Ok(())
    }

    #[inline]
    fn patch_ipv4(&self, packet: &mut [u8], total: u16, class: u8) -> Option<()> {
        let header: &mut [u8; ipv4::LENGTH] = chunk_mut(packet, 0)?;
        header[ipv4::TRAFFIC_CLASS] = class;
        set_be16(header, ipv4::TOTAL_LENGTH, total);
        let sum = Sum::default().word(self.ipv4_sum).word(u16::from(class)).word(total);
        set_be16(header, ipv4::CHECKSUM, sum.checksum());
        Some(())
    }

    #[inline]
    fn patch_udp(&self, packet: &mut [u8], at: usize, length: u16, flow_hash: u32) -> Option<()> {
        let header: &mut [u8; udp::LENGTH] = chunk_mut(packet, at)?;
        set_be16(header, udp::SOURCE_PORT, entropy_port(flow_hash));
        set_be16(header, udp::LENGTH_FIELD, length);
        if self.udp_checksum {
            // Both addresses, and the pseudo header's length and protocol.
            let pseudo = Sum::default()
                .bytes(packet.get(ipv6::SOURCE..ipv6::LENGTH)?)
                .word(length)
                .word(u16::from(protocol::UDP));
            let sum = pseudo.bytes(packet.get(at..)?).checksum();
            set_be16(packet, at + udp::CHECKSUM, udp_on_wire(sum));
        }
        Some(())
    }
}

/// The UDP source port of a flow's tunnel packets. It takes the low bits: the
/// high ones have chosen worker and ECMP member, and are much the same for all
/// flows that come to this tunnel.
#[inline]
pub fn entropy_port(flow_hash: u32) -> u16 {
    FIRST_ENTROPY_PORT | flow_hash as u16 & !FIRST_ENTROPY_PORT
}

#[inline]
fn patch_ipv6(packet: &mut [u8], payload: u16, class: u8, flow_hash: u32) -> Option<()> {
    let header: &mut [u8; ipv6::LENGTH] = chunk_mut(packet, 0)?;
    // The flow label is entropy too (RFC 6438), for GRE the only one.
    let first = 6 << 28 | u32::from(class) << 20 | flow_hash & 0xf_ffff;
    header[..4].copy_from_slice(&first.to_be_bytes());
    set_be16(header, ipv6::PAYLOAD_LENGTH, payload);
    Some(())
}

#[cfg(test)]
mod tests;
