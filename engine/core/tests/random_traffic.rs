//! An hour of mixed random traffic, compressed: valid packets, mutated ones
//! and noise, on every port, while tables change and time passes. The doors
//! add up and every buffer returns.

mod support;

use std::sync::Arc;

use support::*;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::tick::Tick;
use tieline_engine::testbed::topology::*;
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::types::{PortId, SgId, SgSetId};

/// A small generator, seeded so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn valid_frame(random: &mut Random) -> (PortId, Vec<u8>) {
    let ports = (random.below(40) as u16, random.below(40) as u16);
    let payload = vec![0x55; random.below(1800)];
    let tcp = [Tcp::Syn, Tcp::SynAck, Tcp::Ack, Tcp::Rst][random.below(4)];
    match random.below(12) {
        0 => (TENANT_1, udp_from(TENANT_1, W1, FAR, ports, &payload)),
        1 => (TENANT_1, udp_from(TENANT_1, W1_V6, FAR_V6, ports, &payload)),
        2 => (TENANT_1, tcp_from(TENANT_1, W1, FAR, ports, tcp)),
        3 => (TENANT_2, udp_from(TENANT_2, W2, W1, ports, &payload)),
        4 => (TENANT_2, tcp_from(TENANT_2, W2, W1, ports, tcp)),
        5 => (TENANT_1, echo_from(TENANT_1, W1, "10.1.0.1", 64)),
        6 => (TENANT_2, echo_from(TENANT_2, W2, FAR, random.below(3) as u8)),
        7 => (FABRIC, tunnelled(LABEL, &inner_udp(FAR, W1, ports, &payload))),
        8 => (FABRIC, tunnelled(LABEL, &inner_tcp(FAR, W2, ports, tcp))),
        9 => (FABRIC, tunnelled(LABEL, &inner_udp(FAR_V6, W1_V6, ports, &payload))),
        10 => {
            let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 1);
            (FABRIC, tcp_segment(step, ports, tcp, None))
        }
        _ => {
            let other = tieline_engine::types::MacAddr([2, 0, 0, 0, 0, 0xfe]);
            let to = if random.below(2) == 0 { "198.18.0.2" } else { "198.18.0.66" };
            (HOST, tcp_segment(headers(own_mac(HOST), other, "198.18.0.1", to, 1), ports, tcp, None))
        }
    }
}

fn frame(random: &mut Random) -> (PortId, Vec<u8>) {
    let (port, mut bytes) = valid_frame(random);
    match random.below(10) {
        0..5 => {}
        5..8 => {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len().min(90));
                bytes[at] ^= 1 << random.below(8);
            }
        }
        8 => bytes.truncate(random.below(bytes.len() + 1)),
        _ => {
            let start = random.below(bytes.len());
            bytes[start..].iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
    }
    (PortId(if random.below(50) == 0 { random.below(4) as u16 } else { port.0 }), bytes)
}

fn change_tables(random: &mut Random, bed: &mut Testbed) {
    let port = TENANTS[random.below(2)];
    let last = random.below(40) as u16;
    let kind = random.below(3);
    bed.update(|tables| {
        let l4 = L4Match::Ports { first: 0, last };
        let rule = Rule { group: SgId(1), family: None, protocol: Some(17), l4, remote: Remote::Any };
        let both = [(Direction::Egress, rule), (Direction::Ingress, rule)];
        let policy = (kind > 0).then(|| Policy::new(SgSetId::EMPTY, both));
        set_policy(tables, port, policy);
        tables.options.clamp_mss = kind == 1;
        tables.sg_sets.insert(9, Arc::from([SgId(u32::from(last))]));
    });
}

fn hour_of_traffic(workers: usize, seed: u64) {
    let mut random = Random(seed);
    let mut bed = gateway_of_size(Size { workers, sessions: 512, buffers: 4096, ..Size::default() });
    let hour = 3600 * Tick::PER_SECOND;
    let steps = 2400u32;
    let mut waiting = Vec::new();
    for step in 0..steps {
        bed.now = Tick(u32::MAX - hour / 2).after(hour / steps * step);
        if random.below(20) == 0 {
            change_tables(&mut random, &mut bed);
        }
        for _ in 0..random.below(100) {
            let (port, bytes) = frame(&mut random);
            bed.send(port, &bytes);
        }
        bed.run();
        while let Some(item) = bed.unresolved() {
            waiting.push(item);
        }
        for port in 0..4 {
            bed.discard(PortId(port));
        }
        let balance = bed.balance();
        assert!(balance.is_exact(), "seed {seed}, step {step}: {balance:?}");
        // Some wait for a neighbour, in the test's hands; some for the first
        // fragment of their packet, in a worker's.
        let in_flight = balance.in_flight as usize;
        assert!(in_flight >= waiting.len(), "{balance:?}");
        assert_eq!(bed.pool.available() + in_flight, bed.pool.capacity(), "seed {seed}, step {step}");
        if waiting.len() > 1000 {
            break;
        }
    }
    let balance = bed.balance();
    assert!(balance.transmitted > 10_000 && balance.dropped > 10_000, "a mix: {balance:?}");
    waiting.clear();
    bed.now = bed.now.after(3 * Tick::PER_SECOND);
    bed.run();
    assert_eq!(bed.pool.available(), bed.pool.capacity());
}

#[test]
fn one_worker_accounts_for_an_hour_of_random_traffic() {
    hour_of_traffic(1, 0x7133_11e5);
}

#[test]
fn three_workers_account_for_an_hour_of_random_traffic() {
    hour_of_traffic(3, 0x0dd5_0c0f);
}
