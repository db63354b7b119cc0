//! AS numbers, names, route targets, group IDs, VNIs and the numbers of sites:
//! in their ranges, and each with one holder.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tieline_bgp::speaker::{BadTransport, Transport};

use super::{Report, connected};
use crate::exchange::contracts::{bgp_family, carries};
use crate::intent::kinds::peer::{BGP_PORT, Secret};
use crate::intent::kinds::site::{FIRST_LISTENER_PORT, FIRST_ROUTE_TARGET_NUMBER, ROUTE_TARGET_STEP};
use crate::intent::kinds::{Cluster, Connection, Peer, SecurityGroup, Site, VirtualNetwork};
use crate::intent::problem::Rule;
use crate::intent::{Intent, ObjectKey};
use crate::numbers::{Asn, RouteTarget, RouteTargetRange, USER_SECURITY_GROUPS};
use crate::routes::check_prefix;

pub(super) fn check(intent: &Intent, report: &mut Report) {
    clusters(intent, report);
    peers(intent, report);
    route_targets(intent, report);
    connections(intent, report);
    security_groups(intent, report);
    vnis(intent, report);
    sites(intent, report);
}

/// Who has a number first; the others are told.
struct Holders<K> {
    first: BTreeMap<K, ObjectKey>,
}

impl<K: Ord> Holders<K> {
    fn new() -> Self {
        Self { first: BTreeMap::new() }
    }

    /// The one who has it already, if there is one.
    fn claim(&mut self, what: K, who: &ObjectKey) -> Option<&ObjectKey> {
        match self.first.entry(what) {
            Entry::Vacant(vacant) => {
                vacant.insert(who.clone());
                None
            }
            Entry::Occupied(occupied) => Some(occupied.into_mut()),
        }
    }
}

fn clusters(intent: &Intent, report: &mut Report) {
    let mut asns = Holders::new();
    let mut gateways = Holders::new();
    for (key, cluster) in intent.all::<Cluster>() {
        if let Some(first) = asns.claim(cluster.asn, key) {
            let reason = format!(
                "AS number {} is {first}'s: the two would discard each other's routes as loops (RFC 4271 section 9.1.2)",
                cluster.asn
            );
            report.add(
                key,
                "spec.asn",
                Rule::DuplicateAsn,
                reason,
                "give each cluster an AS number of its own",
            );
        }
        for (index, gateway) in cluster.gateways.iter().enumerate() {
            if let Some(first) = gateways.claim(&gateway.name, key) {
                let reason = format!("{first} has a gateway {} already", gateway.name);
                let field = format!("spec.gateways[{index}].name");
                report.add(key, field, Rule::DuplicateGateway, reason, "give it another name");
            }
        }
        let mut controllers = Holders::new();
        for (index, controller) in cluster.controllers.iter().enumerate() {
            if controllers.claim(&controller.name, key).is_some() {
                let reason = format!("there are two controllers {}", controller.name);
                let field = format!("spec.controllers[{index}].name");
                report.add(key, field, Rule::DuplicateName, reason, "give one another name");
            }
        }
        if let Some(range) = cluster.vnis.filter(|range| range.first > range.last) {
            let reason = format!("{range} holds no VNI");
            report.add(key, "spec.vnis", Rule::Vni, reason, "begin with the smaller one");
        }
    }
}

/// What a peer must announce it can announce.
fn canaries(key: &ObjectKey, peer: &Peer, report: &mut Report) {
    for (index, prefix) in peer.canary.iter().map(|prefix| prefix.net()).enumerate() {
        let field = format!("spec.canary[{index}]");
        let carried = peer.families.iter().any(|family| carries(bgp_family(*family), prefix));
        if let Err(what) = check_prefix(prefix, false) {
            let reason = format!("{prefix} is {what}, and is never taken");
            report.add(key, field, Rule::Canary, reason, "name another prefix");
        } else if !carried {
            let reason = format!("no address family of the peer carries {prefix}");
            let remedy = if prefix.addr().is_ipv4() { "add ipv4 or vpnv4" } else { "add ipv6 or vpnv6" };
            report.add(key, field, Rule::Canary, reason, format!("{remedy} to spec.families"));
        } else if let Some(contract) = &peer.contract
            && !contract.prefixes.is_empty()
            && !contract.prefixes.iter().any(|allowed| allowed.net().contains(&prefix))
        {
            let reason = format!("{prefix} is outside the peer's contract");
            report.add(key, field, Rule::Canary, reason, "add it to spec.contract.prefixes");
        }
    }
}

fn peers(intent: &Intent, report: &mut Report) {
    let mut addresses = Holders::new();
    for (key, peer) in intent.all::<Peer>() {
        if let Some(first) = addresses.claim((&peer.cluster, peer.address, peer.port), key) {
            let reason = format!("{} port {} is {first}'s address", peer.address, peer.port);
            report.add(key, "spec.address", Rule::DuplicateName, reason, "keep one of the two");
        }
        let groups = peer.contract.iter().flat_map(|contract| &contract.security_groups);
        for (index, id) in groups.enumerate() {
            user_group(key, format!("spec.contract.securityGroups[{index}]"), *id, report);
        }
        canaries(key, peer, report);
        if let Some(cluster) = intent.cluster(&peer.cluster) {
            for (index, target) in peer.contract.iter().flat_map(|one| &one.route_targets).enumerate() {
                let field = format!("spec.contract.routeTargets[{index}]");
                user_route_target(key, field, *target, cluster.asn, report);
            }
            if peer.reflector == Some(true) {
                reflector(key, peer, cluster, report);
            }
        }
        transport(key, peer, report);
        password_file(key, peer, report);
        if peer.password.as_ref().is_some_and(|password| password.reveal() == Secret::HIDDEN) {
            let reason = format!("{} stands for a password that is not shown", Secret::HIDDEN);
            report.add(key, "spec.password", Rule::Field, reason, "write the password itself");
        }
    }
}

/// A password is in one place, and every controller knows where.
fn password_file(key: &ObjectKey, peer: &Peer, report: &mut Report) {
    let Some(path) = &peer.password_file else { return };
    if peer.password.is_some() {
        report.add(
            key,
            "spec.passwordFile",
            Rule::Field,
            "there is a password too",
            "leave out one of the two",
        );
    } else if !path.starts_with('/') {
        let reason = format!("{path} is no absolute path");
        report.add(key, "spec.passwordFile", Rule::Field, reason, "write where it is at the controllers");
    }
}

/// What protects its session can be set on a socket.
fn transport(key: &ObjectKey, peer: &Peer, report: &mut Report) {
    // One that is sealed stays as it is in the store.
    let readable = peer.password.as_ref().filter(|password| !password.is_sealed());
    let md5 = readable.map(|password| password.reveal().to_owned());
    let wanted = Transport { md5, ttl_security: peer.max_hops, ..Transport::default() };
    let Err(wrong) = wanted.check(peer.address) else { return };
    let (field, remedy) = match wrong {
        BadTransport::KeyLength(_) => ("spec.password", "agree on another one, with both sides"),
        BadTransport::NoDistance => ("spec.maxHops", "write 1, or leave it out"),
        BadTransport::Mapped(..) => ("spec.address", "the options of its sockets are those of IPv4"),
    };
    report.add(key, field, Rule::Field, wrong.to_string(), remedy);
}

/// A reflector is believed about who said what: it has to be the cluster's own.
fn reflector(key: &ObjectKey, peer: &Peer, cluster: &Cluster, report: &mut Report) {
    let field = "spec.reflector";
    if peer.asn != cluster.asn {
        let reason = format!("a route reflector of cluster {} is of AS {}", peer.cluster, cluster.asn);
        let remedy = "leave it out: who passes on routes of several ASes is a peer like any other, \
                      with routeServer where it leaves out its own AS";
        report.add(key, field, Rule::Reflector, reason, remedy);
    } else if peer.route_server {
        let reason = "routeServer is for external peers, reflector for internal ones";
        report.add(key, field, Rule::Reflector, reason, "leave out one of the two");
    } else if peer.port == BGP_PORT
        && let Some(controller) = cluster.controllers.iter().find(|one| one.address == peer.address)
    {
        let reason = format!("{} is controller {}'s address", peer.address, controller.name);
        let remedy = "leave it out: controllers of the cluster are believed as they are";
        report.add(key, field, Rule::Reflector, reason, remedy);
    }
}

fn route_targets(intent: &Intent, report: &mut Report) {
    for (key, network) in intent.all::<VirtualNetwork>() {
        let Some(cluster) = intent.cluster(&network.cluster) else { continue };
        let targets = &network.route_targets;
        let lists = [("both", &targets.both), ("import", &targets.import), ("export", &targets.export)];
        for (name, list) in lists {
            for (index, target) in list.iter().enumerate() {
                let field = format!("spec.routeTargets.{name}[{index}]");
                user_route_target(key, field, *target, cluster.asn, report);
            }
        }
    }
}

fn user_route_target(key: &ObjectKey, field: String, target: RouteTarget, local: Asn, report: &mut Report) {
    match local.range_of(target) {
        RouteTargetRange::User => {}
        RouteTargetRange::Evpn => {
            let reason = format!("{target} is reserved for EVPN's ES-import (RFC 7432 section 7.6)");
            report.add(key, field, Rule::RouteTargetRange, reason, "use another number");
        }
        RouteTargetRange::System => {
            let range = local.system_route_targets();
            let first = range.start();
            let reason =
                format!("{target} is in the range from {local}:{first} that the cluster allocates itself");
            let remedy = format!("use a number below {first}, or another AS's");
            report.add(key, field, Rule::RouteTargetRange, reason, remedy);
        }
    }
}

fn connections(intent: &Intent, report: &mut Report) {
    let mut targets = Holders::new();
    for (key, connection) in intent.all::<Connection>() {
        let target = connection.user_route_target;
        let mut asns: Vec<Asn> = connected(intent, key, connection)
            .iter()
            .filter_map(|(_, _, network)| intent.cluster(&network.cluster))
            .map(|cluster| cluster.asn)
            .collect();
        asns.sort_unstable();
        asns.dedup();
        let reserved = asns.iter().find(|asn| asn.range_of(target) != RouteTargetRange::User);
        if let Some(asn) = reserved {
            user_route_target(key, "spec.userRouteTarget".to_owned(), target, *asn, report);
        }
        if let Some(first) = targets.claim(target, key) {
            let reason = format!("{target} is {first}'s: the networks of both would be connected");
            let remedy = "use another one, or add the networks to that connection";
            report.add(key, "spec.userRouteTarget", Rule::RouteTargetTwice, reason, remedy);
        }
    }
}

fn security_groups(intent: &Intent, report: &mut Report) {
    let mut ids = Holders::new();
    for (key, group) in intent.all::<SecurityGroup>() {
        if let Some(id) = group.id {
            user_group(key, "spec.id".to_owned(), id, report);
            if let Some(first) = ids.claim((&group.cluster, id), key) {
                let reason = format!("{id} is {first}'s ID in cluster {}", group.cluster);
                report.add(key, "spec.id", Rule::SecurityGroupId, reason, "use another ID");
            }
        }
        for (direction, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
            for (index, rule) in rules.iter().enumerate() {
                if let Some(id) = rule.remote.as_ref().and_then(|remote| remote.id) {
                    user_group(key, format!("spec.{direction}[{index}].remote.id"), id, report);
                }
            }
        }
    }
}

fn user_group(key: &ObjectKey, field: String, id: u32, report: &mut Report) {
    if !USER_SECURITY_GROUPS.contains(&id) {
        let reason = format!("{id} is not a user security group ID: from 8000000 on, clusters allocate them");
        report.add(key, field, Rule::SecurityGroupId, reason, "use 1 to 7999999");
    }
}

fn vnis(intent: &Intent, report: &mut Report) {
    let mut holders = Holders::new();
    for (key, network) in intent.all::<VirtualNetwork>() {
        if let Some(vni) = network.vni
            && let Some(first) = holders.claim((&network.cluster, vni), key)
        {
            let reason = format!("VNI {vni} is {first}'s");
            report.add(key, "spec.vni", Rule::Vni, reason, "use another one, or leave it out");
        }
    }
}

fn sites(intent: &Intent, report: &mut Report) {
    let mut ports = Holders::new();
    let mut numbers = Holders::new();
    for (key, site) in intent.all::<Site>() {
        if let Some(port) = site.listener_port
            && let Some(first) = ports.claim((&site.cluster, port), key)
        {
            let reason = format!("listener port {port} is {first}'s");
            let remedy = format!("each site has its own, from {FIRST_LISTENER_PORT} by one, or leave it out");
            report.add(key, "spec.listenerPort", Rule::SiteNumber, reason, remedy);
        }
        let Some(number) = site.route_target_number else { continue };
        let field = "spec.routeTargetNumber";
        let remedy = format!(
            "each site has its own, from {FIRST_ROUTE_TARGET_NUMBER} by {ROUTE_TARGET_STEP}, or leave it out"
        );
        if !(number - FIRST_ROUTE_TARGET_NUMBER.min(number)).is_multiple_of(ROUTE_TARGET_STEP) {
            let reason =
                format!("{number} is not {FIRST_ROUTE_TARGET_NUMBER} and a multiple of {ROUTE_TARGET_STEP}");
            report.add(key, field, Rule::SiteNumber, reason, remedy.clone());
        }
        if let Some(asn) = intent.cluster(&site.cluster).map(|cluster| cluster.asn) {
            site_target(intent, key, asn, number, &remedy, report);
        }
        if let Some(first) = numbers.claim((&site.cluster, number), key) {
            let reason = format!("route target number {number} is {first}'s");
            report.add(key, field, Rule::SiteNumber, reason, remedy);
        }
    }
}

/// A site's route target is a user route target, and nobody else's.
fn site_target(intent: &Intent, key: &ObjectKey, asn: Asn, number: u32, remedy: &str, report: &mut Report) {
    let field = "spec.routeTargetNumber";
    let target = asn.route_target(number).filter(|target| asn.range_of(*target) == RouteTargetRange::User);
    let Some(target) = target else {
        let reason = format!("{asn}:{number} is not a user route target of AS {asn}");
        report.add(key, field, Rule::SiteNumber, reason, remedy);
        return;
    };
    let network = intent.all::<VirtualNetwork>().find(|(_, network)| {
        let targets = &network.route_targets;
        targets.both.contains(&target) || targets.export.contains(&target)
    });
    let connection = intent.all::<Connection>().find(|(_, one)| one.user_route_target == target);
    if let Some(other) = network.map(|(key, _)| key).or(connection.map(|(key, _)| key)) {
        let reason = format!("{target} is used by {other}");
        report.add(key, field, Rule::SiteNumber, reason, remedy);
    }
}
