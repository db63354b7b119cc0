//! Power that is lost: what was not brought to disk is gone in part, and the
//! machine has started anew.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use tieline_store::{Opened, Options, Store};

use crate::history::{Op, Random, Step};
use crate::support::{Place, State, copy, small, state_of};

/// Writes before and after the moment that all was brought to disk.
const EACH: usize = 60;

/// Nothing comes to disk by itself.
fn options() -> Options {
    Options { sync_interval: Duration::from_secs(3600), ..small() }
}

/// What the position file says after a power loss: another boot.
fn set_position(path: &Path, written: u64, synced: u64) {
    let mut bytes = vec![0xb0; 16];
    bytes.extend(written.to_le_bytes());
    bytes.extend(synced.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    std::fs::write(path.join("position"), bytes).expect("there is space");
}

#[test]
fn a_power_loss_takes_only_the_end_of_what_was_not_on_disk() {
    let place = Place::new("power");
    let original = place.path("original");
    let (store, _) = Store::open(&original, options()).expect("it can be made");
    let mut random = Random(31);
    let mut states = vec![State::new()];
    let journal_bytes = || std::fs::metadata(original.join("state.db-wal")).expect("it is there").len();
    let mut on_disk = 0;
    for number in 1..=2 * EACH {
        let step = Step::Write((0..random.below(9) + 1).map(|_| Op::random(&mut random)).collect());
        store.write(&mut step.changes()).expect("there is space");
        let mut state = states.last().expect("there is one").clone();
        step.apply(&mut state);
        states.push(state);
        if number == EACH {
            store.sync().expect("the disk works");
            on_disk = journal_bytes();
        }
    }
    drop(store);
    let all = journal_bytes();
    assert!(on_disk > 0 && all > on_disk + 100_000, "{on_disk} of {all} bytes on disk");

    let path = place.path("state");
    let mut reached = Vec::new();
    for round in 0..60 {
        let _ = std::fs::remove_dir_all(&path);
        copy(&original, &path);
        let lost_from = on_disk + random.below(all - on_disk + 1);
        let journal = File::options().write(true).open(path.join("state.db-wal")).expect("it is there");
        if round % 2 == 0 {
            journal.set_len(lost_from).expect("it can be cut");
        } else {
            // What came later may be there nevertheless.
            let zeros = vec![0; (all - lost_from).min(4096) as usize];
            journal.write_all_at(&zeros, lost_from).expect("there is space");
        }
        set_position(&path, 2 * EACH as u64, EACH as u64);
        let (store, opened) = Store::open(&path, options()).expect("it can be opened");
        assert_eq!(
            opened,
            Opened::Restored { complete: true, migrated_from: None, salvaged: None },
            "lost from {lost_from}"
        );
        let found = state_of(&store).expect("whole");
        let number = store.health().written as usize;
        assert!(number >= EACH, "{number} changes, {EACH} were on disk");
        assert!(found == states[number], "not the state at change {number}");
        reached.push(number);
    }
    reached.sort_unstable();
    reached.dedup();
    assert!(reached.len() > 10, "the losses were all alike: {reached:?}");

    // More than that is no power loss.
    let _ = std::fs::remove_dir_all(&path);
    copy(&original, &path);
    let journal = File::options().write(true).open(path.join("state.db-wal")).expect("it is there");
    journal.set_len(on_disk / 2).expect("it can be cut");
    set_position(&path, 2 * EACH as u64, EACH as u64);
    let (_, opened) = Store::open(&path, options()).expect("the daemon starts");
    let Opened::Restored { complete: false, salvaged: Some(salvaged), .. } = opened else {
        panic!("{opened:?}")
    };
    assert!(salvaged.reason.contains("were stored and are gone"), "{salvaged:?}");
    assert!(salvaged.missing.contains("changes"), "{salvaged:?}");
}
