//! A full disk: a small file system of its own, in a mount namespace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tieline_store::{Changes, Opened, Options, Store, StoreError};

use crate::history::{Random, Step};
use crate::support::{Place, State, reopen, small, state_of};

/// Where the small file system is mounted.
const MOUNTED: &str = "TIELINE_STORE_FULL_DISK";

#[test]
fn a_full_disk_stops_storing_and_nothing_else() {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        return on_a_small_disk(Path::new(&mounted));
    }
    let allowed =
        Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|out| out.status.success());
    if !allowed {
        eprintln!("skipped: a small file system needs a mount namespace, and this user may make none");
        return;
    }
    let place = Place::new("full-disk");
    let mounted = place.path("mounted");
    std::fs::create_dir(&mounted).expect("a directory");
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$1" && shift && exec "$@""#;
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&mounted)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "full_disk::a_full_disk_stops_storing_and_nothing_else", "--nocapture"])
        .env(MOUNTED, &mounted)
        .status()
        .expect("unshare runs");
    assert!(status.success(), "on the small disk: {status}");
}

/// Takes all the space that is left.
fn fill(at: &Path) -> PathBuf {
    let ballast = at.join("ballast");
    let mut size = 1 << 20;
    let mut bytes = std::fs::read(&ballast).unwrap_or_default();
    while size > 0 {
        bytes.resize(bytes.len() + size, 0xaa);
        if std::fs::write(&ballast, &bytes).is_err() {
            bytes.truncate(bytes.len() - size);
            std::fs::write(&ballast, &bytes).expect("it had so much before");
            size /= 2;
        }
    }
    ballast
}

fn options() -> Options {
    Options { log_bytes: 100_000, ..small() }
}

fn on_a_small_disk(at: &Path) {
    let path = at.join("state");
    let (store, _) = Store::open(&path, options()).expect("there is space");
    let mut random = Random(21);
    let mut state = State::new();
    let mut write = |store: &Store, state: &mut State| {
        let step = loop {
            if let step @ Step::Write(_) = Step::random(&mut random) {
                break step;
            }
        };
        let mut changes = step.changes();
        let count = changes.len();
        let result = store.write(&mut changes);
        match &result {
            Ok(()) => step.apply(state),
            Err(_) => assert_eq!(changes.len(), count, "what is not stored is still there"),
        }
        result
    };
    for _ in 0..50 {
        write(&store, &mut state).expect("there is space");
    }

    // Full. Some writes may still find room in files that are there already.
    let ballast = fill(at);
    let mut refused = 0;
    for _ in 0..3000 {
        if let Err(error) = write(&store, &mut state) {
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
            assert!(error.to_string().contains("free some space"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 100, "only {refused} writes were refused: the disk is not full");
    assert!(store.health().lost.expect("it says so").contains("is full"));
    assert!(matches!(store.replace_all(&mut Changes::new()), Ok(()) | Err(StoreError::Full { .. })));
    if store.health().lost.is_none() {
        state.clear();
    }
    assert!(state_of(&store).expect("it can be read") == state, "what was stored is there, and no more");

    // A new process finds the same, still without any space.
    drop(store);
    fill(at);
    let (store, opened) = Store::open(&path, options()).expect("it needs no more space");
    assert!(matches!(opened, Opened::Restored { .. }), "{opened:?}");
    assert!(state_of(&store).expect("it can be read") == state, "reopened on a full disk");
    while write(&store, &mut state).is_ok() {}

    // With space again, writes work, and what is missing is not forgotten.
    std::fs::remove_file(ballast).expect("it is there");
    for _ in 0..200 {
        write(&store, &mut state).expect("there is space again");
    }
    assert!(store.health().lost.is_some(), "not everything is stored");
    drop(store);
    let (store, opened) = Store::open(&path, options()).expect("there is space");
    assert_eq!(opened, Opened::Restored { complete: false, migrated_from: None, salvaged: None });
    assert!(state_of(&store).expect("whole") == state, "what was acknowledged");

    // Everything written anew: complete again.
    let step = Step::Replace((0..100).map(|_| crate::history::Op::random(&mut Random(22))).collect());
    store.replace_all(&mut step.changes()).expect("there is space");
    step.apply(&mut state);
    assert_eq!(store.health().lost, None);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(store.health().trouble, None);
    drop(store);
    assert!(state_of(&reopen(&path, options())).expect("whole") == state);
}
