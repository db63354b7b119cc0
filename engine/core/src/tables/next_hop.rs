//! Next hops: where a route's packets go.

use std::net::IpAddr;

use crate::packet::encap::EncapHeader;
use crate::types::{InterfaceId, NeighbourId, NextHopId, VrfId};

/// Where packets go.
#[derive(Debug, Clone)]
pub enum NextHop {
    /// Dropped as [`DiscardRoute`](crate::DropReason::DiscardRoute).
    Discard,
    /// Dropped as [`NextHopUnusable`](crate::DropReason::NextHopUnusable):
    /// what it needs is missing for now.
    Unusable,
    /// One of our own addresses, on this interface.
    Local(InterfaceId),
    /// One neighbour: a workload, or a gateway.
    Neighbour(NeighbourId),
    /// Whichever neighbour has the packet's destination, on this interface.
    Connected(InterfaceId),
    /// Looked up again in another VRF.
    Vrf(VrfId),
    /// Through a tunnel to a remote gateway.
    Tunnel(Tunnel),
    /// One of several, by the hash of the flow.
    Group(Group),
}

/// A tunnel to a remote gateway, with all that one route's packets need.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// What goes between the Ethernet header and the packet.
    pub header: EncapHeader,
    /// The next station on the way to the remote.
    pub neighbour: NeighbourId,
    /// The underlay interface it leaves by.
    pub interface: InterfaceId,
    /// The remote endpoint.
    pub remote: IpAddr,
    /// Largest IP packet that fits inside, bytes.
    pub inner_mtu: u16,
}

/// Several next hops that share the flows.
#[derive(Debug, Clone)]
pub struct Group {
    /// Each member as often as its weight says.
    slots: std::sync::Arc<[NextHopId]>,
}

impl Group {
    /// A group of members with weights. `None` without any weight.
    pub fn new(members: &[(NextHopId, u8)]) -> Option<Self> {
        let slots: Vec<NextHopId> =
            members.iter().flat_map(|(id, weight)| std::iter::repeat_n(*id, usize::from(*weight))).collect();
        (!slots.is_empty()).then(|| Self { slots: slots.into() })
    }

    /// The member for a flow.
    #[inline]
    pub fn select(&self, flow_hash: u32) -> NextHopId {
        // The high half of the product is uniform over the slots.
        let slot = (u64::from(flow_hash) * self.slots.len() as u64) >> 32;
        self.slots[slot as usize]
    }

    /// All slots.
    pub fn slots(&self) -> &[NextHopId] {
        &self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_spread_by_weight() {
        let group = Group::new(&[(NextHopId(1), 1), (NextHopId(2), 3)]).expect("weights");
        let mut hits = [0u32; 3];
        for n in 0..4000u32 {
            hits[group.select(n.wrapping_mul(0x9E37_79B1)).index()] += 1;
        }
        assert_eq!(hits[0], 0);
        assert!((900..1100).contains(&hits[1]), "{hits:?}");
        assert!(Group::new(&[]).is_none());
        assert!(Group::new(&[(NextHopId(1), 0)]).is_none());
    }
}
