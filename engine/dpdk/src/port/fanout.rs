//! Numbers of the kernel's fanout groups that no other process has.
//!
//! DPDK's driver for AF_PACKET puts the sockets of an interface into a fanout
//! group, and makes the group's number, 16 bits for a whole network namespace,
//! from the process and the interface: `getpid() ^ ifindex`. The numbers of two
//! processes with several interfaces each meet easily: while one daemon takes
//! over from another, whose process was started not long before, whenever the
//! two processes differ only in bits in which two of their interfaces differ.
//! The kernel then refuses the second group, and a port does not open.
//!
//! The driver takes no number of ours. But it asks `getpid`, and a program's own
//! functions come before those of libraries. So here is a `getpid` that tells
//! the truth, except to the thread that opens such a port, which gets a number
//! at random.

use std::cell::Cell;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use libc::pid_t;

/// How often another number is tried. So many are all taken only if others have
/// nearly all groups that there can be.
const TRIES: u32 = 16;

/// What the driver says when the kernel has refused the group.
const REFUSED: &str = "could not set PACKET_FANOUT";

thread_local! {
    static PRETENDED: Cell<Option<pid_t>> = const { Cell::new(None) };
}

/// Whether these messages of the driver are about its group.
pub(super) fn is_refused(messages: &str) -> bool {
    messages.contains(REFUSED)
}

/// Runs `attempt`, in which this thread does not learn the number of the
/// process, and again with another number while the group `is_taken`.
pub(super) fn in_a_group_of_its_own<T>(attempt: impl Fn() -> T, is_taken: impl Fn(&T) -> bool) -> T {
    let mut tries = TRIES;
    loop {
        let random = RandomState::new().build_hasher().finish() & 0x7fff_ffff;
        PRETENDED.set(Some(random as pid_t));
        let outcome = attempt();
        PRETENDED.set(None);
        tries -= 1;
        if !is_taken(&outcome) || tries == 0 {
            return outcome;
        }
    }
}

/// The number of this process; within [`in_a_group_of_its_own`], a random one.
/// It stands in for that of the C library, in the libraries too.
#[unsafe(no_mangle)]
extern "C" fn getpid() -> pid_t {
    PRETENDED.get().unwrap_or_else(|| {
        // SAFETY: the call takes nothing and always succeeds.
        let id = unsafe { libc::syscall(libc::SYS_getpid) };
        id as pid_t
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn only_whoever_opens_a_port_does_not_learn_the_truth() {
        let truth = std::fs::read_link("/proc/self").expect("a link").to_string_lossy().into_owned();
        assert_eq!(std::process::id().to_string(), truth);
        let seen = || {
            let beside = std::thread::spawn(std::process::id).join().expect("it ends");
            (std::process::id(), beside)
        };
        let numbers = RefCell::new(Vec::new());
        let is_taken = |(inside, beside): &(u32, u32)| {
            assert_eq!(beside.to_string(), truth, "another thread learns it");
            numbers.borrow_mut().push(*inside);
            true
        };
        in_a_group_of_its_own(seen, is_taken);
        let mut numbers = numbers.into_inner();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), TRIES as usize, "each time another: {numbers:?}");
        assert_eq!(std::process::id().to_string(), truth, "and again");
    }
}
