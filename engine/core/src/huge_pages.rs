//! Huge pages for large tables. A lookup in a table of many megabytes reads
//! another page each time; with small pages the processor has to find out
//! first where that is.

/// What x86-64 and most AArch64 systems have.
const HUGE_PAGE: usize = 2 << 20;

/// Asks the kernel to use huge pages for the room that a vector has, where
/// whole ones fit. The memory is taken when it is first used, as before, but in
/// larger pieces. It is only a wish: a kernel without them says no.
pub fn prefer<T>(vector: &mut Vec<T>) {
    let bytes = vector.capacity() * size_of::<T>();
    let start = vector.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(HUGE_PAGE);
    let Some(length) = bytes.checked_sub(skipped).map(|rest| rest / HUGE_PAGE * HUGE_PAGE) else { return };
    if length == 0 {
        return;
    }
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: these are whole pages inside the vector's allocation, and the
    // advice changes nothing that a program can see.
    unsafe {
        let _ = libc::madvise(start.add(skipped).cast(), length, libc::MADV_HUGEPAGE);
    }
}
