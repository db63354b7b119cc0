//! What is logged, as an operator writes it: a level, or levels by module.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// The levels, from the most severe.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    text: String,
    problem: String,
    place: Option<&'static str>,
}

impl FilterError {
    /// Names the environment variable that the text came from.
    #[must_use]
    pub fn in_variable(self, variable: &'static str) -> Self {
        Self { place: Some(variable), ..self }
    }
}

impl std::fmt::Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { text, problem, place } = self;
        if let Some(place) = place {
            write!(f, "{place}: ")?;
        }
        write!(
            f,
            "{text:?} is no log filter ({problem}): use one of {}, or with modules, as in \"info,tieline=debug\"",
            LEVELS.join(", ")
        )
    }
}

impl std::error::Error for FilterError {}

/// What is logged.
///
/// A word that is no level would be taken for a module, whose lines would be
/// all there are: `warning` would silence errors. Such a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    pub(crate) fn to_layer(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let error = |problem: String| FilterError { text: text.to_owned(), problem, place: None };
        let words: Vec<_> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        if let Some(word) = words.iter().find(|word| !word.contains(['=', '[']) && !is_level(word)) {
            return Err(error(format!("{word:?} is no level")));
        }
        if words.is_empty() {
            return Err(error("it is empty".to_owned()));
        }
        let plain = words.join(",");
        match EnvFilter::try_new(&plain) {
            Ok(_) => Ok(Self(plain)),
            Err(reason) => Err(error(reason.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_taken() {
        for text in ["info", "WARN", "off", "info,tieline=debug", " warn , tieline::gateway=trace"] {
            assert!(text.parse::<Filter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn words_that_would_silence_everything_are_refused() {
        for text in ["warning", "inof", "information", "tieline", "info,tieline", "", " , ", "tieline=loud"] {
            let error = text.parse::<Filter>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("error, warn, info"), "{error}");
        }
        let error = "warning".parse::<Filter>().expect_err("no level").in_variable("RUST_LOG").to_string();
        assert!(
            error.starts_with("RUST_LOG: \"warning\" is no log filter (\"warning\" is no level)"),
            "{error}"
        );
    }
}
