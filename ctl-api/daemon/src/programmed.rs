//! Tells clients when every worker forwards by what they declared.
//!
//! One thread waits for one version of the tables after the other; the
//! control thread never does.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use tieline_engine::engine::Engine;
use tieline_engine::io::Io;
use tieline_proto::v1;
use tieline_proto::v1::program_reply::Outcome;

use crate::control::ReplySlot;

/// After so long a worker that does not take new tables is worth a warning.
const PATIENCE: Duration = Duration::from_secs(5);

/// Operations whose effect one version of the tables holds.
pub struct Batch {
    /// The version.
    pub version: u64,
    /// Their ids, and where to reply.
    pub operations: Vec<(u64, ReplySlot)>,
}

/// Starts the thread. It ends when the senders of batches are gone.
///
/// # Errors
/// When the system gives no thread.
pub fn start<I: Io>(engine: Engine<I>, batches: Receiver<Batch>) -> std::io::Result<()>
where
    Engine<I>: Send,
{
    std::thread::Builder::new().name("programmed".into()).spawn(move || {
        for batch in batches {
            while !engine.wait_programmed(batch.version, PATIENCE) {
                tracing::warn!(version = batch.version, "a worker does not take the new tables");
            }
            for (id, slot) in batch.operations {
                let outcome = Outcome::Programmed(v1::Programmed { table_version: batch.version });
                slot.send(Ok(v1::ProgramReply { id, outcome: Some(outcome) }));
            }
        }
    })?;
    Ok(())
}
