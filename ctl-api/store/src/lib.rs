//! The last programmed state, kept over restarts: an embedded store that
//! survives `kill -9` at any moment, and tells when it has been damaged.
//!
//! A blocking library without clients or sockets. It knows six kinds of
//! records ([`Record`]) and nothing of what their values mean.
//!
//! - [`Store`]: open, write, replace everything, load, set aside
//! - [`Changes`]: what is written together; [`Record`]: what is handed out
//! - `record`, `changes`, `block`, `varint`: how it is written
//! - `merge`: the log and the blocks read as one
//! - `database`: the tables and what is done with them, on SQLite
//! - `position`: how far the store has come; `place`: directory and lock
//! - `shared`, `background`: what threads have in common, and the threads
//! - `format`: versions, and the steps from one to the next
//!
//! ```
//! # let path = std::env::temp_dir().join(format!("tieline-store-doc-{}", std::process::id()));
//! use tieline_store::{Changes, Opened, Options, Record, Store};
//!
//! let (store, opened) = Store::open(&path, Options::default())?;
//! assert_eq!(opened, Opened::Fresh);
//! let mut changes = Changes::new();
//! changes.put_label("red", 1001);
//! store.write(&mut changes)?;
//! drop(store);
//!
//! let (store, opened) = Store::open(&path, Options::default())?;
//! assert_eq!(opened, Opened::Restored { complete: true, migrated_from: None });
//! store.load(&mut |record| match record {
//!     Record::Label { vrf: "red", label: 1001 } => Ok(()),
//!     other => Err(format!("{other:?} is unexpected")),
//! })?;
//! # drop(store);
//! # let _ = std::fs::remove_dir_all(&path);
//! # let _ = std::fs::remove_file(path.with_extension("lock"));
//! # Ok::<(), tieline_store::StoreError>(())
//! ```
//!
//! # How it is kept
//!
//! Each [`Changes`] becomes one row of a log, however many records it has: the
//! database sees one insert where a row for each record would be a thousand.
//! When the log has grown to [`Options::log_bytes`], a thread of the store
//! merges it with the sorted blocks of records into new blocks beside the old
//! ones, a few at a time, and one small transaction makes these the state.
//! What is stored is always the blocks and the log above them.
//!
//! A route takes about 6 bytes in a block and 11 in the log. On disk there are
//! at most two generations of blocks, twice the log, 8 MiB of spare pages, and
//! a journal that is cut when it has grown beyond 16 MiB.
//! What is deleted goes with the next merge; pages that stay free beyond the
//! size of one generation are given back to the file system.
//!
//! A write of one change takes about 10 us. About every 8 MiB of journal one
//! write waits for a flush of the disk, or for the journal to be copied.
//!
//! # What survives
//!
//! | what happens | what is lost |
//! |---|---|
//! | the process ends, by `kill -9` too | nothing that [`write`](Store::write) has returned for |
//! | power is lost, the kernel stops | what was written within the last [`Options::sync_interval`] and a flush |
//! | either, within a write | that write may be there or not, never a part of it |
//! | the disk is full | that write; the error says so, [`Health::lost`] keeps it, and later writes work |
//! | somebody removes the files while it is open | everything; each write from then on says so |
//!
//! Writes are lost from the end only: what is restored was the state at one
//! moment. The exception is a write that failed while later ones succeeded:
//! [`Opened::Restored`] says so.
//!
//! # What is detected
//!
//! Every row has a checksum (CRC-32) over its number and content, rows are
//! numbered without holes, and a file beside the database says which change it
//! must have reached. A store in which something is changed, missing, in the
//! wrong place or cut off is therefore refused: by [`Store::open`], which sets
//! it aside, or by [`Store::load`], which names what is wrong. Not detected
//! are: damage that happens to keep a CRC-32 (one in four billion), a whole
//! store that is put back to an older copy of itself, and the loss of changes
//! at the end when the position file is damaged together with the journal.
//!
//! # Versions
//!
//! The database has the number of the format of its records. An older one is
//! brought up to date when it is opened, in one transaction; a newer one is
//! set aside, whole.

mod background;
mod block;
mod changes;
mod database;
mod error;
mod format;
mod merge;
mod options;
mod place;
mod position;
mod record;
mod shared;
mod store;
#[cfg(test)]
mod testing;
mod varint;

pub use changes::Changes;
pub use error::StoreError;
pub use options::Options;
pub use record::Record;
pub use store::{Health, Monitor, Opened, Store};
