//! A gateway takes over from another: its sessions go on in the middle.

mod support;

use support::*;
use tieline_engine::DropReason;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::tick::Tick;
use tieline_engine::tables::Tables;
use tieline_engine::tables::interface::Interface;
use tieline_engine::testbed::topology::*;
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::transfer::{Numbering, SessionRecord};
use tieline_engine::types::{InterfaceId, PortId, SgId, SgSetId, VrfId};
use tieline_engine::worker::transfer::Taken;

fn any() -> Rule {
    Rule { group: SgId(100), family: None, protocol: None, l4: L4Match::Any, remote: Remote::Any }
}

/// A gateway whose workload 1 may open connections and is not called.
fn protected(workers: usize, rules: &[(Direction, Rule)]) -> Testbed {
    let mut bed = gateway(workers);
    bed.update(|tables| {
        set_policy(tables, TENANT_1, Some(Policy::new(SgSetId::EMPTY, rules.iter().copied())));
    });
    bed
}

fn outward() -> [(Direction, Rule); 1] {
    [(Direction::Egress, any())]
}

fn out(ports: (u16, u16), kind: Tcp) -> Vec<u8> {
    tcp_from(TENANT_1, W1, FAR, ports, kind)
}

fn back(ports: (u16, u16), kind: Tcp) -> Vec<u8> {
    tunnelled(LABEL, &inner_tcp(FAR, W1, ports, kind))
}

/// Opens connections and lets a request be asked and answered.
fn open(bed: &mut Testbed, ports: std::ops::Range<u16>) {
    for port in ports {
        forwarded(bed, TENANT_1, &out((port, 80), Tcp::Syn), FABRIC);
        forwarded(bed, FABRIC, &back((80, port), Tcp::SynAck), TENANT_1);
        forwarded(bed, TENANT_1, &out((port, 80), Tcp::Ack), FABRIC);
        forwarded(bed, TENANT_1, &udp_from(TENANT_1, W1, FAR, (port, 53), b"?"), FABRIC);
    }
}

/// Everything that each direction of a session must keep, by its key.
fn kept(bed: &mut Testbed) -> Vec<SessionRecord> {
    let mut sessions = bed.export_sessions();
    sessions.sort_by_key(|session| session.key.words());
    sessions
}

#[test]
fn connections_go_on_in_their_middle_whatever_the_number_of_workers() {
    for (before, after) in [(1, 1), (1, 3), (3, 2)] {
        let mut old = protected(before, &outward());
        open(&mut old, 4000..4040);
        let sessions = kept(&mut old);
        assert_eq!(sessions.len(), 80);

        let mut new = protected(after, &outward());
        new.now = Tick(1000);
        dropped(&mut new, FABRIC, &back((80, 4000), Tcp::Ack), DropReason::SgDeniedIngress);
        dropped(&mut new, TENANT_1, &out((4000, 80), Tcp::Ack), DropReason::TcpInvalidState);
        assert_eq!(new.import_sessions(&sessions), Taken { restored: 80, ..Taken::default() });
        assert_eq!(kept(&mut new), sessions);
        for port in 4000..4040 {
            // Whoever speaks first: the reply's direction has never been decided here.
            if port % 2 == 0 {
                forwarded(&mut new, FABRIC, &back((80, port), Tcp::Ack), TENANT_1);
                forwarded(&mut new, TENANT_1, &out((port, 80), Tcp::Ack), FABRIC);
            } else {
                forwarded(&mut new, TENANT_1, &out((port, 80), Tcp::Ack), FABRIC);
                forwarded(&mut new, FABRIC, &back((80, port), Tcp::Ack), TENANT_1);
            }
            let answer = tunnelled(LABEL, &inner_udp(FAR, W1, (53, port), b"!"));
            forwarded(&mut new, FABRIC, &answer, TENANT_1);
        }
        dropped(&mut new, FABRIC, &back((80, 5000), Tcp::Ack), DropReason::SgDeniedIngress);
        let counted: u64 = kept(&mut new).iter().map(|session| session.packets.iter().sum::<u64>()).sum();
        assert_eq!(counted, 40 * (3 + 1) + 40 * (2 + 1), "counters go on from where they were");
        settled(&new);
    }
}

#[test]
fn what_the_new_rules_do_not_allow_ends_with_the_take_over() {
    let mut old = protected(1, &outward());
    open(&mut old, 4000..4001);
    let mut new = protected(1, &[]);
    assert_eq!(new.import_sessions(&kept(&mut old)).restored, 2);
    dropped(&mut new, TENANT_1, &out((4000, 80), Tcp::Ack), DropReason::SgDeniedEgress);
    dropped(&mut new, FABRIC, &back((80, 4000), Tcp::Ack), DropReason::SgDeniedEgress);
    settled(&new);
}

/// The topology with other numbers: its VRF is 5, its tenant interfaces begin
/// at 11.
fn renumber(tables: &mut Tables) {
    let moved = VrfId(5);
    let vrf = tables.vrfs.remove(VRF.index()).expect("the tenants' VRF");
    tables.vrfs.insert(moved.index(), vrf);
    tables.labels.insert(LABEL as usize, moved);
    for port in TENANTS {
        let old = InterfaceId(u32::from(port.0));
        let interface = tables.interfaces.remove(old.index()).expect("a tenant's interface");
        tables.interfaces.insert(old.index() + 10, Interface { vrf: moved, ..interface });
        let new = InterfaceId(old.0 + 10);
        if let Some(port) = tables.ports.get_mut(port.index()) {
            port.untagged = Some(new);
        }
        for address in [format!("10.1.0.{}0", port.0), format!("2001:db8:1::{}0", port.0)] {
            let neighbour = static_neighbour(tables, new, &address, workload_mac(port));
            let to_it = push(tables, tieline_engine::tables::next_hop::NextHop::Neighbour(neighbour), 40);
            add_route(tables, moved, ip(&address).into(), to_it, SgSetId::EMPTY);
        }
    }
    if let Some(vrf) = tables.vrfs.get_mut(moved.index()) {
        vrf.stateful = true;
    }
}

fn protect_renumbered(bed: &mut Testbed, port: PortId) {
    bed.update(|tables| {
        let interface = tables.interfaces.get_mut(port.index() + 10).expect("a tenant's interface");
        interface.policy = Some(std::sync::Arc::new(Policy::new(SgSetId::EMPTY, outward())));
    });
}

#[test]
fn numbers_may_differ_and_names_tell_which_is_which() {
    let mut old = protected(1, &outward());
    open(&mut old, 4000..4010);
    let sessions = kept(&mut old);

    let mut new = gateway_of_size(Size { workers: 2, ..Size::default() });
    new.update(renumber);
    protect_renumbered(&mut new, TENANT_1);
    let mut numbering = Numbering::default();
    numbering.add_vrf(VRF, VrfId(5));
    assert_eq!(numbering.session(&sessions[0]), None, "its interface is not known");
    numbering.add_interface(FABRIC_INTERFACE, FABRIC_INTERFACE);
    numbering.add_interface(InterfaceId(1), InterfaceId(11));
    let ours: Vec<_> = sessions.iter().filter_map(|session| numbering.session(session)).collect();
    assert_eq!(new.import_sessions(&ours), Taken { restored: 20, ..Taken::default() });
    for port in 4000..4010 {
        forwarded(&mut new, FABRIC, &back((80, port), Tcp::Ack), TENANT_1);
        forwarded(&mut new, TENANT_1, &out((port, 80), Tcp::Ack), FABRIC);
    }
    settled(&new);
}
