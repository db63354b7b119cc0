//! `tieline-federation`, the reference controller's program.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cli`] | the command line: commands, arguments, help |
//! | [`commands`] | what they do |
//! | [`observe`] | what those do that look into a running controller |
//! | [`backend`] | where the intent is: a controller, a store in a file, etcd |
//! | [`config`] | the configuration of the API that a controller serves |
//! | [`render`] | answers as text: pure functions |
//! | [`serve`] | the controller that runs |
//! | [`error`] | errors and the exit codes they end in |

mod backend;
mod cli;
mod commands;
mod config;
mod error;
mod observe;
mod render;
mod serve;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Wrong usage ends in clap with exit code 2, help and version with 0.
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tieline-federation: cannot start its event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = match runtime.block_on(commands::run(cli)) {
        Ok(exit) => exit,
        // The reader of our output went away, as `head` does: nothing is wrong.
        Err(error) if error.is_broken_pipe() => error::Exit::Success,
        Err(error) => {
            eprintln!("tieline-federation: {error}");
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}
