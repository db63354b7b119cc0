//! The host port: gateways' own network stacks talk through the fabric, as BGP
//! and ssh do, and tunnels go on beside it.

use anyhow::{Result, ensure};
use tieline_e2e::sites::{Underlay, v4};
use tieline_e2e::{Host, Sites, Steps, with_one_and_two_workers};

/// The kernel's side of the TAP gets the underlay's addresses.
fn open_host_port(sites: &Sites, site: usize) -> Result<Host> {
    let gateway = &sites.gateways[site - 1];
    gateway.apply(r#"port: {name: host, device: "net_tap0,iface=tlhost0", role: host}"#)?;
    let host = Host { namespace: gateway.namespace.clone(), device: "tlhost0".to_owned() };
    host.namespace.ip("link set tlhost0 up")?;
    host.namespace.plain_frames("tlhost0")?;
    host.address(&format!("{}/32", Underlay::V4.endpoint(site)))?;
    host.address(&format!("{}/128", Underlay::V6.endpoint(site)))?;
    host.namespace.ip("route add 198.18.0.0/24 dev tlhost0")?;
    host.namespace.ip("-6 route add 2001:db8:ffff::/64 dev tlhost0 metric 10")?;
    Ok(host)
}

fn hosts_talk_through_the_fabric(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;

    steps.check("without a host port, what is for the host is counted", || {
        // Gateway 2 gets one first; gateway 1 has none yet.
        let second = open_host_port(&sites, 2)?;
        sites.gateways[0].expect_drops("no_host_port", || {
            second.cannot_connect(&format!("{}:179", Underlay::V4.endpoint(1)))
        })
    });
    let first = open_host_port(&sites, 1)?;
    let second = Host { namespace: sites.gateways[1].namespace.clone(), device: "tlhost0".to_owned() };

    steps.check("pings from host to host", || {
        for underlay in Underlay::BOTH {
            first.reaches(&underlay.endpoint(2))?;
            second.reaches(&underlay.endpoint(1))?;
        }
        Ok(())
    });
    steps.check("TTL and hop limit are not touched", || {
        for underlay in Underlay::BOTH {
            let ttl = first.reply_ttl(&underlay.endpoint(2))?;
            ensure!(ttl == 64, "{underlay:?}: {ttl}");
        }
        Ok(())
    });
    steps.check("a BGP speaker one hop away: TCP to port 179 with TTL 1", || {
        for (host, to) in [(&first, 2), (&second, 1)] {
            host.namespace
                .ip(&format!("route replace {} dev tlhost0 hoplimit 1", Underlay::V4.endpoint(to)))?;
            host.namespace.ip(&format!(
                "-6 route replace {} dev tlhost0 metric 5 hoplimit 1",
                Underlay::V6.endpoint(to)
            ))?;
        }
        for underlay in Underlay::BOTH {
            let endpoint = match underlay {
                Underlay::V4 => format!("{}:179", underlay.endpoint(2)),
                Underlay::V6 => format!("[{}]:179", underlay.endpoint(2)),
            };
            let _server = second.serve_tcp(&endpoint)?;
            first.connect(&endpoint)?;
            first.exchange(&endpoint, 500_000)?;
        }
        Ok(())
    });
    steps.check("tunnels go on beside it", || sites.red[0].pings_lossless(&v4(2), 50));
    steps.check("both gateways' books balance", || sites.check_balance());
    Ok(())
}

with_one_and_two_workers!(hosts_talk_through_the_fabric);
