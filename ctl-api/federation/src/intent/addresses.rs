//! Addresses: prefixes, interface addresses, MACs, pools.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tieline_names::MacAddr;

use super::names::quoted;
use crate::text::text_type;

/// An IPv4 or IPv6 prefix without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Its first and last address.
    pub fn bounds(self) -> (IpAddr, IpAddr) {
        (self.0.network(), self.0.broadcast())
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The address that follows the first: the usual default gateway. Of a
    /// prefix of one address, that one.
    pub fn first_host(self) -> IpAddr {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            return self.0.addr();
        }
        match self.0.network() {
            IpAddr::V4(first) => IpAddr::V4((u32::from(first) | 1).into()),
            IpAddr::V6(first) => IpAddr::V6((u128::from(first) | 1).into()),
        }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net: IpNet = text
            .parse()
            .map_err(|_| format!("{} is not a prefix: write 10.1.0.0/16 or 2001:db8::/32", quoted(text)))?;
        if net.trunc() != net {
            return Err(format!("{net} has host bits: write {}", net.trunc()));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(Prefix, "prefix", "IPv4 or IPv6 prefix; host bits must be zero", "10.1.0.0/16");

/// An address and the length of the subnet that it lives in: `10.1.0.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress(IpNet);

impl InterfaceAddress {
    /// An address in a prefix.
    pub fn new(address: IpAddr, prefix: Prefix) -> Self {
        // The length is one that a prefix has.
        Self(IpNet::new(address, prefix.0.prefix_len()).unwrap_or(prefix.0))
    }
}

impl FromStr for InterfaceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{} is not an address with a length: write 10.1.0.1/24", quoted(text)))
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(InterfaceAddress, "address-with-length", "Address with the length of its subnet", "10.1.0.1/24");

/// The MAC of one station: neither zero nor a group address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(MacAddr);

impl Mac {
    /// Its bytes, as on the wire.
    pub fn octets(self) -> [u8; 6] {
        self.0.0
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mac: MacAddr =
            text.parse().map_err(|_| format!("{} is not a MAC: write 02:00:00:00:00:01", quoted(text)))?;
        if !mac.is_unicast() {
            return Err(format!(
                "{text:?} is not the MAC of one station (IEEE 802: it is zero or a group's)"
            ));
        }
        Ok(Self(mac))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(Mac, "mac", "MAC of one station", "02:00:00:00:00:01");

/// Addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pool {
    /// The first address.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
}

impl Pool {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address) && self.first.is_ipv4() == address.is_ipv4()
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last && self.first.is_ipv4() == other.first.is_ipv4()
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_no_host_bits_and_a_first_host() {
        assert_eq!(
            "10.1.0.1/24".parse::<Prefix>(),
            Err("10.1.0.1/24 has host bits: write 10.1.0.0/24".to_owned())
        );
        let host = |text: &str| text.parse::<Prefix>().expect(text).first_host().to_string();
        assert_eq!(host("10.1.0.0/24"), "10.1.0.1");
        assert_eq!(host("10.1.0.0/31"), "10.1.0.1");
        assert_eq!(host("10.1.0.7/32"), "10.1.0.7");
        assert_eq!(host("2001:db8::/64"), "2001:db8::1");
    }

    #[test]
    fn pools_hold_their_ends_and_only_their_own_family() {
        let pool = |first: &str, last: &str| Pool {
            first: first.parse().expect("an address"),
            last: last.parse().expect("an address"),
        };
        let v4 = pool("10.0.0.2", "10.0.0.9");
        let holds = |text: &str| v4.contains(text.parse().expect("an address"));
        assert!(holds("10.0.0.2") && holds("10.0.0.9") && !holds("10.0.0.10") && !holds("::a00:5"));
        assert!(v4.overlaps(&pool("10.0.0.9", "10.0.0.20")) && !v4.overlaps(&pool("10.0.0.10", "10.0.0.20")));
    }

    #[test]
    fn macs_are_those_of_stations() {
        assert_eq!(
            "02:00:00:00:01:0A".parse::<Mac>().map(|mac| mac.to_string()),
            Ok("02:00:00:00:01:0a".to_owned())
        );
        for bad in [
            "",
            "02:00",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "+2:00:00:00:00:01",
            "02:00:00:00:00:01:02",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
