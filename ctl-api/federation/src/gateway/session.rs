//! One session with a gateway: hello, batches out, acknowledgements in,
//! heartbeats both ways, the end of the synchronisation.
//!
//! Memory is bounded: batches wait in the mirror, where changes of the same
//! thing are one, and a gateway whose words its owner does not take is not read.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::controller_message::Message as Said;
use tieline_proto::v1::gateway_message::Message as Heard;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::client::{Orders, Settings, Shared};
use super::events::{Cause, Event};
use super::exports::{self, Exports};
use super::key::Revision;

/// The revision of the API that is spoken here.
const REVISION: u32 = 1;
/// Room for the hello, the end of the synchronisation and heartbeats beside the
/// batches under way.
const BESIDE: usize = 8;
/// Longest wait for the gateway's hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for the gateway to close its side.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);
/// Silences after which the gateway is taken for dead.
const SILENCES: u32 = 3;
/// Longest silence in seconds, where the gateway states none.
const DEFAULT_HEARTBEAT: u32 = 10;
/// Events that wait for the owner before the gateway is not read any more.
const PENDING: usize = 256;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub cause: Cause,
    pub reason: String,
}

impl End {
    pub fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }

    fn lost(reason: impl Into<String>) -> Self {
        Self::new(Cause::Lost, reason)
    }

    fn protocol(reason: impl Into<String>) -> Self {
        Self::new(Cause::Protocol, reason)
    }

    /// The gateway has closed the session.
    fn closed(closing: &v1::Closing) -> Self {
        let cause = Cause::Closed(closing.reason());
        let message = if closing.message.is_empty() { "it did not say why" } else { &closing.message };
        Self::new(cause, format!("the gateway closed the session ({cause}): {message}"))
    }
}

/// A status of a call in words.
pub(super) fn status_words(status: &tonic::Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}

/// Where the end of the synchronisation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Not everything is declared yet.
    Before,
    /// Something was refused.
    Held,
    /// It is said.
    Said(u64),
    /// The gateway has confirmed it.
    Over,
}

/// An open session.
struct Session<'a> {
    shared: &'a Shared,
    messages: mpsc::Sender<v1::ControllerMessage>,
    replies: Streaming<v1::GatewayMessage>,
    /// Longest silence of either side.
    longest: Duration,
    said: Instant,
    heard: Instant,
    retry: Duration,
    retry_at: Instant,
    sync: Sync,
    held: u64,
    programmed: Option<Revision>,
    /// Whether the gateway stores what it accepts.
    is_kept: bool,
    pending: VecDeque<Event>,
}

/// Opens a session and carries it on until it ends. Returns why, and whether the
/// gateway was synchronised.
pub(super) async fn run(
    channel: Channel,
    shared: &Shared,
    term: u64,
    exports: &mut Exports,
    events: &mpsc::Sender<Event>,
    orders: &mut watch::Receiver<Orders>,
) -> (End, bool) {
    let opening = open(channel.clone(), shared, term);
    let opened = tokio::select! {
        opened = opening => opened,
        end = told(orders, term) => return (end, false),
    };
    let (mut session, hello) = match opened {
        Ok(opened) => opened,
        Err(end) => return (end, false),
    };
    let follows = hello.capabilities.iter().any(|name| name == "exports");
    session.begin(hello);
    let watching = async {
        match follows {
            true => exports::follow(exports, channel, shared, events).await,
            false => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = session.drive(term, events, orders) => end,
        never = watching => match never {},
    };
    shared.lock().mirror.end();
    let synced = session.sync == Sync::Over;
    if matches!(end.cause, Cause::Term | Cause::Stopped) {
        session.leave().await;
    }
    (end, synced)
}

/// Waits until the owner wants something else than a session of this term.
pub(super) async fn told(orders: &mut watch::Receiver<Orders>, term: u64) -> End {
    match orders.wait_for(|orders| orders.stop || orders.term != Some(term)).await.map(|orders| *orders) {
        Ok(Orders { stop: false, term: Some(next), .. }) => {
            End::new(Cause::Term, format!("the term is {next} now, it was {term}"))
        }
        Ok(Orders { stop: false, term: None, .. }) => {
            End::new(Cause::Term, format!("this controller does not lead any more; its term was {term}"))
        }
        Ok(Orders { stop: true, .. }) | Err(_) => {
            End::new(Cause::Stopped, "the owner has stopped the client")
        }
    }
}

async fn open(channel: Channel, shared: &Shared, term: u64) -> Result<(Session<'_>, v1::GatewayHello), End> {
    let Settings { window, retry_refused, .. } = shared.settings;
    let (messages, outgoing) = mpsc::channel(window + BESIDE);
    let hello = Said::Hello(hello(&shared.settings, term));
    messages
        .try_send(v1::ControllerMessage { message: Some(hello) })
        .map_err(|_| End::lost("the stream closed at once"))?;
    let opening = async {
        let mut client = ControlClient::new(channel);
        let replies = client.session(ReceiverStream::new(outgoing)).await;
        let mut replies = replies
            .map_err(|status| End::lost(format!("no session: {}", status_words(&status))))?
            .into_inner();
        loop {
            match next(&mut replies).await? {
                Heard::Hello(hello) => return Ok((replies, hello)),
                Heard::Heartbeat(_) => {}
                Heard::Closing(closing) => return Err(End::closed(&closing)),
                _ => return Err(End::protocol("the gateway did not begin with its hello")),
            }
        }
    };
    let silent = |_| {
        End::new(Cause::Silent, format!("no hello from the gateway within {} s", HELLO_PATIENCE.as_secs()))
    };
    let (replies, hello) = tokio::time::timeout(HELLO_PATIENCE, opening).await.map_err(silent)??;
    if hello.revision != REVISION {
        return Err(End::protocol(format!(
            "the gateway speaks revision {} of the API, this controller revision {REVISION}: update the older one",
            hello.revision
        )));
    }
    let now = Instant::now();
    let session = Session {
        shared,
        messages,
        replies,
        longest: Duration::from_secs(match hello.heartbeat_seconds {
            0 => DEFAULT_HEARTBEAT.into(),
            seconds => seconds.into(),
        }),
        said: now,
        heard: now,
        retry: retry_refused,
        retry_at: now + retry_refused,
        sync: Sync::Before,
        held: hello.held,
        programmed: None,
        is_kept: true,
        pending: VecDeque::new(),
    };
    Ok((session, hello))
}

fn hello(settings: &Settings, term: u64) -> v1::ControllerHello {
    v1::ControllerHello {
        lowest_revision: REVISION,
        highest_revision: REVISION,
        controller: settings.controller.clone(),
        term,
        grace_seconds: settings.grace_seconds,
        heartbeat_seconds: settings.heartbeat_seconds,
        software: settings.software.clone(),
        lasting: false,
    }
}

/// The next message of the gateway.
async fn next(replies: &mut Streaming<v1::GatewayMessage>) -> Result<Heard, End> {
    match replies.message().await {
        Ok(Some(v1::GatewayMessage { message: Some(heard) })) => Ok(heard),
        Ok(Some(v1::GatewayMessage { message: None })) => {
            Err(End::protocol("the gateway said what this controller does not know: compare their versions"))
        }
        Ok(None) => {
            Err(End::lost("the gateway ended the stream without a reason: it is stopping, or was killed"))
        }
        Err(status) => Err(End::lost(format!("the stream broke: {}", status_words(&status)))),
    }
}

impl Session<'_> {
    /// The gateway has answered: everything is to be declared.
    fn begin(&mut self, hello: v1::GatewayHello) {
        let mut state = self.shared.lock();
        state
            .mirror
            .begin(self.shared.settings.window, hello.capabilities.iter().any(|name| name == "route_sets"));
        state.sweep = false;
        let status = &mut state.status;
        status.connected_since = Some(SystemTime::now());
        status.node_id.clone_from(&hello.node_id);
        status.boot_id.clone_from(&hello.boot_id);
        status.software.clone_from(&hello.software);
        (status.synced, status.last_error) = (false, None);
        self.pending.push_back(Event::Up { hello: Box::new(hello) });
    }

    async fn drive(
        &mut self,
        term: u64,
        events: &mpsc::Sender<Event>,
        orders: &mut watch::Receiver<Orders>,
    ) -> End {
        loop {
            if let Err(end) = self.send() {
                return end;
            }
            let reads = self.pending.len() < PENDING;
            if !reads {
                // Silence that nobody listens to is not the gateway's.
                self.heard = Instant::now();
            }
            let wake_up = self.wake_up();
            let step = tokio::select! {
                permit = events.reserve(), if !self.pending.is_empty() => {
                    match (permit, self.pending.pop_front()) {
                        (Ok(permit), Some(event)) => permit.send(event),
                        // Nobody listens any more.
                        _ => self.pending.clear(),
                    }
                    Ok(())
                }
                heard = next(&mut self.replies), if reads => heard.and_then(|heard| self.handle(heard)),
                () = self.shared.changed.notified() => Ok(()),
                () = tokio::time::sleep_until(wake_up) => self.pass_time(),
                end = told(orders, term) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// When something has to be done even if nothing happens.
    fn wake_up(&self) -> Instant {
        let heartbeat = self.said + self.longest;
        let silent = self.heard + self.longest * SILENCES;
        heartbeat.min(silent).min(self.retry_at)
    }

    fn pass_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.heard + self.longest * SILENCES {
            let seconds = (self.longest * SILENCES).as_secs();
            return Err(End::new(Cause::Silent, format!("nothing was heard of the gateway for {seconds} s")));
        }
        if now >= self.said + self.longest {
            // Where the stream is stuck, what waits in it says as well that we
            // are here.
            match self.messages.capacity() > self.shared.settings.window {
                true => self.say(Said::Heartbeat(v1::Heartbeat {}))?,
                false => self.said = now,
            }
        }
        if now >= self.retry_at {
            self.retry_at = now + self.retry;
            self.shared.lock().mirror.retry_refused();
        }
        Ok(())
    }

    fn say(&mut self, said: Said) -> Result<(), End> {
        self.said = Instant::now();
        let message = v1::ControllerMessage { message: Some(said) };
        self.messages
            .try_send(message)
            .map_err(|_| End::lost("the gateway does not read the stream any more"))
    }

    /// Says all that can be said now, and gathers what the owner should hear.
    fn send(&mut self) -> Result<(), End> {
        while let Some(batch) = self.next_batch() {
            self.say(Said::Batch(batch))?;
        }
        self.gather_refusals();
        if let Some(id) = self.end_of_sync() {
            self.say(Said::EndOfSync(v1::EndOfSync { id }))?;
        }
        let programmed = self.shared.lock().mirror.programmed();
        // Of several revisions that nobody has taken yet, the last is enough.
        if let (Some(revision), true) = (programmed, self.programmed != programmed && self.pending.is_empty())
        {
            self.programmed = programmed;
            self.pending.push_back(Event::Programmed { revision });
        }
        Ok(())
    }

    fn gather_refusals(&mut self) {
        let mut state = self.shared.lock();
        while let Some(refusal) = state.mirror.poll_refusal() {
            state.status.last_error = Some(refusal.to_string());
            self.pending.push_back(Event::Refused(refusal));
        }
    }

    fn next_batch(&self) -> Option<v1::Batch> {
        self.shared.lock().mirror.poll_batch()
    }

    /// The id of the end of the synchronisation, if it is time for it: everything
    /// is declared, and the gateway would not withdraw what it could not replace.
    fn end_of_sync(&mut self) -> Option<u64> {
        if !matches!(self.sync, Sync::Before | Sync::Held) {
            return None;
        }
        let mut state = self.shared.lock();
        let complete = state.complete?;
        if state.mirror.accepted().is_none_or(|accepted| accepted < complete) {
            return None;
        }
        let refused = state.mirror.counts().refused;
        if refused > 0 && self.held > 0 && !state.sweep {
            if self.sync == Sync::Before {
                self.sync = Sync::Held;
                self.pending.push_back(Event::SyncHeld { refused });
            }
            return None;
        }
        let id = state.mirror.next_id();
        self.sync = Sync::Said(id);
        Some(id)
    }

    fn handle(&mut self, heard: Heard) -> Result<(), End> {
        self.heard = Instant::now();
        let wrong = |error: super::mirror::WrongAnswer| End::protocol(error.to_string());
        match heard {
            Heard::Accepted(accepted) => {
                let is_kept = accepted.not_stored.is_empty();
                if std::mem::replace(&mut self.is_kept, is_kept) != is_kept {
                    let not_stored = (!is_kept).then(|| accepted.not_stored.clone());
                    self.pending.push_back(Event::Kept { not_stored });
                }
                self.shared.lock().mirror.handle_accepted(accepted).map_err(wrong)
            }
            Heard::Programmed(v1::BatchProgrammed { id, .. }) => {
                self.shared.lock().mirror.handle_programmed(id).map_err(wrong)
            }
            Heard::Synced(v1::Synced { id, withdrawn }) if self.sync == Sync::Said(id) => {
                self.sync = Sync::Over;
                let mut state = self.shared.lock();
                state.status.synced = true;
                // What was in the way may be gone now.
                state.mirror.retry_refused();
                self.pending.push_back(Event::Synced { withdrawn });
                Ok(())
            }
            Heard::Heartbeat(_) => Ok(()),
            Heard::Closing(closing) => Err(End::closed(&closing)),
            Heard::Hello(_) | Heard::Synced(_) => {
                Err(End::protocol("the gateway said what has no place in the session: compare the versions"))
            }
        }
    }

    /// Closes this side, and waits a little for the gateway to close its own:
    /// then it has taken all that was sent.
    async fn leave(self) {
        let Self { messages, mut replies, .. } = self;
        drop(messages);
        let closed = async { while let Ok(Some(_)) = replies.message().await {} };
        // A gateway that does not close is left all the same.
        let _ = tokio::time::timeout(LEAVE_PATIENCE, closed).await;
    }
}
