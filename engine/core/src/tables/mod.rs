//! The forwarding tables: what workers read and one writer changes.
//!
//! [`Tables`] is a snapshot. Copying one is cheap, because everything large in
//! it is shared; the writer keeps a working copy, changes it, and publishes
//! copies. A worker reads the snapshot it was last given.
//!
//! - [`port`], [`vlans`], [`interface`]: where packets enter and leave
//! - [`vrf`], [`fib`]: routing tables and the longest-prefix match
//! - [`next_hop`]: where packets go
//! - [`neighbour`]: Ethernet addresses of what is next to us
//! - [`slab`]: the persistent table that most of these stand in

pub mod fib;
pub mod interface;
pub mod neighbour;
pub mod next_hop;
pub mod port;
pub mod slab;
pub mod vlans;
pub mod vrf;

use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::types::{InterfaceId, NeighbourId, NextHopId, PortId, SgId, SgSetId, Vni, VrfId};
use interface::{Interface, TunnelSources};
use neighbour::Neighbour;
use next_hop::NextHop;
use port::Port;
use slab::Slab;
use vrf::Vrf;

/// A map that is copied when it changes.
pub type CowMap<K, V> = Arc<HashMap<K, V, RandomState>>;
/// A set that is copied when it changes.
pub type CowSet<K> = Arc<HashSet<K, RandomState>>;

/// One consistent state of everything that forwarding needs.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Counts up with every publication.
    pub version: u64,
    /// By [`PortId`].
    pub ports: Slab<Port>,
    /// The port to the host's own network stack.
    pub host_port: Option<PortId>,
    /// By [`InterfaceId`].
    pub interfaces: Slab<Interface>,
    /// By [`VrfId`]; the underlay is always there.
    pub vrfs: Slab<Vrf>,
    /// By [`NextHopId`]; entry 0 discards.
    pub next_hops: Slab<NextHop>,
    /// By [`NeighbourId`].
    pub neighbours: Slab<Neighbour>,
    /// The neighbour at an address on an interface.
    pub neighbour_index: CowMap<(InterfaceId, IpAddr), NeighbourId>,
    /// By MPLS label: the VRF that continues.
    pub labels: Slab<VrfId>,
    /// The VRF that continues, by VNI.
    pub vnis: CowMap<Vni, VrfId>,
    /// Our own addresses in the underlay: where tunnels end.
    pub underlay_addresses: CowSet<IpAddr>,
    /// Where the tunnels of next hops end: who may send tunnel packets.
    pub remotes: CowSet<IpAddr>,
    /// By [`SgSetId`]: sorted IDs; entry 0 is empty.
    pub sg_sets: Slab<Arc<[SgId]>>,
    /// What is switched on.
    pub options: Options,
}

/// Behaviour that configuration chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Lower the MSS of TCP SYNs to what the overlay's MTU carries.
    pub clamp_mss: bool,
    /// Accept MPLS-in-UDP on this further port (Contrail used 51234).
    pub extra_mpls_udp_port: Option<u16>,
    /// Take plain packets through one stage instead of all. The outcome is the
    /// same.
    pub express: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { clamp_mss: true, extra_mpls_udp_port: None, express: true }
    }
}

impl Default for Tables {
    fn default() -> Self {
        let mut tables = Self {
            version: 0,
            ports: Slab::default(),
            host_port: None,
            interfaces: Slab::default(),
            vrfs: Slab::default(),
            next_hops: Slab::default(),
            neighbours: Slab::default(),
            neighbour_index: CowMap::default(),
            labels: Slab::default(),
            vnis: CowMap::default(),
            underlay_addresses: CowSet::default(),
            remotes: CowSet::default(),
            sg_sets: Slab::default(),
            options: Options::default(),
        };
        tables.vrfs.insert(VrfId::UNDERLAY.index(), Vrf::default());
        tables.next_hops.insert(NextHopId::DISCARD.index(), NextHop::Discard);
        tables.sg_sets.insert(SgSetId::EMPTY.index(), Arc::from([]));
        tables
    }
}

impl Tables {
    /// The neighbour at `address` on `interface`, made unresolved if it is
    /// new. `None` if there is no such interface.
    pub fn intern_neighbour(&mut self, interface: InterfaceId, address: IpAddr) -> Option<NeighbourId> {
        if let Some(id) = self.neighbour_index.get(&(interface, address)) {
            return Some(*id);
        }
        let neighbour = Neighbour::unresolved(interface, self.interfaces.get(interface.index())?, address);
        let id = NeighbourId(u32::try_from(self.neighbours.push(neighbour)).ok()?);
        Arc::make_mut(&mut self.neighbour_index).insert((interface, address), id);
        Some(id)
    }

    /// Whether a tunnel packet that came in on an interface of the fabric may be
    /// from this address.
    pub fn accepts_tunnel_from(&self, source: IpAddr, interface: &Interface) -> bool {
        match &interface.tunnel_sources {
            TunnelSources::Any => true,
            TunnelSources::Known(further) => {
                self.remotes.contains(&source) || further.iter().any(|prefix| prefix.contains(&source))
            }
        }
    }

    /// Takes out a neighbour. Nothing may refer to it any more.
    pub fn remove_neighbour(&mut self, id: NeighbourId) {
        if let Some(old) = self.neighbours.remove(id.index()) {
            Arc::make_mut(&mut self.neighbour_index).remove(&(old.interface, old.address));
        }
    }
}
