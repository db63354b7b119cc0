//! What the speaker keeps of a peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::config::PeerConfig;
use crate::rib::Objection;
use crate::rib::best::Source;
use crate::session::{Counters, Negotiated, Session, State};
use crate::wire::open::GracefulRestart;
use crate::wire::{Family, FamilySet, Membership, Nlri, RouteTarget};

/// Longest wait for a peer's route target memberships before VPN routes are
/// sent all the same (RFC 4684 section 5.3 suggests 60 s).
const MEMBERSHIP_WAIT: Duration = Duration::from_secs(60);
/// The same for a peer without graceful restart, which may never say that it
/// has sent them all.
const MEMBERSHIP_SHORT_WAIT: Duration = Duration::from_secs(5);

/// Routes that are remembered as examples of what the policy objects to.
const EXAMPLES: usize = 3;

/// What waits to be sent of one family.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Keys that changed; the table knows which ones are here.
    pub(super) keys: VecDeque<Nlri>,
    /// The begin of a refresh goes before them (RFC 7313).
    pub(super) begin_of_refresh: bool,
    /// The end-of-RIB marker follows them.
    pub(super) end_of_rib: bool,
    /// The end of a refresh follows them (RFC 7313).
    pub(super) end_of_refresh: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) config: PeerConfig,
    pub(super) session: Session,
    /// For the choice of paths; of the last session, while its routes are kept.
    pub(super) source: Option<Source>,
    /// Paths of it in the RIB, by family.
    pub(super) counts: [u32; Family::ALL.len()],
    /// Families whose prefix warning was given.
    pub(super) warned: FamilySet,
    pub(super) queues: [Queue; Family::ALL.len()],
    /// The peer filters by route target (RFC 4684).
    pub(super) constrained: bool,
    /// Until then VPN routes wait for the peer's memberships.
    pub(super) membership_wait: Option<Duration>,
    /// What the peer wants.
    memberships: BTreeSet<Membership>,
    /// How often each whole route target is in there: an AS each.
    targets: BTreeMap<RouteTarget, u32>,
    /// How many memberships are of no one whole route target.
    partial: u32,
    /// Memberships changed since VPN routes were looked through.
    pub(super) memberships_changed: bool,
    /// When stale paths go, by family.
    pub(super) stale_until: [Option<Duration>; Family::ALL.len()],
    /// When long-lived stale paths go, by family.
    pub(super) long_lived_until: [Option<Duration>; Family::ALL.len()],
    /// For how long the peer wants stale paths kept past its restart time.
    pub(super) long_lived_time: [Option<Duration>; Family::ALL.len()],
    /// What the peer of the standing session said about graceful restart.
    pub(super) last_restart: Option<GracefulRestart>,
    /// Routes not taken, by reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// Paths that the policy has something against.
    pub(super) objections: BTreeMap<&'static Objection, Objected>,
    /// Those of them that are hidden, by family.
    pub(super) hidden: [u32; Family::ALL.len()],
    /// Routes sent, and taken back.
    pub(super) announced: u64,
    pub(super) withdrawn: u64,
}

/// The paths of a peer that the policy has one thing against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objected {
    /// How many.
    pub count: u64,
    /// Some of them.
    pub examples: Vec<Nlri>,
}

/// How a peer is doing.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// The state of its session.
    pub state: State,
    /// Since when the session stands.
    pub since: Option<Duration>,
    /// What was agreed on.
    pub negotiated: Option<Negotiated>,
    /// Counters of the session.
    pub counters: Counters,
    /// Paths of it in the RIB that are not hidden, by [`Family::index`].
    pub paths: [u32; Family::ALL.len()],
    /// Paths of it that the policy has something against.
    pub objections: BTreeMap<&'static Objection, Objected>,
    /// Route keys that wait to be sent to it.
    pub waiting: usize,
    /// Routes that were sent to it, again ones included.
    pub announced: u64,
    /// Withdrawals that were sent to it.
    pub withdrawn: u64,
    /// Routes of it that were not taken, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Peer {
    pub(super) fn new(config: PeerConfig, session: Session) -> Self {
        Self {
            config,
            session,
            source: None,
            counts: Default::default(),
            warned: FamilySet::EMPTY,
            queues: Default::default(),
            constrained: false,
            membership_wait: None,
            memberships: BTreeSet::new(),
            targets: BTreeMap::new(),
            partial: 0,
            memberships_changed: false,
            stale_until: Default::default(),
            long_lived_until: Default::default(),
            long_lived_time: Default::default(),
            last_restart: None,
            refused: BTreeMap::new(),
            objections: BTreeMap::new(),
            hidden: Default::default(),
            announced: 0,
            withdrawn: 0,
        }
    }

    pub(super) fn come_up(&mut self, now: Duration, negotiated: &Negotiated) {
        self.source = Some(Source {
            internal: negotiated.internal,
            router_id: negotiated.router_id,
            address: self.config.session.address,
        });
        self.warned = FamilySet::EMPTY;
        self.constrained = negotiated.families.contains(Family::RouteTarget);
        let says_when = negotiated.graceful_restart.is_some();
        let wait = if says_when { MEMBERSHIP_WAIT } else { MEMBERSHIP_SHORT_WAIT };
        self.membership_wait = self.constrained.then(|| now + wait);
        self.memberships_changed = false;
        for family in negotiated.families.iter() {
            self.queues[family.index()].end_of_rib = true;
        }
    }

    pub(super) fn go_down(&mut self) {
        self.queues = Default::default();
        self.membership_wait = None;
    }

    /// The policy has had one thing against a path and has another now.
    pub(super) fn objected(
        &mut self,
        nlri: &Nlri,
        before: Option<&'static Objection>,
        now: Option<&'static Objection>,
    ) {
        if before == now {
            return;
        }
        if let Some(before) = before
            && let Some(objected) = self.objections.get_mut(before)
        {
            objected.count = objected.count.saturating_sub(1);
            objected.examples.retain(|example| example != nlri);
            if objected.count == 0 {
                self.objections.remove(before);
            }
        }
        if let Some(now) = now {
            self.objections.entry(now).or_default().count += 1;
            self.example(nlri, now);
        }
        let hides = |objection: Option<&Objection>| u32::from(objection.is_some_and(|one| one.hides));
        let hidden = &mut self.hidden[nlri.family().index()];
        *hidden = (*hidden + hides(now)).saturating_sub(hides(before));
    }

    /// A path that the policy has something against is remembered as an example of
    /// that, if there is room.
    pub(super) fn example(&mut self, nlri: &Nlri, objection: &'static Objection) {
        if let Some(objected) = self.objections.get_mut(objection)
            && objected.examples.len() < EXAMPLES
            && !objected.examples.contains(nlri)
        {
            objected.examples.push(nlri.clone());
        }
    }

    /// The peer wants a route target.
    pub(super) fn add_membership(&mut self, membership: Membership) {
        if self.memberships.insert(membership) {
            self.memberships_changed = true;
            match membership.target() {
                Some(target) => *self.targets.entry(target).or_default() += 1,
                None => self.partial += 1,
            }
        }
    }

    /// The peer wants it no longer.
    pub(super) fn remove_membership(&mut self, membership: Membership) {
        if self.memberships.remove(&membership) {
            self.memberships_changed = true;
            match membership.target() {
                Some(target) => {
                    if let Some(count) = self.targets.get_mut(&target) {
                        *count -= 1;
                        if *count == 0 {
                            self.targets.remove(&target);
                        }
                    }
                }
                None => self.partial -= 1,
            }
        }
    }

    /// Whether the peer wants every route.
    pub(super) fn wants_all(&self) -> bool {
        !self.constrained || self.memberships.contains(&Membership::DEFAULT)
    }

    /// Whether the peer wants routes with a route target.
    pub(super) fn wants(&self, target: RouteTarget) -> bool {
        self.targets.contains_key(&target)
            || (self.partial > 0
                && self
                    .memberships
                    .iter()
                    .any(|membership| membership.target().is_none() && membership.wants(target)))
    }

    /// Whether routes of a family wait for the peer's memberships.
    pub(super) fn holds_back(&self, family: Family) -> bool {
        family.has_route_targets() && self.membership_wait.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let stale = self.stale_until.iter().chain(&self.long_lived_until).copied().flatten();
        stale.chain(self.membership_wait).chain(self.session.deadline()).min()
    }

    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            state: self.session.state(),
            since: self.session.since(),
            negotiated: self.session.negotiated().cloned(),
            counters: self.session.counters(),
            paths: std::array::from_fn(|index| self.counts[index].saturating_sub(self.hidden[index])),
            objections: self.objections.clone(),
            waiting: self.queues.iter().map(|queue| queue.keys.len()).sum(),
            announced: self.announced,
            withdrawn: self.withdrawn,
            refused: self.refused.clone(),
        }
    }
}
