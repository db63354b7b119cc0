//! Reading plain packets: what parse and classify come to for them.

use std::net::IpAddr;

use crate::packet::buffer::{IpChecksum, PacketBuf};
use crate::packet::decap::{Inner, TunnelKey, decapsulate};
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, ethernet, protocol};
use crate::packet::ip::{Ecn, ecn};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{EtherType, parse_ethernet, read_plain};
use crate::pipeline::classify::inner_ethernet;
use crate::tables::Tables;
use crate::tables::interface::Interface;
use crate::tables::port::{Port, PortRole, VlanTags};
use crate::tables::vrf::Vrf;
use crate::types::{InterfaceId, MacAddr, PortId, VrfId};

/// One port, and what the last packet from it has shown: the next is often
/// like it.
pub(super) struct Ingress<'a> {
    tables: &'a Tables,
    port: &'a Port,
    tags: VlanTags,
    interface: Option<(InterfaceId, &'a Interface)>,
    vrf: Option<(VrfId, &'a Vrf)>,
    underlay: Option<IpAddr>,
    /// A source that may send, on the interface of the last packet.
    source: Option<(MacAddr, [u8; 16])>,
}

/// An IP packet in a frame.
struct Link {
    family: Family,
    l3_offset: usize,
    source: MacAddr,
}

impl<'a> Ingress<'a> {
    /// `None`: nothing from this port is plain.
    pub(super) fn new(tables: &'a Tables, port: PortId) -> Option<Self> {
        let port = tables.ports.get(port.index())?;
        if port.role == PortRole::Host {
            return None;
        }
        let mut new = Self {
            tables,
            port,
            tags: VlanTags::default(),
            interface: None,
            vrf: None,
            underlay: None,
            source: None,
        };
        new.interface = new.find_interface(VlanTags::default());
        Some(new)
    }

    /// Reads a packet into `meta`: key, offset, length, ingress, traffic class
    /// in `scratch`; for what comes out of a tunnel that of the inner packet.
    /// Returns the VRF that it is routed in. `None`: it is not plain; `meta`
    /// then means nothing.
    #[inline(always)]
    pub(super) fn read<B: PacketBuf>(&mut self, packet: &B, meta: &mut PacketMeta) -> Option<&'a Vrf> {
        let bytes = packet.bytes();
        let (link, (id, interface)) = self.link(bytes)?;
        let known = packet.ip_checksum();
        let plain = read_plain(bytes, link.l3_offset, link.family, known, interface.vrf, meta)?;
        meta.ingress = id;
        meta.flags = PacketFlags::default();
        meta.scratch = u32::from(plain.traffic_class);
        match self.port.role {
            PortRole::Fabric => self.read_inner(bytes, meta),
            _ => {
                if plain.hop_limit <= 1 {
                    return None;
                }
                let source = Some((link.source, meta.key.source));
                if interface.sources.is_some() && source != self.source {
                    interface.check_source(link.source, meta.key.source_addr()).ok()?;
                    self.source = source;
                }
                self.vrf(interface.vrf)
            }
        }
    }

    /// The frame's interface, if it is for us there.
    #[inline(always)]
    fn link(&mut self, bytes: &[u8]) -> Option<(Link, (InterfaceId, &'a Interface))> {
        let head: &[u8; ethernet::LENGTH] = bytes.first_chunk()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *head;
        let source = MacAddr([s0, s1, s2, s3, s4, s5]);
        let (family, l3_offset, tags) = match be16(head, ethernet::ETHERTYPE) {
            ethernet::IPV4 => (Family::V4, ethernet::LENGTH, VlanTags::default()),
            ethernet::IPV6 => (Family::V6, ethernet::LENGTH, VlanTags::default()),
            _ => {
                let link = parse_ethernet(bytes).ok()?;
                let family = match link.ethertype {
                    EtherType::Ipv4 => Family::V4,
                    EtherType::Ipv6 => Family::V6,
                    EtherType::Arp => return None,
                };
                (family, usize::from(link.l3_offset), link.tags)
            }
        };
        if tags != self.tags {
            self.interface = self.find_interface(tags);
            self.tags = tags;
            self.source = None;
        }
        let found = self.interface?;
        let is_ours = found.1.mac.0 == [d0, d1, d2, d3, d4, d5];
        is_ours.then_some((Link { family, l3_offset, source }, found))
    }

    /// The inner packet of the tunnel packet that `meta` tells of.
    #[inline(always)]
    fn read_inner(&mut self, bytes: &[u8], meta: &mut PacketMeta) -> Option<&'a Vrf> {
        let outer_class = meta.scratch as u8;
        let destination = meta.key.destination_addr();
        if self.underlay != Some(destination) {
            if meta.key.protocol != protocol::UDP || !self.tables.underlay_addresses.contains(&destination) {
                return None;
            }
            self.underlay = Some(destination);
        }
        let end = usize::from(meta.l3_offset) + usize::from(meta.ip_length);
        let bytes = bytes.get(..end)?;
        let tunnel = decapsulate(bytes, meta, self.tables.options.extra_mpls_udp_port).ok()??;
        let vrf_id = match tunnel.key {
            TunnelKey::Mpls(label) => *self.tables.labels.get(label.value() as usize)?,
            TunnelKey::Vxlan(vni) => *self.tables.vnis.get(&vni)?,
        };
        let bytes = bytes.get(..tunnel.end)?;
        let (family, l3_offset) = match tunnel.inner {
            Inner::Ip { family, offset } => (family, offset),
            Inner::Ethernet { offset } => inner_ethernet(self.tables, bytes, vrf_id, offset).ok()?,
        };
        let plain = read_plain(bytes, l3_offset, family, IpChecksum::Unknown, vrf_id, meta)?;
        let inner_class = plain.traffic_class;
        // Marks that change the inner packet are the business of classify.
        let leaves_marks = ecn(outer_class) == Ecn::NotCapable || ecn(outer_class) == ecn(inner_class);
        if plain.hop_limit <= 1 || !leaves_marks {
            return None;
        }
        meta.scratch = u32::from(inner_class);
        self.vrf(vrf_id)
    }

    #[inline(always)]
    fn find_interface(&self, tags: VlanTags) -> Option<(InterfaceId, &'a Interface)> {
        let id = self.port.interface(tags)?;
        Some((id, self.tables.interfaces.get(id.index())?))
    }

    #[inline(always)]
    fn vrf(&mut self, id: VrfId) -> Option<&'a Vrf> {
        if let Some((last, vrf)) = self.vrf
            && last == id
        {
            return Some(vrf);
        }
        let vrf = self.tables.vrfs.get(id.index())?;
        self.vrf = Some((id, vrf));
        Some(vrf)
    }
}
