//! Hugepages for the engines, given back in the end.

use std::fs;

use anyhow::{Context, Result};

const NUMBER: &str = "/proc/sys/vm/nr_hugepages";
const MEMORY: &str = "/proc/meminfo";

/// Hugepages of 2 MiB that are reserved while this lives.
#[derive(Debug)]
pub struct Reserved {
    before: u64,
}

impl Reserved {
    /// Sees to it that so many are reserved. Returns the reservation and how
    /// many are free.
    pub fn new(wanted: u64) -> Result<(Self, u64)> {
        let before: u64 = fs::read_to_string(NUMBER)?
            .trim()
            .parse()
            .with_context(|| format!("{NUMBER} holds no number"))?;
        let reserved = Self { before };
        if before < wanted {
            fs::write(NUMBER, wanted.to_string())
                .with_context(|| format!("cannot reserve hugepages by {NUMBER}: the rig needs root"))?;
        }
        Ok((reserved, free(&fs::read_to_string(MEMORY)?)?))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // What is still in use stays reserved; there is nothing more to do.
        let _ = fs::write(NUMBER, self.before.to_string());
    }
}

/// Free hugepages, by the text of `/proc/meminfo`.
fn free(meminfo: &str) -> Result<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    let figure = line.and_then(|rest| rest.trim().parse().ok());
    figure.with_context(|| format!("{MEMORY} does not tell how many hugepages are free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_are_found_or_missed_loudly() {
        assert_eq!(free("MemTotal: 1 kB\nHugePages_Free:      12\n").expect("a figure"), 12);
        assert!(free("MemTotal: 1 kB\n").is_err());
    }
}
