//! DPDK's testpmd in mac mode: it receives, writes both MACs and sends.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Bed, Counters, Engine, Wiring, half_way_since};
use crate::case::Case;
use crate::frames::REMOTE_MAC;
use crate::process::{Process, await_some};

/// Longer than any start: a file of a million packets is read first.
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What it prints at the end of a port's counters.
const END_OF_STATS: &str = "######\n";

/// A running testpmd.
#[derive(Debug)]
pub struct Testpmd {
    process: Process,
}

impl Testpmd {
    /// Starts it and lets it forward.
    pub fn start(bed: &Bed, case: &Case, wiring: &Wiring) -> Result<Self> {
        let mut lcores = format!("0@{}", bed.control_core());
        for (at, core) in bed.worker_cores(case.workers).iter().enumerate() {
            lcores.push_str(&format!(",{}@{core}", at + 1));
        }
        let peer: Vec<String> = REMOTE_MAC.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut command = Command::new("stdbuf");
        // It speaks to a terminal by itself only.
        command
            .args(["-oL", "dpdk-testpmd", "--no-pci", "--in-memory"])
            .arg("--file-prefix=tieline-rig-testpmd")
            .arg(format!("--lcores={lcores}"))
            .args(["--vdev", &wiring.source(case.workers), "--vdev", &wiring.sink(), "--"])
            .args(["-i", "--forward-mode=mac", "--burst=64", "--no-lsc-interrupt"])
            .arg(format!("--total-num-mbufs={}", case.buffers()))
            .arg(format!("--eth-peer=1,{}", peer.join(":")))
            .arg(format!("--nb-cores={}", case.workers))
            .args([format!("--rxq={}", case.workers), format!("--txq={}", case.workers)]);
        let process = Process::start("testpmd", &command, &bed.file("testpmd.log"))?;
        let mut testpmd = Self { process };
        testpmd.await_text("testpmd> ", 0, START_LIMIT)?;
        let from = testpmd.process.printed()?.len();
        testpmd.process.type_line("start")?;
        testpmd.await_text("packet forwarding", from, START_LIMIT)?;
        Ok(testpmd)
    }

    /// Waits until it has printed a text behind the first `from` bytes, and
    /// returns all behind these.
    fn await_text(&mut self, text: &str, from: usize, limit: Duration) -> Result<String> {
        let process = &mut self.process;
        let what = format!("testpmd was to print {text:?}");
        let answer = await_some(&what, limit, || {
            process.check_alive()?;
            let printed = process.printed()?;
            let new = printed.get(from..).unwrap_or_default();
            Ok(new.contains(text).then(|| new.to_owned()))
        });
        answer.with_context(|| format!("testpmd's log ends with:\n{}", self.process.last_lines()))
    }
}

impl Engine for Testpmd {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn counters(&mut self) -> Result<Counters> {
        let from = self.process.printed()?.len();
        let asked = Instant::now();
        self.process.type_line("show port stats 1")?;
        // The head and the foot of the table are both such lines.
        let text = self.await_text(END_OF_STATS, from, ANSWER_LIMIT)?;
        let at = half_way_since(asked);
        Ok(Counters { at, out: transmitted(&text)? })
    }
}

/// The packets sent, by what `show port stats` prints.
fn transmitted(text: &str) -> Result<u64> {
    let rest = text.split("TX-packets:").nth(1);
    let figure = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|figure| figure.parse().ok());
    figure.with_context(|| format!("testpmd's counters have no TX-packets. It printed:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_sent_are_found_or_missed_loudly() {
        let text = "\
  ######################## NIC statistics for port 1  ########################
  RX-packets: 0          RX-missed: 0          RX-bytes:  0
  TX-packets: 153109888  TX-errors: 0          TX-bytes:  9186593280
  ############################################################################
";
        assert_eq!(transmitted(text).expect("a figure"), 153_109_888);
        assert!(transmitted("testpmd> Bad arguments").is_err());
    }
}
