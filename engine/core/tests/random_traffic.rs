//! An hour of mixed random traffic, compressed: valid packets, mutated ones
//! and noise, on every port, while tables change and time passes. The doors
//! add up and every buffer returns.

mod support;

use support::random::{Random, change_tables, frame};
use tieline_engine::session::tick::Tick;
use tieline_engine::testbed::Size;
use tieline_engine::testbed::topology::gateway_of_size;
use tieline_engine::types::PortId;

fn hour_of_traffic(workers: usize, seed: u64) {
    let mut random = Random::new(seed);
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
    assert!(balance.transmitted > 8_000 && balance.dropped > 10_000, "a mix: {balance:?}");
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
