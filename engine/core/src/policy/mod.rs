//! Security groups, compiled for one interface.
//!
//! A [`Policy`] holds the rules of all groups of an interface. It is asked
//! once for each session, by the session's first packet; rules only allow.

use ipnet::IpNet;

use crate::packet::flow_key::Family;
use crate::types::{SgId, SgSetId};

/// What may enter and leave one interface's workload.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The groups that the interface is in.
    pub sg_set: SgSetId,
    /// Towards the workload.
    pub ingress: Box<[Rule]>,
    /// From the workload.
    pub egress: Box<[Rule]>,
}

impl Policy {
    /// The policy of an interface that is in the groups of `sg_set`.
    pub fn new(sg_set: SgSetId, ingress: Vec<Rule>, egress: Vec<Rule>) -> Self {
        Self { sg_set, ingress: ingress.into(), egress: egress.into() }
    }
}

/// Allows one kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// Anyone.
    Any,
    /// An address in the prefix.
    Prefix(IpNet),
    /// A member of the group.
    Group(SgId),
}
