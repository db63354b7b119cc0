//! The Tieline daemon: the packet engine on DPDK, programmed over gRPC.
//!
//! - [`args`], [`config`]: what the operator asks for
//! - [`identity`]: what sets this gateway apart
//! - [`socket`]: the Unix socket, one daemon a path
//! - [`gateway`], [`device_ports`]: what is declared, the tables, the devices
//! - [`control`]: the thread that carries out what the API asks for; [`admission`],
//!   [`batch`], [`sessions`]: its parts without clocks and threads
//! - [`acknowledge`], [`keeper`], [`persist`]: the threads behind it, and the
//!   store
//! - [`changes`], [`events`], [`problems`]: what watchers hear of
//! - [`service`], [`stats`]: the gRPC services
//! - [`doors`], [`server`]: where clients come in, and serving them
//! - [`security`]: who may do what, and how much of it
//! - [`upgrade`]: a new daemon takes over from the one that runs
//!
//! Start: configuration, socket, DPDK, workers, and all other threads, so that
//! none of them is born on a worker's core; then the last state, or that of the
//! daemon that is taken over from; and last the doors.

mod acknowledge;
mod admission;
mod args;
mod batch;
mod changes;
mod config;
mod control;
mod device_ports;
mod doors;
mod events;
mod gateway;
mod identity;
mod keeper;
mod links;
mod persist;
mod problems;
mod security;
mod server;
mod service;
mod sessions;
mod socket;
mod stats;
mod upgrade;

use std::convert::Infallible;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use tieline_dpdk::{DeviceSpec, DpdkIo, Eal, Pool, PoolConfig, register_worker_thread};
use tieline_engine::engine::{Engine, EngineConfig};
use tieline_rib::{Limits, Rib, RibOptions};
use tieline_store::StoreError;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use acknowledge::{Acknowledgements, Errand};
use args::Args;
use config::Config;
use control::Control;
use device_ports::DevicePorts;
use doors::{Doors, Places, Servant};
use gateway::{Gateway, Shared};
use identity::NodeId;
use keeper::Contents;
use problems::Problems;
use security::Security;
use security::accounts::Accounts;
use security::tls::{Loaded, Tls};
use server::{Server, Services};
use service::operations::Facts;
use service::session::{About, Sessions};
use service::shares::Shares;
use socket::ControlSocket;
use upgrade::frame::StoreWord;
use upgrade::giver::Giver;
use upgrade::site::Site as _;
use upgrade::taker::{self, Outcome};

/// Threads of the API's runtime.
const API_THREADS: usize = 2;
/// How long calls that are being answered may take when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_millis(200);
/// How long a daemon that has just ended may keep its socket and its store: its
/// process takes as long as the kernel needs to free its devices.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How long a store that does not open is waited for before the daemon starts
/// without the last state.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(100);
/// Why a daemon does not start on a system that is short of threads.
const NO_THREAD: &str = "could not start a thread";
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

/// How a daemon ends that has served.
enum End {
    /// It was told to.
    Stopped,
    /// Another daemon has taken over.
    GivenAway,
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
    tieline_log::start(&config.log)?;
    let started = Instant::now();
    let meeting = upgrade::socket::path(&config.api.socket);
    let running = if args.take_over { upgrade::socket::meet(&meeting)? } else { None };
    // A daemon that runs keeps its socket until the last moment.
    let running = match running {
        Some(running) => Ok(running),
        None => Err(ControlSocket::bind(&config.api.socket, config.api.permissions)?),
    };
    if args.take_over && running.is_err() {
        tracing::info!("there is no daemon to take over from: starting as usual");
    }
    let problems = Problems::default();
    let node = NodeId::without_store(&config.api.socket);
    let (keeper, watch) = keeper::new(config.store(), node.clone()).context(NO_THREAD)?;
    let shared = Shared { keeper: watch, problems: problems.clone(), node: node.clone() };
    let (engine, mut gateway, facts) = start_engine(&config, started, shared)?;

    // Whatever may fail is there before anything is taken over.
    let errands = acknowledge::start(engine.clone(), keeper).context(NO_THREAD)?;
    let (control, idle) = control::start(errands.clone()).context(NO_THREAD)?;
    let about = About { node, boot_id: facts.boot_id.clone(), grace: config.grace };
    let sessions = Sessions {
        control: control.clone(),
        about: Arc::new(about),
        shares: Shares::of(config.api.limits.waiting),
    };
    let places = Places {
        control: (config.api.socket.clone(), config.api.permissions),
        meeting: (meeting.clone(), upgrade::socket::PERMISSIONS),
        tcp: config.api.tcp.as_ref().map(|(address, _)| *address),
    };
    let doors = Doors::new(places, problems.clone());
    let giver = Giver { control: control.clone(), errands: errands.clone(), doors: doors.clone() };
    let api = Api::new(&config, sessions, facts, problems, giver)?;

    let begin = Begin { config: &config, meeting: &meeting, doors: &doors, errands: &errands };
    begin.begin(running, &mut gateway)?;
    gateway.settle_devices(Instant::now() + DEVICES_PATIENCE);
    let thread = idle.begin(gateway);
    let served = api.serve(&config.api.socket, &doors, &control);
    match end(&control, thread, &doors, &engine) {
        // Nothing is closed in order: the other daemon uses some of these
        // devices. With the process they go without a trace.
        End::GivenAway => std::process::exit(0),
        End::Stopped => served,
    }
}

/// What a daemon begins with: the state of another one, or its own last one.
struct Begin<'a> {
    config: &'a Config,
    meeting: &'a Path,
    doors: &'a Doors,
    errands: &'a SyncSender<Errand>,
}

impl Begin<'_> {
    /// Takes over from a daemon that runs, or starts as usual, with the control
    /// socket.
    fn begin(&self, running: Result<UnixStream, ControlSocket>, gateway: &mut Gateway) -> anyhow::Result<()> {
        let mut running = match running {
            Ok(running) => Some(running),
            Err(socket) => {
                self.doors.set_control(socket);
                return self.open_store(gateway);
            }
        };
        let since = Instant::now();
        loop {
            if let Some(running) = running.take()
                && self.take_over(running, gateway)
            {
                return Ok(());
            }
            // It has ended. Another one may have come in its place.
            running = upgrade::socket::meet(self.meeting)?;
            if running.is_some() && since.elapsed() < END_PATIENCE {
                continue;
            }
            match ControlSocket::bind(&self.config.api.socket, self.config.api.permissions) {
                Ok(socket) => {
                    tracing::info!("starting as usual");
                    self.doors.set_control(socket);
                    return self.open_store(gateway);
                }
                // Its process is not gone yet, or the other is not ready yet.
                Err(error) if since.elapsed() > END_PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// Takes everything over from a daemon that runs. False if it has ended before
    /// it had said enough.
    fn take_over(&self, running: UnixStream, gateway: &mut Gateway) -> bool {
        let taken = taker::take(self.meeting, running, gateway, self.config.neighbours.per_interface);
        let forwarding = taken.and_then(|outcome| match outcome {
            Outcome::Nobody => Ok(None),
            Outcome::Taken(mut taking) => taking.forwarding().map(|left| Some((taking, left))),
        });
        let (taking, left) = match forwarding {
            Ok(Some(taken)) => taken,
            Ok(None) => return false,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "tieline: nothing was taken over: {error:#}");
                // Nothing is closed in order: the other daemon uses some of these
                // devices.
                std::process::exit(1);
            }
        };
        // From here on nothing is a reason to end.
        for (door, listener) in left.doors {
            if let Err(error) = self.doors.adopt(door, listener) {
                tracing::warn!("a listening socket of the other daemon is of no use: {error:#}");
            }
        }
        let is_ours = match &left.store {
            StoreWord::Unknown => true,
            StoreWord::Left { path, missing } => {
                if !missing.is_empty() {
                    tracing::warn!(
                        "the other daemon leaves a store in which something is missing: {missing}"
                    );
                }
                self.config.store().is_some_and(|store| store.path == Path::new(path))
            }
            StoreWord::None | StoreWord::Unread(_) => false,
        };
        let contents = if is_ours { Contents::Known } else { Contents::Unread };
        gateway.keeper().set_contents(contents);
        if gateway.devices().waits_for_an_end() {
            // They stand still until the other has ended.
            taking.serving(gateway);
            self.take_store(gateway);
        } else {
            self.take_store(gateway);
            taking.serving(gateway);
        }
        true
    }

    /// Opens the store that the daemon before has left, and writes what was taken
    /// over from it. If that takes long, it goes on behind.
    fn take_store(&self, gateway: &mut Gateway) {
        let Some(path) = gateway.keeper().path().map(Path::to_owned) else { return };
        gateway.keeper().open("it is not open yet".to_owned());
        let Some((store, found)) = gateway.keeper().wait(upgrade::STORE_PATIENCE) else {
            tracing::error!(store = %path.display(), "the store does not open yet: going on without it");
            return;
        };
        gateway.take_store(store, &found, Instant::now());
        let mut all = Acknowledgements::at(0);
        gateway.take_changes(&mut all.to_store);
        let (reply, checked) = sync_channel(1);
        let errands = [Errand::Acknowledge(all), Errand::Check(reply)];
        if errands.into_iter().all(|errand| self.errands.send(errand).is_ok()) {
            // What comes of it is told like everything about the store.
            let _ = checked.recv_timeout(upgrade::STORE_PATIENCE);
        }
    }

    /// Opens the store and brings back what is in it. A store that cannot be used
    /// for now is tried again: the daemon starts without its state.
    fn open_store(&self, gateway: &mut Gateway) -> anyhow::Result<()> {
        let Some(at) = self.config.store() else {
            tracing::warn!("no store: what is declared is lost when the daemon ends");
            return Ok(());
        };
        let started = Instant::now();
        let mut said = false;
        loop {
            let error = match at.open(gateway.node()) {
                Ok((store, found)) => {
                    gateway.take_store(store, &found, started);
                    return Ok(());
                }
                Err(error) => error,
            };
            let is_in_use = matches!(error, StoreError::InUse { .. });
            let is_over = started.elapsed() > if is_in_use { END_PATIENCE } else { STORE_PATIENCE };
            // Another daemon has it, or it is something else: the operator's
            // mistake.
            if matches!(error, StoreError::NotAStore { .. }) || (is_in_use && is_over) {
                return Err(error.into());
            }
            if is_over {
                tracing::error!("the store cannot be used, and nothing is kept for now: {error}");
                gateway.read_store(&at.path, started);
                gateway.keeper().open(error.to_string());
                return Ok(());
            }
            if !said {
                tracing::warn!("the store does not open, and is tried again: {error}");
                said = true;
            }
            std::thread::sleep(AGAIN);
        }
    }
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

/// DPDK, the workers, and what programs them.
fn start_engine(
    config: &Config,
    started: Instant,
    shared: Shared,
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

/// The API, which serves nobody yet.
struct Api {
    runtime: Runtime,
    front: Arc<Front>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Whoever comes in by one of the doors comes to this.
struct Front {
    server: Arc<Server>,
    tls: Option<Arc<Tls>>,
    giver: Giver,
}

impl Servant for Front {
    async fn clients(&self, listener: tokio::net::UnixListener) -> Infallible {
        Arc::clone(&self.server).serve_socket(listener, own_uid()).await
    }

    async fn tcp_clients(&self, listener: tokio::net::TcpListener) -> Infallible {
        match &self.tls {
            Some(tls) => Arc::clone(&self.server).serve_tcp(listener, Arc::clone(tls)).await,
            None => std::future::pending().await,
        }
    }

    /// One after the other: there is one thing to take over.
    async fn daemons(&self, listener: tokio::net::UnixListener) -> Infallible {
        loop {
            let (stream, _) = server::accepted(|| listener.accept()).await;
            let giver = self.giver.clone();
            let conversation = tokio::task::spawn_blocking(move || match stream.into_std() {
                Ok(stream) => giver.serve(stream),
                Err(error) => tracing::warn!("a daemon that came to take over cannot be heard: {error}"),
            });
            if let Err(error) = conversation.await {
                tracing::error!("a conversation with a daemon that came to take over broke off: {error}");
            }
        }
    }
}

impl Api {
    /// Everything that serving needs.
    ///
    /// # Errors
    /// When the system gives no thread, or the description of the API makes no
    /// sense.
    fn new(
        config: &Config,
        sessions: Sessions,
        facts: Facts,
        problems: Problems,
        giver: Giver,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(API_THREADS)
            .thread_name("api")
            .enable_all()
            .build()
            .context("could not start the threads of the control API")?;
        let (front, [terminate, interrupt, hangup]) = runtime.block_on(async {
            let api = &config.api;
            let services = Services::new(sessions, facts, problems, &api.limits).await?;
            let accounts = Arc::new(Accounts::new(api.limits.clone()));
            let server = Server::new(services, Security { roles: api.roles.clone(), accounts });
            let tls = api.tcp.as_ref().map(|(_, settings)| Arc::new(Tls::start(settings.clone())));
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
            let [terminate, interrupt, hangup] = kinds.map(signal);
            anyhow::Ok((Arc::new(Front { server, tls, giver }), [terminate?, interrupt?, hangup?]))
        })?;
        Ok(Self { runtime, front, terminate, interrupt, hangup })
    }

    /// Lets clients in and serves them until a signal says that it is enough,
    /// another daemon has taken over, or nothing can be programmed any more.
    fn serve(self, socket: &Path, doors: &Doors, control: &Control) -> anyhow::Result<()> {
        let Self { runtime, front, mut terminate, mut interrupt, hangup } = self;
        let ticking = control.clone();
        let served = runtime.block_on(async {
            // The last state was brought back before the doors open.
            front.server.ready().await;
            doors.open(runtime.handle(), &front);
            tokio::spawn(watch_files(front.tls.clone(), hangup));
            tokio::spawn(async move {
                let mut interval = tokio::time::interval(TICK);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    interval.tick().await;
                    ticking.tick().await;
                }
            });
            if let Err(error) = say(&format!("tieline ready: control API on unix:{}", socket.display())) {
                tracing::warn!("nobody reads that this daemon is ready: {error}");
            }
            tracing::info!(socket = %socket.display(), "ready");
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

/// Ends what is left, in order; nothing of it if another daemon has taken over.
fn end(
    control: &Control,
    thread: JoinHandle<Option<Gateway>>,
    doors: &Doors,
    engine: &Engine<DpdkIo>,
) -> End {
    control.stop();
    // While another daemon takes over, this takes as long as that.
    let gateway = match thread.join() {
        Ok(Some(gateway)) if gateway.is_given_away() => {
            std::mem::forget(gateway);
            return End::GivenAway;
        }
        other => other,
    };
    doors.remove();
    // Workers give up their queues; with the gateway go the devices.
    engine.stop();
    if gateway.is_err() {
        tracing::error!("the control thread had ended early");
    }
    drop(gateway);
    tracing::info!("stopped");
    End::Stopped
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
