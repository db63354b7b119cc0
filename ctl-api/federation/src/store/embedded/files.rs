//! The files of a store: private, and replaced as a whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use tieline_private::Repaired;

use crate::store::StoreError;

/// Opens the file of a store in a directory that others cannot write, and tells what
/// had to be repaired for that.
pub(super) fn open(path: &Path) -> Result<(File, Vec<Repaired>), StoreError> {
    let directory = tieline_private::make_directory(directory_of(path)).map_err(StoreError::exposed)?;
    let (file, repaired) = tieline_private::open(path).map_err(StoreError::exposed)?;
    Ok((file, directory.into_iter().chain(repaired).collect()))
}

/// Where the key is that seals what is secret.
pub(super) fn key_of(path: &Path) -> PathBuf {
    with_ending(path, ".key")
}

/// An empty file that will take the place of another one.
pub(super) fn replacement(path: &Path) -> Result<(File, PathBuf), StoreError> {
    let path = with_ending(path, ".new");
    let (file, _) = tieline_private::open(&path).map_err(StoreError::exposed)?;
    // What an earlier try has left.
    file.set_len(0).map_err(|error| unavailable(&path, &error))?;
    Ok((file, path))
}

/// Puts one file in the place of another, for good.
pub(super) fn replace(new: &Path, old: &Path) -> Result<(), StoreError> {
    std::fs::rename(new, old)
        .and_then(|()| File::open(directory_of(old))?.sync_all())
        .map_err(|error| unavailable(old, &error))
}

pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

pub(super) fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable { reason: format!("{}: {error}", path.display()) }
}
