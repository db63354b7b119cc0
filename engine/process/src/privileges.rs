//! What a process may do, once it has begun: no more than its work needs.
//!
//! A gateway that is taken over by what it is sent is a process with its
//! privileges. So it gives up, before its first thread, whatever it does not need
//! (capabilities(7)): threads that are born later have no more than the one that
//! bore them. What was given up cannot be had again, by no program that it might
//! be made to run: there are no capabilities to inherit, and set-user-ID bits count
//! for nothing.

use std::ffi::CString;
use std::io;

pub use caps::Capability;
use caps::{CapSet, CapsHashSet};

/// Devices of the kernel, packets of all kinds, and memory that stays.
pub const NEEDED: [Capability; 3] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_IPC_LOCK];

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Number.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
}

impl User {
    /// A user by name, with its group, or by number, with the group of that number;
    /// `None` if there is no such name.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn find(text: &str) -> io::Result<Option<Self>> {
        if let Ok(uid) = text.parse() {
            return Ok(Some(Self { uid, gid: uid }));
        }
        let Ok(name) = CString::new(text) else { return Ok(None) };
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::zeroed();
        let mut texts: Vec<libc::c_char> = vec![0; 16 << 10];
        let mut found = std::ptr::null_mut();
        // SAFETY: name and places are valid for the call, and the length is that of
        // the place for texts.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                texts.as_mut_ptr(),
                texts.len(),
                &raw mut found,
            )
        };
        match error {
            0 if found.is_null() => Ok(None),
            0 => {
                // SAFETY: it was found, so the entry was written.
                let entry = unsafe { entry.assume_init() };
                Ok(Some(Self { uid: entry.pw_uid, gid: entry.pw_gid }))
            }
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Who this process is.
    pub fn own() -> Self {
        // SAFETY: they read numbers and cannot fail.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        Self { uid, gid }
    }
}

/// What a process is to keep.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Who it becomes; `None`: it stays who it is.
    pub user: Option<User>,
    /// Groups that it is in beside its own.
    pub groups: Vec<u32>,
    /// Capabilities beside [`NEEDED`].
    pub capabilities: Vec<Capability>,
}

/// Why privileges are not given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Other threads would keep theirs.
    #[error("there are {0} threads already, which would keep their privileges")]
    Threads(usize),
    /// The kernel refuses a step.
    #[error("could not {step}: {error}")]
    Refused {
        /// The step.
        step: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
    /// A capability is not there.
    #[error("could not {step}: {error}")]
    Capabilities {
        /// The step.
        step: &'static str,
        /// What is wrong with it.
        error: caps::errors::CapsError,
    },
}

fn refused(step: &'static str) -> impl Fn(io::Error) -> PrivilegeError {
    move |error| PrivilegeError::Refused { step, error }
}

fn capabilities(step: &'static str) -> impl Fn(caps::errors::CapsError) -> PrivilegeError {
    move |error| PrivilegeError::Capabilities { step, error }
}

/// Gives up what is not kept. Only the first thread may, while it is the only one.
/// Returns the capabilities that are left, in the order of their numbers.
///
/// # Errors
/// When a step fails; some may have been taken.
pub fn give_up(keep: &Keep) -> Result<Vec<Capability>, PrivilegeError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(refused("count the threads in /proc"))?;
    let threads = tasks.count();
    if threads > 1 {
        return Err(PrivilegeError::Threads(threads));
    }
    // Buffers of devices are locked in memory, as many as there are.
    lift_memory_lock();
    let permitted = caps::read(None, CapSet::Permitted).map_err(capabilities("read the capabilities"))?;
    let kept: CapsHashSet =
        NEEDED.iter().chain(&keep.capabilities).copied().filter(|one| permitted.contains(one)).collect();
    limit_for_good(&kept)?;
    if let Some(user) = keep.user.as_ref().filter(|user| **user != User::own()) {
        become_user(user, &keep.groups)?;
    } else if permitted.contains(&Capability::CAP_SETGID) {
        set_groups(&keep.groups)?;
    }
    let nothing = CapsHashSet::new();
    caps::set(None, CapSet::Ambient, &nothing).map_err(capabilities("clear the ambient capabilities"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(capabilities("limit the effective capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(capabilities("limit the permitted capabilities"))?;
    caps::set(None, CapSet::Inheritable, &nothing).map_err(capabilities("clear what is inherited"))?;
    // SAFETY: it takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
        .map_err(refused("set no_new_privs"))?;
    let mut left: Vec<Capability> = kept.into_iter().collect();
    left.sort_by_key(Capability::index);
    Ok(left)
}

/// No program that is run can have more than this.
fn limit_for_good(kept: &CapsHashSet) -> Result<(), PrivilegeError> {
    let step = "limit the bounding set";
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(capabilities(step))?;
    if !may {
        return Ok(());
    }
    for one in caps::runtime::thread_all_supported().difference(kept) {
        if caps::has_cap(None, CapSet::Bounding, *one).map_err(capabilities(step))? {
            caps::drop(None, CapSet::Bounding, *one).map_err(capabilities(step))?;
        }
    }
    Ok(())
}

fn become_user(user: &User, groups: &[u32]) -> Result<(), PrivilegeError> {
    // SAFETY: it takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }).map_err(refused("keep capabilities"))?;
    set_groups(groups)?;
    // SAFETY: they take numbers.
    check(unsafe { libc::setresgid(user.gid, user.gid, user.gid) }).map_err(refused("change the group"))?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(user.uid, user.uid, user.uid) }).map_err(refused("change the user"))?;
    // Changing the user has hidden what the process may read of itself in /proc.
    // SAFETY: as above.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }).map_err(refused("stay readable"))
}

fn set_groups(groups: &[u32]) -> Result<(), PrivilegeError> {
    // SAFETY: the length is that of the list.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map_err(refused("leave other groups"))
}

fn lift_memory_lock() {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // It may not be allowed: what needs more memory says so then.
    // SAFETY: the structure is valid for the call.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(User::find("root").expect("it can be told"), Some(User { uid: 0, gid: 0 }));
        assert_eq!(User::find("4711").expect("it can be told"), Some(User { uid: 4711, gid: 4711 }));
        for none in ["there is no such user", "", "a\0b"] {
            assert_eq!(User::find(none).expect("it can be told"), None);
        }
    }

    #[test]
    fn where_there_are_threads_nothing_is_given_up() {
        // Tests have one at least beside the first.
        let before = caps::read(None, CapSet::Permitted).expect("they can be read");
        let error = give_up(&Keep::default()).expect_err("there are threads");
        assert!(matches!(error, PrivilegeError::Threads(2..)), "{error}");
        assert_eq!(caps::read(None, CapSet::Permitted).expect("they can be read"), before);
    }
}
