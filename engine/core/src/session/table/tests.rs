use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::session::tcp::{ACK, FIN, RST, SYN};
use crate::types::{InterfaceId, NextHopId};

const TCP: u8 = 6;
const UDP: u8 = 17;
const QUOTA: u32 = 7;
const CAPACITY: usize = 12;
const VRFS: usize = 4;
/// A second's worth of new sessions.
const RATE: u32 = 5;

fn key(vrf: u16, protocol: u8, host: u8, port: u16) -> FlowKey {
    let mut key =
        FlowKey { vrf: VrfId(vrf), protocol, source_port: port, destination_port: 53, ..FlowKey::ZERO };
    key.source[3] = host;
    key.destination[3] = 200;
    key
}

fn decision(next_hop: u32) -> Decision {
    Decision { next_hop: NextHopId(next_hop), generation: 1, ingress: InterfaceId(next_hop) }
}

fn first_packet(tcp_flags: Option<u8>) -> NewSession {
    NewSession { forward: decision(1), reverse: None, tcp_flags }
}

fn limits(capacity: usize) -> SessionLimits {
    SessionLimits { capacity, vrfs: VRFS, ..SessionLimits::with_seed(11) }
}

fn quota(quota: u32) -> Allowance {
    Allowance { quota, ..Allowance::ALL }
}

fn find(table: &SessionTable, key: &FlowKey) -> Option<SessionRef> {
    table.lookup(key, table.hash(key))
}

/// A session as a map would keep it.
#[derive(Debug, Clone)]
struct Kept {
    forward: FlowKey,
    reverse: FlowKey,
    state: State,
    last_seen: Tick,
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl Kept {
    fn ends(&self) -> Tick {
        self.last_seen.after(Tick::span(Timeouts::default().of(self.state)))
    }

    fn vrf(&self) -> u16 {
        self.forward.vrf.0
    }

    /// Whether the other end has answered, and the session is not over.
    fn is_held(&self) -> bool {
        use State::{IcmpAnswered, TcpEstablished, TcpFinForward, TcpFinReverse, UdpReplied};
        matches!(self.state, TcpEstablished | TcpFinForward | TcpFinReverse | UdpReplied | IcmpAnswered)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert { vrf: u16, host: u8, protocol: u8, reply_vrf: u16 },
    Packet { vrf: u16, host: u8, protocol: u8, reply: bool, flags: u8, length: u32 },
    Remove { vrf: u16, host: u8, protocol: u8 },
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    // The last VRF is beyond the limit; one is busier than the others.
    let vrf = || prop_oneof![3 => Just(1), 4 => 0..=VRFS as u16];
    let name = move || (vrf(), 0u8..9, prop_oneof![Just(UDP), Just(TCP), Just(1)]);
    let flags = prop_oneof![Just(ACK), Just(SYN | ACK), Just(FIN | ACK), Just(RST), Just(SYN)];
    prop_oneof![
        8 => (name(), 0..VRFS as u16)
            .prop_map(|((vrf, host, protocol), reply_vrf)| Step::Insert { vrf, host, protocol, reply_vrf }),
        6 => (name(), any::<bool>(), flags, 20u32..1500).prop_map(
            |((vrf, host, protocol), reply, flags, length)| Step::Packet {
                vrf, host, protocol, reply, flags, length
            }
        ),
        1 => name().prop_map(|(vrf, host, protocol)| Step::Remove { vrf, host, protocol }),
        1 => prop_oneof![0u32..20, 0u32..600, 0..4000u32, 0..=Tick::MAX_SPAN / 2].prop_map(Step::Pass),
    ]
}

/// The table beside a map of the same sessions by their number.
struct Pair {
    table: SessionTable,
    map: BTreeMap<u32, Kept>,
    /// Numbers of loose and held sessions in the order in which they came to
    /// be so.
    order: [Vec<u32>; 2],
    /// When sessions began that the rate counts, by VRF, in sixteenths.
    spent: [u64; VRFS],
    evicted: [[u64; 2]; VRFS],
    now: Tick,
}

impl Pair {
    fn expected(&self, key: &FlowKey) -> Option<SessionRef> {
        self.map.iter().find_map(|(index, kept)| {
            if kept.forward == *key {
                Some(SessionRef::new(*index, Direction::Forward))
            } else {
                (kept.reverse == *key).then(|| SessionRef::new(*index, Direction::Reverse))
            }
        })
    }

    fn sessions(&self, vrf: u16) -> usize {
        self.map.values().filter(|kept| kept.vrf() == vrf).count()
    }

    fn weight(&self, vrf: u16) -> u64 {
        let of = self.map.values().filter(|kept| kept.vrf() == vrf);
        of.map(|kept| if kept.is_held() { 1 } else { 4 }).sum()
    }

    /// The first loose or held session of a VRF.
    fn oldest(&self, vrf: u16, held: bool) -> Option<u32> {
        self.order[usize::from(held)].iter().copied().find(|index| self.map[index].vrf() == vrf)
    }

    /// Who had to go for a session of `vrf`, by scanning everything.
    fn victim(&mut self, vrf: u16) -> Option<u32> {
        let present: BTreeSet<u16> = self.map.values().map(Kept::vrf).collect();
        // Of several that are equal it is any.
        let worst = self.table.shares.heaviest();
        assert_eq!(Some(self.weight(worst)), present.iter().map(|vrf| self.weight(*vrf)).max());
        let vrfs = present.union(&BTreeSet::from([vrf])).count() as u64;
        let total: u64 = present.iter().map(|vrf| self.weight(*vrf)).sum();
        if self.weight(vrf) * vrfs < total {
            return self.oldest(worst, false).or_else(|| self.idlest_of_eight(worst, vrfs));
        }
        let of_worst = if self.weight(worst) > self.weight(vrf) { self.oldest(worst, false) } else { None };
        of_worst.or_else(|| self.oldest(vrf, false))
    }

    fn idlest_of_eight(&mut self, vrf: u16, vrfs: u64) -> Option<u32> {
        assert!(
            self.sessions(vrf) as u64 * vrfs > CAPACITY as u64,
            "a VRF within its share lost a held session"
        );
        let mut idlest: Option<u32> = None;
        for _ in 0..8 {
            let index = self.oldest(vrf, true)?;
            let idle = |index: &u32| self.now.since(self.map[index].last_seen);
            if idlest.is_none_or(|earliest| idle(&index) > idle(&earliest)) {
                idlest = Some(index);
            }
            self.order[1].retain(|other| *other != index);
            self.order[1].push(index);
        }
        idlest
    }

    fn forget(&mut self, index: u32) {
        self.map.remove(&index);
        self.order.iter_mut().for_each(|order| order.retain(|other| *other != index));
    }

    fn evict(&mut self, index: u32, why: Eviction) {
        self.evicted[usize::from(self.map[&index].vrf())][why as usize] += 1;
        self.forget(index);
    }

    /// What becomes of a new session, with everybody out of its way.
    fn admit(&mut self, forward: &FlowKey, reverse: &FlowKey) -> Result<(), DropReason> {
        if self.expected(reverse).is_some() {
            return Err(DropReason::SessionConflict);
        }
        let vrf = forward.vrf.0;
        if usize::from(vrf) >= VRFS {
            return Err(DropReason::SessionQuota);
        }
        if self.spent[usize::from(vrf)] + 16 > u64::from(RATE) * 16 {
            return Err(DropReason::SessionRate);
        }
        let is_within_share = {
            let vrfs: BTreeSet<u16> = self.map.values().map(Kept::vrf).chain([vrf]).collect();
            self.sessions(vrf) * vrfs.len() * 4 < CAPACITY
        };
        if self.sessions(vrf) >= QUOTA as usize {
            let index = self.oldest(vrf, false).ok_or(DropReason::SessionQuota)?;
            self.evict(index, Eviction::Quota);
        } else if self.map.len() >= CAPACITY {
            let index = self.victim(vrf);
            assert!(index.is_some() || !is_within_share, "refused within its share");
            self.evict(index.ok_or(DropReason::SessionTableFull)?, Eviction::TableFull);
        }
        self.spent[usize::from(vrf)] += 16;
        Ok(())
    }

    fn insert(&mut self, forward: FlowKey, reverse: FlowKey) -> Result<(), TestCaseError> {
        let flags = (forward.protocol == TCP).then_some(SYN);
        let allowance = Allowance { quota: QUOTA, rate: RATE };
        let result = self.table.insert(forward, reverse, &first_packet(flags), allowance, self.now);
        let expected = match self.expected(&forward) {
            Some(existing) => Ok(Some(existing)),
            None => self.admit(&forward, &reverse).map(|()| None),
        };
        match expected {
            Ok(None) => {
                let at = result.expect("there is room");
                prop_assert_eq!(at.direction(), Direction::Forward);
                let state = State::first(forward.protocol, flags, false).expect("it opens");
                let (packets, bytes) = ([0; 2], [0; 2]);
                let kept = Kept { forward, reverse, state, last_seen: self.now, packets, bytes };
                prop_assert!(self.map.insert(at.index(), kept).is_none(), "the place is taken");
                self.order[0].push(at.index());
            }
            Ok(Some(existing)) => prop_assert_eq!(result, Ok(existing)),
            Err(reason) => prop_assert_eq!(result, Err(reason)),
        }
        Ok(())
    }

    fn packet(&mut self, forward: &FlowKey, reply: bool, flags: u8, length: u32) {
        let Some((index, kept)) = self.map.iter_mut().find(|(_, kept)| kept.forward == *forward) else {
            return;
        };
        let index = *index;
        let direction = if reply { Direction::Reverse } else { Direction::Forward };
        let key = if reply { kept.reverse } else { kept.forward };
        let flags = (forward.protocol == TCP).then_some(flags);
        let is_ordinary = flags.is_none_or(|flags| flags & (SYN | FIN | RST) == 0);
        let hash = self.table.hash(&key);
        // Only what is decided and settled passes at once.
        let likely = self.table.prefetch_session(hash).expect("it has a session");
        let settled = if is_ordinary { self.table.settled(&key, hash, likely, 1) } else { None };
        if kept.reverse != kept.forward && forward.protocol != TCP {
            assert_eq!(settled.is_some(), !reply, "replies have not been decided");
        }
        let was_held = kept.is_held();
        if let Some(settled) = settled {
            assert_eq!(settled.next_hop, NextHopId(1));
            settled.count(length, self.now);
        } else {
            let verdict = self.table.touch(SessionRef::new(index, direction), length, flags, self.now);
            match kept.state.next(direction, flags) {
                Transition::To(state) => kept.state = state,
                Transition::Reopen => {
                    (kept.state, kept.packets, kept.bytes) = (State::TcpSynSent, [0; 2], [0; 2]);
                }
                Transition::Opposite => {
                    assert_eq!(verdict, Verdict::FirstPacket);
                    return self.forget(index);
                }
            }
            assert_eq!(verdict, Verdict::Pass);
        }
        kept.last_seen = self.now;
        kept.packets[direction as usize] += 1;
        kept.bytes[direction as usize] += u64::from(length);
        let is_held = kept.is_held();
        if was_held != is_held {
            self.order[usize::from(was_held)].retain(|other| *other != index);
            self.order[usize::from(is_held)].push(index);
        }
    }

    fn pass(&mut self, ticks: u32) {
        self.now = self.now.after(ticks);
        for spent in &mut self.spent {
            *spent = spent.saturating_sub(u64::from(ticks) * u64::from(RATE));
        }
        let over: Vec<u32> = self
            .map
            .iter()
            .filter(|(_, kept)| self.now.has_reached(kept.ends()))
            .map(|(index, _)| *index)
            .collect();
        over.iter().for_each(|index| self.forget(*index));
        // A session may be looked at twice after a long pause.
        let ended = self.table.expire(self.now, 3 * CAPACITY);
        assert_eq!(ended, over.len(), "sessions that had to end");
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let table = &self.table;
        prop_assert_eq!(table.len(), self.map.len());
        for vrf in 0..=VRFS as u16 {
            let id = VrfId(vrf);
            prop_assert_eq!(table.vrf_len(id) as usize, self.sessions(vrf));
            let evicted = Eviction::ALL.map(|why| table.evicted(id, why));
            prop_assert_eq!(evicted, self.evicted.get(usize::from(vrf)).copied().unwrap_or_default());
            for (host, protocol) in (0..9).flat_map(|host| [(host, UDP), (host, TCP), (host, 1)]) {
                let forward = key(vrf, protocol, host, 9);
                for key in [forward, forward.reversed(VrfId(vrf))] {
                    prop_assert_eq!(find(table, &key), self.expected(&key));
                }
            }
        }
        let mut shown = BTreeSet::new();
        let mut cursor = 0;
        loop {
            let more = table.dump(&mut cursor, 5, &mut |session| {
                assert!(shown.insert(session.index()), "shown twice");
                let kept = &self.map[&session.index()];
                for (direction, key) in
                    [(Direction::Forward, kept.forward), (Direction::Reverse, kept.reverse)]
                {
                    let flow = session.flow(direction);
                    assert_eq!(*flow.key(), key);
                    assert_eq!(flow.packets(), kept.packets[direction as usize]);
                    assert_eq!(flow.bytes(), kept.bytes[direction as usize]);
                }
                assert_eq!(session.state(), kept.state);
                assert_eq!(session.expires_in(self.now), kept.ends().since(self.now));
            });
            if !more {
                break;
            }
        }
        prop_assert_eq!(shown.len(), self.map.len());
        Ok(())
    }
}

proptest! {
    #[test]
    fn it_behaves_as_a_map_and_never_grows(
        start in prop_oneof![any::<u32>(), u32::MAX - 3000..=u32::MAX],
        seed: u64,
        steps in proptest::collection::vec(step(), 1..250),
    ) {
        let table = SessionTable::new(SessionLimits { seed, ..limits(CAPACITY) });
        let memory = |table: &SessionTable| {
            (table.flows.as_ptr(), table.flows.capacity(), table.records.as_ptr(), table.records.capacity())
        };
        let before = memory(&table);
        let (order, spent, evicted) = Default::default();
        let mut pair = Pair { table, map: BTreeMap::new(), order, spent, evicted, now: Tick(start) };
        for step in steps {
            match step {
                Step::Insert { vrf, host, protocol, reply_vrf } => {
                    let forward = key(vrf, protocol, host, 9);
                    pair.insert(forward, forward.reversed(VrfId(reply_vrf)))?;
                }
                Step::Packet { vrf, host, protocol, reply, flags, length } => {
                    pair.packet(&key(vrf, protocol, host, 9), reply, flags, length);
                }
                Step::Remove { vrf, host, protocol } => {
                    if let Some(at) = pair.expected(&key(vrf, protocol, host, 9)) {
                        prop_assert!(pair.table.remove(at.index()));
                        prop_assert!(!pair.table.remove(at.index()), "it is gone");
                        pair.forget(at.index());
                    }
                }
                Step::Pass(ticks) => pair.pass(ticks),
            }
            pair.compare()?;
        }
        prop_assert_eq!(memory(&pair.table), before);
    }
}

#[test]
fn a_large_table_takes_its_whole_capacity_again_and_again() {
    let capacity = 50_000;
    let mut table = SessionTable::new(limits(capacity));
    let numbered = |n: u32| key(1, UDP, (n >> 16) as u8, n as u16);
    for round in 0..3u32 {
        let now = Tick(round * 10_000);
        for n in 0..capacity as u32 {
            let forward = numbered(n + round * 7);
            let result =
                table.insert(forward, forward.reversed(VrfId(2)), &first_packet(None), Allowance::ALL, now);
            assert!(result.is_ok(), "{n} in round {round}: {result:?}");
        }
        // One more takes the place of the oldest.
        let (extra, first) = (key(1, UDP, 99, 1), numbered(round * 7));
        let result = table.insert(extra, extra.reversed(VrfId(2)), &first_packet(None), Allowance::ALL, now);
        assert!(result.is_ok() && find(&table, &first).is_none(), "{result:?}");
        assert_eq!(
            (table.len(), table.evicted(VrfId(1), Eviction::TableFull)),
            (capacity, u64::from(round) + 1)
        );
        assert!(find(&table, &numbered(capacity as u32 / 2).reversed(VrfId(2))).is_some());
        let end = now.after(Tick::span(Timeouts::default().udp_unreplied));
        assert_eq!(table.expire(Tick(end.0 - 1), usize::MAX), 0);
        assert_eq!(table.expire(end, 1000), 1000, "no more than the budget");
        assert_eq!(table.expire(end, usize::MAX), capacity - 1000);
    }
    assert!(table.is_empty());
}

/// Begins a UDP session, and has it answered if it is to be held.
fn begin(table: &mut SessionTable, forward: FlowKey, held: bool, now: Tick) -> Result<(), DropReason> {
    let replies = forward.reversed(forward.vrf);
    let at = table.insert(forward, replies, &first_packet(None), Allowance::ALL, now)?;
    if held {
        let reply = SessionRef::new(at.index(), Direction::Reverse);
        assert_eq!(table.touch(reply, 60, None, now), Verdict::Pass);
    }
    Ok(())
}

#[test]
fn answered_sessions_above_the_share_go_for_a_vrf_within_its_share_the_idlest_of_the_oldest_first() {
    let mut table = SessionTable::new(limits(100));
    for host in 0..100 {
        begin(&mut table, key(1, UDP, host, 1), true, Tick(0)).expect("room");
    }
    // The oldest eight but one have had a packet since.
    for host in [0, 1, 2, 3, 5, 6, 7] {
        let at = find(&table, &key(1, UDP, host, 1)).expect("it is there");
        assert_eq!(table.touch(at, 60, None, Tick(10)), Verdict::Pass);
    }
    assert_eq!(begin(&mut table, key(1, UDP, 200, 1), true, Tick(20)), Err(DropReason::SessionTableFull));
    begin(&mut table, key(2, UDP, 0, 1), true, Tick(20)).expect("it is within its share");
    assert_eq!(find(&table, &key(1, UDP, 4, 1)), None);
    // It gets half of the table in this way, and no more.
    let got =
        (1..100).filter(|host| begin(&mut table, key(2, UDP, *host, 1), true, Tick(20)).is_ok()).count();
    assert_eq!((got, table.vrf_len(VrfId(1)), table.vrf_len(VrfId(2))), (49, 50, 50));
    assert_eq!(table.evicted(VrfId(1), Eviction::TableFull), 50);
    // One that floods replaces itself once it weighs as much as the others.
    for n in 0..1000u16 {
        begin(&mut table, key(3, UDP, n as u8, n), false, Tick(21)).expect("it takes its own");
    }
    assert_eq!([1, 2, 3].map(|vrf| table.vrf_len(VrfId(vrf))), [44, 44, 12]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_empty_table_of_a_million_sessions_takes_next_to_no_memory() {
    let resident_pages = || -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
        text.split(' ').nth(1).expect("a second field").parse().expect("a number")
    };
    let before = resident_pages();
    let table = SessionTable::new(SessionLimits::with_seed(1));
    let grown = resident_pages().saturating_sub(before) * 4096;
    // Other tests of the process run beside this one.
    assert!(grown < 64 << 20, "{grown} bytes of {} are in use", table.capacity() * BYTES_PER_SESSION);
}

fn open(table: &mut SessionTable, forward: FlowKey, now: Tick) -> SessionRef {
    let init = first_packet(Some(SYN));
    let at = table.insert(forward, forward.reversed(VrfId(2)), &init, quota(10), now).expect("room");
    assert_eq!(table.touch(at, 60, Some(SYN), now), Verdict::Pass);
    at
}

#[test]
fn a_state_change_can_shorten_the_time_that_is_left() {
    let mut table = SessionTable::new(limits(10));
    let forward = key(1, TCP, 1, 1024);
    let at = open(&mut table, forward, Tick(0));
    let reply = find(&table, &forward.reversed(VrfId(2))).expect("its replies lead to it");
    assert_eq!(reply, SessionRef::new(at.index(), Direction::Reverse));
    assert_eq!(table.touch(reply, 60, Some(SYN | ACK), Tick(1)), Verdict::Pass);
    assert_eq!(table.touch(at, 52, Some(ACK), Tick(2)), Verdict::Pass);
    let expires_in = |table: &SessionTable, now| table.session(at.index()).map(|s| s.expires_in(Tick(now)));
    assert_eq!(expires_in(&table, 2), Some(7440 * 16));
    assert_eq!(table.expire(Tick(7000 * 16), 100), 0);

    assert_eq!(table.touch(reply, 40, Some(RST), Tick(7000 * 16)), Verdict::Pass);
    assert_eq!(table.expire(Tick(7010 * 16 - 1), 100), 0);
    assert_eq!(table.expire(Tick(7010 * 16), 100), 1);
    assert_eq!(find(&table, &forward), None);
}

#[test]
fn a_syn_reopens_what_has_ended_but_only_from_the_end_that_opened_it() {
    let mut table = SessionTable::new(limits(10));
    let forward = key(1, TCP, 1, 1024);
    let at = open(&mut table, forward, Tick(0));
    let reply = SessionRef::new(at.index(), Direction::Reverse);
    for (at, flags) in [(reply, SYN | ACK), (at, ACK), (at, FIN | ACK), (reply, FIN | ACK)] {
        assert_eq!(table.touch(at, 52, Some(flags), Tick(16)), Verdict::Pass);
    }
    assert_eq!(table.session(at.index()).map(|s| s.state()), Some(State::TcpTimeWait));

    assert_eq!(table.touch(at, 60, Some(SYN), Tick(32)), Verdict::Pass);
    let session = table.session(at.index()).expect("it goes on");
    assert_eq!((session.state(), session.created()), (State::TcpSynSent, Tick(32)));
    assert_eq!(
        (session.flow(Direction::Forward).packets(), session.flow(Direction::Reverse).packets()),
        (1, 0)
    );

    assert_eq!(table.touch(reply, 40, Some(RST | ACK), Tick(33)), Verdict::Pass);
    assert_eq!(table.touch(reply, 60, Some(SYN), Tick(34)), Verdict::FirstPacket);
    assert!(table.is_empty() && !table.holds(at, &forward));
    assert_eq!(table.touch(at, 52, Some(ACK), Tick(34)), Verdict::FirstPacket, "a reference kept too long");
}

#[test]
fn a_segment_from_the_middle_of_a_connection_needs_pickup() {
    let forward = key(1, TCP, 1, 1024);
    let insert = |tcp_pickup, flags| {
        let mut table = SessionTable::new(SessionLimits { tcp_pickup, ..limits(10) });
        let init = first_packet(flags);
        let at = table.insert(forward, forward.reversed(VrfId(2)), &init, quota(10), Tick(0))?;
        Ok(table.session(at.index()).map(|session| session.state()))
    };
    assert_eq!(insert(false, Some(ACK)), Err(DropReason::TcpInvalidState));
    assert_eq!(insert(false, Some(SYN)), Ok(Some(State::TcpSynSent)));
    assert_eq!(insert(true, Some(ACK)), Ok(Some(State::TcpPickedUp)));
    assert_eq!(insert(true, Some(RST)), Err(DropReason::TcpInvalidState));
}

#[test]
fn decisions_are_kept_for_each_direction_and_generation() {
    let mut table = SessionTable::new(limits(10));
    let forward = key(1, UDP, 1, 1024);
    let at = table
        .insert(forward, forward.reversed(VrfId(2)), &first_packet(None), quota(10), Tick(0))
        .expect("room");
    let reply = SessionRef::new(at.index(), Direction::Reverse);
    assert_eq!(table.flow(at).next_hop(1), Some(NextHopId(1)));
    assert_eq!(table.flow(reply).next_hop(1), None, "not decided yet");
    table.decide(reply, &decision(5));
    assert_eq!(table.flow(reply).next_hop(1), Some(NextHopId(5)));
    assert_eq!(table.flow(reply).next_hop(2), None, "its VRF has changed since");
    let session = table.session(at.index()).expect("it is there");
    assert_eq!(session.ingress(Direction::Forward), Some(InterfaceId(1)));
    assert_eq!(session.ingress(Direction::Reverse), Some(InterfaceId(5)));
}

#[test]
fn a_flow_to_itself_has_one_key_and_leaves_without_trace() {
    let mut table = SessionTable::new(limits(10));
    let mut itself = key(1, UDP, 1, 53);
    itself.destination = itself.source;
    let reverse = itself.reversed(VrfId(1));
    assert_eq!(itself, reverse);
    let at = table.insert(itself, reverse, &first_packet(None), quota(10), Tick(0)).expect("room");
    assert_eq!(find(&table, &itself), Some(at));
    assert!(table.remove(at.index()));
    assert_eq!(find(&table, &itself), None);
}

#[test]
fn timeouts_are_what_was_configured() {
    let timeouts = Timeouts { udp_unreplied: Duration::from_secs(5), ..Timeouts::default() };
    let mut table = SessionTable::new(SessionLimits { timeouts, ..limits(10) });
    let forward = key(1, UDP, 1, 1024);
    let at = table
        .insert(forward, forward.reversed(VrfId(2)), &first_packet(None), quota(10), Tick(0))
        .expect("room");
    let hash = table.hash(&forward);
    table.prefetch(hash);
    table.prefetch_session(hash);
    assert_eq!(table.lookup(&forward, hash), Some(at));
    assert_eq!(table.expire(Tick(79), 10), 0);
    assert_eq!(table.expire(Tick(80), 10), 1);
}
