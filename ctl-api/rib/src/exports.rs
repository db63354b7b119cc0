//! What VRFs originate, with all that its advertisement needs: the subnets of
//! their interfaces, workloads' own addresses, static routes. Only what is in
//! force, and only of VRFs that have a route distinguisher and export route
//! targets.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use tieline_proto::v1;
use tieline_proto::v1::ExportOrigin;

use crate::rib::Rib;
use crate::spec::UNDERLAY;
use crate::spec::interface::ClaimKind;
use crate::store::Vrf;
use tieline_names::Name;

impl Rib {
    /// Another whenever exports may be others.
    pub fn exports_generation(&self) -> u64 {
        self.exports_generation
    }

    /// What these VRFs originate, or all if none is named, in the order of VRFs
    /// and prefixes.
    pub fn exports(&self, names: &BTreeSet<String>) -> Vec<v1::Export> {
        let endpoints = self.endpoints();
        let mut all = Vec::new();
        for (name, vrf) in &self.store.vrfs {
            let is_wanted = names.is_empty() || names.contains(name.as_str());
            if is_wanted && vrf.spec.rd.is_some() && !vrf.spec.export.is_empty() {
                self.exports_of(name, vrf, &endpoints, &mut all);
            }
        }
        all
    }

    fn exports_of(&self, name: &Name, vrf: &Vrf, endpoints: &[String], all: &mut Vec<v1::Export>) {
        let mut originated: BTreeMap<IpNet, (ExportOrigin, Vec<u32>)> = BTreeMap::new();
        for (prefix, path) in self.static_keys.get(name).into_iter().flatten() {
            let Some(shared) = self.paths.get(*path).and_then(|path| self.attributes.get(path.attributes))
            else {
                continue;
            };
            let usable = shared.next_hop.and_then(|id| self.next_hops.resolution(id));
            if usable.is_some_and(|resolution| resolution.is_usable()) {
                let groups = self.sg_set(shared.attributes.sg_set).iter().map(|id| id.0).collect();
                originated.insert(*prefix, (ExportOrigin::Static, groups));
            }
        }
        for (prefix, claims) in self.store.claims_of(name.as_str()).into_iter().flatten() {
            for claim in claims {
                let Some(interface) = self.store.interfaces.get(&claim.interface) else { continue };
                let origin = match claim.kind {
                    ClaimKind::Connected => ExportOrigin::Connected,
                    ClaimKind::Workload => ExportOrigin::Workload,
                    // The subnet leads here already.
                    ClaimKind::Local => continue,
                };
                if interface.compiled.is_none() {
                    continue;
                }
                let groups = self.sg_set(interface.sg_set).iter().map(|id| id.0).collect();
                originated.insert(*prefix, (origin, groups));
                break;
            }
        }
        let label = vrf.spec.label.or_else(|| self.labels.of(name.as_str()));
        let router_mac = vrf.spec.router_mac.unwrap_or(self.options.router_mac);
        let route_targets: Vec<String> = vrf.spec.export.iter().map(ToString::to_string).collect();
        let rd = vrf.spec.rd.map(|rd| rd.to_string()).unwrap_or_default();
        all.extend(originated.into_iter().map(|(prefix, (origin, security_groups))| v1::Export {
            vrf: name.to_string(),
            prefix: prefix.to_string(),
            origin: origin.into(),
            rd: rd.clone(),
            route_targets: route_targets.clone(),
            label: label.map_or(0, |label| label.value()),
            vni: vrf.spec.vni.map_or(0, |vni| vni.value()),
            router_mac: router_mac.to_string(),
            security_groups,
            endpoints: endpoints.to_vec(),
        }));
    }

    /// Addresses at which tunnels end.
    fn endpoints(&self) -> Vec<String> {
        let of_underlay = self
            .store
            .interfaces
            .values()
            .filter(|interface| interface.spec.vrf.as_str() == UNDERLAY && interface.compiled.is_some());
        let addresses =
            of_underlay.flat_map(|interface| interface.spec.local_addresses.iter().map(IpNet::addr));
        let all: BTreeSet<std::net::IpAddr> = addresses.collect();
        all.iter().map(ToString::to_string).collect()
    }
}
