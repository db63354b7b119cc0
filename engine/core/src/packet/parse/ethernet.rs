//! Ethernet II frames with up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use crate::drop_reason::DropReason;
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, chunk, ethernet};
use crate::tables::port::VlanTags;
use crate::types::MacAddr;

/// The protocols that the engine takes from a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtherType {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// ARP.
    Arp,
}

impl EtherType {
    /// The IP version, or `None` for ARP.
    #[inline]
    pub fn family(self) -> Option<Family> {
        match self {
            EtherType::Ipv4 => Some(Family::V4),
            EtherType::Ipv6 => Some(Family::V6),
            EtherType::Arp => None,
        }
    }
}

/// A frame's Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLayer {
    /// Destination MAC.
    pub destination: MacAddr,
    /// Source MAC.
    pub source: MacAddr,
    /// VLAN IDs. A priority tag (VLAN 0) counts as none.
    pub tags: VlanTags,
    /// What follows.
    pub ethertype: EtherType,
    /// Where it follows, bytes from the start of the frame.
    pub l3_offset: u16,
}

/// The VLAN ID in a tag's 16 bits.
const VLAN_ID: u16 = 0x0fff;

/// Reads the Ethernet header at the start of `frame`.
///
/// # Errors
/// [`DropReason::TruncatedEthernet`], [`DropReason::TooManyVlanTags`] or
/// [`DropReason::UnknownEtherType`].
#[inline]
pub fn parse_ethernet(frame: &[u8]) -> Result<LinkLayer, DropReason> {
    let header: &[u8; ethernet::LENGTH] = chunk(frame, 0).ok_or(DropReason::TruncatedEthernet)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = *header;
    let mut tags = VlanTags::default();
    let mut at = ethernet::LENGTH;
    let mut ethertype = be16(header, ethernet::ETHERTYPE);
    let mut count = 0;
    while matches!(ethertype, ethernet::VLAN | ethernet::QINQ | ethernet::QINQ_OLD) {
        if count == 2 {
            return Err(DropReason::TooManyVlanTags);
        }
        let tag: &[u8; ethernet::TAG_LENGTH] = chunk(frame, at).ok_or(DropReason::TruncatedEthernet)?;
        let vlan = be16(tag, 0) & VLAN_ID;
        if tags.outer == 0 {
            tags.outer = vlan;
        } else {
            tags.inner = vlan;
        }
        ethertype = be16(tag, 2);
        at += ethernet::TAG_LENGTH;
        count += 1;
    }
    let ethertype = match ethertype {
        ethernet::IPV4 => EtherType::Ipv4,
        ethernet::IPV6 => EtherType::Ipv6,
        ethernet::ARP => EtherType::Arp,
        _ => return Err(DropReason::UnknownEtherType),
    };
    Ok(LinkLayer {
        destination: MacAddr([d0, d1, d2, d3, d4, d5]),
        source: MacAddr([s0, s1, s2, s3, s4, s5]),
        tags,
        ethertype,
        // At most 22.
        l3_offset: at as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[[u8; 4]], ethertype: [u8; 2]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(tags.concat());
        frame.extend(ethertype);
        frame
    }

    const IP: [u8; 2] = [0x08, 0x00];

    #[test]
    fn tags_are_read_outermost_first() {
        let cases: [(&[[u8; 4]], VlanTags, u16); 6] = [
            (&[], VlanTags { outer: 0, inner: 0 }, 14),
            (&[[0x81, 0, 0xe0, 0x64]], VlanTags { outer: 100, inner: 0 }, 18),
            (&[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 8]], VlanTags { outer: 7, inner: 8 }, 22),
            (&[[0x91, 0, 0, 7], [0x81, 0, 0, 8]], VlanTags { outer: 7, inner: 8 }, 22),
            (&[[0x81, 0, 0xa0, 0]], VlanTags { outer: 0, inner: 0 }, 18),
            (&[[0x81, 0, 0, 0], [0x81, 0, 0, 9]], VlanTags { outer: 9, inner: 0 }, 22),
        ];
        for (bytes, tags, l3_offset) in cases {
            let link = parse_ethernet(&frame(bytes, IP)).expect("well-formed");
            assert_eq!((link.tags, link.l3_offset, link.ethertype), (tags, l3_offset, EtherType::Ipv4));
            assert_eq!(link.destination, MacAddr([2, 0, 0, 0, 0, 1]));
            assert_eq!(link.source, MacAddr([2, 0, 0, 0, 0, 2]));
        }
    }

    #[test]
    fn what_is_no_frame_for_us_says_why() {
        let tag = [0x81, 0, 0, 5];
        assert_eq!(parse_ethernet(&frame(&[tag; 3], IP)), Err(DropReason::TooManyVlanTags));
        assert_eq!(parse_ethernet(&frame(&[], [0x88, 0xcc])), Err(DropReason::UnknownEtherType));
        // An 802.3 length, not an EtherType.
        assert_eq!(parse_ethernet(&frame(&[], [0, 0x26])), Err(DropReason::UnknownEtherType));
        let whole = frame(&[tag, tag], IP);
        for length in 0..whole.len() {
            assert_eq!(parse_ethernet(&whole[..length]), Err(DropReason::TruncatedEthernet), "{length}");
        }
    }
}
