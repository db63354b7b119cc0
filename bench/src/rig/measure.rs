//! One case from its file to its figures.
//!
//! 1. The file of packets is written.
//! 2. Each engine sends a short one into a file, and the bytes are looked at.
//! 3. All engines are started and held. They take turns: one runs for a
//!    sample, with the calibration loop before and after it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::calibrate::{RunTimes, fixed_work};
use crate::case::{Case, Measure};
use crate::engines::{Bed, Engine, Kind, Wiring, tieline};
use crate::frames::{self, Flow, flows, frame};
use crate::pcap;
use crate::process::{await_some, check_interrupt, pause_for};
use crate::report::say;
use crate::sample::{Sample, Summary};
use crate::verify;

/// Flows whose bytes are looked at.
const LOOKED_AT: usize = 64;
/// Routes beside which that happens.
const LOOKED_AT_ROUTES: u32 = 10_000;
/// How often each of them is sent: until an engine has all its tables, it may
/// drop.
const REPEATED: usize = 2000;
/// An engine that has sent nothing new for so long has sent everything.
const SILENCE: Duration = Duration::from_millis(300);
/// Time to send a short file.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// Time for all flows to become known.
const FIRST_WARM_UP: Duration = Duration::from_millis(2000);
/// Time for the caches to fill again after other engines ran.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Engines, in the order of their turns.
    pub engines: Vec<Kind>,
    /// Samples of each engine.
    pub rounds: usize,
    /// Length of a sample.
    pub length: Duration,
}

/// What was found out about one engine in one case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its figures.
    pub summary: Summary,
    /// How it was set up, if there was a choice.
    pub setting: Option<String>,
}

/// What was found out in one case.
pub type Outcomes = BTreeMap<Kind, Outcome>;

/// Measures cases, and remembers how fast the core is undisturbed.
pub struct Rig {
    bed: Bed,
    plan: Plan,
    best: Duration,
}

impl Rig {
    /// A rig that has measured nothing yet.
    pub fn new(bed: Bed, plan: Plan) -> Result<Self> {
        let best = fixed_work(bed.measured_core)?;
        Ok(Self { bed, plan, best })
    }

    /// Measures one case.
    pub fn measure(&mut self, case: &Case) -> Result<Outcomes> {
        let engines: Vec<Kind> =
            self.plan.engines.iter().copied().filter(|kind| takes_part(*kind, case)).collect();
        let input = self.bed.file("input.pcap");
        let flows = flows(case);
        pcap::write(&input, flows.iter().enumerate().map(|(place, flow)| frame(case, flow, place)))?;
        for kind in &engines {
            self.verify(*kind, case, &flows)
                .with_context(|| format!("{}: {} is not right", case.name, kind.name()))?;
        }
        let wiring = Wiring { input, endless: true, output: None };
        let mut samples: BTreeMap<Kind, Vec<Sample>> = BTreeMap::new();
        let mut settings = BTreeMap::new();
        if case.measure == Measure::NewSessions {
            for round in 0..self.plan.rounds {
                let sample = self.sample_new_sessions(case, &wiring)?;
                self.tell(case, round, Kind::Tieline, &sample);
                samples.entry(Kind::Tieline).or_default().push(sample);
            }
        } else {
            let mut running: Vec<(Kind, Option<Box<dyn Engine>>)> = Vec::new();
            for kind in engines {
                let engine = if case.alone { None } else { Some(self.start(kind, case, &wiring)?) };
                if let Some(setting) = engine.as_ref().and_then(|engine| engine.setting()) {
                    say(&format!("{}: {} is set to {setting}", case.name, kind.name()));
                    settings.insert(kind, setting);
                }
                running.push((kind, engine));
            }
            for round in 0..self.plan.rounds {
                for (kind, engine) in &mut running {
                    let sample = match engine {
                        Some(engine) => self.sample(case, engine.as_mut())?,
                        None => {
                            let mut engine = self.start(*kind, case, &wiring)?;
                            self.sample(case, engine.as_mut())?
                        }
                    };
                    self.tell(case, round, *kind, &sample);
                    samples.entry(*kind).or_default().push(sample);
                }
            }
        }
        let summaries = samples.into_iter().filter_map(|(kind, samples)| {
            let summary = Summary::of(&samples, self.best)?;
            Some((kind, Outcome { summary, setting: settings.remove(&kind) }))
        });
        Ok(summaries.collect())
    }

    fn tell(&self, case: &Case, round: usize, kind: Kind, sample: &Sample) {
        let state = if sample.is_quiet(self.best) { "" } else { "  disturbed" };
        say(&format!(
            "{}: {}/{} {:<8} {:>8.3} M/s  fixed work {:.2} of the best, core share {:.3}{state}",
            case.name,
            round + 1,
            self.plan.rounds,
            kind.name(),
            sample.mega,
            sample.fixed_work.as_secs_f64() / self.best.as_secs_f64(),
            sample.share,
        ));
    }

    /// Starts an engine, waits until it knows all flows, and holds it.
    fn start(&self, kind: Kind, case: &Case, wiring: &Wiring) -> Result<Box<dyn Engine>> {
        check_interrupt()?;
        let mut engine = kind.start(&self.bed, case, wiring)?;
        pause_for(FIRST_WARM_UP)?;
        engine.tune()?;
        engine.forget()?;
        engine.process().check_alive()?;
        engine.process().hold()?;
        Ok(engine)
    }

    /// One sample of an engine that is held, and is held again afterwards.
    fn sample(&mut self, case: &Case, engine: &mut dyn Engine) -> Result<Sample> {
        let before = fixed_work(self.bed.measured_core)?;
        engine.process().go_on()?;
        pause_for(WARM_UP)?;
        let pid = engine.process().pid();
        let (first, ran) = (engine.counters()?, RunTimes::of(pid)?);
        pause_for(self.plan.length)?;
        let (last, share) = (engine.counters()?, RunTimes::of(pid)?.busiest_share_since(&ran));
        engine.check().with_context(|| case.name)?;
        engine.process().check_alive()?;
        engine.process().hold()?;
        let worse = before.max(fixed_work(self.bed.measured_core)?);
        self.best = self.best.min(before).min(worse);
        let seconds = (last.at - first.at).as_secs_f64();
        anyhow::ensure!(
            last.out > first.out,
            "{}: nothing came out of an engine for {seconds:.1} s",
            case.name
        );
        Ok(Sample { mega: (last.out - first.out) as f64 / seconds / 1e6, fixed_work: worse, share })
    }

    /// One filling of the session table of a new daemon. It is too short to
    /// tell the share of the core; the calibration loop has to do.
    fn sample_new_sessions(&mut self, case: &Case, wiring: &Wiring) -> Result<Sample> {
        let before = fixed_work(self.bed.measured_core)?;
        let rate = tieline::new_sessions(&self.bed, case, wiring)?;
        let worse = before.max(fixed_work(self.bed.measured_core)?);
        self.best = self.best.min(before).min(worse);
        Ok(Sample { mega: rate / 1e6, fixed_work: worse, share: 1.0 })
    }

    /// Has an engine send a short file into another one, and looks at it.
    fn verify(&self, kind: Kind, case: &Case, flows: &[Flow]) -> Result<()> {
        // One worker writes one file; a few routes and VRFs show what many do,
        // and are in force before the short file is over.
        let (routes, vrfs) = (case.routes.min(LOOKED_AT_ROUTES), case.vrfs.min(LOOKED_AT as u32));
        let is_smaller = (routes, vrfs) != (case.routes, case.vrfs);
        let case = &Case { workers: 1, routes, vrfs, ..*case };
        let fewer = is_smaller.then(|| frames::flows(case));
        let flows = fewer.as_deref().unwrap_or(flows);
        let step = (flows.len() / LOOKED_AT).max(1);
        let some: Vec<Flow> = flows.iter().step_by(step).take(LOOKED_AT).copied().collect();
        let (input, output) = (self.bed.file("short.pcap"), self.bed.file("sent.pcap"));
        // A flow has a frame of one size only: its place is its own.
        let frames =
            some.iter().enumerate().map(|(at, flow)| frame(case, flow, at * step)).collect::<Vec<_>>();
        pcap::write(&input, std::iter::repeat_n(&frames, REPEATED).flatten().cloned())?;
        let wiring = Wiring { input, endless: false, output: Some(output.clone()) };
        // The verification itself needs few buffers: the file is not preloaded.
        let mut engine = kind.start(&self.bed, case, &wiring)?;
        if let Err(error) = wait_until_silent(engine.as_mut()) {
            // What the engine has to say explains more than its silence.
            engine.check()?;
            return Err(error);
        }
        drop(engine);
        let sent = pcap::read(&output)?;
        remove(&output);
        verify::check(kind, case, &some, &sent)?;
        say(&format!("{}: the bytes that {} sends are right", case.name, kind.name()));
        Ok(())
    }
}

/// Whether an engine is measured in a case.
fn takes_part(kind: Kind, case: &Case) -> bool {
    match kind {
        Kind::Tieline => true,
        Kind::Ovs => case.ovs,
        Kind::Testpmd => case.measure == Measure::Packets,
    }
}

fn wait_until_silent(engine: &mut dyn Engine) -> Result<()> {
    let mut before = engine.counters()?.out;
    await_some("an engine was to send a short file", SILENCE_LIMIT, || {
        pause_for(SILENCE)?;
        engine.process().check_alive()?;
        let now = engine.counters()?.out;
        let is_silent = now == before && now > 0;
        before = now;
        Ok(is_silent.then_some(()))
    })
}

fn remove(path: &Path) {
    // The directory of the run is removed in the end anyway.
    let _ = std::fs::remove_file(path);
}
