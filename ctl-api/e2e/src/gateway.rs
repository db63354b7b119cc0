//! A running `tieline`, programmed and read through `tlctl`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::{Background, Finished, binary, finish};
use crate::net::{Namespace, Net};
use crate::scenario::keep_log;

/// Longer than any start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longer than the kernel takes to free the devices of a daemon that has ended.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Longer than a route takes through controllers on a busy machine.
const ROUTE_LIMIT: Duration = Duration::from_secs(15);
/// Lines of the daemon's log that a failure shows.
const LOG_LINES: usize = 40;

/// More of the configuration: what ports on AF_XDP need.
pub const AF_XDP: &str = "[process]\ncapabilities = [\"CAP_SYS_ADMIN\"]\n";

/// What a test configures of the daemon.
#[derive(Debug, Clone, Default)]
pub struct GatewayConfig {
    /// Worker threads.
    pub workers: usize,
    /// The router's MAC; empty: the daemon makes one.
    pub router_mac: String,
    /// More of the table `[api]`, and tables, in TOML.
    pub api: String,
    /// Further tables, in TOML.
    pub more: String,
}

impl GatewayConfig {
    /// A daemon with so many workers.
    pub fn workers(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    fn toml(&self, socket: &str) -> String {
        let router_mac = match self.router_mac.as_str() {
            "" => String::new(),
            mac => format!("router_mac = \"{mac}\"\n"),
        };
        format!(
            "[api]\nsocket = \"{socket}\"\n{}[engine]\nworkers = {}\n{router_mac}[dpdk]\nhugepages = \"never\"\n{}",
            self.api, self.workers, self.more
        )
    }
}

/// A daemon in a namespace. It is killed when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    /// Where it runs.
    pub namespace: Namespace,
    /// From its start until it said that it is ready.
    pub ready_after: Duration,
    process: Background,
    socket: PathBuf,
    log: PathBuf,
    toml: PathBuf,
}

impl Gateway {
    /// Starts a daemon and waits until it is ready.
    pub fn start(net: &Net, namespace: &Namespace, config: &GatewayConfig) -> Result<Self> {
        let file = |suffix: &str| net.directory().join(format!("{}.{suffix}", namespace.role()));
        let (socket, log, toml) = (file("sock"), file("log"), file("toml"));
        fs::write(&toml, config.toml(&socket.display().to_string()))
            .with_context(|| format!("cannot write {}", toml.display()))?;
        let mut command = namespace.command(binary("tieline")?);
        command.arg("--config").arg(&toml);
        let mut gateway = Self::start_command(namespace, &mut command, socket, log)?;
        gateway.toml = toml;
        Ok(gateway)
    }

    /// Ends the daemon as a power cut does, and starts it again with what it has
    /// kept. Nobody programs it.
    pub fn crash_and_start(&mut self) -> Result<()> {
        self.crash()?;
        self.start_again()
    }

    /// Ends the daemon as a power cut does.
    pub fn crash(&mut self) -> Result<()> {
        self.process.stop("KILL", END_LIMIT).map(drop)
    }

    /// Starts a daemon that has ended again, with what it has kept.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = self.namespace.command(binary("tieline")?);
        command.arg("--config").arg(&self.toml);
        let log = self.log.with_extension(format!("{}.log", self.process.pid()));
        let stderr = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut new = Background::start(&mut command, Stdio::from(stderr))?;
        new.wait_for("tieline ready", START_LIMIT)?;
        (self.process, self.log) = (new, log);
        Ok(())
    }

    /// Starts another daemon that takes over from this one, which must end in
    /// order. Returns what the new one says of how long nobody forwarded.
    pub fn take_over(&mut self) -> Result<String> {
        let (said, mut old) = self.replace()?;
        old.wait_end()?;
        Ok(said)
    }

    /// As [`take_over`](Self::take_over), where this daemon has a port of DPDK's
    /// virtio-user: its handler of a peer that has gone runs beside the closing of
    /// the device, and now and then ends the process, when another has taken over.
    /// What becomes of it is said.
    pub fn take_over_from_virtio_user(&mut self) -> Result<String> {
        let (said, mut old) = self.replace()?;
        if let Err(error) = old.wait_end() {
            ensure!(!old.process.is_alive(), "{error:#}");
            eprintln!("          {error:#}");
        }
        Ok(said)
    }

    /// Starts another daemon that takes over from this one, whose process may take
    /// its time to end. Returns what the new one says of how long nobody forwarded.
    pub fn replace(&mut self) -> Result<(String, Replaced)> {
        let mut command = self.namespace.command(binary("tieline")?);
        command.arg("--config").arg(&self.toml).arg("--take-over");
        let log = self.log.with_extension(format!("{}.log", self.process.pid()));
        let stderr = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut new = Background::start(&mut command, Stdio::from(stderr))?;
        new.wait_for("tieline ready", START_LIMIT)
            .with_context(|| format!("it says:\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        let old = Replaced { process: std::mem::replace(&mut self.process, new), since: Instant::now() };
        self.log = log;
        let said = fs::read_to_string(&self.log)?;
        let line = said.lines().find(|line| line.contains("after a standstill"));
        Ok((line.context("the new daemon does not say how long nobody forwarded")?.to_owned(), old))
    }

    /// Starts a daemon without any configuration file.
    pub fn start_bare(net: &Net, namespace: &Namespace) -> Result<Self> {
        let file = |suffix: &str| net.directory().join(format!("{}.{suffix}", namespace.role()));
        let (socket, log) = (file("sock"), file("log"));
        let mut command = namespace.command(binary("tieline")?);
        command.arg("--socket").arg(&socket);
        Self::start_command(namespace, &mut command, socket, log)
    }

    fn start_command(
        namespace: &Namespace,
        command: &mut Command,
        socket: PathBuf,
        log: PathBuf,
    ) -> Result<Self> {
        let started = Instant::now();
        let stderr = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let process = Background::start(command, Stdio::from(stderr))?;
        let mut gateway = Self {
            namespace: namespace.clone(),
            ready_after: Duration::ZERO,
            process,
            socket,
            log,
            toml: PathBuf::new(),
        };
        gateway.process.wait_for("tieline ready", START_LIMIT)?;
        gateway.ready_after = started.elapsed();
        Ok(gateway)
    }

    /// The path of its socket.
    pub fn socket(&self) -> String {
        self.socket.display().to_string()
    }

    /// Runs `tlctl` and returns how it ended.
    pub fn tlctl_finish(&self, arguments: &[&str], input: &str) -> Result<Finished> {
        let mut command = Command::new("timeout");
        command.arg("30").arg(binary("tlctl")?).args(arguments).env("TIELINE_SOCKET", &self.socket);
        finish(&mut command, input)
    }

    /// Runs `tlctl` and returns its JSON. Arguments are separated by spaces.
    pub fn tlctl(&self, arguments: &str) -> Result<Value> {
        let arguments: Vec<_> = arguments.split_whitespace().chain(["-o", "json"]).collect();
        let finished = self.tlctl_finish(&arguments, "")?;
        ensure!(
            finished.status.success(),
            "tlctl {} ended with {}: {}",
            arguments.join(" "),
            finished.status,
            finished.stderr
        );
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("tlctl {} printed no JSON: {}", arguments.join(" "), finished.stdout))
    }

    /// Declares objects, which must be accepted.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let finished = self.tlctl_finish(&["apply", "-f", "-"], yaml)?;
        ensure!(
            finished.status.success(),
            "{}: tlctl apply ended with {}:\n{}{}",
            self.namespace.role(),
            finished.status,
            finished.stdout,
            finished.stderr
        );
        Ok(())
    }

    /// Declares objects of which at least one must be refused, and returns what
    /// tlctl says.
    pub fn refusal(&self, yaml: &str) -> Result<String> {
        let finished = self.tlctl_finish(&["apply", "-f", "-"], yaml)?;
        let said = format!("{}{}", finished.stdout, finished.stderr);
        ensure!(
            finished.status.code() == Some(1),
            "expected a refusal (exit code 1) of\n{yaml}\nbut tlctl ended with {}: {said}",
            finished.status
        );
        Ok(said)
    }

    /// Withdraws one object: its kind and key, separated by spaces.
    pub fn delete(&self, kind_and_key: &str) -> Result<()> {
        let arguments: Vec<_> = ["delete"].into_iter().chain(kind_and_key.split_whitespace()).collect();
        let finished = self.tlctl_finish(&arguments, "")?;
        ensure!(finished.status.success(), "tlctl delete {kind_and_key}: {}", finished.stderr);
        Ok(())
    }

    /// State of an object: "ready", "waiting" or "degraded", and its status.
    pub fn status(&self, kind_and_key: &str) -> Result<Value> {
        let object = self.tlctl(&format!("get {kind_and_key}"))?;
        Ok(object["status"].clone())
    }

    /// The forwarding entry of exactly this prefix.
    pub fn route(&self, vrf: &str, prefix: &str) -> Result<Option<Value>> {
        let routes = self.tlctl(&format!("routes --vrf {vrf}"))?;
        let routes = routes.as_array().context("a list of routes")?;
        Ok(routes.iter().find(|route| route["prefix"] == prefix).cloned())
    }

    /// Whether it holds a VPN route to exactly this prefix, imported or not.
    pub fn holds_route(&self, prefix: &str) -> Result<bool> {
        Ok(self.tlctl("list route")?.to_string().contains(&format!("\"{prefix}\"")))
    }

    /// It must hold such a route within some seconds.
    pub fn gets_route(&self, prefix: &str) -> Result<()> {
        crate::eventually(ROUTE_LIMIT, || {
            ensure!(self.holds_route(prefix)?, "{} does not get {prefix}", self.namespace.role());
            Ok(())
        })
    }

    /// It must hold none within some seconds.
    pub fn loses_route(&self, prefix: &str) -> Result<()> {
        crate::eventually(ROUTE_LIMIT, || {
            ensure!(!self.holds_route(prefix)?, "{} keeps {prefix}", self.namespace.role());
            Ok(())
        })
    }

    /// Packets dropped so far, by reason.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>> {
        let drops = self.tlctl("drops")?;
        let drops = drops.as_array().context("a list of drops")?;
        Ok(drops.iter().map(|drop| (text(&drop["reason"]), number(&drop["packets"]))).collect())
    }

    /// Packets dropped so far for one reason.
    pub fn dropped(&self, reason: &str) -> Result<u64> {
        Ok(self.drops()?.get(reason).copied().unwrap_or(0))
    }

    /// Runs `traffic`, and checks that packets were dropped for `reason`.
    pub fn expect_drops(&self, reason: &str, traffic: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.dropped(reason)?;
        traffic()?;
        let after = self.drops()?;
        ensure!(
            after.get(reason).is_some_and(|count| *count > before),
            "{}: no packet was dropped as {reason}; all drops: {after:?}",
            self.namespace.role()
        );
        Ok(())
    }

    /// One object of a list in `stats`, such as ("ports", "fabric0").
    pub fn stats_of(&self, list: &str, name: &str) -> Result<Value> {
        let stats = self.tlctl("stats")?;
        let found = stats[list].as_array().and_then(|items| items.iter().find(|item| item["name"] == name));
        found.cloned().with_context(|| format!("stats has no {name} among {list}"))
    }

    /// Checks that every packet left by exactly one counted door, once nothing
    /// is on its way any more.
    pub fn check_balance(&self) -> Result<()> {
        crate::eventually(Duration::from_secs(10), || {
            let balance = self.tlctl("stats")?["balance"].clone();
            let of = |name: &str| number(&balance[name]);
            let entered = of("received") + of("originated");
            let left = of("transmitted") + of("punted") + of("consumed") + of("dropped") + of("in_flight");
            ensure!(entered == left, "{entered} packets entered, {left} left: {balance}");
            ensure!(of("in_flight") == 0, "packets stay in flight: {balance}");
            ensure!(of("received") > 0, "nothing was received: {balance}");
            Ok(())
        })
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS in status")?;
        line.split_whitespace().nth(1).context("a figure")?.parse().context("VmRSS is a number")
    }

    /// Whether the daemon still runs.
    pub fn check_alive(&mut self) -> Result<()> {
        ensure!(self.process.is_alive(), "{}: the daemon is gone", self.namespace.role());
        self.tlctl("version").map(drop)
    }

    /// Asks the daemon to stop; it must do so in order.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.stop("TERM", Duration::from_secs(10))?;
        if !status.success() {
            bail!("the daemon ended with {status} after SIGTERM");
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        // A daemon that is gone has no counters to show.
        let drops = self.drops().unwrap_or_default();
        keep_log(format!("--- log of {}:\n{}\ndrops: {drops:?}", self.namespace.role(), tail.join("\n")));
    }
}

/// A daemon that was taken over from, and ends.
#[derive(Debug)]
pub struct Replaced {
    process: Background,
    since: Instant,
}

impl Replaced {
    /// Waits until it has ended, which it must do in order. Returns how long that
    /// took after the other was ready.
    pub fn wait_end(&mut self) -> Result<Duration> {
        let status = self.process.wait(END_LIMIT)?;
        ensure!(status.success(), "the daemon that was taken over from ended with {status}");
        Ok(self.since.elapsed())
    }
}

/// A count, which JSON has as a number or, being 64 bits wide, as text.
pub fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
