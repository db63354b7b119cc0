//! The Tieline daemon, as a program.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tieline_daemon::Args;

fn main() -> ExitCode {
    match tieline_daemon::run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tieline: {error:#}");
            ExitCode::FAILURE
        }
    }
}
