//! The metadata of one packet: one cache line of plain data.

use crate::packet::flow_key::FlowKey;
use crate::types::{InterfaceId, NextHopId, VrfId};

/// What the parser and the stages have found out about a packet.
///
/// All offsets count from the first byte of the buffer.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct PacketMeta {
    /// Addresses, ports, protocol and VRF.
    pub key: FlowKey,
    /// Where the IP header starts.
    pub l3_offset: u16,
    /// Where the header after IP (and its options or extension headers)
    /// starts; meaningless for later fragments.
    pub l4_offset: u16,
    /// Length of the IP packet from its header on, in bytes. What the buffer
    /// holds beyond is Ethernet padding.
    pub ip_length: u16,
    /// What is special about it.
    pub flags: PacketFlags,
    /// The interface it came in on.
    pub ingress: InterfaceId,
    /// Symmetric hash of the flow: the same for both directions, VRF left out.
    pub flow_hash: u32,
    /// Where it goes, once decided.
    pub next_hop: NextHopId,
    /// Identification of a fragment; otherwise free for one stage to tell the
    /// next something (each stage that uses it says so).
    pub scratch: u32,
}

const _: () = assert!(size_of::<PacketMeta>() == 64);

impl PacketMeta {
    /// Metadata of a frame of which nothing is known.
    pub const UNKNOWN: PacketMeta = {
        let mut meta = PacketMeta::new(InterfaceId::NONE);
        meta.key.vrf = VrfId::NONE;
        meta
    };

    /// Metadata of a packet of which only the ingress is known.
    pub const fn new(ingress: InterfaceId) -> Self {
        PacketMeta {
            key: FlowKey::ZERO,
            l3_offset: 0,
            l4_offset: 0,
            ip_length: 0,
            flags: PacketFlags(0),
            ingress,
            flow_hash: 0,
            next_hop: NextHopId::DISCARD,
            scratch: 0,
        }
    }

    /// The IP packet without Ethernet header and padding, or `None` if the
    /// metadata is not of these bytes.
    #[inline]
    pub fn ip_packet<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::from(self.l3_offset);
        bytes.get(start..start + usize::from(self.ip_length))
    }

    /// The transport header and what follows it, without Ethernet padding.
    /// `None` for later fragments, which have no such header.
    #[inline]
    pub fn segment<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.flags.contains(PacketFlags::LATER_FRAGMENT) {
            return None;
        }
        let end = usize::from(self.l3_offset) + usize::from(self.ip_length);
        bytes.get(usize::from(self.l4_offset)..end)
    }

    /// The same bytes as [`segment`](Self::segment), to change.
    #[inline]
    pub fn segment_mut<'a>(&self, bytes: &'a mut [u8]) -> Option<&'a mut [u8]> {
        if self.flags.contains(PacketFlags::LATER_FRAGMENT) {
            return None;
        }
        let end = usize::from(self.l3_offset) + usize::from(self.ip_length);
        bytes.get_mut(usize::from(self.l4_offset)..end)
    }
}

/// A set of facts about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct PacketFlags(pub u16);

impl PacketFlags {
    /// First fragment (offset zero, more to come): `scratch` holds the
    /// identification.
    pub const FIRST_FRAGMENT: PacketFlags = PacketFlags(1);
    /// Later fragment (offset not zero): `scratch` holds the identification
    /// and there are no ports.
    pub const LATER_FRAGMENT: PacketFlags = PacketFlags(1 << 1);
    /// IPv4 with "do not fragment"; always set on IPv6.
    pub const DONT_FRAGMENT: PacketFlags = PacketFlags(1 << 2);
    /// TCP SYN without ACK, FIN or RST: may open a session.
    pub const TCP_OPENS: PacketFlags = PacketFlags(1 << 3);
    /// ICMP or ICMPv6 error message: it quotes a packet.
    pub const ICMP_ERROR: PacketFlags = PacketFlags(1 << 4);
    /// ICMP echo request or another query: may open a session.
    pub const ICMP_QUERY: PacketFlags = PacketFlags(1 << 5);
    /// ND message (RFC 4861) with hop limit 255.
    pub const NEIGHBOUR_DISCOVERY: PacketFlags = PacketFlags(1 << 6);
    /// Came out of a tunnel.
    pub const DECAPSULATED: PacketFlags = PacketFlags(1 << 7);
    /// Came from the host port: neither TTL nor policy apply.
    pub const FROM_HOST: PacketFlags = PacketFlags(1 << 8);
    /// TCP SYN set (with or without ACK): carries an MSS option perhaps.
    pub const TCP_SYN: PacketFlags = PacketFlags(1 << 9);
    /// Ports of a later fragment have been filled in from its first.
    pub const PORTS_KNOWN: PacketFlags = PacketFlags(1 << 10);

    /// Where it goes has to be decided by the VRF's routes; otherwise its
    /// session has said so.
    pub const UNDECIDED: PacketFlags = PacketFlags(1 << 11);
    /// Security groups do not apply, or have allowed it already.
    pub const ALLOWED: PacketFlags = PacketFlags(1 << 12);
    /// Made here.
    pub const ORIGINATED: PacketFlags = PacketFlags(1 << 13);
    /// ARP: there is no IP packet.
    pub const ARP: PacketFlags = PacketFlags(1 << 14);
    /// Its session was found and counted it, but has to be decided again.
    pub const SESSION_STALE: PacketFlags = PacketFlags(1 << 15);

    /// Whether all of `other` are in the set.
    #[inline]
    pub fn contains(self, other: PacketFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    #[inline]
    pub fn intersects(self, other: PacketFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// Removes `other`.
    #[inline]
    pub fn remove(&mut self, other: PacketFlags) {
        self.0 &= !other.0;
    }

    /// Adds `other`.
    #[inline]
    pub fn insert(&mut self, other: PacketFlags) {
        self.0 |= other.0;
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: PacketFlags) -> PacketFlags {
        PacketFlags(self.0 | other.0)
    }

    /// Either kind of fragment.
    pub const FRAGMENT: PacketFlags = Self::FIRST_FRAGMENT.union(Self::LATER_FRAGMENT);
}
