//! Objects as people write them in YAML and JSON.
//!
//! The form is protobuf's canonical JSON mapping with the original field
//! names, made lighter: enum values are short and lower case (`fabric`),
//! protocols have names (`tcp`), a range of ports is `80` or `8000-8010`, a key
//! is `vrf/red`.
//! What [`encode`] writes, [`decode`] reads back to the same object; [`decode`]
//! also reads the full enum names, protocol numbers, ranges as messages and
//! camelCase field names of the canonical mapping.

pub mod decode;
pub mod documents;
pub mod encode;

use prost_reflect::EnumDescriptor;

/// The field whose numbers have names in [`PROTOCOLS`], in rules and sessions.
const PROTOCOL_FIELDS: [&str; 2] = ["tieline.v1.SecurityGroupRule.protocol", "tieline.v1.Session.protocol"];
/// The message written as `80` or `8000-8010`.
const PORT_RANGE: &str = "tieline.v1.PortRange";
/// A key, written as `vrf/red`.
const OBJECT_KEY: &str = "tieline.v1.ObjectKey";
/// Members of a document beside the object: read back from the daemon, ignored
/// when applied.
pub const STATUS: &str = "status";
/// See [`STATUS`].
pub const HOLDERS: &str = "holders";

/// IP protocols by name (IANA protocol numbers).
const PROTOCOLS: [(&str, u32); 5] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58), ("sctp", 132)];

/// The name of an IP protocol, or its number.
pub fn protocol(number: u32) -> String {
    PROTOCOLS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// What all values of an enum begin with: `OBJECT_STATE_` for `ObjectState`.
fn enum_prefix(descriptor: &EnumDescriptor) -> String {
    let mut prefix = String::new();
    for letter in descriptor.name().chars() {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    prefix
}

/// The short form of an enum value: `fabric` for `PORT_ROLE_FABRIC`.
fn short_name(prefix: &str, name: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
