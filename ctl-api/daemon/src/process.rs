//! What the daemon may do as a process: whatever it does not need is given up
//! before its first thread (see [`tieline_process`]).

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, ensure};
use tieline_process::privileges::{self, PrivilegeError, User};
use tieline_process::system_calls::{self, WorkerFilter};

use crate::config::Config;

/// The user that a daemon becomes, if root starts it and nothing else is
/// configured; where there is none, it stays root.
pub const DEFAULT_USER: &str = "tieline";

/// Gives up privileges. Returns the filter that workers put on.
///
/// # Errors
/// When the system refuses, or the user could not work as configured.
pub fn settle(config: &Config) -> anyhow::Result<WorkerFilter> {
    let keep = &config.keep;
    if let Some(user) = keep.user.as_ref().filter(|user| **user != User::own()) {
        give_directories(config, user)?;
    }
    let left = match privileges::give_up(keep) {
        Ok(left) => left,
        // Whoever runs it under a debugger or a profiler knows.
        Err(error @ PrivilegeError::Threads(_)) => return Err(error).context("privileges are not given up"),
        Err(error) => {
            return Err(error)
                .context("privileges are not given up: check process.user, or set it to the user that starts the daemon");
        }
    };
    check_store(config)?;
    system_calls::refuse_what_is_never_done()?;
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    let capabilities = if left.is_empty() { "none".to_owned() } else { left.join(" ") };
    tracing::info!(uid = User::own().uid, capabilities, "privileges that are not needed are given up");
    Ok(WorkerFilter::new()?)
}

/// Ends the process at once. Destructors of libraries would run beside threads that
/// still use what they free, and close devices that another daemon has by now.
pub fn leave(status: i32) -> ! {
    // SAFETY: it takes a number, and nothing of this process goes on.
    unsafe { libc::_exit(status) }
}

/// Makes the directories that are not there, for the user that will need them.
fn give_directories(config: &Config, user: &User) -> anyhow::Result<()> {
    let store = config.store();
    let store = store.as_ref().and_then(|store| store.path.parent()).map(|directory| (directory, 0o755));
    let socket =
        config.api.socket.parent().map(|directory| (directory, config.api.permissions.directory_mode));
    for (directory, mode) in [store, socket].into_iter().flatten() {
        if directory.as_os_str().is_empty() || directory.exists() {
            continue;
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(directory)
            .and_then(|()| chown(directory, Some(user.uid), Some(user.gid)))
            .with_context(|| format!("{} cannot be made for user {}", directory.display(), user.uid))?;
    }
    Ok(())
}

/// A store that belongs to whoever the daemon was before would be as good as
/// none.
fn check_store(config: &Config) -> anyhow::Result<()> {
    let Some(store) = config.store() else { return Ok(()) };
    let parent = store.path.parent().filter(|parent| !parent.as_os_str().is_empty());
    for place in [Some(store.path.as_path()), parent].into_iter().flatten() {
        ensure!(
            !place.is_dir() || may_write(place),
            "user {} may not write to {}, where the last state is kept: make a directory of that user's for it alone and \
             move the store there (store.path), or set process.user to the owner",
            User::own().uid,
            place.display()
        );
    }
    Ok(())
}

/// On a file system that is read-only, nobody may, and the store is read all the
/// same.
fn may_write(place: &Path) -> bool {
    use rustix::fs::{Access, access};
    !matches!(access(place, Access::WRITE_OK | Access::EXEC_OK), Err(rustix::io::Errno::ACCESS))
}
