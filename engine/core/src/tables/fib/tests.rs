use std::collections::BTreeMap;

use proptest::prelude::*;

use super::array::LIVE_BYTES;
use super::key::{FibKey, Span};
use super::{Fib, canonical, lookup};

/// What a table should be: routes in order.
type Model<K> = BTreeMap<(K, u8), u64>;

fn longest_match<K: FibKey>(model: &Model<K>, key: K) -> Option<(K, u8, u64)> {
    (0..=K::WIDTH).rev().find_map(|length| {
        let (prefix, length) = canonical(key, length);
        model.get(&(prefix, length)).map(|value| (prefix, length, *value))
    })
}

#[derive(Debug, Clone)]
enum Step<K> {
    Insert(K, u8, u64),
    Remove(K, u8),
    /// Takes out one that is there.
    RemoveNth(usize),
    Publish,
}

/// Addresses that share leading bits with others, of a few clusters.
fn address4() -> impl Strategy<Value = u32> + Clone {
    (0u32..4, any::<u32>(), 0u32..33).prop_map(|(cluster, noise, keep)| {
        let base = [0, 0x0A01_0203, 0xC0A8_FFFF, u32::MAX][cluster as usize];
        base ^ noise.checked_shr(keep).unwrap_or(0)
    })
}

fn address6() -> impl Strategy<Value = u128> + Clone {
    (0u32..4, any::<u128>(), 0u32..129).prop_map(|(cluster, noise, keep)| {
        let base = [0, 0x2001_0DB8_0001_0002_0003_0004_0005_0006, 0xFD00 << 112 | 1, u128::MAX];
        base[cluster as usize] ^ noise.checked_shr(keep).unwrap_or(0)
    })
}

fn steps<K: FibKey>(
    address: impl Strategy<Value = K> + Clone + 'static,
) -> impl Strategy<Value = Vec<Step<K>>> {
    let length = 0..=K::WIDTH;
    let step = prop_oneof![
        8 => (address.clone(), length.clone(), any::<u64>()).prop_map(|(k, l, v)| Step::Insert(k, l, v)),
        1 => (address, length).prop_map(|(k, l)| Step::Remove(k, l)),
        4 => any::<usize>().prop_map(Step::RemoveNth),
        1 => Just(Step::Publish),
    ];
    proptest::collection::vec(step, 1..150)
}

fn apply<K: FibKey>(step: Step<K>, fib: &mut Fib<K, u64>, model: &mut Model<K>) {
    match step {
        Step::Insert(key, length, value) => {
            assert_eq!(fib.insert(key, length, value), model.insert(canonical(key, length), value));
            assert_eq!(fib.exact(key, length), Some(value));
        }
        Step::Remove(key, length) => {
            assert_eq!(fib.remove(key, length), model.remove(&canonical(key, length)));
            assert_eq!(fib.exact(key, length), None);
        }
        Step::RemoveNth(nth) if !model.is_empty() => {
            let (key, length) = *model.keys().nth(nth % model.len()).expect("it is below the length");
            assert_eq!(fib.remove(key, length), model.remove(&(key, length)));
        }
        Step::RemoveNth(_) | Step::Publish => {}
    }
}

fn check<K: FibKey>(fib: &Fib<K, u64>, model: &Model<K>, keys: &[K]) {
    assert_eq!(fib.len(), model.len());
    assert!(fib.iter().eq(model.iter().map(|(&(key, length), &value)| (key, length, value))));
    if let Some(root) = &fib.root {
        root.check();
    }
    assert_eq!(fib.memory_bytes(), fib.root.as_ref().map_or(0, super::Node::count_bytes));
    // Beside the given keys, each route's own address.
    let keys: Vec<K> = keys.iter().copied().chain(model.keys().map(|(key, _)| *key)).collect();
    let mut out = vec![Some(0); keys.len()];
    fib.lookup_burst(&keys, &mut out);
    // As in a table that is too large for the near caches.
    let mut interleaved = vec![Some(0); keys.len()];
    lookup::burst(fib.root.as_ref(), usize::MAX, &keys, &mut interleaved);
    assert_eq!(interleaved, out);
    for (key, burst) in keys.iter().zip(out) {
        let expected = longest_match(model, *key);
        assert_eq!(fib.lookup_prefix(*key), expected, "{key:?}");
        assert_eq!(fib.lookup(*key), expected.map(|(_, _, value)| value), "{key:?}");
        assert_eq!(burst, fib.lookup(*key), "{key:?}");
    }
}

/// Runs the steps beside the model; copies taken on the way must not change.
fn behaves_like_the_model<K: FibKey>(steps: Vec<Step<K>>, keys: &[K]) {
    let (mut fib, mut model) = (Fib::default(), Model::new());
    let mut published = vec![(fib.clone(), model.clone())];
    for step in steps {
        let publish = matches!(step, Step::Publish);
        apply(step, &mut fib, &mut model);
        if publish {
            published.push((fib.clone(), model.clone()));
        }
    }
    check(&fib, &model, keys);
    for (fib, model) in &published {
        check(fib, model, keys);
    }
    for (key, length) in std::mem::take(&mut model).into_keys() {
        assert!(fib.remove(key, length).is_some());
    }
    check(&fib, &model, keys);
    assert_eq!(fib.memory_bytes(), 0);
    assert!(fib.root.is_none());
    drop((fib, published));
    assert_eq!(LIVE_BYTES.get(), 0);
}

/// Several tables, copies of each other, each of which is changed and dropped
/// at any time.
fn copies_live_on_their_own<K: FibKey>(steps: Vec<(usize, bool, Step<K>)>) {
    let mut tables = vec![(Fib::default(), Model::new())];
    for (pick, ends, step) in steps {
        let at = pick % tables.len();
        if matches!(step, Step::Publish) {
            tables.push(tables[at].clone());
        } else if ends && tables.len() > 1 {
            tables.swap_remove(at);
        } else {
            let (fib, model) = &mut tables[at];
            apply(step, fib, model);
        }
        for (fib, model) in &tables {
            check(fib, model, &[]);
        }
    }
    let bytes = tables.iter().map(|(fib, _)| fib.memory_bytes()).sum::<usize>();
    assert!(bytes == 0 || LIVE_BYTES.get() > 0);
    drop(tables);
    assert_eq!(LIVE_BYTES.get(), 0);
}

/// From every start, the iteration is the tail of the whole one.
fn pages_like_the_model<K: FibKey>(routes: Vec<(K, u8)>, start: K, length: u8) {
    let (mut fib, mut model) = (Fib::default(), Model::new());
    for (value, (key, length)) in (0..).zip(routes) {
        fib.insert(key, length, value);
        model.insert(canonical(key, length), value);
    }
    let starts: Vec<(K, u8)> =
        model.keys().copied().chain([canonical(start, length), (start, K::WIDTH)]).collect();
    for (key, length) in starts {
        let tail = model.range((key, length)..).map(|(&(key, length), &value)| (key, length, value));
        assert!(fib.iter_from(key, length).eq(tail), "from {key:?}/{length}");
    }
}

/// A search's chunk is the writer's wherever there is one, and above the
/// span's mask, if anything, wherever there is none.
fn windows_are_chunks<K: FibKey>(path: K, key: K, length: u8) {
    let span = Span::of_length::<K>(length);
    let path = path.truncate(span.start);
    let window = key.window(path.pack(), span);
    match key.chunk(path, span) {
        Some(chunk) => assert_eq!(window, Some(chunk), "{key:?} under {path:?} at {span:?}"),
        None => assert!(window.is_none_or(|window| window > u32::from(span.mask) && window < 64)),
    }
}

proptest! {
    #[test]
    fn ipv4_windows_are_chunks(path in address4(), key in address4(), length in 0u8..=32) {
        windows_are_chunks(path, key, length);
    }

    #[test]
    fn ipv6_windows_are_chunks(path in address6(), key in address6(), length in 0u8..=128) {
        windows_are_chunks(path, key, length);
    }

    #[test]
    fn ipv4_behaves_like_a_linear_search(
        steps in steps(address4()),
        keys in proptest::collection::vec(address4(), 0..80),
    ) {
        behaves_like_the_model(steps, &keys);
    }

    #[test]
    fn ipv6_behaves_like_a_linear_search(
        steps in steps(address6()),
        keys in proptest::collection::vec(address6(), 0..80),
    ) {
        behaves_like_the_model(steps, &keys);
    }

    #[test]
    fn copies_share_nothing_that_changes(
        steps in steps(address4()),
        picks in proptest::collection::vec((0usize..6, proptest::bool::weighted(0.1)), 150),
    ) {
        let steps = steps.into_iter().zip(picks);
        copies_live_on_their_own(steps.map(|(step, (pick, ends))| (pick, ends, step)).collect());
    }

    #[test]
    fn ipv4_pages_from_any_start(
        routes in proptest::collection::vec((address4(), 0u8..=32), 0..60),
        start in address4(),
        length in 0u8..=40,
    ) {
        pages_like_the_model(routes, start, length);
    }

    #[test]
    fn ipv6_pages_from_any_start(
        routes in proptest::collection::vec((address6(), 0u8..=128), 0..60),
        start in address6(),
        length in 0u8..=140,
    ) {
        pages_like_the_model(routes, start, length);
    }
}

#[test]
fn every_length_nests_along_one_address() {
    fn nest<K: FibKey>(key: K) {
        let (mut fib, mut model) = (Fib::default(), Model::new());
        for length in (0..=K::WIDTH).rev() {
            fib.insert(key, length, u64::from(length));
            model.insert(canonical(key, length), u64::from(length));
        }
        check(&fib, &model, &[key, K::default()]);
        for length in (0..=K::WIDTH).rev() {
            assert_eq!(fib.lookup(key), Some(u64::from(length)));
            assert_eq!(fib.remove(key, length), Some(u64::from(length)));
        }
        assert_eq!(fib.lookup(key), None);
    }
    nest(0xC0A8_5501_u32);
    nest(u32::MAX);
    nest(0u32);
    nest(0x2001_0DB8_0001_0002_0003_0004_0005_0006_u128);
    nest(u128::MAX);
    nest(0u128);
}

#[test]
fn a_burst_stops_at_the_shorter_slice() {
    let mut fib = Fib::<u32, u64>::default();
    let mut out = [Some(9); 4];
    fib.lookup_burst(&[1, 2], &mut out);
    assert_eq!(out, [None, None, Some(9), Some(9)]);
    fib.insert(0, 0, 7);
    fib.insert(0x0100_0000, 8, 8);
    fib.lookup_burst(&[1, 0x0100_0000], &mut out);
    assert_eq!(out, [Some(7), Some(8), Some(9), Some(9)]);
    fib.lookup_burst(&[1, 2, 3, 4, 5], &mut out[..1]);
    assert_eq!(out[0], Some(7));
}

#[test]
fn ten_routes_take_less_than_a_kilobyte() {
    let mut fib4 = Fib::<u32>::default();
    let mut fib6 = Fib::<u128>::default();
    let value = crate::tables::vrf::FibEntry {
        next_hop: crate::types::NextHopId::DISCARD,
        sg_set: crate::types::SgSetId::EMPTY,
    };
    for n in 0..10u32 {
        let scattered = n.wrapping_mul(0x9E37_79B9);
        fib4.insert(scattered, 32, value);
        fib6.insert(u128::from(scattered) << 96 | u128::from(n), 128, value);
    }
    assert!(fib4.memory_bytes() + size_of_val(&fib4) < 1024, "{}", fib4.memory_bytes());
    assert!(fib6.memory_bytes() + size_of_val(&fib6) < 1024, "{}", fib6.memory_bytes());
}

#[test]
fn a_change_copies_only_its_own_path() {
    let mut fib = Fib::<u32, u64>::default();
    for n in 0..100_000u32 {
        fib.insert(n << 8, 24, u64::from(n));
    }
    let before = fib.clone();
    assert_eq!(fib.insert(5 << 8, 24, 1), Some(5));
    assert_eq!(before.lookup(5 << 8), Some(5));
    let own = fib.root.as_ref().map_or(0, super::Node::count_unshared_bytes);
    assert!(own > 0 && own < 8192, "{own} of {} bytes copied", fib.memory_bytes());
}

#[test]
fn a_long_line_of_epochs_ends_without_recursion() {
    let mut fib = Fib::<u32, u64>::default();
    fib.insert(1 << 8, 24, 0);
    fib.insert(2 << 8, 24, 0);
    let first = fib.clone();
    for n in 0..200_000u64 {
        let copy = fib.clone();
        fib.insert(2 << 8, 24, n);
        drop(copy);
    }
    assert_eq!(first.lookup(2 << 8), Some(0));
    drop(first);
    assert_eq!(LIVE_BYTES.get(), fib.memory_bytes(), "what only the old copies had is freed");
}

#[test]
fn copies_may_end_in_another_thread() {
    let mut fib = Fib::<u32, u64>::default();
    for n in 0..1000u32 {
        fib.insert(n << 8, 24, 0);
    }
    for n in 1..200u64 {
        let copy = fib.clone();
        let reader = std::thread::spawn(move || {
            let found: Vec<Option<u64>> = (0..1000u32).map(|route| copy.lookup(route << 8)).collect();
            assert!(found.iter().all(|value| *value == Some(n - 1)), "{found:?}");
        });
        for route in 0..1000u32 {
            fib.insert(route << 8, 24, n);
        }
        reader.join().expect("the copy is as it was when it was taken");
    }
}
