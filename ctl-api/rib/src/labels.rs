//! Labels that the gateway gives to VRFs which state none and originate
//! something: the same for as long as the VRF is declared, over restarts too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use tieline_engine::types::Label;

use tieline_names::Name;

/// Allocated labels by VRF.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    range: RangeInclusive<u32>,
    by_vrf: BTreeMap<Name, Label>,
    taken: BTreeSet<u32>,
}

impl Labels {
    /// None yet, from this range.
    pub fn new(range: RangeInclusive<u32>) -> Self {
        Self { range, by_vrf: BTreeMap::new(), taken: BTreeSet::new() }
    }

    pub fn of(&self, vrf: &str) -> Option<Label> {
        self.by_vrf.get(vrf).copied()
    }

    /// The VRF's label: the one that it has, or the lowest that is free here and
    /// of which `is_free` says the same; and whether it is new. `None` when there
    /// is none left.
    pub fn allocate(&mut self, vrf: &Name, is_free: impl Fn(Label) -> bool) -> Option<(Label, bool)> {
        if let Some(label) = self.of(vrf.as_str()) {
            return Some((label, false));
        }
        let mut taken = self.taken.range(self.range.clone()).copied().peekable();
        let free = self.range.clone().find_map(|value| {
            if taken.next_if_eq(&value).is_some() {
                return None;
            }
            Label::new(value).filter(|label| is_free(*label))
        })?;
        self.set(vrf, free);
        Some((free, true))
    }

    /// Gives a VRF the label that it had. False if another has it.
    pub fn restore(&mut self, vrf: &Name, label: Label) -> bool {
        let is_free = !self.taken.contains(&label.value()) && !self.by_vrf.contains_key(vrf);
        if is_free {
            self.set(vrf, label);
        }
        is_free
    }

    fn set(&mut self, vrf: &Name, label: Label) {
        self.by_vrf.insert(vrf.clone(), label);
        self.taken.insert(label.value());
    }

    /// Takes a VRF's label back; true if it had one.
    pub fn release(&mut self, vrf: &str) -> bool {
        let Some(label) = self.by_vrf.remove(vrf) else { return false };
        self.taken.remove(&label.value())
    }

    /// All of them, in the order of the VRFs' names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Label)> {
        self.by_vrf.iter().map(|(vrf, label)| (vrf, *label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn the_lowest_free_label_is_given_and_kept() {
        let mut labels = Labels::new(100..=103);
        let free = |label: Label| label.value() != 101;
        let give = |labels: &mut Labels, vrf: &str| {
            labels.allocate(&name(vrf), free).map(|(label, is_new)| (label.value(), is_new))
        };
        assert_eq!(give(&mut labels, "a"), Some((100, true)));
        assert_eq!(give(&mut labels, "a"), Some((100, false)));
        assert!(!labels.restore(&name("b"), Label::new(100).expect("a label")));
        assert!(labels.restore(&name("b"), Label::new(102).expect("a label")));
        assert_eq!(give(&mut labels, "c"), Some((103, true)));
        assert_eq!(give(&mut labels, "d"), None, "101 is somebody else's");
        assert!(labels.release("a") && !labels.release("a"));
        assert_eq!(give(&mut labels, "d"), Some((100, true)));
    }
}
