//! Path attributes to bytes.

use super::as_path::{AS_TRANS, AsPath, SegmentKind};
use super::attributes::{Attributes, NextHop, code, flag};
use super::family::Family;

/// Appends an attribute, with the extended length where it is needed.
fn push(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    head(flags, code, value.len(), out);
    out.extend_from_slice(value);
}

/// Appends flags, type and length of an attribute. A length that no message
/// could hold is cut; the message is then too long and never sent.
pub(super) fn head(flags: u8, code: u8, length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(length) => out.extend_from_slice(&[flags & !flag::EXTENDED, code, length]),
        Err(_) => {
            let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            out.extend_from_slice(&[flags | flag::EXTENDED, code, high, low]);
        }
    }
}

/// Appends all attributes except MP_REACH_NLRI, in the order of their types.
/// `legacy` puts the next hop into NEXT_HOP; `as4` is with 4-byte AS numbers.
pub(super) fn encode(attributes: &Attributes, legacy: bool, as4: bool, out: &mut Vec<u8>) {
    let transitive = flag::OPTIONAL | flag::TRANSITIVE;
    push(flag::TRANSITIVE, code::ORIGIN, &[attributes.origin as u8], out);
    let mut value = Vec::with_capacity(64);
    attributes.as_path.encode(as4, &mut value);
    push(flag::TRANSITIVE, code::AS_PATH, &value, out);
    if let (true, NextHop::V4(address)) = (legacy, attributes.next_hop) {
        push(flag::TRANSITIVE, code::NEXT_HOP, &address.octets(), out);
    }
    if let Some(med) = attributes.med {
        push(flag::OPTIONAL, code::MED, &med.to_be_bytes(), out);
    }
    if let Some(preference) = attributes.local_pref {
        push(flag::TRANSITIVE, code::LOCAL_PREF, &preference.to_be_bytes(), out);
    }
    if attributes.atomic_aggregate {
        push(flag::TRANSITIVE, code::ATOMIC_AGGREGATE, &[], out);
    }
    if let Some((asn, address)) = attributes.aggregator {
        value.clear();
        if as4 {
            value.extend_from_slice(&asn.to_be_bytes());
        } else {
            value.extend_from_slice(&u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        }
        value.extend_from_slice(&address.octets());
        push(transitive, code::AGGREGATOR, &value, out);
    }
    let list = |records: &mut dyn Iterator<Item = &[u8]>, flags: u8, code: u8, out: &mut Vec<u8>| {
        let value: Vec<u8> = records.flatten().copied().collect();
        if !value.is_empty() {
            push(flags, code, &value, out);
        }
    };
    let communities: Vec<[u8; 4]> = attributes.communities.iter().map(|c| c.0.to_be_bytes()).collect();
    list(&mut communities.iter().map(|c| &c[..]), transitive, code::COMMUNITIES, out);
    if let Some(id) = attributes.originator_id {
        push(flag::OPTIONAL, code::ORIGINATOR_ID, &id.octets(), out);
    }
    let clusters: Vec<[u8; 4]> = attributes.cluster_list.iter().map(|id| id.octets()).collect();
    list(&mut clusters.iter().map(|id| &id[..]), flag::OPTIONAL, code::CLUSTER_LIST, out);
    list(&mut attributes.extended.iter().map(|c| &c.0[..]), transitive, code::EXTENDED_COMMUNITIES, out);
    if !as4 {
        encode_as4(attributes, out);
    }
    if let Some(pmsi) = &attributes.pmsi {
        push(transitive, code::PMSI_TUNNEL, pmsi, out);
    }
    let large: Vec<[u8; 4]> = attributes.large.iter().flatten().map(|part| part.to_be_bytes()).collect();
    list(&mut large.iter().map(|part| &part[..]), transitive, code::LARGE_COMMUNITIES, out);
    for raw in &attributes.unknown {
        push(raw.flags, raw.code, &raw.value, out);
    }
}

/// What a speaker with 2-byte AS numbers passes on without reading it
/// (RFC 6793 section 4.2.2). Confederation segments are not in it.
fn encode_as4(attributes: &Attributes, out: &mut Vec<u8>) {
    let transitive = flag::OPTIONAL | flag::TRANSITIVE;
    if attributes.as_path.needs_wide() {
        let plain = attributes
            .as_path
            .0
            .iter()
            .filter(|segment| matches!(segment.kind, SegmentKind::Sequence | SegmentKind::Set));
        let mut value = Vec::new();
        AsPath(plain.cloned().collect()).encode(true, &mut value);
        push(transitive, code::AS4_PATH, &value, out);
    }
    if let Some((asn, address)) = attributes.aggregator
        && asn > u32::from(u16::MAX)
    {
        let mut value = asn.to_be_bytes().to_vec();
        value.extend_from_slice(&address.octets());
        push(transitive, code::AS4_AGGREGATOR, &value, out);
    }
}

/// The next hop as MP_REACH_NLRI has it in a family.
pub(super) fn next_hop(family: Family, next_hop: NextHop) -> Vec<u8> {
    let vpn = matches!(family, Family::Vpnv4 | Family::Vpnv6);
    let mut bytes = Vec::with_capacity(48);
    let mut push = |octets: &[u8]| {
        if vpn {
            bytes.extend_from_slice(&[0; 8]);
        }
        bytes.extend_from_slice(octets);
    };
    match next_hop {
        // RFC 4659 section 3.2.1.2, RFC 2545: IPv6 routes have an IPv6 next hop.
        NextHop::V4(v4) if matches!(family, Family::Ipv6Unicast | Family::Vpnv6) => {
            push(&v4.to_ipv6_mapped().octets());
        }
        NextHop::V4(v4) => push(&v4.octets()),
        NextHop::V6(v6, link) => {
            push(&v6.octets());
            if let (Some(link), Family::Ipv6Unicast | Family::Vpnv6) = (link, family) {
                push(&link.octets());
            }
        }
    }
    bytes
}
