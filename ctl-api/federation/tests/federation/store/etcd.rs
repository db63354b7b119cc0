//! The store in etcd.

use std::time::{Duration, Instant};

use tieline_federation::store::{Change, Revision, Store, StoreError, Update};

use super::cases;
use super::etcd_server::EtcdServer;

macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(server) = EtcdServer::start(1) else { return };
                cases::$case(&server.store().await).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_whose_revisions_were_compacted_is_told_everything() {
    let Some(server) = EtcdServer::start(1) else { return };
    let store = server.store().await;
    let first = store.commit(cases::put(Revision(0), &[("a", "1")])).await.expect("committed");
    let second = store.commit(cases::put(first, &[("a", "2")])).await.expect("committed");
    let third = store.commit(cases::put(second, &[("a", "3")])).await.expect("committed");
    let mut client = etcd_client::Client::connect([server.endpoint()], None).await.expect("connected");
    client.compact(i64::try_from(third.0).expect("small"), None).await.expect("compacted");
    let now = store.read().await.expect("readable");
    for after in [Revision(0), first] {
        let mut watch = store.watch(after).await.expect("watched");
        assert_eq!(cases::next(&mut watch).await, Update::Relisted(now.clone()), "after {after}");
        let base = store.read().await.expect("readable").revision;
        if after == first {
            let fourth = store.commit(cases::put(base, &[("a", "4")])).await.expect("committed");
            let Update::Changed { revision, .. } = cases::next(&mut watch).await else { panic!("a change") };
            assert_eq!(revision, fourth, "and goes on from there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_go_on_after_etcd_was_away() {
    let Some(mut server) = EtcdServer::start(1) else { return };
    let store = server.store().await;
    let first = store.commit(cases::put(Revision(0), &[("a", "1")])).await.expect("committed");
    let mut watch = store.watch(first).await.expect("watched");
    server.kill(0);
    assert!(store.commit(cases::put(first, &[("a", "2")])).await.is_err(), "nobody is there");
    let known = store.read().await.expect("what was known");
    assert_eq!((known.revision, known.stale.is_some()), (first, true));
    server.start_again(0);
    let again = server.store().await;
    let now = again.read().await.expect("readable").revision;
    let second = again.commit(cases::put(now, &[("b", "3")])).await.expect("committed");
    // Had the change from before been carried out after all, it comes first.
    let last = loop {
        let Update::Changed { revision, puts, .. } = cases::next(&mut watch).await else {
            panic!("no change")
        };
        if revision == second {
            break puts;
        }
    };
    assert_eq!(last["b"], "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_leader_that_is_cut_off_is_replaced_and_fenced() {
    let Some(server) = EtcdServer::start(1) else { return };
    let (one, two) = (server.store().await, server.store().await);
    // A leader that does not keep its lease alive, as one that is cut off.
    let cut_off = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (leader, cut_off) = tokio::task::spawn_blocking(move || {
        let leader = cut_off.block_on(one.campaign("one")).expect("elected");
        ((one, leader), cut_off)
    })
    .await
    .expect("ran");
    let began = Instant::now();
    let second = two.campaign("two").await.expect("elected");
    assert!(began.elapsed() < Duration::from_secs(8), "after {:?}", began.elapsed());
    let (one, leader) = leader;
    assert!(second.term() > leader.term());
    let late = Change { term: Some(leader.term()), ..cases::put(Revision(0), &[("a", "old")]) };
    assert_eq!(one.commit(late).await, Err(StoreError::Fenced { term: leader.term() }));
    tokio::task::spawn_blocking(move || drop(cut_off)).await.expect("ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k10_the_leading_member_may_die_and_without_a_quorum_reading_goes_on() {
    let Some(mut server) = EtcdServer::start(3) else { return };
    let store = server.store().await;
    let first = store.commit(cases::put(Revision(0), &[("a", "1")])).await.expect("committed");
    server.kill(0);
    // One of three is gone, the leader or not: writes resume.
    let deadline = Instant::now() + Duration::from_secs(30);
    let second = loop {
        match store.commit(cases::put(first, &[("a", "2")])).await {
            Ok(revision) => break revision,
            // Carried out without an answer.
            Err(StoreError::Conflict { found, .. }) => break found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    server.signal(1, "-STOP");
    let error = store.commit(cases::put(second, &[("a", "3")])).await.expect_err("no quorum");
    assert!(matches!(error, StoreError::Unavailable { .. } | StoreError::Unknown { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("etcd: write") || text.contains("etcd: read"), "{text}");
    let known = store.read().await.expect("what was known");
    assert_eq!((known.revision, known.entries["a"].as_str()), (second, "2"));
    assert!(known.stale.is_some(), "and it says that this may be old");
    server.signal(1, "-CONT");
}
