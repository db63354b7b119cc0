//! Controllers and gateways of a cluster can be reached, each at its own place.

use std::collections::BTreeMap;

use super::Report;
use crate::intent::kinds::Cluster;
use crate::intent::kinds::cluster::Gateway;
use crate::intent::problem::Rule;
use crate::intent::{Intent, ObjectKey};

pub(super) fn check(intent: &Intent, report: &mut Report) {
    for (key, cluster) in intent.all::<Cluster>() {
        let mut tunnels = BTreeMap::new();
        for (index, gateway) in cluster.gateways.iter().enumerate() {
            endpoint(key, index, gateway, report);
            for (at, address) in gateway.tunnel_addresses.iter().enumerate() {
                // Another cluster may use it too (C16): route distinguishers keep them apart.
                if let Some(first) = tunnels.insert(address, &gateway.name) {
                    let reason = format!("{address} is gateway {first}'s tunnel address");
                    let field = format!("spec.gateways[{index}].tunnelAddresses[{at}]");
                    report.add(key, field, Rule::Address, reason, "give each gateway its own");
                }
            }
        }
        let mut controllers = BTreeMap::new();
        let mut identifiers = BTreeMap::new();
        for (index, controller) in cluster.controllers.iter().enumerate() {
            if let Some(first) = controllers.insert(controller.address, &controller.name) {
                let reason = format!("{} is controller {first}'s address", controller.address);
                let field = format!("spec.controllers[{index}].address");
                report.add(key, field, Rule::Address, reason, "give each controller its own");
            } else if let Some(first) = identifiers.insert(controller.router_id(), &controller.name) {
                let reason = format!("{} is controller {first}'s BGP identifier", controller.router_id());
                let field = format!("spec.controllers[{index}].routerId");
                report.add(key, field, Rule::RouterId, reason, "give each controller one of its own");
            }
        }
    }
}

fn endpoint(key: &ObjectKey, index: usize, gateway: &Gateway, report: &mut Report) {
    let at = |field: &str| format!("spec.gateways[{index}].{field}");
    let path = gateway.endpoint.strip_prefix("unix:");
    let secure = gateway.endpoint.strip_prefix("https://");
    if path.or(secure).is_none_or(str::is_empty) {
        let reason =
            format!("{} is not where a gateway listens", super::super::names::quoted(&gateway.endpoint));
        let remedy = "write unix:PATH or https://HOST:PORT";
        report.add(key, at("endpoint"), Rule::Endpoint, reason, remedy);
    } else if secure.is_some() && gateway.tls.is_none() {
        let reason = "a gateway asks for a certificate over https";
        report.add(key, at("tls"), Rule::Endpoint, reason, "give tls with ca, certificate and key");
    } else if path.is_some() && gateway.tls.is_some() {
        let reason = "a unix socket has no TLS";
        report.add(key, at("tls"), Rule::Endpoint, reason, "leave it out");
    }
}
