//! The state machine.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::{LocalConfig, Negotiated, SessionConfig};
use super::connection::Connection;
use super::{ConnectionId, Counters, Down, Input, OPEN_TIME, Output, SEND_WINDOW, State};
use crate::wire::message::{Kind, decode_refresh, encode_keepalive};
use crate::wire::notification::cease;
use crate::wire::open::Open;
use crate::wire::update;
use crate::wire::{FamilySet, Notification};

/// How long a connection may take to stand.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// A session that has stood this long is not part of a collision: a second
/// connection means that the peer has lost the first (RFC 4724 section 5).
const SETTLED: Duration = Duration::from_secs(30);

/// A session that stands.
#[derive(Debug)]
struct Standing {
    connection: ConnectionId,
    negotiated: Negotiated,
    since: Duration,
    /// Families of which nothing more is taken.
    disabled: FamilySet,
}

/// The session with one peer.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    local: LocalConfig,
    restarting: bool,
    started: bool,
    connecting: bool,
    /// When the machine acts by itself: gives up connecting, or tries again.
    retry_at: Option<Duration>,
    /// Until then the peer's connections are refused too.
    held_until: Option<Duration>,
    /// Tries that came to nothing, one after the other.
    failures: u32,
    /// State of the generator for the random part of waits.
    random: u64,
    connections: Vec<Connection>,
    standing: Option<Standing>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Session {
    /// A session that waits for [`Input::Start`]. `seed` makes the random part
    /// of its waits; `restarting` is told to the peer (RFC 4724 section 3).
    pub fn new(config: SessionConfig, local: LocalConfig, restarting: bool, seed: u64) -> Self {
        Self {
            config,
            local,
            restarting,
            started: false,
            connecting: false,
            retry_at: None,
            held_until: None,
            failures: 0,
            random: seed,
            connections: Vec::new(),
            standing: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// What it was told.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Its counters.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        if self.standing.is_some() {
            return State::Established;
        }
        match self.connections.iter().map(|connection| connection.peer.is_some()).max() {
            Some(true) => State::OpenConfirm,
            Some(false) => State::OpenSent,
            None if self.connecting => State::Connect,
            None if self.started && self.config.passive => State::Active,
            None => State::Idle,
        }
    }

    /// What was agreed on, while the session stands.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.standing.as_ref().map(|standing| &standing.negotiated)
    }

    /// Since when the session stands.
    pub fn since(&self) -> Option<Duration> {
        self.standing.as_ref().map(|standing| standing.since)
    }

    /// From now on the speaker counts as settled after its start.
    pub fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// What it wants done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.connections.iter().filter_map(Connection::deadline).chain(self.retry_at).min()
    }

    /// Whether more routes may be written to the peer.
    pub fn is_writable(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| {
            self.connections
                .iter()
                .any(|connection| connection.id == standing.connection && connection.waiting < SEND_WINDOW)
        })
    }

    /// Gives whole messages to the standing session; without one, nothing
    /// happens.
    pub fn send(&mut self, now: Duration, bytes: Vec<u8>, messages: u64) {
        if let Some(connection) = self.standing.as_ref().map(|standing| standing.connection) {
            self.counters.sent += messages;
            self.transmit(now, connection, bytes);
        }
    }

    /// Ends the session with a notification and starts it again after
    /// `again`, or not by itself. Until then the peer gets no connection.
    pub fn stop(&mut self, now: Duration, notification: &Notification, again: Option<Duration>) {
        let hard = self
            .negotiated()
            .and_then(|negotiated| negotiated.graceful_restart.as_ref())
            .is_some_and(|restart| restart.notification);
        // Where plain notifications keep routes, this one must not.
        let sent = if hard { notification.clone().hard() } else { notification.clone() };
        for id in self.connections.iter().map(|connection| connection.id).collect::<Vec<_>>() {
            self.close(now, id, Some(&sent), &notification.to_string());
        }
        if std::mem::take(&mut self.connecting) {
            self.outputs.push_back(Output::Abandon);
        }
        self.started = again.is_some();
        self.retry_at = again.map(|wait| now + wait);
        self.held_until = self.retry_at;
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Duration, input: Input<'_>) {
        match input {
            Input::Start => {
                self.held_until = None;
                if !std::mem::replace(&mut self.started, true) {
                    self.try_connect(now);
                }
            }
            Input::Opened { connection, outgoing } => self.opened(now, connection, outgoing),
            Input::ConnectFailed { reason } => {
                if std::mem::take(&mut self.connecting) {
                    self.outputs.push_back(Output::Failed(reason.to_owned()));
                    self.wait_to_retry(now);
                }
            }
            Input::Bytes { connection, bytes } => self.bytes(now, connection, bytes),
            Input::Sent { connection, bytes } => {
                let hold = self.config.send_hold_time;
                if let Some(connection) = self.find(connection) {
                    connection.waiting = connection.waiting.saturating_sub(bytes);
                    connection.send_hold_at = (connection.waiting > 0 && !hold.is_zero()).then(|| now + hold);
                }
            }
            Input::Closed { connection } => {
                if self.find(connection).is_some() {
                    self.forget(now, connection, None, false, "the peer closed the connection".into());
                }
            }
            Input::Timer => self.timer(now),
        }
    }

    fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn try_connect(&mut self, now: Duration) {
        if self.config.passive {
            self.retry_at = None;
            return;
        }
        self.connecting = true;
        self.retry_at = Some(now + CONNECT_TIME);
        self.outputs.push_back(Output::Connect);
    }

    fn wait_to_retry(&mut self, now: Duration) {
        if !self.started || self.config.passive {
            self.retry_at = None;
            return;
        }
        let doubled = self.config.retry.saturating_mul(1 << self.failures.min(16));
        let wait = doubled.min(self.config.retry_limit).max(Duration::from_millis(100));
        self.failures = self.failures.saturating_add(1);
        // Three quarters to all of it, so that speakers do not act in step.
        let part = 768 + self.next_random() % 257;
        self.retry_at = Some(now + wait.mul_f64(part as f64 / 1024.0));
    }

    /// SplitMix64: plenty for spreading waits.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn opened(&mut self, now: Duration, id: ConnectionId, outgoing: bool) {
        let asked_for = if outgoing { std::mem::take(&mut self.connecting) } else { true };
        if outgoing && asked_for {
            self.retry_at = None;
        }
        let confirmed = self.connections.iter().any(|connection| connection.peer.is_some());
        self.held_until = self.held_until.filter(|until| *until > now);
        // No connection is wanted, or none of this side's.
        if !self.started || self.held_until.is_some() || !asked_for || (outgoing && confirmed) {
            self.outputs.push_back(Output::Close { connection: id });
            return;
        }
        // A second one of the same direction: the peer has given up the first.
        let standing = self.standing.as_ref().map(|standing| standing.connection);
        let old = self.connections.iter().find(|c| c.outgoing == outgoing && Some(c.id) != standing);
        if let Some(old) = old.map(|old| old.id) {
            self.drop_quietly(old);
        }
        let mut bytes = Vec::new();
        self.config.open(&self.local, self.restarting).encode(&mut bytes);
        self.connections.push(Connection::new(id, outgoing, now + OPEN_TIME));
        self.counters.sent += 1;
        self.transmit(now, id, bytes);
    }

    /// Closes a connection that is not the standing one, without a trace.
    fn drop_quietly(&mut self, id: ConnectionId) {
        self.connections.retain(|connection| connection.id != id);
        self.outputs.push_back(Output::Close { connection: id });
    }

    fn transmit(&mut self, now: Duration, id: ConnectionId, bytes: Vec<u8>) {
        let hold = self.config.send_hold_time;
        if let Some(connection) = self.find(id) {
            connection.waiting += bytes.len();
            if connection.send_hold_at.is_none() && !hold.is_zero() {
                connection.send_hold_at = Some(now + hold);
            }
            self.outputs.push_back(Output::Transmit { connection: id, bytes });
        }
    }

    /// Sends a notification, closes and forgets a connection.
    fn close(&mut self, now: Duration, id: ConnectionId, notification: Option<&Notification>, reason: &str) {
        if let Some(notification) = notification {
            let mut bytes = Vec::new();
            notification.encode(&mut bytes);
            self.counters.sent += 1;
            self.transmit(now, id, bytes);
        }
        self.outputs.push_back(Output::Close { connection: id });
        self.forget(now, id, notification.cloned(), false, reason.to_owned());
    }

    /// A connection is gone; if it was the last, the session tries again.
    fn forget(
        &mut self,
        now: Duration,
        id: ConnectionId,
        notification: Option<Notification>,
        from_peer: bool,
        reason: String,
    ) {
        self.connections.retain(|connection| connection.id != id);
        match self.standing.take_if(|standing| standing.connection == id) {
            Some(standing) => {
                let restart = standing.negotiated.graceful_restart.as_ref();
                let graceful = restart.is_some_and(|restart| match &notification {
                    None => true,
                    // RFC 8538: if both said so, all but a Hard Reset.
                    Some(notification) => restart.notification && !notification.is_hard(),
                });
                if notification.is_none() || now.saturating_sub(standing.since) > SETTLED {
                    self.failures = 0;
                }
                self.outputs.push_back(Output::Down(Down { notification, from_peer, graceful, reason }));
            }
            None => self.outputs.push_back(Output::Failed(reason)),
        }
        if self.connections.is_empty() && !self.connecting {
            self.wait_to_retry(now);
        }
    }

    fn timer(&mut self, now: Duration) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        for id in self.connections.iter().map(|connection| connection.id).collect::<Vec<_>>() {
            let Some(connection) = self.find(id) else { continue };
            let (hold, send) = (due(connection.hold_at), due(connection.send_hold_at));
            if hold || send {
                let notification =
                    if hold { Notification::hold_timer() } else { Notification::send_hold_timer() };
                let reason = notification.to_string();
                self.close(now, id, Some(&notification), &reason);
                continue;
            }
            if due(connection.keepalive_at) {
                connection.keepalive_at = Some(now + connection.hold_time / 3);
                self.keepalive(now, id);
            }
        }
        if due(self.retry_at) {
            self.retry_at = None;
            if std::mem::take(&mut self.connecting) {
                self.outputs.push_back(Output::Abandon);
                self.outputs.push_back(Output::Failed("the peer does not answer".into()));
                self.wait_to_retry(now);
            } else if self.started && self.connections.is_empty() {
                self.try_connect(now);
            }
        }
    }

    fn keepalive(&mut self, now: Duration, id: ConnectionId) {
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        self.counters.sent += 1;
        self.transmit(now, id, bytes);
    }

    fn bytes(&mut self, now: Duration, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.find(id) else { return };
        // Taken out while its messages change the session.
        let mut framer = std::mem::take(&mut connection.framer);
        framer.push(bytes);
        loop {
            let extended =
                self.standing.as_ref().is_some_and(|s| s.connection == id && s.negotiated.extended_messages);
            let result = match framer.next(extended) {
                Ok(None) => break,
                Ok(Some((kind, body))) => self.message(now, id, kind, body),
                Err(notification) => Err(notification),
            };
            if let Err(notification) = result {
                let reason = notification.to_string();
                self.close(now, id, Some(&notification), &reason);
            }
            if self.find(id).is_none() {
                return;
            }
        }
        if let Some(connection) = self.find(id) {
            connection.framer = framer;
        }
    }

    fn message(
        &mut self,
        now: Duration,
        id: ConnectionId,
        kind: Kind,
        body: &[u8],
    ) -> Result<(), Notification> {
        self.counters.received += 1;
        let Some(connection) = self.find(id) else { return Ok(()) };
        connection.heard(now);
        let confirmed = connection.peer.is_some();
        if kind == Kind::Notification {
            let notification = Notification::decode(body);
            let reason = format!("the peer sent {notification}");
            self.outputs.push_back(Output::Close { connection: id });
            self.forget(now, id, Some(notification), true, reason);
            return Ok(());
        }
        let standing = self.standing.as_ref().is_some_and(|standing| standing.connection == id);
        match (standing, confirmed, kind) {
            (false, false, Kind::Open) => self.open(now, id, Open::decode(body)?),
            (false, true, Kind::Keepalive) => {
                self.establish(now, id);
                Ok(())
            }
            (true, _, Kind::Keepalive) => Ok(()),
            (true, _, Kind::Update) => self.update(body),
            (true, _, Kind::RouteRefresh) => {
                if let Some((family, refresh)) = decode_refresh(body)?
                    && self.standing.as_ref().is_some_and(|s| s.negotiated.families.contains(family))
                {
                    self.outputs.push_back(Output::Refresh(family, refresh));
                }
                Ok(())
            }
            // RFC 6608: the subcode is the state.
            (false, false, _) => Err(Notification::state_machine(1, "a message before OPEN")),
            (false, true, _) => Err(Notification::state_machine(2, "a message before KEEPALIVE")),
            (true, _, _) => Err(Notification::state_machine(3, "OPEN in a standing session")),
        }
    }

    fn update(&mut self, body: &[u8]) -> Result<(), Notification> {
        self.counters.updates_received += 1;
        let Some(standing) = &mut self.standing else { return Ok(()) };
        let mut context = standing.negotiated.decode_context();
        for family in standing.disabled.iter() {
            context.families.remove(family);
        }
        let update = update::decode(body, &context)?;
        if let Some(family) = update.disable {
            standing.disabled.insert(family);
        }
        self.counters.faults += update.faults.len() as u64;
        self.outputs.push_back(Output::Update(Box::new(update)));
        Ok(())
    }

    /// The peer's OPEN (RFC 4271 section 8.2.2, events 19 and 22).
    fn open(&mut self, now: Duration, id: ConnectionId, open: Open) -> Result<(), Notification> {
        if open.asn != self.config.asn {
            let reason = format!("the peer is of AS {}, not {}", open.asn, self.config.asn);
            return Err(Notification::new(2, 2, Vec::new(), reason));
        }
        let internal = open.asn == self.local.asn;
        if internal && open.router_id == self.local.router_id {
            let reason = format!("the peer has this speaker's own BGP identifier {}", open.router_id);
            return Err(Notification::new(2, 3, Vec::new(), reason));
        }
        let mine = self.config.open(&self.local, self.restarting);
        let negotiated = Negotiated::new(&mine, &open);
        if negotiated.families.is_empty() {
            let mut data = Vec::new();
            for family in self.config.families.iter() {
                let [high, low] = family.afi().to_be_bytes();
                data.extend_from_slice(&[1, 4, high, low, 0, family.safi()]);
            }
            return Err(Notification::new(2, 7, data, "the peer has none of the address families wanted"));
        }
        if !self.settle_collision(now, id, &open) {
            return Ok(());
        }
        if std::mem::take(&mut self.connecting) {
            self.retry_at = None;
            self.outputs.push_back(Output::Abandon);
        }
        if let Some(connection) = self.find(id) {
            connection.hold_time = negotiated.hold_time;
            connection.peer = Some(open);
            connection.keepalive_at =
                (!negotiated.hold_time.is_zero()).then(|| now + negotiated.hold_time / 3);
            connection.heard(now);
            self.keepalive(now, id);
        }
        Ok(())
    }

    /// Leaves one connection (RFC 4271 section 6.8, RFC 6286 section 2.3): the
    /// one that the speaker with the higher identifier asked for. Returns
    /// whether this one stays.
    ///
    /// The speaker with the higher identifier decides as soon as it knows that,
    /// for its own connection, before the other can stand; the other speaker
    /// waits for the OPEN. So the two never each keep a different one.
    fn settle_collision(&mut self, now: Duration, id: ConnectionId, open: &Open) -> bool {
        let mine = (self.local.router_id, self.local.asn);
        let keep_outgoing = mine > (open.router_id, open.asn);
        let other = self.connections.iter().find(|connection| {
            connection.id != id && (connection.peer.is_some() || (connection.outgoing && keep_outgoing))
        });
        let Some(other) = other.map(|other| other.id) else { return true };
        let collision = Notification::cease(cease::COLLISION, "");
        if let Some(standing) = &self.standing {
            let lost =
                standing.negotiated.graceful_restart.is_some() && now - standing.since.min(now) >= SETTLED;
            if lost {
                // RFC 4724 section 5: the old connection ends without a notification.
                self.outputs.push_back(Output::Close { connection: other });
                self.forget(now, other, None, false, "the peer has connected anew".into());
                return true;
            }
            self.refuse(now, id, &collision);
            return false;
        }
        let outgoing = self.find(id).is_some_and(|connection| connection.outgoing);
        let loser = if outgoing == keep_outgoing { other } else { id };
        self.refuse(now, loser, &collision);
        loser != id
    }

    /// Closes a connection that lost a collision: no failure of the session.
    fn refuse(&mut self, now: Duration, id: ConnectionId, notification: &Notification) {
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        self.counters.sent += 1;
        self.transmit(now, id, bytes);
        self.drop_quietly(id);
    }

    fn establish(&mut self, now: Duration, id: ConnectionId) {
        let mine = self.config.open(&self.local, self.restarting);
        let Some(peer) = self.find(id).and_then(|connection| connection.peer.clone()) else { return };
        let negotiated = Negotiated::new(&mine, &peer);
        // Another one came too late to count.
        if let Some(other) = self.connections.iter().map(|c| c.id).find(|other| *other != id) {
            self.drop_quietly(other);
        }
        self.counters.established += 1;
        self.retry_at = None;
        self.outputs.push_back(Output::Established(Box::new(negotiated.clone())));
        self.standing = Some(Standing { connection: id, negotiated, since: now, disabled: FamilySet::EMPTY });
    }
}
