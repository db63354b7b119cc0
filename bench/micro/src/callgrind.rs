//! Talks to valgrind's callgrind, under which a program counts its own
//! instructions.
//!
//! Started with `--instr-atstart=no`, callgrind counts only what runs inside
//! of [`count`], and set-up takes a fraction of the time. Outside of valgrind
//! all of this does nothing.

use std::ffi::CStr;

/// Requests of valgrind, and of callgrind ("CT").
const RUNNING_ON_VALGRIND: u64 = 0x1001;
const CALLGRIND: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
const ZERO_STATS: u64 = CALLGRIND + 1;
const DUMP_STATS_AT: u64 = CALLGRIND + 3;
const START_INSTRUMENTATION: u64 = CALLGRIND + 4;
const STOP_INSTRUMENTATION: u64 = CALLGRIND + 5;

/// Whether the program runs under valgrind.
pub fn is_running() -> bool {
    request(RUNNING_ON_VALGRIND, 0) != 0
}

/// Counts the instructions of `work`; callgrind writes them to a file of their
/// own, with `name` in its description.
pub fn count<R>(name: &CStr, work: impl FnOnce() -> R) -> R {
    request(START_INSTRUMENTATION, 0);
    request(ZERO_STATS, 0);
    let result = work();
    request(DUMP_STATS_AT, name.as_ptr() as u64);
    request(STOP_INSTRUMENTATION, 0);
    result
}

/// A request with one argument, and its result; 0 outside of valgrind.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn request(code: u64, argument: u64) -> u64 {
    let request = [code, argument, 0, 0, 0, 0];
    let mut result = 0u64;
    // SAFETY: the rotations add up to two whole turns and the exchange is of a
    // register with itself, so a processor changes nothing but flags. Valgrind
    // knows the sequence, reads `request`, and for DUMP_STATS_AT the string
    // that `count` borrows, and changes only `rdx`.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") result,
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_code: u64, _argument: u64) -> u64 {
    0
}
