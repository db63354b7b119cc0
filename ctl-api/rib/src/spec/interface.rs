//! Interfaces, and the prefixes that they claim in their VRF.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tieline_engine::tables::interface::{AllowedSource, TunnelSources};
use tieline_engine::tables::port::VlanTags;
use tieline_engine::types::{MacAddr, SgId};
use tieline_proto::v1;

use crate::refusal::Refusal;
use crate::spec::{UNDERLAY, field};
use tieline_names::Name;

/// Largest VLAN ID (IEEE 802.1Q: 4095 is reserved).
const MAX_VLAN: u32 = 4094;
/// Most addresses in one of an interface's lists.
const MAX_ADDRESSES: usize = 1024;

/// A layer 3 attachment of a VRF to a port or to one VLAN of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Name.
    pub name: Name,
    /// Name of the port.
    pub port: Name,
    /// VLAN.
    pub tags: VlanTags,
    /// Name of the VRF.
    pub vrf: Name,
    /// Our own addresses, with their subnets.
    pub local_addresses: Vec<IpNet>,
    /// Our own MAC; `None`: the port's.
    pub local_mac: Option<MacAddr>,
    /// The workload's MAC; `None`: learned.
    pub workload_mac: Option<MacAddr>,
    /// The workload's addresses; none: a subnet's interface.
    pub workload_addresses: Vec<IpAddr>,
    /// Groups that filter it; sorted.
    pub security_groups: Vec<SgId>,
    /// Further sources, with the MAC they need.
    pub allowed_pairs: Vec<AllowedSource>,
    /// Whether sources are checked.
    pub anti_spoofing: bool,
    /// Largest IP packet in bytes; `None`: the port's.
    pub mtu: Option<u16>,
    /// Neighbours that are not learned: address and MAC, by address.
    pub static_neighbours: BTreeMap<IpAddr, MacAddr>,
    /// Who may send tunnel packets here beside the remotes of next hops.
    pub tunnel_sources: Vec<IpNet>,
}

/// Why an interface claims a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimKind {
    /// One of our own addresses.
    Local,
    /// A workload's own address.
    Workload,
    /// The subnet of an interface.
    Connected,
}

impl InterfaceSpec {
    /// From its message.
    pub fn parse(message: &v1::Interface) -> Result<Self, Refusal> {
        let workload_mac = field::mac("interface.workload_mac", &message.workload_mac)?;
        let groups = field::security_groups("interface.security_groups", &message.security_groups)?;
        let spec = Self {
            name: field::name("interface.name", &message.name)?,
            port: field::name("interface.port", &message.port)?,
            tags: tags(message)?,
            vrf: field::name("interface.vrf", &message.vrf)?,
            local_addresses: local_addresses(&message.local_addresses)?,
            local_mac: field::mac("interface.local_mac", &message.local_mac)?,
            workload_mac,
            workload_addresses: workload_addresses(message)?,
            security_groups: groups,
            allowed_pairs: allowed_pairs(&message.allowed_address_pairs, workload_mac)?,
            anti_spoofing: !message.anti_spoofing_disabled,
            mtu: field::mtu("interface.mtu", message.mtu)?,
            static_neighbours: static_neighbours(message)?,
            tunnel_sources: tunnel_sources(&message.tunnel_sources)?,
        };
        spec.check_workload()?;
        Ok(spec)
    }

    fn check_workload(&self) -> Result<(), Refusal> {
        if self.workload_mac.is_some() && self.workload_addresses.is_empty() {
            let sentence = "a workload's MAC needs the workload's addresses: set workload_addresses too";
            return Err(Refusal::invalid("interface.workload_mac", sentence));
        }
        if !self.is_underlay() {
            if self.tunnel_sources.is_empty() {
                return Ok(());
            }
            let sentence = "tunnels come in on interfaces of the underlay alone: leave this empty";
            return Err(Refusal::invalid("interface.tunnel_sources", sentence));
        }
        let field = if !self.workload_addresses.is_empty() {
            "interface.workload_addresses"
        } else if !self.security_groups.is_empty() {
            "interface.security_groups"
        } else if !self.allowed_pairs.is_empty() {
            "interface.allowed_address_pairs"
        } else {
            return Ok(());
        };
        Err(Refusal::invalid(field, "an interface of the underlay has no workload: leave this empty"))
    }

    /// Whether it faces the fabric.
    pub fn is_underlay(&self) -> bool {
        self.vrf.as_str() == UNDERLAY
    }

    /// Whether it is one workload's interface rather than a subnet's.
    pub fn has_workload(&self) -> bool {
        !self.workload_addresses.is_empty()
    }

    /// The MAC of a neighbour, if it is declared.
    pub fn declared_mac(&self, address: IpAddr) -> Option<MacAddr> {
        match self.static_neighbours.get(&address) {
            Some(mac) => Some(*mac),
            None => self.workload_mac.filter(|_| self.workload_addresses.contains(&address)),
        }
    }

    /// The prefixes that it puts into its VRF, each once.
    pub fn claims(&self) -> Vec<(IpNet, ClaimKind)> {
        let mut claims: Vec<(IpNet, ClaimKind)> = Vec::new();
        let mut add = |prefix: IpNet, kind| {
            if claims.iter().all(|(present, _)| *present != prefix) {
                claims.push((prefix, kind));
            }
        };
        for local in &self.local_addresses {
            add(IpNet::from(local.addr()), ClaimKind::Local);
        }
        for address in &self.workload_addresses {
            add(IpNet::from(*address), ClaimKind::Workload);
        }
        if !self.has_workload() {
            for local in &self.local_addresses {
                add(local.trunc(), ClaimKind::Connected);
            }
        }
        claims
    }

    /// Sources that the workload may use; `None`: any.
    pub fn sources(&self) -> Option<Arc<[AllowedSource]>> {
        if self.is_underlay() || !self.anti_spoofing {
            return None;
        }
        let own = |address: &IpAddr| AllowedSource { mac: self.workload_mac, prefix: IpNet::from(*address) };
        let mut sources: Vec<AllowedSource> = self.workload_addresses.iter().map(own).collect();
        if !self.has_workload() {
            let subnet = |local: &IpNet| AllowedSource { mac: None, prefix: local.trunc() };
            sources.extend(self.local_addresses.iter().map(subnet));
        }
        sources.extend(self.allowed_pairs.iter().copied());
        Some(sources.into())
    }

    /// Who may send tunnel packets here.
    pub fn tunnel_sources(&self) -> TunnelSources {
        if self.anti_spoofing {
            TunnelSources::Known(self.tunnel_sources.as_slice().into())
        } else {
            TunnelSources::Any
        }
    }
}

fn tags(message: &v1::Interface) -> Result<VlanTags, Refusal> {
    let id = |field: &str, value: u32| match u16::try_from(value) {
        Ok(id) if value <= MAX_VLAN => Ok(id),
        _ => Err(Refusal::invalid(field, format!("{value} is not a VLAN ID: use 1 to 4094, or 0 for none"))),
    };
    let outer = id("interface.vlan", message.vlan)?;
    let inner = id("interface.inner_vlan", message.inner_vlan)?;
    if inner != 0 && outer == 0 {
        return Err(Refusal::invalid(
            "interface.inner_vlan",
            "an inner VLAN needs an outer one: set vlan too",
        ));
    }
    Ok(VlanTags { outer, inner })
}

fn check_count(field: &str, count: usize) -> Result<(), Refusal> {
    if count <= MAX_ADDRESSES {
        return Ok(());
    }
    Err(Refusal::invalid(field, format!("{count} entries are too many: at most {MAX_ADDRESSES}")))
}

fn local_addresses(texts: &[String]) -> Result<Vec<IpNet>, Refusal> {
    check_count("interface.local_addresses", texts.len())?;
    let mut addresses: Vec<IpNet> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let field = format!("interface.local_addresses[{at}]");
        let net = field::interface_address(&field, text)?;
        if addresses.iter().any(|present| present.addr() == net.addr()) {
            return Err(Refusal::invalid(field, format!("{} stands twice", net.addr())));
        }
        addresses.push(net);
    }
    Ok(addresses)
}

fn workload_addresses(message: &v1::Interface) -> Result<Vec<IpAddr>, Refusal> {
    check_count("interface.workload_addresses", message.workload_addresses.len())?;
    let local = local_addresses(&message.local_addresses)?;
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(message.workload_addresses.len());
    for (at, text) in message.workload_addresses.iter().enumerate() {
        let field = format!("interface.workload_addresses[{at}]");
        let address = field::host_address(&field, text)?;
        if addresses.contains(&address) {
            return Err(Refusal::invalid(field, format!("{address} stands twice")));
        }
        if local.iter().any(|own| own.addr() == address) {
            let sentence = format!("{address} is the gateway's own address: the workload needs another");
            return Err(Refusal::invalid(field, sentence));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn allowed_pairs(
    pairs: &[v1::AddressPair],
    workload_mac: Option<MacAddr>,
) -> Result<Vec<AllowedSource>, Refusal> {
    check_count("interface.allowed_address_pairs", pairs.len())?;
    let pair = |(at, pair): (usize, &v1::AddressPair)| {
        let mac = field::mac(&format!("interface.allowed_address_pairs[{at}].mac"), &pair.mac)?;
        let prefix = field::prefix(&format!("interface.allowed_address_pairs[{at}].prefix"), &pair.prefix)?;
        Ok(AllowedSource { mac: mac.or(workload_mac), prefix })
    };
    pairs.iter().enumerate().map(pair).collect()
}

fn tunnel_sources(texts: &[String]) -> Result<Vec<IpNet>, Refusal> {
    const FIELD: &str = "interface.tunnel_sources";
    check_count(FIELD, texts.len())?;
    texts.iter().enumerate().map(|(at, text)| field::prefix(&format!("{FIELD}[{at}]"), text)).collect()
}

fn static_neighbours(message: &v1::Interface) -> Result<BTreeMap<IpAddr, MacAddr>, Refusal> {
    const FIELD: &str = "interface.static_neighbours";
    check_count(FIELD, message.static_neighbours.len())?;
    let local = local_addresses(&message.local_addresses)?;
    let workload = workload_addresses(message)?;
    let mut neighbours = BTreeMap::new();
    for (at, neighbour) in message.static_neighbours.iter().enumerate() {
        let field = format!("{FIELD}[{at}].address");
        let address = field::host_address(&field, &neighbour.address)?;
        if local.iter().any(|own| own.addr() == address) {
            let sentence = format!("{address} is the gateway's own address: a neighbour has another");
            return Err(Refusal::invalid(field, sentence));
        }
        if workload.contains(&address) {
            let sentence = format!("{address} is the workload's own address: set workload_mac instead");
            return Err(Refusal::invalid(field, sentence));
        }
        let mac_field = format!("{FIELD}[{at}].mac");
        let Some(mac) = field::mac(&mac_field, &neighbour.mac)? else {
            let sentence = format!("{address} has no MAC: set it, or leave the neighbour to ARP and ND");
            return Err(Refusal::invalid(mac_field, sentence));
        };
        if neighbours.insert(address, mac).is_some() {
            return Err(Refusal::invalid(field, format!("{address} stands twice")));
        }
    }
    Ok(neighbours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> v1::Interface {
        v1::Interface {
            name: "w".into(),
            port: "p".into(),
            vrf: "blue".into(),
            local_addresses: vec!["10.1.0.1/24".into()],
            workload_mac: "02:00:00:00:00:09".into(),
            workload_addresses: vec!["10.1.0.5".into()],
            allowed_address_pairs: vec![v1::AddressPair { mac: String::new(), prefix: "10.9.0.0/16".into() }],
            ..Default::default()
        }
    }

    #[test]
    fn a_workload_claims_its_addresses_and_may_use_them_with_its_mac() {
        let spec = InterfaceSpec::parse(&workload()).expect("valid");
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let expected =
            vec![(net("10.1.0.1/32"), ClaimKind::Local), (net("10.1.0.5/32"), ClaimKind::Workload)];
        assert_eq!(spec.claims(), expected);
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        let sources = spec.sources().expect("checked");
        let expected = [
            AllowedSource { mac, prefix: net("10.1.0.5/32") },
            AllowedSource { mac, prefix: net("10.9.0.0/16") },
        ];
        assert_eq!(sources[..], expected);
    }

    #[test]
    fn a_subnet_claims_its_prefix_and_takes_any_mac() {
        let message = v1::Interface {
            workload_mac: String::new(),
            workload_addresses: vec![],
            allowed_address_pairs: vec![],
            ..workload()
        };
        let spec = InterfaceSpec::parse(&message).expect("valid");
        assert_eq!(spec.claims()[1], ("10.1.0.0/24".parse().expect("a prefix"), ClaimKind::Connected));
        let sources = spec.sources().expect("checked");
        assert_eq!(
            sources[..],
            [AllowedSource { mac: None, prefix: "10.1.0.0/24".parse().expect("a prefix") }]
        );
    }

    #[test]
    fn errors_name_the_field() {
        let refused = |change: &dyn Fn(&mut v1::Interface)| {
            let mut message = workload();
            change(&mut message);
            InterfaceSpec::parse(&message).expect_err("refused").field
        };
        assert_eq!(
            refused(&|m| m.local_addresses.push("10.1.0.1/16".into())),
            "interface.local_addresses[1]"
        );
        assert_eq!(refused(&|m| m.inner_vlan = 7), "interface.inner_vlan");
        assert_eq!(refused(&|m| m.vlan = 4095), "interface.vlan");
        assert_eq!(refused(&|m| m.workload_addresses.clear()), "interface.workload_mac");
        assert_eq!(
            refused(&|m| m.workload_addresses.push("10.1.0.1".into())),
            "interface.workload_addresses[1]"
        );
        assert_eq!(refused(&|m| m.vrf = "underlay".into()), "interface.workload_addresses");
        assert_eq!(refused(&|m| m.tunnel_sources.push("198.18.0.0/16".into())), "interface.tunnel_sources");
        let fabric = |m: &mut v1::Interface| {
            *m = v1::Interface {
                name: "f".into(),
                port: "p".into(),
                vrf: "underlay".into(),
                ..Default::default()
            };
        };
        let sources = |texts: &'static [&'static str]| {
            move |m: &mut v1::Interface| {
                fabric(m);
                m.tunnel_sources = texts.iter().map(|text| (*text).to_owned()).collect();
            }
        };
        assert_eq!(refused(&sources(&["198.18.0.0/16", "198.18.0.1/16"])), "interface.tunnel_sources[1]");
        let many = |m: &mut v1::Interface| {
            fabric(m);
            m.tunnel_sources = vec!["198.18.0.0/16".into(); MAX_ADDRESSES + 1];
        };
        assert_eq!(refused(&many), "interface.tunnel_sources");
        assert_eq!(
            refused(&|m| m.allowed_address_pairs[0].prefix = "x".into()),
            "interface.allowed_address_pairs[0].prefix"
        );
    }

    fn neighbour(address: &str, mac: &str) -> v1::StaticNeighbour {
        v1::StaticNeighbour { address: address.into(), mac: mac.into() }
    }

    #[test]
    fn a_static_neighbour_is_a_declared_mac_beside_the_workloads() {
        let message = v1::Interface {
            static_neighbours: vec![neighbour("10.1.0.9", "02:00:00:00:00:19")],
            ..workload()
        };
        let spec = InterfaceSpec::parse(&message).expect("valid");
        let mac = |last: u8| spec.declared_mac(IpAddr::from([10, 1, 0, last]));
        assert_eq!(mac(9), Some(MacAddr([2, 0, 0, 0, 0, 0x19])));
        assert_eq!(mac(5), Some(MacAddr([2, 0, 0, 0, 0, 9])));
        assert_eq!(mac(6), None);
        assert!(spec.claims().iter().all(|(prefix, _)| prefix.addr() != IpAddr::from([10, 1, 0, 9])));
    }

    #[test]
    fn static_neighbours_that_cannot_be_are_refused_by_field() {
        let refused = |neighbours: &[(&str, &str)]| {
            let neighbours = neighbours.iter().map(|(address, mac)| neighbour(address, mac));
            let message = v1::Interface { static_neighbours: neighbours.collect(), ..workload() };
            let refusal = InterfaceSpec::parse(&message).expect_err("refused");
            refusal.field.strip_prefix("interface.static_neighbours").expect("its field").to_owned()
        };
        let mac = "02:00:00:00:00:19";
        assert_eq!(refused(&[("10.1.0.9", "")]), "[0].mac");
        assert_eq!(refused(&[("10.1.0.9", "ff:ff:ff:ff:ff:ff")]), "[0].mac");
        assert_eq!(refused(&[("10.1.0.9", mac), ("nowhere", mac)]), "[1].address");
        assert_eq!(refused(&[("224.0.0.1", mac)]), "[0].address");
        assert_eq!(refused(&[("10.1.0.1", mac)]), "[0].address", "the gateway's own");
        assert_eq!(refused(&[("10.1.0.5", mac)]), "[0].address", "the workload's own");
        assert_eq!(refused(&[("10.1.0.9", mac), ("10.1.0.9", mac)]), "[1].address");
        assert_eq!(refused(&[("10.1.0.9", mac); MAX_ADDRESSES + 1]), "");
    }
}
