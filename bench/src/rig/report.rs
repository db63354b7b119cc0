//! What a run says: lines while it runs, a table for eyes, the same in Markdown
//! for `docs/performance.md`, JSON for programs.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::case::{Case, Measure};
use crate::engines::Kind;
use crate::measure::Outcomes;
use crate::sample::Summary;

/// Whom Tieline is compared with, in the order of the columns.
const OTHERS: [Kind; 3] = [Kind::Ovs, Kind::Testpmd, Kind::Reference];

/// What was measured where.
#[derive(Debug)]
pub struct Run {
    /// Frequency of the time stamp counter, Hz.
    pub tsc_hz: f64,
    /// How many cores there are.
    pub cores: usize,
    /// The command that was given.
    pub command: String,
    /// Cases in the order of their measurement.
    pub cases: Vec<(Case, Outcomes)>,
}

/// Prints a line of progress.
pub fn say(line: &str) {
    // Nobody reads it then: the figures matter.
    let _ = writeln!(std::io::stderr(), "rig: {line}");
}

impl Run {
    /// The table.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec!["case".to_owned()];
        for kind in Kind::SHOWN {
            header.extend([format!("{} M/s", kind.name()), "cycles".to_owned()]);
        }
        header.extend(OTHERS.map(|kind| format!("/{}", kind.name())));
        header.extend(["spread M/s", "quiet"].map(str::to_owned));
        table.set_header(header);
        for (case, outcomes) in &self.cases {
            table.add_row(self.row(case, outcomes));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.trim_fmt();
        text.push_str(&format!("\n\nTSC {:.3} GHz; cycles of it a packet and core.\n", self.tsc_hz / 1e9));
        text.push_str(
            "Ratios are medians of rounds, with their spread; samples of a round follow each other.\n",
        );
        text.push_str("Spread and quiet samples in the order tieline, ovs, testpmd.\n");
        for (case, words) in self.disturbed().into_iter().chain(self.remarks()) {
            text.push_str(&format!("{case}: {words}\n"));
        }
        text
    }

    fn row(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let absent = || "-".to_owned();
        let mut row = vec![case.name.to_owned()];
        for kind in Kind::SHOWN {
            match outcomes.measured(kind) {
                Some((mega, _)) => row.extend([
                    format!("{:.2}", mega.median),
                    format!("{:.1}", self.cycles(case, mega.median)),
                ]),
                None => row.extend([absent(), absent()]),
            }
        }
        row.extend(OTHERS.map(|kind| outcomes.ratios.get(&kind).map_or_else(absent, with_spread)));
        let join = |of: &dyn Fn(&Summary) -> String| {
            let each = Kind::SHOWN.map(|kind| outcomes.measured(kind).map(|(mega, _)| of(mega)));
            each.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        row.push(join(&|mega| format!("{:.2}-{:.2}", mega.least, mega.most)));
        row.push(join(&|mega| format!("{}/{}", mega.quiet, mega.all)));
        row
    }

    /// The table for `docs/performance.md`: where and how, figures, what to know
    /// about them.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "| | |\n|---|---|\n| machine | {} |\n| date | {} |\n| command | `{}` |\n\n",
            self.machine_in_short(),
            today(),
            self.command
        );
        text.push_str("| case | Tieline | Open vSwitch | testpmd |");
        text.push_str(" / Open vSwitch | / testpmd | / reference |\n");
        text.push_str("|---|--:|--:|--:|---|---|---|\n");
        for (case, outcomes) in &self.cases {
            let figures = Kind::SHOWN.map(|kind| match outcomes.measured(kind) {
                Some((mega, _)) => {
                    let target = case.targets.mega.filter(|_| kind == Kind::Tieline);
                    let (median, cycles) = (mega.median, self.cycles(case, mega.median));
                    format!("{median:.2} ({cycles:.0}){}{}", mark(mega), verdict(median, target, true))
                }
                None => "-".to_owned(),
            });
            let ratios = OTHERS.map(|kind| match outcomes.ratios.get(&kind) {
                Some(ratio) => {
                    let target = case.targets.over(kind);
                    let verdict = verdict(ratio.median, target, self.is_judged(case));
                    format!("{}{}{verdict}", with_spread(ratio), mark(ratio))
                }
                None => "-".to_owned(),
            });
            text.push_str(&format!(
                "| `{}` | {} | {} |\n",
                case.name,
                figures.join(" | "),
                ratios.join(" | ")
            ));
        }
        text.push('\n');
        for (case, words) in self.remarks() {
            text.push_str(&format!("- `{case}`: {words}\n"));
        }
        if !self.disturbed().is_empty() {
            text.push_str("- \\*: no sample, or no round, was quiet: of all of them\n");
        }
        text
    }

    /// What no quiet sample or round stands behind: the case, and words.
    fn disturbed(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        for (case, outcomes) in &self.cases {
            for kind in Kind::ALL {
                let name = kind.name();
                if outcomes.measured(kind).is_some_and(|(mega, _)| mega.quiet == 0) {
                    lines.push((case.name, format!("no sample of {name} was quiet: the median is of all")));
                }
                if outcomes.ratios.get(&kind).is_some_and(|ratio| ratio.quiet == 0) {
                    let words = format!("no round of tieline and {name} was quiet: the ratio is of all");
                    lines.push((case.name, words));
                }
            }
        }
        lines
    }

    /// What figures alone do not tell: the case, and words.
    fn remarks(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        for (case, outcomes) in &self.cases {
            let mut note = |words: String| lines.push((case.name, words));
            if case.measure == Measure::NewSessions {
                note("counts sessions made, not packets sent".to_owned());
            }
            for kind in Kind::ALL {
                let name = kind.name();
                // Most cases are compared with no other one.
                let is_expected = kind == Kind::Reference && case.reference.is_none();
                if let Some(reason) = outcomes.reason(kind).filter(|_| !is_expected) {
                    note(format!("{name} not measured: {reason}"));
                }
                let Some((mega, setting)) = outcomes.measured(kind) else { continue };
                if let Some(reference) = case.reference.filter(|_| kind == Kind::Reference) {
                    note(format!("reference is tieline in {reference}, {:.2} M/s beside it", mega.median));
                }
                if let Some(setting) = setting {
                    note(format!("{name} with {setting}"));
                }
            }
            if !self.is_judged(case) {
                note(format!(
                    "the target is for {} cores free of everything else; of {} the first also has the \
                     control threads, the rig and the kernel's own work",
                    case.workers, self.cores
                ));
            }
        }
        lines
    }

    /// Whether a case has the cores that its targets are for.
    fn is_judged(&self, case: &Case) -> bool {
        case.workers < self.cores
    }

    /// TSC cycles a packet, of all cores together.
    fn cycles(&self, case: &Case, mega: f64) -> f64 {
        self.tsc_hz * case.workers as f64 / (mega * 1e6)
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let cases: Vec<Value> =
            self.cases.iter().map(|(case, outcomes)| self.case_json(case, outcomes)).collect();
        json!({
            "machine": format!("{}, {} cores", processor(), self.cores),
            "date": today(),
            "tsc_hz": self.tsc_hz.round(),
            "command": self.command,
            "cases": cases,
        })
    }

    fn case_json(&self, case: &Case, outcomes: &Outcomes) -> Value {
        let engine = |kind| {
            let Some((mega, setting)) = outcomes.measured(kind) else {
                return json!({ "not_measured": outcomes.reason(kind) });
            };
            json!({
                "mpps": mega.median,
                "cycles": self.cycles(&case.of(kind), mega.median),
                "slowest_mpps": mega.least,
                "fastest_mpps": mega.most,
                "quiet_samples": mega.quiet,
                "samples": mega.all,
                "setting": setting,
            })
        };
        let ratio = |kind| outcomes.ratios.get(&kind).map(|ratio| ratio.median);
        let rounds = |kind| {
            let ratio = outcomes.ratios.get(&kind)?;
            let target = case.targets.over(kind);
            Some(json!({
                "least": ratio.least, "most": ratio.most, "quiet": ratio.quiet, "all": ratio.all,
                "target": target, "met": target.map(|target| ratio.median >= target),
            }))
        };
        json!({
            "name": case.name,
            "about": case.about,
            "tieline": engine(Kind::Tieline),
            "ovs": engine(Kind::Ovs),
            "testpmd": engine(Kind::Testpmd),
            "ratio_ovs": ratio(Kind::Ovs),
            "ratio_testpmd": ratio(Kind::Testpmd),
            "reference_case": case.reference,
            "reference": engine(Kind::Reference),
            "ratio_reference": ratio(Kind::Reference),
            "rounds": {
                "ovs": rounds(Kind::Ovs),
                "testpmd": rounds(Kind::Testpmd),
                "reference": rounds(Kind::Reference),
            },
            "target_mpps": case.targets.mega,
        })
    }

    /// What kind of machine it is, without its name.
    fn machine_in_short(&self) -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        let kind = if flags.split_whitespace().any(|flag| flag == "hypervisor") { " virtual" } else { "" };
        let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        format!(
            "{}-core {}{kind} machine, TSC {:.1} GHz, {}",
            self.cores,
            std::env::consts::ARCH.replace('_', "-"),
            self.tsc_hz / 1e9,
            system.unwrap_or("unknown system").trim_matches('"')
        )
    }
}

/// The median of rounds, and the least and the most of them.
fn with_spread(ratio: &Summary) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.least, ratio.most)
}

/// Marks what no quiet sample or round stands behind.
fn mark(summary: &Summary) -> &'static str {
    if summary.quiet == 0 { "\\*" } else { "" }
}

/// What a target says about a figure; nothing if there is no target.
fn verdict(value: f64, target: Option<f64>, is_judged: bool) -> String {
    let Some(target) = target else { return String::new() };
    let word = match (is_judged, value >= target) {
        (false, _) => "not judged",
        (true, true) => "met",
        (true, false) => "missed",
    };
    format!("; target {target}: {word}")
}

/// The processor, as the kernel calls it.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    name.unwrap_or("unknown processor").to_owned()
}

fn today() -> String {
    date_text(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A day of the Gregorian calendar in UTC, from seconds since 1970.
fn date_text(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Outcome;

    fn summary(median: f64) -> Summary {
        Summary { median, least: median * 0.9, most: median * 1.1, quiet: 0, all: 2 }
    }

    fn measured(mega: f64) -> Outcome {
        Outcome::Measured { mega: summary(mega), setting: None }
    }

    fn run(name: &str) -> Run {
        let case = Case::named(name).expect("a case");
        let mut outcomes = Outcomes::default();
        outcomes.engines.insert(Kind::Tieline, measured(20.0));
        outcomes.engines.insert(Kind::Ovs, measured(5.0));
        outcomes.ratios.insert(Kind::Ovs, summary(4.0));
        let reason = "it does not start".to_owned();
        outcomes.engines.insert(Kind::Testpmd, Outcome::NotMeasured { reason, is_failure: true });
        if case.reference.is_some() {
            outcomes.engines.insert(Kind::Reference, measured(11.0));
            outcomes.ratios.insert(Kind::Reference, summary(1.8));
        }
        Run { tsc_hz: 2e9, cores: 2, command: "rig".to_owned(), cases: vec![(case, outcomes)] }
    }

    #[test]
    fn figures_and_their_absence_reach_programs() {
        let json = run("stateless_1k").json();
        let case = &json["cases"][0];
        assert_eq!(case["tieline"]["cycles"], 100.0);
        assert_eq!(case["ratio_ovs"], 4.0);
        assert_eq!(case["rounds"]["ovs"]["met"], true, "4 times, and 3.2 are asked");
        assert_eq!(case["testpmd"]["not_measured"], "it does not start");
        assert!(case["testpmd"]["mpps"].is_null() && case["ratio_testpmd"].is_null());
    }

    #[test]
    fn the_table_gives_figures_or_reasons() {
        let table = run("stateless_1k").table();
        assert!(table.contains("no sample of ovs was quiet"), "{table}");
        assert!(table.contains("no round of tieline and ovs was quiet"), "{table}");
        assert!(table.contains("100.0") && table.contains("4.00 (3.60-4.40)"), "{table}");
        assert!(table.contains("stateless_1k: testpmd not measured: it does not start"), "{table}");
        assert!(!table.contains("reference not measured"), "{table}");
    }

    #[test]
    fn markdown_has_targets_beside_the_figures() {
        let text = run("stateless_1k").markdown();
        let row = "| `stateless_1k` | 20.00 (100)\\* | 5.00 (400)\\* | - | 4.00 (3.60-4.40)\\*; target 3.2: met | - | - |";
        assert!(text.lines().any(|line| line == row), "{text}");
        assert!(text.contains("2-core") && text.contains("TSC 2.0 GHz"), "{text}");
        assert!(text.contains("- \\*: no sample, or no round, was quiet"), "{text}");
        assert_eq!(verdict(1.0, Some(2.0), true), "; target 2: missed");
        assert_eq!(verdict(1.0, None, true), "");
    }

    #[test]
    fn two_workers_are_judged_where_a_core_is_left_for_the_rest() {
        let mut run = run("two_workers_stateless");
        let text = run.markdown();
        assert!(text.contains("1.80 (1.62-1.98)\\*; target 1.85: not judged"), "{text}");
        assert!(text.contains("the target is for 2 cores free of everything else"), "{text}");
        assert!(text.contains("reference is tieline in stateless_1k, 11.00 M/s"), "{text}");
        run.cores = 3;
        let text = run.markdown();
        assert!(text.contains("target 1.85: missed") && !text.contains("free of everything"), "{text}");
    }

    #[test]
    fn days_have_their_date() {
        for (seconds, date) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_798_675_200, "2026-12-31")]
        {
            assert_eq!(date_text(seconds), date);
        }
    }
}
