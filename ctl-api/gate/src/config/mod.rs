//! The configuration of a server: a TOML file, checked once. Its errors name the
//! file, the line and the key, and say what would do.
//!
//! - [`keys`]: those that all servers have, and what they mean
//! - `locate`: where in the file something stands

pub mod keys;
mod locate;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    key: Option<String>,
    message: String,
}

impl ConfigError {
    /// The line, counted from 1, if it is about one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The key, if it is about one.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A key whose value will not do, and why.
pub type Objection = (&'static str, String);

/// Reads a file as it is written, and checks what it means.
///
/// # Errors
/// When it cannot be read, or says something that will not do.
pub fn read<F: DeserializeOwned, C>(
    path: &Path,
    check: impl FnOnce(F) -> Result<C, Objection>,
) -> Result<C, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.into(),
        line: None,
        key: None,
        message: format!("cannot be read: {error}"),
    })?;
    parse(&text, path, check)
}

/// Parses a text, and checks what it means; `path` stands in errors.
///
/// # Errors
/// When it says something that will not do.
pub fn parse<F: DeserializeOwned, C>(
    text: &str,
    path: &Path,
    check: impl FnOnce(F) -> Result<C, Objection>,
) -> Result<C, ConfigError> {
    let file: F = toml::from_str(text).map_err(|error| ConfigError {
        file: path.into(),
        line: error.span().map(|span| locate::line_of(text, span.start)),
        key: error.span().and_then(|span| locate::key_at(text, &span)),
        message: error.message().to_owned(),
    })?;
    check(file).map_err(|(key, message)| ConfigError {
        file: path.into(),
        line: locate::line_of_key(text, key),
        key: Some(key.to_owned()),
        message,
    })
}

/// The value of a key, or its default, if it lies in a range.
///
/// # Errors
/// When it does not.
pub fn within<T: Copy + PartialOrd + fmt::Display>(
    key: &'static str,
    value: Option<T>,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, Objection> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    Err((key, format!("{value} is out of range: use {} to {}", range.start(), range.end())))
}
