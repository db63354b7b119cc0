//! A network of speakers in memory: links with a delay, time that is counted
//! and not waited for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tieline_bench_micro::random::Random;
use tieline_bgp::rib::policy::Policy;
use tieline_bgp::rib::{Path, PeerId};
use tieline_bgp::session::{ConnectionId, Input, SessionConfig};
use tieline_bgp::speaker::{Action, PeerConfig, Speaker, SpeakerConfig};
use tieline_bgp::wire::{Family, FamilySet, Nlri};

/// A network without updates for so long has come to rest: longer than any
/// link takes, and than speakers wait for each other's memberships.
const REST: Duration = Duration::from_secs(10);
/// A link takes at least so long, one way, and at most five times that.
const DELAY: Duration = Duration::from_millis(5);
/// The type of an update, and where messages have their type (RFC 4271
/// section 4.1).
const UPDATE: u8 = 2;
const TYPE_AT: usize = 18;

/// What a speaker sends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Passing {
    /// Only its own routes: it passes on nothing that others told it.
    pub own_only: bool,
}

impl Policy for Passing {
    fn export(&mut self, _: PeerId, _: &Nlri, path: &Path) -> bool {
        !self.own_only || path.peer == PeerId::LOCAL
    }
}

/// A connection between two speakers.
struct Link {
    ends: [(usize, PeerId); 2],
    delay: Duration,
}

/// Bytes that are on their way. What arrives first is the least; at the same
/// time, what was sent first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct OnWay {
    arrival: Duration,
    order: u64,
    link: usize,
    end: usize,
    bytes: Vec<u8>,
}

/// What has been sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Updates.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A network of speakers.
pub struct Network {
    /// The speakers.
    pub speakers: Vec<Speaker<Passing>>,
    /// Since the beginning.
    pub now: Duration,
    /// When the last update arrived.
    pub last_update: Duration,
    /// What has been sent since the beginning.
    pub sent: Sent,
    asns: Vec<u32>,
    peers: HashMap<(usize, usize), PeerId>,
    links: Vec<Link>,
    /// When speakers want to be woken.
    deadlines: Vec<Option<Duration>>,
    on_way: BinaryHeap<Reverse<OnWay>>,
    order: u64,
    random: Random,
}

/// Where a speaker is.
pub fn address(index: usize) -> Ipv4Addr {
    let [.., high, low] = (index + 1).to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

impl Network {
    /// Speakers with these ASes that do not know each other.
    pub fn new(asns: &[u32], passing: Passing) -> Self {
        let speaker = |(index, asn): (usize, &u32)| {
            let config = SpeakerConfig { seed: index as u64, ..SpeakerConfig::new(*asn, address(index)) };
            Speaker::new(config, passing, Duration::ZERO)
        };
        Self {
            speakers: asns.iter().enumerate().map(speaker).collect(),
            now: Duration::ZERO,
            last_update: Duration::ZERO,
            sent: Sent::default(),
            asns: asns.to_vec(),
            peers: HashMap::new(),
            links: Vec::new(),
            deadlines: vec![None; asns.len()],
            on_way: BinaryHeap::new(),
            order: 0,
            random: Random::new(1),
        }
    }

    /// Makes two speakers peers, with route target constraint or without. One of
    /// them waits for the other.
    ///
    /// # Errors
    /// When they are peers already.
    pub fn link(&mut self, one: usize, other: usize, constrained: bool) -> anyhow::Result<()> {
        for (at, peer, passive) in [(other, one, true), (one, other, false)] {
            let mut families: FamilySet = [Family::Vpnv4].into_iter().collect();
            if constrained {
                families = [Family::Vpnv4, Family::RouteTarget].into_iter().collect();
            }
            let session = SessionConfig {
                passive,
                families,
                restart_time: Duration::from_secs(120),
                ..SessionConfig::new(IpAddr::V4(address(peer)), self.asns[peer])
            };
            let id = self.speakers[at].add_peer(self.now, PeerConfig::new(session))?;
            self.peers.insert((at, peer), id);
        }
        Ok(())
    }

    fn connect(&mut self, at: usize, peer: PeerId) {
        let found = self.peers.iter().find(|((mine, _), id)| *mine == at && **id == peer);
        let Some(other) = found.map(|((_, other), _)| *other) else { return };
        let Some(back) = self.peers.get(&(other, at)).copied() else { return };
        let connection = ConnectionId(self.links.len() as u64);
        let delay = DELAY + Duration::from_micros(self.random.below(4 * DELAY.as_micros() as u64));
        self.links.push(Link { ends: [(at, peer), (other, back)], delay });
        self.speakers[at].handle(self.now, peer, Input::Opened { connection, outgoing: true });
        self.speakers[other].handle(self.now, back, Input::Opened { connection, outgoing: false });
        self.act(other);
    }

    /// Carries out what a speaker wants.
    fn act(&mut self, at: usize) {
        while let Some(action) = self.speakers[at].poll_action(self.now) {
            match action {
                Action::Connect(peer) => self.connect(at, peer),
                Action::Transmit { connection, bytes, peer } => self.transmit(at, peer, connection, bytes),
                // Connections stand at once, and no session ends here.
                Action::Abandon(_) | Action::Close { .. } => {}
            }
        }
        // Nobody reads them.
        while self.speakers[at].poll_event().is_some() {}
        self.deadlines[at] = self.speakers[at].deadline();
    }

    fn transmit(&mut self, at: usize, peer: PeerId, connection: ConnectionId, bytes: Vec<u8>) {
        let index = connection.0 as usize;
        let Some(link) = self.links.get(index) else { return };
        let end = usize::from(link.ends[0] == (at, peer));
        let arrival = self.now + link.delay;
        let updates = updates(&bytes);
        self.sent.messages += updates.messages;
        self.sent.bytes += updates.bytes;
        let length = bytes.len();
        self.order += 1;
        self.on_way.push(Reverse(OnWay { arrival, order: self.order, link: index, end, bytes }));
        self.speakers[at].handle(self.now, peer, Input::Sent { connection, bytes: length });
    }

    /// Lets time pass until the network has come to rest.
    pub fn run(&mut self) {
        let mut until = self.now + REST;
        for at in 0..self.speakers.len() {
            self.act(at);
        }
        loop {
            let arrival = self.on_way.peek().map(|Reverse(first)| first.arrival);
            let timer = self.deadlines.iter().flatten().min().copied();
            let Some(next) = [arrival, timer].into_iter().flatten().min() else { break };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if arrival.is_some_and(|time| time <= self.now) {
                if self.arrive() {
                    self.last_update = self.now;
                    until = self.now + REST;
                }
                continue;
            }
            for at in 0..self.speakers.len() {
                if self.deadlines[at].is_some_and(|deadline| deadline <= self.now) {
                    self.speakers[at].handle_timeout(self.now);
                    self.act(at);
                }
            }
        }
        self.now = until;
    }

    /// Gives the next bytes to whom they are for; returns whether there is an
    /// update among them.
    fn arrive(&mut self) -> bool {
        let Some(Reverse(OnWay { link, end, bytes, .. })) = self.on_way.pop() else { return false };
        let (at, peer) = self.links[link].ends[end];
        let connection = ConnectionId(link as u64);
        self.speakers[at].handle(self.now, peer, Input::Bytes { connection, bytes: &bytes });
        self.act(at);
        updates(&bytes).messages > 0
    }
}

/// The updates in what a speaker sends at once.
fn updates(mut bytes: &[u8]) -> Sent {
    let mut sent = Sent::default();
    while let (Some([high, low]), Some(kind)) = (bytes.get(16..TYPE_AT), bytes.get(TYPE_AT)) {
        let length = u16::from_be_bytes([*high, *low]);
        if *kind == UPDATE {
            sent.messages += 1;
            sent.bytes += u64::from(length);
        }
        bytes = bytes.get(usize::from(length)..).unwrap_or_default();
    }
    sent
}
