//! The Tieline daemon: the packet engine on DPDK, programmed over gRPC.
//!
//! - [`args`], [`config`]: what the operator asks for
//! - [`identity`]: what sets this gateway apart
//! - [`socket`]: the Unix socket, one daemon a path
//! - [`gateway`], [`device_ports`]: what is declared, the tables, the devices
//! - [`control`], [`programmed`]: the two threads between API and engine
//! - [`service`], [`stats`]: the gRPC services
//! - [`server`]: serving them
//! - [`upgrade`]: a new daemon takes over from the one that runs
//!
//! Start: configuration, socket, DPDK, workers, control thread, and last the
//! runtime of the API, so that its threads are not born on a worker's core.

mod args;
mod config;
mod control;
mod device_ports;
mod gateway;
mod identity;
mod programmed;
mod server;
mod service;
mod socket;
mod stats;
mod upgrade;

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use tieline_dpdk::{DpdkIo, Eal, Pool, PoolConfig, register_worker_thread};
use tieline_engine::engine::{Engine, EngineConfig};
use tieline_rib::{Rib, RibOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use args::Args;
use config::Config;
use control::Control;
use device_ports::DevicePorts;
use gateway::Gateway;
use service::operations::Facts;
use socket::ControlSocket;

/// Threads of the API's runtime.
const API_THREADS: usize = 2;
/// How long calls that are being answered may take when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_millis(200);
/// Most free buffers that a thread keeps for itself.
const LARGEST_CACHE: u32 = 256;
/// Packets that can wait in each ring between threads.
const RING_DEPTH: usize = 4096;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tieline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let config = configuration(&args)?;
    if args.check {
        say("the configuration is good")?;
        return Ok(());
    }
    start_log(&config)?;
    let started = Instant::now();
    let meeting = upgrade::socket::path(&config.socket);
    let running = if args.take_over { upgrade::socket::meet(&meeting)? } else { None };
    // A daemon that runs keeps its socket until the last moment.
    let running = match running {
        Some(running) => Ok(running),
        None => Err(ControlSocket::bind(&config.socket)?),
    };
    if args.take_over && running.is_err() {
        tracing::info!("there is no daemon to take over from: starting as usual");
    }
    let (engine, mut gateway, facts) = start_engine(&config, started)?;
    let socket = match running {
        Err(socket) => socket,
        Ok(running) => take_over(running, &config, &mut gateway).unwrap_or_else(|error| {
            let _ = writeln!(std::io::stderr(), "tieline: nothing was taken over: {error:#}");
            // Nothing is closed in order: the other daemon uses some of these
            // devices.
            std::process::exit(1);
        }),
    };
    let (batches, waiting) = mpsc::channel();
    programmed::start(engine.clone(), waiting).context("could not start a thread")?;
    let (control, thread) = control::start(gateway, batches).context("could not start a thread")?;
    let meeting = offer_take_over(&meeting, &control);
    let served = serve(&config, &socket, control.clone(), facts);
    drop((socket, meeting));
    stop(&control, thread, &engine);
    served
}

/// Takes everything over from a daemon that runs, its socket last.
fn take_over(running: UnixStream, config: &Config, gateway: &mut Gateway) -> anyhow::Result<ControlSocket> {
    let taking = upgrade::taker::take(running, gateway, config.neighbours.per_interface)?;
    let socket = ControlSocket::replace(&config.socket, socket::MODE)?;
    taking.finish(gateway)?;
    Ok(socket)
}

/// Lets a daemon that comes later take over. It is no reason not to start if
/// that is impossible.
fn offer_take_over(meeting: &Path, control: &Control) -> Option<ControlSocket> {
    let offered = ControlSocket::replace(meeting, upgrade::socket::MODE).map_err(anyhow::Error::from);
    let offered = offered.and_then(|socket| {
        upgrade::giver::start(socket.listener()?, control.clone())?;
        Ok(socket)
    });
    offered
        .inspect_err(|error| {
            tracing::warn!(socket = %meeting.display(), "no daemon will be able to take over: {error:#}");
        })
        .ok()
}

/// The configuration that the command line asks for.
fn configuration(args: &Args) -> anyhow::Result<Config> {
    let default = Path::new(args::DEFAULT_CONFIG);
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None if default.exists() => Config::read(default)?,
        None => Config::default(),
    };
    if let Some(path) = &args.socket {
        config.socket =
            config::check_socket(path.clone()).map_err(|sentence| anyhow::anyhow!("--socket: {sentence}"))?;
    }
    Ok(config)
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => {
            EnvFilter::try_new(&text).context("RUST_LOG is no log filter: use a level such as \"info\"")?
        }
        Err(_) => EnvFilter::try_new(&config.log)?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// DPDK, the workers, and what programs them.
fn start_engine(config: &Config, started: Instant) -> anyhow::Result<(Engine<DpdkIo>, Gateway, Facts)> {
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
    let engine: Engine<DpdkIo> = Engine::start(engine_config(config), pool.clone())?;
    let cores: Vec<String> = config
        .cores
        .iter()
        .map(|core| core.map_or("not pinned".to_owned(), |core| core.to_string()))
        .collect();
    tracing::info!(workers = cores.len(), cores = cores.join(", "), idle = ?config.idle, "started workers");
    let router_mac = config.router_mac.unwrap_or_else(|| identity::router_mac(&config.socket));
    let options =
        RibOptions { default_session_quota: config.session_quota, router_mac, ..RibOptions::default() };
    let rib = Rib::new(config.limits.clone(), options);
    let gateway = Gateway::new(rib, DevicePorts::new(eal, pool, engine.clone()), engine.clone());
    let facts = Facts { boot_id: identity::boot_id(), dpdk_version, hugepages, started };
    tracing::info!(%router_mac, boot_id = %facts.boot_id, "gateway");
    Ok((engine, gateway, facts))
}

/// Free buffers that each thread may keep: all caches, which may grow half as
/// large again, take at most a quarter of the pool.
fn cache_size(buffers: u32, workers: usize) -> u32 {
    // The neighbour service is one more thread with a cache.
    let threads = u32::try_from(workers).unwrap_or(u32::MAX).saturating_add(1);
    LARGEST_CACHE.min(buffers / 6 / threads)
}

fn engine_config(config: &Config) -> EngineConfig {
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
        thread_setup: Arc::new(|| match register_worker_thread() {
            Ok(registration) => Box::new(registration),
            Err(error) => {
                tracing::warn!("a thread works without a cache of buffers, slower: {error}");
                Box::new(())
            }
        }),
        ..EngineConfig::default()
    }
}

/// Serves the API until a signal says that it is enough, or nothing can be
/// programmed any more.
fn serve(config: &Config, socket: &ControlSocket, control: Control, facts: Facts) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("api")
        .enable_all()
        .build()
        .context("could not start the threads of the control API")?;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let unix = tokio::net::UnixListener::from_std(socket.listener()?)?;
        let tcp = match config.listen {
            None => None,
            Some(address) => {
                let listener = server::listen(address)
                    .await
                    .with_context(|| format!("could not listen on {address}"))?;
                tracing::warn!(
                    %address,
                    "the control API is open to everyone who reaches this address: no TLS, no authentication"
                );
                Some(listener)
            }
        };
        let server = server::serve(unix, tcp, control.clone(), facts);
        say(&format!("tieline ready: control API on unix:{}", socket.path().display()))?;
        tracing::info!(socket = %socket.path().display(), "ready");
        tokio::select! {
            failed = server => failed.context("the control API has ended"),
            () = control.ended() => Err(anyhow::anyhow!(
                "the control thread has ended unexpectedly: start the daemon again and program it anew"
            )),
            () = received(&mut terminate) => Ok(()),
            () = received(&mut interrupt) => Ok(()),
        }
    });
    tracing::info!("stopping");
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        // It will never come any more.
        std::future::pending::<()>().await;
    }
}

fn stop(control: &Control, thread: JoinHandle<Gateway>, engine: &Engine<DpdkIo>) {
    control.stop();
    let gateway = thread.join();
    // Workers give up their queues; with the gateway go the devices.
    engine.stop();
    if gateway.is_err() {
        tracing::error!("the control thread had ended early");
    }
    drop(gateway);
    tracing::info!("stopped");
}

/// One line on standard output.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
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
