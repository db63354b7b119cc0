//! ND messages that whole gateways hear, and what they learn from them.

mod support;

use std::net::{IpAddr, Ipv6Addr};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{Icmpv6Type, PacketBuilder};
use support::{exchange, settled};
use tieline_engine::pipeline::outbox::Learned;
use tieline_engine::tables::neighbour::NeighbourState;
use tieline_engine::testbed::Testbed;
use tieline_engine::testbed::topology::{FABRIC, FABRIC_INTERFACE, gateway, own_mac};
use tieline_engine::types::MacAddr;

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
