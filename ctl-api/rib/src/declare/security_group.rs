//! Security groups.

use tieline_engine::tables::Tables;
use tieline_engine::types::SgId;
use tieline_proto::v1;

use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::rib::Rib;
use crate::spec::security_group::SecurityGroupSpec;
use crate::store::SecurityGroup;

impl Rib {
    pub(crate) fn apply_security_group(
        &mut self,
        message: v1::SecurityGroup,
        tables: &mut Tables,
    ) -> Declaration {
        let spec = SecurityGroupSpec::parse(&message)?;
        let id = spec.id;
        let key = Key::SecurityGroup(id);
        if let Some(same) = self.store.security_groups.get_mut(&id).filter(|present| present.spec == spec) {
            same.message = message;
            return Ok((self.waits_for(&key), false));
        }
        let present = self.store.security_groups.get(&id).map(|group| &group.spec);
        if present.is_none() {
            let count = self.store.security_groups.len() + 1;
            limits::check(count, self.limits.security_groups, "security groups", "security_groups")?;
        }
        let rules = self.store.rules - present.map_or(0, SecurityGroupSpec::rule_count) + spec.rule_count();
        limits::check(rules, self.limits.rules, "security group rules", "rules")?;
        let same_rules =
            present.is_some_and(|present| present.ingress == spec.ingress && present.egress == spec.egress);
        self.store.rules = rules;
        self.store.security_groups.insert(id, SecurityGroup { spec, message });
        if !same_rules {
            self.rebuild_policies(id, tables);
        }
        Ok((self.waits_for(&key), true))
    }

    pub(crate) fn delete_security_group(&mut self, id: SgId, tables: &mut Tables) -> bool {
        let Some(group) = self.store.security_groups.remove(&id) else { return false };
        self.store.rules -= group.spec.rule_count();
        self.rebuild_policies(id, tables);
        true
    }
}
