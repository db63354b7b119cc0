//! Why the store could not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// SQLite's code for a file that ends too early (`SQLITE_IOERR_SHORT_READ`).
const SHORT_READ: i32 = 522;

/// Why the store could not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "the store {} is in use by {}: stop that process, or give this one a store of its own",
        .path.display(), .by.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The store.
        path: PathBuf,
        /// The other process, if it has said who it is.
        by: Option<u32>,
    },
    /// There is something else at its place.
    #[error(
        "{} is not a store and is left alone ({found}): choose an empty directory, or one that does not exist",
        .path.display()
    )]
    NotAStore {
        /// The place.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// No space, or no more of the quota.
    #[error(
        "the file system of the store {} is full: free some space; nothing of this change is stored", .path.display()
    )]
    Full {
        /// The store.
        path: PathBuf,
    },
    /// Somebody has removed or replaced its files under this process.
    #[error(
        "the files of the store {} were removed or replaced while it was in use: what is written goes nowhere until it \
         is opened anew",
        .path.display()
    )]
    Gone {
        /// The store.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("the store {} could not be {step}: {reason}", .path.display())]
    Refused {
        /// The store, or the file of it that matters.
        path: PathBuf,
        /// What was to be done.
        step: &'static str,
        /// Why not.
        reason: String,
    },
    /// What it holds cannot be right.
    #[error("the store {} is damaged: {reason}; it has to be set aside", .path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A newer program has written it.
    #[error(
        "the store {} has format {found}, this program knows formats up to {known}: run the newer program again, or \
         let the store be set aside",
        .path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// One change that is larger than the store takes.
    #[error("a change of {bytes} bytes is too large to be stored at once, at most {limit}: split it")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The largest that is taken, in bytes.
        limit: usize,
    },
}

impl StoreError {
    /// Whether what is stored is to blame, and not the system under it: to
    /// set the store aside helps.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Newer { .. })
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), reason: reason.into() }
    }

    /// For `map_err` on files.
    pub(crate) fn io(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.into() },
            _ => Self::Refused { path: path.into(), step, reason: error.to_string() },
        }
    }

    /// For `map_err` on the database.
    pub(crate) fn database(path: &Path, step: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |error| {
            let refused = |reason| Self::Refused { path: path.into(), step, reason };
            match error {
                rusqlite::Error::SqliteFailure(failure, text) => match failure.code {
                    ErrorCode::DiskFull => Self::Full { path: path.into() },
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => {
                        Self::damaged(path, text.unwrap_or_else(|| failure.to_string()))
                    }
                    // Pages that must be there are beyond the end of the file.
                    _ if failure.extended_code == SHORT_READ => {
                        Self::damaged(path, "a file of it is cut off")
                    }
                    // The extended code tells which system call it was.
                    _ => refused(format!("{failure} (code {})", failure.extended_code)),
                },
                rusqlite::Error::QueryReturnedNoRows
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..) => Self::damaged(path, error.to_string()),
                other => refused(other.to_string()),
            }
        }
    }
}
