//! Random and mutated frames from every side, with real traffic between them:
//! the daemons live, and every packet left by exactly one counted door.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::command::Background;
use tieline_e2e::gateway::{Gateway, number};
use tieline_e2e::sites::{Underlay, interface, routes};
use tieline_e2e::{Host, Sites, Steps, Tenant, with_one_and_two_workers};

const SECONDS: u32 = 4;

fn every_packet_is_accounted_for(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    // Blue is filtered, so that sessions are made and refused.
    let group = r#"
security_group: {id: 100, rules: [{direction: egress}, {direction: ingress, protocol: udp, ports: "0-2000"}, {direction: ingress, protocol: icmp}]}
"#;
    for (site, gateway) in [1, 2].into_iter().zip(&sites.gateways) {
        gateway.apply(group)?;
        gateway.apply(&interface(site, Tenant::Blue, "[100]", ""))?;
        gateway.apply(&routes(3 - site, Tenant::Blue, ", security_groups: [100]"))?;
    }
    let _server = sites.red[1].serve_tcp("10.2.0.10:80")?;
    let _udp = sites.blue[1].serve_udp("10.2.0.10:53")?;
    sites.red[0].connect("10.2.0.10:80")?;
    sites.blue[0].udp_passes("10.2.0.10:53")?;

    steps.check("real traffic passes in the noise", || {
        let mut noise = start_noise(&sites)?;
        sites.red[0].exchange("10.2.0.10:80", 1_000_000)?;
        sites.blue[0].udp_flows("10.2.0.10:53", 50, 2, 200)?;
        noise.iter_mut().try_for_each(|source| source.wait(Duration::from_secs(20)).map(drop))
    });
    steps.check("the daemons live", || {
        sites.gateways.iter_mut().try_for_each(|gateway| gateway.check_alive())
    });
    steps.check("tenants still talk", || {
        sites.red[0].reaches("10.2.0.10")?;
        sites.red[0].reaches("2001:db8:2::10")
    });
    steps.check("each worker's stages have seen packets", || {
        sites.gateways.iter().try_for_each(|gateway| check_stages(gateway, workers))
    });
    steps.check("both gateways' books balance", || sites.check_balance());
    for gateway in &sites.gateways {
        eprintln!("  drops of {}: {:?}", gateway.namespace.role(), gateway.drops()?);
    }
    steps.check("they stop in order", || sites.gateways.iter_mut().try_for_each(|gateway| gateway.stop()));
    Ok(())
}

/// Packets came in, were parsed and sent by every worker, and all of its time
/// is accounted for.
fn check_stages(gateway: &Gateway, workers: usize) -> Result<()> {
    let stats = gateway.tlctl("stats stages --total")?;
    let all = stats["workers"].as_array().context("a list of workers")?;
    ensure!(all.len() == workers, "{} workers", all.len());
    for worker in all {
        let stages = worker["stages"].as_array().context("a list of stages")?;
        let mut cycles = number(&worker["idle_cycles"]);
        for stage in stages {
            cycles += number(&stage["cycles"]);
            let used = number(&stage["packets"]) >= number(&stage["bursts"]) && number(&stage["bursts"]) > 0;
            let needed = ["receive", "express", "transmit"].contains(&stage["stage"].as_str().unwrap_or(""));
            ensure!(used || !needed, "no packets in a stage: {stage}");
        }
        let seconds = cycles as f64 / number(&stats["cycles_per_second"]) as f64;
        let uptime = number(&stats["uptime_nanoseconds"]) as f64 / 1e9;
        ensure!((0.5..1.5).contains(&(seconds / uptime)), "{seconds} s are charged of {uptime} s");
    }
    Ok(())
}

/// From a workload of each tenant, and from the underlay.
fn start_noise(sites: &Sites) -> Result<Vec<Background>> {
    let mac = |gateway: usize, port: &str| -> Result<String> {
        let stats = sites.gateways[gateway].stats_of("ports", port)?;
        Ok(stats["mac"].as_str().unwrap_or_default().to_owned())
    };
    let tenant = [
        "10.1.0.10",
        "10.2.0.10",
        "10.1.0.10",
        "10.1.0.1",
        "10.1.1.0",
        "10.99.0.1",
        "2001:db8:1::10",
        "2001:db8:2::10",
        "2001:db8:1::10",
        "2001:db8:1::1",
    ];
    let underlay =
        ["198.18.0.2", "198.18.0.1", "2001:db8:ffff::2", "2001:db8:ffff::1", "10.2.0.10", "10.1.0.10"];
    // The far gateway's own device, so that this comes from the underlay.
    let fabric = Host { namespace: sites.gateways[1].namespace.clone(), device: "fabric".to_owned() };
    Ok(vec![
        sites.red[0].fuzz(SECONDS, 1, &mac(0, "red")?, &tenant)?,
        sites.blue[0].fuzz(SECONDS, 2, &mac(0, "blue")?, &tenant)?,
        fabric.fuzz(SECONDS, 3, &mac(0, "fabric")?, &underlay)?,
    ])
}

with_one_and_two_workers!(every_packet_is_accounted_for);
