//! The drivers that devices may have, and what each may be told.
//!
//! A driver or an argument that is not here does not exist for Tieline. Before
//! one is added, its source has to be read: it must not run programs, follow
//! another device, take addresses in memory, or touch files beside the socket
//! that it is told.

use std::fmt;

use super::value::Kind;

/// A driver of DPDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// Whatever drives a NIC on the PCI bus.
    Pci,
    /// An interface of the kernel, by AF_PACKET sockets.
    AfPacket,
    /// An interface of the kernel, by AF_XDP sockets.
    AfXdp,
    /// A TAP interface that the driver makes.
    Tap,
    /// The device of a virtual machine, by vhost-user.
    Vhost,
    /// The driver of a virtual machine, by vhost-user or vhost-net.
    VirtioUser,
    /// Shared memory with another process.
    Memif,
    /// Tests: takes everything and gives nothing, or empty packets.
    Null,
    /// Tests: capture files.
    Pcap,
    /// Tests: a ring in memory.
    Ring,
}

/// An argument's key, and what its value is.
type Parameter = (&'static str, Kind);

/// Queues that a software device can have.
const QUEUES: Kind = Kind::Number(1, 256);

impl Driver {
    /// Drivers of virtual devices.
    pub const VIRTUAL: [Driver; 9] = [
        Driver::AfPacket,
        Driver::AfXdp,
        Driver::Tap,
        Driver::Vhost,
        Driver::VirtioUser,
        Driver::Memif,
        Driver::Null,
        Driver::Pcap,
        Driver::Ring,
    ];

    /// What DPDK calls it; for NICs, the bus.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Pci => "pci",
            Driver::AfPacket => "net_af_packet",
            Driver::AfXdp => "net_af_xdp",
            Driver::Tap => "net_tap",
            Driver::Vhost => "net_vhost",
            Driver::VirtioUser => "net_virtio_user",
            Driver::Memif => "net_memif",
            Driver::Null => "net_null",
            Driver::Pcap => "net_pcap",
            Driver::Ring => "net_ring",
        }
    }

    /// Whether it is there for tests and benchmarks.
    pub const fn is_for_tests(self) -> bool {
        matches!(self, Driver::Null | Driver::Pcap | Driver::Ring)
    }

    /// What it may be told.
    pub(super) const fn parameters(self) -> &'static [Parameter] {
        match self {
            Driver::Pci => NIC,
            Driver::AfPacket => &[
                ("iface", Kind::Interface),
                ("qpairs", QUEUES),
                // The ring of a queue: blocks of memory, and frames in them.
                ("blocksz", Kind::Number(4096, 1 << 24)),
                ("framesz", Kind::Number(128, 1 << 16)),
                ("framecnt", Kind::Number(1, 1 << 18)),
                ("qdisc_bypass", Kind::Flag),
            ],
            Driver::AfXdp => &[
                ("iface", Kind::Interface),
                ("start_queue", Kind::Number(0, 4095)),
                ("queue_count", QUEUES),
                ("shared_umem", Kind::Flag),
                ("busy_budget", Kind::Number(0, 65_535)),
                ("force_copy", Kind::Flag),
            ],
            Driver::Tap => &[("iface", Kind::Interface), ("mac", Kind::MacOr("fixed"))],
            Driver::Vhost => &[
                ("iface", Kind::Socket),
                ("queues", QUEUES),
                ("client", Kind::Flag),
                ("iommu-support", Kind::Flag),
                ("postcopy-support", Kind::Flag),
                ("tso", Kind::Flag),
                ("linear-buffer", Kind::Flag),
                ("ext-buffer", Kind::Flag),
            ],
            Driver::VirtioUser => &[
                ("path", Kind::Socket),
                ("iface", Kind::Interface),
                ("mac", Kind::Mac),
                ("cq", Kind::Flag),
                ("queue_size", Kind::Number(64, 32_768)),
                ("queues", QUEUES),
                ("server", Kind::Flag),
                ("mrg_rxbuf", Kind::Flag),
                ("in_order", Kind::Flag),
                ("packed_vq", Kind::Flag),
                ("vectorized", Kind::Flag),
                ("speed", Kind::Number(0, 1_000_000)),
            ],
            Driver::Memif => &[
                ("socket", Kind::Socket),
                ("socket-abstract", Kind::Word(&["yes", "no"])),
                ("id", Kind::Number(0, u32::MAX as u64)),
                ("role", Kind::Word(&["server", "client"])),
                ("bsize", Kind::Number(64, 65_535)),
                ("rsize", Kind::Number(1, 14)),
                ("mac", Kind::Mac),
                ("secret", Kind::Secret),
            ],
            Driver::Null => {
                &[("size", Kind::Number(14, 65_535)), ("copy", Kind::Flag), ("no-rx", Kind::Flag)]
            }
            Driver::Pcap => &[
                // One for each queue.
                ("rx_pcap", Kind::File),
                ("tx_pcap", Kind::File),
                ("infinite_rx", Kind::Flag),
            ],
            Driver::Ring => &[],
        }
    }

    /// What it has to be told: it would choose for itself otherwise.
    pub(super) const fn required(self) -> &'static [&'static str] {
        match self {
            Driver::AfPacket | Driver::AfXdp | Driver::Tap | Driver::Vhost => &["iface"],
            Driver::VirtioUser => &["path"],
            Driver::Memif => &["socket"],
            Driver::Pci | Driver::Null | Driver::Pcap | Driver::Ring => &[],
        }
    }

    /// Why an argument is refused that the driver itself would take and that
    /// somebody may ask for.
    pub(super) fn refused(self, key: &str) -> Option<&'static str> {
        Some(match (self, key) {
            (Driver::Tap, "remote") => "it would redirect all that another interface receives",
            (Driver::AfXdp, "xdp_prog") => "it would load a program from a file into the kernel",
            (Driver::Memif, "zero-copy") => "the other process would keep buffers that are Tieline's",
            (Driver::Memif, "owner-uid" | "owner-gid") => "it would give the socket to another user",
            (Driver::Pcap, "iface" | "rx_iface" | "rx_iface_in" | "tx_iface") => {
                "interfaces are opened by net_af_packet"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Pci => "a device on the PCI bus",
            other => other.name(),
        })
    }
}

/// What NICs may be told: numbers that tune them. No NIC's driver reads a number
/// as anything else.
const NIC: &[Parameter] = &[
    ("dv_flow_en", Kind::Number(0, 2)),
    ("hw_fcs_strip", Kind::Flag),
    ("mprq_en", Kind::Flag),
    ("mprq_log_stride_num", Kind::Number(0, 32)),
    ("mprq_log_stride_size", Kind::Number(0, 32)),
    ("mprq_max_memcpy_len", Kind::Number(0, 65_535)),
    ("queue-num-per-vf", Kind::Number(1, 16)),
    ("rx_vec_en", Kind::Flag),
    ("rxq_cqe_comp_en", Kind::Number(0, 4)),
    ("rxq_pkt_pad_en", Kind::Flag),
    ("rxqs_min_mprq", Kind::Number(0, 65_535)),
    ("safe-mode-support", Kind::Flag),
    ("support-multi-driver", Kind::Flag),
    ("txq_inline_max", Kind::Number(0, 65_535)),
    ("txq_inline_min", Kind::Number(0, 65_535)),
    ("txq_inline_mpw", Kind::Number(0, 65_535)),
    ("txq_mpw_en", Kind::Flag),
    ("txqs_min_inline", Kind::Number(0, 65_535)),
    ("vectorized", Kind::Flag),
];
