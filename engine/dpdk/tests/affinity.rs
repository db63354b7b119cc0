//! Starting DPDK pins no thread. A process of its own: the thread that starts
//! DPDK is the one to look at.

mod support;

use std::thread;

use support::eal;

/// The cores that a thread of this process may run on.
fn cores_of(thread: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("a list");
    line.to_owned()
}

#[test]
fn no_thread_is_pinned_by_the_start() {
    let before = cores_of("thread-self");
    eal();
    assert_eq!(cores_of("thread-self"), before, "the thread that has started DPDK");
    let later = thread::spawn(|| cores_of("thread-self")).join().expect("joins");
    assert_eq!(later, before, "a thread made later");
    for thread in std::fs::read_dir("/proc/self/task").expect("threads").flatten() {
        let thread = format!("self/task/{}", thread.file_name().to_string_lossy());
        assert_eq!(cores_of(&thread), before, "a thread that DPDK has made");
    }
}
