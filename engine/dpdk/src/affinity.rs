//! The cores that a thread may run on.

use std::fmt::Write as _;
use std::io;

use libc::cpu_set_t;

/// A saved set of cores.
#[derive(Clone, Copy)]
pub(crate) struct Affinity(cpu_set_t);

impl Affinity {
    /// The cores that the calling thread may run on.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        // SAFETY: a set of bits; all zeroes is the empty set.
        let mut set: cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is as large as the size says; 0 is this thread.
        let status = unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), &raw mut set) };
        if status == 0 { Ok(Self(set)) } else { Err(io::Error::last_os_error()) }
    }

    /// Lets the calling thread run on these cores and no others.
    pub(crate) fn apply_to_this_thread(&self) -> io::Result<()> {
        // SAFETY: the set is as large as the size says; 0 is this thread.
        let status = unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), &raw const self.0) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The cores below `limit` as "0-3,8".
    pub(crate) fn list_below(&self, limit: usize) -> String {
        let limit = limit.min(8 * size_of::<cpu_set_t>());
        // SAFETY: `cpu` is below the number of bits of the set.
        let contains = |cpu: usize| cpu < limit && unsafe { libc::CPU_ISSET(cpu, &self.0) };
        let mut list = String::new();
        let mut cpu = 0;
        while cpu < limit {
            let first = cpu;
            while contains(cpu) {
                cpu += 1;
            }
            if cpu > first {
                let separator = if list.is_empty() { "" } else { "," };
                let last = cpu - 1;
                let written = if first == last {
                    write!(list, "{separator}{first}")
                } else {
                    write!(list, "{separator}{first}-{last}")
                };
                debug_assert!(written.is_ok(), "a string takes everything");
            }
            cpu += 1;
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> Affinity {
        // SAFETY: a set of bits; all zeroes is the empty set.
        let mut set: cpu_set_t = unsafe { std::mem::zeroed() };
        for &cpu in cpus {
            // SAFETY: tests stay below the number of bits.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        Affinity(set)
    }

    #[test]
    fn lists_are_ranges() {
        assert_eq!(set(&[]).list_below(128), "");
        assert_eq!(set(&[0]).list_below(128), "0");
        assert_eq!(set(&[0, 1, 2, 5, 7, 8]).list_below(128), "0-2,5,7-8");
        assert_eq!(set(&[126, 127, 128, 200]).list_below(128), "126-127");
        assert_eq!(set(&[1022, 1023]).list_below(usize::MAX), "1022-1023");
    }

    #[test]
    fn what_is_saved_can_be_applied() {
        let saved = Affinity::of_this_thread().expect("the kernel tells");
        saved.apply_to_this_thread().expect("nothing changes");
        let again = Affinity::of_this_thread().expect("the kernel tells");
        assert_eq!(saved.list_below(1024), again.list_below(1024));
    }
}
