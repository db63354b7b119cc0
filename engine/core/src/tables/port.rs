//! Ports: devices, and the interfaces on them.

use crate::tables::vlans::Vlans;
use crate::types::{InterfaceId, MacAddr};

/// What a port faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// The underlay.
    Fabric,
    /// Workloads.
    Tenant,
    /// The host's own network stack.
    Host,
}

/// The VLAN tags of a frame: outer and inner VLAN ID, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VlanTags {
    /// Outer (or only) VLAN ID.
    pub outer: u16,
    /// Inner VLAN ID of QinQ.
    pub inner: u16,
}

/// A port.
#[derive(Debug, Clone)]
pub struct Port {
    /// What it faces.
    pub role: PortRole,
    /// Its own MAC.
    pub mac: MacAddr,
    /// The host's MAC behind a host port, once it has been heard; before that
    /// it is taken to be the port's own, as on a TAP.
    pub host_mac: Option<MacAddr>,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// The untagged interface.
    pub untagged: Option<InterfaceId>,
    /// The tagged interfaces.
    pub tagged: Vlans,
}

impl Port {
    /// The MAC that we use on a host port: the port's own belongs to the host
    /// there.
    pub fn host_side_mac(&self) -> MacAddr {
        let mut mac = self.mac;
        mac.0[0] = (mac.0[0] | 2) & !1;
        mac.0[5] ^= 1;
        mac
    }

    /// The interface of frames with these tags.
    #[inline]
    pub fn interface(&self, tags: VlanTags) -> Option<InterfaceId> {
        if tags == VlanTags::default() {
            return self.untagged;
        }
        self.tagged.get(tags)
    }
}
