//! `tlctl`, the operator's command line of Tieline.
//!
//! | module | what is in it |
//! |---|---|
//! | [`cli`] | the command line: commands, arguments, help |
//! | [`error`] | errors and the exit codes they end in |
//! | [`client`] | the daemon's address and the connection to it |
//! | [`tls`] | TLS to a daemon, and what can be wrong with it |
//! | [`kind`] | kinds of objects and the keys that name them |
//! | [`friendly`] | objects as people write them in YAML and JSON |
//! | [`program`] | declaring and withdrawing in one session |
//! | [`commands`] | one file for each group of commands |
//! | [`render`] | replies as text: pure functions |

mod cli;
mod client;
mod commands;
mod error;
mod friendly;
mod kind;
mod output;
mod program;
mod render;
mod tls;

use std::process::ExitCode;

use clap::Parser;

use crate::error::Exit;

fn main() -> ExitCode {
    // Wrong usage ends in clap with exit code 2, help and version with 0.
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tlctl: cannot start its event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = match runtime.block_on(commands::run(cli)) {
        Ok(exit) => exit,
        // The reader of our output went away, as `head` does: nothing is wrong.
        Err(error) if error.is_broken_pipe() => Exit::Success,
        Err(error) => {
            eprintln!("tlctl: {error}");
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}
