use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const VRFS: usize = 20;
const PLACES: u32 = 64;

#[derive(Debug, Clone)]
enum Step {
    /// Begins a session, or changes one that is there.
    Set {
        place: u32,
        vrf: usize,
        held: bool,
    },
    Remove(u32),
    Rotate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PLACES, prop_oneof![0..VRFS, 0..3usize], any::<bool>())
            .prop_map(|(place, vrf, held)| Step::Set { place, vrf, held }),
        3 => (0..PLACES).prop_map(Step::Remove),
        1 => (0..VRFS).prop_map(Step::Rotate),
    ]
}

fn grip(held: bool) -> Grip {
    if held { Grip::Held } else { Grip::Loose }
}

proptest! {
    #[test]
    fn sums_and_lists_are_what_counting_says(steps in proptest::collection::vec(step(), 1..200)) {
        let mut shares = Shares::new(VRFS, PLACES as usize);
        let memory = (shares.links.capacity(), shares.present.capacity());
        let mut places: BTreeMap<u32, (usize, bool)> = BTreeMap::new();
        // The oldest first.
        let mut order: Vec<u32> = Vec::new();
        for step in steps {
            match step {
                Step::Set { place, vrf, held } => match places.insert(place, (vrf, held)) {
                    None => {
                        shares.add(place, vrf, grip(held));
                        order.push(place);
                    }
                    Some((vrf, before)) => {
                        places.insert(place, (vrf, held));
                        shares.change(place, vrf, grip(before), grip(held));
                        if before != held {
                            order.retain(|other| *other != place);
                            order.push(place);
                        }
                    }
                },
                Step::Remove(place) => {
                    if let Some((vrf, held)) = places.remove(&place) {
                        shares.remove(place, vrf, grip(held));
                        order.retain(|other| *other != place);
                    }
                }
                Step::Rotate(vrf) => {
                    shares.rotate_held(vrf);
                    if let Some(at) = order.iter().position(|place| places[place] == (vrf, true)) {
                        let place = order.remove(at);
                        order.push(place);
                    }
                }
            }
            let mut weights: BTreeMap<usize, u64> = BTreeMap::new();
            for (vrf, held) in places.values() {
                *weights.entry(*vrf).or_default() += if *held { 1 } else { u64::from(LOOSE_WEIGHT) };
            }
            prop_assert_eq!(weight(shares.sessions, shares.loose), weights.values().sum::<u64>());
            let mut present: Vec<usize> = shares.present.iter().map(|vrf| usize::from(*vrf)).collect();
            present.sort_unstable();
            prop_assert_eq!(present, weights.keys().copied().collect::<Vec<_>>());
            for vrf in 0..VRFS {
                prop_assert_eq!(shares.weight_of(vrf), weights.get(&vrf).copied().unwrap_or(0));
                let of = |wanted: bool| order.iter().copied().find(|place| places[place] == (vrf, wanted));
                prop_assert_eq!(shares.oldest_loose(vrf), of(false));
                prop_assert_eq!(shares.oldest_held(vrf), of(true));
            }
            shares.look_around();
            let most = weights.values().max().copied().unwrap_or(0);
            prop_assert_eq!(shares.weight_of(usize::from(shares.heaviest)), most, "all are looked at in one go");
        }
        prop_assert_eq!((shares.links.capacity(), shares.present.capacity()), memory, "nothing was allocated");
    }

    #[test]
    fn no_second_has_more_than_two_seconds_worth(
        rate in 0u32..200, start: u32, pauses in proptest::collection::vec(0u32..40, 1..200),
    ) {
        let mut shares = Shares::new(1, 1);
        let (mut now, mut begun) = (Tick(start), Vec::new());
        for pause in pauses {
            now = now.after(pause);
            for _ in 0..20 {
                if shares.is_within_rate(0, rate, now) {
                    shares.spend(0, rate);
                    begun.push(now);
                }
            }
        }
        for (at, first) in begun.iter().enumerate() {
            let within = begun[at..].iter().filter(|later| later.since(*first) < Tick::PER_SECOND).count();
            prop_assert!(within <= 2 * rate as usize, "{within} in a second with a rate of {rate}");
        }
    }
}

#[test]
fn a_rate_that_is_raised_helps_at_once_and_none_is_none() {
    let mut shares = Shares::new(2, 1);
    let mut begin = |rate, now| {
        let allowed = shares.is_within_rate(1, rate, Tick(now));
        if allowed {
            shares.spend(1, rate);
        }
        allowed
    };
    assert!(begin(2, 7) && begin(2, 7) && !begin(2, 7));
    assert!(begin(3, 7), "three are allowed now");
    assert!(!begin(3, 7));
    assert!((0..1000).all(|_| begin(Allowance::UNLIMITED, 7)));
    assert!(!begin(0, 7 + 100 * Tick::PER_SECOND));
}

#[test]
fn the_heaviest_of_many_is_found_after_a_round_whoever_comes_and_goes() {
    const MANY: usize = 4000;
    let mut shares = Shares::new(MANY, 2 * MANY);
    (0..MANY).for_each(|vrf| shares.add(vrf as u32, vrf, Grip::Held));
    shares.add(MANY as u32, 3456, Grip::Loose);
    (0..MANY.div_ceil(LOOKS)).for_each(|_| shares.look_around());
    assert_eq!(shares.heaviest, 3456);
    // It leaves, and so do most of the others.
    shares.remove(MANY as u32, 3456, Grip::Loose);
    (17..MANY).for_each(|vrf| shares.remove(vrf as u32, vrf, Grip::Held));
    shares.add(MANY as u32, 5, Grip::Held);
    shares.look_around();
    assert_eq!((shares.heaviest, shares.present.len()), (5, 17));
}
