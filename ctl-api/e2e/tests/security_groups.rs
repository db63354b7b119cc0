//! Security groups: what no rule allows is denied, replies pass, and a change
//! of rules takes effect on connections that are open.
//!
//! Red's workload of site 2 is in group 100 unless a step says otherwise; that
//! of site 1 is not filtered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::sites::{Underlay, interface, routes, v4, v6};
use tieline_e2e::{Sites, Steps, Tenant, eventually, with_one_and_two_workers};

const ALL_OUT: &str = "{direction: egress}";
const SERVER: &str = "10.2.0.10:80";

fn group(id: u32, rules: &[&str]) -> String {
    format!("---\nsecurity_group: {{id: {id}, rules: [{}]}}\n", rules.join(", "))
}

/// Two sites in which site 2's red workload is in group 100.
fn filtered_sites(workers: usize) -> Result<Sites> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.red[0].reaches(&v4(2))?;
    sites.red[0].reaches(&v6(2))?;
    sites.gateways[1].apply(&interface(2, Tenant::Red, "[100]", ""))?;
    sites.gateways[1].apply(&group(100, &[]))?;
    Ok(sites)
}

fn rules_allow_and_the_rest_is_denied(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = filtered_sites(workers)?;
    let ([red1, red2], gw2) = (&sites.red, &sites.gateways[1]);
    let _server2 = red2.serve_tcp(SERVER)?;
    let _server2_high = red2.serve_tcp("10.2.0.10:8005")?;
    let _server1 = red1.serve_tcp("10.1.0.10:80")?;
    let _udp2 = red2.serve_udp("10.2.0.10:53")?;

    steps.check("a group without rules denies both ways, and says why", || {
        gw2.expect_drops("sg_denied_ingress", || red1.does_not_reach(&v4(2)))?;
        gw2.expect_drops("sg_denied_egress", || red2.does_not_reach(&v4(1)))?;
        gw2.expect_drops("sg_denied_ingress", || red1.does_not_reach(&v6(2)))
    });
    steps.check("ARP, ND and the gateway's address are not filtered", || {
        red2.namespace.ip("neighbour flush dev eth0")?;
        red2.reaches("10.2.0.1")?;
        red2.reaches("2001:db8:2::1")
    });
    steps.check("an egress rule lets replies in, and nothing else", || {
        gw2.apply(&group(100, &[ALL_OUT]))?;
        red2.connect("10.1.0.10:80")?;
        red2.reaches(&v6(1))?;
        red1.cannot_connect(SERVER)
    });
    steps.check("ports and port ranges", || {
        gw2.apply(&group(
            100,
            &[
                "{direction: ingress, protocol: tcp, ports: 80}",
                "{direction: ingress, protocol: tcp, ports: \"8000-8010\"}",
            ],
        ))?;
        red1.connect(SERVER)?;
        red1.connect("10.2.0.10:8005")?;
        ensure!(red1.udp("10.2.0.10:53", 64, 1)? == 0, "UDP passes");
        gw2.apply(&group(100, &["{direction: ingress, protocol: udp, ports: 53}"]))?;
        red1.udp_passes("10.2.0.10:53")?;
        red1.cannot_connect(SERVER)
    });
    steps.check("ICMP types", || {
        gw2.apply(&group(100, &["{direction: ingress, protocol: icmp, icmp_type: 8}"]))?;
        red1.reaches(&v4(2))?;
        red1.does_not_reach(&v6(2))?;
        gw2.apply(&group(100, &["{direction: ingress, protocol: icmpv6, icmp_type: 128, icmp_code: 0}"]))?;
        red1.reaches(&v6(2))?;
        red1.does_not_reach(&v4(2))
    });
    steps.check("prefixes as remotes", || {
        gw2.apply(&group(100, &["{direction: ingress, remote_prefix: 10.1.0.0/24}"]))?;
        red1.connect(SERVER)?;
        red1.does_not_reach(&v6(2))?;
        gw2.apply(&group(100, &["{direction: ingress, remote_prefix: 10.7.0.0/16}"]))?;
        red1.cannot_connect(SERVER)
    });
    steps.check("C11: a group as the remote, known by the route from the other gateway", || {
        gw2.apply(&group(100, &["{direction: ingress, remote_security_group: 100}"]))?;
        red1.cannot_connect(SERVER)?;
        gw2.apply(&routes(1, Tenant::Red, ", security_groups: [100]"))?;
        red1.connect(SERVER)?;
        gw2.apply(&routes(1, Tenant::Red, ", security_groups: [101]"))?;
        red1.cannot_connect(SERVER)
    });
    steps.check("without groups an interface is not filtered", || {
        gw2.apply(&interface(2, Tenant::Red, "[]", ""))?;
        red1.connect(SERVER)?;
        red1.reaches(&v6(2))
    });
    steps.check("both gateways' books balance", || sites.check_balance());
    Ok(())
}

fn changes_apply_to_open_connections(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = filtered_sites(workers)?;
    let ([red1, red2], gw2) = (&sites.red, &sites.gateways[1]);
    let _server = red2.serve_tcp(SERVER)?;
    let http = "{direction: ingress, protocol: tcp, ports: 80}";
    gw2.apply(&group(100, &[http]))?;
    let mut echo = red1.echo(SERVER)?;

    steps.check("the session is shown", || {
        echo.moves(Duration::from_secs(3))?;
        let sessions = gw2.tlctl("sessions --vrf red")?;
        let list = sessions["sessions"].as_array().context("a list of sessions")?;
        let session = list.iter().find(|session| session["destination_port"] == 80);
        let session = session.with_context(|| format!("no session to port 80: {sessions}"))?;
        ensure!(
            session["source"] == "10.1.0.10" && session["destination"] == "10.2.0.10",
            "other addresses: {session}"
        );
        ensure!(session["protocol"] == "tcp" || session["protocol"] == 6, "another protocol: {session}");
        Ok(())
    });
    steps.check("taking the rule away cuts the connection", || {
        gw2.apply(&group(100, &[]))?;
        echo.stands_still()
    });
    steps.check("giving it back restores the connection", || {
        gw2.apply(&group(100, &[http]))?;
        echo.moves(Duration::from_secs(15))
    });
    Ok(())
}

fn sources_cannot_be_forged(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    let (red1, gw1) = (&sites.red[0], &sites.gateways[0]);
    red1.reaches(&v4(2))?;
    red1.address("10.1.3.77/22")?;
    red1.address("2001:db8:1::77/64")?;

    steps.check("a source that is not the workload's is dropped", || {
        gw1.expect_drops("spoofed_ip", || forged(red1, "10.1.3.77", &v4(2)))?;
        gw1.expect_drops("spoofed_ip", || forged(red1, "2001:db8:1::77", &v6(2)))
    });
    steps.check("so is a MAC that is not the workload's", || {
        red1.namespace.ip("link set eth0 address 02:00:00:00:66:66")?;
        // The gateway does not answer ARP from a forged MAC.
        let port = gw1.stats_of("ports", "red")?;
        let gateway_mac = port["mac"].as_str().context("the port's MAC")?;
        red1.namespace
            .ip(&format!("neighbour replace 10.1.0.1 lladdr {gateway_mac} dev eth0 nud permanent"))?;
        let dropped = gw1.expect_drops("spoofed_mac", || red1.does_not_reach(&v4(2)));
        red1.namespace.ip(&format!("link set eth0 address {}", tieline_e2e::sites::mac(1, Tenant::Red)))?;
        dropped?;
        red1.reaches(&v4(2))
    });
    steps.check("an allowed pair may be used", || {
        gw1.apply(&interface(1, Tenant::Red, "[]", "allowed_address_pairs: [{prefix: 10.1.3.77/32}]"))?;
        let before = gw1.dropped("spoofed_ip")?;
        // The answer finds no route back; what matters is that it left.
        forged(red1, "10.1.3.77", &v4(2))?;
        ensure!(gw1.dropped("spoofed_ip")? == before, "the allowed pair was taken for forged");
        Ok(())
    });
    Ok(())
}

fn forged(host: &tieline_e2e::Host, source: &str, destination: &str) -> Result<()> {
    host.ping_with(destination, &format!("-c 2 -i 0.2 -I {source}")).map(drop)
}

fn a_vrf_keeps_to_its_quota(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = filtered_sites(workers)?;
    let ([red1, red2], gw2) = (&sites.red, &sites.gateways[1]);
    let _server = red2.serve_udp("10.2.0.10:53")?;
    gw2.apply(&group(100, &["{direction: ingress}", ALL_OUT]))?;
    red1.udp_passes("10.2.0.10:53")?;
    let limited = tieline_e2e::sites::vrf(2, Tenant::Red, "64512:8000001", "64512:8000001")
        .replace("label:", "session_quota: 4, label:");

    steps.check("sessions above the quota are refused and counted", || {
        gw2.apply(&limited)?;
        gw2.expect_drops("session_quota", || red1.udp_flows("10.2.0.10:53", 16, 1, 64).map(drop))?;
        let sessions = gw2.tlctl("sessions --vrf red")?;
        let live = sessions["sessions"].as_array().map_or(0, Vec::len);
        ensure!(live <= 4 * workers, "{live} sessions with a quota of 4 on each of {workers} workers");
        Ok(())
    });
    steps.check("another tenant is not affected", || sites.blue[0].reaches(&v4(2)));
    steps.check("sessions that begin faster than the rate are refused and counted", || {
        gw2.apply(&limited.replace("session_quota: 4", "session_rate: 2"))?;
        gw2.expect_drops("session_rate", || red1.udp_flows("10.2.0.10:53", 16, 1, 64).map(drop))
    });
    steps.check("a larger quota helps at once", || {
        gw2.apply(&limited.replace("session_quota: 4", "session_quota: 1000"))?;
        eventually(Duration::from_secs(3), || red1.udp_passes("10.2.0.10:53"))
    });
    Ok(())
}

with_one_and_two_workers!(rules_allow_and_the_rest_is_denied);
with_one_and_two_workers!(changes_apply_to_open_connections);
with_one_and_two_workers!(sources_cannot_be_forged);
with_one_and_two_workers!(a_vrf_keeps_to_its_quota);
