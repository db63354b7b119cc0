//! What fuzzing has kept: a file of text for each target, an input a line, in
//! hexadecimal digits. So a change to it can be read and merged. Empty lines
//! and lines that begin with `#` say something about the inputs.
//!
//! `corpus/TARGET.hex` is written by `scripts/fuzz --keep`; it has as few inputs as
//! reach everything that was reached. `findings/TARGET.hex` is written by hand; it has
//! inputs that found a bug once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The folders with kept inputs.
pub const FOLDERS: [&str; 2] = ["corpus", "findings"];

/// The file for a target in one of [`FOLDERS`].
pub fn file(folder: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{target}.hex"))
}

/// Reads a file of inputs. A target that nothing was kept for has no file.
///
/// # Errors
/// A sentence that names the file, if it cannot be read or a line is no input.
pub fn read(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    parse(&text).map_err(|line| format!("{}, line {line}: not pairs of hexadecimal digits", file.display()))
}

/// The inputs in a file's text, or the number of the line that is none.
fn parse(text: &str) -> Result<Vec<Vec<u8>>, usize> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| bytes(line).ok_or(at + 1))
        .collect()
}

fn bytes(line: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = line.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

/// The text of a file of inputs: short ones first, so that the same inputs make
/// the same text.
pub fn write(mut inputs: Vec<Vec<u8>>) -> String {
    inputs.retain(|input| !input.is_empty());
    inputs.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    inputs.dedup();
    let mut text = String::new();
    for input in inputs {
        for byte in input {
            // Memory takes everything.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inputs = vec![vec![0x45, 0], vec![], vec![0xff], vec![0x45, 0], vec![0x0a; 300]];
        let text = write(inputs);
        assert!(text.starts_with("ff\n4500\n0a0a"), "{text}");
        assert_eq!(parse(&text), Ok(vec![vec![0xff], vec![0x45, 0], vec![0x0a; 300]]));
    }

    #[test]
    fn comments_are_no_inputs_and_other_text_is_refused() {
        assert_eq!(parse("# found a bug\n\n  4500 \n"), Ok(vec![vec![0x45, 0]]));
        for wrong in ["00\n450\n", "00\n4g\n", "00\n45 00\n", "00\n+4\n", "00\né\n"] {
            assert_eq!(parse(wrong), Err(2), "{wrong}");
        }
    }
}
