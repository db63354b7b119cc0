//! Encapsulation: from a packet to its tunnel.

use std::net::IpAddr;

use crate::types::{Label, MacAddr, Vni};

/// What goes between the Ethernet header and the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncapHeader {
    source: IpAddr,
    destination: IpAddr,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    MplsUdp(Label),
    MplsGre(Label),
    Vxlan(Vni, MacAddr, MacAddr),
}

/// Choices that apply to every tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncapOptions {
    /// Send zero UDP checksums over IPv6 (RFC 6935).
    pub udp6_zero_checksum: bool,
}

impl EncapHeader {
    /// MPLS in UDP (RFC 7510). `None` if the families differ.
    pub fn mpls_udp(source: IpAddr, destination: IpAddr, label: Label, _: EncapOptions) -> Option<Self> {
        Self::new(source, destination, Kind::MplsUdp(label))
    }

    /// MPLS in GRE (RFC 4023). `None` if the families differ.
    pub fn mpls_gre(source: IpAddr, destination: IpAddr, label: Label, _: EncapOptions) -> Option<Self> {
        Self::new(source, destination, Kind::MplsGre(label))
    }

    /// VXLAN (RFC 7348). `None` if the families differ.
    pub fn vxlan(
        source: IpAddr,
        destination: IpAddr,
        vni: Vni,
        inner_destination: MacAddr,
        inner_source: MacAddr,
        _: EncapOptions,
    ) -> Option<Self> {
        Self::new(source, destination, Kind::Vxlan(vni, inner_destination, inner_source))
    }

    fn new(source: IpAddr, destination: IpAddr, kind: Kind) -> Option<Self> {
        (source.is_ipv4() == destination.is_ipv4()).then_some(Self { source, destination, kind })
    }

    /// Bytes in front of the inner IP packet, from the outer IP header on.
    pub fn overhead(&self) -> usize {
        let ip = if self.source.is_ipv4() { 20 } else { 40 };
        ip + match self.kind {
            Kind::MplsUdp(_) => 8 + 4,
            Kind::MplsGre(_) => 4 + 4,
            Kind::Vxlan(..) => 8 + 8 + 14,
        }
    }
}
