//! Prefixes that a peer must announce: when one is missing, what lies behind the
//! peer is not there although its session stands (R2).
//!
//! Knows no clock: time is since some start that the caller chose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use tieline_bgp::rib::PeerId;
use tieline_bgp::wire::{Family, FamilySet, Nlri};

use crate::exchange::contracts::{carries, prefix_of};

/// A peer that has not told within this time that it has told everything is
/// taken to have done so: not everybody sends the end of the RIB.
const PATIENCE: Duration = Duration::from_secs(60);

/// How it stands with a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is no session, or the peer has not told everything yet.
    Waiting,
    /// The peer announces it.
    Present,
    /// It does not; a sentence that says what is known of it.
    Missing(String),
}

/// A canary that was lost or is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Whose it is.
    pub peer: PeerId,
    /// The prefix.
    pub prefix: IpNet,
    /// Why it is missing; none: it is back.
    pub missing: Option<String>,
}

/// One prefix.
#[derive(Debug)]
struct Canary {
    prefix: IpNet,
    /// The peer's routes to it, of all families and distinguishers.
    routes: BTreeSet<Nlri>,
    /// Why one of them was refused.
    refused: Option<&'static str>,
    /// It was there in this session.
    seen: bool,
    state: State,
    /// It was told that it is missing, and not that it is back.
    told: bool,
}

#[derive(Debug)]
struct Watched {
    canaries: Vec<Canary>,
    /// Since when the session stands.
    up: Option<Duration>,
    families: FamilySet,
    complete: FamilySet,
}

/// The canaries of all peers.
#[derive(Debug, Default)]
pub struct Canaries {
    peers: BTreeMap<PeerId, Watched>,
}

impl Canaries {
    /// A peer is there that must announce these.
    pub fn watch(&mut self, peer: PeerId, prefixes: impl IntoIterator<Item = IpNet>) {
        let canary = |prefix| Canary {
            prefix,
            routes: BTreeSet::new(),
            refused: None,
            seen: false,
            state: State::Waiting,
            told: false,
        };
        let canaries: Vec<Canary> = prefixes.into_iter().map(canary).collect();
        if !canaries.is_empty() {
            let (families, complete) = (FamilySet::EMPTY, FamilySet::EMPTY);
            self.peers.insert(peer, Watched { canaries, up: None, families, complete });
        }
    }

    /// A peer is none of ours any more.
    pub fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// A session stands, with these families.
    pub fn up(&mut self, peer: PeerId, families: FamilySet, now: Duration) {
        if let Some(watched) = self.peers.get_mut(&peer) {
            (watched.up, watched.families, watched.complete) = (Some(now), families, FamilySet::EMPTY);
            for canary in &mut watched.canaries {
                (canary.seen, canary.refused) = (false, None);
            }
        }
    }

    /// A session is over.
    pub fn down(&mut self, peer: PeerId) {
        if let Some(watched) = self.peers.get_mut(&peer) {
            watched.up = None;
        }
    }

    /// A peer has told all routes of a family.
    pub fn complete(&mut self, peer: PeerId, family: Family) {
        if let Some(watched) = self.peers.get_mut(&peer) {
            watched.complete.insert(family);
        }
    }

    fn of(&mut self, peer: PeerId, nlri: &Nlri) -> Option<&mut Canary> {
        let watched = self.peers.get_mut(&peer)?;
        let prefix = prefix_of(nlri)?;
        watched.canaries.iter_mut().find(|canary| canary.prefix == prefix)
    }

    /// A peer announces a route.
    pub fn path(&mut self, peer: PeerId, nlri: &Nlri) {
        if let Some(canary) = self.of(peer, nlri) {
            canary.routes.insert(nlri.clone());
            canary.refused = None;
        }
    }

    /// A route of a peer is gone.
    pub fn gone(&mut self, peer: PeerId, nlri: &Nlri) {
        if let Some(canary) = self.of(peer, nlri) {
            canary.routes.remove(nlri);
        }
    }

    /// A route of a peer was refused.
    pub fn refused(&mut self, peer: PeerId, nlri: &Nlri, reason: &'static str) {
        if let Some(canary) = self.of(peer, nlri) {
            canary.refused = Some(reason);
        }
    }

    /// What has turned since the last time.
    pub fn turns(&mut self, now: Duration) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (peer, watched) in &mut self.peers {
            let (up, families, complete) = (watched.up, watched.families, watched.complete);
            for canary in &mut watched.canaries {
                canary.state = canary.judge(up, families, complete, now);
                canary.seen |= canary.state == State::Present;
                let missing = match &canary.state {
                    State::Missing(why) if !canary.told => Some(why.clone()),
                    State::Present if canary.told => None,
                    _ => continue,
                };
                canary.told = missing.is_some();
                turns.push(Turn { peer: *peer, prefix: canary.prefix, missing });
            }
        }
        turns
    }

    /// When time alone may turn something.
    pub fn deadline(&self) -> Option<Duration> {
        let waits = |watched: &&Watched| watched.canaries.iter().any(|canary| canary.state == State::Waiting);
        self.peers.values().filter(waits).filter_map(|watched| Some(watched.up? + PATIENCE)).min()
    }

    /// How it stood with a peer's canaries at the last look.
    pub fn states(&self, peer: PeerId) -> impl Iterator<Item = (IpNet, &State)> {
        let canaries = self.peers.get(&peer).into_iter().flat_map(|watched| &watched.canaries);
        canaries.map(|canary| (canary.prefix, &canary.state))
    }
}

impl Canary {
    fn judge(&self, up: Option<Duration>, families: FamilySet, complete: FamilySet, now: Duration) -> State {
        let Some(up) = up else { return State::Waiting };
        if !self.routes.is_empty() {
            return State::Present;
        }
        let missing = |why: &str| State::Missing(why.to_owned());
        let could: Vec<Family> = families.iter().filter(|family| carries(*family, self.prefix)).collect();
        if could.is_empty() {
            return missing("the peer agrees on no address family that carries it");
        }
        if let Some(reason) = self.refused {
            return State::Missing(format!("it was refused: {reason}"));
        }
        if self.seen {
            return missing("it was withdrawn");
        }
        if could.iter().all(|family| complete.contains(*family)) {
            return missing("it is not among the routes that the peer has told");
        }
        if now.saturating_sub(up) >= PATIENCE {
            return State::Missing(format!("it has not come within {} s", PATIENCE.as_secs()));
        }
        State::Waiting
    }
}

#[cfg(test)]
mod tests {
    use tieline_bgp::wire::RouteDistinguisher;

    use super::*;

    const PEER: PeerId = PeerId(3);

    fn prefix() -> IpNet {
        "1.0.0.2/32".parse().expect("a prefix")
    }

    fn unicast() -> Nlri {
        Nlri::Ipv4("1.0.0.2/32".parse().expect("a prefix"))
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn up(families: &[Family]) -> Canaries {
        let mut canaries = Canaries::default();
        canaries.watch(PEER, [prefix()]);
        assert!(canaries.turns(seconds(0)).is_empty(), "without a session nothing is missing");
        assert_eq!(canaries.deadline(), None);
        canaries.up(PEER, families.iter().copied().collect(), seconds(10));
        canaries
    }

    fn missing(canaries: &mut Canaries, now: u64) -> String {
        let turns = canaries.turns(seconds(now));
        let [Turn { peer: PEER, missing: Some(why), .. }] = &turns[..] else { panic!("{turns:?}") };
        why.clone()
    }

    #[test]
    fn r2_a_canary_that_never_comes_is_missing_when_everything_is_told() {
        let mut canaries = up(&[Family::Ipv4Unicast, Family::Vpnv4, Family::RouteTarget]);
        assert!(canaries.turns(seconds(11)).is_empty());
        canaries.complete(PEER, Family::Vpnv4);
        assert!(canaries.turns(seconds(12)).is_empty(), "it may come as a unicast route yet");
        canaries.complete(PEER, Family::Ipv4Unicast);
        assert!(missing(&mut canaries, 13).contains("not among the routes"));
        assert!(canaries.turns(seconds(14)).is_empty(), "it is told once");
    }

    #[test]
    fn r2_without_an_end_of_rib_patience_ends() {
        let mut canaries = up(&[Family::Ipv4Unicast]);
        assert!(canaries.turns(seconds(69)).is_empty());
        assert_eq!(canaries.deadline(), Some(seconds(70)));
        assert!(missing(&mut canaries, 70).contains("within 60 s"));
        assert_eq!(canaries.deadline(), None);
    }

    #[test]
    fn r2_a_withdrawn_canary_is_missing_and_then_back() {
        let mut canaries = up(&[Family::Ipv4Unicast]);
        canaries.path(PEER, &unicast());
        assert!(canaries.turns(seconds(11)).is_empty());
        assert_eq!(canaries.states(PEER).next(), Some((prefix(), &State::Present)));
        canaries.gone(PEER, &unicast());
        assert_eq!(missing(&mut canaries, 12), "it was withdrawn");
        canaries.path(PEER, &unicast());
        assert_eq!(canaries.turns(seconds(13)), [Turn { peer: PEER, prefix: prefix(), missing: None }]);
    }

    #[test]
    fn r2_a_lost_session_is_another_fault_and_the_canary_comes_back_with_the_next() {
        let mut canaries = up(&[Family::Vpnv4]);
        let one = Nlri::Vpnv4(RouteDistinguisher::as2(64513, 1), "1.0.0.2/32".parse().expect("a prefix"));
        let other = Nlri::Vpnv4(RouteDistinguisher::as2(64513, 2), "1.0.0.2/32".parse().expect("a prefix"));
        canaries.path(PEER, &one);
        canaries.path(PEER, &other);
        canaries.gone(PEER, &one);
        assert!(canaries.turns(seconds(11)).is_empty(), "any distinguisher will do");
        canaries.gone(PEER, &other);
        missing(&mut canaries, 12);
        canaries.down(PEER);
        assert!(canaries.turns(seconds(13)).is_empty());
        assert_eq!(canaries.states(PEER).next(), Some((prefix(), &State::Waiting)));
        canaries.up(PEER, [Family::Vpnv4].into_iter().collect(), seconds(20));
        canaries.path(PEER, &one);
        assert_eq!(canaries.turns(seconds(21)).len(), 1, "what was told as missing is told as back");
    }

    #[test]
    fn r2_what_keeps_a_canary_away_is_named() {
        let mut canaries = up(&[Family::Vpnv6]);
        assert!(missing(&mut canaries, 11).contains("no address family"));
        let mut canaries = up(&[Family::Ipv4Unicast]);
        canaries.refused(PEER, &unicast(), "own AS in the path");
        assert_eq!(missing(&mut canaries, 11), "it was refused: own AS in the path");
        let mut canaries = up(&[Family::Ipv4Unicast]);
        canaries.path(PEER, &Nlri::Ipv4("1.0.0.0/24".parse().expect("a prefix")));
        canaries.complete(PEER, Family::Ipv4Unicast);
        assert!(missing(&mut canaries, 11).contains("not among"), "another prefix is another");
    }
}
