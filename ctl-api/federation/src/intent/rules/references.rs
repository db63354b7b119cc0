//! What an object names is there, and of the same cluster.

use super::{Report, cluster_of_network};
use crate::intent::kinds::{
    Cluster, Connection, Endpoint, Kind, NetworkPolicy, Peer, SecurityGroup, Site, VirtualNetwork,
    VirtualNetworkRouter,
};
use crate::intent::names::{Name, Reference};
use crate::intent::problem::Rule;
use crate::intent::{Intent, ObjectKey};

pub(super) fn check(intent: &Intent, report: &mut Report) {
    let mut check = Check { intent, report };
    intent.all::<Site>().for_each(|(key, site)| check.site(key, site));
    intent.all::<Peer>().for_each(|(key, peer)| check.peer(key, peer));
    intent.all::<VirtualNetwork>().for_each(|(key, network)| check.cluster(key, &network.cluster));
    intent.all::<Connection>().for_each(|(key, connection)| check.connection(key, connection));
    intent.all::<VirtualNetworkRouter>().for_each(|(key, router)| check.router(key, router));
    intent.all::<SecurityGroup>().for_each(|(key, group)| check.group(key, group));
    intent.all::<NetworkPolicy>().for_each(|(key, policy)| check.policy(key, policy));
    intent.all::<Endpoint>().for_each(|(key, endpoint)| check.endpoint(key, endpoint));
}

struct Check<'a> {
    intent: &'a Intent,
    report: &'a mut Report,
}

impl Check<'_> {
    fn missing(&mut self, key: &ObjectKey, field: String, what: &ObjectKey) {
        self.report.add(
            key,
            field,
            Rule::Reference,
            format!("there is no {what}"),
            "declare it, or name another",
        );
    }

    fn cluster(&mut self, key: &ObjectKey, name: &Name) {
        if self.intent.cluster(name).is_none() {
            self.missing(key, "spec.cluster".to_owned(), &ObjectKey::global(Kind::Cluster, name));
        }
    }

    /// A gateway of a cluster that exists.
    fn gateway(&mut self, key: &ObjectKey, field: String, cluster: &Name, gateway: &Name) {
        let Some(spec) = self.intent.cluster(cluster) else { return };
        if !spec.gateways.iter().any(|one| one.name == *gateway) {
            let reason = format!("cluster {cluster} has no gateway {gateway}");
            self.report.add(key, field, Rule::Reference, reason, known_gateways(spec));
        }
    }

    fn site(&mut self, key: &ObjectKey, site: &Site) {
        self.cluster(key, &site.cluster);
        for (index, gateway) in site.gateways.iter().enumerate() {
            let field = format!("spec.gateways[{index}]");
            self.gateway(key, field.clone(), &site.cluster, gateway);
            let other = self
                .intent
                .all::<Site>()
                .find(|(other, spec)| *other < key && spec.gateways.contains(gateway));
            if let Some((other, _)) = other {
                let reason = format!("gateway {gateway} is at {other} already");
                self.report.add(key, field, Rule::DuplicateGateway, reason, "a gateway is at one site");
            }
        }
    }

    fn peer(&mut self, key: &ObjectKey, peer: &Peer) {
        self.cluster(key, &peer.cluster);
        let Some(cluster) = self.intent.cluster(&peer.cluster) else { return };
        for (index, name) in peer.controllers.iter().enumerate() {
            if !cluster.controllers.iter().any(|controller| controller.name == *name) {
                let reason = format!("cluster {} has no controller {name}", peer.cluster);
                let field = format!("spec.controllers[{index}]");
                self.report.add(
                    key,
                    field,
                    Rule::Reference,
                    reason,
                    "add it to the cluster, or name another",
                );
            }
        }
    }

    /// A network that exists, and that this object's namespace may connect.
    fn network(&mut self, key: &ObjectKey, field: String, reference: &Reference) -> Option<ObjectKey> {
        let network = key.resolve(Kind::VirtualNetwork, reference);
        let Some(spec) = self.intent.spec::<VirtualNetwork>(&network) else {
            self.missing(key, field, &network);
            return None;
        };
        if spec.isolated && network.namespace != key.namespace {
            let reason = format!("{network} is isolated: only objects of its own namespace may connect it");
            let remedy = "move this object there, or make the network not isolated";
            self.report.add(key, field, Rule::Isolation, reason, remedy);
        }
        Some(network)
    }

    fn connection(&mut self, key: &ObjectKey, connection: &Connection) {
        if connection.networks.is_empty() {
            let reason = "a connection without networks connects nothing";
            self.report.add(key, "spec.networks", Rule::Reference, reason, "name one network at least");
        }
        let mut seen = Vec::new();
        for (index, reference) in connection.networks.iter().enumerate() {
            let field = format!("spec.networks[{index}]");
            let Some(network) = self.network(key, field.clone(), reference) else { continue };
            if seen.contains(&network) {
                self.report.add(
                    key,
                    field,
                    Rule::Reference,
                    format!("{network} is named twice"),
                    "name it once",
                );
            }
            seen.push(network);
        }
    }

    fn router(&mut self, key: &ObjectKey, router: &VirtualNetworkRouter) {
        self.cluster(key, &router.cluster);
        let Some(mesh) = &router.mesh else { return };
        for (index, reference) in mesh.import.iter().enumerate() {
            let field = format!("spec.mesh.import[{index}]");
            let other = key.resolve(Kind::VirtualNetworkRouter, reference);
            let Some(spec) = self.intent.spec::<VirtualNetworkRouter>(&other) else {
                self.missing(key, field, &other);
                continue;
            };
            let reason = if other == *key {
                "a router knows its own networks already".to_owned()
            } else if spec.cluster != router.cluster {
                format!("{other} is of cluster {}, not {}", spec.cluster, router.cluster)
            } else if spec.mesh.is_none() {
                format!("{other} is not a mesh")
            } else {
                continue;
            };
            self.report.add(key, field, Rule::Reference, reason, "name another mesh router of the cluster");
        }
    }

    /// A group of a cluster.
    fn group_reference(
        &mut self,
        key: &ObjectKey,
        field: String,
        cluster: Option<&Name>,
        reference: &Reference,
    ) {
        let group = key.resolve(Kind::SecurityGroup, reference);
        match self.intent.spec::<SecurityGroup>(&group) {
            None => self.missing(key, field, &group),
            Some(spec) => {
                if let Some(cluster) = cluster.filter(|cluster| **cluster != spec.cluster) {
                    let reason = format!("{group} is of cluster {}, not {cluster}", spec.cluster);
                    let remedy = "declare a group with the same user ID in this cluster, and name that";
                    self.report.add(key, field, Rule::Reference, reason, remedy);
                }
            }
        }
    }

    fn group(&mut self, key: &ObjectKey, group: &SecurityGroup) {
        self.cluster(key, &group.cluster);
        for (direction, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
            for (index, rule) in rules.iter().enumerate() {
                if let Some(reference) = rule.remote.as_ref().and_then(|remote| remote.group.as_ref()) {
                    let field = format!("spec.{direction}[{index}].remote.group");
                    self.group_reference(key, field, Some(&group.cluster), reference);
                }
            }
        }
    }

    fn policy(&mut self, key: &ObjectKey, policy: &NetworkPolicy) {
        self.cluster(key, &policy.cluster);
        for (index, rule) in policy.rules.iter().enumerate() {
            for (end, reference) in [("from", &rule.from), ("to", &rule.to)] {
                let field = format!("spec.rules[{index}].{end}");
                let Some(network) = self.network(key, field.clone(), reference) else { continue };
                if let Some(cluster) = cluster_of_network(self.intent, &network)
                    && *cluster != policy.cluster
                {
                    let reason = format!("{network} is of cluster {cluster}, not {}", policy.cluster);
                    let remedy = "name the network of this cluster that is connected with it";
                    self.report.add(key, field, Rule::Reference, reason, remedy);
                }
            }
        }
    }

    fn endpoint(&mut self, key: &ObjectKey, endpoint: &Endpoint) {
        let network = key.resolve(Kind::VirtualNetwork, &endpoint.network);
        let cluster = cluster_of_network(self.intent, &network);
        match cluster {
            None => self.missing(key, "spec.network".to_owned(), &network),
            Some(cluster) => self.gateway(key, "spec.gateway".to_owned(), cluster, &endpoint.gateway),
        }
        for (index, reference) in endpoint.security_groups.iter().enumerate() {
            self.group_reference(key, format!("spec.securityGroups[{index}]"), cluster, reference);
        }
    }
}

fn known_gateways(cluster: &Cluster) -> String {
    let names: Vec<&str> = cluster.gateways.iter().map(|gateway| gateway.name.as_str()).collect();
    if names.is_empty() {
        "add it to the cluster".to_owned()
    } else {
        format!("add it to the cluster, or name one of {}", names.join(", "))
    }
}
