//! Security groups across clusters, and routers that join networks of one.
//!
//! A group of the operator's own number means the same in every cluster; one
//! that a cluster has numbered itself means nothing in another, though each of
//! them begins with the same number.

use anyhow::{Context, Result, ensure};
use tieline_e2e::federation::clusters::{self, NAMES, SPEAKERS, peers};
use tieline_e2e::federation::intent::{self, USER_TARGET};
use tieline_e2e::federation::{Clusters, ControllerConfig, Hub};
use tieline_e2e::scenario::run_scenario;
use tieline_e2e::{Capture, Steps, eventually};

/// What the hosts of a member of these tests are, and where they serve.
const SERVER: &str = "10.1.0.9:80";
/// The first number that a cluster gives to a group.
const FIRST_SYSTEM_GROUP: u32 = 8_000_000;

/// The endpoints of red and blue, each in a group of its cluster or in none.
fn members(groups: [&str; 2]) -> String {
    let mut text = String::new();
    for (at, network) in ["red", "blue"].into_iter().enumerate() {
        let prefixes = intent::prefixes(at + 1);
        let shares = intent::shares(USER_TARGET);
        text += &intent::network(NAMES[at], network, &[&prefixes[0], &prefixes[1]], &shares);
        let more = match groups[at] {
            "" => String::new(),
            group => format!(", securityGroups: [{group}]"),
        };
        text += &intent::endpoint(at + 1, network, &format!("{}-1", NAMES[at]), &more);
    }
    text
}

/// Who is in the same group may enter; everything may leave.
fn default_group(cluster: &str, name: &str, id: &str) -> String {
    let rules = format!("{id}egress: [{{}}], ingress: [{{remote: {{group: {name}}}}}]");
    intent::security_group(cluster, name, &rules)
}

/// The security groups of the route to a host, as a gateway has them.
fn groups_of(clusters: &Clusters, at: usize, prefix: &str) -> Result<Vec<u64>> {
    let routes = clusters.gateways[at].tlctl("list route")?;
    let routes = routes.as_array().context("a list of routes")?;
    let route = routes.iter().find(|route| route.to_string().contains(&format!("\"{prefix}\"")));
    let route = route.with_context(|| format!("no route to {prefix}"))?;
    let groups = find(route, "security_groups").and_then(|groups| groups.as_array().cloned());
    Ok(groups.unwrap_or_default().iter().map(tieline_e2e::gateway::number).collect())
}

/// The first member of this name, however deep.
fn find<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(members) => {
            members.get(name).or_else(|| members.values().find_map(|member| find(member, name)))
        }
        serde_json::Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

fn groups_across_clusters(_: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(1)?;
    let everything = |groups: [&str; 2], more: &str| {
        clusters.clusters(false)
            + &members(groups)
            + &peers(Hub::None, "vpnv4, vpnv6")
            + &default_group("east", "east-web", "id: 100, ")
            + &default_group("west", "west-web", "id: 100, ")
            + &default_group("east", "east-own", "")
            + &default_group("west", "west-own", "")
            + more
    };
    let none = everything(["east-web", ""], "");
    let same_user = everything(["east-web", "west-web"], "");
    let both_own = everything(["east-own", "west-own"], "");
    let edited = everything(
        ["east-open", ""],
        &intent::security_group("east", "east-open", "egress: [{}], ingress: [{protocol: tcp, ports: 80}]"),
    );
    clusters.start_controllers(&none)?;
    let _server = clusters.hosts[0].serve_tcp(SERVER)?;
    let clusters = &clusters;
    let apply = |intent: &str| clusters.controllers.iter().try_for_each(|one| one.apply(intent).map(drop));
    steps.check("C11: only the own group may enter: who is in none of the other cluster is dropped", || {
        clusters.gateways[0].gets_route("10.2.0.9/32")?;
        // What the first may begin, the second answers.
        clusters.hosts[0].reaches("10.2.0.9")?;
        clusters.gateways[0].expect_drops("sg_denied_ingress", || clusters.hosts[1].cannot_connect(SERVER))
    });
    steps.check("C10, C11: the same user group on both sides passes", || {
        apply(&same_user)?;
        clusters.hosts[1].connect(SERVER)?;
        let groups = groups_of(clusters, 0, "10.2.0.9/32")?;
        ensure!(groups == [100], "the groups of the route are {groups:?}");
        Ok(())
    });
    steps.check(
        "C10, C12: a remote cluster's own group is stripped, and never passes for a local one",
        || {
            apply(&both_own)?;
            eventually(std::time::Duration::from_secs(10), || {
                let groups = groups_of(clusters, 0, "10.2.0.9/32")?;
                ensure!(groups.is_empty(), "the groups of the route are {groups:?}");
                Ok(())
            })?;
            // Each cluster has given the same number to the group of its host.
            let mut numbers = Vec::new();
            for (at, gateway) in clusters.gateways.iter().enumerate() {
                let interface = gateway.tlctl(&format!("get interface default/h{}", at + 1))?;
                numbers.push(find(&interface, "security_groups").map(ToString::to_string));
            }
            ensure!(numbers[0].is_some() && numbers[0] == numbers[1], "the groups are {numbers:?}");
            ensure!(
                numbers[0].as_ref().is_some_and(|text| text.contains(&FIRST_SYSTEM_GROUP.to_string())),
                "{numbers:?}"
            );
            clusters.hosts[1].cannot_connect(SERVER)
        },
    );
    steps.check("C11: or an edited rule lets it in", || {
        apply(&edited)?;
        clusters.hosts[1].connect(SERVER)
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

/// A hub and spoke, or a mesh, of the networks of one cluster.
fn router(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: tieline.io/v1\nkind: VirtualNetworkRouter\nmetadata: {{name: {name}}}\nspec: {{cluster: east, {spec}}}\n"
    )
}

fn routers_join_networks(_: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(1)?;
    let third = clusters::host(&mut clusters.net, 3, &clusters.namespaces[0])?;
    clusters.gateways[0].apply("port: {name: h3, device: \"net_af_packet2,iface=h3\", role: tenant}\n")?;
    let networks = |groups: &str| {
        let prefixes = intent::prefixes(3);
        clusters.east_alone(&[SPEAKERS[0]])
            + &clusters.red_and_green(None, groups)
            + &intent::network("east", "blue", &[&prefixes[0], &prefixes[1]], "")
            + &intent::endpoint(3, "blue", "east-1", "")
            + &default_group("east", "own", "")
    };
    let select = |name: &str| format!("{{matchLabels: {{network: {name}}}}}");
    let (red, green, blue) = (select("red"), select("green"), select("blue"));
    let hub = router(
        "r",
        &format!(
            "hubAndSpoke: {{hubs: {red}, spokes: {{matchExpressions: [{{key: network, operator: In, values: [green, blue]}}]}}}}"
        ),
    );
    let mesh = router("r", "mesh: {networks: {matchExpressions: [{key: network, operator: Exists}]}}");
    let one_sided = router("r", &format!("mesh: {{networks: {red}, import: [s]}}"))
        + &router("s", &format!("mesh: {{networks: {green}}}"));
    let two_sided = router("r", &format!("mesh: {{networks: {red}, import: [s]}}"))
        + &router("s", &format!("mesh: {{networks: {green}, import: [r]}}"))
        + &router("t", &format!("mesh: {{networks: {blue}}}"));
    let (bare, grouped) = (networks(""), networks(", securityGroups: [own]"));
    clusters.start_controller(0, ControllerConfig::new("east", SPEAKERS[0]), &(bare.clone() + &hub))?;
    let ([first, second], controller) = (&clusters.hosts, &clusters.controllers[0]);
    steps.check("N8: hub and spoke: spokes reach the hub, of another gateway and its own", || {
        second.reaches("10.1.0.9")?;
        first.reaches("2001:db8:2::9")?;
        third.reaches("10.1.0.9")?;
        first.reaches("2001:db8:3::9")
    });
    steps.check("N8: hub and spoke: a spoke reaches no spoke", || {
        second.does_not_reach("10.3.0.9")?;
        third.does_not_reach("10.2.0.9")
    });
    steps.check("N8: mesh: all reach all", || {
        controller.apply(&mesh)?;
        second.reaches("10.3.0.9")?;
        third.reaches("10.2.0.9")?;
        first.reaches("10.3.0.9")
    });
    steps.check("N7: one-sided: no traffic passes both ways", || {
        controller.apply_only(&(bare.clone() + &one_sided))?;
        clusters.gateways[1].loses_route("10.1.0.9/32")?;
        first.does_not_reach("10.2.0.9")
    });
    steps.check("N7: two routers that import each other join their networks, and sources are kept", || {
        controller.apply_only(&(bare.clone() + &two_sided))?;
        first.reaches("10.2.0.9")?;
        let capture = Capture::start(&clusters.net, &second.namespace, "eth0", "icmp")?;
        first.reaches("10.2.0.9")?;
        let sources = capture.stop()?.fields("icmp.type == 8", &["ip.src"])?;
        ensure!(!sources.is_empty() && sources.iter().all(|source| source == &["10.1.0.9"]), "{sources:?}");
        third.does_not_reach("10.2.0.9")
    });
    steps.check("C10: a group that the cluster has numbered itself is known at all of its gateways", || {
        controller.apply(&(grouped.clone() + &two_sided))?;
        eventually(std::time::Duration::from_secs(10), || {
            let groups = groups_of(&clusters, 0, "10.2.0.9/32")?;
            ensure!(groups == [u64::from(FIRST_SYSTEM_GROUP)], "the groups of the route are {groups:?}");
            Ok(())
        })?;
        second.reaches("10.1.0.9")
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

#[test]
fn groups() {
    run_scenario("groups_across_clusters", 1, groups_across_clusters);
}

#[test]
fn routers() {
    run_scenario("routers_join_networks", 1, routers_join_networks);
}
