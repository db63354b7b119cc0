//! Security groups to policies: one for each set of groups that an interface
//! in force is in.

use std::sync::Arc;

use tieline_engine::policy::{Direction, Policy};
use tieline_engine::tables::Tables;
use tieline_engine::types::{InterfaceId, SgId, SgSetId, VrfId};

use crate::rib::Rib;
use crate::waits::Target;

impl Rib {
    /// The policy of interfaces in these groups; `None` if there is none to
    /// be in.
    pub(crate) fn policy(&mut self, sg_set: SgSetId) -> Option<Arc<Policy>> {
        if sg_set == SgSetId::EMPTY {
            return None;
        }
        if let Some(policy) = self.policies.get(&sg_set) {
            return Some(Arc::clone(policy));
        }
        let policy = Arc::new(self.build_policy(sg_set));
        self.policies.insert(sg_set, Arc::clone(&policy));
        Some(policy)
    }

    /// The rules of those of the groups that are declared. Without any rule it
    /// denies everything.
    fn build_policy(&self, sg_set: SgSetId) -> Policy {
        let declared = self.sg_set(sg_set).iter().filter_map(|id| self.store.security_groups.get(id));
        let rules = declared.flat_map(|group| {
            let ingress = group.spec.ingress.iter().map(|rule| (Direction::Ingress, *rule));
            ingress.chain(group.spec.egress.iter().map(|rule| (Direction::Egress, *rule)))
        });
        Policy::new(sg_set, rules)
    }

    /// A group's rules are others: rebuilds the policies that hold them.
    pub(crate) fn rebuild_policies(&mut self, group: SgId, tables: &mut Tables) {
        let names = self.dependents.interfaces(&Target::SecurityGroup(group));
        let interfaces: Vec<(InterfaceId, SgSetId, Option<VrfId>)> = names
            .iter()
            .filter_map(|name| self.store.interfaces.get(name))
            .map(|found| (found.id, found.sg_set, found.compiled.as_ref().map(|compiled| compiled.vrf)))
            .collect();
        // Any set that holds the group: those that only waiting interfaces or
        // routes use are kept too, and are taken up again later.
        let mut policies = std::mem::take(&mut self.policies);
        policies.retain(|&sg_set, _| !self.sg_set(sg_set).contains(&group));
        self.policies = policies;
        for (id, sg_set, vrf) in interfaces {
            let Some(vrf) = vrf else { continue };
            let policy = self.policy(sg_set);
            if let Some(interface) = tables.interfaces.get_mut(id.index()) {
                interface.policy = policy;
                self.dirty.bumps.insert(vrf);
            }
        }
    }
}
