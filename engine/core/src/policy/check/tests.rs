use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::packet::flow_key::addr_bytes;
use crate::types::SgSetId;

/// Whether one rule allows a packet, in the words of the API.
fn naive(rule: &Rule, direction: Direction, packet: &FirstPacket<'_>) -> bool {
    let key = packet.key;
    if let Some(family) = rule.family
        && family != key.family
    {
        return false;
    }
    if let Some(protocol) = rule.protocol
        && protocol != key.protocol
    {
        return false;
    }
    let header_matches = match rule.l4 {
        L4Match::Any => true,
        L4Match::Ports { first, last } => {
            [6, 17, 132, 136].contains(&key.protocol)
                && first <= key.destination_port
                && key.destination_port <= last
        }
        L4Match::Icmp { kind, code } => {
            let is_icmp = (key.family == Family::V4 && key.protocol == 1)
                || (key.family == Family::V6 && key.protocol == 58);
            match packet.icmp {
                Some((k, c)) if is_icmp => k == kind && (code.is_none() || code == Some(c)),
                _ => false,
            }
        }
    };
    let other_end = match direction {
        Direction::Ingress => key.source_addr(),
        Direction::Egress => key.destination_addr(),
    };
    let remote_matches = match rule.remote {
        Remote::Any => true,
        Remote::Prefix(prefix) => prefix.contains(&other_end),
        Remote::Group(group) => packet.peer_groups.contains(&group),
    };
    header_matches && remote_matches
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(6u8), Just(17), Just(1), Just(58), Just(132), Just(136), Just(47), any::<u8>()]
}

/// Addresses of which many share a prefix.
fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => {
            (0u8..2, 0u8..3, 0u8..4).prop_map(|(a, b, c)| IpAddr::V4(Ipv4Addr::new(10 + a, b, 0, c))).boxed()
        }
        Family::V6 => (0u16..2, 0u16..3, 0u16..4)
            .prop_map(|(a, b, c)| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8 + a, b, 0, 0, 0, 0, c)))
            .boxed(),
    }
}

fn prefix() -> impl Strategy<Value = IpNet> {
    family().prop_flat_map(|family| (address(family), 0u8..=128)).prop_map(|(address, length)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length.min(longest)).expect("a length in range")
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..4, Just(u16::MAX)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let l4 = prop_oneof![
        Just(L4Match::Any),
        (port(), port()).prop_map(|(first, last)| L4Match::Ports { first, last }),
        (0u8..3, proptest::option::of(0u8..2)).prop_map(|(kind, code)| L4Match::Icmp { kind, code }),
    ];
    let remote = prop_oneof![
        Just(Remote::Any),
        prefix().prop_map(Remote::Prefix),
        (0u32..5).prop_map(|group| Remote::Group(SgId(group))),
    ];
    (0u32..3, proptest::option::of(family()), proptest::option::of(protocol()), l4, remote).prop_map(
        |(group, family, protocol, l4, remote)| Rule { group: SgId(group), family, protocol, l4, remote },
    )
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)]
}

type Packet = (FlowKey, Option<(u8, u8)>, Vec<SgId>);

fn packet() -> impl Strategy<Value = Packet> {
    let groups = proptest::collection::btree_set((0u32..5).prop_map(SgId), 0..4);
    let addresses = family().prop_flat_map(|family| (Just(family), address(family), address(family)));
    (addresses, protocol(), port(), port(), proptest::option::of((0u8..3, 0u8..2)), groups).prop_map(
        |((family, source, destination), protocol, source_port, destination_port, icmp, groups)| {
            let (source, destination) = (addr_bytes(source), addr_bytes(destination));
            let key = FlowKey {
                source,
                destination,
                source_port,
                destination_port,
                protocol,
                family,
                ..FlowKey::ZERO
            };
            (key, icmp, groups.into_iter().collect())
        },
    )
}

proptest! {
    #[test]
    fn it_decides_as_the_words_of_the_api_say(
        rules in proptest::collection::vec((direction(), rule()), 0..12),
        packets in proptest::collection::vec((direction(), packet()), 1..20),
    ) {
        let policy = Policy::new(SgSetId::EMPTY, rules.iter().copied());
        for (direction, (key, icmp, groups)) in &packets {
            let packet = FirstPacket { key, icmp: *icmp, peer_groups: groups };
            let expected = rules.iter().find(|(d, rule)| d == direction && naive(rule, *direction, &packet));
            prop_assert_eq!(policy.allows(*direction, &packet), expected.map(|(_, rule)| rule));
        }
    }

    #[test]
    fn repeated_rules_are_kept_once(rules in proptest::collection::vec((direction(), rule()), 0..8)) {
        let once = Policy::new(SgSetId::EMPTY, rules.iter().copied());
        let thrice = Policy::new(SgSetId::EMPTY, rules.iter().chain(&rules).chain(&rules).copied());
        prop_assert_eq!(once.rules().count(), thrice.rules().count());
        for direction in [Direction::Ingress, Direction::Egress] {
            for family in [Family::V4, Family::V6] {
                prop_assert_eq!(once.matchers(direction, family), thrice.matchers(direction, family));
            }
        }
    }
}

fn web_rule(l4: L4Match, protocol: Option<u8>) -> Rule {
    Rule { group: SgId(7), family: None, protocol, l4, remote: Remote::Any }
}

#[test]
fn a_port_rule_looks_at_the_destination_port_alone() {
    let rule = web_rule(L4Match::Ports { first: 80, last: 80 }, Some(6));
    let policy = Policy::new(SgSetId::EMPTY, [(Direction::Ingress, rule)]);
    let asked = |direction, source_port, destination_port| {
        let key = FlowKey { protocol: 6, source_port, destination_port, ..FlowKey::ZERO };
        policy.allows(direction, &FirstPacket { key: &key, icmp: None, peer_groups: &[] }).is_some()
    };
    assert!(asked(Direction::Ingress, 1024, 80));
    assert!(!asked(Direction::Ingress, 80, 1024));
    assert!(!asked(Direction::Egress, 1024, 80));
}

#[test]
fn rules_that_can_match_nothing_take_no_time() {
    let rules = [
        web_rule(L4Match::Ports { first: 80, last: 80 }, Some(1)),
        web_rule(L4Match::Ports { first: 81, last: 80 }, None),
        web_rule(L4Match::Icmp { kind: 8, code: None }, Some(6)),
    ];
    let policy = Policy::new(SgSetId::EMPTY, rules.map(|rule| (Direction::Egress, rule)));
    assert_eq!(policy.rules().count(), 3, "but an operator still sees them");
    for family in [Family::V4, Family::V6] {
        assert!(policy.matchers(Direction::Egress, family).is_empty());
    }
}
