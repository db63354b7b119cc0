//! Who may send what: tunnel packets, packets from our own addresses, what a
//! strict VRF takes out of a tunnel.

mod support;

use std::sync::Arc;

use support::*;
use tieline_engine::DropReason;
use tieline_engine::tables::Tables;
use tieline_engine::tables::interface::TunnelSources;
use tieline_engine::tables::next_hop::{Group, NextHop};
use tieline_engine::testbed::Testbed;
use tieline_engine::testbed::topology::*;
use tieline_engine::types::{MacAddr, NextHopId, SgSetId};

/// A station on the fabric that is nobody's next hop.
const STRANGER: &str = "198.18.0.66";
const STRANGER_V6: &str = "2001:db8:f::66";

/// A frame from the fabric with MPLS-in-UDP inside.
fn tunnel_from(source: &str, destination: &str, inner: &[u8]) -> Vec<u8> {
    let mut payload = (LABEL << 12 | 1 << 8 | 64).to_be_bytes().to_vec();
    payload.extend_from_slice(inner);
    let step = headers(REMOTE_MAC, own_mac(FABRIC), source, destination, 64).udp(50000, 6635);
    let mut frame = Vec::new();
    step.write(&mut frame, &payload).expect("a frame");
    frame
}

/// With the express stage and without it, which must come to the same.
fn both_ways(test: impl Fn(Testbed)) {
    for express in [true, false] {
        let mut bed = gateway(1);
        bed.update(|tables| tables.options.express = express);
        test(bed);
    }
}

fn set_tunnel_sources(tables: &mut Tables, sources: TunnelSources) {
    tables.interfaces.get_mut(FABRIC_INTERFACE.index()).expect("the fabric's").tunnel_sources = sources;
}

#[test]
fn tunnels_come_from_next_hops_and_from_nobody_else() {
    both_ways(|mut bed| {
        let inner = inner_udp(FAR, W1, (53, 4000), b"hello");
        for (source, own) in [(REMOTE, "198.18.0.1"), (REMOTE_V6, "2001:db8:f::1")] {
            forwarded(&mut bed, FABRIC, &tunnel_from(source, own, &inner), TENANT_1);
        }
        for (source, own) in [(STRANGER, "198.18.0.1"), (STRANGER_V6, "2001:db8:f::1")] {
            let forged = tunnel_from(source, own, &inner);
            dropped(&mut bed, FABRIC, &forged, DropReason::UnknownTunnelSource);
        }
        // One after the other in one burst: what was read last does not vouch for the next.
        for source in [REMOTE, STRANGER, REMOTE, STRANGER] {
            assert!(bed.send(FABRIC, &tunnel_from(source, "198.18.0.1", &inner)));
        }
        bed.run();
        assert_eq!((bed.discard(TENANT_1), bed.drops(DropReason::UnknownTunnelSource)), (2, 4));
        // What is no tunnel is the host's, from whomever.
        let bgp = headers(REMOTE_MAC, own_mac(FABRIC), STRANGER, "198.18.0.1", 64);
        forwarded(&mut bed, FABRIC, &tcp_segment(bgp, (40000, 179), Tcp::Syn, None), HOST);
        // A next hop that is declared no more is a stranger.
        bed.update(|tables| Arc::make_mut(&mut tables.remotes).clear());
        dropped(
            &mut bed,
            FABRIC,
            &tunnel_from(REMOTE, "198.18.0.1", &inner),
            DropReason::UnknownTunnelSource,
        );
        settled(&bed);
    });
}

#[test]
fn a_one_way_remote_is_declared_or_everybody_may_send() {
    both_ways(|mut bed| {
        let inner = inner_udp(FAR, W1, (53, 4000), b"hello");
        let one_way = tunnel_from(STRANGER, "198.18.0.1", &inner);
        let known = |prefix: &str| TunnelSources::Known(Arc::from([prefix.parse().expect("a prefix")]));
        bed.update(|tables| set_tunnel_sources(tables, known("198.18.0.64/30")));
        forwarded(&mut bed, FABRIC, &one_way, TENANT_1);
        forwarded(&mut bed, FABRIC, &tunnel_from(REMOTE, "198.18.0.1", &inner), TENANT_1);
        bed.update(|tables| set_tunnel_sources(tables, known("198.18.0.64/31")));
        dropped(&mut bed, FABRIC, &one_way, DropReason::UnknownTunnelSource);
        bed.update(|tables| set_tunnel_sources(tables, TunnelSources::Any));
        forwarded(&mut bed, FABRIC, &one_way, TENANT_1);
        settled(&bed);
    });
}

#[test]
fn nobody_sends_from_our_own_addresses() {
    both_ways(|mut bed| {
        bed.update(|tables| {
            set_tunnel_sources(tables, TunnelSources::Any);
            // Without anti-spoofing, too.
            tables.interfaces.get_mut(TENANT_1.index()).expect("the interface").sources = None;
        });
        for (own, workload, far) in [("10.1.0.1", W1, FAR), ("2001:db8:1::1", W1_V6, FAR_V6)] {
            dropped(&mut bed, TENANT_1, &udp_from(TENANT_1, own, far, (1, 2), b""), DropReason::OwnSource);
            let inner = inner_udp(own, workload, (1, 2), b"");
            dropped(&mut bed, FABRIC, &tunnel_from(REMOTE, "198.18.0.1", &inner), DropReason::OwnSource);
            // An address with the same last byte is another's.
            let other = own.replace("10.1.0", "10.1.7").replace("db8:1::", "db8:7::");
            forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, &other, far, (1, 2), b""), FABRIC);
        }
        let inner = inner_udp(FAR, W1, (53, 4000), b"hello");
        dropped(&mut bed, FABRIC, &tunnel_from("198.18.0.1", "198.18.0.1", &inner), DropReason::OwnSource);
        let bgp = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.1", "198.18.0.1", 64);
        let to_the_host = tcp_segment(bgp, (40000, 179), Tcp::Syn, None);
        dropped(&mut bed, FABRIC, &to_the_host, DropReason::OwnSource);
        settled(&bed);
    });
}

#[test]
fn a_strict_vrf_takes_from_a_tunnel_what_it_would_send_back_there() {
    both_ways(|mut bed| {
        bed.update(|tables| {
            Arc::make_mut(&mut tables.remotes).insert(ip(STRANGER));
            tables.vrfs.get_mut(VRF.index()).expect("the VRF").strict_sources = true;
        });
        let from = |source, inner: &[u8]| tunnel_from(source, "198.18.0.1", inner);
        let inner = inner_udp(FAR, W1, (53, 4000), b"hello");
        forwarded(&mut bed, FABRIC, &from(REMOTE, &inner), TENANT_1);
        dropped(&mut bed, FABRIC, &from(STRANGER, &inner), DropReason::StrayInnerSource);
        // A workload's address, and one without a route.
        for source in [W2, "203.0.113.9"] {
            let stray = inner_udp(source, W1, (53, 4000), b"hello");
            dropped(&mut bed, FABRIC, &from(REMOTE, &stray), DropReason::StrayInnerSource);
        }
        // One of several ways back is enough.
        bed.update(|tables| {
            let group = Group::new(&[(NextHopId::DISCARD, 3), (REMOTE_NEXT_HOP, 1)]).expect("weights");
            let group = push(tables, NextHop::Group(group), 50);
            add_route(tables, VRF, "10.2.0.0/16".parse().expect("a prefix"), group, SgSetId::EMPTY);
        });
        forwarded(&mut bed, FABRIC, &from(REMOTE, &inner), TENANT_1);
        dropped(&mut bed, FABRIC, &from(STRANGER, &inner), DropReason::StrayInnerSource);
        settled(&bed);
    });
}

/// An ARP message on the fabric.
fn arp(operation: u8, sender: (MacAddr, [u8; 4]), target: (MacAddr, [u8; 4])) -> Vec<u8> {
    let mut frame = [&own_mac(FABRIC).0[..], &sender.0.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    for (mac, address) in [sender, target] {
        frame.extend(mac.0);
        frame.extend(address);
    }
    frame
}

#[test]
fn only_a_reply_to_us_counts_as_an_answer() {
    use tieline_engine::pipeline::outbox::{Learned, Said};
    use tieline_engine::tables::neighbour::NeighbourState;
    let mut bed = gateway(1);
    let (peer, peer_mac) = ([198, 18, 0, 9], MacAddr([2, 0, 0, 0, 0xf, 9]));
    let (own, own_mac) = ([198, 18, 0, 1], own_mac(FABRIC));
    bed.update(|tables| {
        tables.intern_neighbour(FABRIC_INTERFACE, peer.into()).expect("an interface");
    });
    let said = |bed: &mut Testbed, frame: &[u8]| {
        exchange(bed, FABRIC, frame);
        bed.learned().map(|item| match item {
            Learned::Neighbour { said, .. } => said,
            other => panic!("{other:?}"),
        })
    };
    let reply = arp(2, (peer_mac, peer), (own_mac, own));
    assert_eq!(said(&mut bed, &reply), Some(Said::Answer));
    for claim in [
        arp(1, (peer_mac, peer), (MacAddr::default(), own)),
        arp(1, (peer_mac, peer), (MacAddr::default(), peer)),
        arp(2, (peer_mac, peer), (MacAddr::BROADCAST, peer)),
        arp(2, (peer_mac, peer), (own_mac, peer)),
        arp(2, (peer_mac, peer), (peer_mac, own)),
    ] {
        assert_eq!(said(&mut bed, &claim), Some(Said::Claim));
    }
    // Of what is known already, claims say nothing new, and are not passed on.
    bed.update(|tables| {
        let id = tables.neighbour_index[&(FABRIC_INTERFACE, peer.into())];
        let neighbour = tables.neighbours.get_mut(id.index()).expect("known");
        neighbour.state = NeighbourState::Resolved;
        neighbour.header.set_destination(peer_mac);
    });
    assert_eq!(said(&mut bed, &arp(1, (peer_mac, peer), (MacAddr::default(), own))), None);
    assert_eq!(said(&mut bed, &reply), Some(Said::Answer));
    // And who says that our address is its own is dropped by name.
    dropped(&mut bed, FABRIC, &arp(1, (peer_mac, own), (MacAddr::default(), own)), DropReason::OwnSource);
    settled(&bed);
}
