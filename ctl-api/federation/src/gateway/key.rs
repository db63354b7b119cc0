//! How objects of a gateway are named, and what is said to a gateway and by it.

use std::fmt;

use ipnet::IpNet;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind as Object;
use tieline_proto::v1::object_key::Kind as ObjectKey;

use crate::numbers::RouteDistinguisher;

/// Names an object other than a VPN route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A port.
    Port(String),
    /// An interface.
    Interface(String),
    /// A VRF.
    Vrf(String),
    /// A next hop.
    NextHop(String),
    /// A next-hop group.
    NextHopGroup(String),
    /// A security group.
    SecurityGroup(u32),
    /// A static route.
    StaticRoute {
        /// Name of its VRF.
        vrf: String,
        /// Its prefix.
        prefix: String,
    },
}

impl Key {
    /// The key of an object; none for VPN routes, which are declared in sets, and
    /// for an object without a kind.
    pub fn of(object: &v1::Object) -> Option<Self> {
        Some(match object.kind.as_ref()? {
            Object::Port(port) => Self::Port(port.name.clone()),
            Object::Interface(interface) => Self::Interface(interface.name.clone()),
            Object::Vrf(vrf) => Self::Vrf(vrf.name.clone()),
            Object::NextHop(hop) => Self::NextHop(hop.name.clone()),
            Object::NextHopGroup(group) => Self::NextHopGroup(group.name.clone()),
            Object::SecurityGroup(group) => Self::SecurityGroup(group.id),
            Object::StaticRoute(route) => {
                Self::StaticRoute { vrf: route.vrf.clone(), prefix: route.prefix.clone() }
            }
            Object::Route(_) => return None,
        })
    }
}

impl From<&Key> for v1::ObjectKey {
    fn from(key: &Key) -> Self {
        let kind = match key.clone() {
            Key::Port(name) => ObjectKey::Port(name),
            Key::Interface(name) => ObjectKey::Interface(name),
            Key::Vrf(name) => ObjectKey::Vrf(name),
            Key::NextHop(name) => ObjectKey::NextHop(name),
            Key::NextHopGroup(name) => ObjectKey::NextHopGroup(name),
            Key::SecurityGroup(id) => ObjectKey::SecurityGroup(id),
            Key::StaticRoute { vrf, prefix } => ObjectKey::StaticRoute(v1::StaticRouteKey { vrf, prefix }),
        };
        Self { kind: Some(kind) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port/{name}"),
            Self::Interface(name) => write!(f, "interface/{name}"),
            Self::Vrf(name) => write!(f, "vrf/{name}"),
            Self::NextHop(name) => write!(f, "next_hop/{name}"),
            Self::NextHopGroup(name) => write!(f, "next_hop_group/{name}"),
            Self::SecurityGroup(id) => write!(f, "security_group/{id}"),
            Self::StaticRoute { vrf, prefix } => write!(f, "static_route/{vrf}/{prefix}"),
        }
    }
}

/// A change of what a gateway should hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This object should be there, and no other under its key. VPN routes come
    /// as [`Change::Routes`]; one of them here, or an object without a kind,
    /// changes nothing.
    Object(Box<v1::Object>),
    /// No object should be there under this key.
    NoObject(Key),
    /// These VPN routes should be there, with these attributes and no others.
    Routes {
        /// Their route distinguisher.
        rd: RouteDistinguisher,
        /// What they share. Its own `rd` and `prefix` do not count.
        attributes: Box<v1::Route>,
        /// Their prefixes; host bits do not count.
        prefixes: Vec<IpNet>,
    },
    /// These VPN routes should not be there.
    NoRoutes {
        /// Their route distinguisher.
        rd: RouteDistinguisher,
        /// Their prefixes; host bits do not count.
        prefixes: Vec<IpNet>,
    },
}

impl From<v1::Object> for Change {
    fn from(object: v1::Object) -> Self {
        Self::Object(Box::new(object))
    }
}

/// What one operation of a batch was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An object.
    Object(Key),
    /// VPN routes.
    Routes {
        /// Their route distinguisher.
        rd: RouteDistinguisher,
        /// Their prefixes.
        prefixes: Vec<IpNet>,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => key.fmt(f),
            Self::Routes { rd, prefixes } => match prefixes.as_slice() {
                [] => write!(f, "no routes of {rd}"),
                [one] => write!(f, "route/{rd}/{one}"),
                [first, others @ ..] => write!(f, "route/{rd}/{first} and {} more", others.len()),
            },
        }
    }
}

/// The gateway did not do what it was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What it was about.
    pub subject: Subject,
    /// Why, in the gateway's words.
    pub refused: v1::Refused,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v1::Refused { field, message, .. } = &self.refused;
        match field.as_str() {
            "" => write!(f, "{} was refused: {message}", self.subject),
            field => write!(f, "{} was refused: {field}: {message}", self.subject),
        }
    }
}

/// Counts changes of what a gateway should hold. Of two, the later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_what_was_refused() {
        let refused = v1::Refused {
            field: "route.label".to_owned(),
            message: "5 is reserved".to_owned(),
            ..Default::default()
        };
        let rd = "64512:1".parse().expect("an RD");
        let prefixes: Vec<IpNet> =
            ["10.1.0.0/16", "10.2.0.0/16"].map(|p| p.parse().expect("a prefix")).into();
        let refusal = Refusal { subject: Subject::Routes { rd, prefixes }, refused };
        assert_eq!(
            refusal.to_string(),
            "route/64512:1/10.1.0.0/16 and 1 more was refused: route.label: 5 is reserved"
        );
        let key = Key::StaticRoute { vrf: "red".to_owned(), prefix: "10.0.0.0/8".to_owned() };
        let refusal = Refusal { subject: Subject::Object(key), refused: v1::Refused::default() };
        assert_eq!(refusal.to_string(), "static_route/red/10.0.0.0/8 was refused: ");
    }
}
