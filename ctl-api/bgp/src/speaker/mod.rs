//! The speaker: peers, RIBs, and what goes between them.
//!
//! The caller tells what happened ([`Speaker::handle`], [`Speaker::announce`]),
//! then carries out [`Speaker::poll_action`] and reads [`Speaker::poll_event`]
//! until both are empty, and calls [`Speaker::handle_timeout`] at
//! [`Speaker::deadline`]. Updates are written when actions are polled, as far
//! as the peers take them: what changed twice in between is sent once.
//!
//! - [`config`]: what the speaker and its peers are told
//! - `peer`: what is kept of a peer; `import`, `export`: routes in and out
//! - `graceful`: routes of peers that restart

pub mod config;
mod export;
mod graceful;
mod import;
mod peer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::rib::best::Source;
use crate::rib::interner::Interner;
use crate::rib::policy::{AcceptAll, Policy};
use crate::rib::{Objection, Path, PeerId, Rib, Staleness};
use crate::session::{ConnectionId, Down, Input, Negotiated, Output, Session, State};
use crate::wire::message::{Refresh, encode_refresh};
use crate::wire::notification::cease;
use crate::wire::update::Fault;
use crate::wire::{
    Attributes, Family, FamilySet, Membership, Nlri, Notification, Payload, Route, RouteTarget,
};

pub use config::{PeerConfig, PrefixLimit, SpeakerConfig, Transport};
use peer::Peer;
pub use peer::{Objected, PeerStatus};

/// What the caller is to do.
#[derive(Debug)]
pub enum Action {
    /// Connect to a peer; answer with [`Input::Opened`] or
    /// [`Input::ConnectFailed`].
    Connect(PeerId),
    /// Give up connecting to a peer.
    Abandon(PeerId),
    /// Send bytes; answer with [`Input::Sent`] as the network takes them.
    Transmit {
        /// To whom.
        peer: PeerId,
        /// On which connection.
        connection: ConnectionId,
        /// All of them, in order.
        bytes: Vec<u8>,
    },
    /// Close a connection after what was given to send before, if the network
    /// takes it at once.
    Close {
        /// Of whom.
        peer: PeerId,
        /// Which one.
        connection: ConnectionId,
    },
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A session stands.
    Up {
        /// Whose.
        peer: PeerId,
        /// What was agreed on.
        negotiated: Box<Negotiated>,
    },
    /// A session is over. Its routes follow as removed, unless they are kept.
    Down {
        /// Whose.
        peer: PeerId,
        /// Why.
        down: Down,
    },
    /// A try to get a session came to nothing.
    Failed {
        /// Whose.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// A path is new or other than before, and not hidden.
    Path {
        /// Whose; [`PeerId::LOCAL`] is the speaker itself.
        peer: PeerId,
        /// Of what.
        nlri: Nlri,
        /// Its attributes.
        attributes: Arc<Attributes>,
        /// Its label and the like.
        payload: Payload,
        /// Whether it is fresh.
        stale: Staleness,
    },
    /// A path is gone, or hidden now.
    PathGone {
        /// Whose.
        peer: PeerId,
        /// Of what.
        nlri: Nlri,
    },
    /// The best path is another one, other than before, or gone: see
    /// [`Rib::best`].
    Best {
        /// Of what.
        nlri: Nlri,
        /// Whose path it is now.
        peer: Option<PeerId>,
    },
    /// A route was not taken.
    Refused {
        /// From whom.
        peer: PeerId,
        /// Which one.
        nlri: Nlri,
        /// Why.
        reason: &'static str,
    },
    /// The policy has something against a path that is kept.
    Objected {
        /// Whose.
        peer: PeerId,
        /// Of what.
        nlri: Nlri,
        /// Its attributes.
        attributes: Arc<Attributes>,
        /// What.
        objection: &'static Objection,
    },
    /// A route could not be sent.
    Unsendable {
        /// To whom.
        peer: PeerId,
        /// Which one.
        nlri: Nlri,
        /// Why.
        reason: String,
    },
    /// An update had an error that did not end the session.
    Fault {
        /// From whom.
        peer: PeerId,
        /// What was wrong and what was done.
        fault: Fault,
    },
    /// A peer has sent all routes of a family.
    EndOfRib {
        /// Who.
        peer: PeerId,
        /// Which family.
        family: Family,
    },
    /// A peer comes near its prefix limit, or, where `count` is above `limit`,
    /// its session was ended for that.
    PrefixLimit {
        /// Who.
        peer: PeerId,
        /// Which family.
        family: Family,
        /// Routes of it.
        count: u32,
        /// How many it may have.
        limit: u32,
    },
}

/// A speaker. `P` says what comes in and goes out.
#[derive(Debug)]
pub struct Speaker<P = AcceptAll> {
    config: SpeakerConfig,
    policy: P,
    peers: Vec<Option<Peer>>,
    rib: Rib,
    interner: Interner,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    /// End-of-RIB markers are held back until then (RFC 4724 section 4.1).
    restart_until: Option<Duration>,
    /// Established peers of each family.
    live: [Vec<PeerId>; Family::ALL.len()],
    /// Route targets that the speaker itself wants.
    wanted: BTreeSet<RouteTarget>,
    /// Counts peers, for their seeds.
    added: u64,
}

impl<P: Policy> Speaker<P> {
    /// A speaker without peers and routes. `now` begins its restart, if the
    /// configuration says that it is one.
    pub fn new(config: SpeakerConfig, policy: P, now: Duration) -> Self {
        let restart_until = (!config.restart_deferral.is_zero()).then(|| now + config.restart_deferral);
        Self {
            config,
            policy,
            peers: Vec::new(),
            rib: Rib::default(),
            interner: Interner::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            restart_until,
            live: Default::default(),
            wanted: BTreeSet::new(),
            added: 0,
        }
    }

    /// All routes.
    pub const fn rib(&self) -> &Rib {
        &self.rib
    }

    /// The policy.
    pub const fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    /// Adds a peer and starts its session.
    ///
    /// # Errors
    /// Where there is a peer with that address already.
    pub fn add_peer(&mut self, now: Duration, config: PeerConfig) -> Result<PeerId, DuplicatePeer> {
        let address = config.session.address;
        if self.peer_of(address).is_some() {
            return Err(DuplicatePeer(address));
        }
        let index = self.peers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        let id = PeerId(u32::try_from(index).unwrap_or(u32::MAX - 1));
        self.added += 1;
        let seed = self.config.seed ^ self.added.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let local = self.config.local();
        let session = Session::new(config.session.clone(), local, self.restart_until.is_some(), seed);
        self.peers[index] = Some(Peer::new(config, session));
        self.handle(now, id, Input::Start);
        Ok(id)
    }

    /// Ends a peer's session, forgets the peer and removes its routes.
    pub fn remove_peer(&mut self, now: Duration, id: PeerId) {
        self.stop_peer(now, id, &Notification::cease(cease::DECONFIGURED, "the peer was removed"));
        self.drop_routes(id, FamilySet::ALL);
        self.rib.forget_told(id);
        if let Some(slot) = self.peers.get_mut(id.0 as usize) {
            *slot = None;
        }
    }

    /// Ends a peer's session until [`Input::Start`].
    pub fn stop_peer(&mut self, now: Duration, id: PeerId, notification: &Notification) {
        if let Some(peer) = self.peer_mut(id) {
            peer.session.stop(now, notification, None);
        }
        self.pump(now, id);
    }

    /// Ends a peer's session; it is tried again at once.
    pub fn reset_peer(&mut self, now: Duration, id: PeerId, text: &str) {
        if let Some(peer) = self.peer_mut(id) {
            let reset = Notification::cease(cease::RESET, text);
            peer.session.stop(now, &reset, Some(Duration::ZERO));
        }
        self.pump(now, id);
    }

    /// The peer with an address.
    pub fn peer_of(&self, address: IpAddr) -> Option<PeerId> {
        let at = self
            .peers
            .iter()
            .position(|peer| peer.as_ref().is_some_and(|peer| peer.config.session.address == address))?;
        u32::try_from(at).ok().map(PeerId)
    }

    /// The configuration of a peer.
    pub fn peer_config(&self, id: PeerId) -> Option<&PeerConfig> {
        self.peer(id).map(|peer| &peer.config)
    }

    /// How a peer is doing.
    pub fn status(&self, id: PeerId) -> Option<PeerStatus> {
        self.peer(id).map(Peer::status)
    }

    /// The peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        let present = |(index, peer): (usize, &Option<Peer>)| {
            peer.as_ref().and_then(|_| u32::try_from(index).ok()).map(PeerId)
        };
        self.peers.iter().enumerate().filter_map(present)
    }

    fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.0 as usize)?.as_ref()
    }

    fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id.0 as usize)?.as_mut()
    }

    /// Takes what happened on a peer's session.
    pub fn handle(&mut self, now: Duration, id: PeerId, input: Input<'_>) {
        if let Some(peer) = self.peer_mut(id) {
            peer.session.handle(now, input);
        }
        self.pump(now, id);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.peers.iter().flatten().filter_map(Peer::deadline).chain(self.restart_until).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.restart_until.is_some_and(|until| until <= now) {
            self.restart_complete();
        }
        for id in self.peers().collect::<Vec<_>>() {
            if self.peer(id).is_some_and(|peer| peer.deadline().is_some_and(|at| at <= now)) {
                self.handle(now, id, Input::Timer);
                self.stale_timers(now, id);
            }
        }
    }

    /// The speaker has told the RIB all that it knew before its restart: the
    /// end-of-RIB markers may go out.
    pub fn restart_complete(&mut self) {
        self.restart_until = None;
        for peer in self.peers.iter_mut().flatten() {
            peer.session.set_restarting(false);
        }
    }

    /// What to do next. Updates are written when nothing else is left.
    pub fn poll_action(&mut self, now: Duration) -> Option<Action> {
        if self.actions.is_empty() {
            self.write_updates(now);
        }
        self.actions.pop_front()
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Routes of the speaker itself, all with the same attributes; a second
    /// announcement of a key replaces the first.
    pub fn announce(&mut self, attributes: Attributes, routes: impl IntoIterator<Item = Route>) {
        let attributes = self.interner.intern(attributes);
        for route in routes {
            let Route { nlri, payload } = route;
            let (attributes, stale) = (Arc::clone(&attributes), Staleness::default());
            let path = Path { peer: PeerId::LOCAL, attributes, payload, stale, objection: None };
            self.put(nlri.canonical(), path);
        }
    }

    /// Takes back routes of the speaker itself.
    pub fn withdraw<'a>(&mut self, routes: impl IntoIterator<Item = &'a Nlri>) {
        for nlri in routes {
            self.take(PeerId::LOCAL, &nlri.clone().canonical());
        }
    }

    /// The route targets that the speaker wants routes of (RFC 4684). `next_hop`
    /// is an address of its own; nothing is forwarded to it.
    pub fn want(&mut self, targets: BTreeSet<RouteTarget>, next_hop: IpAddr) {
        let asn = self.config.asn;
        let key = |target: &RouteTarget| Nlri::RouteTarget(Membership::new(asn, *target));
        let gone: Vec<Nlri> = self.wanted.difference(&targets).map(key).collect();
        let new = targets.difference(&self.wanted).map(key);
        let new: Vec<Route> = new.map(|nlri| Route { nlri, payload: Payload::default() }).collect();
        self.withdraw(&gone);
        self.announce(Attributes::new(next_hop), new);
        self.wanted = targets;
    }

    /// Sends a peer all its routes again: after the policy says other things of
    /// them ([`Policy::adapt`]).
    pub fn export_again(&mut self, id: PeerId) {
        let families = self.peer(id).and_then(|peer| peer.session.negotiated()).map(|agreed| agreed.families);
        for family in families.unwrap_or_default().iter() {
            self.queue_all(id, family);
        }
    }

    /// Looks at which routes a peer is told of: after the policy for that has
    /// changed ([`Policy::export`]). What it was told and may know is not sent again.
    pub fn tell_again(&mut self, id: PeerId) {
        let families = self.peer(id).and_then(|peer| peer.session.negotiated()).map(|agreed| agreed.families);
        for family in families.unwrap_or_default().iter() {
            self.queue_untold(id, family);
        }
    }

    /// Asks a peer to send the routes of a family again. Returns whether it can.
    pub fn refresh(&mut self, now: Duration, id: PeerId, family: Family) -> bool {
        let Some(peer) = self.peer_mut(id) else { return false };
        let able = |negotiated: &Negotiated| negotiated.route_refresh && negotiated.families.contains(family);
        if !peer.session.negotiated().is_some_and(able) {
            return false;
        }
        let mut bytes = Vec::new();
        encode_refresh(family, Refresh::Request, &mut bytes);
        peer.session.send(now, bytes, 1);
        self.pump(now, id);
        true
    }

    /// What the choice of paths needs to know of a peer.
    fn source_of(peers: &[Option<Peer>], id: PeerId) -> Option<Source> {
        peers.get(id.0 as usize)?.as_ref()?.source
    }

    /// Carries out what a session wants.
    fn pump(&mut self, now: Duration, id: PeerId) {
        while let Some(output) = self.peer_mut(id).and_then(|peer| peer.session.poll_output()) {
            match output {
                Output::Connect => self.actions.push_back(Action::Connect(id)),
                Output::Abandon => self.actions.push_back(Action::Abandon(id)),
                Output::Transmit { connection, bytes } => {
                    self.actions.push_back(Action::Transmit { peer: id, connection, bytes });
                }
                Output::Close { connection } => {
                    self.actions.push_back(Action::Close { peer: id, connection });
                }
                Output::Established(negotiated) => self.up(now, id, negotiated),
                Output::Down(down) => self.down(now, id, down),
                Output::Failed(reason) => self.events.push_back(Event::Failed { peer: id, reason }),
                Output::Update(update) => self.import(now, id, *update),
                Output::Refresh(family, refresh) => self.refreshed(id, family, refresh),
            }
        }
    }

    fn up(&mut self, now: Duration, id: PeerId, negotiated: Box<Negotiated>) {
        let Some(peer) = self.peer_mut(id) else { return };
        peer.come_up(now, &negotiated);
        for family in negotiated.families.iter() {
            self.live[family.index()].push(id);
            self.queue_all(id, family);
        }
        self.events.push_back(Event::Up { peer: id, negotiated: negotiated.clone() });
        self.stale_after_return(now, id, &negotiated);
    }

    fn down(&mut self, now: Duration, id: PeerId, down: Down) {
        for live in &mut self.live {
            live.retain(|live| *live != id);
        }
        self.rib.forget_told(id);
        let graceful = down.graceful;
        self.events.push_back(Event::Down { peer: id, down });
        self.stale_after_loss(now, id, graceful);
        if let Some(peer) = self.peer_mut(id) {
            peer.go_down();
        }
    }

    /// The state of a peer's session.
    pub fn state(&self, id: PeerId) -> Option<State> {
        self.peer(id).map(|peer| peer.session.state())
    }
}

/// There is a peer with that address already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is a peer with the address {0} already; an address names one peer")]
pub struct DuplicatePeer(pub IpAddr);
