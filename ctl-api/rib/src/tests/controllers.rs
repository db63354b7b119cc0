//! Several controllers: whoever declared what in whatever order, what is in
//! force follows from what is declared; and a copy brings it back.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;
use tieline_proto::v1::{self, object::Kind};

use super::world::{World, key_of};
use super::{invariants, meaning, objects};
use crate::attributes::AttributesId;
use crate::persist::Copy;
use crate::{ControllerId, Key, Limits, Ranks, RouteDistinguisher};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Apply(usize, Kind),
    Routes(usize, Kind, Vec<u8>),
    DeleteRoutes(usize, u32, Vec<u8>),
    Delete(usize, prop::sample::Index),
    BeginSync(usize),
    Sweep(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let by = || 0usize..NAMES.len();
    let numbers = || proptest::collection::vec(0u8..6, 1..5);
    prop_oneof![
        12 => (by(), objects::object()).prop_map(|(by, kind)| Step::Apply(by, kind)),
        3 => (by(), objects::route(), numbers()).prop_map(|(by, kind, n)| Step::Routes(by, kind, n)),
        1 => (by(), 0u32..3, numbers()).prop_map(|(by, rd, n)| Step::DeleteRoutes(by, rd, n)),
        3 => (by(), any::<prop::sample::Index>()).prop_map(|(by, at)| Step::Delete(by, at)),
        1 => by().prop_map(Step::BeginSync),
        1 => (by(), 1usize..20).prop_map(|(by, most)| Step::Sweep(by, most)),
    ]
}

/// What each controller declares, by the texts of the keys.
type Declared = BTreeMap<(String, ControllerId), Kind>;

fn declared(world: &World) -> Declared {
    let rib = &world.rib;
    let mut all = Declared::new();
    for (id, _) in rib.controllers.iter() {
        for (key, _) in rib.holders.held_by(id) {
            all.insert((key.to_string(), id), rib.declaration(id, key).expect("a declaration"));
        }
    }
    for (rd, prefix, by, path) in rib.vpn_keys.iter_from(None) {
        let message = rib.path_message(path).expect("a route");
        all.insert((Key::Route(rd, prefix).to_string(), by), Kind::Route(message));
    }
    all
}

fn prefixes(numbers: &[u8]) -> v1::RoutePrefixes {
    let pool = ["10.0.0.0/8", "10.1.0.0/24", "10.1.0.5/32", "0.0.0.0/0", "2001:db8::/32", "198.18.9.0/24"];
    v1::RoutePrefixes {
        texts: numbers.iter().map(|n| pool[usize::from(*n)].to_owned()).collect(),
        ..Default::default()
    }
}

fn run(world: &mut World, ids: &[ControllerId], step: Step) {
    let before = declared(world);
    match step {
        Step::Apply(by, kind) => {
            world.by = ids[by];
            let text = Key::of(&kind).expect("a valid key").to_string();
            let mut expected = before;
            if world.apply(kind.clone()).is_ok() {
                expected.insert((text.clone(), ids[by]), kind);
            }
            let (mut now, mut expected) = (declared(world), expected);
            // Routes are read back in the plain form.
            if text.starts_with("route") {
                now.retain(|(key, _), _| *key != text);
                expected.retain(|(key, _), _| *key != text);
            }
            assert_eq!(now, expected);
        }
        Step::Routes(by, kind, numbers) => {
            let Kind::Route(attributes) = kind else { return };
            let attributes = Some(v1::Route { prefix: String::new(), ..attributes });
            let set = v1::RouteSet { attributes, prefixes: Some(prefixes(&numbers)) };
            world.rib.apply_routes(ids[by], set, &mut world.tables).expect("valid");
            let now = declared(world);
            for text in prefixes(&numbers).texts {
                let is_it = |(key, of): &&(String, ControllerId)| {
                    *of == ids[by] && key.starts_with("route ") && key.ends_with(&format!(" {text}"))
                };
                assert!(now.keys().any(|key| is_it(&key)), "{text}");
            }
        }
        Step::DeleteRoutes(by, rd, numbers) => {
            let rd = format!("65000:{rd}");
            let key = v1::RouteSetKey { rd: rd.clone(), prefixes: Some(prefixes(&numbers)) };
            world.rib.delete_route_set(ids[by], &key, &mut world.tables).expect("valid");
            let mut expected = before;
            let gone: Vec<String> =
                prefixes(&numbers).texts.iter().map(|prefix| format!("route {rd} {prefix}")).collect();
            expected.retain(|(key, of), _| *of != ids[by] || !gone.contains(key));
            assert_eq!(declared(world), expected);
        }
        Step::Delete(by, at) => {
            let own: Vec<&Kind> =
                before.iter().filter(|((_, of), _)| *of == ids[by]).map(|(_, kind)| kind).collect();
            if own.is_empty() {
                return;
            }
            world.by = ids[by];
            world.delete(&key_of(own[at.index(own.len())])).expect("a valid key");
        }
        Step::BeginSync(by) => {
            let in_force = meaning::without_objects(meaning::of(world));
            world.rib.begin_sync(ids[by], &mut world.tables);
            assert_eq!(world.rib.stale(ids[by]), world.rib.held(ids[by]));
            let has_rivals = before.keys().any(|(key, of)| {
                *of == ids[by] && before.keys().any(|(other, theirs)| key == other && of != theirs)
            });
            // Where another controller says otherwise, that counts now.
            if !has_rivals {
                assert_eq!(meaning::without_objects(meaning::of(world)), in_force);
            }
        }
        Step::Sweep(by, most) => {
            let (held, stale) = (world.rib.held(ids[by]), world.rib.stale(ids[by]));
            let (withdrawn, is_done) = world.rib.sweep(ids[by], most, &mut world.tables);
            world.open_devices();
            assert_eq!(withdrawn, stale.min(most));
            assert!(world.rib.held(ids[by]) <= held - withdrawn, "others may lose what waited");
            assert_eq!(is_done, stale <= most);
        }
    }
    invariants::check(world);
}

/// Ranks of the controllers: none, some, and all the other way round.
fn ranks() -> impl Strategy<Value = Ranks> {
    const SOME: [&[&str]; 5] = [&[], &["c"], &["b", "c"], &["c", "b", "a"], &["b*", "test"]];
    prop::sample::select(&SOME[..]).prop_map(ranked)
}

fn ranked(entries: &[&str]) -> Ranks {
    Ranks::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).expect("good")
}

fn world() -> (World, Vec<ControllerId>) {
    world_of(Ranks::default())
}

fn world_of(ranks: Ranks) -> (World, Vec<ControllerId>) {
    let mut world = World::ranked(Limits::default(), ranks);
    let ids: Vec<ControllerId> =
        NAMES.iter().map(|name| world.rib.controller(name).expect("a name")).collect();
    world.rib.keep_journal(true);
    (world, ids)
}

/// A copy in memory.
#[derive(Debug, Default, Clone, PartialEq)]
struct Memory {
    attributes: BTreeMap<u32, (ControllerId, v1::Route)>,
    paths: BTreeMap<(u32, IpNet), ()>,
    labels: BTreeMap<String, u32>,
    declarations: BTreeMap<(ControllerId, String), Kind>,
    /// What was refused when it came first.
    dropped: Vec<String>,
    /// What has no effect any more, as another one's differs.
    overridden: Vec<String>,
}

impl Copy for Memory {
    fn overridden(&mut self, controller: &str, by: &str, key: &Key) {
        self.overridden.push(format!("{key} of {controller} by {by}"));
    }

    fn dropped(&mut self, controller: &str, key: &Key, why: &str) {
        self.dropped.push(format!("{controller} {key}: {why}"));
    }

    fn attributes(&mut self, number: u32, shared: Option<(ControllerId, v1::Route)>) {
        match shared {
            Some(shared) => self.attributes.insert(number, shared),
            None => self.attributes.remove(&number),
        };
    }

    fn path(&mut self, attributes: u32, _: RouteDistinguisher, prefix: IpNet) {
        self.paths.insert((attributes, prefix), ());
    }

    fn no_path(&mut self, attributes: u32, _: RouteDistinguisher, prefix: IpNet) {
        self.paths.remove(&(attributes, prefix));
    }

    fn label(&mut self, vrf: &str, label: Option<u32>) {
        match label {
            Some(label) => self.labels.insert(vrf.to_owned(), label),
            None => self.labels.remove(vrf),
        };
    }

    fn declaration(&mut self, by: ControllerId, key: &Key, object: Option<Kind>) {
        match object {
            Some(object) => self.declarations.insert((by, key.to_string()), object),
            None => self.declarations.remove(&(by, key.to_string())),
        };
    }
}

/// A new world from a copy.
fn restored(copy: &Memory, ranks: Ranks) -> World {
    let mut world = World::ranked(Limits::default(), ranks);
    let test = world.rib.find_controller("test").expect("a controller");
    for (number, name) in NAMES.iter().enumerate() {
        world.rib.restore_controller(number as u16 + 1, name).expect("free");
    }
    assert_eq!(world.rib.held(test), 0);
    for (vrf, label) in &copy.labels {
        world.rib.restore_label(vrf, *label).expect("free");
    }
    for (number, (by, message)) in &copy.attributes {
        world.rib.restore_attributes(*number, *by, message.clone(), &mut world.tables).expect("valid");
        let paths = copy.paths.keys().filter(|(of, _)| of == number);
        let prefixes: Vec<IpNet> = paths.map(|(_, prefix)| *prefix).collect();
        world.rib.restore_paths(*number, &prefixes).expect("valid");
    }
    // In force first, as the daemon does it.
    for by in world.rib.by_precedence() {
        for ((_, _), object) in copy.declarations.iter().filter(|((of, _), _)| *of == by) {
            let World { rib, tables, .. } = &mut world;
            rib.restore_declaration(by, object.clone(), tables).expect("valid");
        }
    }
    world.rib.finish_restore(&mut world.tables);
    world.open_devices();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_is_in_force_follows_from_what_is_declared(
        steps in proptest::collection::vec(step(), 1..80),
        ranks in ranks(),
    ) {
        let (mut world, ids) = world_of(ranks.clone());
        let mut copy = Memory::default();
        for step in steps {
            run(&mut world, &ids, step);
            world.rib.write_changes(&mut [&mut copy]);
        }
        // Staleness counts between rivals, and is not kept.
        for id in &ids {
            world.rib.refresh(*id, &mut world.tables);
        }
        invariants::check(&world);
        let result = meaning::without_objects(meaning::of(&world));

        // The changes written one after the other are what is there.
        let said = (copy.dropped.clone(), copy.overridden.clone());
        let mut whole = Memory { dropped: said.0, overridden: said.1, ..Memory::default() };
        world.rib.write_all(&mut whole);
        prop_assert_eq!(&whole, &copy);
        for (number, _) in world.rib.attributes.iter_from(AttributesId(0)) {
            let is_static = !copy.attributes.contains_key(&number.0);
            prop_assert_eq!(is_static, world.rib.attributes_message(&world.rib.attributes.get(number).expect("it").attributes).is_none());
        }

        // The same declarations by other ways.
        let all = declared(&world);
        let (mut fresh, _) = world_of(ranks.clone());
        for id in fresh.rib.by_precedence() {
            fresh.by = id;
            all.iter().filter(|((_, by), _)| *by == id).for_each(|(_, kind)| {
                fresh.add(kind.clone());
            });
        }
        prop_assert_eq!(&meaning::without_objects(meaning::of(&fresh)), &result);
        let mut again = restored(&copy, ranks);
        prop_assert_eq!(&meaning::without_objects(meaning::of(&again)), &result);
        prop_assert_eq!(&declared(&again), &all);
        invariants::check(&again);

        // All of it is stale, and goes if nobody declares it again.
        for id in ids {
            prop_assert_eq!(again.rib.stale(id), again.rib.held(id));
            while !again.rib.sweep(id, 7, &mut again.tables).1 {}
            again.open_devices();
            prop_assert_eq!(again.rib.held(id), 0);
        }
        invariants::check_empty(&again);
    }
}

fn vrf(name: &str, target: &str) -> Kind {
    Kind::Vrf(v1::Vrf {
        name: name.to_owned(),
        import_route_targets: vec![target.to_owned()],
        ..Default::default()
    })
}

#[test]
fn an_object_stays_until_its_last_holder_withdraws_it() {
    let (mut world, ids) = world();
    let targets =
        |world: &World| match world.rib.get(&key_of(&vrf("red", "")), "").and_then(|i| i.object?.kind) {
            Some(Kind::Vrf(vrf)) => vrf.import_route_targets,
            _ => Vec::new(),
        };
    world.by = ids[1];
    world.add(vrf("red", "1:1"));
    world.by = ids[2];
    assert!(!world.add(vrf("red", "1:2")).changed, "the first by name counts");
    assert_eq!(targets(&world), ["1:1"]);
    world.by = ids[0];
    assert!(world.add(vrf("red", "1:3")).changed);
    let holders = world.rib.get(&key_of(&vrf("red", "")), "").expect("it is declared").holders;
    let words: Vec<_> = holders.iter().map(|h| (h.controller.as_str(), h.differs, h.stale)).collect();
    assert_eq!(words, [("a", false, false), ("b", true, false), ("c", true, false)]);
    for (id, then) in [(ids[0], "1:1"), (ids[1], "1:2")] {
        world.by = id;
        world.remove(&vrf("red", ""));
        assert_eq!(targets(&world), [then]);
    }
    world.by = ids[2];
    world.remove(&vrf("red", ""));
    assert!(world.rib.get(&key_of(&vrf("red", "")), "").is_none());
    invariants::check(&world);
}

#[test]
fn a_rank_counts_before_a_name_and_whoever_is_overridden_is_named() {
    let (mut world, ids) = world_of(ranked(&["c"]));
    let mut copy = Memory::default();
    let mut said = |world: &mut World| {
        world.rib.write_changes(&mut [&mut copy]);
        let mut all = std::mem::take(&mut copy.overridden);
        all.sort();
        all
    };
    let target =
        |world: &World| match world.rib.get(&key_of(&vrf("red", "")), "").and_then(|i| i.object?.kind) {
            Some(Kind::Vrf(vrf)) => vrf.import_route_targets.concat(),
            _ => String::new(),
        };
    world.by = ids[1];
    world.add(vrf("red", "1:1"));
    world.by = ids[0];
    world.add(vrf("red", "1:1"));
    assert_eq!(said(&mut world), Vec::<String>::new(), "they say the same");
    world.by = ids[2];
    world.add(vrf("red", "1:3"));
    assert_eq!(target(&world), "1:3");
    assert_eq!(said(&mut world), ["VRF red of a by c", "VRF red of b by c"]);
    // Saying it again is no news.
    world.by = ids[0];
    world.add(vrf("red", "1:1"));
    assert_eq!(said(&mut world), Vec::<String>::new());
    world.add(vrf("red", "1:4"));
    assert_eq!((target(&world).as_str(), said(&mut world)), ("1:3", vec!["VRF red of a by c".to_owned()]));
    // Without the one in force, the first by name counts; the other one was
    // overridden before.
    world.by = ids[2];
    world.remove(&vrf("red", ""));
    assert_eq!((target(&world).as_str(), said(&mut world)), ("1:4", Vec::new()));
    assert_eq!(ids.iter().map(|id| world.rib.rank(*id)).collect::<Vec<_>>(), [0, 0, 1]);
    invariants::check(&world);
}

#[test]
fn what_waits_behind_is_checked_when_it_comes_first() {
    let (mut world, ids) = world();
    let labelled =
        |name: &str, label| Kind::Vrf(v1::Vrf { name: name.to_owned(), label, ..Default::default() });
    world.by = ids[0];
    world.add(labelled("red", 100));
    world.by = ids[1];
    world.add(labelled("red", 200));
    world.add(labelled("blue", 200));
    let refused = world.apply(Kind::Vrf(v1::Vrf { name: "red".into(), label: 7, ..Default::default() }));
    assert_eq!(refused.expect_err("a reserved label").field, "vrf.label");
    world.by = ids[0];
    world.remove(&labelled("red", 0));
    // The label that it wanted has gone to another.
    assert!(world.rib.get(&key_of(&labelled("red", 0)), "").is_none());
    assert_eq!(world.rib.held(ids[1]), 1);
    let mut copy = Memory::default();
    world.rib.write_changes(&mut [&mut copy]);
    let [said] = copy.dropped.as_slice() else { panic!("not said once: {:?}", copy.dropped) };
    assert!(said.starts_with("b VRF red: ") && said.contains("label 200"), "{said}");
    invariants::check(&world);
}

#[test]
fn each_controller_has_its_own_path_under_one_key() {
    let (mut world, ids) = world();
    world.add(vrf("red", "1:1"));
    world.add(Kind::NextHop(v1::NextHop {
        name: "n".into(),
        target: Some(v1::next_hop::Target::Discard(v1::DiscardNextHop {})),
    }));
    let route = |med| v1::Route {
        rd: "1:1".into(),
        prefix: "10.0.0.0/8".into(),
        route_targets: vec!["1:1".into()],
        next_hop: "n".into(),
        med,
        ..Default::default()
    };
    let key = key_of(&Kind::Route(route(0)));
    for (id, med) in [(ids[0], 2), (ids[1], 1)] {
        world.by = id;
        world.add(Kind::Route(route(med)));
    }
    let med = |world: &World, controller: &str| match world
        .rib
        .get(&key, controller)
        .and_then(|i| i.object?.kind)
    {
        Some(Kind::Route(route)) => Some(route.med),
        _ => None,
    };
    assert_eq!((med(&world, "a"), med(&world, "b"), med(&world, "c")), (Some(2), Some(1), None));
    assert_eq!(med(&world, ""), Some(1), "the best");
    assert_eq!(world.route("red", "10.0.0.0/8").expect("an entry").paths, 2);
    let list = |controller: &str, page_size, token: &str| {
        let filter = v1::ListFilter { controller: controller.to_owned(), ..Default::default() };
        let kind = v1::ObjectKind::Route.into();
        let request = v1::ListRequest { kind, page_size, page_token: token.to_owned(), filter: Some(filter) };
        world.rib.list(&request).expect("a page")
    };
    assert_eq!(list("", 0, "").items.len(), 2);
    assert_eq!(list("b", 0, "").items.len(), 1);
    let first = list("", 1, "");
    assert_eq!(first.items.len(), 1);
    let second = list("", 1, &first.next_page_token);
    assert_eq!((second.items.len(), second.next_page_token.as_str()), (1, ""));
    world.by = ids[1];
    world.remove(&Kind::Route(route(0)));
    assert_eq!(med(&world, ""), Some(2));
    invariants::check(&world);
}

#[test]
fn what_was_said_by_who_has_gone_gives_way_to_what_others_say_of_it() {
    let (mut world, ids) = world();
    world.add(vrf("red", "1:1"));
    world.add(vrf("blue", "1:2"));
    for vrf in ["red", "blue"] {
        let target = Some(v1::next_hop::Target::Vrf(vrf.to_owned()));
        world.add(Kind::NextHop(v1::NextHop { name: vrf.to_owned(), target }));
    }
    let route = |rd: &str, next_hop: &str| {
        Kind::Route(v1::Route {
            rd: rd.into(),
            prefix: "10.0.0.0/8".into(),
            route_targets: vec!["1:1".into()],
            next_hop: next_hop.into(),
            ..Default::default()
        })
    };
    let led = |world: &World| world.route("red", "10.0.0.0/8").map(|entry| entry.next_hop);
    world.by = ids[0];
    world.add(route("1:1", "red"));
    world.by = ids[1];
    world.add(route("1:1", "blue"));
    assert_eq!(led(&world).as_deref(), Some("red"), "the first controller");
    // It goes: what the other one says may be newer.
    assert!(world.rib.begin_sync(ids[0], &mut world.tables));
    assert_eq!(led(&world).as_deref(), Some("blue"));
    // Both are gone: it is as before.
    assert!(world.rib.begin_sync(ids[1], &mut world.tables));
    assert_eq!(led(&world).as_deref(), Some("red"));
    world.add(route("1:1", "blue"));
    assert_eq!(led(&world).as_deref(), Some("blue"), "said again");
    world.by = ids[0];
    world.add(route("1:1", "red"));
    assert_eq!(led(&world).as_deref(), Some("red"), "the first one is back");
    // Another route to the prefix is no rival, however stale the better one is.
    world.by = ids[1];
    world.add(route("1:2", "blue"));
    world.remove(&route("1:1", "blue"));
    assert!(!world.rib.begin_sync(ids[0], &mut world.tables));
    assert_eq!(led(&world).as_deref(), Some("red"));
    invariants::check(&world);
}

#[test]
fn one_bad_prefix_refuses_a_set() {
    let (mut world, ids) = world();
    let set = |texts: &[&str]| v1::RouteSet {
        attributes: Some(v1::Route {
            rd: "1:1".into(),
            route_targets: vec!["1:1".into()],
            next_hop: "n".into(),
            ..Default::default()
        }),
        prefixes: Some(v1::RoutePrefixes {
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            ..Default::default()
        }),
    };
    let refusal = world
        .rib
        .apply_routes(ids[0], set(&["10.0.0.0/8", "10.0.0.1/8"]), &mut world.tables)
        .expect_err("host bits");
    assert_eq!(refusal.field, "prefixes.texts[1]");
    assert_eq!(world.rib.held(ids[0]), 0);
    let mut without_target = set(&["10.0.0.0/8"]);
    if let Some(attributes) = &mut without_target.attributes {
        attributes.route_targets.clear();
    }
    let refusal = world.rib.apply_routes(ids[0], without_target, &mut world.tables).expect_err("no target");
    assert_eq!(refusal.field, "attributes.route_targets");
    let twice = world.rib.apply_routes(ids[0], set(&["10.0.0.0/8", "10.0.0.0/8"]), &mut world.tables);
    assert!(twice.expect("valid").changed);
    assert_eq!(world.rib.held(ids[0]), 1);
    invariants::check(&world);
}
