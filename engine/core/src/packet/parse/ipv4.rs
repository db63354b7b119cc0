//! The IPv4 header (RFC 791).

use super::{Fragment, IpHeader};
use crate::drop_reason::DropReason;
use crate::packet::buffer::IpChecksum;
use crate::packet::checksum;
use crate::packet::headers::{be16, chunk, ipv4};

#[inline]
pub(super) fn parse(bytes: &[u8], l3_offset: usize, known: IpChecksum) -> Result<IpHeader, DropReason> {
    let fixed: &[u8; ipv4::LENGTH] = chunk(bytes, l3_offset).ok_or(DropReason::TruncatedIp)?;
    if fixed[ipv4::VERSION_IHL] >> 4 != 4 {
        return Err(DropReason::BadIpVersion);
    }
    let header_length = usize::from(fixed[ipv4::VERSION_IHL] & 0x0f) * 4;
    let total_length = usize::from(be16(fixed, ipv4::TOTAL_LENGTH));
    if header_length < ipv4::LENGTH || total_length < header_length {
        return Err(DropReason::BadIpHeaderLength);
    }
    let packet = bytes.get(l3_offset..l3_offset + total_length).ok_or(DropReason::TruncatedIp)?;
    let header = &packet[..header_length];
    let is_right = match known {
        IpChecksum::Good => true,
        IpChecksum::Bad => false,
        IpChecksum::Unknown => checksum::checksum(header) == 0,
    };
    if !is_right {
        return Err(DropReason::BadIpChecksum);
    }
    if header_length > ipv4::LENGTH {
        check_options(&header[ipv4::LENGTH..])?;
    }

    let l4_offset = l3_offset + header_length;
    let flags_and_offset = be16(fixed, ipv4::FRAGMENT);
    let offset = u32::from(flags_and_offset & ipv4::FRAGMENT_OFFSET) * 8;
    let more = flags_and_offset & ipv4::MORE_FRAGMENTS != 0;
    let fragment = (offset != 0 || more).then(|| Fragment {
        offset,
        more,
        identification: u32::from(be16(fixed, ipv4::IDENTIFICATION)),
        payload: l4_offset,
        unfragmented: header_length,
    });
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source[..4].copy_from_slice(&fixed[ipv4::SOURCE..ipv4::SOURCE + 4]);
    destination[..4].copy_from_slice(&fixed[ipv4::DESTINATION..ipv4::DESTINATION + 4]);
    Ok(IpHeader {
        source,
        destination,
        protocol: fixed[ipv4::PROTOCOL],
        hop_limit: fixed[ipv4::TTL],
        l4_offset,
        end: l3_offset + total_length,
        dont_fragment: flags_and_offset & ipv4::DONT_FRAGMENT != 0,
        fragment,
        // AH is a protocol of its own here: what follows it is not looked at.
        authenticated: false,
    })
}

/// Refuses source routes (RFC 7126 sections 4.3 and 4.4) and options that
/// overrun the header.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    while let [kind, rest @ ..] = options {
        options = match *kind {
            ipv4::OPTION_END => return Ok(()),
            ipv4::OPTION_NOP => rest,
            ipv4::OPTION_LSRR | ipv4::OPTION_SSRR => return Err(DropReason::BadIpOptions),
            _ => {
                let length = usize::from(*rest.first().ok_or(DropReason::BadIpOptions)?);
                if length < 2 {
                    return Err(DropReason::BadIpOptions);
                }
                options.get(length..).ok_or(DropReason::BadIpOptions)?
            }
        };
    }
    Ok(())
}
