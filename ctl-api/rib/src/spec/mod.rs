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
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;

use crate::key::Key;
use crate::limits::RibOptions;
use crate::refusal::Refusal;
use tieline_names::RouteDistinguisher;

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

/// Whether an object is valid by itself.
///
/// # Errors
/// What is wrong with it.
pub fn check(object: &Kind) -> Result<(), Refusal> {
    match object {
        Kind::Port(message) => port::PortSpec::parse(message, &RibOptions::default()).map(|_| ()),
        Kind::Interface(message) => interface::InterfaceSpec::parse(message).map(|_| ()),
        Kind::Vrf(message) => vrf::VrfSpec::parse(message).map(|_| ()),
        Kind::NextHop(message) => next_hop::parse_next_hop(message).map(|_| ()),
        Kind::NextHopGroup(message) => next_hop::parse_group(message).map(|_| ()),
        Kind::Route(message) => route::RouteSpec::parse(message.clone()).map(|_| ()),
        Kind::SecurityGroup(message) => security_group::SecurityGroupSpec::parse(message).map(|_| ()),
        Kind::StaticRoute(message) => route::StaticRouteSpec::parse(message).map(|_| ()),
    }
}

/// Whether an operation is valid by itself.
///
/// # Errors
/// What is wrong with it.
pub fn check_operation(operation: &v1::Operation) -> Result<(), Refusal> {
    match &operation.operation {
        Some(Operation::Apply(v1::Object { kind: Some(kind) })) => check(kind),
        Some(Operation::Apply(_)) => Err(Refusal::invalid("kind", "no object: set one of its fields")),
        Some(Operation::Delete(key)) => Key::parse(key).map(|_| ()),
        Some(Operation::ApplyRoutes(set)) => route::RouteSetSpec::parse(set.clone()).map(|_| ()),
        Some(Operation::DeleteRoutes(key)) => {
            let _: RouteDistinguisher = field::parsed(|| "rd".to_owned(), &key.rd)?;
            route::parse_prefixes(key.prefixes.as_ref()).map(|_| ())
        }
        None => Err(Refusal::invalid("operation", "no operation: set apply, delete or one for routes")),
    }
}
