//! Classify: whose packet is it, may it come from there, and in which VRF is
//! it routed. Ends tunnels; turns aside what is not routed at all.

use std::net::IpAddr;

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::buffer::{IpChecksum, PacketBuf};
use crate::packet::decap::{Inner, TunnelKey, decapsulate};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::ip;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{EtherType, check_addresses, parse_ethernet, parse_ip};
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::pipeline::local;
use crate::pipeline::vrf_lookup::lookup_one;
use crate::tables::Tables;
use crate::tables::interface::Interface;
use crate::tables::next_hop::NextHop;
use crate::tables::port::PortRole;
use crate::types::{MacAddr, VrfId};

/// What becomes of a packet.
enum Class {
    /// It is routed in `meta.key.vrf`.
    Route,
    /// ARP.
    Arp,
    /// Neighbour discovery.
    NeighbourDiscovery,
    /// It goes to the host.
    Punt,
}

/// Classifies packets; those that are routed stay in the lane.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    let role = cx.tables.ports.get(burst.port.index()).map_or(PortRole::Tenant, |port| port.role);
    lane.retain(|index| {
        let index = *index;
        let Some((packet, meta)) = burst.packet(index) else { return false };
        let class = match role {
            PortRole::Tenant => classify_tenant(cx.tables, packet, meta),
            PortRole::Fabric => classify_fabric(cx.tables, packet, meta),
            PortRole::Host => classify_host(packet, meta),
        };
        match class {
            Ok(Class::Route) => return true,
            Ok(Class::Arp) => local::arp(cx, burst, index),
            Ok(Class::NeighbourDiscovery) => local::neighbour_discovery(cx, burst, index),
            Ok(Class::Punt) => local::punt(cx, burst, index),
            Err(reason) => cx.drop(burst, index, reason),
        }
        false
    });
}

fn macs(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let destination = frame.first_chunk::<6>()?;
    let source = frame.get(6..)?.first_chunk::<6>()?;
    Some((MacAddr(*destination), MacAddr(*source)))
}

/// What every frame that comes in on an interface has to be. ARP and ND are
/// taken aside. The source MAC comes with it.
fn admit<B: PacketBuf>(
    interface: &Interface,
    packet: &B,
    meta: &PacketMeta,
) -> Result<(Class, MacAddr), DropReason> {
    let (destination, source) = macs(packet.bytes()).ok_or(DropReason::TruncatedEthernet)?;
    if destination != interface.mac && !destination.is_multicast() {
        return Err(DropReason::NotOurMac);
    }
    if meta.flags.contains(PacketFlags::ARP) {
        return Ok((Class::Arp, source));
    }
    if meta.flags.contains(PacketFlags::NEIGHBOUR_DISCOVERY) {
        return Ok((Class::NeighbourDiscovery, source));
    }
    if is_multicast(meta) || destination.is_multicast() {
        return Err(DropReason::MulticastNotRouted);
    }
    check_addresses(&meta.key)?;
    Ok((Class::Route, source))
}

fn classify_tenant<B: PacketBuf>(
    tables: &Tables,
    packet: &B,
    meta: &PacketMeta,
) -> Result<Class, DropReason> {
    let interface = tables.interfaces.get(meta.ingress.index()).ok_or(DropReason::UnknownVlan)?;
    let (class, source) = admit(interface, packet, meta)?;
    if matches!(class, Class::Route) {
        check_scope(&meta.key)?;
        check_not_ours(tables, &meta.key)?;
        interface.check_source(source, meta.key.source_addr())?;
    }
    Ok(class)
}

/// Link-local addresses stay on their link (RFC 3927 section 2.7, RFC 4291
/// section 2.5.6).
fn check_scope(key: &FlowKey) -> Result<(), DropReason> {
    let is_link_local = |address: &[u8; 16]| match key.family {
        Family::V4 => address[..2] == [169, 254],
        Family::V6 => address[0] == 0xfe && address[1] & 0xc0 == 0x80,
    };
    if is_link_local(&key.source) {
        return Err(DropReason::MartianSource);
    }
    if is_link_local(&key.destination) {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

/// Nobody but us sends from our addresses; what we make ourselves does not come
/// in.
fn check_not_ours(tables: &Tables, key: &FlowKey) -> Result<(), DropReason> {
    let vrf = tables.vrfs.get(key.vrf.index());
    if vrf.is_some_and(|vrf| vrf.own_addresses.is_source_of(key)) {
        return Err(DropReason::OwnSource);
    }
    Ok(())
}

/// A VRF that is strict takes from a tunnel only what it would route back into
/// one to the same remote gateway.
fn check_way_back(tables: &Tables, key: &FlowKey, remote: IpAddr) -> Result<(), DropReason> {
    if tables.vrfs.get(key.vrf.index()).is_none_or(|vrf| !vrf.strict_sources) {
        return Ok(());
    }
    let is_there =
        |next_hop: &NextHop| matches!(next_hop, NextHop::Tunnel(tunnel) if tunnel.remote == remote);
    let leads_there = |next_hop: &NextHop| match next_hop {
        NextHop::Group(group) => {
            group.slots().iter().filter_map(|id| tables.next_hops.get(id.index())).any(is_there)
        }
        next_hop => is_there(next_hop),
    };
    let mut back = key.reversed(key.vrf);
    for _ in 0..2 {
        let route = lookup_one(tables, &back).ok_or(DropReason::StrayInnerSource)?;
        match tables.next_hops.get(route.next_hop.index()) {
            // One step from VRF to VRF, as packets take it.
            Some(NextHop::Vrf(vrf)) => back.vrf = *vrf,
            Some(next_hop) if leads_there(next_hop) => return Ok(()),
            _ => break,
        }
    }
    Err(DropReason::StrayInnerSource)
}

fn is_multicast(meta: &PacketMeta) -> bool {
    match meta.key.family {
        Family::V4 => meta.key.destination[0] >= 224,
        Family::V6 => meta.key.destination[0] == 0xff,
    }
}

fn classify_fabric<B: PacketBuf>(
    tables: &Tables,
    packet: &mut B,
    meta: &mut PacketMeta,
) -> Result<Class, DropReason> {
    let interface = tables.interfaces.get(meta.ingress.index()).ok_or(DropReason::UnknownVlan)?;
    let (class, _) = admit(interface, packet, meta)?;
    if !matches!(class, Class::Route) {
        return Ok(class);
    }
    if !tables.underlay_addresses.contains(&meta.key.destination_addr()) {
        return Err(DropReason::NotForUs);
    }
    let remote = meta.key.source_addr();
    if tables.underlay_addresses.contains(&remote) {
        return Err(DropReason::OwnSource);
    }
    // Whatever is inside ends where the outer packet ends.
    packet.truncate(usize::from(meta.l3_offset) + usize::from(meta.ip_length));
    let Some(tunnel) = decapsulate(packet.bytes(), meta, tables.options.extra_mpls_udp_port)? else {
        return Ok(Class::Punt);
    };
    if !tables.accepts_tunnel_from(remote, interface) {
        return Err(DropReason::UnknownTunnelSource);
    }
    let vrf = match tunnel.key {
        TunnelKey::Mpls(label) => {
            *tables.labels.get(label.value() as usize).ok_or(DropReason::UnknownLabel)?
        }
        TunnelKey::Vxlan(vni) => *tables.vnis.get(&vni).ok_or(DropReason::UnknownVni)?,
    };
    packet.truncate(tunnel.end);
    enter(tables, packet, meta, vrf, tunnel.inner)?;
    check_not_ours(tables, &meta.key)?;
    check_way_back(tables, &meta.key, remote)?;
    Ok(Class::Route)
}

/// Makes the inner packet the packet, routed in `vrf`.
fn enter<B: PacketBuf>(
    tables: &Tables,
    packet: &mut B,
    meta: &mut PacketMeta,
    vrf: VrfId,
    inner: Inner,
) -> Result<(), DropReason> {
    let outer_class =
        ip::traffic_class(packet.bytes(), usize::from(meta.l3_offset), meta.key.family).unwrap_or(0);
    let (family, offset) = match inner {
        Inner::Ip { family, offset } => (family, offset),
        Inner::Ethernet { offset } => inner_ethernet(tables, packet.bytes(), vrf, offset)?,
    };
    meta.key.vrf = vrf;
    meta.flags = PacketFlags::DECAPSULATED;
    parse_ip(packet.bytes(), offset, family, IpChecksum::Unknown, meta)?;
    check_addresses(&meta.key)?;
    check_scope(&meta.key)?;
    if is_multicast(meta) {
        return Err(DropReason::MulticastNotRouted);
    }
    ip::ecn_decapsulate(outer_class, packet.bytes_mut(), offset, family)
}

/// The packet in an Ethernet frame that was sent to the VRF's router.
pub(super) fn inner_ethernet(
    tables: &Tables,
    bytes: &[u8],
    vrf: VrfId,
    offset: usize,
) -> Result<(Family, usize), DropReason> {
    let frame = bytes.get(offset..).ok_or(DropReason::BadVxlanHeader)?;
    let link = parse_ethernet(frame)?;
    let router_mac = tables.vrfs.get(vrf.index()).map(|vrf| vrf.router_mac);
    if router_mac != Some(link.destination) {
        return Err(DropReason::NotOurRouterMac);
    }
    let family = match link.ethertype {
        EtherType::Ipv4 => Family::V4,
        EtherType::Ipv6 => Family::V6,
        EtherType::Arp => return Err(DropReason::UnknownEtherType),
    };
    Ok((family, offset + usize::from(link.l3_offset)))
}

fn classify_host<B: PacketBuf>(packet: &B, meta: &mut PacketMeta) -> Result<Class, DropReason> {
    if meta.flags.contains(PacketFlags::ARP) {
        return Ok(Class::Arp);
    }
    if meta.flags.contains(PacketFlags::NEIGHBOUR_DISCOVERY) {
        return Ok(Class::NeighbourDiscovery);
    }
    let (destination, _) = macs(packet.bytes()).ok_or(DropReason::TruncatedEthernet)?;
    if is_multicast(meta) || destination.is_multicast() {
        return Err(DropReason::MulticastNotRouted);
    }
    check_addresses(&meta.key)?;
    meta.flags.insert(PacketFlags::ALLOWED.union(PacketFlags::UNDECIDED));
    Ok(Class::Route)
}
