//! The choice among the paths of a route (RFC 4271 section 9.1.2), with MAC
//! mobility (RFC 7432 section 7.7) and long-lived stale paths last (RFC 9494).
//!
//! What the speaker itself announces comes first, whatever peers say of their
//! paths: nobody takes its own routes from it by a high local preference or a
//! sticky MAC address. Paths that the policy hides are no choice.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use super::{Path, PeerId};
use crate::wire::{Community, Evpn, Nlri};

/// What the choice needs to know of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The peer is of the same AS.
    pub internal: bool,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
}

/// The position of the best path, or `None` of none. `source` tells of a peer;
/// routes of the speaker itself have none.
pub fn choose(nlri: &Nlri, paths: &[Path], source: impl Fn(PeerId) -> Option<Source>) -> Option<usize> {
    if let [only] = paths {
        return (!only.is_hidden()).then_some(0);
    }
    let mut left: Vec<usize> = (0..paths.len()).filter(|index| !paths[*index].is_hidden()).collect();
    let attributes = |index: usize| &paths[index].attributes;
    let mobile = matches!(nlri, Nlri::Evpn(Evpn::MacIp { .. }));
    keep_least(&mut left, |index| paths[index].peer != PeerId::LOCAL);
    keep_least(&mut left, |index| is_last_resort(&paths[index]));
    if mobile {
        keep_least(&mut left, |index| Reverse(attributes(index).mobility()));
    }
    keep_least(&mut left, |index| Reverse(attributes(index).local_pref.unwrap_or(100)));
    keep_least(&mut left, |index| attributes(index).as_path.hops());
    keep_least(&mut left, |index| attributes(index).origin);
    // Section 9.1.2.2 c: only among routes of one neighbouring AS.
    let med = |index: usize| attributes(index).med.unwrap_or(0);
    let neighbour = |index: usize| attributes(index).as_path.neighbour();
    let before = left.clone();
    left.retain(|one| {
        !before.iter().any(|other| neighbour(*other) == neighbour(*one) && med(*other) < med(*one))
    });
    let internal = |index: usize| source(paths[index].peer).is_some_and(|source| source.internal);
    keep_least(&mut left, internal);
    // RFC 4456 section 9: the originator stands for the router.
    let router = |index: usize| {
        attributes(index).originator_id.or_else(|| source(paths[index].peer).map(|source| source.router_id))
    };
    keep_least(&mut left, router);
    keep_least(&mut left, |index| attributes(index).cluster_list.len());
    keep_least(&mut left, |index| source(paths[index].peer).map(|source| source.address));
    left.first().copied()
}

/// Leaves those for which the key is least.
fn keep_least<K: Ord>(left: &mut Vec<usize>, key: impl Fn(usize) -> K) {
    if left.len() < 2 {
        return;
    }
    if let Some(least) = left.iter().map(|index| key(*index)).min() {
        left.retain(|index| key(*index) == least);
    }
}

fn is_last_resort(path: &Path) -> bool {
    path.stale.long_lived || path.attributes.has(Community::LLGR_STALE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::rib::{Objection, Staleness};
    use crate::wire::{AsPath, Attributes, ExtendedCommunity, MacAddr, Origin, Payload, RouteDistinguisher};

    fn source(peer: PeerId) -> Option<Source> {
        let id = peer.0 as u8;
        (peer != PeerId::LOCAL).then(|| Source {
            internal: peer.0 % 2 == 1,
            router_id: Ipv4Addr::new(198, 18, 0, 255 - id),
            address: IpAddr::from([198, 18, 1, id]),
        })
    }

    fn path(peer: u32, change: impl Fn(&mut Attributes)) -> Path {
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 1]));
        attributes.as_path = AsPath::sequence([100]);
        change(&mut attributes);
        Path {
            peer: PeerId(peer),
            attributes: Arc::new(attributes),
            payload: Payload::default(),
            stale: Staleness::default(),
            objection: None,
        }
    }

    fn mac() -> Nlri {
        Nlri::Evpn(Evpn::MacIp {
            rd: RouteDistinguisher::ZERO,
            tag: 0,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            ip: None,
        })
    }

    fn winner(nlri: &Nlri, paths: &[Path]) -> u32 {
        paths[choose(nlri, paths, source).unwrap()].peer.0
    }

    #[test]
    fn each_step_decides_when_the_ones_before_do_not() {
        let net = Nlri::Ipv4("10.0.0.0/8".parse().unwrap());
        let check = |better: &dyn Fn(&mut Attributes), worse: &dyn Fn(&mut Attributes)| {
            // Peer 2 would win by its identifier.
            let paths = [path(0, better), path(2, worse)];
            assert_eq!(winner(&net, &paths), 0);
            assert_eq!(winner(&net, &[paths[1].clone(), paths[0].clone()]), 0);
        };
        check(&|a| a.local_pref = Some(200), &|a| a.local_pref = None);
        check(&|_| {}, &|a| a.as_path.prepend(100));
        check(&|_| {}, &|a| a.origin = Origin::Incomplete);
        check(&|a| a.med = Some(1), &|a| a.med = Some(2));
        check(&|_| {}, &|a| a.communities.push(Community::LLGR_STALE));
        // Another neighbour: the discriminator says nothing.
        let paths = [
            path(0, |a| a.med = Some(1)),
            path(2, |a| (a.as_path, a.med) = (AsPath::sequence([200]), Some(9))),
        ];
        assert_eq!(winner(&net, &paths), 2);
        // External over internal, whatever the identifiers.
        assert_eq!(winner(&net, &[path(0, |_| {}), path(3, |_| {})]), 0);
    }

    #[test]
    fn s3_nobody_takes_the_speakers_own_routes_from_it() {
        let own = |a: &mut Attributes| a.as_path = AsPath::sequence([1, 2, 3]);
        let claim = |a: &mut Attributes| {
            (a.local_pref, a.as_path) = (Some(u32::MAX), AsPath::default());
            a.extended = vec![ExtendedCommunity::mac_mobility(true, u32::MAX)];
        };
        for nlri in [Nlri::Ipv4("10.0.0.0/8".parse().unwrap()), mac()] {
            let paths = [path(1, claim), path(u32::MAX, own), path(2, claim)];
            assert_eq!(winner(&nlri, &paths), u32::MAX);
        }
    }

    #[test]
    fn s3_a_hidden_path_is_no_choice() {
        static HIDES: Objection = Objection { reason: "hidden", hides: true };
        static COUNTS: Objection = Objection { reason: "counts", hides: false };
        let net = Nlri::Ipv4("10.0.0.0/8".parse().unwrap());
        let with = |peer, objection| Path { objection, ..path(peer, |a| a.local_pref = Some(200)) };
        assert_eq!(winner(&net, &[with(0, Some(&HIDES)), path(2, |_| {})]), 2);
        assert_eq!(winner(&net, &[with(0, Some(&COUNTS)), path(2, |_| {})]), 0);
        for hidden in [vec![with(0, Some(&HIDES))], vec![with(0, Some(&HIDES)), with(1, Some(&HIDES))]] {
            assert_eq!(choose(&net, &hidden, source), None);
        }
    }

    #[test]
    fn a_mac_address_that_moved_last_wins_and_a_sticky_one_does_not_move() {
        let moved = |sticky, sequence| {
            move |a: &mut Attributes| a.extended = vec![ExtendedCommunity::mac_mobility(sticky, sequence)]
        };
        assert_eq!(winner(&mac(), &[path(0, moved(false, 5)), path(2, moved(false, 4))]), 0);
        assert_eq!(winner(&mac(), &[path(0, moved(true, 0)), path(2, moved(false, 4))]), 0);
        assert_eq!(winner(&mac(), &[path(0, moved(false, 1)), path(2, |_| {})]), 0);
    }

    proptest! {
        /// The order in which paths came does not matter.
        #[test]
        fn the_choice_depends_on_the_paths_alone(
            specs in prop::collection::vec((0..3_u32, 1..3_u32, 0..3_u32, 0..3_u32), 1..7), turn in 0..7_usize,
        ) {
            let net = Nlri::Ipv4("10.0.0.0/8".parse().unwrap());
            let paths: Vec<Path> = specs
                .iter()
                .enumerate()
                .map(|(peer, (preference, neighbour, med, hops))| {
                    path(peer as u32, |a| {
                        a.local_pref = Some(100 + preference);
                        a.as_path = AsPath::sequence((0..=*hops).map(|_| *neighbour));
                        a.med = Some(*med);
                    })
                })
                .collect();
            let mut turned = paths.clone();
            turned.rotate_left(turn % paths.len());
            prop_assert_eq!(winner(&net, &paths), winner(&net, &turned));
            turned.reverse();
            prop_assert_eq!(winner(&net, &paths), winner(&net, &turned));
        }
    }
}
