//! The pipeline alone, in memory: `pipeline CASE PACKETS [SAMPLES]`, or
//! `pipeline --list` for the names of the cases.
//!
//! Prints one JSON object: the case, and the nanoseconds and TSC cycles a
//! packet of the best and of the median of so many samples (default 9) of
//! PACKETS packets each. Other load on the machine only ever adds time, so the
//! best sample says most of the program, and the median most of the machine.

use std::process::ExitCode;
use std::time::Instant;

use tieline_bench_micro::pipeline::{Case, Rig};
use tieline_engine::cycles::cycles;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["--list"] {
        return print(Case::ALL.map(|case| format!("{}\n", case.name)).concat());
    }
    let number = |at: usize| args.get(at).and_then(|text| text.parse::<usize>().ok()).filter(|n| *n > 0);
    let case = args.first().and_then(|name| Case::named(name));
    let samples = if args.len() > 2 { number(2) } else { Some(9) };
    let (Some(case), Some(packets), Some(samples), true) = (case, number(1), samples, args.len() <= 3) else {
        let names: Vec<&str> = Case::ALL.iter().map(|case| case.name).collect();
        eprintln!("usage: pipeline CASE PACKETS [SAMPLES]\ncases: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let mut rig = Rig::new(case);
    let (mut nanoseconds, mut ticks) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let (start, from) = (Instant::now(), cycles());
        let done = rig.run(packets) as f64;
        ticks.push((cycles() - from) as f64 / done);
        nanoseconds.push(start.elapsed().as_nanos() as f64 / done);
    }
    let [(ns, median_ns), (cycles, median_cycles)] = [nanoseconds, ticks].map(best_and_median);
    let line = format!(
        "{{\"case\":\"{}\",\"packets\":{packets},\"samples\":{samples},\
         \"ns_per_packet\":{ns:.2},\"median_ns_per_packet\":{median_ns:.2},\
         \"cycles_per_packet\":{cycles:.1},\"median_cycles_per_packet\":{median_cycles:.1}}}\n",
        case.name,
    );
    if !rig.is_complete() {
        eprintln!("{}: not every packet came out: {:?}", case.name, rig);
        return ExitCode::FAILURE;
    }
    print(line)
}

fn print(text: String) -> ExitCode {
    let written = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The least of some samples, and the one in the middle.
fn best_and_median(mut samples: Vec<f64>) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    (samples[0], samples[samples.len() / 2])
}
