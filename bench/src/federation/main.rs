//! How well the federation scales: routes of a far cluster until every VRF
//! that imports them forwards by them, one route's latency, the controller's
//! memory; and whole networks of clusters, simulated.
//!
//! - `cases`: what is measured with the real programs
//! - `near`: the cluster under measurement: a gateway and its controller
//! - `far`: the far cluster: a BGP speaker; `routes`: what it announces
//! - `network`: speakers without sockets and clock; `simulation`: what is
//!   measured in such networks

mod cases;
mod far;
mod near;
mod network;
mod routes;
mod simulation;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use tieline_bench::figures::{Figures, say};

/// How well the federation scales.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// The gateway's binary.
    #[arg(long)]
    daemon: PathBuf,
    /// The controller's binary.
    #[arg(long)]
    controller: PathBuf,
    /// Routes of the large cases.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    routes: u32,
    /// Most clusters of the simulation.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(5..=200))]
    clusters: u8,
    /// Only these cases.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Writes all figures into this file, as one flat JSON object.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let names: Vec<&str> = cases::ALL.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = args.only.iter().find(|only| !names.contains(&only.as_str())) {
        anyhow::bail!("--only {unknown}: there is no such case; the cases are {}", names.join(", "));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut figures = Figures::default();
    for (name, about) in cases::ALL {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        say(&format!("{name}: {about}"));
        runtime.block_on(cases::run(name, &args, &mut figures)).with_context(|| format!("case {name}"))?;
    }
    if let Some(path) = args.json {
        figures.write(&path)?;
    }
    Ok(())
}
