//! Threads that a gateway is no gateway without.
//!
//! Each of them has something that the others wait for: a worker its queues and
//! sessions, the control thread the tables, the neighbour service the packets
//! that wait for an answer. Half a gateway that goes on answering its API would
//! hide that one of them is gone. A panic in any of them therefore ends the
//! whole process, so that its supervisor starts it anew with the last state
//! from the store.

use std::thread::JoinHandle;

/// Starts such a thread. The process aborts when it panics.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn<T: Send + 'static>(
    name: impl Into<String>,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let _end = AbortOnPanic;
        run()
    })
}

/// Aborts the process when it is dropped by a panic. The message of the panic
/// was printed before.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    /// Tells a test that it runs in a process that may end.
    const ALONE: &str = "TIELINE_TEST_ALONE";

    /// Runs the test of this name in a process of its own; returns the signal
    /// that ended it, and what it printed.
    fn alone(test: &str) -> (Option<i32>, String) {
        let program = std::env::current_exe().expect("a test has a program");
        let name = format!("essential::tests::{test}");
        let output = Command::new(program)
            .args([name.as_str(), "--exact", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .expect("the test starts again");
        (output.status.signal(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn is_alone() -> bool {
        std::env::var_os(ALONE).is_some()
    }

    #[test]
    fn a_panic_ends_the_process_and_says_where() {
        if is_alone() {
            let thread = spawn("important", || panic!("this is the reason")).expect("a thread");
            let _: Result<(), _> = thread.join();
            return;
        }
        let (signal, said) = alone("a_panic_ends_the_process_and_says_where");
        assert_eq!(signal, Some(libc::SIGABRT), "{said}");
        assert!(said.contains("important") && said.contains("this is the reason"), "{said}");
    }

    #[test]
    fn a_thread_that_ends_well_ends_nothing() {
        let thread = spawn("short", || 7).expect("a thread");
        assert_eq!(thread.join().expect("it did not panic"), 7);
    }
}
