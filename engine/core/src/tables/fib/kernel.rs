//! What the processor can do beyond plain code: the only `unsafe` of the
//! table.

/// Runs `work`, compiled for a processor that counts bits in one instruction
/// if this is one. All of `work` must be inlined for that to help.
#[inline]
pub(super) fn with_bit_instructions<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
    {
        // SAFETY: the processor has the four features, as was just tested.
        return unsafe { run_with_bit_instructions(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2")]
fn run_with_bit_instructions<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Starts to bring the first and the last byte of `target` into the cache.
#[inline(always)]
pub(super) fn prefetch<T>(target: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(target).cast::<i8>();
        // SAFETY: a prefetch reads nothing that a program can see and never
        // faults, whatever the address. SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first) };
        if size_of::<T>() > 16 {
            let last = first.wrapping_add(size_of::<T>() - 1);
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(last) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = target;
}
