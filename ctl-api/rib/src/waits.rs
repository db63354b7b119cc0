//! Who refers to what: the reverse index that says whom a change concerns,
//! whether what is referred to exists or is still waited for.

use std::collections::{BTreeMap, BTreeSet};

use tieline_engine::types::SgId;

use crate::attributes::NodeId;
use tieline_names::Name;

/// What can be referred to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Port(Name),
    Vrf(Name),
    Interface(Name),
    NextHop(NodeId),
    SecurityGroup(SgId),
}

/// Who refers. (Routes are not here: they hang on their next hop.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dependent {
    Interface(Name),
    NextHop(NodeId),
}

/// References by target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dependents {
    by_target: BTreeMap<Target, BTreeSet<Dependent>>,
}

impl Dependents {
    pub fn add(&mut self, target: Target, dependent: Dependent) {
        self.by_target.entry(target).or_default().insert(dependent);
    }

    pub fn remove(&mut self, target: &Target, dependent: &Dependent) {
        if let Some(dependents) = self.by_target.get_mut(target) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.by_target.remove(target);
            }
        }
    }

    /// The interfaces that refer to `target`, in the order of their names.
    pub fn interfaces(&self, target: &Target) -> Vec<Name> {
        self.of(target)
            .filter_map(|dependent| match dependent {
                Dependent::Interface(name) => Some(name.clone()),
                Dependent::NextHop(_) => None,
            })
            .collect()
    }

    /// The next hops and groups that refer to `target`.
    pub fn next_hops(&self, target: &Target) -> Vec<NodeId> {
        self.of(target)
            .filter_map(|dependent| match dependent {
                Dependent::NextHop(node) => Some(*node),
                Dependent::Interface(_) => None,
            })
            .collect()
    }

    /// Whether anyone refers to `target`.
    pub fn has(&self, target: &Target) -> bool {
        self.by_target.contains_key(target)
    }

    fn of(&self, target: &Target) -> impl Iterator<Item = &Dependent> {
        self.by_target.get(target).into_iter().flatten()
    }

    /// Whether nobody refers to anything.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_end_where_they_began() {
        let port = Target::Port(Name::new("p").expect("a name"));
        let interface = Dependent::Interface(Name::new("i").expect("a name"));
        let mut dependents = Dependents::default();
        dependents.add(port.clone(), interface.clone());
        dependents.add(port.clone(), Dependent::NextHop(NodeId(3)));
        assert_eq!(dependents.interfaces(&port).len(), 1);
        assert_eq!(dependents.next_hops(&port), [NodeId(3)]);
        dependents.remove(&port, &interface);
        assert!(dependents.has(&port));
        dependents.remove(&port, &Dependent::NextHop(NodeId(3)));
        assert!(dependents.is_empty());
    }
}
