//! Field positions and protocol numbers.
//!
//! One module a protocol: field offsets in bytes from the start of its header,
//! header lengths in bytes, and the numbers that its fields take. Multi-byte
//! fields are big-endian on the wire; the readers here give host order.

/// Ethernet II (IEEE 802.3) with 802.1Q and 802.1ad tags.
pub mod ethernet {
    /// Destination MAC.
    pub const DESTINATION: usize = 0;
    /// Source MAC.
    pub const SOURCE: usize = 6;
    /// EtherType of an untagged frame.
    pub const ETHERTYPE: usize = 12;
    /// Header of an untagged frame.
    pub const LENGTH: usize = 14;
    /// One tag: priority and VLAN ID, then the next EtherType.
    pub const TAG_LENGTH: usize = 4;
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// Service tag of switches older than 802.1ad.
    pub const QINQ_OLD: u16 = 0x9100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// MPLS unicast (RFC 5332).
    pub const MPLS: u16 = 0x8847;
}

/// IPv4 (RFC 791).
pub mod ipv4 {
    /// Version and header length.
    pub const VERSION_IHL: usize = 0;
    /// DSCP and ECN.
    pub const TRAFFIC_CLASS: usize = 1;
    /// Header and payload, bytes.
    pub const TOTAL_LENGTH: usize = 2;
    /// Identification.
    pub const IDENTIFICATION: usize = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address.
    pub const SOURCE: usize = 12;
    /// Destination address.
    pub const DESTINATION: usize = 16;
    /// Header without options.
    pub const LENGTH: usize = 20;
    /// "Do not fragment" in the fragment field.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// "More fragments" in the fragment field.
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The offset in the fragment field, units of 8 bytes.
    pub const FRAGMENT_OFFSET: u16 = 0x1fff;
    /// End of the option list.
    pub const OPTION_END: u8 = 0;
    /// No operation.
    pub const OPTION_NOP: u8 = 1;
    /// Loose source and record route.
    pub const OPTION_LSRR: u8 = 131;
    /// Strict source and record route.
    pub const OPTION_SSRR: u8 = 137;
}

/// IPv6 and its extension headers (RFC 8200).
pub mod ipv6 {
    /// Everything after the fixed header, bytes.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Type of the header that follows.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SOURCE: usize = 8;
    /// Destination address.
    pub const DESTINATION: usize = 24;
    /// Fixed header.
    pub const LENGTH: usize = 40;
    /// Fragment header.
    pub const FRAGMENT_LENGTH: usize = 8;
}

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// IPsec encapsulating security payload.
    pub const ESP: u8 = 50;
    /// IPsec authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// TCP (RFC 9293).
pub mod tcp {
    /// Source port; UDP and SCTP have it in the same place.
    pub const SOURCE_PORT: usize = 0;
    /// Destination port; UDP and SCTP have it in the same place.
    pub const DESTINATION_PORT: usize = 2;
    /// Header length in the upper four bits, units of 4 bytes.
    pub const DATA_OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Header without options.
    pub const LENGTH: usize = 20;
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// End of the option list.
    pub const OPTION_END: u8 = 0;
    /// No operation.
    pub const OPTION_NOP: u8 = 1;
    /// Maximum segment size.
    pub const OPTION_MSS: u8 = 2;
}

/// UDP (RFC 768).
pub mod udp {
    /// Source port.
    pub const SOURCE_PORT: usize = 0;
    /// Destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Header and payload, bytes.
    pub const LENGTH_FIELD: usize = 4;
    /// Checksum; zero: none.
    pub const CHECKSUM: usize = 6;
    /// Header.
    pub const LENGTH: usize = 8;
    /// VXLAN (RFC 7348).
    pub const VXLAN_PORT: u16 = 4789;
    /// MPLS in UDP (RFC 7510).
    pub const MPLS_PORT: u16 = 6635;
}

/// SCTP (RFC 9260).
pub mod sctp {
    /// Common header.
    pub const LENGTH: usize = 12;
}

/// ICMP (RFC 792) and ICMPv6 (RFC 4443).
pub mod icmp {
    /// Type.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum.
    pub const CHECKSUM: usize = 2;
    /// Identifier of an echo message.
    pub const IDENTIFIER: usize = 4;
    /// What most messages have before their body.
    pub const LENGTH: usize = 8;

    /// ICMP: echo reply.
    pub const V4_ECHO_REPLY: u8 = 0;
    /// ICMP: destination unreachable.
    pub const V4_UNREACHABLE: u8 = 3;
    /// ICMP: source quench.
    pub const V4_SOURCE_QUENCH: u8 = 4;
    /// ICMP: redirect.
    pub const V4_REDIRECT: u8 = 5;
    /// ICMP: echo request.
    pub const V4_ECHO_REQUEST: u8 = 8;
    /// ICMP: time exceeded.
    pub const V4_TIME_EXCEEDED: u8 = 11;
    /// ICMP: parameter problem.
    pub const V4_PARAMETER_PROBLEM: u8 = 12;
    /// ICMP: timestamp.
    pub const V4_TIMESTAMP: u8 = 13;
    /// ICMPv4: timestamp reply.
    pub const V4_TIMESTAMP_REPLY: u8 = 14;

    /// ICMPv6: destination unreachable.
    pub const V6_UNREACHABLE: u8 = 1;
    /// ICMPv6: packet too big.
    pub const V6_PACKET_TOO_BIG: u8 = 2;
    /// ICMPv6: time exceeded.
    pub const V6_TIME_EXCEEDED: u8 = 3;
    /// ICMPv6: first type that is not an error message.
    pub const V6_FIRST_INFORMATIONAL: u8 = 128;
    /// ICMPv6: echo request.
    pub const V6_ECHO_REQUEST: u8 = 128;
    /// ICMPv6: echo reply.
    pub const V6_ECHO_REPLY: u8 = 129;
    /// ND: router solicitation (RFC 4861); the first of ND's five types.
    pub const ND_ROUTER_SOLICITATION: u8 = 133;
    /// ND: neighbour solicitation.
    pub const ND_NEIGHBOUR_SOLICITATION: u8 = 135;
    /// ND: neighbour advertisement.
    pub const ND_NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// ND: redirect; the last of ND's five types.
    pub const ND_REDIRECT: u8 = 137;
}

/// GRE (RFC 2784, RFC 2890).
pub mod gre {
    /// Header without optional fields.
    pub const LENGTH: usize = 4;
    /// Each optional field.
    pub const OPTIONAL_LENGTH: usize = 4;
    /// Checksum (and four bytes for it) present.
    pub const CHECKSUM_PRESENT: u16 = 0x8000;
    /// Key present.
    pub const KEY_PRESENT: u16 = 0x2000;
    /// Flags that make a packet undecodable here: routing, sequence number,
    /// strict source route, the first recursion bit, and any version but 0
    /// (RFC 2784 sections 2.3 and 2.3.1). The other bits are ignored.
    pub const REFUSED: u16 = 0x5c07;
}

/// MPLS label stack entry (RFC 3032).
pub mod mpls {
    /// One entry.
    pub const LENGTH: usize = 4;
    /// The label's position in the entry's 32 bits.
    pub const LABEL_SHIFT: u32 = 12;
    /// Bottom of stack.
    pub const BOTTOM: u32 = 0x100;
    /// Time to live.
    pub const TTL: u32 = 0xff;
}

/// VXLAN (RFC 7348).
pub mod vxlan {
    /// Header.
    pub const LENGTH: usize = 8;
    /// The VNI, in the upper 24 bits of four bytes.
    pub const VNI: usize = 4;
    /// First byte: the VNI is valid.
    pub const VNI_VALID: u8 = 0x08;
}

/// The `N` bytes at `at`, or `None` if the slice ends before.
#[inline]
pub fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// The `N` bytes at `at`, to change, or `None` if the slice ends before.
#[inline]
pub fn chunk_mut<const N: usize>(bytes: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

/// The two bytes at `at`.
///
/// # Panics
/// If the slice ends before; callers hold a [`chunk`] of known length.
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at`.
///
/// # Panics
/// If the slice ends before; callers hold a [`chunk`] of known length.
#[inline]
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Replaces the two bytes at `at`.
///
/// # Panics
/// If the slice ends before; callers hold a [`chunk_mut`] of known length.
#[inline]
pub fn set_be16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
