//! Writing headers in front of packets: a kernel of whole-register copies.

use crate::packet::buffer::{FRONT, OPENED};

/// A header that is no longer is copied without what would stand before it.
const SHORT: usize = 64;

/// Copies the end of `header`, `front` bytes at least, to where `packet`
/// starts, and lets `fill` finish it together with the packet's first bytes.
///
/// The plain form is [`PacketBuf::reframe`](super::buffer::PacketBuf::reframe).
/// There the length of the copy is a variable, which makes it a call; and a
/// short header would touch a cache line more than it needs.
///
/// # Safety
/// The [`FRONT`] bytes before `packet` and the [`OPENED`] bytes from it on are
/// of one allocation, initialised, and the caller's to change.
#[inline(always)]
pub unsafe fn open(
    packet: *mut u8,
    header: &[u8; FRONT],
    front: usize,
    fill: impl FnOnce(&mut [u8; FRONT + OPENED]),
) {
    const SKIPPED: usize = FRONT - SHORT;
    // SAFETY: the caller's; `header` is a reference to other memory.
    unsafe {
        let place = packet.sub(FRONT);
        if front > SHORT {
            place.copy_from_nonoverlapping(header.as_ptr(), SKIPPED);
        }
        place.add(SKIPPED).copy_from_nonoverlapping(header.as_ptr().add(SKIPPED), SHORT);
        fill(&mut *place.cast::<[u8; FRONT + OPENED]>());
    }
}
