//! Whatever was declared and withdrawn before: only what is declared counts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tieline_proto::v1::{self, object::Kind};

use super::world::{World, key_of};
use super::{invariants, meaning, objects};

#[derive(Debug, Clone)]
enum Step {
    Apply(Kind),
    /// One of those declared.
    Delete(prop::sample::Index),
    /// Whatever has the key of this object.
    DeleteKey(Kind),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        7 => objects::object().prop_map(Step::Apply),
        2 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => objects::object().prop_map(Step::DeleteKey),
    ]
}

/// Objects that a history has left, by key.
type Declared = BTreeMap<String, Kind>;

fn key_text(kind: &Kind) -> String {
    format!("{:?}", key_of(kind))
}

/// Routes and policies of each VRF: what its generation stands for.
fn generations(world: &World) -> BTreeMap<String, (u32, Vec<String>)> {
    let all = meaning::of(world);
    let generation = |(name, id): (&str, tieline_engine::types::VrfId)| {
        let vrf = world.tables.vrfs.get(id.index()).expect("a table");
        // Routes by number of their next hop: a change behind it is no
        // change of the VRF.
        let mut texts = vec![
            format!("{:?}", vrf.fib4.iter().collect::<Vec<_>>()),
            format!("{:?}", vrf.fib6.iter().collect::<Vec<_>>()),
        ];
        let interfaces = world.tables.interfaces.iter().filter(|(_, interface)| interface.vrf == id);
        texts.extend(interfaces.map(|(at, _)| {
            let at = tieline_engine::types::InterfaceId(at as u32);
            all[&format!("interface {}", world.rib.interface_name(at).expect("a name"))].clone()
        }));
        (name.to_owned(), (vrf.generation, texts))
    };
    world.rib.vrfs().map(generation).collect()
}

/// Carries a step out and checks what every step must keep.
fn run(world: &mut World, declared: &mut Declared, step: Step) {
    let before = meaning::of(world);
    let generations_before = generations(world);
    let changed = match step {
        Step::Apply(kind) => match world.apply(kind.clone()) {
            Ok(applied) => {
                declared.insert(key_text(&kind), kind);
                applied.changed
            }
            Err(refusal) => {
                assert!(!refusal.message.is_empty());
                assert_eq!(meaning::of(world), before, "refused, and yet different");
                false
            }
        },
        Step::Delete(index) => {
            if declared.is_empty() {
                return;
            }
            let key = declared.keys().nth(index.index(declared.len())).expect("in range").clone();
            let kind = declared.remove(&key).expect("a declared object");
            world.remove(&kind);
            true
        }
        Step::DeleteKey(kind) => {
            let applied = world.delete(&key_of(&kind)).expect("a valid key");
            assert_eq!(applied.changed, declared.remove(&key_text(&kind)).is_some());
            applied.changed
        }
    };
    invariants::check(world);
    if !changed {
        // The words of an object may be others.
        let in_force = meaning::without_objects;
        assert_eq!(in_force(meaning::of(world)), in_force(before), "unchanged, and yet different");
        assert_eq!(generations(world), generations_before);
    }
    for (name, (generation, texts)) in generations(world) {
        if let Some((generation_before, texts_before)) = generations_before.get(&name) {
            let is_other = texts != *texts_before;
            assert!(!is_other || generation != *generation_before, "VRF {name} changed under one generation");
        }
    }
}

/// Applies objects to a new RIB in this order.
fn fresh<'a>(objects: impl Iterator<Item = &'a Kind>) -> World {
    let mut world = World::default();
    for kind in objects {
        world.add(kind.clone());
    }
    world
}

#[test]
fn what_is_read_back_is_the_last_that_was_said() {
    let group = |weight| {
        Kind::NextHopGroup(v1::NextHopGroup {
            name: "g0".to_owned(),
            members: vec![v1::NextHopGroupMember { next_hop: "n0".to_owned(), weight, ..Default::default() }],
        })
    };
    let mut world = World::default();
    world.add(group(1));
    let applied = world.apply(group(0)).expect("it says the same");
    assert!(!applied.changed);
    let object =
        world.rib.get(&key_of(&group(0)), "").and_then(|item| item.object).expect("a declared object");
    assert_eq!(object.kind, Some(group(0)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn only_what_is_declared_counts_and_not_how_it_came_about(
        steps in proptest::collection::vec(step(), 1..70),
        order in any::<u64>(),
    ) {
        let mut world = World::default();
        let mut declared = Declared::new();
        for step in steps {
            run(&mut world, &mut declared, step);
        }
        let result = meaning::of(&world);

        // In the order of their keys, and in some other order.
        let sorted = fresh(declared.values());
        prop_assert_eq!(&meaning::of(&sorted), &result);
        let mut shuffled: Vec<(&String, &Kind)> = declared.iter().collect();
        shuffled.sort_by_key(|(key, _)| {
            key.bytes().fold(order, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23))
        });
        let shuffled = fresh(shuffled.into_iter().map(|(_, kind)| kind));
        prop_assert_eq!(&meaning::of(&shuffled), &result);

        // What is read back can be declared again and changes nothing.
        for kind in declared.values() {
            let object = world.rib.get(&key_of(kind), "").and_then(|item| item.object).expect("a declared object");
            let applied = world.apply(object.kind.expect("a kind")).expect("what was read back");
            prop_assert!(!applied.changed, "{:?}", kind);
        }
        prop_assert_eq!(&meaning::of(&world), &result);
    }

    #[test]
    fn nothing_is_left_when_everything_is_withdrawn(
        objects in proptest::collection::vec(objects::object(), 1..60),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let mut world = World::default();
        let start = meaning::of(&world);
        let mut declared = Declared::new();
        for kind in objects {
            if world.apply(kind.clone()).is_ok() {
                declared.insert(key_text(&kind), kind);
            }
        }
        for pick in picks {
            if declared.is_empty() {
                break;
            }
            let key = declared.keys().nth(pick.index(declared.len())).expect("in range").clone();
            let kind = declared.remove(&key).expect("a declared object");
            world.remove(&kind);
            invariants::check(&world);
        }
        prop_assert!(declared.is_empty());
        prop_assert_eq!(meaning::of(&world), start);
        invariants::check_empty(&world);
    }
}
