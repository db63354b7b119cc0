//! The ports of fragmented packets.
//!
//! Only the first fragment of a packet has ports. They are kept for two
//! seconds, so that the fragments after it find their session. The table is
//! bounded: an entry stands in one of two buckets of eight.
//!
//! Every VRF may have as much as there is room for. Where both buckets of a new
//! entry are in use, it takes the place of one of the VRF that has most in the
//! table among those that stand there, if that is more than its own has; or
//! else of one of the source in its own VRF that has most, if that is more than
//! its own source has. So who floods drives out its own.
//!
//! All entries live equally long, so a list in the order of their last
//! renewal is also the order in which they end.

use crate::DropReason;
use crate::packet::flow_key::FlowKey;
use crate::session::hash::KeyedHash;
use crate::session::tick::Tick;

/// How long an entry lives, in ticks.
const LIFE: u32 = 2 * Tick::PER_SECOND;
/// Entries in one bucket.
const WAYS: usize = 8;
/// The largest capacity of one table.
const MAX_CAPACITY: usize = 1 << 15;
/// Entries that have ended and are taken out with each new one. Whenever a
/// new entry would be refused, all of them are.
const RECLAIMED_AT_ONCE: usize = 16;
/// Counters of sources. Sources that share one count as one.
const SOURCES: usize = 1 << 12;
/// No entry.
const NONE: u16 = u16::MAX;

/// What a table is made for.
#[derive(Debug, Clone)]
pub struct FragmentLimits {
    /// Most packets whose ports are known at once, up to 32768; rounded up to
    /// a multiple of 16. Near it, entries are refused before all are in use.
    pub capacity: usize,
    /// VRFs: numbers from 0 to one below this can have entries.
    pub vrfs: usize,
    /// Secret random number that the hash depends on.
    pub seed: u64,
}

impl FragmentLimits {
    /// The defaults: 4096 packets, any VRF number.
    pub fn with_seed(seed: u64) -> Self {
        Self { capacity: 4096, vrfs: 1 << 16, seed }
    }
}

/// The ports of fragmented packets.
pub struct FragmentTable {
    hash: KeyedHash,
    entries: Box<[Entry]>,
    /// The entry that ends first.
    oldest: u16,
    /// The entry that ends last.
    newest: u16,
    /// Entries by VRF.
    vrf_entries: Box<[u16]>,
    /// Entries by what a source in its VRF hashes to.
    source_entries: Box<[u16]>,
    live: usize,
}

/// The ports of one packet, or a free place.
#[derive(Debug, Clone)]
struct Entry {
    name: FragmentName,
    ports: (u16, u16),
    ends: Tick,
    /// Where its source is counted.
    source: u16,
    /// In the order of their ends.
    older: u16,
    newer: u16,
    live: bool,
}

/// What the fragments of one packet have in common: addresses, VRF, protocol
/// and identification (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FragmentName([u64; 5]);

impl FragmentName {
    fn new(key: &FlowKey, identification: u32) -> Self {
        let portless = FlowKey { source_port: 0, destination_port: 0, ..*key };
        let mut words = portless.words();
        // The ports' place in the last word.
        words[4] |= u64::from(identification);
        Self(words)
    }

    /// As [`FlowKey::words`] places it.
    fn vrf(&self) -> usize {
        usize::from((self.0[4] >> 32) as u16)
    }
}

impl FragmentTable {
    /// An empty table. Allocates all its memory.
    pub fn new(limits: FragmentLimits) -> Self {
        let capacity = limits.capacity.clamp(1, MAX_CAPACITY).next_multiple_of(2 * WAYS);
        let free = Entry {
            name: FragmentName([0; 5]),
            ports: (0, 0),
            ends: Tick(0),
            source: 0,
            older: NONE,
            newer: NONE,
            live: false,
        };
        Self {
            hash: KeyedHash::new(limits.seed),
            entries: vec![free; capacity].into(),
            oldest: NONE,
            newest: NONE,
            vrf_entries: vec![0; limits.vrfs].into(),
            source_entries: vec![0; SOURCES].into(),
            live: 0,
        }
    }

    /// Entries in use. Some of them may have ended already.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Most entries.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Keeps the ports of a packet, of which `key` is from the first fragment.
    /// What is known of the same name is replaced.
    ///
    /// # Errors
    /// [`DropReason::FragmentTableFull`]: no room for it, and nobody there who
    /// has more than its VRF and its source; or the VRF's number is beyond the
    /// limit.
    pub fn remember(&mut self, key: &FlowKey, identification: u32, now: Tick) -> Result<(), DropReason> {
        self.reclaim(now, RECLAIMED_AT_ONCE);
        let name = FragmentName::new(key, identification);
        let ports = (key.source_port, key.destination_port);
        if let Some(place) = self.find(&name) {
            self.unlink(place);
            self.link(place, ports, now);
            return Ok(());
        }
        if name.vrf() >= self.vrf_entries.len() {
            return Err(DropReason::FragmentTableFull);
        }
        let source = self.source_of(key);
        let place = match self.place_for(&name) {
            Some(place) => place,
            None => {
                self.reclaim(now, usize::MAX);
                self.place_for(&name)
                    .or_else(|| self.drive_out(&name, source))
                    .ok_or(DropReason::FragmentTableFull)?
            }
        };
        let entry = &mut self.entries[usize::from(place)];
        (entry.name, entry.source, entry.live) = (name, source, true);
        self.vrf_entries[name.vrf()] += 1;
        self.source_entries[usize::from(source)] += 1;
        self.live += 1;
        self.link(place, ports, now);
        Ok(())
    }

    /// The source and destination port of the packet that a later fragment
    /// belongs to. The ports in `key` do not count.
    pub fn ports(&self, key: &FlowKey, identification: u32, now: Tick) -> Option<(u16, u16)> {
        let entry = &self.entries[usize::from(self.find(&FragmentName::new(key, identification))?)];
        (!now.has_reached(entry.ends)).then_some(entry.ports)
    }

    /// The places of both buckets that a name may stand in.
    fn places(&self, name: &FragmentName) -> [std::ops::Range<u16>; 2] {
        let hash = self.hash.of_words(&name.0).0;
        let buckets = (self.entries.len() / WAYS) as u64;
        let first = ((hash >> 32) * buckets) >> 32;
        let distance = 1 + (((hash & u64::from(u32::MAX)) * (buckets - 1)) >> 32);
        [first, (first + distance) % buckets].map(|bucket| {
            let start = bucket as u16 * WAYS as u16;
            start..start + WAYS as u16
        })
    }

    fn find(&self, name: &FragmentName) -> Option<u16> {
        self.places(name).into_iter().flatten().find(|place| {
            let entry = &self.entries[usize::from(*place)];
            entry.live && entry.name == *name
        })
    }

    /// Where the entries of a packet's source are counted. The seed keeps
    /// tenants from choosing it.
    fn source_of(&self, key: &FlowKey) -> u16 {
        let source = FlowKey { vrf: key.vrf, family: key.family, source: key.source, ..FlowKey::ZERO };
        (self.hash.of(&source).0 % SOURCES as u64) as u16
    }

    /// A free place for a new name, in the emptier of its two buckets.
    fn place_for(&self, name: &FragmentName) -> Option<u16> {
        let free = |place: &u16| !self.entries[usize::from(*place)].live;
        let [first, second] = self.places(name);
        let room = |bucket: &std::ops::Range<u16>| bucket.clone().filter(free).count();
        let mut bucket = if room(&second) > room(&first) { second } else { first };
        bucket.find(free)
    }

    /// Takes out the entry that has to give way to a new one, if any has to.
    fn drive_out(&mut self, name: &FragmentName, source: u16) -> Option<u16> {
        let weight =
            |vrf: usize, source: u16| (self.vrf_entries[vrf], self.source_entries[usize::from(source)]);
        let of = |place: &u16| {
            let entry = &self.entries[usize::from(*place)];
            weight(entry.name.vrf(), entry.source)
        };
        let place = self.places(name).into_iter().flatten().max_by_key(of)?;
        let (own, most) = (weight(name.vrf(), source), of(&place));
        let same_vrf = self.entries[usize::from(place)].name.vrf() == name.vrf();
        if most.0 > own.0 || (same_vrf && most.1 > own.1) {
            self.remove(place);
            return Some(place);
        }
        None
    }

    fn remove(&mut self, place: u16) {
        self.unlink(place);
        let entry = &mut self.entries[usize::from(place)];
        entry.live = false;
        self.vrf_entries[entry.name.vrf()] -= 1;
        self.source_entries[usize::from(entry.source)] -= 1;
        self.live -= 1;
    }

    /// Takes out up to `most` entries that have ended.
    fn reclaim(&mut self, now: Tick, most: usize) {
        for _ in 0..most.min(self.live) {
            let place = self.oldest;
            if !now.has_reached(self.entries[usize::from(place)].ends) {
                break;
            }
            self.remove(place);
        }
    }

    /// Starts an entry's life: it is the newest now.
    fn link(&mut self, place: u16, ports: (u16, u16), now: Tick) {
        let older = std::mem::replace(&mut self.newest, place);
        match older {
            NONE => self.oldest = place,
            older => self.entries[usize::from(older)].newer = place,
        }
        let entry = &mut self.entries[usize::from(place)];
        (entry.ports, entry.ends) = (ports, now.after(LIFE));
        (entry.older, entry.newer) = (older, NONE);
    }

    fn unlink(&mut self, place: u16) {
        let Entry { older, newer, .. } = self.entries[usize::from(place)];
        match older {
            NONE => self.oldest = newer,
            older => self.entries[usize::from(older)].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.entries[usize::from(newer)].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::VrfId;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(vrf: u16, host: u8, ports: (u16, u16)) -> FlowKey {
        let mut key = FlowKey { vrf: VrfId(vrf), protocol: 17, ..FlowKey::ZERO };
        key.source[3] = host;
        (key.source_port, key.destination_port) = ports;
        key
    }

    #[derive(Debug, Clone)]
    enum Step {
        Remember { vrf: u16, host: u8, id: u32, ports: (u16, u16) },
        Ask { vrf: u16, host: u8, id: u32 },
        Pass(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        // VRF 3 is beyond the limit.
        let name = || (0u16..4, 0u8..6, prop_oneof![0u32..6, Just(u32::MAX)]);
        prop_oneof![
            6 => (name(), any::<(u16, u16)>())
                .prop_map(|((vrf, host, id), ports)| Step::Remember { vrf, host, id, ports }),
            3 => name().prop_map(|(vrf, host, id)| Step::Ask { vrf, host, id }),
            1 => (0u32..40).prop_map(Step::Pass),
        ]
    }

    /// Ports and when they are forgotten.
    type Known = ((u16, u16), Tick);

    proptest! {
        #[test]
        fn it_answers_as_a_map_with_ends(
            start in prop_oneof![any::<u32>(), u32::MAX - 100..=u32::MAX],
            seed: u64,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let limits = FragmentLimits { capacity: 512, vrfs: 3, seed };
            let mut table = FragmentTable::new(limits);
            let mut oracle: HashMap<(u16, u8, u32), Known> = HashMap::new();
            let mut now = Tick(start);
            for step in steps {
                match step {
                    Step::Pass(ticks) => now = now.after(ticks),
                    Step::Ask { vrf, host, id } => {
                        let known = oracle.get(&(vrf, host, id));
                        let expected = known.filter(|(_, ends)| !now.has_reached(*ends));
                        let found = table.ports(&key(vrf, host, (7, 7)), id, now);
                        prop_assert_eq!(found, expected.map(|(ports, _)| *ports));
                    }
                    Step::Remember { vrf, host, id, ports } => {
                        oracle.retain(|_, (_, ends)| !now.has_reached(*ends));
                        // A quarter full at most: nobody has to give way.
                        let fits = vrf < 3;
                        let result = table.remember(&key(vrf, host, ports), id, now);
                        prop_assert_eq!(result, fits.then_some(()).ok_or(DropReason::FragmentTableFull));
                        if fits {
                            oracle.insert((vrf, host, id), (ports, now.after(LIFE)));
                        }
                        prop_assert!(table.len() >= oracle.len() && table.len() <= 512);
                    }
                }
            }
        }
    }

    #[test]
    fn it_fills_nearly_to_the_last_place_refuses_and_starts_anew_when_all_has_ended() {
        let mut table = FragmentTable::new(FragmentLimits::with_seed(3));
        let accepted =
            (0..8192).filter(|id| table.remember(&key(1, 1, (1, 2)), *id, Tick(5)).is_ok()).count();
        assert_eq!(accepted, table.len());
        assert!((3600..=4096).contains(&accepted), "{accepted}");
        let later = Tick(5).after(LIFE);
        assert_eq!(table.ports(&key(1, 1, (0, 0)), 0, later), None);
        let again = (8192..8192 + 2048).filter(|id| table.remember(&key(2, 1, (1, 2)), *id, later).is_ok());
        assert_eq!(again.count(), 2048);
    }

    /// Remembers `count` packets of each of `flooders`, in turn.
    fn flood(table: &mut FragmentTable, flooders: &[(u16, u8)], count: u32) {
        for id in 0..count {
            for (vrf, host) in flooders {
                let _ = table.remember(&key(*vrf, *host, (1, 2)), 1_000_000 + id, Tick(0));
            }
        }
    }

    /// How many of a host's packets are remembered, and still are after another
    /// round of the flood.
    fn lives_on(flooders: &[(u16, u8)], vrf: u16, host: u8) -> usize {
        let mut table = FragmentTable::new(FragmentLimits::with_seed(9));
        flood(&mut table, flooders, 5000);
        let mut kept = 0;
        for id in 0..100 {
            let key = key(vrf, host, (5, 6));
            let taken = table.remember(&key, id, Tick(0)).is_ok();
            flood(&mut table, flooders, 500);
            kept += usize::from(taken && table.ports(&key, id, Tick(0)) == Some((5, 6)));
        }
        counts_are_exact(&table);
        kept
    }

    fn counts_are_exact(table: &FragmentTable) {
        let mut counted: (HashMap<usize, u16>, HashMap<u16, u16>) = Default::default();
        let live = table.entries.iter().filter(|entry| entry.live);
        for entry in live {
            *counted.0.entry(entry.name.vrf()).or_default() += 1;
            *counted.1.entry(entry.source).or_default() += 1;
        }
        assert_eq!(counted.0.values().map(|count| usize::from(*count)).sum::<usize>(), table.len());
        assert!(counted.0.iter().all(|(vrf, count)| table.vrf_entries[*vrf] == *count));
        assert!(counted.1.iter().all(|(source, count)| table.source_entries[usize::from(*source)] == *count));
    }

    #[test]
    fn one_vrf_may_have_all_of_it_and_makes_room_for_others() {
        let mut table = FragmentTable::new(FragmentLimits::with_seed(9));
        flood(&mut table, &[(1, 1)], 5000);
        assert!(table.len() > 3600, "{}", table.len());
        assert_eq!(lives_on(&[(1, 1)], 2, 1), 100);
    }

    #[test]
    fn s5_ten_vrfs_that_flood_cost_an_eleventh_less_than_one_percent_of_its_fragments() {
        let flooders: Vec<(u16, u8)> = (0..10).map(|vrf| (vrf, 1)).collect();
        assert_eq!(lives_on(&flooders, 10, 1), 100);
    }

    #[test]
    fn s5_hosts_that_flood_drive_out_themselves_within_their_vrf() {
        let flooders: Vec<(u16, u8)> = (0..10).map(|host| (3, host)).collect();
        assert_eq!(lives_on(&flooders, 3, 10), 100);
        // Beside other VRFs that flood too.
        let flooders: Vec<(u16, u8)> = flooders.into_iter().chain([(1, 1), (2, 1)]).collect();
        assert!(lives_on(&flooders, 3, 10) >= 80);
    }
}
