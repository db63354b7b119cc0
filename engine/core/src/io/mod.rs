//! Where packets come from and go to.
//!
//! - this file: what the engine needs of a device's queues
//! - [`memory`]: ports in plain memory, for tests and fuzzers
//! - [`replay`]: ports that replay frames from memory, for benchmarks
//!
//! DPDK's devices are in the crate `tieline-dpdk`.

pub mod memory;
pub mod replay;

use arrayvec::ArrayVec;

use crate::packet::buffer::PacketBuf;

/// Most packets that are taken from a queue, worked on, or sent at once.
pub const BURST: usize = 64;

/// Packets on their way, without heap.
pub type PacketBurst<B> = ArrayVec<B, BURST>;

/// One receive queue. It is `Send` but used through `&mut`, so that exactly
/// one thread at a time can own it.
pub trait RxQueue: Send + 'static {
    /// Its buffers.
    type Buf: PacketBuf;

    /// Appends up to as many received packets as `packets` has room for, and
    /// returns how many. Never blocks, allocates or enters the kernel more
    /// than the device's driver does.
    fn rx_burst(&mut self, packets: &mut PacketBurst<Self::Buf>) -> usize;

    /// Frames received since the last call that the queue threw away because
    /// they do not fit into one buffer. No `rx_burst` has counted them.
    fn take_dropped(&mut self) -> u64 {
        0
    }
}

/// One transmit queue, used by exactly one thread at a time.
pub trait TxQueue: Send + 'static {
    /// Its buffers.
    type Buf: PacketBuf;

    /// Sends packets from the front of `packets`, removes those that the
    /// device took, and returns how many. What is left was not taken.
    fn tx_burst(&mut self, packets: &mut PacketBurst<Self::Buf>) -> usize;
}

/// Where new buffers come from. Handles are cloned, one for each thread.
pub trait BufferPool: Clone + Send + 'static {
    /// Its buffers.
    type Buf: PacketBuf;

    /// An empty buffer with full headroom, or `None` if the pool is empty.
    fn alloc(&mut self) -> Option<Self::Buf>;
}

/// One kind of I/O: its buffers, queues and pool fit each other.
pub trait Io: 'static {
    /// Buffers.
    type Buf: PacketBuf;
    /// Receive queues.
    type Rx: RxQueue<Buf = Self::Buf>;
    /// Transmit queues.
    type Tx: TxQueue<Buf = Self::Buf>;
    /// The pool.
    type Pool: BufferPool<Buf = Self::Buf>;
}
