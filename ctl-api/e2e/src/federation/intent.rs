//! What operators apply: the objects of the tests, as YAML documents.

use std::fmt::Write as _;

/// A user route target that both networks of most tests share.
pub const USER_TARGET: &str = "64999:7";

/// A cluster with one gateway. `controllers` are names and addresses.
pub fn cluster(name: &str, asn: u32, controllers: &[(&str, &str)], gateways: &[(&str, &str)]) -> String {
    let mut text = format!(
        "---\napiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  asn: {asn}\n  \
         controllers:\n"
    );
    for (name, address) in controllers {
        let _ = writeln!(text, "  - {{name: {name}, address: {address}}}");
    }
    text += "  gateways:\n";
    for (number, (socket, tunnel)) in (1..).zip(gateways) {
        let _ = writeln!(
            text,
            "  - {{name: {name}-{number}, endpoint: 'unix:{socket}', tunnelAddresses: [{tunnel}]}}"
        );
    }
    text
}

/// A network. `more` are further members in YAML, with a comma in front.
pub fn network(cluster: &str, name: &str, prefixes: &[&str], more: &str) -> String {
    let subnets: Vec<String> = prefixes.iter().map(|prefix| format!("{{prefix: '{prefix}'}}")).collect();
    format!(
        "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {name}, labels: {{network: {name}}}}}\n\
         spec: {{cluster: {cluster}, subnets: [{}]{more}}}\n",
        subnets.join(", ")
    )
}

/// The member of a network that shares a route target.
pub fn shares(target: &str) -> String {
    format!(", routeTargets: {{both: ['{target}']}}")
}

/// The host `h{number}` of [`super::Clusters`] in a network.
pub fn endpoint(number: usize, network: &str, gateway: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: Endpoint\nmetadata: {{name: h{number}}}\n\
         spec: {{network: {network}, gateway: {gateway}, interface: {{port: h{number}}}, mac: '02:00:00:00:00:0{number}', \
         addresses: [10.{number}.0.9, '2001:db8:{number}::9']{more}}}\n"
    )
}

/// The prefixes of the host `h{number}`.
pub fn prefixes(number: usize) -> [String; 2] {
    [format!("10.{number}.0.0/24"), format!("2001:db8:{number}::/64")]
}

/// A peer of a cluster. `families` are separated by commas.
pub fn peer(cluster: &str, name: &str, address: &str, asn: u32, families: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: {name}}}\n\
         spec: {{cluster: {cluster}, address: {address}, asn: {asn}, families: [{families}]{more}}}\n"
    )
}

/// A security group. `spec` are its further members in YAML.
pub fn security_group(cluster: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: SecurityGroup\nmetadata: {{name: {name}}}\nspec: {{cluster: {cluster}, {spec}}}\n"
    )
}
