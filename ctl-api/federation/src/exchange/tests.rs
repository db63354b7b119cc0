//! Who is believed about what, and who is told what: the rules one by one, and
//! whatever peers say against an oracle.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tieline_bgp::rib::policy::{Candidate, Policy, Verdict};
use tieline_bgp::rib::{Path, PeerId, Staleness};
use tieline_bgp::wire::as_path::{Segment, SegmentKind};
use tieline_bgp::wire::community::{SecurityGroup, security_group_communities};
use tieline_bgp::wire::{
    AsPath, Attributes, Community, Evpn, MacAddr, Membership, Nlri, Payload, RouteDistinguisher, RouteTarget,
};

use super::*;
use crate::allocation::{Allocations, Circumstances, allocate};
use crate::intent::Intent;
use crate::intent::kinds::peer::Peer;
use crate::intent::testing::intent;
use crate::routes::groups;

/// The cluster east has red, which west's blue shares 64999:7 with; pink, which
/// north's grey shares 64999:8 with; green, which nothing connects, and mint,
/// which a router joins with red. East-2 is at a site. South is described without
/// networks. Flat is on a layer 2 connection.
const WORLD: &str = "
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: east}
spec:
  asn: 64512
  controllers: [{name: c1, address: 198.18.0.11}, {name: c2, address: '2001:db8::12', routerId: 198.18.0.12}]
  gateways:
  - {name: east-1, endpoint: 'unix:/a', tunnelAddresses: [198.18.0.1, '2001:db8:f::1']}
  - {name: east-2, endpoint: 'unix:/b', tunnelAddresses: [198.18.0.2]}
---
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: west}
spec: {asn: 64513, gateways: [{name: west-1, endpoint: 'unix:/c', tunnelAddresses: [198.18.1.1, 198.18.9.9]}]}
---
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: north}
spec: {asn: 64514, gateways: [{name: north-1, endpoint: 'unix:/d', tunnelAddresses: [198.18.2.1, 198.18.9.9]}]}
---
apiVersion: tieline.io/v1
kind: Cluster
metadata: {name: south}
spec: {asn: 64515}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: red, labels: {joined: here}}
spec: {cluster: east, subnets: [{prefix: 10.1.0.0/24}, {prefix: '2001:db8:1::/64'}], routeTargets: {both: ['64999:7']}}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: mint, labels: {joined: here}}
spec: {cluster: east, subnets: [{prefix: 10.4.0.0/24}]}
---
apiVersion: tieline.io/v1
kind: VirtualNetworkRouter
metadata: {name: here}
spec: {cluster: east, mesh: {networks: {matchLabels: {joined: here}}}}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: green}
spec: {cluster: east, subnets: [{prefix: 10.5.0.0/24}]}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: pink}
spec: {cluster: east, subnets: [{prefix: 10.6.0.0/24}]}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: blue}
spec: {cluster: west, subnets: [{prefix: 10.2.0.0/24}], routeTargets: {both: ['64999:7']}}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: grey}
spec: {cluster: north, subnets: [{prefix: 10.3.0.0/24}]}
---
apiVersion: tieline.io/v1
kind: Connection
metadata: {name: pink-grey}
spec: {layer: L3, userRouteTarget: '64999:8', networks: [pink, grey]}
---
apiVersion: tieline.io/v1
kind: VirtualNetwork
metadata: {name: flat}
spec: {cluster: east, subnets: [{prefix: 10.9.0.0/24, pools: [{first: 10.9.0.2, last: 10.9.0.99}]}]}
---
apiVersion: tieline.io/v1
kind: Connection
metadata: {name: flats}
spec: {layer: L2, userRouteTarget: '64999:9', networks: [flat]}
---
apiVersion: tieline.io/v1
kind: Endpoint
metadata: {name: h1}
spec: {network: red, gateway: east-1, interface: {port: h1}, mac: '02:00:00:00:00:01', addresses: [10.1.0.9]}
---
apiVersion: tieline.io/v1
kind: Site
metadata: {name: far}
spec: {cluster: east, gateways: [east-2]}
";

/// A route target that the cluster has given, and the site's.
const OWN: &str = "64512:8000000";
const SITE: &str = "64512:7699";

fn facts_of(intent: &Intent) -> Facts {
    let allocations =
        allocate(&Allocations::default(), intent, &Circumstances::default()).expect("there is room");
    Facts::of(intent, &allocations, &"east".parse().expect("a name")).expect("it has the cluster")
}

fn facts() -> Facts {
    static FACTS: LazyLock<Facts> = LazyLock::new(|| facts_of(&intent(WORLD)));
    FACTS.clone()
}

/// A peer at an address, of an AS.
fn peer(address: &str, asn: u32, more: &str) -> Peer {
    let text = format!(
        "apiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: x}}\n\
         spec: {{cluster: east, address: '{address}', asn: {asn}, families: [vpnv4]{more}}}\n"
    );
    intent(&text).all::<Peer>().next().expect("it is there").1.clone()
}

/// All that a peer can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Controller,
    Reflector,
    Undeclared,
    Stranger,
    West,
    North,
    South,
    Hub,
}

impl Who {
    const ALL: [Self; 8] = [
        Self::Controller,
        Self::Reflector,
        Self::Undeclared,
        Self::Stranger,
        Self::West,
        Self::North,
        Self::South,
        Self::Hub,
    ];
    const FOREIGN: [Self; 6] =
        [Self::Undeclared, Self::Stranger, Self::West, Self::North, Self::South, Self::Hub];

    fn peer(self, more: &str) -> Peer {
        match self {
            Self::Controller => peer("2001:db8::12", 64512, more),
            Self::Reflector => peer("198.18.0.13", 64512, &format!(", reflector: true{more}")),
            Self::Undeclared => peer("198.18.0.14", 64512, more),
            // Even at a controller's address.
            Self::Stranger => peer("2001:db8::12", 64512, &format!(", reflector: false{more}")),
            Self::West => peer("198.18.1.11", 64513, more),
            Self::North => peer("198.18.2.11", 64514, more),
            Self::South => peer("198.18.3.11", 64515, more),
            Self::Hub => peer("198.18.9.3", 64999, more),
        }
    }

    fn party(self, facts: &Facts) -> Party {
        Party::new(facts, &self.peer(""))
    }

    fn asn(self) -> u32 {
        match self {
            Self::Controller | Self::Reflector | Self::Undeclared | Self::Stranger => 64512,
            Self::West => 64513,
            Self::North => 64514,
            Self::South => 64515,
            Self::Hub => 64999,
        }
    }
}

fn target(text: &str) -> RouteTarget {
    text.parse().expect("a route target")
}

/// What somebody says of a route: a VPN route that nothing is wrong with.
#[derive(Debug, Clone)]
struct Saying {
    rd: RouteDistinguisher,
    prefix: String,
    next_hop: IpAddr,
    path: Vec<u32>,
    originator: Option<Ipv4Addr>,
    targets: Vec<String>,
    groups: Vec<(u32, u32)>,
}

impl Saying {
    fn of(who: Who) -> Self {
        let path = if who.asn() == 64512 { Vec::new() } else { vec![who.asn()] };
        Self {
            rd: RouteDistinguisher::as2(64513, 1),
            prefix: "10.77.0.0/24".to_owned(),
            next_hop: IpAddr::from([198, 18, 77, 1]),
            path,
            originator: None,
            targets: Vec::new(),
            groups: Vec::new(),
        }
    }

    fn with(targets: &[&str], who: Who) -> Self {
        Self { targets: targets.iter().map(|one| (*one).to_owned()).collect(), ..Self::of(who) }
    }

    fn nlri(&self) -> Nlri {
        match self.prefix.parse().expect("a prefix") {
            ipnet::IpNet::V4(prefix) => Nlri::Vpnv4(self.rd, prefix),
            ipnet::IpNet::V6(prefix) => Nlri::Vpnv6(self.rd, prefix),
        }
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new(self.next_hop);
        attributes.as_path = AsPath::sequence(self.path.iter().copied());
        attributes.originator_id = self.originator;
        attributes.extended = self.targets.iter().map(|one| target(one).into()).collect();
        let groups = self.groups.iter().map(|(asn, id)| SecurityGroup { asn: *asn, id: *id });
        attributes.extended.extend(security_group_communities(&groups.collect::<Vec<_>>()));
        attributes
    }

    fn doubt(&self, facts: &Facts, party: &Party) -> Option<Claim> {
        facts.doubt(party, &self.nlri(), &self.attributes())
    }
}

/// The reason for which a route is not believed.
fn doubt(facts: &Facts, who: Who, saying: &Saying) -> Option<&'static str> {
    saying.doubt(facts, &who.party(facts)).map(|claim| claim.objection().reason)
}

const SYSTEM_TARGET: Option<&str> = Some("a route target that only this cluster gives");
const NOT_CONNECTED: Option<&str> = Some("a route target that nothing connects its cluster with");
const SUBNET: Option<&str> = Some("a prefix that is in a subnet of another network");
const OWN_GATEWAY: Option<&str> = Some("a next hop that is a gateway of this cluster");
const OTHERS_GATEWAY: Option<&str> = Some("a next hop that is a gateway of another cluster");

#[test]
fn s3_only_a_declared_controller_speaks_for_the_cluster() {
    let facts = facts();
    let (c2, stranger) = (Ipv4Addr::new(198, 18, 0, 12), Ipv4Addr::new(198, 18, 0, 77));
    let sequence = AsPath::sequence;
    let confederation = AsPath(vec![Segment { kind: SegmentKind::ConfederationSequence, asns: vec![65000] }]);
    let set = AsPath(vec![Segment { kind: SegmentKind::Set, asns: vec![64513] }]);
    let none = AsPath::default;
    let foreign = Origin::Foreign;
    for (who, path, originator, origin) in [
        (Who::Controller, none(), None, Origin::Ours),
        (Who::Controller, none(), Some(c2), Origin::Ours),
        (Who::Reflector, none(), Some(c2), Origin::Ours),
        (Who::Reflector, none(), None, foreign(Foreign::Reflector)),
        (Who::Reflector, none(), Some(stranger), foreign(Foreign::Originator(stranger))),
        (Who::Controller, none(), Some(stranger), foreign(Foreign::Originator(stranger))),
        (Who::Reflector, sequence([64513]), Some(c2), foreign(Foreign::Path)),
        (Who::Reflector, confederation.clone(), Some(c2), foreign(Foreign::Path)),
        (Who::Controller, confederation, None, foreign(Foreign::Path)),
        (Who::Controller, set, None, foreign(Foreign::Path)),
        (Who::Undeclared, none(), None, foreign(Foreign::Undeclared)),
        (Who::Undeclared, none(), Some(c2), foreign(Foreign::Undeclared)),
        (Who::Stranger, none(), Some(c2), foreign(Foreign::Undeclared)),
        (Who::West, none(), Some(c2), foreign(Foreign::External)),
        (Who::West, sequence([64513]), None, foreign(Foreign::External)),
        (Who::Hub, none(), Some(c2), foreign(Foreign::External)),
    ] {
        let mut attributes = Saying::of(who).attributes();
        (attributes.as_path, attributes.originator_id) = (path, originator);
        assert_eq!(facts.origin(&who.party(&facts), &attributes), origin, "{who:?} {attributes:?}");
    }
    let relations = Who::ALL.map(|who| who.party(&facts).relation.to_string());
    assert_eq!(
        relations,
        [
            "controller c2",
            "reflector",
            "undeclared",
            "stranger",
            "cluster west",
            "cluster north",
            "cluster south",
            "other"
        ]
    );
}

#[test]
fn s3_c5_the_clusters_own_route_targets_are_believed_from_nobody_else() {
    let facts = facts();
    for own in [OWN, "64512:8000001", "64512:4294967295", "64512L:8000", SITE] {
        for who in Who::FOREIGN {
            for targets in [&[own][..], &["64999:7", own], &[own, "64514:1"]] {
                assert_eq!(doubt(&facts, who, &Saying::with(targets, who)), SYSTEM_TARGET, "{who:?} {own}");
            }
        }
        assert_eq!(doubt(&facts, Who::Controller, &Saying::with(&[own], Who::Controller)), None);
    }
    // C6: equal numbers of others are others'. A number that no site has is an operator's.
    for others in ["64513:8000000", "64999:8000000", "64512:7799", "64512:7999998", "198.18.0.1:8000"] {
        assert_eq!(doubt(&facts, Who::Hub, &Saying::with(&[others], Who::Hub)), None, "{others}");
    }
}

#[test]
fn s3_c4_a_user_route_target_brings_whom_the_intent_connects() {
    let facts = facts();
    let says = |who: Who, path: &[u32], one: &str| {
        doubt(&facts, who, &Saying { path: path.to_vec(), ..Saying::with(&[one], who) })
    };
    for (who, path, one, expected) in [
        (Who::West, &[64513][..], "64999:7", None),
        (Who::North, &[64514], "64999:8", None),
        // Uninvited, also with another's AS behind its own.
        (Who::North, &[64514], "64999:7", NOT_CONNECTED),
        (Who::North, &[64514, 64513], "64999:7", NOT_CONNECTED),
        (Who::West, &[64513, 64514], "64999:7", NOT_CONNECTED),
        (Who::West, &[64513], "64999:8", NOT_CONNECTED),
        // Of whom the intent has no network everything is possible.
        (Who::South, &[64515], "64999:7", None),
        (Who::Undeclared, &[], "64999:7", None),
        (Who::Hub, &[64999], "64999:7", None),
        (Who::Hub, &[64999, 64998], "64999:8", None),
        // A route server or reflector passes on what others say: they count.
        (Who::Hub, &[64513], "64999:7", None),
        (Who::Hub, &[64999, 64513], "64999:8", NOT_CONNECTED),
        (Who::Hub, &[64514], "64999:7", NOT_CONNECTED),
        (Who::Reflector, &[64514], "64999:7", NOT_CONNECTED),
        (Who::Controller, &[64514], "64999:7", NOT_CONNECTED),
        (Who::Controller, &[64513], "64999:7", None),
        // Nobody here imports these.
        (Who::North, &[64514], "64999:70", None),
        (Who::North, &[64514], "64513:8000000", None),
    ] {
        assert_eq!(says(who, path, one), expected, "{who:?} {path:?} {one}");
    }
    let mut set = Saying::with(&["64999:7"], Who::Hub).attributes();
    set.as_path.0.push(Segment { kind: SegmentKind::Set, asns: vec![64998, 64514] });
    let claim =
        facts.doubt(&Who::Hub.party(&facts), &Saying::of(Who::Hub).nlri(), &set).expect("north is in it");
    assert_eq!(claim.to_string(), "64999:7, from cluster north");
}

#[test]
fn s3_c5_what_another_cluster_gives_itself_it_may_say() {
    let imports = WORLD.replace("routeTargets: {both: ['64999:7']}}\n---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: mint",
        "routeTargets: {both: ['64999:7'], import: ['64513:8000005']}}\n---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: mint");
    assert_ne!(imports, WORLD);
    let facts = facts_of(&intent(&imports));
    let says = |who| doubt(&facts, who, &Saying::with(&["64513:8000005"], who));
    assert_eq!((says(Who::West), says(Who::North), says(Who::Hub)), (None, NOT_CONNECTED, None));
}

#[test]
fn x7_s3_a_contract_says_more_than_the_intent_does() {
    let facts = facts();
    let contracted = |more: &str| Party::new(&facts, &Who::North.peer(&format!(", contract: {{{more}}}")));
    let says = |party: &Party, one: &str| {
        Saying::with(&[one], Who::North).doubt(&facts, party).map(|claim| claim.objection().reason)
    };
    let named = contracted("routeTargets: ['64999:7', '64512:8000000']");
    assert_eq!(says(&named, "64999:7"), None, "it is expected");
    assert_eq!(says(&named, OWN), SYSTEM_TARGET, "no contract makes a stranger one of the cluster's own");
    assert_eq!(says(&contracted("prefixes: [10.0.0.0/8]"), "64999:7"), NOT_CONNECTED, "it names no target");
}

#[test]
fn s3_the_clusters_own_distinguishers_are_believed_from_nobody_else() {
    let facts = facts();
    let given = RouteDistinguisher::as2(64512, 1);
    for who in Who::ALL {
        let saying = Saying { rd: given, ..Saying::with(&["64999:70"], who) };
        let expected = match who {
            Who::Controller => None,
            _ => Some("a route distinguisher that this cluster has given"),
        };
        assert_eq!(doubt(&facts, who, &saying), expected, "{who:?}");
        let free = Saying { rd: RouteDistinguisher::as2(64512, 2), ..Saying::with(&["64999:70"], who) };
        assert_eq!(doubt(&facts, who, &free), None, "nobody has it: {who:?}");
    }
    let mac = Nlri::Evpn(Evpn::MacIp { rd: given, tag: 0, mac: MacAddr([2, 0, 0, 0, 0, 1]), ip: None });
    let attributes = Saying::of(Who::West).attributes();
    assert!(facts.doubt(&Who::West.party(&facts), &mac, &attributes).is_some(), "whatever it is a route of");
}

#[test]
fn s3_a_next_hop_is_a_gateway_of_who_says_so() {
    let facts = facts();
    let says = |who: Who, path: &[u32], next_hop: &str, one: &str| {
        let next_hop = next_hop.parse().expect("an address");
        doubt(&facts, who, &Saying { next_hop, path: path.to_vec(), ..Saying::with(&[one], who) })
    };
    for (who, path, next_hop, expected) in [
        (Who::West, &[64513][..], "198.18.1.1", None),
        (Who::West, &[64513], "198.18.77.1", None),
        // A label that another gateway understands would lead anywhere.
        (Who::West, &[64513], "198.18.0.1", OWN_GATEWAY),
        (Who::West, &[64513], "198.18.0.2", OWN_GATEWAY),
        (Who::West, &[64513], "2001:db8:f::1", OWN_GATEWAY),
        (Who::Hub, &[64999], "198.18.0.1", OWN_GATEWAY),
        (Who::Undeclared, &[], "198.18.0.1", OWN_GATEWAY),
        (Who::West, &[64513], "198.18.2.1", OTHERS_GATEWAY),
        (Who::South, &[64515], "198.18.1.1", OTHERS_GATEWAY),
        (Who::Undeclared, &[], "198.18.1.1", OTHERS_GATEWAY),
        (Who::Hub, &[64999, 64513], "198.18.1.1", None),
        (Who::Hub, &[64999], "198.18.1.1", OTHERS_GATEWAY),
        (Who::West, &[64513], "198.18.9.9", None),
        (Who::Hub, &[64999], "198.18.9.9", OTHERS_GATEWAY),
    ] {
        assert_eq!(says(who, path, next_hop, "64999:7"), expected, "{who:?} {path:?} {next_hop}");
    }
    // C16: of clusters that are not joined with this one, addresses may be the same.
    assert_eq!(says(Who::West, &[64513], "198.18.0.1", "64999:70"), None);
    let mut mapped = Saying::with(&["64999:7"], Who::West);
    mapped.next_hop = "::ffff:198.18.0.1".parse().expect("an address");
    assert_eq!(doubt(&facts, Who::West, &mapped), OWN_GATEWAY, "however it is written");
}

#[test]
fn r7_s3_a_prefix_in_somebody_elses_subnet_is_refused() {
    let facts = facts();
    let says = |who: Who, path: &[u32], prefix: &str, one: &str| {
        let prefix = prefix.to_owned();
        doubt(&facts, who, &Saying { prefix, path: path.to_vec(), ..Saying::with(&[one], who) })
    };
    for (who, path, prefix, one, expected) in [
        // Red's own, and what red is joined with.
        (Who::West, &[64513][..], "10.1.0.0/24", "64999:7", SUBNET),
        (Who::West, &[64513], "10.1.0.9/32", "64999:7", SUBNET),
        (Who::West, &[64513], "10.1.0.128/25", "64999:7", SUBNET),
        (Who::West, &[64513], "2001:db8:1::9/128", "64999:7", SUBNET),
        (Who::West, &[64513], "10.4.0.7/32", "64999:7", SUBNET),
        (Who::Hub, &[64999], "10.1.0.9/32", "64999:7", SUBNET),
        (Who::Undeclared, &[], "10.1.0.9/32", "64999:7", SUBNET),
        // A prefix around it leads nobody astray who has a route of his own.
        (Who::West, &[64513], "10.1.0.0/16", "64999:7", None),
        (Who::West, &[64513], "10.1.1.0/24", "64999:7", None),
        // What red does not know.
        (Who::West, &[64513], "10.5.0.9/32", "64999:7", None),
        (Who::North, &[64514], "10.1.0.9/32", "64999:8", None),
        // West's own, by west and through others.
        (Who::West, &[64513], "10.2.0.9/32", "64999:7", None),
        (Who::Hub, &[64999, 64513], "10.2.0.9/32", "64999:7", None),
        (Who::South, &[64515], "10.2.0.9/32", "64999:7", SUBNET),
        (Who::Hub, &[64999], "10.2.0.9/32", "64999:7", SUBNET),
        (Who::Hub, &[64999, 64515, 64513], "10.2.0.9/32", "64999:7", SUBNET),
        (Who::North, &[64514], "10.3.0.0/24", "64999:8", None),
        (Who::South, &[64515], "10.3.0.0/24", "64999:8", SUBNET),
        (Who::North, &[64514], "10.6.0.0/24", "64999:8", SUBNET),
        // Nobody imports it: it is nobody's business.
        (Who::West, &[64513], "10.1.0.9/32", "64999:70", None),
        // On a layer 2 connection only the own pools are the own network's.
        (Who::West, &[64513], "10.9.0.100/32", "64999:9", NOT_CONNECTED),
        (Who::South, &[64515], "10.9.0.100/32", "64999:9", None),
        (Who::South, &[64515], "10.9.0.99/32", "64999:9", SUBNET),
        (Who::South, &[64515], "10.9.0.0/24", "64999:9", SUBNET),
        (Who::South, &[64515], "10.9.0.64/26", "64999:9", SUBNET),
        (Who::South, &[64515], "10.9.0.128/25", "64999:9", None),
    ] {
        assert_eq!(says(who, path, prefix, one), expected, "{who:?} {path:?} {prefix} {one}");
    }
    let claim = Saying { prefix: "10.4.0.7/32".into(), ..Saying::with(&["64999:7"], Who::West) };
    let claim = claim.doubt(&facts, &Who::West.party(&facts)).expect("it is mint's");
    assert_eq!(claim.to_string(), "10.4.0.0/24 of VirtualNetwork/default/mint");
}

#[test]
fn x7_a_contract_that_names_a_part_of_a_subnet_grants_it() {
    let facts = facts();
    let says = |prefixes: &str, prefix: &str| {
        let party = Party::new(&facts, &Who::West.peer(&format!(", contract: {{prefixes: [{prefixes}]}}")));
        Saying { prefix: prefix.to_owned(), ..Saying::with(&["64999:7"], Who::West) }.doubt(&facts, &party)
    };
    assert_eq!(says("10.1.0.128/25", "10.1.0.200/32"), None);
    assert_eq!(says("10.1.0.0/24", "10.1.0.200/32"), None);
    assert!(says("10.1.0.128/25", "10.1.0.9/32").is_some(), "another part");
    assert!(says("10.0.0.0/8", "10.1.0.200/32").is_some(), "a range around it names nothing of it");
}

#[test]
fn s3_c12_a_system_group_is_struck_and_the_route_is_kept() {
    let facts = facts();
    for who in Who::FOREIGN {
        let saying = Saying { groups: vec![(64512, 8_000_001)], ..Saying::with(&["64999:70"], who) };
        let claim = saying.doubt(&facts, &who.party(&facts)).expect("a claim");
        assert_eq!(claim.objection().reason, "a security group that only this cluster gives");
        assert!(!claim.objection().hides, "C10: the route is kept");
        for (asn, id) in [(64513, 8_000_001), (64512, 7_999_999), (64513, 5)] {
            let saying = Saying { groups: vec![(asn, id)], ..Saying::with(&["64999:70"], who) };
            assert_eq!(doubt(&facts, who, &saying), None, "{who:?} {asn}:{id}");
        }
    }
    // In whatever communities the number of the AS is written.
    let mut attributes = Saying::of(Who::West).attributes();
    attributes.extended = vec![
        tieline_bgp::wire::ExtendedCommunity([0x82, 0x04, 0, 0, 0xfc, 0, 0, 9]),
        tieline_bgp::wire::ExtendedCommunity([0x80, 0x04, 0, 9, 0, 0x7a, 0x12, 0x01]),
    ];
    let (party, nlri) = (Who::West.party(&facts), Saying::of(Who::West).nlri());
    assert!(facts.doubt(&party, &nlri, &attributes).is_some());
    let origin = facts.origin(&party, &attributes);
    assert!(groups::visible(facts.asn(), origin, &attributes).is_empty());
}

/// The networks of the cluster that a peer is told of.
fn told(facts: &Facts, party: &Party) -> Vec<String> {
    let kept: BTreeSet<&crate::intent::ObjectKey> = party.kept(facts).collect();
    let told = facts.networks().filter(|(network, _)| !kept.contains(network));
    told.map(|(network, _)| network.name.to_string()).collect()
}

#[test]
fn s3_a_peer_is_told_what_the_intent_connects_it_with() {
    let facts = facts();
    for (who, networks) in [
        (Who::Controller, &["flat", "green", "mint", "pink", "red"][..]),
        (Who::Reflector, &["flat", "green", "mint", "pink", "red"]),
        (Who::West, &["red"]),
        (Who::North, &["pink"]),
        // Nothing is known of their networks: what is connected at all.
        (Who::South, &["flat", "pink", "red"]),
        (Who::Hub, &["flat", "pink", "red"]),
        (Who::Undeclared, &["flat", "pink", "red"]),
        (Who::Stranger, &["flat", "pink", "red"]),
    ] {
        let party = who.party(&facts);
        assert_eq!(told(&facts, &party), networks, "{who:?}");
        for (targets, is_told) in [
            (&[OWN, "64999:7"][..], networks.contains(&"red")),
            (&["64512:8000001", "64999:8"], networks.contains(&"pink")),
            (&["64512:8000002"], networks.contains(&"green")),
            (&["64512:8000002", SITE], networks.contains(&"green")),
            (&["64999:70"], party.relation.is_own()),
        ] {
            let saying = Saying::with(targets, Who::Controller);
            let tells = facts.tells(&party, Origin::Ours, &saying.nlri(), &saying.attributes());
            assert_eq!(tells, is_told, "{who:?} {targets:?}");
        }
    }
    let contract = ", contract: {routeTargets: ['64999:8', '64999:70']}";
    let party = Party::new(&facts, &Who::West.peer(contract));
    assert_eq!(told(&facts, &party), ["pink", "red"], "a contract expects too");
}

#[test]
fn what_others_announce_is_passed_on_to_nobody_unless_it_is_wanted() {
    let facts = facts();
    for who in Who::ALL {
        let saying = Saying::with(&["64999:7"], Who::West);
        let tells = |more: &str| {
            let party = Party::new(&facts, &who.peer(more));
            let foreign = Origin::Foreign(Foreign::External);
            facts.tells(&party, foreign, &saying.nlri(), &saying.attributes())
        };
        assert!(!tells("") && tells(", transit: true"), "{who:?}");
    }
}

#[test]
fn s3_a_peer_is_asked_for_what_it_may_bring() {
    let facts = facts();
    let asks = |who: Who, one: &str| {
        let nlri = Nlri::RouteTarget(Membership::new(64512, target(one)));
        facts.tells(&who.party(&facts), Origin::Ours, &nlri, &Saying::of(who).attributes())
    };
    for (who, asked) in [
        (Who::Controller, &[OWN, SITE, "64999:7", "64999:8"][..]),
        (Who::Reflector, &[OWN, SITE, "64999:7", "64999:8"]),
        (Who::West, &["64999:7"]),
        (Who::North, &["64999:8"]),
        (Who::Hub, &["64999:7", "64999:8"]),
        (Who::Undeclared, &["64999:7", "64999:8"]),
    ] {
        for one in [OWN, SITE, "64999:7", "64999:8"] {
            assert_eq!(asks(who, one), asked.contains(&one), "{who:?} {one}");
        }
    }
}

#[test]
fn s3_c10_numbers_of_the_cluster_stay_at_home() {
    let facts = facts();
    let groups = vec![(64512, 8_000_001), (64512, 5), (4_200_000_000, 6)];
    let saying = Saying { groups, ..Saying::with(&[OWN, SITE, "64999:7"], Who::Controller) };
    let adapted = |who: Who, saying: &Saying, origin| {
        let mut attributes = saying.attributes();
        facts.adapt(&who.party(&facts), origin, &mut attributes);
        attributes
    };
    for who in Who::FOREIGN {
        let attributes = adapted(who, &saying, Origin::Ours);
        let targets: Vec<String> = attributes.route_targets().map(|one| one.to_string()).collect();
        assert_eq!(targets, ["64999:7"], "{who:?}");
        let groups = tieline_bgp::wire::community::security_groups(&attributes.extended);
        let groups: Vec<(u32, u32)> = groups.into_iter().map(|group| (group.asn, group.id)).collect();
        assert_eq!(groups, [(64512, 5), (4_200_000_000, 6)], "{who:?}");
        // What others have said is passed on as they said it.
        let foreign = Origin::Foreign(Foreign::External);
        assert_eq!(adapted(who, &saying, foreign), saying.attributes());
    }
    assert_eq!(adapted(Who::Controller, &saying, Origin::Ours), saying.attributes());
    assert_eq!(adapted(Who::Reflector, &saying, Origin::Ours), saying.attributes());
    let inner = Saying::with(&[OWN, SITE], Who::Controller);
    assert!(adapted(Who::Reflector, &inner, Origin::Ours).has(Community::NO_EXPORT));
    assert!(!adapted(Who::Controller, &inner, Origin::Ours).has(Community::NO_EXPORT));
    let membership = Saying::with(&[], Who::Controller);
    assert_eq!(adapted(Who::Reflector, &membership, Origin::Ours), membership.attributes());
}

#[test]
fn s3_a_connection_lets_a_peer_know_a_network_and_its_end_takes_that_back() {
    let connection = "---\napiVersion: tieline.io/v1\nkind: Connection\nmetadata: {name: x}\n\
                      spec: {layer: L3, userRouteTarget: '64999:20', networks: [green, blue]}\n";
    let with = facts_of(&intent(&format!("{WORLD}{connection}")));
    let without = facts();
    assert_ne!(with, without);
    let west = |facts: &Facts| told(facts, &Who::West.party(facts));
    assert_eq!((west(&without), west(&with)), (vec!["red".to_owned()], vec!["green".into(), "red".into()]));
    assert!(!Who::West.party(&with).is_told_as(&Who::West.party(&without)));
    assert!(Who::North.party(&with).is_told_as(&Who::North.party(&without)));
    let says = |facts: &Facts| doubt(facts, Who::West, &Saying::with(&["64999:20"], Who::West));
    assert_eq!((says(&without), says(&with)), (None, None));
    let says = |facts: &Facts| doubt(facts, Who::North, &Saying::with(&["64999:20"], Who::North));
    assert_eq!((says(&without), says(&with)), (None, NOT_CONNECTED));
}

#[test]
fn s3_without_facts_nobody_is_believed_or_told() {
    let facts = Facts::none(facts().asn());
    for who in Who::ALL {
        let party = who.party(&facts);
        let saying = Saying { groups: vec![(64512, 8_000_001)], ..Saying::with(&[OWN], who) };
        assert_ne!(facts.origin(&party, &saying.attributes()), Origin::Ours, "{who:?}");
        assert_eq!(doubt(&facts, who, &saying), SYSTEM_TARGET, "{who:?}");
        assert!(
            party.relation == Relation::Reflector
                || !facts.tells(
                    &party,
                    Origin::Ours,
                    &saying.nlri(),
                    &Saying::with(&["64999:7"], who).attributes()
                )
        );
    }
}

/// The hooks of the speaker, with all peers.
fn rules() -> Rules {
    static RULES: LazyLock<Rules> = LazyLock::new(new_rules);
    RULES.clone()
}

fn new_rules() -> Rules {
    let facts = Arc::new(facts());
    let mut rules = Rules::new(Arc::clone(&facts));
    for (id, who) in (0..).zip(Who::ALL) {
        rules.add(PeerId(id), Arc::new(who.party(&facts)));
    }
    rules
}

fn import(rules: &mut Rules, who: u32, saying: &Saying) -> Verdict {
    let (nlri, attributes) = (saying.nlri(), Arc::new(saying.attributes()));
    let route = Candidate { nlri: &nlri, payload: &Payload::default(), attributes: &attributes };
    rules.import(PeerId(who), route)
}

#[test]
fn r7_a_default_route_is_taken_from_nobody() {
    let mut rules = rules();
    for id in 0..8 {
        let who = Who::ALL[id as usize];
        let saying = Saying { prefix: "0.0.0.0/0".to_owned(), ..Saying::with(&["64999:7"], who) };
        assert!(
            matches!(import(&mut rules, id, &saying), Verdict::Reject(reason) if reason.contains("default"))
        );
    }
    let stranger = import(&mut rules, 77, &Saying::of(Who::West));
    assert!(matches!(stranger, Verdict::Reject(_)), "a peer that nobody knows");
}

#[test]
fn x7_a_contract_is_for_what_others_say() {
    let facts = Arc::new(facts());
    let mut rules = Rules::new(Arc::clone(&facts));
    let contract = ", contract: {routeTargets: ['64999:7'], prefixes: [10.77.0.0/16]}";
    for (id, who) in (0..).zip(Who::ALL) {
        rules.add(PeerId(id), Arc::new(Party::new(&facts, &who.peer(contract))));
    }
    for (id, who) in (0..).zip(Who::ALL) {
        let good = Saying::with(&["64999:7"], who);
        assert!(matches!(import(&mut rules, id, &good), Verdict::Accept), "{who:?}");
        let outside = Saying { prefix: "10.78.0.0/24".to_owned(), ..good };
        let verdict = import(&mut rules, id, &outside);
        assert_eq!(matches!(verdict, Verdict::Reject(_)), who != Who::Controller, "{who:?}");
    }
}

fn saying() -> impl Strategy<Value = Saying> {
    let pick = |texts: &'static [&'static str]| prop::sample::select(texts).prop_map(str::to_owned);
    let targets = pick(&[
        OWN,
        SITE,
        "64512:8000001",
        "64512L:9000",
        "64512:4294967295",
        "64512:7799",
        "64999:7",
        "64999:8",
        "64999:9",
        "64999:70",
        "64513:8000000",
        "64514:8000000",
        "198.18.0.1:8000",
    ]);
    let prefixes = pick(&[
        "10.1.0.0/24",
        "10.1.0.9/32",
        "10.1.0.0/16",
        "10.2.0.9/32",
        "10.3.0.0/25",
        "10.4.0.9/32",
        "10.5.0.9/32",
        "10.9.0.50/32",
        "10.9.0.150/32",
        "10.77.0.0/24",
        "2001:db8:1::9/128",
    ]);
    let next_hops = pick(&[
        "198.18.0.1",
        "198.18.0.2",
        "2001:db8:f::1",
        "198.18.1.1",
        "198.18.2.1",
        "198.18.9.9",
        "198.18.77.1",
    ]);
    let ases = prop::sample::select(&[64513_u32, 64514, 64515, 64999, 64998][..]);
    let originators = pick(&["198.18.0.11", "198.18.0.12", "198.18.0.13", "198.18.0.77"]);
    let groups = (
        prop::sample::select(&[64512_u32, 64513, 4_200_000_000][..]),
        prop::sample::select(&[0_u32, 5, 7_999_999, 8_000_000, 8_000_001, u32::MAX][..]),
    );
    (
        (prop::sample::select(&[64512_u16, 64513][..]), 0..4_u32),
        prefixes,
        next_hops,
        prop::collection::vec(ases, 0..3),
        prop::option::of(originators),
        prop::collection::vec(targets, 0..4),
        prop::collection::vec(groups, 0..3),
    )
        .prop_map(|((asn, number), prefix, next_hop, path, originator, targets, groups)| Saying {
            rd: RouteDistinguisher::as2(asn, number),
            prefix,
            next_hop: next_hop.parse().expect("an address"),
            path,
            originator: originator.map(|one| one.parse().expect("an address")),
            targets,
            groups,
        })
}

/// Whether a path is the cluster's own word, as the documentation says it.
fn is_ours(who: Who, saying: &Saying) -> bool {
    let declared = ["198.18.0.11", "198.18.0.12"].map(|one| one.parse::<Ipv4Addr>().expect("an address"));
    saying.path.is_empty()
        && match who {
            Who::Controller => saying.originator.is_none_or(|one| declared.contains(&one)),
            Who::Reflector => saying.originator.is_some_and(|one| declared.contains(&one)),
            _ => false,
        }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever anybody says: what only the cluster can say counts for nothing
    /// unless a declared controller says it, and what is believed enters no
    /// network that the intent does not connect with who says it.
    #[test]
    fn s3_nobody_gets_in_by_claiming_so(who in prop::sample::select(&Who::ALL[..]), saying in saying()) {
        let facts = facts();
        let party = who.party(&facts);
        let attributes = saying.attributes();
        let origin = facts.origin(&party, &attributes);
        let claim = saying.doubt(&facts, &party);
        let hidden = claim.as_ref().is_some_and(|claim| claim.objection().hides);
        prop_assert_eq!(origin == Origin::Ours, is_ours(who, &saying));
        if origin == Origin::Ours {
            prop_assert_eq!(claim, None, "the cluster's own word is believed");
            return Ok(());
        }
        let has = |one: &str| saying.targets.iter().any(|of| of == one);
        let system = [OWN, SITE, "64512:8000001", "64512L:9000", "64512:4294967295"];
        prop_assert!(hidden || !system.iter().any(|one| has(one)), "a system target is believed");
        prop_assert!(hidden || saying.rd != RouteDistinguisher::as2(64512, 1), "a distinguisher is believed");
        let seen = groups::visible(facts.asn(), origin, &attributes);
        prop_assert!(seen.iter().all(|id| (1..8_000_000).contains(id)), "a system group is seen: {:?}", seen);
        let claims_group = saying.groups.iter().any(|(asn, id)| *asn == 64512 && *id >= 8_000_000);
        prop_assert!(claim.is_some() || !claims_group, "a claimed group is told to nobody");
        if hidden {
            return Ok(());
        }
        // It enters red by 64999:7, pink by 64999:8, flat by 64999:9.
        let through = |asn: u32| who.asn() == asn || saying.path.contains(&asn);
        prop_assert!(!has("64999:7") || !through(64514), "north gets into red");
        prop_assert!(!has("64999:8") || !through(64513), "west gets into pink");
        prop_assert!(!has("64999:9") || !(through(64513) || through(64514)), "it gets into flat");
        if ["64999:7", "64999:8", "64999:9"].into_iter().any(has) {
            let own = ["198.18.0.1", "198.18.0.2", "2001:db8:f::1"];
            prop_assert!(!own.contains(&saying.next_hop.to_string().as_str()), "it leads into an own gateway");
            let within = |subnet: &str| {
                let subnet: ipnet::IpNet = subnet.parse().expect("a prefix");
                subnet.contains(&saying.prefix.parse::<ipnet::IpNet>().expect("a prefix"))
            };
            let red = ["10.1.0.0/24", "2001:db8:1::/64", "10.4.0.0/24"].into_iter().any(within);
            prop_assert!(!has("64999:7") || !red, "it takes what red knows");
            prop_assert!(!has("64999:9") || saying.prefix != "10.9.0.50/32", "it takes flat's pool");
        }
    }

    /// Nobody else is told of a route that bears nothing but what the cluster has
    /// given itself, in any company, and nothing of that is in what he is told.
    #[test]
    fn s3_nobody_learns_what_nothing_connects(who in prop::sample::select(&Who::ALL[..]), saying in saying()) {
        let mut rules = rules();
        let (from, to) = (PeerId::LOCAL, PeerId(Who::ALL.iter().position(|one| *one == who).expect("it") as u32));
        let path = Path {
            peer: from,
            attributes: Arc::new(saying.attributes()),
            payload: Payload::default(),
            stale: Staleness::default(),
            objection: None,
        };
        let told = rules.export(to, &saying.nlri(), &path);
        let has = |one: &str| saying.targets.iter().any(|of| of == one);
        let expected = match who {
            Who::Controller | Who::Reflector => true,
            Who::West => has("64999:7"),
            Who::North => has("64999:8"),
            Who::South | Who::Hub | Who::Undeclared | Who::Stranger => has("64999:7") || has("64999:8") || has("64999:9"),
        };
        prop_assert_eq!(told, expected);
        if told && !matches!(who, Who::Controller | Who::Reflector) {
            let mut attributes = saying.attributes();
            rules.adapt(to, &path, &mut attributes);
            let facts = facts();
            prop_assert!(attributes.route_targets().all(|one| !facts.is_system(one)));
            prop_assert!(attributes.route_targets().next().is_some());
            let groups = tieline_bgp::wire::community::security_groups(&attributes.extended);
            prop_assert!(groups.iter().all(|group| group.asn != 64512 || group.id < 8_000_000));
        }
    }
}
