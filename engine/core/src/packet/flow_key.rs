//! The addresses and ports that name a flow.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::VrfId;

/// IP version of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// One direction of a flow: 40 bytes, compared and hashed as a whole.
///
/// An IPv4 address stands in the first four bytes of its field, the others
/// are zero. `source_port` and `destination_port` are in host order. An ICMP
/// echo request goes from its identifier to port 8, and its reply back; other
/// ICMP messages have numbers made of their types. For everything else without
/// ports both are zero.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The VRF that the packet is routed in.
    pub vrf: VrfId,
    /// IP protocol number, after IPv6 extension headers.
    pub protocol: u8,
    /// IP version.
    pub family: Family,
}

impl FlowKey {
    /// An all-zero key.
    pub const ZERO: FlowKey = FlowKey {
        source: [0; 16],
        destination: [0; 16],
        source_port: 0,
        destination_port: 0,
        vrf: VrfId(0),
        protocol: 0,
        family: Family::V4,
    };

    /// The key of the packets that answer, routed in `vrf`.
    #[must_use]
    pub fn reversed(&self, vrf: VrfId) -> FlowKey {
        FlowKey {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            vrf,
            protocol: self.protocol,
            family: self.family,
        }
    }

    /// The source as an address.
    pub fn source_addr(&self) -> IpAddr {
        addr(self.family, &self.source)
    }

    /// The destination as an address.
    pub fn destination_addr(&self) -> IpAddr {
        addr(self.family, &self.destination)
    }

    /// The key as five words: source, destination, and the rest.
    #[inline]
    pub fn words(&self) -> [u64; 5] {
        let [s0, s1] = halves(&self.source);
        let [d0, d1] = halves(&self.destination);
        let rest = u64::from(self.source_port)
            | u64::from(self.destination_port) << 16
            | u64::from(self.vrf.0) << 32
            | u64::from(self.protocol) << 48
            | u64::from(self.family as u8) << 56;
        [s0, s1, d0, d1, rest]
    }
}

/// Both halves of an address, the first byte of each lowest.
#[inline]
fn halves(address: &[u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(*address);
    [whole as u64, (whole >> 64) as u64]
}

impl PartialEq for FlowKey {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // One decision for all of them: keys that are compared are mostly equal.
        let pairs = self.words().into_iter().zip(other.words());
        pairs.fold(0, |differences, (one, other)| differences | one ^ other) == 0
    }
}

impl Eq for FlowKey {}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

fn addr(family: Family, bytes: &[u8; 16]) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(*bytes)),
    }
}

/// An address as a key's field: IPv4 in the first four bytes.
pub fn addr_bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

const _: () = assert!(size_of::<FlowKey>() == 40);
