//! The configuration file as it is written: every key optional, no key
//! unknown. What a key means is in [`super`].

use std::path::PathBuf;

use serde::Deserialize;
use tieline_gate::Role;
use tieline_gate::config::keys;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Filter for log messages, as in RUST_LOG.
    pub log: Option<String>,
    /// What the process may do.
    pub process: Process,
    /// Where the control API is.
    pub api: Api,
    /// The last state.
    pub store: Store,
    /// Workers.
    pub engine: Engine,
    /// Sessions.
    pub sessions: Sessions,
    /// Most objects of each kind.
    pub limits: Limits,
    /// ARP and ND.
    pub neighbours: Neighbours,
    /// DPDK.
    pub dpdk: Dpdk,
}

/// `[process]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// The user that the daemon becomes, by name or number.
    pub user: Option<String>,
    /// Capabilities that it keeps beside those that it needs.
    pub capabilities: Vec<String>,
}

/// `[api]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Path of the Unix socket.
    pub socket: Option<PathBuf>,
    /// Permissions of the socket, octal.
    pub socket_mode: Option<String>,
    /// Group of the socket, by name or number.
    pub socket_group: Option<String>,
    /// Permissions of the socket's directory, if it has to be made; octal.
    pub socket_directory_mode: Option<String>,
    /// Role of users on the socket that no entry of `roles` means.
    pub socket_role: Option<Role>,
    /// TCP address and port.
    pub listen: Option<String>,
    /// Sessions of controllers at once.
    pub sessions: Option<usize>,
    /// How long what a controller holds is kept without it, seconds.
    pub grace_s: Option<u64>,
    /// The longest that a controller can ask for, seconds.
    pub longest_grace_s: Option<u64>,
    /// Names of controllers that one client may have.
    pub names_per_peer: Option<usize>,
    /// Controllers by name, those that count before others first.
    pub ranks: Vec<String>,
    /// Bytes of batches that may wait, of all sessions together, MiB.
    pub waiting_mib: Option<usize>,
    /// Files of mutual TLS.
    pub tls: Option<keys::Tls>,
    /// Who may do what.
    pub roles: Vec<RoleEntry>,
    /// How much of everything.
    pub limits: keys::Limits,
}

/// `[store]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Directory of the last state.
    pub path: Option<PathBuf>,
    /// Whether the last state is kept at all.
    pub enabled: Option<bool>,
    /// How long a change may wait until it is on disk, milliseconds; 0: not at
    /// all.
    pub sync_interval_ms: Option<u64>,
}

/// `[[api.roles]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleEntry {
    /// Certificates with such a name.
    pub name: Option<String>,
    /// This user on the Unix socket.
    pub uid: Option<u32>,
    /// What they may do.
    pub role: Role,
    /// The controllers that they may be.
    pub controllers: Option<Vec<String>>,
    /// The objects that they may declare.
    pub objects: Option<Vec<String>>,
}

/// `[engine]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// One pinned worker for each of these cores.
    pub cores: Option<Vec<usize>>,
    /// So many workers, not pinned.
    pub workers: Option<usize>,
    /// What workers do without work.
    pub idle: Option<Idle>,
    /// Longest sleep of an idle worker, microseconds.
    pub longest_sleep_us: Option<u64>,
    /// MAC for layer 3 over VXLAN.
    pub router_mac: Option<String>,
    /// Whether TCP's MSS is lowered to what fits.
    pub clamp_mss: Option<bool>,
    /// A further port of MPLS-in-UDP.
    pub extra_mpls_udp_port: Option<u16>,
}

/// What workers do without work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Look again at once.
    Poll,
    /// Sleep longer and longer.
    Sleep,
}

/// `[sessions]`: numbers for each worker, timeouts in seconds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the keys say it; the timeouts are documented with the engine's own")]
pub struct Sessions {
    pub capacity: Option<usize>,
    pub quota_per_vrf: Option<u32>,
    pub rate_per_vrf: Option<u32>,
    pub fragments: Option<usize>,
    pub tcp_syn_sent_s: Option<u64>,
    pub tcp_syn_received_s: Option<u64>,
    pub tcp_established_s: Option<u64>,
    pub tcp_closing_s: Option<u64>,
    pub tcp_time_wait_s: Option<u64>,
    pub tcp_closed_s: Option<u64>,
    pub udp_unreplied_s: Option<u64>,
    pub udp_replied_s: Option<u64>,
    pub icmp_unanswered_s: Option<u64>,
    pub icmp_answered_s: Option<u64>,
    pub other_unreplied_s: Option<u64>,
    pub other_replied_s: Option<u64>,
}

/// `[limits]`: most objects of each kind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Ports.
    pub ports: Option<usize>,
    /// Interfaces.
    pub interfaces: Option<usize>,
    /// VRFs beside the underlay.
    pub vrfs: Option<usize>,
    /// Next hops and next-hop groups together.
    pub next_hops: Option<usize>,
    /// VPN paths and static routes together.
    pub routes: Option<usize>,
    /// Each path counts once for every VRF that it lands in.
    pub imported_routes: Option<usize>,
    /// Security groups.
    pub security_groups: Option<usize>,
    /// Rules of all security groups together.
    pub rules: Option<usize>,
    /// Controllers that are here or hold something.
    pub controllers: Option<usize>,
}

/// `[neighbours]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neighbours {
    /// Between two probes of one neighbour, milliseconds.
    pub probe_interval_ms: Option<u64>,
    /// Probes without an answer before giving up.
    pub probes: Option<u32>,
    /// After an answer, until the next probe, seconds.
    pub reachable_s: Option<u64>,
    /// Packets that wait for one neighbour.
    pub queue_per_neighbour: Option<usize>,
    /// Packets that wait for all neighbours.
    pub queue_total: Option<usize>,
    /// Neighbours that are being resolved on one interface.
    pub resolving_per_interface: Option<usize>,
    pub per_interface: Option<usize>,
}

/// `[dpdk]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpdk {
    /// Whether hugepages may be used.
    pub hugepages: Option<Hugepages>,
    /// Memory for buffers and rings, MiB.
    pub memory_mib: Option<u32>,
    /// Packet buffers.
    pub buffers: Option<u32>,
    /// Bytes of a buffer for a frame.
    pub buffer_size: Option<u16>,
    /// Whether PCI devices may be opened.
    pub pci: Option<bool>,
    /// Interfaces, PCI addresses and paths that devices may have.
    pub devices: Option<Vec<String>>,
    /// Drivers for tests that may be used.
    pub test_drivers: Option<Vec<String>>,
    /// Further arguments for DPDK.
    pub extra_args: Option<Vec<String>>,
}

/// Whether hugepages may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hugepages {
    /// If there are enough.
    Auto,
    /// No.
    Never,
}
