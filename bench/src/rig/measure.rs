//! One case from its file to its figures.
//!
//! 1. The files of packets are written.
//! 2. Each engine sends a short one into a file, and the bytes are looked at.
//! 3. All engines are started and held. They take turns: one runs for a
//!    sample, with the calibration loop before and after it.
//!
//! An engine that fails is left out from then on, and the reason is reported in
//! place of its figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::calibrate::{RunTimes, fixed_work};
use crate::case::{Case, Measure};
use crate::engines::{Bed, Engine, Kind, Wiring, tieline};
use crate::frames::{self, Flow, flows, frame};
use crate::process::{await_some, check_interrupt, pause_for};
use crate::report::say;
use crate::sample::{Sample, Summary};
use crate::verify;
use tieline_bench::pcap;

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
    /// Engines that take part.
    pub engines: Vec<Kind>,
    /// Samples of each engine.
    pub rounds: usize,
    /// Length of a sample.
    pub length: Duration,
}

/// What was found out about one engine in one case.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Its figures.
    Measured {
        /// Millions a second.
        mega: Summary,
        /// How it was set up, if there was a choice.
        setting: Option<String>,
    },
    /// Why there are none.
    NotMeasured {
        /// In words.
        reason: String,
        /// Whether it was to be measured and failed.
        is_failure: bool,
    },
}

/// What was found out in one case.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    /// Each engine's own.
    pub engines: BTreeMap<Kind, Outcome>,
    /// How many times as fast as each other engine Tieline is.
    pub ratios: BTreeMap<Kind, Summary>,
}

impl Outcomes {
    /// Figures and setting of an engine, if it was measured.
    pub fn measured(&self, kind: Kind) -> Option<(&Summary, Option<&str>)> {
        match self.engines.get(&kind)? {
            Outcome::Measured { mega, setting } => Some((mega, setting.as_deref())),
            Outcome::NotMeasured { .. } => None,
        }
    }

    /// Why an engine was not measured, if it was not.
    pub fn reason(&self, kind: Kind) -> Option<&str> {
        match self.engines.get(&kind)? {
            Outcome::Measured { .. } => None,
            Outcome::NotMeasured { reason, .. } => Some(reason),
        }
    }

    /// Whether an engine was to be measured and failed.
    pub fn has_failures(&self) -> bool {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::NotMeasured { is_failure: true, .. });
        self.engines.values().any(failed)
    }
}

/// One engine in the rounds of one case.
struct Runner {
    kind: Kind,
    case: Case,
    wiring: Wiring,
    /// Whether it is started for each sample, so that the others have the memory
    /// meanwhile.
    alone: bool,
    /// Started and held.
    engine: Option<Box<dyn Engine>>,
    setting: Option<String>,
    samples: Vec<Sample>,
}

/// Measures cases, and remembers how fast the cores are undisturbed.
pub struct Rig {
    bed: Bed,
    plan: Plan,
    best: Duration,
}

impl Rig {
    /// A rig that has measured nothing yet.
    pub fn new(bed: Bed, plan: Plan) -> Result<Self> {
        let best = fixed_work(bed.worker_cores(1))?;
        Ok(Self { bed, plan, best })
    }

    /// Measures one case. What goes wrong with an engine stands in its outcome;
    /// an error is only what stops the rig itself.
    pub fn measure(&mut self, case: &Case) -> Result<Outcomes> {
        let started = Instant::now();
        let mut outcomes = Outcomes::default();
        let mut runners = Vec::new();
        for kind in Kind::ALL {
            let reason = match case.why_without(kind) {
                None if self.plan.engines.contains(&kind) => None,
                None => Some("left out by --engines"),
                some => some,
            };
            match reason {
                None => runners.push(self.runner(kind, case)?),
                Some(reason) => note(&mut outcomes, kind, reason.to_owned(), false),
            }
        }
        self.each(&mut runners, &mut outcomes, |rig, runner| rig.prepare(runner))?;
        for round in 0..self.plan.rounds {
            self.each(&mut runners, &mut outcomes, |rig, runner| {
                let sample = rig.turn(runner)?;
                rig.tell(case, round, runner.kind, &sample);
                runner.samples.push(sample);
                Ok(())
            })?;
        }
        self.sum_up(runners, &mut outcomes);
        say(&format!("{}: took {} s", case.name, started.elapsed().as_secs()));
        Ok(outcomes)
    }

    /// Does something with each engine; those that fail are left out.
    fn each(
        &mut self,
        runners: &mut Vec<Runner>,
        outcomes: &mut Outcomes,
        mut work: impl FnMut(&mut Self, &mut Runner) -> Result<()>,
    ) -> Result<()> {
        let mut left = Vec::with_capacity(runners.len());
        for mut runner in runners.drain(..) {
            match work(self, &mut runner) {
                Ok(()) => left.push(runner),
                Err(error) => {
                    check_interrupt()?;
                    say(&format!("{}: {}: {error:#}", runner.case.name, runner.kind.name()));
                    note(outcomes, runner.kind, in_one_line(&error), true);
                }
            }
        }
        *runners = left;
        Ok(())
    }

    /// An engine that is not started yet, and the file for it.
    fn runner(&self, kind: Kind, case: &Case) -> Result<Runner> {
        let alone = case.alone;
        let case = case.of(kind);
        let input = self.bed.file(if kind == Kind::Reference { "reference.pcap" } else { "input.pcap" });
        // All but the reference play the same file.
        if kind == Kind::Reference || kind == self.first_of(&case) {
            let frames = flows(&case);
            pcap::write(&input, frames.iter().enumerate().map(|(place, flow)| frame(&case, flow, place)))?;
        }
        let wiring = Wiring { input, endless: true, output: None };
        Ok(Runner { kind, case, wiring, alone, engine: None, setting: None, samples: Vec::new() })
    }

    /// The engine that has the first turn in a case.
    fn first_of(&self, case: &Case) -> Kind {
        let takes_part = |kind: &Kind| self.plan.engines.contains(kind) && case.why_without(*kind).is_none();
        Kind::ALL.into_iter().find(takes_part).unwrap_or(Kind::Tieline)
    }

    /// Looks at an engine's bytes, and starts it if it can run beside others.
    fn prepare(&mut self, runner: &mut Runner) -> Result<()> {
        // The bytes of the reference are looked at in its own case.
        if runner.kind != Kind::Reference {
            self.verify(runner.kind, &runner.case)?;
        }
        if runner.alone {
            return Ok(());
        }
        let engine = self.start(runner)?;
        runner.setting = engine.setting();
        if let Some(setting) = &runner.setting {
            say(&format!("{}: {} is set to {setting}", runner.case.name, runner.kind.name()));
        }
        runner.engine = Some(engine);
        Ok(())
    }

    /// One sample of an engine.
    fn turn(&mut self, runner: &mut Runner) -> Result<Sample> {
        if runner.case.measure == Measure::NewSessions {
            return self.sample_new_sessions(runner);
        }
        match runner.engine.take() {
            Some(mut engine) => {
                let sample = self.sample(&runner.case, engine.as_mut())?;
                runner.engine = Some(engine);
                Ok(sample)
            }
            None => {
                let mut engine = self.start(runner)?;
                self.sample(&runner.case, engine.as_mut())
            }
        }
    }

    fn sum_up(&self, runners: Vec<Runner>, outcomes: &mut Outcomes) {
        let tieline: Vec<Sample> = runners
            .iter()
            .find(|runner| runner.kind == Kind::Tieline)
            .map(|runner| runner.samples.clone())
            .unwrap_or_default();
        for runner in runners {
            let Some(mega) = Summary::of_samples(&runner.samples, self.best) else { continue };
            if runner.kind != Kind::Tieline {
                let rounds: Vec<(Sample, Sample)> =
                    tieline.iter().copied().zip(runner.samples.iter().copied()).collect();
                outcomes
                    .ratios
                    .extend(Summary::of_rounds(&rounds, self.best).map(|ratio| (runner.kind, ratio)));
            }
            outcomes.engines.insert(runner.kind, Outcome::Measured { mega, setting: runner.setting });
        }
    }

    fn tell(&self, case: &Case, round: usize, kind: Kind, sample: &Sample) {
        let state = if sample.is_quiet(self.best) { "" } else { "  disturbed" };
        say(&format!(
            "{}: {}/{} {:<9} {:>8.3} M/s  fixed work {:.2} of the best, core share {:.3}{state}",
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
    fn start(&self, runner: &Runner) -> Result<Box<dyn Engine>> {
        check_interrupt()?;
        let mut engine = runner.kind.start(&self.bed, &runner.case, &runner.wiring)?;
        pause_for(FIRST_WARM_UP)?;
        engine.tune()?;
        engine.forget()?;
        engine.process().check_alive()?;
        engine.process().hold()?;
        Ok(engine)
    }

    /// One sample of an engine that is held, and is held again afterwards.
    fn sample(&mut self, case: &Case, engine: &mut dyn Engine) -> Result<Sample> {
        let before = self.fixed_work(case)?;
        engine.process().go_on()?;
        pause_for(WARM_UP)?;
        let pid = engine.process().pid();
        let (first, ran) = (engine.counters()?, RunTimes::of(pid)?);
        pause_for(self.plan.length)?;
        let (last, share) = (engine.counters()?, RunTimes::of(pid)?.busiest_share_since(&ran, case.workers));
        engine.check()?;
        engine.process().check_alive()?;
        engine.process().hold()?;
        let worse = before.max(self.fixed_work(case)?);
        let seconds = (last.at - first.at).as_secs_f64();
        anyhow::ensure!(last.out > first.out, "nothing came out for {seconds:.1} s");
        Ok(Sample { mega: (last.out - first.out) as f64 / seconds / 1e6, fixed_work: worse, share })
    }

    /// One filling of the session table of a new daemon. It is too short to
    /// tell the share of the core; the calibration loop has to do.
    fn sample_new_sessions(&mut self, runner: &Runner) -> Result<Sample> {
        let before = self.fixed_work(&runner.case)?;
        let rate = tieline::new_sessions(&self.bed, &runner.case, &runner.wiring)?;
        let worse = before.max(self.fixed_work(&runner.case)?);
        Ok(Sample { mega: rate / 1e6, fixed_work: worse, share: 1.0 })
    }

    /// How long the fixed work takes on the cores of a case; the best is
    /// remembered.
    fn fixed_work(&mut self, case: &Case) -> Result<Duration> {
        let time = fixed_work(self.bed.worker_cores(case.workers))?;
        self.best = self.best.min(time);
        Ok(time)
    }

    /// Has an engine send a short file into another one, and looks at it.
    fn verify(&self, kind: Kind, case: &Case) -> Result<()> {
        // One worker writes one file; a few routes and VRFs show what many do,
        // and are in force before the short file is over.
        let (routes, vrfs) = (case.routes.min(LOOKED_AT_ROUTES), case.vrfs.min(LOOKED_AT as u32));
        let case = &Case { workers: 1, routes, vrfs, ..*case };
        let flows = frames::flows(case);
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
        verify::check(kind, case, &some, &sent).context("wrong bytes")?;
        say(&format!("{}: the bytes that {} sends are right", case.name, kind.name()));
        Ok(())
    }
}

fn note(outcomes: &mut Outcomes, kind: Kind, reason: String, is_failure: bool) {
    outcomes.engines.insert(kind, Outcome::NotMeasured { reason, is_failure });
}

/// An error without the logs that it quotes: for a line below a table.
fn in_one_line(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    let lines: Vec<String> = causes.filter(|cause| !cause.contains('\n')).collect();
    if lines.is_empty() { format!("{error:#}").replace('\n', "; ") } else { lines.join(": ") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_leaves_out_logs_and_keeps_causes() {
        let error = anyhow::anyhow!("the pool is empty").context("cannot start").context("its log:\na\nb");
        assert_eq!(in_one_line(&error), "cannot start: the pool is empty");
        assert_eq!(in_one_line(&anyhow::anyhow!("a\nb")), "a; b");
    }

    #[test]
    fn a_reason_by_design_is_no_failure() {
        let mut outcomes = Outcomes::default();
        note(&mut outcomes, Kind::Ovs, "it has no VRFs".to_owned(), false);
        assert!(!outcomes.has_failures() && outcomes.measured(Kind::Ovs).is_none());
        note(&mut outcomes, Kind::Testpmd, "it ended".to_owned(), true);
        assert!(outcomes.has_failures());
        assert_eq!(outcomes.reason(Kind::Testpmd), Some("it ended"));
    }
}
