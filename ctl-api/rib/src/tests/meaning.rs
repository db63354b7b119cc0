//! What tables say, in words: equal for two states that forward alike,
//! whatever their numbers and generations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tieline_engine::tables::Tables;
use tieline_engine::tables::next_hop::NextHop;
use tieline_engine::types::{InterfaceId, NeighbourId, NextHopId, PortId, SgSetId, VrfId};
use tieline_proto::v1;

use super::world::World;

/// Everything that forwarding and its readers can see.
pub fn of(world: &World) -> BTreeMap<String, String> {
    let words = Words { world, tables: &world.tables };
    let mut all = BTreeMap::new();
    words.ports(&mut all);
    words.interfaces(&mut all);
    words.vrfs(&mut all);
    words.neighbours(&mut all);
    words.rest(&mut all);
    objects(world, &mut all);
    all
}

/// What forwarding can see of it.
pub fn without_objects(all: BTreeMap<String, String>) -> BTreeMap<String, String> {
    all.into_iter().filter(|(key, _)| !key.starts_with(OBJECT)).collect()
}

/// How the keys of objects begin.
const OBJECT: &str = "object ";

/// All objects and their status, as the control API lists them.
fn objects(world: &World, all: &mut BTreeMap<String, String>) {
    for kind in 1..=8 {
        let kind = v1::ObjectKind::try_from(kind).expect("a kind");
        let request = v1::ListRequest { kind: kind.into(), ..Default::default() };
        let reply = world.rib.list(&request).expect("a list");
        for (at, item) in reply.items.iter().enumerate() {
            all.insert(format!("{OBJECT}{kind:?} {at}"), format!("{item:?}"));
        }
    }
}

struct Words<'a> {
    world: &'a World,
    tables: &'a Tables,
}

impl Words<'_> {
    fn port(&self, id: PortId) -> &str {
        self.world.rib.port_name(id).expect("a port's name")
    }

    fn interface(&self, id: InterfaceId) -> &str {
        self.world.rib.interface_name(id).expect("an interface's name")
    }

    fn vrf(&self, id: VrfId) -> &str {
        self.world.rib.vrf_name(id).expect("a VRF's name")
    }

    fn neighbour(&self, id: NeighbourId) -> String {
        let neighbour = self.tables.neighbours.get(id.index()).expect("a neighbour");
        format!("{} on {}", neighbour.address, self.interface(neighbour.interface))
    }

    fn groups(&self, id: SgSetId) -> String {
        format!("{:?}", self.tables.sg_sets.get(id.index()).expect("a set of groups"))
    }

    fn next_hop(&self, id: NextHopId) -> String {
        match self.tables.next_hops.get(id.index()).expect("a next hop") {
            NextHop::Discard => "discard".into(),
            NextHop::Unusable => "unusable".into(),
            NextHop::Local(id) => format!("local {}", self.interface(*id)),
            NextHop::Connected(id) => format!("connected {}", self.interface(*id)),
            NextHop::Neighbour(id) => format!("neighbour {}", self.neighbour(*id)),
            NextHop::Vrf(id) => format!("VRF {}", self.vrf(*id)),
            NextHop::Tunnel(tunnel) => format!(
                "tunnel {:?} {} {} {} {}",
                tunnel.header,
                self.neighbour(tunnel.neighbour),
                self.interface(tunnel.interface),
                tunnel.remote,
                tunnel.inner_mtu
            ),
            NextHop::Group(group) => {
                let slots: Vec<String> = group.slots().iter().map(|id| self.next_hop(*id)).collect();
                format!("group {slots:?}")
            }
        }
    }

    fn ports(&self, all: &mut BTreeMap<String, String>) {
        for (id, port) in self.tables.ports.iter() {
            let name = self.port(PortId(id as u16));
            let untagged = port.untagged.map(|id| self.interface(id));
            let tagged: Vec<_> = port.tagged.iter().map(|(tags, id)| (tags, self.interface(id))).collect();
            let text = format!("{:?} {} {} {untagged:?} {tagged:?}", port.role, port.mac, port.mtu);
            all.insert(format!("port {name}"), text);
        }
    }

    fn interfaces(&self, all: &mut BTreeMap<String, String>) {
        for (id, interface) in self.tables.interfaces.iter() {
            let name = self.interface(InterfaceId(id as u32));
            let policy = interface.policy.as_ref().map(|policy| {
                let number = format!("{:?}", policy.sg_set());
                format!("{policy:?}").replace(&number, &self.groups(policy.sg_set()))
            });
            let text = format!(
                "{} {:?} {} {} {} {:?} {:?} {:?} {policy:?}",
                self.port(interface.port),
                interface.tags,
                self.vrf(interface.vrf),
                interface.mac,
                interface.mtu,
                interface.local_addresses,
                interface.sources,
                interface.tunnel_sources,
            );
            all.insert(format!("interface {name}"), text);
        }
    }

    fn vrfs(&self, all: &mut BTreeMap<String, String>) {
        for (id, vrf) in self.tables.vrfs.iter() {
            let name = self.vrf(VrfId(id as u16));
            let own: BTreeSet<IpAddr> = vrf.own_addresses.iter().collect();
            let text = format!(
                "{} {:?} {} {} {own:?}",
                vrf.stateful, vrf.sessions, vrf.router_mac, vrf.strict_sources
            );
            all.insert(format!("vrf {name}"), text);
            for (prefix, length, entry) in vrf.fib4.iter() {
                let prefix = IpAddr::from(prefix.to_be_bytes());
                let text = format!("{} {}", self.next_hop(entry.next_hop), self.groups(entry.sg_set));
                all.insert(format!("route {name} {prefix}/{length}"), text);
            }
            for (prefix, length, entry) in vrf.fib6.iter() {
                let prefix = IpAddr::from(prefix.to_be_bytes());
                let text = format!("{} {}", self.next_hop(entry.next_hop), self.groups(entry.sg_set));
                all.insert(format!("route {name} {prefix}/{length}"), text);
            }
        }
    }

    fn neighbours(&self, all: &mut BTreeMap<String, String>) {
        for (id, neighbour) in self.tables.neighbours.iter() {
            let text = format!(
                "{} {:?} {:?} {}",
                self.port(neighbour.port),
                neighbour.state,
                neighbour.header,
                neighbour.users
            );
            all.insert(format!("neighbour {}", self.neighbour(NeighbourId(id as u32))), text);
        }
    }

    fn rest(&self, all: &mut BTreeMap<String, String>) {
        let labels: BTreeMap<usize, &str> =
            self.tables.labels.iter().map(|(label, id)| (label, self.vrf(*id))).collect();
        let vnis: BTreeMap<_, &str> =
            self.tables.vnis.iter().map(|(vni, id)| (*vni, self.vrf(*id))).collect();
        let remotes: BTreeSet<&IpAddr> = self.tables.remotes.iter().collect();
        all.insert("remotes".into(), format!("{remotes:?}"));
        let addresses: BTreeSet<&IpAddr> = self.tables.underlay_addresses.iter().collect();
        let sets: BTreeSet<String> =
            self.tables.sg_sets.iter().map(|(id, _)| self.groups(SgSetId(id as u32))).collect();
        let mut next_hops: Vec<String> =
            self.tables.next_hops.iter().map(|(id, _)| self.next_hop(NextHopId(id as u32))).collect();
        next_hops.sort();
        all.insert("labels".into(), format!("{labels:?}"));
        all.insert("vnis".into(), format!("{vnis:?}"));
        all.insert("underlay addresses".into(), format!("{addresses:?}"));
        all.insert("sets of groups".into(), format!("{sets:?}"));
        all.insert("next hops".into(), format!("{next_hops:#?}"));
        all.insert("host port".into(), format!("{:?}", self.tables.host_port.map(|id| self.port(id))));
        all.insert("open ports".into(), self.world.tables.ports.len().to_string());
    }
}
