//! What the processor can do beyond plain code.

#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether the processor has the instructions: not asked yet, no, or yes.
#[cfg(target_arch = "x86_64")]
static BIT_INSTRUCTIONS: AtomicU8 = AtomicU8::new(UNKNOWN);
#[cfg(target_arch = "x86_64")]
const UNKNOWN: u8 = 0;
#[cfg(target_arch = "x86_64")]
const NO: u8 = 1;
#[cfg(target_arch = "x86_64")]
const YES: u8 = 2;

/// Runs `work`, compiled for a processor that counts bits in one instruction
/// if this is one. All of `work` must be inlined for that to help.
#[inline(always)]
pub(super) fn with_bit_instructions<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if BIT_INSTRUCTIONS.load(Ordering::Relaxed) == YES || ask_processor() {
        // SAFETY: the processor has the four features: it was asked.
        return unsafe { run_with_bit_instructions(work) };
    }
    work()
}

/// Asks once; the processor's answer never changes.
#[cfg(target_arch = "x86_64")]
#[cold]
fn ask_processor() -> bool {
    if BIT_INSTRUCTIONS.load(Ordering::Relaxed) == UNKNOWN {
        let has_all = is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        BIT_INSTRUCTIONS.store(if has_all { YES } else { NO }, Ordering::Relaxed);
    }
    BIT_INSTRUCTIONS.load(Ordering::Relaxed) == YES
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
