//! The log, sorted, and the walk over it and the blocks together.

use crate::block::{BlockReader, Malformed};
use crate::changes::{self, Change};

/// Changes in the order of their keys, the last one of each key only.
#[derive(Debug)]
pub(crate) struct SortedLog<'a> {
    bytes: &'a [u8],
    slots: Vec<Slot>,
}

/// Where a change is, and the first 12 bytes of its key, which decide most
/// comparisons: the key of an IPv4 route has at most 10.
#[derive(Debug, Clone, Copy)]
struct Slot {
    high: u64,
    low: u32,
    at: u32,
}

impl<'a> SortedLog<'a> {
    /// Largest log in bytes.
    pub(crate) const LIMIT: usize = u32::MAX as usize;

    /// Sorts the changes that stand one after the other in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        // Counted first: a vector that grows leaves holes as large as itself.
        let mut slots = Vec::with_capacity(count(bytes)?);
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = u32::try_from(bytes.len() - rest.len()).map_err(|_| Malformed)?;
            let (key, _) = changes::take(&mut rest).ok_or(Malformed)?;
            let (high, low) = beginning(key);
            slots.push(Slot { high, low, at });
        }
        let key = |slot: &Slot| change_at(bytes, *slot).map_or(&[][..], |(key, _)| key);
        let order = |a: &Slot, b: &Slot| {
            (a.high, a.low)
                .cmp(&(b.high, b.low))
                .then_with(|| key(a).cmp(key(b)))
                .then_with(|| a.at.cmp(&b.at))
        };
        slots.sort_unstable_by(order);
        // Of changes with the same key, the last one stays.
        slots.dedup_by(|later, kept| {
            let same = (later.high, later.low) == (kept.high, kept.low) && key(later) == key(kept);
            if same {
                *kept = *later;
            }
            same
        });
        Ok(Self { bytes, slots })
    }

    fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.slots.iter().filter_map(|slot| change_at(self.bytes, *slot))
    }
}

/// How many changes stand one after the other in `bytes`.
fn count(mut bytes: &[u8]) -> Result<usize, Malformed> {
    let mut count = 0;
    while !bytes.is_empty() {
        changes::take(&mut bytes).ok_or(Malformed)?;
        count += 1;
    }
    Ok(count)
}

/// The first 12 bytes of a key as two numbers, zeros after its end.
fn beginning(key: &[u8]) -> (u64, u32) {
    let mut padded = [0; 16];
    let length = key.len().min(12);
    padded[..length].copy_from_slice(&key[..length]);
    let number = u128::from_be_bytes(padded);
    ((number >> 64) as u64, (number >> 32) as u32)
}

fn change_at(bytes: &[u8], slot: Slot) -> Option<Change<'_>> {
    changes::take(&mut bytes.get(slot.at as usize..)?)
}

/// Why a walk ended early.
#[derive(Debug)]
pub(crate) enum Stopped<E> {
    /// This block, counted from zero, is malformed.
    Block(u32),
    /// The caller's own reason.
    Caller(E),
}

impl<E> From<E> for Stopped<E> {
    fn from(error: E) -> Self {
        Self::Caller(error)
    }
}

/// Walks over what blocks and log make together, in the order of keys.
/// `next_block` gives block after block, `emit` takes key and value.
pub(crate) fn merge<E>(
    mut next_block: impl FnMut(u32) -> Result<Option<Vec<u8>>, E>,
    log: &SortedLog<'_>,
    mut emit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let mut reader = BlockReader::default();
    let mut log = log.iter().peekable();
    let mut number = 0;
    while let Some(block) = next_block(number)? {
        reader.load(block);
        while reader.advance().map_err(|Malformed| Stopped::Block(number))? {
            while let Some((key, value)) = log.next_if(|(key, _)| *key < reader.key()) {
                if let Some(value) = value {
                    emit(key, value)?;
                }
            }
            match log.next_if(|(key, _)| *key == reader.key()) {
                Some((key, Some(value))) => emit(key, value)?,
                Some((_, None)) => {}
                None => emit(reader.key(), reader.value())?,
            }
        }
        number += 1;
    }
    for (key, value) in log {
        if let Some(value) = value {
            emit(key, value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::block::BlockWriter;
    use crate::varint;

    fn log_of(changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in changes {
            varint::put(&mut bytes, key.len() << 1 | usize::from(value.is_some()));
            bytes.extend_from_slice(key);
            if let Some(value) = value {
                varint::put(&mut bytes, value.len());
                bytes.extend_from_slice(value);
            }
        }
        bytes
    }

    proptest! {
        /// Keys around 12 bytes that differ late, or only by zeros at the end.
        #[test]
        fn merging_is_what_a_map_does(
            base in proptest::collection::btree_map(
                proptest::collection::vec(0_u8..2, 0..15), proptest::collection::vec(any::<u8>(), 0..2000), 0..60,
            ),
            changes in proptest::collection::vec(
                (
                    proptest::collection::vec(0_u8..2, 0..15),
                    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3)),
                ),
                0..60,
            ),
        ) {
            let mut writer = BlockWriter::default();
            let mut blocks: Vec<_> = base.iter().filter_map(|(key, value)| writer.add(key, value)).collect();
            blocks.extend(writer.finish());
            let mut expected = base;
            for (key, value) in &changes {
                match value {
                    Some(value) => drop(expected.insert(key.clone(), value.clone())),
                    None => drop(expected.remove(key)),
                }
            }
            let mut merged = BTreeMap::new();
            let mut ascending = Vec::new();
            merge(
                |number| Ok::<_, Infallible>(blocks.get(number as usize).cloned()),
                &SortedLog::new(&log_of(&changes)).expect("they were just written"),
                |key, value| {
                    merged.insert(key.to_vec(), value.to_vec());
                    ascending.push(key.to_vec());
                    Ok(())
                },
            )
            .expect("well formed");
            prop_assert!(ascending.is_sorted());
            prop_assert_eq!(ascending.len(), merged.len(), "each key once");
            prop_assert_eq!(merged, expected);
        }
    }

    #[test]
    fn a_log_that_is_cut_off_is_refused() {
        let log = log_of(&[(vec![1, 2, 3], Some(vec![4, 5]))]);
        for length in 1..log.len() {
            assert!(SortedLog::new(&log[..length]).is_err(), "{length} bytes");
        }
    }
}
