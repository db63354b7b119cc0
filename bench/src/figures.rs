//! Figures of a benchmark: shown as they are taken, and kept for programs.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// Named figures.
#[derive(Debug, Default)]
pub struct Figures {
    values: BTreeMap<String, f64>,
}

impl Figures {
    /// Keeps a figure and shows it.
    pub fn note(&mut self, name: &str, value: f64, unit: &str) {
        let shown = if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        say(&format!("  {name:<34} {shown:>12} {unit}"));
        self.keep(name, value);
    }

    /// Keeps a figure that is shown otherwise.
    pub fn keep(&mut self, name: &str, value: f64) {
        self.values.insert(name.to_owned(), value);
    }

    /// Writes all of them, as one flat JSON object.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&self.values)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// One line on standard output, at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who reads a pipe may have gone; the figures go on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
