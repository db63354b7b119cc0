//! Fuzz targets: functions that take any bytes and assert what must hold for all
//! of them.
//!
//! One program fuzzes all targets (`scripts/fuzz`). What fuzzing has kept is
//! replayed by the tests of this crate, as any other test is.
//!
//! - [`packets`], [`pipeline`], [`transfer`], [`bgp`]: the targets
//! - [`seeds`]: valid inputs that fuzzing starts from
//! - [`corpus`]: inputs that fuzzing has kept, and how they lie in files

pub mod bgp;
pub mod corpus;
pub mod packets;
pub mod pipeline;
pub mod seeds;
pub mod transfer;

/// A function to fuzz.
#[derive(Debug)]
pub struct Target {
    /// Its name for `scripts/fuzz` and for the files of its corpus.
    pub name: &'static str,
    /// Panics if an assertion about the input does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "ethernet_ip", run: packets::ethernet_ip },
    Target { name: "decap", run: packets::decap },
    Target { name: "icmp", run: packets::icmp },
    Target { name: "arp_nd", run: packets::arp_nd },
    Target { name: "mss", run: packets::mss },
    Target { name: "pipeline", run: pipeline::pipeline },
    Target { name: "transfer", run: transfer::transfer },
    Target { name: "bgp_update", run: bgp::update },
    Target { name: "bgp_session", run: bgp::session },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
