//! The longest-prefix match: lookups, changes and memory.
//!
//! `cargo bench -p tieline-bench-micro --bench fib`. Times of lookups are for 65,536
//! keys, which hit random routes: one by one, and in bursts of 64. Times of
//! changes are for a withdrawal and an announcement together.

#![allow(missing_docs, reason = "the macros of criterion make undocumented functions")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use tieline_bench_micro::random::Random;
use tieline_bench_micro::routes::{self, Prefix};
use tieline_engine::tables::fib::{Fib, FibKey};
use tieline_engine::tables::vrf::FibEntry;
use tieline_engine::types::{NextHopId, SgSetId};

/// Keys that one iteration looks up.
const KEYS: usize = 1 << 16;
const BURST: usize = 64;

fn entry(n: usize) -> FibEntry {
    FibEntry { next_hop: NextHopId(n as u32), sg_set: SgSetId::EMPTY }
}

/// Loads a table and reports what it took.
fn load<K: FibKey>(name: &str, routes: &[Prefix<K>]) -> Fib<K> {
    let start = Instant::now();
    let mut fib = Fib::default();
    for (n, (prefix, length)) in routes.iter().enumerate() {
        fib.insert(*prefix, *length, entry(n));
    }
    let took = start.elapsed();
    eprintln!(
        "{name}: {} routes, {:.1} bytes a route, loaded in {took:?}",
        fib.len(),
        fib.memory_bytes() as f64 / fib.len() as f64,
    );
    fib
}

/// Reports what a table takes by the system's account, the allocator's own
/// part included. Of several tables the last ones count: the first may have
/// found memory that was free before. They are returned so that they do not
/// leave such memory to the next measurement.
fn load_resident<K: FibKey>(name: &str, routes: &[Prefix<K>]) -> [Vec<Fib<K>>; 2] {
    const COUNTED: usize = 4;
    let first: Vec<Fib<K>> = (0..COUNTED).map(|_| load(name, routes)).collect();
    let before = resident_bytes();
    let counted: Vec<Fib<K>> = (0..COUNTED).map(|_| load(name, routes)).collect();
    let bytes = resident_bytes().saturating_sub(before);
    let routes: usize = counted.iter().map(Fib::len).sum();
    eprintln!("{name}: {:.1} bytes a route resident", bytes as f64 / routes as f64);
    [first, counted]
}

/// What the process has in memory, 0 where the system does not say.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

fn lookups<K: FibKey>(
    criterion: &mut Criterion,
    name: &str,
    routes: &[Prefix<K>],
    host: impl Fn(u64, K) -> K,
) {
    let fib = load(name, routes);
    let mut random = Random::new(2);
    let keys: Vec<K> = (0..KEYS)
        .map(|_| {
            let (prefix, _) = routes[random.below(routes.len() as u64) as usize];
            host(random.bits(), prefix)
        })
        .collect();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("lookup", |bencher| {
        bencher.iter(|| {
            for key in &keys {
                black_box(fib.lookup(black_box(*key)));
            }
        });
    });
    group.bench_function("lookup_burst", |bencher| {
        let mut out = [None; BURST];
        bencher.iter(|| {
            for keys in keys.chunks_exact(BURST) {
                fib.lookup_burst(keys, &mut out);
                black_box(&out);
            }
        });
    });
    group.finish();
}

/// A withdrawal and an announcement, in a table that nobody shares, and in
/// one of which a copy was published before each, `batch` changes apart.
fn changes(criterion: &mut Criterion, name: &str, routes: &[Prefix<u32>]) {
    let mut fib = load(name, routes);
    let mut random = Random::new(3);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(2));
    for (label, batch) in [("unshared", u64::MAX), ("published each", 1), ("published each 100", 100)] {
        group.bench_function(label, |bencher| {
            bencher.iter_custom(|count| {
                let mut published = None;
                let mut total = Duration::ZERO;
                for n in 0..count {
                    let (prefix, length) = routes[random.below(routes.len() as u64) as usize];
                    if batch != u64::MAX && n % batch == 0 {
                        // The old copy is dropped here, outside the time.
                        published = Some(fib.clone());
                    }
                    let start = Instant::now();
                    let old = fib.remove(prefix, length);
                    fib.insert(prefix, length, old.unwrap_or(entry(0)));
                    total += start.elapsed();
                }
                drop(black_box(published));
                total
            });
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let mut random = Random::new(1);
    let host4 = |bits: u64, prefix: u32| prefix | bits as u32 & 0xFF;
    let host6 = |bits: u64, prefix: u128| prefix | u128::from(bits);
    for (name, count) in [("ipv4_1k", 1000), ("ipv4_100k", 100_000), ("ipv4_1m", 1_000_000)] {
        lookups(criterion, name, &routes::ipv4(count, &mut random), host4);
    }
    lookups(criterion, "ipv6_100k", &routes::ipv6(100_000, &mut random), host6);
    changes(criterion, "ipv4_1m_change", &routes::ipv4(1_000_000, &mut random));
}

/// Tables of other shapes, of which only the memory is of interest.
fn memory(_: &mut Criterion) {
    let mut random = Random::new(4);
    let _kept4 = load_resident("ipv4_1m", &routes::ipv4(1_000_000, &mut random));
    let _kept6 = load_resident("ipv6_1m", &routes::ipv6(1_000_000, &mut random));
    load("pods_100k", &routes::pods(100_000, &mut random));
    load("ipv4_scattered_1m", &routes::scattered(1_000_000, &mut random));
    load("ipv6_scattered_1m", &routes::scattered6(1_000_000, &mut random));
}

fn configuration() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = fib;
    config = configuration();
    targets = all, memory
}
criterion_main!(fib);
