//! Who exports to whom: the route targets of each network, before they have
//! numbers.
//!
//! | a network has | exports | imports |
//! |---|---|---|
//! | itself | its own target | its own target |
//! | user route targets, a connection | them | them |
//! | a mesh | the router's target | it, and those of routers that the router imports |
//! | a hub's part | the router's hub target | the router's spoke target |
//! | a spoke's part | the router's spoke target | the router's hub target |
//! | a policy that lets it talk to another | | the other's own and user targets |
//! | gateways at a site | the site's target, there | |
//!
//! A policy means a network and those that share a user route target with it, in
//! other clusters too (C14). It does not mean the other networks of its routers:
//! who may talk to one spoke may not talk to all. Nor does it pass on what another
//! policy has brought: two networks that are joined to a third by policies do not
//! learn each other.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::connection::Layer;
use super::kinds::network_policy::Action;
use super::kinds::{Connection, Endpoint, Kind, NetworkPolicy, Site, VirtualNetwork, VirtualNetworkRouter};
use super::names::{Name, Selector};
use super::{Intent, ObjectKey};
use crate::numbers::RouteTarget;

/// A route target, by what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A network's own; allocated.
    Network(ObjectKey),
    /// A router's; allocated.
    Router(ObjectKey, Part),
    /// An operator's.
    User(RouteTarget),
}

/// What part of a router a target stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All networks of a mesh.
    Mesh,
    /// What hubs export.
    Hub,
    /// What spokes export.
    Spoke,
}

impl Part {
    /// Its name in a text: `mesh`, `hub`, `spoke`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Hub => "hub",
            Self::Spoke => "spoke",
        }
    }
}

/// What is imported and exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Routes with one of these are known.
    pub imports: BTreeSet<Target>,
    /// Own routes have all of these.
    pub exports: BTreeSet<Target>,
}

impl Reach {
    fn both(&mut self, target: Target) {
        self.imports.insert(target.clone());
        self.exports.insert(target);
    }
}

/// One network's part in the topology.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Layer 3.
    pub routed: Reach,
    /// Layer 2, if it has one.
    pub bridged: Option<Reach>,
}

impl Place {
    /// The targets by which a policy knows the network.
    pub fn known_as(&self) -> BTreeSet<Target> {
        let exports = self.routed.exports.iter();
        exports.filter(|target| !matches!(target, Target::Router(..))).cloned().collect()
    }
}

/// The topology of an intent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Each network's part.
    pub networks: BTreeMap<ObjectKey, Place>,
}

impl Topology {
    /// From an intent. References that lead nowhere are passed over.
    pub fn of(intent: &Intent) -> Self {
        let mut topology = Self::default();
        for (key, network) in intent.all::<VirtualNetwork>() {
            topology.networks.insert(key.clone(), own(key, network));
        }
        for (key, connection) in intent.all::<Connection>() {
            topology.connect(key, connection);
        }
        for (key, router) in intent.all::<VirtualNetworkRouter>() {
            topology.route(intent, key, router);
        }
        topology.permit(intent);
        topology
    }

    fn connect(&mut self, key: &ObjectKey, connection: &Connection) {
        let target = Target::User(connection.user_route_target);
        for reference in &connection.networks {
            let network = key.resolve(Kind::VirtualNetwork, reference);
            let Some(place) = self.networks.get_mut(&network) else { continue };
            match connection.layer {
                Layer::L3 => place.routed.both(target.clone()),
                Layer::L2 => place.bridged.get_or_insert_with(|| own_reach(&network)).both(target.clone()),
            }
        }
    }

    fn route(&mut self, intent: &Intent, key: &ObjectKey, router: &VirtualNetworkRouter) {
        let target = |part| Target::Router(key.clone(), part);
        if let Some(mesh) = &router.mesh {
            for network in selected(intent, key, &router.cluster, &mesh.networks) {
                let Some(place) = self.networks.get_mut(&network) else { continue };
                place.routed.both(target(Part::Mesh));
                place.routed.imports.extend(
                    mesh.import.iter().map(|other| {
                        Target::Router(key.resolve(Kind::VirtualNetworkRouter, other), Part::Mesh)
                    }),
                );
            }
        }
        if let Some(star) = &router.hub_and_spoke {
            let parts = [(&star.hubs, Part::Hub, Part::Spoke), (&star.spokes, Part::Spoke, Part::Hub)];
            for (selector, own, other) in parts {
                for network in selected(intent, key, &router.cluster, selector) {
                    let Some(place) = self.networks.get_mut(&network) else { continue };
                    place.routed.exports.insert(target(own));
                    place.routed.imports.insert(target(other));
                }
            }
        }
    }

    /// Networks that a policy lets talk learn each other.
    fn permit(&mut self, intent: &Intent) {
        let mut learned: Vec<(ObjectKey, BTreeSet<Target>)> = Vec::new();
        for (key, policy) in intent.all::<NetworkPolicy>() {
            for rule in policy.rules.iter().filter(|rule| rule.action == Action::Allow) {
                let from = key.resolve(Kind::VirtualNetwork, &rule.from);
                let to = key.resolve(Kind::VirtualNetwork, &rule.to);
                for (who, whom) in [(&from, &to), (&to, &from)] {
                    if let Some(place) = self.networks.get(whom) {
                        learned.push((who.clone(), place.known_as()));
                    }
                }
            }
        }
        for (network, targets) in learned {
            if let Some(place) = self.networks.get_mut(&network) {
                place.routed.imports.extend(targets);
            }
        }
    }
}

fn own_reach(key: &ObjectKey) -> Reach {
    let mut reach = Reach::default();
    reach.both(Target::Network(key.clone()));
    reach
}

fn own(key: &ObjectKey, network: &VirtualNetwork) -> Place {
    let mut routed = own_reach(key);
    network.route_targets.both.iter().for_each(|target| routed.both(Target::User(*target)));
    routed.imports.extend(network.route_targets.import.iter().copied().map(Target::User));
    routed.exports.extend(network.route_targets.export.iter().copied().map(Target::User));
    Place { routed, bridged: network.l2.map(|_| own_reach(key)) }
}

/// The networks that a router's selector means: of its cluster, of its own
/// namespace or not isolated.
pub fn selected(intent: &Intent, router: &ObjectKey, cluster: &Name, selector: &Selector) -> Vec<ObjectKey> {
    if selector.is_empty() {
        return Vec::new();
    }
    intent
        .all::<VirtualNetwork>()
        .filter(|(key, network)| {
            network.cluster == *cluster && (!network.isolated || key.namespace == router.namespace)
        })
        .filter(|(key, _)| intent.object(key).is_some_and(|object| selector.selects(&object.labels)))
        .map(|(key, _)| key.clone())
        .collect()
}

/// The gateways that host endpoints of each network.
pub fn hosts(intent: &Intent) -> BTreeMap<ObjectKey, BTreeSet<Name>> {
    let mut hosts: BTreeMap<ObjectKey, BTreeSet<Name>> = BTreeMap::new();
    for (key, endpoint) in intent.all::<Endpoint>() {
        let network = key.resolve(Kind::VirtualNetwork, &endpoint.network);
        hosts.entry(network).or_default().insert(endpoint.gateway.clone());
    }
    hosts
}

/// The site at which a gateway is.
pub fn site_of<'a>(intent: &'a Intent, gateway: &Name) -> Option<&'a ObjectKey> {
    intent.all::<Site>().find(|(_, site)| site.gateways.contains(gateway)).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::intent::testing::{CLUSTERS, intent};

    /// What one network is part of.
    #[derive(Debug, Clone)]
    struct Member {
        connections: BTreeSet<u8>,
        mesh: Option<u8>,
        role: Option<bool>,
    }

    fn member() -> impl Strategy<Value = Member> {
        let connections = proptest::collection::btree_set(0u8..3, 0..3);
        (connections, proptest::option::of(0u8..2), proptest::option::of(any::<bool>()))
            .prop_map(|(connections, mesh, role)| Member { connections, mesh, role })
    }

    fn text(members: &[Member], policies: &[(usize, usize)], imports: [bool; 2]) -> String {
        let mut text = CLUSTERS.to_owned();
        let mut add = |kind: &str, name: &str, labels: &str, spec: &str| {
            text += &format!(
                "---\napiVersion: tieline.io/v1\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {spec}\n"
            );
        };
        for (number, member) in members.iter().enumerate() {
            let mesh = member.mesh.map(|mesh| format!("mesh: m{mesh}, ")).unwrap_or_default();
            let role =
                member.role.map(|hub| if hub { "role: hub" } else { "role: spoke" }).unwrap_or_default();
            add("VirtualNetwork", &format!("n{number}"), &format!("{mesh}{role}"), "{cluster: east}");
        }
        for connection in 0..3 {
            let names: Vec<String> = (0..members.len())
                .filter(|number| members[*number].connections.contains(&connection))
                .map(|number| format!("n{number}"))
                .collect();
            let spec =
                format!("{{layer: L3, userRouteTarget: '1:{connection}', networks: [{}]}}", names.join(", "));
            add("Connection", &format!("c{connection}"), "", &spec);
        }
        for (mesh, import) in imports.into_iter().enumerate() {
            let import = if import { format!("m{}", 1 - mesh) } else { String::new() };
            let spec = format!(
                "{{cluster: east, mesh: {{networks: {{matchLabels: {{mesh: m{mesh}}}}}, import: [{import}]}}}}"
            );
            add("VirtualNetworkRouter", &format!("m{mesh}"), "", &spec);
        }
        let star = "{cluster: east, hubAndSpoke: {hubs: {matchLabels: {role: hub}}, spokes: {matchLabels: {role: spoke}}}}";
        add("VirtualNetworkRouter", "star", "", star);
        for (number, (from, to)) in policies.iter().enumerate() {
            let (from, to) = (from % members.len(), to % members.len());
            let spec = format!("{{cluster: east, rules: [{{from: n{from}, to: n{to}}}]}}");
            add("NetworkPolicy", &format!("p{number}"), "", &spec);
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// A network learns another's routes exactly when something that an
        /// operator wrote says so.
        #[test]
        fn routes_flow_where_somebody_said_so_and_nowhere_else(
            members in proptest::collection::vec(member(), 1..6),
            policies in proptest::collection::vec((0usize..6, 0usize..6), 0..3),
            imports in any::<[bool; 2]>(),
        ) {
            let topology = Topology::of(&intent(&text(&members, &policies, imports)));
            let place = |number: usize| {
                &topology.networks[&ObjectKey::parse(&format!("VirtualNetwork/default/n{number}")).expect("a key")]
            };
            let meshed = |a: &Member, b: &Member| match (a.mesh, b.mesh) {
                (Some(a), Some(b)) => a == b || imports[usize::from(a)],
                _ => false,
            };
            let direct = |learner: usize, origin: usize| {
                let (a, b) = (&members[learner], &members[origin]);
                learner == origin
                    || !a.connections.is_disjoint(&b.connections)
                    || meshed(a, b)
                    || a.role.is_some_and(|hub| b.role == Some(!hub))
            };
            // Whom a policy means by b: b, and who is connected with it.
            let shares = |b: usize, origin: usize| {
                b == origin || !members[b].connections.is_disjoint(&members[origin].connections)
            };
            for learner in 0..members.len() {
                for origin in 0..members.len() {
                    let permitted = policies.iter().any(|(from, to)| {
                        let (from, to) = (from % members.len(), to % members.len());
                        (from == learner && shares(to, origin)) || (to == learner && shares(from, origin))
                    });
                    let flows = !place(learner).routed.imports.is_disjoint(&place(origin).routed.exports);
                    prop_assert_eq!(flows, direct(learner, origin) || permitted, "n{} of n{}", learner, origin);
                }
            }
        }
    }
}
