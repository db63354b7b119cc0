//! Rules of security groups and policies: protocol, ports, ICMP types and
//! remotes fit together, as the gateways want them.

use super::Report;
use crate::intent::kinds::security_group::Rule as GroupRule;
use crate::intent::kinds::{NetworkPolicy, SecurityGroup};
use crate::intent::problem::Rule;
use crate::intent::traffic::{Family, PortRange, Protocol};
use crate::intent::{Intent, ObjectKey};

/// Most rules of one group, both directions together.
const MAX_RULES: usize = 1024;

pub(super) fn check(intent: &Intent, report: &mut Report) {
    for (key, group) in intent.all::<SecurityGroup>() {
        let rules = group.ingress.len() + group.egress.len();
        if rules > MAX_RULES {
            let reason = format!("has {rules} rules, a gateway takes {MAX_RULES}");
            report.add(key, "spec", Rule::TrafficRule, reason, "split the group");
        }
        for (direction, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
            for (index, rule) in rules.iter().enumerate() {
                group_rule(key, &format!("spec.{direction}[{index}]"), rule, report);
            }
        }
    }
    for (key, policy) in intent.all::<NetworkPolicy>() {
        for (index, rule) in policy.rules.iter().enumerate() {
            ports(key, &format!("spec.rules[{index}]"), rule.protocol, rule.ports, report);
        }
    }
}

fn ports(
    key: &ObjectKey,
    at: &str,
    protocol: Option<Protocol>,
    ports: Option<PortRange>,
    report: &mut Report,
) {
    if ports.is_some() && !protocol.is_some_and(Protocol::has_ports) {
        let reason = "ports need a protocol that has them";
        report.add(key, format!("{at}.ports"), Rule::TrafficRule, reason, "give protocol tcp, udp or sctp");
    }
}

fn group_rule(key: &ObjectKey, at: &str, rule: &GroupRule, report: &mut Report) {
    ports(key, at, rule.protocol, rule.ports, report);
    if rule.icmp_type.is_some() && !matches!(rule.protocol, Some(Protocol::ICMP | Protocol::ICMPV6)) {
        let reason = "an ICMP type needs ICMP";
        report.add(key, format!("{at}.icmpType"), Rule::TrafficRule, reason, "give protocol icmp or icmpv6");
    }
    if rule.icmp_code.is_some() && rule.icmp_type.is_none() {
        let reason = "an ICMP code needs a type";
        report.add(key, format!("{at}.icmpCode"), Rule::TrafficRule, reason, "give icmpType too");
    }
    let Some(remote) = &rule.remote else { return };
    let given = [remote.prefix.is_some(), remote.group.is_some(), remote.id.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        let reason = "a remote is a prefix, a group or an ID";
        report.add(key, format!("{at}.remote"), Rule::TrafficRule, reason, "give one of the three");
    }
    let of = |prefix: crate::intent::addresses::Prefix| {
        if prefix.net().network().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    };
    if let (Some(family), Some(prefix)) = (rule.family, remote.prefix)
        && family != of(prefix)
    {
        let reason = format!("{prefix} is not of the rule's IP version");
        report.add(key, format!("{at}.remote.prefix"), Rule::TrafficRule, reason, "leave family out");
    }
}
