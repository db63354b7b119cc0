//! A mirror against a model of a gateway, through histories of changes, lost
//! batches, lost acknowledgements, refusals and new sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipnet::IpNet;
use proptest::prelude::*;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key::Kind as KeyKind;

use super::*;
use crate::gateway::key::Key;
use crate::numbers::RouteDistinguisher;

const WINDOW: usize = 3;
/// A label that the model never takes.
const BAD_LABEL: u32 = 1;

type RouteKey = (String, IpNet);

/// What a gateway makes of batches.
#[derive(Debug, Default)]
struct Gateway {
    objects: BTreeMap<Key, v1::Object>,
    routes: BTreeMap<RouteKey, v1::Route>,
    /// Not declared again since the session began.
    stale: BTreeSet<Key>,
    stale_routes: BTreeSet<RouteKey>,
    /// It takes no routes that it does not have.
    full: bool,
    operations: usize,
}

fn refused(code: v1::ErrorCode) -> v1::Refused {
    v1::Refused { code: code.into(), ..Default::default() }
}

impl Gateway {
    fn begin(&mut self) {
        self.stale = self.objects.keys().cloned().collect();
        self.stale_routes = self.routes.keys().cloned().collect();
    }

    fn end_of_sync(&mut self) {
        for key in std::mem::take(&mut self.stale) {
            self.objects.remove(&key);
        }
        for key in std::mem::take(&mut self.stale_routes) {
            self.routes.remove(&key);
        }
    }

    fn process(&mut self, batch: &v1::Batch) -> v1::BatchAccepted {
        let each = batch.operations.iter().zip(0..);
        let refused = each.filter_map(|(operation, index)| {
            self.operations += 1;
            let refused = self.carry_out(operation.operation.as_ref().expect("an operation")).err()?;
            Some(v1::RefusedOperation { index, refused: Some(refused) })
        });
        v1::BatchAccepted { id: batch.id, refused: refused.collect(), ..Default::default() }
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<(), v1::Refused> {
        match operation {
            Operation::Apply(v1::Object { kind: Some(Kind::Route(route)) }) => {
                let prefixes = vec![route.prefix.parse().expect("a prefix")];
                self.declare_routes(&v1::Route { prefix: String::new(), ..route.clone() }, prefixes)
            }
            Operation::Apply(object) => self.declare(object),
            Operation::Delete(v1::ObjectKey { kind: Some(KeyKind::Route(key)) }) => {
                self.withdraw_routes(&key.rd, vec![key.prefix.parse().expect("a prefix")]);
                Ok(())
            }
            Operation::Delete(key) => {
                let gone: Vec<Key> =
                    self.objects.keys().filter(|&k| v1::ObjectKey::from(k) == *key).cloned().collect();
                for key in gone {
                    self.objects.remove(&key);
                    self.stale.remove(&key);
                }
                Ok(())
            }
            Operation::ApplyRoutes(set) => {
                let prefixes = unpack(set.prefixes.as_ref().expect("prefixes"));
                self.declare_routes(set.attributes.as_ref().expect("attributes"), prefixes)
            }
            Operation::DeleteRoutes(set) => {
                self.withdraw_routes(&set.rd, unpack(set.prefixes.as_ref().expect("prefixes")));
                Ok(())
            }
        }
    }

    /// Whether an object would be refused as things are.
    fn check(&self, object: &v1::Object) -> Result<Key, v1::Refused> {
        let key = Key::of(object).expect("a key");
        let taken = self.objects.iter().any(|(other, there)| match (other, &key) {
            // A label belongs to one VRF.
            (Key::Vrf(a), Key::Vrf(b)) => a != b && label(there) == label(object),
            // Next hops and groups have one namespace.
            (Key::NextHop(a), Key::NextHopGroup(b)) | (Key::NextHopGroup(a), Key::NextHop(b)) => a == b,
            _ => false,
        });
        match (taken, label(object)) {
            (_, Some(BAD_LABEL)) => Err(refused(v1::ErrorCode::InvalidField)),
            (true, _) => Err(refused(v1::ErrorCode::Conflict)),
            (false, _) => Ok(key),
        }
    }

    fn declare(&mut self, object: &v1::Object) -> Result<(), v1::Refused> {
        let key = self.check(object)?;
        self.stale.remove(&key);
        self.objects.insert(key, object.clone());
        Ok(())
    }

    fn declare_routes(&mut self, attributes: &v1::Route, prefixes: Vec<IpNet>) -> Result<(), v1::Refused> {
        let keys: Vec<RouteKey> =
            prefixes.into_iter().map(|prefix| (attributes.rd.clone(), prefix)).collect();
        assert!(!keys.is_empty());
        if attributes.label == BAD_LABEL {
            return Err(refused(v1::ErrorCode::InvalidField));
        }
        if self.full && keys.iter().any(|key| !self.routes.contains_key(key)) {
            return Err(refused(v1::ErrorCode::LimitReached));
        }
        for key in keys {
            self.stale_routes.remove(&key);
            self.routes.insert(key, attributes.clone());
        }
        Ok(())
    }

    fn withdraw_routes(&mut self, rd: &str, prefixes: Vec<IpNet>) {
        for prefix in prefixes {
            let key = (rd.to_owned(), prefix);
            self.routes.remove(&key);
            self.stale_routes.remove(&key);
        }
    }
}

fn label(object: &v1::Object) -> Option<u32> {
    match object.kind.as_ref()? {
        Kind::Vrf(vrf) => Some(vrf.label),
        _ => None,
    }
}

fn unpack(prefixes: &v1::RoutePrefixes) -> Vec<IpNet> {
    assert!(prefixes.texts.is_empty(), "they are packed");
    let packed = prefixes.packed().expect("nothing is left over");
    packed.map(|one| IpNet::new(one.address, one.length).expect("a prefix")).collect()
}

/// What is wanted, told simply.
#[derive(Debug, Default)]
struct Oracle {
    objects: BTreeMap<Key, v1::Object>,
    routes: BTreeMap<RouteKey, v1::Route>,
}

impl Oracle {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Object(object) => {
                self.objects.insert(Key::of(object).expect("a key"), v1::Object::clone(object));
            }
            Change::NoObject(key) => {
                self.objects.remove(key);
            }
            Change::Routes { rd, attributes, prefixes } => {
                for prefix in prefixes {
                    let route = v1::Route { rd: rd.to_string(), ..v1::Route::clone(attributes) };
                    self.routes.insert((rd.to_string(), *prefix), route);
                }
            }
            Change::NoRoutes { rd, prefixes } => {
                for prefix in prefixes {
                    self.routes.remove(&(rd.to_string(), *prefix));
                }
            }
        }
    }
}

/// A mirror, a gateway, and what is on the way between them.
#[derive(Debug, Default)]
struct World {
    mirror: Mirror,
    oracle: Oracle,
    gateway: Gateway,
    batches: VecDeque<v1::Batch>,
    answers: VecDeque<v1::BatchAccepted>,
    in_sets: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Change>),
    Send(usize),
    Process(usize),
    Answer(usize),
    Begin,
    Break,
    Retry,
    Full(bool),
    EndOfSync,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(changes) => {
                for change in &changes {
                    self.oracle.apply(change);
                }
                let before = self.mirror.revision();
                assert!(self.mirror.apply(changes.clone()) >= before);
            }
            Step::Send(most) => {
                for _ in 0..most {
                    let Some(batch) = self.mirror.poll_batch() else { break };
                    assert!((1..=OPERATIONS).contains(&batch.operations.len()));
                    self.batches.push_back(batch);
                }
                assert!(self.mirror.counts().outstanding <= WINDOW);
            }
            Step::Process(most) => {
                for batch in self.batches.drain(..most.min(self.batches.len())) {
                    self.answers.push_back(self.gateway.process(&batch));
                }
            }
            Step::Answer(most) => {
                for accepted in self.answers.drain(..most.min(self.answers.len())) {
                    let id = accepted.id;
                    self.mirror.handle_accepted(accepted).expect("its turn");
                    self.mirror.handle_programmed(id).expect("its turn");
                    while self.mirror.poll_refusal().is_some() {}
                }
                self.check_programmed();
            }
            Step::Begin => {
                self.step(Step::Break);
                self.gateway.begin();
                self.mirror.begin(WINDOW, self.in_sets);
            }
            Step::Break => {
                self.mirror.end();
                self.batches.clear();
                self.answers.clear();
            }
            Step::Retry => self.mirror.retry_refused(),
            Step::Full(full) => self.gateway.full = full,
            Step::EndOfSync => {
                if self.mirror.accepted() == Some(self.mirror.revision()) {
                    self.gateway.end_of_sync();
                }
            }
        }
    }

    /// Whatever is said to be programmed is so.
    fn check_programmed(&self) {
        if self.mirror.programmed() != Some(self.mirror.revision()) || self.mirror.routes.refused > 0 {
            return;
        }
        for (key, want) in &self.oracle.routes {
            assert_eq!(self.gateway.routes.get(key), Some(want), "{key:?}");
        }
        for key in self.gateway.routes.keys() {
            assert!(self.oracle.routes.contains_key(key) || self.gateway.stale_routes.contains(key));
        }
        for (key, want) in &self.oracle.objects {
            if !self.mirror.objects.refused.contains_key(key) {
                assert_eq!(self.gateway.objects.get(key), Some(want), "{key}");
            }
        }
    }

    /// Everything that is on the way arrives.
    fn settle(&mut self) {
        let most = 10_000;
        for round in 0.. {
            assert!(round < most, "it does not come to rest");
            self.step(Step::Send(WINDOW));
            if self.batches.is_empty() && self.answers.is_empty() {
                return;
            }
            self.step(Step::Process(WINDOW));
            self.step(Step::Answer(WINDOW));
        }
    }

    /// What is wanted is there, nothing else, and what is missing was refused
    /// for a reason that still holds.
    fn check_at_rest(&mut self) {
        let revision = self.mirror.revision();
        assert_eq!((self.mirror.accepted(), self.mirror.programmed()), (Some(revision), Some(revision)));
        for (key, want) in &self.oracle.routes {
            if want.label != BAD_LABEL {
                assert_eq!(self.gateway.routes.get(key), Some(want), "{key:?}");
            }
        }
        for key in self.gateway.routes.keys() {
            assert!(self.oracle.routes.contains_key(key), "{key:?} should be gone");
        }
        for (key, want) in &self.oracle.objects {
            if self.gateway.objects.get(key) != Some(want) {
                assert!(self.gateway.check(want).is_err(), "{key} should be there");
                assert!(self.mirror.objects.refused.contains_key(key), "{key} was refused");
            }
        }
        for key in self.gateway.objects.keys() {
            assert!(self.oracle.objects.contains_key(key), "{key} should be gone");
        }
        let bad = self.oracle.routes.values().filter(|route| route.label == BAD_LABEL).count();
        assert_eq!(self.mirror.routes.refused, bad);
        let counts = self.mirror.counts();
        assert_eq!((counts.objects, counts.routes), (self.oracle.objects.len(), self.oracle.routes.len()));
        assert_eq!(counts.outstanding, 0);
    }
}

fn rd(number: u32) -> RouteDistinguisher {
    format!("64512:{number}").parse().expect("an RD")
}

fn object(kind: u8, number: u32, detail: u32) -> v1::Object {
    let name = format!("n{number}");
    let kind = match kind {
        0 => Kind::Port(v1::Port { name, mtu: 1500 + detail, ..Default::default() }),
        1 => Kind::Interface(v1::Interface { name, vlan: detail, ..Default::default() }),
        2 | 3 => Kind::Vrf(v1::Vrf { name, label: detail, ..Default::default() }),
        4 => Kind::NextHop(v1::NextHop { name, ..Default::default() }),
        5 => Kind::NextHopGroup(v1::NextHopGroup {
            name,
            members: vec![v1::NextHopGroupMember { weight: detail, ..Default::default() }],
        }),
        6 => Kind::SecurityGroup(v1::SecurityGroup {
            id: number,
            name: format!("{detail}"),
            rules: Vec::new(),
        }),
        _ => Kind::StaticRoute(v1::StaticRoute { vrf: name, label: detail, ..Default::default() }),
    };
    v1::Object { kind: Some(kind) }
}

fn attributes(label: u32) -> Box<v1::Route> {
    Box::new(v1::Route { route_targets: vec!["64512:1".to_owned()], label, ..Default::default() })
}

fn prefix(number: u8) -> IpNet {
    match number % 2 {
        0 => IpNet::new([10, number, 0, 0].into(), 16),
        _ => IpNet::new([0x2001, 0xdb8, u16::from(number), 0, 0, 0, 0, 0].into(), 48),
    }
    .expect("a prefix")
}

fn change() -> impl Strategy<Value = Change> {
    let prefixes = || proptest::collection::vec((0..12u8).prop_map(prefix), 1..6);
    prop_oneof![
        (0..8u8, 0..3u32, 1..5u32)
            .prop_map(|(kind, number, detail)| Change::from(object(kind, number, detail))),
        (0..8u8, 0..3u32)
            .prop_map(|(kind, number)| Change::NoObject(Key::of(&object(kind, number, 1)).expect("a key"))),
        (1..4u32, 1..5u32, prefixes()).prop_map(|(number, label, prefixes)| Change::Routes {
            rd: rd(number),
            attributes: attributes(label),
            prefixes
        }),
        (1..4u32, prefixes()).prop_map(|(number, prefixes)| Change::NoRoutes { rd: rd(number), prefixes }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(change(), 1..6).prop_map(Step::Apply),
        4 => (1..4usize).prop_map(Step::Send),
        4 => (1..4usize).prop_map(Step::Process),
        4 => (1..4usize).prop_map(Step::Answer),
        1 => Just(Step::Begin),
        1 => Just(Step::Break),
        1 => Just(Step::Retry),
        1 => any::<bool>().prop_map(Step::Full),
        1 => Just(Step::EndOfSync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..Default::default() })]

    /// Any history ends with the gateway equal to the mirror.
    #[test]
    fn the_gateway_becomes_what_is_wanted(in_sets: bool, steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World { in_sets, ..Default::default() };
        for step in steps {
            world.step(step);
        }
        world.step(Step::Full(false));
        if world.mirror.open.is_none() {
            world.step(Step::Begin);
        }
        world.settle();
        world.step(Step::EndOfSync);
        // What the sweep has taken away may have been in the way.
        world.step(Step::Retry);
        world.settle();
        world.check_at_rest();

        // At rest nothing is said, and what is wanted already is nothing new.
        let operations = world.gateway.operations;
        let revision = world.mirror.revision();
        let again: Vec<Change> = world.oracle.objects.values().cloned().map(Change::from).collect();
        prop_assert_eq!(world.mirror.apply(again), revision);
        world.settle();
        prop_assert_eq!(world.gateway.operations, operations);
    }
}

fn begun() -> World {
    let mut world = World { in_sets: true, ..Default::default() };
    world.step(Step::Begin);
    world.settle();
    world
}

fn many(range: std::ops::Range<u32>, label: u32) -> Change {
    let prefixes =
        range.map(|n| IpNet::new((0x0a00_0000 | n << 8).to_be_bytes().into(), 24).expect("a prefix"));
    Change::Routes { rd: rd(1), attributes: attributes(label), prefixes: prefixes.collect() }
}

#[test]
fn routes_travel_in_sets_of_a_thousand() {
    let mut world = begun();
    world.step(Step::Apply(vec![many(0..2500, 16)]));
    world.step(Step::Send(10));
    let sizes: Vec<usize> = world
        .batches
        .iter()
        .map(|batch| match &batch.operations[..] {
            [v1::Operation { operation: Some(Operation::ApplyRoutes(set)) }] => {
                unpack(set.prefixes.as_ref().expect("prefixes")).len()
            }
            other => panic!("not one set: {other:?}"),
        })
        .collect();
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[test]
fn what_changes_back_before_it_is_sent_is_not_sent() {
    let mut world = begun();
    world.step(Step::Apply(vec![many(0..10, 16)]));
    world.settle();
    let operations = world.gateway.operations;
    let before = world.mirror.revision();
    world.step(Step::Apply(vec![many(0..10, 17)]));
    world.step(Step::Apply(vec![many(0..10, 16)]));
    world.settle();
    assert_eq!(world.gateway.operations, operations);
    assert_eq!(world.mirror.programmed(), Some(Revision(before.0 + 2)));
    world.step(Step::Apply(vec![many(0..10, 16)]));
    assert_eq!(world.mirror.revision(), Revision(before.0 + 2));
}

#[test]
fn an_object_comes_before_its_routes_and_goes_after_them() {
    let mut world = begun();
    let hop = object(4, 1, 1);
    let key = Key::of(&hop).expect("a key");
    let kinds = |world: &mut World| -> Vec<&'static str> {
        world.step(Step::Send(10));
        let kinds = world.batches.iter().flat_map(|batch| &batch.operations).map(|o| match &o.operation {
            Some(Operation::Apply(_)) => "object",
            Some(Operation::ApplyRoutes(_)) => "routes",
            Some(Operation::Delete(_)) => "no object",
            Some(Operation::DeleteRoutes(_)) => "no routes",
            None => "nothing",
        });
        let kinds = kinds.collect();
        world.settle();
        kinds
    };
    world.step(Step::Apply(vec![many(0..2, 16), Change::from(hop)]));
    assert_eq!(kinds(&mut world), ["object", "routes"]);
    let moved = vec![Change::NoObject(key), many(0..1, 17), many(1..2, 16), no_routes(1..2)];
    world.step(Step::Apply(moved));
    assert_eq!(kinds(&mut world), ["routes", "no routes", "no object"]);
}

fn no_routes(range: std::ops::Range<u32>) -> Change {
    match many(range, 16) {
        Change::Routes { rd, prefixes, .. } => Change::NoRoutes { rd, prefixes },
        other => other,
    }
}

#[test]
fn a_label_that_is_given_on_is_tried_again_at_once() {
    let mut world = begun();
    // n1 asks for the label of n2 before n2 has given it up.
    world.step(Step::Apply(vec![Change::from(object(2, 1, 20)), Change::from(object(2, 2, 21))]));
    world.settle();
    world.step(Step::Apply(vec![Change::from(object(2, 1, 21)), Change::from(object(2, 2, 22))]));
    world.settle();
    world.check_at_rest();
    assert_eq!(world.mirror.counts().refused, 0);
}

#[test]
fn what_no_gateway_takes_is_refused_here() {
    let mut world = begun();
    let name = "x".repeat(LARGEST);
    let large = v1::Object { kind: Some(Kind::Vrf(v1::Vrf { name, ..Default::default() })) };
    world.mirror.apply(vec![Change::from(large)]);
    assert_eq!(world.mirror.poll_batch(), None);
    let refusal = world.mirror.poll_refusal().expect("a refusal");
    assert!(refusal.refused.message.contains("make it smaller"), "{refusal}");
    assert_eq!(world.mirror.programmed(), Some(world.mirror.revision()));
    assert_eq!(world.mirror.counts().refused, 1);
    world.mirror.retry_refused();
    assert_eq!(world.mirror.poll_batch(), None);
}

#[test]
fn routes_that_come_and_go_unsent_are_forgotten() {
    let mut world = World::default();
    for round in 0..50 {
        world.step(Step::Apply(vec![many(round * 10..round * 10 + 10, 16)]));
        world.step(Step::Apply(vec![no_routes(round * 10..round * 10 + 10)]));
    }
    world.step(Step::Begin);
    assert_eq!(world.mirror.poll_batch(), None);
    // Also while a session is open and the window is full.
    world.step(Step::Apply((0..WINDOW as u32).map(|n| many(n * 1000..n * 1000 + 1000, 16)).collect()));
    world.step(Step::Send(WINDOW));
    for _ in 0..100 {
        world.step(Step::Apply(vec![many(9000..9010, 16), no_routes(9000..9010)]));
    }
    let open = world.mirror.open.as_ref().expect("a session");
    assert_eq!(open.next.routes.values().map(Vec::len).sum::<usize>(), 10);
    world.settle();
    world.check_at_rest();
}

#[test]
fn answers_that_have_no_place_are_named() {
    let mut world = begun();
    assert!(world.mirror.handle_programmed(7).is_err());
    world.step(Step::Apply(vec![many(0..1, 16)]));
    let batch = world.mirror.poll_batch().expect("a batch");
    let error = world.mirror.handle_programmed(batch.id).expect_err("not accepted");
    assert!(error.to_string().contains(&format!("programmed batch {}", batch.id)), "{error}");
    let refused = vec![v1::RefusedOperation { index: 9, refused: None }];
    let accepted = v1::BatchAccepted { id: batch.id, refused, ..Default::default() };
    assert!(world.mirror.handle_accepted(accepted).is_err());
}
