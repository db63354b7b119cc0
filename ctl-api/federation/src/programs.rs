//! What a gateway should hold, in the words of its API.
//!
//! Ports are the operator's own: a controller names them and does not declare
//! them.

use std::collections::BTreeMap;

use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use crate::desired::{DesiredGateway, GroupRule, Interface, Remote, SecurityGroup, Vrf};
use crate::intent::traffic::Family;

/// A gateway's objects, in the order in which they are declared: what others
/// refer to comes first. The texts are for telling them apart.
pub fn objects(gateway: &DesiredGateway) -> BTreeMap<(u8, String), Kind> {
    let groups = gateway
        .security_groups
        .iter()
        .map(|(id, group)| ((0, format!("{id:010}")), Kind::SecurityGroup(security_group(*id, group))));
    let vrfs = gateway.vrfs.iter().map(|(name, of)| ((1, name.clone()), Kind::Vrf(vrf(name, of))));
    let interfaces =
        gateway.interfaces.iter().map(|(name, of)| ((2, name.clone()), Kind::Interface(interface(name, of))));
    groups.chain(vrfs).chain(interfaces).collect()
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

fn vrf(name: &str, vrf: &Vrf) -> v1::Vrf {
    v1::Vrf {
        name: name.to_owned(),
        rd: vrf.rd.to_string(),
        import_route_targets: texts(&vrf.imports),
        export_route_targets: texts(&vrf.exports),
        vni: vrf.vni,
        ..Default::default()
    }
}

fn interface(name: &str, interface: &Interface) -> v1::Interface {
    let pair = |(prefix, mac): &(_, Option<_>)| v1::AddressPair {
        prefix: ToString::to_string(prefix),
        mac: mac.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    v1::Interface {
        name: name.to_owned(),
        port: interface.port.as_str().to_owned(),
        vlan: interface.vlan.unwrap_or_default().into(),
        inner_vlan: interface.inner_vlan.unwrap_or_default().into(),
        vrf: interface.vrf.clone(),
        local_addresses: texts(&interface.local_addresses),
        workload_mac: interface.workload_mac.map(|mac| mac.to_string()).unwrap_or_default(),
        workload_addresses: texts(&interface.workload_addresses),
        security_groups: interface.security_groups.iter().copied().collect(),
        allowed_address_pairs: interface.allowed_sources.iter().map(pair).collect(),
        mtu: interface.mtu.unwrap_or_default().into(),
        ..Default::default()
    }
}

fn security_group(id: u32, group: &SecurityGroup) -> v1::SecurityGroup {
    let of = |direction: v1::Direction| move |one: &GroupRule| rule(direction, one);
    let rules = group.ingress.iter().map(of(v1::Direction::Ingress));
    let rules = rules.chain(group.egress.iter().map(of(v1::Direction::Egress))).collect();
    v1::SecurityGroup { id, name: group.group.to_string(), rules }
}

fn rule(direction: v1::Direction, rule: &GroupRule) -> v1::SecurityGroupRule {
    use v1::security_group_rule::Remote as To;
    let family = match rule.family {
        None => v1::AddressFamily::Unspecified,
        Some(Family::Ipv4) => v1::AddressFamily::Ipv4,
        Some(Family::Ipv6) => v1::AddressFamily::Ipv6,
    };
    v1::SecurityGroupRule {
        direction: direction.into(),
        family: family.into(),
        protocol: rule.protocol.map(|protocol| protocol.0.into()),
        ports: rule.ports.map(|ports| v1::PortRange { first: ports.first.into(), last: ports.last.into() }),
        icmp_type: rule.icmp_type.map(Into::into),
        icmp_code: rule.icmp_code.map(Into::into),
        remote: match &rule.remote {
            Remote::Any => None,
            Remote::Prefix(prefix) => Some(To::RemotePrefix(prefix.to_string())),
            Remote::Group(id) => Some(To::RemoteSecurityGroup(*id)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::{Allocations, Circumstances, allocate};
    use crate::desired::desired;
    use crate::intent::testing::{CLUSTERS, intent};

    const NETWORK: &str = "
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: red}
spec: {cluster: east, subnets: [{prefix: 10.1.0.0/24}, {prefix: '2001:db8:1::/64'}]}
---
apiVersion: tieline.io/v1
kind: SecurityGroup
metadata: {name: web}
spec:
  cluster: east
  ingress:
  - {protocol: tcp, ports: 80}
  - {remote: {group: web}}
---
apiVersion: tieline.io/v1
kind: Endpoint
metadata: {name: h1}
spec:
  network: red
  gateway: east-1
  interface: {port: h1, vlan: 7}
  mac: 02:00:00:00:00:09
  addresses: [10.1.0.9, '2001:db8:1::9']
  securityGroups: [web]
";

    #[test]
    fn what_others_refer_to_comes_first() {
        let intent = intent(&format!("{CLUSTERS}{NETWORK}"));
        let allocations =
            allocate(&Allocations::default(), &intent, &Circumstances::default()).expect("room");
        let all = desired(&intent, &allocations).expect("all is allocated");
        let gateway = &all[&"east-1".parse().expect("a name")];
        let objects: Vec<Kind> = objects(gateway).into_values().collect();
        let [Kind::SecurityGroup(group), Kind::Vrf(vrf), Kind::Interface(interface)] = &objects[..] else {
            panic!("{objects:#?}")
        };
        assert_eq!(interface.vrf, vrf.name);
        assert_eq!(interface.security_groups, [group.id]);
        assert_eq!((interface.port.as_str(), interface.vlan), ("h1", 7));
        assert_eq!(interface.workload_mac, "02:00:00:00:00:09");
        assert_eq!(interface.workload_addresses, ["10.1.0.9", "2001:db8:1::9"]);
        assert_eq!(vrf.import_route_targets, ["64512:8000000"]);
        let ports = Some(v1::PortRange { first: 80, last: 80 });
        let web = group.rules.iter().find(|rule| rule.ports == ports).expect("the rule of port 80");
        assert_eq!((web.direction(), web.protocol), (v1::Direction::Ingress, Some(6)));
        let own = Some(v1::security_group_rule::Remote::RemoteSecurityGroup(group.id));
        assert!(group.rules.iter().any(|rule| rule.remote == own));
    }
}
