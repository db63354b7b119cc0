//! What the control side asks of a worker. Everything that a command needs is
//! allocated by the control side.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::io::Io;
use crate::packet::flow_key::FlowKey;
use crate::session::tick::Tick;
use crate::session::{Direction, Session, SessionTable, State};
use crate::types::{PortId, VrfId, WorkerId};
use crate::worker::transfer::{SessionExport, SessionImport};

/// Tells the control side that a command was carried out.
#[derive(Debug)]
pub struct Done<T>(SyncSender<T>);

impl<T> Done<T> {
    /// A signal and the end at which to wait for it.
    pub fn new() -> (Self, Receiver<T>) {
        let (sender, receiver) = sync_channel(1);
        (Self(sender), receiver)
    }

    /// Gives the result. Whoever asked may have given up waiting.
    pub fn signal(self, result: T) {
        let _ = self.0.try_send(result);
    }
}

/// What the control side asks of a worker.
pub enum Command<I: Io> {
    /// Use a port.
    AddPort(Box<AddPort<I>>),
    /// Stop receiving from a port and sending to it; gives the receive queues
    /// back. Frames that other workers have sent before may still come.
    UnroutePort {
        /// The port.
        port: PortId,
        /// Gets the receive queues and their numbers.
        done: Done<Vec<(u16, I::Rx)>>,
    },
    /// Send what waits for a port, then give its transmit queue back.
    ReleasePort {
        /// The port.
        port: PortId,
        /// Gets the transmit queue.
        done: Done<Option<I::Tx>>,
    },
    /// Copy sessions.
    DumpSessions(Box<SessionDump>),
    /// Copy sessions into a chunk for another process. One at a time: an
    /// earlier one that is not done comes back as it is.
    ExportSessions(Box<SessionExport>, Done<Box<SessionExport>>),
    /// Take sessions of another process. One at a time, likewise.
    ImportSessions(Box<SessionImport>, Done<Box<SessionImport>>),
    /// End the thread.
    Stop,
}

/// A port for a worker to use.
pub struct AddPort<I: Io> {
    /// The port.
    pub port: PortId,
    /// Receive queues that the worker owns from now on, with their numbers.
    pub rx: Vec<(u16, I::Rx)>,
    /// The transmit queue that the worker owns from now on.
    pub tx: Option<I::Tx>,
    /// Who transmits for this worker: itself if it has a transmit queue.
    pub tx_owner: WorkerId,
    /// Whether packets to it are punts.
    pub is_host: bool,
    /// Signals that it is in use.
    pub done: Done<()>,
}

/// A copy of sessions in the making.
#[derive(Debug)]
pub struct SessionDump {
    vrf: Option<VrfId>,
    cursor: u32,
    limit: usize,
    sessions: Vec<DumpedSession>,
    done: Done<Vec<DumpedSession>>,
}

/// One session as it was when it was copied.
#[derive(Debug, Clone)]
pub struct DumpedSession {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Keys by [`Direction`].
    pub keys: [FlowKey; 2],
    /// Packets by [`Direction`].
    pub packets: [u64; 2],
    /// Bytes of IP packets by [`Direction`].
    pub bytes: [u64; 2],
    /// How far it has come.
    pub state: State,
    /// Ticks until it ends without traffic.
    pub expires_in: u32,
}

impl DumpedSession {
    fn new(worker: WorkerId, session: &Session<'_>, now: Tick) -> Self {
        let flows = [session.flow(Direction::Forward), session.flow(Direction::Reverse)];
        Self {
            worker,
            keys: flows.map(|flow| *flow.key()),
            packets: flows.map(|flow| flow.packets()),
            bytes: flows.map(|flow| flow.bytes()),
            state: session.state(),
            expires_in: session.expires_in(now),
        }
    }
}

impl SessionDump {
    /// A dump of at most `limit` sessions, of one VRF or of all. Allocates
    /// room for all of them.
    pub fn new(vrf: Option<VrfId>, limit: usize) -> (Box<Self>, Receiver<Vec<DumpedSession>>) {
        let (done, receiver) = Done::new();
        let sessions = Vec::with_capacity(limit);
        (Box::new(Self { vrf, cursor: 0, limit, sessions, done }), receiver)
    }

    /// Copies some more; returns whether all is copied.
    pub(super) fn fill(&mut self, worker: WorkerId, table: &SessionTable, now: Tick, budget: usize) -> bool {
        let (vrf, limit, sessions) = (self.vrf, self.limit, &mut self.sessions);
        let more = table.dump(&mut self.cursor, budget, &mut |session| {
            let wanted = vrf.is_none_or(|vrf| session.flow(Direction::Forward).key().vrf == vrf);
            if wanted && sessions.len() < limit {
                sessions.push(DumpedSession::new(worker, &session, now));
            }
        });
        !more || sessions.len() == limit
    }

    /// Hands over what was copied.
    pub(super) fn finish(self) {
        self.done.signal(self.sessions);
    }
}
