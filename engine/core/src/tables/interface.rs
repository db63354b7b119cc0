//! Interfaces: the attachment of a VRF to a port or a VLAN of it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::drop_reason::DropReason;
use crate::policy::Policy;
use crate::tables::port::VlanTags;
use crate::types::{MacAddr, PortId, VrfId};

/// A layer 3 interface.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Its port.
    pub port: PortId,
    /// Its VLAN.
    pub tags: VlanTags,
    /// Its VRF; [`VrfId::UNDERLAY`] on a fabric port.
    pub vrf: VrfId,
    /// Our own MAC here.
    pub mac: MacAddr,
    /// Largest IP packet that may leave here, bytes.
    pub mtu: u16,
    /// Our own addresses here, with their subnets.
    pub local_addresses: Arc<[IpNet]>,
    /// What may enter and leave the workload; `None`: not filtered.
    pub policy: Option<Arc<Policy>>,
    /// Sources that the workload may use; `None`: any.
    pub sources: Option<Arc<[AllowedSource]>>,
    /// Who may send tunnel packets here, on the fabric.
    pub tunnel_sources: TunnelSources,
}

/// Who may send tunnel packets to an interface of the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelSources {
    /// The remotes of next hops, and these.
    Known(Arc<[IpNet]>),
    /// Everybody.
    Any,
}

impl Default for TunnelSources {
    fn default() -> Self {
        Self::Known(Arc::from([]))
    }
}

impl Interface {
    /// Whether `address` is one of our own here.
    pub fn is_local_address(&self, address: IpAddr) -> bool {
        self.local_addresses.iter().any(|local| local.addr() == address)
    }

    /// Anti-spoofing: whether a station may send from these addresses.
    ///
    /// # Errors
    /// [`SpoofedMac`](DropReason::SpoofedMac) or
    /// [`SpoofedIp`](DropReason::SpoofedIp).
    pub fn check_source(&self, mac: MacAddr, address: IpAddr) -> Result<(), DropReason> {
        let Some(allowed) = &self.sources else { return Ok(()) };
        let mut mac_known = false;
        for source in allowed.iter() {
            let mac_fits = source.mac.is_none_or(|own| own == mac);
            mac_known |= mac_fits;
            if mac_fits && source.prefix.contains(&address) {
                return Ok(());
            }
        }
        Err(if mac_known { DropReason::SpoofedIp } else { DropReason::SpoofedMac })
    }

    /// Our own address here to speak to `peer` from: one in the same subnet,
    /// or else the first of the family.
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        let of_family = |net: &&IpNet| net.addr().is_ipv4() == peer.is_ipv4();
        self.local_addresses
            .iter()
            .find(|net| net.contains(&peer))
            .or_else(|| self.local_addresses.iter().find(of_family))
            .map(IpNet::addr)
    }
}

/// A source that a workload may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedSource {
    /// Source MAC; `None`: any.
    pub mac: Option<MacAddr>,
    /// Source addresses.
    pub prefix: IpNet,
}
