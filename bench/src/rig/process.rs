//! Programs that the rig starts: all of them end with it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Time that a program has to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How often something awaited is looked at.
const STEP: Duration = Duration::from_millis(10);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 12;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP make the rig end in order.
pub fn catch_interrupts() {
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler: extern "C" fn(libc::c_int) = note_interrupt;
        // SAFETY: the handler only stores to an atomic, which is safe in a
        // signal handler.
        unsafe { libc::signal(number, handler as libc::sighandler_t) };
    }
}

/// An error once the rig was asked to end.
pub fn check_interrupt() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Waits so long, or until the rig is asked to end.
pub fn pause_for(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        check_interrupt()?;
        std::thread::sleep(left.min(STEP));
    }
    check_interrupt()
}

/// Asks again and again until the answer is there; `what` stands in the error.
pub fn await_some<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < until, "{what}: not within {} s", limit.as_secs());
        pause_for(STEP)?;
    }
}

/// Runs a program to its end; it must succeed. Returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    check_interrupt()?;
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}: is it installed?"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}{}", output.status, stdout.trim(), stderr.trim());
    }
    Ok(stdout)
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts a program in a process group of its own, so that a terminal's
    /// signals reach the rig alone. Both outputs go to the file `log`.
    pub fn start(what: &'static str, command: &Command, log: &Path) -> Result<Self> {
        let cannot = || format!("cannot start {what} ({command:?}): is it installed?");
        let output = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        // It is killed even if the rig itself is.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().with_context(cannot)?)
            .stderr(output)
            .spawn()
            .with_context(cannot)?;
        Ok(Self { child, what, log: log.to_owned() })
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        let what = self.what;
        let stdin = self.child.stdin.as_mut().with_context(|| format!("{what} has no input"))?;
        writeln!(stdin, "{line}").with_context(|| format!("{what} does not read its input any more"))
    }

    /// An error with the end of its log if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) =
            self.child.try_wait().with_context(|| format!("cannot wait for {}", self.what))?
        {
            bail!("{} ended with {status}; it printed last:\n{}", self.what, self.last_lines());
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let printed = self.printed().unwrap_or_default();
        let lines: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Keeps it off all cores until [`Process::go_on`].
    pub fn hold(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)?;
        let path = format!("/proc/{}/stat", self.pid());
        await_some("a stopped process", STOP_LIMIT, || {
            let text = fs::read_to_string(&path).with_context(|| format!("{} has ended", self.what))?;
            let state = text.rsplit(") ").next().and_then(|rest| rest.chars().next());
            Ok((state == Some('T')).then_some(()))
        })
    }

    /// Lets it run again.
    pub fn go_on(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, number: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.pid()).context("a process ID")?;
        // SAFETY: sending a signal touches no memory. The ID is still the
        // child's: it has not been waited for, or it has ended and the call
        // fails.
        let status = unsafe { libc::kill(pid, number) };
        ensure!(status == 0, "cannot signal {}: {}", self.what, std::io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // What reads commands ends at their end.
        drop(self.child.stdin.take());
        // Each of these fails only when it has ended, which is what is wanted.
        let _ = self.signal(libc::SIGTERM);
        let _ = self.signal(libc::SIGCONT);
        let until = Instant::now() + STOP_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(STEP);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_the_program_printed() {
        let error =
            run(Command::new("sh").args(["-c", "echo out; echo wrong >&2; exit 3"])).expect_err("fails");
        let text = error.to_string();
        assert!(text.contains("out") && text.contains("wrong") && text.contains('3'), "{text}");
        assert!(run(&mut Command::new("/does/not/exist")).is_err());
    }

    #[test]
    fn a_dropped_process_is_gone_even_when_it_is_held() {
        let log = std::env::temp_dir().join(format!("tieline-rig-process-test.{}", std::process::id()));
        let mut command = Command::new("sleep");
        command.arg("60");
        let process = Process::start("sleep", &command, &log).expect("starts");
        let path = format!("/proc/{}", process.pid());
        process.hold().expect("stops");
        drop(process);
        let _ = fs::remove_file(&log);
        assert!(!Path::new(&path).exists());
    }
}
