//! The disk of the store is full: a small file system of its own, in a mount
//! namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use tieline_proto::v1;
use tieline_proto::v1::watch_reply::What;
use tonic::Streaming;

use crate::support::{Daemon, PATIENCE, Place, discard, route, vrf};

/// Where the small file system is mounted.
const MOUNTED: &str = "TIELINE_DAEMON_FULL_DISK";
const TARGET: &str = "64512:1";

#[test]
fn a_full_disk_is_an_event_and_everything_is_stored_when_there_is_space() {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        return runtime.expect("a runtime").block_on(on_a_small_disk(Path::new(&mounted)));
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
        .args([
            "--exact",
            "full_disk::a_full_disk_is_an_event_and_everything_is_stored_when_there_is_space",
            "--nocapture",
        ])
        .env(MOUNTED, &mounted)
        .status()
        .expect("unshare runs");
    assert!(status.success(), "on the small disk: {status}");
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

/// The next event of the store.
async fn store_event(replies: &mut Streaming<v1::WatchReply>) -> v1::EventKind {
    loop {
        let reply = tokio::time::timeout(PATIENCE, replies.message()).await.expect("an event in time");
        if let Some(What::Event(event)) = reply.expect("a good stream").expect("it goes on").what
            && matches!(event.kind(), v1::EventKind::StoreIncomplete | v1::EventKind::StoreComplete)
        {
            return event.kind();
        }
    }
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
    let mut routes = 0_u16;
    for round in 0..40_u16 {
        for low in 0..100_u16 {
            routes = round * 100 + low;
            let [high, low] = routes.to_be_bytes();
            session.apply(route(&format!("10.{high}.{low}.0/24"), TARGET, "nowhere")).await;
        }
    }
    assert_eq!(store_event(&mut events).await, v1::EventKind::StoreIncomplete);
    std::fs::remove_file(&ballast).expect("it is there");
    assert_eq!(store_event(&mut events).await, v1::EventKind::StoreComplete);
    daemon.kill();

    let daemon = Daemon::start(&place);
    let request = v1::ListRequest { kind: v1::ObjectKind::Route.into(), page_size: 1, ..Default::default() };
    let reply = daemon.control().await.list(request).await.expect("a list").into_inner();
    assert!(!reply.items.is_empty(), "routes are back");
    let [high, low] = routes.to_be_bytes();
    let key = v1::RouteKey { rd: "64512:2".into(), prefix: format!("10.{high}.{low}.0/24") };
    let last = daemon.get(v1::object_key::Kind::Route(key)).await;
    assert!(last.is_some(), "the last one too");
}
