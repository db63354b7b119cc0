//! The IPv6 header and its extension headers (RFC 8200).

use super::{Fragment, IpHeader};
use crate::drop_reason::DropReason;
use crate::packet::headers::{be16, be32, chunk, ipv6, protocol};

/// Most extension headers of one packet. RFC 8504 section 5.3 lets a node
/// limit them; eight are more than any real packet has.
const MAX_EXTENSION_HEADERS: usize = 8;

#[inline]
pub(super) fn parse(bytes: &[u8], l3_offset: usize) -> Result<IpHeader, DropReason> {
    let fixed: &[u8; ipv6::LENGTH] = chunk(bytes, l3_offset).ok_or(DropReason::TruncatedIp)?;
    if fixed[0] >> 4 != 6 {
        return Err(DropReason::BadIpVersion);
    }
    let payload_length = usize::from(be16(fixed, ipv6::PAYLOAD_LENGTH));
    let next_header = fixed[ipv6::NEXT_HEADER];
    // Zero in front of options announces a jumbogram (RFC 2675), which no
    // link here can carry.
    if payload_length == 0 && next_header == protocol::HOP_BY_HOP {
        return Err(DropReason::BadIpHeaderLength);
    }
    let start = l3_offset + ipv6::LENGTH;
    let end = start + payload_length;
    let packet = bytes.get(..end).ok_or(DropReason::TruncatedIp)?;
    let chain = walk(packet, next_header, start)?;
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source.copy_from_slice(&fixed[ipv6::SOURCE..ipv6::SOURCE + 16]);
    destination.copy_from_slice(&fixed[ipv6::DESTINATION..ipv6::DESTINATION + 16]);
    Ok(IpHeader {
        source,
        destination,
        protocol: chain.protocol,
        hop_limit: fixed[ipv6::HOP_LIMIT],
        l4_offset: chain.offset,
        end,
        dont_fragment: true,
        fragment: chain.fragment,
        authenticated: chain.authenticated,
    })
}

/// Where a chain of extension headers leads.
#[derive(Debug)]
pub(in crate::packet) struct Chain {
    /// The protocol after them; in a later fragment the type of header that
    /// the fragmented part starts with.
    pub protocol: u8,
    /// Where that protocol's header starts in the buffer.
    pub offset: usize,
    /// The fragment header, unless it is an atomic fragment's (RFC 6946).
    pub fragment: Option<Fragment>,
    /// There was an authentication header.
    pub authenticated: bool,
}

#[inline]
fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH
            | protocol::DESTINATION_OPTIONS
    )
}

/// Follows the extension headers from `start`, where a header of type
/// `next_header` stands, to the end of `packet` at most.
///
/// # Errors
/// [`DropReason::BadExtensionHeaders`].
#[inline]
pub(in crate::packet) fn walk(packet: &[u8], next_header: u8, start: usize) -> Result<Chain, DropReason> {
    const BAD: DropReason = DropReason::BadExtensionHeaders;
    let mut chain = Chain { protocol: next_header, offset: start, fragment: None, authenticated: false };
    let mut seen_fragment_header = false;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        if !is_extension(chain.protocol) {
            return Ok(chain);
        }
        // What an authentication header protects is the payload's start.
        if chain.authenticated {
            return Err(BAD);
        }
        let at = chain.offset;
        let header: &[u8; 8] = chunk(packet, at).ok_or(BAD)?;
        let mut length = (usize::from(header[1]) + 1) * 8;
        match chain.protocol {
            protocol::HOP_BY_HOP if at != start => return Err(BAD),
            // Type 0 is forbidden (RFC 5095).
            protocol::ROUTING if header[2] == 0 => return Err(BAD),
            protocol::AH => {
                // Units of four bytes here (RFC 4302 section 2.2).
                length = (usize::from(header[1]) + 2) * 4;
                chain.authenticated = true;
            }
            protocol::FRAGMENT if seen_fragment_header => return Err(BAD),
            protocol::FRAGMENT => {
                length = ipv6::FRAGMENT_LENGTH;
                seen_fragment_header = true;
                chain.fragment = fragment(header, at + length, at - start);
            }
            _ => {}
        }
        chain.protocol = header[0];
        chain.offset = at + length;
        if chain.offset > packet.len() {
            return Err(BAD);
        }
        if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(chain);
        }
    }
    Err(BAD)
}

/// A fragment header, or `None` if it cuts nothing off (RFC 6946).
fn fragment(header: &[u8; 8], payload: usize, unfragmented: usize) -> Option<Fragment> {
    let field = be16(header, 2);
    let (offset, more) = (u32::from(field & 0xfff8), field & 1 != 0);
    (offset != 0 || more).then(|| Fragment {
        offset,
        more,
        identification: be32(header, 4),
        payload,
        unfragmented,
    })
}
