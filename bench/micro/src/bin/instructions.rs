//! Counts the instructions of operations: `instructions COUNT [NAME...]`,
//! under `valgrind --tool=callgrind --instr-atstart=no`.
//!
//! Each operation, or each named one, is set up, carried out once for warmth,
//! and then COUNT times for the count, which callgrind writes to a file of
//! its own. For each a line goes to the output: the operation's name and how
//! often it was carried out. Operations on a million sessions count like those
//! on 100,000 and take minutes, so they come only when named.

use std::ffi::CString;
use std::io::Write;
use std::process::ExitCode;

use tieline_bench_micro::callgrind;
use tieline_bench_micro::operations::{self, Operation};
use tieline_bench_micro::pipeline::Case;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let count = args.next().and_then(|text| text.parse::<usize>().ok()).filter(|count| *count > 0);
    let wanted: Vec<String> = args.collect();
    let Some(count) = count else {
        eprintln!("usage: valgrind --tool=callgrind --instr-atstart=no instructions COUNT [NAME...]");
        return ExitCode::from(2);
    };
    if !callgrind::is_running() {
        eprintln!("instructions: this program only counts under valgrind; use scripts/bench ceilings");
        return ExitCode::from(2);
    }
    let pipeline = Case::ALL.into_iter().map(operations::pipeline);
    let all: Vec<Operation> = operations::all().into_iter().chain(pipeline).collect();
    if let Some(unknown) = wanted.iter().find(|name| all.iter().all(|operation| operation.name != **name)) {
        let names: Vec<&str> = all.iter().map(|operation| operation.name).collect();
        eprintln!("instructions: there is no operation '{unknown}'; there are: {}", names.join(" "));
        return ExitCode::from(2);
    }
    let chosen = |operation: &&Operation| match wanted.is_empty() {
        true => !operation.name.ends_with("_1m"),
        false => wanted.iter().any(|name| name == operation.name),
    };
    for operation in all.iter().filter(chosen) {
        let Ok(name) = CString::new(operation.name) else { continue };
        let mut run = (operation.make)();
        run(count);
        let done = callgrind::count(&name, || run(count));
        if writeln!(std::io::stdout(), "{} {done}", operation.name).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
