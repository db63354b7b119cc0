use proptest::prelude::*;

use super::*;
use crate::packet::buffer::IpChecksum;
use crate::packet::checksum::transport_checksum;
use crate::packet::flow_key::Family;
use crate::packet::parse::parse_ip;
use crate::types::InterfaceId;

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn parse(packet: &[u8]) -> Option<NdMessage> {
    let mut meta = PacketMeta::new(InterfaceId(0));
    parse_ip(packet, 0, Family::V6, IpChecksum::Unknown, &mut meta).ok()?;
    parse_nd(packet, &meta)
}

/// Gives the ICMPv6 message in a packet without extension headers its right
/// checksum.
fn fix_checksum(packet: &mut [u8]) {
    let mut meta = PacketMeta::new(InterfaceId(0));
    parse_ip(packet, 0, Family::V6, IpChecksum::Unknown, &mut meta).expect("well-formed");
    packet[42..44].fill(0);
    let sum = transport_checksum(&meta.key, &packet[40..]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
}

fn solicitation() -> [u8; ND_LENGTH] {
    let mut bytes = [0xee; ND_LENGTH];
    let target = address("2001:db8::1:2:3");
    assert!(write_solicitation(PEER, address("2001:db8::a"), target, solicited_node(target), &mut bytes));
    bytes
}

#[test]
fn a_solicitation_has_the_bytes_of_rfc_4861() {
    #[rustfmt::skip]
    let mut expected = [
        0x60, 0, 0, 0, 0, 32, 58, 255,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a,
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 2, 0, 3,
        135, 0, 0, 0, 0, 0, 0, 0,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3,
        1, 1, 2, 0, 0, 0, 0, 0x0a,
    ];
    fix_checksum(&mut expected);
    let bytes = solicitation();
    assert_eq!(bytes, expected);
    let group = solicited_node(address("2001:db8::1:2:3"));
    assert_eq!(multicast_mac(group), MacAddr([0x33, 0x33, 0xff, 2, 0, 3]));
    let expected = NeighbourSolicitation {
        source: address("2001:db8::a"),
        target: address("2001:db8::1:2:3"),
        source_mac: Some(PEER),
    };
    assert_eq!(parse(&bytes), Some(NdMessage::NeighbourSolicitation(expected)));
    let short = &mut [0; ND_LENGTH - 1];
    assert!(!write_solicitation(PEER, expected.source, expected.target, group, short));
}

#[test]
fn an_advertisement_answers_the_asker_or_all_nodes() {
    let mut asked = NeighbourSolicitation {
        source: address("fe80::a"),
        target: address("fe80::1"),
        source_mac: Some(PEER),
    };
    let mut bytes = [0; ND_LENGTH];
    assert_eq!(write_advertisement(&asked, OURS, &mut bytes), Some(asked.source));
    let mut expected = NeighbourAdvertisement {
        source: asked.target,
        target: asked.target,
        target_mac: Some(OURS),
        router: true,
        solicited: true,
        overrides: true,
    };
    assert_eq!(parse(&bytes), Some(NdMessage::NeighbourAdvertisement(expected)));
    assert_eq!(bytes[44], 0xe0);
    assert_eq!(bytes[64..72], [2, 1, 2, 0, 0, 0, 0, 0x0b]);
    // etherparse agrees on the checksum.
    let (ip, _) = etherparse::Ipv6Header::from_slice(&bytes).expect("a header");
    let sliced = etherparse::Icmpv6Slice::from_slice(&bytes[40..]).expect("a message");
    assert!(sliced.is_checksum_valid(ip.source, ip.destination));

    asked.source = Ipv6Addr::UNSPECIFIED;
    assert_eq!(write_advertisement(&asked, OURS, &mut bytes), Some(ALL_NODES));
    expected.solicited = false;
    assert_eq!(parse(&bytes), Some(NdMessage::NeighbourAdvertisement(expected)));
    assert_eq!(write_advertisement(&asked, OURS, &mut bytes[1..]), None);
}

#[test]
fn what_rfc_4861_forbids_is_refused() {
    let good = solicitation();
    // Hop limit 254, code 1, multicast target, option length 0, option beyond
    // the message, option with a group MAC.
    for (at, value) in [(7, 254), (41, 1), (48, 0xff), (65, 0), (65, 2), (66, 1)] {
        let mut bad = good;
        bad[at] = value;
        fix_checksum(&mut bad);
        assert_eq!(parse(&bad), None, "byte {at} = {value}");
    }
    let mut bad = good;
    bad[63] ^= 1;
    assert_eq!(parse(&bad), None, "wrong checksum");

    // Duplicate address detection brings no MAC ...
    let mut unspecified = good;
    unspecified[8..24].fill(0);
    fix_checksum(&mut unspecified);
    assert_eq!(parse(&unspecified), None);
    // ... and goes to the solicited-node group.
    let mut probe = unspecified[..64].to_vec();
    probe[5] = 24;
    fix_checksum(&mut probe);
    assert!(matches!(parse(&probe), Some(NdMessage::NeighbourSolicitation(_))));
    probe[39] ^= 1;
    fix_checksum(&mut probe);
    assert_eq!(parse(&probe), None);
}

#[test]
fn an_unasked_advertisement_to_a_group_must_say_so() {
    let asked =
        NeighbourSolicitation { source: Ipv6Addr::UNSPECIFIED, target: address("fe80::1"), source_mac: None };
    let mut bytes = [0; ND_LENGTH];
    write_advertisement(&asked, OURS, &mut bytes).expect("room");
    bytes[44] |= SOLICITED;
    fix_checksum(&mut bytes);
    assert_eq!(parse(&bytes), None);
}

/// RFC 4861 section 7.2.5 and its appendix C, line by line, as far as our
/// states go: STALE, DELAY and PROBE are all `Resolved`.
#[test]
fn an_advertisement_changes_a_neighbour_as_rfc_4861_says() {
    use NeighbourState::{Failed, Resolved, Resolving, Static};
    let known = PEER;
    let other = MacAddr([2, 0, 0, 0, 0, 0xc]);
    // State; solicited, overrides; target's MAC; what becomes of the neighbour.
    let table = [
        // INCOMPLETE: without a MAC it is discarded, else the flags do not count.
        (Resolving, (true, true), None, None),
        (Resolving, (false, false), Some(other), Some(other)),
        (Resolving, (true, false), Some(other), Some(other)),
        (Resolving, (true, true), Some(known), Some(known)),
        (Failed, (true, true), None, None),
        (Failed, (true, false), Some(other), Some(other)),
        // Another MAC without Override: the known one stays.
        (Resolved, (false, false), Some(other), None),
        (Resolved, (true, false), Some(other), None),
        // Another MAC with Override: it is taken.
        (Resolved, (false, true), Some(other), Some(other)),
        (Resolved, (true, true), Some(other), Some(other)),
        // The same MAC or none: an answer confirms it, with and without Override.
        (Resolved, (true, false), Some(known), Some(known)),
        (Resolved, (true, true), Some(known), Some(known)),
        (Resolved, (true, false), None, Some(known)),
        (Resolved, (true, true), None, Some(known)),
        // The same or none, unasked: nothing changes.
        (Resolved, (false, false), Some(known), None),
        (Resolved, (false, true), Some(known), None),
        (Resolved, (false, true), None, None),
        // Configured: nobody else has a say.
        (Static, (true, true), Some(other), None),
        (Static, (true, true), None, None),
    ];
    for (state, (solicited, overrides), target_mac, expected) in table {
        let target = address("fe80::a");
        let said = NeighbourAdvertisement {
            source: target,
            target,
            target_mac,
            router: false,
            solicited,
            overrides,
        };
        assert_eq!(said.news_for(state, known), expected, "{state:?} {said:?}");
    }
}

#[test]
fn router_solicitations_are_read() {
    let mut packet = solicitation()[..56].to_vec();
    packet[5] = 16;
    packet[40] = icmp::ND_ROUTER_SOLICITATION;
    packet[48..56].copy_from_slice(&[1, 1, 2, 0, 0, 0, 0, 0x0a]);
    fix_checksum(&mut packet);
    let expected = NdMessage::RouterSolicitation { source: address("2001:db8::a"), source_mac: Some(PEER) };
    assert_eq!(parse(&packet), Some(expected));
    packet[8..24].fill(0);
    fix_checksum(&mut packet);
    assert_eq!(parse(&packet), None, "a MAC without a source");
}

/// The advertisement of a router at fe80::a, with an MTU option.
fn router_advertisement() -> Vec<u8> {
    #[rustfmt::skip]
    let mut packet = [
        0x60, 0, 0, 0, 0, 24, 58, 255,
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a,
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
        5, 1, 0, 0, 0, 0, 0x05, 0xdc,
    ];
    fix_checksum(&mut packet);
    packet.to_vec()
}

#[test]
fn router_advertisements_are_read_if_rfc_4861_allows_them() {
    let good = router_advertisement();
    assert_eq!(parse(&good), Some(NdMessage::RouterAdvertisement { source: address("fe80::a") }));
    // Hop limit 254, a source beyond the link, code 1, option length 0, option
    // beyond the message.
    for (at, value) in [(7, 254), (8, 0x20), (41, 1), (57, 0), (57, 2)] {
        let mut bad = good.clone();
        bad[at] = value;
        fix_checksum(&mut bad);
        assert_eq!(parse(&bad), None, "byte {at} = {value}");
    }
    let mut short = good[..48].to_vec();
    short[5] = 8;
    fix_checksum(&mut short);
    assert_eq!(parse(&short), None, "less than 16 bytes");
    let mut bad = good;
    bad[44] ^= 1;
    assert_eq!(parse(&bad), None, "wrong checksum");
}

/// Kinds of options that smoltcp reads in any message, and refuses when their
/// bodies are wrong: prefix information, redirected header, MTU. Outside router
/// advertisements and redirects they are to be ignored whatever they hold (RFC
/// 4861 sections 7.1.1 and 7.1.2); of router advertisements we use none.
const READ_BY_SMOLTCP_ALONE: std::ops::RangeInclusive<u8> = 3..=5;

proptest! {
    #[test]
    fn mutated_messages_never_panic_and_agree_with_smoltcp(
        changes in proptest::collection::vec((40usize..ND_LENGTH, any::<u8>()), 0..4), kind in 133u8..138,
    ) {
        let mut packet = solicitation();
        packet[40] = kind;
        if kind == ROUTER_ADVERTISEMENT {
            packet[8..10].copy_from_slice(&[0xfe, 0x80]);
        }
        for (at, value) in changes {
            packet[at] = value;
        }
        fix_checksum(&mut packet);
        let Some(read) = parse(&packet) else { return Ok(()) };
        let message = Icmpv6Packet::new_checked(&packet[40..]).expect("long enough");
        let first = match read {
            NdMessage::RouterSolicitation { .. } => 48,
            NdMessage::RouterAdvertisement { .. } => 56,
            _ => 64,
        };
        match (read, NdiscRepr::parse(&message)) {
            (NdMessage::NeighbourSolicitation(ours), Ok(NdiscRepr::NeighborSolicit { target_addr, .. })) => {
                prop_assert_eq!(ours.target, target_addr);
            }
            (NdMessage::NeighbourAdvertisement(ours), Ok(NdiscRepr::NeighborAdvert { target_addr, .. })) => {
                prop_assert_eq!(ours.target, target_addr);
            }
            (NdMessage::RouterSolicitation { .. }, Ok(NdiscRepr::RouterSolicit { .. })) => {}
            (NdMessage::RouterAdvertisement { .. }, Ok(NdiscRepr::RouterAdvert { .. })) => {}
            (_, theirs) => {
                let mut options = packet[first..].chunks(8).map(|option| option[0]);
                prop_assert!(
                    theirs.is_err() && options.any(|kind| READ_BY_SMOLTCP_ALONE.contains(&kind)),
                    "{theirs:?}"
                );
            }
        }
    }
}
