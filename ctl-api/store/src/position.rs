//! How far the store has come, in a file of its own.
//!
//! A database that loses the end of its journal to a damaged sector is whole
//! again without it, and says nothing. This file says which change was the
//! last to be acknowledged, and which was the last to be on disk. A database
//! that has not come as far has lost changes.
//!
//! 44 bytes, overwritten in place: the boot (16 bytes), the last change that
//! was written (8), the last on disk (8), zeros (8), CRC-32 (4), little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const LENGTH: usize = 44;

/// The file, and what it says.
#[derive(Debug)]
pub(crate) struct PositionFile {
    file: File,
    boot: [u8; 16],
    written: u64,
    synced: u64,
}

/// What an earlier process has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Changes up to this one were acknowledged.
    pub(crate) written: u64,
    /// Changes up to this one were on disk.
    pub(crate) synced: u64,
    same_boot: bool,
}

impl Left {
    /// The change that must be there. A power loss may take what was not on
    /// disk; the end of a process takes nothing.
    pub(crate) fn required(&self) -> u64 {
        if self.same_boot { self.written.max(self.synced) } else { self.synced }
    }
}

impl PositionFile {
    /// What the file at `path` says. `None` when there is none, or one that
    /// cannot be read as such: nothing is known then.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Left>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(decode(&bytes, boot_id()))
    }

    /// Begins the file anew: this is acknowledged, and this on disk.
    pub(crate) fn create(path: &Path, written: u64, synced: u64) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        let this = Self { file, boot: boot_id().unwrap_or_default(), written, synced };
        this.file.set_len(LENGTH as u64)?;
        this.write()?;
        this.file.sync_all()?;
        Ok(this)
    }

    /// Changes up to this one are acknowledged.
    ///
    /// # Errors
    /// The file tells less than it could, then; that is never wrong.
    pub(crate) fn set_written(&mut self, change: u64) -> io::Result<()> {
        self.written = change;
        self.write()
    }

    /// Changes up to this one are on disk. Call it when they are.
    ///
    /// # Errors
    /// As of [`set_written`](Self::set_written).
    pub(crate) fn set_synced(&mut self, change: u64) -> io::Result<()> {
        self.synced = self.synced.max(change);
        self.write()
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }

    fn write(&self) -> io::Result<()> {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(&self.boot);
        bytes[16..24].copy_from_slice(&self.written.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..40]);
        bytes[40..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }
}

fn decode(bytes: &[u8], boot: Option<[u8; 16]>) -> Option<Left> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let sum = crc32fast::hash(&bytes[..40]);
    if bytes[40..] != sum.to_le_bytes() {
        return None;
    }
    let same_boot = boot.is_some_and(|boot| boot == bytes[..16]);
    Some(Left { written: number(16)?, synced: number(24)?, same_boot })
}

/// The kernel's identifier of this boot. `None` where it tells none.
fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Place;

    #[test]
    fn the_end_of_a_process_takes_nothing_a_power_loss_what_was_not_on_disk() {
        let place = Place::new("position");
        let path = place.path("position");
        let mut file = PositionFile::create(&path, 5, 5).expect("a file");
        file.set_written(9).expect("a write");
        file.set_synced(7).expect("a write");
        let left = PositionFile::read(&path).expect("readable").expect("it is there");
        assert_eq!((left.written, left.synced, left.required()), (9, 7, 9));
        let bytes = std::fs::read(&path).expect("readable");
        assert_eq!(decode(&bytes, Some([1; 16])).expect("valid").required(), 7, "another boot");
        assert_eq!(decode(&bytes, None).expect("valid").required(), 7, "an unknown boot");
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        let place = Place::new("position-damaged");
        let path = place.path("position");
        assert_eq!(PositionFile::read(&path).expect("readable"), None);
        PositionFile::create(&path, 5, 5).expect("a file");
        let bytes = std::fs::read(&path).expect("readable");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(decode(&damaged, None), None, "byte {at}");
        }
        assert_eq!(decode(&bytes[..40], None), None);
    }
}
