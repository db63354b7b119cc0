//! The engine's vocabulary: identifiers that cannot be mistaken for another.

use std::fmt;
use std::str::FromStr;

macro_rules! index_type {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $int);

        impl $name {
            /// The position in a table.
            #[inline]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index_type! {
    /// A port of the engine: one device.
    PortId(u16)
}
index_type! {
    /// A layer 3 interface: a port, or one VLAN of it, attached to a VRF.
    InterfaceId(u32)
}
index_type! {
    /// A VRF. [`VrfId::UNDERLAY`] always exists.
    VrfId(u16)
}
index_type! {
    /// An entry of the next-hop table.
    NextHopId(u32)
}
index_type! {
    /// An entry of the neighbour table.
    NeighbourId(u32)
}
index_type! {
    /// An interned set of security group IDs.
    SgSetId(u32)
}
index_type! {
    /// A worker thread.
    WorkerId(u16)
}

impl InterfaceId {
    /// No interface; never allocated.
    pub const NONE: InterfaceId = InterfaceId(u32::MAX);
}

impl VrfId {
    /// No VRF; never allocated.
    pub const NONE: VrfId = VrfId(u16::MAX);
    /// The VRF of the fabric's own addresses and routes.
    pub const UNDERLAY: VrfId = VrfId(0);
}

impl NextHopId {
    /// The next hop that drops; it always exists.
    pub const DISCARD: NextHopId = NextHopId(0);
}

impl SgSetId {
    /// The empty set; it always exists.
    pub const EMPTY: SgSetId = SgSetId(0);
}

/// A security group ID, as routes carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SgId(pub u32);

/// An MPLS label, 20 bits (RFC 3032).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u32);

impl Label {
    /// Labels 0 to 15 are reserved (RFC 3032 section 2.1).
    pub const FIRST_UNRESERVED: u32 = 16;
    /// The largest label.
    pub const MAX: u32 = (1 << 20) - 1;

    /// A label that may name a VRF, or `None` if it is reserved or too large.
    pub fn new(value: u32) -> Option<Self> {
        (Self::FIRST_UNRESERVED..=Self::MAX).contains(&value).then_some(Self(value))
    }

    /// The label as a number.
    #[inline]
    pub fn value(self) -> u32 {
        self.0
    }
}

/// A VXLAN network identifier, 24 bits (RFC 7348).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = (1 << 24) - 1;

    /// An identifier, or `None` if it is 0 or too large.
    pub fn new(value: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&value).then_some(Self(value))
    }

    /// The identifier as a number.
    #[inline]
    pub fn value(self) -> u32 {
        self.0
    }
}

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// Whether the group bit is set (multicast or broadcast).
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this can be the address of one station.
    #[inline]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text was not six hexadecimal bytes with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: expected six hexadecimal bytes such as 02:00:00:00:00:01")]
pub struct ParseMacError;

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or(ParseMacError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trips_and_rejects_what_is_not_one() {
        let mac: MacAddr = "02:00:5e:10:00:ff".parse().expect("a MAC");
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for bad in ["", "02:00:5e:10:00", "02:00:5e:10:00:ff:01", "2:0:5e:10:0:ff", "02:00:5e:10:00:+f"] {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn labels_and_vnis_keep_to_their_ranges() {
        assert!(Label::new(15).is_none() && Label::new(1 << 20).is_none());
        assert_eq!(Label::new(16).map(Label::value), Some(16));
        assert!(Vni::new(0).is_none() && Vni::new(1 << 24).is_none());
        assert_eq!(Vni::new(Vni::MAX).map(Vni::value), Some(Vni::MAX));
    }
}
