//! Running programs, with errors that show what they printed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// Its complaints.
    pub stderr: String,
}

/// Runs a program to its end, gives it `input`, and returns what it printed.
pub fn finish(command: &mut Command, input: &str) -> Result<Finished> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes it: its exit status tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {command:?}"))?;
    Ok(Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program that must succeed, and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let finished = finish(command, "")?;
    if !finished.status.success() {
        bail!("{command:?} ended with {}:\n{}{}", finished.status, finished.stdout, finished.stderr);
    }
    Ok(finished.stdout)
}

/// The path of a binary of this workspace: in the directory that
/// `TIELINE_BINARIES` names, or beside the test that runs.
pub fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("cannot tell where this test's own binary is")?;
    let beside = test.parent().and_then(Path::parent).context("this test's own binary is in no profile")?;
    let named = std::env::var_os("TIELINE_BINARIES").map(PathBuf::from);
    let directories = named.iter().map(PathBuf::as_path).chain([beside]);
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "{} does not exist. Build it first (cargo build --workspace --bins), \
             or name the directory of the binaries in TIELINE_BINARIES",
            beside.join(name).display()
        )
    })
}

/// A program that runs beside the test and is killed with it. Its standard
/// output comes line by line.
#[derive(Debug)]
pub struct Background {
    child: Child,
    lines: Receiver<String>,
    what: String,
}

impl Background {
    /// Starts a program. Its standard error goes to `stderr`.
    pub fn start(command: &mut Command, stderr: Stdio) -> Result<Self> {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let stdout = child.stdout.take().context("a piped standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, what })
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text`, and returns it.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} did not print {text:?} within {limit:?}", self.what)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("cannot wait for it")?;
                    bail!("{} ended with {status} before it printed {text:?}", self.what)
                }
            }
        }
    }

    /// The newest line that has arrived, if any did since the last call.
    pub fn newest_line(&mut self) -> Option<String> {
        self.lines.try_iter().last()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal, such as "TERM", and waits until it has ended.
    pub fn stop(&mut self, signal: &str, limit: Duration) -> Result<ExitStatus> {
        run(Command::new("kill").args(["-s", signal, &self.pid().to_string()]))?;
        self.wait(limit)
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for it")? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {limit:?}", self.what);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All lines that it printed until its end.
    pub fn remaining_lines(&mut self) -> Vec<String> {
        self.lines.iter().collect()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already: there is nothing to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
