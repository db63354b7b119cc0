//! Which packets a rule is about: protocol, ports, ICMP types.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::quoted;

/// IP protocols by name (IANA protocol numbers).
const PROTOCOLS: [(&str, u8); 7] =
    [("icmp", 1), ("tcp", 6), ("udp", 17), ("gre", 47), ("esp", 50), ("icmpv6", 58), ("sctp", 132)];

/// Makes a type readable from a text or a whole number, and written as a text.
macro_rules! text_or_number_type {
    ($type:ty, $format:literal, $description:literal, $example:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a text such as ", $example, " or a number"))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $format.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": ["string", "integer"],
                    "format": $format,
                    "description": $description,
                    "examples": [$example],
                })
            }
        }
    };
}

/// An IP protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// ICMPv6.
    pub const ICMPV6: Self = Self(58);

    /// Whether its header has ports.
    pub fn has_ports(self) -> bool {
        // TCP, UDP, SCTP, UDP-Lite.
        matches!(self.0, 6 | 17 | 132 | 136)
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        PROTOCOLS
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name))
            .map(|(_, number)| *number)
            .or_else(|| text.parse().ok())
            .map(Self)
            .ok_or_else(|| {
                let names = PROTOCOLS.map(|(name, _)| name).join(", ");
                format!("{} is not an IP protocol: use {names} or a number up to 255", quoted(text))
            })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PROTOCOLS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

text_or_number_type!(Protocol, "protocol", "IP protocol, by name or number", "tcp");

/// Ports from `first` to `last`, both included: `80`, `8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("{} is not a range of ports: write 80 or 8000-8010", quoted(text))),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

text_or_number_type!(PortRange, "port-range", "A port or a range of ports", "8000-8010");

/// IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_protocols_read_back() {
        for text in ["80", "8000-8010", "0-65535"] {
            assert_eq!(text.parse::<PortRange>().map(|range| range.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "-", "90-80", "65536", "a"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
        for number in 0..=u8::MAX {
            assert_eq!(Protocol(number).to_string().parse(), Ok(Protocol(number)));
        }
        let read = |json| serde_json::from_value::<PortRange>(json).ok();
        assert_eq!(read(serde_json::json!(80)), Some(PortRange { first: 80, last: 80 }));
        assert_eq!(read(serde_json::json!(-80)), None);
    }
}
