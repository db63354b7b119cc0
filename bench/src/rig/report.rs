//! What a run says: lines while it runs, a table for eyes, JSON for programs.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::case::Case;
use crate::engines::Kind;
use crate::measure::{Outcome, Outcomes};

/// What was measured where.
#[derive(Debug)]
pub struct Run {
    /// Frequency of the time stamp counter, Hz.
    pub tsc_hz: f64,
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
        for kind in [Kind::Tieline, Kind::Ovs, Kind::Testpmd] {
            header.extend([format!("{} M/s", kind.name()), "cycles".to_owned()]);
        }
        header.extend(["/ovs", "/testpmd", "spread M/s", "quiet"].map(str::to_owned));
        table.set_header(header);
        for (case, outcomes) in &self.cases {
            table.add_row(self.row(case, outcomes));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.trim_fmt();
        text.push_str(&format!("\n\nTSC {:.3} GHz; cycles of it a packet and core.\n", self.tsc_hz / 1e9));
        text.push_str("Spread and quiet samples in the order tieline, ovs, testpmd.\n");
        for (case, outcomes) in &self.cases {
            text.push_str(&remarks(case, outcomes));
        }
        text
    }

    fn row(&self, case: &Case, outcomes: &Outcomes) -> Vec<String> {
        let absent = || "-".to_owned();
        let mut row = vec![case.name.to_owned()];
        for kind in [Kind::Tieline, Kind::Ovs, Kind::Testpmd] {
            match outcomes.get(&kind) {
                Some(Outcome { summary, .. }) => {
                    row.extend([
                        format!("{:.2}", summary.mega),
                        format!("{:.1}", self.cycles(case, summary.mega)),
                    ]);
                }
                None => row.extend([absent(), absent()]),
            }
        }
        for other in [Kind::Ovs, Kind::Testpmd] {
            row.push(ratio(outcomes, other).map_or_else(absent, |ratio| format!("{ratio:.2}")));
        }
        let join = |of: &dyn Fn(&Outcome) -> String| {
            let each = [Kind::Tieline, Kind::Ovs, Kind::Testpmd].map(|kind| outcomes.get(&kind).map(of));
            each.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        row.push(join(&|of| format!("{:.2}-{:.2}", of.summary.slowest, of.summary.fastest)));
        row.push(join(&|of| format!("{}/{}", of.summary.quiet, of.summary.all)));
        row
    }

    /// TSC cycles a packet, of all cores together.
    fn cycles(&self, case: &Case, mega: f64) -> f64 {
        self.tsc_hz * case.workers as f64 / (mega * 1e6)
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let cases: Vec<Value> =
            self.cases.iter().map(|(case, outcomes)| self.case_json(case, outcomes)).collect();
        let date = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({
            "machine": machine(),
            "date": date_text(date),
            "tsc_hz": self.tsc_hz.round(),
            "command": self.command,
            "cases": cases,
        })
    }

    fn case_json(&self, case: &Case, outcomes: &Outcomes) -> Value {
        let engine = |kind| {
            let Some(Outcome { summary, setting }) = outcomes.get(&kind) else { return Value::Null };
            json!({
                "mpps": summary.mega,
                "cycles": self.cycles(case, summary.mega),
                "slowest_mpps": summary.slowest,
                "fastest_mpps": summary.fastest,
                "quiet_samples": summary.quiet,
                "samples": summary.all,
                "setting": setting,
            })
        };
        json!({
            "name": case.name,
            "about": case.about,
            "tieline": engine(Kind::Tieline),
            "ovs": engine(Kind::Ovs),
            "testpmd": engine(Kind::Testpmd),
            "ratio_ovs": ratio(outcomes, Kind::Ovs),
            "ratio_testpmd": ratio(outcomes, Kind::Testpmd),
        })
    }
}

/// How many times as fast as another engine Tieline is.
fn ratio(outcomes: &Outcomes, other: Kind) -> Option<f64> {
    Some(outcomes.get(&Kind::Tieline)?.summary.mega / outcomes.get(&other)?.summary.mega)
}

fn remarks(case: &Case, outcomes: &Outcomes) -> String {
    let mut text = String::new();
    let mut note = |words: String| text.push_str(&format!("{}: {words}\n", case.name));
    for (kind, outcome) in outcomes {
        if outcome.summary.quiet == 0 {
            note(format!("no sample of {} was quiet: the median is of all", kind.name()));
        }
        if let Some(setting) = &outcome.setting {
            note(format!("{} with {setting}", kind.name()));
        }
    }
    if !case.no_ovs.is_empty() {
        note(format!("Open vSwitch is left out: {}", case.no_ovs));
    }
    text
}

/// The processor, as the kernel calls it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{}, {cores} cores", name.unwrap_or("unknown processor"))
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
    use crate::sample::Summary;

    fn run() -> Run {
        let outcome = |mega| Outcome {
            summary: Summary { mega, slowest: mega, fastest: mega, quiet: 0, all: 2 },
            setting: None,
        };
        let outcomes = [(Kind::Tieline, outcome(20.0)), (Kind::Ovs, outcome(5.0))].into_iter().collect();
        let case = Case::named("stateless_1k").expect("a case");
        Run { tsc_hz: 2e9, command: "rig".to_owned(), cases: vec![(case, outcomes)] }
    }

    #[test]
    fn figures_and_their_absence_reach_programs() {
        let json = run().json();
        let case = &json["cases"][0];
        assert_eq!(case["tieline"]["cycles"], 100.0);
        assert_eq!(case["ratio_ovs"], 4.0);
        assert!(case["testpmd"].is_null() && case["ratio_testpmd"].is_null());
    }

    #[test]
    fn the_table_says_that_no_sample_was_quiet() {
        let table = run().table();
        assert!(table.contains("no sample of ovs was quiet"), "{table}");
        assert!(table.contains("100.0") && table.contains("4.00"), "{table}");
    }

    #[test]
    fn days_have_their_date() {
        for (seconds, date) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (1_798_675_200, "2026-12-31")]
        {
            assert_eq!(date_text(seconds), date);
        }
    }
}
