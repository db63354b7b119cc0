//! The configuration: a TOML file, every key optional, checked once.
//!
//! - [`mod@file`]: the file as it is written
//! - [`api`]: what the part about the control API means
//! - this file: what it means
//!
//! An error names the file, the line and the key, and says what would do.

pub mod api;
pub mod file;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tieline_dpdk::{Driver, EalConfig, Hugepages};
use tieline_engine::engine::MAX_VRFS;
use tieline_engine::local::neighbours::NeighbourTimers;
use tieline_engine::pipeline::outbox::MAX_PORTS;
use tieline_engine::session::Allowance;
use tieline_engine::session::timeouts::Timeouts;
use tieline_engine::tables::Options;
use tieline_engine::types::MacAddr;
use tieline_engine::worker::idle::IdlePolicy;
use tieline_gate::config::{self, ConfigError, Objection, within};
use tieline_log::filter::{Filter, FilterError};
use tieline_process::privileges::Keep;
use tieline_rib::{Limits, Ranks};

use crate::device_ports::allowed::{AllowedDevices, Pattern};
use crate::keeper::opener::StoreAt;
use crate::sessions::SessionLimits;
use api::Api;
use file::File;

/// Where the last state is unless configured.
const DEFAULT_STORE: &str = "/var/lib/tieline/store";
/// How long what a controller holds is kept unless configured, seconds: a day.
const DEFAULT_GRACE: u64 = 24 * 3600;
/// The longest that a controller can ask for, seconds, where the operator states
/// none: a week.
const DEFAULT_LONGEST_GRACE: u64 = 7 * 24 * 3600;
/// The longest that it can be kept, seconds: a year.
const LONGEST_GRACE: u64 = 365 * 24 * 3600;
/// Where the control API is unless configured.
const DEFAULT_SOCKET: &str = "/run/tieline/control.sock";
/// Bytes of a path that a Unix socket can be bound to (`sun_path` less its
/// terminating zero).
const LONGEST_SOCKET_PATH: usize = 107;
/// Workers that an engine can have.
const MOST_WORKERS: usize = 64;
/// The longest timeout, seconds: 30 days.
const LONGEST_TIMEOUT: u64 = 30 * 24 * 3600;

/// A configuration that has been checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Filter for log messages.
    pub log: Filter,
    /// What the process keeps of its privileges.
    pub keep: Keep,
    /// The control API: where clients come in, and what they may do.
    pub api: Api,
    /// How many sessions and names controllers may have, and for how long.
    pub sessions_of_controllers: SessionLimits,
    /// Which controllers count before others.
    pub ranks: Ranks,
    /// How long what a controller holds is kept without it.
    pub grace: Duration,
    /// Whether the last state is kept.
    pub keeps_state: bool,
    /// Its directory; `None`: the socket says where.
    pub store: Option<PathBuf>,
    /// How long a change may wait until it is on disk.
    pub sync_interval: Duration,
    /// The core of each worker; `None`: not pinned.
    pub cores: Vec<Option<usize>>,
    /// What workers do without work.
    pub idle: IdlePolicy,
    /// Our MAC for layer 3 over VXLAN; `None`: one of this host's own.
    pub router_mac: Option<MacAddr>,
    /// Behaviour of the packet path.
    pub options: Options,
    /// Sessions of each worker.
    pub sessions: usize,
    /// What one VRF may have of each worker's sessions, as far as it states
    /// nothing.
    pub allowance: Allowance,
    /// Fragmented packets of each worker at once.
    pub fragments: usize,
    /// Idle timeouts of sessions.
    pub timeouts: Timeouts,
    /// Most objects of each kind.
    pub limits: Limits,
    /// How neighbours are probed and aged.
    pub neighbours: NeighbourTimers,
    /// Which devices ports may have.
    pub devices: AllowedDevices,
    /// How DPDK is started.
    pub eal: EalConfig,
    /// Packet buffers.
    pub buffers: u32,
    /// Bytes of a buffer for a frame.
    pub buffer_size: u16,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or says something that will not do.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        config::read(path, Self::check)
    }

    fn check(file: File) -> Result<Self, Objection> {
        let sessions_of_controllers = check_sessions(&file.api)?;
        let ranks = Ranks::new(&file.api.ranks).map_err(|sentence| ("api.ranks", sentence))?;
        let grace = within("api.grace_s", file.api.grace_s, DEFAULT_GRACE, 0..=LONGEST_GRACE)?;
        let grace = Duration::from_secs(grace);
        let api = api::check(file.api)?;
        let sessions = within("sessions.capacity", file.sessions.capacity, 1_000_000, 1..=64_000_000)?;
        Ok(Self {
            log: check_log(file.log)?,
            keep: process::check(&file.process, api.permissions.group)?,
            sessions_of_controllers,
            ranks,
            grace,
            keeps_state: file.store.enabled.unwrap_or(true),
            store: file.store.path,
            sync_interval: Duration::from_millis(within(
                "store.sync_interval_ms",
                file.store.sync_interval_ms,
                200,
                0..=60_000,
            )?),
            api,
            cores: check_workers(&file.engine)?,
            idle: check_idle(&file.engine)?,
            router_mac: check_router_mac(file.engine.router_mac)?,
            options: Options {
                clamp_mss: file.engine.clamp_mss.unwrap_or(true),
                extra_mpls_udp_port: check_extra_port(file.engine.extra_mpls_udp_port)?,
                ..Options::default()
            },
            sessions,
            allowance: check_allowance(&file.sessions, sessions),
            fragments: within("sessions.fragments", file.sessions.fragments, 4096, 16..=1_000_000)?,
            timeouts: check_timeouts(&file.sessions)?,
            limits: check_limits(&file.limits)?,
            neighbours: check_neighbours(&file.neighbours)?,
            devices: check_devices(&file.dpdk)?,
            eal: check_eal(&file.dpdk)?,
            buffers: within("dpdk.buffers", file.dpdk.buffers, 16_384, 1024..=8_388_608)?,
            buffer_size: within("dpdk.buffer_size", file.dpdk.buffer_size, 2048, 1664..=16_384)?,
        })
    }
}

impl Config {
    /// Where the last state is kept, if it is. Two daemons on one host, which have
    /// two sockets, have two of them.
    pub fn store(&self) -> Option<StoreAt> {
        let default = || {
            if self.api.socket == Path::new(DEFAULT_SOCKET) {
                return DEFAULT_STORE.into();
            }
            let mut path = self.api.socket.as_os_str().to_owned();
            path.push(".store");
            path.into()
        };
        let path = || self.store.clone().unwrap_or_else(default);
        self.keeps_state.then(|| StoreAt { path: path(), sync_interval: self.sync_interval })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::check(File::default()).expect("an empty configuration is good: a test says so")
    }
}

fn check_sessions(api: &file::Api) -> Result<SessionLimits, Objection> {
    let grace = api.grace_s.unwrap_or(DEFAULT_GRACE);
    let longest = within(
        "api.longest_grace_s",
        api.longest_grace_s,
        DEFAULT_LONGEST_GRACE.max(grace),
        0..=LONGEST_GRACE,
    )?;
    if longest < grace {
        let sentence = format!("{grace} s are more than api.longest_grace_s = {longest} allows");
        return Err(("api.grace_s", sentence));
    }
    Ok(SessionLimits {
        sessions: within("api.sessions", api.sessions, 256, 1..=65_536)?,
        names_per_peer: within("api.names_per_peer", api.names_per_peer, 32, 1..=65_536)?,
        longest_grace: Duration::from_secs(longest),
    })
}

fn check_log(log: Option<String>) -> Result<Filter, Objection> {
    let Some(log) = log else { return Ok(Filter::default()) };
    log.parse().map_err(|error: FilterError| ("log", error.to_string()))
}

/// A path that a socket can be bound to.
///
/// # Errors
/// A sentence that says why it cannot.
pub fn check_socket(path: PathBuf) -> Result<PathBuf, String> {
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        return Err(format!("the path has {length} bytes: a socket's may have {LONGEST_SOCKET_PATH}"));
    }
    if path.file_name().is_none() {
        return Err(format!("{} names no file: use a path such as {DEFAULT_SOCKET}", path.display()));
    }
    Ok(path)
}

fn check_workers(engine: &file::Engine) -> Result<Vec<Option<usize>>, Objection> {
    let Some(cores) = &engine.cores else {
        return Ok(vec![None; within("engine.workers", engine.workers, 1, 1..=MOST_WORKERS)?]);
    };
    if engine.workers.is_some() {
        let sentence = "cores are given too, and each has one worker: remove one of the two keys";
        return Err(("engine.workers", sentence.to_owned()));
    }
    within("engine.cores", Some(cores.len()), 1, 1..=MOST_WORKERS)
        .map_err(|(key, _)| (key, format!("{} cores: name 1 to {MOST_WORKERS}", cores.len())))?;
    let twice = cores.iter().enumerate().find(|(at, core)| cores[..*at].contains(core));
    if let Some((_, core)) = twice {
        return Err(("engine.cores", format!("core {core} stands twice: a core has one worker")));
    }
    Ok(cores.iter().copied().map(Some).collect())
}

fn check_idle(engine: &file::Engine) -> Result<IdlePolicy, Objection> {
    let longest = within("engine.longest_sleep_us", engine.longest_sleep_us, 1000, 20..=100_000)?;
    let default = if engine.cores.is_some() { file::Idle::Poll } else { file::Idle::Sleep };
    Ok(match engine.idle.unwrap_or(default) {
        file::Idle::Poll => IdlePolicy::Poll,
        file::Idle::Sleep => IdlePolicy::Sleep { longest: Duration::from_micros(longest) },
    })
}

fn check_router_mac(text: Option<String>) -> Result<Option<MacAddr>, Objection> {
    let Some(text) = text else { return Ok(None) };
    let key = "engine.router_mac";
    let mac: MacAddr = text.parse().map_err(|error| (key, format!("{text:?} is {error}")))?;
    if !mac.is_unicast() {
        return Err((key, format!("{mac} is not the address of one station: its first byte must be even")));
    }
    Ok(Some(mac))
}

fn check_extra_port(port: Option<u16>) -> Result<Option<u16>, Objection> {
    /// Ports with a meaning of their own: VXLAN, Geneve, MPLS.
    const TAKEN: [u16; 4] = [0, 4789, 6081, 6635];
    match port {
        Some(port) if TAKEN.contains(&port) => Err((
            "engine.extra_mpls_udp_port",
            format!("{port} has a meaning of its own: use another, or none"),
        )),
        other => Ok(other),
    }
}

/// What a VRF may have that states nothing; 0 stands for half of the `capacity`
/// as a quota, and for no limit as a rate.
fn check_allowance(sessions: &file::Sessions, capacity: usize) -> Allowance {
    let half = u32::try_from(capacity.div_ceil(2)).unwrap_or(u32::MAX);
    Allowance {
        quota: sessions.quota_per_vrf.filter(|quota| *quota > 0).unwrap_or(half),
        rate: sessions.rate_per_vrf.filter(|rate| *rate > 0).unwrap_or(Allowance::UNLIMITED),
    }
}

fn check_timeouts(sessions: &file::Sessions) -> Result<Timeouts, Objection> {
    let default = Timeouts::default();
    let check = |key, value, default: Duration| {
        within(key, value, default.as_secs(), 1..=LONGEST_TIMEOUT).map(Duration::from_secs)
    };
    Ok(Timeouts {
        tcp_syn_sent: check("sessions.tcp_syn_sent_s", sessions.tcp_syn_sent_s, default.tcp_syn_sent)?,
        tcp_syn_received: check(
            "sessions.tcp_syn_received_s",
            sessions.tcp_syn_received_s,
            default.tcp_syn_received,
        )?,
        tcp_established: check(
            "sessions.tcp_established_s",
            sessions.tcp_established_s,
            default.tcp_established,
        )?,
        tcp_closing: check("sessions.tcp_closing_s", sessions.tcp_closing_s, default.tcp_closing)?,
        tcp_time_wait: check("sessions.tcp_time_wait_s", sessions.tcp_time_wait_s, default.tcp_time_wait)?,
        tcp_closed: check("sessions.tcp_closed_s", sessions.tcp_closed_s, default.tcp_closed)?,
        udp_unreplied: check("sessions.udp_unreplied_s", sessions.udp_unreplied_s, default.udp_unreplied)?,
        udp_replied: check("sessions.udp_replied_s", sessions.udp_replied_s, default.udp_replied)?,
        icmp_unanswered: check(
            "sessions.icmp_unanswered_s",
            sessions.icmp_unanswered_s,
            default.icmp_unanswered,
        )?,
        icmp_answered: check("sessions.icmp_answered_s", sessions.icmp_answered_s, default.icmp_answered)?,
        other_unreplied: check(
            "sessions.other_unreplied_s",
            sessions.other_unreplied_s,
            default.other_unreplied,
        )?,
        other_replied: check("sessions.other_replied_s", sessions.other_replied_s, default.other_replied)?,
    })
}

fn check_limits(limits: &file::Limits) -> Result<Limits, Objection> {
    let routes = within("limits.routes", limits.routes, 2_000_000, 1..=100_000_000)?;
    Ok(Limits {
        ports: within("limits.ports", limits.ports, MAX_PORTS, 1..=MAX_PORTS)?,
        interfaces: within("limits.interfaces", limits.interfaces, 4096, 1..=1_000_000)?,
        // The underlay is one of those that can be counted.
        vrfs: within("limits.vrfs", limits.vrfs, 4096, 1..=MAX_VRFS - 1)?,
        next_hops: within("limits.next_hops", limits.next_hops, 65_536, 1..=10_000_000)?,
        routes,
        imported_routes: within(
            "limits.imported_routes",
            limits.imported_routes,
            routes.saturating_mul(2),
            1..=200_000_000,
        )?,
        security_groups: within("limits.security_groups", limits.security_groups, 16_384, 1..=1_000_000)?,
        rules: within("limits.rules", limits.rules, 262_144, 1..=10_000_000)?,
        controllers: within("limits.controllers", limits.controllers, 256, 1..=65_536)?,
    })
}

fn check_neighbours(neighbours: &file::Neighbours) -> Result<NeighbourTimers, Objection> {
    let default = NeighbourTimers::default();
    let interval = default.probe_interval.as_millis() as u64;
    Ok(NeighbourTimers {
        probe_interval: Duration::from_millis(within(
            "neighbours.probe_interval_ms",
            neighbours.probe_interval_ms,
            interval,
            100..=60_000,
        )?),
        probes: within("neighbours.probes", neighbours.probes, default.probes, 1..=100)?,
        reachable: Duration::from_secs(within(
            "neighbours.reachable_s",
            neighbours.reachable_s,
            default.reachable.as_secs(),
            1..=86_400,
        )?),
        queue_per_neighbour: within(
            "neighbours.queue_per_neighbour",
            neighbours.queue_per_neighbour,
            default.queue_per_neighbour,
            1..=64,
        )?,
        queue_total: within(
            "neighbours.queue_total",
            neighbours.queue_total,
            default.queue_total,
            1..=65_536,
        )?,
        resolving_per_interface: within(
            "neighbours.resolving_per_interface",
            neighbours.resolving_per_interface,
            default.resolving_per_interface,
            1..=65_536,
        )?,
        per_interface: within(
            "neighbours.per_interface",
            neighbours.per_interface,
            default.per_interface,
            1..=65_536,
        )?,
    })
}

fn check_devices(dpdk: &file::Dpdk) -> Result<AllowedDevices, Objection> {
    let patterns = match &dpdk.devices {
        None => None,
        Some(texts) => {
            let parsed: Result<Vec<Pattern>, String> =
                texts.iter().map(|text| Pattern::parse(text)).collect();
            Some(parsed.map_err(|sentence| ("dpdk.devices", sentence))?)
        }
    };
    let for_tests = Driver::VIRTUAL.into_iter().filter(|driver| driver.is_for_tests());
    let find = |text: &String| {
        for_tests.clone().find(|driver| driver.name() == text).ok_or_else(|| {
            let names: Vec<&str> = for_tests.clone().map(Driver::name).collect();
            ("dpdk.test_drivers", format!("{text:?} is no driver for tests: there are {}", names.join(", ")))
        })
    };
    let test_drivers = dpdk.test_drivers.iter().flatten().map(find).collect::<Result<_, _>>()?;
    Ok(AllowedDevices { patterns, test_drivers })
}

fn check_eal(dpdk: &file::Dpdk) -> Result<EalConfig, Objection> {
    let default = EalConfig::default();
    let memory_mib = match dpdk.memory_mib {
        None => None,
        some => Some(within("dpdk.memory_mib", some, 0, 64..=1_048_576)?),
    };
    Ok(EalConfig {
        file_prefix: format!("tieline-{}", std::process::id()),
        hugepages: match dpdk.hugepages {
            Some(file::Hugepages::Never) => Hugepages::Never,
            Some(file::Hugepages::Auto) | None => Hugepages::Auto,
        },
        memory_mib,
        pci: dpdk.pci.unwrap_or(false),
        extra_args: dpdk.extra_args.clone().unwrap_or_default(),
        ..default
    })
}

#[cfg(test)]
mod tests;
