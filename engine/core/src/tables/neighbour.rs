//! Neighbours: the Ethernet header that leads to an address on an interface.

use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::packet::flow_key::Family;
use crate::tables::interface::Interface;
use crate::tables::port::VlanTags;
use crate::types::{InterfaceId, MacAddr, PortId};

/// Whether a neighbour can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Its MAC is not known yet.
    Resolving,
    /// It has answered.
    Resolved,
    /// It has not answered for so long that packets are dropped at once.
    Failed,
    /// Its MAC was configured.
    Static,
}

/// A neighbour.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Where it is.
    pub interface: InterfaceId,
    /// The interface's port.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// Whether `header` holds its MAC.
    pub state: NeighbourState,
    /// What goes in front of packets to it.
    pub header: EthernetHeader,
    /// How many next hops refer to it; with none it may be aged out.
    pub users: u32,
    /// When it last answered, since the start of the engine, if ever. It changes
    /// without a publication: forwarding does not depend on it.
    pub confirmed: Option<Duration>,
}

impl Neighbour {
    /// A neighbour whose MAC is not known.
    pub fn unresolved(id: InterfaceId, interface: &Interface, address: IpAddr) -> Self {
        Self {
            interface: id,
            port: interface.port,
            address,
            state: NeighbourState::Resolving,
            header: EthernetHeader::new(MacAddr::default(), interface.mac, interface.tags),
            users: 0,
            confirmed: None,
        }
    }

    /// Whether packets can be sent to it.
    #[inline]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, NeighbourState::Resolved | NeighbourState::Static)
    }
}

/// An Ethernet header with up to two VLAN tags, without its EtherType.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthernetHeader {
    bytes: ArrayVec<u8, 20>,
}

/// 802.1Q.
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// 802.1ad.
const ETHERTYPE_QINQ: [u8; 2] = [0x88, 0xa8];

impl EthernetHeader {
    /// A header.
    pub fn new(destination: MacAddr, source: MacAddr, tags: VlanTags) -> Self {
        let mut bytes = ArrayVec::new();
        let mut put = |part: &[u8]| bytes.extend(part.iter().copied());
        put(&destination.0);
        put(&source.0);
        match (tags.outer, tags.inner) {
            (0, _) => {}
            (outer, 0) => {
                put(&ETHERTYPE_VLAN);
                put(&outer.to_be_bytes());
            }
            (outer, inner) => {
                put(&ETHERTYPE_QINQ);
                put(&outer.to_be_bytes());
                put(&ETHERTYPE_VLAN);
                put(&inner.to_be_bytes());
            }
        }
        Self { bytes }
    }

    /// Replaces the destination.
    pub fn set_destination(&mut self, destination: MacAddr) {
        self.bytes[..6].copy_from_slice(&destination.0);
    }

    /// The destination.
    pub fn destination(&self) -> MacAddr {
        let mut mac = [0; 6];
        mac.copy_from_slice(&self.bytes[..6]);
        MacAddr(mac)
    }

    /// Length with the EtherType, in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        self.bytes.len() + 2
    }

    /// Like [`write`](Self::write), for ARP.
    ///
    /// # Panics
    /// If `frame` is shorter than the header.
    pub fn write_arp(&self, frame: &mut [u8]) {
        let at = self.bytes.len();
        frame[..at].copy_from_slice(&self.bytes);
        frame[at..at + 2].copy_from_slice(&[0x08, 0x06]);
    }

    /// Writes header and EtherType to the first [`length`](Self::length)
    /// bytes of `frame`.
    ///
    /// # Panics
    /// If `frame` is shorter.
    #[inline]
    pub fn write(&self, family: Family, frame: &mut [u8]) {
        let at = self.bytes.len();
        frame[..at].copy_from_slice(&self.bytes);
        let ethertype: [u8; 2] = match family {
            Family::V4 => [0x08, 0x00],
            Family::V6 => [0x86, 0xdd],
        };
        frame[at..at + 2].copy_from_slice(&ethertype);
    }
}
