//! The FIB entry of each prefix: an interface's own prefixes first, then
//! static routes, then the best VPN path.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_engine::tables::vrf::{FibEntry, Vrf};
use tieline_engine::types::{NextHopId, SgSetId, VrfId};

use crate::attributes::{AttributesId, Origin, Shared};
use crate::compile::next_hops::NextHopKey;
use crate::controllers::ControllerId;
use crate::paths::{Head, PathId};
use crate::rib::Rib;
use crate::spec::interface::ClaimKind;
use crate::store::{Claim, Claims};
use crate::vpn::{self, Candidates};

/// Why a prefix has the entry that it has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice<'a> {
    Claim(&'a Claim),
    Path(&'a Shared),
}

/// What there is to choose from in one VRF.
struct Choices<'a> {
    rib: &'a Rib,
    claims: Option<&'a Claims>,
    statics: Option<&'a BTreeMap<IpNet, PathId>>,
    candidates: Option<&'a Candidates>,
}

impl<'a> Choices<'a> {
    fn choose(&self, prefix: IpNet) -> Option<(FibEntry, Choice<'a>)> {
        let claims = self.claims.and_then(|claims| claims.get(&prefix)).map_or(&[][..], |claims| claims);
        let claimed = claims.iter().find_map(|claim| Some((self.rib.entry(claim, prefix)?, claim)));
        if let Some((entry, claim)) = claimed {
            return Some((entry, Choice::Claim(claim)));
        }
        let shared = self.statics.and_then(|of| self.rib.usable(*of.get(&prefix)?)).or_else(|| {
            let candidates = self.candidates?.get(prefix);
            let (_, shared) =
                vpn::best(&self.rib.paths, &self.rib.attributes, &self.rib.controllers, candidates)?;
            Some(shared)
        })?;
        let entry = FibEntry { next_hop: shared.next_hop?, sg_set: shared.attributes.sg_set };
        Some((entry, Choice::Path(shared)))
    }
}

/// FIB entries that have begun and ceased to lead to a next hop.
#[derive(Debug, Clone, Copy)]
struct UseChange {
    next_hop: NextHopId,
    more: u32,
    less: u32,
}

/// Changes of uses; neighbouring ones of the same next hop are one.
#[derive(Debug, Default)]
struct UseChanges(Vec<UseChange>);

impl UseChanges {
    fn of(&mut self, next_hop: NextHopId) -> &mut UseChange {
        // Two at the end: most runs replace one next hop by another.
        let at = self.0.iter().rposition(|change| change.next_hop == next_hop);
        let at = match at.filter(|at| at + 2 >= self.0.len()) {
            Some(at) => at,
            None => {
                self.0.push(UseChange { next_hop, more: 0, less: 0 });
                self.0.len() - 1
            }
        };
        &mut self.0[at]
    }

    fn add(&mut self, old: Option<FibEntry>, new: Option<FibEntry>) {
        if let Some(entry) = new {
            self.of(entry.next_hop).more += 1;
        }
        if let Some(entry) = old {
            self.of(entry.next_hop).less += 1;
        }
    }
}

impl Rib {
    fn choices(&self, vrf: VrfId) -> Option<Choices<'_>> {
        let name = self.vrf_name(vrf)?;
        Some(Choices {
            rib: self,
            claims: self.store.claims_of(name),
            statics: self.static_keys.get(name),
            candidates: self.imports.candidates_of(vrf),
        })
    }

    /// What a prefix leads to in a VRF, and why.
    pub(crate) fn choose(&self, vrf: VrfId, prefix: IpNet) -> Option<(FibEntry, Choice<'_>)> {
        self.choices(vrf)?.choose(prefix)
    }

    /// The attributes of a path, if its next hop is declared.
    fn usable(&self, path: PathId) -> Option<&Shared> {
        let shared = self.attributes.get(self.paths.get(path)?.attributes)?;
        shared.next_hop.is_some().then_some(shared)
    }

    /// The static route to a prefix.
    pub(crate) fn static_path(&self, vrf: &str, prefix: IpNet) -> Option<PathId> {
        self.static_keys.get(vrf)?.get(&prefix).copied()
    }

    /// The entry of a claim; `None` while its interface waits.
    fn entry(&self, claim: &Claim, prefix: IpNet) -> Option<FibEntry> {
        let interface = self.store.interfaces.get(&claim.interface)?;
        interface.compiled.as_ref()?;
        let sg_set = match claim.kind {
            ClaimKind::Local => SgSetId::EMPTY,
            ClaimKind::Workload | ClaimKind::Connected => interface.sg_set,
        };
        let next_hop = self.next_hops.find(claim_key(interface.id, claim.kind, prefix))?;
        Some(FibEntry { next_hop, sg_set })
    }

    /// Writes the entries that prefixes of one VRF should have.
    pub(crate) fn update_fib(&mut self, vrf: VrfId, prefixes: &[(VrfId, IpNet)], tables: &mut Tables) {
        let Some(changes) = self.write_fib(vrf, prefixes, tables) else { return };
        for UseChange { next_hop, more, less } in changes.0 {
            self.change_uses_in_fib(next_hop, vrf, more, less);
        }
        self.dirty.bumps.insert(vrf);
        self.dirty.underlay |= vrf == VrfId::UNDERLAY;
    }

    /// `None` if all entries were as they should be.
    fn write_fib(&self, vrf: VrfId, prefixes: &[(VrfId, IpNet)], tables: &mut Tables) -> Option<UseChanges> {
        let choices = self.choices(vrf)?;
        let choose = |prefix| choices.choose(prefix).map(|(entry, _)| entry);
        // Only looking does not copy the VRF.
        let table = tables.vrfs.get(vrf.index())?;
        let first = prefixes.iter().position(|(_, prefix)| exact(table, *prefix) != choose(*prefix))?;
        let table = tables.vrfs.get_mut(vrf.index())?;
        let mut changes = UseChanges::default();
        for (_, prefix) in &prefixes[first..] {
            let new = choose(*prefix);
            let old = write(table, *prefix, new);
            if new != old {
                changes.add(old, new);
            }
        }
        Some(changes)
    }

    /// Notes that paths with these attributes may have become, or ceased to be,
    /// their prefixes' best.
    pub(crate) fn note_prefixes(&mut self, id: AttributesId, paths: &[(IpNet, PathId)]) {
        let Some(shared) = self.attributes.get(id) else { return };
        let static_vrf = match shared.attributes.origin {
            Origin::Static(name) => self.static_vrfs.get(name.0).and_then(|name| self.vrf_id(name.as_str())),
            Origin::Vpn(_) => None,
        };
        let vrfs = match shared.attributes.origin {
            Origin::Static(_) => static_vrf.as_slice(),
            Origin::Vpn(vpn) => self.imports.importers(vpn.targets),
        };
        for vrf in vrfs {
            self.dirty.prefixes.extend(paths.iter().map(|(prefix, _)| (*vrf, *prefix)));
        }
    }

    /// Paths with these attributes have become stale, or fresh again: notes those
    /// that another controller declares otherwise.
    pub(crate) fn note_rivals(&mut self, id: AttributesId, paths: &[(IpNet, PathId)]) {
        let Some(Origin::Vpn(own)) = self.attributes.get(id).map(|shared| shared.attributes.origin) else {
            return;
        };
        if self.controllers.len() < 2 {
            return;
        }
        // Neighbours mostly share their rivals' attributes too.
        let mut known: Option<(AttributesId, bool)> = None;
        let mut rivals: Vec<(IpNet, PathId)> = Vec::new();
        for (prefix, path) in paths {
            let others = self.vpn_keys.all(own.rd, *prefix).filter(|(by, _)| *by != own.controller);
            for (_, other) in others {
                let Some(theirs) = self.paths.get(other).map(|path| path.attributes) else { continue };
                let differ = match known {
                    Some((of, differ)) if of == theirs => differ,
                    _ => self.differ(id, theirs),
                };
                known = Some((theirs, differ));
                if differ {
                    rivals.push((*prefix, *path));
                    break;
                }
            }
        }
        self.note_prefixes(id, &rivals);
    }

    /// The same for all paths of a controller.
    pub(crate) fn note_all_rivals(&mut self, by: ControllerId) {
        let is_own =
            |shared: &Shared| matches!(shared.attributes.origin, Origin::Vpn(vpn) if vpn.controller == by);
        let all = self.attributes.iter_from(AttributesId(0)).filter(|(_, shared)| is_own(shared));
        let all: Vec<(AttributesId, Head)> = all.map(|(id, shared)| (id, shared.paths)).collect();
        for (id, head) in all {
            let paths: Vec<_> =
                self.paths.iter_list(head).map(|(path, record)| (record.prefix, path)).collect();
            self.note_rivals(id, &paths);
        }
    }

    /// Whether two controllers say different things of a route.
    fn differ(&self, one: AttributesId, other: AttributesId) -> bool {
        let content = |id: AttributesId| {
            let mut attributes = self.attributes.get(id)?.attributes;
            if let Origin::Vpn(vpn) = &mut attributes.origin {
                vpn.controller = ControllerId::default();
            }
            Some(attributes)
        };
        content(one) != content(other)
    }

    /// The same for all paths with these attributes.
    pub(crate) fn note_attributes(&mut self, id: AttributesId) {
        let Some(shared) = self.attributes.get(id) else { return };
        let paths: Vec<_> =
            self.paths.iter_list(shared.paths).map(|(path, record)| (record.prefix, path)).collect();
        self.note_prefixes(id, &paths);
    }
}

/// The engine next hop that a claim uses.
pub(crate) fn claim_key(
    interface: tieline_engine::types::InterfaceId,
    kind: ClaimKind,
    prefix: IpNet,
) -> NextHopKey {
    match kind {
        ClaimKind::Local => NextHopKey::Local(interface),
        ClaimKind::Connected => NextHopKey::Connected(interface),
        ClaimKind::Workload => NextHopKey::Neighbour(interface, prefix.addr()),
    }
}

/// The entry of exactly this prefix.
pub(crate) fn exact(vrf: &Vrf, prefix: IpNet) -> Option<FibEntry> {
    let length = prefix.prefix_len();
    match prefix.addr() {
        IpAddr::V4(address) => vrf.fib4.exact(u32::from(address), length),
        IpAddr::V6(address) => vrf.fib6.exact(u128::from(address), length),
    }
}

/// Writes an entry; returns what was there.
fn write(vrf: &mut Vrf, prefix: IpNet, entry: Option<FibEntry>) -> Option<FibEntry> {
    let length = prefix.prefix_len();
    match (prefix.addr(), entry) {
        (IpAddr::V4(address), Some(entry)) => vrf.fib4.insert(u32::from(address), length, entry),
        (IpAddr::V4(address), None) => vrf.fib4.remove(u32::from(address), length),
        (IpAddr::V6(address), Some(entry)) => vrf.fib6.insert(u128::from(address), length, entry),
        (IpAddr::V6(address), None) => vrf.fib6.remove(u128::from(address), length),
    }
}
