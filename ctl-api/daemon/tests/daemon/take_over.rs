//! A daemon takes over from one that runs, or fails to.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::object_key::Kind as Key;

use crate::support::{Daemon, PATIENCE, Place, discard, port, route, vrf};
use frame::{Channel, FrameError, Hello, Kind};

/// The test speaks for a daemon that dies halfway.
#[path = "../../src/upgrade/frame.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod frame;

const TARGET: &str = "64512:1";

/// Declares a port, an interface, a VRF and a route.
async fn declare(daemon: &Daemon) {
    let mut program = daemon.program().await;
    program.apply(port("quiet", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;
    program.apply(vrf("red", TARGET)).await;
    program
        .apply(v1::object::Kind::Interface(v1::Interface {
            name: "web".into(),
            port: "quiet".into(),
            vrf: "red".into(),
            local_addresses: vec!["10.1.0.1/24".into()],
            ..Default::default()
        }))
        .await;
    program.apply(discard("nowhere")).await;
    program.apply(route("10.9.0.0/16", TARGET, "nowhere")).await;
    program.close().await;
}

/// All objects and their states, as text.
async fn declared(daemon: &Daemon) -> Vec<String> {
    let mut objects = Vec::new();
    for kind in 1..=8 {
        let request = v1::ListRequest { kind, ..Default::default() };
        let reply = daemon.control().await.list(request).await.expect("a list").into_inner();
        objects.extend(reply.items.iter().map(|item| {
            let status = item.status.as_ref().expect("a status");
            format!("{:?} {:?}", item.object, status.state())
        }));
    }
    objects
}

/// It programs as before, its port is in use, and it is still the same one.
async fn goes_on(daemon: &Daemon, before: &[String]) {
    let mut program = daemon.program().await;
    program.apply(discard("more")).await;
    program.delete(Key::NextHop("more".into())).await;
    program.close().await;
    assert_eq!(declared(daemon).await, before);
    let stats =
        daemon.operations().await.get_stats(v1::GetStatsRequest {}).await.expect("figures").into_inner();
    let queues: usize = stats.workers.iter().map(|worker| worker.rx_queues.len()).sum();
    assert_eq!(queues, 1, "a worker has the port's queue");
}

#[tokio::test]
async fn the_new_one_has_everything_and_the_old_one_ends() {
    let place = Place::new();
    let mut old = Daemon::start(&place);
    declare(&old).await;
    let before = declared(&old).await;
    assert_eq!(before.len(), 5);
    for _ in 0..2 {
        let new = Daemon::start_with(&place, &["--take-over"]);
        assert!(old.wait().success());
        goes_on(&new, &before).await;
        old = new;
    }
    old.terminate();
    assert!(old.wait().success());
    let left: Vec<_> = std::fs::read_dir(place.socket().parent().expect("a directory"))
        .expect("it is there")
        .map(|entry| entry.expect("a file"))
        .filter(|entry| entry.file_type().expect("its type").is_socket())
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.is_empty(), "sockets are left: {left:?}");
}

#[tokio::test]
async fn with_nobody_to_take_over_from_it_starts_as_usual() {
    let place = Place::new();
    let first = Daemon::start_with(&place, &["--take-over"]);
    let before = declared(&first).await;
    assert!(before.is_empty());
    first.kill();
    let _second = Daemon::start_with(&place, &["--take-over"]);
}

/// A daemon that takes over up to, and including, this message, and is gone.
fn dies_after(place: &Place, last: Kind) {
    let mut path = place.socket().into_os_string();
    path.push(".upgrade");
    let stream = UnixStream::connect(path).expect("somebody listens");
    let mut channel = Channel::new(stream, PATIENCE).expect("a socket");
    let hello = Hello { protocol: frame::PROTOCOL, state: 1, release: "a test".into() };
    channel.send(Kind::Hello, &hello.to_bytes()).expect("it reads");
    let until = |channel: &mut Channel, wanted: Kind| {
        loop {
            let (kind, _) = channel.receive().expect("its part");
            if kind == wanted {
                return kind == last;
            }
        }
    };
    for (kind, answer) in [(Kind::Hello, None), (Kind::Declared, None), (Kind::Copied, Some(Kind::Ready))] {
        if until(&mut channel, kind) {
            return;
        }
        if let Some(answer) = answer {
            channel.send(answer, &[]).expect("it reads");
            if answer == last {
                return;
            }
        }
    }
    for kind in [Kind::Detached, Kind::Closed, Kind::Released] {
        if until(&mut channel, kind) {
            return;
        }
    }
    panic!("{last:?} is not on the way");
}

#[tokio::test]
async fn whoever_dies_halfway_leaves_the_old_one_as_it_was() {
    let place = Place::new();
    let mut old = Daemon::start(&place);
    declare(&old).await;
    let before = declared(&old).await;
    for last in
        [Kind::Hello, Kind::Declared, Kind::Copied, Kind::Ready, Kind::Detached, Kind::Closed, Kind::Released]
    {
        dies_after(&place, last);
        goes_on(&old, &before).await;
    }
    // And a real one may still come.
    let new = Daemon::start_with(&place, &["--take-over"]);
    assert!(old.wait().success());
    goes_on(&new, &before).await;
}

/// Whether a daemon goes on; it may be about to end.
async fn serves_or_ends(daemon: &mut Daemon) -> bool {
    let started = Instant::now();
    while !daemon.has_ended() {
        if daemon.answers().await {
            return true;
        }
        assert!(started.elapsed() < PATIENCE, "it neither serves nor ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_real_one_killed_at_any_moment_leaves_one_that_serves() {
    let place = Place::new();
    let mut old = Daemon::start(&place);
    declare(&old).await;
    let before = declared(&old).await;
    for pause in (0..12).map(|step| Duration::from_millis(step * 40)) {
        let mut new = place.command().arg("--take-over").stderr(Stdio::null()).spawn().expect("it starts");
        tokio::time::sleep(pause).await;
        new.kill().expect("it may have ended");
        new.wait().expect("it ends");
        if !serves_or_ends(&mut old).await {
            // It came too far: nobody is left, and the next begins anew.
            old = Daemon::start(&place);
            declare(&old).await;
        }
        goes_on(&old, &before).await;
    }
}

#[tokio::test]
async fn another_version_is_refused_in_words() {
    let place = Place::new();
    let old = Daemon::start(&place);
    let mut path = place.socket().into_os_string();
    path.push(".upgrade");
    let mut channel =
        Channel::new(UnixStream::connect(path).expect("somebody listens"), PATIENCE).expect("a socket");
    let hello = Hello { protocol: frame::PROTOCOL + 1, state: 1, release: "99".into() };
    channel.send(Kind::Hello, &hello.to_bytes()).expect("it reads");
    match channel.receive() {
        Err(FrameError::Refused(why)) => {
            assert!(why.contains("release 99") && why.contains("restart"), "{why}");
        }
        other => panic!("not a refusal: {other:?}"),
    }
    assert!(declared(&old).await.is_empty(), "it goes on");
}
