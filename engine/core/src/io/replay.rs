//! Ports that replay frames from memory, for benchmarks: what is measured
//! beside them is the engine.
//!
//! A [`ReplayRx`] copies the next of its frames into a free buffer, a
//! [`ReplayTx`] frees what it is given. Each takes a few instructions a packet
//! and has no atomic read-modify-write. Like an mbuf, a [`ReplayBuf`] is one
//! pointer to a head of one cache line with the packet's bytes behind it.
//!
//! Free buffers belong to a thread: the one that makes a [`ReplayPool`] has to
//! drive the worker too. Threads that hand buffers to each other share a
//! [`ReplayExchange`], by which a thread that has too many gives some to one
//! that has none, as a pool of mbufs does. They are used in turn, so that a benchmark visits as much memory
//! as a NIC's ring would.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use crate::io::{BURST, BufferPool, Io, PacketBurst, RxQueue, TxQueue};
use crate::packet::buffer::{FRONT, HEADROOM, OPENED, PacketBuf};
use crate::packet::front::put;

/// The longest frame that is replayed, in bytes.
pub const MAX_FRAME: usize = 128;

/// Bytes of one buffer behind its headroom, as is usual for a NIC's buffers.
pub const DATA_ROOM: usize = 2048;

const ROOM: usize = HEADROOM + DATA_ROOM;
const _: () = assert!(ROOM <= u16::MAX as usize && MAX_FRAME <= DATA_ROOM);

thread_local! {
    /// The free buffers of this thread.
    static FREE: RefCell<FreeList> = const { RefCell::new(FreeList::NONE) };
}

/// Free buffers, all of which are used before any is used again.
#[expect(clippy::vec_box, reason = "a buffer stays where it is while it goes from list to packet and back")]
struct FreeList {
    next: Vec<Box<Slot>>,
    used: Vec<Box<Slot>>,
    /// Most that are kept here if there is an exchange.
    most: usize,
    exchange: Option<ReplayExchange>,
}

/// Buffers on their way from one thread's free ones to another's.
#[derive(Debug, Clone)]
pub struct ReplayExchange(Arc<ArrayQueue<ArrayVec<Box<Slot>, BURST>>>);

impl ReplayExchange {
    /// An exchange for threads that have `buffers` together.
    pub fn new(buffers: usize) -> Self {
        Self(Arc::new(ArrayQueue::new((buffers / BURST).max(1))))
    }
}

impl FreeList {
    const NONE: Self = Self { next: Vec::new(), used: Vec::new(), most: usize::MAX, exchange: None };

    #[inline]
    fn pop(&mut self) -> Option<Box<Slot>> {
        if self.next.is_empty() {
            std::mem::swap(&mut self.next, &mut self.used);
            if self.next.is_empty()
                && let Some(slots) = self.exchange.as_ref().and_then(|exchange| exchange.0.pop())
            {
                self.next.extend(slots);
            }
        }
        self.next.pop()
    }

    #[inline]
    fn push(&mut self, slot: Box<Slot>) {
        self.used.push(slot);
        if self.len() > self.most {
            self.give();
        }
    }

    /// Gives some to the other threads.
    #[cold]
    fn give(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        let from = self.used.len().saturating_sub(BURST);
        if let Err(back) = exchange.0.push(self.used.drain(from..).collect()) {
            self.used.extend(back);
        }
    }

    fn len(&self) -> usize {
        self.next.len() + self.used.len()
    }
}

/// The I/O that replays frames.
#[derive(Debug, Clone, Copy)]
pub struct ReplayIo;

impl Io for ReplayIo {
    type Buf = ReplayBuf;
    type Rx = ReplayRx;
    type Tx = ReplayTx;
    type Pool = ReplayPool;
}

/// A buffer. The packet is `length` bytes from `start` on, always inside.
#[repr(C, align(64))]
struct Slot {
    start: u16,
    length: u16,
    room: Room,
}

/// Starts a cache line, as a NIC's writes do.
#[repr(C, align(64))]
struct Room([u8; ROOM]);

impl Slot {
    fn new() -> Box<Self> {
        Box::new(Self { start: HEADROOM as u16, length: 0, room: Room([0; ROOM]) })
    }
}

/// A packet that is replayed. Dropping it returns its buffer to the free ones
/// of the thread that drops it.
pub struct ReplayBuf(ManuallyDrop<Box<Slot>>);

const _: () = assert!(size_of::<Option<ReplayBuf>>() == size_of::<usize>());

impl ReplayBuf {
    #[inline]
    fn into_slot(self) -> Box<Slot> {
        let mut packet = ManuallyDrop::new(self);
        // SAFETY: `packet` is neither used nor dropped after this.
        unsafe { ManuallyDrop::take(&mut packet.0) }
    }
}

impl std::fmt::Debug for ReplayBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayBuf").field("length", &self.0.length).finish_non_exhaustive()
    }
}

impl Drop for ReplayBuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` is not used after this, and drops only once.
        let slot = unsafe { ManuallyDrop::take(&mut self.0) };
        // A thread that ends has no list any more; the memory is then freed.
        let _ = FREE.try_with(|free| free.borrow_mut().push(slot));
    }
}

impl PacketBuf for ReplayBuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let (start, length) = (usize::from(self.0.start), usize::from(self.0.length));
        // SAFETY: every function here keeps the packet inside the room.
        unsafe { self.0.room.0.get_unchecked(start..start + length) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, length) = (usize::from(self.0.start), usize::from(self.0.length));
        // SAFETY: as in `bytes`.
        unsafe { self.0.room.0.get_unchecked_mut(start..start + length) }
    }

    #[inline]
    fn headroom(&self) -> usize {
        usize::from(self.0.start)
    }

    #[inline]
    fn tailroom(&self) -> usize {
        ROOM - usize::from(self.0.start) - usize::from(self.0.length)
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        if count > self.headroom() {
            return false;
        }
        // It fits into the headroom, which is a u16.
        self.0.start -= count as u16;
        self.0.length += count as u16;
        true
    }

    #[inline]
    fn append(&mut self, count: usize) -> bool {
        if count > self.tailroom() {
            return false;
        }
        // It fits into the tailroom, which is a u16.
        self.0.length += count as u16;
        true
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        assert!(count <= usize::from(self.0.length), "advance past the end of the packet");
        self.0.start += count as u16;
        self.0.length -= count as u16;
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        if length < usize::from(self.0.length) {
            self.0.length = length as u16;
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
        let slot = &mut *self.0;
        let start = usize::from(slot.start) + offset;
        let is_inside = length >= OPENED && front <= FRONT && offset + length <= usize::from(slot.length);
        if !is_inside || start < FRONT {
            return None;
        }
        // What is kept is inside the room, and at most 64 KiB with its header.
        (slot.start, slot.length) = ((start - front) as u16, (length + front) as u16);
        // SAFETY: the bytes in front of `start` are in the room, and so are the
        // first of those that are kept.
        Some(unsafe { put(header, front, slot.room.0.as_mut_ptr().add(start)) })
    }
}

/// The free buffers of the thread that uses it.
#[derive(Debug, Clone)]
pub struct ReplayPool(());

impl ReplayPool {
    /// Gives the calling thread `capacity` free buffers, instead of those
    /// that it has. To be called while none is in use: buffers of earlier
    /// pools would come in addition.
    pub fn new(capacity: usize) -> Self {
        FREE.with_borrow_mut(|free| {
            // Room for all of them in both, so that nothing allocates later.
            let next = (0..capacity).map(|_| Slot::new()).collect();
            *free = FreeList { next, used: Vec::with_capacity(capacity), ..FreeList::NONE };
        });
        Self(())
    }

    /// The same, for a thread that hands buffers to others: beyond twice the
    /// capacity it gives them to the exchange, from which it takes some when
    /// it has none.
    pub fn sharing(capacity: usize, exchange: ReplayExchange) -> Self {
        let pool = Self::new(capacity);
        FREE.with_borrow_mut(|free| {
            free.most = 2 * capacity;
            free.next.reserve(2 * capacity);
            free.used.reserve(3 * capacity);
            free.exchange = Some(exchange);
        });
        pool
    }

    /// Free buffers of the calling thread.
    pub fn available(&self) -> usize {
        FREE.with_borrow(FreeList::len)
    }
}

impl BufferPool for ReplayPool {
    type Buf = ReplayBuf;

    fn alloc(&mut self) -> Option<ReplayBuf> {
        let mut slot = FREE.with_borrow_mut(FreeList::pop)?;
        (slot.start, slot.length) = (HEADROOM as u16, 0);
        Some(ReplayBuf(ManuallyDrop::new(slot)))
    }
}

/// A frame as it is received.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct ReplayFrame {
    bytes: [u8; MAX_FRAME],
}

/// Frames to be received again and again, with the length of each.
#[derive(Debug, Clone, Default)]
pub struct ReplayFrames {
    frames: Vec<ReplayFrame>,
    lengths: Vec<u8>,
}

const _: () = assert!(MAX_FRAME <= u8::MAX as usize);

impl ReplayFrames {
    /// Adds a frame.
    ///
    /// # Panics
    /// If it is longer than [`MAX_FRAME`].
    pub fn push(&mut self, frame: &[u8]) {
        assert!(frame.len() <= MAX_FRAME, "a frame of {} bytes; at most {MAX_FRAME}", frame.len());
        let mut bytes = [0; MAX_FRAME];
        bytes[..frame.len()].copy_from_slice(frame);
        self.frames.push(ReplayFrame { bytes });
        self.lengths.push(frame.len() as u8);
    }

    /// Exchanges two frames.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn swap(&mut self, one: usize, other: usize) {
        self.frames.swap(one, other);
        self.lengths.swap(one, other);
    }

    /// Frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

/// The end of a receive queue that says how many frames come.
#[derive(Debug, Clone)]
pub struct ReplayWire(Arc<AtomicUsize>);

impl ReplayWire {
    /// A queue that receives `frames` in turn, and its wire.
    pub fn new(frames: ReplayFrames) -> (Self, ReplayRx) {
        let due = Arc::new(AtomicUsize::new(0));
        (Self(Arc::clone(&due)), ReplayRx { frames, next: 0, due })
    }

    /// Lets the next `count` frames come, instead of those that are still to.
    #[inline]
    pub fn send(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// Receives frames from memory.
#[derive(Debug)]
pub struct ReplayRx {
    frames: ReplayFrames,
    next: usize,
    /// Frames that are to come. Wire and queue are used by one thread.
    due: Arc<AtomicUsize>,
}

impl RxQueue for ReplayRx {
    type Buf = ReplayBuf;

    fn rx_burst(&mut self, packets: &mut PacketBurst<ReplayBuf>) -> usize {
        let due = self.due.load(Ordering::Relaxed);
        if due == 0 || self.frames.is_empty() {
            return 0;
        }
        let wanted = due.min(packets.remaining_capacity());
        let count = FREE.with_borrow_mut(|free| {
            for count in 0..wanted {
                let Some(mut slot) = free.pop() else { return count };
                let bytes = &mut slot.room.0[HEADROOM..HEADROOM + MAX_FRAME];
                bytes.copy_from_slice(&self.frames.frames[self.next].bytes);
                (slot.start, slot.length) = (HEADROOM as u16, u16::from(self.frames.lengths[self.next]));
                self.next = if self.next + 1 == self.frames.len() { 0 } else { self.next + 1 };
                packets.push(ReplayBuf(ManuallyDrop::new(slot)));
            }
            wanted
        });
        self.due.store(due - count, Ordering::Relaxed);
        count
    }
}

/// Sends to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplayTx;

impl TxQueue for ReplayTx {
    type Buf = ReplayBuf;

    fn tx_burst(&mut self, packets: &mut PacketBurst<ReplayBuf>) -> usize {
        let count = packets.len();
        FREE.with_borrow_mut(|free| packets.drain(..).for_each(|packet| free.push(packet.into_slot())));
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::MemoryPool;

    fn frames(contents: &[&[u8]]) -> ReplayFrames {
        let mut frames = ReplayFrames::default();
        contents.iter().for_each(|bytes| frames.push(bytes));
        frames
    }

    #[test]
    fn frames_come_again_as_they_were_and_in_turn() {
        let pool = ReplayPool::new(3);
        let (wire, mut rx) = ReplayWire::new(frames(&[&[1, 2, 3, 4], &[5, 6]]));
        let mut burst = PacketBurst::new();
        assert_eq!(rx.rx_burst(&mut burst), 0, "nothing was sent");
        for _ in 0..4 {
            wire.send(3);
            assert_eq!(rx.rx_burst(&mut burst), 3);
            assert_eq!(rx.rx_burst(&mut burst), 0);
            // The next one begins where this one ends.
            let first = &mut burst[0];
            assert!(first.bytes() == [1, 2, 3, 4] || first.bytes() == [5, 6]);
            assert!(first.prepend(20));
            first.bytes_mut().fill(0xff);
            assert_eq!(pool.available(), 0);
            assert_eq!(ReplayTx.tx_burst(&mut burst), 3);
            assert!(burst.is_empty());
            assert_eq!(pool.available(), 3);
        }
        wire.send(9);
        assert_eq!(rx.rx_burst(&mut burst), 3, "no more than there are buffers");
        let contents: Vec<&[u8]> = burst.iter().map(PacketBuf::bytes).collect();
        assert_eq!(contents, [&[1, 2, 3, 4][..], &[5, 6], &[1, 2, 3, 4]]);
    }

    #[test]
    fn threads_that_share_give_what_they_have_too_much_of() {
        let exchange = ReplayExchange::new(4 * BURST);
        let pool = ReplayPool::sharing(BURST, exchange.clone());
        let given = std::thread::spawn(move || {
            let mut pool = ReplayPool::sharing(2 * BURST, exchange);
            std::iter::from_fn(|| pool.alloc()).collect::<Vec<_>>()
        });
        let given = given.join().expect("it has its buffers");
        assert_eq!(given.len(), 2 * BURST);
        drop(given);
        assert_eq!(pool.available(), 2 * BURST, "the exchange has the rest");
        let mut taker = pool;
        let all: Vec<_> = std::iter::from_fn(|| taker.alloc()).collect();
        assert_eq!(all.len(), 3 * BURST);
    }

    #[test]
    fn a_buffer_grows_and_shrinks_at_both_ends_and_returns_to_its_thread() {
        let mut pool = ReplayPool::new(1);
        let mut packet = pool.alloc().expect("a buffer");
        assert!(pool.alloc().is_none());
        assert!(packet.append(4));
        packet.bytes_mut().copy_from_slice(&[1, 2, 3, 4]);
        assert!(packet.prepend(HEADROOM));
        assert!(!packet.prepend(1));
        packet.advance(HEADROOM + 1);
        packet.truncate(9);
        assert_eq!(packet.bytes(), &[2, 3, 4]);
        assert_eq!(packet.tailroom(), DATA_ROOM - 4);
        assert!(!packet.append(DATA_ROOM - 3));
        packet.truncate(1);
        assert_eq!(packet.bytes(), &[2]);
        drop(packet);
        assert_eq!(pool.available(), 1);
    }

    proptest::proptest! {
        #[test]
        fn a_packet_gets_another_header_as_in_plain_memory(
            offset in 0usize..200, length in 0usize..140, front in 0usize..100, header: [u8; 32], prepended in 0usize..HEADROOM,
        ) {
            let frame: Vec<u8> = (0..MAX_FRAME as u8).collect();
            let header: [u8; FRONT] = std::array::from_fn(|at| header[at % 32].wrapping_add(at as u8));
            let _pool = ReplayPool::new(1);
            let (wire, mut rx) = ReplayWire::new(frames(&[&frame]));
            let mut burst = PacketBurst::new();
            wire.send(1);
            rx.rx_burst(&mut burst);
            let mut packet = burst.pop().expect("it was sent");
            let mut plain = MemoryPool::new(1).packet(&frame).expect("it fits");
            proptest::prop_assert!(packet.prepend(prepended) && plain.prepend(prepended));
            packet.bytes_mut()[..prepended].fill(0xee);
            plain.bytes_mut()[..prepended].fill(0xee);
            let opened = packet.reframe(offset, length, &header, front).map(|opened| opened[FRONT - front..].to_vec());
            let expected = plain.reframe(offset, length, &header, front).map(|opened| opened[FRONT - front..].to_vec());
            let is_possible = length >= OPENED && front <= FRONT && offset + length <= prepended + MAX_FRAME
                && HEADROOM - prepended + offset >= FRONT;
            proptest::prop_assert_eq!(expected.is_some(), is_possible);
            proptest::prop_assert_eq!(opened, expected);
            proptest::prop_assert_eq!(packet.bytes(), plain.bytes());
            proptest::prop_assert_eq!(packet.headroom(), plain.headroom());
        }
    }
}
