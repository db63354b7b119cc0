//! Declaring and withdrawing in one session.
//!
//! A bounded number of batches is under way at any time. [`Ledger`] keeps the
//! account of them and [`Pulse`] the time; both know no network. [`run`] moves
//! messages between them and the daemon.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost_reflect::prost::Message as _;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::controller_message::Message as Said;
use tieline_proto::v1::gateway_message::Message as Heard;
use tieline_proto::v1::operation::Operation as Change;
use tieline_proto::v1::{
    Batch, BatchAccepted, BatchMode, BatchProgrammed, Closing, ClosingReason, ControllerHello,
    ControllerMessage, GatewayHello, GatewayMessage, Heartbeat, ObjectKey, Operation, Refused,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::error::Error;
use crate::kind::{display_key, key_of};

/// Most operations that the daemon takes in one batch.
pub const MOST_OPERATIONS: usize = 10_000;
/// Operations of a batch that need not stand together.
const BATCH: usize = 200;
/// A batch that need not be larger ends when it has so many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// Most batches under way.
const WINDOW: usize = 5;
/// Room for the hello and for heartbeats beside the batches.
const BESIDE: usize = 4;
/// How often an observer hears that time has passed.
const TICK: Duration = Duration::from_millis(200);
/// The revision of the API that is spoken here.
const REVISION: u32 = 1;
/// Longest silence until the daemon has said how long it may be.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Whoever is silent for so many times the longest silence is taken for dead.
const MISSED: u32 = 3;

/// What became of one operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Every worker has it.
    Programmed,
    /// Stored, and in force as soon as these are declared.
    Waiting(Vec<ObjectKey>),
    /// Nothing was changed.
    Refused(Refused),
    /// Nothing was changed, because another operation was refused.
    Undone,
}

/// Hears what becomes of the operations.
pub trait Observer {
    /// One operation has met its fate.
    fn settled(&mut self, name: &str, fate: &Fate);
    /// What is accepted is in force, but a restart of the daemon might not bring
    /// it back, for this reason.
    fn not_stored(&mut self, why: &str);
    /// Some time has passed; of `total` operations `settled` are settled.
    fn tick(&mut self, settled: usize, total: usize);
}

/// What stands and falls together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each operation stands for itself.
    Each,
    /// All or nothing.
    Atomic {
        /// What refers to something undeclared is refused.
        require_references: bool,
    },
}

impl Mode {
    /// A batch of these operations.
    pub fn batch(self, id: u64, operations: Vec<Operation>) -> Batch {
        let (mode, require_references) = match self {
            Self::Each => (BatchMode::Each, false),
            Self::Atomic { require_references } => (BatchMode::Atomic, require_references),
        };
        Batch { id, mode: mode.into(), require_references, operations }
    }

    /// Whether a batch of so many operations and bytes has to end.
    fn is_full(self, operations: usize, bytes: usize) -> bool {
        match self {
            Self::Each => operations >= BATCH || bytes >= BATCH_BYTES,
            Self::Atomic { .. } => false,
        }
    }
}

/// An operation that declares or withdraws.
pub fn operation(change: Change) -> Operation {
    Operation { operation: Some(change) }
}

/// One operation that is not settled.
#[derive(Debug)]
struct Open {
    name: String,
    waits_for: Vec<ObjectKey>,
}

/// A batch that was sent. What is settled is `None`.
#[derive(Debug)]
struct Sent {
    operations: Vec<Option<Open>>,
    accepted: bool,
}

impl Sent {
    fn is_settled(&self) -> bool {
        self.operations.iter().all(Option::is_none)
    }
}

/// Names and fates of operations that a message has settled.
type Settled = Vec<(String, Fate)>;

/// The account of all operations. Batches have the ids 1, 2, 3...
#[derive(Debug)]
pub struct Ledger<I> {
    operations: I,
    mode: Mode,
    total: usize,
    settled: usize,
    last_id: u64,
    sent: BTreeMap<u64, Sent>,
}

impl<I: Iterator<Item = Operation>> Ledger<I> {
    /// An account of `total` operations, none of them sent.
    pub fn new(operations: I, total: usize, mode: Mode) -> Self {
        Self { operations, mode, total, settled: 0, last_id: 0, sent: BTreeMap::new() }
    }

    /// The next batch to send; `None` when all are sent or the window is full.
    pub fn poll_batch(&mut self) -> Option<Batch> {
        let under_way = self.sent.values().filter(|sent| !sent.is_settled()).count();
        if under_way >= WINDOW {
            return None;
        }
        let (mut operations, mut bytes) = (Vec::new(), 0);
        while !self.mode.is_full(operations.len(), bytes) {
            let Some(operation) = self.operations.next() else { break };
            bytes += operation.encoded_len();
            operations.push(operation);
        }
        if operations.is_empty() {
            return None;
        }
        self.last_id += 1;
        let open = |operation| Some(Open { name: name_of(operation), waits_for: Vec::new() });
        let sent = Sent { operations: operations.iter().map(open).collect(), accepted: false };
        self.sent.insert(self.last_id, sent);
        Some(self.mode.batch(self.last_id, operations))
    }

    /// Whether every operation is settled.
    pub fn is_done(&self) -> bool {
        self.settled == self.total
    }

    /// Takes a first acknowledgement: it settles what is refused.
    pub fn handle_accepted(&mut self, accepted: BatchAccepted) -> Result<Settled, Error> {
        let BatchAccepted { id, refused, waiting, not_stored: _ } = accepted;
        let sent = find(&mut self.sent, id, self.last_id)?;
        if std::mem::replace(&mut sent.accepted, true) {
            return Err(nonsense(format!("accepted batch {id} twice")));
        }
        let mut settled = Vec::new();
        let has_refused = !refused.is_empty();
        for refusal in refused {
            let operation = sent.operations.get_mut(refusal.index as usize).and_then(Option::take);
            let Some(Open { name, .. }) = operation else {
                return Err(nonsense(format!(
                    "refused operation {} of batch {id}, which is not there",
                    refusal.index
                )));
            };
            settled.push((name, Fate::Refused(refusal.refused.unwrap_or_default())));
        }
        if has_refused && self.mode != Mode::Each {
            let others = sent.operations.iter_mut().filter_map(Option::take);
            settled.extend(others.map(|open| (open.name, Fate::Undone)));
        }
        for one in waiting {
            // One that is refused has nothing to wait for.
            if let Some(Some(open)) = sent.operations.get_mut(one.index as usize) {
                open.waits_for = one.waits_for;
            }
        }
        self.settled += settled.len();
        Ok(settled)
    }

    /// Takes a second acknowledgement: it settles all that is left.
    pub fn handle_programmed(&mut self, programmed: BatchProgrammed) -> Result<Settled, Error> {
        let id = programmed.id;
        if !find(&mut self.sent, id, self.last_id)?.accepted {
            return Err(nonsense(format!("programmed batch {id} before it accepted it")));
        }
        let operations = self.sent.remove(&id).map(|sent| sent.operations).unwrap_or_default();
        let fate = |open: Open| match open.waits_for {
            none if none.is_empty() => (open.name, Fate::Programmed),
            waits_for => (open.name, Fate::Waiting(waits_for)),
        };
        let settled: Settled = operations.into_iter().flatten().map(fate).collect();
        self.settled += settled.len();
        Ok(settled)
    }
}

fn find(sent: &mut BTreeMap<u64, Sent>, id: u64, last_id: u64) -> Result<&mut Sent, Error> {
    sent.get_mut(&id).ok_or_else(|| {
        nonsense(if (1..=last_id).contains(&id) {
            format!("answered batch {id} once too often")
        } else {
            format!("answered batch {id}, which was never sent")
        })
    })
}

fn nonsense(what: String) -> Error {
    Error::Daemon(format!("the daemon {what}. Compare the versions with `tlctl version`"))
}

/// How the object of an operation is called.
pub fn name_of(operation: &Operation) -> String {
    match &operation.operation {
        Some(Change::Apply(object)) => key_of(object).as_ref().map(display_key).unwrap_or_default(),
        Some(Change::Delete(key)) => display_key(key),
        Some(Change::ApplyRoutes(_) | Change::DeleteRoutes(_)) => "routes".to_owned(),
        None => String::new(),
    }
}

/// What the time asks for.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// We have been silent for as long as we may.
    Heartbeat,
    /// The daemon has been silent for too long.
    Silent(Duration),
}

/// When either side was heard last.
#[derive(Debug)]
struct Pulse {
    longest: Duration,
    said: Instant,
    heard: Instant,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { longest: HEARTBEAT, said: now, heard: now }
    }

    fn due(&self, now: Instant) -> Due {
        let silent = now.saturating_duration_since(self.heard);
        if silent > self.longest * MISSED {
            Due::Silent(silent)
        } else if now.saturating_duration_since(self.said) >= self.longest / 2 {
            Due::Heartbeat
        } else {
            Due::Nothing
        }
    }
}

/// An open session.
struct Session {
    messages: mpsc::Sender<ControllerMessage>,
    replies: Streaming<GatewayMessage>,
    pulse: Pulse,
}

impl Session {
    async fn open(client: &mut ControlClient<Channel>, controller: &str) -> Result<Self, Error> {
        // Never full: at most a window's worth of batches is unanswered.
        let (messages, outgoing) = mpsc::channel(WINDOW + BESIDE);
        messages.try_send(message(Said::Hello(hello(controller)))).map_err(|_| closed())?;
        let opened = client.session(ReceiverStream::new(outgoing)).await;
        let replies = opened.map_err(|status| lost(&status))?.into_inner();
        let mut session = Self { messages, replies, pulse: Pulse::new(Instant::now()) };
        loop {
            match session.next().await? {
                Some(Heard::Hello(hello)) => {
                    session.pulse.longest = longest_silence(&hello)?;
                    return Ok(session);
                }
                Some(Heard::Heartbeat(_)) | None => {}
                Some(_) => return Err(nonsense("did not begin the session with its hello".to_owned())),
            }
        }
    }

    fn say(&mut self, said: Said) -> Result<(), Error> {
        self.pulse.said = Instant::now();
        self.messages.try_send(message(said)).map_err(|_| closed())
    }

    /// The next message; `None` when some time has passed without one.
    async fn next(&mut self) -> Result<Option<Heard>, Error> {
        let Ok(reply) = tokio::time::timeout(TICK, self.replies.message()).await else {
            match self.pulse.due(Instant::now()) {
                Due::Silent(silent) => {
                    return Err(Error::Unreachable(format!(
                        "the daemon has been silent for {} s. Check that it is not stopped or stuck",
                        silent.as_secs()
                    )));
                }
                // What is still in the channel says as well that we are here.
                Due::Heartbeat if self.messages.capacity() > WINDOW => {
                    self.say(Said::Heartbeat(Heartbeat {}))?;
                }
                Due::Heartbeat | Due::Nothing => {}
            }
            return Ok(None);
        };
        self.pulse.heard = Instant::now();
        match reply.map_err(|status| lost(&status))?.ok_or_else(closed)?.message {
            Some(Heard::Closing(closing)) => Err(Error::Daemon(reason(&closing))),
            Some(heard) => Ok(Some(heard)),
            None => Err(nonsense("said something that this tlctl does not know".to_owned())),
        }
    }
}

fn message(said: Said) -> ControllerMessage {
    ControllerMessage { message: Some(said) }
}

fn hello(controller: &str) -> ControllerHello {
    ControllerHello {
        lowest_revision: REVISION,
        highest_revision: REVISION,
        controller: controller.to_owned(),
        software: concat!("tlctl ", env!("CARGO_PKG_VERSION")).to_owned(),
        lasting: true,
        ..Default::default()
    }
}

fn longest_silence(hello: &GatewayHello) -> Result<Duration, Error> {
    if hello.revision != REVISION {
        return Err(nonsense(format!(
            "speaks revision {} of the API, and this tlctl speaks revision {REVISION}",
            hello.revision
        )));
    }
    Ok(match hello.heartbeat_seconds {
        0 => HEARTBEAT,
        seconds => Duration::from_secs(seconds.into()),
    })
}

/// Why the daemon has closed the session, in words.
fn reason(closing: &Closing) -> String {
    let why = match closing.reason() {
        ClosingReason::Unspecified => "",
        ClosingReason::Revision => " (revision of the API)",
        ClosingReason::Protocol => " (unexpected message)",
        ClosingReason::Fenced => " (a higher election term is here)",
        ClosingReason::Replaced => " (replaced by a new session)",
        ClosingReason::Silent => " (silent for too long)",
        ClosingReason::Limit => " (limit reached)",
    };
    let message = if closing.message.is_empty() { "it did not say why" } else { &closing.message };
    format!("the daemon closed the session{why}: {message}")
}

fn lost(status: &Status) -> Error {
    Error::from_status(status, "program objects")
}

fn closed() -> Error {
    Error::Unreachable("the daemon closed the stream before it had answered everything".to_owned())
}

/// Carries out all operations in order, in the name of a controller, and
/// returns when each is settled.
pub async fn run(
    client: &mut ControlClient<Channel>,
    controller: &str,
    operations: Vec<Operation>,
    mode: Mode,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let total = operations.len();
    let mut ledger = Ledger::new(operations.into_iter(), total, mode);
    let outcome = settle_all(client, controller, &mut ledger, observer).await;
    let unsettled = total - ledger.settled;
    let count = |text: String| format!("{text}. {unsettled} of {total} objects were not confirmed");
    outcome.map_err(|error| match error {
        Error::Unreachable(text) => Error::Unreachable(count(text)),
        Error::Daemon(text) => Error::Daemon(count(text)),
        other => other,
    })
}

async fn settle_all<I: Iterator<Item = Operation>>(
    client: &mut ControlClient<Channel>,
    controller: &str,
    ledger: &mut Ledger<I>,
    observer: &mut impl Observer,
) -> Result<(), Error> {
    let mut session = Session::open(client, controller).await?;
    let mut ticked = Instant::now();
    while !ledger.is_done() {
        while let Some(batch) = ledger.poll_batch() {
            session.say(Said::Batch(batch))?;
        }
        let settled = match session.next().await? {
            Some(Heard::Accepted(accepted)) => {
                if !accepted.not_stored.is_empty() {
                    observer.not_stored(&accepted.not_stored);
                }
                ledger.handle_accepted(accepted)?
            }
            Some(Heard::Programmed(programmed)) => ledger.handle_programmed(programmed)?,
            Some(Heard::Heartbeat(_)) | None => Vec::new(),
            Some(Heard::Hello(_) | Heard::Synced(_) | Heard::Closing(_)) => {
                return Err(nonsense("said something that has no place in this session".to_owned()));
            }
        };
        for (name, fate) in settled {
            observer.settled(&name, &fate);
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            observer.tick(ledger.settled, ledger.total);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
