//! The parts of the engine, each alone.
//!
//! `cargo bench -p tieline-bench-micro --bench micro`. Times are for [`ROUND`]
//! operations; what they are is in `bench/micro/src/operations`.

#![allow(missing_docs, reason = "the macros of criterion make undocumented functions")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use tieline_bench_micro::operations;

/// Operations that one iteration carries out.
const ROUND: usize = 1024;

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("micro");
    group.throughput(Throughput::Elements(ROUND as u64));
    for operation in operations::all() {
        let mut run = None;
        group.bench_function(operation.name, |bencher| {
            // Set up when it is its turn, and only if it is asked for.
            let run = run.get_or_insert_with(|| (operation.make)());
            bencher.iter(|| run(ROUND));
        });
    }
    group.finish();
}

fn configuration() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! {
    name = micro;
    config = configuration();
    targets = all
}
criterion_main!(micro);
