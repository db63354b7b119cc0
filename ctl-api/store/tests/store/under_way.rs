//! What happens to the files while they are in use, and how a store is handed
//! from one to the next.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tieline_store::{Changes, Health, Opened, Options, Store, StoreError};

use crate::support::{Place, State, reopen, small, state_of};

fn label(number: u32) -> Changes {
    let mut changes = Changes::new();
    changes.put_label("red", number);
    changes
}

/// Waits until the store says of itself that something is lost.
fn lost(store: &Store) -> String {
    let begun = Instant::now();
    loop {
        if let Some(Health { lost: Some(why), .. }) = store.monitor().health() {
            return why;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not notice");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes, or replaces, something of a store in use.
fn take_away(path: &Path, what: &str) {
    match what {
        "directory" => std::fs::remove_dir_all(path).expect("it is there"),
        "moved" => std::fs::rename(path, path.with_extension("elsewhere")).expect("it is there"),
        "lock" => std::fs::remove_file(path.with_extension("lock")).expect("it is there"),
        "another lock" => {
            let lock = path.with_extension("lock");
            std::fs::remove_file(&lock).expect("it is there");
            File::create(lock).expect("there is space");
        }
        name => std::fs::remove_file(path.join(name)).expect("it is there"),
    }
}

#[test]
fn what_is_written_into_files_that_are_gone_does_not_count_as_stored() {
    for what in ["directory", "moved", "state.db", "state.db-wal", "lock", "another lock"] {
        let place = Place::new("gone");
        let path = place.path("state");
        let (store, _) = Store::open(&path, small()).expect("it can be made");
        store.write(&mut label(1)).expect("there is space");
        take_away(&path, what);
        for _ in 0..2 {
            let error = store.write(&mut label(2)).expect_err(what);
            assert!(matches!(error, StoreError::Gone { .. }), "{what}: {error}");
        }
        assert!(matches!(store.replace_all(&mut label(3)), Err(StoreError::Gone { .. })), "{what}");
        assert!(lost(&store).contains("removed or replaced"), "{what}");
    }
}

#[test]
fn files_that_go_while_nothing_is_written_are_noticed() {
    let place = Place::new("gone-idle");
    let path = place.path("state");
    let (store, _) = Store::open(&path, small()).expect("it can be made");
    store.write(&mut label(1)).expect("there is space");
    take_away(&path, "directory");
    assert!(lost(&store).contains("removed or replaced"));
}

#[test]
fn damage_that_merging_finds_is_a_loss_until_everything_is_written_anew() {
    let place = Place::new("damage-under-way");
    let path = place.path("state");
    let options = Options { cache_bytes: 40_000, log_bytes: 2_000_000, ..small() };
    let (store, _) = Store::open(&path, options.clone()).expect("it can be made");
    let mut all = Changes::new();
    for number in 0..200_u32 {
        all.put_declaration(1, &number.to_be_bytes(), &vec![number as u8; 20_000]);
    }
    store.replace_all(&mut all.clone()).expect("there is space");
    store.close().expect("there is space");
    // All of it in the database alone, where it can be reached.
    let database = rusqlite::Connection::open(path.join("state.db")).expect("nobody has it");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("there is space");
    drop(database);
    let store = reopen(&path, options.clone());
    let file = File::options().write(true).open(path.join("state.db")).expect("it is there");
    file.write_all_at(&vec![0x5a; 2_000_000], 1_000_000).expect("there is space");
    // More than the log may have: it is merged.
    let mut more = Changes::new();
    for number in 0..120_u32 {
        more.put_declaration(2, &number.to_be_bytes(), &vec![number as u8; 20_000]);
    }
    store.write(&mut more).expect("the log takes it");
    let why = lost(&store);
    assert!(why.contains("damaged"), "{why}");

    store.replace_all(&mut all).expect("there is space");
    assert_eq!(store.health().lost, None);
    let state = state_of(&store).expect("whole");
    drop(store);
    assert_eq!(state.len(), 200);
    assert!(state_of(&reopen(&path, options)).expect("whole") == state);
}

#[test]
fn whoever_closes_a_store_leaves_it_whole_to_the_next() {
    let place = Place::new("closed");
    let path = place.path("state");
    let (store, _) = Store::open(&path, small()).expect("it can be made");
    assert!(store.is_empty());
    store.write(&mut label(1)).expect("there is space");
    assert!(!store.is_empty());
    let monitor = store.monitor();
    store.close().expect("there is space");
    assert!(monitor.health().is_none(), "it is closed");
    let store = reopen(&path, small());
    assert!(!store.is_empty());
    store.clear().expect("there is space");
    assert!(store.is_empty());
    assert!(state_of(&store).expect("whole") == State::new());
}

#[test]
fn a_new_store_has_the_identity_that_it_is_given() {
    let place = Place::new("identity");
    let path = place.path("state");
    let options = Options { node_id: Some([7; 16]), ..small() };
    let (store, _) = Store::open(&path, options.clone()).expect("it can be made");
    assert_eq!(store.node_id(), [7; 16]);
    store.write(&mut label(1)).expect("there is space");
    drop(store);
    let other = Options { node_id: Some([8; 16]), ..small() };
    assert_eq!(reopen(&path, other).node_id(), [7; 16], "one that is there keeps its own");
    let store = reopen(&path, options);
    let (store, opened) = store.set_aside("of no use").expect("it can be moved");
    assert!(matches!(opened, Opened::SetAside { .. }));
    assert_eq!(store.node_id(), [7; 16]);
}
