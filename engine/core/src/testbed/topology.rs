//! A small gateway to start from.
//!
//! ```text
//!   tenant port 1 --+                        +-- remote gateway 198.18.0.2
//!   10.1.0.10       |-- VRF 1 ... fabric port 0
//!   tenant port 2 --+   label 1001           198.18.0.1/24
//!   10.1.0.20           VNI 5001             2001:db8:f::1/64
//! ```
//!
//! VRF 1 routes 10.2.0.0/16 and 2001:db8:2::/48 to the remote gateway by
//! MPLS-in-UDP. Workload N has 10.1.0.N0 and 2001:db8:1::N0.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::packet::encap::{EncapHeader, EncapOptions};
use crate::policy::Policy;
use crate::tables::Tables;
use crate::tables::interface::{AllowedSource, Interface, TunnelSources};
use crate::tables::neighbour::NeighbourState;
use crate::tables::next_hop::{NextHop, Tunnel};
use crate::tables::port::{Port, PortRole, VlanTags};
use crate::tables::vlans::Vlans;
use crate::tables::vrf::{FibEntry, Vrf};
use crate::testbed::{Size, Testbed};
use crate::types::{InterfaceId, Label, MacAddr, NeighbourId, NextHopId, PortId, SgSetId, Vni, VrfId};

/// The fabric port.
pub const FABRIC: PortId = PortId(0);
/// The port of workload 1.
pub const TENANT_1: PortId = PortId(1);
/// The port of workload 2.
pub const TENANT_2: PortId = PortId(2);
/// The host port.
pub const HOST: PortId = PortId(3);
/// The interface of the fabric port.
pub const FABRIC_INTERFACE: InterfaceId = InterfaceId(0);
/// The tenants' VRF.
pub const VRF: VrfId = VrfId(1);
/// The label of the tenants' VRF here and at the remote gateway.
pub const LABEL: u32 = 1001;
/// The VNI of the tenants' VRF here and at the remote gateway.
pub const VNI: u32 = 5001;
/// The remote gateway's MAC.
pub const REMOTE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xf, 2]);
/// The MAC of our router, for layer 3 over VXLAN.
pub const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xee, 1]);
/// The remote gateway's address.
pub const REMOTE: &str = "198.18.0.2";
/// Its IPv6 address.
pub const REMOTE_V6: &str = "2001:db8:f::2";
/// The next hop to the remote gateway.
pub const REMOTE_NEXT_HOP: NextHopId = NextHopId(1);

/// Our MAC on a port.
pub fn own_mac(port: PortId) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, port.0 as u8])
}

/// The MAC of the workload on a tenant port.
pub fn workload_mac(port: PortId) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, port.0 as u8])
}

/// A gateway of this topology with so many workers.
pub fn gateway(workers: usize) -> Testbed {
    gateway_of_size(Size { workers, ..Size::default() })
}

/// A gateway of this topology.
pub fn gateway_of_size(size: Size) -> Testbed {
    let mut bed = Testbed::new(size, tables());
    for port in [FABRIC, TENANT_1, TENANT_2, HOST] {
        bed.attach(port == HOST);
    }
    bed.run();
    bed
}

/// Puts a policy in front of the workload on a tenant port.
pub fn set_policy(tables: &mut Tables, port: PortId, policy: Option<Policy>) {
    if let Some(interface) = tables.interfaces.get_mut(port.index()) {
        interface.policy = policy.map(Arc::new);
    }
    let stateful = tables.interfaces.iter().any(|(_, interface)| interface.policy.is_some());
    if let Some(vrf) = tables.vrfs.get_mut(VRF.index()) {
        vrf.stateful = stateful;
        vrf.generation += 1;
    }
}

/// The tables of this topology.
pub fn tables() -> Tables {
    let mut tables = Tables::default();
    add_fabric(&mut tables);
    tables.vrfs.insert(VRF.index(), Vrf { router_mac: ROUTER_MAC, ..Vrf::default() });
    tables.labels.insert(LABEL as usize, VRF);
    if let Some(vni) = Vni::new(VNI) {
        Arc::make_mut(&mut tables.vnis).insert(vni, VRF);
    }
    for port in [TENANT_1, TENANT_2] {
        add_tenant(&mut tables, port);
    }
    for prefix in ["10.2.0.0/16", "2001:db8:2::/48"] {
        add_route(&mut tables, VRF, net(prefix), REMOTE_NEXT_HOP, SgSetId::EMPTY);
    }
    tables.ports.insert(HOST.index(), port(HOST, PortRole::Host, None));
    tables.host_port = Some(HOST);
    tables
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_default()
}

fn port(id: PortId, role: PortRole, untagged: Option<InterfaceId>) -> Port {
    Port { role, mac: own_mac(id), host_mac: None, mtu: 1500, untagged, tagged: Vlans::default() }
}

fn add_fabric(tables: &mut Tables) {
    tables.ports.insert(FABRIC.index(), port(FABRIC, PortRole::Fabric, Some(FABRIC_INTERFACE)));
    let local: Arc<[IpNet]> = Arc::from([net("198.18.0.1/24"), net("2001:db8:f::1/64")]);
    let interface = Interface {
        port: FABRIC,
        tags: VlanTags::default(),
        vrf: VrfId::UNDERLAY,
        mac: own_mac(FABRIC),
        mtu: 1500,
        local_addresses: Arc::clone(&local),
        policy: None,
        sources: None,
        tunnel_sources: TunnelSources::default(),
    };
    tables.interfaces.insert(FABRIC_INTERFACE.index(), interface);
    for address in local.iter() {
        Arc::make_mut(&mut tables.underlay_addresses).insert(address.addr());
        let next_hop = push(tables, NextHop::Connected(FABRIC_INTERFACE), 10);
        add_route(tables, VrfId::UNDERLAY, address.trunc(), next_hop, SgSetId::EMPTY);
        let own = push(tables, NextHop::Local(FABRIC_INTERFACE), 10);
        add_route(tables, VrfId::UNDERLAY, IpNet::from(address.addr()), own, SgSetId::EMPTY);
    }
    for remote in [REMOTE, REMOTE_V6] {
        Arc::make_mut(&mut tables.remotes).extend(remote.parse::<IpAddr>());
    }
    let neighbour = static_neighbour(tables, FABRIC_INTERFACE, REMOTE, REMOTE_MAC);
    set_tunnel(tables, neighbour, encap_mpls_udp());
}

/// The tunnel header that the topology starts with.
fn encap_mpls_udp() -> Option<EncapHeader> {
    let (source, remote) = endpoints()?;
    EncapHeader::mpls_udp(source, remote, Label::new(LABEL)?, EncapOptions::default()).ok()
}

/// The endpoints of the IPv4 tunnel: ours and the remote one's.
pub fn endpoints() -> Option<(IpAddr, IpAddr)> {
    Some(("198.18.0.1".parse().ok()?, REMOTE.parse().ok()?))
}

fn set_tunnel(tables: &mut Tables, neighbour: NeighbourId, header: Option<EncapHeader>) {
    let (Some(header), Some((_, remote))) = (header, endpoints()) else { return };
    let inner_mtu = 1500 - header.overhead();
    let tunnel = Tunnel { header, neighbour, interface: FABRIC_INTERFACE, remote, inner_mtu };
    tables.next_hops.insert(REMOTE_NEXT_HOP.index(), NextHop::Tunnel(tunnel));
}

/// Replaces the header of the tunnel to the remote gateway.
pub fn set_encap(tables: &mut Tables, header: EncapHeader) {
    let neighbour = match tables.next_hops.get(REMOTE_NEXT_HOP.index()) {
        Some(NextHop::Tunnel(tunnel)) => tunnel.neighbour,
        _ => return,
    };
    set_tunnel(tables, neighbour, Some(header));
}

fn add_tenant(tables: &mut Tables, id: PortId) {
    let interface = InterfaceId(u32::from(id.0));
    tables.ports.insert(id.index(), port(id, PortRole::Tenant, Some(interface)));
    let own = [format!("10.1.0.{}0", id.0), format!("2001:db8:1::{}0", id.0)];
    let mac = workload_mac(id);
    let sources = own.iter().map(|text| AllowedSource {
        mac: Some(mac),
        prefix: text.parse::<IpAddr>().map(IpNet::from).unwrap_or_default(),
    });
    let local: Arc<[IpNet]> = Arc::from([net("10.1.0.1/24"), net("2001:db8:1::1/64")]);
    let entry = Interface {
        port: id,
        tags: VlanTags::default(),
        vrf: VRF,
        mac: own_mac(id),
        mtu: 1500,
        local_addresses: Arc::clone(&local),
        policy: None,
        sources: Some(sources.collect()),
        tunnel_sources: TunnelSources::default(),
    };
    tables.interfaces.insert(interface.index(), entry);
    let gateway = push(tables, NextHop::Local(interface), 20);
    for address in local.iter() {
        if let Some(vrf) = tables.vrfs.get_mut(VRF.index()) {
            vrf.own_addresses.insert(address.addr());
        }
        add_route(tables, VRF, IpNet::from(address.addr()), gateway, SgSetId::EMPTY);
    }
    for address in &own {
        let neighbour = static_neighbour(tables, interface, address, mac);
        let next_hop = push(tables, NextHop::Neighbour(neighbour), 20);
        let Ok(address) = address.parse::<IpAddr>() else { continue };
        add_route(tables, VRF, IpNet::from(address), next_hop, SgSetId::EMPTY);
    }
}

/// Adds a next hop at a free index, at least `from`.
pub fn push(tables: &mut Tables, next_hop: NextHop, from: usize) -> NextHopId {
    let index = (from..).find(|index| tables.next_hops.get(*index).is_none()).unwrap_or(from);
    tables.next_hops.insert(index, next_hop);
    NextHopId(index as u32)
}

/// Adds a neighbour with a known MAC.
pub fn static_neighbour(
    tables: &mut Tables,
    interface: InterfaceId,
    address: &str,
    mac: MacAddr,
) -> NeighbourId {
    let id = address.parse().ok().and_then(|address| tables.intern_neighbour(interface, address));
    let id = id.unwrap_or(NeighbourId(u32::MAX));
    if let Some(neighbour) = tables.neighbours.get_mut(id.index()) {
        neighbour.state = NeighbourState::Static;
        neighbour.header.set_destination(mac);
    }
    id
}

/// Adds a route.
pub fn add_route(tables: &mut Tables, vrf: VrfId, prefix: IpNet, next_hop: NextHopId, sg_set: SgSetId) {
    let Some(vrf) = tables.vrfs.get_mut(vrf.index()) else { return };
    let entry = FibEntry { next_hop, sg_set };
    match prefix {
        IpNet::V4(net) => vrf.fib4.insert(net.network().to_bits(), net.prefix_len(), entry),
        IpNet::V6(net) => vrf.fib6.insert(net.network().to_bits(), net.prefix_len(), entry),
    };
    vrf.generation += 1;
}
