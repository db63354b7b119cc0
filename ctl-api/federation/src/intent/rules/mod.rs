//! What must hold over all objects of an intent; a file for each concern.
//!
//! Every rule is checked, so that all problems are found at once. Rules look at
//! the whole set: what is in files laid over what is stored.

use super::kinds::virtual_network::VirtualNetwork;
use super::kinds::{Connection, Kind};
use super::names::Name;
use super::problem::{Problem, Rule};
use super::topology::Topology;
use super::{Intent, ObjectKey};

mod addresses;
mod authority;
mod clusters;
mod layer2;
mod numbers;
mod overlap;
mod references;
mod routers;
mod traffic;

pub use authority::{Author, check_author};

/// All that is wrong with an intent.
pub fn check(intent: &Intent) -> Vec<Problem> {
    let topology = Topology::of(intent);
    let mut report = Report { problems: Vec::new() };
    references::check(intent, &mut report);
    clusters::check(intent, &mut report);
    numbers::check(intent, &mut report);
    addresses::check(intent, &mut report);
    layer2::check(intent, &mut report);
    overlap::check(intent, &topology, &mut report);
    routers::check(intent, &mut report);
    traffic::check(intent, &mut report);
    report.problems
}

/// Collects problems.
struct Report {
    problems: Vec<Problem>,
}

impl Report {
    fn add(
        &mut self,
        object: &ObjectKey,
        field: impl Into<String>,
        rule: Rule,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem::new(object, field, rule, reason, remedy));
    }
}

/// The networks that a connection joins, with their index there; those that do
/// not exist are left out.
fn connected<'a>(
    intent: &'a Intent,
    key: &ObjectKey,
    connection: &Connection,
) -> Vec<(usize, ObjectKey, &'a VirtualNetwork)> {
    connection
        .networks
        .iter()
        .enumerate()
        .filter_map(|(index, reference)| {
            let network = key.resolve(Kind::VirtualNetwork, reference);
            intent.spec(&network).map(|spec| (index, network, spec))
        })
        .collect()
}

/// The name of the cluster that an object belongs to, through its network if it
/// is an endpoint.
fn cluster_of_network<'a>(intent: &'a Intent, network: &ObjectKey) -> Option<&'a Name> {
    intent.spec::<VirtualNetwork>(network).map(|network| &network.cluster)
}

#[cfg(test)]
mod tests;
