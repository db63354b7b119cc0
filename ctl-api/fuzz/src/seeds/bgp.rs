//! BGP messages, all valid.

use std::net::IpAddr;

use tieline_bgp::wire::attributes::ingress_replication;
use tieline_bgp::wire::message::{HEADER, LIMIT};
use tieline_bgp::wire::update::{EncodeContext, encode, encode_end_of_rib, encode_withdrawals};
use tieline_bgp::wire::{
    AsPath, Attributes, Community, Encapsulation, Evpn, ExtendedCommunity, Label, MacAddr, Membership, Nlri,
    Payload, Route, RouteDistinguisher, RouteTarget,
};

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (number, route) in routes().into_iter().enumerate() {
        let family = route.nlri.family();
        let context = EncodeContext { as4: true, limit: LIMIT };
        let mut announce = Vec::new();
        let pair = [(&route.nlri, &route.payload)];
        assert_eq!(encode(family, &attributes(), pair, &context, &mut announce), Ok(()));
        let mut withdraw = Vec::new();
        encode_withdrawals(family, [&route.nlri], &context, &mut withdraw);
        let mut end = Vec::new();
        encode_end_of_rib(family, &mut end);
        let bodies = [&announce[HEADER..], &withdraw[HEADER..], &end[HEADER..]];
        for (part, body) in bodies.into_iter().enumerate() {
            let name = format!("{family}-{number}-{part}");
            // 4-byte AS numbers; an internal session.
            seeds.push(Seed { target: "bgp_update", name, bytes: [&[3][..], body].concat() });
        }
        let messages: Vec<u8> = bodies
            .into_iter()
            .flat_map(|body| {
                let [high, low] = u16::try_from(body.len()).unwrap_or(0).to_be_bytes();
                // The second kind is UPDATE.
                [&[1, high, low][..], body].concat()
            })
            .collect();
        seeds.push(Seed { target: "bgp_session", name: format!("{family}-{number}"), bytes: messages });
    }
    seeds
}

fn attributes() -> Attributes {
    let address = IpAddr::from([198, 18, 0, 9]);
    Attributes {
        // The peer of the session target.
        as_path: AsPath::sequence([64514, 4_200_000_000]),
        local_pref: Some(100),
        med: Some(7),
        communities: vec![Community::NO_LLGR],
        extended: vec![
            RouteTarget::as2(64512, 1).into(),
            ExtendedCommunity::encapsulation(Encapsulation::VXLAN),
            ExtendedCommunity::mac_mobility(false, 3),
        ],
        large: vec![[1, 2, 3]],
        pmsi: Some(ingress_replication(Label::vni(5001), address)),
        ..Attributes::new(address)
    }
}

fn routes() -> Vec<Route> {
    let rd = RouteDistinguisher::as2(64512, 1);
    let mac = MacAddr([2, 0, 0, 0, 1, 10]);
    let v4 = ipnet::Ipv4Net::new_assert([10, 1, 0, 0].into(), 16);
    let v6 = ipnet::Ipv6Net::new_assert([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0].into(), 32);
    let ip = IpAddr::from([10, 1, 0, 10]);
    let none = Payload::default();
    let label = Payload::labelled(Label::mpls(1001));
    let both = Payload { label2: Some(Label::vni(7)), ..label };
    let target = Membership::new(64514, RouteTarget::as2(64512, 1));
    let routes = [
        (Nlri::Ipv4(v4), none),
        (Nlri::Ipv6(v6), none),
        (Nlri::Vpnv4(rd, v4), label),
        (Nlri::Vpnv6(rd, v6), label),
        (Nlri::RouteTarget(target), none),
        (Nlri::RouteTarget(Membership::DEFAULT), none),
        (Nlri::Evpn(Evpn::MacIp { rd, tag: 0, mac, ip: Some(ip) }), both),
        (Nlri::Evpn(Evpn::MacIp { rd, tag: 0, mac, ip: None }), label),
        (Nlri::Evpn(Evpn::Multicast { rd, tag: 0, originator: ip }), none),
        (Nlri::Evpn(Evpn::Prefix { rd, tag: 0, prefix: v4.into() }), label),
        (Nlri::Evpn(Evpn::Other { kind: 9, body: Box::new([1, 2, 3]) }), none),
    ];

    routes.into_iter().map(|(nlri, payload)| Route { nlri, payload }).collect()
}
