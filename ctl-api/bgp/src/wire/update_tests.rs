//! Updates there and back, and what damage does to them.

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;

use super::attributes::{code, flag, ingress_replication};
use super::message::{EXTENDED_LIMIT, Framer, HEADER, Kind, LIMIT};
use super::testing::{any_attributes, route_of};
use super::update::*;
use super::*;

const CONTEXT: DecodeContext = DecodeContext { as4: true, internal: true, families: FamilySet::ALL };

fn bodies(bytes: &[u8], extended: bool) -> Vec<Vec<u8>> {
    let mut framer = Framer::default();
    framer.push(bytes);
    let mut all = Vec::new();
    while let Some((kind, body)) = framer.next(extended).unwrap() {
        assert_eq!(kind, Kind::Update);
        all.push(body.to_vec());
    }
    all
}

fn pairs(routes: &[Route]) -> impl Iterator<Item = (&Nlri, &Payload)> {
    routes.iter().map(|route| (&route.nlri, &route.payload))
}

fn family_and_routes() -> impl Strategy<Value = (Family, Vec<Route>)> {
    (0..Family::ALL.len()).prop_flat_map(|index| {
        let family = Family::ALL[index];
        (Just(family), prop::collection::vec(route_of(family), 1..400))
    })
}

/// Attributes as the other side sees them: the next hop in the family's form.
fn seen(family: Family, mut attributes: Attributes) -> Attributes {
    if let (NextHop::V4(v4), Family::Ipv6Unicast | Family::Vpnv6) = (attributes.next_hop, family) {
        attributes.next_hop = NextHop::V6(v4.to_ipv6_mapped(), None);
    }
    attributes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn routes_come_back_from_as_many_messages_as_they_need(
        (family, routes) in family_and_routes(), attributes in any_attributes(), extended in any::<bool>(),
    ) {
        let limit = if extended { EXTENDED_LIMIT } else { LIMIT };
        let mut bytes = Vec::new();
        encode(family, &attributes, pairs(&routes), &EncodeContext { as4: true, limit }, &mut bytes).unwrap();
        let mut back = Vec::new();
        for body in bodies(&bytes, extended) {
            prop_assert!(body.len() + HEADER <= limit);
            let update = decode(&body, &CONTEXT).unwrap();
            prop_assert_eq!(&update.faults, &[]);
            for announced in update.announced {
                prop_assert_eq!(&announced.attributes, &seen(family, attributes.clone()));
                back.extend(announced.routes);
            }
        }
        prop_assert_eq!(back, routes);
    }

    #[test]
    fn withdrawals_come_back((family, routes) in family_and_routes()) {
        let mut bytes = Vec::new();
        let keys = routes.iter().map(|route| &route.nlri);
        encode_withdrawals(family, keys, &EncodeContext { as4: true, limit: LIMIT }, &mut bytes);
        let back: Vec<Nlri> = bodies(&bytes, false)
            .iter()
            .flat_map(|body| decode(body, &CONTEXT).unwrap().withdrawn)
            .collect();
        prop_assert_eq!(back, routes.into_iter().map(|route| route.nlri).collect::<Vec<_>>());
    }

    /// A path of wide AS numbers survives a session with two-byte ones.
    #[test]
    fn narrow_sessions_lose_nothing(
        (family, routes) in family_and_routes(), asns in prop::collection::vec(1..=u32::MAX, 1..9), wide in any::<u32>(),
    ) {
        let attributes = Attributes {
            as_path: AsPath::sequence(asns),
            aggregator: Some((wide, [198, 18, 0, 9].into())),
            local_pref: Some(100),
            ..Attributes::new(std::net::IpAddr::from([198, 18, 0, 1]))
        };
        let mut bytes = Vec::new();
        encode(family, &attributes, pairs(&routes), &EncodeContext { as4: false, limit: LIMIT }, &mut bytes).unwrap();
        for body in bodies(&bytes, false) {
            let update = decode(&body, &DecodeContext { as4: false, ..CONTEXT }).unwrap();
            prop_assert_eq!(&update.announced[0].attributes, &seen(family, attributes.clone()));
        }
    }

    /// Any byte inside the attributes changed: the routes are announced or
    /// withdrawn, or their family is disabled, or the session ends; they are
    /// never just forgotten.
    #[test]
    fn damage_never_loses_the_routes_concerned(
        attributes in any_attributes(), routes in prop::collection::vec(route_of(Family::Vpnv4), 1..5),
        at in any::<prop::sample::Index>(), value in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        encode(Family::Vpnv4, &attributes, pairs(&routes), &EncodeContext { as4: true, limit: EXTENDED_LIMIT }, &mut bytes).unwrap();
        let mut body = bodies(&bytes, true).remove(0);
        // Past the multiprotocol attribute, which is the first one.
        let reach = 4 + if body[4] & flag::EXTENDED == 0 { 3 + usize::from(body[6]) } else { 4 + usize::from(u16::from_be_bytes([body[6], body[7]])) };
        let at = reach + at.index(body.len() - reach);
        body[at] = value;
        let Ok(update) = decode(&body, &CONTEXT) else { return Ok(()) };
        let mut named: Vec<Nlri> = update.treated_as_withdrawn;
        named.extend(update.announced.into_iter().flat_map(|group| group.routes).map(|route| route.nlri));
        for route in &routes {
            prop_assert!(named.contains(&route.nlri), "{:?} is lost; faults {:?}", route, update.faults);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        body in prop::collection::vec(any::<u8>(), 0..300), attributes in prop::collection::vec(any::<u8>(), 0..200), as4 in any::<bool>(), internal in any::<bool>(),
    ) {
        let context = DecodeContext { as4, internal, families: FamilySet::ALL };
        let _ = decode(&body, &context);
        let mut framed = vec![0, 0, 0, attributes.len() as u8];
        framed.extend_from_slice(&attributes);
        framed.extend_from_slice(&[24, 10, 0, 0]);
        let _ = decode(&framed, &context);
    }
}

/// An update with one IPv4 route and these attributes after ORIGIN and AS_PATH.
fn with_attributes(more: &[u8]) -> Vec<u8> {
    let mut list = vec![0x40, code::ORIGIN, 1, 0, 0x40, code::AS_PATH, 6, 2, 1, 0, 0, 0xfc, 0];
    list.extend_from_slice(more);
    let mut body = vec![0, 0, 0, list.len() as u8];
    body.extend_from_slice(&list);
    body.extend_from_slice(&[24, 10, 0, 0]);
    body
}

const HOP: [u8; 7] = [0x40, code::NEXT_HOP, 4, 198, 18, 0, 1];

fn external(body: &[u8]) -> Update {
    decode(body, &DecodeContext { internal: false, ..CONTEXT }).unwrap()
}

#[test]
fn each_error_has_the_decision_of_rfc_7606() {
    use FaultAction::{DiscardAttribute as Discard, TreatAsWithdraw as Withdraw};
    let good = external(&with_attributes(&HOP));
    assert_eq!((good.announced.len(), &good.faults[..]), (1, &[][..]));
    for (more, action) in [
        (&[0x80, code::MED, 3, 0, 0, 0][..], Withdraw),
        (&[0x40, code::MED, 4, 0, 0, 0, 1], Withdraw),
        (&[0xc0, code::COMMUNITIES, 3, 0, 0, 0], Withdraw),
        (&[0xc0, code::COMMUNITIES, 0], Withdraw),
        (&[0xc0, code::EXTENDED_COMMUNITIES, 4, 0, 0, 0, 0], Withdraw),
        (&[0xc0, code::LARGE_COMMUNITIES, 4, 0, 0, 0, 0], Withdraw),
        (&[0xc0, code::PMSI_TUNNEL, 1, 0], Withdraw),
        (&[0x40, 77, 1, 0], Withdraw),
        (&[0x40, code::LOCAL_PREF, 4, 0, 0, 0, 1], Discard),
        (&[0x80, code::ORIGINATOR_ID, 1, 0], Discard),
        (&[0x40, code::ATOMIC_AGGREGATE, 1, 0], Discard),
        (&[0xc0, code::AGGREGATOR, 6, 0, 0, 0, 0, 0, 0], Discard),
        (&[0xc0, code::AS4_PATH, 1, 0], Discard),
        (&[0x40, code::ORIGIN, 1, 2], Discard),
        (&[0xc0, code::COMMUNITIES, 40, 0], Withdraw),
    ] {
        let update = external(&with_attributes(&[&HOP[..], more].concat()));
        assert_eq!(update.faults.len(), 1, "{more:?} {:?}", update.faults);
        assert_eq!(update.faults[0].action, action, "{more:?}");
        let withdrawn = action == Withdraw;
        assert_eq!(
            (update.treated_as_withdrawn.len(), update.announced.len()),
            (withdrawn.into(), (!withdrawn).into())
        );
    }
    for (hop, reason) in
        [(&[][..], "missing"), (&[0x40, code::NEXT_HOP, 4, 224, 0, 0, 1], "no address of a host")]
    {
        let update = external(&with_attributes(hop));
        assert_eq!(update.treated_as_withdrawn.len(), 1);
        assert_eq!(update.withdraw_reason(), Some(update.faults[0].reason));
        assert!(update.faults[0].reason.contains(reason));
    }
}

#[test]
fn s3_nobody_outside_says_what_is_for_internal_sessions() {
    let claims = [
        &HOP[..],
        &[0x40, code::LOCAL_PREF, 4, 0xff, 0xff, 0xff, 0xff],
        &[0x80, code::ORIGINATOR_ID, 4, 198, 18, 0, 11],
        &[0x80, code::CLUSTER_LIST, 4, 198, 18, 0, 13],
    ];
    let body = with_attributes(&claims.concat());
    let of = |update: Update| {
        let attributes = update.announced.into_iter().next().unwrap().attributes;
        (attributes.local_pref, attributes.originator_id, attributes.cluster_list)
    };
    assert_eq!(of(external(&body)), (None, None, Vec::new()));
    let (id, reflector) = ([198, 18, 0, 11].into(), [198, 18, 0, 13].into());
    assert_eq!(of(decode(&body, &CONTEXT).unwrap()), (Some(u32::MAX), Some(id), vec![reflector]));
}

#[test]
fn as_zero_and_confederations_from_outside_are_withdrawn() {
    for (kind, asn, internal, withdrawn) in
        [(2, 0, true, 1), (3, 9, false, 1), (3, 9, true, 0), (2, 9, false, 0)]
    {
        let mut body = with_attributes(&[&HOP[..], &[0x40, code::LOCAL_PREF, 4, 0, 0, 0, 1]].concat());
        body[11] = kind;
        body[13..17].copy_from_slice(&u32::to_be_bytes(asn));
        let update = decode(&body, &DecodeContext { internal, ..CONTEXT }).unwrap();
        assert_eq!(
            update.treated_as_withdrawn.len(),
            withdrawn,
            "{kind} {asn} {internal} {:?}",
            update.faults
        );
    }
}

#[test]
fn only_what_cannot_be_framed_ends_the_session() {
    for body in
        [&[0, 9, 0, 0][..], &[0, 0, 0, 9, 1], &[0, 0, 0, 0, 33, 1, 2, 3, 4, 5], &[0, 2, 24, 1, 0, 0], &[0]]
    {
        assert_eq!(decode(body, &CONTEXT).unwrap_err().code, 3, "{body:?}");
    }
    let reach = [0x80, code::MP_REACH, 5, 0, 1, 128, 0, 0];
    let twice = [&[0, 0, 0, 16][..], &reach, &reach].concat();
    assert_eq!(decode(&twice, &CONTEXT).unwrap_err().subcode, 1);
}

#[test]
fn a_family_with_unreadable_routes_is_disabled_and_the_rest_goes_on() {
    let body = with_attributes(
        &[&HOP[..], &[0x80, code::MP_REACH, 11, 0, 1, 128, 0, 0, 80, 1, 2, 3, 4, 5]].concat(),
    );
    let update = decode(&body, &DecodeContext { internal: false, ..CONTEXT }).unwrap();
    assert_eq!((update.disable, update.announced.len()), (Some(Family::Vpnv4), 1));
    // Of a family that was not agreed on, nothing is read at all.
    let families = [Family::Ipv4Unicast].into_iter().collect();
    let update = decode(&body, &DecodeContext { internal: false, families, ..CONTEXT }).unwrap();
    assert_eq!((update.disable, update.announced.len()), (None, 1));
    assert_eq!(update.faults[0].action, FaultAction::IgnoreFamily);
}

#[test]
fn the_end_of_the_rib_is_seen_in_every_family() {
    for family in Family::ALL {
        let mut bytes = Vec::new();
        encode_end_of_rib(family, &mut bytes);
        let update = decode(&bodies(&bytes, false)[0], &CONTEXT).unwrap();
        assert_eq!(update, Update { end_of_rib: Some(family), ..Update::default() });
    }
}

#[test]
fn attributes_too_long_for_a_message_are_refused_and_nothing_is_written() {
    let mut attributes = Attributes::new(std::net::IpAddr::from([198, 18, 0, 1]));
    attributes.communities = vec![Community(1); 1000];
    let route = Route { nlri: Nlri::Ipv4("10.0.0.0/8".parse().unwrap()), payload: Payload::default() };
    let mut out = Vec::new();
    let short = EncodeContext { as4: true, limit: LIMIT };
    let result =
        encode(Family::Ipv4Unicast, &attributes, pairs(std::slice::from_ref(&route)), &short, &mut out);
    assert_eq!((result, out.len()), (Err(EncodeError::TooLong), 0));
    let long = EncodeContext { as4: true, limit: EXTENDED_LIMIT };
    encode(Family::Ipv4Unicast, &attributes, pairs(&[route]), &long, &mut out).unwrap();
    let update = decode(&bodies(&out, true)[0], &CONTEXT).unwrap();
    assert_eq!(update.withdraw_reason(), Some("LOCAL_PREF is missing"));
}

/// Another codec reads what this one writes, and reads as many routes.
#[test]
fn an_independent_reader_agrees() {
    let rd = RouteDistinguisher::as2(64512, 1);
    let evpn = |route, payload| Route { nlri: Nlri::Evpn(route), payload };
    let vni = Payload::labelled(Label::vni(5001));
    let mac = MacAddr([2, 0, 0, 0, 1, 10]);
    let ip = "10.1.0.10".parse().unwrap();
    let cases = [
        Route { nlri: Nlri::Ipv4("10.1.0.0/16".parse().unwrap()), payload: Payload::default() },
        Route { nlri: Nlri::Ipv6("2001:db8::/32".parse().unwrap()), payload: Payload::default() },
        Route {
            nlri: Nlri::Vpnv4(rd, "10.1.0.0/16".parse().unwrap()),
            payload: Payload::labelled(Label::mpls(1001)),
        },
        Route {
            nlri: Nlri::Vpnv6(rd, "2001:db8::/64".parse().unwrap()),
            payload: Payload::labelled(Label::mpls(1001)),
        },
        evpn(Evpn::MacIp { rd, tag: 0, mac, ip: Some(ip) }, vni),
        evpn(Evpn::MacIp { rd, tag: 0, mac, ip: None }, Payload { label2: Some(Label::vni(9)), ..vni }),
        evpn(Evpn::Multicast { rd, tag: 0, originator: ip }, Payload::default()),
        evpn(Evpn::Prefix { rd, tag: 0, prefix: "10.1.0.0/16".parse().unwrap() }, vni),
        Route {
            nlri: Nlri::RouteTarget(Membership::new(64512, RouteTarget::as2(64512, 1))),
            payload: Payload::default(),
        },
    ];
    let attributes = Attributes {
        as_path: AsPath::sequence([64512, 4_200_000_000]),
        local_pref: Some(100),
        communities: vec![Community(0xfc00_0001); 70],
        extended: vec![
            RouteTarget::as2(64512, 1).into(),
            ExtendedCommunity::encapsulation(Encapsulation::VXLAN),
        ],
        pmsi: Some(ingress_replication(Label::vni(5001), ip)),
        ..Attributes::new(std::net::IpAddr::from([198, 18, 0, 1]))
    };
    for route in cases {
        let family = route.nlri.family();
        let mut bytes = Vec::new();
        encode(
            family,
            &attributes,
            pairs(std::slice::from_ref(&route)),
            &EncodeContext { as4: true, limit: LIMIT },
            &mut bytes,
        )
        .unwrap();
        encode_withdrawals(family, [&route.nlri], &EncodeContext { as4: true, limit: LIMIT }, &mut bytes);
        encode_end_of_rib(family, &mut bytes);
        let mut reader = SliceReader::new(&bytes);
        let mut context = BgpParsingContext::default();
        context.set_asn4(true);
        for _ in 0..3 {
            let message = BgpMessage::parse(&mut reader, &mut context);
            assert!(matches!(message, Ok(BgpMessage::Update(_))), "{route:?}: {message:?}");
        }
        assert!(reader.is_empty());
    }
}
