//! A store over random histories is a map that is still there after it was
//! closed.

use std::time::Duration;

use proptest::prelude::*;
use tieline_store::{Opened, Options, Store};

use crate::history::{Random, Step};
use crate::support::{Place, State, reopen, small, state_of};

fn run(seed: u64, options: &Options) {
    let place = Place::new(&format!("model-{seed}"));
    let path = place.path("state");
    let mut random = Random(seed);
    let mut state = State::new();
    let (mut store, opened) = Store::open(&path, options.clone()).expect("it can be made");
    assert_eq!(opened, Opened::Fresh);
    let node_id = store.node_id();
    for _ in 0..random.below(150) {
        let step = Step::random(&mut random);
        match &step {
            Step::Write(_) => store.write(&mut step.changes()).expect("there is space"),
            Step::Replace(_) => store.replace_all(&mut step.changes()).expect("there is space"),
            Step::Sync => store.sync().expect("the disk works"),
        }
        step.apply(&mut state);
        match random.below(40) {
            0 => {
                drop(store);
                store = reopen(&path, options.clone());
            }
            1 => assert_eq!(state_of(&store).expect("whole"), state, "seed {seed}"),
            _ => {}
        }
    }
    assert_eq!(store.health().lost, None);
    drop(store);
    let store = reopen(&path, options.clone());
    assert_eq!(state_of(&store).expect("whole"), state, "seed {seed}");
    assert_eq!(store.node_id(), node_id);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_is_a_map_that_stays(seed in any::<u64>()) {
        run(seed, &small());
    }
}

/// Every write waits for the disk.
#[test]
fn a_store_that_waits_for_the_disk_is_on_disk() {
    let place = Place::new("synced");
    let options = Options { sync_interval: Duration::ZERO, ..small() };
    let (store, _) = Store::open(&place.path("state"), options).expect("it can be made");
    let mut random = Random(7);
    for _ in 0..20 {
        store
            .write(&mut Step::Write(vec![crate::history::Op::random(&mut random)]).changes())
            .expect("space");
        let health = store.health();
        assert_eq!(health.synced, health.written);
    }
}

/// The thread of the store brings to disk what nobody waits for.
#[test]
fn what_is_written_comes_to_disk_by_itself() {
    let place = Place::new("sync-thread");
    let (store, _) = Store::open(&place.path("state"), small()).expect("it can be made");
    let mut random = Random(8);
    store.write(&mut Step::Write(vec![crate::history::Op::random(&mut random)]).changes()).expect("space");
    for _ in 0..1000 {
        if store.health().synced == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not on disk after 5 s: {:?}", store.health());
}
