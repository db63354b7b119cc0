//! Asks a policy about the first packet of a session.

use std::hash::Hash;

use crate::packet::flow_key::{Family, FlowKey, addr_bytes};
use crate::policy::{Direction, L4Match, Policy, Remote, Rule};
use crate::types::SgId;

/// What rules see of a session's first packet.
#[derive(Debug, Clone, Copy)]
pub struct FirstPacket<'a> {
    /// Addresses and ports as on the wire, from source to destination.
    pub key: &'a FlowKey,
    /// Type and code, if it is an ICMP or ICMPv6 message.
    pub icmp: Option<(u8, u8)>,
    /// The groups of whoever is at the other end, in ascending order.
    pub peer_groups: &'a [SgId],
}

impl Policy {
    /// The first rule that allows the packet, or `None` if it is denied.
    /// `direction` is as the policy's workload sees it.
    pub fn allows(&self, direction: Direction, packet: &FirstPacket<'_>) -> Option<&Rule> {
        let remote = match direction {
            Direction::Ingress => &packet.key.source,
            Direction::Egress => &packet.key.destination,
        };
        let remote = u128::from_be_bytes(*remote);
        self.matchers(direction, packet.key.family)
            .iter()
            .find(|matcher| matcher.matches(packet, remote))
            .and_then(|matcher| self.rules.get(matcher.rule as usize))
            .map(|(_, rule)| rule)
    }
}

/// A rule made ready for one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matcher {
    l4: L4,
    remote: RemoteMatch,
    /// The rule's number in the policy.
    rule: u32,
}

/// Protocol, ports, type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum L4 {
    Any,
    Protocol(u8),
    /// Any protocol that has ports.
    PortsOfAny {
        first: u16,
        last: u16,
    },
    Ports {
        protocol: u8,
        first: u16,
        last: u16,
    },
    Icmp {
        protocol: u8,
        kind: u8,
        code: Option<u8>,
    },
}

/// Addresses are numbers with the first byte highest, as keys hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RemoteMatch {
    Any,
    Prefix { network: u128, mask: u128 },
    Group(SgId),
}

/// Protocols whose header starts with source and destination port: TCP, UDP,
/// SCTP and UDP-Lite.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132 | 136)
}

/// The protocol of ICMP in one address family.
fn icmp_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}

impl Matcher {
    /// The rule for packets of `family`, or `None` if it can match none.
    pub(super) fn new(rule: &Rule, number: u32, family: Family) -> Option<Self> {
        if rule.family.is_some_and(|wanted| wanted != family) {
            return None;
        }
        let l4 = L4::new(rule.protocol, rule.l4, family)?;
        Some(Self { l4, remote: RemoteMatch::new(&rule.remote, family)?, rule: number })
    }

    /// What it matches: two matchers with the same meaning match the same
    /// packets.
    pub(super) fn meaning(&self) -> impl Eq + Hash + use<> {
        (self.l4, self.remote)
    }

    #[inline]
    fn matches(&self, packet: &FirstPacket<'_>, remote: u128) -> bool {
        self.l4.matches(packet) && self.remote.matches(remote, packet.peer_groups)
    }
}

impl L4 {
    fn new(protocol: Option<u8>, l4: L4Match, family: Family) -> Option<Self> {
        match (l4, protocol) {
            (L4Match::Any, None) => Some(L4::Any),
            (L4Match::Any, Some(protocol)) => Some(L4::Protocol(protocol)),
            (L4Match::Ports { first, last }, _) if first > last => None,
            (L4Match::Ports { first, last }, None) => Some(L4::PortsOfAny { first, last }),
            (L4Match::Ports { first, last }, Some(protocol)) => {
                has_ports(protocol).then_some(L4::Ports { protocol, first, last })
            }
            (L4Match::Icmp { kind, code }, wanted) => {
                let protocol = icmp_protocol(family);
                wanted.is_none_or(|wanted| wanted == protocol).then_some(L4::Icmp { protocol, kind, code })
            }
        }
    }

    #[inline]
    fn matches(self, packet: &FirstPacket<'_>) -> bool {
        let (actual, port) = (packet.key.protocol, packet.key.destination_port);
        match self {
            L4::Any => true,
            L4::Protocol(protocol) => actual == protocol,
            L4::PortsOfAny { first, last } => has_ports(actual) && (first..=last).contains(&port),
            L4::Ports { protocol, first, last } => actual == protocol && (first..=last).contains(&port),
            L4::Icmp { protocol, kind, code } => {
                let fits = |(k, c)| k == kind && code.is_none_or(|code| code == c);
                actual == protocol && packet.icmp.is_some_and(fits)
            }
        }
    }
}

impl RemoteMatch {
    fn new(remote: &Remote, family: Family) -> Option<Self> {
        match remote {
            Remote::Any => Some(RemoteMatch::Any),
            Remote::Group(group) => Some(RemoteMatch::Group(*group)),
            Remote::Prefix(prefix) => {
                let of_family = prefix.addr().is_ipv4() == (family == Family::V4);
                let address = u128::from_be_bytes(addr_bytes(prefix.network()));
                let host_bits = u128::BITS - u32::from(prefix.prefix_len());
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                of_family.then_some(RemoteMatch::Prefix { network: address, mask })
            }
        }
    }

    #[inline]
    fn matches(self, remote: u128, peer_groups: &[SgId]) -> bool {
        match self {
            RemoteMatch::Any => true,
            RemoteMatch::Prefix { network, mask } => remote & mask == network,
            RemoteMatch::Group(group) => peer_groups.binary_search(&group).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests;
