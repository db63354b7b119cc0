//! The processor's own clock.

/// Ticks of the processor's clock since some fixed moment: the time stamp
/// counter on x86-64, the virtual counter on AArch64. It ticks at a constant
/// rate, which need not be the core's frequency, and reading it takes a few
/// nanoseconds. On other processors it is always 0: a worker cannot afford
/// another clock.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: every x86-64 processor has the counter, and reading it has
        // no effect on memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let ticks: u64;
        // SAFETY: every AArch64 processor has the counter, operating systems
        // let programs read it, and that has no effect on memory or flags.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
        }
        ticks
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn it_goes_on() {
        let before = cycles();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(cycles() > before);
    }
}
