//! Subnets, pools and addresses of a network fit each other; MACs and places
//! at gateways have one holder.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Report;
use crate::intent::kinds::virtual_network::Subnet;
use crate::intent::kinds::{Endpoint, Kind, VirtualNetwork};
use crate::intent::problem::Rule;
use crate::intent::{Intent, ObjectKey};

pub(super) fn check(intent: &Intent, report: &mut Report) {
    for (key, network) in intent.all::<VirtualNetwork>() {
        for (index, subnet) in network.subnets.iter().enumerate() {
            check_subnet(key, index, subnet, report);
            let before = network.subnets.iter().take(index);
            if let Some(other) = before.map(|other| other.prefix).find(|other| other.overlaps(subnet.prefix))
            {
                let reason = format!("{} overlaps {other} of the same network", subnet.prefix);
                let field = format!("spec.subnets[{index}].prefix");
                report.add(key, field, Rule::SubnetOverlap, reason, "use one of the two");
            }
        }
    }
    endpoints(intent, report);
}

fn check_subnet(key: &ObjectKey, index: usize, subnet: &Subnet, report: &mut Report) {
    let net = subnet.prefix.net();
    if let Some(gateway) = subnet.gateway.filter(|gateway| !net.contains(gateway)) {
        let reason = format!("{gateway} is not in {net}");
        let field = format!("spec.subnets[{index}].gateway");
        report.add(key, field, Rule::Subnet, reason, "use an address of the subnet, or leave it out");
    }
    for (at, pool) in subnet.pools.iter().enumerate() {
        let field = format!("spec.subnets[{index}].pools[{at}]");
        if !net.contains(&pool.first) || !net.contains(&pool.last) || pool.first > pool.last {
            let reason = format!("{pool} is not a part of {net}");
            report.add(
                key,
                field,
                Rule::Subnet,
                reason,
                "use two addresses of the subnet, the smaller one first",
            );
        } else if let Some(other) = subnet.pools.iter().take(at).find(|other| other.overlaps(pool)) {
            let reason = format!("{pool} overlaps {other}");
            report.add(key, field, Rule::Subnet, reason, "use pools that are apart");
        }
    }
}

fn endpoints(intent: &Intent, report: &mut Report) {
    let mut addresses: BTreeMap<(ObjectKey, IpAddr), &ObjectKey> = BTreeMap::new();
    let mut macs = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (key, endpoint) in intent.all::<Endpoint>() {
        let network = key.resolve(Kind::VirtualNetwork, &endpoint.network);
        if endpoint.addresses.is_empty() {
            let reason = "an endpoint without an address cannot be reached";
            report.add(key, "spec.addresses", Rule::Address, reason, "give it one at least");
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let field = format!("spec.addresses[{index}]");
            if let Some(spec) = intent.spec::<VirtualNetwork>(&network) {
                check_address(key, &field, &network, spec, *address, report);
            }
            if let Some(first) = addresses.insert((network.clone(), *address), key) {
                let reason = format!("{address} is {first}'s address in {network}");
                report.add(key, field, Rule::Address, reason, "use another one");
            }
        }
        if let Some(mac) = endpoint.mac
            && let Some(first) = macs.insert((network.clone(), mac), key)
        {
            let reason = format!("{mac} is {first}'s MAC in {network}");
            report.add(key, "spec.mac", Rule::DuplicateMac, reason, "use another one");
        }
        check_attachment(key, endpoint, report);
        if let Some(first) = places.insert((&endpoint.gateway, &endpoint.interface), key) {
            let reason = format!("{first} is at this port and VLAN of gateway {}", endpoint.gateway);
            report.add(key, "spec.interface", Rule::Attachment, reason, "use another VLAN or port");
        }
    }
}

fn check_address(
    key: &ObjectKey,
    field: &str,
    network: &ObjectKey,
    spec: &VirtualNetwork,
    address: IpAddr,
    report: &mut Report,
) {
    // Every address of a subnet can be a host's, the first one too.
    match spec.subnets.iter().find(|subnet| subnet.prefix.net().contains(&address)) {
        None => {
            let subnets: Vec<String> = spec.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
            let reason = format!("{address} is in no subnet of {network}");
            let remedy = if subnets.is_empty() {
                "the network has none: add one".to_owned()
            } else {
                format!("use an address of {}", subnets.join(", "))
            };
            report.add(key, field, Rule::Address, reason, remedy);
        }
        Some(subnet) if subnet.gateway() == address && subnet.prefix.net().addr() != address => {
            let reason = format!("{address} is the subnet's default gateway");
            report.add(
                key,
                field,
                Rule::Address,
                reason,
                "use another one, or give the subnet another gateway",
            );
        }
        Some(_) => {}
    }
}

fn check_attachment(key: &ObjectKey, endpoint: &Endpoint, report: &mut Report) {
    if endpoint.interface.inner_vlan.is_some() && endpoint.interface.vlan.is_none() {
        let reason = "an inner VLAN needs an outer one";
        report.add(key, "spec.interface.innerVlan", Rule::Attachment, reason, "give vlan too");
    }
}
