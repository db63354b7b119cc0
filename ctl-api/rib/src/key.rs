//! Keys of objects of any kind.

use std::fmt;

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::v1;
use tieline_proto::v1::object_key::Kind;

use crate::refusal::Refusal;
use crate::spec::field;
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A port.
    Port(Name),
    /// An interface.
    Interface(Name),
    /// A VRF.
    Vrf(Name),
    /// A next hop.
    NextHop(Name),
    /// A next-hop group.
    NextHopGroup(Name),
    /// A VPN path.
    Route(RouteDistinguisher, IpNet),
    /// A security group.
    SecurityGroup(SgId),
    /// A static route.
    StaticRoute(Name, IpNet),
}

impl Key {
    /// From its message.
    ///
    /// # Errors
    /// When a part of it is not valid; nothing can have such a key.
    pub fn parse(message: &v1::ObjectKey) -> Result<Self, Refusal> {
        let name = |text: &str| field::name("key", text);
        let prefix = |text: &str| field::prefix("key.prefix", text);
        Ok(match &message.kind {
            None => return Err(Refusal::invalid("key", "no key: set one of its fields")),
            Some(Kind::Port(text)) => Self::Port(name(text)?),
            Some(Kind::Interface(text)) => Self::Interface(name(text)?),
            Some(Kind::Vrf(text)) => Self::Vrf(name(text)?),
            Some(Kind::NextHop(text)) => Self::NextHop(name(text)?),
            Some(Kind::NextHopGroup(text)) => Self::NextHopGroup(name(text)?),
            Some(Kind::Route(route)) => {
                Self::Route(field::parsed(|| "key.rd".to_owned(), &route.rd)?, prefix(&route.prefix)?)
            }
            Some(Kind::SecurityGroup(id)) => Self::SecurityGroup(SgId(*id)),
            Some(Kind::StaticRoute(route)) => Self::StaticRoute(name(&route.vrf)?, prefix(&route.prefix)?),
        })
    }
}

impl Key {
    /// The key of an object.
    ///
    /// # Errors
    /// When a part of it is not valid.
    pub fn of(object: &v1::object::Kind) -> Result<Self, Refusal> {
        use v1::object::Kind;
        Ok(match object {
            Kind::Port(object) => Self::Port(field::name("port.name", &object.name)?),
            Kind::Interface(object) => Self::Interface(field::name("interface.name", &object.name)?),
            Kind::Vrf(object) => Self::Vrf(field::name("vrf.name", &object.name)?),
            Kind::NextHop(object) => Self::NextHop(field::name("next_hop.name", &object.name)?),
            Kind::NextHopGroup(object) => {
                Self::NextHopGroup(field::name("next_hop_group.name", &object.name)?)
            }
            Kind::Route(object) => Self::Route(
                field::parsed(|| "route.rd".to_owned(), &object.rd)?,
                field::prefix("route.prefix", &object.prefix)?,
            ),
            Kind::SecurityGroup(object) => Self::SecurityGroup(SgId(object.id)),
            Kind::StaticRoute(object) => Self::StaticRoute(
                field::name("static_route.vrf", &object.vrf)?,
                field::prefix("static_route.prefix", &object.prefix)?,
            ),
        })
    }
}

impl From<&Key> for v1::ObjectKey {
    fn from(key: &Key) -> Self {
        let kind = match key {
            Key::Port(name) => Kind::Port(name.to_string()),
            Key::Interface(name) => Kind::Interface(name.to_string()),
            Key::Vrf(name) => Kind::Vrf(name.to_string()),
            Key::NextHop(name) => Kind::NextHop(name.to_string()),
            Key::NextHopGroup(name) => Kind::NextHopGroup(name.to_string()),
            Key::Route(rd, prefix) => {
                Kind::Route(v1::RouteKey { rd: rd.to_string(), prefix: prefix.to_string() })
            }
            Key::SecurityGroup(id) => Kind::SecurityGroup(id.0),
            Key::StaticRoute(vrf, prefix) => {
                Kind::StaticRoute(v1::StaticRouteKey { vrf: vrf.to_string(), prefix: prefix.to_string() })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port {name}"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Vrf(name) => write!(f, "VRF {name}"),
            Self::NextHop(name) => write!(f, "next hop {name}"),
            Self::NextHopGroup(name) => write!(f, "next-hop group {name}"),
            Self::Route(rd, prefix) => write!(f, "route {rd} {prefix}"),
            Self::SecurityGroup(id) => write!(f, "security group {}", id.0),
            Self::StaticRoute(vrf, prefix) => write!(f, "static route {prefix} in VRF {vrf}"),
        }
    }
}
