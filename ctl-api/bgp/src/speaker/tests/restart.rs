//! Speakers that restart, stay away, come back.

use std::time::Duration;

use super::network::*;
use crate::rib::policy::AcceptAll;
use crate::speaker::{Event, PeerConfig, Speaker, SpeakerConfig};
use crate::wire::{Community, Family};

fn graceful(_: usize, config: &mut PeerConfig) {
    config.session.families = [Family::Vpnv4, Family::Evpn].into_iter().collect();
    config.session.restart_time = Duration::from_secs(60);
}

fn long_lived(index: usize, config: &mut PeerConfig) {
    graceful(index, config);
    config.session.long_lived_time = Duration::from_secs(3600);
}

fn pair(change: impl Fn(usize, &mut PeerConfig) + Copy) -> Network {
    let mut network = Network::new(2);
    network.speakers[0].announce(attributes(0, &[target(1)]), (0..10).map(|number| vpn(0, number)));
    network.link(0, 1, change);
    network.run_secs(30);
    assert_eq!(known(&network), 10);
    network.events[1].clear();
    network
}

/// How many routes of the first speaker the second one has.
fn known(network: &Network) -> usize {
    network.speakers[1].rib().routes(Family::Vpnv4).count()
}

fn gone(network: &Network) -> usize {
    network.events[1].iter().filter(|event| matches!(event, Event::PathGone { .. })).count()
}

#[test]
fn without_graceful_restart_routes_go_with_the_session() {
    let mut network = pair(|_, config| config.session.families = [Family::Vpnv4].into_iter().collect());
    network.cut(0, 1, false);
    network.run_secs(1);
    assert_eq!(known(&network), 0);
}

#[test]
fn a_restart_in_time_removes_only_what_does_not_come_again() {
    let mut network = pair(graceful);
    let config = SpeakerConfig { restart_deferral: Duration::from_secs(20), ..config(0) };
    let speaker = Speaker::new(config, AcceptAll, network.now);
    network.replace(0, speaker);
    network.run_secs(5);
    assert_eq!((known(&network), gone(&network)), (10, 0), "kept while it is away");
    // Half of the routes first; the session stands before the others are told.
    network.speakers[0].announce(attributes(0, &[target(1)]), (0..5).map(|number| vpn(0, number)));
    network.add(0, 1, graceful);
    network.run_secs(10);
    assert_eq!((known(&network), gone(&network)), (10, 0), "the end-of-RIB marker is held back");
    network.speakers[0].announce(attributes(0, &[target(1)]), (5..8).map(|number| vpn(0, number)));
    network.speakers[0].restart_complete();
    network.run_secs(5);
    assert_eq!((known(&network), gone(&network)), (8, 2));
    let again = network.events[1].iter().filter(|event| matches!(event, Event::Best { .. })).count();
    assert_eq!(again, 2, "what came again as it was changes no best path");
}

#[test]
fn a_peer_that_does_not_come_back_loses_its_routes_after_its_restart_time() {
    let mut network = pair(graceful);
    network.cut(0, 1, false);
    network.run_secs(59);
    assert_eq!(known(&network), 10);
    network.run_secs(2);
    assert_eq!(known(&network), 0);
}

#[test]
fn long_lived_routes_are_the_last_resort_and_go_in_the_end() {
    let mut network = pair(long_lived);
    let private = vpn(0, 50);
    let mut no_llgr = attributes(0, &[target(1)]);
    no_llgr.communities.push(Community::NO_LLGR);
    network.speakers[0].announce(no_llgr, [private]);
    network.run_secs(5);
    network.cut(0, 1, false);
    network.run_secs(70);
    assert_eq!(known(&network), 10, "the route that asked not to be kept is gone");
    let path = network.speakers[1].rib().best(&vpn(0, 0).nlri).unwrap();
    assert!(path.stale.long_lived && path.attributes.has(Community::LLGR_STALE));
    // Any other path is better now.
    let worse = vpn(0, 0);
    let mut other = attributes(1, &[target(1)]);
    other.local_pref = Some(1);
    network.speakers[1].announce(other, [worse.clone()]);
    network.run_secs(1);
    assert_eq!(network.speakers[1].rib().best(&worse.nlri).unwrap().peer, crate::rib::PeerId::LOCAL);
    network.run_secs(3600);
    assert_eq!(known(&network), 1);
}

#[test]
fn a_long_lived_route_is_fresh_again_when_its_peer_is_back() {
    let mut network = pair(long_lived);
    network.cut(0, 1, false);
    network.run_secs(70);
    network.mend(0, 1);
    network.run_secs(300);
    let path = network.speakers[1].rib().best(&vpn(0, 0).nlri).unwrap();
    assert!(!path.stale.long_lived && !path.stale.restart && !path.attributes.has(Community::LLGR_STALE));
    assert_eq!((known(&network), gone(&network)), (10, 0));
}

#[test]
fn a_shutdown_by_the_operator_keeps_nothing() {
    let mut network = pair(long_lived);
    let id = network.peer(0, 1);
    let why = crate::wire::Notification::cease(crate::wire::notification::cease::SHUTDOWN, "bye");
    let now = network.now;
    network.speakers[0].stop_peer(now, id, &why);
    network.run_secs(1);
    assert_eq!(known(&network), 0);
}

#[test]
fn a_refresh_removes_what_the_peer_no_longer_has_and_disturbs_nothing_else() {
    let mut network = pair(graceful);
    let (id, now) = (network.peer(1, 0), network.now);
    assert!(network.speakers[1].refresh(now, id, Family::Vpnv4));
    assert!(!network.speakers[1].refresh(now, id, Family::Ipv4Unicast), "not agreed on");
    let before = network.bytes;
    network.run_secs(1);
    assert!(network.bytes > before + 10 * 15, "the routes came again");
    assert_eq!(network.events[1].len(), 0, "{:?}", network.events[1]);
}
