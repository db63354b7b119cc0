//! Tells quiet moments of a core from disturbed ones.
//!
//! Two signs are looked at: fixed work on the measured cores just before and
//! just after a sample, and the share of the sample's time that the kernel gave
//! each polling thread.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use core_affinity::CoreId;

/// Rounds of the fixed work: some five milliseconds.
const ROUNDS: u64 = 4_000_000;
/// Runs of the fixed work; the fastest counts, so that one interruption does
/// not spoil a sample that it did not meet.
const RUNS: usize = 3;

/// The time stamp counter.
fn ticks() -> u64 {
    tieline_engine::cycles::cycles()
}

/// Frequency of the time stamp counter, Hz.
pub fn tsc_hz() -> Result<f64> {
    let (start, from) = (Instant::now(), ticks());
    std::thread::sleep(Duration::from_millis(300));
    let (elapsed, to) = (start.elapsed(), ticks());
    if to <= from {
        bail!("the rig needs a time stamp counter, which this processor does not have");
    }
    Ok((to - from) as f64 / elapsed.as_secs_f64())
}

/// How long the fixed work takes now on the slowest of these cores.
pub fn fixed_work(cores: &[usize]) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for core in cores {
        slowest = slowest.max(fixed_work_on(*core)?);
    }
    Ok(slowest)
}

fn fixed_work_on(core: usize) -> Result<Duration> {
    let thread = std::thread::spawn(move || {
        core_affinity::set_for_current(CoreId { id: core }).then(|| (0..RUNS).map(|_| once()).min()).flatten()
    });
    let time = thread.join().map_err(|_| anyhow::anyhow!("the calibration loop panicked"))?;
    time.with_context(|| {
        format!("cannot run on core {core}: is it offline, or not in this process's cpuset?")
    })
}

fn once() -> Duration {
    let start = Instant::now();
    let mut value = black_box(1u64);
    for round in 0..ROUNDS {
        value = value.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ round;
    }
    black_box(value);
    start.elapsed()
}

/// Time that the threads of a process have run so far, nanoseconds.
#[derive(Debug, Clone)]
pub struct RunTimes {
    at: Instant,
    threads: HashMap<String, u64>,
}

impl RunTimes {
    /// Reads them.
    pub fn of(pid: u32) -> Result<Self> {
        let directory = format!("/proc/{pid}/task");
        let mut threads = HashMap::new();
        for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))? {
            let path = entry?.path();
            // A thread may have ended meanwhile.
            let Ok(text) = std::fs::read_to_string(path.join("schedstat")) else { continue };
            threads.insert(thread_name(&path), run_time(&text)?);
        }
        Ok(Self { at: Instant::now(), threads })
    }

    /// Share of the time since `earlier` that the busiest threads ran, so many of
    /// them: the least share.
    pub fn busiest_share_since(&self, earlier: &Self, threads: usize) -> f64 {
        let wall = (self.at - earlier.at).as_nanos().max(1) as f64;
        let ran = |(thread, time): (&String, &u64)| {
            time - earlier.threads.get(thread).copied().unwrap_or(0).min(*time)
        };
        let mut times: Vec<u64> = self.threads.iter().map(ran).collect();
        times.sort_unstable();
        times.iter().rev().nth(threads.saturating_sub(1)).copied().unwrap_or(0) as f64 / wall
    }
}

fn thread_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The first figure of a `schedstat` file.
fn run_time(text: &str) -> Result<u64> {
    let first = text.split_whitespace().next().and_then(|figure| figure.parse().ok());
    first.with_context(|| format!("schedstat has no run time in its first column: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_times_are_the_first_column() {
        assert_eq!(run_time("1234 5 6\n").expect("a figure"), 1234);
        assert!(run_time("").is_err());
        assert!(run_time("x 1 2").is_err());
    }

    #[test]
    fn a_busy_thread_has_a_share_and_an_idle_one_has_none() {
        let before = RunTimes::of(std::process::id()).expect("this process");
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            black_box(once());
        }
        let after = RunTimes::of(std::process::id()).expect("this process");
        assert!(after.busiest_share_since(&before, 1) > 0.1);
        assert!(after.busiest_share_since(&after, 1) == 0.0);
        assert!(after.busiest_share_since(&before, 10_000) == 0.0, "there are no so many threads");
    }

    #[test]
    fn the_slowest_of_some_cores_counts() {
        let cores: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        assert!(fixed_work(&cores).expect("these cores can be used") > Duration::ZERO);
        assert!(fixed_work(&[1000]).is_err(), "there is no such core");
    }
}
