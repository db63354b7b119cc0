//! The task that keeps a session with one gateway, and its owner's handle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tieline_process::essential;
use tieline_proto::v1::ClosingReason;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::address::Address;
use super::backoff::Backoff;
use super::events::{Cause, Event, Status};
use super::exports::Exports;
use super::key::{Change, Revision};
use super::mirror::Mirror;
use super::session::{self, End};

/// A session that lasted so long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(10);
/// Most batches under way: a gateway reads no more before it has answered.
const MOST_BATCHES: usize = 64;
/// Pauses that are shorter would be none, and longer ones no pauses.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(24 * 3600));
/// Events that wait for the owner.
const EVENTS: usize = 1024;

/// How to speak with gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name in which everything is declared. Replicas that elect a leader share it.
    pub controller: String,
    /// How long a gateway keeps what is declared when the session has ended, in
    /// seconds; none is the gateway's own default.
    pub grace_seconds: Option<u32>,
    /// Longest silence of either side, in seconds, 1 to 3600; 0 is 10.
    pub heartbeat_seconds: u32,
    /// What the controller is, such as "tieline-federation 1.2".
    pub software: String,
    /// Most batches under way, 1 to 64.
    pub window: usize,
    /// Pause before what was refused, but not for good, is tried again.
    pub retry_refused: Duration,
    /// Pause after the first failure; later ones double.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Settings {
    /// The usual ones, for a controller of this name.
    pub fn new(controller: impl Into<String>) -> Self {
        Self {
            controller: controller.into(),
            grace_seconds: None,
            heartbeat_seconds: 5,
            software: concat!("tieline-federation ", env!("CARGO_PKG_VERSION")).to_owned(),
            window: 16,
            retry_refused: Duration::from_secs(60),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// What the owner wants of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orders {
    /// The term to lead in; none: no session.
    pub term: Option<u64>,
    /// How often a term was told: the same one again is news too.
    pub told: u64,
    pub stop: bool,
}

/// What the owner and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub address: Address,
    pub settings: Settings,
    /// The mirror has changed, or what may be done with it.
    pub changed: Notify,
    state: Mutex<State>,
}

/// What changes of it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub mirror: Mirror,
    /// With this revision everything was declared for the first time.
    pub complete: Option<Revision>,
    /// The synchronisation may end although something was refused.
    pub sweep: bool,
    /// What is not counted from the mirror.
    pub status: Status,
}

impl Shared {
    /// Held for as long as a change or a batch takes, never while waiting.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something went wrong.
    pub fn error(&self, error: String) {
        self.lock().status.last_error = Some(error);
    }
}

/// The client of one gateway. When it is dropped the session ends; the gateway
/// keeps what was declared for its grace time.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Starts a client, which connects as soon as it is told a term, and returns
    /// what it has to tell. Nothing is lost while the owner does not read that,
    /// but then the client does not read the gateway either.
    ///
    /// To be called inside a tokio runtime.
    pub fn start(address: Address, settings: Settings) -> (Self, mpsc::Receiver<Event>) {
        let pause = |pause: Duration| pause.clamp(PAUSES.0, PAUSES.1);
        let settings = Settings {
            window: settings.window.clamp(1, MOST_BATCHES),
            retry_refused: pause(settings.retry_refused),
            first_pause: pause(settings.first_pause),
            longest_pause: pause(settings.longest_pause),
            ..settings
        };
        let shared = Arc::new(Shared { address, settings, changed: Notify::new(), state: Mutex::default() });
        let (orders, told) = watch::channel(Orders::default());
        let (sender, events) = mpsc::channel(EVENTS);
        let task = Task { shared: Arc::clone(&shared), orders: told, events: sender };
        let task = tokio::spawn(essential::task(task.run()));
        (Self { shared, orders, task }, events)
    }

    /// Says what should be different on the gateway, in this order. Returns at
    /// once, with the revision that [`Event::Programmed`] and [`Self::status`]
    /// will tell. What changes nothing has the last revision.
    pub fn change(&self, changes: Vec<Change>) -> Revision {
        let revision = self.shared.lock().mirror.apply(changes);
        self.shared.changed.notify_one();
        revision
    }

    /// Says that everything that should be on the gateway has been declared.
    /// Until then no synchronisation ends: what the gateway holds from an earlier
    /// life of this controller stays.
    pub fn complete(&self) {
        let mut state = self.shared.lock();
        state.complete = state.complete.or(Some(state.mirror.revision()));
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Ends a synchronisation that was held because something was refused. What
    /// the gateway has of that from an earlier session is withdrawn.
    pub fn sweep(&self) {
        self.shared.lock().sweep = true;
        self.shared.changed.notify_one();
    }

    /// Tells the term of the election: 0 where nobody is elected, none while
    /// somebody else leads. A new term begins a new session. After the gateway has
    /// closed one because of a higher term, or for another session of this name
    /// and term, there is none until this is called.
    pub fn lead(&self, term: Option<u64>) {
        self.orders.send_modify(|orders| {
            orders.term = term;
            orders.told += 1;
        });
    }

    /// How it stands with the gateway.
    pub fn status(&self) -> Status {
        let state = self.shared.lock();
        Status {
            counts: state.mirror.counts(),
            revision: state.mirror.revision(),
            programmed: state.mirror.programmed(),
            ..state.status.clone()
        }
    }

    /// Whether every change up to this revision is in force, or was refused.
    pub fn is_programmed(&self, revision: Revision) -> bool {
        self.shared.lock().mirror.programmed().is_some_and(|programmed| programmed >= revision)
    }

    /// Ends the session and the client. Nothing is withdrawn.
    pub async fn stop(self) {
        self.orders.send_modify(|orders| orders.stop = true);
        // It ends by itself; if it panicked, it has ended as well.
        let _ = self.task.await;
    }
}

struct Task {
    shared: Arc<Shared>,
    orders: watch::Receiver<Orders>,
    events: mpsc::Sender<Event>,
}

impl Task {
    async fn run(mut self) {
        let Settings { first_pause, longest_pause, .. } = self.shared.settings;
        let mut backoff = Backoff::new(first_pause, longest_pause);
        let mut exports = Exports::default();
        // Terms up to this one are over.
        let mut fenced = None;
        while let Some(orders) = self.wait_for_term(fenced).await {
            let Some(term) = orders.term else { continue };
            let begun = Instant::now();
            let (end, synced) = self.attempt(term, &mut exports).await;
            if synced || begun.elapsed() >= GOOD {
                backoff.reset();
            }
            let retry_in = match end.cause {
                Cause::Closed(ClosingReason::Fenced | ClosingReason::Replaced) | Cause::Stopped => None,
                Cause::Term => self.orders.borrow().term.map(|_| Duration::ZERO),
                // Somebody has to change one of the two programs first.
                Cause::Closed(ClosingReason::Revision | ClosingReason::Protocol) => Some(longest_pause),
                _ => Some(backoff.next()),
            };
            if end.cause == Cause::Closed(ClosingReason::Fenced) {
                fenced = fenced.max(Some(term));
            }
            {
                let status = &mut self.shared.lock().status;
                (status.connected_since, status.synced) = (None, false);
                if !matches!(end.cause, Cause::Term | Cause::Stopped) {
                    status.last_error = Some(end.reason.clone());
                }
            }
            let stopped = end.cause == Cause::Stopped;
            self.tell(Event::Down { cause: end.cause, reason: end.reason, retry_in }, stopped).await;
            match retry_in {
                _ if stopped => return,
                Some(pause) => self.pause(pause, orders).await,
                None if end.cause == Cause::Term => {}
                None => {
                    // Until the owner has something new to say.
                    if self.orders.wait_for(|now| now.told != orders.told || now.stop).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until there is a term that is not over; none when it is time to stop.
    async fn wait_for_term(&mut self, fenced: Option<u64>) -> Option<Orders> {
        let leads = |orders: &Orders| orders.term.is_some_and(|term| fenced.is_none_or(|over| term > over));
        let orders = self.orders.wait_for(|orders| orders.stop || leads(orders)).await.ok()?;
        (!orders.stop).then_some(*orders)
    }

    /// Waits, unless the owner has something new to say.
    async fn pause(&mut self, pause: Duration, orders: Orders) {
        let news = self.orders.wait_for(|now| now.stop || now.told != orders.told);
        // Whichever it is, the loop looks again.
        let _ = tokio::time::timeout(pause, news).await;
    }

    /// Connects, and carries on a session.
    async fn attempt(&mut self, term: u64, exports: &mut Exports) -> (End, bool) {
        let connected = tokio::select! {
            connected = self.shared.address.connect() => connected,
            end = session::told(&mut self.orders, term) => return (end, false),
        };
        match connected {
            Ok(channel) => {
                session::run(channel, &self.shared, term, exports, &self.events, &mut self.orders).await
            }
            Err(reason) => (End::new(Cause::Unreachable, reason), false),
        }
    }

    /// Tells the owner, who is not waited for when the client stops.
    async fn tell(&mut self, event: Event, stopped: bool) {
        if stopped {
            // An owner that has stopped the client knows it.
            let _ = self.events.try_send(event);
            return;
        }
        tokio::select! {
            // An owner that does not listen any more misses nothing.
            _ = self.events.send(event) => {}
            _ = self.orders.wait_for(|orders| orders.stop) => {}
        }
    }
}
