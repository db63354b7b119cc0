//! What a route is about: the NLRI as a key, and the payload that a newer
//! announcement of the same key replaces.
//!
//! Labels, the Ethernet segment and the gateway of an EVPN route are not part
//! of the key (RFC 7432 section 7, RFC 9136 section 3.1); they are in
//! [`Payload`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::family::Family;
use tieline_names::{MacAddr, RouteDistinguisher, RouteTarget};

/// The three bytes of a label field, as they are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub [u8; 3]);

impl Label {
    /// In withdrawals, where the label says nothing (RFC 8277 section 2.4).
    pub const WITHDRAW: Self = Self([0x80, 0, 0]);

    /// An MPLS label of 20 bits, at the bottom of the stack.
    pub fn mpls(label: u32) -> Self {
        let [_, a, b, c] = (label << 4 | 1).to_be_bytes();
        Self([a, b, c])
    }

    /// A VXLAN network identifier: all 24 bits (RFC 8365 section 5.1.3).
    pub fn vni(vni: u32) -> Self {
        let [_, a, b, c] = vni.to_be_bytes();
        Self([a, b, c])
    }

    /// Read as an MPLS label: the upper 20 bits.
    pub fn as_mpls(self) -> u32 {
        self.as_vni() >> 4
    }

    /// Read as a VNI: all 24 bits.
    pub fn as_vni(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:06x}", self.as_vni())
    }
}

/// An Ethernet segment identifier (RFC 7432 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Esi(pub [u8; 10]);

impl Esi {
    /// A segment with one attachment.
    pub const ZERO: Self = Self([0; 10]);
}

impl fmt::Debug for Esi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The key of an EVPN route (RFC 7432, RFC 9136).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evpn {
    /// Type 1: Ethernet auto-discovery.
    AutoDiscovery {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet segment.
        esi: Esi,
        /// Ethernet tag; all ones is the whole segment.
        tag: u32,
    },
    /// Type 2: a MAC address, with or without an IP address.
    MacIp {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet tag.
        tag: u32,
        /// The MAC address.
        mac: MacAddr,
        /// The IP address of the same host.
        ip: Option<IpAddr>,
    },
    /// Type 3: who wants multicast and broadcast of a bridge domain.
    Multicast {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet tag.
        tag: u32,
        /// The router that says so.
        originator: IpAddr,
    },
    /// Type 4: who is attached to a segment.
    Segment {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet segment.
        esi: Esi,
        /// The router that says so.
        originator: IpAddr,
    },
    /// Type 5: an IP prefix.
    Prefix {
        /// Route distinguisher.
        rd: RouteDistinguisher,
        /// Ethernet tag.
        tag: u32,
        /// The prefix.
        prefix: IpNet,
    },
    /// A type that this speaker does not know: passed on as it is.
    Other {
        /// The route type.
        kind: u8,
        /// What follows the length, at most 255 bytes.
        body: Box<[u8]>,
    },
}

/// A membership of route target constraint (RFC 4684): who wants routes with
/// a route target, or with any that begins with these bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Membership {
    /// Length in bits: 0, or 32 to 96.
    length: u8,
    /// Origin AS and route target; bits past the length are zero.
    bits: [u8; 12],
}

impl Membership {
    /// Every route target: the default.
    pub const DEFAULT: Self = Self { length: 0, bits: [0; 12] };

    /// One route target, wanted by an AS.
    pub fn new(origin_as: u32, target: RouteTarget) -> Self {
        let mut bits = [0; 12];
        bits[..4].copy_from_slice(&origin_as.to_be_bytes());
        bits[4..].copy_from_slice(&target.bytes());
        Self { length: 96, bits }
    }

    /// From length and bytes of the wire; `None` when there are fewer bytes
    /// than bits, or a length that RFC 4684 section 4 does not know.
    pub(crate) fn from_wire(length: u8, bytes: &[u8]) -> Option<Self> {
        if !(length == 0 || (32..=96).contains(&length)) {
            return None;
        }
        let mut bits = [0; 12];
        let used = usize::from(length).div_ceil(8);
        bits[..used].copy_from_slice(bytes.get(..used)?);
        if !length.is_multiple_of(8) {
            bits[used - 1] &= 0xff << (8 - length % 8);
        }
        Some(Self { length, bits })
    }

    /// Length in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// The bytes that the length covers.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bits[..usize::from(self.length).div_ceil(8)]
    }

    /// Which AS wants it; 0 with the default.
    pub const fn origin_as(self) -> u32 {
        let [a, b, c, d, ..] = self.bits;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The one route target of a full-length membership.
    pub fn target(self) -> Option<RouteTarget> {
        let (_, target) = self.bits.split_last_chunk::<8>()?;
        (self.length == 96).then(|| RouteTarget::from_bytes(*target))?
    }

    /// Whether it asks for routes with this route target. The type's second
    /// byte counts: a longer prefix than the origin AS compares the community.
    pub fn wants(&self, target: RouteTarget) -> bool {
        let bits = usize::from(self.length.saturating_sub(32));
        let (whole, part) = (bits / 8, bits % 8);
        let (mine, theirs) = (&self.bits[4..], target.bytes());
        mine[..whole] == theirs[..whole]
            && (part == 0 || (mine[whole] ^ theirs[whole]) & (0xff << (8 - part)) == 0)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target() {
            Some(target) => write!(f, "{}:{target}", self.origin_as()),
            None => write!(f, "{:02x?}/{}", self.bytes(), self.length),
        }
    }
}

/// The key of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Nlri {
    /// An IPv4 prefix.
    Ipv4(Ipv4Net),
    /// An IPv6 prefix.
    Ipv6(Ipv6Net),
    /// An IPv4 prefix of a VPN.
    Vpnv4(RouteDistinguisher, Ipv4Net),
    /// An IPv6 prefix of a VPN.
    Vpnv6(RouteDistinguisher, Ipv6Net),
    /// An EVPN route.
    Evpn(Evpn),
    /// A route target membership.
    RouteTarget(Membership),
}

impl Nlri {
    /// The family that it belongs to.
    pub const fn family(&self) -> Family {
        match self {
            Self::Ipv4(_) => Family::Ipv4Unicast,
            Self::Ipv6(_) => Family::Ipv6Unicast,
            Self::Vpnv4(..) => Family::Vpnv4,
            Self::Vpnv6(..) => Family::Vpnv6,
            Self::Evpn(_) => Family::Evpn,
            Self::RouteTarget(_) => Family::RouteTarget,
        }
    }

    /// The same key without the bits that its prefix length does not cover.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Self::Ipv4(net) => Self::Ipv4(net.trunc()),
            Self::Ipv6(net) => Self::Ipv6(net.trunc()),
            Self::Vpnv4(rd, net) => Self::Vpnv4(rd, net.trunc()),
            Self::Vpnv6(rd, net) => Self::Vpnv6(rd, net.trunc()),
            Self::Evpn(Evpn::Prefix { rd, tag, prefix }) => {
                Self::Evpn(Evpn::Prefix { rd, tag, prefix: prefix.trunc() })
            }
            other => other,
        }
    }
}

impl fmt::Display for Nlri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(net) => write!(f, "{net}"),
            Self::Ipv6(net) => write!(f, "{net}"),
            Self::Vpnv4(rd, net) => write!(f, "{rd}:{net}"),
            Self::Vpnv6(rd, net) => write!(f, "{rd}:{net}"),
            Self::RouteTarget(membership) => write!(f, "{membership:?}"),
            Self::Evpn(route) => match route {
                Evpn::AutoDiscovery { rd, esi, tag } => write!(f, "[1]:[{rd}]:[{esi:?}]:[{tag}]"),
                Evpn::MacIp { rd, tag, mac, ip: Some(ip) } => write!(f, "[2]:[{rd}]:[{tag}]:[{mac}]:[{ip}]"),
                Evpn::MacIp { rd, tag, mac, ip: None } => write!(f, "[2]:[{rd}]:[{tag}]:[{mac}]"),
                Evpn::Multicast { rd, tag, originator } => write!(f, "[3]:[{rd}]:[{tag}]:[{originator}]"),
                Evpn::Segment { rd, esi, originator } => write!(f, "[4]:[{rd}]:[{esi:?}]:[{originator}]"),
                Evpn::Prefix { rd, tag, prefix } => write!(f, "[5]:[{rd}]:[{tag}]:[{prefix}]"),
                Evpn::Other { kind, body } => write!(f, "[{kind}]:{body:02x?}"),
            },
        }
    }
}

/// What goes with a key and is replaced with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Payload {
    /// The label, or the VNI with VXLAN. VPN routes and EVPN types 1, 2 and 5.
    pub label: Option<Label>,
    /// The second label of EVPN type 2: the VRF's (RFC 9135).
    pub label2: Option<Label>,
    /// The Ethernet segment of EVPN types 2 and 5.
    pub esi: Esi,
    /// The gateway of EVPN type 5; `None` is the unspecified address.
    pub gateway: Option<IpAddr>,
}

impl Payload {
    /// With one label and nothing else.
    pub fn labelled(label: Label) -> Self {
        Self { label: Some(label), ..Self::default() }
    }
}

/// A key and its payload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The key.
    pub nlri: Nlri,
    /// What goes with it.
    pub payload: Payload,
}

/// Whether an address can be a next hop (RFC 4271 section 6.3): one host, not
/// of this machine alone.
pub fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let class_e = v4.octets()[0] >= 240;
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_loopback() || class_e || v4.octets()[0] == 0)
                && v4 != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_24_bits() {
        assert_eq!(Label::mpls(1001).0, [0x00, 0x3e, 0x91]);
        assert_eq!(Label::mpls(1001).as_mpls(), 1001);
        assert_eq!(Label::vni(0x00ab_cdef).as_vni(), 0x00ab_cdef);
    }

    #[test]
    fn a_membership_wants_what_its_bits_cover() {
        let (one, two) = (RouteTarget::as2(64512, 1), RouteTarget::as2(64512, 2));
        assert!(Membership::DEFAULT.wants(one));
        let exact = Membership::new(64513, one);
        assert!(exact.wants(one) && !exact.wants(two));
        assert_eq!((exact.target(), exact.origin_as()), (Some(one), 64513));
        // All targets of AS 64512: 32 + 32 bits.
        let of_as = Membership::from_wire(64, &exact.bits).unwrap();
        assert!(of_as.wants(one) && of_as.wants(two) && !of_as.wants(RouteTarget::as2(64513, 1)));
        assert_eq!(of_as.target(), None);
        for wrong in [1, 31, 97] {
            assert_eq!(Membership::from_wire(wrong, &[0; 13]), None);
        }
        assert_eq!(Membership::from_wire(96, &[0; 11]), None);
        // 84 bits: the last four of the eleventh byte do not count.
        let odd = Membership::from_wire(84, &exact.bits).unwrap();
        assert!(
            odd.wants(one)
                && odd.wants(RouteTarget::as2(64512, 4095))
                && !odd.wants(RouteTarget::as2(64512, 4096))
        );
    }

    #[test]
    fn keys_are_small() {
        assert!(size_of::<Nlri>() <= 48, "{}", size_of::<Nlri>());
        assert!(size_of::<Payload>() <= 36, "{}", size_of::<Payload>());
    }
}
