//! The Tieline daemon: the packet engine on DPDK, programmed over gRPC.
//!
//! - [`args`], [`config`]: what the operator asks for
//! - [`identity`]: what sets this gateway apart
//! - [`socket`]: the Unix socket, one daemon a path
//! - [`gateway`], [`device_ports`]: what is declared, the tables, the devices
//! - [`control`]: the thread that carries out what the API asks for; [`admission`],
//!   [`batch`], [`sessions`]: its parts without clocks and threads
//! - [`acknowledge`], [`persist`]: the threads behind it, and the store
//! - [`changes`], [`events`]: what watchers hear of
//! - [`service`], [`stats`]: the gRPC services
//! - [`server`]: serving them
//! - [`security`]: who may do what, and how much of it
//! - [`upgrade`]: a new daemon takes over from the one that runs
//!
//! Start: configuration, socket, DPDK, workers, control thread, and last the
//! runtime of the API, so that its threads are not born on a worker's core.

mod acknowledge;
mod admission;
mod args;
mod batch;
mod changes;
mod config;
mod control;
mod device_ports;
mod events;
mod gateway;
mod identity;
mod keeper;
mod links;
mod persist;
mod security;
mod server;
mod service;
mod sessions;
mod socket;
mod stats;
mod upgrade;

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use tieline_dpdk::{DeviceSpec, DpdkIo, Eal, Pool, PoolConfig, register_worker_thread};
use tieline_engine::engine::{Engine, EngineConfig};
use tieline_rib::{Rib, RibOptions};
use tieline_store::{Opened, Store, StoreError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing_subscriber::EnvFilter;

use args::Args;
use config::Config;
use control::Control;
use device_ports::DevicePorts;
use gateway::Gateway;
use keeper::Keeper;
use security::Security;
use security::accounts::Accounts;
use security::tls::{Loaded, Tls};
use server::{Server, Services};
use service::operations::Facts;
use service::session::{About, Sessions, Shares};
use socket::ControlSocket;

/// Threads of the API's runtime.
const API_THREADS: usize = 2;
/// How long calls that are being answered may take when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_millis(200);
/// How long the API waits for devices of the last state when the daemon starts.
const DEVICES_PATIENCE: Duration = Duration::from_secs(5);
/// How often the control thread looks at what happens by itself.
const TICK: Duration = Duration::from_millis(250);
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
        if let Some((_, tls)) = &config.api.tcp {
            Loaded::read(tls)?;
        }
        say("the configuration is good")?;
        return Ok(());
    }
    start_log(&config)?;
    let started = Instant::now();
    let path = &config.api.socket;
    let meeting = upgrade::socket::path(path);
    let running = if args.take_over { upgrade::socket::meet(&meeting)? } else { None };
    // A daemon that runs keeps its socket until the last moment.
    let running = match running {
        Some(running) => Ok(running),
        None => Err(ControlSocket::bind(path, config.api.permissions)?),
    };
    if args.take_over && running.is_err() {
        tracing::info!("there is no daemon to take over from: starting as usual");
    }
    let (engine, mut gateway, facts) = start_engine(&config, started)?;
    let (socket, store) = match running {
        Err(socket) => {
            let store = open_store(&config, &mut gateway)?;
            gateway.settle_devices(Instant::now() + DEVICES_PATIENCE);
            (socket, store)
        }
        Ok(running) => {
            let socket = take_over(running, &config, &mut gateway).unwrap_or_else(|error| {
                let _ = writeln!(std::io::stderr(), "tieline: nothing was taken over: {error:#}");
                // Nothing is closed in order: the other daemon uses some of these
                // devices.
                std::process::exit(1);
            });
            (socket, take_store(&config, &gateway))
        }
    };
    let node_id = store.as_ref().map_or_else(|| identity::node_id(path), |store| hex(&store.node_id()));
    let (keeper, watch) = Keeper::new(store);
    gateway.watch_keeper(watch);
    let acknowledgements = acknowledge::start(engine.clone(), keeper).context("could not start a thread")?;
    let (control, thread) = control::start(gateway, acknowledgements).context("could not start a thread")?;
    let about = About { node_id, boot_id: facts.boot_id.clone(), grace: config.grace };
    let sessions = Sessions {
        control: control.clone(),
        about: Arc::new(about),
        shares: Shares::of(config.waiting_bytes),
    };
    let meeting = offer_take_over(&meeting, &control);
    let served = serve(&config, &socket, sessions, facts);
    drop((socket, meeting));
    stop(&control, thread, &engine);
    served
}

/// Takes everything over from a daemon that runs, its socket last.
fn take_over(running: UnixStream, config: &Config, gateway: &mut Gateway) -> anyhow::Result<ControlSocket> {
    let taking = upgrade::taker::take(running, gateway, config.neighbours.per_interface)?;
    let socket = ControlSocket::replace(&config.api.socket, config.api.permissions)?;
    taking.finish(gateway)?;
    Ok(socket)
}

/// Lets a daemon that comes later take over. It is no reason not to start if
/// that is impossible.
fn offer_take_over(meeting: &Path, control: &Control) -> Option<ControlSocket> {
    let offered = ControlSocket::replace(meeting, upgrade::socket::PERMISSIONS).map_err(anyhow::Error::from);
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

/// Opens the store and brings back what is in it. A store that cannot be used
/// is set aside: the daemon starts without its state.
fn open_store(config: &Config, gateway: &mut Gateway) -> anyhow::Result<Option<Store>> {
    let Some(path) = config.store() else {
        tracing::warn!("no store: what is declared is lost when the daemon ends");
        return Ok(None);
    };
    let started = Instant::now();
    let options = tieline_store::Options { sync_interval: config.sync_interval, ..Default::default() };
    let (store, opened) = match Store::open(&path, options) {
        Ok(found) => found,
        // Another daemon has it, or it is something else: the operator's mistake.
        Err(error @ (StoreError::InUse { .. } | StoreError::NotAStore { .. })) => return Err(error.into()),
        Err(error) => {
            tracing::error!("starting without the last state, and without keeping any: {error}");
            return Ok(None);
        }
    };
    note_opened(&path, &opened);
    match gateway.restore(&store, started) {
        Ok(restored) => {
            tracing::info!(
                controllers = restored.controllers.len(), objects = restored.objects,
                routes = restored.routes, took = ?started.elapsed(), "brought back the last state"
            );
            Ok(Some(store))
        }
        Err(reason) => {
            let (store, opened) = store.set_aside(&reason)?;
            note_opened(&path, &opened);
            Ok(Some(store))
        }
    }
}

/// Opens the store that the daemon before has left, and writes what was taken
/// over from it: its last words may be missing.
fn take_store(config: &Config, gateway: &Gateway) -> Option<Store> {
    let path = config.store()?;
    let options = tieline_store::Options { sync_interval: config.sync_interval, ..Default::default() };
    let taken = Store::open(&path, options).and_then(|(store, opened)| {
        note_opened(&path, &opened);
        persist::rewrite(&store, gateway)?;
        Ok(store)
    });
    taken.inspect_err(|error| tracing::error!("what is declared is not kept from here on: {error}")).ok()
}

fn note_opened(path: &Path, opened: &Opened) {
    let store = path.display();
    match opened {
        Opened::Fresh => tracing::info!(%store, "new store"),
        Opened::Restored { complete: true, .. } => {}
        Opened::Restored { complete: false, .. } => {
            tracing::error!(%store, "some changes could not be stored before the last end: controllers declare them again");
        }
        Opened::SetAside { kept_at, reason } => {
            tracing::error!(%store, kept_at = %kept_at.display(), "starting without the last state: {reason}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
        config.api.socket =
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
    let router_mac = config.router_mac.unwrap_or_else(|| identity::router_mac(&config.api.socket));
    let options = RibOptions {
        default_allowance: config.allowance,
        router_mac,
        device_claims: claims_of,
        ..RibOptions::default()
    };
    let rib = Rib::new(config.limits.clone(), options);
    let allowed = Arc::new(config.devices.clone());
    let ports = DevicePorts::new(eal, pool, engine.clone(), allowed).context("could not start a thread")?;
    let gateway = Gateway::new(rib, ports, engine.clone(), config.sessions_of_controllers);
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
fn serve(config: &Config, socket: &ControlSocket, sessions: Sessions, facts: Facts) -> anyhow::Result<()> {
    let control = sessions.control.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("api")
        .enable_all()
        .build()
        .context("could not start the threads of the control API")?;
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        open_doors(config, socket, sessions, facts).await?;
        let ticking = control.clone();
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                ticking.tick().await;
            }
        });
        say(&format!("tieline ready: control API on unix:{}", socket.path().display()))?;
        tracing::info!(socket = %socket.path().display(), "ready");
        tokio::select! {
            () = control.ended() => Err(anyhow::anyhow!(
                "the control thread has ended unexpectedly: start the daemon again; the last state is in the store"
            )),
            () = received(&mut terminate) => Ok(()),
            () = received(&mut interrupt) => Ok(()),
        }
    });
    tracing::info!("stopping");
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

/// Lets clients in: on the Unix socket, and over TCP if it is configured.
async fn open_doors(
    config: &Config,
    socket: &ControlSocket,
    sessions: Sessions,
    facts: Facts,
) -> anyhow::Result<()> {
    let api = &config.api;
    let services = Services::new(sessions, facts, &api.limits).await?;
    // The last state was brought back before the doors open.
    services.ready().await;
    let accounts = Arc::new(Accounts::new(api.limits.clone()));
    let server = Server::new(services, Security { roles: api.roles.clone(), accounts });
    let unix = tokio::net::UnixListener::from_std(socket.listener()?)?;
    let tls = match &api.tcp {
        None => None,
        Some((address, settings)) => {
            let listener = tokio::net::TcpListener::bind(address)
                .await
                .with_context(|| format!("could not listen on {address}"))?;
            let tls = Arc::new(Tls::start(settings.clone()));
            tracing::info!(%address, "serving the control API with mutual TLS");
            tokio::spawn(Arc::clone(&server).serve_tcp(listener, Arc::clone(&tls)));
            Some(tls)
        }
    };
    tokio::spawn(watch_files(tls, signal(SignalKind::hangup())?));
    tokio::spawn(server.serve_socket(unix, own_uid()));
    Ok(())
}

/// Looks after the files of TLS: now and then, and at once at SIGHUP.
async fn watch_files(tls: Option<Arc<Tls>>, mut hangup: Signal) {
    let Some(tls) = tls else {
        loop {
            received(&mut hangup).await;
            tracing::info!("SIGHUP: there are no TLS files to read again");
        }
    };
    let mut ticks = tokio::time::interval(tls.check());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let always = tokio::select! {
            _ = ticks.tick() => false,
            () = received(&mut hangup) => true,
        };
        let tls = Arc::clone(&tls);
        // Files may be slow.
        let look = move || tls.look(always, security::tls::now());
        if let Err(error) = tokio::task::spawn_blocking(look).await {
            tracing::error!("TLS files could not be looked at: {error}");
        }
    }
}

/// The user that the daemon runs as.
fn own_uid() -> u32 {
    // SAFETY: it reads a number and cannot fail.
    unsafe { libc::geteuid() }
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
