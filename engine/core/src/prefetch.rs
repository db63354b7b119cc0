//! Asks the processor to fetch a cache line before it is needed.

/// Starts to fetch the cache line at the start of `target` for reading. Does
/// nothing on processors other than x86-64.
#[inline(always)]
pub fn prefetch<T: ?Sized>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = std::ptr::from_ref(target).cast::<i8>();
        // SAFETY: SSE is part of every x86-64 target. A prefetch changes no
        // memory and cannot fault, and the address is that of a live reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = target;
}
