//! What every store does.

use std::collections::BTreeSet;
use std::time::Duration;

use tieline_federation::allocation::Circumstances;
use tieline_federation::intent::read::{Documents, File};
use tieline_federation::store::state::{self, Request};
use tieline_federation::store::{Change, Entries, Revision, Store, StoreError, Update, Watch};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

pub fn put(base: Revision, pairs: &[(&str, &str)]) -> Change {
    let puts = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Change { base, puts, ..Change::default() }
}

pub async fn next(watch: &mut Watch) -> Update {
    tokio::time::timeout(LONG, watch.next()).await.expect("in time").expect("an update")
}

/// A commit is seen whole; one from an old revision changes nothing.
pub async fn commits_are_whole_and_in_turn(store: &dyn Store) {
    let empty = store.read().await.expect("readable");
    assert_eq!((empty.revision, empty.entries.len(), empty.stale), (Revision(0), 0, None));
    let first = store.commit(put(Revision(0), &[("a", "1"), ("b", "2")])).await.expect("committed");
    assert!(first > Revision(0));
    let late = store.commit(put(Revision(0), &[("a", "9")])).await;
    assert_eq!(late, Err(StoreError::Conflict { base: Revision(0), found: first }));
    let delete = Change { deletes: BTreeSet::from(["a".to_owned()]), ..put(first, &[("c", "3")]) };
    let second = store.commit(delete).await.expect("committed");
    let now = store.read().await.expect("readable");
    let expected: Entries = [("b", "2"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!((now.revision, now.entries), (second, expected));
    assert_eq!(store.commit(put(second, &[])).await, Ok(second), "nothing is no revision");
}

/// A change of thousands of entries is one commit, and one update.
pub async fn large_changes_are_one_commit(store: &dyn Store) {
    let entries: Entries = (0..5000)
        .map(|n| (format!("object/Endpoint/default/h{n}"), format!("{{\"spec\":{{\"n\":{n}}}}}")))
        .collect();
    let mut watch = store.watch(Revision(0)).await.expect("watched");
    let change = Change { puts: entries.clone(), ..Change::default() };
    let revision = store.commit(change).await.expect("committed");
    assert_eq!(
        next(&mut watch).await,
        Update::Changed { revision, puts: entries.clone(), deletes: BTreeSet::new() }
    );
    assert_eq!(store.read().await.expect("readable").entries, entries);
}

/// A watcher sees every change once, in order, also those from before it came.
pub async fn watchers_see_every_change_in_order(store: &dyn Store) {
    let first = store.commit(put(Revision(0), &[("a", "1")])).await.expect("committed");
    let second = store.commit(put(first, &[("a", "2")])).await.expect("committed");
    let mut from_the_start = store.watch(Revision(0)).await.expect("watched");
    let mut resumed = store.watch(first).await.expect("watched");
    let third = store
        .commit(Change { base: second, deletes: BTreeSet::from(["a".to_owned()]), ..Change::default() })
        .await
        .expect("committed");
    let changed = |revision, value: &str| Update::Changed {
        revision,
        puts: [("a".to_owned(), value.to_owned())].into(),
        deletes: BTreeSet::new(),
    };
    let gone =
        Update::Changed { revision: third, puts: Entries::new(), deletes: BTreeSet::from(["a".to_owned()]) };
    assert_eq!(next(&mut from_the_start).await, changed(first, "1"));
    for watch in [&mut from_the_start, &mut resumed] {
        assert_eq!(next(watch).await, changed(second, "2"));
        assert_eq!(next(watch).await, gone);
    }
}

/// Of two that write at once one wins, and nothing is lost.
pub async fn races_lose_nothing(store: &dyn Store) {
    let adder = |name: &'static str| async move {
        for n in 0..10 {
            loop {
                let snapshot = store.read().await.expect("readable");
                let key = format!("{name}/{n}");
                match store.commit(put(snapshot.revision, &[(key.as_str(), "x")])).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(adder("left"), adder("right"));
    assert_eq!(store.read().await.expect("readable").entries.len(), 20);
}

/// One leads; the next has a later term, and what the old one writes is
/// refused.
pub async fn a2_an_old_leader_is_fenced(store: &dyn Store) {
    let first = store.campaign("c1").await.expect("elected");
    let old = first.term();
    let in_term = |base, term| Change { term: Some(term), ..put(base, &[("leader", "x")]) };
    let revision = store.commit(in_term(Revision(0), old)).await.expect("the leader writes");
    let waiting = tokio::time::timeout(Duration::from_millis(300), store.campaign("c2")).await;
    assert!(waiting.is_err(), "one leads at a time");
    first.resign().await;
    let second = tokio::time::timeout(LONG, store.campaign("c2")).await.expect("in time").expect("elected");
    assert!(second.term() > old);
    let late = Change { term: Some(old), ..put(revision, &[("leader", "old")]) };
    assert_eq!(store.commit(late).await, Err(StoreError::Fenced { term: old }));
    store
        .commit(Change { term: Some(second.term()), ..put(revision, &[("leader", "new")]) })
        .await
        .expect("written");
    assert!(!second.is_lost());
}

/// An intent and its numbers are written together, and read back.
pub async fn intents_are_applied_and_read_back(store: &dyn Store) {
    let request = |text: &str| {
        let files = [File { name: "a.yaml".to_owned(), text: text.to_owned() }];
        Request { documents: Documents::read(&files).expect("right"), ..Request::default() }
    };
    let cluster = "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {name: east}\nspec: {asn: 64512}\n";
    let red = "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: red}\nspec: {cluster: east}\n";
    let circumstances = Circumstances::default();
    let (revision, plan) = state::apply(store, &request(&format!("{cluster}{red}")), &circumstances, None)
        .await
        .expect("applied");
    assert_eq!(plan.difference.summary(), "2 to add, 0 to change, 0 to remove");
    let state = state::read(store).await.expect("readable");
    assert_eq!(
        (&state.intent, &state.allocations, state.revision),
        (&plan.intent, &plan.allocations, revision)
    );
    let (again, plan) = state::apply(store, &request(red), &circumstances, None).await.expect("applied");
    assert_eq!((again, plan.difference.is_empty()), (revision, true), "the same again changes nothing");
    let twin = cluster.replace("name: east", "name: west");
    let refused = state::apply(store, &request(&twin), &circumstances, None).await.expect_err("C1");
    assert!(
        refused.to_string().starts_with("a.yaml:4:13: Cluster/west: spec.asn: AS number 64512"),
        "{refused}"
    );
    assert_eq!(state::read(store).await.expect("readable").revision, revision, "nothing was changed");
}
