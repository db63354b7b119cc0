//! The control API through `tlctl`: order, idempotence, refusals, withdrawal,
//! and what a gateway does without anybody telling it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::sites::{Underlay, routes, v4, vrf};
use tieline_e2e::{Gateway, Net, Sites, Steps, Tenant, eventually, with_one_and_two_workers};

fn objects_come_in_any_order(workers: usize, steps: &mut Steps) -> Result<()> {
    let (gateway, _net) = &bare_gateway(workers)?;

    steps.check("what refers to something undeclared waits for it", || {
        gateway.apply(r#"interface: {name: late, port: p0, vrf: red, local_addresses: ["10.1.0.1/24"]}"#)?;
        gateway.apply(r#"route: {rd: "64512:1", prefix: 10.2.0.0/24, route_targets: ["64512:1"], next_hop: far, label: 100}"#)?;
        let status = gateway.status("interface late")?;
        let waits = status["waits_for"].to_string();
        ensure!(status["state"] == "waiting" && waits.contains("p0") && waits.contains("red"), "{status}");
        let status = gateway.status("route 64512:1 10.2.0.0/24")?;
        ensure!(status["state"] == "waiting" && status["waits_for"].to_string().contains("far"), "{status}");
        Ok(())
    });
    steps.check("and is in force once that is there", || {
        gateway.apply(r#"next_hop: {name: far, discard: {}}"#)?;
        gateway.apply(r#"vrf: {name: red, import_route_targets: ["64512:1"]}"#)?;
        gateway.apply(r#"port: {name: p0, device: "net_null0,no-rx=1", role: tenant}"#)?;
        for object in ["interface late", "route 64512:1 10.2.0.0/24"] {
            let status = gateway.status(object)?;
            ensure!(status["state"] == "ready", "{object}: {status}");
        }
        ensure!(gateway.route("red", "10.2.0.0/24")?.is_some(), "the route is not in the FIB");
        ensure!(gateway.route("red", "10.1.0.0/24")?.is_some(), "the connected route is not in the FIB");
        Ok(())
    });
    steps.check("applying it again changes nothing", || {
        let before = gateway.tlctl("routes --vrf red")?;
        gateway.apply(r#"vrf: {name: red, import_route_targets: ["64512:1"]}"#)?;
        gateway.apply(r#"route: {rd: "64512:1", prefix: 10.2.0.0/24, route_targets: ["64512:1"], next_hop: far, label: 100}"#)?;
        ensure!(gateway.tlctl("routes --vrf red")? == before, "the routes changed");
        Ok(())
    });
    steps.check("other route targets import other routes", || {
        gateway.apply(r#"vrf: {name: red, import_route_targets: ["64512:2"]}"#)?;
        ensure!(gateway.route("red", "10.2.0.0/24")?.is_none(), "the old route stayed");
        gateway.apply(r#"vrf: {name: red, import_route_targets: ["64512:2", "64512:1"]}"#)?;
        ensure!(gateway.route("red", "10.2.0.0/24")?.is_some(), "the route did not come back");
        Ok(())
    });
    steps.check("withdrawing works, twice too", || {
        for _ in 0..2 {
            gateway.delete("route 64512:1 10.2.0.0/24")?;
        }
        ensure!(gateway.route("red", "10.2.0.0/24")?.is_none(), "the route stayed");
        let finished = gateway.tlctl_finish(&["get", "route", "64512:1", "10.2.0.0/24"], "")?;
        ensure!(finished.status.code() == Some(4), "exit code {}, not 4: not found", finished.status);
        Ok(())
    });
    Ok(())
}

fn wrong_input_is_refused_by_field(workers: usize, steps: &mut Steps) -> Result<()> {
    let (gateway, _net) = &bare_gateway(workers)?;
    gateway.apply("vrf: {name: red, label: 100, vni: 7}")?;
    for (yaml, field) in [
        (r#"vrf: {name: "no spaces", label: 101}"#, "vrf.name"),
        ("vrf: {name: green, label: 15}", "vrf.label"),
        ("vrf: {name: green, label: 1048576}", "vrf.label"),
        ("vrf: {name: green, label: 100}", "red"),
        ("vrf: {name: green, vni: 7}", "red"),
        ("vrf: {name: underlay}", "vrf.name"),
        (r#"vrf: {name: green, rd: "nonsense"}"#, "vrf.rd"),
        (r#"vrf: {name: green, import_route_targets: ["64512:1", "x"]}"#, "import_route_targets[1]"),
        (r#"interface: {name: i, port: p, vrf: red, local_addresses: ["10.0.0.1"]}"#, "local_addresses[0]"),
        (
            r#"interface: {name: i, port: p, vlan: 4095, vrf: red, local_addresses: ["10.0.0.1/24"]}"#,
            "interface.vlan",
        ),
        (r#"route: {rd: "1:1", prefix: 10.0.0.1/24, route_targets: ["1:1"], next_hop: n}"#, "route.prefix"),
        (r#"route: {rd: "1:1", prefix: 10.0.0.0/24, next_hop: n}"#, "route.route_targets"),
        ("next_hop: {name: n, tunnel: {remote: nowhere}}", "remote"),
        ("security_group: {id: 0}", "security_group.id"),
        (r#"static_route: {vrf: red, prefix: "ff00::/8", next_hop: n}"#, "static_route.prefix"),
    ] {
        steps.check(&format!("refused: {yaml}"), || {
            let said = gateway.refusal(yaml)?;
            ensure!(said.contains(field), "it does not name {field}: {said}");
            Ok(())
        });
    }
    steps.check("nothing of it was kept", || {
        let vrfs = gateway.tlctl("list vrf")?;
        ensure!(vrfs.as_array().map(Vec::len) == Some(1), "more than red: {vrfs}");
        Ok(())
    });
    Ok(())
}

fn it_forwards_without_a_controller(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.red[0].reaches(&v4(2))?;

    steps.check("N1: closed streams withdraw nothing", || {
        // Every tlctl has closed its stream by now.
        ensure!(sites.gateways[0].route("red", "10.2.0.0/22")?.is_some(), "the route is gone");
        sites.red[0].pings_lossless(&v4(2), 50)
    });
    steps.check("a change of import route targets moves live traffic", || {
        sites.gateways[0].apply(&vrf(1, Tenant::Red, "64512:5", "64512:8000001"))?;
        sites.red[0].does_not_reach(&v4(2))?;
        sites.gateways[0].apply(&vrf(1, Tenant::Red, "64512:8000001", "64512:8000001"))?;
        sites.red[0].reaches(&v4(2))
    });
    steps.check("a better path takes over, and the other one stays behind it", || {
        let better = routes(2, Tenant::Red, ", local_pref: 200").replace("64512:21", "64512:29");
        sites.gateways[0].apply(&better)?;
        let route = sites.gateways[0].route("red", "10.2.0.0/22")?.context("a route")?;
        ensure!(route["rd"] == "64512:29" && route["paths"] == 2, "{route}");
        sites.gateways[0].delete("route 64512:29 10.2.0.0/22")?;
        let route = sites.gateways[0].route("red", "10.2.0.0/22")?.context("a route")?;
        ensure!(route["rd"] == "64512:21" && route["paths"] == 1, "{route}");
        sites.red[0].reaches(&v4(2))
    });
    steps.check("R4: a tunnel without a route to its remote is degraded, and says so", || {
        sites.gateways[0].apply("next_hop: {name: lost, tunnel: {remote: 203.0.113.1}}")?;
        sites.gateways[0]
            .apply(r#"route: {rd: "64512:50", prefix: 10.50.0.0/24, route_targets: ["64512:8000001"], next_hop: lost, label: 50}"#)?;
        let status = sites.gateways[0].status("route 64512:50 10.50.0.0/24")?;
        ensure!(
            status["state"] == "degraded" && status["message"].to_string().contains("203.0.113.1"),
            "{status}"
        );
        sites.gateways[0].expect_drops("next_hop_unusable", || sites.red[0].does_not_reach("10.50.0.1"))
    });
    steps.check("it stops in order", || sites.gateways.iter_mut().try_for_each(Gateway::stop));
    Ok(())
}

#[test]
fn it_starts_without_configuration() {
    tieline_e2e::scenario::run_scenario("without configuration", 1, |_workers, steps| {
        let mut net = Net::new()?;
        let namespace = net.namespace("gw1")?;
        let mut gateway = Gateway::start_bare(&net, &namespace)?;
        eprintln!("  ready after {:.2} s", gateway.ready_after.as_secs_f32());
        let resident = gateway.resident_kib()? / 1024;
        eprintln!("  resident: {resident} MiB");
        steps.check("it is resident in less than 300 MiB", || {
            ensure!(resident < 300, "{resident} MiB");
            Ok(())
        });
        steps.check("it answers", || {
            let version = gateway.tlctl("version")?;
            let dpdk = version["daemon"]["dpdk_version"].as_str().unwrap_or_default();
            ensure!(dpdk.contains("DPDK") || dpdk.starts_with(|c: char| c.is_ascii_digit()), "{version}");
            Ok(())
        });
        steps.check("it takes objects", || {
            gateway.apply("vrf: {name: red, label: 100}")?;
            eventually(Duration::from_secs(1), || gateway.tlctl("routes --vrf red").map(drop))
        });
        steps.check("it stops in order", || gateway.stop());
        Ok(())
    });
}

/// A gateway without ports.
fn bare_gateway(workers: usize) -> Result<(Gateway, Net)> {
    let mut net = Net::new()?;
    let namespace = net.namespace("gw1")?;
    let more = "test_drivers = [\"net_null\"]\n".to_owned();
    let config = tieline_e2e::GatewayConfig { more, ..tieline_e2e::GatewayConfig::workers(workers) };
    let gateway = Gateway::start(&net, &namespace, &config)?;
    Ok((gateway, net))
}

with_one_and_two_workers!(objects_come_in_any_order);
with_one_and_two_workers!(wrong_input_is_refused_by_field);
with_one_and_two_workers!(it_forwards_without_a_controller);
