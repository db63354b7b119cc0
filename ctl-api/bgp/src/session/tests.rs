//! Two sessions against each other, and one against anything.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::wire::notification::cease;
use crate::wire::open::{Capabilities, Open};
use crate::wire::{FamilySet, Label, Nlri, Payload, RouteDistinguisher};

fn local(asn: u32, id: u8) -> LocalConfig {
    LocalConfig { asn, router_id: Ipv4Addr::new(198, 18, 0, id), host_name: None }
}

fn session(mine: (u32, u8), peer: (u32, u8), change: impl Fn(&mut SessionConfig)) -> Session {
    let mut config = SessionConfig::new(IpAddr::from([198, 18, 0, peer.1]), peer.0);
    change(&mut config);
    Session::new(config, local(mine.0, mine.1), false, u64::from(mine.1))
}

/// Two sessions and the connections between them.
struct Pair {
    sides: [Session; 2],
    now: Duration,
    next: u64,
    /// Connections that stand, with the side that asked for them.
    open: Vec<(ConnectionId, usize)>,
    events: [Vec<Output>; 2],
    /// Connections are refused.
    cut: bool,
}

impl Pair {
    fn new(change: impl Fn(&mut SessionConfig)) -> Self {
        let sides = [session((64512, 1), (64513, 2), &change), session((64513, 2), (64512, 1), &change)];
        Self { sides, now: Duration::ZERO, next: 0, open: Vec::new(), events: [vec![], vec![]], cut: false }
    }

    fn start(&mut self) {
        for side in 0..2 {
            self.sides[side].handle(self.now, Input::Start);
        }
        self.settle();
    }

    /// Carries out what the sides want until they want nothing more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut idle = true;
            for side in 0..2 {
                while let Some(output) = self.sides[side].poll_output() {
                    idle = false;
                    self.act(side, output);
                }
            }
            if idle {
                return;
            }
        }
        panic!("the sides never come to rest");
    }

    fn act(&mut self, side: usize, output: Output) {
        let (other, now) = (1 - side, self.now);
        match output {
            Output::Connect if self.cut => {
                self.sides[side].handle(now, Input::ConnectFailed { reason: "cut" });
            }
            Output::Connect => {
                let connection = ConnectionId(self.next);
                self.next += 1;
                self.open.push((connection, side));
                self.sides[side].handle(now, Input::Opened { connection, outgoing: true });
                self.sides[other].handle(now, Input::Opened { connection, outgoing: false });
            }
            Output::Transmit { connection, bytes } => {
                if self.open.iter().any(|(open, _)| *open == connection) {
                    self.sides[side].handle(now, Input::Sent { connection, bytes: bytes.len() });
                    self.sides[other].handle(now, Input::Bytes { connection, bytes: &bytes });
                }
            }
            Output::Close { connection } => {
                self.open.retain(|(open, _)| *open != connection);
                self.sides[other].handle(now, Input::Closed { connection });
            }
            Output::Abandon => {}
            event => self.events[side].push(event),
        }
    }

    fn run(&mut self, until: Duration) {
        while let Some(at) = self.sides.iter().filter_map(Session::deadline).min().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            for side in 0..2 {
                self.sides[side].handle(self.now, Input::Timer);
            }
            self.settle();
        }
        self.now = until;
    }

    fn states(&self) -> [State; 2] {
        [self.sides[0].state(), self.sides[1].state()]
    }
}

const BOTH: [State; 2] = [State::Established; 2];

#[test]
fn a_collision_leaves_one_connection_and_both_sides_agree_which() {
    let mut pair = Pair::new(|_| {});
    pair.start();
    assert_eq!(pair.states(), BOTH);
    assert_eq!(pair.open.len(), 1);
    pair.run(Duration::from_secs(600));
    assert_eq!(pair.states(), BOTH);
    let once = |events: &[Output]| events.iter().filter(|e| matches!(e, Output::Established(_))).count();
    assert_eq!(pair.events.each_ref().map(|events| once(events)), [1, 1]);
}

#[test]
fn one_passive_side_is_enough_and_a_cut_is_followed_by_a_new_session() {
    let mut pair = Pair::new(|config| config.passive = config.asn == 64513);
    pair.start();
    assert_eq!(pair.states(), BOTH);
    pair.cut = true;
    let (connection, _) = pair.open.remove(0);
    for side in 0..2 {
        pair.sides[side].handle(pair.now, Input::Closed { connection });
    }
    pair.settle();
    pair.run(Duration::from_secs(200));
    assert_eq!(pair.states()[0], State::Active);
    pair.cut = false;
    pair.run(Duration::from_secs(400));
    assert_eq!(pair.states(), BOTH);
}

#[test]
fn silence_ends_a_session_with_the_hold_timer() {
    let mut pair = Pair::new(|config| config.hold_time = Duration::from_secs(9));
    pair.start();
    pair.open.clear();
    pair.cut = true;
    pair.run(Duration::from_secs(10));
    let Some(Output::Down(down)) = pair.events[0].iter().find(|e| matches!(e, Output::Down(_))) else {
        panic!("{:?}", pair.events[0])
    };
    assert_eq!(down.notification.as_ref().unwrap().code, 4);
    assert!(!down.graceful);
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let mut one = session((64512, 1), (64513, 2), |config| config.send_hold_time = Duration::from_secs(20));
    one.handle(Duration::ZERO, Input::Start);
    let connection = ConnectionId(1);
    one.handle(Duration::ZERO, Input::Opened { connection, outgoing: true });
    one.handle(Duration::from_secs(20), Input::Timer);
    assert_eq!(one.state(), State::Idle);
    let said = std::iter::from_fn(|| one.poll_output())
        .any(|o| matches!(o, Output::Failed(r) if r.contains("send hold")));
    assert!(said);
}

#[test]
fn a_shutdown_says_why_and_does_not_keep_routes() {
    let mut pair = Pair::new(|config| config.restart_time = Duration::from_secs(60));
    pair.start();
    let why = Notification::cease(cease::SHUTDOWN, "moving house");
    pair.sides[0].stop(pair.now, &why, None);
    pair.settle();
    let Some(Output::Down(down)) = pair.events[1].last() else { panic!("{:?}", pair.events[1]) };
    assert!(down.from_peer && !down.graceful, "{down:?}");
    assert!(down.reason.contains("moving house"));
    pair.run(Duration::from_secs(3600));
    assert_eq!(pair.states()[0], State::Idle);
    assert!(pair.open.is_empty(), "who was stopped takes no connection");
}

#[test]
fn a_lost_connection_is_graceful_where_both_agreed() {
    for (restart, graceful) in [(0, false), (60, true)] {
        let mut pair = Pair::new(|config| config.restart_time = Duration::from_secs(restart));
        pair.start();
        let (connection, _) = pair.open.remove(0);
        pair.sides[1].handle(pair.now, Input::Closed { connection });
        pair.settle();
        let down =
            pair.events[1].iter().find_map(|e| if let Output::Down(down) = e { Some(down) } else { None });
        assert_eq!(down.unwrap().graceful, graceful);
    }
}

#[test]
fn a_peer_that_restarts_behind_a_standing_session_is_taken_back() {
    let mut pair = Pair::new(|config| {
        config.restart_time = Duration::from_secs(60);
        config.passive = config.asn == 64512;
    });
    pair.start();
    pair.run(Duration::from_secs(40));
    // The connecting side starts anew; the other has not noticed.
    pair.sides[0] = session((64512, 1), (64513, 2), |config| config.restart_time = Duration::from_secs(60));
    pair.open.clear();
    pair.sides[0].handle(pair.now, Input::Start);
    pair.settle();
    assert_eq!(pair.states(), BOTH);
    let downs = pair.events[1].iter().filter(|e| matches!(e, Output::Down(down) if down.graceful)).count();
    assert_eq!(downs, 1);
}

/// What one session answers to an OPEN.
fn answer(open: &Open) -> Option<(u8, u8)> {
    let mut one = session((64512, 1), (64513, 2), |config| {
        config.families = [Family::Evpn].into_iter().collect();
    });
    one.handle(Duration::ZERO, Input::Start);
    let connection = ConnectionId(7);
    one.handle(Duration::ZERO, Input::Opened { connection, outgoing: true });
    while one.poll_output().is_some() {}
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    one.handle(Duration::ZERO, Input::Bytes { connection, bytes: &bytes });
    std::iter::from_fn(|| one.poll_output()).find_map(|output| match output {
        Output::Transmit { bytes, .. } if bytes[18] == 3 => Some((bytes[19], bytes[20])),
        _ => None,
    })
}

#[test]
fn a_wrong_open_is_answered_with_the_right_subcode() {
    let capabilities =
        Capabilities { families: Some(FamilySet::ALL), as4: Some(64513), ..Capabilities::default() };
    let good = Open { asn: 64513, hold_time: 90, router_id: Ipv4Addr::new(198, 18, 0, 2), capabilities };
    assert_eq!(answer(&good), None);
    let other_as = Capabilities { as4: Some(64999), ..good.capabilities.clone() };
    assert_eq!(answer(&Open { asn: 64999, capabilities: other_as, ..good }), Some((2, 2)));
    let ipv4 = Capabilities { families: None, ..good.capabilities.clone() };
    assert_eq!(answer(&Open { capabilities: ipv4, ..good }), Some((2, 7)));
    assert_eq!(answer(&Open { hold_time: 2, ..good }), Some((2, 6)));
}

#[derive(Debug, Clone)]
enum Step {
    Opened(bool),
    ConnectFailed,
    Message(u8, usize),
    Junk(usize, Vec<u8>),
    Closed(usize),
    Sent(usize, usize),
    Wait(u64),
    Stop,
    Start,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Opened),
        1 => Just(Step::ConnectFailed),
        8 => (0..6_u8, 0..3_usize).prop_map(|(kind, index)| Step::Message(kind, index)),
        1 => (0..3_usize, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(index, bytes)| Step::Junk(index, bytes)),
        2 => (0..3_usize).prop_map(Step::Closed),
        2 => (0..3_usize, 0..400_usize).prop_map(|(index, bytes)| Step::Sent(index, bytes)),
        3 => (0..200_u64).prop_map(Step::Wait),
        1 => Just(Step::Stop),
        2 => Just(Step::Start),
    ]
}

fn message(kind: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let capabilities =
        Capabilities { families: Some(FamilySet::ALL), as4: Some(64513), ..Capabilities::default() };
    let context = crate::wire::update::EncodeContext { as4: true, limit: 4096 };
    let nlri = Nlri::Vpnv4(RouteDistinguisher::ZERO, "10.0.0.0/8".parse().unwrap());
    match kind {
        0 => Open { asn: 64513, hold_time: 90, router_id: [198, 18, 0, 2].into(), capabilities }
            .encode(&mut bytes),
        1 => crate::wire::message::encode_keepalive(&mut bytes),
        2 => Notification::cease(cease::RESET, "x").encode(&mut bytes),
        3 => crate::wire::update::encode_withdrawals(Family::Vpnv4, [&nlri], &context, &mut bytes),
        4 => crate::wire::message::encode_refresh(Family::Evpn, Refresh::Request, &mut bytes),
        _ => {
            let attributes = crate::wire::Attributes::new(IpAddr::from([198, 18, 0, 2]));
            let payload = Payload::labelled(Label::mpls(16));
            crate::wire::update::encode(
                Family::Vpnv4,
                &attributes,
                [(&nlri, &payload)],
                &context,
                &mut bytes,
            )
            .unwrap();
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: never more than two connections, events in turn, no
    /// timer that stays due, and a connection that is closed stays closed.
    #[test]
    fn any_events_keep_the_machine_sound(steps in prop::collection::vec(step(), 0..120)) {
        let mut one = session((64512, 1), (64513, 2), |_| {});
        let (mut now, mut next, mut open) = (Duration::ZERO, 0, Vec::new());
        let mut standing = false;
        one.handle(now, Input::Start);
        for step in steps {
            let pick = |index: usize, open: &[ConnectionId]| open.get(index).copied();
            match step {
                Step::Opened(outgoing) => {
                    let connection = ConnectionId(next);
                    next += 1;
                    open.push(connection);
                    one.handle(now, Input::Opened { connection, outgoing });
                }
                Step::ConnectFailed => one.handle(now, Input::ConnectFailed { reason: "cut" }),
                Step::Message(kind, index) => {
                    if let Some(connection) = pick(index, &open) {
                        one.handle(now, Input::Bytes { connection, bytes: &message(kind) });
                    }
                }
                Step::Junk(index, bytes) => {
                    if let Some(connection) = pick(index, &open) {
                        one.handle(now, Input::Bytes { connection, bytes: &bytes });
                    }
                }
                Step::Closed(index) => {
                    if let Some(connection) = pick(index, &open) {
                        open.retain(|id| *id != connection);
                        one.handle(now, Input::Closed { connection });
                    }
                }
                Step::Sent(index, bytes) => {
                    if let Some(connection) = pick(index, &open) {
                        one.handle(now, Input::Sent { connection, bytes });
                    }
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    one.handle(now, Input::Timer);
                    prop_assert!(one.deadline().is_none_or(|at| at > now), "a timer is still due");
                }
                Step::Stop => one.stop(now, &Notification::cease(cease::SHUTDOWN, ""), None),
                Step::Start => one.handle(now, Input::Start),
            }
            while let Some(output) = one.poll_output() {
                match output {
                    Output::Close { connection } => {
                        let before = open.len();
                        open.retain(|id| *id != connection);
                        prop_assert_eq!(open.len() + 1, before, "closed twice, or never open");
                    }
                    Output::Transmit { connection, .. } => {
                        prop_assert!(open.contains(&connection), "bytes for a closed connection");
                    }
                    Output::Established(_) => prop_assert!(!std::mem::replace(&mut standing, true)),
                    Output::Down(_) => prop_assert!(std::mem::replace(&mut standing, false)),
                    Output::Update(_) | Output::Refresh(..) => prop_assert!(standing),
                    _ => {}
                }
            }
            prop_assert!(open.len() <= 2, "{} connections", open.len());
            prop_assert_eq!(standing, one.state() == State::Established);
        }
    }
}
