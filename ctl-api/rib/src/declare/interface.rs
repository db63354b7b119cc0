//! Interfaces.

use std::sync::Arc;

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_engine::types::InterfaceId;
use tieline_proto::v1;

use crate::compile::interfaces::readdress_neighbours;
use crate::declare::Declaration;
use crate::declare::port::check_role;
use crate::key::Key;
use crate::limits;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::interface::{ClaimKind, InterfaceSpec};
use crate::store::{Claim, Interface};
use crate::waits::{Dependent, Target};
use tieline_names::Name;

impl Rib {
    pub(crate) fn apply_interface(&mut self, message: v1::Interface, tables: &mut Tables) -> Declaration {
        let spec = Arc::new(InterfaceSpec::parse(&message)?);
        let key = Key::Interface(spec.name.clone());
        if let Some(same) = self.store.interfaces.get_mut(&spec.name).filter(|present| present.spec == spec) {
            same.message = message;
            return Ok((self.waits_for(&key), false));
        }
        let present = self.store.interfaces.get(&spec.name);
        if present.is_none() {
            let count = self.store.interfaces.len() + 1;
            limits::check(count, self.limits.interfaces, "interfaces", "interfaces")?;
        }
        self.check_interface(&spec)?;
        match present.map(|present| present.id) {
            Some(id) => self.replace_interface(id, spec, message, tables),
            None => {
                let id = InterfaceId(self.store.interface_names.insert(spec.name.clone()));
                self.store_interface(id, spec, message, tables);
            }
        }
        Ok((self.waits_for(&key), true))
    }

    fn replace_interface(
        &mut self,
        id: InterfaceId,
        spec: Arc<InterfaceSpec>,
        message: v1::Interface,
        tables: &mut Tables,
    ) {
        let link = |tables: &Tables| {
            tables.interfaces.get(id.index()).map(|entry| (entry.port, entry.tags, entry.mac))
        };
        let before = link(tables);
        // The new set is counted before the old one is given back, so that
        // its number cannot be the old one's.
        let old_set = self.take_interface(&spec.name, tables);
        self.store_interface(id, spec, message, tables);
        self.release_sg_set(old_set, tables);
        if before != link(tables) {
            readdress_neighbours(id, tables);
        }
    }

    /// Enters an interface into store and indexes, and into the tables if it
    /// can be.
    fn store_interface(
        &mut self,
        id: InterfaceId,
        spec: Arc<InterfaceSpec>,
        message: v1::Interface,
        tables: &mut Tables,
    ) {
        let name = spec.name.clone();
        for target in targets(&spec) {
            self.dependents.add(target, Dependent::Interface(name.clone()));
        }
        self.store.vlans.insert((spec.port.clone(), spec.tags), name.clone());
        self.store.add_claims(&spec);
        let sg_set = self.acquire_sg_set(&spec.security_groups, tables);
        self.store.interfaces.insert(name.clone(), Interface { id, spec, sg_set, message, compiled: None });
        self.compile_interface(name.as_str(), tables);
    }

    /// Takes an interface out of tables, indexes and store. Its set of groups
    /// is still counted.
    fn take_interface(&mut self, name: &Name, tables: &mut Tables) -> tieline_engine::types::SgSetId {
        self.uncompile_interface(name.as_str(), tables);
        let Some(interface) = self.store.interfaces.remove(name) else {
            return tieline_engine::types::SgSetId::EMPTY;
        };
        let spec = interface.spec;
        for target in targets(&spec) {
            self.dependents.remove(&target, &Dependent::Interface(name.clone()));
        }
        self.store.vlans.remove(&(spec.port.clone(), spec.tags));
        self.store.remove_claims(&spec);
        interface.sg_set
    }

    pub(crate) fn delete_interface(&mut self, name: &Name, tables: &mut Tables) -> bool {
        let Some(id) = self.store.interfaces.get(name).map(|interface| interface.id) else { return false };
        let sg_set = self.take_interface(name, tables);
        self.release_sg_set(sg_set, tables);
        self.store.interface_names.remove(id.0);
        true
    }

    fn check_interface(&self, spec: &InterfaceSpec) -> Result<(), Refusal> {
        if let Some(port) = self.store.ports.get(&spec.port) {
            check_role("interface.vrf", &port.spec, spec)?;
        }
        let holder = self.store.vlans.get(&(spec.port.clone(), spec.tags));
        if let Some(other) = holder.filter(|other| **other != spec.name) {
            let vlan = match (spec.tags.outer, spec.tags.inner) {
                (0, _) => "untagged frames".to_owned(),
                (outer, 0) => format!("VLAN {outer}"),
                (outer, inner) => format!("VLAN {outer}.{inner}"),
            };
            let sentence = format!("interface {other} has {vlan} of port {} already", spec.port);
            return Err(Refusal::conflict("interface.vlan", sentence));
        }
        for (prefix, kind) in spec.claims() {
            let claims = self.store.claims(spec.vrf.as_str(), prefix);
            let other = claims.iter().find(|claim| excludes(claim, spec, kind));
            if let Some(other) = other {
                let sentence = format!(
                    "interface {} has {} in VRF {} already",
                    other.interface,
                    described(prefix, other.kind),
                    spec.vrf
                );
                return Err(Refusal::conflict(claim_field(spec, prefix, kind), sentence));
            }
        }
        Ok(())
    }
}

/// Whether a claim leaves no room for one of `spec`. Workloads of one subnet
/// share their gateway's address: nothing else is shared.
fn excludes(claim: &Claim, spec: &InterfaceSpec, kind: ClaimKind) -> bool {
    let both_gateways = claim.kind == ClaimKind::Local && kind == ClaimKind::Local;
    let is_shared = both_gateways && claim.of_workload && spec.has_workload();
    claim.interface != spec.name && !is_shared
}

fn described(prefix: IpNet, kind: ClaimKind) -> String {
    match kind {
        ClaimKind::Local => format!("the local address {}", prefix.addr()),
        ClaimKind::Workload => format!("the workload address {}", prefix.addr()),
        ClaimKind::Connected => format!("the subnet {prefix}"),
    }
}

/// The field that a claim comes from.
fn claim_field(spec: &InterfaceSpec, prefix: IpNet, kind: ClaimKind) -> String {
    let (field, at) = match kind {
        ClaimKind::Workload => (
            "workload_addresses",
            spec.workload_addresses.iter().position(|address| *address == prefix.addr()),
        ),
        ClaimKind::Local => {
            ("local_addresses", spec.local_addresses.iter().position(|local| local.addr() == prefix.addr()))
        }
        ClaimKind::Connected => {
            ("local_addresses", spec.local_addresses.iter().position(|local| local.trunc() == prefix))
        }
    };
    format!("interface.{field}[{}]", at.unwrap_or_default())
}

/// What an interface refers to.
fn targets(spec: &InterfaceSpec) -> impl Iterator<Item = Target> {
    let groups = spec.security_groups.iter().map(|id| Target::SecurityGroup(*id));
    // Others wait for an interface by its name; it waits for these.
    [Target::Port(spec.port.clone()), Target::Vrf(spec.vrf.clone())].into_iter().chain(groups)
}
