//! A path from BGP as a route for gateways.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use tieline_bgp::wire::community::View;
use tieline_bgp::wire::nlri::is_host;
use tieline_bgp::wire::{Attributes, Encapsulation, Evpn, Nlri, Payload, RouteDistinguisher, RouteTarget};
use tieline_proto::v1;

use super::groups;
use crate::exchange::Origin;
use crate::numbers::Asn;

/// Labels below are special (RFC 7274).
const FIRST_LABEL: u32 = 16;
/// What others prefer, they prefer less than the cluster its own routes, which
/// have 100 where they say nothing (RFC 4271 section 9.1.1).
const MOST_PREFERENCE: u32 = 99;

/// The key of a route at a gateway: VPN and EVPN routes with the same are
/// alternatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Route distinguisher.
    pub rd: RouteDistinguisher,
    /// The prefix.
    pub prefix: IpNet,
}

/// Where packets go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tunnel {
    /// The other end.
    pub remote: IpAddr,
    /// How packets are wrapped, the first that the gateway can.
    pub encapsulations: Vec<i32>,
    /// The other router's MAC, for layer 3 over VXLAN.
    pub router_mac: Option<[u8; 6]>,
}

impl Tunnel {
    /// The name of its next hop at gateways: the same tunnel, the same name.
    pub fn name(&self) -> String {
        let mut name = format!("bgp-{}", self.remote.to_string().replace(':', "-"));
        for encapsulation in &self.encapsulations {
            name += match v1::Encapsulation::try_from(*encapsulation) {
                Ok(v1::Encapsulation::MplsUdp) => "-mu",
                Ok(v1::Encapsulation::MplsGre) => "-mg",
                Ok(v1::Encapsulation::Vxlan) => "-vx",
                _ => "-xx",
            };
        }
        if let Some(mac) = self.router_mac {
            name += &format!("-{}", mac.map(|byte| format!("{byte:02x}")).concat());
        }
        name
    }

    /// The next hop as gateways are told it.
    pub fn object(&self) -> v1::NextHop {
        let router_mac = self.router_mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
        let tunnel = v1::TunnelNextHop {
            remote: self.remote.to_string(),
            encapsulations: self.encapsulations.clone(),
            router_mac: router_mac.unwrap_or_default(),
            ..Default::default()
        };
        v1::NextHop { name: self.name(), target: Some(v1::next_hop::Target::Tunnel(tunnel)) }
    }
}

/// What a route leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// Another gateway.
    Tunnel(Tunnel),
    /// Another VRF of the same gateway, by name.
    Vrf(String),
}

impl NextHop {
    /// The other end of a tunnel.
    pub fn remote(&self) -> Option<IpAddr> {
        match self {
            Self::Tunnel(tunnel) => Some(tunnel.remote),
            Self::Vrf(_) => None,
        }
    }

    /// Its name at gateways.
    pub fn name(&self) -> String {
        match self {
            Self::Tunnel(tunnel) => tunnel.name(),
            Self::Vrf(name) => name.clone(),
        }
    }

    /// As gateways are told it.
    pub fn object(&self) -> v1::NextHop {
        match self {
            Self::Tunnel(tunnel) => tunnel.object(),
            Self::Vrf(name) => {
                v1::NextHop { name: name.clone(), target: Some(v1::next_hop::Target::Vrf(name.clone())) }
            }
        }
    }
}

/// What a route says, the prefix apart: many routes share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Route distinguisher.
    pub rd: RouteDistinguisher,
    /// Route targets.
    pub targets: BTreeSet<RouteTarget>,
    /// Security groups that may be seen here.
    pub groups: Vec<u32>,
    /// Where packets go.
    pub next_hop: NextHop,
    /// MPLS label; 0 is none.
    pub label: u32,
    /// VNI; 0 is none.
    pub vni: u32,
    /// Local preference.
    pub local_pref: Option<u32>,
    /// Multi-exit discriminator.
    pub med: u32,
    /// ASes on the way.
    pub as_path_length: u32,
    /// The cluster itself says so.
    pub is_ours: bool,
}

impl Shared {
    /// The same at the gateway that it leads to: its other VRFs look into the
    /// one with this name.
    pub fn within(&self, vrf: &str) -> Self {
        Self { next_hop: NextHop::Vrf(vrf.to_owned()), label: 0, vni: 0, ..self.clone() }
    }

    /// As gateways are told it, with the prefix to be filled in.
    pub fn message(&self) -> v1::Route {
        let encapsulations = match &self.next_hop {
            NextHop::Tunnel(tunnel) => tunnel.encapsulations.clone(),
            NextHop::Vrf(_) => Vec::new(),
        };
        v1::Route {
            rd: self.rd.to_string(),
            route_targets: self.targets.iter().map(ToString::to_string).collect(),
            security_groups: self.groups.clone(),
            next_hop: self.next_hop.name(),
            label: self.label,
            vni: self.vni,
            encapsulations,
            local_pref: self.local_pref,
            med: self.med,
            as_path_length: self.as_path_length,
            ..Default::default()
        }
    }
}

/// What a path is to gateways. `origin` is whose word it is.
///
/// # Errors
/// Why it is not for gateways: said to the operator, and not a fault of the
/// peer in every case.
pub fn route(
    local: Asn,
    origin: Origin,
    nlri: &Nlri,
    attributes: &Attributes,
    payload: &Payload,
) -> Result<(Key, Shared), &'static str> {
    let remote = attributes.next_hop.address();
    if !is_host(remote) {
        return Err("its next hop is no host");
    }
    let said: Vec<Encapsulation> = attributes
        .extended
        .iter()
        .filter_map(|community| match community.view() {
            View::Encapsulation(encapsulation) => Some(encapsulation),
            _ => None,
        })
        .collect();
    let with_label = |rd: RouteDistinguisher, prefix: IpNet| {
        let label = payload.label.ok_or("it has no label")?.as_mpls();
        if label < FIRST_LABEL {
            return Err("its label is reserved");
        }
        // RFC 9012 says nothing of it, but everybody who sends none means this.
        let encapsulations = if said.is_empty() {
            vec![v1::Encapsulation::MplsGre]
        } else {
            // Reflectors sort communities: their order says nothing (RFC 9012,
            // 4.1 leaves the choice to us). UDP ports spread flows over paths.
            let ours = [
                (Encapsulation::MPLS_UDP, v1::Encapsulation::MplsUdp),
                (Encapsulation::MPLS_GRE, v1::Encapsulation::MplsGre),
            ];
            ours.into_iter().filter(|(theirs, _)| said.contains(theirs)).map(|(_, here)| here).collect()
        };
        Ok((Key { rd, prefix }, label, 0, encapsulations, None))
    };
    let (key, label, vni, encapsulations, router_mac) = match nlri {
        Nlri::Vpnv4(rd, prefix) => with_label(*rd, IpNet::V4(*prefix))?,
        Nlri::Vpnv6(rd, prefix) => with_label(*rd, IpNet::V6(*prefix))?,
        Nlri::Evpn(Evpn::Prefix { rd, prefix, .. }) => {
            let vni = payload.label.ok_or("it has no VNI")?.as_vni();
            if vni == 0 {
                return Err("its VNI is 0");
            }
            if payload.gateway.is_some_and(|gateway| !gateway.is_unspecified()) {
                return Err("it is resolved by another route (a gateway address), which is not supported");
            }
            if !said.is_empty() && !said.contains(&Encapsulation::VXLAN) {
                return Err("its encapsulation is not VXLAN");
            }
            let mac = attributes.extended.iter().find_map(|community| match community.view() {
                View::RouterMac(mac) => Some(mac),
                _ => None,
            });
            let mac = mac.ok_or("it has no router MAC")?;
            (Key { rd: *rd, prefix: *prefix }, 0, vni, vec![v1::Encapsulation::Vxlan], Some(mac))
        }
        Nlri::Evpn(_) => return Err("it is of layer 2"),
        Nlri::Ipv4(_) | Nlri::Ipv6(_) | Nlri::RouteTarget(_) => return Err("it is of no VPN"),
    };
    if encapsulations.is_empty() {
        return Err("none of its encapsulations is known");
    }
    let targets: BTreeSet<RouteTarget> = attributes.route_targets().collect();
    if targets.is_empty() {
        return Err("it has no route target");
    }
    let encapsulations = encapsulations.into_iter().map(i32::from).collect();
    let shared = Shared {
        rd: key.rd,
        targets,
        groups: groups::visible(local, origin, attributes),
        is_ours: origin == Origin::Ours,
        next_hop: NextHop::Tunnel(Tunnel { remote, encapsulations, router_mac }),
        label,
        vni,
        local_pref: match origin {
            Origin::Ours => attributes.local_pref,
            Origin::Foreign(_) => attributes.local_pref.map(|preference| preference.min(MOST_PREFERENCE)),
        },
        med: attributes.med.unwrap_or(0),
        as_path_length: u32::try_from(attributes.as_path.hops()).unwrap_or(u32::MAX),
    };
    Ok((key, shared))
}

#[cfg(test)]
mod tests {
    use tieline_bgp::wire::{ExtendedCommunity, Label};

    use super::*;
    use crate::exchange::Foreign;
    use crate::routes::outward;

    const FOREIGN: Origin = Origin::Foreign(Foreign::External);

    fn asn(number: u32) -> Asn {
        Asn::try_from(number).expect("an AS number")
    }

    fn export() -> v1::Export {
        v1::Export {
            vrf: "red".into(),
            prefix: "10.1.0.0/24".into(),
            rd: "64512:7".into(),
            route_targets: vec!["64512:100".into()],
            label: 1001,
            vni: 5001,
            router_mac: "02:00:00:00:00:01".into(),
            security_groups: vec![100, 8_000_001],
            endpoints: vec!["198.18.0.1".into()],
            ..Default::default()
        }
    }

    #[test]
    fn what_one_cluster_exports_another_can_use() {
        let all = outward::routes(asn(64512), None, &export()).expect("good");
        let (attributes, announced) = &all[0];
        let (key, shared) =
            route(asn(64513), FOREIGN, &announced.nlri, attributes, &announced.payload).expect("usable");
        assert_eq!(key.prefix.to_string(), "10.1.0.0/24");
        assert_eq!((shared.label, shared.vni), (1001, 0));
        assert_eq!(shared.groups, [100], "the system group is of the other cluster");
        assert_eq!(shared.next_hop.name(), "bgp-198.18.0.1-mu-mg");
        let mut sorted = attributes.clone();
        sorted.extended.reverse();
        let (_, shared) =
            route(asn(64513), FOREIGN, &announced.nlri, &sorted, &announced.payload).expect("usable");
        assert_eq!(shared.next_hop.name(), "bgp-198.18.0.1-mu-mg", "whatever the order of communities");
        let (attributes, announced) = &all[1];
        let (same, shared) =
            route(asn(64513), FOREIGN, &announced.nlri, attributes, &announced.payload).expect("usable");
        assert_eq!(same, key);
        assert_eq!((shared.label, shared.vni), (0, 5001));
        let next_hop = shared.next_hop.object();
        assert_eq!(next_hop.name, "bgp-198.18.0.1-vx-020000000001");
        assert_eq!(shared.message().next_hop, next_hop.name);
    }

    #[test]
    fn s3_a_stranger_is_preferred_to_none_of_the_clusters_own() {
        let all = outward::routes(asn(64512), None, &export()).expect("good");
        let (attributes, announced) = &all[0];
        let preferred = |origin, local_pref| {
            let attributes = Attributes { local_pref, ..attributes.clone() };
            let (_, shared) =
                route(asn(64512), origin, &announced.nlri, &attributes, &announced.payload).expect("usable");
            shared.local_pref
        };
        assert_eq!(preferred(Origin::Ours, Some(200)), Some(200));
        for (said, taken) in
            [(None, None), (Some(50), Some(50)), (Some(100), Some(99)), (Some(u32::MAX), Some(99))]
        {
            assert_eq!(preferred(Origin::Foreign(Foreign::Undeclared), said), taken, "{said:?}");
        }
    }

    #[test]
    fn what_gateways_cannot_use_is_named() {
        let all = outward::routes(asn(64512), None, &export()).expect("good");
        let (vpn, vpn_route) = &all[0];
        let (evpn, evpn_route) = &all[1];
        let told = |attributes: &Attributes, nlri: &Nlri, payload: &Payload| {
            route(asn(64513), FOREIGN, nlri, attributes, payload).expect_err("unusable")
        };
        let reserved = Payload::labelled(Label::mpls(3));
        assert_eq!(told(vpn, &vpn_route.nlri, &reserved), "its label is reserved");
        assert_eq!(told(vpn, &vpn_route.nlri, &Payload::default()), "it has no label");
        let mut odd = vpn.clone();
        odd.next_hop = IpAddr::from([127, 0, 0, 1]).into();
        assert_eq!(told(&odd, &vpn_route.nlri, &vpn_route.payload), "its next hop is no host");
        let mut odd = vpn.clone();
        odd.extended.clear();
        assert_eq!(told(&odd, &vpn_route.nlri, &vpn_route.payload), "it has no route target");
        let mut odd = vpn.clone();
        odd.extended.retain(|community| !matches!(community.view(), View::Encapsulation(_)));
        let (_, shared) =
            route(asn(64513), FOREIGN, &vpn_route.nlri, &odd, &vpn_route.payload).expect("usable");
        assert_eq!(shared.next_hop.name(), "bgp-198.18.0.1-mg", "no encapsulation means MPLS in GRE");
        odd.extended.push(ExtendedCommunity::encapsulation(Encapsulation::GENEVE));
        assert_eq!(told(&odd, &vpn_route.nlri, &vpn_route.payload), "none of its encapsulations is known");
        let vni = Payload::labelled(Label::vni(0));
        assert_eq!(told(evpn, &evpn_route.nlri, &vni), "its VNI is 0");
        let mut odd = evpn.clone();
        odd.extended.retain(|community| !matches!(community.view(), View::RouterMac(_)));
        assert_eq!(told(&odd, &evpn_route.nlri, &evpn_route.payload), "it has no router MAC");
    }
}
