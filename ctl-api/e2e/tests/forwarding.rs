//! Two gateways, two tenants with the same addresses: what belongs together is
//! joined over every encapsulation and underlay, and nothing else is.

use anyhow::{Context, Result, ensure};
use tieline_e2e::sites::{ENCAPSULATIONS, Underlay, routes, v4, v6, vrf};
use tieline_e2e::{Capture, Sites, Steps, Tenant, eventually, with_one_and_two_workers};

const MEGABYTES: u64 = 4_000_000;

fn every_tunnel_joins_the_sites(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    let [red1, red2] = &sites.red;
    let _server4 = red2.serve_tcp("0.0.0.0:80")?;
    let _server6 = red2.serve_tcp("[2001:db8:2::10]:81")?;

    for encapsulation in ENCAPSULATIONS {
        for underlay in Underlay::BOTH {
            steps.check(&format!("N7: {encapsulation} over {underlay:?} carries IPv4 and IPv6"), || {
                sites.connect(underlay, encapsulation)?;
                for tenant in Tenant::BOTH {
                    let [first, second] = sites.hosts(tenant);
                    first.reaches(&v4(2))?;
                    first.reaches(&v6(2))?;
                    second.reaches(&v4(1))?;
                    second.reaches(&v6(1))?;
                }
                red1.exchange("10.2.0.10:80", MEGABYTES)?;
                red1.exchange("[2001:db8:2::10]:81", MEGABYTES)
            });
        }
    }
    steps.check("each gateway takes one from TTL and hop limit", || {
        ensure!(red1.reply_ttl(&v4(2))? == 62, "TTL {}", red1.reply_ttl(&v4(2))?);
        ensure!(red1.reply_ttl(&v6(2))? == 62, "hop limit {}", red1.reply_ttl(&v6(2))?);
        Ok(())
    });
    steps.check("the gateway's own addresses answer", || {
        red1.reaches("10.1.0.1")?;
        red1.reaches("2001:db8:1::1")
    });
    steps.check("N10: a host at .0 works", || red1.reaches("10.2.1.0"));
    steps.check("no ping of a hundred is lost", || red1.pings_lossless(&v4(2), 100));
    steps.check("both gateways' books balance", || sites.check_balance());
    Ok(())
}

fn tenants_stay_apart(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    let ([red1, red2], [blue1, blue2]) = (&sites.red, &sites.blue);
    let [gw1, gw2] = &sites.gateways;

    steps.check("C16: route distinguishers keep equal prefixes apart", || {
        for (vrf, rd) in [("red", "64512:21"), ("blue", "64512:22")] {
            let route = gw1.route(vrf, "10.2.0.0/22")?.context("the route is not there")?;
            ensure!(route["rd"] == rd && route["origin"] == "vpn", "{vrf}: {route}");
        }
        Ok(())
    });
    steps.check("red's packets never show up in blue", || {
        let capture = Capture::start(&sites.net, &blue2.namespace, "eth0", "icmp or icmp6")?;
        red1.reaches(&v4(2))?;
        red1.pings_lossless(&v6(2), 20)?;
        let seen = capture.stop()?.count("icmp.type == 8 || icmpv6.type == 128")?;
        ensure!(seen == 0, "blue's workload saw {seen} of them");
        Ok(())
    });
    steps.check("an address that only blue has is unknown to red", || {
        blue2.address("10.2.2.2/22")?;
        gw2.apply(&tieline_e2e::sites::interface(
            2,
            Tenant::Blue,
            "[]",
            "allowed_address_pairs: [{prefix: 10.2.2.2/32}]",
        ))?;
        gw2.apply("static_route: {vrf: blue, prefix: 10.2.2.2/32, next_hop: blue2}\n---\nnext_hop: {name: blue2, interface: {interface: blue, address: 10.2.0.10}}")?;
        blue1.reaches("10.2.2.2")?;
        gw2.expect_drops("no_route", || red1.does_not_reach("10.2.2.2"))
    });

    // Blue's next hop label leads into red at the far end only if red says so.
    let shared = "64512:77";
    steps.check("C13, C4: a shared user route target joins two networks", || {
        // Site 1's green network imports what red exports at site 2, and back.
        gw1.apply(&vrf(1, Tenant::Blue, shared, shared))?;
        gw2.apply(&vrf(2, Tenant::Red, shared, shared))?;
        gw1.apply(&routes(2, Tenant::Red, "").replace("64512:8000001", shared))?;
        gw2.apply(&routes(1, Tenant::Blue, "").replace("64512:8000002", shared))?;
        blue1.reaches(&v4(2))?;
        blue1.reaches(&v6(2))?;
        red2.reaches(&v4(1))
    });
    steps.check("C4: removed on one side, the routes are withdrawn there", || {
        gw1.apply(&vrf(1, Tenant::Blue, "64512:8000002", "64512:8000002"))?;
        eventually(std::time::Duration::from_secs(5), || {
            let rd = gw1.route("blue", "10.2.0.0/22")?.map(|route| route["rd"].clone());
            ensure!(rd.as_ref().is_none_or(|rd| rd == "64512:22"), "still there, from {rd:?}");
            Ok(())
        })
    });
    steps.check("both gateways' books balance", || sites.check_balance());
    Ok(())
}

with_one_and_two_workers!(every_tunnel_joins_the_sites);
with_one_and_two_workers!(tenants_stay_apart);
