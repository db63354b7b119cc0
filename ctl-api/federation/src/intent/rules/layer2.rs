//! Layer 2 connections: one broadcast domain over several networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Report, connected};
use crate::intent::addresses::{Mac, Prefix};
use crate::intent::kinds::connection::Layer;
use crate::intent::kinds::{Connection, Endpoint, Kind, NetworkPolicy, VirtualNetwork};
use crate::intent::problem::Rule;
use crate::intent::{Intent, ObjectKey};

pub(super) fn check(intent: &Intent, report: &mut Report) {
    let endpoints = endpoints_by_network(intent);
    for (key, connection) in layer2(intent) {
        let networks = connected(intent, key, connection);
        for (at, (index, network, spec)) in networks.iter().enumerate() {
            let Some((_, first, first_spec)) = networks.first().filter(|_| at > 0) else { continue };
            if prefixes(spec) != prefixes(first_spec) {
                let reason = format!(
                    "{network} has {}, {first} has {}: on a layer 2 connection both are one subnet",
                    listed(&prefixes(spec)),
                    listed(&prefixes(first_spec))
                );
                let field = format!("spec.networks[{index}]");
                report.add(
                    key,
                    field,
                    Rule::Layer2Subnets,
                    reason,
                    "give all of its networks the same subnets",
                );
            }
            for (_, other, other_spec) in &networks[..at] {
                pools(key, *index, (network, spec), (other, other_spec), report);
                stations(network, other, &endpoints, report);
                foreign_pools(network, (other, other_spec), &endpoints, report);
                foreign_pools(other, (network, spec), &endpoints, report);
            }
        }
    }
    policies(intent, report);
}

fn layer2(intent: &Intent) -> impl Iterator<Item = (&ObjectKey, &Connection)> {
    intent.all::<Connection>().filter(|(_, connection)| connection.layer == Layer::L2)
}

/// The pairs of networks that a layer 2 connection joins, in both orders.
pub(super) fn joined(intent: &Intent) -> BTreeSet<(ObjectKey, ObjectKey)> {
    let mut pairs = BTreeSet::new();
    for (key, connection) in layer2(intent) {
        let networks = connected(intent, key, connection);
        for (_, a, _) in &networks {
            let others = networks.iter().filter(|(_, b, _)| a != b);
            pairs.extend(others.map(|(_, b, _)| (a.clone(), b.clone())));
        }
    }
    pairs
}

fn prefixes(network: &VirtualNetwork) -> BTreeSet<Prefix> {
    network.subnets.iter().map(|subnet| subnet.prefix).collect()
}

fn listed(prefixes: &BTreeSet<Prefix>) -> String {
    if prefixes.is_empty() {
        return "no subnet".to_owned();
    }
    prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn pools(
    key: &ObjectKey,
    index: usize,
    (network, spec): (&ObjectKey, &VirtualNetwork),
    (other, other_spec): (&ObjectKey, &VirtualNetwork),
    report: &mut Report,
) {
    let field = format!("spec.networks[{index}]");
    for subnet in &spec.subnets {
        let Some(theirs) = other_spec.subnets.iter().find(|theirs| theirs.prefix == subnet.prefix) else {
            continue;
        };
        let prefix = subnet.prefix;
        if let Some((without, _)) =
            [(network, subnet), (other, theirs)].into_iter().find(|(_, subnet)| subnet.pools.is_empty())
        {
            let reason =
                format!("{without} has no pool in {prefix}: it would give out the others' addresses");
            report.add(key, field.clone(), Rule::Layer2Pools, reason, "give the subnet pools that are apart");
            continue;
        }
        for pool in &subnet.pools {
            if let Some(overlap) = theirs.pools.iter().find(|theirs| theirs.overlaps(pool)) {
                let reason = format!("pool {pool} of {network} overlaps pool {overlap} of {other}");
                report.add(key, field.clone(), Rule::Layer2Pools, reason, "use pools that are apart");
            }
        }
    }
}

type Endpoints<'a> = BTreeMap<ObjectKey, Vec<(&'a ObjectKey, &'a Endpoint)>>;

fn endpoints_by_network(intent: &Intent) -> Endpoints<'_> {
    let mut endpoints: Endpoints<'_> = BTreeMap::new();
    for (key, endpoint) in intent.all::<Endpoint>() {
        let network = key.resolve(Kind::VirtualNetwork, &endpoint.network);
        endpoints.entry(network).or_default().push((key, endpoint));
    }
    endpoints
}

/// Addresses and MACs are one station's in the whole broadcast domain.
fn stations(network: &ObjectKey, other: &ObjectKey, endpoints: &Endpoints<'_>, report: &mut Report) {
    let of = |network: &ObjectKey| endpoints.get(network).map_or(&[][..], Vec::as_slice);
    let mut addresses: BTreeMap<&IpAddr, &ObjectKey> = BTreeMap::new();
    let mut macs: BTreeMap<Mac, &ObjectKey> = BTreeMap::new();
    for (key, endpoint) in of(other) {
        addresses.extend(endpoint.addresses.iter().map(|address| (address, *key)));
        macs.extend(endpoint.mac.map(|mac| (mac, *key)));
    }
    for (key, endpoint) in of(network) {
        for (index, address) in endpoint.addresses.iter().enumerate() {
            if let Some(first) = addresses.get(address) {
                let reason = format!("{address} is {first}'s address, on the same layer 2 connection");
                report.add(key, format!("spec.addresses[{index}]"), Rule::Address, reason, "use another one");
            }
        }
        if let Some((mac, first)) = endpoint.mac.and_then(|mac| Some((mac, macs.get(&mac)?))) {
            let reason = format!("{mac} is {first}'s MAC, on the same layer 2 connection");
            report.add(key, "spec.mac", Rule::DuplicateMac, reason, "use another one");
        }
    }
}

/// An address from another network's pool is one that this network may give to
/// somebody else at any time.
fn foreign_pools(
    network: &ObjectKey,
    (other, other_spec): (&ObjectKey, &VirtualNetwork),
    endpoints: &Endpoints<'_>,
    report: &mut Report,
) {
    let pools = || other_spec.subnets.iter().flat_map(|subnet| &subnet.pools);
    for (key, endpoint) in endpoints.get(network).into_iter().flatten() {
        for (index, address) in endpoint.addresses.iter().enumerate() {
            if let Some(pool) = pools().find(|pool| pool.contains(*address)) {
                let reason =
                    format!("{address} is in pool {pool} of {other}, on the same layer 2 connection");
                let field = format!("spec.addresses[{index}]");
                report.add(
                    key,
                    field,
                    Rule::Layer2Pools,
                    reason,
                    "use an address outside of the others' pools",
                );
            }
        }
    }
}

/// Policy is for what is routed.
fn policies(intent: &Intent, report: &mut Report) {
    let joined = joined(intent);
    for (key, policy) in intent.all::<NetworkPolicy>() {
        for (index, rule) in policy.rules.iter().enumerate() {
            let from = key.resolve(Kind::VirtualNetwork, &rule.from);
            let to = key.resolve(Kind::VirtualNetwork, &rule.to);
            let field = format!("spec.rules[{index}]");
            let remedy = "use security groups, which hold inside a network too";
            if from == to {
                let reason = format!("policy is for what passes between networks, not inside {from}");
                report.add(key, field, Rule::Layer2Policy, reason, remedy);
            } else if joined.contains(&(from.clone(), to.clone())) {
                let reason = format!("{from} and {to} are one layer 2 network: policy does not apply there");
                report.add(key, field, Rule::Layer2Policy, reason, remedy);
            }
        }
    }
}
