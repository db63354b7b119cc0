//! What happens by itself, found by looking from time to time: links of ports,
//! neighbours, the filling of session tables.

use std::collections::HashMap;
use std::net::IpAddr;

use tieline_engine::types::{InterfaceId, PortId};
use tieline_proto::v1::EventKind;

use crate::changes::Changes;
use crate::device_ports::DevicePorts;
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_rib::Rib;

/// Percent of a session table that is high; it is normal again when it is ten
/// less.
const HIGH: u64 = 80;
/// How much lower it has to be to be normal again.
const HYSTERESIS: u64 = 10;
/// Most events of neighbours from one look: beyond it they are summed up.
const MOST_NEIGHBOURS: usize = 256;

/// What was seen last.
#[derive(Debug, Default)]
pub struct Watchman {
    links: HashMap<PortId, bool>,
    neighbours: HashMap<(InterfaceId, IpAddr), bool>,
    /// Version of the tables that the neighbours are from.
    version: u64,
    high: Vec<bool>,
}

impl Watchman {
    /// Looks at neighbours and sessions, and notes what is different.
    pub fn look(&mut self, rib: &Rib, engine: &Engine<DpdkIo>, changes: &mut Changes) {
        self.look_at_neighbours(rib, engine, changes);
        let workers: Vec<(u64, u64)> = engine
            .workers()
            .iter()
            .map(|worker| (worker.counters.sessions.value(), worker.session_capacity as u64))
            .collect();
        self.look_at_sessions(&workers, changes);
    }

    /// Looks at the links of ports, and notes those that are different.
    pub fn look_at_links(&mut self, rib: &Rib, ports: &DevicePorts, changes: &mut Changes) {
        let mut links = HashMap::new();
        for (name, id) in rib.ports() {
            let up = ports.link_up(id);
            let before = self.links.get(&id).copied();
            links.insert(id, up);
            if before == Some(up) || ports.is_opening(id) {
                continue;
            }
            let (kind, message) = match ports.why_closed(id) {
                _ if up => (EventKind::PortUp, format!("the link of port {name} is up")),
                None => (EventKind::PortDown, format!("the link of port {name} is down")),
                Some(why) => (EventKind::PortDown, format!("port {name} is down: {why}")),
            };
            changes.event(kind, name, message);
        }
        self.links = links;
    }

    fn look_at_neighbours(&mut self, rib: &Rib, engine: &Engine<DpdkIo>, changes: &mut Changes) {
        let tables = engine.snapshot();
        if tables.version == self.version {
            return;
        }
        self.version = tables.version;
        let all = tables.neighbours.iter();
        let now = all.map(|(_, found)| ((found.interface, found.address), found.is_usable())).collect();
        self.compare_neighbours(now, |id| rib.interface_name(id).unwrap_or_default().to_owned(), changes);
    }

    fn compare_neighbours(
        &mut self,
        now: HashMap<(InterfaceId, IpAddr), bool>,
        name: impl Fn(InterfaceId) -> String,
        changes: &mut Changes,
    ) {
        let was = |key: &(InterfaceId, IpAddr)| self.neighbours.get(key).copied().unwrap_or(false);
        let resolved = now.iter().filter(|(key, usable)| **usable && !was(key)).map(|(key, _)| key);
        let lost = self
            .neighbours
            .iter()
            .filter(|(key, usable)| **usable && !now.get(*key).copied().unwrap_or(false));
        let lost = lost.map(|(key, _)| key);
        for (kind, word, mut keys) in [
            (EventKind::NeighbourResolved, "resolved", resolved.copied().collect::<Vec<_>>()),
            (EventKind::NeighbourLost, "lost", lost.copied().collect::<Vec<_>>()),
        ] {
            keys.sort_unstable();
            for (interface, address) in keys.iter().take(MOST_NEIGHBOURS) {
                let message = format!("neighbour {address} on {} is {word}", name(*interface));
                changes.event(kind, &address.to_string(), message);
            }
            if let Some(more) = keys.len().checked_sub(MOST_NEIGHBOURS).filter(|more| *more > 0) {
                changes.event(kind, "", format!("{more} more neighbours are {word}"));
            }
        }
        self.neighbours = now;
    }

    fn look_at_sessions(&mut self, workers: &[(u64, u64)], changes: &mut Changes) {
        self.high.resize(workers.len(), false);
        for (worker, ((used, capacity), high)) in workers.iter().zip(&mut self.high).enumerate() {
            let percent = used * 100 / (*capacity).max(1);
            let is_high = if *high { percent + HYSTERESIS > HIGH } else { percent >= HIGH };
            if is_high == *high {
                continue;
            }
            *high = is_high;
            let kind = if is_high { EventKind::SessionsHigh } else { EventKind::SessionsNormal };
            let message = format!("worker {worker} has {used} of {capacity} sessions ({percent} %)");
            changes.event(kind, &worker.to_string(), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Change;

    fn kinds(changes: &Changes) -> Vec<EventKind> {
        let all = changes.from(0, usize::MAX).expect("all of it");
        all.iter()
            .filter_map(|change| match change {
                Change::Event(event) => Some(event.kind()),
                Change::Object(_) => None,
            })
            .collect()
    }

    #[test]
    fn sessions_are_high_once_until_they_are_clearly_lower() {
        let mut watchman = Watchman::default();
        let mut changes = Changes::default();
        for used in [10, 79, 80, 95, 75, 71, 81, 70, 70] {
            watchman.look_at_sessions(&[(used, 100)], &mut changes);
        }
        assert_eq!(kinds(&changes), [EventKind::SessionsHigh, EventKind::SessionsNormal]);
    }

    #[test]
    fn neighbours_come_and_go() {
        let mut watchman = Watchman::default();
        let mut changes = Changes::default();
        let key = |n: u8| (InterfaceId(1), IpAddr::from([198, 18, 0, n]));
        let name = |_| "web".to_owned();
        watchman.compare_neighbours(HashMap::from([(key(1), true), (key(2), false)]), name, &mut changes);
        watchman.compare_neighbours(HashMap::from([(key(1), false), (key(2), true)]), name, &mut changes);
        watchman.compare_neighbours(HashMap::new(), name, &mut changes);
        use EventKind::{NeighbourLost as Lost, NeighbourResolved as Resolved};
        assert_eq!(kinds(&changes), [Resolved, Resolved, Lost, Lost]);
        let many = (0..=255).map(|n| (key(n), true)).chain([((InterfaceId(2), key(0).1), true)]).collect();
        let mut changes = Changes::default();
        watchman.compare_neighbours(many, name, &mut changes);
        assert_eq!(kinds(&changes).len(), MOST_NEIGHBOURS + 1);
    }
}
