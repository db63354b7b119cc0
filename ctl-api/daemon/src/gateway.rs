//! The one owner of what is declared, of the tables made from it, and of the
//! devices.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message as _;
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_rib::persist::Copy;
use tieline_rib::{ControllerId, Refusal, Rib};
use tieline_store::{Opened as Found, Record, Store};

use crate::admission::Admission;
use crate::batch::{self, Counted, Done, Work};
use crate::changes::Changes;
use crate::device_ports::{DevicePorts, Wanted};
use crate::events::Watchman;
use crate::identity::NodeId;
use crate::keeper::{Contents, KeeperWatch, Task};
use crate::persist::{Remembered, Restored, Restoring, ToStore};
use crate::problems::{News, Problems};
use crate::sessions::{Hello, Opened, SessionId, SessionLimits, Sessions};

/// Stale things that are withdrawn under one lock of the tables.
const SWEPT_AT_ONCE: usize = 16_384;

/// Bytes of a page of objects, so that a reply stays below the 4 MiB that
/// gRPC clients accept.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// Declared objects, forwarding tables and devices, kept in step.
pub struct Gateway {
    rib: Rib,
    ports: DevicePorts,
    engine: Engine<DpdkIo>,
    sessions: Sessions,
    changes: Changes,
    watchman: Watchman,
    keeper: KeeperWatch,
    problems: Problems,
    node: NodeId,
    /// What the store has to hear of beside the changes of the RIB.
    to_store: ToStore,
    /// The version of the ports that devices were asked for.
    ports_version: u64,
    /// Another daemon has taken over everything.
    given_away: bool,
}

/// What a gateway shares with other parts of the daemon.
pub struct Shared {
    /// The end of the store that tells how it is.
    pub keeper: KeeperWatch,
    /// What is wrong.
    pub problems: Problems,
    /// The gateway's name.
    pub node: NodeId,
}

impl Gateway {
    /// A gateway without any object.
    pub fn new(
        mut rib: Rib,
        ports: DevicePorts,
        engine: Engine<DpdkIo>,
        sessions: SessionLimits,
        shared: Shared,
    ) -> Self {
        rib.keep_journal(true);
        let Shared { keeper, problems, node } = shared;
        Self {
            rib,
            ports,
            engine,
            sessions: Sessions::new(sessions),
            changes: Changes::default(),
            watchman: Watchman::default(),
            keeper,
            problems,
            node,
            to_store: ToStore::default(),
            ports_version: 0,
            given_away: false,
        }
    }

    /// Brings the state of before the start back, and publishes it.
    ///
    /// # Errors
    /// A sentence that says what in the store cannot be. Nothing is changed.
    pub fn restore(&mut self, store: &Store, now: Instant) -> Result<Restored, String> {
        let (restored, _) =
            self.restore_from(now, |take| store.load(take).map_err(|error| error.to_string()))?;
        Ok(restored)
    }

    /// Brings back what these records say, wherever they come from. Also returns
    /// the version of the tables that holds it.
    ///
    /// # Errors
    /// A sentence that says which record cannot be. Nothing is changed.
    pub fn restore_from(
        &mut self,
        now: Instant,
        from: impl FnOnce(&mut dyn FnMut(Record<'_>) -> Result<(), String>) -> Result<(), String>,
    ) -> Result<(Restored, u64), String> {
        let (limits, options) = (self.rib.limits().clone(), self.rib.options().clone());
        let rib = &mut self.rib;
        rib.keep_journal(false);
        let (restored, _) = self.engine.update_if(|tables| {
            let before = tables.clone();
            let mut restoring = Restoring::default();
            let restored = from(&mut |record| restoring.take(record, rib, tables))
                .and_then(|()| restoring.finish(rib, tables));
            if restored.is_err() {
                *tables = before;
            }
            (restored, true)
        });
        if restored.is_err() {
            self.rib = Rib::new(limits, options);
        }
        self.rib.keep_journal(true);
        let restored = restored?;
        for Remembered { by, terms } in &restored.controllers {
            self.sessions.remember(*by, terms.clone(), now);
        }
        let version = self.follow_devices(now);
        Ok((restored, version))
    }

    /// Takes a store that was just opened, and brings back what is in it if that
    /// is the last state. Records that can be neither are set aside; what is
    /// declared here takes their place.
    pub fn take_store(&mut self, store: Store, found: &Found, now: Instant) {
        let path = store.path().to_owned();
        note_found(&path, found);
        let unread = self.keeper.contents() == Contents::Unread && !store.is_empty();
        let store = match unread {
            false => Ok(store),
            true if self.is_blank() => match self.restore(&store, now) {
                Ok(restored) => {
                    tracing::info!(
                        controllers = restored.controllers.len(), objects = restored.objects,
                        routes = restored.routes, took = ?now.elapsed(), "brought back the last state"
                    );
                    self.changes.forget();
                    return self.keep_in(store, false);
                }
                Err(reason) => self.set_aside(store, &reason),
            },
            true => self.set_aside(
                store,
                "the daemon had to start without it, and other things were declared before it could be opened",
            ),
        };
        match store {
            Ok(store) => self.keep_in(store, true),
            Err(error) => {
                tracing::error!(store = %path.display(), "the store cannot be used: {error}");
                self.keeper.open(error.to_string());
            }
        }
    }

    /// Brings the last state back from a store that cannot be written now. When it can
    /// be opened, everything is written.
    pub fn read_store(&mut self, at: &Path, now: Instant) {
        let path = at.display();
        let restored = Store::read(at).map_err(|error| error.to_string());
        let restored = restored.and_then(|contents| {
            let (restored, _) =
                self.restore_from(now, |take| contents.load(take).map_err(|error| error.to_string()))?;
            Ok((restored, contents))
        });
        let (restored, contents) = match restored {
            Ok(both) => both,
            Err(reason) => {
                tracing::error!(store = %path, "starting without the last state: {reason}");
                return;
            }
        };
        tracing::warn!(
            store = %path, controllers = restored.controllers.len(), objects = restored.objects,
            routes = restored.routes, missing = contents.missing().unwrap_or("nothing"),
            "brought back the last state from a store that cannot be written: nothing is kept for now"
        );
        self.node.set_bytes(contents.node_id());
        self.changes.forget();
        self.keeper.set_contents(Contents::Known);
    }

    fn set_aside(&self, store: Store, reason: &str) -> Result<Store, tieline_store::StoreError> {
        let path = store.path().to_owned();
        let (store, found) = store.set_aside(reason)?;
        note_found(&path, &found);
        Ok(store)
    }

    /// From now on what is declared goes into this store: all of it, or what
    /// changes.
    fn keep_in(&mut self, store: Store, all: bool) {
        self.keeper.set_contents(Contents::Known);
        self.node.set_bytes(store.node_id());
        let changes = if all {
            self.everything()
        } else {
            self.keeper.is_complete(&store);
            std::mem::take(&mut self.to_store)
        };
        self.to_store = changes.into_store(store);
    }

    /// Whether nothing is declared and nobody was here.
    fn is_blank(&self) -> bool {
        self.rib.controllers().next().is_none()
    }

    /// The store is opened again, after it was closed for this reason.
    pub fn open_store_again(&mut self, why: &str) {
        self.keeper.open(why.to_owned());
    }

    /// Another daemon has taken over everything: this one declares nothing more,
    /// and its devices are not to be closed in order.
    pub fn give_away(&mut self) {
        self.given_away = true;
    }

    /// Whether another daemon has taken over.
    pub fn is_given_away(&self) -> bool {
        self.given_away
    }

    /// The end of the store that tells how it is.
    pub fn keeper(&mut self) -> &mut KeeperWatch {
        &mut self.keeper
    }

    /// The gateway's name.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Everything that is declared, to be put in the place of what is stored.
    pub fn everything(&self) -> ToStore {
        let mut copy = ToStore::everything();
        for (name, by) in self.rib.controllers() {
            if let Some(terms) = self.sessions.terms(by) {
                copy.controller(by, name, terms);
            }
        }
        self.write_declared(&mut copy);
        copy
    }

    /// Writes all that is declared.
    pub fn write_declared(&self, copy: &mut dyn Copy) {
        self.rib.write_all(copy);
    }

    /// A session of a controller begins.
    ///
    /// # Errors
    /// When it has to be closed at once.
    pub fn open_session(&mut self, name: &str, hello: Hello, now: Instant) -> Result<Opened, v1::Closing> {
        let by = self.rib.controller(name).map_err(|refusal| {
            let reason = match refusal.code {
                v1::ErrorCode::LimitReached => v1::ClosingReason::Limit,
                _ => v1::ClosingReason::Protocol,
            };
            v1::Closing { reason: reason.into(), message: refusal.to_string() }
        })?;
        let (term, lasting) = (hello.terms.term, hello.terms.lasting);
        let software = hello.software.clone();
        let session = self.sessions.open(by, name, hello, now).inspect_err(|_| {
            // A name that nobody knew stays unknown.
            if self.sessions.terms(by).is_none() {
                self.rib.forget_controller(by);
            }
        })?;
        let held = self.rib.held(by) as u64;
        let (rib, engine) = (&mut self.rib, &self.engine);
        if lasting {
            engine.update_if(|tables| ((), rib.refresh(by, tables)));
        } else {
            engine.update_if(|tables| ((), rib.begin_sync(by, tables)));
            tracing::info!(controller = name, term, software, held, "session opened");
            self.changes.event(v1::EventKind::ControllerUp, name, format!("controller {name} is here"));
        }
        let mut grace = Duration::ZERO;
        if let Some(terms) = self.sessions.terms(by) {
            grace = terms.grace;
            self.to_store.controller(by, name, terms);
        }
        Ok(Opened { by, session, held, grace, limits: self.rib.limits().messages() })
    }

    /// A session has ended.
    pub fn close_session(&mut self, by: ControllerId, session: SessionId, now: Instant) {
        if !self.sessions.close(by, session, now) {
            return;
        }
        let name = self.rib.controller_name(by).to_owned();
        if self.sessions.terms(by).is_some_and(|terms| !terms.lasting) {
            // Nobody stands behind it any more: what others say of the same
            // routes comes first.
            let (rib, engine) = (&mut self.rib, &self.engine);
            engine.update_if(|tables| ((), rib.begin_sync(by, tables)));
            let held = self.rib.held(by);
            tracing::info!(
                controller = name,
                held,
                "session ended: what it holds is kept for its grace time"
            );
            self.changes.event(v1::EventKind::ControllerDown, &name, format!("controller {name} has gone"));
        }
        self.forget_controllers(now);
    }

    /// Forgets controllers that hold nothing, when nobody has to know their terms
    /// any more.
    fn forget_controllers(&mut self, now: Instant) {
        let rib = &self.rib;
        for gone in self.sessions.forget(now, |by| rib.held(by) > 0) {
            self.rib.forget_controller(gone);
            self.to_store.no_controller(gone);
        }
    }

    /// Forgets a controller that is away, with what it holds if that is to be
    /// withdrawn. Returns how much was, and the version of the tables.
    ///
    /// # Errors
    /// When it is not known, has a session, or holds something that stays.
    pub fn forget_controller(&mut self, name: &str, withdraw: bool) -> Result<(usize, u64), NotForgotten> {
        let by = self.rib.find_controller(name).ok_or(NotForgotten::Unknown)?;
        if self.sessions.view(by, Instant::now()).is_some_and(|view| view.connected) {
            return Err(NotForgotten::Connected);
        }
        let held = self.rib.held(by);
        if held > 0 && !withdraw {
            return Err(NotForgotten::Holds(held));
        }
        let (rib, engine) = (&mut self.rib, &self.engine);
        engine.update_if(|tables| ((), rib.begin_sync(by, tables)));
        let (withdrawn, version) = self.sweep(by);
        if withdrawn > 0 {
            let message = format!("{name} was forgotten with {withdrawn} objects and routes");
            self.changes.event(v1::EventKind::StaleWithdrawn, name, message);
        }
        self.sessions.remove(by);
        self.rib.forget_controller(by);
        self.to_store.no_controller(by);
        Ok((withdrawn, version.max(self.follow_devices(Instant::now()))))
    }

    /// A controller has declared again all that it holds. Returns how much was
    /// withdrawn, and the version of the tables that is without it; `None` if the
    /// session has no say any more.
    pub fn end_of_sync(&mut self, by: ControllerId, session: SessionId) -> Option<(usize, u64)> {
        if !self.sessions.is_live(by, session) {
            return None;
        }
        let (withdrawn, version) = self.sweep(by);
        if withdrawn > 0 {
            let name = self.rib.controller_name(by).to_owned();
            tracing::info!(controller = name, withdrawn, "withdrawn: not declared again");
            let message = format!("{withdrawn} objects and routes of {name} were not declared again");
            self.changes.event(v1::EventKind::StaleWithdrawn, &name, message);
        }
        Some((withdrawn, version))
    }

    /// Time has passed. Returns the version of the tables.
    pub fn tick(&mut self, now: Instant) -> u64 {
        for by in self.sessions.expired(now) {
            let name = self.rib.controller_name(by).to_owned();
            let (withdrawn, _) = self.sweep(by);
            if withdrawn == 0 {
                continue;
            }
            tracing::warn!(controller = name, withdrawn, "withdrawn: its grace time is over");
            let message = format!("the grace time of {name} is over: {withdrawn} objects and routes");
            self.changes.event(v1::EventKind::StaleWithdrawn, &name, message);
        }
        self.forget_controllers(now);
        self.look_at_devices(now);
        self.watchman.look(&self.rib, &self.engine, &mut self.changes);
        match self.keeper.look(&mut self.changes, &self.problems, now) {
            Task::None => {}
            Task::WriteAll => self.to_store = self.everything(),
            Task::Take(store, found) => self.take_store(*store, &found, now),
        }
        self.look_at_problems();
        self.engine.version()
    }

    /// Tells those who watch what is wrong, and what is not any more.
    fn look_at_problems(&mut self) {
        let closed = self.ports.closed().map(|(name, why, is_tried)| {
            let tried = if is_tried { ", and is tried again" } else { "" };
            (name.to_owned(), format!("its device is not open{tried}: {}", why.trim_end_matches('.')))
        });
        self.problems.set_all(v1::ProblemKind::Port, closed);
        for News { kind, subject, message, is_over } in self.problems.news() {
            let event = if is_over { v1::EventKind::ProblemOver } else { v1::EventKind::Problem };
            // The store has events of its own.
            if kind != v1::ProblemKind::Store {
                self.changes.event(event, &subject, message);
            }
        }
    }

    /// Has the devices opened that are declared, and closed that are not, and
    /// puts in force what has become of them. Returns the version of the tables.
    pub fn follow_devices(&mut self, now: Instant) -> u64 {
        if self.ports_version != self.rib.ports_version() {
            self.ports_version = self.rib.ports_version();
            let sessions = &self.sessions;
            let wanted = self.rib.declared_ports().map(|port| Wanted {
                id: port.id,
                spec: port.spec.clone(),
                by_operator: sessions.is_operator(port.by),
            });
            self.ports.want(wanted.collect(), now);
        }
        let news = self.ports.news(now);
        if news.is_empty() {
            return self.engine.version();
        }
        let rib = &mut self.rib;
        let ((), version) = self.engine.update_if(|tables| {
            let mut changed = false;
            for (id, device) in news {
                changed |= match device {
                    Ok(info) => rib.port_opened(id, info, tables),
                    Err(why) => rib.port_closed(id, why, tables),
                };
            }
            ((), changed)
        });
        version
    }

    /// Looks whether devices have vanished or are back, and puts in force what has
    /// become of them. Returns the version of the tables.
    pub fn look_at_devices(&mut self, now: Instant) -> u64 {
        self.ports.look(now);
        let version = self.follow_devices(now);
        self.watchman.look_at_links(&self.rib, &self.ports, &mut self.changes);
        version
    }

    /// Waits until what is declared has its devices, and not beyond a time.
    pub fn settle_devices(&mut self, deadline: Instant) {
        self.ports.settle(deadline);
        self.follow_devices(Instant::now());
    }

    /// Something was refused: a limit that is reached is an event.
    pub fn note_refusal(&mut self, refused: &v1::Refused) {
        if let Some(limit) = &refused.limit {
            self.changes.event(v1::EventKind::LimitReached, &limit.name, refused.message.clone());
        }
    }

    /// Everything that has changed since the last time, for the store and for
    /// those who watch.
    pub fn take_changes(&mut self, to_store: &mut ToStore) {
        *to_store = std::mem::take(&mut self.to_store);
        self.rib.write_changes(&mut [to_store, &mut self.changes]);
    }

    /// What has changed lately.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The controllers' sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Carries out batches in their order and publishes what they change, once.
    /// Returns what became of each, and the version of the tables that holds
    /// them all. Devices follow later.
    pub fn carry_out(&mut self, work: Vec<Work>) -> (Vec<Done>, u64) {
        let (rib, engine, allowed) = (&mut self.rib, &self.engine, self.ports.allowed());
        let counted = |rib: &Rib, new: Option<Counted>| match new {
            Some(Counted::Interface(name)) => {
                if let Some(id) = rib.interface_id(&name) {
                    engine.restart_interface(id);
                }
            }
            Some(Counted::Vrf(name)) => {
                if let Some(id) = rib.vrf_id(&name) {
                    engine.restart_vrf(id);
                }
            }
            None => {}
        };
        let (all, version) = engine.update_if(|tables| {
            let mut all = Vec::with_capacity(work.len());
            for Work { by, batch, rights } in work {
                let admission = Admission { rights: &rights, devices: allowed };
                all.push(batch::carry_out(rib, tables, admission, by, batch, &counted));
            }
            let changed = all.iter().any(|done| done.changed);
            (all, changed)
        });
        (all, version.max(self.follow_devices(Instant::now())))
    }

    /// Withdraws all that is stale of a controller, and publishes. Returns how
    /// much that was, and the version of the tables that is without it.
    fn sweep(&mut self, by: ControllerId) -> (usize, u64) {
        let (rib, engine) = (&mut self.rib, &self.engine);
        let mut withdrawn = 0;
        loop {
            let ((count, is_done), version) = engine.update_if(|tables| {
                let (count, is_done) = rib.sweep(by, SWEPT_AT_ONCE, tables);
                ((count, is_done), count > 0)
            });
            withdrawn += count;
            if is_done {
                return (withdrawn, version.max(self.follow_devices(Instant::now())));
            }
        }
    }

    /// A copy to try something on.
    pub fn copy(&self) -> (Rib, Tables) {
        (self.rib.clone(), self.engine.snapshot())
    }

    /// One object and its status.
    ///
    /// # Errors
    /// When there can be no such key.
    pub fn get(
        &self,
        key: &v1::ObjectKey,
        controller: &str,
    ) -> Result<Option<v1::ObjectWithStatus>, Refusal> {
        // Such a key can have no object; the refusal says why.
        tieline_rib::Key::parse(key)?;
        Ok(self.rib.get(key, controller).map(|item| self.with_link(item)))
    }

    /// A page of objects; a short one if the objects are large.
    ///
    /// # Errors
    /// When kind or token are not valid.
    pub fn list(&self, request: &v1::ListRequest) -> Result<v1::ListReply, Refusal> {
        let mut request = request.clone();
        loop {
            let reply = self.rib.list(&request)?;
            let items = reply.items.len() as u32;
            if items > 1 && reply.encoded_len() > MAX_PAGE_BYTES {
                request.page_size = items / 2;
                continue;
            }
            let items = reply.items.into_iter().map(|item| self.with_link(item)).collect();
            return Ok(v1::ListReply { items, ..reply });
        }
    }

    /// A page of forwarding entries.
    ///
    /// # Errors
    /// When VRF, address or token are not valid.
    pub fn routes(&self, request: &v1::ListRoutesRequest) -> Result<v1::ListRoutesReply, Refusal> {
        let tables = self.engine.snapshot();
        let mut request = request.clone();
        loop {
            let reply = self.rib.routes(&request, &tables)?;
            let routes = reply.routes.len() as u32;
            if routes <= 1 || reply.encoded_len() <= MAX_PAGE_BYTES {
                return Ok(reply);
            }
            request.page_size = routes / 2;
        }
    }

    /// What VRFs originate.
    pub fn exports(&self, vrfs: &BTreeSet<String>) -> Vec<v1::Export> {
        self.rib.exports(vrfs)
    }

    /// All controllers in the order of their names.
    pub fn controllers(&self) -> Vec<v1::ControllerInfo> {
        let now = Instant::now();
        let message = |(name, by): (&str, ControllerId)| {
            let view = self.sessions.view(by, now)?;
            Some(v1::ControllerInfo {
                name: name.to_owned(),
                connected: view.connected,
                term: view.term,
                held: self.rib.held(by) as u64,
                stale: self.rib.stale(by) as u64,
                expires_in_seconds: view.expires_in.map_or(0, |left| left.as_secs().max(1)),
                software: view.software,
                since_seconds: view.since.as_secs(),
                lasting: view.lasting,
                rank: self.rib.rank(by),
            })
        };
        self.rib.controllers().filter_map(message).collect()
    }

    /// What is declared.
    pub fn rib(&self) -> &Rib {
        &self.rib
    }

    /// The devices.
    pub fn ports(&self) -> &DevicePorts {
        &self.ports
    }

    /// The devices, to hand them over or take them.
    pub fn ports_mut(&mut self) -> &mut DevicePorts {
        &mut self.ports
    }

    /// The engine.
    pub fn engine(&self) -> &Engine<DpdkIo> {
        &self.engine
    }

    /// The RIB does not know about links: a port that is ready otherwise is
    /// degraded while it has none.
    fn with_link(&self, mut item: v1::ObjectWithStatus) -> v1::ObjectWithStatus {
        let Some(v1::object::Kind::Port(port)) = item.object.as_ref().and_then(|object| object.kind.as_ref())
        else {
            return item;
        };
        let down = self.rib.port_id(&port.name).is_some_and(|id| !self.ports.link_up(id));
        if let Some(status) =
            item.status.as_mut().filter(|status| down && status.state() == v1::ObjectState::Ready)
        {
            status.set_state(v1::ObjectState::Degraded);
            status.message = format!("the link of {} is down", port.device);
        }
        item
    }
}

/// Tells operators how a store was found.
fn note_found(path: &Path, found: &Found) {
    let store = path.display();
    match found {
        Found::Fresh => tracing::info!(%store, "new store"),
        Found::Restored { salvaged: Some(salvaged), .. } => {
            let missing = if salvaged.missing.is_empty() { "nothing" } else { &salvaged.missing };
            tracing::error!(
                %store, kept_at = %salvaged.kept_at.display(), missing,
                "what is whole of the last state is taken, and controllers declare the rest again: {}",
                salvaged.reason
            );
        }
        Found::Restored { complete: true, .. } => {}
        Found::Restored { complete: false, .. } => {
            tracing::error!(
                %store,
                "some changes could not be stored before the last end: controllers declare them again"
            );
        }
        Found::SetAside { kept_at, reason } => {
            tracing::error!(%store, kept_at = %kept_at.display(), "starting without the last state: {reason}");
        }
    }
}

/// Why a controller is not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForgotten {
    /// There is none of that name.
    #[error("no controller of that name is known: tlctl controllers lists them")]
    Unknown,
    /// It is here.
    #[error("it has a session: end that one first")]
    Connected,
    /// It holds something.
    #[error("it holds {0} objects and routes: ask for them to be withdrawn, too (tlctl forget --withdraw)")]
    Holds(usize),
}
