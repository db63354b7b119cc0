//! A BGP peer that sends any bytes, and the bytes of VPNv4 updates.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;

use super::clusters::{MIDDLE, MIDDLE_ASN, SPEAKERS};
use crate::command::{Background, binary};
use crate::net::Namespace;
use crate::scenario::eventually;

/// Longer than a controller takes to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// A transitive attribute that every speaker must know (RFC 4271 section 4.3).
pub const WELL_KNOWN: u8 = 0x40;
/// An optional one that is passed on.
pub const OPTIONAL_TRANSITIVE: u8 = 0xc0;
/// An optional one that is not.
pub const OPTIONAL: u8 = 0x80;

/// A peer with a session towards the first cluster's controller.
#[derive(Debug)]
pub struct RawPeer {
    process: Background,
}

impl RawPeer {
    /// Connects and sends messages once the session stands.
    pub fn start(namespace: &Namespace, messages: &[Vec<u8>]) -> Result<Self> {
        Self::start_as(MIDDLE_ASN, namespace, messages)
    }

    /// As [`RawPeer::start`], as a speaker of another AS. A controller that is just
    /// taking up another intent closes the connection: it is tried again.
    pub fn start_as(asn: u32, namespace: &Namespace, messages: &[Vec<u8>]) -> Result<Self> {
        eventually(LIMIT, || Self::connect(asn, namespace, messages))
    }

    fn connect(asn: u32, namespace: &Namespace, messages: &[Vec<u8>]) -> Result<Self> {
        let mut command = namespace.command(binary("tieline-e2e-bgp")?);
        command.args([&format!("{}:179", SPEAKERS[0]), &asn.to_string(), MIDDLE]);
        command.args(messages.iter().map(|message| hexadecimal(message)));
        let mut process = Background::start(&mut command, Stdio::inherit())?;
        process.wait_for("sent", LIMIT)?;
        Ok(Self { process })
    }

    /// Whether the session still stands.
    pub fn is_standing(&mut self) -> bool {
        self.process.newest_line().is_none() && self.process.is_alive()
    }

    /// Waits until the peer has ended the session with this notification.
    pub fn is_told(&mut self, code: u8, subcode: u8) -> Result<()> {
        self.process.wait_for(&format!("notification {code}/{subcode}"), LIMIT).map(drop)
    }
}

/// A VPNv4 route as a peer says it.
#[derive(Debug, Clone)]
pub struct VpnRoute {
    /// How it came about: 0 to 2 (RFC 4271 section 4.3).
    pub origin: u8,
    /// Its prefix and length.
    pub prefix: (Ipv4Addr, u8),
    /// Three bytes: label, traffic class, bottom of stack (RFC 8277).
    pub label: [u8; 3],
    /// The AS and the number of its route distinguisher.
    pub distinguisher: (u16, u32),
    /// Where it leads.
    pub next_hop: Ipv4Addr,
    /// ASes on the way.
    pub path: Vec<u32>,
    /// Extended communities.
    pub communities: Vec<[u8; 8]>,
    /// Further attributes, as bytes.
    pub more: Vec<u8>,
}

impl VpnRoute {
    /// One that nothing is wrong with, with the route target 64999:7.
    pub fn good(prefix: [u8; 4], length: u8) -> Self {
        Self {
            origin: 0,
            prefix: (prefix.into(), length),
            label: label(777),
            distinguisher: (MIDDLE_ASN as u16, 1),
            next_hop: [198, 18, 0, 9].into(),
            path: vec![MIDDLE_ASN],
            communities: vec![route_target(MIDDLE_ASN as u16, 7)],
            more: Vec::new(),
        }
    }

    /// As a speaker of the same AS says it: with an empty AS path and a local
    /// preference. A reflector names its originator (RFC 4456).
    pub fn internal(self, originator: Option<Ipv4Addr>) -> Self {
        let mut more = attribute(WELL_KNOWN, 5, &200_u32.to_be_bytes());
        if let Some(originator) = originator {
            more.extend(attribute(OPTIONAL, 9, &originator.octets()));
            more.extend(attribute(OPTIONAL, 10, &[198, 18, 9, 3]));
        }
        Self { path: Vec::new(), more, ..self }
    }

    /// Its attributes.
    pub fn attributes(&self) -> Vec<u8> {
        let mut path = Vec::new();
        if !self.path.is_empty() {
            path.extend([2, self.path.len() as u8]);
        }
        path.extend(self.path.iter().flat_map(|asn| asn.to_be_bytes()));
        let mut all = attribute(WELL_KNOWN, 1, &[self.origin]);
        all.extend(attribute(WELL_KNOWN, 2, &path));
        all.extend(attribute(OPTIONAL_TRANSITIVE, 16, &self.communities.concat()));
        all.extend(&self.more);
        all.extend(attribute(OPTIONAL, 14, &self.reach()));
        all
    }

    /// The value of MP_REACH_NLRI (RFC 4760).
    fn reach(&self) -> Vec<u8> {
        let (prefix, length) = self.prefix;
        let mut value = vec![0, 1, 128, 12];
        value.extend([0; 8]);
        value.extend(self.next_hop.octets());
        value.push(0);
        value.push(88 + length);
        value.extend(self.label);
        value.extend([0, 0]);
        let (asn, number) = self.distinguisher;
        value.extend(asn.to_be_bytes());
        value.extend(number.to_be_bytes());
        value.extend(&prefix.octets()[..usize::from(length.div_ceil(8))]);
        value
    }

    /// The UPDATE message.
    pub fn update(&self) -> Vec<u8> {
        update(&self.attributes())
    }
}

/// A label at the bottom of the stack.
pub const fn label(number: u32) -> [u8; 3] {
    let [_, a, b, c] = (number << 4 | 1).to_be_bytes();
    [a, b, c]
}

/// The route target of a two-byte AS.
pub fn route_target(asn: u16, number: u32) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), number.to_be_bytes());
    [0, 2, a, b, c, d, e, f]
}

/// A security group of a two-byte AS.
pub fn security_group(asn: u16, id: u32) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), id.to_be_bytes());
    [0x80, 4, a, b, c, d, e, f]
}

/// An attribute shorter than 256 bytes.
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, code, value.len() as u8];
    bytes.extend(value);
    bytes
}

/// An UPDATE with these attributes and nothing else.
pub fn update(attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    message(2, &body)
}

/// A message with its header.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend((19 + body.len() as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_what_rfc_4364_says() {
        let route = VpnRoute::good([10, 99, 0, 0], 16);
        assert_eq!(hexadecimal(&route.label), "003091");
        assert_eq!(
            hexadecimal(&route.reach()),
            "0001800c0000000000000000c612000900680030910000fde7000000010a63"
        );
        assert_eq!(hexadecimal(&update(&[])), format!("{}0017020000{}", "ff".repeat(16), "0000"));
    }
}
