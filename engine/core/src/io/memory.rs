//! Ports in plain memory: the engine without DPDK.
//!
//! A [`MemoryPool`] of fixed size counts its buffers, so that a test sees a
//! leak. A port is two bounded queues; a test holds their other ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::io::{BufferPool, Io, PacketBurst, RxQueue, TxQueue};
use crate::packet::buffer::{FRONT, HEADROOM, OPENED, PacketBuf};

/// Bytes of one buffer behind its headroom.
pub const DATA_ROOM: usize = 9216;

/// The I/O made of plain memory.
#[derive(Debug, Clone, Copy)]
pub struct MemoryIo;

impl Io for MemoryIo {
    type Buf = MemoryBuf;
    type Rx = MemoryRx;
    type Tx = MemoryTx;
    type Pool = MemoryPool;
}

/// A pool of buffers of one size.
#[derive(Debug, Clone)]
pub struct MemoryPool {
    shared: Arc<PoolShared>,
}

#[derive(Debug)]
struct PoolShared {
    free: ArrayQueue<Box<[u8]>>,
    capacity: usize,
    /// Buffers that could not be given out because none was free.
    exhausted: AtomicUsize,
}

impl MemoryPool {
    /// A pool of `capacity` buffers, allocated now.
    ///
    /// # Panics
    /// If `capacity` is zero.
    pub fn new(capacity: usize) -> Self {
        let free = ArrayQueue::new(capacity);
        for _ in 0..capacity {
            let pushed = free.push(vec![0; HEADROOM + DATA_ROOM].into_boxed_slice());
            assert!(pushed.is_ok(), "the queue holds the capacity");
        }
        Self { shared: Arc::new(PoolShared { free, capacity, exhausted: AtomicUsize::new(0) }) }
    }

    /// Buffers that are in the pool now.
    pub fn available(&self) -> usize {
        self.shared.free.len()
    }

    /// Buffers that exist.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// A buffer that holds a copy of `frame`, or `None` if the pool is empty
    /// or the frame too long.
    pub fn packet(&self, frame: &[u8]) -> Option<MemoryBuf> {
        let mut packet = self.clone().alloc()?;
        if !packet.append(frame.len()) {
            return None;
        }
        packet.bytes_mut().copy_from_slice(frame);
        Some(packet)
    }
}

impl BufferPool for MemoryPool {
    type Buf = MemoryBuf;

    fn alloc(&mut self) -> Option<MemoryBuf> {
        let Some(memory) = self.shared.free.pop() else {
            self.shared.exhausted.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        Some(MemoryBuf { memory, start: HEADROOM, end: HEADROOM, pool: Arc::clone(&self.shared) })
    }
}

/// A packet in plain memory.
#[derive(Debug)]
pub struct MemoryBuf {
    /// Empty only after drop has taken it.
    memory: Box<[u8]>,
    start: usize,
    end: usize,
    pool: Arc<PoolShared>,
}

impl PacketBuf for MemoryBuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    #[inline]
    fn headroom(&self) -> usize {
        self.start
    }

    #[inline]
    fn tailroom(&self) -> usize {
        self.memory.len() - self.end
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
        }
        fits
    }

    #[inline]
    fn append(&mut self, count: usize) -> bool {
        let fits = count <= self.tailroom();
        if fits {
            self.end += count;
        }
        fits
    }

    fn reframe(
        &mut self,
        offset: usize,
        length: usize,
        header: &[u8; FRONT],
        front: usize,
    ) -> Option<&mut [u8; FRONT + OPENED]> {
        let start = self.start + offset;
        if length < OPENED || front > FRONT || start + length > self.end || start < FRONT {
            return None;
        }
        (self.start, self.end) = (start - front, start + length);
        let opened: &mut [u8; FRONT + OPENED] = self.memory[start - FRONT..].first_chunk_mut()?;
        opened[..FRONT].copy_from_slice(header);
        Some(opened)
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "advance past the end of the packet");
        self.start += count;
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }
}

impl Drop for MemoryBuf {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // The pool has room for every buffer that it has given out.
        let _ = self.pool.free.push(memory);
    }
}

/// The engine's end of a port: what the test sends comes out of it.
#[derive(Debug)]
pub struct MemoryRx(Arc<ArrayQueue<MemoryBuf>>);

impl RxQueue for MemoryRx {
    type Buf = MemoryBuf;

    fn rx_burst(&mut self, packets: &mut PacketBurst<MemoryBuf>) -> usize {
        let before = packets.len();
        while !packets.is_full() {
            let Some(packet) = self.0.pop() else { break };
            packets.push(packet);
        }
        packets.len() - before
    }
}

/// The engine's end of a port: what it sends, the test receives.
#[derive(Debug)]
pub struct MemoryTx(Arc<ArrayQueue<MemoryBuf>>);

impl TxQueue for MemoryTx {
    type Buf = MemoryBuf;

    fn tx_burst(&mut self, packets: &mut PacketBurst<MemoryBuf>) -> usize {
        let room = self.0.capacity() - self.0.len();
        let count = packets.len().min(room);
        let mut sent = 0;
        for packet in packets.drain(..count) {
            // One thread owns this end, so the room cannot have shrunk.
            sent += usize::from(self.0.push(packet).is_ok());
        }
        sent
    }
}

/// The test's end of a port with one queue in each direction.
#[derive(Debug, Clone)]
pub struct MemoryWire {
    to_engine: Arc<ArrayQueue<MemoryBuf>>,
    from_engine: Arc<ArrayQueue<MemoryBuf>>,
}

impl MemoryWire {
    /// A port whose queues hold `depth` packets each: the wire, and the
    /// engine's two ends.
    ///
    /// # Panics
    /// If `depth` is zero.
    pub fn new(depth: usize) -> (Self, MemoryRx, MemoryTx) {
        let to_engine = Arc::new(ArrayQueue::new(depth));
        let from_engine = Arc::new(ArrayQueue::new(depth));
        let wire = Self { to_engine: Arc::clone(&to_engine), from_engine: Arc::clone(&from_engine) };
        (wire, MemoryRx(to_engine), MemoryTx(from_engine))
    }

    /// Puts a packet on the wire towards the engine; gives it back if the
    /// queue is full.
    ///
    /// # Errors
    /// The packet itself, when the queue is full.
    pub fn send(&self, packet: MemoryBuf) -> Result<(), MemoryBuf> {
        self.to_engine.push(packet)
    }

    /// The next packet that the engine has sent.
    pub fn receive(&self) -> Option<MemoryBuf> {
        self.from_engine.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_and_shrinks_at_both_ends_and_returns_to_its_pool() {
        let pool = MemoryPool::new(2);
        let mut packet = pool.packet(&[1, 2, 3, 4]).expect("a buffer");
        assert_eq!(pool.available(), 1);
        assert!(packet.prepend(2));
        packet.bytes_mut()[..2].copy_from_slice(&[8, 9]);
        packet.advance(1);
        packet.truncate(3);
        assert_eq!(packet.bytes(), &[9, 1, 2]);
        assert!(!packet.prepend(HEADROOM), "one byte of headroom is used");
        assert!(!packet.append(DATA_ROOM + 1));
        drop(packet);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_full_transmit_queue_leaves_packets_with_the_caller() {
        let pool = MemoryPool::new(4);
        let (wire, _rx, mut tx) = MemoryWire::new(2);
        let mut burst: PacketBurst<_> = (0u8..3).filter_map(|n| pool.packet(&[n])).collect();
        assert_eq!(tx.tx_burst(&mut burst), 2);
        assert_eq!(burst.len(), 1);
        assert_eq!(wire.receive().map(|p| p.bytes()[0]), Some(0));
    }
}
