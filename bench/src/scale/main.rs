//! How the control API scales: routes a second, latency, restart, many
//! controllers, many watchers. Starts the daemon itself, and drives it as a
//! controller does.

mod cases;
mod forwarding;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use tieline_bench::figures::{Figures, say};

/// How the control API scales.
#[derive(Debug, Parser)]
struct Args {
    /// The daemon's binary.
    #[arg(long)]
    daemon: PathBuf,
    /// Routes of the large cases.
    #[arg(long, default_value_t = 1_000_000)]
    routes: u32,
    /// Only these cases.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Writes all figures into this file, as one flat JSON object.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut figures = Figures::default();
    for (name, about) in cases::ALL {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        say(&format!("{name}: {about}"));
        runtime
            .block_on(cases::run(name, &args.daemon, args.routes, &mut figures))
            .with_context(|| format!("case {name}"))?;
    }
    if let Some(path) = args.json {
        figures.write(&path)?;
    }
    Ok(())
}
