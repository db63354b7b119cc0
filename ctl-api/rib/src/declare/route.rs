//! VPN paths and static routes.

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_proto::v1;

use crate::compile::next_hops::NextHopKey;
use crate::declare::Declaration;
use crate::key::Key;
use crate::limits;
use crate::name::Name;
use crate::paths::{List, NodeId, Origin, Path, PathId, StaticVrfId, UseId};
use crate::rd::RouteDistinguisher;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::route::{DEFAULT_LOCAL_PREF, PathSpec, RouteSpec, StaticRouteSpec};

impl Rib {
    pub(crate) fn apply_route(&mut self, message: v1::Route, tables: &mut Tables) -> Declaration {
        let spec = RouteSpec::parse(message)?;
        let id = (spec.rd, spec.path.prefix);
        let present = self.paths.vpn.get(&id).copied();
        if let Some(present) = present.filter(|present| self.is_route(*present, &spec)) {
            return Ok((self.route_waits(present), false));
        }
        self.check_route_count(present)?;
        self.check_imports(&spec, present)?;
        let targets = self.imports.acquire_set(&spec.route_targets);
        let mut path = self.new_path(&spec.path, Origin::Vpn { rd: spec.rd, targets }, tables);
        path.states_local_pref = spec.local_pref.is_some();
        path.local_pref = spec.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        path.med = spec.med;
        let new = self.insert_path(path, tables);
        self.paths.vpn.insert(id, new);
        if let Some(old) = present {
            self.remove_path(old, tables);
        }
        Ok((self.route_waits(new), true))
    }

    pub(crate) fn apply_static_route(
        &mut self,
        message: v1::StaticRoute,
        tables: &mut Tables,
    ) -> Declaration {
        let StaticRouteSpec { vrf, path: spec } = StaticRouteSpec::parse(message)?;
        let key = Key::StaticRoute(vrf.clone(), spec.prefix);
        let present = self.paths.statics.get(&vrf).and_then(|of| of.get(&spec.prefix)).copied();
        if present.is_some_and(|present| self.is_path(present, &spec)) {
            return Ok((self.waits_for(&key), false));
        }
        self.check_route_count(present)?;
        let (vrf_number, _) = self.static_vrfs.acquire(&vrf);
        let path = self.new_path(&spec, Origin::Static(StaticVrfId(vrf_number)), tables);
        let new = self.insert_path(path, tables);
        self.paths.statics.entry(vrf).or_default().insert(spec.prefix, new);
        if let Some(old) = present {
            self.remove_path(old, tables);
        }
        Ok((self.waits_for(&key), true))
    }

    pub(crate) fn delete_route(
        &mut self,
        rd: RouteDistinguisher,
        prefix: IpNet,
        tables: &mut Tables,
    ) -> bool {
        let Some(id) = self.paths.vpn.remove(&(rd, prefix)) else { return false };
        self.remove_path(id, tables);
        true
    }

    pub(crate) fn delete_static_route(&mut self, vrf: &Name, prefix: IpNet, tables: &mut Tables) -> bool {
        let Some(of_vrf) = self.paths.statics.get_mut(vrf) else { return false };
        let Some(id) = of_vrf.remove(&prefix) else { return false };
        if of_vrf.is_empty() {
            self.paths.statics.remove(vrf);
        }
        self.remove_path(id, tables);
        true
    }

    /// What a VPN path waits for.
    fn route_waits(&self, id: PathId) -> Vec<Key> {
        self.paths.get(id).and_then(|path| self.path_waits(path)).into_iter().collect()
    }

    fn check_route_count(&self, present: Option<PathId>) -> Result<(), Refusal> {
        let count = self.paths.len() + usize::from(present.is_none());
        limits::check(count, self.limits.routes, "routes", "routes")
    }

    fn check_imports(&self, spec: &RouteSpec, present: Option<PathId>) -> Result<(), Refusal> {
        let room = self.limits.imported_routes.saturating_sub(self.imports.imported());
        // Most routes are imported a few times: count exactly only near the
        // limit.
        if room > self.store.vrfs.len() {
            return Ok(());
        }
        let now = match present.and_then(|id| self.paths.get(id)).map(|path| path.origin) {
            Some(Origin::Vpn { targets, .. }) => self.imports.importers(targets).len(),
            Some(Origin::Static(_)) | None => 0,
        };
        let imported = self.imports.imported() - now + self.imports.count_importers(&spec.route_targets);
        limits::check(imported, self.limits.imported_routes, "imported routes", "imported_routes")
    }

    /// A record with everything that it shares counted.
    fn new_path(&mut self, spec: &PathSpec, origin: Origin, tables: &mut Tables) -> Path {
        // The name was checked with the rest of the message.
        let node = self.nodes.intern(&spec.next_hop).unwrap_or(NodeId(u32::MAX));
        let (tunnel_use, _) = self.uses.acquire(&spec.tunnel_use);
        let sg_set = self.acquire_sg_set(&spec.security_groups, tables);
        Path::new(spec.prefix, origin, node, UseId(tunnel_use), sg_set)
    }

    /// Enters a record into all lists, and into the VRFs it lands in.
    fn insert_path(&mut self, mut path: Path, tables: &mut Tables) -> PathId {
        let is_declared = self.nodes.get(path.node).is_some_and(|node| node.declared.is_some());
        if is_declared {
            let next_hop = self.acquire_next_hop(NextHopKey::Named(path.node, path.tunnel_use), tables);
            path.set_next_hop(Some(next_hop));
        }
        let id = self.paths.insert(path);
        if let Some(node) = self.nodes.get_mut(path.node) {
            self.paths.link(List::ByNode, &mut node.paths, id);
        }
        match path.origin {
            Origin::Vpn { .. } => {
                let dirty = &mut self.dirty.prefixes;
                self.imports.add_path(&mut self.paths, id, |vrf| dirty.push((vrf, path.prefix)));
            }
            Origin::Static(_) => self.note_path(id),
        }
        id
    }

    /// Takes a record out of everything; its key is out already, or another
    /// record's.
    fn remove_path(&mut self, id: PathId, tables: &mut Tables) {
        self.note_path(id);
        let Some(path) = self.paths.get(id).copied() else { return };
        if let Some(node) = self.nodes.get_mut(path.node) {
            self.paths.unlink(List::ByNode, &mut node.paths, id);
            if node.paths.is_empty() {
                self.dirty.idle_nodes.push(path.node);
            }
        }
        match path.origin {
            Origin::Vpn { targets, .. } => {
                self.imports.remove_path(&mut self.paths, id, |_| {});
                self.imports.release_set(targets);
            }
            Origin::Static(vrf) => {
                self.static_vrfs.release(vrf.0);
            }
        }
        self.paths.remove(id);
        if let Some(next_hop) = path.next_hop() {
            self.release_next_hop(next_hop);
        }
        self.uses.release(path.tunnel_use.0);
        self.release_sg_set(path.sg_set, tables);
    }

    /// Whether a record is what a path's declaration says.
    fn is_path(&self, id: PathId, spec: &PathSpec) -> bool {
        let Some(path) = self.paths.get(id) else { return false };
        let name = self.nodes.get(path.node).map(|node| node.name.as_str());
        name == Some(spec.next_hop.as_str())
            && self.uses.get(path.tunnel_use.0) == Some(&spec.tunnel_use)
            && self.sg_set(path.sg_set) == spec.security_groups
    }

    /// Whether a record is what a VPN path's declaration says.
    fn is_route(&self, id: PathId, spec: &RouteSpec) -> bool {
        let Some(path) = self.paths.get(id) else { return false };
        let Origin::Vpn { targets, .. } = path.origin else { return false };
        let local_pref = path.states_local_pref.then_some(path.local_pref);
        local_pref == spec.local_pref
            && path.med == spec.med
            && self.imports.set(targets) == spec.route_targets
            && self.is_path(id, &spec.path)
    }
}
