//! VRFs: a tenant's routing table and its limits.

use std::net::IpAddr;
use std::sync::Arc;

use crate::packet::flow_key::FlowKey;
use crate::session::Allowance;
use crate::tables::CowMap;
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
    /// Our own addresses in it.
    pub own_addresses: OwnAddresses,
    /// Whether what comes out of a tunnel must be routed back to where it came
    /// from.
    pub strict_sources: bool,
}

/// Our own addresses in a VRF, which nobody else may send from. Asked for
/// nearly every packet, so that a few bits answer for most.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses {
    /// How many interfaces have each: workloads may share a gateway's address.
    all: CowMap<IpAddr, u32>,
    /// A bit for each of them, by its last byte.
    bits: u64,
}

impl OwnAddresses {
    /// An interface has this address.
    pub fn insert(&mut self, address: IpAddr) {
        *Arc::make_mut(&mut self.all).entry(address).or_default() += 1;
        self.bits |= 1 << bit_of_address(address);
    }

    /// An interface has it no more.
    pub fn remove(&mut self, address: IpAddr) {
        let all = Arc::make_mut(&mut self.all);
        match all.get_mut(&address) {
            Some(interfaces) if *interfaces > 1 => *interfaces -= 1,
            _ => _ = all.remove(&address),
        }
        self.bits = self.all.keys().fold(0, |bits, own| bits | 1 << bit_of_address(*own));
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.all.keys().copied()
    }

    /// Whether a packet says that it is from us.
    #[inline(always)]
    pub fn is_source_of(&self, key: &FlowKey) -> bool {
        self.bits >> bit_of(key.source[3], key.source[15]) & 1 != 0 && self.holds(key.source_addr())
    }

    /// Whether an address is ours.
    #[inline(never)]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.all.contains_key(&address)
    }
}

/// Of an IPv4 address, which fills the rest of a key's field with zeros, the
/// fourth byte is the last, of an IPv6 address the sixteenth.
#[inline(always)]
fn bit_of(fourth: u8, sixteenth: u8) -> u32 {
    u32::from((fourth ^ sixteenth) & 63)
}

fn bit_of_address(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => bit_of(v4.octets()[3], 0),
        IpAddr::V6(v6) => bit_of(v6.octets()[3], v6.octets()[15]),
    }
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
            own_addresses: OwnAddresses::default(),
            strict_sources: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::flow_key::Family;
    use proptest::prelude::*;

    fn source(address: IpAddr) -> FlowKey {
        let mut key = FlowKey::ZERO;
        match address {
            IpAddr::V4(v4) => key.source[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => (key.family, key.source) = (Family::V6, v6.octets()),
        }
        key
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let last = 0u8..4;
        (any::<bool>(), last.clone(), last).prop_map(|(v6, a, b)| match v6 {
            false => IpAddr::from([10, 0, a, b]),
            true => IpAddr::from([0x2001, 0xdb8, u16::from(a), 0, 0, 0, 0, u16::from(b) << 6]),
        })
    }

    proptest! {
        #[test]
        fn it_holds_what_was_inserted_and_not_removed(
            steps in proptest::collection::vec((any::<bool>(), address()), 0..60),
            asked in address(),
        ) {
            let mut own = OwnAddresses::default();
            let mut oracle: std::collections::HashMap<IpAddr, u32> = Default::default();
            for (insert, address) in steps {
                if insert {
                    own.insert(address);
                    *oracle.entry(address).or_default() += 1;
                } else {
                    own.remove(address);
                    let interfaces = oracle.entry(address).or_default();
                    *interfaces = interfaces.saturating_sub(1);
                }
                let expected = oracle.get(&asked).is_some_and(|interfaces| *interfaces > 0);
                prop_assert_eq!(own.is_source_of(&source(asked)), expected);
            }
            oracle.retain(|_, interfaces| *interfaces > 0);
            prop_assert_eq!(own.iter().count(), oracle.len());
        }
    }
}
