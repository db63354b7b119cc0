//! Threads and tasks that a program is nothing without.
//!
//! Each of them has something that the others wait for: a worker its queues and
//! sessions, the control thread the tables, the neighbour service the packets
//! that wait for an answer, a controller's driver the sessions with its peers.
//! Half a program that goes on answering its API would hide that one of them is
//! gone. A panic in any of them therefore ends the whole process, so that its
//! supervisor starts it anew with the last state from its store.
//!
//! What serves a single request is not essential: a panic there ends the request.

use std::thread::JoinHandle;

/// Starts a thread. The process aborts when it panics.
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

/// Makes a task of which a panic aborts the process, whatever the runtime does
/// about panics.
pub async fn task<F: Future>(work: F) -> F::Output {
    let _end = AbortOnPanic;
    work.await
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
    fn a_panic_of_a_task_ends_the_process_too() {
        if is_alone() {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let bad = runtime.spawn(task(async {
                tokio::task::yield_now().await;
                panic!("this is the reason");
            }));
            let _: Result<(), _> = runtime.block_on(bad);
            return;
        }
        let (signal, said) = alone("a_panic_of_a_task_ends_the_process_too");
        assert_eq!(signal, Some(libc::SIGABRT), "{said}");
        assert!(said.contains("this is the reason"), "{said}");
    }

    #[test]
    fn a_task_that_is_dropped_ends_nothing() {
        drop(task(std::future::pending::<()>()));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        assert_eq!(runtime.block_on(task(async { 7 })), 7);
    }

    #[test]
    fn a_thread_that_ends_well_ends_nothing() {
        let thread = spawn("short", || 7).expect("a thread");
        assert_eq!(thread.join().expect("it did not panic"), 7);
    }
}
