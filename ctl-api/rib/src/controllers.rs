//! Who declares: controllers by name, and which of their declarations are
//! fresh.
//!
//! Each declaration carries the mark that its controller had when it was last
//! declared. A synchronisation begins with a new mark: what carries an older one
//! is stale, and is withdrawn at the end unless it was declared again.

use std::collections::BTreeMap;

use crate::ids::Numbered;
use crate::ranks::{Rank, Ranks};
use tieline_names::Name;

/// A controller by its number, which stays as long as it holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ControllerId(pub u16);

/// When something was last declared. Marks only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark(pub u32);

/// A controller's place among all: by rank, then by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence<'a>(Rank, &'a str);

/// One controller.
#[derive(Debug, Clone)]
pub(crate) struct Controller {
    pub name: Name,
    pub rank: Rank,
    /// Of what is fresh.
    pub mark: Mark,
    /// Objects and routes that it declares.
    pub held: usize,
    /// Those of them that are fresh.
    pub fresh: usize,
}

/// All controllers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Controllers {
    ranks: Ranks,
    by_name: BTreeMap<Name, ControllerId>,
    controllers: Numbered<Controller>,
}

impl Controllers {
    /// None yet.
    pub fn ranked(ranks: Ranks) -> Self {
        Self { ranks, ..Self::default() }
    }

    pub fn get(&self, id: ControllerId) -> Option<&Controller> {
        self.controllers.get(u32::from(id.0))
    }

    fn get_mut(&mut self, id: ControllerId) -> Option<&mut Controller> {
        self.controllers.get_mut(u32::from(id.0))
    }

    /// Its name; empty if there is no such controller.
    pub fn name(&self, id: ControllerId) -> &str {
        self.get(id).map_or("", |controller| controller.name.as_str())
    }

    /// Its place among all controllers: where two of them differ, the lesser
    /// one counts.
    pub fn precedence(&self, id: ControllerId) -> Option<Precedence<'_>> {
        self.get(id).map(|controller| Precedence(controller.rank, controller.name.as_str()))
    }

    /// Its rank, for people.
    pub fn shown_rank(&self, id: ControllerId) -> u32 {
        self.get(id).map_or(0, |controller| self.ranks.shown(controller.rank))
    }

    pub fn find(&self, name: &str) -> Option<ControllerId> {
        self.by_name.get(name).copied()
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// All of them in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (ControllerId, &Controller)> {
        self.by_name.values().filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// The number of a controller, a new one if it has none.
    pub fn add(&mut self, name: &Name) -> ControllerId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let controller = self.new_controller(name);
        let id = ControllerId(self.controllers.insert(controller) as u16);
        self.by_name.insert(name.clone(), id);
        id
    }

    /// Gives a controller the number that it had before a restart. False, and
    /// nothing done, if the number or the name is taken.
    pub fn restore(&mut self, id: ControllerId, name: &Name) -> bool {
        if self.get(id).is_some() || self.by_name.contains_key(name) {
            return false;
        }
        let controller = self.new_controller(name);
        self.controllers.insert_at(u32::from(id.0), controller);
        self.by_name.insert(name.clone(), id);
        true
    }

    fn new_controller(&self, name: &Name) -> Controller {
        let rank = self.ranks.of(name.as_str());
        Controller { name: name.clone(), rank, mark: Mark::default(), held: 0, fresh: 0 }
    }

    /// Forgets a controller that holds nothing.
    pub fn remove(&mut self, id: ControllerId) -> bool {
        if self.get(id).is_none_or(|controller| controller.held > 0) {
            return false;
        }
        if let Some(controller) = self.controllers.remove(u32::from(id.0)) {
            self.by_name.remove(&controller.name);
        }
        true
    }

    /// Everything that the controller holds becomes stale.
    pub fn begin_sync(&mut self, id: ControllerId) {
        if let Some(controller) = self.get_mut(id) {
            controller.mark.0 += 1;
            controller.fresh = 0;
        }
    }

    /// Everything that the controller holds has its mark now.
    pub fn all_fresh(&mut self, id: ControllerId) {
        if let Some(controller) = self.get_mut(id) {
            controller.fresh = controller.held;
        }
    }

    /// The mark of what a controller declares now.
    pub fn mark(&self, id: ControllerId) -> Mark {
        self.get(id).map(|controller| controller.mark).unwrap_or_default()
    }

    /// Counts a declaration that begins.
    pub fn count_new(&mut self, id: ControllerId) {
        if let Some(controller) = self.get_mut(id) {
            controller.held += 1;
            controller.fresh += 1;
        }
    }

    /// Counts a declaration that was marked `old` and is declared again.
    pub fn count_again(&mut self, id: ControllerId, old: Mark) {
        if let Some(controller) = self.get_mut(id)
            && old != controller.mark
        {
            controller.fresh += 1;
        }
    }

    /// Counts a declaration, last marked `old`, that ends.
    pub fn count_gone(&mut self, id: ControllerId, old: Mark) {
        if let Some(controller) = self.get_mut(id) {
            controller.held -= 1;
            if old == controller.mark {
                controller.fresh -= 1;
            }
        }
    }
}
