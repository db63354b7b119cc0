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
    seed: u64,
    step: usize,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let size = Size { workers: 1, sessions: 512, buffers: 4096, counted: 64 };
        let mut beds = [gateway_of_size(size), gateway_of_size(size)];
        beds[1].update(|tables| tables.options.express = false);
        Self { beds, seed, step: 0 }
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
            assert_eq!(seen(with, number), seen(without, number), "{at}: interface or VRF {number}");
        }
    }

    /// Packets that took the express stage all the way.
    fn by_express(&self) -> u64 {
        let stages = &self.beds[0].counters(0).stages;
        stages.of(Stage::Express).packets - stages.of(Stage::Parse).packets
    }
}

/// What is counted for an interface and a VRF of this number.
fn seen(bed: &Testbed, number: u16) -> [u64; 6] {
    let counters = bed.counters(0);
    let traffic = |traffic: &Traffic| [traffic.packets.value(), traffic.bytes.value()];
    let interface = counters.interface(InterfaceId(u32::from(number))).expect("counted");
    let vrf = counters.vrf(VrfId(number)).expect("counted");
    let [a, b] = traffic(&interface.rx);
    let [c, d] = traffic(&interface.tx);
    let [e, f] = traffic(&vrf.routed);
    [a, b, c, d, e, f]
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

fn compare(seed: u64) {
    let mut random = Random::new(seed);
    let mut twins = Twins::new(seed);
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
    assert!(express * 20 > all, "only {express} of {all} packets were plain");
    assert_eq!(twins.beds[1].counters(0).stages.of(Stage::Express).packets, all, "it was asked and declined");
}

#[test]
fn random_traffic_leaves_no_trace_of_the_way_it_took() {
    for seed in [0x5eed_0001, 0x5eed_0002, 0x5eed_0003] {
        compare(seed);
    }
}

#[test]
fn every_tunnel_is_written_alike_for_every_length() {
    let mut twins = Twins::new(0);
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
    let mut twins = Twins::new(0);
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
