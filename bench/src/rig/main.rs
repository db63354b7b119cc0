//! The rig: Tieline, Open vSwitch and testpmd side by side.
//!
//! One run feeds the same capture files through the same virtual devices into
//! each engine on the same core, in turns. `scripts/bench rig` builds and runs
//! it.
//!
//! - [`case`], [`frames`]: what is measured, and the packets for it
//! - [`engines`]: how each engine is started, set up and read
//! - [`verify`]: whether the right bytes come out
//! - [`calibrate`], [`sample`]: which samples count
//! - [`measure`]: one case from file to figures
//! - [`process`], [`hugepages`], [`precedence`]: what is started, reserved and
//!   taken, and given back
//! - [`report`]: table and JSON

mod calibrate;
mod case;
mod engines;
mod frames;
mod hugepages;
mod measure;
mod precedence;
mod process;
mod report;
mod sample;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use case::{CASES, Case};
use engines::{Bed, Kind};
use hugepages::Reserved;
use measure::{Plan, Rig};
use precedence::Precedence;
use report::{Run, say};

/// Hugepages that are reserved, 2 MiB each: a file of a million packets in
/// buffers of 2 KiB.
const HUGEPAGES: u64 = 1400;

/// Measures Tieline, Open vSwitch and testpmd side by side.
#[derive(Debug, Parser)]
#[command(name = "rig")]
struct Args {
    /// Measure these cases only, separated by commas.
    #[arg(long, value_name = "CASES", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure these engines only.
    #[arg(long, value_name = "ENGINES", value_delimiter = ',')]
    engines: Vec<Kind>,
    /// Fewer and shorter samples.
    #[arg(long)]
    quick: bool,
    /// Length of a sample, seconds [default: 2, with --quick 1].
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// Write the figures to a file, too, after each case.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the table in Markdown, as in docs/performance.md.
    #[arg(long)]
    markdown: bool,
    /// Show the cases and exit.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    if args.list {
        let lines = CASES.map(|case| format!("{:<24}{}\n", case.name, case.about));
        return print(&lines.concat());
    }
    let cases = chosen(&args.only)?;
    let plan = plan(&args)?;
    process::catch_interrupts();
    let _precedence = Precedence::new()?;
    let bed = bed()?;
    let (_reserved, free) = Reserved::new(HUGEPAGES)?;
    if free < HUGEPAGES {
        say(&format!(
            "only {free} hugepages of 2 MiB are free, {HUGEPAGES} were wanted: large cases may fail"
        ));
    }
    let tsc_hz = calibrate::tsc_hz()?;
    say(&format!("TSC {:.3} GHz, measuring on core {:?}", tsc_hz / 1e9, bed.worker_cores(1)));
    let mut run = Run { tsc_hz, cores: bed.cores.len(), command: command(), cases: Vec::new() };
    let directory = Directory(bed.directory.clone());
    let outcome = measure_all(&mut Rig::new(bed, plan)?, &cases, &mut run, args.json.as_deref());
    drop(directory);
    // What was measured before an interruption is worth something, too.
    print(&if args.markdown { run.markdown() } else { run.table() })?;
    outcome?;
    let failed: Vec<&str> =
        run.cases.iter().filter(|(_, of)| of.has_failures()).map(|(case, _)| case.name).collect();
    ensure!(failed.is_empty(), "not every engine was measured in {}", failed.join(", "));
    Ok(())
}

/// Measures the cases in order, and writes all figures so far after each.
fn measure_all(rig: &mut Rig, cases: &[Case], run: &mut Run, json: Option<&Path>) -> Result<()> {
    for case in cases {
        say(&format!("{}: {}", case.name, case.about));
        run.cases.push((*case, rig.measure(case)?));
        if let Some(path) = json {
            std::fs::write(path, format!("{:#}\n", run.json()))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn chosen(names: &[String]) -> Result<Vec<Case>> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find =
        |name: &String| Case::named(name).with_context(|| format!("no case {name:?}: --list shows all"));
    names.iter().map(find).collect()
}

fn plan(args: &Args) -> Result<Plan> {
    let seconds = args.seconds.unwrap_or(if args.quick { 1.0 } else { 2.0 });
    if !(0.1..=60.0).contains(&seconds) {
        bail!("--seconds must be 0.1 to 60, not {seconds}");
    }
    let mut engines = if args.engines.is_empty() { Kind::ALL.to_vec() } else { args.engines.clone() };
    if engines.contains(&Kind::Tieline) {
        engines.push(Kind::Reference);
    }
    Ok(Plan { engines, rounds: if args.quick { 3 } else { 7 }, length: Duration::from_secs_f64(seconds) })
}

/// The last cores are measured, the first has everything else.
fn bed() -> Result<Bed> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (Some(first), Some(last)) = (cores.first(), cores.last()) else {
        bail!("cannot tell which cores there are");
    };
    ensure!(first.id != last.id, "the rig needs two cores: one to measure, one for everything else");
    // The rig itself stays off the measured core, and what it starts inherits that.
    ensure!(core_affinity::set_for_current(*first), "cannot run on core {}", first.id);
    let directory = std::env::temp_dir().join(format!("tieline-rig.{}", std::process::id()));
    std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(Bed { directory, cores: cores.iter().map(|core| core.id).collect() })
}

/// The directory of the run, removed with this.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing is left to do if it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ["scripts/bench rig"]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ")
}
