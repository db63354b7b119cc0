//! The sessions of one worker.
//!
//! Both keys of a session, that of its packets and that of the replies, lead
//! to it. A burst is looked up in passes, so that the cache misses of its
//! packets overlap:
//!
//! 1. [`hash`](SessionTable::hash) and [`prefetch`](SessionTable::prefetch)
//!    for each packet,
//! 2. [`prefetch_session`](SessionTable::prefetch_session) for each,
//! 3. [`settled`](SessionTable::settled), which for most packets is all; for the
//!    others [`lookup`](SessionTable::lookup) and
//!    [`touch`](SessionTable::touch).
//!
//! All memory is reserved at the start and none of it is used before it is
//! needed: places are handed out in order, and again once they are free.

pub mod restore;

use crate::DropReason;
use crate::huge_pages;
use crate::packet::flow_key::FlowKey;
use crate::prefetch::prefetch;
use crate::session::entry::{Decision, Direction, Flow, NewSession, Record, Session, SessionRef};
use crate::session::hash::{KeyHash, KeyedHash};
use crate::session::index::{BYTES_PER_KEY, Index};
use crate::session::shares::{Allowance, BYTES_PER_PLACE, Eviction, Grip, Shares, Victim};
use crate::session::state::{State, Transition};
use crate::session::tick::Tick;
use crate::session::timeouts::{TimeoutTicks, Timeouts};
use crate::session::wheel::{BYTES_PER_TIMER, Wheel};
use crate::types::{NextHopId, VrfId};
use arrayvec::ArrayVec;

/// The largest capacity of one table.
pub const MAX_CAPACITY: usize = 1 << 28;

/// Bytes that one session takes, its share of the index included.
pub const BYTES_PER_SESSION: usize = size_of::<[Flow; 2]>()
    + size_of::<Record>()
    + BYTES_PER_TIMER
    + BYTES_PER_PLACE
    + 2 * BYTES_PER_KEY
    + size_of::<u32>();

const _: () = assert!(BYTES_PER_SESSION <= 200);

/// Sessions that are due whose memory is fetched together.
const EXPIRED_TOGETHER: usize = 32;

/// Held sessions that are looked at when one of them has to give way.
const HELD_LOOKS: usize = 8;

/// What a table is made for.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Most sessions, 1 to [`MAX_CAPACITY`]; what is outside is brought in.
    pub capacity: usize,
    /// VRFs: numbers from 0 to one below this can have sessions.
    pub vrfs: usize,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// Accept TCP sessions that begin in their middle, as after a restart of
    /// the gateway or a failover to it.
    pub tcp_pickup: bool,
    /// Secret random number that the hash depends on. Whoever knows it can
    /// make keys collide.
    pub seed: u64,
}

impl SessionLimits {
    /// The defaults: a million sessions, any VRF number, no pickup.
    pub fn with_seed(seed: u64) -> Self {
        Self { capacity: 1_000_000, vrfs: 1 << 16, timeouts: Timeouts::default(), tcp_pickup: false, seed }
    }
}

/// What a session says to one of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It belongs to the session and has been counted there.
    Pass,
    /// It does not belong to the session, which is gone now: treat it as the
    /// first packet of a new one, policy included. So it is with a TCP SYN
    /// from the answering end after the connection has ended.
    FirstPacket,
}

/// One direction of a session that knows its way.
#[derive(Debug)]
pub struct Settled<'a> {
    flow: &'a mut Flow,
    /// Where its packets go.
    pub next_hop: NextHopId,
}

impl Settled<'_> {
    /// Counts an ordinary packet of `packet_length` bytes from the IP header
    /// on, and starts the idle time anew.
    #[inline]
    pub fn count(self, packet_length: u32, now: Tick) {
        self.flow.count(packet_length, now);
    }
}

/// The sessions of one worker.
pub struct SessionTable {
    hash: KeyedHash,
    index: Index,
    /// By session number and direction.
    flows: Vec<[Flow; 2]>,
    /// By session number.
    records: Vec<Record>,
    wheel: Wheel,
    timeouts: TimeoutTicks,
    tcp_pickup: bool,
    capacity: usize,
    live: usize,
    /// Places that have been used and are free again; the last of them is
    /// taken first.
    free: Vec<u32>,
    /// By state and direction: whether an ordinary packet changes nothing.
    settled: [[bool; 2]; State::COUNT],
    /// Who has how much of it. A session is of the VRF of its first packet.
    shares: Shares,
}

impl SessionTable {
    /// An empty table. Reserves all its memory.
    pub fn new(limits: SessionLimits) -> Self {
        let capacity = limits.capacity.clamp(1, MAX_CAPACITY);
        let (mut flows, mut records) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        huge_pages::prefer(&mut flows);
        huge_pages::prefer(&mut records);
        Self {
            hash: KeyedHash::new(limits.seed),
            index: Index::new(2 * capacity),
            flows,
            records,
            wheel: Wheel::new(capacity),
            timeouts: TimeoutTicks::new(&limits.timeouts),
            tcp_pickup: limits.tcp_pickup,
            capacity,
            live: 0,
            free: Vec::with_capacity(capacity),
            settled: State::ALL
                .map(|state| [Direction::Forward, Direction::Reverse].map(|way| state.is_settled(way))),
            shares: Shares::new(limits.vrfs, capacity),
        }
    }

    /// Live sessions.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Most sessions.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Live sessions whose first packet was in this VRF.
    pub fn vrf_len(&self, vrf: VrfId) -> u32 {
        self.shares.sessions(vrf.index())
    }

    /// How many sessions whose first packet was in this VRF had to give way to
    /// others.
    pub fn evicted(&self, vrf: VrfId, why: Eviction) -> u64 {
        self.shares.evicted(vrf.index(), why)
    }

    /// The hash of a key in this table.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> KeyHash {
        self.hash.of(key)
    }

    /// First pass: starts to fetch what [`lookup`](Self::lookup) reads first.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        self.index.prefetch(hash);
    }

    /// Second pass: finds the session that `hash` most likely leads to, and
    /// starts to fetch it. `None`: there is none.
    #[inline]
    pub fn prefetch_session(&self, hash: KeyHash) -> Option<SessionRef> {
        let at = self.index.likely(hash)?;
        prefetch(self.flow(at));
        Some(at)
    }

    /// Starts to fetch what both directions of a session share.
    #[inline]
    pub fn prefetch_state(&self, at: SessionRef) {
        prefetch(&self.records[at.index() as usize]);
    }

    /// The session of a key. `hash` is [`hash`](Self::hash) of it.
    #[inline]
    pub fn lookup(&self, key: &FlowKey, hash: KeyHash) -> Option<SessionRef> {
        self.index.find(hash, |at| self.flow(at).key == *key)
    }

    /// Whether `at`, found earlier, still leads to a session with this key.
    #[inline]
    pub fn holds(&self, at: SessionRef, key: &FlowKey) -> bool {
        self.records[at.index() as usize].state.is_some() && self.flow(at).key == *key
    }

    /// One direction of a session.
    ///
    /// # Panics
    /// If `at` is from a larger table.
    #[inline]
    pub fn flow(&self, at: SessionRef) -> &Flow {
        &self.flows.as_flattened()[at.flow()]
    }

    /// A live session by its number.
    pub fn session(&self, index: u32) -> Option<Session<'_>> {
        let record = self.records.get(index as usize)?;
        let state = record.state?;
        let timeout = self.timeouts.of(state);
        Some(Session { index, flows: &self.flows[index as usize], record, state, timeout })
    }

    /// Adds a session. Its first packet is not counted yet: touch it.
    ///
    /// If `forward` has a session already, which happens when two packets of
    /// it come in one burst, that session is returned as it is.
    ///
    /// # Errors
    /// - [`DropReason::TcpInvalidState`]: a TCP segment that opens nothing
    /// - [`DropReason::SessionConflict`]: replies would be taken for those of
    ///   another session
    /// - [`DropReason::SessionRate`]: the VRF of `forward` has begun as many as
    ///   its rate allows
    /// - [`DropReason::SessionQuota`]: that VRF has as many as its quota, all of
    ///   them answered, or its number is beyond the limit
    /// - [`DropReason::SessionTableFull`]: there is no place, and nobody who has
    ///   to give way to this VRF; see [`shares`](crate::session::shares)
    pub fn insert(
        &mut self,
        forward: FlowKey,
        reverse: FlowKey,
        init: &NewSession,
        allowance: Allowance,
        now: Tick,
    ) -> Result<SessionRef, DropReason> {
        let hash = self.hash(&forward);
        if let Some(existing) = self.lookup(&forward, hash) {
            return Ok(existing);
        }
        let hashes = [hash, self.hash(&reverse)];
        self.insert_absent([&forward, &reverse], hashes, init, allowance, now)
    }

    /// Adds a session whose first key is known to have none: `hashes` are the
    /// [`hash`](Self::hash)es of both `keys`, and
    /// [`lookup`](Self::lookup) has not found the first. Otherwise like
    /// [`insert`](Self::insert).
    ///
    /// # Errors
    /// As of `insert`.
    #[inline]
    pub fn insert_absent(
        &mut self,
        keys: [&FlowKey; 2],
        hashes: [KeyHash; 2],
        init: &NewSession,
        allowance: Allowance,
        now: Tick,
    ) -> Result<SessionRef, DropReason> {
        let [forward, reverse] = keys;
        debug_assert_eq!(self.lookup(forward, hashes[0]), None);
        let state = State::first(forward.protocol, init.tcp_flags, self.tcp_pickup)
            .ok_or(DropReason::TcpInvalidState)?;
        if self.lookup(reverse, hashes[1]).is_some() {
            return Err(DropReason::SessionConflict);
        }
        let vrf = forward.vrf.index();
        if !self.shares.knows(vrf) {
            return Err(DropReason::SessionQuota);
        }
        if !self.shares.is_within_rate(vrf, allowance.rate, now) {
            return Err(DropReason::SessionRate);
        }
        if self.shares.sessions(vrf) >= allowance.quota || self.live == self.capacity {
            self.make_room(vrf, allowance.quota)?;
        }
        let place = self.take_place().ok_or(DropReason::SessionTableFull)?;
        self.occupy(place, keys, hashes, state, init, now);
        if !self.add_to_index(place, keys, hashes) {
            self.free(place);
            return Err(DropReason::SessionTableFull);
        }
        self.shares.add(place, vrf, Grip::of(state));
        self.shares.spend(vrf, allowance.rate);
        self.live += 1;
        self.wheel.arm(place, now.after(self.timeouts.of(state)), now);
        Ok(SessionRef::new(place, Direction::Forward))
    }

    /// Ends a session so that another of `vrf` can begin, which has its quota
    /// or finds the table full.
    #[cold]
    fn make_room(&mut self, vrf: usize, quota: u32) -> Result<(), DropReason> {
        let sessions = self.shares.sessions(vrf);
        if sessions >= quota {
            let loose = self.shares.oldest_loose(vrf).ok_or(DropReason::SessionQuota)?;
            self.evict(loose, Eviction::Quota);
            // A quota that has been lowered is come down to by and by.
            return if sessions > quota { Err(DropReason::SessionQuota) } else { Ok(()) };
        }
        let place = match self.shares.victim(vrf).ok_or(DropReason::SessionTableFull)? {
            Victim::Loose(place) => place,
            Victim::HeldOf(worst) => self.idlest_held(worst).ok_or(DropReason::SessionTableFull)?,
        };
        self.evict(place, Eviction::TableFull);
        Ok(())
    }

    /// The one of a VRF's oldest held sessions that has been idle longest; the
    /// others get another chance.
    fn idlest_held(&mut self, vrf: usize) -> Option<u32> {
        let mut idlest: Option<(u32, Tick)> = None;
        for _ in 0..HELD_LOOKS {
            let place = self.shares.oldest_held(vrf)?;
            let seen = self.session(place)?.last_seen();
            if idlest.is_none_or(|(_, earliest)| !seen.has_reached(earliest)) {
                idlest = Some((place, seen));
            }
            self.shares.rotate_held(vrf);
        }
        idlest.map(|(place, _)| place)
    }

    /// Ends a session that has to give way.
    fn evict(&mut self, place: u32, why: Eviction) {
        self.shares.count_evicted(self.vrf_of(place), why);
        self.wheel.disarm(place);
        self.release(place);
    }

    /// Starts to fetch the places that the next `count` sessions will take.
    pub fn prefetch_places(&self, count: usize) {
        for place in self.free.iter().rev().take(count) {
            let index = *place as usize;
            prefetch(&self.flows[index][0]);
            prefetch(&self.flows[index][1]);
            prefetch(&self.records[index]);
            self.wheel.prefetch(*place);
            self.shares.prefetch(*place);
        }
    }

    /// What [`touch`](Self::touch) comes to for the first packet of a session
    /// that is not TCP: it is counted.
    #[inline]
    pub fn count_first(&mut self, at: SessionRef, packet_length: u32, now: Tick) {
        self.flows[at.index() as usize][at.direction() as usize].count(packet_length, now);
    }

    /// Records what was decided for one direction.
    #[inline]
    pub fn decide(&mut self, at: SessionRef, decision: &Decision) {
        let (index, direction) = (at.index() as usize, at.direction() as usize);
        self.flows[index][direction].decide(decision);
        self.records[index].ingress[direction] = decision.ingress;
    }

    /// Counts a packet of `packet_length` bytes from the IP header on, moves
    /// the protocol state and starts the idle time anew. `tcp_flags` is
    /// `None` for packets without a TCP header.
    #[inline]
    pub fn touch(&mut self, at: SessionRef, packet_length: u32, tcp_flags: Option<u8>, now: Tick) -> Verdict {
        let index = at.index() as usize;
        let Some(state) = self.records[index].state else { return Verdict::FirstPacket };
        match state.next(at.direction(), tcp_flags) {
            Transition::To(next) if next == state => {}
            Transition::To(next) => self.enter(at.index(), next, now),
            Transition::Reopen => self.reopen(at.index(), now),
            Transition::Opposite => {
                self.remove(at.index());
                return Verdict::FirstPacket;
            }
        }
        self.flows[index][at.direction() as usize].count(packet_length, now);
        Verdict::Pass
    }

    /// What [`lookup`](Self::lookup), [`touch`](Self::touch) and
    /// [`Flow::next_hop`] come to for an ordinary packet of a settled session:
    /// where it goes. The packet is not counted yet: [`Settled::count`] it.
    /// `None` if the three have to be asked: no session, a state that the
    /// packet may move, or a decision of another generation. Ordinary is what
    /// is not TCP or has none of SYN, FIN and RST.
    ///
    /// `likely` is what [`prefetch_session`](Self::prefetch_session) said of
    /// the hash, no session having begun or ended since.
    #[inline]
    pub fn settled(
        &mut self,
        key: &FlowKey,
        hash: KeyHash,
        likely: SessionRef,
        generation: u32,
    ) -> Option<Settled<'_>> {
        let at = if self.flow(likely).key == *key { likely } else { self.lookup(key, hash)? };
        let flow = &mut self.flows.as_flattened_mut()[at.flow()];
        let next_hop = flow.next_hop(generation).filter(|_| flow.is_settled())?;
        Some(Settled { flow, next_hop })
    }

    /// Ends a session. Returns whether there was one.
    pub fn remove(&mut self, index: u32) -> bool {
        if self.session(index).is_none() {
            return false;
        }
        self.wheel.disarm(index);
        self.release(index);
        true
    }

    /// Ends sessions that have been idle for their timeout, and returns how
    /// many. Looks at no more than `budget` sessions. Call it often, even
    /// when there is nothing to do: it is then a matter of a few instructions.
    pub fn expire(&mut self, now: Tick, mut budget: usize) -> usize {
        let mut ended = 0;
        if self.live > self.capacity - self.capacity / 8 {
            // Soon somebody has to give way.
            self.shares.look_around();
        }
        while budget > 0 {
            let mut due: ArrayVec<u32, EXPIRED_TOGETHER> = ArrayVec::new();
            while due.len() < budget.min(EXPIRED_TOGETHER)
                && let Some(index) = self.wheel.take_due(now)
            {
                prefetch(&self.records[index as usize]);
                prefetch(&self.flows[index as usize][0]);
                prefetch(&self.flows[index as usize][1]);
                due.push(index);
            }
            if due.is_empty() {
                break;
            }
            budget -= due.len();
            ended += self.end_idle(&due, now);
        }
        ended
    }

    /// Ends those of the sessions, which are not in the wheel, that have been
    /// idle for their timeout, and arms the others again.
    fn end_idle(&mut self, due: &[u32], now: Tick) -> usize {
        let mut over: ArrayVec<u32, EXPIRED_TOGETHER> = ArrayVec::new();
        for index in due {
            let Some(session) = self.session(*index) else { continue };
            let deadline = session.last_seen().after(session.timeout);
            if now.has_reached(deadline) {
                session.record.hashes.iter().for_each(|hash| self.index.prefetch(*hash));
                over.push(*index);
            } else {
                self.wheel.arm(*index, deadline, now);
            }
        }
        over.iter().for_each(|index| self.release(*index));
        over.len()
    }

    /// Shows the live sessions among the next `max` places from `cursor` on,
    /// and moves `cursor`. Returns whether there is more. A session that
    /// lives from the first call to the last is shown exactly once.
    pub fn dump(&self, cursor: &mut u32, max: usize, visit: &mut dyn FnMut(Session<'_>)) -> bool {
        let end = (*cursor as usize).saturating_add(max).min(self.records.len());
        for index in *cursor..end as u32 {
            if let Some(session) = self.session(index) {
                visit(session);
            }
        }
        *cursor = (*cursor).max(end as u32);
        end < self.records.len()
    }

    fn enter(&mut self, index: u32, state: State, now: Tick) {
        if let Some(before) = self.records[index as usize].state.replace(state) {
            self.shares.change(index, self.vrf_of(index), Grip::of(before), Grip::of(state));
        }
        settle(&mut self.flows[index as usize], self.settled[state as usize]);
        self.wheel.advance(index, now.after(self.timeouts.of(state)), now);
    }

    fn reopen(&mut self, index: u32, now: Tick) {
        self.enter(index, State::TcpSynSent, now);
        self.records[index as usize].created = now;
        for flow in &mut self.flows[index as usize] {
            flow.reset_counters();
        }
    }

    /// A place for a new session: the one that was freed last, or one that
    /// has never been used.
    #[inline]
    fn take_place(&mut self) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        let place = self.records.len();
        if place == self.capacity {
            return None;
        }
        self.flows.push([Flow::UNUSED; 2]);
        self.records.push(Record::FREE);
        Some(place as u32)
    }

    #[inline]
    fn occupy(
        &mut self,
        place: u32,
        [forward, reverse]: [&FlowKey; 2],
        hashes: [KeyHash; 2],
        state: State,
        init: &NewSession,
        now: Tick,
    ) {
        let flows = &mut self.flows[place as usize];
        flows[0] = Flow::new(*forward, Some(&init.forward), now);
        flows[1] = Flow::new(*reverse, init.reverse.as_ref(), now);
        settle(flows, self.settled[state as usize]);
        self.records[place as usize] = Record::new(hashes, state, init, now);
    }

    fn free(&mut self, place: u32) {
        self.records[place as usize].state = None;
        // There is room for every place.
        self.free.push(place);
    }

    /// Enters both keys of an occupied place, or none. A flow to itself has
    /// only one key.
    #[inline]
    fn add_to_index(&mut self, place: u32, keys: [&FlowKey; 2], hashes: [KeyHash; 2]) -> bool {
        let records = &self.records;
        let hash_of = |at: SessionRef| records[at.index() as usize].hashes[at.direction() as usize];
        let [forward, reverse] = [Direction::Forward, Direction::Reverse].map(|d| SessionRef::new(place, d));
        if !self.index.insert(hashes[0], forward, hash_of) {
            return false;
        }
        // The same keys have the same hashes.
        let to_itself = hashes[0] == hashes[1] && keys[0] == keys[1];
        if to_itself || self.index.insert(hashes[1], reverse, hash_of) {
            return true;
        }
        self.index.remove(hashes[0], forward);
        false
    }

    /// Frees the place of a session that is not in the wheel any more.
    fn release(&mut self, index: u32) {
        let [forward, reverse] = self.records[index as usize].hashes;
        self.index.remove(forward, SessionRef::new(index, Direction::Forward));
        // A flow to itself had one key.
        self.index.remove(reverse, SessionRef::new(index, Direction::Reverse));
        if let Some(state) = self.records[index as usize].state {
            self.shares.remove(index, self.vrf_of(index), Grip::of(state));
        }
        self.live -= 1;
        self.free(index);
    }

    /// The VRF that a session is of.
    #[inline]
    fn vrf_of(&self, index: u32) -> usize {
        self.flows[index as usize][0].key.vrf.index()
    }
}

/// Tells both directions of a session what its state means for them.
#[inline]
fn settle(flows: &mut [Flow; 2], settled: [bool; 2]) {
    for (flow, settled) in flows.iter_mut().zip(settled) {
        flow.set_settled(settled);
    }
}

#[cfg(test)]
mod tests;
