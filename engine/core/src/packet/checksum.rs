//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Checksums are host-order numbers here; they go to the wire big-endian.

use crate::packet::flow_key::FlowKey;

/// A one's complement sum that is not folded yet.
///
/// It is kept in the machine's byte order: the sum of byte-swapped words is
/// the byte-swapped sum (RFC 1071 section 2), so one swap at the end does.
/// It cannot overflow below 2^33 bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that start at an even offset; an odd last one is padded.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut sum = self.0;
        for word in words {
            sum = add_halves(sum, u64::from_ne_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(add_halves(sum, u64::from_ne_bytes(last)))
    }

    /// Adds one 16-bit number.
    #[inline]
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// The sum, folded to 16 bits.
    #[inline]
    pub fn folded(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

#[inline]
fn add_halves(sum: u64, word: u64) -> u64 {
    sum + (word & 0xffff_ffff) + (word >> 32)
}

/// The checksum of bytes; zero if they contain their own right checksum.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).checksum()
}

/// The sum of an IPv4 or IPv6 pseudo header (RFC 9293 section 3.1, RFC 8200
/// section 8.1): addresses and protocol of `key`, and the length of the
/// transport header and its payload in bytes.
#[inline]
pub fn pseudo_header(key: &FlowKey, length: u16) -> Sum {
    // The bytes behind an IPv4 address are zero, and zeros add nothing.
    Sum::default().bytes(&key.source).bytes(&key.destination).word(u16::from(key.protocol)).word(length)
}

/// The checksum of a transport segment with its pseudo header.
///
/// With the segment's own checksum field zero: what belongs there. With the
/// field filled: zero if it is right. A segment longer than 65,535 bytes has
/// none; its length is taken modulo 65,536.
#[inline]
pub fn transport_checksum(key: &FlowKey, segment: &[u8]) -> u16 {
    pseudo_header(key, segment.len() as u16).bytes(segment).checksum()
}

/// Whether the checksum within a transport segment is right.
#[inline]
pub fn transport_is_valid(key: &FlowKey, segment: &[u8]) -> bool {
    transport_checksum(key, segment) == 0
}

/// A UDP checksum as it is sent: zero would mean "none" (RFC 768).
#[inline]
pub fn udp_on_wire(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// A checksum after one 16-bit word that it covers has changed (RFC 1624
/// equation 3).
#[inline]
#[must_use]
pub fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).checksum()
}

/// A checksum after a 32-bit number at an even offset has changed.
#[inline]
#[must_use]
pub fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    update_bytes(checksum, &old.to_be_bytes(), &new.to_be_bytes())
}

/// A checksum after bytes at an even offset have changed, an address for
/// instance. `old` and `new` are of one, even length.
#[inline]
#[must_use]
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    debug_assert!(old.len() == new.len() && old.len().is_multiple_of(2));
    let removed = Sum::default().bytes(old).folded();
    Sum::default().word(!checksum).word(!removed).bytes(new).checksum()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::flow_key::Family;

    /// RFC 1071 as it is written.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: the sum is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: the case that RFC 1141's equation got wrong.
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn long_runs_of_ones_fold_completely() {
        for length in [2, 64, 65_534] {
            assert_eq!(checksum(&vec![0xff; length]), 0, "{length}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_sum(bytes in vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(checksum(&bytes), naive(&bytes));
        }

        #[test]
        fn updates_agree_with_a_new_sum(
            mut bytes in vec(any::<u8>(), 40..64), new: [u8; 16], at in 0usize..12,
        ) {
            // The equations differ only for data that is zero throughout.
            bytes[38] = 0x45;
            let before = naive(&bytes);
            let at = at * 2;
            let old: [u8; 16] = bytes[at..at + 16].try_into().expect("16 bytes");
            let word = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
            let long = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]);

            bytes[at..at + 2].copy_from_slice(&new[..2]);
            prop_assert_eq!(update_u16(before, word(&old), word(&new)), naive(&bytes));
            bytes[at..at + 4].copy_from_slice(&new[..4]);
            prop_assert_eq!(update_u32(before, long(&old), long(&new)), naive(&bytes));
            bytes[at..at + 16].copy_from_slice(&new);
            prop_assert_eq!(update_bytes(before, &old, &new), naive(&bytes));
        }

        #[test]
        fn pseudo_headers_agree_with_the_written_out_ones(
            source: [u8; 16], destination: [u8; 16], protocol: u8, segment in vec(any::<u8>(), 0..100),
        ) {
            let length = segment.len() as u16;
            let v6 = FlowKey { source, destination, protocol, family: Family::V6, ..FlowKey::ZERO };
            let mut written = [&source[..], &destination].concat();
            written.extend([0, 0, (length >> 8) as u8, length as u8, 0, 0, 0, protocol]);
            written.extend(&segment);
            prop_assert_eq!(transport_checksum(&v6, &segment), naive(&written));

            let mut v4 = FlowKey { protocol, ..FlowKey::ZERO };
            v4.source[..4].copy_from_slice(&source[..4]);
            v4.destination[..4].copy_from_slice(&destination[..4]);
            let mut written = [&source[..4], &destination[..4]].concat();
            written.extend([0, protocol, (length >> 8) as u8, length as u8]);
            written.extend(&segment);
            prop_assert_eq!(transport_checksum(&v4, &segment), naive(&written));
        }
    }
}
