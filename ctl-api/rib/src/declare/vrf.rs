//! VRFs.

use std::sync::Arc;

use tieline_engine::session::Allowance;
use tieline_engine::tables::Tables;
use tieline_engine::tables::vrf::Vrf as TableVrf;
use tieline_engine::types::{Label, VrfId};
use tieline_proto::v1;

use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::vrf::VrfSpec;
use crate::store::Vrf;
use crate::waits::Target;
use tieline_names::Name;

impl Rib {
    pub(crate) fn apply_vrf(&mut self, message: v1::Vrf, tables: &mut Tables) -> Declaration {
        let spec = VrfSpec::parse(&message)?;
        let key = Key::Vrf(spec.name.clone());
        if let Some(same) = self.store.vrfs.get_mut(&spec.name).filter(|present| present.spec == spec) {
            same.message = message;
            return Ok((self.waits_for(&key), false));
        }
        let present = self.store.vrfs.get(&spec.name);
        self.check_vrf(&spec, present)?;
        match present.map(|present| present.id) {
            Some(id) => self.replace_vrf(id, spec, message, tables),
            None => self.create_vrf(spec, message, tables),
        }
        Ok((self.waits_for(&key), true))
    }

    fn check_vrf(&self, spec: &VrfSpec, present: Option<&Vrf>) -> Result<(), Refusal> {
        let other = |holder: Option<&Name>| holder.filter(|holder| **holder != spec.name).cloned();
        if let Some(label) = spec.label
            && let Some(other) = other(self.store.labels.get(&label))
        {
            let sentence = format!("VRF {other} has label {} already", label.value());
            return Err(Refusal::conflict("vrf.label", sentence));
        }
        if let Some(vni) = spec.vni
            && let Some(other) = other(self.store.vnis.get(&vni))
        {
            let sentence = format!("VRF {other} has VNI {} already", vni.value());
            return Err(Refusal::conflict("vrf.vni", sentence));
        }
        if present.is_none() {
            limits::check(self.store.vrfs.len() + 1, self.limits.vrfs, "VRFs", "vrfs")?;
        }
        let imported_now = present.map_or(0, |vrf| self.imports.imported_by(vrf.id));
        let imported = self.imports.imported() - imported_now + self.imports.count_paths(&spec.import);
        limits::check(imported, self.limits.imported_routes, "imported routes", "imported_routes")
    }

    fn create_vrf(&mut self, spec: VrfSpec, message: v1::Vrf, tables: &mut Tables) {
        let id = VrfId(self.store.vrf_names.insert(spec.name.clone()) as u16);
        let entry = TableVrf { generation: self.links.first_generation(id), ..TableVrf::default() };
        tables.vrfs.insert(id.index(), entry);
        let name = spec.name.clone();
        self.write_vrf(id, spec, message, tables);
        let statics = self.static_keys.get(&name);
        self.dirty.prefixes.extend(statics.into_iter().flat_map(|of| of.keys()).map(|prefix| (id, *prefix)));
        let target = Target::Vrf(name);
        for interface in self.dependents.interfaces(&target) {
            self.compile_interface(interface.as_str(), tables);
        }
        self.dirty.next_hops.extend(self.dependents.next_hops(&target));
    }

    fn replace_vrf(&mut self, id: VrfId, spec: VrfSpec, message: v1::Vrf, tables: &mut Tables) {
        self.remove_from_indexes(&spec.name, tables);
        self.write_vrf(id, spec, message, tables);
    }

    /// Writes what a VRF states by itself.
    fn write_vrf(&mut self, id: VrfId, spec: VrfSpec, message: v1::Vrf, tables: &mut Tables) {
        if let Some(entry) = tables.vrfs.get_mut(id.index()) {
            let default = self.options.default_allowance;
            entry.sessions = Allowance {
                quota: spec.session_quota.unwrap_or(default.quota),
                rate: spec.session_rate.unwrap_or(default.rate),
            };
            entry.strict_sources = spec.strict_sources;
            entry.router_mac = spec.router_mac.unwrap_or(self.options.router_mac);
        }
        if let Some(label) = self.label_for(&spec) {
            tables.labels.insert(label.value() as usize, id);
            self.store.labels.insert(label, spec.name.clone());
        }
        if let Some(vni) = spec.vni {
            Arc::make_mut(&mut tables.vnis).insert(vni, id);
            self.store.vnis.insert(vni, spec.name.clone());
        }
        let dirty = &mut self.dirty.prefixes;
        let note = |prefix| dirty.push((id, prefix));
        self.imports.set_vrf(&self.paths, &self.attributes, id, &spec.import, note);
        self.store.vrfs.insert(spec.name.clone(), Vrf { id, spec, message });
    }

    /// The label of a VRF: its own, or else one for it if it originates
    /// something.
    fn label_for(&mut self, spec: &VrfSpec) -> Option<Label> {
        if spec.label.is_none() && !spec.export.is_empty() {
            let declared = &self.store.labels;
            let (label, is_new) = self.labels.allocate(&spec.name, |label| !declared.contains_key(&label))?;
            if is_new {
                self.journal.label(spec.name.clone());
            }
            return Some(label);
        }
        self.release_label(&spec.name);
        spec.label
    }

    fn release_label(&mut self, name: &Name) {
        if self.labels.release(name.as_str()) {
            self.journal.label(name.clone());
        }
    }

    /// Takes back the label and the VNI of a VRF.
    fn remove_from_indexes(&mut self, name: &Name, tables: &mut Tables) {
        let Some(vrf) = self.store.vrfs.get(name) else { return };
        if let Some(label) = vrf.spec.label.or_else(|| self.labels.of(name.as_str())) {
            tables.labels.remove(label.value() as usize);
            self.store.labels.remove(&label);
        }
        if let Some(vni) = vrf.spec.vni {
            Arc::make_mut(&mut tables.vnis).remove(&vni);
            self.store.vnis.remove(&vni);
        }
    }

    pub(crate) fn delete_vrf(&mut self, name: &Name, tables: &mut Tables) -> bool {
        let Some(id) = self.store.vrfs.get(name).map(|vrf| vrf.id) else { return false };
        let target = Target::Vrf(name.clone());
        for interface in self.dependents.interfaces(&target) {
            self.uncompile_interface(interface.as_str(), tables);
        }
        self.imports.set_vrf(&self.paths, &self.attributes, id, &[], |_| {});
        self.remove_from_indexes(name, tables);
        self.release_label(name);
        self.store.vrfs.remove(name);
        self.store.vrf_names.remove(u32::from(id.0));
        if let Some(entry) = tables.vrfs.remove(id.index()) {
            self.links.retire(id, entry.generation);
            let next_hops4 = entry.fib4.iter().map(|(_, _, entry)| entry.next_hop);
            let next_hops6 = entry.fib6.iter().map(|(_, _, entry)| entry.next_hop);
            for next_hop in next_hops4.chain(next_hops6) {
                self.change_uses_in_fib(next_hop, id, 0, 1);
            }
        }
        self.dirty.next_hops.extend(self.dependents.next_hops(&target));
        true
    }
}
