//! What the speaker and its peers are told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::session::{LocalConfig, SessionConfig};
use crate::wire::Family;

/// What the speaker is told.
#[derive(Debug, Clone)]
pub struct SpeakerConfig {
    /// The AS of the speaker.
    pub asn: u32,
    /// BGP identifier: unique in the AS, not zero (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Told to peers, for people.
    pub host_name: Option<String>,
    /// Names the cluster of a route reflector (RFC 4456); the BGP identifier
    /// where there is none.
    pub cluster_id: Option<Ipv4Addr>,
    /// Addresses of this speaker: a route with one of them as its next hop is
    /// refused (RFC 4271 section 5.1.3).
    pub own_addresses: Vec<IpAddr>,
    /// For how long end-of-RIB markers are held back after a restart (RFC 4724
    /// section 4.1), unless [`super::Speaker::restart_complete`] comes first;
    /// zero is a first start.
    pub restart_deferral: Duration,
    /// Makes the random part of waits.
    pub seed: u64,
}

impl SpeakerConfig {
    /// A first start, and nothing else told.
    pub const fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            host_name: None,
            cluster_id: None,
            own_addresses: Vec::new(),
            restart_deferral: Duration::ZERO,
            seed: 0,
        }
    }

    pub(super) fn local(&self) -> LocalConfig {
        LocalConfig { asn: self.asn, router_id: self.router_id, host_name: self.host_name.clone() }
    }
}

/// How many routes of a family a peer may have here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixLimit {
    /// One more ends the session.
    pub limit: u32,
    /// From this many on, there is a warning.
    pub warn: u32,
    /// After this time the session is tried again; never by itself if `None`.
    pub again: Option<Duration>,
}

impl PrefixLimit {
    /// A million, a warning at nine tenths, and another try after five minutes.
    pub const DEFAULT: Self = Self { limit: 1_000_000, warn: 900_000, again: Some(Duration::from_secs(300)) };
}

/// Longest key of TCP MD5 signatures, in bytes: Linux takes no longer one.
pub const MD5_KEY_LIMIT: usize = 80;

/// What the sockets of a peer need. The speaker checks it and passes it through.
#[derive(Clone, PartialEq, Eq)]
pub struct Transport {
    /// TCP port of the peer.
    pub port: u16,
    /// Address to connect from.
    pub local_address: Option<IpAddr>,
    /// Key of TCP MD5 signatures (RFC 2385), 1 to [`MD5_KEY_LIMIT`] bytes. It is in no
    /// debug output.
    pub md5: Option<String>,
    /// The peer is at most this many hops away, and packets from further are
    /// dropped (RFC 5082); 1 is a direct neighbour.
    pub ttl_security: Option<u8>,
}

/// Why a transport cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTransport {
    /// The kernel takes no such key.
    #[error("a TCP MD5 key has 1 to {MD5_KEY_LIMIT} bytes, and this one has {0}")]
    KeyLength(usize),
    /// Nobody is there.
    #[error("a peer is at least one hop away: a direct neighbour is at 1")]
    NoDistance,
    /// A socket of one family that speaks the other: what protects the one does not
    /// hold for the other.
    #[error("{0} stands for an IPv4 address: write {1}")]
    Mapped(IpAddr, IpAddr),
}

impl Transport {
    /// Whether sockets to and from a peer at `address` can be protected as it says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, address: IpAddr) -> Result<(), BadTransport> {
        if address.to_canonical() != address {
            return Err(BadTransport::Mapped(address, address.to_canonical()));
        }
        match &self.md5 {
            Some(key) if key.is_empty() || key.len() > MD5_KEY_LIMIT => {
                return Err(BadTransport::KeyLength(key.len()));
            }
            _ => {}
        }
        if self.ttl_security == Some(0) { Err(BadTransport::NoDistance) } else { Ok(()) }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("port", &self.port)
            .field("local_address", &self.local_address)
            .field("md5", &self.md5.as_ref().map(|_| "(hidden)"))
            .field("ttl_security", &self.ttl_security)
            .finish()
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self { port: 179, local_address: None, md5: None, ttl_security: None }
    }
}

/// What the speaker is told of a peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Its session.
    pub session: SessionConfig,
    /// Its sockets.
    pub transport: Transport,
    /// Longest attributes of a route, in bytes of what they hold; longer ones
    /// are refused.
    pub attribute_limit: usize,
    /// Limits, by [`Family::index`]: a million routes where nothing else is
    /// told.
    pub prefix_limits: [Option<PrefixLimit>; Family::ALL.len()],
    /// The peer is a client of this speaker as a route reflector (RFC 4456).
    pub reflector_client: bool,
    /// The next hop of IPv4 and IPv6 unicast routes to this peer; otherwise it
    /// stays as it is. Routes with labels keep theirs always: label and next
    /// hop belong together.
    pub unicast_next_hop: Option<IpAddr>,
    /// Routes of an external peer must have its AS first in their path
    /// (RFC 4271 section 6.3). Route servers do not.
    pub enforce_first_as: bool,
    /// Leave out what GoBGP up to 3.10 does not survive: E-Tree and
    /// multicast-flags communities, and the default route target membership.
    pub spare_gobgp: bool,
}

impl PeerConfig {
    /// A peer with a session and the defaults.
    pub fn new(session: SessionConfig) -> Self {
        Self {
            session,
            transport: Transport::default(),
            attribute_limit: 8192,
            prefix_limits: [Some(PrefixLimit::DEFAULT); Family::ALL.len()],
            reflector_client: false,
            unicast_next_hop: None,
            enforce_first_as: true,
            spare_gobgp: false,
        }
    }
}
