//! Network namespaces and the wires (veth pairs) between them.
//!
//! Every name starts with `tle-` and the process ID of the test, so that runs
//! do not disturb each other and what a killed run left behind can be told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::command::run;

const PREFIX: &str = "tle-";
static NEXT_NET: AtomicU32 = AtomicU32::new(0);

/// The namespaces of one test, and a directory for its files. Both are removed
/// when it is dropped.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    directory: PathBuf,
    namespaces: Vec<Namespace>,
}

impl Net {
    /// No namespaces yet. Removes those of runs that are dead.
    pub fn new() -> Result<Self> {
        remove_leftovers()?;
        let number = NEXT_NET.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let directory = std::env::temp_dir().join(prefix.trim_end_matches('-'));
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { prefix, directory, namespaces: Vec::new() })
    }

    /// A private directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a namespace.
    pub fn namespace(&mut self, role: &str) -> Result<Namespace> {
        let namespace = Namespace { name: format!("{}{role}", self.prefix), role: role.to_owned() };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        self.namespaces.push(namespace.clone());
        // Addresses are usable at once, and nobody else configures them.
        for setting in [
            "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.default.accept_ra=0",
            "net.ipv4.ip_forward=0",
        ] {
            namespace.sysctl(setting)?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Lays a wire between two devices that it makes. Both are down.
    pub fn wire(&self, a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<()> {
        a.0.ip(&format!("link add {} type veth peer name {} netns {}", a.1, b.1, b.0.name))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // Clearing up goes on as far as it can; leftovers go at the next run.
            let _ = run(Command::new("ip").args(["netns", "delete", &namespace.name]));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn remove_leftovers() -> Result<()> {
    for line in run(Command::new("ip").args(["netns", "list"]))?.lines() {
        let Some(name) = line.split_whitespace().next() else { continue };
        if is_of_a_dead_run(name) {
            // Another run may be clearing up the same.
            let _ = run(Command::new("ip").args(["netns", "delete", name]));
        }
    }
    for entry in fs::read_dir(std::env::temp_dir())?.filter_map(Result::ok) {
        if entry.file_name().to_str().is_some_and(is_of_a_dead_run) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Whether a name has our prefix and the ID of a process that is no more.
fn is_of_a_dead_run(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// One network namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    role: String,
}

impl Namespace {
    /// What it is in the test, such as "gw1".
    pub fn role(&self) -> &str {
        &self.role
    }

    /// A program that runs inside, and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs words separated by spaces inside; they must succeed.
    pub fn run(&self, words: &str) -> Result<String> {
        let mut words = words.split_whitespace();
        let program = words.next().context("a program")?;
        run(self.command(program).args(words))
    }

    /// Runs `ip` inside, with words separated by spaces.
    pub fn ip(&self, words: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace())).map(drop)
    }

    /// Sets a kernel parameter, `name=value`.
    pub fn sysctl(&self, setting: &str) -> Result<()> {
        run(self.command("sysctl").args(["-qw", setting])).map(drop)
    }

    /// Makes a device of the kernel behave like a wire: checksums are complete
    /// and no frame is larger than the MTU.
    pub fn plain_frames(&self, device: &str) -> Result<()> {
        self.run(&format!("ethtool -K {device} tx off rx off sg off tso off gso off gro off")).map(drop)
    }

    /// Gives a device to the gateway: the kernel neither answers nor sends on it.
    pub fn give_to_gateway(&self, device: &str) -> Result<()> {
        self.sysctl(&format!("net.ipv6.conf.{device}.disable_ipv6=1"))?;
        // The host's own addresses may be the gateway's too (its TAP): what
        // arrives here for them is for DPDK alone.
        self.sysctl(&format!("net.ipv4.conf.{device}.rp_filter=1"))?;
        self.plain_frames(device)?;
        self.ip(&format!("link set {device} arp off up"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_runs_are_leftovers() {
        let own = std::process::id();
        // The kernel gives no process a number above 4194304.
        for (name, left_over) in [
            ("tle-4194999-0-gw1", true),
            ("tle-4194999-0", true),
            (&format!("tle-{own}-0-gw1"), false),
            ("tle-gw1", false),
            ("other-4194999-0-gw1", false),
        ] {
            assert_eq!(is_of_a_dead_run(name), left_over, "{name}");
        }
    }
}
