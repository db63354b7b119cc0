//! Reads what can be read of a store: of a damaged one, and of one that cannot be
//! written. Nothing on disk is changed.
//!
//! SQLite ends its journal at the first frame that is damaged, and a damaged page
//! hides all that is below it. Here each frame of the journal is judged by itself
//! (its checksum goes on from the one of the frame before), the pages are put
//! together in memory, and each row is looked up and believed if its own checksum is
//! right. So damage costs the changes and blocks that it touches.
//!
//! The formats are those of <https://www.sqlite.org/fileformat2.html>: section 1.3 for
//! the header, section 4 for the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, MAIN_DB, OptionalExtension as _, params};

use crate::changes::Changes;
use crate::database::{self, Head, PAGE_BYTES};
use crate::error::StoreError;
use crate::merge::{SortedLog, Stopped, merge};
use crate::place;
use crate::position::PositionFile;
use crate::record::Record;

/// Largest store that is read so.
const MAX_BYTES: usize = 4 << 30;
/// Changes that are looked for, at most: a log is merged long before it has as many.
const MAX_CHANGES: u64 = 10_000_000;

const PAGE: usize = PAGE_BYTES as usize;
const JOURNAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What could be read.
#[derive(Debug)]
pub(crate) struct Rescued {
    pub(crate) records: Changes,
    pub(crate) version: u32,
    pub(crate) node_id: [u8; 16],
    /// Some changes could not be stored before others were.
    pub(crate) gap: bool,
    /// What is missing, in words; empty: nothing.
    pub(crate) missing: String,
}

/// Reads the store in a directory.
///
/// # Errors
/// So much is damaged that nothing is known of the rest.
pub(crate) fn read(path: &Path) -> Result<Rescued, StoreError> {
    let damaged = |what: &str| StoreError::damaged(path, what);
    let file = |name: &str| match std::fs::read(path.join(name)) {
        Ok(bytes) if bytes.len() > MAX_BYTES => Err(damaged("a file of it is too large")),
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(StoreError::io(path, "read")(error)),
    };
    let mut pages = file(place::DATABASE)?;
    apply_journal(&mut pages, &file(place::JOURNAL)?);
    if pages.len() < PAGE {
        return Err(damaged("there is nothing in its database"));
    }
    prepare(&mut pages);
    let failed = |error| StoreError::database(path, "read")(error);
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    connection.deserialize_read_exact(MAIN_DB, &pages[..], pages.len(), true).map_err(failed)?;
    drop(pages);
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
    let head = database::read_head(path, &connection)?;
    let left = PositionFile::read(&path.join(place::POSITION)).ok().flatten();
    let required = left.map_or(0, |left| left.required());
    let mut rows = Rows { connection, head, lost: BTreeSet::new(), blocks: 0 };
    let log = rows.log(required);
    let mut found = Changes::new();
    rows.merge(path, &log, &mut found)?;
    let is_whole = rows.lost.is_empty() && rows.blocks == 0;
    let (records, orphans) = if is_whole { (found, 0) } else { without_orphans(&found) };
    let missing = [
        (rows.lost.len(), "changes"),
        (rows.blocks, "blocks of records"),
        (orphans, "records that need a lost one"),
    ];
    let missing =
        missing.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    Ok(Rescued {
        records,
        version: version.map_err(failed)?,
        node_id: rows.head.node_id,
        gap: rows.head.gap,
        missing: missing.collect::<Vec<_>>().join(", "),
    })
}

/// The rows that count, each by itself.
struct Rows {
    connection: Connection,
    head: Head,
    /// Changes that are not there, or not as they were.
    lost: BTreeSet<u64>,
    /// How many blocks are not.
    blocks: usize,
}

impl Rows {
    /// The changes above the floor that are whole, in order.
    fn log(&mut self, required: u64) -> Vec<u8> {
        let floor = self.head.floor;
        let last =
            self.connection.query_row("SELECT max(id) FROM log", [], |row| row.get::<_, Option<i64>>(0));
        let last = last.ok().flatten().and_then(|last| u64::try_from(last).ok()).unwrap_or(0);
        let mut log = Vec::new();
        for number in floor + 1..=required.max(last).min(floor.saturating_add(MAX_CHANGES)) {
            let id = database::row_id(number);
            match self.row("SELECT data FROM log WHERE id = ?1", id) {
                Some(content) if log.len() + content.len() <= SortedLog::LIMIT => log.extend(content),
                _ => {
                    self.lost.insert(number);
                }
            }
        }
        log
    }

    fn row(&self, sql: &str, id: i64) -> Option<Vec<u8>> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let content = statement.query_row(params![id], |row| {
                Ok(database::unseal(id, row.get_ref(0)?.as_blob()?).map(<[u8]>::to_vec))
            });
            content.optional()
        };
        read().ok().flatten().flatten()
    }

    fn merge(&mut self, path: &Path, log: &[u8], out: &mut Changes) -> Result<(), StoreError> {
        let sorted = SortedLog::new(log).map_err(|_| StoreError::damaged(path, "its log cannot be read"))?;
        let head = self.head;
        let mut lost = 0;
        let block = |number: u32| {
            if number >= head.blocks {
                return Ok(None);
            }
            let id = database::block_id(head.generation, number);
            let block = self.row("SELECT data FROM blocks WHERE id = ?1", id);
            lost += usize::from(block.is_none());
            Ok(Some(block.unwrap_or_default()))
        };
        let put = |key: &[u8], value: &[u8]| {
            // What no program of a format writes is not read by any.
            out.put_raw(key, value);
            Ok::<_, StoreError>(())
        };
        merge(block, &sorted, put).map_err(|stopped| match stopped {
            Stopped::Block(number) => StoreError::damaged(path, format!("block {number} cannot be read")),
            Stopped::Caller(error) => error,
        })?;
        self.blocks = lost;
        Ok(())
    }
}

/// Leaves out what only means something with a record that is lost. Returns how many
/// records that were.
fn without_orphans(found: &Changes) -> (Changes, usize) {
    let (mut controllers, mut attributes) = (BTreeSet::new(), BTreeSet::new());
    let each = |visit: &mut dyn FnMut(&[u8], &[u8])| {
        let mut rest = found.as_bytes();
        while let Some((key, value)) = crate::changes::take(&mut rest) {
            visit(key, value.unwrap_or_default());
        }
    };
    each(&mut |key, value| match Record::decode(key, value) {
        Some(Record::Controller { number, .. }) => drop(controllers.insert(number)),
        Some(Record::Attributes { number, .. }) => drop(attributes.insert(number)),
        _ => {}
    });
    let (mut kept, mut orphans) = (Changes::new(), 0);
    each(&mut |key, value| {
        let is_orphan = match Record::decode(key, value) {
            Some(Record::Declaration { controller, .. }) => !controllers.contains(&controller),
            Some(Record::Route { attributes: number, .. }) => !attributes.contains(&number),
            _ => false,
        };
        if is_orphan { orphans += 1 } else { kept.put_raw(key, value) }
    });
    (kept, orphans)
}

/// Says in the header of the database what holds for it here: that there is no
/// journal beside it, and how many pages it has.
fn prepare(pages: &mut Vec<u8>) {
    pages.truncate(pages.len() / PAGE * PAGE);
    // Of a journal that is written ahead, 2; of none, 1.
    pages[18] = 1;
    pages[19] = 1;
    let count = u32::try_from(pages.len() / PAGE).unwrap_or(u32::MAX);
    pages[28..32].copy_from_slice(&count.to_be_bytes());
    // The count is believed where the counter of changes is the one it was made at.
    let counter: [u8; 4] = [pages[24], pages[25], pages[26], pages[27]];
    pages[92..96].copy_from_slice(&counter);
}

/// Puts the pages of committed transactions in their places.
fn apply_journal(pages: &mut Vec<u8>, journal: &[u8]) {
    let Some((header, frames)) = journal.split_at_checked(JOURNAL_HEADER) else { return };
    let little = word(header, 0) & 1 == 0;
    let computed = sum(little, (0, 0), &header[..24]);
    let stored = (word(header, 24), word(header, 28));
    // The salts of a header that is damaged are those of its first frame.
    let salts = match computed == stored {
        true => &header[16..24],
        false => frames.get(8..16).unwrap_or_default(),
    };
    let mut before = [stored, computed];
    let mut pending: BTreeMap<usize, &[u8]> = BTreeMap::new();
    for frame in frames.chunks_exact(FRAME_HEADER + PAGE) {
        let (head, page) = frame.split_at(FRAME_HEADER);
        let stored = (word(head, 16), word(head, 20));
        let sums = before.map(|before| sum(little, sum(little, before, &head[..8]), page));
        before = [stored, sums[0]];
        if head.get(8..16) != Some(salts) || !sums.contains(&stored) {
            continue;
        }
        let (number, size) = (word(head, 0) as usize, word(head, 4) as usize);
        if number == 0 || number.saturating_mul(PAGE) > MAX_BYTES || size.saturating_mul(PAGE) > MAX_BYTES {
            continue;
        }
        pending.insert(number - 1, page);
        if size > 0 {
            // It ends a transaction, after which the database has so many pages.
            for (number, page) in std::mem::take(&mut pending) {
                let at = number * PAGE;
                if pages.len() < at + PAGE {
                    pages.resize(at + PAGE, 0);
                }
                pages[at..at + PAGE].copy_from_slice(page);
            }
            pages.resize(size * PAGE, 0);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The checksum of a journal, going on from an earlier one.
fn sum(little: bool, (mut one, mut two): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let read = |word: &[u8]| {
        let word: [u8; 4] = word.try_into().unwrap_or_default();
        if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(read(&pair[..4])).wrapping_add(two);
        two = two.wrapping_add(read(&pair[4..])).wrapping_add(one);
    }
    (one, two)
}
