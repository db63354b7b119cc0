//! Whatever bytes a controller sends: what can be read as a message is carried
//! out or refused, and the RIB and the tables stay in step.

use proptest::prelude::*;
use prost::Message as _;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::{self, object::Kind};

use super::world::{World, key_of};
use super::{invariants, objects};
use crate::Limits;

/// What becomes of a message's bytes on the way.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    /// A part of the message again, somewhere else.
    Repeat(prop::sample::Index, prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        6 => (at(), 1u8..=255).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => at().prop_map(Damage::Cut),
        2 => (at(), proptest::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, new)| Damage::Insert(at, new)),
        2 => (at(), at(), 1usize..24).prop_map(|(from, to, most)| Damage::Repeat(from, to, most)),
    ]
}

fn damaged(mut bytes: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for damage in all {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match damage {
            Damage::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Repeat(from, to, most) => {
                let from = from.index(length);
                let part = bytes[from..(from + most).min(length)].to_vec();
                let to = to.index(length);
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

fn operation() -> impl Strategy<Value = Operation> {
    let routes = |kind: Kind| {
        let Kind::Route(route) = kind else { unreachable!("asked for a route") };
        let prefixes = v1::RoutePrefixes {
            texts: vec![route.prefix.clone()],
            ipv4: vec![10, 7, 0, 0, 16, 10, 8, 0, 0, 16],
            ipv6: Vec::new(),
        };
        let attributes = v1::Route { prefix: String::new(), ..route };
        Operation::ApplyRoutes(v1::RouteSet { attributes: Some(attributes), prefixes: Some(prefixes) })
    };
    prop_oneof![
        6 => objects::object().prop_map(|kind| Operation::Apply(v1::Object { kind: Some(kind) })),
        2 => objects::route().prop_map(routes),
        1 => objects::object().prop_map(|kind| Operation::Delete(key_of(&kind))),
    ]
}

/// As the daemon does with each operation of a batch.
fn carry_out(world: &mut World, operation: Operation) -> bool {
    let by = world.by;
    match operation {
        Operation::Apply(v1::Object { kind: Some(kind) }) => world.apply(kind).is_ok(),
        Operation::Apply(v1::Object { kind: None }) => false,
        Operation::Delete(key) => world.delete(&key).is_ok(),
        Operation::ApplyRoutes(set) => world.rib.apply_routes(by, set, &mut world.tables).is_ok(),
        Operation::DeleteRoutes(key) => world.rib.delete_route_set(by, &key, &mut world.tables).is_ok(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_messages_are_refused_or_mean_something(
        batches in proptest::collection::vec(
            (proptest::collection::vec(operation(), 1..8), proptest::collection::vec(damage(), 0..6)),
            1..6,
        ),
    ) {
        let mut world = World::with(Limits::default());
        for (operations, all) in batches {
            let operations = operations.into_iter().map(|one| v1::Operation { operation: Some(one) }).collect();
            let bytes = v1::Batch { operations, ..Default::default() }.encode_to_vec();
            let Ok(batch) = v1::Batch::decode(damaged(bytes, &all).as_slice()) else { continue };
            for operation in batch.operations.into_iter().filter_map(|one| one.operation) {
                carry_out(&mut world, operation);
            }
        }
        invariants::check(&world);
    }
}

#[test]
fn undamaged_messages_are_carried_out() {
    // The test above would pass if nothing were ever carried out.
    let mut world = World::with(Limits::default());
    let vrf = Kind::Vrf(v1::Vrf { name: "red".into(), ..Default::default() });
    let one = v1::Operation { operation: Some(Operation::Apply(v1::Object { kind: Some(vrf) })) };
    let bytes = v1::Batch { operations: vec![one], ..Default::default() }.encode_to_vec();
    let batch = v1::Batch::decode(damaged(bytes, &[]).as_slice()).expect("undamaged");
    let [one] = <[_; 1]>::try_from(batch.operations).expect("one operation");
    assert!(carry_out(&mut world, one.operation.expect("it")));
    assert!(world.rib.vrf_id("red").is_some());
}
