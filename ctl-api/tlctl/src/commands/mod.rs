//! One file for each group of commands.

mod controllers;
mod daemon;
mod follow;
mod objects;
mod operations;
mod preview;
mod program;
mod stages;
mod stats;

use clap::CommandFactory;
use serde_json::Value;

use crate::cli::{Cli, Command, Format};
use crate::error::{Error, Exit};
use crate::friendly::documents;
use crate::output;

/// Runs one command to its end.
pub async fn run(cli: Cli) -> Result<Exit, Error> {
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "tlctl", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        return Ok(Exit::Success);
    }
    let target = cli.connection.target()?;
    match cli.command {
        Command::Apply(args) => program::apply(&target, &args).await,
        Command::Delete(args) => program::delete(&target, &args).await,
        Command::Diff(args) => preview::diff(&target, &args).await,
        Command::Get(args) => objects::get(&target, &args).await,
        Command::List(args) => objects::list(&target, &args).await,
        Command::Controllers(args) => controllers::controllers(&target, args.format).await,
        Command::Forget(args) => controllers::forget(&target, &args).await,
        Command::Watch(args) => follow::watch(&target, &args).await,
        Command::Exports(args) => follow::exports(&target, &args).await,
        Command::Routes(args) => operations::routes(&target, &args).await,
        Command::Sessions(args) => operations::sessions(&target, &args).await,
        Command::Neighbours(args) => operations::neighbours(&target, args.format).await,
        Command::Drops(args) => operations::drops(&target, &args).await,
        Command::Stats(args) => stats::stats(&target, &args).await,
        Command::Problems(args) => operations::problems(&target, args.format).await,
        Command::Version(args) => daemon::version(&target, args.format).await,
        Command::Wait(args) => daemon::wait(&target, &args).await,
        Command::Completion { .. } => Ok(Exit::Success),
    }
}

/// Prints one value as JSON or YAML, or the table in its place.
fn print_value(
    format: Format,
    value: impl FnOnce() -> Value,
    table: impl FnOnce() -> String,
) -> Result<Exit, Error> {
    let text = match format {
        Format::Table => table(),
        Format::Json => format!("{:#}\n", value()),
        Format::Yaml => documents::to_yaml(&[value()])?,
    };
    output::print(&text)?;
    Ok(Exit::Success)
}
