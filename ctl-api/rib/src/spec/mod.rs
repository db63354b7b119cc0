//! Declared objects as types that cannot be wrong: one file a kind, each from
//! its message. What is refused here is wrong by itself; what contradicts
//! another object is refused by the RIB.

pub mod field;
pub mod interface;
pub mod next_hop;
pub mod port;
pub mod route;
pub mod security_group;
pub mod vrf;

use std::fmt;

use tieline_engine::types::{Label, Vni};

/// The name of the VRF that always exists.
pub const UNDERLAY: &str = "underlay";

/// An overlay encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// RFC 7510.
    MplsUdp,
    /// RFC 4023.
    MplsGre,
    /// RFC 7348.
    Vxlan,
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MplsUdp => "MPLS-in-UDP",
            Self::MplsGre => "MPLS-in-GRE",
            Self::Vxlan => "VXLAN",
        })
    }
}

/// Encapsulations, most preferred first, each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Encapsulations([Option<Encapsulation>; 3]);

impl Encapsulations {
    /// Only this one.
    pub fn only(encapsulation: Encapsulation) -> Self {
        Self([Some(encapsulation), None, None])
    }

    /// Adds one at the end. False, and nothing changed, if it is there
    /// already.
    #[must_use]
    pub fn push(&mut self, encapsulation: Encapsulation) -> bool {
        if self.iter().any(|present| present == encapsulation) {
            return false;
        }
        // There are as many slots as encapsulations.
        match self.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(encapsulation),
            None => return false,
        }
        true
    }

    /// In the order of preference.
    pub fn iter(&self) -> impl Iterator<Item = Encapsulation> + '_ {
        self.0.iter().flatten().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }
}

/// What a route asks of the tunnel that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TunnelUse {
    /// Label to push.
    pub label: Option<Label>,
    /// VNI to use.
    pub vni: Option<Vni>,
    /// Encapsulations that may be used; none: those of the tunnel.
    pub encapsulations: Encapsulations,
}
