//! The bytes on the underlay, as tshark decodes them, against the RFCs.

use anyhow::{Context, Result, ensure};
use tieline_e2e::sites::{Underlay, label, router_mac, v4, v6, vni};
use tieline_e2e::{Capture, Sites, Steps, Tenant, with_one_and_two_workers};

/// What is in front of the tenant's packet, in fields of tshark.
struct Expected {
    encapsulation: &'static str,
    /// Selects the tunnel's packets.
    filter: &'static str,
    /// Field and value.
    fields: Vec<(&'static str, String)>,
    is_udp: bool,
}

fn expected() -> [Expected; 3] {
    let label = label(2, Tenant::Red).to_string();
    [
        // RFC 7510: destination port 6635. RFC 3032: one entry, at the bottom.
        Expected {
            encapsulation: "mpls_udp",
            filter: "udp.dstport == 6635 && mpls",
            fields: vec![
                ("mpls.label", label.clone()),
                ("mpls.bottom", "1".into()),
                ("mpls.ttl", "64".into()),
            ],
            is_udp: true,
        },
        // RFC 4023: protocol type 0x8847, no flags.
        Expected {
            encapsulation: "mpls_gre",
            filter: "gre && mpls",
            fields: vec![
                ("gre.proto", "0x8847".into()),
                ("gre.flags_and_version", "0x0000".into()),
                ("mpls.label", label),
                ("mpls.bottom", "1".into()),
                ("mpls.ttl", "64".into()),
            ],
            is_udp: false,
        },
        // RFC 7348: destination port 4789, only the I flag.
        Expected {
            encapsulation: "vxlan",
            filter: "udp.dstport == 4789 && vxlan",
            fields: vec![("vxlan.flags", "0x0800".into()), ("vxlan.vni", vni(2, Tenant::Red).to_string())],
            is_udp: true,
        },
    ]
}

fn tunnels_are_as_the_rfcs_say(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    for expected in expected() {
        for underlay in Underlay::BOTH {
            steps.check(&format!("{} over {underlay:?}", expected.encapsulation), || {
                sites.connect(underlay, expected.encapsulation)?;
                sites.red[0].reaches(&v4(2))?;
                sites.red[0].reaches(&v6(2))?;
                check_bytes(&sites, underlay, &expected)
            });
        }
    }
    Ok(())
}

fn check_bytes(sites: &Sites, underlay: Underlay, expected: &Expected) -> Result<()> {
    let capture = Capture::start(&sites.net, &sites.gateways[1].namespace, "fabric", "")?;
    for size in ["56", "57", "1000"] {
        sites.red[0].ping_with(&v4(2), &format!("-c 2 -i 0.1 -s {size}"))?;
        sites.red[0].ping_with(&v6(2), &format!("-c 2 -i 0.1 -s {size}"))?;
    }
    let packets = capture.stop()?;
    let shown = || packets.describe(expected.filter);

    let names: Vec<&str> = expected.fields.iter().map(|(name, _)| *name).collect();
    let rows = packets.fields(expected.filter, &names)?;
    ensure!(rows.len() >= 12, "{} tunnel packets of 12 arrived", rows.len());
    for row in &rows {
        for ((name, value), found) in expected.fields.iter().zip(row) {
            ensure!(found == value, "{name} is {found}, not {value}:\n{}", shown()?);
        }
    }
    check_outer(&packets, underlay, expected)?;
    check_inner(&packets, expected)
}

fn check_outer(
    packets: &tieline_e2e::capture::Packets,
    underlay: Underlay,
    expected: &Expected,
) -> Result<()> {
    let (source, ttl, length) = match underlay {
        Underlay::V4 => ("ip.src", "ip.ttl", "ip.flags.df"),
        Underlay::V6 => ("ipv6.src", "ipv6.hlim", "ipv6.plen"),
    };
    let outermost = |value: &str| value.split(',').next().unwrap_or_default().to_owned();
    for row in packets.fields(expected.filter, &[source, ttl, length, "ip.checksum.status"])? {
        ensure!(outermost(&row[0]) == underlay.endpoint(1), "from {}", row[0]);
        ensure!(outermost(&row[1]) == "64", "outer TTL {}", row[1]);
        if underlay == Underlay::V4 {
            ensure!(outermost(&row[2]) == "1", "the outer packet may be fragmented");
        }
        ensure!(!row[3].split(',').any(|status| status == "0"), "a bad IPv4 checksum: {}", row[3]);
    }
    if !expected.is_udp {
        return Ok(());
    }
    for row in packets.fields(expected.filter, &["udp.srcport", "udp.checksum.status", "udp.checksum"])? {
        let port: u16 = outermost(&row[0]).parse().context("a source port")?;
        ensure!(port >= 49152, "source port {port} is not one of 49152 to 65535 (RFC 7510 section 3)");
        ensure!(outermost(&row[1]) != "0", "a bad UDP checksum: {}", row[2]);
        // RFC 8200 section 8.1: zero is not the rule over IPv6.
        let zero = outermost(&row[2]) == "0x0000";
        ensure!(underlay == Underlay::V4 || !zero, "no UDP checksum over IPv6");
    }
    Ok(())
}

fn check_inner(packets: &tieline_e2e::capture::Packets, expected: &Expected) -> Result<()> {
    for (family, select, ttl) in
        [("IPv4", "icmp.type == 8", "ip.ttl"), ("IPv6", "icmpv6.type == 128", "ipv6.hlim")]
    {
        let rows =
            packets.fields(&format!("{} && {select}", expected.filter), &[ttl, "eth.dst", "eth.src"])?;
        ensure!(rows.len() >= 6, "{} echo requests of 6 over {family}", rows.len());
        for row in rows {
            let innermost = row[0].rsplit(',').next().unwrap_or_default();
            ensure!(innermost == "63", "inner TTL {innermost}");
            if expected.encapsulation == "vxlan" {
                let inner_macs = (row[1].rsplit(',').next(), row[2].rsplit(',').next());
                let (to, from) = (router_mac(2), router_mac(1));
                ensure!(
                    inner_macs == (Some(to.as_str()), Some(from.as_str())),
                    "inner MACs {inner_macs:?}, not to {to} from {from}"
                );
            }
        }
    }
    Ok(())
}

fn one_flow_has_one_source_port(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    let _server = sites.red[1].serve_udp("10.2.0.10:53")?;
    sites.red[0].udp_passes("10.2.0.10:53")?;
    steps.check("source ports follow flows", || {
        let capture = Capture::start(&sites.net, &sites.gateways[1].namespace, "fabric", "udp port 6635")?;
        sites.red[0].udp_flows("10.2.0.10:53", 40, 5, 100)?;
        let rows = capture.stop()?.fields("mpls && udp.dstport == 53", &["udp.srcport"])?;
        let mut outer_of_inner = std::collections::HashMap::new();
        for row in &rows {
            let (outer, inner) = row[0].split_once(',').context("two source ports")?;
            let known = outer_of_inner.entry(inner.to_owned()).or_insert_with(|| outer.to_owned());
            ensure!(known == outer, "the flow from port {inner} uses {known} and {outer}");
        }
        let outer: std::collections::HashSet<_> = outer_of_inner.values().collect();
        ensure!(outer_of_inner.len() == 40, "{} flows of 40 were seen", outer_of_inner.len());
        ensure!(outer.len() >= 30, "40 flows share {} source ports", outer.len());
        Ok(())
    });
    Ok(())
}

with_one_and_two_workers!(tunnels_are_as_the_rfcs_say);
with_one_and_two_workers!(one_flow_has_one_source_port);
