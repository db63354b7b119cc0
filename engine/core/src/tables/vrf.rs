//! VRFs: a tenant's routing table and its limits.

use crate::session::Allowance;
use crate::tables::fib::Fib;
use crate::types::{MacAddr, NextHopId, SgSetId};

/// What a prefix leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FibEntry {
    /// Where its packets go.
    pub next_hop: NextHopId,
    /// The security groups of what is behind it.
    pub sg_set: SgSetId,
}

/// A routing table.
#[derive(Debug, Clone)]
pub struct Vrf {
    /// IPv4 routes.
    pub fib4: Fib<u32>,
    /// IPv6 routes.
    pub fib6: Fib<u128>,
    /// Changes with every change to its routes, or to a policy that its
    /// packets meet: sessions decided under another generation are decided
    /// again.
    pub generation: u32,
    /// Whether its packets are looked up among sessions: some interface that
    /// they can reach has a policy.
    pub stateful: bool,
    /// What it may have of each worker's sessions.
    pub sessions: Allowance,
    /// Our inner MAC for layer 3 over VXLAN.
    pub router_mac: MacAddr,
}

impl Default for Vrf {
    fn default() -> Self {
        Self {
            fib4: Fib::default(),
            fib6: Fib::default(),
            generation: 0,
            stateful: false,
            sessions: Allowance::ALL,
            router_mac: MacAddr::default(),
        }
    }
}
