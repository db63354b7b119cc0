//! Sessions that were in another process's table.

use crate::packet::flow_key::FlowKey;
use crate::session::entry::{Direction, Flow, Record, Session};
use crate::session::shares::{Allowance, Eviction, Grip, Victim};
use crate::session::table::{SessionTable, settle};
use crate::session::tick::Tick;
use crate::transfer::SessionRecord;
use crate::types::InterfaceId;

/// Why a session was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotRestored {
    /// It has been idle for its timeout here.
    Over,
    /// Its VRF has as many sessions as it may, or cannot have any.
    Quota,
    /// There is no place.
    Full,
}

impl SessionRecord {
    /// What travels of a session. Its decisions do not.
    pub(crate) fn of(session: &Session<'_>, now: Tick) -> Self {
        let flows = [Direction::Forward, Direction::Reverse].map(|direction| session.flow(direction));
        let ticks = |since: Tick| now.since(since).min(Tick::MAX_SPAN);
        Self {
            key: *flows[0].key(),
            reply_vrf: flows[1].key().vrf,
            ingress: [Direction::Forward, Direction::Reverse]
                .map(|direction| session.ingress(direction).unwrap_or(InterfaceId::NONE)),
            state: session.state(),
            age: ticks(session.created()),
            idle: flows.map(|flow| ticks(flow.last_seen())),
            packets: flows.map(Flow::packets),
            bytes: flows.map(Flow::bytes),
        }
    }
}

impl SessionTable {
    /// Takes a session that lived in another table: its state, counters and
    /// the idle time that it has left; where it goes is decided by its next
    /// packets. Sessions that have one of its keys end: what comes later is
    /// newer.
    ///
    /// # Errors
    /// See [`NotRestored`]. Those that had its keys have ended all the same.
    pub fn restore(
        &mut self,
        record: &SessionRecord,
        allowance: Allowance,
        now: Tick,
    ) -> Result<(), NotRestored> {
        let keys = record.keys();
        let hashes = keys.each_ref().map(|key| self.hash(key));
        for (key, hash) in keys.iter().zip(hashes) {
            if let Some(at) = self.lookup(key, hash) {
                self.remove(at.index());
            }
        }
        let left = self.timeouts.of(record.state).saturating_sub(record.idle[0].min(record.idle[1]));
        if left == 0 {
            return Err(NotRestored::Over);
        }
        let vrf = record.key.vrf.index();
        if !self.shares.knows(vrf) {
            return Err(NotRestored::Quota);
        }
        let grip = Grip::of(record.state);
        if self.shares.sessions(vrf) >= allowance.quota {
            self.drive_out(grip, self.shares.oldest_loose(vrf), Eviction::Quota).ok_or(NotRestored::Quota)?;
        } else if self.live == self.capacity {
            let loose = self.shares.victim(vrf).and_then(Victim::loose);
            self.drive_out(grip, loose, Eviction::TableFull).ok_or(NotRestored::Full)?;
        }
        let place = self.take_place().ok_or(NotRestored::Full)?;
        let flow = |at: usize| {
            let last_seen = now.before(record.idle[at]);
            Flow::restored(keys[at], record.packets[at], record.bytes[at], last_seen)
        };
        let flows = &mut self.flows[place as usize];
        *flows = [flow(0), flow(1)];
        settle(flows, self.settled[record.state as usize]);
        self.records[place as usize] = Record {
            hashes,
            ingress: record.ingress,
            created: now.before(record.age),
            state: Some(record.state),
        };
        let [forward, reverse]: [&FlowKey; 2] = keys.each_ref();
        if !self.add_to_index(place, [forward, reverse], hashes) {
            self.free(place);
            return Err(NotRestored::Full);
        }
        self.shares.add(place, vrf, grip);
        self.live += 1;
        self.wheel.arm(place, now.after(left), now);
        Ok(())
    }

    /// Ends a loose session for one that is held; others drive nothing out.
    fn drive_out(&mut self, by: Grip, loose: Option<u32>, why: Eviction) -> Option<()> {
        let place = loose.filter(|_| by == Grip::Held)?;
        self.evict(place, why);
        Some(())
    }

    /// Copies sessions from place `cursor` on, among the next `max`, and moves
    /// `cursor`: all of them, or those that have had a packet at `since` or
    /// later. Returns whether there is more.
    pub fn copy_out(
        &self,
        cursor: &mut u32,
        max: usize,
        since: Option<Tick>,
        now: Tick,
        copy: &mut dyn FnMut(&SessionRecord),
    ) -> bool {
        self.dump(cursor, max, &mut |session| {
            if since.is_none_or(|since| session.last_seen().has_reached(since)) {
                copy(&SessionRecord::of(&session, now));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::entry::SessionRef;
    use crate::session::state::{State, Transition};
    use crate::session::table::{SessionLimits, Verdict};
    use crate::session::tcp::{ACK, SYN};
    use crate::session::{Decision, NewSession, Timeouts};
    use crate::transfer::record::tests::session;
    use crate::types::{NextHopId, VrfId};

    fn find(table: &SessionTable, key: &FlowKey) -> Option<SessionRef> {
        table.lookup(key, table.hash(key))
    }

    fn quota(quota: u32) -> Allowance {
        Allowance { quota, ..Allowance::ALL }
    }

    fn limits(capacity: usize, seed: u64) -> SessionLimits {
        SessionLimits { capacity, ..SessionLimits::with_seed(seed) }
    }

    fn all(table: &SessionTable, now: Tick) -> Vec<SessionRecord> {
        let (mut cursor, mut records) = (0, Vec::new());
        while table.copy_out(&mut cursor, 7, None, now, &mut |record| records.push(*record)) {}
        records.sort_by_key(|record| record.key.words());
        records
    }

    fn key(protocol: u8, port: u16) -> FlowKey {
        FlowKey { protocol, source_port: port, destination_port: 80, vrf: VrfId(1), ..FlowKey::ZERO }
    }

    fn open(table: &mut SessionTable, key: FlowKey, now: Tick) -> SessionRef {
        let forward =
            Decision { next_hop: NextHopId(1), generation: 1, ingress: crate::types::InterfaceId(3) };
        let tcp_flags = (key.protocol == 6).then_some(SYN);
        let init = NewSession { forward, reverse: None, tcp_flags };
        table.insert(key, key.reversed(VrfId(2)), &init, Allowance::ALL, now).expect("room")
    }

    /// A packet of a session: which, which way, TCP flags, and ticks after the one before.
    type Step = (u16, bool, u8, u32);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec((0..8u16, any::<bool>(), any::<u8>(), 0..200u32), 0..80)
    }

    proptest! {
        #[test]
        fn a_table_comes_back_as_it_was(start: u32, other: u32, seeds: (u64, u64), steps in steps()) {
            let mut now = Tick(start);
            let mut old = SessionTable::new(limits(16, seeds.0));
            for (number, reply, flags, pause) in steps {
                now = now.after(pause);
                old.expire(now, 100);
                let key = key(if number % 2 == 0 { 6 } else { 17 }, number);
                let at = find(&old, &key).unwrap_or_else(|| open(&mut old, key, now));
                let at = if reply { find(&old, &key.reversed(VrfId(2))).expect("both keys") } else { at };
                let flags = (key.protocol == 6).then_some(flags);
                let _ = old.touch(at, 1000, flags, now);
            }
            old.expire(now, 100);
            let before = all(&old, now);
            let there = Tick(other);
            let mut new = SessionTable::new(limits(16, seeds.1));
            for record in &before {
                prop_assert_eq!(new.restore(record, Allowance::ALL, there), Ok(()));
            }
            prop_assert_eq!(all(&new, there), before.clone());
            prop_assert_eq!((new.len(), new.vrf_len(VrfId(1))), (old.len(), old.vrf_len(VrfId(1))));
            // Both end the same sessions at the same time.
            for wait in [1, 100, 480, 481, 960, 2880, 7440 * 16] {
                old.expire(now.after(wait), 1000);
                new.expire(there.after(wait), 1000);
                let keys = |table: &SessionTable, now| {
                    all(table, now).iter().map(|record| record.key).collect::<Vec<_>>()
                };
                prop_assert_eq!(keys(&old, now.after(wait)), keys(&new, there.after(wait)));
            }
            prop_assert!(new.is_empty());
        }

        #[test]
        fn any_record_is_taken_or_refused_and_the_table_stays_sound(
            records in proptest::collection::vec(session(), 1..40),
            repeat in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
            now: u32,
        ) {
            let now = Tick(now);
            let mut table = SessionTable::new(limits(24, 5));
            let mut fed = records.clone();
            fed.extend(repeat.iter().map(|index| records[index.index(records.len())]));
            for record in &fed {
                let taken = table.restore(record, quota(20), now);
                let [forward, reverse] = record.keys().map(|key| find(&table, &key));
                prop_assert_eq!(taken.is_ok(), forward.is_some());
                prop_assert_eq!(taken.is_ok(), reverse.is_some());
                if let Some(at) = forward {
                    let session = table.session(at.index()).expect("it lives");
                    prop_assert_eq!(session.state(), record.state);
                    let idle = record.idle[0].min(record.idle[1]);
                    let timeout = Tick::span(Timeouts::default().of(record.state));
                    prop_assert_eq!(session.expires_in(now), timeout - idle);
                }
            }
            prop_assert!(table.len() <= 24);
            let ended = table.len();
            prop_assert_eq!(table.expire(now.after(Tick::span(std::time::Duration::from_secs(7440))), 1000), ended);
            prop_assert!(table.is_empty());
        }
    }

    #[test]
    fn a_segment_from_the_middle_goes_on_and_moves_the_state_as_before() {
        let mut old = SessionTable::new(limits(4, 1));
        let at = open(&mut old, key(6, 9), Tick(0));
        assert_eq!(old.touch(at, 60, Some(SYN), Tick(0)), Verdict::Pass);
        let reply = find(&old, &key(6, 9).reversed(VrfId(2))).expect("both keys");
        assert_eq!(old.touch(reply, 60, Some(SYN | ACK), Tick(1)), Verdict::Pass);
        assert_eq!(old.touch(at, 52, Some(ACK), Tick(2)), Verdict::Pass);
        let record = all(&old, Tick(10))[0];
        assert_eq!((record.state, record.idle, record.age), (State::TcpEstablished, [8, 9], 10));

        let mut new = SessionTable::new(limits(4, 2));
        new.restore(&record, quota(1), Tick(5)).expect("room");
        let at = find(&new, &record.key).expect("it is there");
        assert_eq!(new.flow(at).next_hop(1), None, "decided by the tables here");
        assert_eq!(new.touch(at, 1500, Some(ACK), Tick(6)), Verdict::Pass);
        assert_eq!(new.flow(at).packets(), 3);
        assert_eq!(State::TcpEstablished.next(Direction::Forward, Some(ACK)), Transition::To(record.state));
    }

    #[test]
    fn what_is_answered_drives_out_what_is_not() {
        let loose = |port| SessionRecord { state: State::UdpUnreplied, ..record(port) };
        let held = |port| SessionRecord { state: State::UdpReplied, ..record(port) };
        fn record(port: u16) -> SessionRecord {
            let mut old = SessionTable::new(limits(1, 1));
            open(&mut old, key(17, port), Tick(0));
            all(&old, Tick(0))[0]
        }
        let mut new = SessionTable::new(limits(4, 2));
        for (port, allowed, taken) in [(1, 9, Ok(())), (2, 9, Ok(())), (3, 2, Err(NotRestored::Quota))] {
            assert_eq!(new.restore(&loose(port), quota(allowed), Tick(0)), taken);
        }
        assert_eq!(new.restore(&held(4), quota(2), Tick(0)), Ok(()));
        assert_eq!((find(&new, &key(17, 1)), new.evicted(VrfId(1), Eviction::Quota)), (None, 1));
        for port in [5, 6] {
            assert_eq!(new.restore(&held(port), quota(9), Tick(0)), Ok(()));
        }
        assert_eq!(new.restore(&loose(7), quota(9), Tick(0)), Err(NotRestored::Full));
        assert_eq!(new.restore(&held(8), quota(9), Tick(0)), Ok(()));
        assert_eq!((find(&new, &key(17, 2)), new.evicted(VrfId(1), Eviction::TableFull)), (None, 1));
        assert_eq!(new.restore(&held(9), quota(9), Tick(0)), Err(NotRestored::Full), "all are answered");
    }

    #[test]
    fn what_does_not_fit_says_why() {
        let mut old = SessionTable::new(limits(8, 1));
        for port in 0..4 {
            open(&mut old, key(17, port), Tick(0));
        }
        let records = all(&old, Tick(0));
        let mut new = SessionTable::new(limits(2, 2));
        assert_eq!(new.restore(&records[0], quota(0), Tick(0)), Err(NotRestored::Quota));
        assert_eq!(new.restore(&records[0], quota(2), Tick(0)), Ok(()));
        assert_eq!(new.restore(&records[1], quota(1), Tick(0)), Err(NotRestored::Quota));
        assert_eq!(new.restore(&records[1], quota(9), Tick(0)), Ok(()));
        assert_eq!(new.restore(&records[2], quota(9), Tick(0)), Err(NotRestored::Full));
        assert_eq!(new.restore(&records[1], quota(9), Tick(0)), Ok(()), "again: it takes its own place");
        let over = SessionRecord { idle: [30 * 16, 31 * 16], ..records[1] };
        assert_eq!(new.restore(&over, quota(9), Tick(0)), Err(NotRestored::Over));
        assert_eq!(new.len(), 1, "what is over here is not kept in its older form");
    }

    #[test]
    fn only_what_has_had_packets_since_is_copied_again() {
        let mut old = SessionTable::new(limits(8, 1));
        let first = open(&mut old, key(17, 1), Tick(0));
        open(&mut old, key(17, 2), Tick(0));
        open(&mut old, key(17, 3), Tick(40));
        old.count_first(first, 100, Tick(41));
        let mut ports = Vec::new();
        let more = old.copy_out(&mut 0, 100, Some(Tick(40)), Tick(50), &mut |record| {
            ports.push(record.key.source_port);
        });
        assert!(!more);
        ports.sort_unstable();
        assert_eq!(ports, [1, 3]);
    }
}
