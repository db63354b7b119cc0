//! Damaged files: the state that was stored, or an error; never another state
//! and never a panic.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tieline_store::{Changes, Opened, Options, Store};

use crate::history::{Op, Random, Step};
use crate::support::{Place, State, copy, reopen, small, state_of};

const ROUNDS: u64 = 200;

fn options() -> Options {
    Options { log_bytes: 50_000, ..small() }
}

/// Options under which nothing is merged: what is in the database alone stays
/// there alone.
fn calm() -> Options {
    Options { log_bytes: Options::default().log_bytes, ..small() }
}

/// A store whose blocks, log and journal all hold something.
fn store_with_history(path: &Path) -> State {
    let (store, _) = Store::open(path, options()).expect("it can be made");
    let mut random = Random(11);
    let mut state = State::new();
    for number in 0..400_u32 {
        let mut step = Step::Write((0..random.below(12)).map(|_| Op::random(&mut random)).collect());
        if number == 0 {
            let value = || Some(vec![7; 20_000]);
            step = Step::Replace((0..40).map(|key| Op::Declaration(9, vec![b'a' + key], value())).collect());
        }
        match &step {
            Step::Replace(_) => store.replace_all(&mut step.changes()).expect("there is space"),
            _ => store.write(&mut step.changes()).expect("there is space"),
        }
        step.apply(&mut state);
    }
    drop(store);
    // So far all of it is in the journal too, which goes before the database.
    let database = rusqlite::Connection::open(path.join("state.db")).expect("nobody has it");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("there is space");
    drop(database);
    let store = reopen(path, calm());
    for _ in 0..40 {
        let step = Step::Write((0..4).map(|_| Op::random(&mut random)).collect());
        store.write(&mut step.changes()).expect("there is space");
        step.apply(&mut state);
    }
    assert!(state.len() > 100);
    state
}

/// Damages one file of the store and says how.
fn damage(path: &Path, random: &mut Random) -> String {
    let name = ["state.db", "state.db", "state.db-wal", "state.db-wal", "position"][random.below(5) as usize];
    let file = path.join(name);
    let length = std::fs::metadata(&file).expect("it is there").len();
    let open = || File::options().write(true).read(true).open(&file).expect("it is there");
    // Where pages begin, more is at stake.
    let mut at = random.below(length);
    if random.below(3) == 0 {
        at = at / 4096 * 4096 + random.below(120).min(length - 1 - at / 4096 * 4096);
    }
    match random.below(8) {
        0 => {
            std::fs::remove_file(&file).expect("it is there");
            format!("{name} removed")
        }
        1 | 2 => {
            open().set_len(at).expect("it can be cut");
            format!("{name} of {length} bytes cut to {at}")
        }
        3 => {
            let zeros = vec![0; random.below(9000) as usize];
            open().write_all_at(&zeros, at).expect("there is space");
            format!("{name}: {} zeros at {at} of {length}", zeros.len())
        }
        4 => {
            let noise: Vec<_> = (0..random.below(600)).map(|_| random.next() as u8).collect();
            open().write_all_at(&noise, at).expect("there is space");
            format!("{name}: {} random bytes at {at} of {length}", noise.len())
        }
        _ => {
            let mut byte = [0];
            let file = open();
            file.read_exact_at(&mut byte, at).expect("within the file");
            byte[0] ^= 1 << random.below(8);
            file.write_all_at(&byte, at).expect("within the file");
            format!("{name}: a bit at {at} of {length}")
        }
    }
}

#[test]
fn damage_is_harmless_or_noticed() {
    let place = Place::new("damage");
    let original = place.path("original");
    let state = store_with_history(&original);
    let path = place.path("state");
    // Another seed, other damage.
    let seed = std::env::var("TIELINE_STORE_DAMAGE_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = Random(seed.unwrap_or(12));
    let (mut harmless, mut aside, mut named) = (0, 0, 0);
    for _ in 0..ROUNDS {
        copy(&original, &path);
        let what = damage(&path, &mut random);
        let (store, opened) = Store::open(&path, calm()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let store = match opened {
            Opened::SetAside { kept_at, reason } => {
                aside += 1;
                assert!(kept_at.is_dir(), "{what}");
                assert!(reason.contains("damaged"), "{what}: {reason}");
                store
            }
            Opened::Restored { .. } => match state_of(&store) {
                Ok(found) => {
                    assert!(found == state, "{what}: another state, unnoticed");
                    harmless += 1;
                    continue;
                }
                Err(error) => {
                    named += 1;
                    assert!(error.is_damage(), "{what}: {error}");
                    let (store, opened) = store.set_aside(&error.to_string()).expect("it can be moved");
                    assert!(matches!(opened, Opened::SetAside { .. }), "{what}");
                    store
                }
            },
            Opened::Fresh => panic!("{what}: all is gone, unnoticed"),
        };
        // Whatever it was, the next store works.
        assert_eq!(state_of(&store).expect("it is new"), State::new(), "{what}");
        let mut changes = Changes::new();
        changes.put_label("red", 16);
        store.write(&mut changes).expect("there is space");
        drop(store);
        assert_eq!(state_of(&reopen(&path, calm())).expect("whole").len(), 1, "{what}");
    }
    eprintln!("{harmless} harmless, {aside} set aside when opened, {named} named when loaded");
    assert!(harmless > 0 && aside > 0 && named > 0, "{harmless}, {aside}, {named}");
}
