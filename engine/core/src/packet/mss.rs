//! TCP's maximum segment size option (RFC 9293 section 3.7.1).

use crate::packet::checksum::update_u16;
use crate::packet::headers::{be16, protocol, set_be16, tcp};
use crate::packet::meta::{PacketFlags, PacketMeta};

/// Lowers the MSS that a TCP SYN announces to `max_mss` bytes, and returns
/// whether it has changed the packet. An option list that is not well-formed
/// is left alone from where it stops making sense; a SYN without the option
/// stays without.
#[inline]
pub fn clamp_mss(bytes: &mut [u8], meta: &PacketMeta, max_mss: u16) -> bool {
    if meta.key.protocol != protocol::TCP || !meta.flags.contains(PacketFlags::TCP_SYN) {
        return false;
    }
    let Some(segment) = meta.segment_mut(bytes) else { return false };
    let Some(data_offset) = segment.get(tcp::DATA_OFFSET) else { return false };
    let header_length = usize::from(data_offset >> 4) * 4;
    let Some(header) = segment.get_mut(..header_length) else { return false };
    if header.len() < tcp::LENGTH {
        return false;
    }
    let mut changed = false;
    let mut at = tcp::LENGTH;
    while let Some(kind) = header.get(at) {
        let length = match *kind {
            tcp::OPTION_END => break,
            tcp::OPTION_NOP => 1,
            _ => match header.get(at + 1) {
                Some(length) if *length >= 2 && at + usize::from(*length) <= header.len() => {
                    usize::from(*length)
                }
                _ => break,
            },
        };
        // A second one would win at some receivers, so each is lowered.
        if *kind == tcp::OPTION_MSS && length == 4 {
            changed |= lower(header, at + 2, max_mss);
        }
        at += length;
    }
    changed
}

/// Lowers the number at `at`, which lies within `header`.
#[inline]
fn lower(header: &mut [u8], at: usize, max_mss: u16) -> bool {
    let old = be16(header, at);
    if old <= max_mss {
        return false;
    }
    set_be16(header, at, max_mss);
    // Behind a single no-operation its bytes belong to two words of the sum;
    // swapping both values moves them to where one word would have them.
    let (old, new) =
        if at.is_multiple_of(2) { (old, max_mss) } else { (old.swap_bytes(), max_mss.swap_bytes()) };
    let sum = update_u16(be16(header, tcp::CHECKSUM), old, new);
    set_be16(header, tcp::CHECKSUM, sum);
    true
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::buffer::IpChecksum;
    use crate::packet::checksum::transport_is_valid;
    use crate::packet::flow_key::Family;
    use crate::packet::parse::parse_ip;
    use crate::types::InterfaceId;

    /// An IPv4 SYN with these option bytes, padded with their end mark.
    fn syn(options: &[u8]) -> (Vec<u8>, PacketMeta) {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 80, 7, 1024)
            .syn()
            .options_raw(options)
            .expect("at most 40 bytes")
            .write(&mut packet, b"data")
            .expect("a packet");
        let mut meta = PacketMeta::new(InterfaceId(0));
        parse_ip(&packet, 0, Family::V4, IpChecksum::Unknown, &mut meta).expect("well-formed");
        (packet, meta)
    }

    fn checksum_is_right(packet: &[u8], meta: &PacketMeta) -> bool {
        transport_is_valid(&meta.key, meta.segment(packet).expect("whole"))
    }

    #[test]
    fn a_larger_mss_is_lowered_at_even_and_odd_places() {
        for options in [&[2, 4, 0x05, 0xb4][..], &[1, 2, 4, 0x05, 0xb4], &[4, 2, 1, 2, 4, 0x05, 0xb4, 1]] {
            let (mut packet, meta) = syn(options);
            assert!(clamp_mss(&mut packet, &meta, 1360));
            let at = 40 + options.iter().position(|byte| *byte == 0x05).expect("the MSS");
            assert_eq!(be16(&packet, at), 1360);
            assert!(checksum_is_right(&packet, &meta), "{options:?}");
            assert!(!clamp_mss(&mut packet, &meta, 1360), "a second time changes nothing");
        }
    }

    #[test]
    fn what_has_no_larger_mss_stays() {
        let cases: [&[u8]; 7] = [
            &[],
            &[2, 4, 0x05, 0x00],
            // Behind the end of the list.
            &[0, 2, 4, 0x05, 0xb4],
            // Length zero, length beyond the header, no length, wrong length.
            &[3, 0, 2, 4, 0x05, 0xb4],
            &[5, 40, 2, 4, 0x05, 0xb4],
            &[1, 1, 1, 2],
            &[2, 3, 0xff, 1],
        ];
        for options in cases {
            let (mut packet, meta) = syn(options);
            let before = packet.clone();
            assert!(!clamp_mss(&mut packet, &meta, 1360), "{options:?}");
            assert_eq!(packet, before);
        }
        let (mut packet, mut meta) = syn(&[2, 4, 0x05, 0xb4]);
        meta.flags = PacketFlags::default();
        assert!(!clamp_mss(&mut packet, &meta, 1360), "no SYN");
    }

    proptest! {
        #[test]
        fn any_options_leave_the_checksum_right(options in vec(any::<u8>(), 0..40), max: u16) {
            let (mut packet, meta) = syn(&options);
            let before = packet.clone();
            let changed = clamp_mss(&mut packet, &meta, max);
            prop_assert_eq!(changed, packet != before);
            prop_assert!(checksum_is_right(&packet, &meta));
        }

        #[test]
        fn any_bytes_and_any_metadata_are_survived(
            mut bytes in vec(any::<u8>(), 0..100), l4_offset in 0u16..120, ip_length in 0u16..120, max: u16,
        ) {
            let mut meta = PacketMeta::new(InterfaceId(0));
            meta.key.protocol = protocol::TCP;
            meta.flags = PacketFlags::TCP_SYN;
            meta.l4_offset = l4_offset;
            meta.ip_length = ip_length;
            clamp_mss(&mut bytes, &meta, max);
        }
    }
}
