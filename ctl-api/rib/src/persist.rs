//! A copy of what is declared that survives a restart: what to write after each
//! change, and how to begin from it.
//!
//! Numbers of controllers and attributes stay as they were written, so that the
//! copy goes on without being written anew.

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_engine::types::Label;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::attributes::{AttributesId, Origin};
use crate::controllers::ControllerId;
use crate::journal::Entry;
use crate::key::Key;
use crate::paths::Path;
use crate::refusal::Refusal;
use crate::rib::Rib;
use crate::spec::route::VpnSpec;
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

/// Who keeps the copy. Of several calls about one thing the last counts.
pub trait Copy {
    /// What VPN paths with this number share, or `None` when it is free.
    fn attributes(&mut self, number: u32, shared: Option<(ControllerId, v1::Route)>);
    /// A VPN path is there.
    fn path(&mut self, attributes: u32, rd: RouteDistinguisher, prefix: IpNet);
    /// A VPN path is there no more.
    fn no_path(&mut self, attributes: u32, rd: RouteDistinguisher, prefix: IpNet);
    /// What a controller declares under a key, or `None` for nothing.
    fn declaration(&mut self, by: ControllerId, key: &Key, object: Option<Kind>);
    /// The label that a VRF was given, or `None`.
    fn label(&mut self, vrf: &str, label: Option<u32>);
    /// A controller's declaration waited behind another, came first and was
    /// refused; it is not held any more.
    fn dropped(&mut self, _controller: &str, _key: &Key, _why: &str) {}
    /// A controller's declaration has no effect from here on: another one's
    /// differs from it and counts.
    fn overridden(&mut self, _controller: &str, _by: &str, _key: &Key) {}
    /// An object has another status, as it is declared.
    fn status(&mut self, _key: &Key) {}
    /// Whether it wants to know what is declared, and not only that it is
    /// different.
    fn wants_declarations(&self) -> bool {
        true
    }
}

impl Rib {
    /// Whether to remember what changes, for [`write_changes`](Self::write_changes).
    pub fn keep_journal(&mut self, is_kept: bool) {
        self.journal.keep(is_kept);
    }

    /// Writes what has changed since the last time, to each of these.
    pub fn write_changes(&mut self, copies: &mut [&mut dyn Copy]) {
        for entry in self.journal.take() {
            for copy in &mut *copies {
                let says = copy.wants_declarations();
                match &entry {
                    Entry::Attributes(id) if says => copy.attributes(id.0, self.shared_message(*id)),
                    Entry::Attributes(id) => copy.attributes(id.0, None),
                    Entry::Path(id, rd, prefix) => copy.path(id.0, *rd, *prefix),
                    Entry::NoPath(id, rd, prefix) => copy.no_path(id.0, *rd, *prefix),
                    Entry::Label(vrf) => {
                        copy.label(vrf.as_str(), self.labels.of(vrf.as_str()).map(|label| label.value()));
                    }
                    Entry::Status(key) => copy.status(key),
                    Entry::Dropped(by, key, why) => copy.dropped(self.controllers.name(*by), key, why),
                    Entry::Overridden { whose, by, key } => {
                        copy.overridden(self.controllers.name(*whose), self.controllers.name(*by), key);
                    }
                    Entry::Declaration(by, key) => {
                        let object = if says { self.declaration(*by, key) } else { None };
                        copy.declaration(*by, key, object);
                    }
                }
            }
        }
    }

    /// Writes everything.
    pub fn write_all(&self, copy: &mut dyn Copy) {
        for (vrf, label) in self.labels.iter() {
            copy.label(vrf.as_str(), Some(label.value()));
        }
        for (id, shared) in self.attributes.iter_from(AttributesId(0)) {
            let Some(message) = self.shared_message(id) else { continue };
            copy.attributes(id.0, Some(message));
            let Origin::Vpn(vpn) = shared.attributes.origin else { continue };
            for (_, path) in self.paths.iter_list(shared.paths) {
                copy.path(id.0, vpn.rd, path.prefix);
            }
        }
        for (by, _) in self.controllers.iter() {
            for (key, _) in self.holders.held_by(by) {
                copy.declaration(by, key, self.declaration(by, key));
            }
        }
    }

    fn shared_message(&self, id: AttributesId) -> Option<(ControllerId, v1::Route)> {
        let attributes = &self.attributes.get(id)?.attributes;
        let Origin::Vpn(vpn) = attributes.origin else { return None };
        Some((vpn.controller, self.attributes_message(attributes)?))
    }

    /// Gives a controller the number that it had.
    ///
    /// # Errors
    /// When number or name are taken, or the name is none.
    pub fn restore_controller(&mut self, number: u16, name: &str) -> Result<ControllerId, Refusal> {
        let id = ControllerId(number);
        let valid = Name::new(name).ok_or_else(|| Refusal::invalid("controller", "not a name"))?;
        if !self.controllers.restore(id, &valid) {
            return Err(Refusal::invalid("controller", format!("number {number} or name {name} is taken")));
        }
        Ok(id)
    }

    /// Gives a VRF the label that it had; before it is declared.
    ///
    /// # Errors
    /// When it is no label, or another VRF has it.
    pub fn restore_label(&mut self, vrf: &str, label: u32) -> Result<(), Refusal> {
        let name = Name::new(vrf).ok_or_else(|| Refusal::invalid("vrf", "not a name"))?;
        let valid = Label::new(label);
        if !valid.is_some_and(|label| self.labels.restore(&name, label)) {
            return Err(Refusal::invalid("label", format!("{label} is no label, or another VRF has it")));
        }
        Ok(())
    }

    /// Gives attributes the number that they had; no route has them yet.
    ///
    /// # Errors
    /// When they are not valid, or the number is taken, or the same attributes
    /// have another.
    pub fn restore_attributes(
        &mut self,
        number: u32,
        by: ControllerId,
        message: v1::Route,
        tables: &mut Tables,
    ) -> Result<(), Refusal> {
        if number as usize >= self.limits.routes.saturating_mul(2) {
            return Err(Refusal::invalid("attributes", format!("number {number} is out of range")));
        }
        let spec = VpnSpec::parse(message)?;
        let taken = || Refusal::invalid("attributes", format!("number {number} is taken"));
        if self.attributes.get(AttributesId(number)).is_some() {
            return Err(taken());
        }
        self.attributes.next_number = Some(number);
        let id = self.acquire_vpn_attributes(by, &spec, tables);
        self.attributes.next_number = None;
        if id.0 != number {
            self.release_attributes(id, 1, tables);
            return Err(taken());
        }
        Ok(())
    }

    /// VPN paths that were there.
    ///
    /// # Errors
    /// When there are no such attributes, or a path is there already, or there
    /// are too many.
    pub fn restore_paths(&mut self, attributes: u32, prefixes: &[IpNet]) -> Result<(), Refusal> {
        let id = AttributesId(attributes);
        let unknown = || Refusal::invalid("attributes", format!("there are no attributes {attributes}"));
        let shared = self.attributes.get(id).ok_or_else(unknown)?;
        let Origin::Vpn(vpn) = shared.attributes.origin else { return Err(unknown()) };
        self.check_room(&vpn, prefixes.len())?;
        self.paths.reserve(prefixes.len());
        let mut new = Vec::with_capacity(prefixes.len());
        let mark = self.controllers.mark(vpn.controller);
        let of_rd = self.vpn_keys.of_mut(vpn.rd);
        for prefix in prefixes {
            let slot = of_rd.entry(*prefix, vpn.controller);
            if slot.present().is_some() {
                return Err(Refusal::conflict("prefix", format!("route {} {prefix} stands twice", vpn.rd)));
            }
            let path = self.paths.insert(Path::new(*prefix, id, mark));
            slot.insert(path);
            new.push((*prefix, path));
            self.controllers.count_new(vpn.controller);
        }
        self.enter_paths(id, &new);
        Ok(())
    }

    /// What a controller declared. Objects may come in any order. Ports that earlier
    /// releases let have one device are brought back all the same: whoever opens
    /// devices finds out.
    ///
    /// # Errors
    /// When it is refused; the object is then not declared.
    pub fn restore_declaration(
        &mut self,
        by: ControllerId,
        object: Kind,
        tables: &mut Tables,
    ) -> Result<(), Refusal> {
        self.is_restoring = true;
        let outcome = self.hold(by, object, tables).map(|_| ());
        self.is_restoring = false;
        outcome
    }

    /// The end of a restoration: forgets attributes without routes, and brings
    /// the tables up to date. Everything is stale from here on.
    pub fn finish_restore(&mut self, tables: &mut Tables) {
        let all: Vec<AttributesId> = self.attributes.iter_from(AttributesId(0)).map(|(id, _)| id).collect();
        for id in all {
            let is_vpn = self
                .attributes
                .get(id)
                .is_some_and(|shared| matches!(shared.attributes.origin, Origin::Vpn(_)));
            if is_vpn {
                self.release_attributes(id, 1, tables);
            }
        }
        self.settle(tables);
        let vrfs = &self.store.vrfs;
        let unused: Vec<Name> = self
            .labels
            .iter()
            .filter(|(name, _)| !vrfs.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in unused {
            self.labels.release(name.as_str());
        }
        let all: Vec<ControllerId> = self.controllers.iter().map(|(id, _)| id).collect();
        for id in all {
            self.controllers.begin_sync(id);
        }
    }

    /// A synchronisation of a controller begins, or it has gone: all that it
    /// holds is stale until it is declared again. Where other controllers declare
    /// the same routes otherwise, theirs count now: the tables are brought up to
    /// date. Returns whether they have changed.
    pub fn begin_sync(&mut self, by: ControllerId, tables: &mut Tables) -> bool {
        let was_fresh = self.controllers.get(by).is_some_and(|controller| controller.fresh > 0);
        self.controllers.begin_sync(by);
        if was_fresh && self.controllers.len() > 1 {
            self.note_all_rivals(by);
        }
        let has_news = !self.dirty.prefixes.is_empty();
        self.settle(tables);
        has_news
    }

    /// All that a controller holds is fresh. The tables are brought up to date;
    /// returns whether they have changed.
    pub fn refresh(&mut self, by: ControllerId, tables: &mut Tables) -> bool {
        let mark = self.controllers.mark(by);
        if self.stale(by) == 0 {
            return false;
        }
        self.holders.mark_all(by, mark);
        let attributes = self.attributes.iter_from(AttributesId(0));
        let own = attributes.filter(
            |(_, shared)| matches!(shared.attributes.origin, Origin::Vpn(vpn) if vpn.controller == by),
        );
        let heads: Vec<_> = own.map(|(_, shared)| shared.paths).collect();
        for head in heads {
            let ids: Vec<_> = self.paths.iter_list(head).map(|(id, _)| id).collect();
            for id in ids {
                if let Some(path) = self.paths.get_mut(id) {
                    path.mark = mark;
                }
            }
        }
        self.controllers.all_fresh(by);
        self.note_all_rivals(by);
        let has_news = !self.dirty.prefixes.is_empty();
        self.settle(tables);
        has_news
    }

    /// The name of a controller; empty if there is none.
    pub fn controller_name(&self, by: ControllerId) -> &str {
        self.controllers.name(by)
    }

    /// Withdraws what is stale of a controller, about `most` things; returns how
    /// many, and whether that was all.
    pub fn sweep(&mut self, by: ControllerId, most: usize, tables: &mut Tables) -> (usize, bool) {
        let mark = self.controllers.mark(by);
        let objects = self.holders.held_by(by).filter(|(_, held)| *held != mark);
        let objects: Vec<Key> = objects.map(|(key, _)| key.clone()).take(most).collect();
        let mut withdrawn = objects.len();
        for key in &objects {
            self.release(by, key, tables);
        }
        let stale = self.stale_paths(by, most - withdrawn);
        for (id, prefixes) in &stale {
            let Some(Origin::Vpn(vpn)) = self.attributes.get(*id).map(|shared| shared.attributes.origin)
            else {
                continue;
            };
            withdrawn += self.delete_routes(by, vpn.rd, prefixes, tables);
        }
        self.settle(tables);
        (withdrawn, self.stale(by) == 0)
    }

    fn stale_paths(&self, by: ControllerId, most: usize) -> Vec<(AttributesId, Vec<IpNet>)> {
        let mark = self.controllers.mark(by);
        let mut room = most;
        let mut all = Vec::new();
        for (id, shared) in self.attributes.iter_from(AttributesId(0)) {
            if room == 0 {
                break;
            }
            let Origin::Vpn(vpn) = shared.attributes.origin else { continue };
            if vpn.controller != by {
                continue;
            }
            let paths = self.paths.iter_list(shared.paths).filter(|(_, path)| path.mark != mark);
            let prefixes: Vec<IpNet> = paths.map(|(_, path)| path.prefix).take(room).collect();
            room -= prefixes.len();
            if !prefixes.is_empty() {
                all.push((id, prefixes));
            }
        }
        all
    }

    /// Objects and routes that a controller holds.
    pub fn held(&self, by: ControllerId) -> usize {
        self.controllers.get(by).map_or(0, |controller| controller.held)
    }

    /// Those of them that are stale.
    pub fn stale(&self, by: ControllerId) -> usize {
        self.controllers.get(by).map_or(0, |controller| controller.held - controller.fresh)
    }

    /// All controllers in the order of their names.
    pub fn controllers(&self) -> impl Iterator<Item = (&str, ControllerId)> {
        self.controllers.iter().map(|(id, controller)| (controller.name.as_str(), id))
    }

    /// The rank of a controller: 1 counts first, 0 is that of those that the
    /// configuration does not rank, which count last.
    pub fn rank(&self, by: ControllerId) -> u32 {
        self.controllers.shown_rank(by)
    }

    /// All controllers, those that count first before the others.
    pub fn by_precedence(&self) -> Vec<ControllerId> {
        let mut all: Vec<ControllerId> = self.controllers.iter().map(|(id, _)| id).collect();
        all.sort_by_key(|id| self.controllers.precedence(*id));
        all
    }

    /// The number of a controller that is known.
    pub fn find_controller(&self, name: &str) -> Option<ControllerId> {
        self.controllers.find(name)
    }

    /// Forgets a controller that holds nothing.
    pub fn forget_controller(&mut self, by: ControllerId) -> bool {
        self.controllers.remove(by)
    }
}
