//! What is taken, what is sent, and what is said about the rest.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::network::*;
use crate::rib::policy::{Candidate, Policy, Verdict};
use crate::rib::{Objection, Path, PeerId};
use crate::session::{ConnectionId, Input, SessionConfig, State};
use crate::speaker::{Event, PeerConfig, PrefixLimit, Speaker, SpeakerConfig};
use crate::wire::message::encode_keepalive;
use crate::wire::open::{Capabilities, Open};
use crate::wire::update::{EncodeContext, encode};
use crate::wire::{
    AsPath, Attributes, Community, ExtendedCommunity, Family, FamilySet, Nlri, Payload, Route,
};

fn plain(_: usize, config: &mut PeerConfig) {
    config.session.families.remove(Family::RouteTarget);
}

fn refusals(network: &Network<impl Policy>, at: usize) -> BTreeSet<&'static str> {
    let reasons = network.events[at].iter().filter_map(|event| match event {
        Event::Refused { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn c15_a_loop_a_foreign_path_and_the_own_address_are_refused_by_name() {
    let mut network = Network::with(2, |index| {
        let own_addresses = vec![IpAddr::from([198, 19, 9, 9])];
        Speaker::new(
            SpeakerConfig { own_addresses, ..config(index) },
            crate::rib::policy::AcceptAll,
            Duration::ZERO,
        )
    });
    network.link(0, 1, plain);
    let mut own = attributes(0, &[]);
    own.next_hop = IpAddr::from([198, 19, 9, 9]).into();
    network.speakers[0].announce(own, [vpn(0, 1)]);
    network.speakers[0].announce(attributes(0, &[]), [vpn(0, 2)]);
    network.run_secs(30);
    assert_eq!(refusals(&network, 1), BTreeSet::from(["the next hop is this speaker"]));
    assert!(network.speakers[1].rib().best(&vpn(0, 2).nlri).is_some());
    assert!(network.speakers[1].rib().best(&vpn(0, 1).nlri).is_none());
}

/// A standing session of a speaker with a peer that the test plays.
fn played() -> (Speaker, PeerId, ConnectionId) {
    let mut speaker = Speaker::new(config(0), crate::rib::policy::AcceptAll, Duration::ZERO);
    let session = SessionConfig { passive: true, ..SessionConfig::new(address(1), asn(1)) };
    let peer = speaker.add_peer(Duration::ZERO, PeerConfig::new(session)).unwrap();
    let connection = ConnectionId(1);
    speaker.handle(Duration::ZERO, peer, Input::Opened { connection, outgoing: false });
    let capabilities =
        Capabilities { families: Some(FamilySet::ALL), as4: Some(asn(1)), ..Capabilities::default() };
    let mut bytes = Vec::new();
    Open { asn: asn(1), hold_time: 0, router_id: [198, 18, 9, 9].into(), capabilities }.encode(&mut bytes);
    encode_keepalive(&mut bytes);
    speaker.handle(Duration::ZERO, peer, Input::Bytes { connection, bytes: &bytes });
    assert_eq!(speaker.state(peer), Some(State::Established));
    (speaker, peer, connection)
}

#[test]
fn a_damaged_update_takes_its_routes_back_and_names_them() {
    let (mut speaker, peer, connection) = played();
    let route = vpn(1, 1);
    let mut sent = attributes(1, &[target(1)]);
    sent.as_path = AsPath::sequence([asn(1)]);
    let mut bytes = Vec::new();
    let context = EncodeContext { as4: true, limit: 4096 };
    encode(Family::Vpnv4, &sent, [(&route.nlri, &route.payload)], &context, &mut bytes).unwrap();
    speaker.handle(Duration::ZERO, peer, Input::Bytes { connection, bytes: &bytes });
    assert!(speaker.rib().best(&route.nlri).is_some());
    while speaker.poll_event().is_some() {}
    // ORIGIN is the first attribute after the routes.
    let origin = bytes.windows(4).position(|window| window == [0x40, 1, 1, 0]).unwrap();
    bytes[origin + 3] = 9;
    speaker.handle(Duration::ZERO, peer, Input::Bytes { connection, bytes: &bytes });
    assert!(speaker.rib().best(&route.nlri).is_none());
    assert_eq!(speaker.state(peer), Some(State::Established));
    let named = std::iter::from_fn(|| speaker.poll_event()).any(|event| {
        matches!(event, Event::Refused { nlri, reason, .. } if nlri == route.nlri && reason.contains("ORIGIN"))
    });
    assert!(named);
}

#[test]
fn a_family_that_cannot_be_read_is_given_up_and_the_others_go_on() {
    let (mut speaker, peer, connection) = played();
    let unicast = Route { nlri: Nlri::Ipv4("10.9.0.0/16".parse().unwrap()), payload: Payload::default() };
    let mut sent = attributes(1, &[target(1)]);
    sent.as_path = AsPath::sequence([asn(1)]);
    let context = EncodeContext { as4: true, limit: 4096 };
    let mut bytes = Vec::new();
    for route in [&vpn(1, 1), &unicast] {
        encode(route.nlri.family(), &sent, [(&route.nlri, &route.payload)], &context, &mut bytes).unwrap();
    }
    speaker.handle(Duration::ZERO, peer, Input::Bytes { connection, bytes: &bytes });
    let held = |speaker: &Speaker, family| speaker.rib().routes(family).count();
    assert_eq!(held(&speaker, Family::Vpnv4), 1);
    // The next hop of the first update says that it is longer.
    bytes[19 + 4 + 3 + 3] = 200;
    speaker.handle(Duration::ZERO, peer, Input::Bytes { connection, bytes: &bytes });
    assert_eq!((held(&speaker, Family::Vpnv4), held(&speaker, Family::Ipv4Unicast)), (0, 1));
    assert_eq!(speaker.state(peer), Some(State::Established));
}

#[test]
fn after_a_change_of_policy_the_routes_go_out_anew() {
    let mut network = Network::with(2, |index| Speaker::new(config(index), Even, Duration::ZERO));
    network.link(0, 1, plain);
    network.speakers[0].announce(attributes(0, &[]), (0..10).map(|number| vpn(0, number)));
    network.run_secs(10);
    let id = network.peer(0, 1);
    let before = network.speakers[0].status(id).unwrap().announced;
    network.speakers[0].export_again(id);
    network.run_secs(1);
    assert_eq!(network.speakers[0].status(id).unwrap().announced, before + 10);
}

#[test]
fn too_many_routes_warn_first_and_end_the_session_for_the_time_given() {
    let mut network = Network::new(2);
    network.link(0, 1, |index, config| {
        plain(index, config);
        if index == 1 {
            let limit = PrefixLimit { limit: 10, warn: 8, again: Some(Duration::from_secs(100)) };
            config.prefix_limits[Family::Vpnv4.index()] = Some(limit);
        }
    });
    network.speakers[0].announce(attributes(0, &[]), (0..9).map(|number| vpn(0, number)));
    network.run_secs(10);
    let limits = |network: &Network| {
        let counts = network.events[1].iter().filter_map(|event| match event {
            Event::PrefixLimit { count, .. } => Some(*count),
            _ => None,
        });
        counts.collect::<Vec<_>>()
    };
    assert_eq!(limits(&network), [8]);
    network.speakers[0].announce(attributes(0, &[]), (9..12).map(|number| vpn(0, number)));
    network.run_secs(1);
    assert_eq!(limits(&network), [8, 11]);
    assert_eq!(network.speakers[1].rib().len(Family::Vpnv4), 0);
    network.run_secs(60);
    assert_ne!(network.state(1, 0), State::Established);
    let ups = network.events[1].iter().filter(|event| matches!(event, Event::Up { .. })).count();
    assert_eq!(ups, 1, "the peer's own tries are refused");
    network.speakers[0].withdraw(&[vpn(0, 9).nlri, vpn(0, 10).nlri, vpn(0, 11).nlri]);
    network.run_secs(300);
    assert_eq!(network.state(1, 0), State::Established);
    assert_eq!(network.speakers[1].rib().len(Family::Vpnv4), 9);
}

#[test]
fn attributes_beyond_the_limit_are_refused_by_name() {
    let mut network = Network::new(2);
    network.link(0, 1, |index, config| {
        plain(index, config);
        config.attribute_limit = 1000;
    });
    let mut long = attributes(0, &[]);
    long.communities = (0..300).map(Community).collect();
    network.speakers[0].announce(long, [vpn(0, 1)]);
    network.speakers[0].announce(attributes(0, &[]), [vpn(0, 2)]);
    network.run_secs(10);
    assert_eq!(refusals(&network, 1), BTreeSet::from(["the attributes are longer than the limit"]));
    assert_eq!(network.speakers[1].rib().len(Family::Vpnv4), 1);
}

#[test]
fn routes_with_large_attributes_go_out_in_pieces_and_all_arrive() {
    let mut network = Network::new(2);
    network.link(0, 1, plain);
    for number in 0..400 {
        let mut large = attributes(0, &[]);
        large.communities = (0..1500).map(|low| Community(number << 16 | low)).collect();
        network.speakers[0].announce(large, [vpn(0, number)]);
    }
    network.run_secs(30);
    assert_eq!(network.speakers[1].rib().len(Family::Vpnv4), 400);
}

#[test]
fn route_target_constraint_sends_what_is_wanted_and_follows_changes() {
    let mut network = Network::new(3);
    for (one, other) in [(0, 1), (1, 2)] {
        network.link(one, other, |_, _| {});
    }
    for number in 0..20 {
        network.speakers[0].announce(attributes(0, &[target(number)]), [vpn(0, number)]);
    }
    let hop = |index| IpAddr::from([198, 19, 0, index]);
    network.speakers[2].want([target(3), target(4)].into(), hop(3));
    network.run_secs(90);
    let known = |network: &Network, at: usize| network.speakers[at].rib().len(Family::Vpnv4);
    assert_eq!(
        (known(&network, 1), known(&network, 2)),
        (2, 2),
        "what nobody wants is not even sent to the middle"
    );
    network.speakers[1].want([target(9)].into(), hop(2));
    network.speakers[2].want([target(4), target(5)].into(), hop(3));
    let id = network.peer(0, 1);
    let before = network.speakers[0].status(id).unwrap().announced;
    network.run_secs(5);
    assert_eq!((known(&network, 1), known(&network, 2)), (3, 2));
    assert!(network.speakers[2].rib().best(&vpn(0, 5).nlri).is_some());
    assert!(network.speakers[2].rib().best(&vpn(0, 3).nlri).is_none());
    let sent = network.speakers[0].status(id).unwrap().announced - before;
    assert!(sent <= 4, "{sent} routes sent for two new ones and the memberships");
}

#[test]
fn a_default_membership_is_every_route() {
    let mut network = Network::new(2);
    network.link(0, 1, |_, _| {});
    network.speakers[0].announce(attributes(0, &[target(1)]), [vpn(0, 1)]);
    network.speakers[0].announce(attributes(0, &[]), [vpn(0, 2)]);
    let everything =
        Route { nlri: Nlri::RouteTarget(crate::wire::Membership::DEFAULT), payload: Payload::default() };
    network.speakers[1].announce(attributes(1, &[]), [everything]);
    network.run_secs(30);
    assert_eq!(network.speakers[1].rib().len(Family::Vpnv4), 2);
}

fn internal_config(index: usize) -> SpeakerConfig {
    SpeakerConfig { asn: 64512, ..config(index) }
}

fn internal(network: &mut Network, one: usize, other: usize, clients: &[usize]) {
    network.link(one, other, |mine, config| {
        plain(mine, config);
        config.session.asn = 64512;
        let theirs = if mine == one { other } else { one };
        config.reflector_client = mine == 0 && clients.contains(&theirs);
    });
}

#[test]
fn internal_routes_are_not_passed_on_unless_a_reflector_does() {
    for (clients, there) in [(&[][..], false), (&[1, 2][..], true), (&[2][..], true)] {
        let mut network = Network::with(3, |index| {
            Speaker::new(internal_config(index), crate::rib::policy::AcceptAll, Duration::ZERO)
        });
        internal(&mut network, 0, 1, clients);
        internal(&mut network, 0, 2, clients);
        network.speakers[1].announce(attributes(1, &[target(1)]), [vpn(1, 1)]);
        network.run_secs(60);
        let path = network.speakers[2].rib().best(&vpn(1, 1).nlri);
        assert_eq!(path.is_some(), there, "{clients:?}");
        if let Some(path) = path {
            assert_eq!(path.attributes.originator_id, Some(internal_config(1).router_id));
            assert_eq!(path.attributes.cluster_list, [internal_config(0).router_id]);
            assert_eq!(path.attributes.local_pref, Some(100));
        }
    }
}

#[test]
fn what_must_not_leave_the_as_stays_and_the_rest_is_relayed_as_it_came() {
    let mut network = Network::new(3);
    network.link(0, 1, plain);
    network.link(1, 2, plain);
    let odd = [
        ExtendedCommunity([0x00, 0x09, 0xfc, 0x00, 0, 0, 0, 7]),
        ExtendedCommunity([0x06, 0x05, 0, 1, 0, 0, 0x11, 0x22]),
        ExtendedCommunity([0x03, 0x0d, 1, 2, 3, 4, 5, 6]),
    ];
    let mut relayed = attributes(0, &[target(1)]);
    relayed.extended.extend(odd);
    relayed.extended.push(ExtendedCommunity([0x43, 0, 0, 0, 0, 0, 0, 0]));
    relayed.med = Some(7);
    network.speakers[0].announce(relayed.clone(), [vpn(0, 1)]);
    let mut kept = attributes(0, &[]);
    kept.communities.push(Community::NO_EXPORT);
    network.speakers[0].announce(kept, [vpn(0, 2)]);
    network.run_secs(60);
    let far = network.speakers[2].rib().best(&vpn(0, 1).nlri).unwrap();
    assert_eq!(far.attributes.extended, relayed.extended[..4]);
    assert_eq!((far.attributes.med, far.attributes.local_pref), (None, None));
    let near = network.speakers[1].rib().best(&vpn(0, 1).nlri).unwrap();
    assert_eq!(near.attributes.med, Some(7));
    assert!(network.speakers[1].rib().best(&vpn(0, 2).nlri).is_none());
}

#[test]
fn unicast_next_hops_are_set_where_asked_and_labelled_ones_never() {
    let mut network = Network::new(2);
    let myself = IpAddr::from([198, 18, 7, 7]);
    network.link(0, 1, |index, config| {
        plain(index, config);
        config.unicast_next_hop = Some(myself);
    });
    let unicast = Route { nlri: Nlri::Ipv4("10.9.0.0/16".parse().unwrap()), payload: Payload::default() };
    network.speakers[0].announce(attributes(0, &[]), [unicast.clone(), vpn(0, 1)]);
    network.run_secs(30);
    let rib = network.speakers[1].rib();
    assert_eq!(rib.best(&unicast.nlri).unwrap().attributes.next_hop.address(), myself);
    assert_eq!(rib.best(&vpn(0, 1).nlri).unwrap().attributes.next_hop, attributes(0, &[]).next_hop);
}

/// Takes even labels only, and marks what it sends.
struct Even;

impl Policy for Even {
    fn import(&mut self, _: PeerId, route: Candidate<'_>) -> Verdict {
        let label = route.payload.label.unwrap().as_mpls();
        if label.is_multiple_of(2) { Verdict::Accept } else { Verdict::Reject("odd label") }
    }

    fn adapt(&self, _: PeerId, _: &Path, attributes: &mut Attributes) {
        attributes.communities.push(Community(7));
    }
}

#[test]
fn a_policy_refuses_by_name_and_changes_what_goes_out() {
    let mut network = Network::with(2, |index| Speaker::new(config(index), Even, Duration::ZERO));
    network.link(0, 1, plain);
    network.speakers[0].announce(attributes(0, &[]), (0..10).map(|number| vpn(0, number)));
    network.run_secs(30);
    let rib = network.speakers[1].rib();
    assert_eq!(rib.len(Family::Vpnv4), 5);
    assert!(rib.best(&vpn(0, 2).nlri).unwrap().attributes.has(Community(7)));
    assert_eq!(refusals(&network, 1), BTreeSet::from(["odd label"]));
    let status = network.speakers[1].status(network.peer(1, 0)).unwrap();
    assert_eq!((status.paths[Family::Vpnv4.index()], status.refused["odd label"]), (5, 5));
}

static FAR: Objection = Objection { reason: "too far", hides: true };
static NEAR: Objection = Objection { reason: "nearly too far", hides: false };

/// Hides labels from a number on, has its doubts of the one before, and tells of
/// those below another number.
struct Limits {
    hides: u32,
    tells: u32,
}

impl Policy for Limits {
    fn import(&mut self, _: PeerId, route: Candidate<'_>) -> Verdict {
        match route.payload.label.map_or(0, |label| label.as_mpls()) {
            label if label >= self.hides => Verdict::Object(&FAR),
            label if label + 1 == self.hides => Verdict::Object(&NEAR),
            _ => Verdict::Accept,
        }
    }

    fn export(&mut self, _: PeerId, _: &Nlri, path: &Path) -> bool {
        path.payload.label.is_none_or(|label| label.as_mpls() < self.tells)
    }
}

/// Three speakers in a row; the one in the middle has limits, and the first
/// announces the labels 16 to 25.
fn limited(hides: u32, tells: u32) -> Network<Limits> {
    let mut network = Network::with(3, |index| {
        let limits =
            if index == 1 { Limits { hides, tells } } else { Limits { hides: u32::MAX, tells: u32::MAX } };
        Speaker::new(config(index), limits, Duration::ZERO)
    });
    network.link(0, 1, plain);
    network.link(1, 2, plain);
    network.speakers[0].announce(attributes(0, &[]), (0..10).map(|number| vpn(0, number)));
    network.run_secs(30);
    network
}

fn best(network: &Network<Limits>, at: usize) -> usize {
    network.speakers[at].rib().routes(Family::Vpnv4).count()
}

/// Objections that were told: of each reason how many.
fn objections(network: &mut Network<Limits>) -> std::collections::BTreeMap<&'static str, usize> {
    let mut all = std::collections::BTreeMap::new();
    for event in std::mem::take(&mut network.events[1]) {
        if let Event::Objected { objection, .. } = event {
            *all.entry(objection.reason).or_default() += 1;
        }
    }
    all
}

#[test]
fn s3_what_the_policy_hides_is_kept_and_counts_when_the_policy_has_changed_its_mind() {
    let mut network = limited(20, u32::MAX);
    let id = network.peer(1, 0);
    assert_eq!((best(&network, 1), best(&network, 2)), (4, 4));
    assert_eq!(objections(&mut network), [("nearly too far", 1), ("too far", 6)].into());
    let status = network.speakers[1].status(id).unwrap();
    assert_eq!(status.paths[Family::Vpnv4.index()], 4);
    let counts = |status: &crate::speaker::PeerStatus| -> Vec<(&'static str, u64, usize)> {
        let objections = status.objections.iter();
        objections.map(|(one, of)| (one.reason, of.count, of.examples.len())).collect()
    };
    assert_eq!(counts(&status), [("nearly too far", 1, 1), ("too far", 6, 3)]);

    network.speakers[1].policy_mut().hides = 24;
    network.speakers[1].import_again();
    network.run_secs(5);
    assert_eq!((best(&network, 1), best(&network, 2)), (8, 8));
    assert_eq!(objections(&mut network), [("nearly too far", 1)].into(), "what is as before is no news");
    assert_eq!(counts(&network.speakers[1].status(id).unwrap())[0], ("nearly too far", 1, 1));
    network.speakers[1].import_again();
    assert_eq!(
        counts(&network.speakers[1].status(id).unwrap()),
        [("nearly too far", 1, 1), ("too far", 2, 2)],
        "there are new examples for those that are none any more"
    );

    network.speakers[1].policy_mut().hides = 18;
    network.speakers[1].import_again();
    network.run_secs(5);
    assert_eq!((best(&network, 1), best(&network, 2)), (2, 2), "what was taken before is taken back");
    let gone = network.events[1].iter().filter(|event| matches!(event, Event::PathGone { .. })).count();
    assert_eq!(gone, 6);

    network.speakers[0].withdraw(&(0..10).map(|number| vpn(0, number).nlri).collect::<Vec<_>>());
    network.run_secs(5);
    let status = network.speakers[1].status(id).unwrap();
    assert!(status.objections.is_empty(), "{:?}", status.objections);
    assert_eq!(network.speakers[1].rib().len(Family::Vpnv4), 0);
}

#[test]
fn s3_hidden_routes_count_towards_the_limit() {
    let mut network = Network::with(2, |index| {
        let hides = if index == 1 { 0 } else { u32::MAX };
        Speaker::new(config(index), Limits { hides, tells: u32::MAX }, Duration::ZERO)
    });
    network.link(0, 1, |index, config| {
        plain(index, config);
        let limit = PrefixLimit { limit: 10, warn: 8, again: None };
        config.prefix_limits[Family::Vpnv4.index()] = Some(limit);
    });
    network.speakers[0].announce(attributes(0, &[]), (0..11).map(|number| vpn(0, number)));
    network.run_secs(10);
    assert_ne!(network.state(1, 0), State::Established);
    let id = network.peer(1, 0);
    assert!(network.speakers[1].status(id).unwrap().objections.is_empty(), "they went with the session");
}

#[test]
fn s3_after_a_change_of_policy_a_peer_is_told_the_difference() {
    let mut network = limited(u32::MAX, 20);
    let id = network.peer(1, 2);
    assert_eq!((best(&network, 1), best(&network, 2)), (10, 4));
    let sent = |network: &Network<Limits>| {
        let status = network.speakers[1].status(id).unwrap();
        (status.announced, status.withdrawn)
    };
    for (tells, known, told) in [(23, 7, (7, 0)), (23, 7, (7, 0)), (18, 2, (7, 5)), (40, 10, (15, 5))] {
        network.speakers[1].policy_mut().tells = tells;
        network.speakers[1].tell_again(id);
        network.run_secs(5);
        assert_eq!((best(&network, 2), sent(&network)), (known, told), "below {tells}");
        let rib = network.speakers[1].rib();
        assert_eq!(rib.told(Family::Vpnv4, id).count(), known);
    }
}

#[test]
fn what_no_message_can_hold_is_reported_and_taken_back() {
    let mut network = Network::new(2);
    network.link(0, 1, |index, config| {
        plain(index, config);
        config.session.extended_messages = false;
    });
    network.speakers[0].announce(attributes(0, &[]), [vpn(0, 1)]);
    network.run_secs(30);
    let mut huge = attributes(0, &[]);
    huge.communities = (0..2000).map(Community).collect();
    network.speakers[0].announce(huge, [vpn(0, 1)]);
    network.run_secs(1);
    assert!(network.events[0].iter().any(|event| matches!(event, Event::Unsendable { .. })));
    assert!(network.speakers[1].rib().best(&vpn(0, 1).nlri).is_none(), "the old form would be wrong");
    assert_eq!(network.state(0, 1), State::Established);
}

#[test]
fn a_wrong_as_gets_no_session_and_a_removed_peer_leaves_nothing() {
    let mut network = Network::new(2);
    network.add(0, 1, |_, config| config.session.asn = 65000);
    network.add(1, 0, plain);
    network.run_secs(60);
    assert_ne!(network.state(0, 1), State::Established);
    let said = network.events[0]
        .iter()
        .any(|event| matches!(event, Event::Failed { reason, .. } if reason.contains("AS 64513, not 65000")));
    assert!(said);

    let mut network = Network::new(2);
    network.link(0, 1, plain);
    network.speakers[0].announce(attributes(0, &[]), [vpn(0, 1)]);
    network.run_secs(30);
    let (id, now) = (network.peer(1, 0), network.now);
    network.speakers[1].remove_peer(now, id);
    network.settle();
    assert_eq!((network.speakers[1].rib().len(Family::Vpnv4), network.speakers[1].peers().count()), (0, 0));
    assert_eq!(network.speakers[1].peer_of(address(0)), None);
}
