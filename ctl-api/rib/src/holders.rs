//! Who declares which object, routes apart, and whose declaration is in force.
//!
//! Several controllers may declare one object. If they say the same, it is
//! declared until the last of them withdraws it. If they differ, the one with the
//! best [rank](crate::ranks), and among equals the first by name, is in force; the
//! others are overridden, and wait behind it. So what is in force follows from what is declared, in whatever order it came.

use std::collections::BTreeMap;

use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::controllers::{ControllerId, Mark};
use crate::declare::Declaration;
use crate::key::Key;
use crate::rib::Rib;

/// What a controller's declaration is to what is in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stand {
    /// It is in force.
    InForce,
    /// It says the same.
    Same,
    /// It says this.
    Other(Box<Kind>),
}

/// One controller's declaration of an object.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    pub by: ControllerId,
    pub mark: Mark,
    pub stand: Stand,
}

/// Who holds each object; each has one holder or more, and exactly one whose
/// declaration is in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders {
    by_key: BTreeMap<Key, Vec<Holding>>,
}

impl Holders {
    pub fn of(&self, key: &Key) -> &[Holding] {
        self.by_key.get(key).map_or(&[], |holdings| holdings)
    }

    /// A controller's part in an object.
    pub fn find(&self, by: ControllerId, key: &Key) -> Option<&Holding> {
        self.of(key).iter().find(|holding| holding.by == by)
    }

    /// Keys of a controller's objects, with their marks.
    pub fn held_by(&self, by: ControllerId) -> impl Iterator<Item = (&Key, Mark)> {
        self.by_key.iter().filter_map(move |(key, holdings)| {
            let holding = holdings.iter().find(|holding| holding.by == by)?;
            Some((key, holding.mark))
        })
    }

    /// Marks all of a controller's declarations.
    pub fn mark_all(&mut self, by: ControllerId, mark: Mark) {
        for holding in self.by_key.values_mut().flatten().filter(|holding| holding.by == by) {
            holding.mark = mark;
        }
    }

    /// All objects that anyone holds.
    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }

    /// Enters a declaration, in place of the same controller's one before.
    fn set(&mut self, key: &Key, holding: Holding) {
        let holdings = match self.by_key.get_mut(key) {
            Some(holdings) => holdings,
            None => self.by_key.entry(key.clone()).or_default(),
        };
        match holdings.iter_mut().find(|present| present.by == holding.by) {
            Some(present) => *present = holding,
            None => holdings.push(holding),
        }
    }

    fn remove(&mut self, key: &Key, by: ControllerId) -> Option<Holding> {
        let holdings = self.by_key.get_mut(key)?;
        let at = holdings.iter().position(|holding| holding.by == by)?;
        let holding = holdings.remove(at);
        if holdings.is_empty() {
            self.by_key.remove(key);
        }
        Some(holding)
    }

    /// What is in force has become another: says of all others what they are to
    /// it now. Returns those that had their effect before and have it no more.
    fn compare(
        &mut self,
        key: &Key,
        in_force: ControllerId,
        before: Option<&Kind>,
        now: &Kind,
    ) -> Vec<ControllerId> {
        let mut overridden = Vec::new();
        let Some(holdings) = self.by_key.get_mut(key) else { return overridden };
        for holding in holdings {
            if holding.by == in_force {
                holding.stand = Stand::InForce;
                continue;
            }
            let says = match (&holding.stand, before) {
                (Stand::Other(says), _) => (**says).clone(),
                (Stand::InForce | Stand::Same, Some(before)) => before.clone(),
                (Stand::InForce | Stand::Same, None) => continue,
            };
            if says == *now {
                holding.stand = Stand::Same;
            } else {
                if !matches!(holding.stand, Stand::Other(_)) {
                    overridden.push(holding.by);
                }
                holding.stand = Stand::Other(Box::new(says));
            }
        }
        overridden
    }
}

impl Rib {
    /// A controller declares an object.
    pub(crate) fn hold(&mut self, by: ControllerId, kind: Kind, tables: &mut Tables) -> Declaration {
        let key = Key::of(&kind)?;
        let is_same = self.declaration(by, &key).as_ref() == Some(&kind);
        let in_force = self.holders.of(&key).iter().find(|holding| holding.stand == Stand::InForce);
        let in_force = in_force.map(|holding| holding.by);
        let (waits, changed) = match in_force {
            None => self.put(kind, tables)?,
            Some(other) if other != by && self.is_before(other, by) => {
                self.wait_behind(by, other, &key, kind)?;
                let waits = self.waits_for(&key);
                self.declared(by, &key, is_same);
                return Ok((waits, false));
            }
            // Most objects have one holder, and need no comparison.
            Some(_) if self.holders.of(&key).iter().all(|holding| holding.by == by) => {
                self.put(kind, tables)?
            }
            Some(_) => {
                let before = self.message(&key);
                let declaration = self.put(kind.clone(), tables)?;
                self.set_stand(by, &key, Stand::InForce);
                self.compare(&key, by, before.as_ref(), &kind);
                declaration
            }
        };
        self.set_stand(by, &key, Stand::InForce);
        self.declared(by, &key, is_same);
        Ok((waits, changed))
    }

    /// Whether a controller's declarations count before another's.
    fn is_before(&self, one: ControllerId, other: ControllerId) -> bool {
        self.controllers.precedence(one) < self.controllers.precedence(other)
    }

    /// Enters a declaration that is not in force, behind one that is.
    fn wait_behind(
        &mut self,
        by: ControllerId,
        other: ControllerId,
        key: &Key,
        kind: Kind,
    ) -> Result<(), crate::Refusal> {
        let stand = if self.message(key).as_ref() == Some(&kind) {
            Stand::Same
        } else {
            crate::spec::check(&kind)?;
            Stand::Other(Box::new(kind))
        };
        let before = self.holders.find(by, key).map(|holding| &holding.stand);
        if matches!(stand, Stand::Other(_)) && before != Some(&stand) {
            self.journal.overridden(by, other, key.clone());
        }
        self.set_stand(by, key, stand);
        Ok(())
    }

    /// What is in force has become another, by this controller.
    fn compare(&mut self, key: &Key, by: ControllerId, before: Option<&Kind>, now: &Kind) {
        for whose in self.holders.compare(key, by, before, now) {
            self.journal.overridden(whose, by, key.clone());
        }
    }

    fn set_stand(&mut self, by: ControllerId, key: &Key, stand: Stand) {
        let mark = match self.holders.find(by, key) {
            Some(holding) => holding.mark,
            None => {
                self.controllers.count_new(by);
                self.controllers.mark(by)
            }
        };
        self.holders.set(key, Holding { by, mark, stand });
    }

    /// A declaration is fresh, and says the same as before or something else.
    fn declared(&mut self, by: ControllerId, key: &Key, is_same: bool) {
        let mark = self.controllers.mark(by);
        let Some(holdings) = self.holders.by_key.get_mut(key) else { return };
        if let Some(holding) = holdings.iter_mut().find(|holding| holding.by == by) {
            self.controllers.count_again(by, std::mem::replace(&mut holding.mark, mark));
        }
        if !is_same {
            self.exports_generation += 1;
            self.journal.declaration(by, key.clone());
        }
    }

    /// A controller withdraws an object; whether that changes what is in force.
    pub(crate) fn release(&mut self, by: ControllerId, key: &Key, tables: &mut Tables) -> bool {
        let before = self.message(key);
        let Some(gone) = self.holders.remove(key, by) else { return false };
        self.controllers.count_gone(by, gone.mark);
        self.exports_generation += 1;
        self.journal.declaration(by, key.clone());
        if gone.stand != Stand::InForce {
            return false;
        }
        while let Some(next) = self.next_in_line(key) {
            let (kind, changed) = match &next.stand {
                Stand::Other(kind) => {
                    let kind = (**kind).clone();
                    match self.put(kind.clone(), tables) {
                        Ok((_, changed)) => (Some(kind), changed),
                        Err(refusal) => {
                            // It contradicts what was declared meanwhile.
                            self.journal.dropped(next.by, key.clone(), refusal.to_string());
                            self.holders.remove(key, next.by);
                            self.controllers.count_gone(next.by, next.mark);
                            self.journal.declaration(next.by, key.clone());
                            continue;
                        }
                    }
                }
                Stand::Same | Stand::InForce => (before.clone(), false),
            };
            if let Some(kind) = kind {
                self.compare(key, next.by, before.as_ref(), &kind);
            }
            return changed;
        }
        self.take_out(key, tables)
    }

    /// The holder whose declaration counts first.
    fn next_in_line(&self, key: &Key) -> Option<Holding> {
        let first = self.holders.of(key).iter().min_by_key(|holding| self.controllers.precedence(holding.by));
        first.cloned()
    }

    /// What a controller declares under a key.
    pub(crate) fn declaration(&self, by: ControllerId, key: &Key) -> Option<Kind> {
        match &self.holders.find(by, key)?.stand {
            Stand::InForce | Stand::Same => self.message(key),
            Stand::Other(kind) => Some((**kind).clone()),
        }
    }

    /// Who declares an object, the one in force first.
    pub(crate) fn holder_messages(&self, key: &Key) -> Vec<v1::Holder> {
        let mut holdings: Vec<&Holding> = self.holders.of(key).iter().collect();
        holdings.sort_by_key(|holding| {
            (holding.stand != Stand::InForce, self.controllers.precedence(holding.by))
        });
        let message = |holding: &Holding| v1::Holder {
            controller: self.controllers.name(holding.by).to_owned(),
            stale: holding.mark != self.controllers.mark(holding.by),
            differs: matches!(holding.stand, Stand::Other(_)),
        };
        holdings.into_iter().map(message).collect()
    }
}
