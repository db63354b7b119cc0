//! One packet in DPDK's memory.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::slice;

use sys::{rte_mbuf, tieline_mbuf};
use tieline_dpdk_sys as sys;
use tieline_engine::packet::buffer::{FRONT, HEADROOM, IpChecksum, OPENED, PacketBuf};
use tieline_engine::packet::front::put;

const _: () = assert!(HEADROOM == sys::RTE_PKTMBUF_HEADROOM as usize);

/// An mbuf of one segment that nobody else refers to.
///
/// It has the size and form of a pointer, so that an array of them is what
/// DPDK's burst functions read and write. Dropping it returns it to its pool.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: the mbuf has one owner, and pools take returns from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// `raw` points to an mbuf of one segment with a reference count of one
    /// that the caller owns; the caller gives it up.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self(raw)
    }

    /// Gives up the mbuf; whoever takes the pointer owns it.
    #[inline]
    pub fn into_raw(self) -> NonNull<rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    #[inline]
    fn head(&self) -> &tieline_mbuf {
        // SAFETY: the shim asserts that `tieline_mbuf` is laid out as the
        // first cache line of an mbuf, which lives as long as `self`.
        unsafe { self.0.cast::<tieline_mbuf>().as_ref() }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut tieline_mbuf {
        // SAFETY: as in `head`; `self` is the only owner.
        unsafe { self.0.cast::<tieline_mbuf>().as_mut() }
    }
}

impl PacketBuf for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let head = self.head();
        let length = usize::from(head.data_len);
        // SAFETY: the data of an mbuf is `data_len` bytes at `data_off` in its
        // buffer; drivers and the functions below keep it inside.
        unsafe { slice::from_raw_parts(head.buf_addr.cast::<u8>().add(usize::from(head.data_off)), length) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let head = self.head();
        let length = usize::from(head.data_len);
        // SAFETY: as in `bytes`; the buffer has one owner.
        unsafe {
            slice::from_raw_parts_mut(head.buf_addr.cast::<u8>().add(usize::from(head.data_off)), length)
        }
    }

    #[inline]
    fn headroom(&self) -> usize {
        usize::from(self.head().data_off)
    }

    #[inline]
    fn tailroom(&self) -> usize {
        let head = self.head();
        usize::from(head.buf_len).saturating_sub(usize::from(head.data_off) + usize::from(head.data_len))
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        if count > self.headroom() {
            return false;
        }
        let head = self.head_mut();
        // `count` fits into the headroom, which is a u16.
        head.data_off -= count as u16;
        head.data_len += count as u16;
        head.pkt_len += count as u32;
        true
    }

    #[inline]
    fn append(&mut self, count: usize) -> bool {
        if count > self.tailroom() {
            return false;
        }
        let head = self.head_mut();
        // `count` fits into the tailroom, which is a u16.
        head.data_len += count as u16;
        head.pkt_len += count as u32;
        true
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        let head = self.head_mut();
        assert!(count <= usize::from(head.data_len), "advance past the end of the packet");
        head.data_off += count as u16;
        head.data_len -= count as u16;
        head.pkt_len -= count as u32;
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        let head = self.head_mut();
        if length < usize::from(head.data_len) {
            head.data_len = length as u16;
            head.pkt_len = length as u32;
        }
    }

    #[inline(always)]
    fn reframe(
        &mut self,
        offset: usize,
        length: usize,
        header: &[u8; FRONT],
        front: usize,
    ) -> Option<&mut [u8; FRONT + OPENED]> {
        let head = self.head_mut();
        let start = usize::from(head.data_off) + offset;
        let is_inside = length >= OPENED && front <= FRONT && offset + length <= usize::from(head.data_len);
        if !is_inside || start < FRONT {
            return None;
        }
        // What is kept is inside the buffer, whose size is a u16; its length
        // with a header need not be one.
        let (framed, data_off) = (u16::try_from(length + front).ok()?, (start - front) as u16);
        (head.data_off, head.data_len, head.pkt_len) = (data_off, framed, u32::from(framed));
        // SAFETY: the bytes in front of `start` are in the buffer, and so are
        // the first of those that are kept.
        Some(unsafe { put(header, front, head.buf_addr.cast::<u8>().add(start)) })
    }

    #[inline]
    fn ip_checksum(&self) -> IpChecksum {
        match self.head().ol_flags & sys::TIELINE_RX_IP_CKSUM_MASK {
            sys::TIELINE_RX_IP_CKSUM_GOOD => IpChecksum::Good,
            sys::TIELINE_RX_IP_CKSUM_BAD => IpChecksum::Bad,
            _ => IpChecksum::Unknown,
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` owns the mbuf, and its pool lives for ever.
        unsafe { sys::tieline_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("length", &self.bytes().len())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbuf_is_a_pointer_with_a_niche() {
        assert_eq!(size_of::<Option<Mbuf>>(), size_of::<*mut rte_mbuf>());
    }
}
