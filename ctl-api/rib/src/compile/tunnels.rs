//! Tunnels: the way to the remote through the underlay, and the header that
//! one route's packets get.

use std::net::IpAddr;

use tieline_engine::packet::encap::{EncapHeader, EncapOptions};
use tieline_engine::tables::Tables;
use tieline_engine::tables::next_hop::{NextHop, Tunnel};
use tieline_engine::types::{InterfaceId, Label, MacAddr, NeighbourId, Vni, VrfId};

use crate::compile::next_hops::Resolution;
use crate::nodes::{Egress, Reach};
use crate::rib::Rib;
use crate::spec::next_hop::TunnelTarget;
use crate::spec::{Encapsulation, Encapsulations, TunnelUse};

/// An encapsulation with what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encap {
    MplsUdp(Label),
    MplsGre(Label),
    Vxlan(Vni, MacAddr),
}

/// A tunnel as one use resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TunnelResolution {
    pub encap: Encap,
    pub source: IpAddr,
    pub remote: IpAddr,
    pub interface: InterfaceId,
    pub neighbour: NeighbourId,
    pub inner_mtu: u16,
}

impl Rib {
    /// The way to a tunnel's remote, or a sentence why there is none.
    pub(crate) fn tunnel_reach(&self, tunnel: &TunnelTarget, tables: &Tables) -> Reach {
        let remote = tunnel.remote;
        let no_route = || format!("no route to {remote} in the underlay");
        let (interface, gateway) = underlay_way(remote, tables).ok_or_else(no_route)?;
        let egress = tables.interfaces.get(interface.index()).ok_or_else(no_route)?;
        let source = match tunnel.local {
            Some(local) if tables.underlay_addresses.contains(&local) => local,
            Some(local) => {
                return Err(format!("{local} is not an address of an underlay interface in force").into());
            }
            None => {
                let peer = if gateway.is_ipv4() == remote.is_ipv4() { gateway } else { remote };
                egress.source_for(peer).ok_or_else(|| {
                    let name = self.interface_name(interface).unwrap_or_default();
                    format!("interface {name} has no address to reach {remote} from")
                })?
            }
        };
        Ok(Egress { interface, gateway, source, mtu: egress.mtu })
    }

    /// What a tunnel is for one use of it.
    pub(crate) fn resolve_tunnel(
        &self,
        tunnel: &TunnelTarget,
        reach: Option<&Reach>,
        tunnel_use: TunnelUse,
        tables: &mut Tables,
    ) -> (Resolution, NextHop) {
        let unusable = |sentence: Box<str>| (Resolution::Unusable(sentence), NextHop::Unusable);
        let egress = match reach {
            Some(Ok(egress)) => *egress,
            Some(Err(sentence)) => return unusable(sentence.clone()),
            None => return unusable("it is not resolved yet".into()),
        };
        let encap = match choose(tunnel, tunnel_use) {
            Ok(encap) => encap,
            Err(sentence) => return unusable(sentence.into()),
        };
        let Some(header) = self.encap_header(encap, egress.source, tunnel.remote) else {
            let sentence = format!("{} and {} are of different IP versions", egress.source, tunnel.remote);
            return unusable(sentence.into());
        };
        let Some(neighbour) = tables.intern_neighbour(egress.interface, egress.gateway) else {
            return unusable("the interface towards it is not in force".into());
        };
        let overhead = u16::try_from(header.overhead()).unwrap_or(u16::MAX);
        let resolution = TunnelResolution {
            encap,
            source: egress.source,
            remote: tunnel.remote,
            interface: egress.interface,
            neighbour,
            inner_mtu: egress.mtu.saturating_sub(overhead),
        };
        let engine = Tunnel {
            header,
            neighbour,
            interface: egress.interface,
            remote: tunnel.remote,
            inner_mtu: resolution.inner_mtu,
        };
        (Resolution::Tunnel(Box::new(resolution)), NextHop::Tunnel(engine))
    }

    fn encap_header(&self, encap: Encap, source: IpAddr, remote: IpAddr) -> Option<EncapHeader> {
        let mut options = EncapOptions::default();
        options.udp6_zero_checksum = self.options.udp6_zero_checksum;
        match encap {
            Encap::MplsUdp(label) => EncapHeader::mpls_udp(source, remote, label, options),
            Encap::MplsGre(label) => EncapHeader::mpls_gre(source, remote, label, options),
            Encap::Vxlan(vni, router_mac) => {
                EncapHeader::vxlan(source, remote, vni, router_mac, self.options.router_mac, options)
            }
        }
    }
}

/// The interface and the next station towards an address of the underlay.
///
/// Of a group one member is taken, by the address, so that tunnels spread over
/// the links. Members that are tunnels do not count: no tunnel in a tunnel.
fn underlay_way(remote: IpAddr, tables: &Tables) -> Option<(InterfaceId, IpAddr)> {
    let underlay = tables.vrfs.get(VrfId::UNDERLAY.index())?;
    let entry = match remote {
        IpAddr::V4(address) => underlay.fib4.lookup(u32::from(address))?,
        IpAddr::V6(address) => underlay.fib6.lookup(u128::from(address))?,
    };
    let station = |next_hop: &NextHop| match next_hop {
        NextHop::Connected(interface) => Some((*interface, remote)),
        NextHop::Neighbour(id) => {
            let neighbour = tables.neighbours.get(id.index())?;
            Some((neighbour.interface, neighbour.address))
        }
        _ => None,
    };
    match tables.next_hops.get(entry.next_hop.index())? {
        NextHop::Group(group) => {
            let members = group.slots().iter().filter_map(|id| tables.next_hops.get(id.index()));
            let stations: Vec<(InterfaceId, IpAddr)> = members.filter_map(station).collect();
            let low_bits = match remote {
                IpAddr::V4(address) => u32::from(address) as usize,
                IpAddr::V6(address) => u128::from(address) as usize,
            };
            stations.get(low_bits.checked_rem(stations.len())?).copied()
        }
        next_hop => station(next_hop),
    }
}

/// The first encapsulation that has what it needs.
fn choose(tunnel: &TunnelTarget, tunnel_use: TunnelUse) -> Result<Encap, String> {
    let list =
        [tunnel_use.encapsulations, tunnel.encapsulations, Encapsulations::only(Encapsulation::MplsUdp)];
    let list = list.into_iter().find(|list| !list.is_empty()).unwrap_or_default();
    let fits = |encapsulation| match encapsulation {
        Encapsulation::MplsUdp => tunnel_use.label.map(Encap::MplsUdp),
        Encapsulation::MplsGre => tunnel_use.label.map(Encap::MplsGre),
        Encapsulation::Vxlan => Some(Encap::Vxlan(tunnel_use.vni?, tunnel.router_mac?)),
    };
    list.iter().find_map(fits).ok_or_else(|| {
        let names: Vec<String> = list.iter().map(|encapsulation| encapsulation.to_string()).collect();
        format!(
            "none of {} can be used: MPLS needs a label, VXLAN a VNI and the tunnel's router_mac",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_encapsulation_with_all_it_needs_is_chosen() {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let label = Label::new(100);
        let vni = Vni::new(7);
        let list = |members: &[Encapsulation]| {
            let mut list = Encapsulations::default();
            assert!(members.iter().all(|member| list.push(*member)));
            list
        };
        let tunnel = |encapsulations, router_mac| TunnelTarget {
            remote: IpAddr::from([198, 18, 0, 2]),
            local: None,
            encapsulations,
            router_mac,
        };
        let all = [Encapsulation::Vxlan, Encapsulation::MplsGre, Encapsulation::MplsUdp];
        let with = |label, vni, encapsulations| TunnelUse { label, vni, encapsulations };
        let none = Encapsulations::default();
        let (label_value, vni_value) = (label.expect("a label"), vni.expect("a VNI"));

        let bare = tunnel(none, None);
        assert_eq!(choose(&bare, with(label, vni, none)), Ok(Encap::MplsUdp(label_value)));
        assert!(choose(&bare, with(None, vni, none)).is_err());
        let full = tunnel(list(&all), Some(mac));
        assert_eq!(choose(&full, with(label, vni, none)), Ok(Encap::Vxlan(vni_value, mac)));
        assert_eq!(choose(&full, with(label, None, none)), Ok(Encap::MplsGre(label_value)));
        let own = with(label, vni, Encapsulations::only(Encapsulation::MplsUdp));
        assert_eq!(choose(&full, own), Ok(Encap::MplsUdp(label_value)), "the route's list comes first");
        let no_mac = tunnel(list(&all), None);
        assert_eq!(choose(&no_mac, with(label, vni, none)), Ok(Encap::MplsGre(label_value)));
    }
}
