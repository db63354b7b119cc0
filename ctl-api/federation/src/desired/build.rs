//! From intent and allocations to what gateways should hold.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    BridgeDomain, DesiredGateway, GroupRule, Interface, NotAllocated, Policy, PolicyEnd, PolicyRule, Remote,
    SecurityGroup, Vrf,
};
use crate::allocation::Allocations;
use crate::intent::addresses::InterfaceAddress;
use crate::intent::kinds::cluster::Gateway;
use crate::intent::kinds::security_group::Rule;
use crate::intent::kinds::{self, Cluster, Endpoint, Kind, NetworkPolicy, VirtualNetwork};
use crate::intent::names::Name;
use crate::intent::topology::{self, Reach, Target, Topology};
use crate::intent::{Intent, ObjectKey};
use crate::numbers::{Asn, RouteTarget};

/// What each gateway of each cluster should hold, by the gateway's name.
///
/// The intent keeps the rules; what refers to nothing is passed over.
///
/// # Errors
/// A number is not allocated: allocate for this very intent first.
pub fn desired(
    intent: &Intent,
    allocations: &Allocations,
) -> Result<BTreeMap<Name, DesiredGateway>, NotAllocated> {
    let topology = Topology::of(intent);
    let mut endpoints: BTreeMap<&Name, Vec<(&ObjectKey, &Endpoint)>> = BTreeMap::new();
    for (key, endpoint) in intent.all::<Endpoint>() {
        endpoints.entry(&endpoint.gateway).or_default().push((key, endpoint));
    }
    let mut gateways = BTreeMap::new();
    for (key, cluster) in intent.all::<Cluster>() {
        for gateway in &cluster.gateways {
            let building = Building::new(intent, allocations, &topology, cluster.asn, gateway);
            let hosted = endpoints.get(&gateway.name).map_or(&[][..], Vec::as_slice);
            gateways.insert(gateway.name.clone(), building.build(&key.name, hosted)?);
        }
    }
    Ok(gateways)
}

/// One gateway that is being put together.
struct Building<'a> {
    intent: &'a Intent,
    allocations: &'a Allocations,
    topology: &'a Topology,
    asn: Asn,
    gateway: &'a Name,
    /// Of the site at which it is.
    site_target: Option<RouteTarget>,
}

impl<'a> Building<'a> {
    fn new(
        intent: &'a Intent,
        allocations: &'a Allocations,
        topology: &'a Topology,
        asn: Asn,
        gateway: &'a Gateway,
    ) -> Self {
        let site = topology::site_of(intent, &gateway.name);
        let site_target = site.and_then(|site| allocations.site_route_target(asn, site));
        Self { intent, allocations, topology, asn, gateway: &gateway.name, site_target }
    }

    fn build(
        &self,
        cluster: &Name,
        hosted: &[(&ObjectKey, &Endpoint)],
    ) -> Result<DesiredGateway, NotAllocated> {
        let mut gateway = DesiredGateway {
            cluster: cluster.clone(),
            asn: self.asn,
            vrfs: BTreeMap::new(),
            bridge_domains: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            security_groups: BTreeMap::new(),
            policies: BTreeMap::new(),
        };
        for (key, endpoint) in hosted {
            let network = key.resolve(Kind::VirtualNetwork, &endpoint.network);
            let Some(spec) = self.intent.spec::<VirtualNetwork>(&network) else { continue };
            let name = network.gateway_name();
            if !gateway.vrfs.contains_key(&name) {
                gateway.vrfs.insert(name.clone(), self.vrf(&network, spec)?);
                if let Some(domain) = self.bridge_domain(&network, spec)? {
                    gateway.bridge_domains.insert(name, domain);
                }
            }
            let mut interface = self.interface(&network, spec, endpoint);
            for reference in &endpoint.security_groups {
                let group = key.resolve(Kind::SecurityGroup, reference);
                let Some(spec) = self.intent.spec::<kinds::SecurityGroup>(&group) else { continue };
                let id = self.group_id(&group, spec)?;
                interface.security_groups.insert(id);
                if let Entry::Vacant(vacant) = gateway.security_groups.entry(id) {
                    vacant.insert(self.security_group(&group, spec)?);
                }
            }
            gateway.interfaces.insert(key.gateway_name(), interface);
        }
        gateway.policies = self.policies(&gateway)?;
        Ok(gateway)
    }

    fn route_targets(
        &self,
        of: &ObjectKey,
        targets: &BTreeSet<Target>,
    ) -> Result<BTreeSet<RouteTarget>, NotAllocated> {
        let missing = || NotAllocated { object: of.clone(), what: "route target" };
        targets.iter().map(|target| self.route_target(target).ok_or_else(missing)).collect()
    }

    /// In numbers: of this cluster's AS. A target of another cluster's object
    /// comes with that cluster's AS number.
    fn route_target(&self, target: &Target) -> Option<RouteTarget> {
        let owner = match target {
            Target::User(target) => return Some(*target),
            Target::Network(key) => &self.intent.spec::<VirtualNetwork>(key)?.cluster,
            Target::Router(key, _) => &self.intent.spec::<kinds::VirtualNetworkRouter>(key)?.cluster,
        };
        self.allocations.route_target(self.intent.cluster(owner)?.asn, target)
    }

    /// Imports and exports of a network here, in numbers.
    fn reach(
        &self,
        network: &ObjectKey,
        reach: &Reach,
    ) -> Result<(BTreeSet<RouteTarget>, BTreeSet<RouteTarget>), NotAllocated> {
        let imports = self.route_targets(network, &reach.imports)?;
        let mut exports = self.route_targets(network, &reach.exports)?;
        exports.extend(self.site_target);
        Ok((imports, exports))
    }

    fn vni(&self, network: &ObjectKey) -> Result<u32, NotAllocated> {
        let missing = || NotAllocated { object: network.clone(), what: "VNI" };
        self.allocations.vni(self.asn, network).ok_or_else(missing)
    }

    fn vrf(&self, network: &ObjectKey, spec: &VirtualNetwork) -> Result<Vrf, NotAllocated> {
        let missing = |what| NotAllocated { object: network.clone(), what };
        let place = self.topology.networks.get(network).ok_or_else(|| missing("place in the topology"))?;
        let (imports, exports) = self.reach(network, &place.routed)?;
        let rd = self.allocations.distinguisher(self.asn, network, self.gateway.as_str());
        let own = self.allocations.route_target(self.asn, &Target::Network(network.clone()));
        Ok(Vrf {
            network: network.clone(),
            rd: rd.ok_or_else(|| missing("route distinguisher"))?,
            imports,
            exports,
            vni: self.vni(network)?,
            network_number: own.ok_or_else(|| missing("route target"))?.number(),
            subnets: spec.subnets.iter().map(|subnet| subnet.prefix).collect(),
        })
    }

    fn bridge_domain(
        &self,
        network: &ObjectKey,
        spec: &VirtualNetwork,
    ) -> Result<Option<BridgeDomain>, NotAllocated> {
        let reach = self.topology.networks.get(network).and_then(|place| place.bridged.as_ref());
        let Some(reach) = reach else { return Ok(None) };
        let (imports, exports) = self.reach(network, reach)?;
        let rd = self.allocations.layer2_distinguisher(self.asn, network, self.gateway.as_str());
        Ok(Some(BridgeDomain {
            network: network.clone(),
            rd: rd.ok_or_else(|| NotAllocated { object: network.clone(), what: "route distinguisher" })?,
            imports,
            exports,
            vni: self.vni(network)?,
            flooding: spec.l2.is_some_and(|l2| l2.flooding),
        }))
    }

    fn interface(&self, network: &ObjectKey, spec: &VirtualNetwork, endpoint: &Endpoint) -> Interface {
        let bridged = self.topology.networks.get(network).is_some_and(|place| place.bridged.is_some());
        let local_addresses = spec
            .subnets
            .iter()
            .filter(|subnet| endpoint.addresses.iter().any(|address| subnet.prefix.net().contains(address)))
            // A subnet of one address has no room for a gateway of its own.
            .filter(|subnet| !endpoint.addresses.contains(&subnet.gateway()))
            .map(|subnet| InterfaceAddress::new(subnet.gateway(), subnet.prefix))
            .collect();
        Interface {
            port: endpoint.interface.port.clone(),
            vlan: endpoint.interface.vlan,
            inner_vlan: endpoint.interface.inner_vlan,
            vrf: network.gateway_name(),
            bridge_domain: bridged.then(|| network.gateway_name()),
            local_addresses,
            workload_mac: endpoint.mac,
            workload_addresses: endpoint.addresses.iter().copied().collect(),
            security_groups: BTreeSet::new(),
            allowed_sources: endpoint
                .allowed_sources
                .iter()
                .map(|source| (source.prefix, source.mac))
                .collect(),
            mtu: endpoint.mtu,
        }
    }

    fn group_id(&self, group: &ObjectKey, spec: &kinds::SecurityGroup) -> Result<u32, NotAllocated> {
        let allocated = || {
            let asn = self.intent.cluster(&spec.cluster)?.asn;
            self.allocations.security_group(asn, group)
        };
        spec.id
            .or_else(allocated)
            .ok_or_else(|| NotAllocated { object: group.clone(), what: "security group ID" })
    }

    fn security_group(
        &self,
        group: &ObjectKey,
        spec: &kinds::SecurityGroup,
    ) -> Result<SecurityGroup, NotAllocated> {
        let rules =
            |rules: &[Rule]| rules.iter().map(|rule| self.group_rule(group, rule)).collect::<Result<_, _>>();
        Ok(SecurityGroup {
            group: group.clone(),
            ingress: rules(&spec.ingress)?,
            egress: rules(&spec.egress)?,
        })
    }

    fn group_rule(&self, group: &ObjectKey, rule: &Rule) -> Result<GroupRule, NotAllocated> {
        let remote = match &rule.remote {
            None => Remote::Any,
            Some(remote) => match (remote.prefix, &remote.group, remote.id) {
                (Some(prefix), ..) => Remote::Prefix(prefix),
                (_, Some(reference), _) => {
                    let other = group.resolve(Kind::SecurityGroup, reference);
                    let missing = || NotAllocated { object: other.clone(), what: "security group ID" };
                    let spec = self.intent.spec::<kinds::SecurityGroup>(&other).ok_or_else(missing)?;
                    Remote::Group(self.group_id(&other, spec)?)
                }
                (.., Some(id)) => Remote::Group(id),
                (None, None, None) => Remote::Any,
            },
        };
        Ok(GroupRule {
            family: rule.family,
            protocol: rule.protocol,
            ports: rule.ports,
            icmp_type: rule.icmp_type,
            icmp_code: rule.icmp_code,
            remote,
        })
    }

    /// Policies that name a network which the gateway has.
    fn policies(&self, gateway: &DesiredGateway) -> Result<BTreeMap<String, Policy>, NotAllocated> {
        let mut policies = BTreeMap::new();
        for (key, policy) in self.intent.all::<NetworkPolicy>() {
            let end = |reference| key.resolve(Kind::VirtualNetwork, reference);
            let here = |reference| gateway.vrfs.contains_key(&end(reference).gateway_name());
            if !policy.rules.iter().any(|rule| here(&rule.from) || here(&rule.to)) {
                continue;
            }
            let mut rules = Vec::new();
            for rule in &policy.rules {
                rules.push(PolicyRule {
                    from: self.policy_end(&end(&rule.from))?,
                    to: self.policy_end(&end(&rule.to))?,
                    action: rule.action,
                    family: rule.family,
                    protocol: rule.protocol,
                    ports: rule.ports,
                });
            }
            policies.insert(key.gateway_name(), Policy { rules });
        }
        Ok(policies)
    }

    fn policy_end(&self, network: &ObjectKey) -> Result<PolicyEnd, NotAllocated> {
        let targets = self.topology.networks.get(network).map(|place| place.known_as());
        let route_targets = self.route_targets(network, &targets.unwrap_or_default())?;
        Ok(PolicyEnd { network: network.gateway_name(), route_targets })
    }
}
