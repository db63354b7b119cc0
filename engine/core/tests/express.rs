//! The express stage against the stages that it stands for: two gateways, one
//! with it and one without, get the same traffic and the same changes.

mod support;

use std::net::IpAddr;

use support::random::{Random, change_tables, frame, valid_frame};
use tieline_engine::DropReason;
use tieline_engine::packet::encap::{EncapHeader, EncapOptions};
use tieline_engine::session::tick::Tick;
use tieline_engine::stats::Traffic;
use tieline_engine::stats::stages::Stage;
use tieline_engine::testbed::topology::*;
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::types::{InterfaceId, Label, PortId, Vni, VrfId};

const ALL_PORTS: u16 = 4;
const FLOWS: usize = 24;

/// A gateway with the express stage, and one without.
struct Twins {
    beds: [Testbed; 2],
    workers: usize,
    seed: u64,
    step: usize,
}

impl Twins {
    fn new(seed: u64, workers: usize) -> Self {
        let size = Size { workers, sessions: 512, buffers: 4096, counted: 64 };
        let mut beds = [gateway_of_size(size), gateway_of_size(size)];
        beds[1].update(|tables| tables.options.express = false);
        Self { beds, workers, seed, step: 0 }
    }

    fn change(&mut self, change: impl Fn(&mut Testbed)) {
        self.beds.iter_mut().for_each(change);
    }

    /// Sends a burst to both, and compares everything that can be seen.
    fn burst(&mut self, frames: &[(PortId, Vec<u8>)]) {
        self.step += 1;
        for bed in &mut self.beds {
            for (port, bytes) in frames {
                bed.send(*port, bytes);
            }
            bed.run();
            while bed.unresolved().is_some() {}
        }
        let [with, without] = &self.beds;
        let at = format!("seed {:#x}, step {}", self.seed, self.step);
        for port in (0..ALL_PORTS).map(PortId) {
            let out = |bed: &Testbed| std::iter::from_fn(|| bed.receive(port)).collect::<Vec<_>>();
            let (express, general) = (out(with), out(without));
            assert_eq!(express.len(), general.len(), "{at}: frames out of {port:?}");
            for (express, general) in express.iter().zip(&general) {
                assert_eq!(express, general, "{at}: a frame out of {port:?}");
            }
        }
        assert_eq!(with.balance(), without.balance(), "{at}");
        for reason in DropReason::ALL.iter().copied() {
            assert_eq!(with.drops(reason), without.drops(reason), "{at}: {reason:?}");
        }
        for number in 0..16 {
            let [express, general] = [with, without].map(|bed| self.seen(bed, number));
            assert_eq!(express, general, "{at}: interface or VRF {number}");
        }
    }

    /// Packets that took the express stage all the way; at least so many, if
    /// there are more workers than one, as it looks twice at what is handed over.
    fn by_express(&self) -> u64 {
        let packets = |stage| -> u64 {
            let stages =
                (0..self.workers).map(|worker| self.beds[0].counters(worker).stages.of(stage).packets);
            stages.sum()
        };
        let taken_over = (0..self.workers).map(|worker| self.beds[0].counters(worker).taken_over.value());
        packets(Stage::Express).saturating_sub(packets(Stage::Parse) + taken_over.sum::<u64>())
    }

    /// What is counted for an interface and a VRF of this number.
    fn seen(&self, bed: &Testbed, number: u16) -> [u64; 6] {
        let mut sums = [0; 6];
        for counters in (0..self.workers).map(|worker| bed.counters(worker)) {
            let interface = counters.interface(InterfaceId(u32::from(number))).expect("counted");
            let vrf = counters.vrf(VrfId(number)).expect("counted");
            let traffic = |traffic: &Traffic| [traffic.packets.value(), traffic.bytes.value()];
            let seen = [traffic(&interface.rx), traffic(&interface.tx), traffic(&vrf.routed)];
            for (sum, seen) in sums.iter_mut().zip(seen.as_flattened()) {
                *sum += seen;
            }
        }
        sums
    }
}

/// Every kind of tunnel, over both versions, with and without checksums.
fn encaps() -> Vec<EncapHeader> {
    let v6: (IpAddr, IpAddr) = (support::ip("2001:db8::1"), support::ip("2001:db8::2"));
    let (label, vni) = (Label::new(77).expect("a label"), Vni::new(5001).expect("a VNI"));
    let mut all = Vec::new();
    for (source, remote) in [endpoints().expect("endpoints"), v6] {
        for udp6_zero_checksum in [false, true] {
            let options = EncapOptions { udp6_zero_checksum, ..EncapOptions::default() };
            all.push(EncapHeader::mpls_udp(source, remote, label, options));
            all.push(EncapHeader::mpls_gre(source, remote, label, options));
            all.push(EncapHeader::vxlan(source, remote, vni, REMOTE_MAC, ROUTER_MAC, options));
        }
    }
    all.into_iter().map(|header| header.expect("one family")).collect()
}

fn is_tcp_control(bytes: &[u8]) -> bool {
    // The order of these and other segments of a burst may differ in sessions.
    bytes.windows(2).any(|flags| flags[0] >> 4 >= 5 && flags[1] & 0b111 != 0)
}

fn compare(seed: u64, workers: usize) {
    let mut random = Random::new(seed);
    let mut twins = Twins::new(seed, workers);
    let encaps = encaps();
    let mut flows: Vec<_> = (0..FLOWS).map(|_| valid_frame(&mut random)).collect();
    for step in 0..1500u32 {
        let now = Tick(u32::MAX - 5000).after(step * 7);
        twins.change(|bed| bed.now = now);
        if random.below(20) == 0 {
            let changes = random.next() | 1;
            twins.change(|bed| change_tables(&mut Random::new(changes), bed));
        }
        if random.below(30) == 0 {
            let header = &encaps[random.below(encaps.len())];
            twins.change(|bed| bed.update(|tables| set_encap(tables, header.clone())));
        }
        // Flows that go on for a while.
        flows[random.below(FLOWS)] = valid_frame(&mut random);
        let mut burst = Vec::new();
        for _ in 0..random.below(64) {
            let (port, bytes) = match step % 4 {
                0 => frame(&mut random),
                1 => valid_frame(&mut random),
                _ => flows[random.below(flows.len())].clone(),
            };
            if is_tcp_control(&bytes) {
                twins.burst(&[(port, bytes)]);
            } else {
                burst.push((port, bytes));
            }
        }
        twins.burst(&burst);
    }
    let (express, all) = (twins.by_express(), twins.beds[0].balance().received);
    assert!(workers > 1 || express * 20 > all, "only {express} of {all} packets were plain");
    let asked = twins.beds[1].counters(0).stages.of(Stage::Express).packets;
    assert!(workers > 1 || asked == all, "it was asked and declined");
}

#[test]
fn random_traffic_leaves_no_trace_of_the_way_it_took() {
    for seed in [0x5eed_0001, 0x5eed_0002, 0x5eed_0003] {
        compare(seed, 1);
    }
}

#[test]
fn workers_that_hand_over_what_express_has_read_leave_no_trace_either() {
    for (seed, workers) in [(0x5eed_0004, 2), (0x5eed_0005, 3)] {
        compare(seed, workers);
    }
}

#[test]
fn every_tunnel_is_written_alike_for_every_length() {
    let mut twins = Twins::new(0, 1);
    for header in encaps() {
        twins.change(|bed| bed.update(|tables| set_encap(tables, header.clone())));
        for length in (0..1500).step_by(83) {
            let payload = vec![0x5a; length];
            let frame = support::udp_from(TENANT_1, support::W1, support::FAR, (9, length as u16), &payload);
            let frame6 =
                support::udp_from(TENANT_1, support::W1_V6, support::FAR_V6, (9, length as u16), &payload);
            twins.burst(&[(TENANT_1, frame), (TENANT_1, frame6)]);
        }
    }
    assert!(twins.by_express() > 200);
}

#[test]
fn tunnels_from_sources_that_cannot_be_are_nobodys() {
    let mut twins = Twins::new(0, 1);
    let opening = support::udp_from(TENANT_1, support::W1, support::FAR, (9, 53), b"?");
    twins.burst(&[(TENANT_1, opening)]);
    let reply = support::tunnelled(LABEL, &support::inner_udp(support::FAR, support::W1, (53, 9), b"!"));
    for source in [[127, 0, 0, 1], [224, 0, 0, 5], [0, 0, 0, 7], [255; 4], [169, 254, 0, 1], [203, 0, 113, 9]]
    {
        let mut frame = reply.clone();
        frame[26..30].copy_from_slice(&source);
        frame[24..26].fill(0);
        let sum = tieline_engine::packet::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        twins.burst(&[(FABRIC, frame)]);
    }
    assert!(twins.beds[0].drops(DropReason::MartianSource) >= 4);
    twins.burst(&[(FABRIC, reply)]);
    assert!(twins.by_express() > 0);
}
