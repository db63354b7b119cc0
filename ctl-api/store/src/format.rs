//! Formats of records, and how a store of an older one becomes a newer one.
//!
//! To change what records mean: give [`CURRENT`] the next version, and add the
//! step from the one before to [`STEPS`]. A step takes each record and gives
//! out what stands for it. All steps that a store needs are taken in memory,
//! and what comes out replaces the store's content in one transaction: a
//! process that is killed meanwhile leaves the old format, whole.

use crate::changes::Changes;

/// The format that this program writes.
pub(crate) const CURRENT: Format = Format { version: 1, steps: STEPS };

/// The steps from older formats.
const STEPS: &[Step] = &[];

/// A format and the ways to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) version: u32,
    pub(crate) steps: &'static [Step],
}

/// Takes key and value of a record and gives out what stands for it. An error
/// says what is wrong with the record.
pub(crate) type Migrate = fn(&[u8], &[u8], &mut Changes) -> Result<(), String>;

/// The step from one version to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// The version that it starts from.
    pub(crate) from: u32,
    pub(crate) migrate: Migrate,
}

impl Format {
    /// The steps from `found` to this format, in order.
    ///
    /// # Errors
    /// Says which one is missing.
    pub(crate) fn way_from(&self, found: u32) -> Result<Vec<Step>, String> {
        (found..self.version)
            .map(|from| {
                let step = self.steps.iter().find(|step| step.from == from).copied();
                step.ok_or_else(|| format!("there is no way from format {from} to format {}", from + 1))
            })
            .collect()
    }
}
