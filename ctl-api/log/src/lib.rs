//! The log of Tieline's programs.
//!
//! - [`filter`]: what is logged, as an operator writes it
//! - [`limit`]: how much of it, whoever causes it
//! - [`lines`]: how it looks
//!
//! Lines go to standard error, which the service manager keeps.

pub mod filter;
pub mod limit;
pub mod lines;

use std::io::IsTerminal as _;

use filter::{Filter, FilterError};

/// The variable that overrides what is configured.
pub const VARIABLE: &str = "RUST_LOG";

/// Starts the log of this process, for `configured` or for what [`VARIABLE`]
/// says.
///
/// # Errors
/// When the variable is no filter.
pub fn start(configured: &Filter) -> Result<(), FilterError> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) => &text.parse().map_err(|error: FilterError| error.in_variable(VARIABLE))?,
        Err(_) => configured,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter.to_layer())
        .with_writer(std::io::stderr)
        // Colours are for terminals: in a file they stand in the way.
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(lines::Lines::default())
        .init();
    Ok(())
}
