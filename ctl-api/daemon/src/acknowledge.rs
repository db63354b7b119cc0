//! Tells controllers what has become of their batches: first whether they are
//! stored, then that every worker forwards by them.
//!
//! Two threads, one behind the other: the first writes to the store, the second
//! waits for one version of the tables after the other. The control thread does
//! neither. When the workers were faster than the store, and the second thread
//! has nothing to do, the first answers for it: that saves a single change one
//! handing over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tieline_engine::engine::Engine;
use tieline_engine::io::Io;
use tieline_process::essential;
use tieline_proto::v1::gateway_message::Message;

use crate::keeper::{Keeper, NotStored};
use crate::persist::ToStore;
use crate::replies::{Room, Slot};

/// Acknowledgements that can wait for each of the threads. The control thread
/// waits when it is that far ahead.
const QUEUE: usize = 64;
/// So long the first thread waits for workers itself: about what it takes to
/// wake the second.
const QUICK: Duration = Duration::from_micros(50);
/// After so long a worker that does not take new tables is worth a warning.
const PATIENCE: Duration = Duration::from_secs(5);

/// One message to a controller, and the place reserved for it.
pub struct Acknowledgement {
    /// The place.
    pub slot: Slot,
    /// What the message takes.
    pub room: Option<Room>,
    /// The message.
    pub message: Message,
}

impl Acknowledgement {
    fn send(self) {
        self.slot.send(self.message, self.room);
    }
}

/// What one publication of the tables brings about.
pub struct Acknowledgements {
    /// The version of the tables.
    pub version: u64,
    /// What has to be stored first.
    pub to_store: ToStore,
    /// Sent when that is stored, or with the reason why it is not.
    pub accepted: Vec<Acknowledgement>,
    /// Sent when every worker has the version.
    pub programmed: Vec<Acknowledgement>,
}

impl Acknowledgements {
    /// None yet.
    pub fn at(version: u64) -> Self {
        Self { version, to_store: ToStore::default(), accepted: Vec::new(), programmed: Vec::new() }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.to_store.is_empty() && self.accepted.is_empty() && self.programmed.is_empty()
    }
}

/// What the first thread has to do, in this order.
pub enum Errand {
    /// Store, and acknowledge.
    Acknowledge(Acknowledgements),
    /// Close the store for another process, and say whether it has everything.
    Close(SyncSender<Result<(), NotStored>>),
    /// Say whether the store has everything.
    Check(SyncSender<Result<(), NotStored>>),
}

/// Starts the threads. They end when the sender is gone.
///
/// # Errors
/// When the system gives no thread.
pub fn start<I: Io>(engine: Engine<I>, mut keeper: Keeper) -> std::io::Result<SyncSender<Errand>>
where
    Engine<I>: Send,
{
    let (sender, receiver) = sync_channel::<Errand>(QUEUE);
    let (stored, programmed) = sync_channel::<Acknowledgements>(QUEUE);
    let waiting = Arc::new(AtomicUsize::new(0));
    let second = Second { engine: engine.clone(), waiting: Arc::clone(&waiting) };
    essential::spawn("store", move || {
        for errand in receiver {
            let mut acknowledgements = match errand {
                Errand::Acknowledge(acknowledgements) => acknowledgements,
                // Whoever asked may have lost patience.
                Errand::Close(reply) => {
                    let _ = reply.send(keeper.close());
                    continue;
                }
                Errand::Check(reply) => {
                    let _ = reply.send(keeper.keep(ToStore::default()));
                    continue;
                }
            };
            let kept = keeper.keep(std::mem::take(&mut acknowledgements.to_store));
            for mut acknowledgement in acknowledgements.accepted.drain(..) {
                if let (Message::Accepted(accepted), Err(NotStored(why))) =
                    (&mut acknowledgement.message, &kept)
                {
                    accepted.not_stored.clone_from(why);
                }
                acknowledgement.send();
            }
            if acknowledgements.programmed.is_empty() {
                continue;
            }
            // Acquire: what the second thread has sent comes before.
            let is_alone = waiting.load(Ordering::Acquire) == 0;
            if is_alone && engine.wait_programmed(acknowledgements.version, QUICK) {
                acknowledgements.programmed.into_iter().for_each(Acknowledgement::send);
                continue;
            }
            waiting.fetch_add(1, Ordering::Relaxed);
            if stored.send(acknowledgements).is_err() {
                return;
            }
        }
    })?;
    essential::spawn("programmed", move || second.run(programmed))?;
    Ok(sender)
}

/// The thread that waits for the workers.
struct Second<I: Io> {
    engine: Engine<I>,
    /// What it has been handed and has not sent.
    waiting: Arc<AtomicUsize>,
}

impl<I: Io> Second<I> {
    fn run(&self, acknowledgements: Receiver<Acknowledgements>) {
        for Acknowledgements { version, programmed, .. } in acknowledgements {
            while !self.engine.wait_programmed(version, PATIENCE) {
                tracing::warn!(version, "a worker does not take the new tables");
            }
            programmed.into_iter().for_each(Acknowledgement::send);
            self.waiting.fetch_sub(1, Ordering::Release);
        }
    }
}
