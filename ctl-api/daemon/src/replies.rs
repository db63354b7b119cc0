//! What a session says to its controller, and what that may take while nobody
//! reads it.
//!
//! A batch is taken only when there is room for what it may be answered with. So
//! a client that does not read is not read from either, and costs no more than
//! its room.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use prost::Message as _;
use tieline_gate::accounts::{Account, KIB};
use tieline_proto::v1;
use tieline_proto::v1::gateway_message::Message;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::Status;

use crate::batch::{MOST_OPERATIONS, REFUSED_TEXTS};

/// Messages of a session that can wait for its client.
const QUEUE: usize = 128;
/// KiB of acknowledgements of a session that can wait for its client.
const SESSION: usize = 8 << 10;
/// Bytes of a refused operation, its text apart, or of one that waits.
const OPERATION: usize = 64;

/// A message on its way to a client.
#[derive(Debug)]
struct Said {
    message: Result<v1::GatewayMessage, Status>,
    /// What it takes.
    _room: Option<Room>,
}

/// A place in a stream of messages to a controller.
#[derive(Debug)]
pub struct Slot(OwnedPermit<Said>);

impl Slot {
    /// Says something that takes this room.
    pub fn send(self, message: Message, room: Option<Room>) {
        self.0.send(Said { message: Ok(v1::GatewayMessage { message: Some(message) }), _room: room });
    }
}

/// Memory for an acknowledgement, of its session's and of its peer's.
#[derive(Debug)]
pub struct Room {
    session: OwnedSemaphorePermit,
    peer: OwnedSemaphorePermit,
}

impl Room {
    /// Gives back what the message does not need.
    pub fn shrink_to(&mut self, message: &v1::BatchAccepted) {
        let needed = message.encoded_len().div_ceil(KIB).max(1);
        for permit in [&mut self.session, &mut self.peer] {
            let spare = permit.num_permits().saturating_sub(needed);
            drop(permit.split(spare));
        }
    }
}

/// The sending side of a session.
#[derive(Debug, Clone)]
pub struct Replies {
    sender: mpsc::Sender<Said>,
    stream: Arc<Mutex<Waiting>>,
    session: Arc<Semaphore>,
    peer: Arc<Semaphore>,
}

/// A session's replies as the client's side takes them.
#[derive(Debug)]
pub struct ReplyStream(Arc<Mutex<Waiting>>);

/// What the client's side has not taken.
#[derive(Debug)]
enum Waiting {
    /// These messages, and those to come.
    Messages(mpsc::Receiver<Said>),
    /// Why there are none any more, unless it was said.
    GivenUp(Option<Status>),
}

/// The client's side is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// Both ends of a session's replies to a peer.
pub fn replies(account: &Account) -> (Replies, ReplyStream) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stream = Arc::new(Mutex::new(Waiting::Messages(receiver)));
    let session = Arc::new(Semaphore::new(SESSION));
    let peer = Arc::clone(account.replies());
    (Replies { sender, stream: Arc::clone(&stream), session, peer }, ReplyStream(stream))
}

impl Replies {
    /// Waits for a place.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn slot(&self) -> Result<Slot, Gone> {
        self.sender.clone().reserve_owned().await.map(Slot).map_err(|_| Gone)
    }

    /// Waits for room for what a batch may be answered with.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn room(&self, batch: &v1::Batch) -> Result<Room, Gone> {
        // No more than there is, however small the limits are.
        let needed = u32::try_from(largest_answer(batch).div_ceil(KIB).min(SESSION)).unwrap_or(u32::MAX);
        let session = Arc::clone(&self.session).acquire_many_owned(needed).await.map_err(|_| Gone)?;
        let peer = Arc::clone(&self.peer).acquire_many_owned(needed).await.map_err(|_| Gone)?;
        Ok(Room { session, peer })
    }

    /// Says something; waits for a place.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn say(&self, message: Result<Message, Status>) -> Result<(), Gone> {
        let message = message.map(|message| v1::GatewayMessage { message: Some(message) });
        self.sender.send(Said { message, _room: None }).await.map_err(|_| Gone)
    }

    /// Says something if there is a place.
    pub fn try_say(&self, message: Message) {
        let message = v1::GatewayMessage { message: Some(message) };
        let _ = self.sender.try_send(Said { message: Ok(message), _room: None });
    }

    /// Throws away what the client has not read: it is not going to. Should it
    /// read after all, it reads why.
    pub fn give_up(&self, why: Status) {
        *lock(&self.stream) = Waiting::GivenUp(Some(why));
    }
}

/// Bytes of the largest acknowledgement of a batch.
fn largest_answer(batch: &v1::Batch) -> usize {
    let operations = batch.operations.len().min(MOST_OPERATIONS);
    // What waits names what it waits for, which stands in the batch.
    OPERATION * operations + (batch.encoded_len()).max(REFUSED_TEXTS.min(operations * 1024))
}

impl Stream for ReplyStream {
    type Item = Result<v1::GatewayMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *lock(&self.0) {
            Waiting::Messages(receiver) => {
                receiver.poll_recv(cx).map(|said| said.map(|Said { message, .. }| message))
            }
            Waiting::GivenUp(why) => Poll::Ready(why.take().map(Err)),
        }
    }
}

/// What is locked here is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio_stream::StreamExt as _;

    use super::*;
    use tieline_gate::accounts::{Accounts, Owner};
    use tieline_gate::limits::ApiLimits;

    fn batch(operations: usize) -> v1::Batch {
        v1::Batch { operations: vec![v1::Operation::default(); operations], ..Default::default() }
    }

    #[tokio::test]
    async fn room_is_given_back_when_the_client_reads_or_is_given_up() {
        let accounts = Accounts::new(ApiLimits { replies: 16 << 20, ..ApiLimits::default() });
        let connected = accounts.connect(Owner::User(1), Instant::now()).expect("a connection");
        let account = connected.account();
        let all = account.replies().available_permits();
        let (replies, mut stream) = replies(account);
        let taken = |replies: &Replies| SESSION - replies.session.available_permits();
        for _ in 0..2 {
            let mut room = replies.room(&batch(10)).await.expect("room");
            let before = taken(&replies);
            room.shrink_to(&v1::BatchAccepted::default());
            assert!(taken(&replies) < before, "{before}");
            let slot = replies.slot().await.expect("a place");
            slot.send(Message::Accepted(v1::BatchAccepted::default()), Some(room));
        }
        assert_eq!((taken(&replies), all - account.replies().available_permits()), (2, 2));
        stream.next().await.expect("the first").expect("a message");
        assert_eq!((taken(&replies), all - account.replies().available_permits()), (1, 1));
        replies.give_up(Status::resource_exhausted("nobody reads"));
        assert_eq!((taken(&replies), account.replies().available_permits()), (0, all));
        stream.next().await.expect("why").expect_err("a status");
        assert!(stream.next().await.is_none());
        assert_eq!(replies.slot().await.map(|_| ()), Err(Gone));
    }

    #[tokio::test]
    async fn no_batch_is_too_large_to_have_its_turn() {
        let accounts = Accounts::new(ApiLimits { replies: 8 << 20, ..ApiLimits::default() });
        let connected = accounts.connect(Owner::User(1), Instant::now()).expect("a connection");
        let (replies, _stream) = replies(connected.account());
        let vrf = v1::Vrf { name: "x".repeat(64 << 20), ..Default::default() };
        let object = v1::Object { kind: Some(v1::object::Kind::Vrf(vrf)) };
        let operation = v1::Operation { operation: Some(v1::operation::Operation::Apply(object)) };
        let batch = v1::Batch { operations: vec![operation], ..Default::default() };
        let _room = replies.room(&batch).await.expect("room");
    }
}
