//! How much of each kind may be declared.

use std::ops::RangeInclusive;

use tieline_engine::session::Allowance;
use tieline_engine::types::MacAddr;
use tieline_proto::v1;

use crate::ranks::Ranks;
use crate::refusal::Refusal;

/// How many objects of each kind the RIB takes. One more is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Ports; at most 65,536 have a number.
    pub ports: usize,
    /// Interfaces.
    pub interfaces: usize,
    /// VRFs beside the underlay; at most 65,534 have a number.
    pub vrfs: usize,
    /// Next hops and next-hop groups together.
    pub next_hops: usize,
    /// VPN paths and static routes together.
    pub routes: usize,
    /// Imports: each path counts once for every VRF that it lands in.
    pub imported_routes: usize,
    /// Security groups.
    pub security_groups: usize,
    /// Rules of all security groups together.
    pub rules: usize,
    /// Controllers that are here or hold something.
    pub controllers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ports: 64,
            interfaces: 4_096,
            vrfs: 4_096,
            next_hops: 65_536,
            routes: 2_000_000,
            imported_routes: 4_000_000,
            security_groups: 16_384,
            rules: 262_144,
            controllers: 256,
        }
    }
}

impl Limits {
    /// Most controllers that have a number of their own.
    const CONTROLLER_NUMBERS: usize = 1 << 16;
    /// Most ports that have a number of their own.
    const PORT_NUMBERS: usize = 1 << 16;
    /// Most VRFs that have a number of their own; the underlay has one, and
    /// one stands for none.
    const VRF_NUMBERS: usize = (1 << 16) - 2;

    /// All of them by the names that the configuration gives them.
    pub fn messages(&self) -> Vec<v1::Limit> {
        let all = [
            ("ports", self.ports),
            ("interfaces", self.interfaces),
            ("vrfs", self.vrfs),
            ("next_hops", self.next_hops),
            ("routes", self.routes),
            ("imported_routes", self.imported_routes),
            ("security_groups", self.security_groups),
            ("rules", self.rules),
            ("controllers", self.controllers),
        ];
        all.map(|(name, value)| v1::Limit { name: name.to_owned(), value: value as u64 }).into()
    }

    /// The limits, no larger than identifiers can count.
    pub(crate) fn clamped(mut self) -> Self {
        self.ports = self.ports.min(Self::PORT_NUMBERS);
        self.vrfs = self.vrfs.min(Self::VRF_NUMBERS);
        self.controllers = self.controllers.min(Self::CONTROLLER_NUMBERS);
        self
    }
}

/// Refuses a total of `total` when only `value` are allowed.
pub(crate) fn check(total: usize, value: usize, what: &str, limit: &'static str) -> Result<(), Refusal> {
    if total > value { Err(Refusal::limit(what, limit, value)) } else { Ok(()) }
}

/// What a device takes from the host, by its text: names that are the same for
/// two devices that cannot both be open.
pub type DeviceClaims = fn(&str) -> Vec<String>;

/// What objects leave open.
#[derive(Debug, Clone)]
pub struct RibOptions {
    /// What a VRF may have of each worker's sessions, as far as it states
    /// nothing.
    pub default_allowance: Allowance,
    /// Our inner MAC for layer 3 over VXLAN, where a VRF states none.
    pub router_mac: MacAddr,
    /// Largest IP packet of a port that states none, in bytes.
    pub default_mtu: u16,
    /// Zero UDP checksums of tunnels over IPv6 (RFC 6935).
    pub udp6_zero_checksum: bool,
    /// Labels for VRFs that state none.
    pub label_range: RangeInclusive<u32>,
    /// Reads the texts of devices.
    pub device_claims: DeviceClaims,
    /// Which controllers count before others.
    pub ranks: Ranks,
}

impl Default for RibOptions {
    fn default() -> Self {
        Self {
            default_allowance: Allowance::ALL,
            router_mac: MacAddr([0x02, 0, 0, 0, 0, 1]),
            default_mtu: 1500,
            udp6_zero_checksum: false,
            label_range: 524_288..=1_048_575,
            device_claims: |device| vec![device.to_owned()],
            ranks: Ranks::default(),
        }
    }
}
