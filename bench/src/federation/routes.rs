//! What the far cluster announces.
//!
//! Its networks are at ten gateways each, as in a cluster of some size: routes
//! of one network at one gateway have the same route distinguisher, route
//! target, next hop and label, and differ in their prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::{Ipv4Net, Ipv6Net};
use tieline_bgp::wire::{
    Attributes, Encapsulation, Evpn, ExtendedCommunity, Label, MacAddr, Nlri, Payload, Route,
    RouteDistinguisher, RouteTarget,
};

/// AS of the far cluster.
pub const ASN: u16 = 64513;
/// Its networks. Each is imported by one network here, and all by one more.
pub const NETWORKS: u32 = 10;
/// Its gateways.
pub const GATEWAYS: u32 = 10;

/// A kind of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 VPN, host routes.
    Vpnv4,
    /// IPv6 VPN, host routes.
    Vpnv6,
    /// EVPN type 5, IPv4 host routes (RFC 9136).
    EvpnPrefix,
    /// EVPN type 2, a MAC with an IPv4 address (RFC 7432).
    EvpnHost,
}

/// Routes of each network at each gateway.
pub type Groups = Vec<(Attributes, Vec<Route>)>;

/// The route target of a network.
pub fn target(network: u32) -> RouteTarget {
    RouteTarget::as2(ASN, 1000 + network)
}

/// The tunnel endpoint of a gateway.
pub fn gateway(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 2)) + number)
}

/// The address that the route with a number is for.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number)
}

/// Routes with these numbers, by what they share.
pub fn groups(kind: Kind, numbers: Range<u32>) -> Groups {
    let of = |group: u32| {
        let (network, at) = (group % NETWORKS, group / NETWORKS);
        let routes = numbers.clone().filter(|number| number % (NETWORKS * GATEWAYS) == group);
        let routes: Vec<Route> = routes.map(|number| route(kind, group, network, number)).collect();
        (attributes(kind, network, at), routes)
    };
    (0..NETWORKS * GATEWAYS).map(of).filter(|(_, routes)| !routes.is_empty()).collect()
}

fn attributes(kind: Kind, network: u32, at: u32) -> Attributes {
    let mut attributes = Attributes::new(IpAddr::V4(gateway(at)));
    attributes.extended = vec![target(network).into()];
    attributes.extended.extend(match kind {
        Kind::Vpnv4 | Kind::Vpnv6 => vec![ExtendedCommunity::encapsulation(Encapsulation::MPLS_UDP)],
        Kind::EvpnPrefix | Kind::EvpnHost => {
            let [_, _, high, low] = at.to_be_bytes();
            let mac = ExtendedCommunity::router_mac([2, 0, 0, 1, high, low]);
            vec![ExtendedCommunity::encapsulation(Encapsulation::VXLAN), mac]
        }
    });
    attributes
}

fn route(kind: Kind, group: u32, network: u32, number: u32) -> Route {
    let rd = RouteDistinguisher::as2(ASN, 1 + group);
    let host = Ipv4Net::from(address(number));
    let vni = Payload::labelled(Label::vni(5000 + network));
    let label = Payload::labelled(Label::mpls(1000 + network));
    let (nlri, payload) = match kind {
        Kind::Vpnv4 => (Nlri::Vpnv4(rd, host), label),
        Kind::Vpnv6 => {
            let prefix = 0x2001_0db8_ffff_0000_0000_0000_0000_0000 + u128::from(number);
            (Nlri::Vpnv6(rd, Ipv6Net::from(Ipv6Addr::from(prefix))), label)
        }
        Kind::EvpnPrefix => (Nlri::Evpn(Evpn::Prefix { rd, tag: 0, prefix: host.into() }), vni),
        Kind::EvpnHost => {
            let [_, a, b, c] = number.to_be_bytes();
            let ip = Some(IpAddr::V4(address(number)));
            (Nlri::Evpn(Evpn::MacIp { rd, tag: 0, mac: MacAddr([2, 0, 2, a, b, c]), ip }), vni)
        }
    };
    Route { nlri, payload }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_is_one_route_of_its_own() {
        for kind in [Kind::Vpnv4, Kind::Vpnv6, Kind::EvpnPrefix, Kind::EvpnHost] {
            let groups = groups(kind, 0..1234);
            assert_eq!(groups.len(), 100);
            let all: HashSet<Nlri> =
                groups.iter().flat_map(|(_, routes)| routes).map(|route| route.nlri.clone()).collect();
            assert_eq!(all.len(), 1234);
        }
    }
}
