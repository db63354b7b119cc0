//! Lengths in as few bytes as they need, and the bytes behind them.

use tieline_names::varint;

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, value: usize) {
    varint::put(out, value as u64);
}

/// Takes a length from the front of `bytes`. `None` when it is cut off or larger
/// than any.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<usize> {
    varint::take_as(bytes).ok()
}

/// Takes `length` bytes from the front of `bytes`.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}
