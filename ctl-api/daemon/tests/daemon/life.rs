//! Starting and stopping the daemon.

use std::time::{Duration, Instant};

use crate::support::{Daemon, Place, run_to_end};
use tieline_proto::v1;

async fn boot_id(daemon: &Daemon) -> String {
    let mut operations = daemon.operations().await;
    operations.get_version(v1::GetVersionRequest {}).await.expect("a version").into_inner().boot_id
}

#[tokio::test]
async fn sigterm_ends_it_quickly_and_removes_the_socket() {
    let place = Place::new();
    let mut daemon = Daemon::start(&place);
    // Neither an open stream nor an open device may hold it up.
    let mut program = daemon.program().await;
    program.apply(crate::support::port("quiet", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;
    let started = Instant::now();
    daemon.terminate();
    let status = daemon.wait();
    let took = started.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(!daemon.socket().exists());
    drop(program);
}

#[tokio::test]
async fn a_second_daemon_on_the_same_socket_is_refused() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let before = boot_id(&daemon).await;
    let (status, out, error) = run_to_end(&mut place.command());
    assert!(!status.success());
    assert!(out.is_empty(), "{out}");
    assert!(error.contains("another daemon serves") && error.contains("control.sock"), "{error}");
    assert_eq!(boot_id(&daemon).await, before, "the first goes on");
}

#[tokio::test]
async fn two_daemons_with_sockets_of_their_own_live_side_by_side() {
    let (one, other) = (Place::new(), Place::new());
    let (one, other) = (Daemon::start(&one), Daemon::start(&other));
    assert_ne!(boot_id(&one).await, boot_id(&other).await);
}

#[tokio::test]
async fn a_killed_daemon_leaves_nothing_that_hinders_the_next() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let before = boot_id(&daemon).await;
    daemon.kill();
    assert!(place.socket().exists(), "it had no time to clean up");
    let daemon = Daemon::start(&place);
    assert_ne!(boot_id(&daemon).await, before);
}

#[test]
fn a_bad_configuration_is_refused_with_file_line_and_key() {
    let place = Place::new();
    let (status, out, error) = run_to_end(place.command().arg("--check"));
    assert!(status.success(), "{error}");
    assert_eq!(out, "the configuration is good\n");
    std::fs::write(place.config(), "[engine]\nworkers = 1\nwrokers = 2\n").expect("a file");
    for check in [true, false] {
        let (status, _, error) = run_to_end(place.command().args(check.then_some("--check")));
        assert!(!status.success());
        assert!(error.contains("tieline.toml:3: engine.wrokers: unknown field"), "{error}");
    }
    assert!(!place.socket().exists());
}
