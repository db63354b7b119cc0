//! The kinds of records, and how each is written as a key and a value.
//!
//! The first byte of a key is its kind; the rest sorts so that each kind,
//! each controller and each set of attributes is one run:
//!
//! | kind | key | value |
//! |---|---|---|
//! | 1 meta | name | bytes |
//! | 2 controller | number, 2 bytes | bytes |
//! | 3 label | VRF name | label, 4 bytes |
//! | 4 declaration | controller, 2 bytes; key | bytes |
//! | 5 attributes | number, 4 bytes | bytes |
//! | 6 route | attributes, 4 bytes; prefix | bytes, most often none |
//!
//! Integers are big-endian. A prefix is one byte for family and length (0 to
//! 32: IPv4; 33 to 161: IPv6 with 33 added), then as many bytes of the address
//! as the length covers: 4 bytes for 10.1.2.0/24.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const META: u8 = 1;
const CONTROLLER: u8 = 2;
const LABEL: u8 = 3;
const DECLARATION: u8 = 4;
const ATTRIBUTES: u8 = 5;
const ROUTE: u8 = 6;

/// What is added to the length of an IPv6 prefix.
const V6: u8 = 33;

/// One record, as [`load`](crate::Store::load) hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A value of the caller's under a name.
    Meta {
        /// Its name.
        name: &'a str,
        /// The value.
        value: &'a [u8],
    },
    /// A controller.
    Controller {
        /// Its number.
        number: u16,
        /// What is known of it.
        value: &'a [u8],
    },
    /// A label that was allocated.
    Label {
        /// The VRF that has it.
        vrf: &'a str,
        /// The label.
        label: u32,
    },
    /// What a controller has declared.
    Declaration {
        /// The controller's number.
        controller: u16,
        /// What it is.
        key: &'a [u8],
        /// How it is.
        value: &'a [u8],
    },
    /// What routes have in common.
    Attributes {
        /// Its number.
        number: u32,
        /// The attributes.
        value: &'a [u8],
    },
    /// A route.
    Route {
        /// The number of its attributes.
        attributes: u32,
        /// Where it leads.
        prefix: IpNet,
        /// What it has for itself.
        value: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// The record of a key and a value. `None` for what no program of this
    /// format writes.
    pub(crate) fn decode(key: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = key.split_first()?;
        Some(match kind {
            META => Self::Meta { name: std::str::from_utf8(rest).ok()?, value },
            CONTROLLER => Self::Controller { number: u16::from_be_bytes(rest.try_into().ok()?), value },
            LABEL => Self::Label {
                vrf: std::str::from_utf8(rest).ok()?,
                label: u32::from_be_bytes(value.try_into().ok()?),
            },
            DECLARATION => {
                let (controller, key) = rest.split_first_chunk()?;
                Self::Declaration { controller: u16::from_be_bytes(*controller), key, value }
            }
            ATTRIBUTES => Self::Attributes { number: u32::from_be_bytes(rest.try_into().ok()?), value },
            ROUTE => {
                let (attributes, prefix) = rest.split_first_chunk()?;
                Self::Route {
                    attributes: u32::from_be_bytes(*attributes),
                    prefix: decode_prefix(prefix)?,
                    value,
                }
            }
            _ => return None,
        })
    }
}

/// Names the record of a key for an operator, whatever the key is.
pub(crate) fn describe(key: &[u8], value: &[u8]) -> String {
    match Record::decode(key, value) {
        Some(Record::Meta { name, .. }) => format!("meta '{name}'"),
        Some(Record::Controller { number, .. }) => format!("controller {number}"),
        Some(Record::Label { vrf, .. }) => format!("the label of VRF '{vrf}'"),
        Some(Record::Declaration { controller, key, .. }) => {
            format!("declaration '{}' of controller {controller}", key.escape_ascii())
        }
        Some(Record::Attributes { number, .. }) => format!("attributes {number}"),
        Some(Record::Route { attributes, prefix, .. }) => {
            format!("the route to {prefix} with attributes {attributes}")
        }
        None => format!("the record with key '{}'", key.escape_ascii()),
    }
}

/// Keys of each kind, appended to a buffer.
pub(crate) mod key {
    use super::{ATTRIBUTES, CONTROLLER, DECLARATION, IpNet, LABEL, META, ROUTE, encode_prefix};

    pub(crate) fn meta(out: &mut Vec<u8>, name: &str) {
        out.push(META);
        out.extend_from_slice(name.as_bytes());
    }

    pub(crate) fn controller(out: &mut Vec<u8>, number: u16) {
        out.push(CONTROLLER);
        out.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn label(out: &mut Vec<u8>, vrf: &str) {
        out.push(LABEL);
        out.extend_from_slice(vrf.as_bytes());
    }

    pub(crate) fn declaration(out: &mut Vec<u8>, controller: u16, key: &[u8]) {
        out.push(DECLARATION);
        out.extend_from_slice(&controller.to_be_bytes());
        out.extend_from_slice(key);
    }

    pub(crate) fn attributes(out: &mut Vec<u8>, number: u32) {
        out.push(ATTRIBUTES);
        out.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn route(out: &mut Vec<u8>, attributes: u32, prefix: IpNet) {
        out.push(ROUTE);
        out.extend_from_slice(&attributes.to_be_bytes());
        encode_prefix(out, prefix);
    }
}

/// Bytes that the first `length` bits cover.
fn covered(length: u8) -> usize {
    usize::from(length).div_ceil(8)
}

fn encode_prefix(out: &mut Vec<u8>, prefix: IpNet) {
    let length = prefix.prefix_len();
    match prefix.network() {
        IpAddr::V4(address) => {
            out.push(length);
            out.extend_from_slice(&address.octets()[..covered(length)]);
        }
        IpAddr::V6(address) => {
            out.push(V6 + length);
            out.extend_from_slice(&address.octets()[..covered(length)]);
        }
    }
}

/// `None` when it is cut off, too long, or has bits beyond its length.
fn decode_prefix(bytes: &[u8]) -> Option<IpNet> {
    let (&code, address) = bytes.split_first()?;
    let prefix: IpNet = match code.checked_sub(V6) {
        None => Ipv4Net::new(Ipv4Addr::from(padded(address, code)?), code).ok()?.into(),
        Some(length) => Ipv6Net::new(Ipv6Addr::from(padded(address, length)?), length).ok()?.into(),
    };
    (prefix.trunc() == prefix).then_some(prefix)
}

/// The address with zeros where the prefix does not reach.
fn padded<const N: usize>(address: &[u8], length: u8) -> Option<[u8; N]> {
    if address.len() != covered(length) {
        return None;
    }
    let mut octets = [0; N];
    octets.get_mut(..address.len())?.copy_from_slice(address);
    Some(octets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(prefix: &str) -> Vec<u8> {
        let mut out = Vec::new();
        key::route(&mut out, 7, prefix.parse().expect("a prefix"));
        out
    }

    #[test]
    fn routes_are_as_long_as_their_prefixes() {
        assert_eq!(route("0.0.0.0/0"), [ROUTE, 0, 0, 0, 7, 0]);
        assert_eq!(route("10.1.2.0/23"), [ROUTE, 0, 0, 0, 7, 23, 10, 1, 2]);
        assert_eq!(route("2001:db8::/32"), [ROUTE, 0, 0, 0, 7, 33 + 32, 0x20, 1, 0x0d, 0xb8]);
        assert_eq!(route("2001:db8::1/128").len(), 6 + 16);
    }

    #[test]
    fn bits_beyond_the_prefix_are_not_kept() {
        assert_eq!(route("10.1.2.255/23"), route("10.1.2.0/23"));
    }

    #[test]
    fn what_no_program_writes_is_refused() {
        for key in [
            &[][..],
            &[0],
            &[9, 1],
            &[CONTROLLER, 1],
            &[CONTROLLER, 1, 2, 3],
            &[DECLARATION, 1],
            &[META, 0xff],
            &[ROUTE, 0, 0, 0, 7],
            &[ROUTE, 0, 0, 0, 7, 24, 10, 1],
            &[ROUTE, 0, 0, 0, 7, 24, 10, 1, 2, 3],
            &[ROUTE, 0, 0, 0, 7, 23, 10, 1, 1],
            &[ROUTE, 0, 0, 0, 7, 162, 1],
            &[ROUTE, 0, 0, 0, 7, 255],
        ] {
            assert_eq!(Record::decode(key, &[]), None, "{key:?}");
            assert!(describe(key, &[]).starts_with("the record with key"), "{key:?}");
        }
        assert_eq!(Record::decode(&[LABEL, b'r'], &[1, 2, 3]), None, "a label has four bytes");
    }

    /// Writes a record again.
    fn encode(record: &Record<'_>) -> (Vec<u8>, Vec<u8>) {
        let mut out = Vec::new();
        let value = match *record {
            Record::Meta { name, value } => {
                key::meta(&mut out, name);
                value.to_vec()
            }
            Record::Controller { number, value } => {
                key::controller(&mut out, number);
                value.to_vec()
            }
            Record::Label { vrf, label } => {
                key::label(&mut out, vrf);
                label.to_be_bytes().to_vec()
            }
            Record::Declaration { controller, key, value } => {
                key::declaration(&mut out, controller, key);
                value.to_vec()
            }
            Record::Attributes { number, value } => {
                key::attributes(&mut out, number);
                value.to_vec()
            }
            Record::Route { attributes, prefix, value } => {
                key::route(&mut out, attributes, prefix);
                value.to_vec()
            }
        };
        (out, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Whatever decodes is written exactly so, and nothing panics.
        #[test]
        fn arbitrary_bytes_are_refused_or_canonical(
            kind in 0_u8..9,
            rest in proptest::collection::vec(any::<u8>(), 0..24),
            value in proptest::collection::vec(any::<u8>(), 0..6),
        ) {
            let key = [&[kind], &rest[..]].concat();
            prop_assert!(!describe(&key, &value).is_empty());
            if let Some(record) = Record::decode(&key, &value) {
                prop_assert_eq!(encode(&record), (key.clone(), value.clone()));
            }
        }

        #[test]
        fn every_prefix_comes_back(
            bits in any::<u128>(), length in 0_u8..=128, attributes in any::<u32>(), v4 in any::<bool>(),
        ) {
            let prefix: IpNet = if v4 {
                Ipv4Net::new((bits as u32).into(), length % 33).expect("at most 32").trunc().into()
            } else {
                Ipv6Net::new(bits.into(), length).expect("at most 128").trunc().into()
            };
            let mut out = Vec::new();
            key::route(&mut out, attributes, prefix);
            prop_assert_eq!(Record::decode(&out, &[]), Some(Record::Route { attributes, prefix, value: &[] }));
        }
    }
}
