//! The disk of the store is full: a small file system of its own, in a mount
//! namespace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::watch_reply::What;
use tonic::Streaming;

use crate::support::{Daemon, PATIENCE, Place, Session, discard, route, vrf};

/// Where the small file system is mounted.
const MOUNTED: &str = "TIELINE_DAEMON_FULL_DISK";
const TARGET: &str = "64512:1";

#[test]
fn a_full_disk_is_an_event_and_everything_is_stored_when_there_is_space() {
    on_a_file_system(
        "full_disk::a_full_disk_is_an_event_and_everything_is_stored_when_there_is_space",
        on_a_small_disk,
    );
}

#[test]
fn a_store_that_cannot_be_written_is_read_and_nothing_is_called_stored() {
    on_a_file_system(
        "full_disk::a_store_that_cannot_be_written_is_read_and_nothing_is_called_stored",
        on_a_read_only_disk,
    );
}

/// Runs a test, of this name, in a mount namespace with a file system of its own.
fn on_a_file_system(name: &str, test: impl AsyncFn(&Path)) {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(test(Path::new(&mounted)));
    }
    let allowed =
        Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|out| out.status.success());
    if !allowed {
        eprintln!("skipped: a small file system needs a mount namespace, and this user may make none");
        return;
    }
    let place = Place::new();
    let mounted = place.path("small");
    std::fs::create_dir(&mounted).expect("a directory");
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$1" && shift && exec "$@""#;
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&mounted)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(MOUNTED, &mounted)
        .status()
        .expect("unshare runs");
    assert!(status.success(), "on a file system of its own: {status}");
}

/// Takes all the space that is left.
fn fill(at: &Path) -> PathBuf {
    let ballast = at.join("ballast");
    let mut bytes = Vec::new();
    let mut size = 1 << 20;
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

/// The next event of the store. It writes everything again every 5 s, which takes
/// its time where many tests run.
async fn store_event(replies: &mut Streaming<v1::WatchReply>) -> v1::EventKind {
    loop {
        let reply = tokio::time::timeout(3 * PATIENCE, replies.message()).await.expect("an event in time");
        if let Some(What::Event(event)) = reply.expect("a good stream").expect("it goes on").what
            && matches!(event.kind(), v1::EventKind::StoreIncomplete | v1::EventKind::StoreComplete)
        {
            return event.kind();
        }
    }
}

/// Declares a route; returns whether it is said to be stored.
async fn declare(session: &mut Session, number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    let why = session.apply_unstored(route(&format!("10.{high}.{low}.0/24"), TARGET, "nowhere")).await;
    assert!(why.is_empty() || why.contains("is full"), "{why}");
    why.is_empty()
}

/// All routes that are declared, by their numbers.
async fn declared(daemon: &Daemon) -> BTreeSet<u16> {
    let request =
        v1::ListRequest { kind: v1::ObjectKind::Route.into(), page_size: 10_000, ..Default::default() };
    let reply = daemon.control().await.list(request).await.expect("a list").into_inner();
    assert!(reply.next_page_token.is_empty());
    let number = |item: &v1::ObjectWithStatus| match item.object.as_ref().and_then(|o| o.kind.as_ref()) {
        Some(Kind::Route(route)) => {
            let address: Vec<u8> = route.prefix.split('.').map(|part| part.parse().unwrap_or(0)).collect();
            u16::from_be_bytes([address[1], address[2]])
        }
        other => panic!("{other:?}"),
    };
    reply.items.iter().map(number).collect()
}

async fn on_a_small_disk(mounted: &Path) {
    let place = Place::new();
    place.configure(&format!("[store]\npath = \"{}\"\n", mounted.join("state").display()));
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    session.apply(vrf("red", TARGET)).await;
    session.apply(discard("nowhere")).await;
    let request = v1::WatchRequest { events: true, ..Default::default() };
    let mut events = daemon.control().await.watch(request).await.expect("a stream").into_inner();
    let ballast = fill(mounted);
    // Routes are acknowledged and forwarded by; some may find room in files that
    // are there already.
    let mut stored = BTreeSet::new();
    for number in 0..4000 {
        if declare(&mut session, number).await {
            stored.insert(number);
        }
    }
    assert!(stored.len() < 4000, "the disk is not full");
    assert_eq!(store_event(&mut events).await, v1::EventKind::StoreIncomplete);
    daemon.until_problems(&[v1::ProblemKind::Store]).await;
    assert_eq!(declared(&daemon).await.len(), 4000);
    daemon.kill();

    // What was called stored, and nothing else: the state of one moment.
    let daemon = Daemon::start(&place);
    assert!(declared(&daemon).await == stored, "what was called stored is there, and no more");
    let mut session = daemon.program().await;
    let request = v1::WatchRequest { events: true, ..Default::default() };
    let mut events = daemon.control().await.watch(request).await.expect("a stream").into_inner();
    let mut number = 4000;
    while declare(&mut session, number).await {
        number += 1;
        assert!(number < 40_000, "the disk is not full any more");
    }
    assert_eq!(store_event(&mut events).await, v1::EventKind::StoreIncomplete);
    std::fs::remove_file(&ballast).expect("it is there");
    assert_eq!(store_event(&mut events).await, v1::EventKind::StoreComplete);
    daemon.until_problems(&[]).await;
    assert!(declare(&mut session, number + 1).await);
    let all = declared(&daemon).await;
    daemon.kill();
    let daemon = Daemon::start(&place);
    assert!(all.contains(&number), "what found no room at first too");
    assert!(declared(&daemon).await == all, "all of it");
}

/// Mounts the file system again, to be written or not.
fn remount(mounted: &Path, how: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(mounted).status();
    assert!(status.expect("mount runs").success());
}

async fn on_a_read_only_disk(mounted: &Path) {
    let place = Place::new();
    place.configure(&format!("[store]\npath = \"{}\"\n", mounted.join("state").display()));
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    session.apply(vrf("red", TARGET)).await;
    session.apply(discard("nowhere")).await;
    for number in 0..100 {
        assert!(declare(&mut session, number).await);
    }
    let before = declared(&daemon).await;
    daemon.kill();
    remount(mounted, "ro");
    let daemon = Daemon::start(&place);
    assert_eq!(declared(&daemon).await, before, "the last state is in force");
    daemon.until_problems(&[v1::ProblemKind::Store]).await;
    let mut session = daemon.program().await;
    let why = session.apply_unstored(route("10.9.9.0/24", TARGET, "nowhere")).await;
    assert!(!why.is_empty(), "it cannot be stored");
    let all = declared(&daemon).await;
    assert_eq!(all.len(), before.len() + 1);
    remount(mounted, "rw");
    daemon.until_problems(&[]).await;
    daemon.kill();
    let daemon = Daemon::start(&place);
    assert_eq!(declared(&daemon).await, all, "everything was written when that worked");
}
