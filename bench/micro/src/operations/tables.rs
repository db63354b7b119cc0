//! What a packet is looked up in.

use std::hint::black_box;

use tieline_engine::io::BURST;
use tieline_engine::packet::flow_key::{Family, FlowKey};
use tieline_engine::policy::{Direction, FirstPacket, L4Match, Policy, Remote, Rule};
use tieline_engine::session::{Allowance, Decision, NewSession, SessionLimits, SessionTable, Tick};
use tieline_engine::tables::fib::{Fib, FibKey};
use tieline_engine::tables::vrf::FibEntry;
use tieline_engine::types::{InterfaceId, NextHopId, SgId, SgSetId, VrfId};

use super::{Operation, Run, operation, over};
use crate::random::Random;
use crate::routes::{self, Prefix};

/// Keys that are looked up in a routing table.
const KEYS: usize = 1 << 14;

const ROOM: &str = "the benchmark's own table has room";

pub(super) fn all() -> Vec<Operation> {
    vec![
        operation("fib_ipv4_1k_single", || single(ipv4(1000))),
        operation("fib_ipv4_1k_burst", || burst(ipv4(1000))),
        operation("fib_ipv4_100k_single", || single(ipv4(100_000))),
        operation("fib_ipv4_100k_burst", || burst(ipv4(100_000))),
        operation("fib_ipv6_100k_single", || single(ipv6(100_000))),
        operation("fib_ipv6_100k_burst", || burst(ipv6(100_000))),
        operation("session_hit_1k", || session_hit(1000)),
        operation("session_hit_100k", || session_hit(100_000)),
        operation("session_hit_1m", || session_hit(1_000_000)),
        operation("session_new", session_new),
        operation("policy_5", || policy(5)),
        operation("policy_50", || policy(50)),
        operation("policy_500", || policy(500)),
    ]
}

/// A routing table, and keys that hit random routes of it.
fn loaded<K: FibKey>(routes: &[Prefix<K>], host: impl Fn(u64, K) -> K) -> (Fib<K>, Vec<K>) {
    let mut fib = Fib::default();
    for (n, (prefix, length)) in (0..).zip(routes) {
        fib.insert(*prefix, *length, FibEntry { next_hop: NextHopId(n), sg_set: SgSetId::EMPTY });
    }
    let mut random = Random::new(2);
    let mut key = || {
        let (prefix, _) = routes[random.below(routes.len() as u64) as usize];
        host(random.bits(), prefix)
    };
    let keys = (0..KEYS).map(|_| key()).collect();
    (fib, keys)
}

fn ipv4(count: usize) -> (Fib<u32>, Vec<u32>) {
    loaded(&routes::ipv4(count, &mut Random::new(1)), |bits, prefix| prefix | bits as u32 & 0xFF)
}

fn ipv6(count: usize) -> (Fib<u128>, Vec<u128>) {
    loaded(&routes::ipv6(count, &mut Random::new(1)), |bits, prefix| prefix | u128::from(bits))
}

fn single<K: FibKey + 'static>((fib, keys): (Fib<K>, Vec<K>)) -> Run {
    over(keys, move |key| {
        black_box(fib.lookup(black_box(*key)));
    })
}

fn burst<K: FibKey + 'static>((fib, keys): (Fib<K>, Vec<K>)) -> Run {
    let mut out = [None; BURST];
    bursts(keys, move |keys| {
        fib.lookup_burst(black_box(keys), &mut out);
        black_box(&out);
    })
}

/// Carries out `one` on bursts of the inputs in turn; those at the end that
/// do not fill a burst are left out.
fn bursts<T: 'static>(inputs: Vec<T>, mut one: impl FnMut(&[T; BURST]) + 'static) -> Run {
    let mut next = 0;
    Box::new(move |count| {
        let (bursts, _) = inputs.as_chunks::<BURST>();
        let rounds = count.div_ceil(BURST);
        for _ in 0..rounds {
            one(&bursts[next]);
            next = if next + 1 == bursts.len() { 0 } else { next + 1 };
        }
        rounds * BURST
    })
}

/// The key of a UDP flow.
fn key(flow: u32) -> FlowKey {
    let mut key =
        FlowKey { source_port: 5000, destination_port: 53, protocol: 17, vrf: VrfId(1), ..FlowKey::ZERO };
    key.source[..4].copy_from_slice(&[10, 1, 0, 10]);
    key.destination[..4].copy_from_slice(&(10 << 24 | 2 << 20 | flow).to_be_bytes());
    key
}

const NEW: NewSession = NewSession {
    forward: Decision { next_hop: NextHopId(1), generation: 1, ingress: InterfaceId(1) },
    reverse: None,
    tcp_flags: None,
};

fn insert(table: &mut SessionTable, key: &FlowKey, now: Tick) {
    table.insert(*key, key.reversed(key.vrf), &NEW, Allowance::ALL, now).expect(ROOM);
}

/// A packet of a known flow: hash, find, count. In bursts, as the pipeline
/// does it, and in another order than that of the sessions in memory.
fn session_hit(sessions: u32) -> Run {
    let capacity = 2 * sessions as usize;
    let mut table = SessionTable::new(SessionLimits { capacity, ..SessionLimits::with_seed(1) });
    let mut keys: Vec<FlowKey> = (0..sessions).map(key).collect();
    keys.iter().for_each(|key| insert(&mut table, key, Tick(0)));
    let mut random = Random::new(1);
    for last in (1..keys.len()).rev() {
        keys.swap(last, random.below(last as u64 + 1) as usize);
    }
    bursts(keys, move |keys| {
        let hashes = std::array::from_fn::<_, BURST, _>(|n| {
            let hash = table.hash(&keys[n]);
            table.prefetch(hash);
            hash
        });
        for (key, hash) in keys.iter().zip(hashes) {
            let at = table.lookup(key, hash).expect("all flows have sessions");
            let _ = black_box(table.touch(at, 46, None, Tick(0)));
        }
    })
}

/// The beginning of one session and the end of another.
fn session_new() -> Run {
    // Sixteen steps are the idle timeout of UDP: 17 bursts are alive at most.
    const STEP: u32 = 30;
    let mut table = SessionTable::new(SessionLimits { capacity: 4096, ..SessionLimits::with_seed(1) });
    let mut now = Tick(0);
    bursts((0..8192).map(key).collect(), move |keys| {
        now = now.after(STEP);
        keys.iter().for_each(|key| insert(&mut table, key, now));
        black_box(table.expire(now, 2 * BURST));
    })
}

/// The last of so many rules is the one that allows the packet.
fn policy(rules: u16) -> Run {
    let rule = |port| Rule {
        group: SgId(1),
        family: None,
        protocol: Some(17),
        l4: L4Match::Ports { first: port, last: port },
        remote: Remote::Any,
    };
    let policy = Policy::new(SgSetId::EMPTY, (1..=rules).map(|port| (Direction::Ingress, rule(port))));
    let keys = (0..128).map(|flow| FlowKey { destination_port: rules, family: Family::V4, ..key(flow) });
    over(keys.collect(), move |key: &mut FlowKey| {
        let packet = FirstPacket { key: black_box(key), icmp: None, peer_groups: &[] };
        black_box(policy.allows(Direction::Ingress, &packet)).expect("the last rule allows it");
    })
}
