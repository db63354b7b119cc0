//! Two clusters, each with its own controller and gateway, joined over BGP: by
//! each other, and by FRR between them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::command::Background;
use tieline_e2e::federation::Controller;
use tieline_e2e::{
    Gateway, GatewayConfig, Host, Namespace, Net, Steps, eventually, with_one_and_two_workers,
};

const USER_TARGET: &str = ", routeTargets: {both: ['64999:7']}";

/// FRR's BGP daemon; it is not in the path.
const BGPD: &str = "/usr/lib/frr/bgpd";

/// Where BGP speakers are.
const SPEAKERS: [&str; 2] = ["198.18.9.1", "198.18.9.2"];
const MIDDLE: &str = "198.18.9.3";

/// Two gateways with a tenant each, and a network for BGP between them.
struct Clusters {
    controllers: [Controller; 2],
    hosts: [Host; 2],
    gateways: [Gateway; 2],
    // Dropped last: its namespaces are under all others.
    net: Net,
}

/// Who speaks BGP with whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peering {
    Direct,
    ThroughFrr,
}

fn cluster(name: &str, site: usize, asn: u32, socket: &str) -> String {
    let speaker = SPEAKERS[site - 1];
    format!(
        "---\napiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  asn: {asn}\n  \
         controllers: [{{name: c1, address: {speaker}}}]\n  \
         gateways: [{{name: {name}-1, endpoint: 'unix:{socket}', tunnelAddresses: [198.18.0.{site}]}}]\n"
    )
}

fn network(cluster: &str, name: &str, site: usize, targets: &str) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {name}}}\n\
         spec: {{cluster: {cluster}, subnets: [{{prefix: 10.{site}.0.0/24}}, {{prefix: '2001:db8:{site}::/64'}}]{targets}}}\n\
         ---\napiVersion: tieline.io/v1\nkind: Endpoint\nmetadata: {{name: h{site}}}\n\
         spec: {{network: {name}, gateway: {cluster}-1, interface: {{port: h{site}}}, mac: '02:00:00:00:00:0{site}', \
         addresses: [10.{site}.0.9, '2001:db8:{site}::9']}}\n"
    )
}

fn peer(cluster: &str, address: &str, asn: u32) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: {cluster}}}\n\
         spec: {{cluster: {cluster}, address: {address}, asn: {asn}, families: [vpnv4, vpnv6]}}\n"
    )
}

/// The intent of both clusters; each controller has its own copy, as two
/// operators would.
fn intent(sockets: &[String; 2], peering: Peering, west_targets: &str) -> String {
    let mut text = cluster("east", 1, 64512, &sockets[0]) + &cluster("west", 2, 64513, &sockets[1]);
    text += &network("east", "red", 1, USER_TARGET);
    text += &network("west", "blue", 2, west_targets);
    text += &match peering {
        Peering::Direct => peer("east", SPEAKERS[1], 64513) + &peer("west", SPEAKERS[0], 64512),
        Peering::ThroughFrr => peer("east", MIDDLE, 64999) + &peer("west", MIDDLE, 64999),
    };
    text
}

impl Clusters {
    fn start(workers: usize, peering: Peering) -> Result<(Self, Option<Background>)> {
        let mut net = Net::new()?;
        let [gw1, gw2] = [net.namespace("gw1")?, net.namespace("gw2")?];
        let middle = net.namespace("middle")?;
        net.wire((&gw1, "fabric"), (&gw2, "fabric"))?;
        middle.ip("link add bgp type bridge")?;
        middle.ip(&format!("address add {MIDDLE}/24 dev bgp"))?;
        middle.ip("link set bgp up")?;
        let mut hosts = Vec::new();
        for (site, gateway) in [(1, &gw1), (2, &gw2)] {
            gateway.give_to_gateway("fabric")?;
            let end = format!("gw{site}");
            net.wire((gateway, "bgp"), (&middle, &end))?;
            middle.ip(&format!("link set {end} master bgp up"))?;
            gateway.ip(&format!("address add {}/24 dev bgp", SPEAKERS[site - 1]))?;
            gateway.ip("link set bgp up")?;
            let mac = format!("02:00:00:00:00:0{site}");
            let host = Host::wired(&mut net, &format!("h{site}"), gateway, &format!("h{site}"), &mac)?;
            host.address(&format!("10.{site}.0.9/24"))?;
            host.address(&format!("2001:db8:{site}::9/64"))?;
            host.default_route(&format!("10.{site}.0.1"))?;
            host.default_route(&format!("2001:db8:{site}::1"))?;
            hosts.push(host);
        }
        let start = |site: usize, namespace: &Namespace| -> Result<Gateway> {
            let gateway = Gateway::start(&net, namespace, &GatewayConfig::workers(workers))?;
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
        let gateways = [start(1, &gw1)?, start(2, &gw2)?];
        let frr = (peering == Peering::ThroughFrr).then(|| frr(&net, &middle)).transpose()?;
        let sockets = [gateways[0].socket(), gateways[1].socket()];
        let intent = intent(&sockets, peering, USER_TARGET);
        let controller = |at: usize, namespace, name| {
            Controller::start(&net, namespace, name, &format!("{}:179", SPEAKERS[at]), &intent)
        };
        let controllers = [controller(0, &gw1, "east")?, controller(1, &gw2, "west")?];
        let hosts = hosts.try_into().map_err(|_| anyhow::anyhow!("two hosts"))?;
        Ok((Self { controllers, hosts, gateways, net }, frr))
    }

    fn reach_each_other(&self) -> Result<()> {
        let [one, two] = &self.hosts;
        one.reaches("10.2.0.9")?;
        two.reaches("10.1.0.9")?;
        one.reaches("2001:db8:2::9")
    }
}

/// FRR as a route server: it passes routes on and leaves next hops alone. It
/// must not defer its choice of paths: it forgets VPN routes that come meanwhile.
fn frr(net: &Net, namespace: &Namespace) -> Result<Background> {
    let mut config = format!(
        "router bgp 64999\n bgp router-id {MIDDLE}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart select-defer-time 0\n"
    );
    for (speaker, asn) in SPEAKERS.iter().zip([64512, 64513]) {
        writeln!(config, " neighbor {speaker} remote-as {asn}")?;
    }
    for family in ["ipv4 vpn", "ipv6 vpn"] {
        writeln!(config, " address-family {family}")?;
        for speaker in SPEAKERS {
            writeln!(
                config,
                "  neighbor {speaker} activate\n  neighbor {speaker} attribute-unchanged next-hop"
            )?;
        }
        writeln!(config, " exit-address-family")?;
    }
    let file = net.directory().join("bgpd.conf");
    std::fs::write(&file, config)?;
    let mut command = namespace.command(BGPD);
    // No zebra: nothing is installed in any kernel.
    command.args(["-n", "-Z", "-S", "-p", "179", "-P", "0", "-f"]).arg(&file);
    command.arg("-i").arg(net.directory().join("bgpd.pid"));
    command.arg("--vty_socket").arg(net.directory());
    let log = std::fs::File::create(net.directory().join("bgpd.log"))?;
    Background::start(&mut command, Stdio::from(log)).context("FRR's bgpd does not start")
}

fn clusters_join_over_bgp(workers: usize, steps: &mut Steps) -> Result<()> {
    let (mut clusters, _) = Clusters::start(workers, Peering::Direct)?;
    steps.check("C4: networks that share a user route target reach each other, IPv4 and IPv6", || {
        clusters.reach_each_other()
    });
    steps.check("N1: both controllers are killed, and not a packet is lost", || {
        clusters.controllers.iter_mut().try_for_each(Controller::kill)?;
        clusters.hosts[0].pings_lossless("10.2.0.9", 100)
    });
    steps.check("they come back, and not a packet is lost", || {
        std::thread::scope(|scope| {
            let host = &clusters.hosts[0];
            let pings = scope.spawn(|| host.ping_with("10.2.0.9", "-q -i 0.01 -c 600"));
            clusters.controllers.iter_mut().try_for_each(Controller::start_again)?;
            let ping = pings.join().map_err(|_| anyhow::anyhow!("the pings panicked"))??;
            ensure!(ping.stdout.contains(" 0% packet loss"), "{}", ping.stdout.trim());
            anyhow::Ok(())
        })
    });
    let sockets = [clusters.gateways[0].socket(), clusters.gateways[1].socket()];
    steps.check("C4: removed on one side, the routes are withdrawn on both", || {
        clusters.controllers[1].apply(&intent(&sockets, Peering::Direct, ""))?;
        eventually(Duration::from_secs(10), || {
            let route = clusters.gateways[0].route("default/red", "10.2.0.9/32")?;
            ensure!(route.is_none(), "still there: {route:?}");
            let route = clusters.gateways[1].route("default/blue", "10.1.0.9/32")?;
            ensure!(route.is_none(), "still there: {route:?}");
            Ok(())
        })?;
        clusters.hosts[0].does_not_reach("10.2.0.9")
    });
    steps.check("C4: and given back, they are there again", || {
        clusters.controllers[1].apply(&intent(&sockets, Peering::Direct, USER_TARGET))?;
        clusters.reach_each_other()
    });
    steps.check("the books balance", || clusters.gateways.iter().try_for_each(Gateway::check_balance));
    drop(clusters.controllers);
    drop(clusters.net);
    Ok(())
}

fn frr_between_clusters(workers: usize, steps: &mut Steps) -> Result<()> {
    if !Path::new(BGPD).is_file() {
        eprintln!("  skipped: needs Debian's package frr");
        return Ok(());
    }
    let (clusters, frr) = Clusters::start(workers, Peering::ThroughFrr)?;
    let mut frr = frr.context("FRR")?;
    steps.check("R1: routes go through FRR, packets do not", || {
        clusters.reach_each_other()?;
        let route = clusters.gateways[0].route("default/red", "10.2.0.9/32")?.context("the route")?;
        ensure!(route.to_string().contains("198.18.0.2"), "not straight to the other gateway: {route}");
        Ok(())
    });
    steps.check("R6: FRR dies, and forwarding goes on", || {
        frr.stop("KILL", Duration::from_secs(5))?;
        clusters.hosts[0].pings_lossless("10.2.0.9", 100)
    });
    steps.check("the books balance", || clusters.gateways.iter().try_for_each(Gateway::check_balance));
    Ok(())
}

with_one_and_two_workers!(clusters_join_over_bgp);
with_one_and_two_workers!(frr_between_clusters);
