//! Where a store lives: its directory, its lock, and stores set aside.
//!
//! ```text
//! state/            the store
//!   state.db        the database; -wal and -shm belong to it
//!   position        how far it has come
//! state.lock        who has it
//! state.bad-1/ ..   stores that were set aside, at most three
//! ```
//!
//! The directory above must be writable too, and is best used for nothing
//! else.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// The database in the directory.
pub(crate) const DATABASE: &str = "state.db";
/// Its journal.
pub(crate) const JOURNAL: &str = "state.db-wal";
/// How far it has come.
pub(crate) const POSITION: &str = "position";
/// What the name of the lock ends in.
const LOCK: &str = ".lock";
/// Why it was set aside.
const REASON: &str = "reason";
/// The files of a store.
const FILES: [&str; 5] = [DATABASE, JOURNAL, "state.db-shm", POSITION, REASON];

/// What is declared may be nobody else's business.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How long another may take to let go. A process that this one has just
/// started holds its locks too, until it runs its own program.
const PATIENCE: Duration = Duration::from_millis(500);

/// Stores set aside that are kept.
const KEPT: usize = 3;

/// The directory of a store, locked for this process.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Locked as long as it is open.
    lock: File,
}

/// Which files a store consists of: device and inode of the lock, the database
/// and its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Files([(u64, u64); 3]);

impl Place {
    /// Makes the directory if it is missing, and locks it.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let not_a_store = |found: &str| StoreError::NotAStore { path: path.into(), found: found.into() };
        if path.file_name().is_none() {
            return Err(not_a_store("the path has no name of its own"));
        }
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_dir() => return Err(not_a_store("it is not a directory")),
            Ok(_) => check_files(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io(path, "looked at")(error)),
        }
        make_directory(parent(path))?;
        let lock = lock(path)?;
        make_directory(path)?;
        Ok(Self { path: path.into(), lock })
    }

    /// The files that have the store's names now. `None` if one is missing, or
    /// if the lock is not the one that this process holds.
    pub(crate) fn files(&self) -> Option<Files> {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let named = |path: PathBuf| std::fs::metadata(path).ok().map(identity);
        let lock = named(beside(&self.path, LOCK))?;
        let held = self.lock.metadata().ok().map(identity)?;
        let files = Files([lock, named(self.file(DATABASE))?, named(self.file(JOURNAL))?]);
        (lock == held).then_some(files)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Brings the names of the directory and of its files to disk: each comes
    /// there with the directory that has it.
    pub(crate) fn sync_names(&self) -> Result<(), StoreError> {
        for directory in [&self.path, parent(&self.path)] {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(StoreError::io(directory, "brought to disk"))?;
        }
        Ok(())
    }

    /// Moves what is there to the next free name, removes the oldest of those
    /// moved before when there are too many, and makes an empty directory.
    pub(crate) fn set_aside(&self, reason: &str) -> Result<PathBuf, StoreError> {
        let refused = StoreError::io(&self.path, "set aside");
        let mut kept = numbers_set_aside(&self.path).map_err(refused)?;
        let number = kept.last().map_or(1, |last| last.saturating_add(1));
        let target = named_aside(&self.path, number);
        // Written first, so that it moves with it. Without space it is left out.
        let _ = std::fs::write(self.file(REASON), format!("{reason}\n"));
        std::fs::rename(&self.path, &target).map_err(StoreError::io(&self.path, "set aside"))?;
        kept.push(number);
        for old in &kept[..kept.len().saturating_sub(KEPT)] {
            let old = named_aside(&self.path, *old);
            std::fs::remove_dir_all(&old)
                .map_err(StoreError::io(&old, "removed, as the oldest set aside"))?;
        }
        make_directory(&self.path)?;
        Ok(target)
    }
}

/// Refuses a directory that holds what no store holds, lest it is moved away
/// one day.
fn check_files(path: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(path).map_err(StoreError::io(path, "read"))? {
        let name = entry.map_err(StoreError::io(path, "read"))?.file_name();
        if !FILES.iter().any(|file| name == *file) {
            let found = format!("it holds {}", name.display());
            return Err(StoreError::NotAStore { path: path.into(), found });
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE);
    builder.create(path).map_err(StoreError::io(path, "given its directory"))
}

/// The directory that has this one.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `NAME` with something behind it, beside it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let name = beside(path, LOCK);
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&name);
    let mut file = file.map_err(StoreError::io(&name, "opened to lock the store"))?;
    let begun = Instant::now();
    let locked = loop {
        let locked = file.try_lock();
        if !matches!(locked, Err(std::fs::TryLockError::WouldBlock)) || begun.elapsed() > PATIENCE {
            break locked;
        }
        std::thread::sleep(PATIENCE / 50);
    };
    match locked {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let by = std::fs::read_to_string(&name).ok().and_then(|text| text.trim().parse().ok());
            return Err(StoreError::InUse { path: path.into(), by });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(StoreError::io(&name, "locked")(error)),
    }
    // Only for the words of another's error: on a full disk it stays empty.
    let _ = file.set_len(0);
    let _ = write!(file, "{}", std::process::id());
    Ok(file)
}

fn named_aside(path: &Path, number: u64) -> PathBuf {
    beside(path, &format!(".bad-{number}"))
}

/// The numbers of the stores set aside, in order.
fn numbers_set_aside(path: &Path) -> io::Result<Vec<u64>> {
    let prefix = beside(path, ".bad-");
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(parent(path))? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix)).and_then(|n| n.parse().ok());
        numbers.extend(number.filter(|number: &u64| named_aside(path, *number).file_name() == Some(&name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn three_are_kept_and_the_oldest_goes() {
        let at = testing::Place::new("aside");
        let place = Place::take(&at.path("deeper/state")).expect("free");
        for round in 1..=5_u64 {
            std::fs::write(place.file(DATABASE), round.to_string()).expect("a file");
            let kept = place.set_aside("it smells").expect("it can be moved");
            assert_eq!(kept, at.path(&format!("deeper/state.bad-{round}")));
            assert_eq!(std::fs::read_to_string(kept.join(REASON)).expect("it is told"), "it smells\n");
            assert!(place.path().is_dir() && !place.file(DATABASE).exists());
        }
        assert_eq!(numbers_set_aside(place.path()).expect("readable"), [3, 4, 5]);
        let newest = at.path("deeper/state.bad-5");
        assert_eq!(std::fs::read_to_string(newest.join(DATABASE)).expect("kept"), "5");
    }

    #[test]
    fn what_is_no_store_is_left_alone() {
        let at = testing::Place::new("foreign");
        std::fs::write(at.path("file"), "precious").expect("a file");
        for path in [at.path("file"), at.path("")] {
            let error = Place::take(&path).expect_err("it holds something else");
            assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
            assert!(error.to_string().contains("left alone"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(at.path("file")).expect("still there"), "precious");
    }

    #[test]
    fn one_process_has_it_and_is_named() {
        let at = testing::Place::new("lock");
        let first = Place::take(&at.path("state")).expect("free");
        let error = Place::take(&at.path("state")).expect_err("taken");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Place::take(&at.path("state")).expect("free again");
    }
}
