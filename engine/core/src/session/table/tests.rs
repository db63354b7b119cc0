use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::session::tcp::{ACK, FIN, RST, SYN};
use crate::types::{InterfaceId, NextHopId};

const TCP: u8 = 6;
const UDP: u8 = 17;
const QUOTA: u32 = 6;
const CAPACITY: usize = 12;
const VRFS: usize = 4;

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

fn find(table: &SessionTable, key: &FlowKey) -> Option<SessionRef> {
    table.lookup(key, table.hash(key))
}

/// A session as a map would keep it.
#[derive(Debug, Clone)]
struct Kept {
    forward: FlowKey,
    reverse: FlowKey,
    replied: bool,
    last_seen: Tick,
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl Kept {
    fn ends(&self) -> Tick {
        let timeouts = Timeouts::default();
        let timeout = if self.replied { timeouts.udp_replied } else { timeouts.udp_unreplied };
        self.last_seen.after(Tick::span(timeout))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert { vrf: u16, host: u8, reply_vrf: u16 },
    Packet { vrf: u16, host: u8, reply: bool, length: u32 },
    Remove { vrf: u16, host: u8 },
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    // The last VRF is beyond the limit.
    let name = || (0..=VRFS as u16, 0u8..6);
    prop_oneof![
        6 => (name(), 0..VRFS as u16)
            .prop_map(|((vrf, host), reply_vrf)| Step::Insert { vrf, host, reply_vrf }),
        6 => (name(), any::<bool>(), 20u32..1500)
            .prop_map(|((vrf, host), reply, length)| Step::Packet { vrf, host, reply, length }),
        1 => name().prop_map(|(vrf, host)| Step::Remove { vrf, host }),
        1 => prop_oneof![0u32..600, 0..4000u32, 0..=Tick::MAX_SPAN / 2].prop_map(Step::Pass),
    ]
}

/// The table beside a map of the same sessions by their number.
struct Pair {
    table: SessionTable,
    map: BTreeMap<u32, Kept>,
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

    fn insert(&mut self, forward: FlowKey, reverse: FlowKey) -> Result<(), TestCaseError> {
        let in_vrf = self.map.values().filter(|kept| kept.forward.vrf == forward.vrf).count();
        let expected = if let Some(existing) = self.expected(&forward) {
            Ok(Some(existing))
        } else if self.expected(&reverse).is_some() {
            Err(DropReason::SessionConflict)
        } else if in_vrf >= QUOTA as usize || forward.vrf.index() >= VRFS {
            Err(DropReason::SessionQuota)
        } else if self.map.len() >= CAPACITY {
            Err(DropReason::SessionTableFull)
        } else {
            Ok(None)
        };
        let result = self.table.insert(forward, reverse, &first_packet(None), QUOTA, self.now);
        match expected {
            Ok(None) => {
                let at = result.expect("there is room");
                prop_assert_eq!(at.direction(), Direction::Forward);
                let (packets, bytes) = ([0; 2], [0; 2]);
                let kept = Kept { forward, reverse, replied: false, last_seen: self.now, packets, bytes };
                prop_assert!(self.map.insert(at.index(), kept).is_none(), "the place is taken");
            }
            Ok(Some(existing)) => prop_assert_eq!(result, Ok(existing)),
            Err(reason) => prop_assert_eq!(result, Err(reason)),
        }
        Ok(())
    }

    fn packet(&mut self, forward: &FlowKey, reply: bool, length: u32) {
        let Some((index, kept)) = self.map.iter_mut().find(|(_, kept)| kept.forward == *forward) else {
            return;
        };
        let direction = if reply { Direction::Reverse } else { Direction::Forward };
        let key = if reply { kept.reverse } else { kept.forward };
        let hash = self.table.hash(&key);
        // Only what is decided and settled passes at once.
        let likely = self.table.prefetch_session(hash).expect("it has a session");
        let settled = self.table.settled(&key, hash, likely, 1);
        if kept.reverse != kept.forward {
            assert_eq!(settled.is_some(), !reply, "replies have not been decided");
        }
        if let Some(settled) = settled {
            assert_eq!(settled.next_hop, NextHopId(1));
            settled.count(length, self.now);
        } else {
            let verdict = self.table.touch(SessionRef::new(*index, direction), length, None, self.now);
            assert_eq!(verdict, Verdict::Pass);
        }
        kept.replied |= reply;
        kept.last_seen = self.now;
        kept.packets[direction as usize] += 1;
        kept.bytes[direction as usize] += u64::from(length);
    }

    fn pass(&mut self, ticks: u32) {
        self.now = self.now.after(ticks);
        let before = self.map.len();
        self.map.retain(|_, kept| !self.now.has_reached(kept.ends()));
        // A session may be looked at twice after a long pause.
        let ended = self.table.expire(self.now, 3 * CAPACITY);
        assert_eq!(ended, before - self.map.len(), "sessions that had to end");
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let table = &self.table;
        prop_assert_eq!(table.len(), self.map.len());
        for vrf in 0..=VRFS as u16 {
            let count = self.map.values().filter(|kept| kept.forward.vrf.0 == vrf).count();
            prop_assert_eq!(table.vrf_len(VrfId(vrf)) as usize, count);
            for host in 0..6 {
                let forward = key(vrf, UDP, host, 9);
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
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let table = SessionTable::new(SessionLimits { seed, ..limits(CAPACITY) });
        let memory = |table: &SessionTable| {
            (table.flows.as_ptr(), table.flows.capacity(), table.records.as_ptr(), table.records.capacity())
        };
        let before = memory(&table);
        let mut pair = Pair { table, map: BTreeMap::new(), now: Tick(start) };
        for step in steps {
            match step {
                Step::Insert { vrf, host, reply_vrf } => {
                    let forward = key(vrf, UDP, host, 9);
                    pair.insert(forward, forward.reversed(VrfId(reply_vrf)))?;
                }
                Step::Packet { vrf, host, reply, length } => {
                    pair.packet(&key(vrf, UDP, host, 9), reply, length);
                }
                Step::Remove { vrf, host } => {
                    if let Some(at) = pair.expected(&key(vrf, UDP, host, 9)) {
                        prop_assert!(pair.table.remove(at.index()));
                        prop_assert!(!pair.table.remove(at.index()), "it is gone");
                        pair.map.remove(&at.index());
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
                table.insert(forward, forward.reversed(VrfId(2)), &first_packet(None), u32::MAX, now);
            assert!(result.is_ok(), "{n} in round {round}: {result:?}");
        }
        let extra = key(1, UDP, 99, 1);
        let result = table.insert(extra, extra.reversed(VrfId(2)), &first_packet(None), u32::MAX, now);
        assert_eq!(result, Err(DropReason::SessionTableFull));
        assert!(find(&table, &numbered(capacity as u32 / 2).reversed(VrfId(2))).is_some());
        let end = now.after(Tick::span(Timeouts::default().udp_unreplied));
        assert_eq!(table.expire(Tick(end.0 - 1), usize::MAX), 0);
        assert_eq!(table.expire(end, 1000), 1000, "no more than the budget");
        assert_eq!(table.expire(end, usize::MAX), capacity - 1000);
    }
    assert!(table.is_empty());
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
    let at = table.insert(forward, forward.reversed(VrfId(2)), &init, 10, now).expect("room");
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
        let at = table.insert(forward, forward.reversed(VrfId(2)), &init, 10, Tick(0))?;
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
    let at =
        table.insert(forward, forward.reversed(VrfId(2)), &first_packet(None), 10, Tick(0)).expect("room");
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
    let at = table.insert(itself, reverse, &first_packet(None), 10, Tick(0)).expect("room");
    assert_eq!(find(&table, &itself), Some(at));
    assert!(table.remove(at.index()));
    assert_eq!(find(&table, &itself), None);
}

#[test]
fn timeouts_are_what_was_configured() {
    let timeouts = Timeouts { udp_unreplied: Duration::from_secs(5), ..Timeouts::default() };
    let mut table = SessionTable::new(SessionLimits { timeouts, ..limits(10) });
    let forward = key(1, UDP, 1, 1024);
    let at =
        table.insert(forward, forward.reversed(VrfId(2)), &first_packet(None), 10, Tick(0)).expect("room");
    let hash = table.hash(&forward);
    table.prefetch(hash);
    table.prefetch_session(hash);
    assert_eq!(table.lookup(&forward, hash), Some(at));
    assert_eq!(table.expire(Tick(79), 10), 0);
    assert_eq!(table.expire(Tick(80), 10), 1);
}
