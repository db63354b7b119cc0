//! A driver for the speaker on tokio: sockets and a clock.
//!
//! One task owns the speaker. Each connection has a task that reads and one
//! that writes; what they bring waits in bounded queues, so that a slow reader
//! of events slows the peers, not the memory.
//!
//! - [`run`]: the task; [`Handle`]: how others reach the speaker in it
//! - `guard`: listeners, and what connections must prove to them
//! - `connection`: one connection; `socket`: options of sockets

mod connection;
mod guard;
mod socket;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tieline_process::essential;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use crate::rib::PeerId;
use crate::rib::policy::Policy;
use crate::session::{ConnectionId, Input};
use crate::speaker::{Action, Event, Speaker};
use connection::Connection;
pub use guard::listen;
use guard::{Demand, Guarded};

/// Events that may wait for their reader before nothing more is read from
/// peers: two batches, so that there is always one to give.
const EVENT_BACKLOG: usize = 8192;
/// Events in one batch.
const EVENT_BATCH: usize = 4096;

/// Something to do with the speaker.
type Command<P> = Box<dyn FnOnce(&mut Speaker<P>, Duration) + Send>;

/// Reaches the speaker of a [`run`]. When the last one is gone, the task ends
/// and closes its sockets without a notification: a peer with graceful restart
/// keeps its routes. Stop the peers first where that is not meant.
#[derive(Debug)]
pub struct Handle<P> {
    commands: mpsc::Sender<Command<P>>,
}

impl<P> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone() }
    }
}

/// The task of the speaker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the BGP speaker has ended")]
pub struct Ended;

impl<P: 'static> Handle<P> {
    /// Does something with the speaker, in its task, and gives the answer back.
    /// The work must not take long: sessions wait for it.
    ///
    /// # Errors
    /// Where the task has ended.
    pub async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Speaker<P>, Duration) -> R + Send + 'static,
    ) -> Result<R, Ended> {
        let (answer, answered) = oneshot::channel();
        let command: Command<P> = Box::new(move |speaker, now| {
            // Who asked may be gone.
            let _ = answer.send(work(speaker, now));
        });
        self.commands.send(command).await.map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}

/// What connections bring, apart from bytes.
enum Control {
    Accepted(TcpStream, IpAddr),
    Connected(PeerId, u64, TcpStream),
    ConnectFailed(PeerId, u64, String),
    Sent(ConnectionId, usize),
}

/// What a connection received: bytes, or its end.
struct Received {
    connection: ConnectionId,
    bytes: Option<Vec<u8>>,
}

/// A handle, and the future that drives the speaker until the last handle is
/// gone. Events come in batches, in order.
pub fn run<P: Policy + Send + 'static>(
    speaker: Speaker<P>,
    listeners: Vec<TcpListener>,
    events: mpsc::Sender<Vec<Event>>,
) -> (Handle<P>, impl Future<Output = ()> + Send) {
    let (commands, receiver) = mpsc::channel(64);
    let driver = Driver::new(speaker, listeners);
    (Handle { commands }, driver.drive(receiver, events))
}

struct Driver<P> {
    speaker: Speaker<P>,
    start: Instant,
    guard: Guarded,
    /// Peers whose connections the listeners do not take, and why.
    unguarded: BTreeMap<PeerId, String>,
    connections: HashMap<ConnectionId, Connection>,
    next_connection: u64,
    /// The number of the latest try to connect, by peer.
    connecting: HashMap<PeerId, u64>,
    control: mpsc::UnboundedSender<Control>,
    control_receiver: Option<mpsc::UnboundedReceiver<Control>>,
    received: mpsc::Sender<Received>,
    receiver: Option<mpsc::Receiver<Received>>,
}

impl<P: Policy + Send + 'static> Driver<P> {
    fn new(speaker: Speaker<P>, listeners: Vec<TcpListener>) -> Self {
        let (control, control_receiver) = mpsc::unbounded_channel();
        let (received, receiver) = mpsc::channel(64);
        Self {
            speaker,
            start: Instant::now(),
            guard: Guarded::new(listeners),
            unguarded: BTreeMap::new(),
            connections: HashMap::new(),
            next_connection: 0,
            connecting: HashMap::new(),
            control,
            control_receiver: Some(control_receiver),
            received,
            receiver: Some(receiver),
        }
    }

    async fn drive(mut self, mut commands: mpsc::Receiver<Command<P>>, events: mpsc::Sender<Vec<Event>>) {
        let (Some(mut control), Some(mut received)) = (self.control_receiver.take(), self.receiver.take())
        else {
            return;
        };
        let accepting: Vec<_> =
            self.guard.listeners().iter().map(|listener| self.accept(listener.clone())).collect();
        let mut backlog: VecDeque<Event> = VecDeque::new();
        self.guard_peers(&mut backlog);
        // Whether anybody still reads events.
        let mut heard = true;
        loop {
            self.act(&mut backlog);
            if !heard {
                backlog.clear();
            }
            let wait = self.speaker.deadline().map(|at| at.saturating_sub(self.start.elapsed()));
            tokio::select! {
                Some(control) = control.recv() => self.control(control),
                // One at a time: a read of 64 KiB may be 10,000 events.
                Some(received) = received.recv(), if backlog.len() < EVENT_BACKLOG => self.received(received),
                command = commands.recv() => match command {
                    Some(command) => {
                        command(&mut self.speaker, self.start.elapsed());
                        self.guard_peers(&mut backlog);
                    }
                    None => break,
                },
                ready = events.reserve(), if heard && !backlog.is_empty() => {
                    if let Ok(permit) = ready {
                        permit.send(backlog.drain(..backlog.len().min(EVENT_BATCH)).collect());
                    } else {
                        heard = false;
                    }
                }
                () = sleep(wait) => self.speaker.handle_timeout(self.start.elapsed()),
            }
        }
        for task in accepting {
            task.abort();
        }
        // What was given to send, such as the notifications of peers that were
        // stopped, still goes out.
        self.act(&mut backlog);
    }

    /// Carries out what the speaker wants.
    fn act(&mut self, backlog: &mut VecDeque<Event>) {
        while let Some(action) = self.speaker.poll_action(self.start.elapsed()) {
            match action {
                Action::Connect(peer) => self.connect(peer),
                Action::Abandon(peer) => {
                    self.connecting.remove(&peer);
                }
                Action::Transmit { connection, bytes, .. } => {
                    if let Some(connection) = self.connections.get(&connection) {
                        connection.send(bytes);
                    }
                }
                Action::Close { connection, .. } => {
                    // The rest of what was sent goes out while it is dropped.
                    self.connections.remove(&connection);
                }
            }
        }
        while let Some(event) = self.speaker.poll_event() {
            backlog.push_back(event);
        }
    }

    fn accept(&self, listener: std::sync::Arc<TcpListener>) -> tokio::task::JoinHandle<()> {
        let control = self.control.clone();
        tokio::spawn(essential::task(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        if control.send(Control::Accepted(stream, from.ip().to_canonical())).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: it passes.
                        warn!("cannot accept a BGP connection: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }))
    }

    fn connect(&mut self, peer: PeerId) {
        let Some(config) = self.speaker.peer_config(peer) else { return };
        let address = SocketAddr::new(config.session.address, config.transport.port);
        let transport = config.transport.clone();
        self.next_connection += 1;
        let attempt = self.next_connection;
        self.connecting.insert(peer, attempt);
        let control = self.control.clone();
        tokio::spawn(essential::task(async move {
            // The speaker gives up sooner or later; this frees the socket.
            let connecting = connection::connect(address, &transport);
            let result = match tokio::time::timeout(Duration::from_secs(30), connecting).await {
                Ok(Ok(stream)) => Control::Connected(peer, attempt, stream),
                Ok(Err(error)) => {
                    debug!("cannot connect to BGP peer {address}: {error}");
                    Control::ConnectFailed(peer, attempt, error.to_string())
                }
                Err(_) => Control::ConnectFailed(peer, attempt, "the peer does not answer".to_owned()),
            };
            // The driver may have ended.
            let _ = control.send(result);
        }));
    }

    fn control(&mut self, control: Control) {
        let now = self.start.elapsed();
        match control {
            Control::Accepted(stream, from) => match self.speaker.peer_of(from) {
                Some(peer) => match self.guard.admit(from, &stream) {
                    Ok(()) => self.opened(peer, stream, false),
                    Err(reason) => warn!("a BGP connection from {from} was refused: {reason}"),
                },
                None => debug!("a BGP connection from {from} was refused: there is no such peer"),
            },
            Control::Connected(peer, attempt, stream) => {
                if self.connecting.get(&peer) == Some(&attempt) {
                    self.connecting.remove(&peer);
                    self.opened(peer, stream, true);
                }
            }
            Control::ConnectFailed(peer, attempt, reason) => {
                if self.connecting.get(&peer) == Some(&attempt) {
                    self.connecting.remove(&peer);
                    self.speaker.handle(now, peer, Input::ConnectFailed { reason: &reason });
                }
            }
            Control::Sent(connection, bytes) => {
                if let Some(peer) = self.connections.get(&connection).map(|connection| connection.peer) {
                    self.speaker.handle(now, peer, Input::Sent { connection, bytes });
                }
            }
        }
    }

    fn opened(&mut self, peer: PeerId, stream: TcpStream, outgoing: bool) {
        let transport = self.speaker.peer_config(peer).map(|config| config.transport.clone());
        if let Err(error) = socket::prepare(&stream, &transport.unwrap_or_default()) {
            let reason = format!("the options of a connection cannot be set: {error}");
            warn!("a BGP connection was refused: {reason}");
            if outgoing {
                self.speaker.handle(self.start.elapsed(), peer, Input::ConnectFailed { reason: &reason });
            }
            return;
        }
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let tasks = Connection::start(peer, connection, stream, self.received.clone(), self.control.clone());
        self.connections.insert(connection, tasks);
        self.speaker.handle(self.start.elapsed(), peer, Input::Opened { connection, outgoing });
    }

    fn received(&mut self, received: Received) {
        let connection = received.connection;
        let Some(peer) = self.connections.get(&connection).map(|connection| connection.peer) else { return };
        let now = self.start.elapsed();
        match &received.bytes {
            Some(bytes) => self.speaker.handle(now, peer, Input::Bytes { connection, bytes }),
            None => {
                self.connections.remove(&connection);
                self.speaker.handle(now, peer, Input::Closed { connection });
            }
        }
    }

    /// Listeners ask of connections what the peers demand now. Who cannot be guarded
    /// is told of.
    fn guard_peers(&mut self, backlog: &mut VecDeque<Event>) {
        let demand = |peer: PeerId| {
            let config = self.speaker.peer_config(peer)?;
            Some((config.session.address, Demand::of(&config.transport)))
        };
        self.guard.set(self.speaker.peers().filter_map(demand).collect());
        let failure = |peer: PeerId| {
            let address = self.speaker.peer_config(peer)?.session.address;
            Some((peer, self.guard.failure(address)?.to_owned()))
        };
        let now: BTreeMap<PeerId, String> = self.speaker.peers().filter_map(failure).collect();
        for (peer, reason) in now.iter().filter(|(peer, reason)| self.unguarded.get(peer) != Some(reason)) {
            backlog.push_back(Event::Guard { peer: *peer, failure: Some(reason.clone()) });
        }
        for peer in self.unguarded.keys().filter(|peer| !now.contains_key(peer)) {
            backlog.push_back(Event::Guard { peer: *peer, failure: None });
        }
        self.unguarded = now;
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
