//! What the gateways of one cluster should hold, as far as gateways can.

use std::collections::BTreeMap;

use tieline_bgp::wire::RouteDistinguisher;

use crate::desired::{DesiredGateway, NotAllocated, desired};
use crate::exchange::Facts;
use crate::intent::ObjectKey;
use crate::intent::kinds::NetworkPolicy;
use crate::intent::kinds::cluster::Gateway;
use crate::intent::names::Name;
use crate::routes::distribution::{LocalVrf, Member};
use crate::store::state::State;

/// What the gateways should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By gateway: as the intent has it, and what it should hold.
    pub gateways: BTreeMap<String, (Gateway, DesiredGateway)>,
    /// Policies that are not in force: gateways have none between networks yet.
    pub left_out: Vec<ObjectKey>,
    /// What decides about paths of peers, by the same intent.
    pub facts: Facts,
}

impl Plan {
    /// For a cluster; none where the intent does not have it.
    ///
    /// # Errors
    /// A number is not allocated yet.
    pub fn of(state: &State, cluster: &Name) -> Result<Option<Self>, NotAllocated> {
        let Some(gateways) = state.intent.cluster(cluster).map(|cluster| cluster.gateways.clone()) else {
            return Ok(None);
        };
        // The engine has no policies between networks yet: what only a policy
        // would bring is left out, or everything would pass.
        let mut intent = state.intent.clone();
        let left_out: Vec<ObjectKey> = intent.all::<NetworkPolicy>().map(|(key, _)| key.clone()).collect();
        for key in &left_out {
            intent.remove(key);
        }
        let Some(facts) = Facts::of(&intent, &state.allocations, cluster) else { return Ok(None) };
        let mut all = desired(&intent, &state.allocations)?;
        let gateways = gateways.into_iter().filter_map(|gateway| {
            let desired = all.remove(&gateway.name)?;
            Some((gateway.name.to_string(), (gateway, desired)))
        });
        Ok(Some(Self { gateways: gateways.collect(), left_out, facts }))
    }

    /// Numbers of the networks of VRFs, by gateway and VRF.
    pub fn networks(&self) -> BTreeMap<(String, String), u32> {
        let vrfs = self.gateways.iter().flat_map(|(name, (_, desired))| {
            desired.vrfs.iter().map(move |(vrf, of)| ((name.clone(), vrf.clone()), of.network_number))
        });
        vrfs.collect()
    }
}

/// What a gateway imports, and where it is.
pub fn member(gateway: &Gateway, desired: &DesiredGateway) -> Member {
    let vrfs = desired.vrfs.iter().map(|(name, vrf)| {
        let imports = vrf.imports.iter().copied().collect();
        (vrf.rd, LocalVrf { name: name.clone(), imports })
    });
    let vrfs: BTreeMap<RouteDistinguisher, LocalVrf> = vrfs.collect();
    Member {
        imports: vrfs.values().flat_map(|vrf| vrf.imports.iter().copied()).collect(),
        endpoints: gateway.tunnel_addresses.iter().copied().collect(),
        vrfs,
    }
}
