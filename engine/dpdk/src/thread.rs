//! Worker threads as DPDK knows them.
//!
//! A pool keeps a cache of free buffers for each thread that DPDK knows.
//! Threads that Rust has started are unknown to it: they work, but every
//! buffer they take or return goes through the ring that all threads share.

use std::marker::PhantomData;

use thiserror::Error;
use tieline_dpdk_sys as sys;

use crate::eal;

/// Why a thread could not be registered.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RegisterError {
    /// There is no EAL.
    #[error("a worker thread cannot be registered before DPDK is started")]
    NotStarted,
    /// The thread is the one that started the EAL, or is registered already.
    #[error("this thread is known to DPDK as lcore {0} already")]
    AlreadyRegistered(u32),
    /// DPDK knows as many threads as it can, or refuses for another reason.
    #[error(
        "DPDK takes no more worker threads: {0}. It knows {limit} at most; use fewer workers",
        limit = sys::RTE_MAX_LCORE
    )]
    Refused(String),
}

/// While it lives, the thread that made it has caches of its own. It stays on
/// that thread.
#[derive(Debug)]
#[must_use = "the registration ends when this is dropped"]
pub struct ThreadRegistration {
    lcore: u32,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl ThreadRegistration {
    /// DPDK's number for the thread, unrelated to the core it runs on.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

/// Makes the calling thread known to DPDK until the registration is dropped.
/// Its affinity stays as it is.
///
/// # Errors
/// See [`RegisterError`].
pub fn register_worker_thread() -> Result<ThreadRegistration, RegisterError> {
    if !eal::was_started() {
        return Err(RegisterError::NotStarted);
    }
    // SAFETY: reads a thread-local variable.
    let current = unsafe { sys::tieline_lcore_id() };
    if current != sys::TIELINE_NO_LCORE {
        return Err(RegisterError::AlreadyRegistered(current));
    }
    // SAFETY: has no preconditions; DPDK itself refuses before it is ready.
    if unsafe { sys::rte_thread_register() } != 0 {
        return Err(RegisterError::Refused(crate::errno_text(crate::last_errno())));
    }
    // SAFETY: reads a thread-local variable.
    let lcore = unsafe { sys::tieline_lcore_id() };
    Ok(ThreadRegistration { lcore, _stays_on_its_thread: PhantomData })
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        // SAFETY: this is the thread that was registered: the type is not Send.
        unsafe { sys::rte_thread_unregister() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_nothing_to_register_with_before_the_start() {
        assert_eq!(register_worker_thread().err(), Some(RegisterError::NotStarted));
    }
}
