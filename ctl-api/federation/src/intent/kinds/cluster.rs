//! A cluster: an AS, its controllers and its gateways.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::intent::names::Name;
use crate::numbers::{Asn, RouterId};

/// A cluster: an AS, its controllers and its gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// AS number; no two clusters have the same.
    pub asn: Asn,
    /// The controllers that may serve the cluster. Nobody else is believed about
    /// what only the cluster itself can say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<Controller>,
    /// The gateways that they program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<Gateway>,
    /// VNIs that the cluster may allocate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnis: Option<VniRange>,
}

/// A controller of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Controller {
    /// Its name; unique in the cluster.
    pub name: Name,
    /// Its address towards BGP peers.
    pub address: IpAddr,
    /// Its BGP identifier, by which route reflectors name it. Absent: its IPv4
    /// address, or the last four bytes of its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_id: Option<RouterId>,
}

impl Controller {
    /// Its BGP identifier.
    pub fn router_id(&self) -> RouterId {
        self.router_id.unwrap_or_else(|| RouterId::of(self.address))
    }
}

/// A gateway of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// Its name; no other gateway has it, in any cluster.
    pub name: Name,
    /// Where its control API is: `unix:/run/tieline/control.sock` or
    /// `https://198.18.0.1:7447`.
    pub endpoint: String,
    /// Files for TLS; needed with https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Its tunnel endpoints: next hops of the routes that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnel_addresses: Vec<IpAddr>,
    /// Encapsulations it accepts, most preferred first; empty is mpls-udp.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encapsulations: Vec<Encapsulation>,
}

/// Files for TLS towards a gateway; PEM, on the controller's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// CA of the gateway's certificate.
    pub ca: String,
    /// Certificate to show; it needs a role at the gateway.
    pub certificate: String,
    /// The certificate's key.
    pub key: String,
    /// Name in the gateway's certificate, if it is not the host of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// An overlay encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encapsulation {
    /// MPLS in UDP (RFC 7510).
    MplsUdp,
    /// MPLS in GRE (RFC 4023).
    MplsGre,
    /// VXLAN (RFC 7348).
    Vxlan,
}

/// VNIs from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VniRange {
    /// The first.
    #[schemars(range(min = 1, max = 16_777_215))]
    pub first: u32,
    /// The last.
    #[schemars(range(min = 1, max = 16_777_215))]
    pub last: u32,
}

impl fmt::Display for VniRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}
