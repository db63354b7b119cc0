//! The daemon under measurement: a child of its own, in a folder of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tonic::transport::{Channel, Endpoint};

use crate::process::Process;

/// A folder for sockets and stores, removed with it.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// A folder with the configuration of a daemon that holds a million routes.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("tieline-scale-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        let config = format!(
            "[sessions]\ncapacity = 10000\n\
             [limits]\nroutes = 4000000\nimported_routes = 8000000\nvrfs = 8192\n\
             [dpdk]\nhugepages = \"never\"\nmemory_mib = 96\nbuffers = 4096\n\
             test_drivers = [\"net_null\", \"net_pcap\"]\ndevices = [\"{}/\"]\n",
            path.display()
        );
        std::fs::write(path.join("tieline.toml"), config)?;
        Ok(Self(path))
    }

    /// A further file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left behind lies among the temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    socket: PathBuf,
    /// From its start until it forwarded.
    pub took: Duration,
}

impl Daemon {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binary: &Path, place: &Place) -> anyhow::Result<Self> {
        let socket = place.0.join("control.sock");
        let started = Instant::now();
        let mut child = Command::new(binary)
            .arg("--config")
            .arg(place.0.join("tieline.toml"))
            .arg("--socket")
            .arg(&socket)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let out = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let took = started.elapsed();
        if !line.contains("ready") {
            let status = child.wait()?;
            anyhow::bail!("the daemon did not start: {status}");
        }
        Ok(Self { process: Process::new(child), socket, took })
    }

    /// Starts one whose worker polls on this core, with buffers for a file of
    /// packets.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_on(binary: &Path, place: &Place, core: usize) -> anyhow::Result<Self> {
        let path = place.0.join("tieline.toml");
        let config = std::fs::read_to_string(&path)?.replace("buffers = 4096", "buffers = 16384");
        std::fs::write(&path, format!("{config}[engine]\ncores = [{core}]\nidle = \"poll\"\n"))?;
        Self::start(binary, place)
    }

    /// Moves all its threads but the workers to a core. Threads that they start
    /// later stay there.
    ///
    /// # Errors
    /// When a thread cannot be moved.
    pub fn keep_off(&self, core: usize) -> anyhow::Result<()> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let thread = thread?;
            if std::fs::read_to_string(thread.path().join("comm"))?.starts_with("worker-") {
                continue;
            }
            let status = Command::new("taskset")
                .args(["-c", "-p", &core.to_string()])
                .arg(thread.file_name())
                .stdout(Stdio::null())
                .status()
                .context("cannot start taskset")?;
            anyhow::ensure!(status.success(), "cannot move a thread of the daemon to core {core}");
        }
        Ok(())
    }

    /// Its address, as other programs are told it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(self.address())?.connect().await?)
    }

    /// Memory that it has in use, bytes, pages of files apart.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> anyhow::Result<f64> {
        self.process.memory()
    }

    /// Processor time that it has used, seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processor_time(&self) -> anyhow::Result<f64> {
        self.process.processor_time()
    }

    /// As `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(self) -> anyhow::Result<()> {
        self.process.kill()
    }
}
