//! Adjacencies: next hops made ready for writing. All that a packet gets in
//! front stands in one run of bytes; what the tables hold in several places is
//! looked up once for each publication of them.

use crate::packet::buffer::{FRONT, OPENED, PacketBuf};
use crate::packet::encap::{EncapKind, entropy_port};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{be16, chunk_mut, ethernet, ipv4, ipv6, set_be16, udp};
use crate::packet::ip::checksum_after_hop;
use crate::packet::meta::PacketMeta;
use crate::tables::Tables;
use crate::tables::neighbour::Neighbour;
use crate::tables::next_hop::{NextHop, Tunnel};
use crate::types::{InterfaceId, NeighbourId, NextHopId, PortId, VrfId};

/// Adjacencies of each sort that are kept ready; a power of two. A gateway that
/// uses more at a time, a next hop for each of many VRFs for instance, makes
/// them anew for most packets, which takes longer than all the rest.
const KEPT: usize = 8192;

/// A next hop, ready for writing.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Adjacency {
    /// What it was made of: the snapshot, the next hop, and for a connected
    /// one the destination.
    version: u64,
    next_hop: NextHopId,
    /// The interface that counts it.
    pub interface: InterfaceId,
    destination: [u8; 16],
    /// The VRF of that interface, unless it is a tunnel's.
    pub egress_vrf: Option<VrfId>,
    /// Where it leaves.
    pub port: PortId,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// Of the outer IPv4 header without lengths and traffic class.
    ipv4_sum: u16,
    /// Bytes of the header.
    length: u8,
    /// Where the outer IP header starts in `header`.
    outer: u8,
    kind: Kind,
    /// Whether the inner packet has an Ethernet header of its own.
    inner_ethernet: bool,
    /// Everything in front of the inner IP packet, at the end.
    header: [u8; FRONT],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Packets with it go the general way.
    Other,
    /// Depends on the destination.
    Connected,
    /// Ethernet alone.
    Neighbour,
    /// A tunnel in UDP over IPv4.
    UdpV4,
    /// A tunnel in UDP over IPv6.
    UdpV6,
    /// A tunnel in GRE over IPv4.
    GreV4,
    /// A tunnel in GRE over IPv6.
    GreV6,
}

impl Adjacency {
    const NONE: Adjacency = Adjacency {
        version: u64::MAX,
        next_hop: NextHopId::DISCARD,
        destination: [0; 16],
        kind: Kind::Other,
        header: [0; FRONT],
        length: 0,
        outer: 0,
        ipv4_sum: 0,
        mtu: 0,
        port: PortId(0),
        interface: InterfaceId::NONE,
        egress_vrf: None,
        inner_ethernet: true,
    };

    /// Of a next hop, for packets with this key if its destination matters.
    #[cold]
    fn new(tables: &Tables, next_hop: NextHopId, key: Option<&FlowKey>) -> Self {
        let destination = key.map_or([0; 16], |key| key.destination);
        let mut new = Self { version: tables.version, next_hop, destination, ..Self::NONE };
        let made = match (tables.next_hops.get(next_hop.index()), key) {
            (Some(NextHop::Tunnel(tunnel)), _) => new.of_tunnel(tables, tunnel),
            (Some(NextHop::Neighbour(id)), _) => new.of_neighbour(tables, *id),
            (Some(NextHop::Connected(_)), None) => {
                new.kind = Kind::Connected;
                Some(())
            }
            (Some(NextHop::Connected(interface)), Some(key)) => tables
                .neighbour_index
                .get(&(*interface, key.destination_addr()))
                .and_then(|id| new.of_neighbour(tables, *id)),
            _ => None,
        };
        if made.is_none() {
            new.kind = Kind::Other;
        }
        new
    }

    fn of_neighbour(&mut self, tables: &Tables, id: NeighbourId) -> Option<()> {
        let neighbour = tables.neighbours.get(id.index())?;
        let interface = tables.interfaces.get(neighbour.interface.index())?;
        self.leave_by(neighbour)?;
        self.kind = Kind::Neighbour;
        self.mtu = interface.mtu;
        self.egress_vrf = Some(interface.vrf);
        Some(())
    }

    fn of_tunnel(&mut self, tables: &Tables, tunnel: &Tunnel) -> Option<()> {
        // The checksum of the whole packet is not made here.
        let template = tunnel.header.without_checksum()?;
        self.leave_by(tables.neighbours.get(tunnel.neighbour.index())?)?;
        let (family, kind) = (tunnel.header.outer_family(), tunnel.header.kind());
        // The family's EtherType is a tunnel's own.
        let ethertype = if family == Family::V4 { ethernet::IPV4 } else { ethernet::IPV6 };
        set_be16(&mut self.header, FRONT - 2, ethertype);
        let outer = FRONT.checked_sub(template.len())?;
        self.header.copy_within(template.len().., 0);
        self.header.get_mut(outer..)?.copy_from_slice(template);
        (self.outer, self.length) = (outer as u8, self.length + template.len() as u8);
        self.kind = match (family, kind) {
            (Family::V4, EncapKind::MplsGre) => Kind::GreV4,
            (Family::V4, EncapKind::MplsUdp | EncapKind::Vxlan) => Kind::UdpV4,
            (Family::V6, EncapKind::MplsGre) => Kind::GreV6,
            (Family::V6, EncapKind::MplsUdp | EncapKind::Vxlan) => Kind::UdpV6,
        };
        self.inner_ethernet = kind == EncapKind::Vxlan;
        self.ipv4_sum = tunnel.header.ipv4_sum();
        self.mtu = tunnel.inner_mtu.min(u16::MAX - tunnel.header.overhead());
        Some(())
    }

    /// Leaves by a neighbour, whose Ethernet header comes first.
    fn leave_by(&mut self, neighbour: &Neighbour) -> Option<()> {
        if !neighbour.is_usable() {
            return None;
        }
        let length = neighbour.header.length();
        neighbour.header.write(Family::V4, self.header.get_mut(FRONT.checked_sub(length)?..)?);
        self.length = length as u8;
        (self.port, self.interface) = (neighbour.port, neighbour.interface);
        Some(())
    }

    /// Makes a packet of at most [`mtu`](Self::mtu) bytes, whose TTL has not
    /// run out, a frame for this next hop, one hop further. Returns false, and
    /// leaves the packet as it is, if that is not what it is or if it has no
    /// headroom.
    #[inline(always)]
    pub fn write<B: PacketBuf>(&self, packet: &mut B, meta: &PacketMeta, traffic_class: u8) -> bool {
        let (offset, length) = (usize::from(meta.l3_offset), usize::from(meta.ip_length));
        let opened = packet.reframe(offset, length, &self.header, usize::from(self.length));
        let Some(opened) = opened else { return false };
        let inner = &mut opened[FRONT..];
        match meta.key.family {
            Family::V4 => {
                inner[ipv4::TTL] = inner[ipv4::TTL].wrapping_sub(1);
                let sum = checksum_after_hop(be16(inner, ipv4::CHECKSUM));
                set_be16(inner, ipv4::CHECKSUM, sum);
            }
            Family::V6 => {
                inner[ipv6::HOP_LIMIT] = inner[ipv6::HOP_LIMIT].wrapping_sub(1);
                if self.inner_ethernet {
                    set_be16(opened, FRONT - 2, ethernet::IPV6);
                }
            }
        }
        if self.kind != Kind::Neighbour {
            self.fill_tunnel(opened, meta.ip_length, traffic_class, meta.flow_hash);
        }
        true
    }

    /// Fills in what differs from packet to packet: the inner one has
    /// `length` bytes.
    #[inline(always)]
    fn fill_tunnel(&self, opened: &mut [u8; FRONT + OPENED], length: u16, traffic_class: u8, flow_hash: u32) {
        // IPv6 and UDP headers fit between here and the end of what is opened.
        let Some(outer) = chunk_mut::<UDP_V6>(opened, usize::from(self.outer)) else { return };
        let total = length + (FRONT as u16 - u16::from(self.outer));
        match self.kind {
            Kind::UdpV4 => {
                self.fill_ipv4(outer, total, traffic_class);
                set_be16(outer, ipv4::LENGTH + udp::SOURCE_PORT, entropy_port(flow_hash));
                set_be16(outer, ipv4::LENGTH + udp::LENGTH_FIELD, total - ipv4::LENGTH as u16);
            }
            Kind::GreV4 => self.fill_ipv4(outer, total, traffic_class),
            _ => {
                let payload = total - ipv6::LENGTH as u16;
                let first = 6 << 28 | u32::from(traffic_class) << 20 | flow_hash & 0xf_ffff;
                outer[..4].copy_from_slice(&first.to_be_bytes());
                set_be16(outer, ipv6::PAYLOAD_LENGTH, payload);
                if self.kind == Kind::UdpV6 {
                    set_be16(outer, ipv6::LENGTH + udp::SOURCE_PORT, entropy_port(flow_hash));
                    set_be16(outer, ipv6::LENGTH + udp::LENGTH_FIELD, payload);
                }
            }
        }
    }

    #[inline(always)]
    fn fill_ipv4(&self, outer: &mut [u8; UDP_V6], total: u16, traffic_class: u8) {
        outer[ipv4::TRAFFIC_CLASS] = traffic_class;
        set_be16(outer, ipv4::TOTAL_LENGTH, total);
        // Three numbers of 16 bits carry twice at most.
        let sum = u32::from(self.ipv4_sum) + u32::from(traffic_class) + u32::from(total);
        let sum = (sum & 0xffff) + (sum >> 16);
        set_be16(outer, ipv4::CHECKSUM, !(sum + (sum >> 16)) as u16);
    }
}

/// IPv6 and UDP.
const UDP_V6: usize = ipv6::LENGTH + udp::LENGTH;

/// The adjacencies of one worker: made when first needed, kept until the
/// tables change.
#[derive(Debug)]
pub struct Adjacencies {
    /// Of next hops by themselves.
    own: Box<[Adjacency; KEPT]>,
    /// Of connected next hops and a destination.
    connected: Box<[Adjacency; KEPT]>,
}

impl Default for Adjacencies {
    fn default() -> Self {
        Self { own: none(), connected: none() }
    }
}

fn none() -> Box<[Adjacency; KEPT]> {
    let kept: Box<[Adjacency]> = vec![Adjacency::NONE; KEPT].into();
    kept.try_into().unwrap_or_else(|_| unreachable!("it has this length"))
}

impl Adjacencies {
    /// The adjacency of a packet with this next hop. `None`: it goes the
    /// general way.
    #[inline(always)]
    pub fn get(&mut self, tables: &Tables, next_hop: NextHopId, key: &FlowKey) -> Option<&Adjacency> {
        let own = &mut self.own[next_hop.index() % KEPT];
        if own.version != tables.version || own.next_hop != next_hop {
            *own = Adjacency::new(tables, next_hop, None);
        }
        match own.kind {
            Kind::Other => None,
            Kind::Connected => of_connected(&mut self.connected, tables, next_hop, key),
            _ => Some(own),
        }
    }
}

#[inline(never)]
fn of_connected<'a>(
    kept: &'a mut [Adjacency; KEPT],
    tables: &Tables,
    next_hop: NextHopId,
    key: &FlowKey,
) -> Option<&'a Adjacency> {
    let kept = &mut kept[place_of(next_hop, key)];
    let is_it =
        kept.version == tables.version && kept.next_hop == next_hop && kept.destination == key.destination;
    if !is_it {
        *kept = Adjacency::new(tables, next_hop, Some(key));
    }
    (kept.kind == Kind::Neighbour).then_some(&*kept)
}

/// Where the adjacency of a connected next hop and a destination is kept.
#[inline]
fn place_of(next_hop: NextHopId, key: &FlowKey) -> usize {
    let [_, _, high, low, _] = key.words();
    let mixed = (high ^ low.rotate_left(32) ^ u64::from(next_hop.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as usize % KEPT
}
