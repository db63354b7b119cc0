//! The neighbour service's logic: who is where, by ARP (RFC 826) and neighbour
//! discovery (RFC 4861 section 7.3).
//!
//! It has no thread and no clock: packets, table changes and the time come in
//! as arguments, and what is to be done comes out as [`Action`]s.
//!
//! A neighbour is probed three times, a second apart. While it is probed for
//! the first time, a few packets wait for it. Once it has answered it is
//! probed again every now and then; one that stops answering is forgotten,
//! or, if a next hop needs it, marked failed and probed on.
//!
//! What a neighbour's MAC is, only answers say, and only to what was asked:
//! nobody can turn a neighbour that is there away by saying that it is elsewhere.
//! What is said unasked (a gratuitous ARP, a request, an advertisement that is
//! not solicited) has the neighbour asked early instead, at the MAC that is known.
//! If it has moved, it does not answer there, and everybody is asked; so RFC 4861
//! section 7.2.5 has it for addresses that are not overridden.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::packet::meta::PacketMeta;
use crate::pipeline::outbox::{Said, Unresolved};
use crate::tables::Tables;
use crate::tables::neighbour::{Neighbour, NeighbourState};
use crate::types::{InterfaceId, MacAddr, NeighbourId};

/// How neighbours are probed and aged.
#[derive(Debug, Clone, Copy)]
pub struct NeighbourTimers {
    /// Between two probes of one neighbour.
    pub probe_interval: Duration,
    /// Probes without an answer before giving up.
    pub probes: u32,
    /// After an answer, until the next probe.
    pub reachable: Duration,
    /// Packets that wait for one neighbour.
    pub queue_per_neighbour: usize,
    /// Packets that wait for all neighbours.
    pub queue_total: usize,
    /// Neighbours that are being resolved on one interface.
    pub resolving_per_interface: usize,
    /// Neighbours that are known on one interface.
    pub per_interface: usize,
}

impl Default for NeighbourTimers {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probes: 3,
            reachable: Duration::from_secs(30),
            queue_per_neighbour: 4,
            queue_total: 1024,
            resolving_per_interface: 64,
            per_interface: 4096,
        }
    }
}

/// Something for the caller to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<B> {
    /// Ask for a neighbour. With a known MAC the question goes to it alone.
    Probe {
        /// Where.
        interface: InterfaceId,
        /// For whom.
        address: IpAddr,
        /// Where it was last.
        last_mac: Option<MacAddr>,
    },
    /// Go on with a packet, from the routing decision.
    Resume(B, Box<MetaBox>),
    /// Drop a packet that waited.
    Drop(B, Box<MetaBox>, DropReason),
}

/// Metadata, comparable for tests by the address it is for.
#[derive(Debug)]
pub struct MetaBox(pub PacketMeta);

impl PartialEq for MetaBox {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for MetaBox {}

/// What is known about one neighbour beyond the tables.
#[derive(Debug)]
struct Entry<B> {
    address: IpAddr,
    interface: InterfaceId,
    /// Probes sent since the last answer.
    probes: u32,
    next_probe: Duration,
    /// When it last answered, if ever.
    confirmed: Option<Duration>,
    /// When it was last asked before its time.
    asked_early: Option<Duration>,
    waiting: VecDeque<(B, PacketMeta)>,
}

/// The neighbour service. All times are since one common start.
#[derive(Debug)]
pub struct Neighbours<B> {
    timers: NeighbourTimers,
    entries: HashMap<NeighbourId, Entry<B>>,
    waiting: usize,
}

impl<B> Neighbours<B> {
    /// A service that knows nobody.
    pub fn new(timers: NeighbourTimers) -> Self {
        Self { timers, entries: HashMap::new(), waiting: 0 }
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When each neighbour was last confirmed.
    pub fn confirmed(&self) -> impl Iterator<Item = (NeighbourId, Duration)> {
        self.entries.iter().filter_map(|(id, entry)| Some((*id, entry.confirmed?)))
    }

    /// A packet needs a neighbour. Returns whether the tables changed.
    pub fn handle_unresolved(
        &mut self,
        tables: &mut Tables,
        item: Unresolved<B>,
        now: Duration,
        actions: &mut Vec<Action<B>>,
    ) -> bool {
        let Unresolved { interface, address, packet, meta } = item;
        let known = tables.neighbour_index.get(&(interface, address)).copied();
        if known.is_none() && !self.has_room_on(interface) {
            actions.push(Action::Drop(packet, Box::new(MetaBox(meta)), DropReason::NeighbourQueueFull));
            return false;
        }
        let Some(id) = tables.intern_neighbour(interface, address) else {
            actions.push(Action::Drop(packet, Box::new(MetaBox(meta)), DropReason::NextHopUnusable));
            return false;
        };
        let state = tables.neighbours.get(id.index()).map(|neighbour| neighbour.state);
        if matches!(state, Some(NeighbourState::Resolved | NeighbourState::Static)) {
            // It was resolved while the packet was on its way here.
            actions.push(Action::Resume(packet, Box::new(MetaBox(meta))));
            return false;
        }
        self.track(id, interface, address, now);
        let limits = (self.timers.queue_per_neighbour, self.timers.queue_total);
        if let Some(entry) = self.entries.get_mut(&id) {
            if state == Some(NeighbourState::Failed) {
                actions.push(Action::Drop(packet, Box::new(MetaBox(meta)), DropReason::NeighbourUnresolved));
            } else if entry.waiting.len() >= limits.0 || self.waiting >= limits.1 {
                actions.push(Action::Drop(packet, Box::new(MetaBox(meta)), DropReason::NeighbourQueueFull));
            } else {
                entry.waiting.push_back((packet, meta));
                self.waiting += 1;
            }
        }
        self.poll_entry(tables, id, now, actions);
        known.is_none()
    }

    /// Somebody has said where a neighbour is. Returns whether the tables
    /// changed.
    pub fn handle_learned(
        &mut self,
        tables: &mut Tables,
        (id, interface, address): (NeighbourId, InterfaceId, IpAddr),
        (mac, said): (MacAddr, Said),
        now: Duration,
        actions: &mut Vec<Action<B>>,
    ) -> bool {
        if !still_means(tables, id, interface, address) {
            return false;
        }
        let Some(neighbour) = tables.neighbours.get(id.index()) else { return false };
        if neighbour.state == NeighbourState::Static || !mac.is_unicast() {
            return false;
        }
        let is_known = neighbour.state == NeighbourState::Resolved && neighbour.header.destination() == mac;
        let state = neighbour.state;
        self.track(id, interface, address, now);
        if !self.is_believed(id, state, is_known, said) {
            if !is_known {
                self.ask_early(id, now);
            }
            return self.poll_entry(tables, id, now, actions);
        }
        let changed = !is_known;
        if let Some(neighbour) = tables.neighbours.get_mut(id.index()) {
            neighbour.confirmed = Some(now);
            neighbour.state = NeighbourState::Resolved;
            neighbour.header.set_destination(mac);
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.confirmed = Some(now);
            entry.probes = 0;
            entry.next_probe = now + self.timers.reachable;
            self.waiting -= entry.waiting.len();
            let waited = entry.waiting.drain(..);
            actions.extend(waited.map(|(packet, meta)| Action::Resume(packet, Box::new(MetaBox(meta)))));
        }
        changed
    }

    /// Whether what was said of a neighbour's MAC is what was asked for.
    fn is_believed(&self, id: NeighbourId, state: NeighbourState, is_known: bool, said: Said) -> bool {
        let probes = self.entries.get(&id).map_or(0, |entry| entry.probes);
        match said {
            Said::Carried => is_known,
            Said::Claim => false,
            // As long as only the known MAC is asked, only it has an answer.
            Said::Answer if state == NeighbourState::Resolved && !is_known => probes > self.timers.probes,
            Said::Answer => probes > 0,
        }
    }

    /// Somebody says that a neighbour is elsewhere, or has come: it is asked
    /// now, at most once in the time between two probes.
    fn ask_early(&mut self, id: NeighbourId, now: Duration) {
        let interval = self.timers.probe_interval;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let is_calm = entry.asked_early.is_none_or(|last| now.saturating_sub(last) >= interval);
        if is_calm && entry.next_probe > now {
            (entry.asked_early, entry.next_probe) = (Some(now), now);
        }
    }

    /// Lets time pass: probes, ages, gives up. Takes up neighbours that next
    /// hops need. Returns whether the tables changed.
    pub fn poll(&mut self, tables: &mut Tables, now: Duration, actions: &mut Vec<Action<B>>) -> bool {
        self.take_up_needed(tables, now);
        let due: Vec<NeighbourId> = self
            .entries
            .iter()
            .filter(|(id, entry)| entry.next_probe <= now || has_changed(tables, **id, entry))
            .map(|(id, _)| *id)
            .collect();
        let mut changed = false;
        for id in due {
            changed |= self.poll_entry(tables, id, now, actions);
        }
        changed
    }

    fn take_up_needed(&mut self, tables: &Tables, now: Duration) {
        let needed: Vec<(NeighbourId, InterfaceId, IpAddr)> = tables
            .neighbours
            .iter()
            .filter(|(_, neighbour)| neighbour.users > 0 && neighbour.state == NeighbourState::Resolving)
            .map(|(index, neighbour)| (NeighbourId(index as u32), neighbour.interface, neighbour.address))
            .filter(|(id, ..)| !self.entries.contains_key(id))
            .collect();
        for (id, interface, address) in needed {
            self.track(id, interface, address, now);
        }
    }

    fn track(&mut self, id: NeighbourId, interface: InterfaceId, address: IpAddr, now: Duration) {
        let fresh = || Entry {
            address,
            interface,
            probes: 0,
            next_probe: now,
            confirmed: None,
            asked_early: None,
            waiting: VecDeque::new(),
        };
        let entry = self.entries.entry(id).or_insert_with(fresh);
        if (entry.interface, entry.address) != (interface, address) {
            // The ID means somebody else now; nobody can wait for the old one.
            let waiting = std::mem::replace(entry, fresh()).waiting;
            entry.waiting = waiting;
        }
    }

    /// Whether one more neighbour on an interface may be looked for.
    fn has_room_on(&self, interface: InterfaceId) -> bool {
        let on_it = || self.entries.values().filter(|entry| entry.interface == interface);
        let resolving = on_it().filter(|entry| entry.confirmed.is_none()).count();
        on_it().count() < self.timers.per_interface && resolving < self.timers.resolving_per_interface
    }

    /// Probes one neighbour if it is time, or gives it up.
    fn poll_entry(
        &mut self,
        tables: &mut Tables,
        id: NeighbourId,
        now: Duration,
        actions: &mut Vec<Action<B>>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if !still_means(tables, id, entry.interface, entry.address) {
            self.forget(id, actions);
            return false;
        }
        let Some(neighbour) = tables.neighbours.get(id.index()) else { return false };
        if neighbour.state == NeighbourState::Resolving && entry.confirmed.take().is_some() {
            // Its interface has changed: what it said before is void.
            entry.probes = 0;
            entry.next_probe = now;
        }
        if entry.next_probe > now {
            return false;
        }
        if neighbour.state == NeighbourState::Static {
            self.forget(id, actions);
            return false;
        }
        let (users, state) = (neighbour.users, neighbour.state);
        let last_mac = (state == NeighbourState::Resolved).then(|| neighbour.header.destination());
        // Who was there is asked alone first, and then everybody.
        let alone = if state == NeighbourState::Resolved { self.timers.probes } else { 0 };
        let given_up = entry.probes >= alone + self.timers.probes;
        let last_mac = last_mac.filter(|_| entry.probes < alone);
        if given_up && users == 0 {
            self.forget(id, actions);
            tables.remove_neighbour(id);
            return true;
        }
        entry.probes = entry.probes.saturating_add(1);
        entry.next_probe = now + self.timers.probe_interval;
        let probe = Action::Probe { interface: entry.interface, address: entry.address, last_mac };
        actions.push(probe);
        if !given_up {
            return false;
        }
        self.waiting -= entry.waiting.len();
        let waited = entry.waiting.drain(..);
        let drop =
            |(packet, meta)| Action::Drop(packet, Box::new(MetaBox(meta)), DropReason::NeighbourUnresolved);
        actions.extend(waited.map(drop));
        if state == NeighbourState::Failed {
            return false;
        }
        if let Some(neighbour) = tables.neighbours.get_mut(id.index()) {
            neighbour.state = NeighbourState::Failed;
        }
        true
    }

    fn forget(&mut self, id: NeighbourId, actions: &mut Vec<Action<B>>) {
        if let Some(entry) = self.entries.remove(&id) {
            self.waiting -= entry.waiting.len();
            let drop = |(packet, meta)| {
                Action::Drop(packet, Box::new(MetaBox(meta)), DropReason::NeighbourUnresolved)
            };
            actions.extend(entry.waiting.into_iter().map(drop));
        }
    }

    /// Gives back every packet that waits, for the end.
    pub fn drain(&mut self) -> Vec<Action<B>> {
        let mut actions = Vec::new();
        let ids: Vec<NeighbourId> = self.entries.keys().copied().collect();
        for id in ids {
            self.forget(id, &mut actions);
        }
        actions
    }
}

/// Whether a neighbour is gone from the tables, or unresolved there again.
fn has_changed<B>(tables: &Tables, id: NeighbourId, entry: &Entry<B>) -> bool {
    let unresolved = |neighbour: &Neighbour| neighbour.state == NeighbourState::Resolving;
    !still_means(tables, id, entry.interface, entry.address)
        || entry.confirmed.is_some() && tables.neighbours.get(id.index()).is_some_and(unresolved)
}

/// Whether an ID in the tables still means the neighbour at `address` on
/// `interface`: tenants have the same addresses.
fn still_means(tables: &Tables, id: NeighbourId, interface: InterfaceId, address: IpAddr) -> bool {
    tables
        .neighbours
        .get(id.index())
        .is_some_and(|neighbour| neighbour.interface == interface && neighbour.address == address)
}

#[cfg(test)]
mod tests;
