//! The store: opening it, and what can be done with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crate::background;
use crate::changes::{self, Changes};
use crate::database::{Checkpointer, Database, Found};
use crate::error::StoreError;
use crate::format::{self, Format};
use crate::merge::{SortedLog, Stopped, merge};
use crate::options::Options;
use crate::place::{self, Place};
use crate::position::PositionFile;
use crate::record::{Record, describe};
use crate::shared::{self, Inner, Shared};

/// What was found when a store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: it is new.
    Fresh,
    /// The state of an earlier process.
    Restored {
        /// `false`: that process could not store some changes (see
        /// [`Health::lost`]) before it stored others, and ended before it had
        /// replaced everything.
        complete: bool,
        /// The format it had, if it was an older one.
        migrated_from: Option<u32>,
    },
    /// Something that cannot be used. It was moved away; the store is new.
    SetAside {
        /// Where it is now.
        kept_at: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
}

/// How a store is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why a process that opens the store now would not find all that was
    /// written. Stays until [`replace_all`](Store::replace_all) has stored
    /// everything; when the files themselves are gone, for good.
    pub lost: Option<String>,
    /// Why merging or copying fails at present; it is tried again every
    /// second. Nothing is lost, but the store grows.
    pub trouble: Option<String>,
    /// The number of the last change that was written.
    pub written: u64,
    /// The number of the last change that is on disk.
    pub synced: u64,
}

impl Health {
    fn of(inner: &Inner) -> Self {
        Self {
            lost: inner.lost.clone(),
            trouble: inner.trouble.clone(),
            written: inner.database.last(),
            synced: inner.position.synced(),
        }
    }
}

/// Tells how a store is doing to somebody who does not have it, and who must
/// not wait for a disk.
#[derive(Debug, Clone)]
pub struct Monitor(Weak<Shared>);

impl Monitor {
    /// How the store is doing. `None` while it is at work, and when it is closed.
    pub fn health(&self) -> Option<Health> {
        let shared = self.0.upgrade()?;
        shared.try_lock().map(|inner| Health::of(&inner))
    }
}

/// The last programmed state, on disk. See the [crate's page](crate) for what
/// it promises.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    format: Format,
    threads: Vec<JoinHandle<()>>,
}

impl Store {
    /// Opens the store in the directory `path`, or makes it. A store that is
    /// damaged, or of a newer format, is moved aside and a new one is made.
    ///
    /// # Errors
    /// When another process has it, when `path` is something else, or when the
    /// system does not let it be opened or made.
    pub fn open(path: &Path, options: Options) -> Result<(Self, Opened), StoreError> {
        Self::open_as(path, options, format::CURRENT)
    }

    pub(crate) fn open_as(
        path: &Path,
        options: Options,
        format: Format,
    ) -> Result<(Self, Opened), StoreError> {
        let place = Place::take(path)?;
        match prepare(&place, &options, &format) {
            Ok((inner, opened)) => Ok((Self::start(place, options, format, inner)?, opened)),
            Err(error) if error.is_damage() => {
                Self::replace_place(place, options, format, &error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// Moves what is there aside and begins anew. For a caller who finds in
    /// the records what cannot be: the store itself has found nothing.
    ///
    /// # Errors
    /// When it cannot be moved, or no new one can be made.
    pub fn set_aside(mut self, reason: &str) -> Result<(Self, Opened), StoreError> {
        background::stop(&self.shared, &mut self.threads);
        let path = self.shared.place.path().to_path_buf();
        let (options, format) = (self.shared.options.clone(), self.format);
        // The lock goes with it.
        drop(self);
        Self::replace_place(Place::take(&path)?, options, format, reason)
    }

    fn replace_place(
        place: Place,
        options: Options,
        format: Format,
        reason: &str,
    ) -> Result<(Self, Opened), StoreError> {
        let kept_at = place.set_aside(reason)?;
        let (inner, _) = prepare(&place, &options, &format)?;
        let opened = Opened::SetAside { kept_at, reason: reason.into() };
        Ok((Self::start(place, options, format, inner)?, opened))
    }

    fn start(place: Place, options: Options, format: Format, inner: Inner) -> Result<Self, StoreError> {
        let path = place.path().to_path_buf();
        let refused = |step| StoreError::io(&path, step);
        let journal = place.file(place::JOURNAL);
        place.sync_names()?;
        let journal = File::open(&journal).map_err(refused("opened"))?;
        let checkpointer = Checkpointer::open(&path, &place.file(place::DATABASE))?;
        let files = place.files().ok_or_else(|| StoreError::Gone { path: path.clone() })?;
        let shared = Arc::new(Shared::new(place, files, options, journal, inner));
        // From here on dropping it ends what was started.
        let mut store = Self { shared, format, threads: Vec::new() };
        store.threads =
            background::start(&store.shared, checkpointer).map_err(refused("given its threads"))?;
        Ok(store)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        let inner = self.shared.lock();
        let head = inner.database.head();
        head.blocks == 0 && head.floor == inner.database.last()
    }

    /// Brings everything to disk and closes the store: another process can open
    /// it when this returns.
    ///
    /// # Errors
    /// When some of what was written is not on disk. It is closed all the same.
    pub fn close(mut self) -> Result<(), StoreError> {
        background::stop(&self.shared, &mut self.threads);
        self.shared.sync()
    }

    /// For looking at it from elsewhere.
    pub fn monitor(&self) -> Monitor {
        Monitor(Arc::downgrade(&self.shared))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.shared.place.path()
    }

    /// The identity of this node: made at random with the store, and the same
    /// for as long as the store is not set aside.
    pub fn node_id(&self) -> [u8; 16] {
        self.shared.lock().database.head().node_id
    }

    /// Writes changes, all or none of them, and empties `changes`. When it
    /// returns they are in the operating system: the end of this process, by
    /// whatever signal, does not lose them. A power loss may, for
    /// [`Options::sync_interval`].
    ///
    /// It may wait for the disk: about every 8 MiB for one flush, and when
    /// merging is far behind for that, up to five seconds.
    ///
    /// # Errors
    /// Nothing of it is stored then, and `changes` is as it was.
    /// [`Health::lost`] says so until [`replace_all`](Self::replace_all) has
    /// succeeded; later writes are stored as soon as they can be.
    pub fn write(&self, changes: &mut Changes) -> Result<(), StoreError> {
        if !changes.is_empty() {
            self.shared.write(changes)?;
            changes.clear();
        }
        Ok(())
    }

    /// Puts what `records` puts in place of everything that is stored, in one
    /// step: after a crash it is the old or the new. Everything is stored
    /// then, whatever was lost before.
    ///
    /// # Errors
    /// The store is as it was.
    pub fn replace_all(&self, records: &mut Changes) -> Result<(), StoreError> {
        self.shared.replace(records, self.format.version)?;
        records.clear();
        Ok(())
    }

    /// Removes every record, in one step.
    ///
    /// # Errors
    /// The store is as it was.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.replace_all(&mut Changes::new())
    }

    /// Waits until all that was written is on disk.
    ///
    /// # Errors
    /// When the disk does not take it; [`Health::lost`] says so too.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.shared.sync()
    }

    /// Hands out every record once, kind by kind: meta, controllers, labels,
    /// declarations, attributes, routes. A reason that `visit` returns ends it.
    ///
    /// Writes of other threads go on meanwhile and may be seen or not; `visit`
    /// itself must not write.
    ///
    /// # Errors
    /// A record that is damaged, or that `visit` has a reason against, is
    /// named; set the store aside then.
    pub fn load(&self, visit: &mut dyn FnMut(Record<'_>) -> Result<(), String>) -> Result<(), StoreError> {
        let damaged = |what: String| StoreError::damaged(self.path(), what);
        self.shared.walk(|key, value| {
            let record = Record::decode(key, value)
                .ok_or_else(|| damaged(format!("{} cannot be read", describe(key, value))))?;
            visit(record).map_err(|reason| damaged(format!("{}: {reason}", describe(key, value))))
        })
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        Health::of(&self.shared.lock())
    }

    /// Bytes that its files take on disk.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        use std::os::unix::fs::MetadataExt as _;
        let sum = || {
            std::fs::read_dir(self.path())?
                .map(|entry| Ok(entry?.metadata()?.blocks() * 512))
                .sum::<std::io::Result<u64>>()
        };
        sum().map_err(StoreError::io(self.path(), "looked at"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        background::stop(&self.shared, &mut self.threads);
        // Nobody is left to tell; the position says what is on disk.
        let _ = self.shared.sync();
    }
}

/// Opens the database, checks that it has come as far as it must have, and
/// brings it to this format.
fn prepare(place: &Place, options: &Options, format: &Format) -> Result<(Inner, Opened), StoreError> {
    let path = place.path();
    let position = place.file(place::POSITION);
    let left = PositionFile::read(&position).map_err(StoreError::io(&position, "read"))?;
    let found = Database::open(path, &place.file(place::DATABASE), format, options)?;
    let Found { mut database, mut log_bytes, fresh, format: version } = found;
    let required = left.map_or(0, |left| left.required());
    if required > database.last() {
        return Err(StoreError::damaged(
            path,
            format!("changes {} to {required} were stored and are gone", database.last() + 1),
        ));
    }
    let mut opened = Opened::Restored { complete: !database.head().gap, migrated_from: None };
    if fresh {
        opened = Opened::Fresh;
    } else if version != format.version {
        migrate(path, &mut database, version, format)?;
        log_bytes = 0;
        opened = Opened::Restored { complete: !database.head().gap, migrated_from: Some(version) };
    }
    // What the process before has written is not on disk because this one starts.
    let synced = left.map_or(0, |left| left.synced);
    let file = PositionFile::create(&position, database.last(), synced);
    let file = file.map_err(StoreError::io(&position, "made"))?;
    Ok((Inner::new(database, file, log_bytes), opened))
}

fn migrate(path: &Path, database: &mut Database, version: u32, format: &Format) -> Result<(), StoreError> {
    let damaged = |reason| StoreError::damaged(path, reason);
    let mut records = all_records(path, database)?;
    for step in format.way_from(version).map_err(damaged)? {
        let mut next = Changes::new();
        let mut rest = records.as_bytes();
        while let Some((key, value)) = changes::take(&mut rest) {
            (step.migrate)(key, value.unwrap_or_default(), &mut next)
                .map_err(|reason| damaged(format!("format {}: {reason}", step.from)))?;
        }
        records = next;
    }
    let gap = database.head().gap;
    shared::replace(database, &records, format.version, gap).map(drop)
}

/// Everything in a database that nobody else uses yet.
fn all_records(path: &Path, database: &Database) -> Result<Changes, StoreError> {
    let damaged = |reason: String| StoreError::damaged(path, reason);
    let mut log = Vec::new();
    database.read_log(database.head().floor, usize::MAX, &mut log)?;
    let log = SortedLog::new(&log).map_err(|_| damaged("its log cannot be read".into()))?;
    let mut records = Changes::new();
    let put = |key: &[u8], value: &[u8]| {
        records.put_raw(key, value);
        Ok(())
    };
    merge(|number| database.block(number), &log, put).map_err(|stopped| match stopped {
        Stopped::Block(number) => damaged(format!("block {number} cannot be read")),
        Stopped::Caller(error) => error,
    })?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Step;
    use crate::testing;

    /// Format 1 of this test: labels are decimal text under `L` and the VRF.
    const OLD: Format = Format { version: 1, steps: &[] };

    /// Format 2 has the labels of today; format 3 has no controller 9.
    const NEW: Format = Format {
        version: 3,
        steps: &[
            Step {
                from: 1,
                migrate: |key, value, out| {
                    let Some(vrf) = key.strip_prefix(b"L") else {
                        out.put_raw(key, value);
                        return Ok(());
                    };
                    let vrf = std::str::from_utf8(vrf).map_err(|_| "a VRF without a name")?;
                    let label = std::str::from_utf8(value).ok().and_then(|label| label.parse().ok());
                    out.put_label(
                        vrf,
                        label.ok_or_else(|| format!("the label of VRF '{vrf}' is no number"))?,
                    );
                    Ok(())
                },
            },
            Step {
                from: 2,
                migrate: |key, value, out| {
                    if key != [2, 0, 9] {
                        out.put_raw(key, value);
                    }
                    Ok(())
                },
            },
        ],
    };

    fn old_store(path: &Path, label: &[u8]) {
        let (store, _) = Store::open_as(path, Options::default(), OLD).expect("it can be made");
        let mut old = Changes::new();
        old.put_raw(b"Lred", label);
        old.put_controller(9, b"nine");
        store.replace_all(&mut old).expect("there is space");
        // Some of it in the blocks, some in the log.
        old.put_raw(b"Lblue", b"17");
        old.put_controller(8, b"eight");
        store.write(&mut old).expect("there is space");
    }

    fn records(store: &Store) -> Vec<String> {
        let mut records = Vec::new();
        store
            .load(&mut |record| {
                records.push(format!("{record:?}"));
                Ok(())
            })
            .expect("whole");
        records
    }

    #[test]
    fn an_older_format_is_brought_up_to_date() {
        let place = testing::Place::new("migrate");
        let path = place.path("state");
        old_store(&path, b"16");
        let (store, opened) = Store::open_as(&path, Options::default(), NEW).expect("there is a way");
        assert_eq!(opened, Opened::Restored { complete: true, migrated_from: Some(1) });
        let expected = [
            format!("{:?}", Record::Controller { number: 8, value: b"eight" }),
            format!("{:?}", Record::Label { vrf: "blue", label: 17 }),
            format!("{:?}", Record::Label { vrf: "red", label: 16 }),
        ];
        assert_eq!(records(&store), expected);
        drop(store);
        let (store, opened) = Store::open_as(&path, Options::default(), NEW).expect("it is up to date");
        assert_eq!(opened, Opened::Restored { complete: true, migrated_from: None });
        assert_eq!(records(&store), expected);
    }

    #[test]
    fn what_cannot_be_migrated_is_set_aside_in_its_old_format() {
        let place = testing::Place::new("migrate-not");
        let path = place.path("state");
        old_store(&path, b"sixteen");
        let (store, opened) = Store::open_as(&path, Options::default(), NEW).expect("the daemon starts");
        let Opened::SetAside { kept_at, reason } = opened else { panic!("{opened:?}") };
        assert!(reason.contains("format 1: the label of VRF 'red' is no number"), "{reason}");
        assert!(records(&store).is_empty());
        let (_store, opened) = Store::open_as(&kept_at, Options::default(), OLD).expect("it is whole");
        assert_eq!(opened, Opened::Restored { complete: true, migrated_from: None });
    }

    #[test]
    fn without_a_way_the_store_is_set_aside() {
        let place = testing::Place::new("no-way");
        let path = place.path("state");
        old_store(&path, b"16");
        let format = Format { version: 3, steps: &NEW.steps[1..] };
        let (_, opened) = Store::open_as(&path, Options::default(), format).expect("the daemon starts");
        let Opened::SetAside { reason, .. } = opened else { panic!("{opened:?}") };
        assert!(reason.contains("no way from format 1 to format 2"), "{reason}");
    }
}
