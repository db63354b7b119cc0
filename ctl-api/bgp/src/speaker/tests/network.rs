//! A network of speakers: connections with delay, that are cut and come back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::rib::PeerId;
use crate::rib::policy::{AcceptAll, Policy};
use crate::session::{ConnectionId, Input, SessionConfig, State};
use crate::speaker::{Action, Event, PeerConfig, Speaker, SpeakerConfig};
use crate::wire::{
    Attributes, FamilySet, Nlri, Payload, Route, RouteDistinguisher, RouteTarget, nlri::Label,
};

/// A stream between two speakers.
struct Stream {
    ends: [(usize, PeerId); 2],
    /// What is on its way to each end, and when it is there; `None` is the end.
    on_way: [VecDeque<(Duration, Option<Vec<u8>>)>; 2],
    /// An end has closed or was told that the other did.
    shut: [bool; 2],
}

pub(super) struct Network<P = AcceptAll> {
    pub(super) speakers: Vec<Speaker<P>>,
    pub(super) now: Duration,
    pub(super) events: Vec<Vec<Event>>,
    /// Bytes that went over streams.
    pub(super) bytes: u64,
    /// Updates that went over streams.
    pub(super) updates: u64,
    streams: BTreeMap<u64, Stream>,
    next: u64,
    /// Pairs between which nothing gets through.
    cut: Vec<(usize, usize)>,
    random: u64,
    peers: HashMap<(usize, usize), PeerId>,
}

pub(super) fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 18, (index >> 8) as u8, (index & 0xff) as u8 + 1))
}

pub(super) fn asn(index: usize) -> u32 {
    64512 + index as u32
}

pub(super) fn config(index: usize) -> SpeakerConfig {
    let IpAddr::V4(id) = address(index) else { unreachable!("addresses here are IPv4") };
    SpeakerConfig { seed: index as u64, ..SpeakerConfig::new(asn(index), id) }
}

impl Network {
    pub(super) fn new(size: usize) -> Self {
        Self::with(size, |index| Speaker::new(config(index), AcceptAll, Duration::ZERO))
    }
}

impl<P: Policy> Network<P> {
    pub(super) fn with(size: usize, make: impl Fn(usize) -> Speaker<P>) -> Self {
        Self {
            speakers: (0..size).map(make).collect(),
            now: Duration::ZERO,
            events: (0..size).map(|_| Vec::new()).collect(),
            bytes: 0,
            updates: 0,
            streams: BTreeMap::new(),
            next: 0,
            cut: Vec::new(),
            random: 1,
            peers: HashMap::new(),
        }
    }

    /// Makes two speakers peers.
    pub(super) fn link(&mut self, one: usize, other: usize, change: impl Fn(usize, &mut PeerConfig)) {
        for (mine, theirs) in [(one, other), (other, one)] {
            self.add(mine, theirs, &change);
        }
    }

    /// Makes one speaker a peer of another, on its side only.
    pub(super) fn add(&mut self, mine: usize, theirs: usize, change: impl Fn(usize, &mut PeerConfig)) {
        let mut session = SessionConfig::new(address(theirs), asn(theirs));
        session.families = FamilySet::ALL;
        let mut config = PeerConfig::new(session);
        change(mine, &mut config);
        let id = self.speakers[mine].add_peer(self.now, config).unwrap();
        self.peers.insert((mine, theirs), id);
    }

    pub(super) fn peer(&self, mine: usize, theirs: usize) -> PeerId {
        self.peers[&(mine, theirs)]
    }

    pub(super) fn state(&self, mine: usize, theirs: usize) -> State {
        self.speakers[mine].state(self.peer(mine, theirs)).unwrap()
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// Nothing gets through between two speakers; their streams are reset, or,
    /// when `silent`, just stop.
    pub(super) fn cut(&mut self, one: usize, other: usize, silent: bool) {
        self.cut.push((one, other));
        if !silent {
            self.reset_streams(one, other);
        }
    }

    /// Bytes get through again, on new streams: the old ones may have lost some.
    pub(super) fn mend(&mut self, one: usize, other: usize) {
        self.reset_streams(one, other);
        self.cut.retain(|pair| *pair != (one, other) && *pair != (other, one));
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one, other)) || self.cut.contains(&(other, one))
    }

    pub(super) fn reset_streams(&mut self, one: usize, other: usize) {
        let now = self.now;
        for stream in self.streams.values_mut() {
            let pair = stream.ends.map(|(speaker, _)| speaker);
            if pair == [one, other] || pair == [other, one] {
                for way in &mut stream.on_way {
                    way.clear();
                    way.push_back((now, None));
                }
            }
        }
    }

    /// A speaker starts anew: another one in its place, which knows nothing.
    pub(super) fn replace(&mut self, index: usize, speaker: Speaker<P>) {
        let others: Vec<usize> = (0..self.speakers.len()).filter(|other| *other != index).collect();
        for other in others {
            self.reset_streams(index, other);
        }
        for stream in self.streams.values_mut() {
            for end in 0..2 {
                if stream.ends[end].0 == index {
                    stream.shut[end] = true;
                }
            }
        }
        self.speakers[index] = speaker;
        self.events[index].clear();
        self.peers.retain(|(mine, _), _| *mine != index);
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Connect(peer) => self.connect(at, peer),
            Action::Abandon(_) => {}
            Action::Transmit { connection, bytes, peer } => {
                self.bytes += bytes.len() as u64;
                self.updates += u64::from(bytes.get(18) == Some(&2));
                let length = bytes.len();
                let delay = Duration::from_micros(100 + self.random(20_000));
                let now = self.now;
                let Some(stream) = self.streams.get_mut(&connection.0) else { return };
                let mine = usize::from(stream.ends[1].0 == at);
                if stream.shut[mine] {
                    return;
                }
                let way = &mut stream.on_way[1 - mine];
                let after = way.back().map_or(now, |(time, _)| *time);
                way.push_back(((now + delay).max(after), Some(bytes)));
                self.speakers[at].handle(now, peer, Input::Sent { connection, bytes: length });
            }
            Action::Close { connection, .. } => {
                let now = self.now;
                let Some(stream) = self.streams.get_mut(&connection.0) else { return };
                let mine = usize::from(stream.ends[1].0 == at);
                stream.shut[mine] = true;
                let way = &mut stream.on_way[1 - mine];
                let after = way.back().map_or(now, |(time, _)| *time);
                way.push_back((after.max(now) + Duration::from_micros(50), None));
            }
        }
    }

    fn connect(&mut self, at: usize, peer: PeerId) {
        let to = self.speakers[at].peer_config(peer).unwrap().session.address;
        let other = (0..self.speakers.len()).find(|index| address(*index) == to);
        let back = other.and_then(|other| self.speakers[other].peer_of(address(at)));
        let (Some(other), Some(back)) = (other, back) else {
            return self.speakers[at].handle(self.now, peer, Input::ConnectFailed { reason: "cut" });
        };
        if self.is_cut(at, other) {
            return self.speakers[at].handle(self.now, peer, Input::ConnectFailed { reason: "cut" });
        }
        let connection = ConnectionId(self.next);
        self.next += 1;
        let stream = Stream {
            ends: [(at, peer), (other, back)],
            on_way: [VecDeque::new(), VecDeque::new()],
            shut: [false, false],
        };
        self.streams.insert(connection.0, stream);
        self.speakers[at].handle(self.now, peer, Input::Opened { connection, outgoing: true });
        self.speakers[other].handle(self.now, back, Input::Opened { connection, outgoing: false });
    }

    /// Polls all speakers until they want nothing more.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut idle = true;
            for at in 0..self.speakers.len() {
                while let Some(action) = self.speakers[at].poll_action(self.now) {
                    idle = false;
                    self.act(at, action);
                }
                while let Some(event) = self.speakers[at].poll_event() {
                    self.events[at].push(event);
                }
            }
            if idle {
                return;
            }
        }
        panic!("the speakers never come to rest at {:?}", self.now);
    }

    /// When and where the next thing arrives.
    fn next_arrival(&self) -> Option<(Duration, u64, usize)> {
        let mut first: Option<(Duration, u64, usize)> = None;
        for (id, stream) in &self.streams {
            for end in 0..2 {
                let Some((time, _)) = stream.on_way[end].front() else { continue };
                if first.is_none_or(|(before, ..)| *time < before) {
                    first = Some((*time, *id, end));
                }
            }
        }
        first
    }

    fn arrive(&mut self, id: u64, end: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some((_, what)) = stream.on_way[end].pop_front() else { return };
        let (at, peer) = stream.ends[end];
        let from = stream.ends[1 - end].0;
        let connection = ConnectionId(id);
        let shut = stream.shut[end];
        let closes = what.is_none();
        if closes {
            stream.shut[end] = true;
        }
        if stream.shut == [true, true] && stream.on_way.iter().all(VecDeque::is_empty) {
            self.streams.remove(&id);
        }
        if shut || (self.is_cut(at, from) && !closes) {
            return;
        }
        let now = self.now;
        match what {
            Some(bytes) => {
                // In two pieces: messages do not come as they were sent.
                let (first, second) = bytes.split_at(bytes.len() / 3);
                for bytes in [first, second] {
                    self.speakers[at].handle(now, peer, Input::Bytes { connection, bytes });
                }
            }
            None => self.speakers[at].handle(now, peer, Input::Closed { connection }),
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.settle();
        loop {
            let arrival = self.next_arrival();
            let timer = self.speakers.iter().filter_map(Speaker::deadline).min();
            let next = [arrival.map(|(time, ..)| time), timer].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            match arrival {
                Some((time, id, end)) if time <= self.now => self.arrive(id, end),
                _ => {
                    for speaker in &mut self.speakers {
                        speaker.handle_timeout(self.now);
                    }
                }
            }
            self.settle();
        }
        self.now = until;
    }

    pub(super) fn run_secs(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }
}

/// A VPN route that names who announced it and its number.
pub(super) fn vpn(origin: usize, number: u32) -> Route {
    let net = ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + (number << 8)), 24).unwrap();
    Route {
        nlri: Nlri::Vpnv4(RouteDistinguisher::as2(asn(origin) as u16, 1), net),
        payload: Payload::labelled(Label::mpls(16 + number)),
    }
}

pub(super) fn target(number: u32) -> RouteTarget {
    RouteTarget::as2(64512, number)
}

pub(super) fn attributes(origin: usize, targets: &[RouteTarget]) -> Attributes {
    let mut attributes = Attributes::new(IpAddr::from([198, 19, 0, origin as u8 + 1]));
    attributes.extended = targets.iter().copied().map(Into::into).collect();
    attributes
}
