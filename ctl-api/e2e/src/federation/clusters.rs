//! Two clusters, each with a gateway and a host, and a network for BGP between
//! their controllers.
//!
//! ```text
//!   h1 --- gw1 ====== fabric 198.18.0.0/24 ====== gw2 --- h2
//!           |                                      |
//!   c1 .9.1, c2 .9.11 -- middle 198.18.9.3 -- c1 .9.2, c2 .9.12
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::controller::{Controller, ControllerConfig, Store};
use super::intent::{self, USER_TARGET};
use crate::net::{Namespace, Net};
use crate::scenario::eventually;
use crate::{Gateway, GatewayConfig, Host};

/// Names of the clusters.
pub const NAMES: [&str; 2] = ["east", "west"];
/// Their AS numbers.
pub const ASNS: [u32; 2] = [64512, 64513];
/// Addresses of their controllers `c1`.
pub const SPEAKERS: [&str; 2] = ["198.18.9.1", "198.18.9.2"];
/// Addresses of their controllers `c2`, where there are any.
pub const SECOND_SPEAKERS: [&str; 2] = ["198.18.9.11", "198.18.9.12"];
/// The address of who is between them.
pub const MIDDLE: &str = "198.18.9.3";
/// The AS number of who is between them.
pub const MIDDLE_ASN: u32 = 64999;
/// Names of the networks, as the gateways' VRFs have them.
pub const VRFS: [&str; 2] = ["default/red", "default/blue"];

/// Who speaks BGP with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hub {
    /// The controllers with each other.
    None,
    /// Each with a route reflector in the middle.
    Middle,
}

/// Two clusters. The host of the first is in the network red, that of the second
/// in blue.
#[derive(Debug)]
pub struct Clusters {
    /// The controllers that have been started, `c1` of each cluster first.
    pub controllers: Vec<Controller>,
    /// A host of each cluster.
    pub hosts: [Host; 2],
    /// The gateway of each cluster.
    pub gateways: [Gateway; 2],
    /// Where the gateways and controllers of each cluster are.
    pub namespaces: [Namespace; 2],
    /// Where others speak BGP.
    pub middle: Namespace,
    // Dropped last: its namespaces are under all others.
    /// The network.
    pub net: Net,
}

impl Clusters {
    /// Gateways and hosts; no controller yet.
    pub fn new(workers: usize) -> Result<Self> {
        let mut net = Net::new()?;
        let namespaces = [net.namespace("gw1")?, net.namespace("gw2")?];
        let middle = net.namespace("middle")?;
        net.wire((&namespaces[0], "fabric"), (&namespaces[1], "fabric"))?;
        middle.ip("link add bgp type bridge")?;
        middle.ip(&format!("address add {MIDDLE}/24 dev bgp"))?;
        middle.ip("link set bgp up")?;
        let mut hosts = Vec::new();
        for (site, gateway) in (1..).zip(&namespaces) {
            gateway.give_to_gateway("fabric")?;
            let end = format!("gw{site}");
            net.wire((gateway, "bgp"), (&middle, &end))?;
            middle.ip(&format!("link set {end} master bgp up"))?;
            for speaker in [SPEAKERS[site - 1], SECOND_SPEAKERS[site - 1]] {
                gateway.ip(&format!("address add {speaker}/24 dev bgp"))?;
            }
            gateway.ip("link set bgp up")?;
            hosts.push(host(&mut net, site, gateway)?);
        }
        let start = |site: usize| -> Result<Gateway> {
            let gateway = Gateway::start(&net, &namespaces[site - 1], &GatewayConfig::workers(workers))?;
            gateway.apply(&format!(
                r#"
port: {{name: fabric, device: "net_af_packet0,iface=fabric", role: fabric}}
---
port: {{name: h{site}, device: "net_af_packet1,iface=h{site}", role: tenant}}
---
interface: {{name: fabric, port: fabric, vrf: underlay, local_addresses: ["198.18.0.{site}/24"]}}
"#
            ))?;
            Ok(gateway)
        };
        let gateways = [start(1)?, start(2)?];
        let hosts = hosts.try_into().map_err(|_| anyhow::anyhow!("two hosts"))?;
        Ok(Self { controllers: Vec::new(), hosts, gateways, namespaces, middle, net })
    }

    /// The two clusters with their controllers `c1`, or with a `c2` each too.
    pub fn clusters(&self, second: bool) -> String {
        let mut text = String::new();
        for at in 0..2 {
            let mut controllers = vec![("c1", SPEAKERS[at])];
            if second {
                controllers.push(("c2", SECOND_SPEAKERS[at]));
            }
            let (socket, tunnel) = (self.gateways[at].socket(), format!("198.18.0.{}", at + 1));
            text += &intent::cluster(NAMES[at], ASNS[at], &controllers, &[(&socket, &tunnel)]);
        }
        text
    }

    /// One cluster with both gateways, `east-1` and `east-2`.
    pub fn east_alone(&self, controllers: &[&str]) -> String {
        let names = ["c1", "c2"];
        let controllers: Vec<_> = names.into_iter().zip(controllers.iter().copied()).collect();
        let sockets = self.gateways.each_ref().map(Gateway::socket);
        let gateways = [(sockets[0].as_str(), "198.18.0.1"), (sockets[1].as_str(), "198.18.0.2")];
        intent::cluster(NAMES[0], ASNS[0], &controllers, &gateways)
    }

    /// Networks of that cluster: red, which may have a route target, at the first
    /// gateway, and green, which has none, at the second. `more` are further
    /// members of both endpoints in YAML, with a comma in front.
    pub fn red_and_green(&self, target: Option<&str>, more: &str) -> String {
        let mut text = String::new();
        let networks = [("red", target.map(intent::shares)), ("green", None)];
        for (number, (name, shares)) in (1..).zip(networks) {
            let prefixes = intent::prefixes(number);
            let shares = shares.unwrap_or_default();
            text += &intent::network(NAMES[0], name, &[&prefixes[0], &prefixes[1]], &shares);
            text += &intent::endpoint(number, name, &format!("east-{number}"), more);
        }
        text
    }

    /// The networks red and blue, which have a route target each, or none, and a
    /// host in each.
    pub fn networks(&self, targets: [Option<&str>; 2]) -> String {
        let mut text = String::new();
        for (at, name) in ["red", "blue"].into_iter().enumerate() {
            let prefixes = intent::prefixes(at + 1);
            let shares = targets[at].map(intent::shares).unwrap_or_default();
            text += &intent::network(NAMES[at], name, &[&prefixes[0], &prefixes[1]], &shares);
            text += &intent::endpoint(at + 1, name, &format!("{}-1", NAMES[at]), "");
        }
        text
    }

    /// Both clusters with these networks, and VPN peers. Every controller has its
    /// own copy, as several operators would.
    pub fn intent(&self, hub: Hub, targets: [Option<&str>; 2]) -> String {
        self.clusters(false) + &self.networks(targets) + &peers(hub, "vpnv4, vpnv6")
    }

    /// As most tests want it.
    pub fn joined(&self, hub: Hub) -> String {
        self.intent(hub, [Some(USER_TARGET); 2])
    }

    /// Starts the controllers `c1` with an intent.
    pub fn start_controllers(&mut self, intent: &str) -> Result<()> {
        for at in 0..2 {
            self.start_controller(at, ControllerConfig::new(NAMES[at], SPEAKERS[at]), intent)?;
        }
        Ok(())
    }

    /// Starts a controller of a cluster with an intent.
    pub fn start_controller(&mut self, at: usize, config: ControllerConfig, intent: &str) -> Result<()> {
        let controller = Controller::start(&self.net, &self.namespaces[at], config, intent)?;
        self.controllers.push(controller);
        Ok(())
    }

    /// Starts `c1` and `c2` of both clusters, with a store that those of a cluster
    /// share. They are in the order of [`Clusters::controllers`]: `c1` of both,
    /// then `c2` of both.
    pub fn start_pairs(&mut self, url: &str, intent: &str) -> Result<()> {
        for (name, speakers) in [("c1", SPEAKERS), ("c2", SECOND_SPEAKERS)] {
            for at in 0..2 {
                let store = Store::Etcd(url.to_owned());
                let new = ControllerConfig::new(NAMES[at], speakers[at]);
                let config = ControllerConfig { name: name.to_owned(), store, ..new };
                self.start_controller(at, config, intent)?;
            }
        }
        Ok(())
    }

    /// The hosts reach each other, by IPv4 and IPv6.
    pub fn reach_each_other(&self) -> Result<()> {
        let [one, two] = &self.hosts;
        one.reaches("10.2.0.9")?;
        two.reaches("10.1.0.9")?;
        one.reaches("2001:db8:2::9")
    }

    /// No gateway has a route to the other's host, within some seconds.
    pub fn are_apart(&self) -> Result<()> {
        eventually(Duration::from_secs(10), || {
            for (at, other) in [(0, 2), (1, 1)] {
                for prefix in [format!("10.{other}.0.9/32"), format!("2001:db8:{other}::9/128")] {
                    let route = self.gateways[at].route(VRFS[at], &prefix)?;
                    ensure!(route.is_none(), "still there: {route:?}");
                }
            }
            Ok(())
        })?;
        self.hosts[0].does_not_reach("10.2.0.9")
    }

    /// The route to the second host leads to the second gateway, whoever passed
    /// it on.
    pub fn route_is_direct(&self) -> Result<()> {
        let route = self.gateways[0].route(VRFS[0], "10.2.0.9/32")?.context("no route to 10.2.0.9")?;
        ensure!(route.to_string().contains("198.18.0.2"), "not straight to the other gateway: {route}");
        Ok(())
    }

    /// Both gateways' books must balance.
    pub fn check_balance(&self) -> Result<()> {
        self.gateways.iter().try_for_each(Gateway::check_balance)
    }
}

/// Who the clusters speak BGP with.
pub fn peers(hub: Hub, families: &str) -> String {
    peers_with(hub, families, "")
}

/// As [`peers`]. `more` are further members in YAML, with a comma in front.
pub fn peers_with(hub: Hub, families: &str, more: &str) -> String {
    let of = |at: usize| {
        let (address, asn) = match hub {
            Hub::None => (SPEAKERS[1 - at], ASNS[1 - at]),
            Hub::Middle => (MIDDLE, MIDDLE_ASN),
        };
        intent::peer(NAMES[at], NAMES[at], address, asn, families, more)
    };
    of(0) + &of(1)
}

/// The host `h{number}` behind a gateway.
pub fn host(net: &mut Net, number: usize, gateway: &Namespace) -> Result<Host> {
    let mac = format!("02:00:00:00:00:0{number}");
    let name = format!("h{number}");
    let host = Host::wired(net, &name, gateway, &name, &mac)?;
    host.address(&format!("10.{number}.0.9/24"))?;
    host.address(&format!("2001:db8:{number}::9/64"))?;
    host.default_route(&format!("10.{number}.0.1"))?;
    host.default_route(&format!("2001:db8:{number}::1"))?;
    Ok(host)
}
