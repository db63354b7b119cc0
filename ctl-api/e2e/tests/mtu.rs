//! Packets that do not fit into the tunnel: reported, clamped or fragmented.

use anyhow::{Result, ensure};
use tieline_e2e::gateway::AF_XDP;
use tieline_e2e::sites::{Underlay, interface, v4, v6};
use tieline_e2e::{Capture, Sites, Steps, Tenant, with_one_and_two_workers};

const FABRIC_MTU: usize = 1500;
const IPV4: usize = 20;
const IPV6: usize = 40;
const ICMP: usize = 8;
const TCP: usize = 20;

/// Bytes in front of the tenant's packet, from the outer IP header on.
fn overhead(encapsulation: &str, underlay: Underlay) -> usize {
    let ip = if underlay == Underlay::V4 { IPV4 } else { IPV6 };
    ip + match encapsulation {
        "mpls_udp" => 8 + 4,
        "mpls_gre" => 4 + 4,
        _ => 8 + 8 + 14,
    }
}

fn what_does_not_fit_is_reported(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    let red1 = &sites.red[0];
    for (encapsulation, underlay) in [
        ("mpls_udp", Underlay::V4),
        ("mpls_gre", Underlay::V6),
        ("vxlan", Underlay::V4),
        ("vxlan", Underlay::V6),
    ] {
        steps.check(&format!("{encapsulation} over {underlay:?}"), || {
            sites.connect(underlay, encapsulation)?;
            red1.reaches(&v4(2))?;
            red1.reaches(&v6(2))?;
            let mtu = FABRIC_MTU - overhead(encapsulation, underlay);
            forget_path_mtu(&sites)?;
            fits(&sites, &v4(2), mtu - IPV4 - ICMP)?;
            reported(&sites, &v4(2), mtu, IPV4)?;
            fits(&sites, &v6(2), mtu - IPV6 - ICMP)?;
            reported(&sites, &v6(2), mtu, IPV6)
        });
    }
    Ok(())
}

fn forget_path_mtu(sites: &Sites) -> Result<()> {
    for host in &sites.red {
        host.namespace.ip("-4 route flush cache")?;
        host.namespace.ip("-6 route flush cache")?;
    }
    Ok(())
}

fn fits(sites: &Sites, destination: &str, payload: usize) -> Result<()> {
    let ping = sites.red[0].ping_with(destination, &format!("-c 2 -i 0.2 -M do -s {payload}"))?;
    ensure!(
        ping.status.success(),
        "{payload} bytes to {destination} are lost: {}{}",
        ping.stdout,
        ping.stderr
    );
    Ok(())
}

/// One byte more must be answered by the gateway, with the right MTU.
fn reported(sites: &Sites, destination: &str, mtu: usize, ip_header: usize) -> Result<()> {
    let capture = Capture::start(&sites.net, &sites.red[0].namespace, "eth0", "icmp or icmp6")?;
    let payload = mtu - ip_header - ICMP + 1;
    let ping = sites.red[0].ping_with(destination, &format!("-c 1 -M do -s {payload}"))?;
    ensure!(!ping.status.success(), "{payload} bytes to {destination} pass");
    let packets = capture.stop()?;
    let (filter, field) = match ip_header {
        IPV4 => ("icmp.type == 3 && icmp.code == 4", "icmp.mtu"),
        _ => ("icmpv6.type == 2", "icmpv6.mtu"),
    };
    let rows = packets.fields(filter, &[field])?;
    ensure!(rows.first().is_some_and(|row| row[0] == mtu.to_string()), "MTU {mtu} was not told: {rows:?}");
    Ok(())
}

/// AF_PACKET ports hand over IPv4 fragments put together again (their fanout
/// group asks the kernel to), AF_XDP ports as they are.
fn use_af_xdp(sites: &Sites) -> Result<()> {
    for gateway in &sites.gateways {
        gateway.delete("port red")?;
        gateway.apply(r#"port: {name: red, device: "net_af_xdp0,iface=red", role: tenant}"#)?;
    }
    Ok(())
}

fn transfers_and_fragments_arrive(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start_with(workers, AF_XDP)?;
    sites.connect(Underlay::V4, "vxlan")?;
    let [red1, red2] = &sites.red;
    red1.reaches(&v4(2))?;
    let mtu = FABRIC_MTU - overhead("vxlan", Underlay::V4);
    let _tcp4 = red2.serve_tcp("10.2.0.10:80")?;
    let _tcp6 = red2.serve_tcp("[2001:db8:2::10]:80")?;
    let _udp4 = red2.serve_udp("10.2.0.10:53")?;
    let _udp6 = red2.serve_udp("[2001:db8:2::10]:53")?;

    steps.check("TCP is clamped to what fits, and transfers", || {
        let capture = Capture::start(&sites.net, &red2.namespace, "eth0", "tcp port 80 or ip6")?;
        red1.exchange("10.2.0.10:80", 2_000_000)?;
        red1.exchange("[2001:db8:2::10]:80", 2_000_000)?;
        let packets = capture.stop()?;
        let rows = packets.fields("tcp.flags.syn == 1", &["ip.version", "tcp.options.mss_val"])?;
        ensure!(rows.len() >= 2, "two SYNs arrive: {rows:?}");
        for row in rows {
            let ip = if row[0] == "4" { IPV4 } else { IPV6 };
            let fitting = (mtu - ip - TCP).to_string();
            ensure!(row[1] == fitting, "MSS {}, not {fitting}", row[1]);
        }
        Ok(())
    });
    steps.check("an IPv4 packet that may be fragmented arrives in fragments", || {
        let ping = red1.ping_with(&v4(2), "-c 2 -i 0.2 -M dont -s 1472")?;
        ensure!(ping.status.success(), "lost: {}", ping.stdout);
        Ok(())
    });
    let gateway = &sites.gateways[1];
    gateway.apply("security_group: {id: 100, rules: [{direction: egress}, {direction: ingress, protocol: udp, ports: 53}]}")?;
    gateway.apply(&interface(2, Tenant::Red, "[100]", ""))?;
    use_af_xdp(&sites)?;
    for socket in ["10.2.0.10:53", "[2001:db8:2::10]:53"] {
        steps.check(
            &format!("datagrams to {socket} that the sender fragments pass the security groups"),
            || {
                red1.udp_passes(socket)?;
                // The first ones may only teach the sender the path's MTU.
                red1.udp(socket, 6000, 2)?;
                let returned = red1.udp(socket, 6000, 5)?;
                ensure!(returned == 5, "{returned} of 5 large datagrams came back");
                Ok(())
            },
        );
    }
    steps.check("fragments whose first was not allowed stay out", || {
        sites.gateways[1].apply("security_group: {id: 100, rules: [{direction: egress}]}")?;
        ensure!(red1.udp("10.2.0.10:53", 6000, 2)? == 0, "a datagram passed without a rule");
        Ok(())
    });
    steps.check("both gateways' books balance", || sites.check_balance());
    Ok(())
}

with_one_and_two_workers!(what_does_not_fit_is_reported);
with_one_and_two_workers!(transfers_and_fragments_arrive);
