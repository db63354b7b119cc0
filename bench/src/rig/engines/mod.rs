//! The engines, all behind one face.
//!
//! - [`testpmd`]: DPDK's own forwarder: what the I/O itself allows
//! - [`ovs`]: Open vSwitch with DPDK
//! - [`tieline`]: Tieline, programmed over its API

pub mod ovs;
pub mod testpmd;
pub mod tieline;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::case::Case;
use crate::process::Process;

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Tieline.
    Tieline,
    /// Open vSwitch.
    Ovs,
    /// DPDK's testpmd.
    Testpmd,
    /// Tieline again, in the case that a case is compared with.
    #[value(skip)]
    Reference,
}

impl Kind {
    /// All of them, in the order in which they take turns: Tieline has those that
    /// it is compared with before and after it.
    pub const ALL: [Kind; 4] = [Kind::Testpmd, Kind::Tieline, Kind::Ovs, Kind::Reference];
    /// Those with figures of their own in reports.
    pub const SHOWN: [Kind; 3] = [Kind::Tieline, Kind::Ovs, Kind::Testpmd];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tieline => "tieline",
            Kind::Ovs => "ovs",
            Kind::Testpmd => "testpmd",
            Kind::Reference => "reference",
        }
    }

    /// Starts it for a case, in a directory of its own.
    pub fn start(self, bed: &Bed, case: &Case, wiring: &Wiring) -> Result<Box<dyn Engine>> {
        let directory = bed.file(self.name());
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let bed = &Bed { directory, ..bed.clone() };
        Ok(match self {
            Kind::Tieline | Kind::Reference => Box::new(tieline::Tieline::start(bed, case, wiring)?),
            Kind::Ovs => Box::new(ovs::Ovs::start(bed, case, wiring)?),
            Kind::Testpmd => Box::new(testpmd::Testpmd::start(bed, case, wiring)?),
        })
    }
}

/// Where engines run.
#[derive(Debug, Clone)]
pub struct Bed {
    /// Directory of this run: files, sockets, logs.
    pub directory: PathBuf,
    /// The cores that there are, at least two.
    pub cores: Vec<usize>,
}

impl Bed {
    /// The core of everything that is not measured: the first.
    pub fn control_core(&self) -> usize {
        self.cores.first().copied().unwrap_or_default()
    }

    /// Cores of so many workers, whose time is measured: the last ones.
    pub fn worker_cores(&self, workers: usize) -> &[usize] {
        &self.cores[self.cores.len().saturating_sub(workers)..]
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What an engine's two ports are.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// The file that comes in.
    pub input: PathBuf,
    /// Whether it begins anew when it is over.
    pub endless: bool,
    /// The file that takes what goes out; `None`: it is freed.
    pub output: Option<PathBuf>,
}

impl Wiring {
    /// The device where packets come in, in DPDK's words.
    pub fn source(&self, queues: usize) -> String {
        let file = format!(",rx_pcap={}", self.input.display()).repeat(queues);
        let endless = if self.endless { ",infinite_rx=1" } else { "" };
        format!("net_pcap0{file}{endless}")
    }

    /// The device where packets go out.
    pub fn sink(&self) -> String {
        match &self.output {
            None => "net_null0,no-rx=1".to_owned(),
            Some(path) => format!("net_pcap1,tx_pcap={}", path.display()),
        }
    }
}

/// What an engine has counted since its start.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    /// When.
    pub at: Instant,
    /// Packets that went out.
    pub out: u64,
}

/// A running engine.
pub trait Engine {
    /// The process whose threads poll.
    fn process(&mut self) -> &mut Process;
    /// What it has counted.
    fn counters(&mut self) -> Result<Counters>;
    /// Looks for the best of its settings, while it runs alone.
    fn tune(&mut self) -> Result<()> {
        Ok(())
    }
    /// How it is set up, if there was a choice.
    fn setting(&self) -> Option<String> {
        None
    }
    /// Leaves what it did until now out of [`Engine::check`].
    fn forget(&mut self) -> Result<()> {
        Ok(())
    }
    /// An error if it does not do what it should, such as dropping packets.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }
}

/// When a question was answered that was asked at `asked`: half way.
pub fn half_way_since(asked: Instant) -> Instant {
    asked + asked.elapsed() / 2
}

/// A path as text for arguments that are not paths alone.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_the_last_cores() {
        let bed = |cores: &[usize]| Bed { directory: "/".into(), cores: cores.to_vec() };
        assert_eq!((bed(&[0, 1]).control_core(), bed(&[0, 1]).worker_cores(1)), (0, &[1][..]));
        assert_eq!(bed(&[0, 1]).worker_cores(2), [0, 1]);
        assert_eq!(bed(&[0, 1, 2, 5]).worker_cores(2), [2, 5]);
    }

    #[test]
    fn wiring_speaks_dpdk() {
        let wiring = Wiring { input: "/a".into(), endless: true, output: None };
        assert_eq!(wiring.source(2), "net_pcap0,rx_pcap=/a,rx_pcap=/a,infinite_rx=1");
        assert_eq!(wiring.sink(), "net_null0,no-rx=1");
        let wiring = Wiring { endless: false, output: Some("/b".into()), ..wiring };
        assert_eq!(wiring.source(1), "net_pcap0,rx_pcap=/a");
        assert_eq!(wiring.sink(), "net_pcap1,tx_pcap=/b");
    }
}
