//! A file that cannot be right: found when it is opened, and set aside.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};

use super::files;
use crate::store::StoreError;

/// What every redb database begins with.
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// How names of databases usually end.
const EXTENSION: &str = "redb";

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Reads a database. redb trusts what it reads, and panics where that cannot be right.
///
/// # Errors
/// What it said then.
pub(super) fn sound<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            // What is caught below is told as an error, and needs no trace.
            if !READING.get() {
                before(panic);
            }
        }));
    });
    let was = READING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    READING.set(was);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("it cannot be read: {}", text.as_deref().unwrap_or("no reason given"))
    })
}

/// Whether a failed read is of what is in the file, not of the disk below.
pub(super) fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Whether a damaged file was a store: another one, named by mistake, is left alone.
pub(super) fn was_a_store(path: &Path) -> bool {
    let begins = || {
        let mut start = [0; MAGIC.len()];
        io::Read::read_exact(&mut std::fs::File::open(path)?, &mut start)?;
        Ok::<_, io::Error>(start == MAGIC)
    };
    path.extension().is_some_and(|extension| extension == EXTENSION) || begins().unwrap_or(false)
}

/// Gives a damaged file another name, and returns it.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let names = (now..).map(|number| files::with_ending(path, &format!("{SET_ASIDE}{number}")));
    let aside = names.into_iter().find(|name| !name.exists()).unwrap_or_default();
    files::replace(path, &aside)?;
    Ok(aside)
}

const SET_ASIDE: &str = ".damaged-";

/// Files that were set aside and are still there.
pub(super) fn set_aside_before(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let beginning = format!("{name}{SET_ASIDE}");
    let Ok(entries) = std::fs::read_dir(files::directory_of(path)) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_one = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&beginning))
    };
    let mut found: Vec<PathBuf> = paths.filter(is_one).collect();
    found.sort();
    found
}
