//! One member of etcd: the store that controllers of a cluster share.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{Background, finish};
use crate::net::{Namespace, Net};
use crate::scenario::eventually;

/// Longer than any start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    /// Where clients find it.
    pub url: String,
    command: Command,
    process: Background,
}

impl Etcd {
    /// Starts it at an address of the namespace; none where it is not installed.
    pub fn start(net: &Net, namespace: &Namespace, address: &str) -> Result<Option<Self>> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("  skipped: needs Debian's package etcd-server");
            return Ok(None);
        }
        let (url, peers) = (format!("http://{address}:2379"), "http://127.0.0.1:2380");
        let mut command = namespace.command("etcd");
        command
            .args(["--name", "m0", "--initial-cluster", &format!("m0={peers}")])
            .arg("--data-dir")
            .arg(net.directory().join("etcd"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500", "--unsafe-no-fsync"]);
        let process = Background::start(&mut command, Stdio::null()).context("etcd does not start")?;
        eventually(START_LIMIT, || {
            let words = ["-z", "-w", "1", address, "2379"];
            let asked = finish(namespace.command("nc").args(words), "")?;
            ensure!(asked.status.success(), "etcd does not answer at {url}");
            Ok(())
        })?;
        Ok(Some(Self { url, command, process }))
    }

    /// Starts it again with what it has kept.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = Background::start(&mut self.command, Stdio::null()).context("etcd does not start")?;
        Ok(())
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) -> Result<()> {
        self.process.stop("KILL", Duration::from_secs(5)).map(drop)
    }
}
