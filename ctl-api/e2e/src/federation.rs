//! A running `tieline-federation`: the controller of one cluster.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{Background, binary, finish};
use crate::net::{Namespace, Net};
use crate::scenario::keep_log;

/// Longer than any start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A controller in a namespace. It is killed when this is dropped.
#[derive(Debug)]
pub struct Controller {
    namespace: Namespace,
    cluster: String,
    listen: String,
    store: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Background,
}

impl Controller {
    /// Applies an intent to a new store, starts the controller `c1` of a cluster
    /// with it, and waits until it answers.
    pub fn start(
        net: &Net,
        namespace: &Namespace,
        cluster: &str,
        listen: &str,
        intent: &str,
    ) -> Result<Self> {
        let file = |suffix: &str| net.directory().join(format!("{cluster}.{suffix}"));
        let (store, socket, log) = (file("redb"), file("federation.sock"), file("federation.log"));
        let mut apply = Command::new(binary("tieline-federation")?);
        apply.arg("--store").arg(&store).args(["apply", "-f", "-"]);
        let finished = finish(&mut apply, intent)?;
        ensure!(finished.status.success(), "the intent is refused: {}{}", finished.stdout, finished.stderr);
        let process = Self::spawn(namespace, cluster, listen, &store, &socket, &log)?;
        let controller = Self {
            namespace: namespace.clone(),
            cluster: cluster.to_owned(),
            listen: listen.to_owned(),
            store,
            socket,
            log,
            process,
        };
        controller.wait_until_ready()?;
        Ok(controller)
    }

    fn spawn(
        namespace: &Namespace,
        cluster: &str,
        listen: &str,
        store: &PathBuf,
        socket: &PathBuf,
        log: &PathBuf,
    ) -> Result<Background> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = namespace.command(binary("tieline-federation")?);
        command
            .arg("--store")
            .arg(store)
            .args(["run", "--cluster", cluster, "--controller", "c1", "--listen", listen, "--socket"])
            .arg(socket);
        Background::start(&mut command, Stdio::from(stderr))
    }

    fn wait_until_ready(&self) -> Result<()> {
        crate::eventually(START_LIMIT, || self.ask(&["get"], "").map(drop))
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) -> Result<()> {
        self.process.stop("KILL", Duration::from_secs(5)).map(drop)
    }

    /// Starts it again with what its store has.
    pub fn start_again(&mut self) -> Result<()> {
        self.process =
            Self::spawn(&self.namespace, &self.cluster, &self.listen, &self.store, &self.socket, &self.log)?;
        self.wait_until_ready()
    }

    /// Applies an intent, which must be accepted.
    pub fn apply(&self, intent: &str) -> Result<String> {
        self.ask(&["apply", "-f", "-"], intent)
    }

    fn ask(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg("30").arg(binary("tieline-federation")?);
        command.arg("--server").arg(format!("unix:{}", self.socket.display())).args(arguments);
        let finished = finish(&mut command, input)?;
        ensure!(
            finished.status.success(),
            "tieline-federation {} ended with {}: {}{}",
            arguments.join(" "),
            finished.status,
            finished.stdout,
            finished.stderr
        );
        Ok(finished.stdout)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        keep_log(format!("--- log of the controller of {}:\n{log}", self.cluster));
    }
}
