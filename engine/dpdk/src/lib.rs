//! DPDK ports, queues and buffers for the engine.
//!
//! - [`eal`]: DPDK's environment, started once a process
//! - [`pool`], [`mbuf`]: buffers
//! - [`device`]: devices as operators write them, parsed and checked
//! - [`port`]: opening and closing a device while others keep working
//! - [`queue`]: the ends that workers poll
//! - [`thread`]: giving a worker thread DPDK's per-thread caches
//! - [`log`]: where DPDK's messages go
//!
//! Start the [`Eal`], make one [`Pool`], then open [`Port`]s. [`DpdkIo`] ties
//! the types together for the engine.
//!
//! What lives how long: the EAL and its memory live until the process ends,
//! and so do pools. A port lives until its handle and all its queues are gone.
//! So a buffer, wherever it is, always has a pool to return to.

mod affinity;
mod hugepages;

pub mod device;
pub mod eal;
pub mod log;
pub mod mbuf;
pub mod pool;
pub mod port;
pub mod queue;
pub mod thread;

use std::ffi::CStr;

use tieline_dpdk_sys as sys;
use tieline_engine::io::Io;

pub use device::{Claim, DeviceSpec, Driver, ParseDeviceError};
pub use eal::{Eal, EalConfig, EalError, Hugepages};
pub use log::LogLevel;
pub use mbuf::Mbuf;
pub use pool::{Pool, PoolConfig, PoolError};
pub use port::{
    ClosePortError, KernelQueues, OpenPort, Port, PortConfig, PortCounters, PortError, PortProblem,
};
pub use queue::{Rx, Tx};
pub use thread::{RegisterError, ThreadRegistration, register_worker_thread};

/// Most ports at once: as DPDK was built. Debian's takes 32.
pub const MAX_PORTS: usize = sys::RTE_MAX_ETHPORTS as usize;

/// The I/O made of DPDK's devices.
#[derive(Debug, Clone, Copy)]
pub struct DpdkIo;

impl Io for DpdkIo {
    type Buf = Mbuf;
    type Rx = Rx;
    type Tx = Tx;
    type Pool = Pool;
}

/// The release of the DPDK library that this process runs with, such as
/// "DPDK 22.11.11".
pub fn dpdk_version() -> String {
    // SAFETY: returns a constant, terminated string.
    let version = unsafe { CStr::from_ptr(sys::rte_version()) };
    version.to_string_lossy().into_owned()
}

/// A positive error number in words.
fn errno_text(errno: i32) -> String {
    // SAFETY: returns a terminated string that stays valid until this thread
    // asks for another one.
    let text = unsafe { CStr::from_ptr(sys::rte_strerror(errno)) };
    text.to_string_lossy().into_owned()
}

/// The error number that DPDK has left for this thread.
fn last_errno() -> i32 {
    // SAFETY: reads a thread-local variable.
    unsafe { sys::tieline_errno() }
}
