//! Packets on a wire, captured by tcpdump and decoded by tshark.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{Background, run};
use crate::net::{Namespace, Net};
use crate::scenario::eventually;

/// A capture that runs. Frames that a port of DPDK sends are seen at the other
/// end of the wire only: AF_PACKET ports bypass the sender's own taps.
#[derive(Debug)]
pub struct Capture {
    process: Background,
    file: PathBuf,
}

impl Capture {
    /// Captures what arrives on a device. `filter` is in the words of pcap.
    pub fn start(net: &Net, namespace: &Namespace, device: &str, filter: &str) -> Result<Self> {
        let file = net.directory().join(format!("{}-{device}.pcap", namespace.role()));
        let log = net.directory().join(format!("{}-{device}.tcpdump", namespace.role()));
        let stderr = std::fs::File::create(&log)?;
        let mut command = namespace.command("tcpdump");
        command
            .args(["-n", "-U", "--immediate-mode", "-Z", "root", "-Q", "in", "-i", device, "-w"])
            .arg(&file)
            .arg(filter);
        let process = Background::start(&mut command, Stdio::from(stderr))?;
        eventually(Duration::from_secs(10), || {
            let said = std::fs::read_to_string(&log)?;
            ensure!(said.contains("listening on"), "tcpdump does not start: {said}");
            Ok(())
        })?;
        Ok(Self { process, file })
    }

    /// Ends the capture and returns its packets.
    pub fn stop(mut self) -> Result<Packets> {
        // The last packets are on their way from the kernel to tcpdump.
        std::thread::sleep(Duration::from_millis(300));
        self.process.stop("TERM", Duration::from_secs(5))?;
        Ok(Packets { file: self.file.clone() })
    }
}

/// Captured packets.
#[derive(Debug)]
pub struct Packets {
    file: PathBuf,
}

impl Packets {
    /// The values of `fields` in every packet that `filter` (in the words of
    /// tshark) selects. Fields that occur more than once are joined by commas,
    /// outermost first.
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args(["-Y", filter, "-T", "fields", "-E", "separator=/t"]);
        for option in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE"] {
            command.args(["-o", option]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let printed = run(&mut command)?;
        Ok(printed.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// How many packets `filter` selects.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.fields(filter, &["frame.number"])?.len())
    }

    /// What tshark makes of the first packet that `filter` selects; for messages.
    pub fn describe(&self, filter: &str) -> Result<String> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args(["-Y", filter, "-V", "-c", "200"]);
        let text = run(&mut command).context("tshark cannot decode the capture")?;
        Ok(text.lines().take(60).collect::<Vec<_>>().join("\n"))
    }
}
