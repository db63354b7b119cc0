//! The database: what is in it, and each thing that is done with it.
//!
//! | table | rows |
//! |---|---|
//! | `head` | one: which blocks count, and from where on the log does |
//! | `log` | the changes of each write, as they came, by number |
//! | `blocks` | sorted records, by generation and number |
//!
//! The state is the blocks of the head's generation, with the changes of the
//! log above `floor` applied in order. Both are numbered without holes, and
//! every row carries a CRC-32 over its number and its content: a row that is
//! lost, moved or changed does not go unnoticed. Blocks of other generations
//! and changes up to `floor` are leftovers, removed at leisure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::error::StoreError;
use crate::format::Format;
use crate::options::Options;

/// "tiel" in ASCII.
const APPLICATION: i32 = 0x7469_656c;
const PAGE_BYTES: i64 = 4096;
/// Largest change that is taken at once.
pub(crate) const CHANGE_LIMIT: usize = 512 << 20;
/// Leftover rows that are removed at once: a write waits no longer than that.
const SWEEP_ROWS: u32 = 32;
/// Free pages that are given back at once.
const GIVE_BACK_PAGES: u32 = 256;
/// Free pages that are always kept.
const SPARE_PAGES: i64 = 2048;

const SUM: usize = 4;

/// Which rows count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Made once, at random.
    pub(crate) node_id: [u8; 16],
    pub(crate) generation: u32,
    /// Blocks of this generation.
    pub(crate) blocks: u32,
    /// Changes up to this one are in the blocks.
    pub(crate) floor: u64,
    /// Some changes could not be stored before others were.
    pub(crate) gap: bool,
}

impl Head {
    const LENGTH: usize = 33;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        out.extend_from_slice(&self.node_id);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.floor.to_le_bytes());
        out.push(u8::from(self.gap));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        Some(Self {
            node_id: bytes[..16].try_into().ok()?,
            generation: u32::from_le_bytes(bytes[16..20].try_into().ok()?),
            blocks: u32::from_le_bytes(bytes[20..24].try_into().ok()?),
            floor: u64::from_le_bytes(bytes[24..32].try_into().ok()?),
            gap: bytes[32] != 0,
        })
    }
}

/// A row's number in `blocks`.
fn block_id(generation: u32, number: u32) -> i64 {
    i64::from(generation) << 32 | i64::from(number)
}

/// Content with its checksum before it.
fn seal(id: i64, content: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SUM + content.len());
    sealed.extend_from_slice(&checksum(id, content).to_le_bytes());
    sealed.extend_from_slice(content);
    sealed
}

/// The content, if its checksum is right.
fn unseal(id: i64, sealed: &[u8]) -> Option<&[u8]> {
    let (sum, content) = sealed.split_first_chunk::<SUM>()?;
    (u32::from_le_bytes(*sum) == checksum(id, content)).then_some(content)
}

fn checksum(id: i64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// What was found at a path.
pub(crate) struct Found {
    pub(crate) database: Database,
    /// Bytes of the changes in its log.
    pub(crate) log_bytes: usize,
    /// Nothing was there.
    pub(crate) fresh: bool,
    /// The format it has, before any migration.
    pub(crate) format: u32,
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Database {
    /// The store, for errors.
    path: PathBuf,
    connection: Connection,
    head: Head,
    /// The number of the last change.
    last: u64,
}

impl Database {
    /// Opens the database of the store at `path`, or makes it.
    pub(crate) fn open(
        path: &Path,
        file: &Path,
        format: &Format,
        options: &Options,
    ) -> Result<Found, StoreError> {
        let connection = connect(path, file, options.cache_bytes)?;
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let read = || Ok((number("application_id")?, number("user_version")?, number("schema_version")?));
        let (application, version, schema) = read().map_err(StoreError::database(path, "opened"))?;
        if (application, version, schema) == (0, 0, 0) {
            let database = Self::create(path, connection, format.version, options.node_id)?;
            return Ok(Found { database, log_bytes: 0, fresh: true, format: format.version });
        }
        let found = u32::try_from(version).ok().filter(|_| application == i64::from(APPLICATION));
        let found = found.ok_or_else(|| StoreError::damaged(path, "its database is another program's"))?;
        if found > format.version {
            return Err(StoreError::Newer { path: path.into(), found, known: format.version });
        }
        let head = read_head(path, &connection)?;
        let (last, log_bytes) = check_log(path, &connection, head.floor)?;
        let database = Self { path: path.into(), connection, head, last };
        Ok(Found { database, log_bytes, fresh: false, format: found })
    }

    fn create(
        path: &Path,
        connection: Connection,
        version: u32,
        node_id: Option<[u8; 16]>,
    ) -> Result<Self, StoreError> {
        let node_id = node_id.map_or_else(|| random_id(path), Ok)?;
        let head = Head { node_id, generation: 0, blocks: 0, floor: 0, gap: false };
        let this = Self { path: path.into(), connection, head, last: 0 };
        this.transaction("made", |connection| {
            connection.execute_batch(
                "CREATE TABLE head (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
                 CREATE TABLE log (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
                 CREATE TABLE blocks (id INTEGER PRIMARY KEY, data BLOB NOT NULL);",
            )?;
            connection.pragma_update(None, "application_id", APPLICATION)?;
            connection.pragma_update(None, "user_version", version)?;
            write_head(connection, &head)
        })?;
        Ok(this)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The store.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the last change.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Adds changes to the log; `gap`: others before them are missing. All or
    /// nothing, and in the operating system when it returns.
    pub(crate) fn append(&mut self, changes: &[u8], gap: bool) -> Result<(), StoreError> {
        if changes.len() > CHANGE_LIMIT {
            return Err(StoreError::TooLarge { bytes: changes.len(), limit: CHANGE_LIMIT });
        }
        let id = row_id(self.last + 1);
        let row = seal(id, changes);
        if gap && !self.head.gap {
            let head = Head { gap: true, ..self.head };
            self.transaction("written", |connection| {
                insert(connection, "INSERT INTO log VALUES (?1, ?2)", id, &row)?;
                write_head(connection, &head)
            })?;
            self.head = head;
        } else {
            insert(&self.connection, "INSERT INTO log VALUES (?1, ?2)", id, &row)
                .map_err(StoreError::database(&self.path, "written"))?;
        }
        self.last += 1;
        Ok(())
    }

    /// Appends the changes after `from` to `out` until it has `limit` bytes or
    /// all are read. Returns the number of the last one.
    pub(crate) fn read_log(&self, from: u64, limit: usize, out: &mut Vec<u8>) -> Result<u64, StoreError> {
        let failed = |error| StoreError::database(&self.path, "read")(error);
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, data FROM log WHERE id > ?1 ORDER BY id")
            .map_err(failed)?;
        let mut rows = statement.query([row_id(from)]).map_err(failed)?;
        let mut last = from;
        while out.len() < limit
            && let Some(row) = rows.next().map_err(failed)?
        {
            let id: i64 = row.get(0).map_err(failed)?;
            let sealed = row.get_ref(1).and_then(|data| Ok(data.as_blob()?)).map_err(failed)?;
            if id != row_id(last + 1) {
                return Err(StoreError::damaged(&self.path, format!("change {} is missing", last + 1)));
            }
            last += 1;
            let content = unseal(id, sealed).ok_or_else(|| {
                StoreError::damaged(&self.path, format!("change {last} has a wrong checksum"))
            })?;
            out.extend_from_slice(content);
        }
        Ok(last)
    }

    /// A block of the state. `None` after the last.
    pub(crate) fn block(&self, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        if number >= self.head.blocks {
            return Ok(None);
        }
        let id = block_id(self.head.generation, number);
        let damaged = |what| StoreError::damaged(&self.path, format!("block {number} {what}"));
        let read = |connection: &Connection| {
            let mut statement = connection.prepare_cached("SELECT data FROM blocks WHERE id = ?1")?;
            let content = statement
                .query_row([id], |row| Ok(unseal(id, row.get_ref(0)?.as_blob()?).map(<[u8]>::to_vec)));
            content.optional()
        };
        let content = read(&self.connection).map_err(StoreError::database(&self.path, "read"))?;
        content.ok_or_else(|| damaged("is missing"))?.map(Some).ok_or_else(|| damaged("has a wrong checksum"))
    }

    /// Writes blocks of the generation to come, from `first` on.
    pub(crate) fn stage(&self, first: u32, blocks: &[Vec<u8>]) -> Result<(), StoreError> {
        let generation = self.head.generation + 1;
        self.transaction("written", |connection| {
            for (number, block) in (first..).zip(blocks) {
                let id = block_id(generation, number);
                insert(connection, "INSERT OR REPLACE INTO blocks VALUES (?1, ?2)", id, &seal(id, block))?;
            }
            Ok(())
        })
    }

    /// Makes the staged blocks the state, with the changes up to `floor`.
    pub(crate) fn adopt(&mut self, blocks: u32, floor: u64) -> Result<(), StoreError> {
        let head = Head { generation: self.head.generation + 1, blocks, floor, ..self.head };
        self.transaction("written", |connection| write_head(connection, &head))?;
        self.head = head;
        Ok(())
    }

    /// Makes the staged blocks the state, in place of everything, and takes on
    /// this format. `gap`: changes are missing in them.
    pub(crate) fn replace(&mut self, blocks: u32, version: u32, gap: bool) -> Result<(), StoreError> {
        let floor = self.last + 1;
        let head = Head { generation: self.head.generation + 1, blocks, floor, gap, ..self.head };
        self.transaction("written", |connection| {
            connection.pragma_update(None, "user_version", version)?;
            write_head(connection, &head)
        })?;
        self.head = head;
        self.last = floor;
        Ok(())
    }

    /// Removes some leftovers. Returns whether there may be more.
    pub(crate) fn sweep(&self) -> Result<bool, StoreError> {
        let first = block_id(self.head.generation, 0);
        let end = block_id(self.head.generation, self.head.blocks);
        let floor = row_id(self.head.floor);
        let rows = self.transaction("swept", |connection| {
            let mut rows = 0;
            for (sql, bound) in [
                ("DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE id < ?1 LIMIT ?2)", first),
                ("DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE id >= ?1 LIMIT ?2)", end),
                ("DELETE FROM log WHERE id IN (SELECT id FROM log WHERE id <= ?1 LIMIT ?2)", floor),
            ] {
                rows += connection.prepare_cached(sql)?.execute(params![bound, SWEEP_ROWS])?;
            }
            Ok(rows)
        })?;
        Ok(rows > 0)
    }

    /// Gives free pages back to the file system when there are many. Returns
    /// whether there may be more.
    pub(crate) fn shrink(&self) -> Result<bool, StoreError> {
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let step = || {
            let (free, all) = (number("freelist_count")?, number("page_count")?);
            // The next generation needs as many pages as this one has.
            if free <= all - free + SPARE_PAGES {
                return Ok(false);
            }
            let sql = format!("PRAGMA incremental_vacuum({GIVE_BACK_PAGES})");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut steps = statement.query([])?;
            while steps.next()?.is_some() {}
            Ok(number("freelist_count")? < free)
        };
        step().map_err(StoreError::database(&self.path, "made smaller"))
    }

    fn transaction<T>(
        &self,
        step: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let run = || {
            // Rolled back when it is dropped without a commit.
            let transaction = self.connection.unchecked_transaction()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(StoreError::database(&self.path, step))
    }
}

/// Copies pages from the journal to the database, so that the journal can
/// start anew. A connection of its own: writers go on meanwhile.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    path: PathBuf,
    connection: Connection,
}

impl Checkpointer {
    pub(crate) fn open(path: &Path, file: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.into(), connection: connect(path, file, 64 << 10)? })
    }

    /// Copies what it can while others write. Returns the bytes that it has
    /// not copied.
    pub(crate) fn copy(&self) -> Result<u64, StoreError> {
        self.run("PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Copies everything, and cuts the journal to nothing. Nobody may write
    /// meanwhile.
    pub(crate) fn truncate(&self) -> Result<(), StoreError> {
        self.run("PRAGMA wal_checkpoint(TRUNCATE)").map(drop)
    }

    fn run(&self, sql: &str) -> Result<u64, StoreError> {
        let pages = self.connection.query_row(sql, [], |row| {
            let (all, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(all - copied)
        });
        let pages = pages.map_err(StoreError::database(&self.path, "checkpointed"))?;
        Ok(pages.max(0).unsigned_abs() * PAGE_BYTES.unsigned_abs())
    }
}

/// A connection with the settings that the store's promises rest on: a journal
/// that is written ahead, is never checkpointed by a writer, and stays there
/// when the connection is closed, so that a full disk does not keep the store
/// from being opened.
fn connect(path: &Path, file: &Path, cache: usize) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Said to a database that is there, it would be written to.
        if connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0 {
            connection.pragma_update(None, "page_size", PAGE_BYTES)?;
            connection.pragma_update(None, "auto_vacuum", "incremental")?;
        }
        connection.pragma_update(None, "cache_size", -i64::try_from(cache >> 10).unwrap_or(i64::MAX))?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(StoreError::database(path, "opened"))
}

/// Row numbers are signed; 2^63 changes are not reached.
fn row_id(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn insert(connection: &Connection, sql: &str, id: i64, row: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(params![id, row]).map(drop)
}

fn write_head(connection: &Connection, head: &Head) -> rusqlite::Result<()> {
    insert(connection, "INSERT OR REPLACE INTO head VALUES (?1, ?2)", 1, &seal(1, &head.encode()))
}

fn read_head(path: &Path, connection: &Connection) -> Result<Head, StoreError> {
    let sealed: Option<Vec<u8>> = connection
        .query_row("SELECT data FROM head WHERE id = 1", [], |row| row.get(0))
        .optional()
        .map_err(StoreError::database(path, "read"))?;
    let sealed = sealed.ok_or_else(|| StoreError::damaged(path, "its head is missing"))?;
    unseal(1, &sealed)
        .and_then(Head::decode)
        .ok_or_else(|| StoreError::damaged(path, "its head has a wrong checksum"))
}

/// The number of the last change, and the bytes of all. Refuses a log with
/// holes.
fn check_log(path: &Path, connection: &Connection, floor: u64) -> Result<(u64, usize), StoreError> {
    let (rows, last, bytes): (i64, Option<i64>, Option<i64>) = connection
        .query_row(
            "SELECT count(*), max(id), sum(length(data)) FROM log WHERE id > ?1",
            [row_id(floor)],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .map_err(StoreError::database(path, "read"))?;
    let last = last.and_then(|last| u64::try_from(last).ok()).unwrap_or(floor);
    let missing = (last - floor).abs_diff(rows.unsigned_abs());
    if missing != 0 {
        return Err(StoreError::damaged(path, format!("{missing} changes before change {last} are missing")));
    }
    Ok((last, bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)))
}

fn random_id(path: &Path) -> Result<[u8; 16], StoreError> {
    use std::io::Read as _;
    let mut id = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut id))
        .map_err(StoreError::io(path, "given a random node id"))?;
    Ok(id)
}
