//! How fast the store is, with a million routes: `cargo run --release -p
//! tieline-store --example throughput [DIRECTORY]`.
//!
//! CPU is that of the whole process, the store's own threads included.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use tieline_store::{Changes, Options, Store, StoreError};

const ROUTES: u32 = 1_000_000;
const BATCH: u32 = 1000;
/// Routes that share their attributes.
const SHARED: u32 = 250;

/// CPU time of this process; the kernel counts it in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// A line of `/proc/self/status`.
fn memory(line: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_default().trim().to_owned()
}

/// A route of the table, in an order that has little to do with addresses.
fn route(number: u32) -> (u32, IpNet) {
    let place = (u64::from(number) * 387_420_489 % u64::from(ROUTES)) as u32;
    (place / SHARED, Ipv4Net::new((place << 8).into(), 24).map(IpNet::from).unwrap_or_default())
}

fn measure(
    what: &str,
    records: u32,
    work: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (cpu_before, begun) = (cpu(), Instant::now());
    work()?;
    let (wall, cpu) = (begun.elapsed(), cpu() - cpu_before);
    eprintln!(
        "{what:<34} {:>7.1} ms, {:.3} us CPU a record, {} resident without files, at most {} in all",
        wall.as_secs_f64() * 1e3,
        cpu.as_secs_f64() * 1e6 / f64::from(records),
        memory("RssAnon:"),
        memory("VmHWM:"),
    );
    Ok(())
}

fn write_all(store: &Store, put: impl Fn(&mut Changes, u32, IpNet)) -> Result<(), StoreError> {
    let mut changes = Changes::new();
    for number in 0..ROUTES {
        let (attributes, prefix) = route(number);
        put(&mut changes, attributes, prefix);
        if number % BATCH == BATCH - 1 {
            store.write(&mut changes)?;
        }
    }
    store.write(&mut changes)
}

fn load(store: &Store) -> Result<u32, StoreError> {
    let mut records = 0;
    store.load(&mut |_| {
        records += 1;
        Ok(())
    })?;
    Ok(records)
}

fn main() -> Result<(), StoreError> {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = directory.join(format!("tieline-store-throughput-{}", std::process::id()));
    let mut store = Store::open(&path, Options::default())?.0;
    measure("write, batches of 1000", ROUTES, || {
        write_all(&store, |changes, attributes, prefix| changes.add_route(attributes, prefix, &[]))
    })?;
    measure("change again, batches of 1000", ROUTES, || {
        write_all(&store, |changes, attributes, prefix| changes.add_route(attributes, prefix, &[1]))
    })?;
    drop(store);
    let begun = Instant::now();
    store = Store::open(&path, Options::default())?.0;
    eprintln!("open {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let mut records = 0;
    measure("load", ROUTES, || {
        records = load(&store)?;
        Ok(())
    })?;
    eprintln!("{records} records, {} bytes on disk", store.disk_bytes()?);
    let mut times = Vec::new();
    let mut changes = Changes::new();
    measure("single changes (10,000)", 10_000, || {
        for number in 0..10_000 {
            let (attributes, prefix) = route(number);
            changes.add_route(attributes, prefix, &[]);
            let begun = Instant::now();
            store.write(&mut changes)?;
            times.push(begun.elapsed());
        }
        Ok(())
    })?;
    times.sort_unstable();
    eprintln!(
        "one change: p50 {:?}, p99 {:?}, p99.9 {:?}, at most {:?}",
        times[5000], times[9900], times[9990], times[9999]
    );
    measure("replace all", ROUTES, || {
        for number in 0..ROUTES {
            let (attributes, prefix) = route(number);
            changes.add_route(attributes, prefix, &[]);
        }
        store.replace_all(&mut changes)
    })?;
    measure("remove, batches of 1000", ROUTES, || write_all(&store, Changes::remove_route))?;
    std::thread::sleep(Duration::from_secs(1));
    eprintln!("{} bytes on disk, {:?}", store.disk_bytes()?, store.health());
    drop(store);
    for left in [path.clone(), path.with_extension("lock")] {
        let _ = std::fs::remove_dir_all(&left);
        let _ = std::fs::remove_file(&left);
    }
    Ok(())
}
