//! What a second worker is worth, in memory: `workers CASE [SAMPLES]`.
//!
//! In alternation runs one worker on each of two cores alone, two gateways of
//! one worker each at the same time, and one gateway of two workers. The
//! second shows what the machine can do: its workers have nothing to do with
//! each other. Prints the best and the median of so many samples (default 9)
//! of a tenth of a second, in millions of packets a second, and, of the last,
//! the cycles a packet by stage.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tieline_bench_micro::pipeline::Case;
use tieline_bench_micro::workers::{Gateway, Sample, sample};
use tieline_engine::stats::stages::Stage;

const TIME: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let case = args.first().and_then(|name| Case::named(name));
    let samples = args.get(1).map_or(Some(9), |text| text.parse::<usize>().ok());
    let (Some(case), Some(samples @ 1..), true) = (case, samples, args.len() <= 2) else {
        let names: Vec<&str> = Case::ALL.iter().map(|case| case.name).collect();
        eprintln!("usage: workers CASE [SAMPLES]\ncases: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let [first, .., last] = cores[..] else {
        eprintln!("workers: this needs two cores");
        return ExitCode::from(2);
    };
    let (mut one, mut other, mut both) =
        (Gateway::new(case, 1), Gateway::new(case, 1), Gateway::new(case, 2));
    let [mut alone, mut apart, mut together] = [const { Vec::new() }; 3];
    for _ in 0..samples {
        alone.push(sample(&mut [&mut one], &[first], TIME));
        alone.push(sample(&mut [&mut other], &[last], TIME));
        apart.push(sample(&mut [&mut one, &mut other], &[first, last], TIME));
        together.push(sample(&mut [&mut both], &[first, last], TIME));
    }
    let mut text = format!("{:<10} {:>8} {:>8} {:>8}\n", case.name, "Mpps", "median", "ratio");
    let base = best_and_median(&alone).0;
    for (name, samples) in [("alone", &alone), ("apart", &apart), ("together", &together)] {
        let (best, median) = best_and_median(samples);
        text += &format!("{name:<10} {best:>8.2} {median:>8.2} {:>8.2}\n", best / base);
    }
    for (name, samples) in [("alone", &alone), ("together", &together)] {
        text += &format!("\n{name}\n{}", table(samples));
    }
    if !both.balance().is_exact() {
        eprintln!("workers: the books do not balance: {:?}", both.balance());
        return ExitCode::FAILURE;
    }
    let written = std::io::stdout().write_all(text.as_bytes());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Millions of packets a second.
fn best_and_median(samples: &[Sample]) -> (f64, f64) {
    let mut rates: Vec<f64> = samples.iter().map(|sample| sample.rate / 1e6).collect();
    rates.sort_by(f64::total_cmp);
    (rates[rates.len() - 1], rates[rates.len() / 2])
}

/// Of the best sample: cycles of each stage over the packets received, and
/// over those that came to the stage.
fn table(samples: &[Sample]) -> String {
    let Some(best) = samples.iter().max_by(|a, b| a.rate.total_cmp(&b.rate)) else { return String::new() };
    let received = best.received.max(1) as f64;
    let mut text = format!("{:<16} {:>10} {:>10} {:>10}\n", "stage", "cycles/rx", "cycles/pkt", "pkt/burst");
    for (stage, used) in best.stages.iter().filter(|(_, used)| used.cycles > 0) {
        let of = |divisor: u64, dividend: u64| dividend as f64 / divisor.max(1) as f64;
        text += &format!(
            "{:<16} {:>10.1} {:>10.1} {:>10.1}\n",
            Stage::name(*stage),
            used.cycles as f64 / received,
            of(used.packets, used.cycles),
            of(used.bursts, used.packets),
        );
    }
    text += &format!(
        "handed over {:.1} %, of these dropped {:.2} %\n",
        best.handed_over as f64 / received * 100.0,
        best.ring_full as f64 / (best.handed_over + best.ring_full).max(1) as f64 * 100.0,
    );
    text
}
