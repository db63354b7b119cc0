//! Damaged files: the state that was stored, or an error; never another state
//! and never a panic.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tieline_store::{Changes, Opened, Options, Store};

use crate::history::{Op, Random, Step};
use crate::support::{Place, State, copy, insert, reopen, small, state_of};

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
    let (mut harmless, mut salvages, mut aside) = (0, 0, 0);
    for _ in 0..ROUNDS {
        copy(&original, &path);
        let what = damage(&path, &mut random);
        let (store, opened) = Store::open(&path, calm()).unwrap_or_else(|error| panic!("{what}: {error}"));
        // All that is damaged has been found by now.
        let found = state_of(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
        match opened {
            Opened::Restored { salvaged: None, .. } => {
                assert!(found == state, "{what}: another state, unnoticed");
                harmless += 1;
                continue;
            }
            Opened::Restored { complete, salvaged: Some(salvaged), .. } => {
                salvages += 1;
                assert!(salvaged.kept_at.is_dir(), "{what}");
                assert!(salvaged.reason.contains("damaged"), "{what}: {salvaged:?}");
                assert_eq!(complete, salvaged.missing.is_empty(), "{what}: {salvaged:?}");
                assert!(!complete || found == state, "{what}: another state, unnoticed");
            }
            Opened::SetAside { kept_at, reason } => {
                aside += 1;
                assert!(kept_at.is_dir(), "{what}");
                assert!(reason.contains("damaged"), "{what}: {reason}");
                assert_eq!(found, State::new(), "{what}");
            }
            Opened::Fresh => panic!("{what}: all is gone, unnoticed"),
        }
        // Whatever it was, the next store works.
        let mut changes = Changes::new();
        changes.put_label("after", 16);
        store.write(&mut changes).expect("there is space");
        drop(store);
        let (store, opened) = Store::open(&path, calm()).expect("it is whole");
        assert!(matches!(opened, Opened::Restored { salvaged: None, .. }), "{what}: {opened:?}");
        assert_eq!(state_of(&store).expect("whole").len(), found.len() + 1, "{what}");
    }
    eprintln!("{harmless} harmless, {salvages} salvaged, {aside} set aside");
    assert!(harmless > 0 && salvages > 0, "{harmless}, {salvages}, {aside}");
}

/// How many records are not as they were.
fn differences(found: &State, state: &State) -> usize {
    let other = |(name, value): &(&String, &Vec<u8>)| found.get(*name) != Some(*value);
    state.iter().filter(other).count() + found.keys().filter(|name| !state.contains_key(*name)).count()
}

#[test]
fn a_bad_bit_costs_only_what_it_touches() {
    let place = Place::new("bit");
    let original = place.path("original");
    let state = store_with_history(&original);
    let path = place.path("state");
    let mut random = Random(13);
    for name in ["state.db", "state.db-wal"] {
        let (mut salvages, mut rescued) = (0, 0);
        for _ in 0..100 {
            copy(&original, &path);
            let file = path.join(name);
            let mut bytes = std::fs::read(&file).expect("it is there");
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            std::fs::write(&file, bytes).expect("written");
            let (store, opened) = Store::open(&path, calm()).expect("it can be opened");
            let found = state_of(&store).expect("whole");
            match opened {
                Opened::Restored { salvaged: None, .. } => assert_eq!(found, state, "{name} at {at}"),
                Opened::Restored { salvaged: Some(_), .. } => {
                    salvages += 1;
                    rescued += usize::from(differences(&found, &state) <= state.len() / 4);
                }
                Opened::SetAside { .. } => salvages += 1,
                Opened::Fresh => panic!("{name} at {at}: all is gone, unnoticed"),
            }
        }
        eprintln!("{name}: {rescued} of {salvages}");
        // The pages that lead to all others are a few.
        assert!(salvages > 0 && rescued * 10 >= salvages * 9, "{name}: {rescued} of {salvages}");
    }
}

#[test]
fn a_store_is_read_without_writing_a_byte() {
    let place = Place::new("read");
    let path = place.path("state");
    let state = store_with_history(&path);
    let files = || -> Vec<_> {
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("it is there");
            (path, bytes)
        };
        let mut files: Vec<_> = std::fs::read_dir(&path).expect("it is there").map(read).collect();
        files.sort();
        files
    };
    let before = files();
    let contents = Store::read(&path).expect("whole");
    assert_eq!(contents.missing(), None);
    let mut found = State::new();
    contents.load(&mut |record| insert(&mut found, record)).expect("whole");
    assert_eq!(found, state);
    assert!(before == files(), "something was written");
    assert_eq!(reopen(&path, calm()).node_id(), contents.node_id());
    assert!(Store::read(&place.path("absent")).is_err());
}

#[test]
fn short_lives_do_not_make_the_journal_grow() {
    let place = Place::new("lives");
    let path = place.path("state");
    drop(Store::open(&path, Options::default()).expect("it can be made"));
    for life in 0..40_u16 {
        let store = reopen(&path, Options::default());
        let mut changes = Changes::new();
        // Another megabyte of the same records, as who restarts declares again.
        changes.put_declaration(1, b"large", &vec![life as u8; 1 << 20]);
        store.write(&mut changes).expect("there is space");
        drop(store);
        let length = std::fs::metadata(path.join("state.db-wal")).expect("it is there").len();
        assert!(length < 24 << 20, "{length} bytes after {life} lives");
    }
    assert!(reopen(&path, Options::default()).disk_bytes().expect("readable") < 64 << 20);
}
