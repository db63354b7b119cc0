//! VPN paths and static routes.

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_proto::v1;

use crate::attributes::{Attributes, AttributesId, NodeId, Origin, StaticVrfId, UseId, Vpn};
use crate::compile::next_hops::NextHopKey;
use crate::controllers::{ControllerId, Mark};
use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::paths::{Path, PathId};
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::route::{PathSpec, RouteSetSpec, RouteSpec, StaticRouteSpec, VpnSpec};
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

impl Rib {
    pub(crate) fn apply_route(
        &mut self,
        by: ControllerId,
        message: v1::Route,
        tables: &mut Tables,
    ) -> Declaration {
        let RouteSpec { prefix, vpn } = RouteSpec::parse(message)?;
        self.declare_paths(by, &vpn, &[prefix], tables)
    }

    pub(crate) fn apply_route_set(
        &mut self,
        by: ControllerId,
        message: v1::RouteSet,
        tables: &mut Tables,
    ) -> Declaration {
        let RouteSetSpec { prefixes, vpn } = RouteSetSpec::parse(message)?;
        self.declare_paths(by, &vpn, &prefixes, tables)
    }

    /// Declares paths that share all but their prefixes.
    fn declare_paths(
        &mut self,
        by: ControllerId,
        spec: &VpnSpec,
        prefixes: &[IpNet],
        tables: &mut Tables,
    ) -> Declaration {
        self.check_paths(by, spec, prefixes)?;
        let id = self.acquire_vpn_attributes(by, spec, tables);
        let mark = self.controllers.mark(by);
        let mut new: Vec<(IpNet, PathId)> = Vec::with_capacity(prefixes.len());
        let mut moved: Vec<PathId> = Vec::new();
        let mut revived: Vec<(IpNet, PathId)> = Vec::new();
        self.paths.reserve(prefixes.len());
        let of_rd = self.vpn_keys.of_mut(spec.rd);
        for prefix in prefixes {
            let slot = of_rd.entry(*prefix, by);
            match slot.present() {
                None => {
                    let path = self.paths.insert(Path::new(*prefix, id, mark));
                    slot.insert(path);
                    new.push((*prefix, path));
                    self.controllers.count_new(by);
                }
                Some(path) => {
                    let Some(record) = self.paths.get_mut(path) else { continue };
                    let old = std::mem::replace(&mut record.mark, mark);
                    self.controllers.count_again(by, old);
                    if record.attributes != id {
                        moved.push(path);
                    } else if old != mark {
                        revived.push((*prefix, path));
                    }
                }
            }
        }
        let changed = !new.is_empty() || !moved.is_empty();
        self.enter_paths(id, &new);
        for path in moved {
            self.move_path(path, id, tables);
        }
        self.note_rivals(id, &revived);
        let waits = self.attributes_wait(id).into_iter().collect();
        self.release_attributes(id, 1, tables);
        Ok((waits, changed))
    }

    pub(crate) fn apply_static_route(
        &mut self,
        message: &v1::StaticRoute,
        tables: &mut Tables,
    ) -> Declaration {
        let StaticRouteSpec { vrf, prefix, path: spec } = StaticRouteSpec::parse(message)?;
        let key = Key::StaticRoute(vrf.clone(), prefix);
        let present = self.static_keys.get(&vrf).and_then(|of| of.get(&prefix)).copied();
        self.check_route_count(usize::from(present.is_none()))?;
        let (number, _) = self.static_vrfs.acquire(&vrf);
        let id = self.acquire_attributes(Origin::Static(StaticVrfId(number)), &spec, tables);
        let changed = match present {
            Some(path) if self.paths.get(path).is_some_and(|path| path.attributes == id) => false,
            Some(path) => {
                self.move_path(path, id, tables);
                true
            }
            None => {
                let path = self.paths.insert(Path::new(prefix, id, Mark::default()));
                self.static_keys.entry(vrf).or_default().insert(prefix, path);
                self.enter_paths(id, &[(prefix, path)]);
                true
            }
        };
        self.release_attributes(id, 1, tables);
        Ok((self.waits_for(&key), changed))
    }

    /// Withdraws the paths of a controller to these prefixes; returns how many
    /// there were.
    pub(crate) fn delete_routes(
        &mut self,
        by: ControllerId,
        rd: RouteDistinguisher,
        prefixes: &[IpNet],
        tables: &mut Tables,
    ) -> usize {
        if self.vpn_keys.of(rd).is_none() {
            return 0;
        }
        let mut gone: Vec<(IpNet, PathId)> = Vec::with_capacity(prefixes.len());
        let of_rd = self.vpn_keys.of_mut(rd);
        for prefix in prefixes {
            if let Some(path) = of_rd.remove(*prefix, by) {
                gone.push((*prefix, path));
            }
        }
        self.vpn_keys.tidy(rd);
        for (_, path) in &gone {
            if let Some(path) = self.paths.get(*path) {
                self.controllers.count_gone(by, path.mark);
            }
        }
        self.leave_paths(&gone, tables);
        gone.len()
    }

    pub(crate) fn delete_static_route(&mut self, vrf: &Name, prefix: IpNet, tables: &mut Tables) -> bool {
        let Some(of_vrf) = self.static_keys.get_mut(vrf) else { return false };
        let Some(path) = of_vrf.remove(&prefix) else { return false };
        if of_vrf.is_empty() {
            self.static_keys.remove(vrf);
        }
        self.leave_paths(&[(prefix, path)], tables);
        true
    }

    fn check_route_count(&self, new: usize) -> Result<(), Refusal> {
        limits::check(self.paths.len() + new, self.limits.routes, "routes", "routes")
    }

    /// Whether there is room for these paths, in the RIB and in the VRFs that
    /// import them. Counts exactly only near a limit.
    fn check_paths(&self, by: ControllerId, spec: &VpnSpec, prefixes: &[IpNet]) -> Result<(), Refusal> {
        let of_rd = self.vpn_keys.of(spec.rd);
        let present = || prefixes.iter().filter_map(|prefix| of_rd?.get(*prefix, by));
        if self.paths.len() + prefixes.len() > self.limits.routes {
            self.check_route_count(prefixes.len() - present().count())?;
        }
        let room = self.limits.imported_routes.saturating_sub(self.imports.imported());
        if prefixes.len().saturating_mul(self.store.vrfs.len()) < room {
            return Ok(());
        }
        let more = prefixes.len() * self.imports.count_importers(&spec.route_targets);
        if more < room {
            return Ok(());
        }
        let imports = |path: PathId| match self.origin(path) {
            Some(Origin::Vpn(vpn)) => self.imports.importers(vpn.targets).len(),
            Some(Origin::Static(_)) | None => 0,
        };
        let now: usize = present().map(imports).sum();
        let imported = self.imports.imported() - now + more;
        limits::check(imported, self.limits.imported_routes, "imported routes", "imported_routes")
    }

    /// Whether so many more routes fit, whoever imports them.
    pub fn has_room_for_routes(&self, count: usize) -> bool {
        let imports = count.saturating_mul(self.store.vrfs.len());
        self.paths.len().saturating_add(count) <= self.limits.routes
            && self.imports.imported().saturating_add(imports) <= self.limits.imported_routes
    }

    /// Whether there is room for so many more paths with these route targets.
    pub(crate) fn check_room(&self, vpn: &Vpn, count: usize) -> Result<(), Refusal> {
        self.check_route_count(count)?;
        let imported = self.imports.imported() + count * self.imports.importers(vpn.targets).len();
        limits::check(imported, self.limits.imported_routes, "imported routes", "imported_routes")
    }

    fn origin(&self, path: PathId) -> Option<Origin> {
        Some(self.attributes.get(self.paths.get(path)?.attributes)?.attributes.origin)
    }

    pub(crate) fn acquire_vpn_attributes(
        &mut self,
        by: ControllerId,
        spec: &VpnSpec,
        tables: &mut Tables,
    ) -> AttributesId {
        let origin = Origin::Vpn(Vpn {
            controller: by,
            rd: spec.rd,
            targets: self.imports.acquire_set(&spec.route_targets),
            local_pref: spec.local_pref,
            med: spec.med,
            as_path_length: spec.as_path_length,
            mobility: spec.mobility,
        });
        self.acquire_attributes(origin, &spec.path, tables)
    }

    /// The number of attributes, used once more. What `origin` refers to is
    /// counted already.
    fn acquire_attributes(&mut self, origin: Origin, spec: &PathSpec, tables: &mut Tables) -> AttributesId {
        // The name was checked with the rest of the message.
        let node = self.nodes.intern(&spec.next_hop).unwrap_or(NodeId(u32::MAX));
        let (tunnel_use, _) = self.uses.acquire(&spec.tunnel_use);
        let sg_set = self.acquire_sg_set(&spec.security_groups, tables);
        let attributes = Attributes { origin, node, tunnel_use: UseId(tunnel_use), sg_set };
        if let Some(id) = self.attributes.find(&attributes) {
            // All that it refers to is counted for it once, and that was before.
            self.release_parts(&attributes, tables);
            if let Some(shared) = self.attributes.get_mut(id) {
                shared.users += 1;
            }
            return id;
        }
        let id = self.attributes.insert(attributes);
        if let Origin::Vpn(vpn) = origin {
            self.imports.add_attributes(vpn.targets, id);
            self.journal.attributes(id);
        }
        let mut next_hop = None;
        if let Some(found) = self.nodes.get_mut(node) {
            found.attributes.insert(id);
            if found.declared.is_some() {
                let key = NextHopKey::Named(node, attributes.tunnel_use);
                next_hop = Some(self.acquire_next_hop(key, tables));
            }
        }
        if let Some(shared) = self.attributes.get_mut(id) {
            shared.next_hop = next_hop;
            shared.users = 1;
        }
        id
    }

    /// Attributes are used less; those that nothing uses are forgotten.
    pub(crate) fn release_attributes(&mut self, id: AttributesId, count: usize, tables: &mut Tables) {
        let Some(shared) = self.attributes.get_mut(id) else { return };
        shared.users -= count;
        if shared.users > 0 {
            return;
        }
        let Some(shared) = self.attributes.remove(id) else { return };
        if let Origin::Vpn(vpn) = shared.attributes.origin {
            self.imports.remove_attributes(vpn.targets, id);
            self.journal.attributes(id);
        }
        if let Some(node) = self.nodes.get_mut(shared.attributes.node) {
            node.attributes.remove(&id);
            if node.attributes.is_empty() {
                self.dirty.idle_nodes.push(shared.attributes.node);
            }
        }
        if let Some(next_hop) = shared.next_hop {
            self.release_next_hop(next_hop);
        }
        self.release_parts(&shared.attributes, tables);
    }

    /// Counts what attributes refer to once less.
    fn release_parts(&mut self, attributes: &Attributes, tables: &mut Tables) {
        match attributes.origin {
            Origin::Vpn(vpn) => self.imports.release_set(vpn.targets),
            Origin::Static(vrf) => {
                self.static_vrfs.release(vrf.0);
            }
        }
        self.uses.release(attributes.tunnel_use.0);
        self.release_sg_set(attributes.sg_set, tables);
    }

    /// Enters new records into everything that their attributes concern.
    pub(crate) fn enter_paths(&mut self, id: AttributesId, new: &[(IpNet, PathId)]) {
        let Some(shared) = self.attributes.get_mut(id) else { return };
        for (_, path) in new {
            self.paths.link(&mut shared.paths, *path);
        }
        shared.users += new.len();
        if let Origin::Vpn(vpn) = shared.attributes.origin {
            self.imports.add_paths(vpn.targets, new);
            self.journal.paths(id, vpn.rd, new);
        }
        self.note_prefixes(id, new);
    }

    /// Takes records out of everything and forgets them; their keys are gone
    /// already.
    fn leave_paths(&mut self, mut gone: &[(IpNet, PathId)], tables: &mut Tables) {
        while let Some((_, first)) = gone.first() {
            let Some(id) = self.paths.get(*first).map(|path| path.attributes) else { return };
            let has_same =
                |(_, path): &(IpNet, PathId)| self.paths.get(*path).is_some_and(|path| path.attributes == id);
            let (run, rest) =
                gone.split_at(gone.iter().position(|path| !has_same(path)).unwrap_or(gone.len()));
            self.note_prefixes(id, run);
            let Some(shared) = self.attributes.get_mut(id) else { return };
            for (_, path) in run {
                self.paths.unlink(&mut shared.paths, *path);
                self.paths.remove(*path);
            }
            if let Origin::Vpn(vpn) = shared.attributes.origin {
                self.imports.remove_paths(vpn.targets, run);
                self.journal.no_paths(id, vpn.rd, run);
            }
            self.release_attributes(id, run.len(), tables);
            gone = rest;
        }
    }

    /// Gives a record other attributes.
    fn move_path(&mut self, path: PathId, id: AttributesId, tables: &mut Tables) {
        let Some(record) = self.paths.get_mut(path) else { return };
        let prefix = record.prefix;
        let old = std::mem::replace(&mut record.attributes, id);
        let place = [(prefix, path)];
        self.note_prefixes(old, &place);
        if let Some(shared) = self.attributes.get_mut(old) {
            self.paths.unlink(&mut shared.paths, path);
            if let Origin::Vpn(vpn) = shared.attributes.origin {
                self.imports.remove_paths(vpn.targets, &place);
                self.journal.no_paths(old, vpn.rd, &place);
            }
        }
        self.enter_paths(id, &place);
        self.release_attributes(old, 1, tables);
    }
}
