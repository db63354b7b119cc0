//! What a caller relies on, one thing a test.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tieline_store::{Changes, Opened, Options, Store, StoreError};

use crate::support::{Place, State, reopen, small, state_of};

fn prefix(number: u32) -> IpNet {
    Ipv4Net::new((number << 8).into(), 24).expect("a length").into()
}

#[test]
fn the_last_change_of_a_record_counts() {
    let place = Place::new("last-wins");
    let (store, _) = Store::open(&place.path("state"), small()).expect("it can be made");
    let mut changes = Changes::new();
    changes.put_label("red", 1);
    changes.remove_label("blue");
    changes.put_label("red", 2);
    changes.put_label("blue", 3);
    changes.put_label("green", 4);
    changes.remove_label("green");
    store.write(&mut changes).expect("there is space");
    assert!(changes.is_empty(), "it can be used again");
    let expected = [("label blue", 3_u32), ("label red", 2)]
        .map(|(name, label)| (name.to_owned(), label.to_be_bytes().to_vec()));
    assert_eq!(state_of(&store).expect("whole"), State::from(expected));
}

#[test]
fn records_come_kind_by_kind() {
    let place = Place::new("order");
    let (store, _) = Store::open(&place.path("state"), small()).expect("it can be made");
    let mut changes = Changes::new();
    changes.add_route(1, prefix(1), b"");
    changes.put_attributes(1, b"a");
    changes.put_declaration(1, b"vrf/red", b"d");
    changes.put_label("red", 16);
    changes.put_controller(1, b"c");
    changes.put_meta("numbers", b"m");
    store.write(&mut changes).expect("there is space");
    let mut kinds = Vec::new();
    store
        .load(&mut |record| {
            kinds.push(format!("{record:?}").split([' ', '{']).next().unwrap_or_default().to_owned());
            Ok(())
        })
        .expect("whole");
    assert_eq!(kinds, ["Meta", "Controller", "Label", "Declaration", "Attributes", "Route"]);
}

#[test]
fn a_record_that_the_caller_cannot_read_is_named_and_the_store_can_be_set_aside() {
    let place = Place::new("caller");
    let (store, _) = Store::open(&place.path("state"), small()).expect("it can be made");
    let mut changes = Changes::new();
    changes.put_declaration(3, b"vrf/red", b"nonsense");
    store.write(&mut changes).expect("there is space");
    let error = store.load(&mut |_| Err("field 'rd' is missing".into())).expect_err("the caller refuses");
    assert!(
        error.to_string().contains("declaration 'vrf/red' of controller 3: field 'rd' is missing"),
        "{error}"
    );
    let node_id = store.node_id();
    let (store, opened) = store.set_aside(&error.to_string()).expect("it can be moved");
    assert_eq!(opened, Opened::SetAside { kept_at: place.path("state.bad-1"), reason: error.to_string() },);
    assert_eq!(state_of(&store).expect("it is new"), State::new());
    assert_ne!(store.node_id(), node_id, "another store, another identity");
    drop(store);
    let aside = reopen(&place.path("state.bad-1"), small());
    assert_eq!(state_of(&aside).expect("it is whole as such").len(), 1);
}

#[test]
fn one_process_has_a_store_and_the_other_is_told_which() {
    let place = Place::new("in-use");
    let path = place.path("state");
    let (store, _) = Store::open(&path, small()).expect("it can be made");
    let error = Store::open(&path, small()).expect_err("it is in use");
    assert!(matches!(error, StoreError::InUse { by: Some(pid), .. } if pid == std::process::id()), "{error}");
    drop(store);
    reopen(&path, small());
}

#[test]
fn a_newer_format_is_set_aside_and_not_touched() {
    let place = Place::new("newer");
    let path = place.path("state");
    drop(Store::open(&path, small()).expect("it can be made"));
    let database = rusqlite::Connection::open(path.join("state.db")).expect("nobody has it");
    database.pragma_update(None, "user_version", 1000).expect("there is space");
    drop(database);
    let (_store, opened) = Store::open(&path, small()).expect("the daemon starts");
    let Opened::SetAside { kept_at, reason } = opened else { panic!("{opened:?}") };
    assert!(reason.contains("format 1000") && reason.contains("newer program"), "{reason}");
    let database = rusqlite::Connection::open(kept_at.join("state.db")).expect("it is there");
    let version = database.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    assert_eq!(version.expect("it can be read"), 1000);
}

#[test]
fn anything_else_in_its_place_is_set_aside_or_left_alone() {
    let place = Place::new("other");
    for (name, content) in
        [("text", &b"not a database at all, but long enough to be one"[..]), ("empty", b"")]
    {
        let path = place.path(name);
        std::fs::create_dir(&path).expect("a directory");
        std::fs::write(path.join("state.db"), content).expect("a file");
        let (store, opened) = Store::open(&path, small()).expect("the daemon starts");
        assert_eq!(matches!(opened, Opened::SetAside { .. }), !content.is_empty(), "{name}: {opened:?}");
        assert_eq!(state_of(&store).expect("it is new"), State::new());
    }
    let path = place.path("foreign");
    std::fs::create_dir(&path).expect("a directory");
    drop(rusqlite::Connection::open(path.join("state.db")).map(|c| c.execute_batch("CREATE TABLE log (x)")));
    let (_, opened) = Store::open(&path, small()).expect("the daemon starts");
    let Opened::SetAside { reason, .. } = opened else { panic!("{opened:?}") };
    assert!(reason.contains("another program"), "{reason}");
}

/// Writes and deletes more than the disk should ever hold.
#[test]
fn the_disk_holds_what_is_live_and_little_more() {
    let place = Place::new("bounded");
    let options =
        Options { sync_interval: Duration::from_millis(50), log_bytes: 1 << 20, ..Options::default() };
    let (store, _) = Store::open(&place.path("state"), options).expect("it can be made");
    let mut changes = Changes::new();
    for round in 0..6_u32 {
        for batch in 0..100 {
            for number in 0..1000 {
                changes.add_route(round, prefix(batch * 1000 + number), b"");
            }
            store.write(&mut changes).expect("there is space");
        }
        for batch in 0..100 {
            for number in 0..1000 {
                changes.remove_route(round, prefix(batch * 1000 + number));
            }
            store.write(&mut changes).expect("there is space");
        }
    }
    changes.put_label("red", 16);
    store.write(&mut changes).expect("there is space");
    // 1.2 million changes of 11 bytes have gone through, 13 MB.
    let mut bytes = 0;
    for _ in 0..100 {
        bytes = store.disk_bytes().expect("it can be looked at");
        if bytes < 30 << 20 && store.health().trouble.is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Two generations of 100,000 routes, the log, spare pages, the journal.
    assert!(bytes < 30 << 20, "{bytes} bytes for one record: {:?}", store.health());
    assert_eq!(state_of(&store).expect("whole").len(), 1);
}

/// Merging, sweeping and loading go on while others write.
#[test]
fn loading_while_others_write_gives_the_state_of_some_moment() {
    const WRITES: u32 = 1500;
    let place = Place::new("concurrent");
    let path = place.path("state");
    let (store, _) = Store::open(&path, small()).expect("it can be made");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut changes = Changes::new();
            for number in 0..WRITES {
                // One write moves the label and both routes.
                changes.put_label("red", number);
                changes.add_route(1, prefix(number), b"");
                changes.add_route(2, prefix(number), b"");
                if number >= 20 {
                    changes.remove_route(1, prefix(number - 20));
                    changes.remove_route(2, prefix(number - 20));
                }
                store.write(&mut changes).expect("there is space");
            }
        });
        let mut loads = 0;
        while !writer.is_finished() || loads == 0 {
            let state = state_of(&store).expect("whole");
            loads += 1;
            let Some(label) = state.get("label red") else { continue };
            let label = u32::from_be_bytes(label[..].try_into().expect("four bytes"));
            assert_eq!(state.len() as u32, 1 + 2 * (label + 1).min(20), "at write {label}");
            for attributes in [1, 2] {
                assert!(
                    state.contains_key(&format!("route {attributes} {}", prefix(label))),
                    "at write {label}"
                );
            }
        }
    });
    assert_eq!(store.health().trouble, None);
    drop(store);
    assert_eq!(state_of(&reopen(&path, small())).expect("whole").len(), 41);
}

#[test]
fn replacing_takes_the_place_of_everything() {
    let place = Place::new("replace");
    let path = place.path("state");
    let (store, _) = Store::open(&path, small()).expect("it can be made");
    let node_id = store.node_id();
    let mut changes = Changes::new();
    for number in 0..5000 {
        changes.add_route(1, prefix(number), b"");
    }
    store.write(&mut changes).expect("there is space");
    changes.add_route(2, prefix(7), b"x");
    changes.remove_route(1, prefix(7));
    store.replace_all(&mut changes).expect("there is space");
    drop(store);
    let store = reopen(&path, small());
    let expected = State::from([("route 2 0.0.7.0/24".to_owned(), b"x".to_vec())]);
    assert_eq!(state_of(&store).expect("whole"), expected);
    assert_eq!(store.node_id(), node_id);
    store.clear().expect("there is space");
    drop(store);
    assert_eq!(state_of(&reopen(&path, small())).expect("whole"), State::new());
}
