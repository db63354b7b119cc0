//! Blocks of sorted records. Each key is written as how many bytes it shares
//! with the key before it, and the rest: a route among others of the same
//! attributes takes about 6 bytes.
//!
//! Within a block: shared length, rest length, rest, value length, value;
//! lengths are [`varint`]s. Keys ascend strictly, from block to block too.

use std::ops::Range;

use crate::varint;

/// A block is given out when it has this many bytes. It is larger only by one
/// record.
const SIZE: usize = 16 << 10;

/// Writes blocks.
#[derive(Debug, Default)]
pub(crate) struct BlockWriter {
    data: Vec<u8>,
    last: Vec<u8>,
}

impl BlockWriter {
    /// Adds a record, whose key is above all before. Returns a block when one
    /// is complete.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let shared = self.last.iter().zip(key).take_while(|(a, b)| a == b).count();
        varint::put(&mut self.data, shared);
        varint::put(&mut self.data, key.len() - shared);
        self.data.extend_from_slice(&key[shared..]);
        varint::put(&mut self.data, value.len());
        self.data.extend_from_slice(value);
        self.last.truncate(shared);
        self.last.extend_from_slice(&key[shared..]);
        if self.data.len() >= SIZE { self.finish() } else { None }
    }

    /// The block that was begun, if any.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        self.last.clear();
        (!self.data.is_empty())
            .then(|| std::mem::replace(&mut self.data, Vec::with_capacity(SIZE + SIZE / 8)))
    }
}

/// Bytes that are no block, or one in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads one block after the other, record by record.
#[derive(Debug, Default)]
pub(crate) struct BlockReader {
    data: Vec<u8>,
    at: usize,
    key: Vec<u8>,
    value: Range<usize>,
    started: bool,
}

impl BlockReader {
    /// The next block. Whatever is left of the one before is forgotten.
    pub(crate) fn load(&mut self, data: Vec<u8>) {
        self.data = data;
        self.at = 0;
    }

    /// Goes to the next record; `false` at the end of the block.
    pub(crate) fn advance(&mut self) -> Result<bool, Malformed> {
        let mut rest = &self.data[self.at..];
        if rest.is_empty() {
            return Ok(false);
        }
        let shared = varint::take(&mut rest).ok_or(Malformed)?;
        let own = varint::take(&mut rest).and_then(|length| varint::take_bytes(&mut rest, length));
        let own = own.ok_or(Malformed)?;
        let length = varint::take(&mut rest).ok_or(Malformed)?;
        let start = self.data.len() - rest.len();
        varint::take_bytes(&mut rest, length).ok_or(Malformed)?;
        // With the same bytes before them, what differs tells the order.
        if self.started && self.key.get(shared..).is_none_or(|before| own <= before) {
            return Err(Malformed);
        }
        if !self.started && shared != 0 {
            return Err(Malformed);
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        self.started = true;
        self.value = start..start + length;
        self.at = start + length;
        Ok(true)
    }

    /// The key of the record.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of the record.
    pub(crate) fn value(&self) -> &[u8] {
        &self.data[self.value.clone()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn blocks(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Vec<u8>> {
        let mut writer = BlockWriter::default();
        let mut blocks: Vec<_> = records.iter().filter_map(|(key, value)| writer.add(key, value)).collect();
        blocks.extend(writer.finish());
        blocks
    }

    fn read(blocks: Vec<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Malformed> {
        let mut reader = BlockReader::default();
        let mut records = BTreeMap::new();
        for block in blocks {
            reader.load(block);
            while reader.advance()? {
                records.insert(reader.key().to_vec(), reader.value().to_vec());
            }
        }
        Ok(records)
    }

    #[test]
    fn blocks_end_in_time_and_keys_share_their_beginning() {
        let records = (0..10_000_u32).map(|n| ([&[6], &n.to_be_bytes()[..]].concat(), Vec::new())).collect();
        let blocks = blocks(&records);
        assert!(blocks.len() > 1 && blocks.iter().all(|block| block.len() < SIZE + 64));
        assert!(blocks.iter().map(Vec::len).sum::<usize>() < 10_000 * 5, "key of 5 bytes and three lengths");
        assert_eq!(read(blocks), Ok(records));
    }

    #[test]
    fn blocks_in_the_wrong_order_are_refused() {
        let records = (0..10_000_u32).map(|n| (n.to_be_bytes().to_vec(), Vec::new())).collect();
        let mut blocks = blocks(&records);
        blocks.swap(0, 1);
        assert_eq!(read(blocks), Err(Malformed));
    }

    proptest! {
        #[test]
        fn records_come_back(
            records in proptest::collection::btree_map(
                proptest::collection::vec(0_u8..4, 0..12), proptest::collection::vec(any::<u8>(), 0..3000), 0..40,
            ),
        ) {
            prop_assert_eq!(read(blocks(&records)), Ok(records));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(block in proptest::collection::vec(0_u8..20, 0..200)) {
            let _ = read(vec![block]);
        }
    }
}
