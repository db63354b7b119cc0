//! The scenarios, from a text to what gateways hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{DesiredGateway, Remote, desired};
use crate::allocation::{Allocations, Circumstances, allocate};
use crate::intent::names::Name;
use crate::intent::rules;
use crate::intent::testing::{CLUSTERS, intent};

struct World {
    gateways: BTreeMap<Name, DesiredGateway>,
}

impl World {
    fn new(text: &str) -> Self {
        let intent = intent(&format!("{CLUSTERS}{text}"));
        assert_eq!(rules::check(&intent), [], "the intent keeps the rules");
        let allocations =
            allocate(&Allocations::default(), &intent, &Circumstances::default()).expect("room");
        Self { gateways: desired(&intent, &allocations).expect("all is allocated") }
    }

    fn gateway(&self, name: &str) -> &DesiredGateway {
        &self.gateways[&name.parse::<Name>().expect("a name")]
    }

    /// Whether routes of one network at a gateway are imported by another.
    fn flows(&self, (from, exporter): (&str, &str), (to, importer): (&str, &str)) -> bool {
        let exports = &self.gateway(from).vrfs[&format!("default/{exporter}")].exports;
        let imports = &self.gateway(to).vrfs[&format!("default/{importer}")].imports;
        !exports.is_disjoint(imports)
    }

    fn both_ways(&self, a: (&str, &str), b: (&str, &str)) -> bool {
        self.flows(a, b) && self.flows(b, a)
    }
}

fn texts(targets: &BTreeSet<crate::numbers::RouteTarget>) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: tieline.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// A network with one endpoint at the first gateway of its cluster.
fn network(cluster: &str, name: &str, subnet: u8, more: &str) -> String {
    labelled(cluster, name, subnet, "{}", more)
}

fn labelled(cluster: &str, name: &str, subnet: u8, labels: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {name}, labels: {labels}}}\n\
         spec: {{cluster: {cluster}, subnets: [{{prefix: 10.{subnet}.0.0/24}}]{more}}}\n"
    ) + &endpoint(name, name, &format!("{cluster}-1"), &format!("10.{subnet}.0.9"), "")
}

fn endpoint(name: &str, network: &str, gateway: &str, address: &str, more: &str) -> String {
    let spec = format!(
        "{{network: {network}, gateway: {gateway}, interface: {{port: {name}}}, addresses: ['{address}']{more}}}"
    );
    document("Endpoint", name, &spec)
}

#[test]
fn c3_a_network_imports_and_exports_its_system_route_target() {
    let world = World::new(&network("east", "red", 1, ""));
    let vrf = &world.gateway("east-1").vrfs["default/red"];
    assert_eq!(texts(&vrf.imports), ["64512:8000000"]);
    assert_eq!(texts(&vrf.exports), ["64512:8000000"]);
    assert_eq!((vrf.rd.to_string().as_str(), vrf.vni, vrf.network_number), ("64512:1", 1, 8_000_000));
    assert!(world.gateway("east-2").vrfs.is_empty(), "only gateways with endpoints have it");
}

#[test]
fn c4_one_user_route_target_on_two_networks_connects_them() {
    let shared = ", routeTargets: {both: ['64999:7']}";
    let both = World::new(&(network("east", "red", 1, shared) + &network("west", "blue", 2, shared)));
    assert!(both.both_ways(("east-1", "red"), ("west-1", "blue")));
    let one = World::new(&(network("east", "red", 1, shared) + &network("west", "blue", 2, "")));
    assert!(!one.flows(("east-1", "red"), ("west-1", "blue")));
    assert!(!one.flows(("west-1", "blue"), ("east-1", "red")));
}

#[test]
fn c6_equal_numbers_of_two_clusters_leak_nothing() {
    let world = World::new(&(network("east", "red", 1, "") + &network("west", "blue", 1, "")));
    assert_eq!(texts(&world.gateway("west-1").vrfs["default/blue"].exports), ["64513:8000000"]);
    assert!(!world.flows(("east-1", "red"), ("west-1", "blue")));
}

#[test]
fn c7_a_layer_2_connection_joins_bridge_domains_and_not_vrfs() {
    let with = |name: &str, cluster: &str, first: u8| {
        document(
            "VirtualNetwork",
            name,
            &format!(
                "{{cluster: {cluster}, l2: {{flooding: {}}}, subnets: [{{prefix: 10.1.0.0/24, pools: [{{first: 10.1.0.{first}, last: 10.1.0.{}}}]}}]}}",
                name == "red",
                first + 50
            ),
        ) + &endpoint(name, name, &format!("{cluster}-1"), &format!("10.1.0.{}", first + 1), "")
    };
    let text = with("red", "east", 10)
        + &with("blue", "west", 100)
        + &document("Connection", "x", "{layer: L2, userRouteTarget: '64512:7', networks: [red, blue]}");
    let world = World::new(&text);
    assert!(!world.flows(("east-1", "red"), ("west-1", "blue")));
    let red = &world.gateway("east-1").bridge_domains["default/red"];
    let blue = &world.gateway("west-1").bridge_domains["default/blue"];
    assert_eq!(texts(&red.imports), ["64512:7", "64512:8000000"]);
    assert_eq!(texts(&blue.exports), ["64512:7", "64513:8000000"]);
    assert_eq!((red.flooding, blue.flooding), (true, false));
    assert_ne!(red.rd, world.gateway("east-1").vrfs["default/red"].rd);
    assert_eq!(
        world.gateway("east-1").interfaces["default/red"].bridge_domain.as_deref(),
        Some("default/red")
    );
}

#[test]
fn c10_c11_groups_have_user_or_system_ids_and_rules_mean_them() {
    let text = network("east", "red", 1, "")
        + &document(
            "SecurityGroup",
            "web",
            "{cluster: east, id: 100, ingress: [{remote: {group: own}}, {remote: {id: 5}}]}",
        )
        + &document("SecurityGroup", "own", "{cluster: east, ingress: [{remote: {group: own}}]}")
        + &document("SecurityGroup", "unused", "{cluster: east}")
        + &endpoint("h2", "red", "east-1", "10.1.0.20", ", securityGroups: [web, own]");
    let world = World::new(&text);
    let gateway = world.gateway("east-1");
    assert_eq!(gateway.interfaces["default/h2"].security_groups, BTreeSet::from([100, 8_000_000]));
    assert_eq!(gateway.security_groups.keys().copied().collect::<Vec<_>>(), [100, 8_000_000]);
    let remotes = |id: u32| {
        gateway.security_groups[&id].ingress.iter().map(|rule| rule.remote.clone()).collect::<Vec<_>>()
    };
    assert_eq!(remotes(100), [Remote::Group(8_000_000), Remote::Group(5)]);
    assert_eq!(remotes(8_000_000), [Remote::Group(8_000_000)], "the same group may enter");
    assert!(world.gateway("west-1").security_groups.is_empty());
}

#[test]
fn c13_a_layer_3_connection_routes_between_clusters() {
    let text = network("east", "red", 1, "")
        + &network("west", "blue", 2, "")
        + &network("west", "green", 3, "")
        + &document("Connection", "x", "{layer: L3, userRouteTarget: '64512:7', networks: [red, blue]}");
    let world = World::new(&text);
    assert!(world.both_ways(("east-1", "red"), ("west-1", "blue")));
    assert!(!world.flows(("east-1", "red"), ("west-1", "green")));
    assert!(world.gateway("east-1").policies.is_empty());
}

/// red1 and blue1 in one cluster, red2 and blue2 in the other; the reds are
/// connected, and so are the blues.
fn c14(policies: &str) -> World {
    World::new(
        &(network("east", "red1", 1, "")
            + &network("east", "blue1", 2, "")
            + &network("west", "red2", 3, "")
            + &network("west", "blue2", 4, "")
            + &document(
                "Connection",
                "reds",
                "{layer: L3, userRouteTarget: '64512:1', networks: [red1, red2]}",
            )
            + &document(
                "Connection",
                "blues",
                "{layer: L3, userRouteTarget: '64512:2', networks: [blue1, blue2]}",
            )
            + policies),
    )
}

#[test]
fn c14_networks_meet_only_where_both_policies_permit() {
    let policy = |cluster: &str, from: &str, to: &str| {
        let spec =
            format!("{{cluster: {cluster}, rules: [{{from: {from}, to: {to}, protocol: tcp, ports: 80}}]}}");
        document("NetworkPolicy", cluster, &spec)
    };
    let (east, west) = (policy("east", "red1", "blue1"), policy("west", "red2", "blue2"));
    let (red1, blue2) = (("east-1", "red1"), ("west-1", "blue2"));
    let both = c14(&(east.clone() + &west));
    assert!(both.both_ways(red1, blue2));
    let one = c14(&east);
    assert!(!one.both_ways(red1, blue2), "no way back");
    let none = c14("");
    assert!(!none.flows(red1, blue2) && !none.flows(blue2, red1));

    let policy = &both.gateway("east-1").policies["default/east"];
    assert_eq!(policy.rules.len(), 1);
    let vrf = &both.gateway("east-1").vrfs["default/blue1"];
    assert_eq!(policy.rules[0].to.route_targets, vrf.exports, "blue2's routes are blue1's by their target");
    assert!(!both.gateway("east-1").policies.contains_key("default/west"));
}

#[test]
fn c16_gateways_never_share_a_route_distinguisher() {
    let text = network("east", "red", 1, "")
        + &endpoint("h2", "red", "east-2", "10.1.0.20", "")
        + &network("west", "blue", 1, "");
    let world = World::new(&text);
    let rds: BTreeSet<String> = world
        .gateways
        .values()
        .flat_map(|gateway| gateway.vrfs.values().map(|vrf| vrf.rd.to_string()))
        .collect();
    assert_eq!(rds.len(), 3, "{rds:?}");
}

#[test]
fn n3_everything_from_a_site_carries_its_route_target() {
    let text = network("east", "red", 1, "")
        + &endpoint("h2", "red", "east-2", "10.1.0.20", "")
        + &document("Site", "far", "{cluster: east, gateways: [east-2]}");
    let world = World::new(&text);
    assert_eq!(texts(&world.gateway("east-2").vrfs["default/red"].exports), ["64512:7699", "64512:8000000"]);
    assert_eq!(texts(&world.gateway("east-2").vrfs["default/red"].imports), ["64512:8000000"]);
    assert_eq!(texts(&world.gateway("east-1").vrfs["default/red"].exports), ["64512:8000000"]);
}

#[test]
fn n4_isolated_namespaces_have_networks_and_vnis_of_their_own() {
    let network = |namespace: &str| {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: pods, namespace: {namespace}}}\n\
             spec: {{cluster: east, isolated: true, subnets: [{{prefix: 10.1.0.0/24}}]}}\n\
             ---\napiVersion: tieline.io/v1\nkind: Endpoint\nmetadata: {{name: h, namespace: {namespace}}}\n\
             spec: {{network: pods, gateway: east-1, interface: {{port: {namespace}}}, addresses: [10.1.0.9]}}\n"
        )
    };
    let world = World::new(&(network("shop") + &network("bank")));
    let vrfs = &world.gateway("east-1").vrfs;
    assert_ne!(vrfs["shop/pods"].vni, vrfs["bank/pods"].vni);
    assert!(vrfs["shop/pods"].imports.is_disjoint(&vrfs["bank/pods"].exports));
    assert_eq!(world.gateway("east-1").interfaces["bank/h"].vrf, "bank/pods");
}

fn mesh(name: &str, label: &str, import: &str) -> String {
    let spec = format!(
        "{{cluster: east, mesh: {{networks: {{matchLabels: {{net: {label}}}}}, import: [{import}]}}}}"
    );
    document("VirtualNetworkRouter", name, &spec)
}

#[test]
fn n7_routers_join_networks_once_both_import_each_other() {
    let networks = labelled("east", "a", 1, "{net: a}", "") + &labelled("east", "b", 2, "{net: b}", "");
    let (a, b) = (("east-1", "a"), ("east-1", "b"));
    let both = World::new(&(networks.clone() + &mesh("ra", "a", "rb") + &mesh("rb", "b", "ra")));
    assert!(both.both_ways(a, b));
    let one_sided = World::new(&(networks + &mesh("ra", "a", "rb") + &mesh("rb", "b", "")));
    assert!(one_sided.flows(b, a) && !one_sided.flows(a, b), "no two-way traffic");
}

#[test]
fn n8_spokes_reach_hubs_and_not_each_other_and_meshes_all() {
    let networks = labelled("east", "hub", 1, "{role: hub, net: x}", "")
        + &labelled("east", "s1", 2, "{role: spoke, net: x}", "")
        + &labelled("east", "s2", 3, "{role: spoke, net: x}", "");
    let star = document(
        "VirtualNetworkRouter",
        "star",
        "{cluster: east, hubAndSpoke: {hubs: {matchLabels: {role: hub}}, spokes: {matchLabels: {role: spoke}}}}",
    );
    let (hub, s1, s2) = (("east-1", "hub"), ("east-1", "s1"), ("east-1", "s2"));
    let world = World::new(&(networks.clone() + &star));
    assert!(world.both_ways(hub, s1) && world.both_ways(hub, s2));
    assert!(!world.flows(s1, s2) && !world.flows(s2, s1));
    let world = World::new(&(networks + &mesh("all", "x", "")));
    assert!(world.both_ways(hub, s1) && world.both_ways(hub, s2) && world.both_ways(s1, s2));
}

#[test]
fn n8_a_policy_to_one_spoke_opens_no_other() {
    let text = labelled("east", "hub", 1, "{role: hub}", "")
        + &labelled("east", "s1", 2, "{role: spoke}", "")
        + &labelled("east", "s2", 3, "{role: spoke}", "")
        + &network("east", "red", 4, "")
        + &document(
            "VirtualNetworkRouter",
            "star",
            "{cluster: east, hubAndSpoke: {hubs: {matchLabels: {role: hub}}, spokes: {matchLabels: {role: spoke}}}}",
        )
        + &document("NetworkPolicy", "p", "{cluster: east, rules: [{from: red, to: s1}]}");
    let world = World::new(&text);
    let (red, s1, s2) = (("east-1", "red"), ("east-1", "s1"), ("east-1", "s2"));
    assert!(world.both_ways(red, s1));
    assert!(!world.flows(s2, red) && !world.flows(red, s2));
    let gateway = world.gateway("east-1");
    let rule = &gateway.policies["default/p"].rules[0];
    assert!(
        rule.to.route_targets.is_disjoint(&gateway.vrfs["default/s2"].exports),
        "the rule is about s1 alone"
    );
}

#[test]
fn n9_a_label_joins_and_leaves() {
    let world = |label: &str| {
        let networks = labelled("east", "a", 1, "{net: x}", "") + &labelled("east", "b", 2, label, "");
        World::new(&(networks + &mesh("m", "x", "")))
    };
    let (a, b) = (("east-1", "a"), ("east-1", "b"));
    assert!(world("{net: x}").both_ways(a, b));
    assert!(!world("{net: y}").flows(a, b));
}

#[test]
fn n10_dual_stack_and_a_host_at_the_first_address() {
    let text = document(
        "VirtualNetwork",
        "red",
        "{cluster: east, subnets: [{prefix: 10.1.0.0/24}, {prefix: '2001:db8::/64'}, {prefix: 10.9.0.0/24}]}",
    ) + &document(
        "Endpoint",
        "h",
        "{network: red, gateway: east-1, interface: {port: a, vlan: 7}, addresses: [10.1.0.0, '2001:db8::']}",
    );
    let world = World::new(&text);
    let interface = &world.gateway("east-1").interfaces["default/h"];
    let local: Vec<String> = interface.local_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(local, ["10.1.0.1/24", "2001:db8::1/64"]);
    assert_eq!(interface.workload_addresses.len(), 2);
    assert_eq!(interface.vlan, Some(7));
}

#[test]
fn what_is_not_allocated_is_said() {
    let intent = intent(&format!("{CLUSTERS}{}", network("east", "red", 1, "")));
    let error = desired(&intent, &Allocations::default()).expect_err("nothing is allocated");
    assert_eq!(
        error.to_string(),
        "VirtualNetwork/default/red has no route target yet: allocate for this intent first"
    );
}
