//! Security groups.

use tieline_engine::packet::flow_key::Family;
use tieline_engine::policy::{L4Match, Remote, Rule};
use tieline_engine::types::SgId;
use tieline_proto::v1;
use tieline_proto::v1::security_group_rule::Remote as RemoteMessage;

use crate::refusal::Refusal;
use crate::spec::field;

/// Most rules of one group.
const MAX_RULES: usize = 1024;
/// Longest name, in bytes.
const MAX_NAME: usize = 255;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols with ports: TCP, UDP, SCTP and UDP-Lite.
const WITH_PORTS: [u8; 4] = [6, 17, 132, 136];

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroupSpec {
    /// ID.
    pub id: SgId,
    /// For people.
    pub name: String,
    /// Towards the workload, in the order of declaration.
    pub ingress: Vec<Rule>,
    /// From the workload, in the order of declaration.
    pub egress: Vec<Rule>,
}

impl SecurityGroupSpec {
    /// From its message.
    pub fn parse(message: &v1::SecurityGroup) -> Result<Self, Refusal> {
        if message.id == 0 {
            return Err(Refusal::invalid("security_group.id", "0 is not an ID: use 1 to 4294967295"));
        }
        if message.name.len() > MAX_NAME {
            let sentence = format!("longer than {MAX_NAME} bytes");
            return Err(Refusal::invalid("security_group.name", sentence));
        }
        if message.rules.len() > MAX_RULES {
            let sentence = format!("{} rules are too many: at most {MAX_RULES}", message.rules.len());
            return Err(Refusal::invalid("security_group.rules", sentence));
        }
        let id = SgId(message.id);
        let mut spec = Self { id, name: message.name.clone(), ingress: Vec::new(), egress: Vec::new() };
        for (at, rule) in message.rules.iter().enumerate() {
            let parsed = RuleFields { at, message: rule }.parse(id)?;
            match rule.direction() {
                v1::Direction::Ingress => spec.ingress.push(parsed),
                v1::Direction::Egress => spec.egress.push(parsed),
                v1::Direction::Unspecified => {
                    let field = format!("security_group.rules[{at}].direction");
                    return Err(Refusal::invalid(field, "no direction: use INGRESS or EGRESS"));
                }
            }
        }
        Ok(spec)
    }

    /// Rules of both directions.
    pub fn rule_count(&self) -> usize {
        self.ingress.len() + self.egress.len()
    }
}

/// One rule and where it stands.
struct RuleFields<'a> {
    at: usize,
    message: &'a v1::SecurityGroupRule,
}

impl RuleFields<'_> {
    fn field(&self, part: &str) -> String {
        format!("security_group.rules[{}].{part}", self.at)
    }

    fn byte(&self, part: &str, value: Option<u32>) -> Result<Option<u8>, Refusal> {
        value.map(u8::try_from).transpose().map_err(|_| {
            Refusal::invalid(self.field(part), format!("{} is larger than 255", value.unwrap_or(0)))
        })
    }

    fn parse(&self, group: SgId) -> Result<Rule, Refusal> {
        let family = match v1::AddressFamily::try_from(self.message.family) {
            Ok(v1::AddressFamily::Unspecified) => None,
            Ok(v1::AddressFamily::Ipv4) => Some(Family::V4),
            Ok(v1::AddressFamily::Ipv6) => Some(Family::V6),
            Err(_) => {
                return Err(Refusal::invalid(self.field("family"), "not an IP version: use IPV4 or IPV6"));
            }
        };
        let protocol = self.byte("protocol", self.message.protocol)?;
        let remote = self.remote(family)?;
        Ok(Rule { group, family, protocol, l4: self.l4(protocol)?, remote })
    }

    fn l4(&self, protocol: Option<u8>) -> Result<L4Match, Refusal> {
        let code = self.byte("icmp_code", self.message.icmp_code)?;
        let kind = self.byte("icmp_type", self.message.icmp_type)?;
        if code.is_some() && kind.is_none() {
            return Err(Refusal::invalid(self.field("icmp_code"), "an ICMP code needs icmp_type"));
        }
        match (&self.message.ports, kind) {
            (Some(_), Some(_)) => {
                Err(Refusal::invalid(self.field("icmp_type"), "a rule has either ports or an ICMP type"))
            }
            (Some(range), None) => self.ports(range, protocol),
            (None, Some(kind)) => {
                if !matches!(protocol, None | Some(ICMP | ICMPV6)) {
                    let sentence = "only protocol 1 (ICMP) and 58 (ICMPv6) have an ICMP type";
                    return Err(Refusal::invalid(self.field("icmp_type"), sentence));
                }
                Ok(L4Match::Icmp { kind, code })
            }
            (None, None) => Ok(L4Match::Any),
        }
    }

    fn ports(&self, range: &v1::PortRange, protocol: Option<u8>) -> Result<L4Match, Refusal> {
        if protocol.is_some_and(|protocol| !WITH_PORTS.contains(&protocol)) {
            let sentence = "only these have ports: protocol 6 (TCP), 17 (UDP), 132 (SCTP) or 136 (UDP-Lite)";
            return Err(Refusal::invalid(self.field("ports"), sentence));
        }
        match (u16::try_from(range.first), u16::try_from(range.last)) {
            (Ok(first), Ok(last)) if first <= last => Ok(L4Match::Ports { first, last }),
            _ => {
                let sentence =
                    format!("{} to {} is not a range of ports from 0 to 65535", range.first, range.last);
                Err(Refusal::invalid(self.field("ports"), sentence))
            }
        }
    }

    fn remote(&self, family: Option<Family>) -> Result<Remote, Refusal> {
        match &self.message.remote {
            None => Ok(Remote::Any),
            Some(RemoteMessage::RemoteSecurityGroup(0)) => {
                Err(Refusal::invalid(self.field("remote_security_group"), "0 is not a security group ID"))
            }
            Some(RemoteMessage::RemoteSecurityGroup(id)) => Ok(Remote::Group(SgId(*id))),
            Some(RemoteMessage::RemotePrefix(text)) => {
                let prefix = field::prefix(&self.field("remote_prefix"), text)?;
                let of = if prefix.addr().is_ipv4() { Family::V4 } else { Family::V6 };
                if family.is_some_and(|family| family != of) {
                    let sentence = format!("{prefix} is not of the rule's IP version");
                    return Err(Refusal::invalid(self.field("remote_prefix"), sentence));
                }
                Ok(Remote::Prefix(prefix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rule: v1::SecurityGroupRule) -> Result<SecurityGroupSpec, Refusal> {
        let filler = v1::SecurityGroupRule { direction: v1::Direction::Egress.into(), ..Default::default() };
        SecurityGroupSpec::parse(&v1::SecurityGroup { id: 7, name: String::new(), rules: vec![filler, rule] })
    }

    fn ingress() -> v1::SecurityGroupRule {
        v1::SecurityGroupRule { direction: v1::Direction::Ingress.into(), ..Default::default() }
    }

    #[test]
    fn a_rule_is_what_its_fields_say() {
        let range = v1::PortRange { first: 80, last: 90 };
        let rule = v1::SecurityGroupRule {
            protocol: Some(6),
            ports: Some(range),
            family: v1::AddressFamily::Ipv4.into(),
            remote: Some(RemoteMessage::RemoteSecurityGroup(9)),
            ..ingress()
        };
        let spec = parse(rule).expect("valid");
        let expected = Rule {
            group: SgId(7),
            family: Some(Family::V4),
            protocol: Some(6),
            l4: L4Match::Ports { first: 80, last: 90 },
            remote: Remote::Group(SgId(9)),
        };
        assert_eq!(spec.ingress, [expected]);
        assert_eq!(spec.egress.len(), 1);
    }

    #[test]
    fn errors_name_the_rule_and_field() {
        let range = |first, last| Some(v1::PortRange { first, last });
        let cases = [
            (v1::SecurityGroupRule::default(), "direction"),
            (v1::SecurityGroupRule { protocol: Some(256), ..ingress() }, "protocol"),
            (v1::SecurityGroupRule { protocol: Some(47), ports: range(1, 2), ..ingress() }, "ports"),
            (v1::SecurityGroupRule { protocol: Some(6), ports: range(2, 1), ..ingress() }, "ports"),
            (v1::SecurityGroupRule { protocol: Some(6), icmp_type: Some(1), ..ingress() }, "icmp_type"),
            (v1::SecurityGroupRule { protocol: Some(1), icmp_code: Some(1), ..ingress() }, "icmp_code"),
            (
                v1::SecurityGroupRule {
                    family: v1::AddressFamily::Ipv6.into(),
                    remote: Some(RemoteMessage::RemotePrefix("10.0.0.0/8".into())),
                    ..ingress()
                },
                "remote_prefix",
            ),
        ];
        for (rule, field) in cases {
            assert_eq!(parse(rule).expect_err(field).field, format!("security_group.rules[1].{field}"));
        }
    }
}
