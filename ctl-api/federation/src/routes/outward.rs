//! An export of a gateway as BGP routes.
//!
//! With a label it becomes a VPNv4 or VPNv6 route (RFC 4364, 4659), with a VNI
//! an EVPN route of type 5 (RFC 9136), with both both: peers take what they
//! speak. The next hop is the gateway's tunnel endpoint, never this speaker.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;
use tieline_bgp::wire::{
    Attributes, Encapsulation, Evpn, ExtendedCommunity, Label, Nlri, Payload, Route, RouteDistinguisher,
    RouteTarget,
};
use tieline_proto::v1;

use super::{check_prefix, groups};
use crate::numbers::Asn;

/// Why an export is not announced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{vrf} {prefix} is not announced: {reason}")]
pub struct NotAnnounced {
    /// Name of the VRF.
    pub vrf: String,
    /// The prefix.
    pub prefix: String,
    /// Why.
    pub reason: String,
}

/// The routes of an export. `network` is the number of the VRF's network, for
/// the origin VN community.
///
/// # Errors
/// Nothing of it can or may be announced.
pub fn routes(
    local: Asn,
    network: Option<u32>,
    export: &v1::Export,
) -> Result<Vec<(Attributes, Route)>, NotAnnounced> {
    let refused =
        |reason: String| NotAnnounced { vrf: export.vrf.clone(), prefix: export.prefix.clone(), reason };
    let prefix: IpNet = export.prefix.parse().map_err(|_| refused("it is not a prefix".to_owned()))?;
    check_prefix(prefix, false).map_err(|reason| refused(format!("it is {reason}")))?;
    let rd: RouteDistinguisher =
        export.rd.parse().map_err(|_| refused(format!("{:?} is not a route distinguisher", export.rd)))?;
    let targets: Result<Vec<RouteTarget>, _> = export.route_targets.iter().map(|text| text.parse()).collect();
    let targets = targets.map_err(|_| refused("one of its route targets cannot be read".to_owned()))?;
    if targets.is_empty() {
        return Err(refused("its VRF exports to no route target".to_owned()));
    }
    let endpoint =
        endpoint(export).ok_or_else(|| refused("its gateway has no tunnel endpoint yet".to_owned()))?;
    let mut common: Vec<ExtendedCommunity> = targets.iter().copied().map(Into::into).collect();
    common.extend(groups::communities(local, &export.security_groups));
    common.extend(network.map(|number| ExtendedCommunity::origin_network(local.into(), number)));

    let mut routes = Vec::with_capacity(2);
    if export.label != 0 {
        let nlri = match prefix {
            IpNet::V4(v4) => Nlri::Vpnv4(rd, v4),
            IpNet::V6(v6) => Nlri::Vpnv6(rd, v6),
        };
        let mut attributes = Attributes::new(endpoint);
        attributes.extended.clone_from(&common);
        for encapsulation in [Encapsulation::MPLS_UDP, Encapsulation::MPLS_GRE] {
            attributes.extended.push(ExtendedCommunity::encapsulation(encapsulation));
        }
        routes.push((attributes, Route { nlri, payload: Payload::labelled(Label::mpls(export.label)) }));
    }
    if export.vni != 0
        && let Some(mac) = mac(&export.router_mac)
    {
        let nlri = Nlri::Evpn(Evpn::Prefix { rd, tag: 0, prefix });
        let mut attributes = Attributes::new(endpoint);
        attributes.extended = common;
        attributes.extended.push(ExtendedCommunity::encapsulation(Encapsulation::VXLAN));
        attributes.extended.push(ExtendedCommunity::router_mac(mac));
        routes.push((attributes, Route { nlri, payload: Payload::labelled(Label::vni(export.vni)) }));
    }
    if routes.is_empty() {
        return Err(refused("it has neither a label nor a VNI with a router MAC".to_owned()));
    }
    Ok(routes)
}

/// IPv4 is taken before IPv6: every peer can have it as a next hop.
fn endpoint(export: &v1::Export) -> Option<IpAddr> {
    let all: Vec<IpAddr> = export.endpoints.iter().filter_map(|text| text.parse().ok()).collect();
    all.iter().find(|address| address.is_ipv4()).or(all.first()).copied()
}

/// Six bytes from `02:00:00:00:00:01`.
fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Origin;

    fn asn() -> Asn {
        Asn::try_from(64512).expect("an AS number")
    }

    fn export() -> v1::Export {
        v1::Export {
            vrf: "red".into(),
            prefix: "10.1.0.0/24".into(),
            rd: "64512:7".into(),
            route_targets: vec!["64512:8000001".into(), "64512:100".into()],
            label: 1001,
            vni: 5001,
            router_mac: "02:00:00:00:00:01".into(),
            security_groups: vec![100],
            endpoints: vec!["2001:db8::1".into(), "198.18.0.1".into()],
            ..Default::default()
        }
    }

    #[test]
    fn an_export_with_label_and_vni_becomes_two_routes() {
        let all = routes(asn(), Some(9), &export()).expect("good");
        let [(vpn, vpn_route), (evpn, evpn_route)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(vpn_route.nlri.to_string(), "64512:7:10.1.0.0/24");
        assert_eq!(vpn_route.payload.label.expect("one").as_mpls(), 1001);
        assert_eq!(evpn_route.nlri.to_string(), "[5]:[64512:7]:[0]:[10.1.0.0/24]");
        assert_eq!(evpn_route.payload.label.expect("one").as_vni(), 5001);
        for attributes in [vpn, evpn] {
            assert_eq!(attributes.next_hop.address(), IpAddr::from([198, 18, 0, 1]));
            let targets: Vec<String> = attributes.route_targets().map(|target| target.to_string()).collect();
            assert_eq!(targets, ["64512:8000001", "64512:100"]);
            assert_eq!(groups::visible(asn(), Origin::Ours, attributes), [100]);
            assert!(attributes.extended.contains(&ExtendedCommunity::origin_network(64512, 9)));
        }
        assert!(evpn.extended.contains(&ExtendedCommunity::router_mac([2, 0, 0, 0, 0, 1])));
        assert!(!vpn.extended.contains(&ExtendedCommunity::encapsulation(Encapsulation::VXLAN)));
    }

    #[test]
    fn what_cannot_be_announced_is_named() {
        for (export, reason) in [
            (v1::Export { prefix: "0.0.0.0/0".into(), ..export() }, "default"),
            (v1::Export { prefix: "fe80::/64".into(), ..export() }, "link-local"),
            (v1::Export { prefix: "red".into(), ..export() }, "not a prefix"),
            (v1::Export { rd: String::new(), ..export() }, "route distinguisher"),
            (v1::Export { route_targets: vec![], ..export() }, "no route target"),
            (v1::Export { endpoints: vec![], ..export() }, "tunnel endpoint"),
            (v1::Export { label: 0, vni: 0, ..export() }, "neither a label"),
            (v1::Export { label: 0, router_mac: String::new(), ..export() }, "neither a label"),
        ] {
            let error = routes(asn(), None, &export).expect_err(reason).to_string();
            assert!(error.contains(reason) && error.contains("red"), "{error}");
        }
    }
}
