//! The scenarios that rules are made for, by their numbers.

use super::*;
use crate::intent::read::{Documents, File};
use crate::intent::testing::{CLUSTERS, intent};

/// What is wrong, as "object field rule".
fn problems(text: &str) -> Vec<String> {
    check(&intent(&format!("{CLUSTERS}{text}")))
        .iter()
        .map(|problem| {
            let object = problem.object.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{object} {} {}", problem.field, problem.rule)
        })
        .collect()
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: tieline.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn network(name: &str, spec: &str) -> String {
    document("VirtualNetwork", name, &format!("{{cluster: east, {spec}}}"))
}

const NOTHING: [&str; 0] = [];

#[test]
fn c1_two_clusters_with_the_same_asn_are_refused() {
    let text = document("Cluster", "north", "{asn: 64512}");
    assert_eq!(problems(&text), ["Cluster/north spec.asn duplicate-asn"]);
    assert_eq!(problems(&document("Cluster", "north", "{asn: 64514}")), NOTHING);
}

#[test]
fn gateways_and_controllers_are_each_at_their_own_place() {
    let with = |gateways: &str| {
        problems(&document("Cluster", "north", &format!("{{asn: 64514, gateways: [{gateways}]}}")))
    };
    let tls = "tls: {ca: a, certificate: b, key: c}";
    assert_eq!(with(&format!("{{name: n1, endpoint: 'https://198.18.0.1:7447', {tls}}}")), NOTHING);
    assert_eq!(
        with("{name: n1, endpoint: 'https://198.18.0.1:7447'}"),
        ["Cluster/north spec.gateways[0].tls endpoint"]
    );
    assert_eq!(
        with(&format!("{{name: n1, endpoint: 'unix:/a', {tls}}}")),
        ["Cluster/north spec.gateways[0].tls endpoint"]
    );
    for wrong in ["198.18.0.1:7447", "unix:", "https://", "http://a"] {
        assert_eq!(
            with(&format!("{{name: n1, endpoint: '{wrong}'}}")),
            ["Cluster/north spec.gateways[0].endpoint endpoint"],
            "{wrong}"
        );
    }
    let gateway =
        |name: &str| format!("{{name: {name}, endpoint: 'unix:/a', tunnelAddresses: [198.18.0.1]}}");
    assert_eq!(with(&gateway("n1")), NOTHING, "C16: another cluster may use it too");
    assert_eq!(
        with(&format!("{}, {}", gateway("n1"), gateway("n2"))),
        ["Cluster/north spec.gateways[1].tunnelAddresses[0] address"]
    );
    let twins = "{asn: 64514, controllers: [{name: a, address: 198.18.0.9}, {name: b, address: 198.18.0.9}]}";
    assert_eq!(
        problems(&document("Cluster", "north", twins)),
        ["Cluster/north spec.controllers[1].address address"]
    );
    let alike = |more: &str| {
        let controllers =
            format!("{{name: a, address: 198.18.0.9}}, {{name: b, address: '2001:db8::9'{more}}}");
        problems(&document("Cluster", "north", &format!("{{asn: 64514, controllers: [{controllers}]}}")))
    };
    assert_eq!(alike(""), NOTHING);
    assert_eq!(
        alike(", routerId: 198.18.0.9"),
        ["Cluster/north spec.controllers[1].routerId router-id"],
        "reflectors name them by that"
    );
}

#[test]
fn s3_only_the_clusters_own_reflector_is_one() {
    let peer = |asn: u32, more: &str| {
        problems(&document(
            "Peer",
            "x",
            &format!(
                "{{cluster: east, address: 198.18.0.9, asn: {asn}, families: [vpnv4], reflector: true{more}}}"
            ),
        ))
    };
    assert_eq!(peer(64512, ""), NOTHING);
    for (asn, more) in [(64513, ""), (64999, ""), (64512, ", routeServer: true")] {
        assert_eq!(peer(asn, more), ["Peer/x spec.reflector reflector"], "{asn}{more}");
    }
    let controller = "{cluster: east, address: 198.18.0.11, asn: 64512, families: [vpnv4], reflector: true}";
    assert_eq!(problems(&document("Peer", "x", controller)), ["Peer/x spec.reflector reflector"]);
}

#[test]
fn x7_s3_no_contract_lets_a_peer_say_what_only_the_cluster_can() {
    let with = |target: &str| {
        let contract = format!("contract: {{routeTargets: ['64513:1', '{target}']}}");
        let peer =
            format!("{{cluster: east, address: 198.18.0.9, asn: 64513, families: [vpnv4], {contract}}}");
        problems(&document("Peer", "x", &peer))
    };
    assert_eq!(with("64512:8000000"), ["Peer/x spec.contract.routeTargets[1] route-target-range"]);
    assert_eq!(with("64512:7999998"), NOTHING);
    assert_eq!(with("64513:8000000"), NOTHING, "its own");
}

#[test]
fn c5_route_targets_of_the_own_reserved_range_are_refused() {
    let with = |target: &str| problems(&network("red", &format!("routeTargets: {{both: [{target:?}]}}")));
    assert_eq!(
        with("64512:8000000"),
        ["VirtualNetwork/default/red spec.routeTargets.both[0] route-target-range"]
    );
    assert_eq!(
        with("64512:7999999"),
        ["VirtualNetwork/default/red spec.routeTargets.both[0] route-target-range"]
    );
    assert_eq!(
        with("1:7999999"),
        ["VirtualNetwork/default/red spec.routeTargets.both[0] route-target-range"]
    );
    assert_eq!(with("64999:8000000"), NOTHING, "a foreign AS's");
    assert_eq!(with("64512:7999998"), NOTHING);
    let connection = |target: &str| {
        let text = document(
            "Connection",
            "x",
            &format!("{{layer: L3, userRouteTarget: {target:?}, networks: [red]}}"),
        );
        problems(&(network("red", "subnets: []") + &text))
    };
    assert_eq!(connection("64512:8000000"), ["Connection/default/x spec.userRouteTarget route-target-range"]);
    assert_eq!(connection("64513:8000000"), NOTHING);
}

#[test]
fn c5_a_four_byte_as_reserves_from_8000() {
    let of = |number: u32| {
        let cluster = document("Cluster", "big", "{asn: 4200000000}");
        let text = format!("{{cluster: big, routeTargets: {{import: [\"4200000000:{number}\"]}}}}");
        problems(&(cluster + &document("VirtualNetwork", "red", &text)))
    };
    assert_eq!(of(7999), NOTHING);
    assert_eq!(of(8000), ["VirtualNetwork/default/red spec.routeTargets.import[0] route-target-range"]);
}

/// Two networks, one of each cluster, on a layer 2 connection.
fn layer2(red: &str, blue: &str, rest: &str) -> Vec<String> {
    let networks = network("red", red)
        + &document("VirtualNetwork", "blue", &format!("{{cluster: west, {blue}}}"))
        + &document("Connection", "x", "{layer: L2, userRouteTarget: '64512:7', networks: [red, blue]}");
    problems(&(networks + rest))
}

fn pool(first: &str, last: &str) -> String {
    format!("subnets: [{{prefix: 10.1.0.0/24, pools: [{{first: {first}, last: {last}}}]}}]")
}

#[test]
fn c7_layer_2_needs_the_same_subnets_and_disjoint_pools() {
    let low = pool("10.1.0.2", "10.1.0.99");
    assert_eq!(layer2(&low, &pool("10.1.0.100", "10.1.0.199"), ""), NOTHING);
    assert_eq!(
        layer2(&low, &pool("10.1.0.99", "10.1.0.199"), ""),
        ["Connection/default/x spec.networks[1] layer2-pools"]
    );
    assert_eq!(
        layer2(&low, "subnets: [{prefix: 10.1.0.0/24}]", ""),
        ["Connection/default/x spec.networks[1] layer2-pools"]
    );
    assert_eq!(
        layer2(&low, "subnets: [{prefix: 10.2.0.0/24}]", ""),
        ["Connection/default/x spec.networks[1] layer2-subnets"]
    );
}

fn endpoint(name: &str, network: &str, gateway: &str, address: &str, more: &str) -> String {
    let spec = format!(
        "{{network: {network}, gateway: {gateway}, interface: {{port: {name}}}, addresses: ['{address}'], {more}}}"
    );
    document("Endpoint", name, &spec)
}

#[test]
fn c7_duplicate_addresses_and_macs_are_reported() {
    let (low, high) = (pool("10.1.0.2", "10.1.0.99"), pool("10.1.0.100", "10.1.0.199"));
    let stations = endpoint("h1", "red", "east-1", "10.1.0.5", "mac: '02:00:00:00:00:01'")
        + &endpoint("h2", "blue", "west-1", "10.1.0.5", "mac: '02:00:00:00:00:01'");
    assert_eq!(
        layer2(&low, &high, &stations),
        [
            "Endpoint/default/h2 spec.addresses[0] address",
            "Endpoint/default/h2 spec.mac duplicate-mac",
            "Endpoint/default/h2 spec.addresses[0] layer2-pools",
        ]
    );
    let foreign = endpoint("h1", "red", "east-1", "10.1.0.150", "");
    assert_eq!(layer2(&low, &high, &foreign), ["Endpoint/default/h1 spec.addresses[0] layer2-pools"]);
    let outside = endpoint("h1", "red", "east-1", "10.1.0.250", "");
    assert_eq!(layer2(&low, &high, &outside), NOTHING, "in nobody's pool");
    let one_network = network("red", &low)
        + &endpoint("h1", "red", "east-1", "10.1.0.5", "")
        + &endpoint("h2", "red", "east-2", "10.1.0.5", "");
    assert_eq!(problems(&one_network), ["Endpoint/default/h2 spec.addresses[0] address"]);
}

#[test]
fn c9_policy_does_not_apply_on_layer_2() {
    let policy = |from: &str, to: &str| {
        document("NetworkPolicy", "p", &format!("{{cluster: east, rules: [{{from: {from}, to: {to}}}]}}"))
    };
    let red = network("red", &pool("10.1.0.2", "10.1.0.9"));
    let blue = network("blue", &format!("isolated: true, {}", pool("10.1.0.20", "10.1.0.29")));
    let joined =
        document("Connection", "x", "{layer: L2, userRouteTarget: '64512:7', networks: [red, blue]}");
    assert_eq!(
        problems(&format!("{red}{blue}{joined}{}", policy("red", "blue"))),
        ["NetworkPolicy/default/p spec.rules[0] layer2-policy"]
    );
    assert_eq!(
        problems(&format!("{red}{}", policy("red", "red"))),
        ["NetworkPolicy/default/p spec.rules[0] layer2-policy"]
    );
    let green = network("green", "subnets: [{prefix: 10.9.0.0/24}]");
    assert_eq!(problems(&format!("{red}{green}{}", policy("red", "green"))), NOTHING);
}

#[test]
fn c10_security_group_ids_are_users_or_allocated() {
    let group =
        |name: &str, id: &str| document("SecurityGroup", name, &format!("{{cluster: east, id: {id}}}"));
    assert_eq!(problems(&group("web", "7999999")), NOTHING);
    assert_eq!(problems(&group("web", "8000000")), ["SecurityGroup/default/web spec.id security-group-id"]);
    assert_eq!(
        problems(&(group("a", "5") + &group("b", "5"))),
        ["SecurityGroup/default/b spec.id security-group-id"]
    );
    let there = document("SecurityGroup", "b", "{cluster: west, id: 5}");
    assert_eq!(problems(&(group("a", "5") + &there)), NOTHING, "the same group in both clusters");
}

#[test]
fn c12_a_rule_cannot_name_a_system_group_by_number() {
    let text = document("SecurityGroup", "web", "{cluster: east, ingress: [{remote: {id: 8000004}}]}");
    assert_eq!(problems(&text), ["SecurityGroup/default/web spec.ingress[0].remote.id security-group-id"]);
}

#[test]
fn c10_a_contract_is_about_user_groups() {
    let peer = |id: &str| {
        let spec = format!(
            "{{cluster: east, address: 198.18.1.1, asn: 64513, families: [evpn], contract: {{securityGroups: [{id}]}}}}"
        );
        problems(&document("Peer", "w", &spec))
    };
    assert_eq!(peer("100"), NOTHING);
    assert_eq!(peer("8000000"), ["Peer/w spec.contract.securityGroups[0] security-group-id"]);
}

#[test]
fn n2_colliding_prefixes_and_gateway_names_are_refused() {
    let red = network("red", "subnets: [{prefix: 10.1.0.0/16}]");
    let blue = |more: &str| network("blue", &format!("subnets: [{{prefix: 10.1.2.0/24}}]{more}"));
    assert_eq!(
        problems(&(red.clone() + &blue(""))),
        ["VirtualNetwork/default/red spec.subnets[0].prefix subnet-overlap"]
    );
    assert_eq!(problems(&(red.clone() + &blue(", isolated: true"))), NOTHING);
    let there = document("VirtualNetwork", "blue", "{cluster: west, subnets: [{prefix: 10.1.2.0/24}]}");
    assert_eq!(problems(&(red.clone() + &there)), NOTHING, "networks that never meet");
    let joined =
        document("Connection", "x", "{layer: L3, userRouteTarget: '64512:7', networks: [red, blue]}");
    assert_eq!(
        problems(&(red + &there + &joined)),
        ["VirtualNetwork/default/red spec.subnets[0].prefix subnet-overlap"]
    );
    let cluster =
        document("Cluster", "north", "{asn: 64514, gateways: [{name: east-1, endpoint: 'unix:/a'}]}");
    assert_eq!(problems(&cluster), ["Cluster/north spec.gateways[0].name duplicate-gateway"]);
}

#[test]
fn n2_two_spokes_that_their_hub_cannot_tell_apart_are_refused() {
    let labelled = |name: &str, role: &str, prefix: &str| {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {name}, labels: {{role: {role}}}}}\n\
             spec: {{cluster: east, isolated: true, subnets: [{{prefix: {prefix}}}]}}\n"
        )
    };
    let star = document(
        "VirtualNetworkRouter",
        "star",
        "{cluster: east, hubAndSpoke: {hubs: {matchLabels: {role: hub}}, spokes: {matchLabels: {role: spoke}}}}",
    );
    let text = |second: &str| {
        labelled("hub", "hub", "10.0.0.0/24")
            + &labelled("s1", "spoke", "10.1.0.0/24")
            + &labelled("s2", "spoke", second)
            + &star
    };
    assert_eq!(problems(&text("10.2.0.0/24")), NOTHING);
    assert_eq!(
        problems(&text("10.1.0.0/25")),
        ["VirtualNetwork/default/s2 spec.subnets[0].prefix subnet-overlap"]
    );
}

#[test]
fn n3_numbers_of_sites_do_not_collide() {
    let site = |name: &str, gateway: &str, numbers: &str| {
        document("Site", name, &format!("{{cluster: east, gateways: [{gateway}], {numbers}}}"))
    };
    let a = site("a", "east-1", "listenerPort: 19446, routeTargetNumber: 7699");
    let b = |numbers: &str| problems(&(a.clone() + &site("b", "east-2", numbers)));
    assert_eq!(b("listenerPort: 19447, routeTargetNumber: 7799"), NOTHING);
    assert_eq!(b("listenerPort: 19446, routeTargetNumber: 7799"), ["Site/b spec.listenerPort site-number"]);
    assert_eq!(
        b("listenerPort: 19447, routeTargetNumber: 7699"),
        ["Site/b spec.routeTargetNumber site-number"]
    );
    assert_eq!(b("routeTargetNumber: 7700"), ["Site/b spec.routeTargetNumber site-number"]);
    let red = network("red", "routeTargets: {export: ['64512:7699']}");
    assert_eq!(problems(&(red + &a)), ["Site/a spec.routeTargetNumber site-number"]);
    let twice = a + &site("b", "east-1", "");
    assert_eq!(problems(&twice), ["Site/b spec.gateways[0] duplicate-gateway"]);
}

#[test]
fn n5_a_site_declares_endpoints_at_its_gateways_and_nothing_else() {
    let site = document("Site", "far", "{cluster: east, gateways: [east-1]}");
    let before = intent(&format!("{CLUSTERS}{site}"));
    let refused = |text: &str| {
        let files = [File { name: "far.yaml".to_owned(), text: text.to_owned() }];
        let documents = Documents::read(&files).expect("readable");
        let after = documents.objects().map(|(key, object)| (key.clone(), object.clone())).collect();
        let author = Author::Site("far".parse().expect("a name"));
        let keys = documents.objects().map(|(key, _)| key);
        let mut problems = check_author(&author, &before, &after, keys);
        documents.place(&mut problems);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(refused(&endpoint("h1", "red", "east-1", "10.1.0.5", "")), NOTHING);
    assert_eq!(
        refused(&network("red", "subnets: []")),
        [
            "far.yaml:3:7: VirtualNetwork/default/red: kind: site far may declare endpoints, not a VirtualNetwork: \
          declare it at the center [site-authority]"
        ]
    );
    assert_eq!(
        refused(&endpoint("h1", "red", "east-2", "10.1.0.5", "")),
        ["far.yaml:5:31: Endpoint/default/h1: spec.gateway: gateway east-2 is not at site far: \
          name a gateway of the site [site-authority]"]
    );
}

#[test]
fn n8_nobody_is_hub_and_spoke_at_once() {
    let red = "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\n\
               metadata: {name: red, labels: {a: x, b: y}}\nspec: {cluster: east}\n";
    let star = |spokes: &str| {
        document(
            "VirtualNetworkRouter",
            "star",
            &format!("{{cluster: east, hubAndSpoke: {{hubs: {{matchLabels: {{a: x}}}}, spokes: {spokes}}}}}"),
        )
    };
    assert_eq!(problems(&(red.to_owned() + &star("{matchLabels: {b: z}}"))), NOTHING);
    assert_eq!(
        problems(&(red.to_owned() + &star("{matchLabels: {b: y}}"))),
        ["VirtualNetworkRouter/default/star spec.hubAndSpoke.spokes router"]
    );
    assert_eq!(
        problems(&(red.to_owned() + &star("{}"))),
        ["VirtualNetworkRouter/default/star spec.hubAndSpoke.spokes router"],
        "everything"
    );
}

#[test]
fn n10_a_host_at_the_first_address_and_dual_stack_are_fine() {
    let red = network("red", "subnets: [{prefix: 10.1.0.0/24}, {prefix: '2001:db8::/64'}]");
    assert_eq!(problems(&(red.clone() + &endpoint("h1", "red", "east-1", "10.1.0.0", ""))), NOTHING);
    assert_eq!(problems(&(red.clone() + &endpoint("h1", "red", "east-1", "2001:db8::", ""))), NOTHING);
    assert_eq!(
        problems(&(red.clone() + &endpoint("h1", "red", "east-1", "10.1.0.1", ""))),
        ["Endpoint/default/h1 spec.addresses[0] address"],
        "the default gateway"
    );
    assert_eq!(
        problems(&(red + &endpoint("h1", "red", "east-1", "10.2.0.1", ""))),
        ["Endpoint/default/h1 spec.addresses[0] address"]
    );
}

#[test]
fn references_must_lead_somewhere_in_the_same_cluster() {
    let text = document("VirtualNetwork", "red", "{cluster: nowhere}")
        + &document("Connection", "x", "{layer: L3, userRouteTarget: '1:1', networks: [blue]}")
        + &document(
            "Peer",
            "p",
            "{cluster: east, address: 198.18.0.9, asn: 64513, families: [evpn], controllers: [c9]}",
        )
        + &document(
            "Endpoint",
            "e",
            "{network: green, gateway: west-1, interface: {port: a}, addresses: [10.1.0.2], securityGroups: [web, far]}",
        )
        + &network("green", "subnets: [{prefix: 10.1.0.0/24}]")
        + &document("SecurityGroup", "far", "{cluster: west}")
        + &document(
            "VirtualNetworkRouter",
            "m",
            "{cluster: east, mesh: {networks: {matchLabels: {a: b}}, import: [m, n]}}",
        );
    assert_eq!(
        problems(&text),
        [
            "Peer/p spec.controllers[0] reference",
            "VirtualNetwork/default/red spec.cluster reference",
            "Connection/default/x spec.networks[0] reference",
            "VirtualNetworkRouter/default/m spec.mesh.import[0] reference",
            "VirtualNetworkRouter/default/m spec.mesh.import[1] reference",
            "Endpoint/default/e spec.gateway reference",
            "Endpoint/default/e spec.securityGroups[0] reference",
            "Endpoint/default/e spec.securityGroups[1] reference",
        ]
    );
}

#[test]
fn isolated_networks_are_connected_by_their_own_namespace() {
    let shop = "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: red, namespace: shop}\n\
                spec: {cluster: east, isolated: true}\n";
    let text = shop.to_owned()
        + &document("Connection", "x", "{layer: L3, userRouteTarget: '1:1', networks: [shop/red]}");
    assert_eq!(problems(&text), ["Connection/default/x spec.networks[0] isolation"]);
}

#[test]
fn rules_of_groups_fit_what_gateways_take() {
    let rules = "[{ports: 80}, {protocol: tcp, icmpType: 8}, {protocol: icmp, icmpCode: 0}, {remote: {}}, \
                 {family: ipv6, remote: {prefix: 10.0.0.0/8}}, {remote: {id: 4, prefix: 10.0.0.0/8}}, \
                 {protocol: icmp, icmpType: 8, icmpCode: 0}]";
    let text = document("SecurityGroup", "web", &format!("{{cluster: east, ingress: {rules}}}"));
    assert_eq!(
        problems(&text),
        [
            "SecurityGroup/default/web spec.ingress[0].ports traffic-rule",
            "SecurityGroup/default/web spec.ingress[1].icmpType traffic-rule",
            "SecurityGroup/default/web spec.ingress[2].icmpCode traffic-rule",
            "SecurityGroup/default/web spec.ingress[3].remote traffic-rule",
            "SecurityGroup/default/web spec.ingress[4].remote.prefix traffic-rule",
            "SecurityGroup/default/web spec.ingress[5].remote traffic-rule",
        ]
    );
}

#[test]
fn k1_objects_that_are_declared_twice_are_refused_with_both_places() {
    let file = |name: &str| File { name: name.to_owned(), text: document("Cluster", "east", "{asn: 64512}") };
    let problems = Documents::read(&[file("a.yaml"), file("b.yaml")]).expect_err("twice");
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["b.yaml:2:1: Cluster/east: is declared twice; the first is at a.yaml:2:1: \
          keep one of them, or give one another name [duplicate-object]"]
    );
}

#[test]
fn r2_a_canary_is_something_that_the_peer_can_announce() {
    let with = |families: &str, more: &str| {
        let spec =
            format!("{{cluster: east, address: 198.18.9.1, asn: 64513, families: [{families}], {more}}}");
        problems(&document("Peer", "west", &spec))
    };
    let wrong = ["Peer/west spec.canary[0] canary"];
    assert_eq!(with("ipv4", "canary: [1.0.0.2/32]"), NOTHING);
    assert_eq!(with("vpnv4", "canary: [1.0.0.2/32]"), NOTHING);
    assert_eq!(with("vpnv6, ipv6, rtc", "canary: [1.0.0.2/32]"), wrong);
    assert_eq!(with("ipv4, vpnv4", "canary: ['2001:db8::1/128']"), wrong);
    assert_eq!(with("ipv4", "canary: [0.0.0.0/0]"), wrong);
    assert_eq!(with("ipv4", "canary: [1.0.0.2/32], contract: {prefixes: [10.0.0.0/8]}"), wrong);
    assert_eq!(with("ipv4", "canary: [10.0.0.2/32], contract: {prefixes: [10.0.0.0/8]}"), NOTHING);
}
