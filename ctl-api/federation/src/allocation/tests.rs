//! Allocation over histories, and at the end of its ranges.

use proptest::prelude::*;

use super::*;
use crate::intent::testing::{CLUSTERS, intent};

fn with_networks(asn: u32, names: &BTreeSet<u8>) -> Intent {
    let mut text =
        format!("apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {{name: east}}\nspec: {{asn: {asn}}}\n");
    for name in names {
        text += &format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: n{name}}}\nspec: {{cluster: east}}\n\
             ---\napiVersion: tieline.io/v1\nkind: SecurityGroup\nmetadata: {{name: n{name}}}\nspec: {{cluster: east}}\n"
        );
    }
    intent(&text)
}

fn at(now: u64) -> Circumstances {
    Circumstances { now, ..Circumstances::default() }
}

fn target(allocations: &Allocations, asn: u32, name: &str) -> Option<String> {
    let key = ObjectKey::parse(&format!("VirtualNetwork/default/{name}")).expect("a key");
    let asn = Asn::try_from(asn).expect("an AS number");
    allocations.route_target(asn, &Target::Network(key)).map(|target| target.to_string())
}

#[test]
fn c3_a_new_network_gets_a_system_route_target() {
    let names = BTreeSet::from([1, 2]);
    let two = allocate(&Allocations::default(), &with_networks(64512, &names), &at(0)).expect("room");
    assert_eq!(target(&two, 64512, "n1").as_deref(), Some("64512:8000000"));
    assert_eq!(target(&two, 64512, "n2").as_deref(), Some("64512:8000001"));
    let four =
        allocate(&Allocations::default(), &with_networks(4_200_000_000, &names), &at(0)).expect("room");
    assert_eq!(target(&four, 4_200_000_000, "n1").as_deref(), Some("4200000000:8000"));
}

#[test]
fn c6_clusters_allocate_apart() {
    let text = format!(
        "{CLUSTERS}---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: red}}\nspec: {{cluster: east}}\n\
         ---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: blue}}\nspec: {{cluster: west}}\n"
    );
    let allocations = allocate(&Allocations::default(), &intent(&text), &at(0)).expect("room");
    assert_eq!(target(&allocations, 64512, "red").as_deref(), Some("64512:8000000"));
    assert_eq!(target(&allocations, 64513, "blue").as_deref(), Some("64513:8000000"));
    assert_eq!(target(&allocations, 64513, "red"), None);
}

#[test]
fn a_released_number_rests_and_its_holder_gets_it_back() {
    let all = BTreeSet::from([1, 2]);
    let first = allocate(&Allocations::default(), &with_networks(64512, &all), &at(0)).expect("room");
    let without = allocate(&first, &with_networks(64512, &BTreeSet::from([2])), &at(100)).expect("room");
    let other = allocate(&without, &with_networks(64512, &BTreeSet::from([2, 3])), &at(200)).expect("room");
    assert_eq!(target(&other, 64512, "n3").as_deref(), Some("64512:8000002"), "n1's rests");
    let back = allocate(&other, &with_networks(64512, &BTreeSet::from([1, 2, 3])), &at(300)).expect("room");
    assert_eq!(target(&back, 64512, "n1").as_deref(), Some("64512:8000000"));
    let rested = 100 + QUARANTINE.as_secs();
    let late = allocate(&without, &with_networks(64512, &BTreeSet::from([2, 3])), &at(rested)).expect("room");
    assert_eq!(target(&late, 64512, "n3").as_deref(), Some("64512:8000000"));
    let pool = PoolId { asn: Asn::try_from(64512).expect("valid"), resource: Resource::RouteTarget };
    let referenced = Circumstances { now: rested, referenced: BTreeSet::from([(pool, 8_000_000)]) };
    let still =
        allocate(&without, &with_networks(64512, &BTreeSet::from([2, 3])), &referenced).expect("room");
    assert_eq!(target(&still, 64512, "n3").as_deref(), Some("64512:8000002"), "a peer still has it");
}

#[test]
fn exhaustion_names_range_and_holders() {
    let network = |index: u32| {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: n{index}}}\nspec: {{cluster: east}}\n"
        )
    };
    let cluster = "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {name: east}\n\
                   spec: {asn: 64512, vnis: {first: 10, last: 12}}\n";
    let text = |count| cluster.to_owned() + &(0..count).map(network).collect::<String>();
    assert!(allocate(&Allocations::default(), &intent(&text(3)), &at(0)).is_ok());
    let problems = allocate(&Allocations::default(), &intent(&text(4)), &at(0)).expect_err("exhausted");
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "VirtualNetwork/default/n3: no vni is left in 10 to 12 of AS 64512: 3 are held and 0 rest after their \
          release: remove what is not needed, or wait until released numbers have rested [allocation]"
        ]
    );
}

#[test]
fn a_number_that_an_operator_names_is_not_taken_from_its_holder() {
    let red = "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: red}\nspec: {cluster: east}\n";
    let blue = "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {name: blue}\nspec: {cluster: east, vni: 1}\n";
    let first =
        allocate(&Allocations::default(), &intent(&format!("{CLUSTERS}{red}")), &at(0)).expect("room");
    let problems = allocate(&first, &intent(&format!("{CLUSTERS}{red}{blue}")), &at(0)).expect_err("taken");
    assert_eq!(
        problems[0].to_string(),
        "VirtualNetwork/default/blue: spec: vni 1 is VirtualNetwork/default/red's: \
         leave it out, or name another [allocation]"
    );
    let fresh =
        allocate(&Allocations::default(), &intent(&format!("{CLUSTERS}{red}{blue}")), &at(0)).expect("room");
    let asn = Asn::try_from(64512).expect("valid");
    let vni = |name: &str| {
        fresh.vni(asn, &ObjectKey::parse(&format!("VirtualNetwork/default/{name}")).expect("a key"))
    };
    assert_eq!((vni("blue"), vni("red")), (Some(1), Some(2)));
}

#[test]
fn n3_sites_get_ports_by_one_and_numbers_by_a_hundred() {
    let site = |name: &str, gateway: &str, more: &str| {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: Site\nmetadata: {{name: {name}}}\nspec: {{cluster: east, gateways: [{gateway}]{more}}}\n"
        )
    };
    let text =
        format!("{CLUSTERS}{}{}", site("a", "east-1", ""), site("b", "east-2", ", listenerPort: 19446"));
    let allocations = allocate(&Allocations::default(), &intent(&text), &at(0)).expect("room");
    let asn = Asn::try_from(64512).expect("valid");
    let key = |name: &str| ObjectKey::parse(&format!("Site/{name}")).expect("a key");
    assert_eq!(allocations.listener_port(asn, &key("a")), Some(19447));
    assert_eq!(allocations.listener_port(asn, &key("b")), Some(19446));
    let number = |name: &str| allocations.site_route_target(asn, &key(name)).map(|target| target.to_string());
    assert_eq!(number("a").as_deref(), Some("64512:7699"));
    assert_eq!(number("b").as_deref(), Some("64512:7799"));
}

#[test]
fn n3_s3_a_site_is_given_no_target_that_somebody_uses_and_nobody_takes_a_sites() {
    let site = "---\napiVersion: tieline.io/v1\nkind: Site\nmetadata: {name: far}\n\
                spec: {cluster: east, gateways: [east-1]}\n";
    let network = |member: &str| {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: red}}\n\
             spec: {{cluster: east, routeTargets: {{{member}: ['64512:7699']}}}}\n"
        )
    };
    let asn = Asn::try_from(64512).expect("valid");
    let key = ObjectKey::parse("Site/far").expect("a key");
    let number =
        |allocations: &Allocations| allocations.site_route_target(asn, &key).map(|target| target.to_string());
    let none = Allocations::default();
    for (member, given) in [("both", "64512:7799"), ("export", "64512:7799"), ("import", "64512:7699")] {
        let with = intent(&format!("{CLUSTERS}{}{site}", network(member)));
        let allocations = allocate(&none, &with, &at(0)).expect("room");
        assert_eq!(number(&allocations).as_deref(), Some(given), "{member}");
    }
    let before = allocate(&none, &intent(&format!("{CLUSTERS}{site}")), &at(0)).expect("room");
    let told = |intent: Intent, now| {
        let problems = allocate(&before, &intent, &at(now)).expect_err("it is the site's");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let problem = "VirtualNetwork/default/red: spec: 64512:7699 is, or was a short time ago, that of everything \
                   from Site/far: use another one, or give the site a routeTargetNumber of its own [allocation]";
    assert_eq!(told(intent(&format!("{CLUSTERS}{}{site}", network("both"))), 1), [problem]);
    assert_eq!(told(intent(&format!("{CLUSTERS}{}", network("both"))), 1), [problem], "it rests");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes: numbers are unique and in range, holders keep
    /// theirs while they are there, and nobody gets a number that somebody else
    /// had less than a quarantine ago.
    #[test]
    fn any_history_is_unique_stable_and_in_range(
        four_byte in any::<bool>(),
        steps in proptest::collection::vec((proptest::collection::btree_set(0u8..12, 0..8), 0u64..6000), 1..12),
    ) {
        let asn = if four_byte { 4_200_000_000 } else { 64512 };
        let local = Asn::try_from(asn).expect("valid");
        let mut allocations = Allocations::default();
        let mut now = 0;
        let mut last_held: BTreeMap<(PoolId, u32), (Holder, u64)> = BTreeMap::new();
        for (names, wait) in steps {
            now += wait;
            let before = allocations.clone();
            allocations = allocate(&before, &with_networks(asn, &names), &at(now)).expect("room");
            prop_assert_eq!(&allocate(&allocations, &with_networks(asn, &names), &at(now)).expect("room"), &allocations);
            for (id, pool) in &allocations.pools {
                let numbers: BTreeSet<u32> = pool.held.values().copied().collect();
                prop_assert_eq!(numbers.len(), pool.held.len(), "unique");
                let range = match id.resource {
                    Resource::RouteTarget => local.system_route_targets(),
                    Resource::SecurityGroup => FIRST_SYSTEM_NUMBER..=u32::MAX,
                    Resource::Vni => VNIS,
                    other => panic!("nobody wants a {other}"),
                };
                let wanted = if id.resource == Resource::SecurityGroup { "SecurityGroup" } else { "VirtualNetwork" };
                let holders: Vec<String> = pool.held.keys().map(ToString::to_string).collect();
                let mut expected: Vec<String> = names.iter().map(|name| format!("{wanted}/default/n{name}")).collect();
                expected.sort();
                prop_assert_eq!(holders, expected);
                for (holder, number) in &pool.held {
                    prop_assert!(range.contains(number), "{} of {}", number, holder);
                    if let Some(kept) = before.pools.get(id).and_then(|pool| pool.held.get(holder)) {
                        prop_assert_eq!(kept, number, "stable");
                    }
                    if let Some((other, since)) = last_held.get(&(*id, *number)) {
                        prop_assert!(other == holder || now - since >= QUARANTINE.as_secs(), "rests");
                    }
                }
            }
            for (id, pool) in &before.pools {
                last_held.extend(pool.held.iter().map(|(holder, number)| ((*id, *number), (holder.clone(), now))));
            }
        }
    }
}
