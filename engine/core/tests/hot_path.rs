//! Proof that a worker's turn neither allocates nor enters the kernel.
//!
//! The allocator of this program refuses to work while a worker turns; and
//! a child process turns workers under a seccomp filter, by which the kernel
//! kills it for any system call but `exit`. A lock that is contended, a log
//! line, a sleep, a clock without vDSO, an allocation that grows the heap: all
//! of them would be system calls.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use support::*;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::tick::Tick;
use tieline_engine::testbed::Testbed;
use tieline_engine::testbed::topology::*;
use tieline_engine::types::{SgId, SgSetId};

/// The system's allocator, which notes what happens in a worker's turn.
struct Watched;

thread_local! {
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    if IN_TURN.get() {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// A gateway with policies, and traffic of every kind on its wires: known and
/// new sessions, denied, errors, fragments, ARP, echo, tunnels, punts,
/// unknown neighbours, hand-overs.
fn loaded_gateway(workers: usize) -> Testbed {
    let mut bed = gateway(workers);
    bed.update(|tables| {
        let rule = |first, last| Rule {
            group: SgId(1),
            family: None,
            protocol: Some(17),
            l4: L4Match::Ports { first, last },
            remote: Remote::Any,
        };
        let rules = [(Direction::Egress, rule(0, 500)), (Direction::Ingress, rule(0, 500))];
        set_policy(tables, TENANT_1, Some(Policy::new(SgSetId::EMPTY, rules)));
        tables.sg_sets.insert(3, Arc::from([SgId(1)]));
    });
    // Commands and tables arrive before the watched turns.
    bed.run();
    load(&bed);
    bed
}

fn load(bed: &Testbed) {
    for n in 0..60u16 {
        bed.send(TENANT_1, &udp_from(TENANT_1, W1, FAR, (n, n * 10), &[1; 900]));
        bed.send(TENANT_1, &udp_from(TENANT_1, W1, FAR, (n, 7), &[2; 1450]));
        bed.send(TENANT_1, &udp_from(TENANT_1, W1_V6, FAR_V6, (n, 7), &[2; 1450]));
        bed.send(TENANT_1, &echo_from(TENANT_1, W1, FAR, 1));
        bed.send(TENANT_1, &echo_from(TENANT_1, W1, "10.1.0.1", 64));
        bed.send(TENANT_2, &udp_from(TENANT_2, W2, W1, (7, n), b"local"));
        bed.send(TENANT_2, &udp_from(TENANT_2, W2, "10.77.0.1", (7, n), b"no route"));
        bed.send(FABRIC, &tunnelled(LABEL, &inner_udp(FAR, W1, (n * 10, n), b"reply")));
        bed.send(FABRIC, &tunnelled(LABEL, &inner_tcp(FAR, W1, (1, n), Tcp::Syn)));
        bed.send(FABRIC, &tunnelled(n.into(), b"junk"));
        let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 1);
        bed.send(FABRIC, &tcp_segment(step, (n, 179), Tcp::Syn, None));
        let host = tieline_engine::types::MacAddr([2, 0, 0, 0, 0, 0xfe]);
        let step = headers(own_mac(HOST), host, "198.18.0.1", "198.18.0.77", 1);
        bed.send(HOST, &tcp_segment(step, (179, n), Tcp::Syn, None));
    }
}

fn turn(bed: &mut Testbed) -> bool {
    let now = bed.now;
    bed.workers.iter_mut().fold(false, |busy, worker| worker.turn(now) | busy)
}

#[test]
fn a_turn_never_allocates() {
    for workers in [1, 2] {
        let mut bed = loaded_gateway(workers);
        IN_TURN.set(true);
        for round in 0..200u32 {
            bed.now = Tick(round);
            turn(&mut bed);
        }
        IN_TURN.set(false);
        assert_eq!(CALLS.get(), 0, "calls of the allocator with {workers} workers");
        let done = bed.balance();
        assert!(done.transmitted > 100 && done.punted > 50 && done.dropped > 100, "{done:?}");
        assert!(done.in_flight > 0, "packets wait for an unknown neighbour: {done:?}");
    }
}

#[test]
fn the_watch_sees_allocations() {
    IN_TURN.set(true);
    let seen = Box::new(std::hint::black_box(7u8));
    IN_TURN.set(false);
    assert!(CALLS.replace(0) >= 1);
    drop(seen);
}

/// From here on the kernel kills this process for any system call but `exit`.
/// Seccomp's strict mode would take the time stamp counter away too.
fn allow_only_exit() {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let program = [
        // The number of the system call is the first field of `seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_exit as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives the calls, and
    // writes nothing.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
    };
    if refused {
        eprintln!("the kernel takes no seccomp filter: {}", std::io::Error::last_os_error());
        // SAFETY: ends this process, which is the child.
        unsafe { libc::_exit(1) };
    }
}

/// What a child that turned workers without system calls has to say.
fn without_system_calls(work: impl FnOnce()) -> i32 {
    // SAFETY: the child only turns workers, which need no other thread and no
    // lock that one could hold, and then exits without running destructors.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        allow_only_exit();
        work();
        // SAFETY: ends this thread, the child's only one.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let mut status = 0;
    // SAFETY: `child` is a child of this process, `status` a valid place.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    status
}

#[test]
fn a_turn_never_enters_the_kernel() {
    for workers in [1, 2] {
        let mut bed = loaded_gateway(workers);
        let status = without_system_calls(|| {
            for round in 0..200u32 {
                bed.now = Tick(round);
                turn(&mut bed);
            }
        });
        assert_eq!(status, 0, "killed by signal {} with {workers} workers", status & 0x7f);
    }
}

#[test]
fn the_kernel_would_notice() {
    let status = without_system_calls(|| {
        std::thread::sleep(std::time::Duration::from_millis(1));
    });
    assert_eq!(status & 0x7f, libc::SIGSYS);
}
