//! Writing headers in front of packets: a kernel of whole-register copies.

use crate::packet::buffer::{FRONT, OPENED};

/// A header that is no longer is copied without what would stand before it.
const SHORT: usize = 64;

/// Copies the end of `header`, `front` bytes at least, to where `packet`
/// starts, and returns the header's place together with the packet's first
/// bytes.
///
/// [`MemoryBuf`](crate::io::memory::MemoryBuf) has the plain form. Its copy is
/// always of all bytes; a short header would touch a cache line more than it
/// needs.
///
/// # Safety
/// For as long as the result is used, the [`FRONT`] bytes before `packet` and
/// the [`OPENED`] bytes from it on are of one allocation, initialised, and
/// nobody else's.
#[inline(always)]
pub unsafe fn put<'a>(header: &[u8; FRONT], front: usize, packet: *mut u8) -> &'a mut [u8; FRONT + OPENED] {
    const SKIPPED: usize = FRONT - SHORT;
    // SAFETY: the caller's; `header` is a reference to other memory.
    unsafe {
        let place = packet.sub(FRONT);
        if front > SHORT {
            place.copy_from_nonoverlapping(header.as_ptr(), SKIPPED);
        }
        place.add(SKIPPED).copy_from_nonoverlapping(header.as_ptr().add(SKIPPED), SHORT);
        &mut *place.cast::<[u8; FRONT + OPENED]>()
    }
}
