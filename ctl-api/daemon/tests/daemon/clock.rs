//! The system's clock jumps: nothing that a gateway holds depends on it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tieline_proto::v1;
use tieline_proto::v1::object_key::Kind as Key;
use tieline_proto::v1::watch_reply::What;
use tonic::Streaming;

use crate::support::{Daemon, PATIENCE, Place, discard, hello, vrf};

const TARGET: &str = "64512:1";
const GRACE: u32 = 3600;

/// The library of Debian's package faketime: it makes up the clock of a process.
fn faketime() -> Option<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?;
    let library = |directory: std::fs::DirEntry| directory.path().join("faketime/libfaketimeMT.so.1");
    libraries.flatten().map(library).find(|path| path.is_file())
}

/// The clock is this much ahead of what it was, or behind.
fn set_clock(file: &Path, offset: &str) {
    // In one step: the daemon reads it at any time.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{offset}\n")).expect("a file");
    std::fs::rename(&new, file).expect("a file");
}

/// When the next event happened, since 1970 by the daemon's clock.
async fn time_of_event(events: &mut Streaming<v1::WatchReply>) -> Duration {
    loop {
        let reply = tokio::time::timeout(PATIENCE, events.message()).await.expect("an event in time");
        if let Some(What::Event(event)) = reply.expect("a good stream").expect("it goes on").what {
            return Duration::from_nanos(event.time_unix_nanoseconds);
        }
    }
}

#[tokio::test]
async fn what_is_held_does_not_depend_on_the_clock() {
    let Some(library) = faketime() else {
        eprintln!("skipped: needs Debian's package faketime");
        return;
    };
    let place = Place::new();
    let clock = place.path("clock");
    set_clock(&clock, "+0");
    let start = || {
        let mut command = place.command();
        command
            .stderr(Stdio::inherit())
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Daemon::start_command(command, &place)
    };
    let daemon = start();
    let request = v1::WatchRequest { events: true, ..Default::default() };
    let mut events = daemon.control().await.watch(request).await.expect("a stream").into_inner();
    let hello = || v1::ControllerHello { grace_seconds: Some(GRACE), ..hello("a", false) };
    let mut session = daemon.session(hello()).await;
    session.apply(vrf("red", TARGET)).await;
    let time = time_of_event(&mut events).await;

    set_clock(&clock, "+400d");
    tokio::time::sleep(Duration::from_secs(1)).await;
    session.apply(discard("n")).await;
    // Its session is alive, and one that ends now has all its grace time.
    session.close().await;
    let later = time_of_event(&mut events).await;
    assert!(later > time + Duration::from_secs(300 * 86_400), "the clock did not jump");
    set_clock(&clock, "-400d");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(daemon.get(Key::Vrf("red".into())).await.is_some());
    let controllers = daemon.control().await.list_controllers(v1::ListControllersRequest {}).await;
    let controllers = controllers.expect("a list").into_inner().controllers;
    let left = controllers.iter().find(|one| one.name == "a").expect("it is known").expires_in_seconds;
    assert!((u64::from(GRACE) - 60..=u64::from(GRACE)).contains(&left), "{left} s are left");

    // A start at a time before its own past brings everything back.
    daemon.kill();
    let daemon = start();
    let mut session = daemon.session(hello()).await;
    assert_eq!(session.hello.held, 2);
    session.apply(vrf("red", TARGET)).await;
    assert_eq!(session.end_of_sync().await, 1, "the next hop was not declared again");
}
