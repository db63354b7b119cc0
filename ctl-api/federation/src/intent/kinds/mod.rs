//! The kinds of objects, a file each.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

pub mod cluster;
pub mod connection;
pub mod endpoint;
pub mod network_policy;
pub mod peer;
pub mod security_group;
pub mod site;
pub mod virtual_network;
pub mod virtual_network_router;

pub use cluster::Cluster;
pub use connection::Connection;
pub use endpoint::Endpoint;
pub use network_policy::NetworkPolicy;
pub use peer::Peer;
pub use security_group::SecurityGroup;
pub use site::Site;
pub use virtual_network::VirtualNetwork;
pub use virtual_network_router::VirtualNetworkRouter;

/// Makes [`Kind`] and [`Spec`], which have a case for each kind, and the
/// conversions between the kinds' types and them.
macro_rules! kinds {
    ($($kind:ident $doc:literal $scope:ident $plural:literal $short:literal,)*) => {
        /// A kind of object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $kind,)*
        }

        /// What an object says.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Spec {
            $(#[doc = $doc] $kind($kind),)*
        }

        /// A type that is one kind's.
        pub trait KindOf: Sized {
            /// The kind.
            const KIND: Kind;

            /// The spec, if it is of this kind.
            fn of(spec: &Spec) -> Option<&Self>;
        }

        $(
            impl KindOf for $kind {
                const KIND: Kind = Kind::$kind;

                fn of(spec: &Spec) -> Option<&Self> {
                    match spec {
                        Spec::$kind(spec) => Some(spec),
                        _ => None,
                    }
                }
            }

            impl From<$kind> for Spec {
                fn from(spec: $kind) -> Self {
                    Self::$kind(spec)
                }
            }
        )*

        impl Kind {
            /// All kinds.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// As in a file's `kind`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }

            /// What it is, in a line.
            pub fn summary(self) -> &'static str {
                match self {
                    $(Self::$kind => $doc,)*
                }
            }

            /// Whether its objects live in namespaces.
            pub fn is_namespaced(self) -> bool {
                match self {
                    $(Self::$kind => Scope::$scope == Scope::Namespace,)*
                }
            }

            /// How it may be called on a command line, all in lower case.
            fn spellings(self) -> [String; 3] {
                match self {
                    $(Self::$kind => [self.name().to_ascii_lowercase(), $plural.to_owned(), $short.to_owned()],)*
                }
            }

            /// The schema of its specs.
            pub fn spec_schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match self {
                    $(Self::$kind => generator.subschema_for::<$kind>(),)*
                }
            }
        }

        impl Spec {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Reads a spec of a kind.
            pub(super) fn from_value(kind: Kind, value: Value) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(serde_json::from_value(value)?),)*
                })
            }

            /// Writes it: what is absent or as by default is left out.
            pub(super) fn to_value(&self) -> Value {
                let written = match self {
                    $(Self::$kind(spec) => serde_json::to_value(spec),)*
                };
                // No spec has a map with keys that JSON does not have.
                written.unwrap_or(Value::Null)
            }
        }
    };
}

#[derive(PartialEq)]
enum Scope {
    Global,
    Namespace,
}

kinds! {
    Cluster "a cluster: its AS, controllers and gateways" Global "clusters" "cl",
    Site "a site: gateways far from the controllers" Global "sites" "st",
    Peer "a BGP peer" Global "peers" "bgp",
    VirtualNetwork "a virtual network" Namespace "virtualnetworks" "vn",
    Connection "networks that share a user route target" Namespace "connections" "conn",
    VirtualNetworkRouter "networks joined by label, as a mesh or hub and spoke" Namespace "virtualnetworkrouters" "vnr",
    SecurityGroup "what may enter and leave endpoints" Namespace "securitygroups" "sg",
    NetworkPolicy "what may pass between networks" Namespace "networkpolicies" "np",
    Endpoint "a workload's interface at a gateway" Namespace "endpoints" "ep",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    /// Reads `VirtualNetwork`, `virtualnetworks`, `vn`, in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_lowercase().replace(['-', '_'], "");
        Self::ALL.iter().copied().find(|kind| kind.spellings().contains(&wanted)).ok_or_else(|| {
            format!("{} is not a kind: use one of {}", super::names::quoted(text), Self::names())
        })
    }
}

impl Kind {
    /// The names of all kinds, for a sentence.
    pub fn names() -> String {
        Self::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_every_spelling_and_no_two_share_one() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            for spelling in kind.spellings() {
                assert_eq!(spelling.parse(), Ok(*kind));
                assert!(seen.insert(spelling.clone()), "{spelling}");
            }
        }
        assert_eq!("Virtual-Network".parse(), Ok(Kind::VirtualNetwork));
        assert!("vnn".parse::<Kind>().is_err());
    }
}
