//! The FIB entry of each prefix: an interface's own prefixes first, then
//! static routes, then the best VPN path.

use std::net::IpAddr;

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_engine::tables::vrf::{FibEntry, Vrf};
use tieline_engine::types::{SgSetId, VrfId};

use crate::compile::next_hops::NextHopKey;
use crate::paths::{Origin, Path, PathId};
use crate::rib::Rib;
use crate::spec::interface::ClaimKind;
use crate::store::Claim;
use crate::vpn;

/// Why a prefix has the entry that it has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice<'a> {
    Claim(&'a Claim),
    Path(&'a Path),
}

impl Rib {
    /// What a prefix leads to in a VRF, and why.
    pub(crate) fn choose(&self, vrf: VrfId, prefix: IpNet) -> Option<(FibEntry, Choice<'_>)> {
        let name = self.vrf_name(vrf)?;
        let claimed = self
            .store
            .claims(name, prefix)
            .iter()
            .find_map(|claim| Some((self.entry(claim, prefix)?, claim)));
        if let Some((entry, claim)) = claimed {
            return Some((entry, Choice::Claim(claim)));
        }
        let path = self
            .static_path(name, prefix)
            .filter(|path| path.next_hop().is_some())
            .or_else(|| Some(vpn::best(&self.paths, self.imports.candidates(vrf, prefix))?.1))?;
        let entry = FibEntry { next_hop: path.next_hop()?, sg_set: path.sg_set };
        Some((entry, Choice::Path(path)))
    }

    /// The static route to a prefix.
    pub(crate) fn static_path(&self, vrf: &str, prefix: IpNet) -> Option<&Path> {
        self.paths.get(*self.paths.statics.get(vrf)?.get(&prefix)?)
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

    /// Writes the entry that a prefix should have.
    pub(crate) fn update_fib(&mut self, vrf: VrfId, prefix: IpNet, tables: &mut Tables) {
        let Some(old) = tables.vrfs.get(vrf.index()).map(|table| exact(table, prefix)) else { return };
        let new = self.choose(vrf, prefix).map(|(entry, _)| entry);
        if new == old {
            return;
        }
        if let Some(table) = tables.vrfs.get_mut(vrf.index()) {
            write(table, prefix, new);
        }
        if let Some(entry) = new {
            self.use_in_fib(entry.next_hop, vrf);
        }
        if let Some(entry) = old {
            self.unuse_in_fib(entry.next_hop, vrf);
        }
        self.dirty.bumps.insert(vrf);
        self.dirty.underlay |= vrf == VrfId::UNDERLAY;
    }

    /// Notes that a path may have become, or ceased to be, its prefix's best.
    pub(crate) fn note_path(&mut self, id: PathId) {
        let Some(path) = self.paths.get(id) else { return };
        match path.origin {
            Origin::Vpn { targets, .. } => {
                let prefix = path.prefix;
                let vrfs = self.imports.importers(targets);
                self.dirty.prefixes.extend(vrfs.iter().map(|vrf| (*vrf, prefix)));
            }
            Origin::Static(name) => {
                let vrf = self.static_vrfs.get(name.0).and_then(|name| self.vrf_id(name.as_str()));
                self.dirty.prefixes.extend(vrf.map(|vrf| (vrf, path.prefix)));
            }
        }
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

fn write(vrf: &mut Vrf, prefix: IpNet, entry: Option<FibEntry>) {
    let length = prefix.prefix_len();
    match (prefix.addr(), entry) {
        (IpAddr::V4(address), Some(entry)) => vrf.fib4.insert(u32::from(address), length, entry),
        (IpAddr::V4(address), None) => vrf.fib4.remove(u32::from(address), length),
        (IpAddr::V6(address), Some(entry)) => vrf.fib6.insert(u128::from(address), length, entry),
        (IpAddr::V6(address), None) => vrf.fib6.remove(u128::from(address), length),
    };
}
