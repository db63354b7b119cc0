//! Security groups, compiled for one interface.
//!
//! A [`Policy`] holds the rules of all groups of an interface. It is asked
//! once for each session, by the session's first packet; rules only allow.
//!
//! - this file: rules, and a policy made of them
//! - [`check`]: what a policy says to a packet

pub mod check;

use std::collections::HashSet;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::packet::flow_key::Family;
use crate::types::{SgId, SgSetId};
pub use check::FirstPacket;
use check::Matcher;

/// Which way traffic goes, as the workload sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the workload.
    Ingress = 0,
    /// From the workload.
    Egress = 1,
}

/// What may enter and leave one interface's workload.
#[derive(Debug, Clone)]
pub struct Policy {
    sg_set: SgSetId,
    rules: Box<[(Direction, Rule)]>,
    /// By direction and family: the rules that can match, in their order.
    matchers: [[Box<[Matcher]>; 2]; 2],
}

impl Policy {
    /// A policy of these rules, for an interface in the groups of `sg_set`.
    /// Rules that are there already are left out.
    pub fn new(sg_set: SgSetId, rules: impl IntoIterator<Item = (Direction, Rule)>) -> Self {
        let mut seen = HashSet::with_hasher(RandomState::default());
        let rules: Box<[_]> = rules.into_iter().filter(|rule| seen.insert(*rule)).collect();
        let matchers = [Direction::Ingress, Direction::Egress]
            .map(|direction| [Family::V4, Family::V6].map(|family| compile(&rules, direction, family)));
        Self { sg_set, rules, matchers }
    }

    /// The groups that the interface is in.
    pub fn sg_set(&self) -> SgSetId {
        self.sg_set
    }

    /// All rules, in the order in which they are asked.
    pub fn rules(&self) -> impl Iterator<Item = (Direction, &Rule)> {
        self.rules.iter().map(|(direction, rule)| (*direction, rule))
    }

    #[inline]
    fn matchers(&self, direction: Direction, family: Family) -> &[Matcher] {
        let family = match family {
            Family::V4 => 0,
            Family::V6 => 1,
        };
        &self.matchers[direction as usize][family]
    }
}

/// The matchers of one direction and family. Of several that match the same
/// packets, as rules of different groups may, only the first is ever reached.
fn compile(rules: &[(Direction, Rule)], direction: Direction, family: Family) -> Box<[Matcher]> {
    let mut seen = HashSet::with_hasher(RandomState::default());
    (0u32..)
        .zip(rules)
        .filter(|(_, (of, _))| *of == direction)
        .filter_map(|(number, (_, rule))| Matcher::new(rule, number, family))
        .filter(|matcher| seen.insert(matcher.meaning()))
        .collect()
}

/// Allows one kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The group it is from, for people.
    pub group: SgId,
    /// IP version; `None`: both.
    pub family: Option<Family>,
    /// IP protocol number; `None`: any.
    pub protocol: Option<u8>,
    /// Ports, or ICMP type and code.
    pub l4: L4Match,
    /// Who is at the other end.
    pub remote: Remote,
}

/// What a rule asks of the header after IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum L4Match {
    /// Nothing.
    Any,
    /// A destination port from first to last, of TCP, UDP or SCTP.
    Ports {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
    /// An ICMP or ICMPv6 type, and perhaps a code.
    Icmp {
        /// Type.
        kind: u8,
        /// Code; `None`: any.
        code: Option<u8>,
    },
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remote {
    /// Anyone.
    Any,
    /// An address in the prefix.
    Prefix(IpNet),
    /// A member of the group.
    Group(SgId),
}
