//! Reading plain packets: what parse and classify come to for them.

use std::net::IpAddr;

use crate::packet::buffer::{IpChecksum, PacketBuf};
use crate::packet::decap::{Inner, TunnelKey, decapsulate};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{ethernet, protocol};
use crate::packet::ip::{Ecn, ecn};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{EtherType, Plain, has_plain_addresses, parse_ethernet, read_plain};
use crate::pipeline::classify::inner_ethernet;
use crate::pipeline::express::Sorter;
use crate::tables::Tables;
use crate::tables::interface::Interface;
use crate::tables::port::{Port, PortRole};
use crate::tables::vrf::Vrf;
use crate::types::{InterfaceId, MacAddr, PortId, VrfId};

/// One port, and what the last packet from it has shown: the next is often
/// like it.
pub(super) struct Ingress<'a> {
    tables: &'a Tables,
    port: &'a Port,
    link: Option<Link<'a>>,
    /// A source that may send, with the link's MAC.
    source: Option<[u8; 16]>,
    /// The ends of a tunnel that may come in on the link, which is of one IP
    /// version.
    tunnel: Option<Ends>,
    /// The VRF of the last tunnel packet.
    tunnel_vrf: Option<(VrfId, &'a Vrf)>,
}

/// Whose tunnel it is: source and destination as they stand in a key.
type Ends = [u128; 2];

/// The longest link header.
const HEAD: usize = ethernet::LENGTH + 2 * ethernet::TAG_LENGTH;

/// A link header, and what the tables say of it.
struct Link<'a> {
    /// What a frame with this header begins with.
    head: [u8; HEAD],
    /// Ones where that is the header.
    mask: [u8; HEAD],
    family: Family,
    l3_offset: usize,
    source: MacAddr,
    id: InterfaceId,
    interface: &'a Interface,
    vrf_id: VrfId,
    vrf: &'a Vrf,
}

impl<'a> Link<'a> {
    /// A tenant's packet, if it may come from where it says it does. `known` is
    /// a source that may send.
    #[inline(always)]
    fn admit(&self, plain: Plain, known: &mut Option<[u8; 16]>) -> Option<Routed<'a>> {
        if plain.hop_limit <= 1 {
            return None;
        }
        if *known != Some(plain.key.source) {
            if !self.may_send(plain.key.source_addr()) {
                return None;
            }
            *known = Some(plain.key.source);
        }
        Some(Routed { plain, vrf: self.vrf, is_inner: false })
    }

    /// Whether packets may come in here from where this one does.
    #[inline(never)]
    fn may_send(&self, address: IpAddr) -> bool {
        !self.vrf.own_addresses.holds(address) && self.interface.check_source(self.source, address).is_ok()
    }

    /// Whether a frame has this header.
    #[inline(always)]
    fn fits(&self, frame: &[u8; HEAD]) -> bool {
        let differs = |at: usize| (word(frame, at) ^ word(&self.head, at)) & word(&self.mask, at);
        // The last word covers what the second leaves.
        differs(0) | differs(8) | differs(HEAD - 8) == 0
    }
}

#[inline(always)]
fn word(bytes: &[u8; HEAD], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// A plain packet, and where it is routed.
pub(super) struct Routed<'a> {
    pub(super) plain: Plain,
    pub(super) vrf: &'a Vrf,
    /// Whether it came in a tunnel.
    pub(super) is_inner: bool,
}

/// Writes down what was read.
#[inline(always)]
pub(super) fn describe(meta: &mut PacketMeta, plain: &Plain) {
    meta.key = plain.key;
    (meta.l3_offset, meta.l4_offset, meta.ip_length) = (plain.l3_offset, plain.l4_offset, plain.ip_length);
    meta.flags = PacketFlags::default();
}

impl<'a> Ingress<'a> {
    /// `None`: nothing from this port is plain.
    pub(super) fn new(tables: &'a Tables, port: PortId) -> Option<Self> {
        let port = tables.ports.get(port.index()).filter(|port| port.role != PortRole::Host)?;
        Some(Self { tables, port, link: None, source: None, tunnel: None, tunnel_vrf: None })
    }

    /// Reads a packet, of one that comes out of a tunnel the inner packet, and
    /// sorts it. `None`: it is not plain.
    ///
    /// The rest of its way has a copy for each IP version: much of what it asks
    /// is then known when it is compiled.
    #[inline(always)]
    pub(super) fn read<B: PacketBuf>(
        &mut self,
        packet: &B,
        meta: &mut PacketMeta,
        index: u8,
        sorter: &mut Sorter<'_>,
    ) -> Option<()> {
        let bytes = packet.bytes();
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let link = match &self.link {
            Some(link) if link.fits(head) => link,
            _ => {
                (self.source, self.tunnel) = (None, None);
                self.link.insert(find_link(self.tables, self.port, bytes, head)?)
            }
        };
        meta.ingress = link.id;
        let known = packet.ip_checksum();
        if self.port.role == PortRole::Fabric {
            let (l3_offset, family, vrf) = (link.l3_offset, link.family, link.vrf_id);
            return self.read_tunnel(bytes, (l3_offset, family, known, vrf), meta, index, sorter);
        }
        match link.family {
            Family::V4 => {
                let plain = read_plain(bytes, link.l3_offset, Family::V4, known, link.vrf_id)?;
                sorter.sort(index, meta, &link.admit(plain, &mut self.source)?);
            }
            Family::V6 => {
                let plain = read_plain(bytes, link.l3_offset, Family::V6, known, link.vrf_id)?;
                sorter.sort(index, meta, &link.admit(plain, &mut self.source)?);
            }
        }
        Some(())
    }

    /// Reads a packet from the fabric, and sorts what is inside.
    #[inline(never)]
    fn read_tunnel(
        &mut self,
        bytes: &[u8],
        (l3_offset, family, known, vrf): (usize, Family, IpChecksum, VrfId),
        meta: &mut PacketMeta,
        index: u8,
        sorter: &mut Sorter<'_>,
    ) -> Option<()> {
        let outer = read_plain(bytes, l3_offset, family, known, vrf)?;
        let inner = self.read_inner(bytes, &outer, meta)?;
        sorter.sort(index, meta, &inner);
        Some(())
    }

    /// The inner packet of a tunnel packet.
    #[inline(always)]
    fn read_inner(&mut self, bytes: &[u8], outer: &Plain, meta: &mut PacketMeta) -> Option<Routed<'a>> {
        if !has_plain_addresses(&outer.key) {
            return None;
        }
        describe(meta, outer);
        let ends = [outer.key.source, outer.key.destination].map(u128::from_ne_bytes);
        if self.tunnel != Some(ends) {
            if !self.may_come_in(&outer.key) {
                return None;
            }
            self.tunnel = Some(ends);
        }
        let end = usize::from(outer.l3_offset) + usize::from(outer.ip_length);
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
        let plain = read_plain(bytes, l3_offset, family, IpChecksum::Unknown, vrf_id)?;
        let (outer_mark, mark) = (ecn(outer.traffic_class), ecn(plain.traffic_class));
        // Marks that change the inner packet are the business of classify.
        let leaves_marks = outer_mark == Ecn::NotCapable || outer_mark == mark;
        if plain.hop_limit <= 1 || !leaves_marks {
            return None;
        }
        let vrf = self.vrf(vrf_id)?;
        // So is what a strict VRF asks for.
        if vrf.strict_sources {
            return None;
        }
        Some(Routed { plain, vrf, is_inner: true })
    }

    /// Whether a tunnel of ours may have these ends.
    #[cold]
    #[inline(never)]
    fn may_come_in(&self, outer: &FlowKey) -> bool {
        let Some(link) = &self.link else { return false };
        let (source, own) = (outer.source_addr(), &self.tables.underlay_addresses);
        outer.protocol == protocol::UDP
            && own.contains(&outer.destination_addr())
            && !own.contains(&source)
            && self.tables.accepts_tunnel_from(source, link.interface)
    }

    #[inline(always)]
    fn vrf(&mut self, id: VrfId) -> Option<&'a Vrf> {
        if let Some((last, vrf)) = self.tunnel_vrf
            && last == id
        {
            return Some(vrf);
        }
        let vrf = self.tables.vrfs.get(id.index())?;
        self.tunnel_vrf = Some((id, vrf));
        Some(vrf)
    }
}

/// The link header of an IP packet that is for us where it came in.
#[inline(never)]
fn find_link<'a>(tables: &'a Tables, port: &'a Port, bytes: &[u8], head: &[u8; HEAD]) -> Option<Link<'a>> {
    let link = parse_ethernet(bytes).ok()?;
    let family = match link.ethertype {
        EtherType::Ipv4 => Family::V4,
        EtherType::Ipv6 => Family::V6,
        EtherType::Arp => return None,
    };
    let id = port.interface(link.tags)?;
    let interface = tables.interfaces.get(id.index()).filter(|found| found.mac == link.destination)?;
    let vrf_id = interface.vrf;
    let vrf = tables.vrfs.get(vrf_id.index())?;
    let (l3_offset, mut mask) = (usize::from(link.l3_offset), [0; HEAD]);
    mask.get_mut(..l3_offset)?.fill(0xff);
    Some(Link { head: *head, mask, family, l3_offset, source: link.source, id, interface, vrf_id, vrf })
}
