//! A next-hop group over two remote gateways: flows spread by weight, and each
//! flow keeps to its way.

use anyhow::{Context, Result, ensure};
use tieline_e2e::gateway::number;
use tieline_e2e::sites::mac;
use tieline_e2e::{Gateway, GatewayConfig, Host, Net, Steps, Tenant, with_one_and_two_workers};

const FLOWS: u32 = 200;

/// Gateway 1 has a wire to each of the gateways 2 and 3, and behind both of them
/// is the same address.
struct Triangle {
    gateways: Vec<Gateway>,
    client: Host,
    servers: Vec<Host>,
    _net: Net,
}

fn triangle(workers: usize) -> Result<Triangle> {
    let mut net = Net::new()?;
    let namespaces = [net.namespace("gw1")?, net.namespace("gw2")?, net.namespace("gw3")?];
    for far in [2, 3] {
        let device = format!("to{far}");
        net.wire((&namespaces[0], &device), (&namespaces[far - 1], "fabric"))?;
        namespaces[0].give_to_gateway(&device)?;
        namespaces[far - 1].give_to_gateway("fabric")?;
    }
    let client = Host::wired(&mut net, "client", &namespaces[0], "red", &mac(1, Tenant::Red))?;
    client.address("10.1.0.10/24")?;
    client.default_route("10.1.0.1")?;
    let mut servers = Vec::new();
    for far in [2, 3] {
        let server = Host::wired(
            &mut net,
            &format!("server{far}"),
            &namespaces[far - 1],
            "red",
            &mac(far, Tenant::Red),
        )?;
        server.address("10.9.0.10/24")?;
        server.default_route("10.9.0.1")?;
        servers.push(server);
    }
    let mut gateways = Vec::new();
    for namespace in &namespaces {
        gateways.push(Gateway::start(&net, namespace, &GatewayConfig::workers(workers))?);
    }
    gateways[0].apply(&first_gateway())?;
    for far in [2, 3] {
        gateways[far - 1].apply(&far_gateway(far))?;
    }
    Ok(Triangle { gateways, client, servers, _net: net })
}

fn first_gateway() -> String {
    let mut yaml = tenant(1, "10.1.0");
    for far in [2, 3] {
        yaml += &format!(
            r#"---
port: {{name: to{far}, device: "net_af_packet{far},iface=to{far}", role: fabric}}
---
interface: {{name: to{far}, port: to{far}, vrf: underlay, local_addresses: ["198.18.{far}.1/24"]}}
---
next_hop: {{name: gw{far}, tunnel: {{remote: 198.18.{far}.2}}}}
"#
        );
    }
    yaml + &group(1, 1)
        + r#"---
route: {rd: "64512:9", prefix: 10.9.0.0/24, route_targets: ["64512:8000001"], next_hop: both, label: 1234}
"#
}

/// The members' own labels stand in for the route's.
fn group(weight2: u32, weight3: u32) -> String {
    format!(
        r#"---
next_hop_group: {{name: both, members: [{{next_hop: gw2, weight: {weight2}, label: 1002}}, {{next_hop: gw3, weight: {weight3}, label: 1003}}]}}
"#
    )
}

fn far_gateway(far: usize) -> String {
    tenant(far, "10.9.0")
        + &format!(
            r#"---
port: {{name: fabric, device: "net_af_packet0,iface=fabric", role: fabric}}
---
interface: {{name: fabric, port: fabric, vrf: underlay, local_addresses: ["198.18.{far}.2/24"]}}
---
next_hop: {{name: gw1, tunnel: {{remote: 198.18.{far}.1}}}}
---
route: {{rd: "64512:1", prefix: 10.1.0.0/24, route_targets: ["64512:8000001"], next_hop: gw1, label: 1001}}
"#
        )
}

fn tenant(site: usize, network: &str) -> String {
    format!(
        r#"
vrf: {{name: red, import_route_targets: ["64512:8000001"], label: 100{site}}}
---
port: {{name: red, device: "net_af_packet9,iface=red", role: tenant}}
---
interface: {{name: red, port: red, vrf: red, local_addresses: ["{network}.1/24"], workload_mac: "{}", workload_addresses: ["{network}.10"]}}
"#,
        mac(site, Tenant::Red)
    )
}

impl Triangle {
    /// Sends flows and returns how many packets each far tenant interface sent on.
    fn spread(&self) -> Result<[u64; 2]> {
        let sent = |far: usize| -> Result<u64> {
            Ok(number(&self.gateways[far - 1].stats_of("interfaces", "red")?["tx_packets"]))
        };
        let before = [sent(2)?, sent(3)?];
        let returned = self.client.udp_flows("10.9.0.10:53", FLOWS, 2, 64)?;
        ensure!(returned == FLOWS * 2, "{returned} of {} came back", FLOWS * 2);
        Ok([sent(2)? - before[0], sent(3)? - before[1]])
    }
}

fn flows_spread_over_two_gateways(workers: usize, steps: &mut Steps) -> Result<()> {
    let triangle = triangle(workers)?;
    let _servers =
        triangle.servers.iter().map(|server| server.serve_udp("10.9.0.10:53")).collect::<Result<Vec<_>>>()?;
    triangle.client.udp_passes("10.9.0.10:53")?;

    steps.check("equal weights: flows spread evenly", || {
        let [second, third] = triangle.spread()?;
        // 200 flows: beyond 70 to 130 is less likely than one in ten thousand.
        let range = u64::from(FLOWS) * 2 * 35 / 100..=u64::from(FLOWS) * 2 * 65 / 100;
        ensure!(range.contains(&second) && range.contains(&third), "{second} and {third} packets");
        Ok(())
    });
    steps.check("a flow keeps to its way", || {
        let before = triangle.gateways[1].stats_of("interfaces", "red")?;
        let other = triangle.gateways[2].stats_of("interfaces", "red")?;
        triangle.client.udp("10.9.0.10:53", 64, 50)?;
        let moved = |gateway: &Gateway, before: &serde_json::Value| -> Result<u64> {
            let now = gateway.stats_of("interfaces", "red")?;
            Ok(number(&now["tx_packets"]) - number(&before["tx_packets"]))
        };
        let ways = [moved(&triangle.gateways[1], &before)?, moved(&triangle.gateways[2], &other)?];
        let busiest = ways.iter().max().copied().context("two ways")?;
        // Beside the flow there may be an ARP request.
        ensure!(busiest >= 50 && ways.iter().sum::<u64>() - busiest <= 4, "packets by gateway: {ways:?}");
        Ok(())
    });
    steps.check("weights 3 to 1", || {
        triangle.gateways[0].apply(&group(3, 1))?;
        let [second, third] = triangle.spread()?;
        let share = second as f64 / (second + third) as f64;
        ensure!((0.6..0.9).contains(&share), "{second} and {third} packets");
        Ok(())
    });
    steps.check("a member leaves: all flows take the other", || {
        triangle.gateways[0]
            .apply("next_hop_group: {name: both, members: [{next_hop: gw3, label: 1003}]}")?;
        let [second, third] = triangle.spread()?;
        ensure!(second <= 4 && third >= u64::from(FLOWS) * 2, "{second} and {third} packets");
        Ok(())
    });
    Ok(())
}

with_one_and_two_workers!(flows_spread_over_two_gateways);
