//! A whole gateway in memory: security groups, sessions, fragments.

mod support;

use std::sync::Arc;

use support::*;
use tieline_engine::DropReason;
use tieline_engine::packet::flow_key::Family;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::Allowance;
use tieline_engine::session::tick::Tick;
use tieline_engine::testbed::topology::*;
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::types::{NextHopId, PortId, SgId, SgSetId, VrfId};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn rule(protocol: Option<u8>, l4: L4Match, remote: Remote) -> Rule {
    Rule { group: SgId(100), family: None, protocol, l4, remote }
}

fn any() -> Rule {
    rule(None, L4Match::Any, Remote::Any)
}

fn ports(protocol: u8, first: u16, last: u16) -> Rule {
    rule(Some(protocol), L4Match::Ports { first, last }, Remote::Any)
}

fn policy(rules: &[(Direction, Rule)]) -> Option<Policy> {
    Some(Policy::new(SgSetId::EMPTY, rules.iter().copied()))
}

fn protect(bed: &mut Testbed, port: PortId, rules: &[(Direction, Rule)]) {
    bed.update(|tables| set_policy(tables, port, policy(rules)));
}

fn far_udp(ports: (u16, u16)) -> Vec<u8> {
    tunnelled(LABEL, &inner_udp(FAR, W1, ports, b"x"))
}

fn far_tcp(ports: (u16, u16), kind: Tcp) -> Vec<u8> {
    tunnelled(LABEL, &inner_tcp(FAR, W1, ports, kind))
}

fn sessions(bed: &Testbed) -> u64 {
    (0..bed.workers.len()).map(|at| bed.counters(at).sessions.value()).sum()
}

/// Runs a test with one worker and with three.
fn with_workers(test: impl Fn(Testbed)) {
    for workers in [1, 3] {
        test(gateway(workers));
    }
}

#[test]
fn nothing_passes_without_a_rule_in_either_direction() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[]);
        let out = udp_from(TENANT_1, W1, FAR, (1, 2), b"");
        dropped(&mut bed, TENANT_1, &out, DropReason::SgDeniedEgress);
        dropped(&mut bed, FABRIC, &far_udp((2, 1)), DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn the_gateway_itself_is_not_behind_the_rules() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[]);
        forwarded(&mut bed, TENANT_1, &echo_from(TENANT_1, W1, "10.1.0.1", 64), TENANT_1);
        settled(&bed);
    });
}

#[test]
fn replies_to_what_was_allowed_pass() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
        let syn = tcp_from(TENANT_1, W1, FAR, (4000, 80), Tcp::Syn);
        forwarded(&mut bed, TENANT_1, &syn, FABRIC);
        forwarded(&mut bed, FABRIC, &far_tcp((80, 4000), Tcp::SynAck), TENANT_1);
        let ack = tcp_from(TENANT_1, W1, FAR, (4000, 80), Tcp::Ack);
        forwarded(&mut bed, TENANT_1, &ack, FABRIC);
        dropped(&mut bed, FABRIC, &far_tcp((81, 4000), Tcp::Syn), DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn a_tcp_segment_opens_no_session_unless_it_is_a_syn() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Ingress, any())]);
        dropped(&mut bed, FABRIC, &far_tcp((80, 4000), Tcp::Ack), DropReason::TcpInvalidState);
        dropped(&mut bed, FABRIC, &far_tcp((80, 4000), Tcp::Rst), DropReason::TcpInvalidState);
        forwarded(&mut bed, FABRIC, &far_tcp((80, 4000), Tcp::Syn), TENANT_1);
        settled(&bed);
    });
}

#[test]
fn rules_match_ports_and_protocols() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Ingress, ports(UDP, 100, 200))]);
        forwarded(&mut bed, FABRIC, &far_udp((9, 100)), TENANT_1);
        forwarded(&mut bed, FABRIC, &far_udp((9, 200)), TENANT_1);
        dropped(&mut bed, FABRIC, &far_udp((9, 201)), DropReason::SgDeniedIngress);
        dropped(&mut bed, FABRIC, &far_tcp((9, 100), Tcp::Syn), DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn a_group_on_a_route_lets_its_members_in_and_nobody_else() {
    with_workers(|mut bed| {
        bed.update(|tables| {
            let set: Arc<[SgId]> = Arc::from([SgId(7), SgId(8_000_001)]);
            tables.sg_sets.insert(5, set);
            let friends = "10.2.0.0/24".parse().expect("a prefix");
            add_route(tables, VRF, friends, REMOTE_NEXT_HOP, SgSetId(5));
            let from_friends = rule(None, L4Match::Any, Remote::Group(SgId(8_000_001)));
            set_policy(tables, TENANT_1, policy(&[(Direction::Ingress, from_friends)]));
        });
        forwarded(&mut bed, FABRIC, &far_udp((1, 2)), TENANT_1);
        let stranger = tunnelled(LABEL, &inner_udp("10.2.9.9", W1, (1, 2), b"x"));
        dropped(&mut bed, FABRIC, &stranger, DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn both_ends_are_asked_when_both_are_here() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, ports(UDP, 53, 53))]);
        protect(&mut bed, TENANT_2, &[(Direction::Ingress, ports(UDP, 50, 60))]);
        let ask = |port| udp_from(TENANT_1, W1, W2, (9, port), b"");
        forwarded(&mut bed, TENANT_1, &ask(53), TENANT_2);
        dropped(&mut bed, TENANT_1, &ask(54), DropReason::SgDeniedEgress);
        protect(&mut bed, TENANT_2, &[]);
        dropped(&mut bed, TENANT_1, &ask(53), DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn a_changed_rule_cuts_live_sessions_in_both_directions_and_restores_them() {
    with_workers(|mut bed| {
        let allow = [(Direction::Egress, any())];
        protect(&mut bed, TENANT_1, &allow);
        let out = udp_from(TENANT_1, W1, FAR, (1, 2), b"");
        forwarded(&mut bed, TENANT_1, &out, FABRIC);
        forwarded(&mut bed, FABRIC, &far_udp((2, 1)), TENANT_1);
        protect(&mut bed, TENANT_1, &[(Direction::Egress, ports(TCP, 0, 65535))]);
        // The reply is judged by what the session's first packet would be.
        dropped(&mut bed, FABRIC, &far_udp((2, 1)), DropReason::SgDeniedEgress);
        dropped(&mut bed, TENANT_1, &out, DropReason::SgDeniedEgress);
        protect(&mut bed, TENANT_1, &allow);
        forwarded(&mut bed, TENANT_1, &out, FABRIC);
        forwarded(&mut bed, FABRIC, &far_udp((2, 1)), TENANT_1);
        settled(&bed);
    });
}

#[test]
fn a_connection_that_was_cut_goes_on_when_it_is_allowed_again() {
    with_workers(|mut bed| {
        let allow = [(Direction::Egress, any())];
        protect(&mut bed, TENANT_1, &allow);
        forwarded(&mut bed, TENANT_1, &tcp_from(TENANT_1, W1, FAR, (1, 2), Tcp::Syn), FABRIC);
        forwarded(&mut bed, FABRIC, &far_tcp((2, 1), Tcp::SynAck), TENANT_1);
        let data = tcp_from(TENANT_1, W1, FAR, (1, 2), Tcp::Ack);
        forwarded(&mut bed, TENANT_1, &data, FABRIC);
        protect(&mut bed, TENANT_1, &[]);
        dropped(&mut bed, TENANT_1, &data, DropReason::SgDeniedEgress);
        dropped(&mut bed, FABRIC, &far_tcp((2, 1), Tcp::Ack), DropReason::SgDeniedEgress);
        protect(&mut bed, TENANT_1, &allow);
        forwarded(&mut bed, FABRIC, &far_tcp((2, 1), Tcp::Ack), TENANT_1);
        forwarded(&mut bed, TENANT_1, &data, FABRIC);
        settled(&bed);
    });
}

#[test]
fn the_other_end_may_begin_anew_where_the_first_is_not_allowed_any_more() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
        forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, W1, FAR, (1, 2), b""), FABRIC);
        protect(&mut bed, TENANT_1, &[(Direction::Ingress, any())]);
        forwarded(&mut bed, FABRIC, &far_udp((2, 1)), TENANT_1);
        forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, W1, FAR, (1, 2), b""), FABRIC);
        settled(&bed);
    });
}

#[test]
fn a_changed_route_moves_live_sessions() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
        let out = udp_from(TENANT_1, W1, FAR, (1, 2), b"");
        forwarded(&mut bed, TENANT_1, &out, FABRIC);
        bed.update(|tables| {
            let discard = "10.2.0.5/32".parse().expect("a prefix");
            add_route(tables, VRF, discard, NextHopId::DISCARD, SgSetId::EMPTY);
        });
        dropped(&mut bed, TENANT_1, &out, DropReason::DiscardRoute);
        settled(&bed);
    });
}

#[test]
fn an_unfiltered_interface_needs_no_session_beside_a_filtered_one() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[]);
        let out = udp_from(TENANT_2, W2, FAR, (1, 2), b"");
        forwarded(&mut bed, TENANT_2, &out, FABRIC);
        let middle = tunnelled(LABEL, &inner_tcp(FAR, W2, (1, 2), Tcp::Ack));
        forwarded(&mut bed, FABRIC, &middle, TENANT_2);
        bed.now = Tick(100);
        bed.run();
        assert_eq!(sessions(&bed), 0);
        settled(&bed);
    });
}

#[test]
fn icmp_queries_have_sessions_and_errors_belong_to_one() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
        let request = echo_from(TENANT_1, W1, FAR, 64);
        let (_, mut inner) = untunnelled(&forwarded(&mut bed, TENANT_1, &request, FABRIC));
        // The far host answers: the addresses change places.
        inner[12..20].rotate_left(4);
        inner[20] = 0;
        let reply = tunnelled(LABEL, &inner);
        forwarded(&mut bed, FABRIC, &reply, TENANT_1);
        // The session lets the reply in, but no request of the far host's own.
        inner[20] = 8;
        dropped(&mut bed, FABRIC, &tunnelled(LABEL, &inner), DropReason::SgDeniedIngress);

        let out = udp_from(TENANT_1, W1, FAR, (7, 8), b"");
        let (_, sent) = untunnelled(&forwarded(&mut bed, TENANT_1, &out, FABRIC));
        forwarded(&mut bed, FABRIC, &tunnelled(LABEL, &port_unreachable(&sent)), TENANT_1);
        let mut unrelated = sent.clone();
        unrelated[21] ^= 1;
        dropped(
            &mut bed,
            FABRIC,
            &tunnelled(LABEL, &port_unreachable(&unrelated)),
            DropReason::SgDeniedIngress,
        );
        // An error that quotes a session of somebody else's gets nobody in.
        let mut not_to_the_sender = sent.clone();
        not_to_the_sender[12..16].copy_from_slice(&[10, 1, 0, 20]);
        dropped(
            &mut bed,
            FABRIC,
            &tunnelled(LABEL, &port_unreachable(&not_to_the_sender)),
            DropReason::SgDeniedIngress,
        );
        // Nor one that quotes a session that is not allowed any more.
        protect(&mut bed, TENANT_1, &[]);
        dropped(&mut bed, FABRIC, &tunnelled(LABEL, &port_unreachable(&sent)), DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

/// The far host's answer to a UDP packet that nobody listens for.
fn port_unreachable(quoted: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(quoted);
    let sum = tieline_engine::packet::checksum::checksum(&body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4_packet(FAR, W1, ICMP, 0, &body)
}

/// An IPv4 packet without options.
fn ipv4_packet(source: &str, destination: &str, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let (std::net::IpAddr::V4(s), std::net::IpAddr::V4(d)) = (ip(source), ip(destination)) else {
        panic!("IPv4")
    };
    let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0];
    packet.extend(s.octets());
    packet.extend(d.octets());
    let length = (packet.len() + payload.len()) as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    let sum = tieline_engine::packet::checksum::checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn icmp_rules_match_the_type() {
    with_workers(|mut bed| {
        let echo = rule(Some(ICMP), L4Match::Icmp { kind: 8, code: None }, Remote::Any);
        let v4_echo = Rule { family: Some(Family::V4), ..echo };
        protect(&mut bed, TENANT_1, &[(Direction::Egress, v4_echo)]);
        forwarded(&mut bed, TENANT_1, &echo_from(TENANT_1, W1, FAR, 64), FABRIC);
        let v6 = echo_from(TENANT_1, W1_V6, FAR_V6, 64);
        dropped(&mut bed, TENANT_1, &v6, DropReason::SgDeniedEgress);
        settled(&bed);
    });
}

#[test]
fn later_fragments_follow_their_first_for_two_seconds() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Ingress, ports(UDP, 100, 100))]);
        let mut datagram = vec![0, 9, 0, 100, 0, 72, 0, 0];
        datagram.extend([0x77; 64]);
        let piece = |fragment, part: &[u8]| tunnelled(LABEL, &ipv4_packet(FAR, W1, UDP, fragment, part));
        let first = piece(0x2000, &datagram[..24]);
        let later = piece(3, &datagram[24..]);
        // One that comes early waits for the first.
        assert!(exchange(&mut bed, FABRIC, &later).is_empty());
        assert_eq!(bed.balance().in_flight, 1);
        let both = exchange(&mut bed, FABRIC, &first);
        let ports: Vec<PortId> = both.iter().map(|(port, _)| *port).collect();
        assert_eq!(ports, [TENANT_1, TENANT_1]);
        assert!(both[0].1.len() < both[1].1.len(), "the first one first");
        forwarded(&mut bed, FABRIC, &later, TENANT_1);
        bed.now = bed.now.after(Tick::PER_SECOND * 2 + 1);
        assert!(exchange(&mut bed, FABRIC, &later).is_empty());
        bed.now = bed.now.after(Tick::PER_SECOND * 2);
        bed.run();
        assert_eq!(bed.drops(DropReason::FragmentBeforeFirst), 1);

        let mut refused = datagram.clone();
        refused[3] = 101;
        dropped(&mut bed, FABRIC, &piece(0x2000, &refused[..24]), DropReason::SgDeniedIngress);
        dropped(&mut bed, FABRIC, &later, DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn a_vrf_has_its_quota_of_sessions_and_what_is_unanswered_goes_first() {
    let mut bed = gateway_of_size(Size { sessions: 64, ..Size::default() });
    bed.update(|tables| {
        set_policy(tables, TENANT_1, policy(&[(Direction::Egress, any())]));
        tables.vrfs.get_mut(VRF.index()).expect("the VRF").sessions.quota = 10;
    });
    let asks = |port| udp_from(TENANT_1, W1, FAR, (port, 2), b"");
    let answer = |bed: &mut Testbed, port| {
        forwarded(bed, FABRIC, &far_udp((2, port)), TENANT_1);
    };
    for port in 0..9 {
        forwarded(&mut bed, TENANT_1, &asks(port), FABRIC);
        answer(&mut bed, port);
    }
    // The tenth place goes from one to the next until somebody is answered.
    for port in 9..20 {
        forwarded(&mut bed, TENANT_1, &asks(port), FABRIC);
    }
    dropped(&mut bed, FABRIC, &far_udp((2, 9)), DropReason::SgDeniedIngress);
    answer(&mut bed, 19);
    dropped(&mut bed, TENANT_1, &asks(20), DropReason::SessionQuota);
    // Sessions that are there go on.
    forwarded(&mut bed, TENANT_1, &asks(3), FABRIC);
    bed.update(|tables| tables.vrfs.get_mut(VRF.index()).expect("the VRF").sessions = Allowance::ALL);
    for port in 20..200 {
        forwarded(&mut bed, TENANT_1, &asks(port), FABRIC);
    }
    (0..9).for_each(|port| answer(&mut bed, port));
    for port in 200..300 {
        exchange(&mut bed, TENANT_1, &asks(port));
        exchange(&mut bed, FABRIC, &far_udp((2, port)));
    }
    assert!(bed.drops(DropReason::SessionTableFull) >= 30, "all are answered: {:?}", drops(&bed));
    settled(&bed);
}

#[test]
fn sessions_begin_no_faster_than_their_vrf_may() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
        bed.update(|tables| tables.vrfs.get_mut(VRF.index()).expect("the VRF").sessions.rate = 8);
        let asks = |port| udp_from(TENANT_1, W1, FAR, (port, 2), b"");
        let workers = bed.workers.len() as u64;
        (0..100).for_each(|port| drop(exchange(&mut bed, TENANT_1, &asks(port))));
        let refused = bed.drops(DropReason::SessionRate);
        assert_eq!(refused, 100 - 8 * workers, "{:?}", drops(&bed));
        // A session that is there is not counted, and half a second earns four.
        bed.now = bed.now.after(Tick::PER_SECOND / 2);
        forwarded(&mut bed, TENANT_1, &asks(0), FABRIC);
        (100..200).for_each(|port| drop(exchange(&mut bed, TENANT_1, &asks(port))));
        assert_eq!(bed.drops(DropReason::SessionRate) - refused, 100 - 4 * workers);
        settled(&bed);
    });
}

#[test]
fn idle_sessions_end() {
    with_workers(|mut bed| {
        protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
        forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, W1, FAR, (1, 2), b""), FABRIC);
        bed.now = bed.now.after(Tick::PER_SECOND);
        bed.run();
        assert_eq!(sessions(&bed), 1);
        for _ in 0..40 {
            bed.now = bed.now.after(Tick::PER_SECOND);
            bed.run();
        }
        assert_eq!(sessions(&bed), 0);
        dropped(&mut bed, FABRIC, &far_udp((2, 1)), DropReason::SgDeniedIngress);
        settled(&bed);
    });
}

#[test]
fn a_session_across_two_vrfs_gets_its_replies() {
    with_workers(|mut bed| {
        let other = VrfId(2);
        bed.update(|tables| {
            tables.vrfs.insert(other.index(), tables.vrfs.get(VRF.index()).expect("the VRF").clone());
            tables.interfaces.get_mut(TENANT_2.index()).expect("tenant 2").vrf = other;
            let to_other = push(tables, tieline_engine::tables::next_hop::NextHop::Vrf(other), 30);
            let back = push(tables, tieline_engine::tables::next_hop::NextHop::Vrf(VRF), 30);
            let net = |text: &str| text.parse().expect("a prefix");
            add_route(tables, VRF, net("10.1.0.20/32"), to_other, SgSetId::EMPTY);
            add_route(tables, other, net("10.1.0.10/32"), back, SgSetId::EMPTY);
            set_policy(tables, TENANT_2, policy(&[(Direction::Ingress, ports(UDP, 53, 53))]));
            for vrf in [VRF, other] {
                tables.vrfs.get_mut(vrf.index()).expect("a VRF").stateful = true;
            }
        });
        forwarded(&mut bed, TENANT_1, &udp_from(TENANT_1, W1, W2, (9, 53), b""), TENANT_2);
        forwarded(&mut bed, TENANT_2, &udp_from(TENANT_2, W2, W1, (53, 9), b""), TENANT_1);
        let unasked = udp_from(TENANT_2, W2, W1, (54, 9), b"");
        dropped(&mut bed, TENANT_2, &unasked, DropReason::SgDeniedEgress);
        settled(&bed);
    });
}

#[test]
fn many_flows_in_one_burst_find_their_owners() {
    let mut bed = gateway(3);
    protect(&mut bed, TENANT_1, &[(Direction::Egress, any())]);
    for round in 0..5u16 {
        for flow in 0..200u16 {
            assert!(bed.send(TENANT_1, &udp_from(TENANT_1, W1, FAR, (flow, 2), &round.to_be_bytes())));
        }
        bed.run();
        assert_eq!(bed.discard(FABRIC), 200);
        for flow in 0..200u16 {
            assert!(bed.send(FABRIC, &far_udp((2, flow))));
        }
        bed.run();
        assert_eq!(bed.discard(TENANT_1), 200);
    }
    bed.now = bed.now.after(Tick::PER_SECOND);
    bed.run();
    assert_eq!(sessions(&bed), 200);
    let shares: Vec<u64> = (0..3).map(|at| bed.counters(at).sessions.value()).collect();
    assert!(shares.iter().all(|share| (30..110).contains(share)), "{shares:?}");
    settled(&bed);
}
