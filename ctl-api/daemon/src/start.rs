//! DPDK, the workers, and what programs them.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tieline_dpdk::{DeviceSpec, DpdkIo, Eal, Pool, PoolConfig, register_worker_thread};
use tieline_engine::engine::{Engine, EngineConfig};
use tieline_process::system_calls::WorkerFilter;
use tieline_rib::{Limits, Rib, RibOptions};

use crate::config::Config;
use crate::device_ports::DevicePorts;
use crate::gateway::{Gateway, Shared};
use crate::identity;
use crate::service::operations::Facts;

/// Why a daemon does not start on a system that is short of threads.
pub const NO_THREAD: &str = "could not start a thread";
/// Most free buffers that a thread keeps for itself.
const LARGEST_CACHE: u32 = 256;
/// Packets that can wait in each ring between threads.
const RING_DEPTH: usize = 4096;

/// DPDK, the workers, and what programs them.
///
/// # Errors
/// When the system gives less than the configuration asks for.
pub fn start_engine(
    config: &Config,
    started: Instant,
    shared: Shared,
    worker_filter: WorkerFilter,
) -> anyhow::Result<(Engine<DpdkIo>, Gateway, Facts)> {
    let eal = Eal::start(config.eal.clone())?;
    let hugepages = eal.hugepages();
    let dpdk_version = tieline_dpdk::dpdk_version();
    let memory = if hugepages { "hugepages" } else { "no hugepages: running without, slower" };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), dpdk = %dpdk_version, memory, "started DPDK");
    let pool = Pool::new(
        &eal,
        PoolConfig {
            name: "packets".to_owned(),
            count: config.buffers,
            data_room: config.buffer_size,
            cache: cache_size(config.buffers, config.cores.len()),
        },
    )?;
    let engine: Engine<DpdkIo> = Engine::start(engine_config(config, worker_filter), pool.clone())?;
    let cores: Vec<String> = config
        .cores
        .iter()
        .map(|core| core.map_or("not pinned".to_owned(), |core| core.to_string()))
        .collect();
    tracing::info!(workers = cores.len(), cores = cores.join(", "), idle = ?config.idle, "started workers");
    let router_mac = config.router_mac.unwrap_or_else(|| identity::router_mac(&config.api.socket));
    let options = RibOptions {
        default_allowance: config.allowance,
        router_mac,
        device_claims: claims_of,
        ranks: config.ranks.clone(),
        ..RibOptions::default()
    };
    // What is announced is what can be declared.
    let limits = Limits { ports: config.limits.ports.min(tieline_dpdk::MAX_PORTS), ..config.limits.clone() };
    if limits.ports < config.limits.ports {
        tracing::info!(ports = limits.ports, "DPDK takes fewer ports than limits.ports allows");
    }
    let rib = Rib::new(limits, options);
    let allowed = Arc::new(config.devices.clone());
    let ports = DevicePorts::new(eal, pool, engine.clone(), allowed).context(NO_THREAD)?;
    let gateway = Gateway::new(rib, ports, engine.clone(), config.sessions_of_controllers, shared);
    let facts = Facts { boot_id: identity::boot_id(), dpdk_version, hugepages, started };
    tracing::info!(%router_mac, boot_id = %facts.boot_id, "gateway");
    Ok((engine, gateway, facts))
}

/// What a device takes from the host. What is no device takes nothing, and is
/// refused elsewhere.
fn claims_of(device: &str) -> Vec<String> {
    let device = device.parse::<DeviceSpec>();
    let claims = |device: DeviceSpec| {
        let named = std::iter::once(format!("the device {}", device.name()));
        named.chain(device.claims().map(|claim| claim.to_string())).collect()
    };
    device.map(claims).unwrap_or_default()
}

/// Free buffers that each thread may keep: all caches, which may grow half as
/// large again, take at most a quarter of the pool.
fn cache_size(buffers: u32, workers: usize) -> u32 {
    // The neighbour service is one more thread with a cache.
    let threads = u32::try_from(workers).unwrap_or(u32::MAX).saturating_add(1);
    LARGEST_CACHE.min(buffers / 6 / threads)
}

fn engine_config(config: &Config, filter: WorkerFilter) -> EngineConfig {
    EngineConfig {
        cores: config.cores.clone(),
        idle: config.idle,
        sessions: config.sessions,
        fragments: config.fragments,
        interfaces: config.limits.interfaces,
        // The underlay is one more.
        vrfs: config.limits.vrfs + 1,
        ring_depth: RING_DEPTH,
        timeouts: config.timeouts,
        neighbours: config.neighbours,
        options: config.options,
        thread_setup: Arc::new(move || {
            let registration: Box<dyn Any> = match register_worker_thread() {
                Ok(registration) => Box::new(registration),
                Err(error) => {
                    tracing::warn!("a thread works without a cache of buffers, slower: {error}");
                    Box::new(())
                }
            };
            // The process has a filter already, so the kernel takes this one. A worker that
            // had none ends the process: it does not move packets unprotected.
            filter.put_on().expect("a process with a filter takes another");
            registration
        }),
        ..EngineConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_leave_most_of_the_pool_to_everyone() {
        assert_eq!(cache_size(16_384, 1), LARGEST_CACHE);
        for (buffers, workers) in [(1024, 1), (1024, 64), (16_384, 64), (8_388_608, 2)] {
            let cache = cache_size(buffers, workers);
            let all = u64::from(cache) * 3 / 2 * (workers as u64 + 1);
            assert!(all <= u64::from(buffers) / 4 + 64, "{buffers} {workers}");
            assert!(u64::from(cache) * 3 <= u64::from(buffers) * 2);
        }
    }
}
