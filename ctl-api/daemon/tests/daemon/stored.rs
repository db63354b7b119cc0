//! What is said of whether something is stored is true, whatever becomes of the
//! store.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tieline_proto::v1;
use tieline_proto::v1::object_key::Kind as Key;
use tieline_proto::v1::watch_reply::What;
use tonic::Streaming;

use crate::support::{Daemon, PATIENCE, Place, discard, port};
use tieline_daemon::frame::{Channel, Hello, Kind};

async fn watch(daemon: &Daemon) -> Streaming<v1::WatchReply> {
    let request = v1::WatchRequest { events: true, ..Default::default() };
    daemon.control().await.watch(request).await.expect("a stream").into_inner()
}

/// Waits for an event of this kind.
async fn until(replies: &mut Streaming<v1::WatchReply>, kind: v1::EventKind) {
    loop {
        let reply = tokio::time::timeout(PATIENCE, replies.message()).await.expect("an event in time");
        if let Some(What::Event(event)) = reply.expect("a good stream").expect("it goes on").what
            && event.kind() == kind
        {
            return;
        }
    }
}

fn next_hop(name: &str) -> Key {
    Key::NextHop(name.to_owned())
}

/// The default place of the store.
fn store_of(place: &Place) -> PathBuf {
    let mut path = place.socket().into_os_string();
    path.push(".store");
    path.into()
}

#[tokio::test]
async fn without_a_store_nothing_is_called_stored() {
    let place = Place::new();
    place.configure("[store]\nenabled = false\n");
    let daemon = Daemon::start(&place);
    let why = daemon.program().await.apply_unstored(discard("n")).await;
    assert!(why.contains("store.enabled = false"), "{why}");
    assert_eq!(daemon.problems().await, [], "it is as it was configured");
}

#[tokio::test]
async fn a_store_whose_files_are_taken_away_is_made_anew() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut program = daemon.program().await;
    let node = program.hello.node_id.clone();
    assert_eq!(program.apply_unstored(discard("before")).await, "");
    let mut events = watch(&daemon).await;
    std::fs::remove_dir_all(store_of(&place)).expect("it is there");
    // From the first acknowledgement on.
    let why = program.apply_unstored(discard("after")).await;
    assert!(why.contains("removed or replaced"), "{why}");
    until(&mut events, v1::EventKind::StoreIncomplete).await;
    until(&mut events, v1::EventKind::StoreComplete).await;
    assert_eq!(program.apply_unstored(discard("last")).await, "");
    daemon.kill();
    let daemon = Daemon::start(&place);
    for name in ["before", "after", "last"] {
        assert!(daemon.get(next_hop(name)).await.is_some(), "{name}");
    }
    assert_eq!(daemon.program().await.hello.node_id, node, "it is the same node");
}

/// Where a file stands in the way of the store's directory.
struct Blocked {
    place: Place,
    above: PathBuf,
    aside: PathBuf,
}

impl Blocked {
    /// A store that holds a next hop, and that cannot be reached.
    async fn new() -> Self {
        let place = Place::new();
        let (above, aside) = (place.path("disk"), place.path("aside"));
        place.configure(&format!("[store]\npath = \"{}\"\n", above.join("state").display()));
        let daemon = Daemon::start(&place);
        assert_eq!(daemon.program().await.apply_unstored(discard("kept")).await, "");
        daemon.kill();
        std::fs::rename(&above, &aside).expect("it is there");
        std::fs::write(&above, "in the way").expect("a file");
        Self { place, above, aside }
    }

    fn unblock(&self) {
        std::fs::remove_file(&self.above).expect("it is there");
        std::fs::rename(&self.aside, &self.above).expect("it is there");
    }
}

#[tokio::test]
async fn a_last_state_that_comes_late_is_brought_back() {
    let blocked = Blocked::new().await;
    let daemon = Daemon::start(&blocked.place);
    daemon.until_problems(&[v1::ProblemKind::Store]).await;
    assert!(daemon.get(next_hop("kept")).await.is_none());
    let mut replies = watch(&daemon).await;
    blocked.unblock();
    until(&mut replies, v1::EventKind::StoreComplete).await;
    assert!(daemon.get(next_hop("kept")).await.is_some());
    daemon.until_problems(&[]).await;
    let mut program = daemon.program().await;
    assert_eq!(program.apply_unstored(discard("more")).await, "");
    daemon.kill();
    let daemon = Daemon::start(&blocked.place);
    assert!(daemon.get(next_hop("kept")).await.is_some() && daemon.get(next_hop("more")).await.is_some());
}

#[tokio::test]
async fn a_last_state_that_comes_too_late_is_set_aside() {
    let blocked = Blocked::new().await;
    let daemon = Daemon::start(&blocked.place);
    let mut program = daemon.program().await;
    let why = program.apply_unstored(discard("new")).await;
    assert!(why.contains("could not be"), "{why}");
    let mut replies = watch(&daemon).await;
    blocked.unblock();
    until(&mut replies, v1::EventKind::StoreComplete).await;
    assert_eq!(program.apply_unstored(discard("more")).await, "");
    assert!(daemon.get(next_hop("kept")).await.is_none());
    daemon.kill();
    let daemon = Daemon::start(&blocked.place);
    assert!(daemon.get(next_hop("new")).await.is_some() && daemon.get(next_hop("more")).await.is_some());
    let reason = blocked.above.join("state.bad-1/reason");
    let reason = std::fs::read_to_string(reason).expect("the last state is kept");
    assert!(reason.contains("had to start without it"), "{reason}");
}

/// A capture file without packets, which a port can be opened on.
fn capture(path: &Path) {
    let mut empty: Vec<u8> =
        [0xa1b2_c3d4_u32, 0, 0, 0, 65535, 1].iter().flat_map(|n| n.to_ne_bytes()).collect();
    // Version 2.4: two numbers of 16 bits.
    empty[4..6].copy_from_slice(&2_u16.to_ne_bytes());
    empty[6..8].copy_from_slice(&4_u16.to_ne_bytes());
    std::fs::write(path, empty).expect("a file");
}

/// A port is all that is declared, and its device is gone at the start.
async fn with_a_port_that_does_not_open() -> (Place, PathBuf, Daemon) {
    let place = Place::new();
    let file = place.path("in.pcap");
    capture(&file);
    let daemon = Daemon::start(&place);
    let device = format!("net_pcap0,rx_pcap={}", file.display());
    daemon.program().await.apply(port("capture", &device, v1::PortRole::Tenant)).await;
    daemon.kill();
    std::fs::remove_file(&file).expect("it is there");
    let daemon = Daemon::start(&place);
    daemon.until_problems(&[v1::ProblemKind::Port]).await;
    (place, file, daemon)
}

async fn is_back(daemon: &Daemon) {
    let back = async {
        while daemon.get(Key::Port("capture".to_owned())).await.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("the port is opened");
}

#[tokio::test]
async fn a_port_that_does_not_open_stays_declared_whatever_happens_to_the_store_and_the_daemon() {
    let (place, file, mut daemon) = with_a_port_that_does_not_open().await;
    // Everything is written anew, and nobody but the port holds its controller.
    std::fs::remove_dir_all(store_of(&place)).expect("it is there");
    let mut replies = watch(&daemon).await;
    until(&mut replies, v1::EventKind::StoreComplete).await;
    daemon.kill();
    daemon = Daemon::start(&place);
    daemon.until_problems(&[v1::ProblemKind::Port]).await;
    // Another daemon takes over, twice.
    for _ in 0..2 {
        let new = Daemon::start_with(&place, &["--take-over"]);
        assert!(daemon.wait().success());
        daemon = new;
        daemon.until_problems(&[v1::ProblemKind::Port]).await;
    }
    daemon.kill();
    daemon = Daemon::start(&place);
    capture(&file);
    is_back(&daemon).await;
    daemon.until_problems(&[]).await;
}

#[tokio::test]
async fn a_port_that_does_not_open_can_be_withdrawn() {
    let (place, file, daemon) = with_a_port_that_does_not_open().await;
    daemon.program().await.delete(Key::Port("capture".to_owned())).await;
    daemon.until_problems(&[]).await;
    daemon.kill();
    capture(&file);
    let daemon = Daemon::start(&place);
    assert_eq!(daemon.problems().await, []);
    assert!(daemon.get(Key::Port("capture".to_owned())).await.is_none());
}

/// A device that is closed for a daemon that takes over, and dies, and that does
/// not open again.
#[tokio::test]
async fn a_device_that_does_not_come_back_is_told_and_opened_later() {
    let place = Place::new();
    let file = place.path("in.pcap");
    capture(&file);
    let daemon = Daemon::start(&place);
    let device = format!("net_pcap0,rx_pcap={}", file.display());
    daemon.program().await.apply(port("capture", &device, v1::PortRole::Tenant)).await;
    let mut path = place.socket().into_os_string();
    path.push(".upgrade");
    let mut channel =
        Channel::new(UnixStream::connect(path).expect("somebody listens"), PATIENCE).expect("a socket");
    let hello = Hello { protocol: 3, state: 1, release: "a test".into() };
    channel.send(Kind::Hello, &hello.to_bytes()).expect("it reads");
    loop {
        match channel.receive().expect("its part").0 {
            Kind::Copied => channel.send(Kind::Ready, &[]).expect("it reads"),
            Kind::Closed => break,
            _ => {}
        }
    }
    std::fs::remove_file(&file).expect("it is there");
    drop(channel);
    daemon.until_problems(&[v1::ProblemKind::Port]).await;
    let key = || Key::Port("capture".to_owned());
    let status = daemon.get(key()).await.and_then(|item| item.status).expect("it is declared");
    assert_eq!(status.state(), v1::ObjectState::Degraded);
    assert!(status.message.contains("could not be attached"), "{}", status.message);
    capture(&file);
    daemon.until_problems(&[]).await;
    let status = daemon.get(key()).await.and_then(|item| item.status).expect("it is declared");
    assert_eq!(status.state(), v1::ObjectState::Ready);
}
