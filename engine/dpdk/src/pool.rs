//! Pools of buffers.
//!
//! A pool is never freed. Buffers may be with any worker, device or queue, and
//! DPDK offers no way to know that no thread is still busy returning one to
//! its cache; the memory is fixed at start-up anyway.

use std::ffi::CString;
use std::ptr::NonNull;

use sys::rte_mempool;
use thiserror::Error;
use tieline_dpdk_sys as sys;
use tieline_engine::io::BufferPool;
use tieline_engine::packet::buffer::HEADROOM;

use crate::eal::Eal;
use crate::mbuf::Mbuf;

/// DPDK's limit on a cache, buffers.
const LARGEST_CACHE: u32 = 512;

/// Bytes that a buffer takes besides its room for data: the mbuf itself and
/// the pool's bookkeeping.
const OVERHEAD: usize = 192;

/// How large a pool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name, unique in the process, up to 25 bytes.
    pub name: String,
    /// Buffers. A power of two minus one wastes no memory in DPDK's ring.
    pub count: u32,
    /// Bytes of a buffer behind its headroom.
    pub data_room: u16,
    /// Free buffers that each registered thread may keep for itself, at most
    /// 512 and at most two thirds of `count`. Half as many again may pile up
    /// in a cache: the pool should hold more than all caches together.
    pub cache: u32,
}

/// Why there is no pool.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The name cannot be passed on.
    #[error("pool name {0:?} holds a zero byte: remove it")]
    Name(String),
    /// Another pool has the name.
    #[error("there is a pool {0:?} already: pools live as long as the process, choose another name")]
    NameTaken(String),
    /// Headroom and data do not fit into 16 bits.
    #[error("buffers of {0} bytes are too large: {max} is the most", max = usize::from(u16::MAX) - HEADROOM)]
    DataRoom(u16),
    /// The cache breaks DPDK's limits.
    #[error(
        "pool {name:?} cannot have caches of {cache} buffers: at most {LARGEST_CACHE}, and at most two thirds of \
         its {count} buffers"
    )]
    Cache {
        /// The pool.
        name: String,
        /// The cache wanted.
        cache: u32,
        /// The buffers wanted.
        count: u32,
    },
    /// DPDK could not make it.
    #[error(
        "pool {name:?} of {count} buffers could not be made: {reason}. It needs about {mib} MiB of DPDK's memory \
         in one piece: raise the memory limit or ask for fewer or smaller buffers"
    )]
    Create {
        /// The pool.
        name: String,
        /// The buffers wanted.
        count: u32,
        /// `rte_errno` in words.
        reason: String,
        /// Memory needed, MiB.
        mib: u64,
    },
}

/// A pool of buffers. Clones are handles of the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    mempool: NonNull<rte_mempool>,
    capacity: usize,
    data_room: usize,
}

// SAFETY: a mempool takes requests from all threads at once, and it lives as
// long as the process.
unsafe impl Send for Pool {}
// SAFETY: as above; the handle itself does not change.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub fn new(eal: &Eal, config: PoolConfig) -> Result<Self, PoolError> {
        let PoolConfig { name, count, data_room, cache } = config;
        let c_name = CString::new(name.as_str()).map_err(|_| PoolError::Name(name.clone()))?;
        let size =
            u16::try_from(HEADROOM + usize::from(data_room)).map_err(|_| PoolError::DataRoom(data_room))?;
        if cache > LARGEST_CACHE || u64::from(cache) * 3 > u64::from(count) * 2 {
            return Err(PoolError::Cache { name, cache, count });
        }
        // Without hugepages I/O addresses are virtual ones: see `Eal::start`.
        let crosses_pages = i32::from(!eal.hugepages());
        // SAFETY: the EAL runs; the name is a terminated string.
        let mempool =
            unsafe { sys::tieline_pktmbuf_pool_create(c_name.as_ptr(), count, cache, size, crosses_pages) };
        let Some(mempool) = NonNull::new(mempool) else {
            if crate::last_errno() == libc::EEXIST {
                return Err(PoolError::NameTaken(name));
            }
            let bytes = u64::from(count) * (usize::from(size) + OVERHEAD) as u64;
            let reason = crate::errno_text(crate::last_errno());
            return Err(PoolError::Create { name, count, reason, mib: bytes.div_ceil(1 << 20) });
        };
        Ok(Self { mempool, capacity: count as usize, data_room: usize::from(data_room) })
    }

    /// Buffers that are in the pool or in a thread's cache now. Exact while
    /// nobody takes or returns one.
    pub fn available(&self) -> usize {
        // SAFETY: the mempool lives for ever.
        unsafe { sys::rte_mempool_avail_count(self.mempool.as_ptr()) as usize }
    }

    /// Buffers that exist.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of a buffer behind its headroom.
    pub fn data_room(&self) -> usize {
        self.data_room
    }

    pub(crate) fn as_ptr(&self) -> *mut rte_mempool {
        self.mempool.as_ptr()
    }
}

impl BufferPool for Pool {
    type Buf = Mbuf;

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        // SAFETY: the mempool lives for ever.
        let raw = NonNull::new(unsafe { sys::tieline_pktmbuf_alloc(self.mempool.as_ptr()) })?;
        // SAFETY: a fresh mbuf has one segment and one reference, now ours.
        Some(unsafe { Mbuf::from_raw(raw) })
    }
}
