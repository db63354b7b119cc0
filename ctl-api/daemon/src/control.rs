//! The control thread: carries out what the API asks for, one thing after
//! another, on the [`Gateway`] that it alone owns.
//!
//! Operations that wait together are carried out together and published once.
//! Reading takes its turn between them, a page at a time.

use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use tieline_proto::v1;
use tieline_proto::v1::program_reply::Outcome;
use tieline_proto::v1::program_request::Operation;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tonic::Status;

use crate::gateway::Gateway;
use crate::programmed::Batch;

/// Requests that can wait, of all clients together.
const QUEUE: usize = 4096;
/// Most operations that are published at once: enough that a publication
/// costs each little, and few enough that they take a few milliseconds.
pub const BATCH: usize = 1024;

/// A place in a stream of replies.
pub type ReplySlot = OwnedPermit<Result<v1::ProgramReply, Status>>;

/// One operation, and the places that its replies will take: reserved, so
/// that a client that does not read holds up nobody but itself.
pub struct Submission {
    /// The operation.
    pub request: v1::ProgramRequest,
    /// For accepted or refused.
    pub verdict: ReplySlot,
    /// For programmed.
    pub programmed: ReplySlot,
}

type Read = Box<dyn FnOnce(&Gateway) + Send>;
type Alone = Box<dyn FnOnce(&mut Gateway) + Send>;

enum Request {
    Operation(Box<Submission>),
    Read(Read),
    Alone(Alone),
    Stop,
}

/// A handle for asking the control thread.
#[derive(Clone)]
pub struct Control {
    requests: mpsc::Sender<Request>,
}

/// Starts the thread. When it has been told to stop it gives the gateway
/// back. Batches that wait for the workers go to `programmed`.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    gateway: Gateway,
    programmed: blocking::Sender<Batch>,
) -> std::io::Result<(Control, JoinHandle<Gateway>)> {
    let (requests, receiver) = mpsc::channel(QUEUE);
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || run(gateway, receiver, &programmed))?;
    Ok((Control { requests }, thread))
}

impl Control {
    /// Hands in an operation; waits while too many wait already.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn submit(&self, submission: Submission) -> Result<(), Status> {
        self.requests.send(Request::Operation(Box::new(submission))).await.map_err(|_| stopping())
    }

    /// Reads something from the gateway.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Gateway) -> R + Send + 'static,
    ) -> Result<R, Status> {
        let (sender, receiver) = oneshot::channel();
        let read: Read = Box::new(move |gateway| {
            // Who asked may have gone.
            let _ = sender.send(read(gateway));
        });
        self.requests.send(Request::Read(read)).await.map_err(|_| stopping())?;
        receiver.await.map_err(|_| stopping())
    }

    /// Has the gateway for itself, and waits for its turn and its end. All
    /// others wait meanwhile. `None`: the daemon is stopping. Not for threads
    /// of the API.
    pub fn alone<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Gateway) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, receiver) = blocking::channel();
        let alone: Alone = Box::new(move |gateway| {
            // Whoever asked waits.
            let _ = sender.send(work(gateway));
        });
        self.requests.blocking_send(Request::Alone(alone)).ok()?;
        receiver.recv().ok()
    }

    /// Comes when the thread has ended, whether it was told to or not.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Tells the thread to stop after what waits now.
    pub fn stop(&self) {
        // Ended already, if it fails.
        let _ = self.requests.blocking_send(Request::Stop);
    }
}

fn stopping() -> Status {
    Status::unavailable("the daemon is stopping")
}

fn run(
    mut gateway: Gateway,
    mut requests: mpsc::Receiver<Request>,
    programmed: &blocking::Sender<Batch>,
) -> Gateway {
    let mut waiting = Vec::with_capacity(BATCH);
    let mut batch = Vec::with_capacity(BATCH);
    while requests.blocking_recv_many(&mut waiting, BATCH) > 0 {
        for request in waiting.drain(..) {
            match request {
                Request::Operation(submission) => {
                    // A device takes long to open; what does not need it
                    // does not wait for it.
                    let alone = is_about_a_port(&submission.request);
                    if alone {
                        carry_out(&mut gateway, &mut batch, programmed);
                    }
                    batch.push(*submission);
                    if alone {
                        carry_out(&mut gateway, &mut batch, programmed);
                    }
                }
                Request::Read(read) => {
                    carry_out(&mut gateway, &mut batch, programmed);
                    read(&gateway);
                }
                Request::Alone(work) => {
                    carry_out(&mut gateway, &mut batch, programmed);
                    work(&mut gateway);
                }
                Request::Stop => {
                    carry_out(&mut gateway, &mut batch, programmed);
                    return gateway;
                }
            }
        }
        carry_out(&mut gateway, &mut batch, programmed);
    }
    gateway
}

fn is_about_a_port(request: &v1::ProgramRequest) -> bool {
    match &request.operation {
        Some(Operation::Apply(object)) => matches!(object.kind, Some(v1::object::Kind::Port(_))),
        Some(Operation::Delete(key)) => matches!(key.kind, Some(v1::object_key::Kind::Port(_))),
        None => false,
    }
}

/// Carries out a batch, replies, and leaves the batch empty.
fn carry_out(gateway: &mut Gateway, batch: &mut Vec<Submission>, programmed: &blocking::Sender<Batch>) {
    if batch.is_empty() {
        return;
    }
    let operations = batch.iter_mut().map(|submission| submission.request.operation.take());
    let (outcomes, version) = gateway.carry_out(operations);
    let mut waiting = Vec::new();
    for (submission, outcome) in batch.drain(..).zip(outcomes) {
        let id = submission.request.id;
        let outcome = match outcome {
            Ok(applied) => {
                waiting.push((id, submission.programmed));
                Outcome::Accepted(v1::Accepted { waits_for: applied.waits_for })
            }
            Err(refusal) => {
                tracing::debug!(id, "refused: {refusal}");
                Outcome::Refused(refusal.into())
            }
        };
        submission.verdict.send(Ok(v1::ProgramReply { id, outcome: Some(outcome) }));
    }
    if !waiting.is_empty() {
        // It is gone only when the daemon stops.
        let _ = programmed.send(Batch { version, operations: waiting });
    }
}
