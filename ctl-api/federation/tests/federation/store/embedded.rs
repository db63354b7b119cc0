//! The embedded store.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tieline_federation::intent::kinds::Peer;
use tieline_federation::store::embedded::EmbeddedStore;
use tieline_federation::store::{Entries, Revision, Store, StoreError, Update};

use super::cases;
use crate::place::Place;

macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                let place = Place::new();
                let store = EmbeddedStore::open(&place.path().join("store")).expect("opened");
                cases::$case(&store).await;
            }
        )*
    };
}

cases! {
    commits_are_whole_and_in_turn
    large_changes_are_one_commit
    watchers_see_every_change_in_order
    races_lose_nothing
    a2_an_old_leader_is_fenced
    intents_are_applied_and_read_back
}

#[tokio::test]
async fn it_is_there_again_after_a_restart_and_watchers_resume() {
    let place = Place::new();
    let path = place.path().join("store");
    let store = EmbeddedStore::open(&path).expect("opened");
    let first = store.commit(cases::put(Revision(0), &[("a", "1")])).await.expect("committed");
    let second = store.commit(cases::put(first, &[("b", "2")])).await.expect("committed");
    let term = store.campaign("c").await.expect("elected").term();
    let before = store.read().await.expect("readable");
    drop(store);
    let store = EmbeddedStore::open(&path).expect("opened");
    assert_eq!(store.read().await, Ok(before));
    let mut watch = store.watch(first).await.expect("watched");
    let puts: Entries = [("b".to_owned(), "2".to_owned())].into();
    assert_eq!(
        cases::next(&mut watch).await,
        Update::Changed { revision: second, puts, deletes: std::collections::BTreeSet::new() }
    );
    assert!(store.campaign("c").await.expect("elected").term() > term, "terms go on over restarts");
}

#[tokio::test]
async fn a_watcher_that_was_away_too_long_is_told_everything() {
    let place = Place::new();
    let store = EmbeddedStore::open(&place.path().join("store")).expect("opened");
    let mut revision = Revision(0);
    // More than are kept.
    for n in 0..1030 {
        revision = store.commit(cases::put(revision, &[("a", &n.to_string())])).await.expect("committed");
    }
    let mut watch = store.watch(Revision(1)).await.expect("watched");
    let now = store.read().await.expect("readable");
    assert_eq!(cases::next(&mut watch).await, Update::Relisted(now));
}

#[tokio::test]
async fn two_processes_do_not_share_it() {
    let place = Place::new();
    let path = place.path().join("store");
    let _store = EmbeddedStore::open(&path).expect("opened");
    let error = EmbeddedStore::open(&path).expect_err("it is open");
    assert_eq!(error, StoreError::InUse { path: path.display().to_string() });
}

#[tokio::test]
async fn noise_is_not_taken_for_a_store() {
    let place = Place::new();
    let path = place.path().join("notes.txt");
    std::fs::write(&path, vec![0x5a; 10_000]).expect("written");
    for open in [EmbeddedStore::open, EmbeddedStore::open_or_set_aside] {
        let error = open(&path).expect_err("noise");
        assert!(error.to_string().contains("store"), "{error}");
        assert_eq!(std::fs::read(&path).expect("it is there"), vec![0x5a; 10_000], "it is another's");
    }
}

const WEST: &str = r#"{"kind":"Peer","spec":{"password":"swordfish"}}"#;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

fn has(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).expect("it is there");
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn nobody_else_can_get_at_it() {
    let place = Place::new();
    let path = place.path().join("made/store.redb");
    let files = [path.clone(), path.with_extension("redb.key")];
    drop(EmbeddedStore::open(&path).expect("opened"));
    let directory = path.parent().expect("a directory");
    assert_eq!(mode(directory), 0o700);
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
    // As an earlier program has made them.
    files.iter().for_each(|file| set_mode(file, 0o666));
    set_mode(directory, 0o777);
    drop(EmbeddedStore::open(&path).expect("it is ours, and repaired"));
    assert_eq!(mode(directory), 0o755);
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
    // One for everybody cannot be repaired.
    set_mode(directory, 0o1777);
    let refusal = EmbeddedStore::open(&path).expect_err("everybody may put files there").to_string();
    assert!(refusal.contains("made") && refusal.contains("1777"), "{refusal}");
    assert_eq!(mode(directory), 0o1777);
}

#[tokio::test]
async fn passwords_are_sealed_and_read_back() {
    let place = Place::new();
    let path = place.path().join("store.redb");
    let key = path.with_extension("redb.key");
    let store = EmbeddedStore::open(&path).expect("opened");
    let put = cases::put(Revision(0), &[("object/Peer/west", WEST)]);
    let revision = store.commit(put.clone()).await.expect("committed");
    let mut watch = store.watch(Revision(0)).await.expect("watched");
    assert_eq!(
        cases::next(&mut watch).await,
        Update::Changed { revision, puts: put.puts, deletes: std::collections::BTreeSet::new() }
    );
    let before = store.read().await.expect("readable");
    assert_eq!(before.entries["object/Peer/west"], WEST);
    drop((store, watch));
    let store = reopened(&path).await;
    assert_eq!(store.read().await, Ok(before));
    drop(store);
    assert!(!has(&path, "swordfish"));
    // Without the key the rest is still there.
    std::fs::remove_file(&key).expect("removed");
    let sealed = reopened(&path).await.read().await.expect("readable").entries["object/Peer/west"].clone();
    assert!(sealed.contains("sealed:v1:") && !sealed.contains("swordfish"), "{sealed}");
    std::fs::write(&key, "no key").expect("written");
    let refusal = opened_later(&path).await.expect_err("it is no key").to_string();
    assert!(refusal.contains("store.redb.key"), "{refusal}");
}

/// Opens a store once the tasks that held it have ended.
async fn opened_later(path: &Path) -> Result<EmbeddedStore, StoreError> {
    for _ in 0..1000 {
        match EmbeddedStore::open(path) {
            Err(StoreError::InUse { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            other => return other,
        }
    }
    EmbeddedStore::open(path)
}

async fn reopened(path: &Path) -> EmbeddedStore {
    opened_later(path).await.expect("opened")
}

/// A store that the release before passwords were sealed has written. It had mode
/// 0644, the password "swordfish" first and "clownfish" then.
fn of_an_earlier_release(path: &Path) {
    let packed = include_bytes!("fixtures/clear_passwords.redb.deflate");
    let mut bytes = Vec::new();
    flate2::read::DeflateDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("a fixture");
    std::fs::write(path, bytes).expect("written");
    set_mode(path, 0o644);
}

#[tokio::test]
async fn a_store_of_an_earlier_release_is_read_and_its_passwords_sealed() {
    let place = Place::new();
    let path = place.path().join("store.redb");
    of_an_earlier_release(&path);
    assert!(has(&path, "swordfish") && has(&path, "clownfish"));
    for _ in 0..2 {
        let store = reopened(&path).await;
        let state = tieline_federation::store::state::read(&store).await.expect("readable");
        assert_eq!((state.revision, state.intent.len()), (Revision(2), 4));
        let west =
            state.intent.all::<Peer>().find_map(|(_, peer)| peer.password.as_ref()).expect("a password");
        assert_eq!(west.reveal(), "clownfish");
        assert!(!state.allocations.pools.is_empty());
        let mut watch = store.watch(Revision(1)).await.expect("watched");
        assert!(matches!(cases::next(&mut watch).await, Update::Changed { revision: Revision(2), .. }));
    }
    assert!(!has(&path, "swordfish") && !has(&path, "clownfish"), "nor in pages that are free");
    assert_eq!(mode(&path), 0o600);
    assert!(!path.with_extension("redb.new").exists());
}

#[tokio::test]
async fn a_damaged_store_is_set_aside_and_nothing_of_it_believed() {
    let place = Place::new();
    let path = place.path().join("store.redb");
    of_an_earlier_release(&path);
    drop(reopened(&path).await);
    let whole = std::fs::read(&path).expect("it is there");
    let state = EmbeddedStore::open(&path).expect("opened").read().await.expect("readable");
    let mut refused = 0;
    // From one end to the other, and as a disk damages it: a bit, a page, the end.
    let places = (0..whole.len()).step_by(9 * 4096).flat_map(|page| [page + 9, page + 70, page + 2000]);
    for (number, at) in places.filter(|at| *at < whole.len()).enumerate() {
        let mut bytes = whole.clone();
        match number % 3 {
            0 => bytes[at] ^= 1 << (number % 8),
            1 => bytes[at..(at + 512).min(whole.len())].fill(0xa5),
            _ => bytes.truncate(at),
        }
        std::fs::write(&path, &bytes).expect("written");
        match opened_later(&path).await {
            Ok(store) => {
                let found = store.read().await.expect("readable");
                let is_an_earlier_one = found.revision < state.revision;
                assert!(is_an_earlier_one || found == state, "damage at {at} is believed");
                drop(store);
            }
            Err(StoreError::Damaged { .. }) => {
                refused += 1;
                let store = EmbeddedStore::open_or_set_aside(&path).expect("a new one");
                assert_eq!(store.read().await.expect("readable").entries.len(), 0);
                let problems = store.problems();
                assert!(problems.len() == 1 && problems[0].contains("store.redb.damaged-"), "{problems:?}");
                let name =
                    problems[0].split_whitespace().find(|word| word.contains(".damaged-")).expect("a name");
                assert!(Path::new(name.trim_end_matches(':')).exists(), "{name}");
                std::fs::remove_file(name.trim_end_matches(':')).expect("it is there");
                assert!(store.problems().is_empty());
            }
            Err(other) => panic!("damage at {at}: {other}"),
        }
    }
    assert!(refused > 10, "{refused}");
}
