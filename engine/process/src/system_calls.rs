//! Which system calls a process, and its workers, may make (seccomp(2)).
//!
//! What is refused fails with EPERM: whoever finds a way to have a gateway run code
//! of theirs cannot start programs with it, look into other processes, or leave the
//! namespaces that it is in.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Programs, other processes, namespaces, the kernel itself.
const NEVER: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    libc::SYS_quotactl,
    libc::SYS_syslog,
];

/// What a worker does that is no system call of a device: memory, sleep, locks,
/// the end.
const WORKER: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Devices: AF_PACKET, AF_XDP, TAP, memif, vhost, virtio-user, files of pcap.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// The calls of the x32 ABI have this bit, and some of them other numbers: they
/// are refused all the same.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;
/// execve, ptrace, kexec_load, process_vm_readv, process_vm_writev, execveat.
#[cfg(target_arch = "x86_64")]
const X32_NEVER: &[libc::c_long] = &[520, 521, 528, 539, 540, 545];

/// Why calls are not refused.
#[derive(Debug, thiserror::Error)]
#[error("the kernel takes no filter of system calls: {0}")]
pub struct FilterError(String);

fn words(error: impl std::fmt::Display) -> FilterError {
    FilterError(error.to_string())
}

/// Refuses this thread, and all that it will bear, what no gateway does.
///
/// # Errors
/// When the kernel has no seccomp.
pub fn refuse_what_is_never_done() -> Result<(), FilterError> {
    let never = NEVER.iter().copied();
    #[cfg(target_arch = "x86_64")]
    let never = never.clone().chain(never.chain(X32_NEVER.iter().copied()).map(|call| call | X32));
    let program = program(never, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?;
    seccompiler::apply_filter(&program).map_err(words)
}

/// A filter for workers, which is made once and put on by each.
#[derive(Debug, Clone)]
pub struct WorkerFilter(BpfProgram);

impl WorkerFilter {
    /// Makes it.
    ///
    /// # Errors
    /// When there is none for this architecture.
    pub fn new() -> Result<Self, FilterError> {
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        program(WORKER.iter().copied(), refuse, SeccompAction::Allow).map(Self)
    }

    /// Refuses this thread whatever no worker does.
    ///
    /// # Errors
    /// When the kernel has no seccomp.
    pub fn put_on(&self) -> Result<(), FilterError> {
        seccompiler::apply_filter(&self.0).map_err(words)
    }
}

fn program(
    calls: impl Iterator<Item = libc::c_long>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let rules: BTreeMap<i64, Vec<_>> = calls.map(|call| (call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().map_err(words)?;
    SeccompFilter::new(rules, others, these, arch).map_err(words)?.try_into().map_err(words)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    fn in_a_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
        std::thread::spawn(work).join().expect("it does not panic")
    }

    #[test]
    fn no_program_is_started() {
        let outcome = in_a_thread(|| {
            Command::new("/bin/true").status().expect("it starts before");
            refuse_what_is_never_done().expect("the kernel takes it");
            // A thread that is born later is no way out.
            in_a_thread(|| Command::new("/bin/true").status().map_err(|error| error.kind()))
        });
        assert_eq!(outcome.expect_err("it is refused"), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_worker_computes_and_opens_nothing() {
        let (computed, opened, connected) = in_a_thread(|| {
            WorkerFilter::new().expect("there is one").put_on().expect("the kernel takes it");
            let computed: u64 = (0..100_000u64).collect::<Vec<_>>().iter().sum();
            std::thread::sleep(std::time::Duration::from_millis(1));
            let opened = std::fs::File::open("/proc/self/status").map(drop).map_err(|error| error.kind());
            let connected = std::net::UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind());
            (computed, opened, connected)
        });
        assert_eq!(computed, 4_999_950_000);
        assert_eq!(opened.expect_err("it is refused"), ErrorKind::PermissionDenied);
        assert_eq!(connected.expect_err("it is refused"), ErrorKind::PermissionDenied);
    }
}
