//! Values for property tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::as_path::{Segment, SegmentKind};
use super::attributes::{RawAttribute, flag};
use super::*;

fn rd() -> impl Strategy<Value = RouteDistinguisher> {
    any::<[u8; 8]>().prop_map(RouteDistinguisher::from_bytes)
}

fn label() -> impl Strategy<Value = Label> {
    any::<[u8; 3]>().prop_map(Label)
}

fn v4() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| Ipv4Net::new(bits.into(), length).unwrap().trunc())
}

fn v6() -> impl Strategy<Value = Ipv6Net> {
    (any::<u128>(), 0..=128_u8).prop_map(|(bits, length)| Ipv6Net::new(bits.into(), length).unwrap().trunc())
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

fn evpn() -> impl Strategy<Value = Route> {
    let esi = || any::<[u8; 10]>().prop_map(Esi);
    let mac = any::<[u8; 6]>().prop_map(MacAddr);
    let route = |evpn, payload| Route { nlri: Nlri::Evpn(evpn), payload };
    prop_oneof![
        (rd(), esi(), any::<u32>(), label()).prop_map(move |(rd, esi, tag, label)| route(
            Evpn::AutoDiscovery { rd, esi, tag },
            Payload::labelled(label)
        )),
        (rd(), esi(), any::<u32>(), mac, prop::option::of(ip()), label(), prop::option::of(label()))
            .prop_map(move |(rd, esi, tag, mac, ip, label, label2)| {
                route(
                    Evpn::MacIp { rd, tag, mac, ip },
                    Payload { label: Some(label), label2, esi, gateway: None },
                )
            }),
        (rd(), any::<u32>(), ip()).prop_map(move |(rd, tag, originator)| route(
            Evpn::Multicast { rd, tag, originator },
            Payload::default()
        )),
        (rd(), esi(), ip()).prop_map(move |(rd, esi, originator)| route(
            Evpn::Segment { rd, esi, originator },
            Payload::default()
        )),
        (rd(), esi(), any::<u32>(), v4(), prop::option::of(1..u32::MAX), label()).prop_map(
            move |(rd, esi, tag, net, gateway, label)| {
                let gateway = gateway.map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
                let payload = Payload { label: Some(label), label2: None, esi, gateway };
                route(Evpn::Prefix { rd, tag, prefix: IpNet::V4(net) }, payload)
            }
        ),
        (rd(), esi(), any::<u32>(), v6(), prop::option::of(1..u128::MAX), label()).prop_map(
            move |(rd, esi, tag, net, gateway, label)| {
                let gateway = gateway.map(|bits| IpAddr::V6(Ipv6Addr::from(bits)));
                let payload = Payload { label: Some(label), label2: None, esi, gateway };
                route(Evpn::Prefix { rd, tag, prefix: IpNet::V6(net) }, payload)
            }
        ),
        (6..=255_u8, prop::collection::vec(any::<u8>(), 0..255))
            .prop_map(move |(kind, body)| route(Evpn::Other { kind, body: body.into() }, Payload::default())),
    ]
}

/// A route of a family.
pub(crate) fn route_of(family: Family) -> BoxedStrategy<Route> {
    let plain = |nlri| Route { nlri, payload: Payload::default() };
    match family {
        Family::Ipv4Unicast => v4().prop_map(move |net| plain(Nlri::Ipv4(net))).boxed(),
        Family::Ipv6Unicast => v6().prop_map(move |net| plain(Nlri::Ipv6(net))).boxed(),
        Family::Vpnv4 => (rd(), v4(), label())
            .prop_map(|(rd, net, label)| Route {
                nlri: Nlri::Vpnv4(rd, net),
                payload: Payload::labelled(label),
            })
            .boxed(),
        Family::Vpnv6 => (rd(), v6(), label())
            .prop_map(|(rd, net, label)| Route {
                nlri: Nlri::Vpnv6(rd, net),
                payload: Payload::labelled(label),
            })
            .boxed(),
        Family::RouteTarget => (prop_oneof![Just(0), 32..=96_u8], any::<[u8; 12]>())
            .prop_map(move |(length, bytes)| {
                plain(Nlri::RouteTarget(Membership::from_wire(length, &bytes).unwrap()))
            })
            .boxed(),
        Family::Evpn => evpn().boxed(),
    }
}

/// A route of any family.
pub(crate) fn any_route() -> impl Strategy<Value = Route> {
    (0..Family::ALL.len()).prop_flat_map(|index| route_of(Family::ALL[index]))
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let segment = (any::<bool>(), prop::collection::vec(1..=u32::MAX, 1..5)).prop_map(|(set, asns)| {
        Segment { kind: if set { SegmentKind::Set } else { SegmentKind::Sequence }, asns }
    });
    prop::collection::vec(segment, 0..4).prop_map(AsPath)
}

/// Attributes that a peer may send, with a next hop that fits every family.
pub(crate) fn any_attributes() -> impl Strategy<Value = Attributes> {
    let lists = (
        prop::collection::vec(any::<u32>().prop_map(Community), 0..80),
        prop::collection::vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..40),
        prop::collection::vec(any::<[u32; 3]>(), 0..30),
        prop::collection::vec(any::<u32>().prop_map(Ipv4Addr::from), 0..4),
    );
    let single = (
        0..3_u8,
        prop::option::of(any::<u32>()),
        any::<u32>(),
        any::<bool>(),
        prop::option::of((any::<u32>(), any::<u32>())),
        prop::option::of(any::<u32>()),
        prop::option::of(prop::collection::vec(any::<u8>(), 5..20)),
        prop::option::of((33..=255_u8, prop::collection::vec(any::<u8>(), 0..300))),
    );
    (as_path(), lists, single).prop_map(|(as_path, lists, single)| {
        let (communities, extended, large, cluster_list) = lists;
        let (origin, med, preference, atomic_aggregate, aggregator, originator, pmsi, unknown) = single;
        Attributes {
            origin: [Origin::Igp, Origin::Egp, Origin::Incomplete][usize::from(origin)],
            as_path,
            med,
            local_pref: Some(preference),
            atomic_aggregate,
            aggregator: aggregator.map(|(asn, id)| (asn, id.into())),
            originator_id: originator.map(Ipv4Addr::from),
            cluster_list,
            communities,
            extended,
            large,
            pmsi: pmsi.map(Vec::into_boxed_slice),
            unknown: unknown
                .map(|(code, value)| RawAttribute {
                    flags: flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL,
                    code,
                    value: value.into(),
                })
                .into_iter()
                .collect(),
            ..Attributes::new(IpAddr::from([198, 18, 0, 1]))
        }
    })
}
