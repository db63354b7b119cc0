//! The topology that most tests share: two sites, two tenants in each, and both
//! tenants use the same addresses.
//!
//! ```text
//! red  10.1.0.10, 10.1.1.0 -.                                   .- red  10.2.0.10, 10.2.1.0
//!      2001:db8:1::10        gw1 ==== 198.18.0.0/24 ======== gw2   2001:db8:2::10
//! blue (the same)          -'         2001:db8:ffff::/64        '- blue (the same)
//! ```
//!
//! Of site `s` and tenant `t` (red 1, blue 2): label `1000 s + t`, VNI
//! `5000 s + t`, RD `64512:st`, RT `64512:8000000 + t`.

use anyhow::Result;

use crate::gateway::{Gateway, GatewayConfig};
use crate::host::Host;
use crate::net::{Namespace, Net};

/// A tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenant {
    /// The first.
    Red,
    /// The second; it has red's addresses.
    Blue,
}

impl Tenant {
    /// Both.
    pub const BOTH: [Tenant; 2] = [Tenant::Red, Tenant::Blue];

    /// Name of its VRF, port and interface in every site.
    pub fn name(self) -> &'static str {
        match self {
            Tenant::Red => "red",
            Tenant::Blue => "blue",
        }
    }

    fn number(self) -> usize {
        self as usize + 1
    }
}

/// IP version of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Underlay {
    /// Both.
    pub const BOTH: [Underlay; 2] = [Underlay::V4, Underlay::V6];

    /// Tunnel endpoint of a site.
    pub fn endpoint(self, site: usize) -> String {
        match self {
            Underlay::V4 => format!("198.18.0.{site}"),
            Underlay::V6 => format!("2001:db8:ffff::{site}"),
        }
    }
}

/// The encapsulations by their names in the API.
pub const ENCAPSULATIONS: [&str; 3] = ["mpls_udp", "mpls_gre", "vxlan"];

/// IPv4 address of the workload of a site.
pub fn v4(site: usize) -> String {
    format!("10.{site}.0.10")
}

/// IPv6 address of the workload of a site.
pub fn v6(site: usize) -> String {
    format!("2001:db8:{site}::10")
}

/// MAC of a workload.
pub fn mac(site: usize, tenant: Tenant) -> String {
    format!("02:00:00:00:0{site}:0{}", tenant.number())
}

/// Router's MAC of a site, the inner destination of layer 3 over VXLAN.
pub fn router_mac(site: usize) -> String {
    format!("02:00:00:00:ff:0{site}")
}

/// MPLS label of a tenant's VRF.
pub fn label(site: usize, tenant: Tenant) -> usize {
    1000 * site + tenant.number()
}

/// VNI of a tenant's VRF.
pub fn vni(site: usize, tenant: Tenant) -> usize {
    5000 * site + tenant.number()
}

/// Route distinguisher of a tenant's routes.
pub fn rd(site: usize, tenant: Tenant) -> String {
    format!("64512:{site}{}", tenant.number())
}

/// Two sites. Indices of the arrays are site - 1.
#[derive(Debug)]
pub struct Sites {
    /// The daemons.
    pub gateways: [Gateway; 2],
    /// The workloads of tenant red.
    pub red: [Host; 2],
    /// The workloads of tenant blue.
    pub blue: [Host; 2],
    /// The namespaces.
    pub net: Net,
}

impl Sites {
    /// Starts both sites and declares all that is local to each.
    pub fn start(workers: usize) -> Result<Self> {
        Self::start_with(workers, "")
    }

    /// As [`Sites::start`], with further configuration of both daemons.
    pub fn start_with(workers: usize, more: &str) -> Result<Self> {
        let mut net = Net::new()?;
        let [gw1, gw2] = [net.namespace("gw1")?, net.namespace("gw2")?];
        net.wire((&gw1, "fabric"), (&gw2, "fabric"))?;
        gw1.give_to_gateway("fabric")?;
        gw2.give_to_gateway("fabric")?;
        let mut workload = |site: usize, gateway: &Namespace, tenant: Tenant| -> Result<Host> {
            let role = format!("{}{site}", tenant.name());
            let host = Host::wired(&mut net, &role, gateway, tenant.name(), &mac(site, tenant))?;
            host.address(&format!("{}/22", v4(site)))?;
            // An address that only looks like a network's (scenario N10).
            host.address(&format!("10.{site}.1.0/22"))?;
            host.address(&format!("{}/64", v6(site)))?;
            host.default_route(&format!("10.{site}.0.1"))?;
            host.default_route(&format!("2001:db8:{site}::1"))?;
            Ok(host)
        };
        let red = [workload(1, &gw1, Tenant::Red)?, workload(2, &gw2, Tenant::Red)?];
        let blue = [workload(1, &gw1, Tenant::Blue)?, workload(2, &gw2, Tenant::Blue)?];
        let start = |site: usize, namespace: &Namespace| -> Result<Gateway> {
            let config = GatewayConfig {
                workers,
                router_mac: router_mac(site),
                more: more.to_owned(),
                ..GatewayConfig::default()
            };
            let gateway = Gateway::start(&net, namespace, &config)?;
            gateway.apply(&local_objects(site, workers))?;
            Ok(gateway)
        };
        let gateways = [start(1, &gw1)?, start(2, &gw2)?];
        Ok(Self { gateways, red, blue, net })
    }

    /// Joins the sites: a tunnel next hop each way, and the routes of both tenants.
    pub fn connect(&self, underlay: Underlay, encapsulation: &str) -> Result<()> {
        for (here, there) in [(1, 2), (2, 1)] {
            let mut yaml = next_hop(there, underlay, encapsulation);
            for tenant in Tenant::BOTH {
                yaml += &routes(there, tenant, "");
            }
            self.gateways[here - 1].apply(&yaml)?;
        }
        Ok(())
    }

    /// Blue is filtered at both sites: it may be called on one port, and pinged.
    pub fn filter_blue(&self) -> Result<()> {
        let group = r#"
security_group: {id: 100, rules: [{direction: egress}, {direction: ingress, protocol: tcp, ports: "80"}, {direction: ingress, protocol: icmp}]}
"#;
        for (site, gateway) in [1, 2].into_iter().zip(&self.gateways) {
            gateway.apply(group)?;
            gateway.apply(&interface(site, Tenant::Blue, "[100]", ""))?;
            gateway.apply(&routes(3 - site, Tenant::Blue, ", security_groups: [100]"))?;
        }
        Ok(())
    }

    /// The workloads of one tenant.
    pub fn hosts(&self, tenant: Tenant) -> &[Host; 2] {
        match tenant {
            Tenant::Red => &self.red,
            Tenant::Blue => &self.blue,
        }
    }

    /// Both gateways' books must balance.
    pub fn check_balance(&self) -> Result<()> {
        self.gateways.iter().try_for_each(Gateway::check_balance)
    }
}

/// The fabric, and both tenants' VRFs and interfaces, of a site.
pub fn local_objects(site: usize, workers: usize) -> String {
    let mut yaml = format!(
        r#"
port: {{name: fabric, device: "net_af_packet0,iface=fabric,qpairs={workers}", role: fabric}}
---
interface: {{name: fabric, port: fabric, vrf: underlay, local_addresses: ["{}/24", "{}/64"]}}
"#,
        Underlay::V4.endpoint(site),
        Underlay::V6.endpoint(site)
    );
    for tenant in Tenant::BOTH {
        let (name, number) = (tenant.name(), tenant.number());
        yaml += &format!(
            r#"---
port: {{name: {name}, device: "net_af_packet{number},iface={name}", role: tenant}}
"#
        );
        yaml += &vrf(site, tenant, &format!("64512:800000{number}"), &format!("64512:800000{number}"));
        yaml += &interface(site, tenant, "[]", "");
    }
    yaml
}

/// A tenant's VRF with one import and one export route target.
pub fn vrf(site: usize, tenant: Tenant, import: &str, export: &str) -> String {
    format!(
        r#"---
vrf: {{name: {}, rd: "{}", import_route_targets: ["{import}"], export_route_targets: ["{export}"], label: {}, vni: {}}}
"#,
        tenant.name(),
        rd(site, tenant),
        label(site, tenant),
        vni(site, tenant),
    )
}

/// A workload's interface. `more` are further members in YAML.
pub fn interface(site: usize, tenant: Tenant, security_groups: &str, more: &str) -> String {
    format!(
        r#"---
interface:
  name: {name}
  port: {name}
  vrf: {name}
  local_addresses: ["10.{site}.0.1/22", "2001:db8:{site}::1/64"]
  workload_mac: "{mac}"
  workload_addresses: ["{v4}", "10.{site}.1.0", "{v6}"]
  security_groups: {security_groups}
  {more}
"#,
        name = tenant.name(),
        mac = mac(site, tenant),
        v4 = v4(site),
        v6 = v6(site),
    )
}

/// The tunnel to a site.
pub fn next_hop(to: usize, underlay: Underlay, encapsulation: &str) -> String {
    format!(
        r#"---
next_hop: {{name: gw{to}, tunnel: {{remote: "{}", encapsulations: [{encapsulation}], router_mac: "{}"}}}}
"#,
        underlay.endpoint(to),
        router_mac(to)
    )
}

/// A tenant's routes to a site. `more` are further members in YAML, with a comma
/// in front.
pub fn routes(to: usize, tenant: Tenant, more: &str) -> String {
    let mut yaml = String::new();
    for prefix in [format!("10.{to}.0.0/22"), format!("2001:db8:{to}::/64")] {
        yaml += &format!(
            r#"---
route: {{rd: "{}", prefix: "{prefix}", route_targets: ["64512:800000{}"], next_hop: gw{to}, label: {}, vni: {}{more}}}
"#,
            rd(to, tenant),
            tenant.number(),
            label(to, tenant),
            vni(to, tenant),
        );
    }
    yaml
}
