//! Where the cycles of the pipeline go, in memory: `profile CASE PACKETS`.
//!
//! Prints a table: of each stage the cycles a packet, packets a burst, and its
//! share of all cycles. Feeding the gateway is not among them.

use std::process::ExitCode;

use tieline_bench_micro::pipeline::{Case, Rig};
use tieline_engine::stats::stages::{Stage, StageUse};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let case = args.next().and_then(|name| Case::named(&name));
    let packets = args.next().and_then(|text| text.parse::<usize>().ok());
    let (Some(case), Some(packets)) = (case, packets) else {
        let names: Vec<&str> = Case::ALL.iter().map(|case| case.name).collect();
        eprintln!("usage: profile CASE PACKETS\ncases: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let mut rig = Rig::new(case);
    let before = readings(&rig);
    rig.run(packets);
    let used: Vec<(Stage, StageUse)> = readings(&rig)
        .into_iter()
        .zip(before)
        .map(|((stage, now), (_, before))| (stage, now.since(before)))
        .collect();
    if used.is_empty() {
        eprintln!("{} has no gateway, hence no stages", case.name);
        return ExitCode::from(2);
    }
    let written = std::io::Write::write_all(&mut std::io::stdout(), table(&used).as_bytes());
    if written.is_ok() && rig.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn readings(rig: &Rig) -> Vec<(Stage, StageUse)> {
    let Some(counters) = rig.counters() else { return Vec::new() };
    Stage::ALL.iter().map(|stage| (*stage, counters.stages.of(*stage))).collect()
}

/// Stages that used no cycles are left out; the last row has all cycles over
/// the packets received.
fn table(used: &[(Stage, StageUse)]) -> String {
    let all: u64 = used.iter().map(|(_, used)| used.cycles).sum();
    let received =
        used.iter().find(|(stage, _)| *stage == Stage::Receive).map(|(_, used)| *used).unwrap_or_default();
    let mut text = line("STAGE", "CYCLES/PKT", "PKT/BURST", "SHARE");
    for (stage, used) in used.iter().filter(|(_, used)| used.cycles > 0) {
        text.push_str(&row(stage.name(), *used, all));
    }
    text.push_str(&row("all", StageUse { cycles: all, ..received }, all));
    text
}

fn row(name: &str, used: StageUse, all: u64) -> String {
    let share = used.cycles as f64 / all as f64;
    let bar = "█".repeat((share * 20.0).round() as usize);
    let (cycles, burst) = (quotient(used.cycles, used.packets), quotient(used.packets, used.bursts));
    line(name, &cycles, &burst, &format!("{:>3.0} % {bar}", share * 100.0))
}

fn line(name: &str, cycles: &str, burst: &str, share: &str) -> String {
    format!("{name:<16}{cycles:>10}{burst:>11}  {share}").trim_end().to_owned() + "\n"
}

/// With one decimal; a dash when there is nothing to divide by.
fn quotient(dividend: u64, divisor: u64) -> String {
    if divisor == 0 { "-".to_owned() } else { format!("{:.1}", dividend as f64 / divisor as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_without_cycles_are_left_out_and_the_rest_adds_up() {
        let of = |cycles, bursts, packets| StageUse { cycles, bursts, packets };
        let used = [
            (Stage::Receive, of(300, 2, 100)),
            (Stage::Parse, of(600, 2, 100)),
            (Stage::Owner, of(0, 0, 0)),
            (Stage::Housekeeping, of(100, 0, 0)),
        ];
        assert_eq!(
            table(&used),
            "STAGE           CYCLES/PKT  PKT/BURST  SHARE\n\
             receive                3.0       50.0   30 % ██████\n\
             parse                  6.0       50.0   60 % ████████████\n\
             housekeeping             -          -   10 % ██\n\
             all                   10.0       50.0  100 % ████████████████████\n"
        );
    }
}
