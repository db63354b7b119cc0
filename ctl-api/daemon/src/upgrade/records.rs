//! What is declared, on its way: the store's records, each in a message. A byte
//! for the kind, a number of four bytes in network order where there is one, and
//! the rest.

use std::net::IpAddr;

use ipnet::IpNet;
use tieline_store::Record;

const META: u8 = 1;
const CONTROLLER: u8 = 2;
const LABEL: u8 = 3;
const DECLARATION: u8 = 4;
const ATTRIBUTES: u8 = 5;
const ROUTE: u8 = 6;

/// A record as bytes.
pub fn encode(record: &Record<'_>) -> Vec<u8> {
    let numbered = |kind: u8, number: u32, rest: &[u8]| {
        let mut bytes = vec![kind];
        bytes.extend(number.to_be_bytes());
        bytes.extend(rest);
        bytes
    };
    let with_length = |first: &[u8], second: &[u8]| {
        let mut bytes = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend(first);
        bytes.extend(second);
        bytes
    };
    match record {
        Record::Meta { name, value } => {
            let mut bytes = vec![META];
            bytes.extend(with_length(name.as_bytes(), value));
            bytes
        }
        Record::Controller { number, value } => numbered(CONTROLLER, u32::from(*number), value),
        Record::Label { vrf, label } => numbered(LABEL, *label, vrf.as_bytes()),
        Record::Declaration { controller, key, value } => {
            numbered(DECLARATION, u32::from(*controller), &with_length(key, value))
        }
        Record::Attributes { number, value } => numbered(ATTRIBUTES, *number, value),
        Record::Route { attributes, prefix, value } => {
            let mut rest = vec![prefix.prefix_len()];
            match prefix.addr() {
                IpAddr::V4(address) => {
                    rest.push(4);
                    rest.extend(address.octets());
                }
                IpAddr::V6(address) => {
                    rest.push(6);
                    rest.extend(address.octets());
                }
            }
            rest.extend(*value);
            numbered(ROUTE, *attributes, &rest)
        }
    }
}

/// A record from bytes. `None` if they are none.
pub fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let (kind, bytes) = bytes.split_first()?;
    if *kind == META {
        let (name, value) = split_length(bytes)?;
        return Some(Record::Meta { name: std::str::from_utf8(name).ok()?, value });
    }
    let (number, rest) = bytes.split_first_chunk()?;
    let number = u32::from_be_bytes(*number);
    let small = || u16::try_from(number).ok();
    match *kind {
        CONTROLLER => Some(Record::Controller { number: small()?, value: rest }),
        LABEL => Some(Record::Label { vrf: std::str::from_utf8(rest).ok()?, label: number }),
        DECLARATION => {
            let (key, value) = split_length(rest)?;
            Some(Record::Declaration { controller: small()?, key, value })
        }
        ATTRIBUTES => Some(Record::Attributes { number, value: rest }),
        ROUTE => {
            let ([length, family], rest) = rest.split_first_chunk()?;
            let (address, value) = match family {
                4 => rest.split_first_chunk::<4>().map(|(address, rest)| (IpAddr::from(*address), rest))?,
                6 => rest.split_first_chunk::<16>().map(|(address, rest)| (IpAddr::from(*address), rest))?,
                _ => return None,
            };
            let prefix = IpNet::new(address, *length).ok()?;
            Some(Record::Route { attributes: number, prefix, value })
        }
        _ => None,
    }
}

fn split_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_arrive_as_they_were_sent() {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        for record in [
            Record::Meta { name: "a", value: b"xy" },
            Record::Controller { number: 7, value: b"hello" },
            Record::Label { vrf: "red", label: 100_000 },
            Record::Declaration { controller: 65_535, key: b"key", value: b"" },
            Record::Attributes { number: u32::MAX, value: b"a" },
            Record::Route { attributes: 3, prefix: net("10.0.0.0/8"), value: b"" },
            Record::Route { attributes: 3, prefix: net("2001:db8::/32"), value: b"v" },
        ] {
            assert_eq!(decode(&encode(&record)), Some(record));
        }
        assert_eq!(decode(&[ROUTE, 0, 0, 0, 1, 33, 4, 10, 0, 0, 0]), None);
        assert_eq!(decode(&[CONTROLLER, 0, 1, 0, 0]), None, "no controller has such a number");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(record) = decode(&bytes) {
                prop_assert_eq!(encode(&record), bytes);
            }
        }
    }
}
