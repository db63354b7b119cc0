//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the top
//! bit set in all bytes but the last (LEB128).

/// Bytes of the longest number.
pub const LONGEST: usize = 10;

/// What is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotANumber {
    /// The bytes end in the middle of it.
    #[error("a number is cut off")]
    Short,
    /// It does not fit.
    #[error("a number is too large")]
    TooLarge,
}

/// Appends a number.
pub fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Takes a number off the front.
///
/// # Errors
/// When there is none; what was taken off then is undefined.
pub fn take(from: &mut &[u8]) -> Result<u64, NotANumber> {
    let mut value = 0u64;
    for shift in (0..LONGEST).map(|byte| 7 * byte as u32) {
        let (byte, rest) = from.split_first().ok_or(NotANumber::Short)?;
        *from = rest;
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if part << shift >> shift != part {
            return Err(NotANumber::TooLarge);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotANumber::TooLarge)
}

/// Takes a number off the front that fits into a smaller type.
///
/// # Errors
/// When there is none, or it is too large.
pub fn take_as<T: TryFrom<u64>>(from: &mut &[u8]) -> Result<T, NotANumber> {
    T::try_from(take(from)?).map_err(|_| NotANumber::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            prop_assert_eq!(take(&mut &bytes[..bytes.len() - 1]), Err(NotANumber::Short));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take(&mut &too_large[..]), Err(NotANumber::TooLarge));
        assert_eq!(take(&mut &[0x80; 11][..]), Err(NotANumber::TooLarge));
        let mut bytes = Vec::new();
        put(&mut bytes, 1 << 32);
        assert_eq!(take_as::<u32>(&mut &bytes[..]), Err(NotANumber::TooLarge));
        assert_eq!(take_as::<u16>(&mut &[0xff, 0xff, 0x04][..]), Err(NotANumber::TooLarge));
        assert_eq!(take_as::<u16>(&mut &[0xff, 0x7f][..]), Ok(0x3fff));
    }
}
