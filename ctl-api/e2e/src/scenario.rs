//! Running a scenario with one worker and with two, step by step.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Result;

thread_local! {
    /// What the daemons of this test said; shown when it fails.
    static LOGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a log until it is known whether the test failed.
pub(crate) fn keep_log(text: String) {
    LOGS.with_borrow_mut(|logs| logs.push(text));
}

/// The steps of a scenario. All of them are tried; those that failed are
/// listed at the end.
#[derive(Debug, Default)]
pub struct Steps {
    failed: Vec<String>,
}

impl Steps {
    /// Tries one step and prints how it went.
    pub fn check(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        match step() {
            Ok(()) => eprintln!("  ok      {name} ({:.1} s)", started.elapsed().as_secs_f32()),
            Err(error) => {
                eprintln!("  FAILED  {name}: {error:#}");
                self.failed.push(format!("{name}: {error:#}"));
            }
        }
    }
}

/// Runs a scenario, or says why not.
///
/// # Panics
///
/// When a step, or the scenario itself, failed.
pub fn run_scenario(name: &str, workers: usize, scenario: fn(usize, &mut Steps) -> Result<()>) {
    if !is_root() {
        eprintln!("skipped: {name} needs root for network namespaces");
        return;
    }
    eprintln!("{name}, {workers} worker(s)");
    LOGS.with_borrow_mut(Vec::clear);
    let mut steps = Steps::default();
    if let Err(error) = scenario(workers, &mut steps) {
        steps.failed.push(format!("{error:#}"));
    }
    if !steps.failed.is_empty() {
        LOGS.with_borrow(|logs| logs.iter().for_each(|log| eprintln!("{log}")));
        panic!("{name}, {workers} worker(s):\n- {}", steps.failed.join("\n- "));
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes two tests of a function: with one worker and with two.
#[macro_export]
macro_rules! with_one_and_two_workers {
    ($scenario:ident) => {
        mod $scenario {
            #[test]
            fn one_worker() {
                $crate::scenario::run_scenario(stringify!($scenario), 1, super::$scenario);
            }

            #[test]
            fn two_workers() {
                $crate::scenario::run_scenario(stringify!($scenario), 2, super::$scenario);
            }
        }
    };
}

/// Tries until it holds; after `limit`, the last error counts.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
