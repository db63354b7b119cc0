//! The RIB: the state, and one entry for each operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use tieline_engine::policy::Policy;
use tieline_engine::tables::Tables;
use tieline_engine::types::{InterfaceId, SgId, SgSetId, VrfId};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::attributes::AttributesTable;
use crate::compile::links::VrfLinks;
use crate::compile::next_hops::NextHops;
use crate::compile::settle::Dirty;
use crate::controllers::{ControllerId, Controllers};
use crate::declare::Declaration;
use crate::holders::Holders;
use crate::interner::Interner;
use crate::journal::Journal;
use crate::key::Key;
use crate::labels::Labels;
use crate::limits::{self, Limits, RibOptions};
use crate::nodes::Nodes;
use crate::paths::Paths;
use crate::refusal::Refusal;
use crate::route_keys::{StaticKeys, VpnKeys};
use crate::spec::route::parse_prefixes;
use crate::spec::{TunnelUse, UNDERLAY, field};
use crate::store::Store;
use crate::vpn::Imports;
use crate::waits::Dependents;
use tieline_names::Name;

/// What became of an accepted operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Applied {
    /// What has to be declared before the object takes effect.
    pub waits_for: Vec<v1::ObjectKey>,
    /// Whether anything is different from before.
    pub changed: bool,
}

/// The RIB.
#[derive(Debug, Clone)]
pub struct Rib {
    pub(crate) limits: Limits,
    pub(crate) options: RibOptions,
    pub(crate) store: Store,
    pub(crate) nodes: Nodes,
    pub(crate) controllers: Controllers,
    pub(crate) holders: Holders,
    pub(crate) attributes: AttributesTable,
    pub(crate) paths: Paths,
    pub(crate) vpn_keys: VpnKeys,
    pub(crate) static_keys: StaticKeys,
    pub(crate) imports: Imports,
    pub(crate) dependents: Dependents,
    /// By [`SgSetId`]; the empty set is not in it.
    pub(crate) sg_sets: Interner<Arc<[SgId]>>,
    pub(crate) uses: Interner<TunnelUse>,
    /// Names of VRFs that static routes are declared for.
    pub(crate) static_vrfs: Interner<Name>,
    pub(crate) next_hops: NextHops,
    /// One for each set of groups that an interface in force is in.
    pub(crate) policies: BTreeMap<SgSetId, Arc<Policy>>,
    pub(crate) links: VrfLinks,
    pub(crate) labels: Labels,
    pub(crate) exports_generation: u64,
    pub(crate) dirty: Dirty,
    pub(crate) journal: Journal,
    /// What is declared comes out of a store.
    pub(crate) is_restoring: bool,
}

impl Rib {
    /// A RIB without any object. It writes into tables that nothing else has
    /// put ports, interfaces, VRFs or routes into.
    pub fn new(limits: Limits, options: RibOptions) -> Self {
        let limits = limits.clamped();
        Self {
            store: Store::new(&limits),
            limits,
            nodes: Nodes::default(),
            controllers: Controllers::ranked(options.ranks.clone()),
            holders: Holders::default(),
            attributes: AttributesTable::default(),
            paths: Paths::default(),
            vpn_keys: VpnKeys::default(),
            static_keys: StaticKeys::new(),
            imports: Imports::default(),
            dependents: Dependents::default(),
            sg_sets: Interner::starting_at(SgSetId::EMPTY.0 + 1),
            uses: Interner::default(),
            static_vrfs: Interner::default(),
            next_hops: NextHops::default(),
            policies: BTreeMap::new(),
            links: VrfLinks::default(),
            labels: Labels::new(options.label_range.clone()),
            exports_generation: 0,
            dirty: Dirty::default(),
            journal: Journal::default(),
            is_restoring: false,
            options,
        }
    }

    /// The number of a controller, a new one if it has none yet.
    ///
    /// # Errors
    /// A name that is none, or one controller too many.
    pub fn controller(&mut self, name: &str) -> Result<ControllerId, Refusal> {
        if let Some(id) = self.controllers.find(name) {
            return Ok(id);
        }
        let name = field::name("controller", name)?;
        limits::check(self.controllers.len() + 1, self.limits.controllers, "controllers", "controllers")?;
        Ok(self.controllers.add(&name))
    }

    /// Declares an object for a controller, or replaces it whole.
    ///
    /// # Errors
    /// When it is refused; nothing was changed.
    pub fn apply(
        &mut self,
        by: ControllerId,
        object: v1::Object,
        tables: &mut Tables,
    ) -> Result<Applied, Refusal> {
        let (waits_for, changed) = match object.kind {
            None => return Err(Refusal::invalid("kind", "no object: set one of its fields")),
            Some(Kind::Route(message)) => self.apply_route(by, message, tables)?,
            Some(kind) => self.hold(by, kind, tables)?,
        };
        Ok(self.applied(waits_for, changed, tables))
    }

    /// Declares many VPN paths for a controller.
    ///
    /// # Errors
    /// When they are refused; nothing was changed.
    pub fn apply_routes(
        &mut self,
        by: ControllerId,
        routes: v1::RouteSet,
        tables: &mut Tables,
    ) -> Result<Applied, Refusal> {
        let (waits_for, changed) = self.apply_route_set(by, routes, tables)?;
        Ok(self.applied(waits_for, changed, tables))
    }

    /// Withdraws an object of a controller. What is not there is withdrawn
    /// already.
    ///
    /// # Errors
    /// When the key cannot be one, or is the underlay's, which stays.
    pub fn delete(
        &mut self,
        by: ControllerId,
        key: &v1::ObjectKey,
        tables: &mut Tables,
    ) -> Result<Applied, Refusal> {
        let changed = match Key::parse(key)? {
            Key::Vrf(name) if name.as_str() == UNDERLAY => {
                let sentence = "the VRF \"underlay\" always exists and cannot be deleted";
                return Err(Refusal::invalid("key.vrf", sentence));
            }
            Key::Route(rd, prefix) => self.delete_routes(by, rd, &[prefix], tables) > 0,
            key => self.release(by, &key, tables),
        };
        Ok(self.applied(Vec::new(), changed, tables))
    }

    /// Withdraws many VPN paths of a controller.
    ///
    /// # Errors
    /// When distinguisher or prefixes are not valid; nothing was changed.
    pub fn delete_route_set(
        &mut self,
        by: ControllerId,
        key: &v1::RouteSetKey,
        tables: &mut Tables,
    ) -> Result<Applied, Refusal> {
        let rd = field::parsed(|| "rd".to_owned(), &key.rd)?;
        let prefixes = parse_prefixes(key.prefixes.as_ref())?;
        let changed = self.delete_routes(by, rd, &prefixes, tables) > 0;
        Ok(self.applied(Vec::new(), changed, tables))
    }

    fn applied(&mut self, waits_for: Vec<Key>, changed: bool, tables: &mut Tables) -> Applied {
        if changed {
            self.settle(tables);
        }
        Applied { waits_for: waits_for.iter().map(v1::ObjectKey::from).collect(), changed }
    }

    /// Puts an object in force, or replaces it whole.
    pub(crate) fn put(&mut self, kind: Kind, tables: &mut Tables) -> Declaration {
        match kind {
            Kind::Port(message) => self.apply_port(message, tables),
            Kind::Interface(message) => self.apply_interface(message, tables),
            Kind::Vrf(message) => self.apply_vrf(message, tables),
            Kind::NextHop(message) => self.apply_next_hop(message, tables),
            Kind::NextHopGroup(message) => self.apply_next_hop_group(message, tables),
            Kind::SecurityGroup(message) => self.apply_security_group(message, tables),
            Kind::StaticRoute(message) => self.apply_static_route(&message, tables),
            Kind::Route(_) => Err(Refusal::invalid("kind", "a route has no holders")),
        }
    }

    /// Takes an object out of force.
    pub(crate) fn take_out(&mut self, key: &Key, tables: &mut Tables) -> bool {
        match key {
            Key::Port(name) => self.delete_port(name, tables),
            Key::Interface(name) => self.delete_interface(name, tables),
            Key::Vrf(name) => self.delete_vrf(name, tables),
            Key::NextHop(name) => self.delete_next_hop(name, tables, false),
            Key::NextHopGroup(name) => self.delete_next_hop(name, tables, true),
            Key::SecurityGroup(id) => self.delete_security_group(*id, tables),
            Key::StaticRoute(vrf, prefix) => self.delete_static_route(vrf, *prefix, tables),
            Key::Route(..) => false,
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What objects leave open.
    pub fn options(&self) -> &RibOptions {
        &self.options
    }

    /// The number of a VRF, the underlay's among them.
    pub fn vrf_id(&self, name: &str) -> Option<VrfId> {
        if name == UNDERLAY {
            return Some(VrfId::UNDERLAY);
        }
        self.store.vrfs.get(name).map(|vrf| vrf.id)
    }

    /// The name of a VRF, the underlay's among them.
    pub fn vrf_name(&self, id: VrfId) -> Option<&str> {
        if id == VrfId::UNDERLAY {
            return Some(UNDERLAY);
        }
        self.store.vrf_names.get(u32::from(id.0)).map(Name::as_str)
    }

    /// The number of an interface.
    pub fn interface_id(&self, name: &str) -> Option<InterfaceId> {
        self.store.interfaces.get(name).map(|interface| interface.id)
    }

    /// The name of an interface.
    pub fn interface_name(&self, id: InterfaceId) -> Option<&str> {
        self.store.interface_names.get(id.0).map(Name::as_str)
    }

    /// All interfaces in the order of their names, those that wait too.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, InterfaceId)> {
        self.store.interfaces.iter().map(|(name, interface)| (name.as_str(), interface.id))
    }

    /// The underlay, then all VRFs in the order of their names.
    pub fn vrfs(&self) -> impl Iterator<Item = (&str, VrfId)> {
        let declared = self.store.vrfs.iter().map(|(name, vrf)| (name.as_str(), vrf.id));
        std::iter::once((UNDERLAY, VrfId::UNDERLAY)).chain(declared)
    }

    /// Numbers a set of groups, counted once more, and enters it into the
    /// tables.
    pub(crate) fn acquire_sg_set(&mut self, groups: &[SgId], tables: &mut Tables) -> SgSetId {
        if groups.is_empty() {
            return SgSetId::EMPTY;
        }
        let (id, is_new) = self.sg_sets.acquire_with(groups, || groups.into());
        let id = SgSetId(id);
        if is_new && let Some(groups) = self.sg_sets.get(id.0) {
            tables.sg_sets.insert(id.index(), Arc::clone(groups));
        }
        id
    }

    /// Counts a set of groups once less.
    pub(crate) fn release_sg_set(&mut self, id: SgSetId, tables: &mut Tables) {
        if id != SgSetId::EMPTY && self.sg_sets.release(id.0).is_some() {
            tables.sg_sets.remove(id.index());
            self.policies.remove(&id);
        }
    }

    /// The groups of a set.
    pub(crate) fn sg_set(&self, id: SgSetId) -> &[SgId] {
        self.sg_sets.get(id.0).map_or(&[], |groups| groups)
    }
}
