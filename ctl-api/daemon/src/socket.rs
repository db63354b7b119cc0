//! The Unix socket of the control API: one daemon a path.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// Clients that wait to be let in.
const BACKLOG: i32 = 1024;

/// Who may use a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// Of the socket: who may write to it may connect.
    pub mode: u32,
    /// Group of the socket; `None`: the daemon's.
    pub group: Option<u32>,
    /// Of the socket's directory, if it is not there yet.
    pub directory_mode: u32,
}

impl Default for Permissions {
    /// The owner and the group may connect.
    fn default() -> Self {
        Self { mode: 0o660, group: None, directory_mode: 0o755 }
    }
}

/// Why the socket is not ours.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error(
        "another daemon serves {}: stop it, or give this one a socket of its own with --socket", .0.display()
    )]
    InUse(PathBuf),
    /// There is something else.
    #[error("{} exists and is not a socket: remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("the socket {} could not be {step}: {source}", .path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// What was to be done.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A bound socket. Its file is removed with it, unless somebody has put
/// another in its place, or the socket was handed on.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of the file.
    file: (u64, u64),
    /// Another process has it too.
    handed_on: bool,
}

/// Where the path of a socket leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To this socket.
    Here,
    /// To another one, which somebody serves.
    Elsewhere,
    /// To nobody.
    Nowhere,
}

impl ControlSocket {
    /// Binds `path`. Makes its directory, and takes the place of a socket
    /// that a dead daemon has left behind.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn bind(path: &Path, permissions: Permissions) -> Result<Self, SocketError> {
        let refused = |step| move |source| SocketError::Refused { path: path.into(), step, source };
        make_directory(path, permissions).map_err(refused("given its directory"))?;
        remove_stale(path)?;
        let listener = bind_closed(path).map_err(refused("bound"))?;
        let prepare = || {
            std::os::unix::fs::chown(path, None, permissions.group)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions.mode))?;
            listener.set_nonblocking(true)?;
            identify(path)
        };
        let file = prepare().map_err(refused("prepared"))?;
        Ok(Self { path: path.into(), listener, file, handed_on: false })
    }

    /// Binds `path` with these permissions in the place of the daemon that
    /// serves it now, which keeps the clients that it has.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn replace(path: &Path, permissions: Permissions) -> Result<Self, SocketError> {
        let refused = |step| move |source| SocketError::Refused { path: path.into(), step, source };
        make_directory(path, permissions).map_err(refused("given its directory"))?;
        let listener = put_in_place(path, permissions).map_err(refused("taken over"))?;
        let prepare = || {
            listener.set_nonblocking(true)?;
            identify(path)
        };
        let file = prepare().map_err(refused("prepared"))?;
        Ok(Self { path: path.into(), listener, file, handed_on: false })
    }

    /// Takes the socket of another daemon, bound to `path`, with these
    /// permissions from now on. `None` if the path does not lead to it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn adopt(
        path: &Path,
        permissions: Permissions,
        listener: UnixListener,
        file: (u64, u64),
    ) -> Result<Option<Self>, SocketError> {
        let refused = |step| move |source| SocketError::Refused { path: path.into(), step, source };
        if !identify(path).is_ok_and(|found| found == file) {
            return Ok(None);
        }
        listener.set_nonblocking(true).map_err(refused("prepared"))?;
        std::os::unix::fs::chown(path, None, permissions.group)
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions.mode)))
            .map_err(refused("given its permissions"))?;
        Ok(Some(Self { path: path.into(), listener, file, handed_on: false }))
    }

    /// Another process serves the socket from now on, or no longer: whether the
    /// file stays when this is dropped.
    pub fn set_handed_on(&mut self, handed_on: bool) {
        self.handed_on = handed_on;
    }

    /// Device and inode of the file.
    pub fn file(&self) -> (u64, u64) {
        self.file
    }

    /// Where the path leads.
    pub fn leads(&self) -> Leads {
        match identify(&self.path) {
            Ok(file) if file == self.file => Leads::Here,
            // What it is cannot be seen: it is not touched either.
            Ok(_) if UnixStream::connect(&self.path).is_ok() => Leads::Elsewhere,
            Ok(_) => Leads::Nowhere,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Leads::Nowhere,
            Err(_) => Leads::Elsewhere,
        }
    }

    /// A further handle of the listening socket; it does not block.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if !self.handed_on && identify(&self.path).is_ok_and(|file| file == self.file) {
            // It may have been removed by hand meanwhile.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the directory of a socket.
fn make_directory(path: &Path, permissions: Permissions) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::DirBuilder::new().recursive(true).mode(permissions.directory_mode).create(directory)
}

/// Binds a socket that nobody may connect to yet: who comes before it has its
/// permissions would be in. The file takes those of the open socket.
pub fn bind_closed(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(std::fs::Permissions::from_mode(0o000))?;
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
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

/// The path beside another whose name ends in more.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn identify(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket that nobody listens at.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let refused = |step| move |source| SocketError::Refused { path: path.into(), step, source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused("looked at")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.into()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused("taken over from a daemon that is gone"))
        }
        // Gone since the look above.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused("asked who serves it")(error)),
        Ok(_) => Err(SocketError::InUse(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one test, removed with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tieline-socket-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn bind(path: &Path) -> Result<ControlSocket, SocketError> {
        ControlSocket::bind(path, Permissions::default())
    }

    #[test]
    fn the_directory_is_made_and_the_file_is_for_owner_and_group() {
        let place = Place::new("made");
        let path = place.0.join("run/deeper/t.sock");
        let socket = bind(&path).expect("a free path");
        assert_eq!(std::fs::metadata(&path).expect("it is there").mode() & 0o7777, 0o660);
        let directory = path.parent().expect("it has one");
        assert_eq!(std::fs::metadata(directory).expect("it is there").mode() & 0o7777, 0o755);
        UnixStream::connect(&socket.path).expect("somebody listens");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn nobody_comes_before_the_permissions() {
        let place = Place::new("closed");
        let path = place.0.join("t.sock");
        let _listener = bind_closed(&path).expect("a free path");
        assert_eq!(std::fs::metadata(&path).expect("it is there").mode() & 0o7777, 0);
    }

    #[test]
    fn permissions_are_as_asked_for() {
        let place = Place::new("asked");
        let path = place.0.join("run/t.sock");
        let group = std::fs::metadata(&place.0).expect("a directory").gid();
        let permissions = Permissions { mode: 0o606, group: Some(group), directory_mode: 0o700 };
        let _socket = ControlSocket::bind(&path, permissions).expect("a free path");
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path).expect("it is there");
            (metadata.mode() & 0o7777, metadata.gid())
        };
        assert_eq!(of(&path), (0o606, group));
        assert_eq!(of(path.parent().expect("a directory")).0, 0o700);
    }

    #[test]
    fn a_live_socket_is_left_alone() {
        let place = Place::new("live");
        let path = place.0.join("t.sock");
        let first = bind(&path).expect("a free path");
        let error = bind(&path).expect_err("it is taken");
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        assert!(error.to_string().contains("another daemon"), "{error}");
        UnixStream::connect(&first.path).expect("it still listens");
    }

    #[test]
    fn a_dead_socket_is_replaced_but_nothing_else_is() {
        let place = Place::new("dead");
        let path = place.0.join("t.sock");
        drop(UnixListener::bind(&path).expect("a free path"));
        assert!(path.exists(), "the standard library leaves the file");
        drop(bind(&path).expect("nobody listens there"));
        std::fs::write(&path, "precious").expect("a file");
        assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "precious");
    }

    #[test]
    fn a_socket_goes_to_another_process_without_its_path_leading_elsewhere() {
        let place = Place::new("handed-on");
        let path = place.0.join("t.sock");
        let mut first = bind(&path).expect("a free path");
        let listener = first.listener().expect("a descriptor");
        let closed = Permissions { mode: 0o600, ..Permissions::default() };
        let other = first.listener().expect("a descriptor");
        assert!(ControlSocket::adopt(&path, closed, other, (0, 0)).expect("nothing is done").is_none());
        let second = ControlSocket::adopt(&path, closed, listener, first.file()).expect("allowed");
        let second = second.expect("it is this one");
        first.set_handed_on(true);
        drop(first);
        assert_eq!(second.leads(), Leads::Here);
        assert_eq!(std::fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        UnixStream::connect(&path).expect("the second listens");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_noticed() {
        let place = Place::new("leads");
        let path = place.0.join("deeper/t.sock");
        let first = bind(&path).expect("a free path");
        assert_eq!(first.leads(), Leads::Here);
        let second = ControlSocket::replace(&path, Permissions::default()).expect("it gives way");
        assert_eq!((first.leads(), second.leads()), (Leads::Elsewhere, Leads::Here));
        let ControlSocket { listener, .. } = &second;
        // As its process's end does, which leaves the file.
        rustix::net::shutdown(listener, rustix::net::Shutdown::Both).expect("a socket");
        assert_eq!(first.leads(), Leads::Nowhere);
        std::fs::remove_dir_all(path.parent().expect("a directory")).expect("it is there");
        assert_eq!(first.leads(), Leads::Nowhere);
        let third = ControlSocket::replace(&path, Permissions::default()).expect("with its directory");
        assert_eq!(third.leads(), Leads::Here);
    }

    #[test]
    fn a_socket_that_another_has_replaced_is_not_removed() {
        let place = Place::new("replaced");
        let path = place.0.join("t.sock");
        let first = bind(&path).expect("a free path");
        std::fs::remove_file(&path).expect("it is there");
        let second = bind(&path).expect("a free path");
        drop(first);
        UnixStream::connect(&second.path).expect("the file of the second is still there");
    }
}
