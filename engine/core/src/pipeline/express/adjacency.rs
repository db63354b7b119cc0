//! Adjacencies: next hops made ready for writing. All that a packet gets in
//! front stands in one run of bytes; what the tables hold in several places is
//! looked up once for each publication of them.

use crate::drop_reason::DropReason;
use crate::packet::buffer::PacketBuf;
use crate::packet::checksum::Sum;
use crate::packet::encap::{EncapKind, entropy_port};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{ethernet, ipv4, ipv6, set_be16, udp};
use crate::packet::ip::decrement_ttl;
use crate::packet::meta::PacketMeta;
use crate::tables::Tables;
use crate::tables::neighbour::Neighbour;
use crate::tables::next_hop::{NextHop, Tunnel};
use crate::types::{InterfaceId, NeighbourId, NextHopId, PortId, VrfId};

/// Room for Ethernet with two tags, IPv6, UDP, VXLAN and Ethernet: 92 bytes.
const HEADER: usize = 96;

/// Adjacencies that are kept ready; a power of two. More are made anew when
/// they are needed.
const KEPT: usize = 2048;

/// A next hop, ready for writing.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Adjacency {
    /// What it was made of: the snapshot, the next hop, and for a connected
    /// one the destination.
    version: u64,
    next_hop: NextHopId,
    destination: [u8; 16],
    kind: Kind,
    /// Everything in front of the inner IP packet.
    header: [u8; HEADER],
    length: u8,
    /// Where the outer IP header starts.
    outer: u8,
    /// Of the outer IPv4 header without lengths and traffic class.
    ipv4_sum: u16,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Where it leaves.
    pub port: PortId,
    /// The interface that counts it.
    pub interface: InterfaceId,
    /// The VRF of that interface, unless it is a tunnel's.
    pub egress_vrf: Option<VrfId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Packets with it go the general way.
    Other,
    /// Depends on the destination.
    Connected,
    /// Ethernet alone.
    Neighbour,
    /// A tunnel over this version.
    Tunnel(Family, EncapKind),
}

impl Adjacency {
    const NONE: Adjacency = Adjacency {
        version: u64::MAX,
        next_hop: NextHopId::DISCARD,
        destination: [0; 16],
        kind: Kind::Other,
        header: [0; HEADER],
        length: 0,
        outer: 0,
        ipv4_sum: 0,
        mtu: 0,
        port: PortId(0),
        interface: InterfaceId::NONE,
        egress_vrf: None,
    };

    fn new(tables: &Tables, next_hop: NextHopId, destination: [u8; 16], key: &FlowKey) -> Self {
        let name = Self { version: tables.version, next_hop, destination, ..Self::NONE };
        let made = match tables.next_hops.get(next_hop.index()) {
            Some(NextHop::Tunnel(tunnel)) => name.clone().of_tunnel(tables, tunnel),
            Some(NextHop::Neighbour(id)) => name.clone().of_neighbour(tables, *id),
            Some(NextHop::Connected(_)) if destination == [0; 16] => {
                Some(Self { kind: Kind::Connected, ..name })
            }
            Some(NextHop::Connected(interface)) => tables
                .neighbour_index
                .get(&(*interface, key.destination_addr()))
                .and_then(|id| name.clone().of_neighbour(tables, *id)),
            _ => None,
        };
        made.unwrap_or(name)
    }

    fn of_neighbour(mut self, tables: &Tables, id: NeighbourId) -> Option<Self> {
        let neighbour = tables.neighbours.get(id.index())?;
        let interface = tables.interfaces.get(neighbour.interface.index())?;
        self.leave_by(neighbour)?;
        self.kind = Kind::Neighbour;
        self.mtu = interface.mtu;
        self.egress_vrf = Some(interface.vrf);
        Some(self)
    }

    fn of_tunnel(mut self, tables: &Tables, tunnel: &Tunnel) -> Option<Self> {
        // The checksum of the whole packet is not made here.
        let template = tunnel.header.without_checksum()?;
        self.leave_by(tables.neighbours.get(tunnel.neighbour.index())?)?;
        let family = tunnel.header.outer_family();
        let at = usize::from(self.length);
        // The family's EtherType is a tunnel's own.
        let ethertype = if family == Family::V4 { ethernet::IPV4 } else { ethernet::IPV6 };
        set_be16(&mut self.header, at - 2, ethertype);
        self.header.get_mut(at..at + template.len())?.copy_from_slice(template);
        self.length += template.len() as u8;
        self.kind = Kind::Tunnel(family, tunnel.header.kind());
        self.ipv4_sum = tunnel.header.ipv4_sum();
        self.mtu = tunnel.inner_mtu.min(u16::MAX - tunnel.header.overhead());
        Some(self)
    }

    /// Leaves by a neighbour, whose Ethernet header comes first.
    fn leave_by(&mut self, neighbour: &Neighbour) -> Option<()> {
        if !neighbour.is_usable() {
            return None;
        }
        let length = neighbour.header.length();
        neighbour.header.write(Family::V4, self.header.get_mut(..length)?);
        (self.length, self.outer) = (length as u8, length as u8);
        (self.port, self.interface) = (neighbour.port, neighbour.interface);
        Some(())
    }

    /// Whether packets with it can be written here.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !matches!(self.kind, Kind::Other | Kind::Connected)
    }

    /// Makes a packet of at most [`mtu`](Self::mtu) bytes a frame for this
    /// next hop, one hop further.
    ///
    /// # Errors
    /// Why it cannot; the packet is then as it was.
    #[inline(always)]
    pub fn write<B: PacketBuf>(
        &self,
        packet: &mut B,
        meta: &PacketMeta,
        traffic_class: u8,
    ) -> Result<(), DropReason> {
        let length = usize::from(self.length);
        let l3_offset = usize::from(meta.l3_offset);
        if packet.headroom() + l3_offset < length {
            return Err(DropReason::NoHeadroom);
        }
        decrement_ttl(packet.bytes_mut(), l3_offset, meta.key.family)?;
        packet.advance(l3_offset);
        packet.truncate(usize::from(meta.ip_length));
        if !packet.prepend(length) {
            return Err(DropReason::NoHeadroom);
        }
        let bytes = packet.bytes_mut();
        let (Some(front), Some(header)) = (bytes.get_mut(..length), self.header.get(..length)) else {
            return Err(DropReason::NoHeadroom);
        };
        front.copy_from_slice(header);
        let outer = usize::from(self.outer);
        let ends_with_ethernet = match self.kind {
            Kind::Tunnel(family, kind) => {
                let total = meta.ip_length + u16::from(self.length - self.outer);
                self.patch_tunnel(&mut front[outer..], (family, kind), total, traffic_class, meta.flow_hash);
                kind == EncapKind::Vxlan
            }
            _ => true,
        };
        if ends_with_ethernet && meta.key.family == Family::V6 {
            set_be16(front, length - 2, ethernet::IPV6);
        }
        Ok(())
    }

    /// Fills in what differs from packet to packet. The outer IP packet is
    /// `total` bytes long.
    #[inline(always)]
    fn patch_tunnel(
        &self,
        outer: &mut [u8],
        (family, kind): (Family, EncapKind),
        total: u16,
        traffic_class: u8,
        flow_hash: u32,
    ) {
        let (ip_length, payload) = match family {
            Family::V4 => (ipv4::LENGTH, total - ipv4::LENGTH as u16),
            Family::V6 => (ipv6::LENGTH, total - ipv6::LENGTH as u16),
        };
        match family {
            Family::V4 => {
                outer[ipv4::TRAFFIC_CLASS] = traffic_class;
                set_be16(outer, ipv4::TOTAL_LENGTH, total);
                let sum = Sum::default().word(self.ipv4_sum).word(u16::from(traffic_class)).word(total);
                set_be16(outer, ipv4::CHECKSUM, sum.checksum());
            }
            Family::V6 => {
                let first = 6 << 28 | u32::from(traffic_class) << 20 | flow_hash & 0xf_ffff;
                outer[..4].copy_from_slice(&first.to_be_bytes());
                set_be16(outer, ipv6::PAYLOAD_LENGTH, payload);
            }
        }
        if kind != EncapKind::MplsGre {
            set_be16(outer, ip_length + udp::SOURCE_PORT, entropy_port(flow_hash));
            set_be16(outer, ip_length + udp::LENGTH_FIELD, payload);
        }
    }
}

/// The adjacencies of one worker: made when first needed, kept until the
/// tables change.
#[derive(Debug)]
pub struct Adjacencies {
    kept: Box<[Adjacency]>,
}

impl Default for Adjacencies {
    fn default() -> Self {
        Self { kept: vec![Adjacency::NONE; KEPT].into() }
    }
}

impl Adjacencies {
    /// The adjacency of a packet with this next hop. `None`: it goes the
    /// general way.
    #[inline]
    pub fn get(&mut self, tables: &Tables, next_hop: NextHopId, key: &FlowKey) -> Option<&Adjacency> {
        let own = next_hop.index() % KEPT;
        let is_connected = self.refresh(tables, own, next_hop, [0; 16], key).kind == Kind::Connected;
        let at = if is_connected {
            let at = place_of(next_hop, key);
            self.refresh(tables, at, next_hop, key.destination, key);
            at
        } else {
            own
        };
        self.kept.get(at).filter(|adjacency| adjacency.is_ready())
    }

    #[inline]
    fn refresh(
        &mut self,
        tables: &Tables,
        at: usize,
        next_hop: NextHopId,
        destination: [u8; 16],
        key: &FlowKey,
    ) -> &Adjacency {
        let kept = &mut self.kept[at];
        let is_it =
            kept.version == tables.version && kept.next_hop == next_hop && kept.destination == destination;
        if !is_it {
            *kept = Adjacency::new(tables, next_hop, destination, key);
        }
        kept
    }
}

/// Where the adjacency of a connected next hop and a destination is kept.
#[inline]
fn place_of(next_hop: NextHopId, key: &FlowKey) -> usize {
    let [_, _, high, low, _] = key.words();
    let mixed = (high ^ low.rotate_left(32) ^ u64::from(next_hop.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as usize % KEPT
}
