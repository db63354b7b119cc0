//! The embedded store.

use tieline_federation::store::embedded::EmbeddedStore;
use tieline_federation::store::{Entries, Revision, Store, StoreError, Update};

use crate::cases;
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
    let path = place.path().join("store");
    std::fs::write(&path, vec![0x5a; 10_000]).expect("written");
    let error = EmbeddedStore::open(&path).expect_err("noise");
    assert!(error.to_string().contains("store"), "{error}");
}
