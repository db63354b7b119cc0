//! Attributes of VPN routes, kept once however many routes share them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::Arc;

use prost::Message as _;
use tieline_proto::v1;

/// Sets that are kept before unused ones are looked for.
const LEAST_SWEEP: usize = 1024;

/// Shared attributes, encoded: a third of the size of the message in memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Attributes(Arc<Box<[u8]>>);

impl Attributes {
    /// Them as a message, without route distinguisher and prefix.
    pub fn route(&self) -> v1::Route {
        // What was encoded here can be decoded; nothing else comes in.
        v1::Route::decode(&self.0[..]).unwrap_or_default()
    }

    /// Size of the message in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl Borrow<[u8]> for Attributes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// All attributes that routes have.
#[derive(Debug, Default)]
pub(super) struct AttributeSets {
    sets: HashSet<Attributes>,
    /// Sets in use when unused ones were last removed.
    used: usize,
}

impl AttributeSets {
    /// The set with these attributes, whatever the order of its route targets
    /// and security groups: it has no meaning.
    pub fn intern(&mut self, attributes: &v1::Route) -> Attributes {
        let mut route = attributes.clone();
        route.rd.clear();
        route.prefix.clear();
        route.route_targets.sort_unstable();
        route.route_targets.dedup();
        route.security_groups.sort_unstable();
        route.security_groups.dedup();
        let bytes = route.encode_to_vec();
        if let Some(known) = self.sets.get(bytes.as_slice()) {
            return known.clone();
        }
        self.sweep();
        let set = Attributes(Arc::new(bytes.into_boxed_slice()));
        self.sets.insert(set.clone());
        set
    }

    /// Removes what no route has any more, now and then: as often as the number
    /// of sets has doubled.
    fn sweep(&mut self) {
        if self.sets.len() >= LEAST_SWEEP.max(2 * self.used) {
            self.sets.retain(|set| Arc::strong_count(&set.0) > 1);
            self.sets.shrink_to(2 * self.sets.len());
            self.used = self.sets.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(targets: &[&str], label: u32) -> v1::Route {
        let route_targets = targets.iter().map(|&target| target.to_owned()).collect();
        v1::Route { route_targets, label, ..Default::default() }
    }

    #[test]
    fn the_same_attributes_are_kept_once() {
        let mut sets = AttributeSets::default();
        let one = sets.intern(&route(&["1:1", "1:2"], 16));
        let mut other = route(&["1:2", "1:1", "1:2"], 16);
        other.prefix = "10.0.0.0/8".to_owned();
        assert!(Arc::ptr_eq(&one.0, &sets.intern(&other).0));
        assert_ne!(one, sets.intern(&route(&["1:1", "1:2"], 17)));
        assert_eq!(one.route(), route(&["1:1", "1:2"], 16));
    }

    #[test]
    fn attributes_that_come_and_go_take_no_memory() {
        let mut sets = AttributeSets::default();
        let kept = sets.intern(&route(&["1:1"], 1 << 19));
        for label in 0..20_000 {
            sets.intern(&route(&["1:1"], label));
        }
        assert!(sets.sets.len() <= LEAST_SWEEP, "{}", sets.sets.len());
        assert!(Arc::ptr_eq(&kept.0, &sets.intern(&route(&["1:1"], 1 << 19)).0));
    }
}
