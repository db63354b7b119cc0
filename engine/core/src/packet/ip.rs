//! TTL, DSCP and ECN of IP packets, read and rewritten in place.
//!
//! "Traffic class" is the byte of DSCP and ECN in both versions (RFC 2474,
//! RFC 3168).

use crate::drop_reason::DropReason;
use crate::packet::checksum::update_u16;
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, chunk, chunk_mut, ipv4, ipv6, set_be16};

/// The ECN field (RFC 3168 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// The ends do not understand ECN.
    NotCapable = 0b00,
    /// ECN-capable, ECT(1).
    Capable1 = 0b01,
    /// ECN-capable, ECT(0).
    Capable0 = 0b10,
    /// Congestion experienced.
    Congestion = 0b11,
}

/// The ECN field of a traffic class.
#[inline]
pub fn ecn(traffic_class: u8) -> Ecn {
    match traffic_class & 0b11 {
        0b00 => Ecn::NotCapable,
        0b01 => Ecn::Capable1,
        0b10 => Ecn::Capable0,
        _ => Ecn::Congestion,
    }
}

/// The DSCP of a traffic class, 6 bits.
#[inline]
pub fn dscp(traffic_class: u8) -> u8 {
    traffic_class >> 2
}

/// The traffic class of the IP packet at `l3_offset`, or `None` if the bytes
/// end before.
#[inline]
pub fn traffic_class(bytes: &[u8], l3_offset: usize, family: Family) -> Option<u8> {
    let [first, second] = *chunk::<2>(bytes, l3_offset)?;
    Some(match family {
        Family::V4 => second,
        Family::V6 => first << 4 | second >> 4,
    })
}

/// Takes one from the TTL or hop limit of the IP packet at `l3_offset`.
///
/// # Errors
/// [`DropReason::TtlExpired`] when it would reach zero, and
/// [`DropReason::TruncatedIp`] when there is no whole header; the packet is as
/// it was.
#[inline]
pub fn decrement_ttl(bytes: &mut [u8], l3_offset: usize, family: Family) -> Result<(), DropReason> {
    match family {
        Family::V4 => {
            let header: &mut [u8; ipv4::LENGTH] =
                chunk_mut(bytes, l3_offset).ok_or(DropReason::TruncatedIp)?;
            if header[ipv4::TTL] <= 1 {
                return Err(DropReason::TtlExpired);
            }
            header[ipv4::TTL] -= 1;
            let sum = checksum_after_hop(be16(header, ipv4::CHECKSUM));
            set_be16(header, ipv4::CHECKSUM, sum);
        }
        Family::V6 => {
            let header: &mut [u8; ipv6::LENGTH] =
                chunk_mut(bytes, l3_offset).ok_or(DropReason::TruncatedIp)?;
            if header[ipv6::HOP_LIMIT] <= 1 {
                return Err(DropReason::TtlExpired);
            }
            header[ipv6::HOP_LIMIT] -= 1;
        }
    }
    Ok(())
}

/// The checksum of an IPv4 header whose TTL, which was not zero, has been
/// taken one from (RFC 1624 equation 3).
#[inline]
pub fn checksum_after_hop(checksum: u16) -> u16 {
    // The old word's complement and the new word are 0xffff less one hop.
    let sum = u32::from(!checksum) + (0xffff - (1 << 8));
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Carries congestion marks of the underlay to the packet that came out of a
/// tunnel: the inner ECN field becomes what RFC 6040 section 4.2 makes of both.
/// `outer` is the tunnel packet's traffic class; the inner packet stands at
/// `l3_offset`.
///
/// # Errors
/// [`DropReason::EcnNotCapable`] when the mark cannot be delivered in another
/// way than by dropping, and [`DropReason::TruncatedIp`] without a whole header.
#[inline]
pub fn ecn_decapsulate(
    outer: u8,
    bytes: &mut [u8],
    l3_offset: usize,
    family: Family,
) -> Result<(), DropReason> {
    let inner = traffic_class(bytes, l3_offset, family).ok_or(DropReason::TruncatedIp)?;
    let combined = match (ecn(inner), ecn(outer)) {
        (Ecn::NotCapable, Ecn::Congestion) => return Err(DropReason::EcnNotCapable),
        (Ecn::Capable0 | Ecn::Capable1, Ecn::Congestion) => Ecn::Congestion,
        (Ecn::Capable0, Ecn::Capable1) => Ecn::Capable1,
        _ => return Ok(()),
    };
    set_traffic_class(bytes, l3_offset, family, inner & !0b11 | combined as u8).ok_or(DropReason::TruncatedIp)
}

fn set_traffic_class(bytes: &mut [u8], l3_offset: usize, family: Family, value: u8) -> Option<()> {
    match family {
        Family::V4 => {
            let header: &mut [u8; ipv4::LENGTH] = chunk_mut(bytes, l3_offset)?;
            let old = be16(header, ipv4::VERSION_IHL);
            header[ipv4::TRAFFIC_CLASS] = value;
            let new = be16(header, ipv4::VERSION_IHL);
            let sum = update_u16(be16(header, ipv4::CHECKSUM), old, new);
            set_be16(header, ipv4::CHECKSUM, sum);
        }
        Family::V6 => {
            let header: &mut [u8; 2] = chunk_mut(bytes, l3_offset)?;
            header[0] = header[0] & 0xf0 | value >> 4;
            header[1] = header[1] & 0x0f | value << 4;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4Header, Ipv4HeaderSlice};

    use super::*;
    use crate::packet::checksum::checksum;

    fn header4(ttl: u8, traffic_class: u8) -> Vec<u8> {
        let mut header = Ipv4Header::new(0, ttl, etherparse::IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2])
            .expect("a header");
        header.dscp = etherparse::IpDscp::try_new(traffic_class >> 2).expect("6 bits");
        header.ecn = etherparse::IpEcn::try_new(traffic_class & 3).expect("2 bits");
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    fn header6(hop_limit: u8, traffic_class: u8) -> Vec<u8> {
        let mut bytes = vec![0u8; 40];
        bytes[..4].copy_from_slice(&(6 << 28 | u32::from(traffic_class) << 20 | 0xabcde).to_be_bytes());
        bytes[7] = hop_limit;
        bytes
    }

    #[test]
    fn the_ttl_counts_down_to_one_and_the_checksum_stays_right() {
        let mut bytes = header4(255, 0);
        for ttl in (1..255).rev() {
            decrement_ttl(&mut bytes, 0, Family::V4).expect("not expired");
            assert_eq!(Ipv4HeaderSlice::from_slice(&bytes).expect("a header").ttl(), ttl);
            assert_eq!(checksum(&bytes), 0);
        }
        let before = bytes.clone();
        assert_eq!(decrement_ttl(&mut bytes, 0, Family::V4), Err(DropReason::TtlExpired));
        assert_eq!(bytes, before);

        let mut bytes = header6(2, 0);
        assert_eq!(decrement_ttl(&mut bytes, 0, Family::V6), Ok(()));
        assert_eq!(bytes[7], 1);
        assert_eq!(decrement_ttl(&mut bytes, 0, Family::V6), Err(DropReason::TtlExpired));
        assert_eq!(decrement_ttl(&mut bytes, 1, Family::V6), Err(DropReason::TruncatedIp));
    }

    #[test]
    fn congestion_marks_combine_as_in_rfc_6040_figure_4() {
        // Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns: outer in the same order.
        let table = [
            [Some(0b00), Some(0b00), Some(0b00), None],
            [Some(0b01), Some(0b01), Some(0b01), Some(0b11)],
            [Some(0b10), Some(0b01), Some(0b10), Some(0b11)],
            [Some(0b11), Some(0b11), Some(0b11), Some(0b11)],
        ];
        for (inner, row) in (0u8..).zip(table) {
            for (outer, expected) in (0u8..).zip(row) {
                // DSCPs differ, to see that the inner one stays.
                let (inner_class, outer_class) = (46 << 2 | inner, 8 << 2 | outer);
                for (family, mut bytes) in
                    [(Family::V4, header4(64, inner_class)), (Family::V6, header6(64, inner_class))]
                {
                    let before = bytes.clone();
                    let result = ecn_decapsulate(outer_class, &mut bytes, 0, family);
                    let Some(expected) = expected else {
                        assert_eq!(result, Err(DropReason::EcnNotCapable));
                        assert_eq!(bytes, before);
                        continue;
                    };
                    assert_eq!(result, Ok(()));
                    let class = traffic_class(&bytes, 0, family).expect("whole");
                    assert_eq!((dscp(class), class & 3), (46, expected), "{inner:02b} {outer:02b}");
                    if family == Family::V4 {
                        assert_eq!(checksum(&bytes), 0);
                    } else {
                        assert_eq!(bytes[2..], before[2..]);
                        assert_eq!(bytes[1] & 0x0f, before[1] & 0x0f);
                    }
                }
            }
        }
    }
}
