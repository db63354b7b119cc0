//! How the control API scales: routes a second, latency, restart, many
//! controllers, many watchers. Starts the daemon itself, and drives it as a
//! controller does.

mod cases;
mod daemon;
mod forwarding;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

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

/// Named figures in the order in which they were taken.
#[derive(Debug, Default)]
pub struct Figures {
    values: BTreeMap<String, f64>,
}

impl Figures {
    /// Keeps a figure and shows it.
    pub fn note(&mut self, name: &str, value: f64, unit: &str) {
        let shown = if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        say(&format!("  {name:<34} {shown:>12} {unit}"));
        self.values.insert(name.to_owned(), value);
    }
}

/// One line on standard output, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who reads a pipe may have gone; the figures go on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
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
        let text = serde_json::to_string_pretty(&figures.values)?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
