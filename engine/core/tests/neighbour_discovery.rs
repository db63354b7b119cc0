//! ND messages that whole gateways hear, and what they learn from them.

mod support;

use std::net::{IpAddr, Ipv6Addr};

use etherparse::icmpv6::{NeighborAdvertisementHeader, RouterAdvertisementHeader};
use etherparse::{Icmpv6Type, PacketBuilder};
use support::{dropped, exchange, settled};
use tieline_engine::DropReason;
use tieline_engine::pipeline::outbox::Learned;
use tieline_engine::tables::neighbour::NeighbourState;
use tieline_engine::testbed::Testbed;
use tieline_engine::testbed::topology::{FABRIC, FABRIC_INTERFACE, TENANT_1, gateway, own_mac, workload_mac};
use tieline_engine::types::{MacAddr, PortId};

/// A neighbour on the fabric.
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 9);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xf, 9]);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0xf, 0xa]);
/// Us on the fabric.
const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);

/// The answer of `PEER` to a solicitation: it is at this MAC.
fn advertisement(mac: MacAddr, overrides: bool) -> Vec<u8> {
    let header = NeighborAdvertisementHeader { router: false, solicited: true, r#override: overrides };
    let step = PacketBuilder::ethernet2(mac.0, own_mac(FABRIC).0)
        .ipv6(PEER.octets(), OWN.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborAdvertisement(header));
    let mut payload = PEER.octets().to_vec();
    payload.extend([2, 1]);
    payload.extend(mac.0);
    let mut frame = Vec::new();
    step.write(&mut frame, &payload).expect("a frame");
    frame
}

/// What is learned from a frame on the fabric: a MAC of `PEER`, or nothing.
fn learned(bed: &mut Testbed, frame: &[u8]) -> Option<MacAddr> {
    assert!(exchange(bed, FABRIC, frame).is_empty(), "nobody is answered");
    let item = bed.learned()?;
    let Learned::Neighbour { interface, address, mac, .. } = item else { panic!("{item:?}") };
    assert_eq!((interface, address), (FABRIC_INTERFACE, IpAddr::V6(PEER)));
    Some(mac)
}

fn set_peer(bed: &mut Testbed, state: NeighbourState) {
    bed.update(|tables| {
        let id = tables.intern_neighbour(FABRIC_INTERFACE, IpAddr::V6(PEER)).expect("room");
        let peer = tables.neighbours.get_mut(id.index()).expect("just made");
        peer.state = state;
        peer.header.set_destination(PEER_MAC);
    });
}

#[test]
fn only_an_overriding_advertisement_moves_a_known_neighbour() {
    let mut bed = gateway(1);
    assert_eq!(learned(&mut bed, &advertisement(PEER_MAC, true)), None, "nobody asked for it");
    set_peer(&mut bed, NeighbourState::Resolving);
    assert_eq!(learned(&mut bed, &advertisement(PEER_MAC, false)), Some(PEER_MAC));
    set_peer(&mut bed, NeighbourState::Resolved);
    assert_eq!(learned(&mut bed, &advertisement(OTHER_MAC, false)), None);
    assert_eq!(learned(&mut bed, &advertisement(PEER_MAC, false)), Some(PEER_MAC), "a confirmation");
    assert_eq!(learned(&mut bed, &advertisement(OTHER_MAC, true)), Some(OTHER_MAC));
    assert_eq!(bed.balance().consumed, 5);
    settled(&bed);
}

/// The advertisement of a router to all nodes on a port's link.
fn router_advertisement(port: PortId, source: &str) -> Vec<u8> {
    let mac = if port == FABRIC { PEER_MAC } else { workload_mac(port) };
    let source: Ipv6Addr = source.parse().expect("an address");
    let header = RouterAdvertisementHeader {
        cur_hop_limit: 64,
        managed_address_config: false,
        other_config: false,
        router_lifetime: 1800,
    };
    let step = PacketBuilder::ethernet2(mac.0, [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(source.octets(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets(), 255)
        .icmpv6(Icmpv6Type::RouterAdvertisement(header));
    // Reachable time, retransmission timer, and the router's MAC.
    let mut payload = vec![0; 8];
    payload.extend([1, 1]);
    payload.extend(mac.0);
    let mut frame = Vec::new();
    step.write(&mut frame, &payload).expect("a frame");
    frame
}

#[test]
fn a_routers_advertisement_is_consumed_and_not_followed() {
    let mut bed = gateway(1);
    for port in [FABRIC, TENANT_1] {
        assert!(exchange(&mut bed, port, &router_advertisement(port, "fe80::9")).is_empty());
        assert_eq!(bed.learned(), None);
    }
    assert_eq!((bed.balance().consumed, bed.balance().dropped), (2, 0));
    let not_on_the_link = router_advertisement(FABRIC, "2001:db8:f::9");
    dropped(&mut bed, FABRIC, &not_on_the_link, DropReason::BadNeighbourMessage);
    settled(&bed);
}
