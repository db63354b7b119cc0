//! Networks that can reach each other, or that share an address plan, have
//! subnets of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, layer2};
use crate::intent::addresses::Prefix;
use crate::intent::kinds::VirtualNetwork;
use crate::intent::names::Name;
use crate::intent::problem::Rule;
use crate::intent::topology::{Target, Topology};
use crate::intent::{Intent, ObjectKey};

pub(super) fn check(intent: &Intent, topology: &Topology, report: &mut Report) {
    let mut check = Check { intent, joined: layer2::joined(intent), told: BTreeSet::new(), report };
    check.address_plans();
    check.reachable(topology);
}

struct Check<'a> {
    intent: &'a Intent,
    joined: BTreeSet<(ObjectKey, ObjectKey)>,
    /// Pairs that were reported, each once.
    told: BTreeSet<(ObjectKey, ObjectKey)>,
    report: &'a mut Report,
}

/// A subnet, and whose it is.
type Owned<'a> = (Prefix, &'a ObjectKey, usize);

impl Check<'_> {
    /// Networks of a cluster that are not isolated share an address plan.
    fn address_plans(&mut self) {
        let mut plans: BTreeMap<&Name, Vec<Owned<'_>>> = BTreeMap::new();
        for (key, network) in self.intent.all::<VirtualNetwork>().filter(|(_, network)| !network.isolated) {
            plans.entry(&network.cluster).or_default().extend(owned(key, network));
        }
        for (cluster, subnets) in plans {
            let why = format!("networks of cluster {cluster} that are not isolated share its addresses");
            self.disjoint(subnets, &why, "use another prefix, or make one of the networks isolated");
        }
    }

    /// What one network knows of must not be ambiguous.
    fn reachable(&mut self, topology: &Topology) {
        let mut exporters: BTreeMap<&Target, Vec<&ObjectKey>> = BTreeMap::new();
        for (key, place) in &topology.networks {
            place.routed.exports.iter().for_each(|target| exporters.entry(target).or_default().push(key));
        }
        let mut seen = BTreeSet::new();
        for (key, place) in &topology.networks {
            let mut known: BTreeSet<&ObjectKey> = BTreeSet::from([key]);
            known.extend(place.routed.imports.iter().filter_map(|target| exporters.get(target)).flatten());
            // All networks of a mesh know the same ones.
            if known.len() < 2 || !seen.insert(known.clone()) {
                continue;
            }
            let subnets = known
                .iter()
                .filter_map(|key| Some((*key, self.intent.spec::<VirtualNetwork>(key)?)))
                .flat_map(|(key, network)| owned(key, network))
                .collect();
            let why = format!("both are reachable from {key}");
            self.disjoint(subnets, &why, "use another prefix, or disconnect the networks");
        }
    }

    /// Reports subnets of different networks that overlap. Prefixes either are
    /// apart or one contains the other, so that in order of their first address
    /// only those still open need to be looked at.
    fn disjoint(&mut self, mut subnets: Vec<Owned<'_>>, why: &str, remedy: &str) {
        subnets.sort_by_key(|(prefix, key, index)| {
            (prefix.net().network(), prefix.net().prefix_len(), *key, *index)
        });
        let mut open: Vec<Owned<'_>> = Vec::new();
        for (prefix, key, index) in subnets {
            open.retain(|(outer, ..)| outer.overlaps(prefix));
            let other = open.iter().rev().find(|(_, other, _)| {
                *other != key && !self.joined.contains(&((*other).clone(), key.clone()))
            });
            if let Some((outer, other, other_index)) = other {
                // The one that comes later by name is told.
                let (first, later, index) = if *other < key {
                    ((*outer, *other), (prefix, key), index)
                } else {
                    ((prefix, key), (*outer, *other), *other_index)
                };
                if self.told.insert((first.1.clone(), later.1.clone())) {
                    let reason = format!("{} overlaps {} of {}: {why}", later.0, first.0, first.1);
                    self.report.add(
                        later.1,
                        format!("spec.subnets[{index}].prefix"),
                        Rule::SubnetOverlap,
                        reason,
                        remedy,
                    );
                }
            }
            open.push((prefix, key, index));
        }
    }
}

fn owned<'a>(key: &'a ObjectKey, network: &'a VirtualNetwork) -> impl Iterator<Item = Owned<'a>> {
    network.subnets.iter().enumerate().map(move |(index, subnet)| (subnet.prefix, key, index))
}
