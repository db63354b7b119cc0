//! Where the two daemons meet: a socket beside the control socket, for the
//! owner alone.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::socket::{Permissions, bind_closed};
use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Who may connect: the owner.
pub const PERMISSIONS: Permissions = Permissions { mode: 0o600, group: None, directory_mode: 0o755 };

/// The socket's path: `NAME.upgrade` beside the control socket `NAME`.
pub fn path(control: &Path) -> PathBuf {
    with_suffix(control, ".upgrade")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Binds a socket under another name and moves it to `path`: clients find
/// either the old one there or the new one.
///
/// # Errors
/// When the system refuses.
pub fn put_in_place(path: &Path, permissions: Permissions) -> io::Result<UnixListener> {
    let beside = with_suffix(path, ".new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = bind_closed(&beside)?;
    let moved = std::os::unix::fs::chown(&beside, None, permissions.group)
        .and_then(|()| std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(permissions.mode)))
        .and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = moved {
        // It is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    Ok(listener)
}

/// The daemon that runs, if one listens at `path`.
///
/// # Errors
/// When somebody is there who cannot be spoken to.
pub fn meet(path: &Path) -> anyhow::Result<Option<UnixStream>> {
    match UnixStream::connect(path) {
        Ok(stream) => {
            check_peer(&stream)?;
            Ok(Some(stream))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("the daemon at {} cannot be asked", path.display())),
    }
}

/// Whether the other end is a process of the same user.
///
/// # Errors
/// When it is not.
pub fn check_peer(stream: &UnixStream) -> anyhow::Result<()> {
    let theirs = rustix::net::sockopt::socket_peercred(stream)?.uid;
    let ours = rustix::process::geteuid();
    ensure!(
        theirs == ours,
        "the daemon at the other end runs as user {}, this one as user {}: they must be the same",
        theirs.as_raw(),
        ours.as_raw()
    );
    Ok(())
}

/// The process at the other end.
#[derive(Debug, Clone)]
pub struct Process(Option<Arc<OwnedFd>>);

impl Process {
    /// The process that a descriptor stands for (see pidfd_open(2)).
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(Some(Arc::new(descriptor)))
    }

    /// A descriptor that stands for this process.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn own_descriptor() -> io::Result<OwnedFd> {
        let (own, flags) = (rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        Ok(rustix::process::pidfd_open(own, flags)?)
    }

    /// Whoever had the listening socket first that the other end came by. It is
    /// told apart from a later process with its number.
    pub fn of(stream: &UnixStream) -> Self {
        let held = rustix::net::sockopt::socket_peercred(stream)
            .and_then(|peer| rustix::process::pidfd_open(peer.pid, rustix::process::PidfdFlags::empty()));
        Self(held.ok().map(Arc::new))
    }

    /// Whether it is known to run.
    pub fn runs(&self) -> bool {
        self.0.is_some() && !self.wait_end(Duration::ZERO)
    }

    /// Waits until it has ended; returns whether it has, as far as can be
    /// known.
    pub fn wait_end(&self, patience: Duration) -> bool {
        let Some(process) = &self.0 else { return false };
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()) {
                Ok(ended) => return ended > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_socket_takes_the_place_of_the_older() {
        let directory = std::env::temp_dir().join(format!("tieline-upgrade-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = path(&directory.join("control.sock"));
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some("control.sock.upgrade"));
        assert!(meet(&path).expect("nobody is no error").is_none());
        let older = put_in_place(&path, PERMISSIONS).expect("a free path");
        let newer = put_in_place(&path, PERMISSIONS).expect("the older one gives way");
        for listener in [&older, &newer] {
            listener.set_nonblocking(true).expect("a socket");
        }
        assert_eq!(
            std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777,
            PERMISSIONS.mode
        );
        let client = meet(&path).expect("the same user").expect("the newer one");
        let (accepted, _) = newer.accept().expect("it came here");
        check_peer(&accepted).expect("the same user");
        let own = Process::from_descriptor(Process::own_descriptor().expect("a descriptor"));
        for this in [Process::of(&accepted), own] {
            assert!(this.runs() && !this.wait_end(Duration::from_millis(1)), "this process runs");
        }
        assert_eq!(older.accept().expect_err("nobody came").kind(), io::ErrorKind::WouldBlock);
        drop((client, newer, older));
        assert!(meet(&path).expect("a dead one is nobody").is_none());
        std::fs::remove_dir_all(&directory).expect("it is ours");
    }
}
