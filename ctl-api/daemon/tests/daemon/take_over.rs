//! A daemon takes over from one that runs, or fails to.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::object_key::Kind as Key;

use crate::old_daemon::{self, OldDaemon, Script};
use crate::security::Secure;
use crate::support::{Daemon, PATIENCE, Place, discard, port, route, vrf};
use tieline_daemon::frame::{self, Channel, FrameError, Hello, Kind, StoreWord};

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
fn dies_after(place: &Place, protocol: u16, last: Kind) {
    let mut path = place.socket().into_os_string();
    path.push(".upgrade");
    let stream = UnixStream::connect(path).expect("somebody listens");
    let mut channel = Channel::new(stream, PATIENCE).expect("a socket");
    let hello = Hello { protocol, state: 1, release: "a test".into() };
    channel.send(Kind::Hello, &hello.to_bytes()).expect("it reads");
    let until = |channel: &mut Channel, wanted: Kind| {
        loop {
            let (kind, _) = channel.receive().expect("its part");
            if kind == wanted {
                return kind == last;
            }
        }
    };
    let steps = [
        (Kind::Hello, None),
        (Kind::Declared, None),
        (Kind::Copied, Some(Kind::Ready)),
        (Kind::Detached, None),
        (Kind::Closed, None),
        (Kind::Released, Some(Kind::Forwarding)),
        (Kind::Yours, Some(Kind::Serving)),
    ];
    for (kind, answer) in steps {
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
    panic!("{last:?} is not on the way");
}

/// Until the old one reads this it takes everything back.
const WITH_A_WAY_BACK: [Kind; 9] = [
    Kind::Hello,
    Kind::Declared,
    Kind::Copied,
    Kind::Ready,
    Kind::Detached,
    Kind::Closed,
    Kind::Released,
    Kind::Forwarding,
    Kind::Yours,
];

#[tokio::test]
async fn whoever_dies_halfway_leaves_the_old_one_as_it_was() {
    let place = Place::new();
    let mut old = Daemon::start(&place);
    declare(&old).await;
    let before = declared(&old).await;
    for last in WITH_A_WAY_BACK {
        dies_after(&place, 3, last);
        goes_on(&old, &before).await;
    }
    // In the protocol before, its end is when it has heard that the other
    // forwards.
    for last in &WITH_A_WAY_BACK[..7] {
        dies_after(&place, 2, *last);
        goes_on(&old, &before).await;
    }
    // And a real one may still come.
    let new = Daemon::start_with(&place, &["--take-over"]);
    assert!(old.wait().success());
    goes_on(&new, &before).await;
}

#[tokio::test]
async fn an_old_one_that_took_everything_back_stores_again() {
    let place = Place::new();
    let mut old = Daemon::start(&place);
    declare(&old).await;
    for (round, last) in [Kind::Forwarding, Kind::Yours].into_iter().enumerate() {
        dies_after(&place, 3, last);
        let mut program = old.program().await;
        let name = format!("after-{round}");
        let started = Instant::now();
        while !program.apply_unstored(discard(&name)).await.is_empty() {
            assert!(started.elapsed() < PATIENCE, "it does not store again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        old.until_problems(&[]).await;
        let before = declared(&old).await;
        old.kill();
        old = Daemon::start(&place);
        assert_eq!(declared(&old).await, before, "{last:?}");
    }
}

/// A place with a store in which a next hop is left by a daemon that was killed.
async fn place_with_a_state() -> Place {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    daemon.program().await.apply(discard("kept")).await;
    daemon.kill();
    place
}

#[tokio::test]
async fn an_old_one_that_dies_halfway_leaves_a_new_one_that_serves() {
    let place = place_with_a_state().await;
    let reference = Daemon::start(&place);
    let kept = declared(&reference).await;
    assert_eq!(kept.len(), 1);
    reference.kill();
    for protocol in [2, 3] {
        for messages in 1..=old_daemon::messages() {
            let place = place_with_a_state().await;
            let script = Script { protocol, messages: Some(messages), ..Script::default() };
            let old = OldDaemon::start(&place, script);
            let new = Daemon::start_with(&place, &["--take-over"]);
            old.wait().expect("it comes to its end");
            let objects = declared(&new).await;
            // Its tenth message says that this was all.
            match messages < 10 {
                true => assert_eq!(objects, kept, "protocol {protocol}, {messages} messages: from the store"),
                false => {
                    assert_eq!(objects.len(), 5, "protocol {protocol}, {messages} messages: as it was told");
                    goes_on(&new, &objects).await;
                }
            }
            new.kill();
            let again = Daemon::start(&place);
            assert_eq!(declared(&again).await, objects, "protocol {protocol}, {messages} messages");
        }
    }
}

#[tokio::test]
async fn an_old_one_that_dies_before_it_hears_that_the_other_forwards() {
    for last in [Kind::Ready, Kind::Forwarding, Kind::Serving] {
        let place = place_with_a_state().await;
        let script = Script { protocol: 3, last: Some(last), ..Script::default() };
        let old = OldDaemon::start(&place, script);
        let new = Daemon::start_with(&place, &["--take-over"]);
        old.wait().expect("it comes to its end");
        let objects = declared(&new).await;
        assert_eq!(objects.len(), 5, "{last:?}");
        goes_on(&new, &objects).await;
    }
}

/// The lock of a store, as another process has it.
fn lock_store(place: &Place) -> File {
    let mut path = place.socket().into_os_string();
    path.push(".store.lock");
    let path = PathBuf::from(path);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    let lock = File::options().create(true).write(true).truncate(false).open(path).expect("a file");
    lock.lock().expect("nobody has it");
    lock
}

/// A daemon of the release before, whose process takes longer to end than the
/// new one waits: it has the store and the TCP port until then.
#[tokio::test]
async fn what_the_old_one_still_holds_is_told_and_taken_later() {
    let secure = Secure::new("");
    let place = &secure.place;
    let daemon = Daemon::start(place);
    daemon.program().await.apply(discard("kept")).await;
    daemon.kill();
    let script = Script {
        protocol: 2,
        holds: vec![
            Box::new(lock_store(place)),
            Box::new(TcpListener::bind(secure.address).expect("a port")),
        ],
        ..Script::default()
    };
    let old = OldDaemon::start(place, script);
    let new = Daemon::start_with(place, &["--take-over"]);
    let request = v1::WatchRequest { events: true, ..Default::default() };
    let mut events = new.control().await.watch(request).await.expect("a stream").into_inner();
    let objects = declared(&new).await;
    assert_eq!(objects.len(), 5, "what it was told, and not what was in the store");
    let mut program = new.program().await;
    let why = program.apply_unstored(discard("more")).await;
    assert!(why.contains("in use by"), "{why}");
    new.until_problems(&[v1::ProblemKind::Store, v1::ProblemKind::Listener]).await;

    old.wait().expect("it comes to its end");
    new.until_problems(&[]).await;
    let mut heard = Vec::new();
    while !heard.contains(&v1::EventKind::StoreComplete) || !heard.contains(&v1::EventKind::ProblemOver) {
        let reply = tokio::time::timeout(PATIENCE, events.message()).await.expect("an event in time");
        if let Some(v1::watch_reply::What::Event(event)) = reply.expect("good").expect("it goes on").what {
            heard.push(event.kind());
        }
    }
    assert_eq!(program.apply_unstored(discard("last")).await, "");
    TcpStream::connect(secure.address).expect("it listens");
    let before = declared(&new).await;
    assert_eq!(before.len(), 7);
    new.kill();
    assert_eq!(declared(&Daemon::start(place)).await, before);
}

/// A listener that is handed on serves at once, while the old process has it too.
#[tokio::test]
async fn the_tcp_listener_of_the_old_one_is_taken() {
    let secure = Secure::new("");
    let listener = TcpListener::bind(secure.address).expect("a port");
    let early = TcpStream::connect(secure.address).expect("it waits to be let in");
    let script = Script { protocol: 3, tcp: Some(listener), ..Script::default() };
    let old = OldDaemon::start(&secure.place, script);
    let new = Daemon::start_with(&secure.place, &["--take-over"]);
    let channel = secure.connect(&secure.ca.issue("ctl-1.example")).await;
    let mut operations = tieline_proto::v1::operations_client::OperationsClient::new(channel);
    operations.get_version(v1::GetVersionRequest {}).await.expect("an answer");
    assert_eq!(new.problems().await, []);
    drop(early);
    old.wait().expect("it comes to its end");
}

/// The last state belongs to whoever can read it.
#[tokio::test]
async fn a_store_that_the_old_one_could_not_read_is_set_aside_and_not_overwritten() {
    let place = place_with_a_state().await;
    let store = Some(StoreWord::Unread("its disk was not there".into()));
    let old = OldDaemon::start(&place, Script { protocol: 3, store, ..Script::default() });
    let new = Daemon::start_with(&place, &["--take-over"]);
    old.wait().expect("it comes to its end");
    let objects = declared(&new).await;
    assert_eq!(objects.len(), 5);
    new.kill();
    let again = Daemon::start(&place);
    assert_eq!(declared(&again).await, objects);
    again.kill();
    // Whoever looks finds it.
    let with = |suffix: &str| {
        let mut path = place.socket().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    };
    std::fs::remove_dir_all(with(".store")).expect("it is there");
    std::fs::remove_file(with(".store.bad-1/reason")).expect("it says why");
    std::fs::rename(with(".store.bad-1"), with(".store")).expect("it is there");
    let daemon = Daemon::start(&place);
    assert!(daemon.get(Key::NextHop("kept".into())).await.is_some());
}

/// Connects again and again until told to stop; returns how often, and whether
/// it was turned away once.
fn knock(stop: &AtomicBool, connect: impl Fn() -> std::io::Result<()>) -> (usize, Option<String>) {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = connect() {
            return (count, Some(error.to_string()));
        }
        count += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    (count, None)
}

#[tokio::test]
async fn nobody_is_turned_away_meanwhile() {
    let secure = Secure::new("[api.limits]\nhandshakes = 4000\n");
    let place = &secure.place;
    let mut old = Daemon::start(place);
    declare(&old).await;
    let file = std::fs::metadata(place.socket()).expect("it is there").ino();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let unix = scope.spawn(|| knock(&stop, || UnixStream::connect(place.socket()).map(drop)));
        let tcp = scope.spawn(|| knock(&stop, || TcpStream::connect(secure.address).map(drop)));
        for _ in 0..3 {
            let new = Daemon::start_with(place, &["--take-over"]);
            assert!(old.wait().success());
            old = new;
        }
        stop.store(true, Ordering::Relaxed);
        for knocked in [unix, tcp] {
            let (count, refused) = knocked.join().expect("it ends");
            assert_eq!(refused, None, "after {count} connections");
            assert!(count > 100, "{count}");
        }
    });
    assert_eq!(std::fs::metadata(place.socket()).expect("it is there").ino(), file, "it is the same socket");
    assert_eq!(old.problems().await, []);
}

#[tokio::test]
async fn a_socket_that_is_removed_is_made_anew() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    declare(&daemon).await;
    let before = declared(&daemon).await;
    // As systemd does with the directory of a unit that has stopped.
    let directory = place.socket().parent().expect("a directory").to_owned();
    let aside = directory.with_extension("aside");
    std::fs::rename(&directory, &aside).expect("it is there");
    let started = Instant::now();
    while !daemon.answers().await {
        assert!(started.elapsed() < PATIENCE, "the socket is not made anew");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    goes_on(&daemon, &before).await;
    let mut path = place.socket().into_os_string();
    path.push(".upgrade");
    while UnixStream::connect(&path).is_err() {
        assert!(started.elapsed() < PATIENCE, "daemons find no place to meet");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let new = Daemon::start_with(&place, &["--take-over"]);
    assert!(daemon.wait().success());
    goes_on(&new, &before).await;
}

#[tokio::test]
async fn a_daemon_that_is_told_to_stop_while_another_takes_over_leaves_the_socket_to_it() {
    let place = Place::new();
    let mut old = Daemon::start(&place);
    declare(&old).await;
    let before = declared(&old).await;
    let mut new = place.command();
    new.arg("--take-over").stderr(Stdio::inherit());
    // Wherever it meets the conversation.
    let old_pid = old.pid();
    let told = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        let status = std::process::Command::new("kill").arg("-TERM").arg(old_pid.to_string()).status();
        status.expect("kill runs")
    });
    let new = Daemon::start_command(new, &place);
    told.join().expect("it ends");
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
