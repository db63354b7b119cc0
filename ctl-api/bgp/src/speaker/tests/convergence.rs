//! Networks of speakers come to rest with what an oracle says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::network::*;
use crate::session::State;
use crate::wire::{Family, Nlri};

/// Hops from one speaker to all others, over the links given.
fn distances(size: usize, links: &BTreeSet<(usize, usize)>, from: usize) -> Vec<Option<usize>> {
    let mut distance = vec![None; size];
    distance[from] = Some(0);
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        for (one, other) in links {
            for (a, b) in [(*one, *other), (*other, *one)] {
                if a == at && distance[b].is_none() {
                    distance[b] = distance[at].map(|d| d + 1);
                    next.push_back(b);
                }
            }
        }
    }
    distance
}

/// Each speaker has each route that a way leads to, over a shortest path, with
/// the next hop and label that the origin gave; and no other.
fn check(network: &Network, links: &BTreeSet<(usize, usize)>, routes: &BTreeMap<Nlri, usize>) {
    let size = network.speakers.len();
    for (at, speaker) in network.speakers.iter().enumerate() {
        let distance = distances(size, links, at);
        for (nlri, origin) in routes {
            let best = speaker.rib().best(nlri);
            assert_eq!(best.map(|path| path.attributes.as_path.hops()), distance[*origin], "{nlri} at {at}");
            if let Some(best) = best {
                let next_hop = attributes(*origin, &[]).next_hop;
                assert_eq!(best.attributes.next_hop, next_hop);
                let Nlri::Vpnv4(_, net) = nlri else { panic!("{nlri}") };
                let number = (u32::from(net.addr()) - 0x0a00_0000) >> 8;
                assert_eq!(best.payload, vpn(*origin, number).payload);
            }
        }
        assert_eq!(
            speaker.rib().routes(Family::Vpnv4).count(),
            routes.values().filter(|o| distance[**o].is_some()).count()
        );
    }
}

fn ring(size: usize) -> BTreeSet<(usize, usize)> {
    (0..size).map(|at| (at.min((at + 1) % size), at.max((at + 1) % size))).filter(|(a, b)| a != b).collect()
}

fn no_constraint(_: usize, config: &mut crate::speaker::PeerConfig) {
    config.session.families.remove(Family::RouteTarget);
}

fn build(size: usize, links: &BTreeSet<(usize, usize)>, each: u32) -> (Network, BTreeMap<Nlri, usize>) {
    let mut network = Network::new(size);
    let mut routes = BTreeMap::new();
    for at in 0..size {
        let own: Vec<_> = (0..each).map(|number| vpn(at, number)).collect();
        routes.extend(own.iter().map(|route| (route.nlri.clone(), at)));
        network.speakers[at].announce(attributes(at, &[target(1)]), own);
    }
    for (one, other) in links {
        network.link(*one, *other, no_constraint);
    }
    (network, routes)
}

#[test]
fn two_three_and_ten_speakers_in_a_ring_converge() {
    for size in [2, 3, 10] {
        let links = ring(size);
        let (mut network, mut routes) = build(size, &links, 20);
        network.run_secs(60);
        check(&network, &links, &routes);
        let gone: Vec<Nlri> = (0..10).map(|number| vpn(0, number).nlri).collect();
        network.speakers[0].withdraw(&gone);
        routes.retain(|nlri, _| !gone.contains(nlri));
        network.run_secs(60);
        check(&network, &links, &routes);
    }
}

/// Clusters that all peer with two reflectors, each of its own AS.
#[test]
fn fifty_clusters_converge_over_two_transit_speakers() {
    let size = 52;
    let links: BTreeSet<(usize, usize)> = (2..size).flat_map(|at| [(0, at), (1, at)]).collect();
    let (mut network, routes) = build(size, &links, 4);
    network.run_secs(60);
    check(&network, &links, &routes);
    // Quiet: only keepalives from here on.
    let before = network.updates;
    network.run_secs(120);
    assert_eq!(network.updates, before);
    for (one, other) in &links {
        network.reset_streams(*one, *other);
    }
    network.run_secs(300);
    check(&network, &links, &routes);
}

/// What is sent grows with the routes that each one gets, and with nothing else.
#[test]
fn over_one_transit_speaker_every_route_is_sent_once_to_each() {
    for size in [5, 20, 51] {
        let links: BTreeSet<(usize, usize)> = (1..size).map(|at| (0, at)).collect();
        let (mut network, routes) = build(size, &links, 4);
        network.run_secs(60);
        check(&network, &links, &routes);
        for at in 1..size {
            let down = network.speakers[0].status(network.peer(0, at)).unwrap();
            assert_eq!((down.announced, down.withdrawn), (4 * (size as u64 - 1), 0));
            let up = network.speakers[at].status(network.peer(at, 0)).unwrap();
            assert_eq!((up.announced, up.withdrawn), (4, 0));
        }
    }
}

#[test]
fn a_route_that_flaps_while_a_peer_is_busy_is_sent_once() {
    let (mut network, _) = build(2, &ring(2), 1);
    network.run_secs(60);
    let id = network.peer(0, 1);
    let before = network.speakers[0].status(id).unwrap();
    let route = vpn(0, 0);
    for _ in 0..100 {
        network.speakers[0].withdraw([&route.nlri]);
        network.speakers[0].announce(attributes(0, &[target(1)]), [route.clone()]);
    }
    network.run_secs(5);
    let after = network.speakers[0].status(id).unwrap();
    assert_eq!((after.announced - before.announced, after.withdrawn - before.withdrawn), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Links are cut, mended and reset, and routes come and go, at any time;
    /// in the end every speaker knows what it can know.
    #[test]
    fn any_history_ends_at_the_oracle(
        seed in any::<u64>(), size in 2..6_usize,
        more in prop::collection::vec((0..6_usize, 0..6_usize), 0..5),
        steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>(), 0..6_usize, 0..8_u32, 0..4_000_u64), 0..30),
    ) {
        let mut links = ring(size);
        links.extend(more.into_iter().map(|(a, b)| (a % size, b % size)).filter(|(a, b)| a < b));
        let all: Vec<_> = links.iter().copied().collect();
        let (mut network, mut routes) = build(size, &links, 3);
        network.seed(seed);
        for (kind, link, at, number, wait) in steps {
            let (one, other) = all[link.index(all.len())];
            let at = at % size;
            let route = vpn(at, number);
            match kind {
                0 => {
                    network.cut(one, other, number % 2 == 0);
                    links.remove(&(one, other));
                }
                1 => {
                    network.mend(one, other);
                    links.insert((one, other));
                }
                2 => network.reset_streams(one, other),
                3 => {
                    network.speakers[at].withdraw([&route.nlri]);
                    routes.remove(&route.nlri);
                }
                _ => {
                    routes.insert(route.nlri.clone(), at);
                    network.speakers[at].announce(attributes(at, &[target(2)]), [route]);
                }
            }
            network.run(std::time::Duration::from_millis(wait));
        }
        network.run_secs(600);
        for (one, other) in &links {
            prop_assert_eq!(network.state(*one, *other), State::Established);
            prop_assert_eq!(network.state(*other, *one), State::Established);
        }
        check(&network, &links, &routes);
    }
}
