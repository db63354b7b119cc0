//! Tieline itself, programmed over its own API. It knows the far end as a static
//! neighbour, so that nothing has to come in on the fabric device.

mod api;
mod objects;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Bed, Counters, Engine, Wiring, half_way_since};
use crate::case::Case;
use crate::process::{Process, await_some, check_interrupt, run};
use crate::report::say;
use api::Api;

const START_LIMIT: Duration = Duration::from_secs(30);
/// Longer than it takes to program a million routes.
const PROGRAM_LIMIT: Duration = Duration::from_secs(300);
/// Share of the packets that may be dropped.
const TOLERATED_DROPS: f64 = 0.001;
/// The same with several workers: one that is slower for a while cannot take
/// what the others hand over. It is told, and only what is sent counts.
const TOLERATED_DROPS_OF_SEVERAL: f64 = 0.5;

/// A running Tieline.
pub struct Tieline {
    process: Process,
    api: Api,
    before: api::Totals,
    tolerated_drops: f64,
}

impl Tieline {
    /// Starts it and lets it forward.
    pub fn start(bed: &Bed, case: &Case, wiring: &Wiring) -> Result<Self> {
        let mut tieline = Self::start_without_input(bed, case, wiring)?;
        let input = objects::input_port(case, wiring);
        tieline.explain(|tieline| tieline.api.program(vec![input], PROGRAM_LIMIT))?;
        Ok(tieline)
    }

    /// Starts it with everything but the port where packets come in.
    fn start_without_input(bed: &Bed, case: &Case, wiring: &Wiring) -> Result<Self> {
        let socket = bed.file("tieline.sock");
        // A daemon that was killed leaves its socket.
        let _ = std::fs::remove_file(&socket);
        let config = bed.file("tieline.toml");
        std::fs::write(&config, configuration(bed, case, wiring, &socket))
            .with_context(|| format!("cannot write {}", config.display()))?;
        // Workers are pinned to cores that the process must be allowed to use.
        let cores: Vec<String> = bed.cores.iter().map(usize::to_string).collect();
        let mut command = Command::new("taskset");
        command.args(["-c", &cores.join(",")]).arg(binary()?).arg("--config").arg(&config);
        let mut process = Process::start("tieline", &command, &bed.file("tieline.log"))?;
        await_some("the start of tieline", START_LIMIT, || {
            process.check_alive()?;
            Ok(process.printed()?.contains("tieline ready").then_some(()))
        })?;
        keep_off_workers_cores(process.pid(), bed.control_core())?;
        let api = Api::connect(&socket)?;
        let tolerated_drops = if case.workers > 1 { TOLERATED_DROPS_OF_SEVERAL } else { TOLERATED_DROPS };
        let mut tieline = Self { process, api, before: api::Totals::default(), tolerated_drops };
        tieline.explain(|tieline| tieline.set_up(case, wiring))?;
        Ok(tieline)
    }

    fn set_up(&mut self, case: &Case, wiring: &Wiring) -> Result<()> {
        self.api.program(objects::tables(case), PROGRAM_LIMIT)?;
        self.api.program(vec![objects::output_port(case, wiring)], PROGRAM_LIMIT)?;
        self.before = self.api.totals()?;
        Ok(())
    }

    /// Adds the daemon's log to an error.
    fn explain<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        work(self).with_context(|| format!("tieline's log ends with:\n{}", self.process.last_lines()))
    }
}

impl Engine for Tieline {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn counters(&mut self) -> Result<Counters> {
        let asked = Instant::now();
        let totals = self.api.totals()?;
        Ok(Counters { at: half_way_since(asked), out: totals.transmitted })
    }

    fn forget(&mut self) -> Result<()> {
        self.before = self.api.totals()?;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let totals = self.api.totals()?;
        let received = totals.received - self.before.received;
        let dropped = totals.dropped - self.before.dropped;
        ensure!(received > 0, "tieline has received nothing");
        let share = dropped as f64 / received as f64;
        if share > TOLERATED_DROPS && share <= self.tolerated_drops {
            say(&format!(
                "tieline has dropped {:.1} % of its packets: {}",
                share * 100.0,
                self.api.drops()?.join(", ")
            ));
        }
        if share > self.tolerated_drops {
            let reasons = self.api.drops()?.join(", ");
            bail!("tieline has dropped {dropped} of {received} packets: {reasons}");
        }
        Ok(())
    }
}

/// Sessions made per second while a new Tieline receives packets that are each
/// the first of their flow.
pub fn new_sessions(bed: &Bed, case: &Case, wiring: &Wiring) -> Result<f64> {
    let mut tieline = Tieline::start_without_input(bed, case, wiring)?;
    let input = objects::input_port(case, wiring);
    let readings = tieline
        .explain(|tieline| tieline.api.sessions_while_programming(input, case.flows.into(), PROGRAM_LIMIT))?;
    check_interrupt()?;
    rate_of_filling(&readings, case.flows.into())
}

/// A number of sessions at a time of the daemon's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Since the daemon's start, nanoseconds.
    pub nanoseconds: u64,
    /// Live sessions.
    pub sessions: u64,
}

/// Sessions per second between a tenth and nine tenths of `all`.
fn rate_of_filling(readings: &[Reading], all: u64) -> Result<f64> {
    let middle: Vec<&Reading> =
        readings.iter().filter(|reading| (all / 10..=all / 10 * 9).contains(&reading.sessions)).collect();
    let (Some(first), Some(last)) = (middle.first(), middle.last()) else {
        bail!("the sessions were made too fast to see: no reading between a tenth and nine tenths of {all}");
    };
    ensure!(
        last.sessions - first.sessions > all / 10,
        "only {} of {all} sessions were made between two readings: too few to tell a rate",
        last.sessions - first.sessions
    );
    Ok((last.sessions - first.sessions) as f64 * 1e9 / (last.nanoseconds - first.nanoseconds) as f64)
}

/// Moves all threads but the workers to the control core. Threads that they
/// start later stay there.
fn keep_off_workers_cores(pid: u32, control_core: usize) -> Result<()> {
    let directory = format!("/proc/{pid}/task");
    for thread in std::fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))? {
        let thread = thread?;
        let name =
            std::fs::read_to_string(thread.path().join("comm")).context("a thread of tieline has ended")?;
        if !name.starts_with("worker-") {
            let core = control_core.to_string();
            run(Command::new("taskset").args(["-c", "-p", &core]).arg(thread.file_name()))?;
        }
    }
    Ok(())
}

/// The daemon of this workspace, beside the rig itself.
fn binary() -> Result<std::path::PathBuf> {
    let own = std::env::current_exe().context("cannot tell where the rig's own binary is")?;
    let path = own.with_file_name("tieline");
    ensure!(
        path.is_file(),
        "{} does not exist: build it with the rig, as scripts/bench does",
        path.display()
    );
    Ok(path)
}

fn configuration(bed: &Bed, case: &Case, wiring: &Wiring, socket: &Path) -> String {
    // Twice the flows, so that the table is as full as an operator would plan.
    let sessions = (case.flows * 2).max(65_536);
    let router_mac = objects::mac(crate::frames::ROUTER_MAC);
    format!(
        "log = \"warn\"\n\
         [api]\nsocket = \"{}\"\n\
         [engine]\ncores = {:?}\nidle = \"poll\"\nrouter_mac = \"{router_mac}\"\n\
         [sessions]\ncapacity = {sessions}\nquota_per_vrf = {sessions}\nudp_unreplied_s = 3600\n\
         [limits]\ninterfaces = 8192\n\
         [store]\nenabled = false\n\
         [dpdk]\nbuffers = {}\ntest_drivers = [\"net_pcap\", \"net_null\"]\ndevices = {:?}\n",
        socket.display(),
        bed.worker_cores(case.workers),
        case.buffers(),
        std::iter::once(&wiring.input).chain(&wiring.output).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading((milliseconds, sessions): (u64, u64)) -> Reading {
        Reading { nanoseconds: milliseconds * 1_000_000, sessions }
    }

    #[test]
    fn the_rate_is_taken_in_the_middle() {
        let readings = [(0, 0), (100, 50), (110, 100), (210, 500), (310, 900), (900, 1000)].map(reading);
        let rate = rate_of_filling(&readings, 1000).expect("a rate");
        assert!((rate - 4000.0).abs() < 1e-6, "{rate}");
    }

    #[test]
    fn too_few_readings_give_no_rate() {
        assert!(rate_of_filling(&[(0, 0), (1, 1000)].map(reading), 1000).is_err());
        assert!(rate_of_filling(&[(0, 500), (1, 510)].map(reading), 1000).is_err());
    }
}
