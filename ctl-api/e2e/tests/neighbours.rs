//! Who is next to us, and who may send tunnels. Static neighbours: a MAC that is
//! declared is used at once, and neither ARP nor ND replaces it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tieline_e2e::sites::{Tenant, Underlay, next_hop, routes, v4};
use tieline_e2e::{Capture, Gateway, Host, Sites, Steps, eventually, with_one_and_two_workers};

/// The host's MAC, and one that nobody has.
const ITS: &str = "02:00:00:00:0e:01";
const NOBODYS: &str = "02:00:00:00:0e:99";
/// The host's addresses, and the gateway's towards it.
const ADDRESSES: [&str; 2] = ["10.50.0.10", "2001:db8:50::10"];
const GATEWAY: [&str; 2] = ["10.50.0.1", "2001:db8:50::1"];

/// The subnet of red with the host's addresses at a MAC; without one they are
/// learned.
fn subnet(mac: Option<&str>) -> String {
    let neighbours: Vec<String> = mac
        .into_iter()
        .flat_map(|mac| ADDRESSES.map(|address| format!(r#"{{address: "{address}", mac: "{mac}"}}"#)))
        .collect();
    format!(
        r#"
interface:
  name: extra
  port: extra
  vrf: red
  local_addresses: ["{}/24", "{}/64"]
  static_neighbours: [{}]
"#,
        GATEWAY[0],
        GATEWAY[1],
        neighbours.join(", ")
    )
}

/// What the gateway knows of an address on an interface.
fn neighbour(gateway: &Gateway, interface: &str, address: &str) -> Result<Value> {
    let all = gateway.tlctl("neighbours")?;
    let is_it = |one: &&Value| one["interface"] == interface && one["address"] == address;
    let found = all.as_array().context("a list of neighbours")?.iter().find(is_it);
    found.cloned().with_context(|| format!("no neighbour {address} on {interface}: {all}"))
}

/// Both of the host's addresses are known in this way.
fn check_known(gateway: &Gateway, state: &str, mac: &str) -> Result<()> {
    for address in ADDRESSES {
        let known = neighbour(gateway, "extra", address)?;
        ensure!(known["state"] == state && known["mac"] == mac, "not {state} at {mac}: {known}");
    }
    Ok(())
}

fn a_declared_mac_is_never_replaced(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    let namespace = sites.gateways[0].namespace.clone();
    let host = Host::wired(&mut sites.net, "extra", &namespace, "extra", ITS)?;
    for (address, length) in ADDRESSES.into_iter().zip([24, 64]) {
        host.address(&format!("{address}/{length}"))?;
    }
    let gateway = &sites.gateways[0];
    gateway.apply(r#"port: {name: extra, device: "net_af_packet7,iface=extra", role: tenant}"#)?;

    steps.check("a static neighbour is there before anybody asks for it", || {
        gateway.apply(&subnet(Some(NOBODYS)))?;
        check_known(gateway, "static", NOBODYS)
    });
    steps.check("what the neighbour itself says in ARP and ND does not replace it", || {
        let capture = Capture::start(&sites.net, &host.namespace, "eth0", "icmp or icmp6")?;
        for address in GATEWAY {
            // The host asks for the gateway, and tells its own MAC by that.
            host.does_not_reach(address)?;
        }
        let packets = capture.stop()?;
        for replies in ["icmp.type == 0", "icmpv6.type == 129"] {
            let seen = packets.count(&format!("{replies} && eth.dst == {NOBODYS}"))?;
            ensure!(seen > 0, "no {replies} to the declared MAC: {}", packets.describe(replies)?);
        }
        check_known(gateway, "static", NOBODYS)
    });
    steps.check("another declaration counts at once, and the neighbour is not asked", || {
        let questions =
            format!("(arp and arp[6:2] == 1 and not ether src {ITS}) or (icmp6 and ip6[40] == 135)");
        let capture = Capture::start(&sites.net, &host.namespace, "eth0", &questions)?;
        gateway.apply(&subnet(Some(ITS)))?;
        check_known(gateway, "static", ITS)?;
        for address in GATEWAY {
            host.reaches(address)?;
            host.pings_lossless(address, 50)?;
        }
        let packets = capture.stop()?;
        ensure!(packets.count("frame")? == 0, "asked: {}", packets.describe("frame")?);
        check_known(gateway, "static", ITS)
    });
    steps.check("declared no more, it is learned", || {
        gateway.apply(&subnet(None))?;
        for address in GATEWAY {
            host.reaches(address)?;
        }
        eventually(Duration::from_secs(5), || check_known(gateway, "resolved", ITS))
    });
    steps.check("a neighbour that cannot be is refused by field", || {
        let said = gateway.refusal(&subnet(Some(ITS)).replace(ADDRESSES[1], GATEWAY[1]))?;
        ensure!(said.contains("static_neighbours[1].address"), "it does not name the field: {said}");
        let said = gateway.refusal(&subnet(Some("")))?;
        ensure!(said.contains("static_neighbours[0].mac"), "it does not name the field: {said}");
        check_known(gateway, "resolved", ITS)
    });
    steps.check("a tunnel leaves by a static neighbour of the fabric", || {
        let (red, far) = (&sites.red[0], Underlay::V4.endpoint(2));
        red.reaches(&v4(2))?;
        let mac = sites.gateways[1].stats_of("ports", "fabric")?["mac"].as_str().context("a MAC")?.to_owned();
        let fabric = |mac: &str| {
            let (v4, v6) = (Underlay::V4.endpoint(1), Underlay::V6.endpoint(1));
            gateway.apply(&format!(
                r#"interface: {{name: fabric, port: fabric, vrf: underlay, local_addresses: ["{v4}/24", "{v6}/64"], static_neighbours: [{{address: "{far}", mac: "{mac}"}}]}}"#
            ))
        };
        fabric(NOBODYS)?;
        red.does_not_reach(&v4(2))?;
        fabric(&mac)?;
        red.reaches(&v4(2))?;
        red.pings_lossless(&v4(2), 100)?;
        let known = neighbour(gateway, "fabric", &far)?;
        ensure!(known["state"] == "static" && known["mac"] == mac.as_str(), "{known}");
        Ok(())
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

/// S7: tunnels come in from declared next hops and declared prefixes.
fn s7_tunnels_come_from_declared_remotes(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    let (gateway, [red1, red2]) = (&sites.gateways[0], &sites.red);
    let fabric = |more: &str| {
        let (v4, v6) = (Underlay::V4.endpoint(1), Underlay::V6.endpoint(1));
        gateway.apply(&format!(
            r#"interface: {{name: fabric, port: fabric, vrf: underlay, local_addresses: ["{v4}/24", "{v6}/64"]{more}}}"#
        ))
    };
    let arrives = || {
        let capture = Capture::start(&sites.net, &red1.namespace, "eth0", "icmp")?;
        red2.does_not_reach(&v4(1))?;
        let packets = capture.stop()?;
        let seen = packets.count("icmp.type == 8")?;
        ensure!(seen > 0, "no echo request: {}", packets.describe("icmp")?);
        Ok(())
    };

    steps.check("the remote of a next hop may send", || red2.reaches(&v4(1)));
    steps.check("without its next hop it is a stranger", || {
        gateway.delete("next-hop gw2")?;
        gateway.expect_drops("unknown_tunnel_source", || red2.does_not_reach(&v4(1)))
    });
    steps.check("declared, it may send, one way", || {
        fabric(&format!(r#", tunnel_sources: ["{}/32"]"#, Underlay::V4.endpoint(2)))?;
        arrives()
    });
    steps.check("another declaration takes that back at once", || {
        fabric(r#", tunnel_sources: ["203.0.113.0/24"]"#)?;
        gateway.expect_drops("unknown_tunnel_source", || red2.does_not_reach(&v4(1)))
    });
    steps.check("everybody may send where it is not checked", || {
        fabric(", anti_spoofing_disabled: true")?;
        arrives()
    });
    steps.check("with its next hop it may send again", || {
        fabric("")?;
        gateway.apply(&next_hop(2, Underlay::V4, "mpls_udp"))?;
        red2.reaches(&v4(1))
    });
    steps.check("a strict VRF takes what it would send back", || {
        let strict = tieline_e2e::sites::vrf(1, Tenant::Red, "64512:8000001", "64512:8000001")
            .replace("label:", "strict_sources: true, label:");
        gateway.apply(&strict)?;
        red2.reaches(&v4(1))?;
        gateway.apply(&routes(2, Tenant::Red, "").replace("gw2", "elsewhere"))?;
        gateway.apply("next_hop: {name: elsewhere, tunnel: {remote: 203.0.113.7}}")?;
        gateway.expect_drops("stray_inner_source", || red2.does_not_reach(&v4(1)))
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

with_one_and_two_workers!(a_declared_mac_is_never_replaced);
with_one_and_two_workers!(s7_tunnels_come_from_declared_remotes);
