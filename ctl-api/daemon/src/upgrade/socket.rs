//! Where the two daemons meet: a socket beside the control socket, for the
//! owner alone.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::socket::{Permissions, with_suffix};

/// Who may connect: the owner.
pub const PERMISSIONS: Permissions = Permissions { mode: 0o600, group: None, directory_mode: 0o755 };

/// The socket's path: `NAME.upgrade` beside the control socket `NAME`.
pub fn path(control: &Path) -> PathBuf {
    with_suffix(control, ".upgrade")
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::other_process::Process;
    use crate::socket::put_in_place;

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
