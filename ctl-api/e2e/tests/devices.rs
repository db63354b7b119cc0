//! Devices vanish under traffic and come back (S6).

use std::time::Duration;

use anyhow::{Result, ensure};
use tieline_e2e::sites::{Underlay, interface, mac, v4};
use tieline_e2e::{Gateway, Host, Sites, Steps, Tenant, eventually, with_one_and_two_workers};

/// For a device to be missed, or taken up again.
const SOON: Duration = Duration::from_secs(20);

fn is(gateway: &Gateway, object: &str, state: &str, word: &str) -> Result<()> {
    eventually(SOON, || {
        let status = gateway.status(object)?;
        let said = status["message"].as_str().unwrap_or_default();
        ensure!(
            status["state"] == state && said.contains(word),
            "{object} is not {state} ({word}): {status}"
        );
        Ok(())
    })
}

fn devices_vanish_and_return(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.red[0].reaches(&v4(2))?;
    let [gateway, _] = &sites.gateways;
    let namespace = gateway.namespace.clone();
    let red = sites.red[0].clone();
    let with_address = |host: &Host| {
        host.address("10.1.0.10/24")?;
        host.default_route("10.1.0.1")
    };
    // A session of its own: who asks is in a group that lets out alone.
    gateway.apply("security_group: {id: 100, rules: [{direction: egress}]}")?;
    gateway.apply(&interface(1, Tenant::Red, "[100]", ""))?;
    let _server = sites.red[1].serve_tcp("10.2.0.10:80")?;
    let mut call = red.echo("10.2.0.10:80")?;
    call.moves(SOON)?;

    steps.check("S6: an interface that vanishes is named at once, with what is on it", || {
        red.unwire()?;
        is(gateway, "port red", "degraded", "interface red is gone")?;
        is(gateway, "interface red", "degraded", "interface red is gone")?;
        ensure!(gateway.route("red", "10.1.0.10/32")?.is_none(), "its route is still there");
        sites.blue[0].reaches(&v4(2))
    });
    steps.check("S6: it is taken up again when it is back, and the connection goes on", || {
        red.rewire(&sites.net, &namespace, "red", &mac(1, Tenant::Red))?;
        with_address(&red)?;
        is(gateway, "port red", "ready", "")?;
        is(gateway, "interface red", "ready", "")?;
        call.moves(SOON)
    });
    steps.check("S6: an interface that is made anew at once is another one", || {
        namespace.ip("link add other-red type veth peer name other-end")?;
        namespace.ip("link set red name old-red")?;
        namespace.ip("link set other-red name red")?;
        is(gateway, "port red", "degraded", "")?;
        namespace.ip("link delete red")?;
        namespace.ip("link set old-red name red")?;
        is(gateway, "port red", "ready", "")?;
        call.moves(SOON)
    });
    steps.check("a link that is down is said, and is no other device", || {
        red.namespace.ip("link set eth0 down")?;
        is(gateway, "port red", "degraded", "link of")?;
        red.namespace.ip("link set eth0 up")?;
        red.default_route("10.1.0.1")?;
        is(gateway, "port red", "ready", "")?;
        call.moves(SOON)
    });
    steps.check("S6: the fabric's interface too", || {
        namespace.ip("link delete fabric")?;
        is(gateway, "port fabric", "degraded", "interface fabric is gone")?;
        is(&sites.gateways[1], "port fabric", "degraded", "interface fabric is gone")?;
        sites.net.wire((&namespace, "fabric"), (&sites.gateways[1].namespace, "fabric"))?;
        sites.gateways.iter().try_for_each(|gateway| gateway.namespace.give_to_gateway("fabric"))?;
        sites.gateways.iter().try_for_each(|gateway| is(gateway, "port fabric", "ready", ""))?;
        call.moves(SOON)
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

/// The ends of a vhost-user socket, each of which dies in turn.
fn other_ends_vanish_and_return(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    let socket = sites.net.directory().join("machine.sock");
    let socket = socket.display();
    let end = |name: &str, device: &str, address: u8| {
        format!(
            "port: {{name: {name}, device: \"{device}\", role: tenant}}\n---\n\
             interface: {{name: {name}, port: {name}, vrf: red, local_addresses: [\"10.63.0.{address}/24\"]}}"
        )
    };
    sites.gateways[0].apply(&end("back", &format!("net_vhost0,iface={socket}"), 1))?;
    sites.gateways[1].apply(&end("front", &format!("net_virtio_user0,path={socket}"), 2))?;
    for (site, port) in [(0, "back"), (1, "front")] {
        is(&sites.gateways[site], &format!("port {port}"), "ready", "")?;
    }
    steps.check("S6: who listens dies: the other end says so, and connects again", || {
        sites.gateways[0].crash()?;
        is(&sites.gateways[1], "port front", "degraded", "")?;
        sites.gateways[0].start_again()?;
        for (site, port) in [(0, "back"), (1, "front")] {
            is(&sites.gateways[site], &format!("port {port}"), "ready", "")?;
        }
        Ok(())
    });
    steps.check("S6: who connects dies, and comes back", || {
        sites.gateways[1].crash()?;
        is(&sites.gateways[0], "port back", "degraded", "link of")?;
        sites.gateways[1].start_again()?;
        for (site, port) in [(0, "back"), (1, "front")] {
            is(&sites.gateways[site], &format!("port {port}"), "ready", "")?;
        }
        Ok(())
    });
    steps.check("S6: a socket that somebody removes is made again", || {
        sites.gateways[1].crash()?;
        is(&sites.gateways[0], "port back", "degraded", "link of")?;
        std::fs::remove_file(sites.net.directory().join("machine.sock"))?;
        sites.gateways[1].start_again()?;
        for (site, port) in [(0, "back"), (1, "front")] {
            is(&sites.gateways[site], &format!("port {port}"), "ready", "")?;
        }
        Ok(())
    });
    Ok(())
}

with_one_and_two_workers!(devices_vanish_and_return);
with_one_and_two_workers!(other_ends_vanish_and_return);
