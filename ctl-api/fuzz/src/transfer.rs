//! Live state that comes from another process.

use tieline_engine::session::tick::Tick;
use tieline_engine::session::{Allowance, SessionLimits, SessionTable};
use tieline_engine::transfer::stream::{Chunk, ChunkWriter, Reader};

/// Chunks of live state from another process: what is read can be written
/// again, and goes into a table.
pub fn transfer(data: &[u8]) {
    let mut table = SessionTable::new(SessionLimits { capacity: 64, ..SessionLimits::with_seed(1) });
    let mut reader = Reader::new(data);
    // An empty chunk takes 16 bytes, so this ends.
    while let Ok(chunk) = reader.next_chunk() {
        let Chunk::Sessions(records) = chunk else {
            if let Chunk::Neighbours(records) = chunk {
                records.flatten().for_each(|neighbour| assert!(neighbour.mac.is_unicast()));
            }
            continue;
        };
        for record in records.flatten() {
            let mut writer = ChunkWriter::sessions();
            writer.put(&record);
            let mut reader = Reader::new(writer.finish());
            let Ok(Chunk::Sessions(again)) = reader.next_chunk() else { panic!("our own chunk") };
            assert!(again.flatten().eq([record]));
            let taken = table.restore(&record, Allowance { quota: 48, ..Allowance::ALL }, Tick(7)).is_ok();
            for key in record.keys() {
                assert_eq!(table.lookup(&key, table.hash(&key)).is_some(), taken);
            }
        }
        assert!(table.len() <= table.capacity());
    }
    table.expire(Tick(7 + Tick::MAX_SPAN), usize::MAX);
    assert!(table.is_empty(), "no timeout is longer");
}
