//! Numbers of variable length: seven bits a byte, the lowest first, the top
//! bit set in all bytes but the last.

use super::stream::Broken;

/// Bytes of the longest number.
pub(super) const LONGEST: usize = 10;

/// Appends a number.
pub(super) fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Takes a number off the front.
pub(super) fn take(from: &mut &[u8]) -> Result<u64, Broken> {
    let mut value = 0u64;
    for shift in (0..LONGEST).map(|byte| 7 * byte as u32) {
        let (byte, rest) = from.split_first().ok_or(Broken::Short)?;
        *from = rest;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if part << shift >> shift != part {
            return Err(Broken::Number);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Broken::Number)
}

/// The same for a number of at most 32 bits.
pub(super) fn take_u32(from: &mut &[u8]) -> Result<u32, Broken> {
    u32::try_from(take(from)?).map_err(|_| Broken::Number)
}

/// The same for a number of at most 16 bits.
pub(super) fn take_u16(from: &mut &[u8]) -> Result<u16, Broken> {
    u16::try_from(take(from)?).map_err(|_| Broken::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_back(value in prop_oneof![any::<u64>(), 0..300u64], tail: [u8; 3]) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert!(bytes.len() <= LONGEST);
            let whole = [&bytes[..], &tail].concat();
            let mut rest = &whole[..];
            prop_assert_eq!(take(&mut rest), Ok(value));
            prop_assert_eq!(rest, tail);
            prop_assert_eq!(take(&mut &bytes[..bytes.len() - 1]), Err(Broken::Short));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take(&mut &too_large[..]), Err(Broken::Number));
        assert_eq!(take(&mut &[0x80; 11][..]), Err(Broken::Number));
        let mut bytes = Vec::new();
        put(&mut bytes, 1 << 32);
        assert_eq!(take_u32(&mut &bytes[..]), Err(Broken::Number));
        assert_eq!(take_u16(&mut &[0xff, 0xff, 0x04][..]), Err(Broken::Number));
    }
}
