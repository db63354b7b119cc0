//! What the daemon's process may do: nothing that it does not need, in any of its
//! threads.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use tieline_proto::v1;
use tieline_proto::v1::object_key;

use crate::support::{Daemon, Place, discard, port};

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK.
const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 14;
/// CAP_SETPCAP: whoever has it can limit what programs may get that it runs.
const SETPCAP: u64 = 1 << 8;

/// One thread's `/proc/PID/task/TID/status`.
type Status = BTreeMap<String, String>;

fn status(path: &str) -> Status {
    let text = std::fs::read_to_string(path).expect("it runs");
    let pair =
        |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// All threads of a daemon by their names.
fn threads(daemon: &Daemon) -> Vec<(String, Status)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let status_of = |task: std::fs::DirEntry| status(&task.path().join("status").display().to_string());
    let all: Vec<_> = tasks.map(|task| status_of(task.expect("it can be read"))).collect();
    all.into_iter().map(|status| (status["Name"].clone(), status)).collect()
}

fn capabilities(status: &Status, set: &str) -> u64 {
    u64::from_str_radix(&status[set], 16).expect("a number")
}

/// Checks all threads of a daemon.
fn check(daemon: &Daemon) {
    let own = status("/proc/self/status");
    let kept = capabilities(&own, "CapPrm") & NEEDED;
    let all = threads(daemon);
    for name in ["tieline", "worker-0", "neighbours", "control", "store", "programmed", "devices", "api"] {
        assert!(all.iter().any(|(found, _)| found == name), "{name} is not among {all:?}");
    }
    for (name, status) in &all {
        for (set, expected) in [("CapEff", kept), ("CapPrm", kept), ("CapInh", 0), ("CapAmb", 0)] {
            assert_eq!(capabilities(status, set), expected, "{set} of {name}");
        }
        if capabilities(&own, "CapEff") & SETPCAP != 0 {
            assert_eq!(capabilities(status, "CapBnd") & !kept, 0, "CapBnd of {name}");
        }
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"), "{name}");
        let moves_packets = name.starts_with("worker-") || name == "neighbours";
        let filters = if moves_packets { "2" } else { "1" };
        assert_eq!(status["Seccomp_filters"], filters, "{name}");
    }
}

#[tokio::test]
async fn no_thread_may_do_more_than_it_needs() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    check(&daemon);
    // Devices are opened later, and the next daemon takes them over.
    let mut session = daemon.program().await;
    session.apply(port("p", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;
    check(&daemon);
    let next = Daemon::start_with(&place, &["--take-over"]);
    check(&next);
    let item = next.get(object_key::Kind::Port("p".to_owned())).await.expect("it is declared");
    assert_ne!(item.status.expect("a status").state(), v1::ObjectState::Waiting);
}

#[tokio::test]
async fn the_daemon_becomes_another_user() {
    const NOBODY: u32 = 65_534;
    let place = Place::new();
    if place.config().metadata().expect("a file").uid() != 0 {
        eprintln!("skipped: only root can become another user");
        return;
    }
    place.configure(&format!("[process]\nuser = \"{NOBODY}\"\n"));
    let daemon = Daemon::start(&place);
    check(&daemon);
    for (name, status) in threads(&daemon) {
        let ids: Vec<&str> =
            status["Uid"].split_whitespace().chain(status["Gid"].split_whitespace()).collect();
        assert!(ids.iter().all(|id| *id == NOBODY.to_string()), "{name}: {ids:?}");
        assert_eq!(status["Groups"], "", "{name}");
    }
    assert_eq!(daemon.socket().metadata().expect("a socket").uid(), NOBODY);
    daemon.program().await.apply(discard("n")).await;
    daemon.kill();
    // What it has stored is its own.
    let daemon = Daemon::start(&place);
    assert!(daemon.get(object_key::Kind::NextHop("n".to_owned())).await.is_some());
    daemon.kill();
    // A store of another user is not quietly gone without.
    let text = std::fs::read_to_string(place.config()).expect("a file").replace("65534", "65533");
    std::fs::write(place.config(), text).expect("a file");
    let (status, _, said) = crate::support::run_to_end(&mut place.command());
    assert!(!status.success() && said.contains("user 65533 may not write to"), "{said}");
}
