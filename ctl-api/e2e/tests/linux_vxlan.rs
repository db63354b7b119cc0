//! Interoperability: Linux's own VXLAN device is the far end.

use anyhow::Result;
use tieline_e2e::sites::{Tenant, Underlay, local_objects, mac, router_mac};
use tieline_e2e::vxlan_peer::{ADDRESSES, ROUTER_MAC, VNI, VxlanPeer};
use tieline_e2e::{Gateway, GatewayConfig, Host, Net, Steps, with_one_and_two_workers};

fn linux_is_the_far_end(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut net = Net::new()?;
    let gw1 = net.namespace("gw1")?;
    let peer = VxlanPeer::new(&mut net, &gw1)?;
    let host = Host::wired(&mut net, "red1", &gw1, "red", &mac(1, Tenant::Red))?;
    host.address("10.1.0.10/22")?;
    host.address("2001:db8:1::10/64")?;
    host.default_route("10.1.0.1")?;
    host.default_route("2001:db8:1::1")?;
    // The shared objects declare blue's port too.
    let _blue = Host::wired(&mut net, "blue1", &gw1, "blue", &mac(1, Tenant::Blue))?;
    let config = GatewayConfig { workers, router_mac: router_mac(1), ..GatewayConfig::default() };
    let gateway = Gateway::start(&net, &gw1, &config)?;
    // The far end uses one VNI both ways.
    let objects = local_objects(1, workers).replace("vni: 5001}", &format!("vni: {VNI}}}"));
    gateway.apply(&objects)?;
    for address in ADDRESSES {
        let length = if address.contains(':') { 128 } else { 32 };
        gateway.apply(&format!(
            r#"route: {{rd: "64512:99", prefix: "{address}/{length}", route_targets: ["64512:8000001"], next_hop: linux, vni: {VNI}}}"#
        ))?;
    }
    let _server4 = peer.host.serve_tcp("10.9.0.1:80")?;
    let _server6 = peer.host.serve_tcp("[2001:db8:9::1]:80")?;

    for underlay in Underlay::BOTH {
        steps.check(&format!("Linux's VXLAN over {underlay:?}"), || {
            peer.tunnel(underlay, &router_mac(1))?;
            gateway.apply(&format!(
                r#"next_hop: {{name: linux, tunnel: {{remote: "{}", encapsulations: [vxlan], router_mac: "{ROUTER_MAC}"}}}}"#,
                underlay.endpoint(2)
            ))?;
            for address in ADDRESSES {
                host.reaches(address)?;
            }
            peer.host.reaches("10.1.0.10")?;
            peer.host.reaches("2001:db8:1::10")?;
            host.exchange("10.9.0.1:80", 2_000_000)?;
            host.exchange("[2001:db8:9::1]:80", 2_000_000)
        });
    }
    steps.check("an unknown VNI is dropped and counted", || {
        gateway.delete("vrf red")?;
        gateway.expect_drops("unknown_vni", || peer.host.does_not_reach("10.1.0.10"))
    });
    Ok(())
}

with_one_and_two_workers!(linux_is_the_far_end);
