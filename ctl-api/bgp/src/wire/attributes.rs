//! Path attributes as values. Reading is in `attributes_decode`, writing in
//! `attributes_encode`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::as_path::AsPath;
use super::community::{Community, ExtendedCommunity, LargeCommunity, View};
use tieline_names::RouteTarget;

/// Type codes of path attributes.
pub(crate) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const PMSI_TUNNEL: u8 = 22;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
}

/// Flags of path attributes (RFC 4271 section 4.3).
pub(crate) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED: u8 = 0x10;
}

/// Where the originator had the route from. Lower is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Origin {
    /// From an interior protocol.
    #[default]
    Igp = 0,
    /// From EGP.
    Egp = 1,
    /// By other means.
    Incomplete = 2,
}

/// Where packets go. The route distinguisher that VPN families put before it
/// is of the wire, not of the value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, and a link-local one where the peer gave both
    /// (RFC 2545 section 3).
    V6(Ipv6Addr, Option<Ipv6Addr>),
}

impl NextHop {
    /// The address; an IPv4-mapped one is given as the IPv4 address.
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(v4) => IpAddr::V4(v4),
            Self::V6(v6, _) => IpAddr::V6(v6).to_canonical(),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6(v6, None),
        }
    }
}

impl fmt::Debug for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(v4) => write!(f, "{v4}"),
            Self::V6(v6, None) => write!(f, "{v6}"),
            Self::V6(v6, Some(link)) => write!(f, "{v6} ({link})"),
        }
    }
}

/// An attribute that is passed on as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawAttribute {
    /// Flags, without the one for the extended length.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Box<[u8]>,
}

/// The path attributes of a route, without what is in the NLRI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Where packets go.
    pub next_hop: NextHop,
    /// Where the originator had it from.
    pub origin: Origin,
    /// The ASes on the way.
    pub as_path: AsPath,
    /// Multi-exit discriminator: lower is preferred.
    pub med: Option<u32>,
    /// Local preference: higher is preferred; 100 where there is none.
    pub local_pref: Option<u32>,
    /// A less specific route was chosen on the way.
    pub atomic_aggregate: bool,
    /// Who aggregated it.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// The first router of the AS that brought it in (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// The reflectors that it passed, the latest first (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// Standard communities.
    pub communities: Vec<Community>,
    /// Extended communities, in the order that they came in.
    pub extended: Vec<ExtendedCommunity>,
    /// Large communities.
    pub large: Vec<LargeCommunity>,
    /// PMSI tunnel (RFC 6514 section 5), as bytes.
    pub pmsi: Option<Box<[u8]>>,
    /// Optional transitive attributes that this speaker does not know.
    pub unknown: Vec<RawAttribute>,
}

impl Attributes {
    /// With a next hop and nothing else.
    pub fn new(next_hop: impl Into<NextHop>) -> Self {
        Self {
            next_hop: next_hop.into(),
            origin: Origin::Igp,
            as_path: AsPath::default(),
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            originator_id: None,
            cluster_list: Vec::new(),
            communities: Vec::new(),
            extended: Vec::new(),
            large: Vec::new(),
            pmsi: None,
            unknown: Vec::new(),
        }
    }

    /// The route targets among the extended communities.
    pub fn route_targets(&self) -> impl Iterator<Item = RouteTarget> + '_ {
        self.extended.iter().filter_map(|community| community.route_target())
    }

    /// Whether a standard community is there.
    pub fn has(&self, community: Community) -> bool {
        self.communities.contains(&community)
    }

    /// Stickiness and sequence number of MAC mobility (RFC 7432 section 7.7);
    /// without the community, not sticky and zero.
    pub fn mobility(&self) -> (bool, u32) {
        let found = self.extended.iter().find_map(|community| match community.view() {
            View::MacMobility { sticky, sequence } => Some((sticky, sequence)),
            _ => None,
        });
        found.unwrap_or((false, 0))
    }

    /// Bytes that the lists in it hold, about: what it costs to keep it.
    pub fn weight(&self) -> usize {
        let path: usize = self.as_path.0.iter().map(|segment| 2 + 4 * segment.asns.len()).sum();
        let unknown: usize = self.unknown.iter().map(|raw| 3 + raw.value.len()).sum();
        path + 4 * (self.cluster_list.len() + self.communities.len())
            + 8 * self.extended.len()
            + 12 * self.large.len()
            + self.pmsi.as_ref().map_or(0, |pmsi| pmsi.len())
            + unknown
    }

    /// Gives back memory that growing left unused.
    pub(crate) fn shrink(&mut self) {
        self.cluster_list.shrink_to_fit();
        self.communities.shrink_to_fit();
        self.extended.shrink_to_fit();
        self.large.shrink_to_fit();
        self.unknown.shrink_to_fit();
    }
}

/// A PMSI tunnel attribute for ingress replication: tunnel type 6 (RFC 6514,
/// RFC 8365 section 9) with the label or VNI to send with and the address to
/// send to.
pub fn ingress_replication(label: super::Label, endpoint: IpAddr) -> Box<[u8]> {
    let mut bytes = vec![0, 6];
    bytes.extend_from_slice(&label.0);
    match endpoint {
        IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
    }
    bytes.into()
}

/// The label or VNI and the address of a PMSI tunnel for ingress replication.
pub fn read_ingress_replication(pmsi: &[u8]) -> Option<(super::Label, IpAddr)> {
    let ([_, 6, a, b, c], endpoint) = pmsi.split_first_chunk::<5>()? else { return None };
    let endpoint = match endpoint.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(endpoint).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(endpoint).ok()?),
        _ => return None,
    };
    Some((super::Label([*a, *b, *c]), endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Label;

    #[test]
    fn an_ingress_replication_tunnel_is_read_back() {
        let bytes = ingress_replication(Label::vni(5001), "198.18.0.1".parse().unwrap());
        assert_eq!(*bytes, [0, 6, 0, 0x13, 0x89, 198, 18, 0, 1]);
        assert_eq!(read_ingress_replication(&bytes), Some((Label::vni(5001), "198.18.0.1".parse().unwrap())));
        assert_eq!(read_ingress_replication(&bytes[..8]), None);
        assert_eq!(read_ingress_replication(&[0, 1, 0, 0, 0, 198, 18, 0, 1]), None);
    }
}
