//! The command line.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::config::{self, Config};

/// Where the configuration is looked for when none is named.
pub const DEFAULT_CONFIG: &str = "/etc/tieline/tieline.toml";

/// A userspace vRouter that joins the networks of clusters.
///
/// Runs in the foreground, logs to standard error (RUST_LOG overrides the
/// configured level) and prints one line to standard output when it is ready.
#[derive(Debug, Parser)]
#[command(name = "tieline", version)]
pub struct Args {
    /// Configuration file [default: /etc/tieline/tieline.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the control API, instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Take over from the daemon that serves the control socket: what it has
    /// declared, its sessions, its devices. Without one, start as usual
    #[arg(long)]
    pub take_over: bool,
    /// Check the configuration and exit
    #[arg(long)]
    pub check: bool,
}

impl Args {
    /// The configuration that the command line asks for.
    ///
    /// # Errors
    /// When a file cannot be read or says what cannot be.
    pub fn configuration(&self) -> anyhow::Result<Config> {
        let default = Path::new(DEFAULT_CONFIG);
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if default.exists() => Config::read(default)?,
            None => Config::default(),
        };
        if let Some(path) = &self.socket {
            config.api.socket = config::check_socket(path.clone())
                .map_err(|sentence| anyhow::anyhow!("--socket: {sentence}"))?;
        }
        Ok(config)
    }
}

/// One line on standard output.
///
/// # Errors
/// When it cannot be written.
pub fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
