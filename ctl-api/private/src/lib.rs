//! Files and directories that nobody else may read or write: keys, passwords, stores.
//!
//! Whoever can read a private key can take its owner's place, and whoever can write
//! a store says what gateways do. So a program looks before it believes such a file:
//!
//! - [`read`], [`check`]: a secret that somebody else has made and looks after. One
//!   that is exposed is refused, and the refusal says what to do.
//! - [`make_directory`], [`open`]: what a program keeps for itself. It is made private;
//!   what is its own and was exposed is repaired, and the caller is told.
//!
//! Root may own a file in place of the user that runs the program, and may let a
//! group read it, as distributions do with keys of services.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Largest secret in bytes: a chain of certificates with its key fits many times.
const MAX_SECRET: u64 = 1 << 20;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const READABLE_BY_OTHERS: u32 = 0o004;
const READABLE_BY_GROUP: u32 = 0o040;
const STICKY: u32 = 0o1000;

/// Why a file or directory is not taken for private.
#[derive(Debug, Error)]
pub enum Exposed {
    /// It cannot be looked at.
    #[error("{} cannot be used: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is no {wanted}", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Somebody else owns it, who may do with it what he likes.
    #[error("{} belongs to user {owner}: give it to the user that runs this program (chown), or to root", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others can get at it.
    #[error("{} can be {by} (mode {mode:04o}): run chmod {remedy} {}", path.display(), path.display())]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What others can do.
        by: &'static str,
        /// What makes it right.
        remedy: &'static str,
    },
    /// Everybody puts files there.
    #[error("{} is a directory in which everybody may make files (mode {mode:04o}): use one of its own", path.display())]
    Shared {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No secret is that long.
    #[error("{} is larger than {} KiB", path.display(), MAX_SECRET >> 10)]
    Large {
        /// Which.
        path: PathBuf,
    },
}

/// Something that was exposed, and is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What it was.
    pub path: PathBuf,
    /// The mode that it had.
    pub mode: u32,
    /// Others could write it: what is in it may not be what was put there.
    pub was_writable: bool,
}

impl std::fmt::Display for Repaired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        let could = if self.was_writable { "written" } else { "read" };
        write!(f, "{path} could be {could} by others (mode {mode:04o}): it is private now; ")?;
        f.write_str(match self.was_writable {
            true => "look whether what is in it is yours",
            false => "change the passwords that were in it",
        })
    }
}

/// Reads a secret.
///
/// # Errors
/// It cannot be read, or others can get at it.
pub fn read(path: &Path) -> Result<Vec<u8>, Exposed> {
    let file = open_secret(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(Exposed::Large { path: path.into() });
    }
    Ok(bytes)
}

/// Looks whether a secret is one, without reading it.
///
/// # Errors
/// It cannot be read, or others can get at it.
pub fn check(path: &Path) -> Result<(), Exposed> {
    open_secret(path).map(drop)
}

fn open_secret(path: &Path) -> Result<File, Exposed> {
    // Without waiting: a pipe may have nobody at its other end.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(io_error(path))?;
    let found = file.metadata().map_err(io_error(path))?;
    if !found.is_file() {
        return Err(Exposed::Kind { path: path.into(), wanted: "file" });
    }
    let mode = own(path, &found)?;
    let exposed = |by, remedy| Err(Exposed::Mode { path: path.into(), mode, by, remedy });
    if mode & WRITABLE_BY_OTHERS != 0 {
        return exposed("written by others than its owner", "0600");
    }
    if mode & READABLE_BY_OTHERS != 0 {
        return exposed("read by everybody", "0600");
    }
    if mode & READABLE_BY_GROUP != 0 && found.uid() != 0 {
        return exposed("read by its group", "0600");
    }
    // Who can write the directory can put another file there.
    let real = std::fs::canonicalize(path).map_err(io_error(path))?;
    let directory = real.parent().unwrap_or(Path::new("/"));
    let found = std::fs::metadata(directory).map_err(io_error(directory))?;
    let mode = own(directory, &found)?;
    if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
        let by = "written by others, who can put another file there";
        return Err(Exposed::Mode { path: directory.into(), mode, by, remedy: "go-w" });
    }
    Ok(file)
}

/// The mode of what we or root own.
fn own(path: &Path, found: &Metadata) -> Result<u32, Exposed> {
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Exposed::Owner { path: path.into(), owner });
    }
    Ok(found.mode() & 0o7777)
}

/// Makes a directory that only we can use, or looks whether others can write the one
/// that is there. If it is ours it is repaired.
///
/// # Errors
/// It cannot be made, is not ours, or is one for everybody.
pub fn make_directory(path: &Path) -> Result<Option<Repaired>, Exposed> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above).map_err(io_error(above))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(path)(error)),
    }
    let found = std::fs::metadata(path).map_err(io_error(path))?;
    if !found.is_dir() {
        return Err(Exposed::Kind { path: path.into(), wanted: "directory" });
    }
    let mode = own(path, &found)?;
    if mode & WRITABLE_BY_OTHERS == 0 {
        return Ok(None);
    }
    // One like /tmp is the system's; its mode is no mistake.
    if mode & STICKY != 0 {
        return Err(Exposed::Shared { path: path.into(), mode });
    }
    repair(path, mode, mode & !WRITABLE_BY_OTHERS)
}

/// Opens a file of ours to read and write, or makes it. One that others can get at is
/// repaired. It is no link to a file elsewhere.
///
/// # Errors
/// It cannot be opened, or is not ours.
pub fn open(path: &Path) -> Result<(File, Option<Repaired>), Exposed> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(io_error(path))?;
    let found = file.metadata().map_err(io_error(path))?;
    if !found.is_file() {
        return Err(Exposed::Kind { path: path.into(), wanted: "file" });
    }
    let mode = own(path, &found)?;
    let repaired = match mode & 0o077 {
        0 => None,
        _ => repair(path, mode, 0o600)?,
    };
    Ok((file, repaired))
}

fn repair(path: &Path, mode: u32, to: u32) -> Result<Option<Repaired>, Exposed> {
    std::fs::set_permissions(path, Permissions::from_mode(to)).map_err(io_error(path))?;
    Ok(Some(Repaired { path: path.into(), mode, was_writable: mode & WRITABLE_BY_OTHERS != 0 }))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> Exposed {
    move |error| Exposed::Io { path: path.into(), error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("tieline-private-{}-{number}", std::process::id()));
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, "secret").unwrap();
            set(&path, mode);
            path
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_secret_that_others_can_get_at_is_refused_by_name() {
        let place = Place::new();
        for good in [0o600, 0o400] {
            let path = place.write("good", good);
            assert_eq!(read(&path).unwrap(), b"secret");
            std::fs::remove_file(path).unwrap();
        }
        for bad in [0o604, 0o602, 0o620, 0o644, 0o666, 0o777] {
            let path = place.write("bad", bad);
            for refusal in [read(&path).unwrap_err(), check(&path).unwrap_err()] {
                let text = refusal.to_string();
                assert!(text.contains("bad") && text.contains("chmod 0600"), "{bad:o}: {text}");
                assert!(text.contains(&format!("{bad:04o}")), "{text}");
            }
        }
    }

    #[test]
    fn what_is_behind_a_link_counts_and_so_does_its_directory() {
        let place = Place::new();
        let bad = place.write("bad", 0o644);
        let link = place.0.join("link");
        symlink(&bad, &link).unwrap();
        assert!(matches!(check(&link), Err(Exposed::Mode { mode: 0o644, .. })));
        set(&bad, 0o600);
        check(&link).unwrap();
        set(&place.0, 0o777);
        let refusal = check(&link).unwrap_err().to_string();
        assert!(refusal.contains("chmod go-w"), "{refusal}");
        set(&place.0, 0o1777);
        check(&link).unwrap();
    }

    #[test]
    fn directories_pipes_and_large_files_are_no_secrets() {
        let place = Place::new();
        assert!(matches!(check(&place.0), Err(Exposed::Kind { .. })));
        let large = place.write("large", 0o600);
        File::options().write(true).open(&large).unwrap().set_len(MAX_SECRET + 1).unwrap();
        assert!(matches!(read(&large), Err(Exposed::Large { .. })));
        assert!(matches!(read(&place.0.join("absent")), Err(Exposed::Io { .. })));
    }

    #[test]
    fn a_directory_is_made_private_and_one_of_ours_repaired() {
        let place = Place::new();
        let made = place.0.join("a/b");
        assert_eq!(make_directory(&made).unwrap(), None);
        assert_eq!(mode(&made), 0o700);
        assert_eq!(make_directory(&made).unwrap(), None);
        for (before, after) in [(0o777, 0o755), (0o770, 0o750)] {
            set(&made, before);
            let repaired = make_directory(&made).unwrap().expect("others could write it");
            assert!(repaired.was_writable && repaired.to_string().contains("written"), "{repaired}");
            assert_eq!(mode(&made), after);
        }
        set(&made, 0o755);
        assert_eq!(make_directory(&made).unwrap(), None, "others may see it");
        set(&made, 0o1777);
        assert!(matches!(make_directory(&made), Err(Exposed::Shared { .. })));
        let file = place.write("file", 0o600);
        assert!(matches!(make_directory(&file), Err(Exposed::Kind { .. })));
    }

    #[test]
    fn a_file_is_made_private_and_one_of_ours_repaired() {
        let place = Place::new();
        let path = place.0.join("store");
        let (_, repaired) = open(&path).unwrap();
        assert_eq!((repaired, mode(&path)), (None, 0o600));
        for (before, written) in [(0o644, false), (0o640, false), (0o666, true)] {
            set(&path, before);
            let (_, repaired) = open(&path).unwrap();
            let repaired = repaired.expect("others could get at it");
            assert_eq!((repaired.mode, repaired.was_writable), (before, written));
            assert_eq!(mode(&path), 0o600);
        }
        let link = place.0.join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(open(&link), Err(Exposed::Io { .. })), "it leads elsewhere");
    }

    #[test]
    fn what_belongs_to_others_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give a file away.
            return;
        }
        let place = Place::new();
        let path = place.write("foreign", 0o600);
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        for refusal in [check(&path).unwrap_err(), open(&path).unwrap_err()] {
            assert!(matches!(refusal, Exposed::Owner { owner: 65_534, .. }), "{refusal}");
        }
        let directory = place.0.join("directory");
        make_directory(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(65_534), None).unwrap();
        assert!(matches!(make_directory(&directory), Err(Exposed::Owner { .. })));
    }
}
