//! Ports come and go while others forward; VLANs and other devices.

use std::time::Duration;

use anyhow::{Result, ensure};
use tieline_e2e::gateway::AF_XDP;
use tieline_e2e::sites::{Underlay, mac, v4};
use tieline_e2e::{Host, Sites, Steps, Tenant, eventually, with_one_and_two_workers};

fn ports_come_and_go(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.red[0].reaches(&v4(2))?;
    let gateway1 = sites.gateways[0].namespace.clone();
    let extra = Host::wired(&mut sites.net, "extra", &gateway1, "extra", "02:00:00:00:0e:01")?;
    extra.address("10.50.0.10/24")?;
    extra.default_route("10.50.0.1")?;
    let port = r#"port: {name: extra, device: "net_af_packet7,iface=extra", role: tenant}"#;
    let interface = r#"interface: {name: extra, port: extra, vrf: red, local_addresses: ["10.50.0.1/24"]}"#;

    steps.check("others lose nothing while a port is added and removed", || {
        std::thread::scope(|scope| {
            let steady = scope.spawn(|| sites.red[0].pings_lossless(&v4(2), 300));
            for _ in 0..3 {
                sites.gateways[0].apply(&format!("{port}\n---\n{interface}"))?;
                extra.reaches("10.50.0.1")?;
                sites.gateways[0].delete("port extra")?;
            }
            steady.join().unwrap_or_else(|_| anyhow::bail!("the pings panicked"))
        })
    });
    steps.check("its interface waits for it and works again when it is back", || {
        let status = sites.gateways[0].status("interface extra")?;
        ensure!(status["state"] == "waiting", "without its port: {status}");
        sites.gateways[0].apply(port)?;
        extra.reaches("10.50.0.1")?;
        extra.reaches(&v4(1))
    });
    steps.check("a device that is not there degrades its port, and is taken up when it comes", || {
        let bad = r#"port: {name: later, device: "net_af_packet8,iface=later", role: tenant}"#;
        let said = sites.gateways[0].tlctl_finish(&["apply", "-f", "-"], bad)?.stdout;
        ensure!(
            said.contains("port/later degraded") && said.contains("iface=later"),
            "it does not say what: {said}"
        );
        sites.red[0].reaches(&v4(2))?;
        let _later = Host::wired(&mut sites.net, "later", &gateway1, "later", &mac(4, Tenant::Red))?;
        eventually(Duration::from_secs(20), || {
            let status = sites.gateways[0].status("port later")?;
            ensure!(status["state"] == "ready", "it is not taken up: {status}");
            Ok(())
        })?;
        sites.gateways[0].delete("port later")
    });
    steps.check("S1: programs, files and unknown drivers are refused by name", || {
        for (device, word) in [
            ("net_nonsense0", "net_nonsense0"),
            ("net_failsafe0,exec(/bin/touch /tmp/x)", "net_failsafe0"),
            ("net_pcap0,tx_pcap=/etc/hostname", "net_pcap"),
            ("net_tap7,iface=x,remote=red", "remote"),
            ("net_af_xdp7,iface=red,xdp_prog=/etc/hostname", "xdp_prog"),
        ] {
            let said = sites.gateways[0]
                .refusal(&format!(r#"port: {{name: bad, device: "{device}", role: tenant}}"#))?;
            ensure!(
                said.contains("port.device") && said.contains(word),
                "{device}: it does not say what: {said}"
            );
        }
        sites.red[0].reaches(&v4(2))
    });
    steps.check("two ports never have one device, and a port's device can be replaced", || {
        let said = sites.gateways[0].refusal(&port.replace("iface=extra", "iface=red"))?;
        ensure!(said.contains("port red has interface red already"), "it does not say which: {said}");
        extra.reaches("10.50.0.1")?;
        let other = Host::wired(&mut sites.net, "other", &gateway1, "other", &mac(3, Tenant::Red))?;
        other.address("10.50.0.10/24")?;
        sites.gateways[0].apply(&port.replace("iface=extra", "iface=other"))?;
        other.reaches("10.50.0.1")?;
        sites.gateways[0].apply(port)?;
        extra.reaches("10.50.0.1")
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

fn vlans_and_other_devices(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start_with(workers, AF_XDP)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.red[0].reaches(&v4(2))?;
    let gateway = sites.gateways[0].namespace.clone();
    let trunk = Host::wired(&mut sites.net, "trunk", &gateway, "trunk", &mac(3, Tenant::Red))?;
    sites.gateways[0].apply(r#"port: {name: trunk, device: "net_af_packet6,iface=trunk", role: tenant}"#)?;

    steps.check("802.1Q and QinQ interfaces of one port, in two VRFs", || {
        let (tag, _tag) = trunk.tagged("tag", 10, None)?;
        let (tags, _tags) = trunk.tagged("tags", 100, Some(200))?;
        sites.gateways[0].apply(
            r#"
interface: {name: vlan10, port: trunk, vlan: 10, vrf: red, local_addresses: ["10.60.0.1/24", "2001:db8:60::1/64"]}
---
interface: {name: qinq, port: trunk, vlan: 100, inner_vlan: 200, vrf: blue, local_addresses: ["10.60.0.1/24"]}
"#,
        )?;
        tag.address("10.60.0.10/24")?;
        tag.address("2001:db8:60::10/64")?;
        tag.reaches("10.60.0.1")?;
        tag.reaches("2001:db8:60::1")?;
        tag.default_route("10.60.0.1")?;
        tag.reaches(&v4(1))?;
        tag.namespace.ip("address flush dev tag")?;
        tags.address("10.60.0.10/24")?;
        tags.default_route("10.60.0.1")?;
        tags.reaches("10.60.0.1")?;
        tags.reaches(&v4(1))
    });
    steps.check("a VLAN without an interface is dropped and counted", || {
        let (other, _other) = trunk.tagged("other", 77, None)?;
        other.address("10.60.0.10/24")?;
        sites.gateways[0].expect_drops("unknown_vlan", || other.does_not_reach("10.60.0.1"))
    });
    steps.check("a TAP as tenant port", || {
        sites.gateways[0].apply(&attachment("tap", "net_tap3,iface=tltap", 61))?;
        let host = Host { namespace: gateway.clone(), device: "tltap".to_owned() };
        host.namespace.ip("link set tltap up")?;
        host.namespace.plain_frames("tltap")?;
        host.address("10.61.0.10/24")?;
        host.reaches("10.61.0.1")?;
        host.namespace.ip("route add 10.1.0.0/22 via 10.61.0.1 dev tltap")?;
        host.reaches(&v4(1))
    });
    steps.check("AF_XDP as tenant port", || {
        let host = Host::wired(&mut sites.net, "afxdp", &gateway, "afxdp", "02:00:00:00:0e:02")?;
        sites.gateways[0].apply(&attachment("afxdp", "net_af_xdp0,iface=afxdp", 62))?;
        host.address("10.62.0.10/24")?;
        host.default_route("10.62.0.1")?;
        host.reaches("10.62.0.1")?;
        host.reaches(&v4(1))?;
        let _server = sites.red[0].serve_tcp("10.1.0.10:80")?;
        host.exchange("10.1.0.10:80", 1_000_000)
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

/// A tenant port with a subnet of red.
fn attachment(name: &str, device: &str, network: u8) -> String {
    format!(
        r#"
port: {{name: {name}, device: "{device}", role: tenant}}
---
interface: {{name: {name}, port: {name}, vrf: red, local_addresses: ["10.{network}.0.1/24"]}}
"#
    )
}

with_one_and_two_workers!(ports_come_and_go);
with_one_and_two_workers!(vlans_and_other_devices);
