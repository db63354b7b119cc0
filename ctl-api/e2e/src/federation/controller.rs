//! A running `tieline-federation`: one controller of a cluster.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{Background, binary, finish};
use crate::net::{Namespace, Net};
use crate::scenario::keep_log;

/// Longer than any start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longer than a session takes to come up again, and a route to come, on a busy
/// machine.
const PROBLEM_LIMIT: Duration = Duration::from_secs(90);
/// Lines of a log that a failure shows.
const LOG_LINES: usize = 200;

/// Where a controller keeps the intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In a file of its own.
    File,
    /// In etcd, at a URL.
    Etcd(String),
}

/// What a controller is told when it starts.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// Its cluster.
    pub cluster: String,
    /// Its name in the cluster.
    pub name: String,
    /// Where it takes BGP connections.
    pub listen: String,
    /// Where it keeps the intent.
    pub store: Store,
}

impl ControllerConfig {
    /// The controller `c1` of a cluster, with a store of its own.
    pub fn new(cluster: &str, address: &str) -> Self {
        let (cluster, name) = (cluster.to_owned(), "c1".to_owned());
        Self { cluster, name, listen: format!("{address}:179"), store: Store::File }
    }
}

/// A controller in a namespace. It is killed when this is dropped.
#[derive(Debug)]
pub struct Controller {
    namespace: Namespace,
    config: ControllerConfig,
    store: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Background,
}

impl Controller {
    /// Applies an intent to the store, which nobody has open, starts a controller
    /// with it, and waits until it answers.
    pub fn start(net: &Net, namespace: &Namespace, config: ControllerConfig, intent: &str) -> Result<Self> {
        let file =
            |suffix: &str| net.directory().join(format!("{}.{}.{suffix}", config.cluster, config.name));
        let (store, socket, log) = (file("redb"), file("sock"), file("log"));
        let mut apply = with_store(namespace.command(binary("tieline-federation")?), &config, &store);
        let finished = finish(apply.args(["apply", "-f", "-"]), intent)?;
        ensure!(finished.status.success(), "the intent is refused: {}{}", finished.stdout, finished.stderr);
        let process = Self::spawn(namespace, &config, &store, &socket, &log)?;
        let controller = Self { namespace: namespace.clone(), config, store, socket, log, process };
        controller.wait_until_ready()?;
        Ok(controller)
    }

    fn spawn(
        namespace: &Namespace,
        config: &ControllerConfig,
        store: &PathBuf,
        socket: &PathBuf,
        log: &PathBuf,
    ) -> Result<Background> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = with_store(namespace.command(binary("tieline-federation")?), config, store);
        command
            .args(["run", "--cluster", &config.cluster, "--controller", &config.name])
            .args(["--listen", &config.listen, "--socket"])
            .arg(socket)
            // Routes that are refused are named.
            .env("RUST_LOG", "info,tieline_federation=debug")
            .env("NO_COLOR", "1");
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
        self.process = Self::spawn(&self.namespace, &self.config, &self.store, &self.socket, &self.log)?;
        self.wait_until_ready()
    }

    /// Applies an intent, which must be accepted.
    pub fn apply(&self, intent: &str) -> Result<String> {
        self.ask(&["apply", "-f", "-"], intent)
    }

    /// As [`Controller::apply`]; what the intent does not name goes.
    pub fn apply_only(&self, intent: &str) -> Result<String> {
        self.ask(&["apply", "--prune", "-f", "-"], intent)
    }

    /// Everything that it has logged.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// A line of its log must contain all of `words`, within some seconds.
    pub fn logs(&self, words: &[&str]) -> Result<()> {
        crate::eventually(Duration::from_secs(10), || {
            let log = self.log()?;
            let said = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
            ensure!(said, "{} logs no line with {words:?}", self.config.cluster);
            Ok(())
        })
    }

    /// How many lines of its log contain `text`.
    pub fn count_logged(&self, text: &str) -> Result<usize> {
        Ok(self.log()?.lines().filter(|line| line.contains(text)).count())
    }

    /// How it is.
    pub fn status(&self) -> Result<Value> {
        let said = self.ask(&["status", "-o", "json"], "")?;
        serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))
    }

    /// Its status must come to name a problem whose subject and message contain all
    /// of `words`.
    pub fn names_problem(&self, words: &[&str]) -> Result<()> {
        crate::eventually(PROBLEM_LIMIT, || {
            let problems = self.problems()?;
            let named = problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)));
            ensure!(named, "{} names no problem with {words:?}: {problems:#?}", self.config.cluster);
            Ok(())
        })
    }

    /// Its status must come to name no problem whose subject or message contains
    /// this.
    pub fn names_no_problem(&self, text: &str) -> Result<()> {
        crate::eventually(PROBLEM_LIMIT, || {
            let problems = self.problems()?;
            let found = problems.iter().find(|problem| problem.contains(text));
            ensure!(found.is_none(), "{} has a problem: {found:?}", self.config.cluster);
            Ok(())
        })
    }

    /// The problems of its status, as "subject: message".
    fn problems(&self) -> Result<Vec<String>> {
        let status = self.status()?;
        let faults = status["faults"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(faults.iter().map(|one| format!("{}: {}", text(&one["subject"]), text(&one["message"]))).collect())
    }

    /// Runs a command of `tieline-federation` at this controller, which must
    /// succeed.
    pub fn ask(&self, arguments: &[&str], input: &str) -> Result<String> {
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

/// Says where the store is.
fn with_store(mut command: Command, config: &ControllerConfig, store: &PathBuf) -> Command {
    match &config.store {
        Store::File => command.arg("--store").arg(store),
        Store::Etcd(url) => {
            command.args(["--etcd", url, "--etcd-prefix", &format!("federation/{}", config.cluster)])
        }
    };
    command
}

impl Drop for Controller {
    fn drop(&mut self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        let ControllerConfig { cluster, name, .. } = &self.config;
        keep_log(format!("--- log of the controller {name} of {cluster}:\n{}", tail.join("\n")));
    }
}
