//! Packed prefixes: an address and a length behind it, five bytes for IPv4 and
//! seventeen for IPv6.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::v1::RoutePrefixes;

/// Bytes of a packed IPv4 prefix.
const IPV4: usize = 5;
/// Bytes of a packed IPv6 prefix.
const IPV6: usize = 17;

/// Bytes that are no packed prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not prefixes of {each} bytes each: {left} are left over")]
pub struct LeftOver {
    /// The field that they are in.
    pub field: &'static str,
    bytes: usize,
    each: usize,
    left: usize,
}

/// A packed prefix, where it stands, and what it says, which need not be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// The field that it is in.
    pub field: &'static str,
    /// Its place in the field.
    pub at: usize,
    /// Its address.
    pub address: IpAddr,
    /// Its length.
    pub length: u8,
}

impl RoutePrefixes {
    /// Packs prefixes.
    pub fn pack(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let mut packed = Self::default();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => {
                    packed.ipv4.extend(net.addr().octets().into_iter().chain([net.prefix_len()]));
                }
                IpNet::V6(net) => {
                    packed.ipv6.extend(net.addr().octets().into_iter().chain([net.prefix_len()]));
                }
            }
        }
        packed
    }

    /// How many prefixes it has, texts among them.
    pub fn count(&self) -> usize {
        self.texts.len() + self.ipv4.len() / IPV4 + self.ipv6.len() / IPV6
    }

    /// The packed ones in their order, IPv4 first.
    ///
    /// # Errors
    /// When bytes are left over.
    pub fn packed(&self) -> Result<impl Iterator<Item = Packed>, LeftOver> {
        let whole = |field, bytes: usize, each| match bytes % each {
            0 => Ok(()),
            left => Err(LeftOver { field, bytes, each, left }),
        };
        whole("ipv4", self.ipv4.len(), IPV4)?;
        whole("ipv6", self.ipv6.len(), IPV6)?;
        let ipv4 = self.ipv4.as_chunks::<IPV4>().0.iter().enumerate().map(|(at, bytes)| {
            let [address @ .., length] = *bytes;
            Packed { field: "ipv4", at, address: address.into(), length }
        });
        let ipv6 = self.ipv6.as_chunks::<IPV6>().0.iter().enumerate().map(|(at, bytes)| {
            let [address @ .., length] = *bytes;
            Packed { field: "ipv6", at, address: address.into(), length }
        });
        Ok(ipv4.chain(ipv6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let prefixes = ["10.2.0.0/16", "2001:db8::/32", "0.0.0.0/0"].map(|text| text.parse().expect(text));
        let packed = RoutePrefixes::pack(prefixes);
        assert_eq!(packed.ipv4, [10, 2, 0, 0, 16, 0, 0, 0, 0, 0]);
        assert_eq!(packed.ipv6, [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]);
        let found =
            packed.packed().expect("nothing is left over").map(|one| IpNet::new(one.address, one.length));
        let found: Vec<IpNet> = found.collect::<Result<_, _>>().expect("prefixes");
        assert_eq!(found, [prefixes[0], prefixes[2], prefixes[1]]);
        let with_text = RoutePrefixes { texts: vec!["10.0.0.0/8".into()], ..packed };
        assert_eq!(with_text.count(), 4);
    }

    #[test]
    fn what_is_left_over_is_named() {
        let bad = RoutePrefixes { ipv6: vec![0; 18], ..Default::default() };
        let error = bad.packed().err().expect("one byte is left over");
        assert_eq!(error.field, "ipv6");
        assert_eq!(error.to_string(), "18 bytes are not prefixes of 17 bytes each: 1 are left over");
    }
}
