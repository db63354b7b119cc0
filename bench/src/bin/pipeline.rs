//! The pipeline alone, in memory: `pipeline CASE PACKETS`.
//!
//! Prints one JSON object: the case, packets, nanoseconds and TSC cycles a
//! packet. They include the memory port: a buffer from the pool, a copy of 60
//! bytes into it, two queues, and the buffer's return. Under an instruction
//! counter run it with two numbers of packets: the difference is theirs.

use std::process::ExitCode;
use std::time::Instant;

use tieline_bench::pipeline::{Case, Rig};
use tieline_engine::cycles::cycles;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let case = args.next().and_then(|name| Case::named(&name));
    let packets = args.next().and_then(|text| text.parse::<usize>().ok());
    let (Some(case), Some(packets)) = (case, packets) else {
        let names: Vec<&str> = Case::ALL.iter().map(|case| case.name()).collect();
        eprintln!("usage: pipeline CASE PACKETS\ncases: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let mut rig = Rig::new(case);
    // Everything warm: sessions made, tables read once.
    rig.run(rig.flows() * 2);
    let (start, first) = (Instant::now(), cycles());
    let done = rig.run(packets);
    let cycles = cycles() - first;
    let nanoseconds = start.elapsed().as_nanos();
    let per = |total: f64| total / done.max(1) as f64;
    let line = format!(
        "{{\"case\":\"{}\",\"packets\":{done},\"ns_per_packet\":{:.2},\"cycles_per_packet\":{:.1}}}\n",
        case.name(),
        per(nanoseconds as f64),
        per(cycles as f64)
    );
    let written = std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes());
    if written.is_ok() && rig.is_balanced() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
