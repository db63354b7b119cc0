//! The table of routes.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::best::{Source, choose};
use super::{Objection, Path, PeerId, PeerSet};
use crate::wire::{Family, Nlri};

/// What is known of one route key.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) paths: Vec<Path>,
    /// Position of the best path.
    best: Option<u32>,
    /// Peers that were told of the route and not that it is gone.
    pub(crate) told: PeerSet,
    /// Peers whose queue has the key.
    pub(crate) queued: PeerSet,
}

impl Entry {
    pub(crate) fn best(&self) -> Option<&Path> {
        self.paths.get(self.best? as usize)
    }

    fn is_unused(&self) -> bool {
        self.paths.is_empty() && self.told.is_empty() && self.queued.is_empty()
    }
}

/// What a change of a path did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Changed {
    /// The path is other than before.
    pub(crate) path: bool,
    /// It is new, or gone.
    pub(crate) count: bool,
    /// The best path is another one, or other than before.
    pub(crate) best: bool,
    /// What the policy had against the path before.
    pub(crate) objection: Option<&'static Objection>,
}

type Table = HashMap<Nlri, Entry, RandomState>;

/// All routes of a speaker.
#[derive(Debug, Default)]
pub struct Rib {
    tables: [Table; Family::ALL.len()],
}

impl Rib {
    /// How many route keys of a family there are, with those that are gone and
    /// that some peer is still to be told of.
    pub fn len(&self, family: Family) -> usize {
        self.tables[family.index()].len()
    }

    /// Whether there are none.
    pub fn is_empty(&self, family: Family) -> bool {
        self.tables[family.index()].is_empty()
    }

    /// The paths of a route, hidden ones too; the best one first.
    pub fn paths(&self, nlri: &Nlri) -> Vec<&Path> {
        let Some(entry) = self.entry(nlri) else { return Vec::new() };
        let mut paths: Vec<&Path> = entry.paths.iter().collect();
        if let Some(best) = entry.best {
            paths.swap(0, best as usize);
        }
        paths
    }

    /// What one peer says of a route, hidden or not.
    pub fn path_of(&self, nlri: &Nlri, peer: PeerId) -> Option<&Path> {
        self.entry(nlri)?.paths.iter().find(|path| path.peer == peer)
    }

    /// The routes of a family that a peer was told of and not that they are gone,
    /// in no order.
    pub fn told(&self, family: Family, peer: PeerId) -> impl Iterator<Item = &Nlri> {
        let told = move |(_, entry): &(&Nlri, &Entry)| entry.told.contains(peer);
        self.tables[family.index()].iter().filter(told).map(|(nlri, _)| nlri)
    }

    /// The best path of a route.
    pub fn best(&self, nlri: &Nlri) -> Option<&Path> {
        self.entry(nlri)?.best()
    }

    /// All routes of a family with their best paths, in no order.
    pub fn routes(&self, family: Family) -> impl Iterator<Item = (&Nlri, &Path)> {
        self.tables[family.index()].iter().filter_map(|(nlri, entry)| Some((nlri, entry.best()?)))
    }

    /// All route keys of a family, in no order.
    pub(crate) fn keys(&self, family: Family) -> impl Iterator<Item = &Nlri> {
        self.tables[family.index()].keys()
    }

    pub(crate) fn entry(&self, nlri: &Nlri) -> Option<&Entry> {
        self.tables[nlri.family().index()].get(nlri)
    }

    pub(crate) fn entry_mut(&mut self, nlri: &Nlri) -> Option<&mut Entry> {
        self.tables[nlri.family().index()].get_mut(nlri)
    }

    pub(crate) fn entries_mut(&mut self, family: Family) -> impl Iterator<Item = (&Nlri, &mut Entry)> {
        self.tables[family.index()].iter_mut()
    }

    /// The keys for which a peer's path meets a condition.
    pub(crate) fn keys_of(
        &self,
        family: Family,
        peer: PeerId,
        condition: impl Fn(&Path) -> bool,
    ) -> Vec<Nlri> {
        let table = &self.tables[family.index()];
        let has = |entry: &Entry| entry.paths.iter().any(|path| path.peer == peer && condition(path));
        table.iter().filter(|(_, entry)| has(entry)).map(|(nlri, _)| nlri.clone()).collect()
    }

    /// Puts a path in the place of the peer's former one.
    pub(crate) fn insert(
        &mut self,
        nlri: &Nlri,
        path: Path,
        source: impl Fn(PeerId) -> Option<Source>,
    ) -> Changed {
        let table = &mut self.tables[nlri.family().index()];
        if !table.contains_key(nlri) {
            table.insert(nlri.clone(), Entry::default());
        }
        let Some(entry) = table.get_mut(nlri) else { return Changed::default() };
        match entry.paths.iter().position(|known| known.peer == path.peer) {
            Some(index) => {
                let known = &entry.paths[index];
                let other_content = !same_content(known, &path);
                let other_staleness = (known.stale.restart, known.stale.long_lived)
                    != (path.stale.restart, path.stale.long_lived);
                let objection = known.objection;
                let other_objection = objection != path.objection;
                if !other_content && !other_staleness && !other_objection {
                    entry.paths[index].stale = path.stale;
                    return Changed { objection, ..Changed::default() };
                }
                let best_before = entry.best().map(|best| best.peer);
                let was_best = best_before == Some(path.peer);
                entry.paths[index] = path;
                entry.choose(nlri, source);
                let other = entry.best().map(|best| best.peer) != best_before;
                let best = other || (was_best && (other_content || other_objection));
                Changed { path: true, count: false, best, objection }
            }
            None => {
                // Most routes have one path: no room for more ahead of time.
                entry.paths.reserve_exact(1);
                let best_before = entry.best().map(|best| best.peer);
                entry.paths.push(path);
                entry.choose(nlri, source);
                let best = entry.best().map(|best| best.peer) != best_before;
                Changed { path: true, count: true, best, objection: None }
            }
        }
    }

    /// Takes a peer's path out.
    pub(crate) fn remove(
        &mut self,
        nlri: &Nlri,
        peer: PeerId,
        source: impl Fn(PeerId) -> Option<Source>,
    ) -> Changed {
        let Some(entry) = self.entry_mut(nlri) else { return Changed::default() };
        let Some(index) = entry.paths.iter().position(|path| path.peer == peer) else {
            return Changed::default();
        };
        let best_peer = entry.best().map(|path| path.peer);
        let objection = entry.paths.remove(index).objection;
        entry.choose(nlri, source);
        let best = entry.best().map(|path| path.peer) != best_peer;
        let changed = Changed { path: true, count: true, best, objection };
        self.tidy(nlri);
        changed
    }

    /// Forgets a key that nothing needs any more.
    pub(crate) fn tidy(&mut self, nlri: &Nlri) {
        let table = &mut self.tables[nlri.family().index()];
        if table.get(nlri).is_some_and(Entry::is_unused) {
            table.remove(nlri);
            if table.capacity() > 4096 && table.len() < table.capacity() / 8 {
                table.shrink_to(table.len() * 2);
            }
        }
    }

    /// Nothing was told to a peer, and nothing waits for it.
    pub(crate) fn forget_told(&mut self, peer: PeerId) {
        for table in &mut self.tables {
            table.retain(|_, entry| {
                entry.told.remove(peer);
                entry.queued.remove(peer);
                !entry.is_unused()
            });
        }
    }
}

impl Entry {
    /// Chooses anew.
    fn choose(&mut self, nlri: &Nlri, source: impl Fn(PeerId) -> Option<Source>) {
        self.best = choose(nlri, &self.paths, source).and_then(|index| u32::try_from(index).ok());
    }
}

fn same_content(one: &Path, other: &Path) -> bool {
    (Arc::ptr_eq(&one.attributes, &other.attributes) || one.attributes == other.attributes)
        && one.payload == other.payload
}
