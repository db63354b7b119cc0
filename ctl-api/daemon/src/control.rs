//! The control thread: carries out what the API asks for, one thing after
//! another, on the [`Gateway`] that it alone owns.
//!
//! Batches that wait together are carried out together and published once.
//! Reading takes its turn between them, a page at a time.

use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Instant;

use tieline_process::essential;
use tieline_proto::v1;
use tieline_proto::v1::gateway_message::Message;
use tieline_proto::v1::operation::Operation;
use tieline_rib::ControllerId;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::acknowledge::{Acknowledgement, Acknowledgements, Errand};
use crate::batch::Work;
use crate::gateway::Gateway;
use crate::replies::{Room, Slot};
use crate::rights::Rights;
use crate::sessions::{Hello, Opened, SessionId};
use crate::shares::Share;

/// Requests that can wait, of all clients together.
const QUEUE: usize = 4096;
/// Requests that are taken out of the queue together.
const TAKEN: usize = 256;
/// Operations and prefixes that are published at once, more or less: enough
/// that a publication costs each little, and few enough that they take a few
/// milliseconds.
const PUBLISHED: usize = 2048;

/// One batch, and the places that its acknowledgements will take: reserved, so
/// that a client that does not read holds up nobody but itself.
pub struct Submission {
    /// Whose session.
    pub by: ControllerId,
    /// Which of its sessions.
    pub session: SessionId,
    /// The batch.
    pub batch: v1::Batch,
    /// What its sender may declare.
    pub rights: Rights,
    /// For all that the first acknowledgement may say.
    pub room: Room,
    /// For the first acknowledgement.
    pub accepted: Slot,
    /// For the second.
    pub programmed: Slot,
    /// Its share of what may wait; given back when it is carried out.
    pub share: Share,
}

type Read = Box<dyn FnOnce(&Gateway) + Send>;
/// Returns the version of the tables that holds the change.
type Change = Box<dyn FnOnce(&mut Gateway) -> u64 + Send>;
type Alone = Box<dyn FnOnce(&mut Gateway) + Send>;

enum Request {
    Batch(Box<Submission>),
    Open {
        name: String,
        hello: Hello,
        reply: oneshot::Sender<Result<Opened, v1::Closing>>,
    },
    Close {
        by: ControllerId,
        session: SessionId,
    },
    EndOfSync {
        by: ControllerId,
        session: SessionId,
        id: u64,
        slot: Slot,
    },
    Read(Read),
    Change(Change),
    Alone(Alone),
    /// There is news of devices.
    Devices,
    Tick,
    Stop,
}

/// A handle for asking the control thread.
#[derive(Clone)]
pub struct Control {
    requests: mpsc::Sender<Request>,
    /// The position of the next change, for those who watch.
    head: watch::Receiver<u64>,
}

/// The thread, which waits for its gateway: whoever has to prepare that first
/// need not fear that there is no thread for it then.
pub struct Idle {
    gateway: blocking::SyncSender<Gateway>,
    thread: JoinHandle<Option<Gateway>>,
}

impl Idle {
    /// Begins to carry out what is asked for. When the thread has been told to
    /// stop, or the gateway is given away, it gives the gateway back.
    pub fn begin(self, gateway: Gateway) -> JoinHandle<Option<Gateway>> {
        // It waits for nothing else.
        let _ = self.gateway.send(gateway);
        self.thread
    }
}

/// Starts the thread. What waits for the store and the workers goes to
/// `acknowledgements`.
///
/// # Errors
/// When the system gives no thread.
pub fn start(acknowledgements: blocking::SyncSender<Errand>) -> std::io::Result<(Control, Idle)> {
    let (requests, receiver) = mpsc::channel(QUEUE);
    let (head, watched) = watch::channel(0);
    let (gateway, given) = blocking::sync_channel(1);
    let woken = requests.downgrade();
    let thread = essential::spawn("control", move || {
        let gateway: Gateway = given.recv().ok()?;
        gateway.ports().set_waker(Box::new(move || {
            // Where the queue is full, the next tick sees to it.
            if let Some(requests) = woken.upgrade() {
                let _ = requests.try_send(Request::Devices);
            }
        }));
        let mut thread = Thread { gateway, acknowledgements, head };
        thread.run(receiver);
        Some(thread.gateway)
    })?;
    Ok((Control { requests, head: watched }, Idle { gateway, thread }))
}

impl Control {
    async fn send(&self, request: Request) -> Result<(), Status> {
        self.requests.send(request).await.map_err(|_| stopping())
    }

    /// A session begins.
    ///
    /// # Errors
    /// When the daemon is stopping; inside, when the session has to be closed.
    pub async fn open(&self, name: String, hello: Hello) -> Result<Result<Opened, v1::Closing>, Status> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Open { name, hello, reply }).await?;
        receiver.await.map_err(|_| stopping())
    }

    /// A session has ended.
    pub async fn close(&self, by: ControllerId, session: SessionId) {
        // Nothing is left to do, if the daemon is stopping.
        let _ = self.send(Request::Close { by, session }).await;
    }

    /// Hands in a batch; waits while too many requests wait already.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn submit(&self, submission: Submission) -> Result<(), Status> {
        self.send(Request::Batch(Box::new(submission))).await
    }

    /// A controller has declared again all that it holds.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn end_of_sync(
        &self,
        by: ControllerId,
        session: SessionId,
        id: u64,
        slot: Slot,
    ) -> Result<(), Status> {
        self.send(Request::EndOfSync { by, session, id, slot }).await
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
        self.send(Request::Read(read)).await?;
        receiver.await.map_err(|_| stopping())
    }

    /// Changes something in the gateway: `change` also returns the version of the
    /// tables that holds it.
    ///
    /// # Errors
    /// When the daemon is stopping.
    pub async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Gateway) -> (R, u64) + Send + 'static,
    ) -> Result<R, Status> {
        let (sender, receiver) = oneshot::channel();
        let change: Change = Box::new(move |gateway| {
            let (result, version) = change(gateway);
            // Who asked may have gone.
            let _ = sender.send(result);
            version
        });
        self.send(Request::Change(change)).await?;
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

    /// The position of the next change, whenever it is another.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    /// Time has passed.
    pub async fn tick(&self) {
        // Nothing is left to do, if the daemon is stopping.
        let _ = self.send(Request::Tick).await;
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

struct Thread {
    gateway: Gateway,
    acknowledgements: blocking::SyncSender<Errand>,
    head: watch::Sender<u64>,
}

impl Thread {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(TAKEN);
        let mut together = Vec::new();
        let mut weight = 0;
        while requests.blocking_recv_many(&mut waiting, TAKEN) > 0 {
            for request in waiting.drain(..) {
                if let Request::Batch(submission) = request {
                    weight += self::weight(&submission.batch);
                    together.push(*submission);
                    if weight >= PUBLISHED {
                        self.carry_out(&mut together);
                        weight = 0;
                    }
                    continue;
                }
                self.carry_out(&mut together);
                weight = 0;
                if !self.answer(request) {
                    return;
                }
            }
            self.carry_out(&mut together);
            weight = 0;
        }
    }

    /// Answers one request that is no batch. False if it was the last.
    fn answer(&mut self, request: Request) -> bool {
        match request {
            Request::Batch(_) => {}
            Request::Open { name, hello, reply } => {
                let opened = self.gateway.open_session(&name, hello, Instant::now());
                // A client that has gone closes its session elsewhere.
                let _ = reply.send(opened);
                self.publish_changes(Acknowledgements::at(0));
            }
            Request::Close { by, session } => {
                self.gateway.close_session(by, session, Instant::now());
                self.publish_changes(Acknowledgements::at(0));
            }
            Request::EndOfSync { by, session, id, slot } => {
                let Some((withdrawn, version)) = self.gateway.end_of_sync(by, session) else { return true };
                let message = Message::Synced(v1::Synced { id, withdrawn: withdrawn as u64 });
                let mut acknowledgements = Acknowledgements::at(version);
                acknowledgements.programmed.push(Acknowledgement { slot, room: None, message });
                self.publish_changes(acknowledgements);
            }
            Request::Read(read) => read(&self.gateway),
            Request::Change(change) => {
                let version = change(&mut self.gateway);
                self.publish_changes(Acknowledgements::at(version));
            }
            Request::Alone(work) => {
                work(&mut self.gateway);
                return !self.gateway.is_given_away();
            }
            Request::Devices => {
                let version = self.gateway.look_at_devices(Instant::now());
                self.publish_changes(Acknowledgements::at(version));
            }
            Request::Tick => {
                let version = self.gateway.tick(Instant::now());
                self.publish_changes(Acknowledgements::at(version));
            }
            Request::Stop => return false,
        }
        true
    }

    /// Carries out batches, acknowledges them, and leaves none.
    fn carry_out(&mut self, together: &mut Vec<Submission>) {
        if together.is_empty() {
            return;
        }
        let now = std::mem::take(together);
        let (mut work, mut slots) = (Vec::with_capacity(now.len()), Vec::with_capacity(now.len()));
        // The shares are given back when the batches are carried out.
        let mut shares = Vec::with_capacity(now.len());
        for Submission { by, session, batch, rights, room, accepted, programmed, share } in now {
            shares.push(share);
            // A leader that was deposed while its batch waited has no say.
            if self.gateway.sessions().is_live(by, session) {
                slots.push((batch.id, room, accepted, programmed));
                work.push(Work { by, batch, rights });
            }
        }
        let (done, version) = self.gateway.carry_out(work);
        let mut acknowledgements = Acknowledgements::at(version);
        for ((id, mut room, accepted, programmed), done) in slots.into_iter().zip(done) {
            for refused in done.refused.iter().filter_map(|refused| refused.refused.as_ref()) {
                self.gateway.note_refusal(refused);
            }
            let (refused, waiting) = (done.refused, done.waiting);
            let message = v1::BatchAccepted { id, refused, waiting, ..Default::default() };
            room.shrink_to(&message);
            acknowledgements.accepted.push(Acknowledgement {
                slot: accepted,
                room: Some(room),
                message: Message::Accepted(message),
            });
            let message = v1::BatchProgrammed { id, table_version: version };
            acknowledgements.programmed.push(Acknowledgement {
                slot: programmed,
                room: None,
                message: Message::Programmed(message),
            });
        }
        self.publish_changes(acknowledgements);
    }

    /// Sends what has to be acknowledged on, after what has to be stored
    /// before, and tells those who watch.
    fn publish_changes(&mut self, mut acknowledgements: Acknowledgements) {
        self.gateway.take_changes(&mut acknowledgements.to_store);
        let head = self.gateway.changes().head();
        self.head.send_if_modified(|present| std::mem::replace(present, head) != head);
        if !acknowledgements.programmed.is_empty() {
            // They take the tables up while the store is written to.
            self.gateway.engine().wake_workers();
        }
        if !acknowledgements.is_empty() {
            // It is gone only when the daemon stops.
            let _ = self.acknowledgements.send(Errand::Acknowledge(acknowledgements));
        }
    }
}

/// How much work a batch is.
fn weight(batch: &v1::Batch) -> usize {
    let prefixes = |prefixes: Option<&v1::RoutePrefixes>| prefixes.map_or(0, v1::RoutePrefixes::count);
    let of = |operation: &v1::Operation| match &operation.operation {
        Some(Operation::ApplyRoutes(set)) => prefixes(set.prefixes.as_ref()),
        Some(Operation::DeleteRoutes(key)) => prefixes(key.prefixes.as_ref()),
        _ => 1,
    };
    batch.operations.iter().map(of).sum()
}
