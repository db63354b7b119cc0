//! Starting DPDK, and what it must leave alone.

mod support;

use std::path::PathBuf;
use std::thread;

use support::eal;
use tieline_dpdk::{Eal, EalConfig, EalError, RegisterError, dpdk_version, register_worker_thread};

/// The cores that the calling thread may run on.
fn own_cores() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("a list");
    line.to_owned()
}

#[test]
fn a_second_start_is_refused() {
    eal();
    assert!(matches!(Eal::start(EalConfig::default()), Err(EalError::AlreadyStarted)));
}

#[test]
fn nothing_stays_on_disk() {
    assert!(!eal().hugepages());
    assert!(!eal().pci());
    let name = format!("tieline-test-{}", std::process::id());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    for parent in runtime.into_iter().chain(["/var/run".into(), "/tmp".into()]) {
        let directory = parent.join("dpdk").join(&name);
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn the_version_is_one_that_is_supported() {
    let version = dpdk_version();
    let year: u32 = version
        .strip_prefix("DPDK ")
        .and_then(|rest| rest.get(..2))
        .and_then(|y| y.parse().ok())
        .expect("a year");
    assert!(year >= 22, "{version}");
}

#[test]
fn worker_threads_register_and_make_room_again() {
    eal();
    let register = || {
        let before = own_cores();
        let registration = register_worker_thread().expect("a free place");
        assert_eq!(own_cores(), before, "registering pins nothing");
        assert_eq!(
            register_worker_thread().err(),
            Some(RegisterError::AlreadyRegistered(registration.lcore()))
        );
        registration.lcore()
    };
    // More threads than DPDK knows at once, one after the other.
    for _ in 0..200 {
        thread::spawn(register).join().expect("joins");
    }
    let barrier = std::sync::Barrier::new(2);
    let (first, second) = thread::scope(|scope| {
        let one = || {
            let registration = register_worker_thread().expect("a free place");
            barrier.wait();
            registration.lcore()
        };
        let (a, b) = (scope.spawn(one), scope.spawn(one));
        (a.join().expect("joins"), b.join().expect("joins"))
    });
    assert_ne!(first, second);
}
