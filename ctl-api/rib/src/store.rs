//! Declared objects that have names of their own, by key and in key order,
//! and the indexes that find conflicts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use tieline_engine::tables::port::VlanTags;
use tieline_engine::types::{InterfaceId, Label, NextHopId, PortId, SgId, SgSetId, Vni, VrfId};
use tieline_proto::v1;

use crate::ids::Numbered;
use crate::limits::Limits;
use crate::ports::{DeviceState, PortInfo};
use crate::spec::interface::{ClaimKind, InterfaceSpec};
use crate::spec::port::PortSpec;
use crate::spec::security_group::SecurityGroupSpec;
use crate::spec::vrf::VrfSpec;
use tieline_names::Name;

/// A declared port.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub id: PortId,
    pub spec: PortSpec,
    pub device: DeviceState,
    pub message: v1::Port,
}

impl Port {
    /// What its device is, while it is open.
    pub fn open(&self) -> Option<PortInfo> {
        match self.device {
            DeviceState::Open(info) => Some(info),
            DeviceState::Opening | DeviceState::Closed(_) => None,
        }
    }
}

/// A declared VRF.
#[derive(Debug, Clone)]
pub(crate) struct Vrf {
    pub id: VrfId,
    pub spec: VrfSpec,
    pub message: v1::Vrf,
}

/// A declared interface.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub id: InterfaceId,
    pub spec: Arc<InterfaceSpec>,
    pub sg_set: SgSetId,
    pub message: v1::Interface,
    /// What stands in the tables for it; `None` while it waits.
    pub compiled: Option<Compiled>,
}

/// What an interface has in the tables.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub port: PortId,
    pub vrf: VrfId,
    /// The next hop of each prefix that it claims.
    pub next_hops: Vec<(IpNet, NextHopId)>,
    /// The next hops that keep its static neighbours.
    pub static_neighbours: Vec<NextHopId>,
}

/// A declared security group.
#[derive(Debug, Clone)]
pub(crate) struct SecurityGroup {
    pub spec: SecurityGroupSpec,
    pub message: v1::SecurityGroup,
}

/// An interface's claim to a prefix of its VRF.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub interface: Name,
    pub kind: ClaimKind,
    /// Of one workload: its gateway address may be other workloads' too.
    pub of_workload: bool,
}

/// Claims by prefix, each in the order of the interfaces' names.
pub(crate) type Claims = HashMap<IpNet, Vec<Claim>, RandomState>;

/// What is declared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    pub ports: BTreeMap<Name, Port>,
    pub vrfs: BTreeMap<Name, Vrf>,
    pub interfaces: BTreeMap<Name, Interface>,
    pub security_groups: BTreeMap<SgId, SecurityGroup>,
    /// Rules of all security groups.
    pub rules: usize,
    pub port_names: Numbered<Name>,
    /// Another whenever a port is declared, declared otherwise or withdrawn.
    pub ports_version: u64,
    pub vrf_names: Numbered<Name>,
    pub interface_names: Numbered<Name>,
    /// Which interface has a VLAN of a port.
    pub vlans: BTreeMap<(Name, VlanTags), Name>,
    pub labels: BTreeMap<Label, Name>,
    pub vnis: BTreeMap<Vni, Name>,
    claims: HashMap<Name, Claims, RandomState>,
}

impl Store {
    /// Nothing but the underlay, whose number no VRF gets. The limits also say
    /// how far the numbers go, which index the workers' tables.
    pub fn new(limits: &Limits) -> Self {
        let count = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            vrf_names: Numbered::rotating(u32::from(VrfId::UNDERLAY.0) + 1, count(limits.vrfs)),
            interface_names: Numbered::rotating(0, count(limits.interfaces)),
            ..Self::default()
        }
    }

    /// The claims in a VRF.
    pub fn claims_of(&self, vrf: &str) -> Option<&Claims> {
        self.claims.get(vrf)
    }

    /// The claims to a prefix in a VRF.
    pub fn claims(&self, vrf: &str, prefix: IpNet) -> &[Claim] {
        self.claims_of(vrf).and_then(|claims| claims.get(&prefix)).map_or(&[], |claims| claims)
    }

    /// Enters all claims of an interface.
    pub fn add_claims(&mut self, spec: &InterfaceSpec) {
        let of_vrf = self.claims.entry(spec.vrf.clone()).or_default();
        for (prefix, kind) in spec.claims() {
            let claims = of_vrf.entry(prefix).or_default();
            claims.push(Claim { interface: spec.name.clone(), kind, of_workload: spec.has_workload() });
            claims.sort_unstable();
        }
    }

    /// Takes back all claims of an interface.
    pub fn remove_claims(&mut self, spec: &InterfaceSpec) {
        let Some(of_vrf) = self.claims.get_mut(&spec.vrf) else { return };
        for (prefix, _) in spec.claims() {
            if let Some(claims) = of_vrf.get_mut(&prefix) {
                claims.retain(|claim| claim.interface != spec.name);
                if claims.is_empty() {
                    of_vrf.remove(&prefix);
                }
            }
        }
        if of_vrf.is_empty() {
            self.claims.remove(&spec.vrf);
        }
    }

    /// The interface with this number.
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(self.interface_names.get(id.0)?)
    }
}
