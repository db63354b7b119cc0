//! Addresses of hosts that several gateways claim in networks that are joined
//! (C7).
//!
//! Only the routes of hosts are kept here, and only addresses that changed are
//! looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use tieline_bgp::wire::RouteDistinguisher;

use super::inward::{Key, Shared};

/// Who claims an address: nearly always one.
#[derive(Debug)]
enum Claims {
    One(RouteDistinguisher),
    Several(Vec<RouteDistinguisher>),
}

impl Claims {
    fn as_slice(&self) -> &[RouteDistinguisher] {
        match self {
            Self::One(rd) => std::slice::from_ref(rd),
            Self::Several(all) => all,
        }
    }

    fn insert(&mut self, rd: RouteDistinguisher) {
        match self {
            Self::One(one) if *one == rd => {}
            Self::One(one) => *self = Self::Several(vec![*one, rd]),
            Self::Several(all) if all.contains(&rd) => {}
            Self::Several(all) => all.push(rd),
        }
    }

    /// Takes one out; returns whether any is left.
    fn remove(&mut self, rd: RouteDistinguisher) -> bool {
        match self {
            Self::One(one) => *one != rd,
            Self::Several(all) => {
                all.retain(|one| *one != rd);
                if let [one] = all[..] {
                    *self = Self::One(one);
                }
                true
            }
        }
    }
}

/// The claims to addresses, and which of them contradict each other.
#[derive(Debug, Default)]
pub struct Duplicates {
    claims: HashMap<IpNet, Claims>,
    /// Addresses with more than one claim that have changed since the last look.
    changed: BTreeSet<IpNet>,
    found: BTreeMap<IpNet, BTreeSet<Key>>,
}

/// What a look has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// These claim the address now.
    Found(IpNet, BTreeSet<Key>),
    /// Nobody contradicts anybody any more.
    Gone(IpNet),
}

impl Duplicates {
    /// A route is there, different, or gone.
    pub fn note(&mut self, key: Key, is_there: bool) {
        let prefix = key.prefix;
        if prefix.prefix_len() != prefix.max_prefix_len() {
            return;
        }
        if is_there {
            self.claims.entry(prefix).or_insert(Claims::One(key.rd)).insert(key.rd);
        } else if self.claims.get_mut(&prefix).is_some_and(|claims| !claims.remove(key.rd)) {
            self.claims.remove(&prefix);
        }
        let several = matches!(self.claims.get(&prefix), Some(Claims::Several(_)));
        if several || self.found.contains_key(&prefix) {
            self.changed.insert(prefix);
        }
    }

    /// Looks at what has changed. `route` is what is said of a route now.
    pub fn look<'a>(&mut self, route: impl Fn(&Key) -> Option<&'a Arc<Shared>>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for prefix in std::mem::take(&mut self.changed) {
            let claims = self.claims.get(&prefix).map_or(&[][..], Claims::as_slice);
            let keys = claims.iter().map(|rd| Key { rd: *rd, prefix });
            let all: Vec<(Key, &Arc<Shared>)> = keys.filter_map(|key| Some((key, route(&key)?))).collect();
            let contradicts = |(_, one): &&(Key, &Arc<Shared>)| {
                all.iter().any(|(_, other)| {
                    one.next_hop.remote() != other.next_hop.remote()
                        && !one.targets.is_disjoint(&other.targets)
                })
            };
            let owners: BTreeSet<Key> = all.iter().filter(contradicts).map(|(key, _)| *key).collect();
            if owners.is_empty() {
                if self.found.remove(&prefix).is_some() {
                    findings.push(Finding::Gone(prefix));
                }
            } else if self.found.get(&prefix) != Some(&owners) {
                self.found.insert(prefix, owners.clone());
                findings.push(Finding::Found(prefix, owners));
            }
        }
        findings
    }

    /// The duplicates of the last look: who claims each address.
    pub const fn found(&self) -> &BTreeMap<IpNet, BTreeSet<Key>> {
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use tieline_bgp::wire::RouteTarget;

    use super::*;
    use crate::routes::inward::{NextHop, Tunnel};

    fn shared(remote: u8, targets: &[u32]) -> Arc<Shared> {
        Arc::new(Shared {
            rd: RouteDistinguisher::as2(64512, 1),
            targets: targets.iter().map(|number| RouteTarget::as2(64512, *number)).collect(),
            groups: Vec::new(),
            next_hop: NextHop::Tunnel(Tunnel {
                remote: IpAddr::from([198, 18, 0, remote]),
                encapsulations: Vec::new(),
                router_mac: None,
            }),
            label: 1000,
            vni: 0,
            local_pref: None,
            med: 0,
            as_path_length: 0,
            is_ours: false,
        })
    }

    fn key(rd: u32, host: u8) -> Key {
        Key { rd: RouteDistinguisher::as2(64512, rd), prefix: IpAddr::from([10, 0, 0, host]).into() }
    }

    /// All duplicates, by looking at every pair of routes.
    fn oracle(routes: &BTreeMap<Key, Arc<Shared>>) -> BTreeMap<IpNet, BTreeSet<Key>> {
        let mut all: BTreeMap<IpNet, BTreeSet<Key>> = BTreeMap::new();
        for (one, a) in routes {
            for (other, b) in routes {
                let same = one.prefix == other.prefix && a.next_hop.remote() != b.next_hop.remote();
                if same && !a.targets.is_disjoint(&b.targets) {
                    all.entry(one.prefix).or_default().insert(*one);
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn c7_looking_at_what_changed_finds_what_looking_at_all_does(
            steps in prop::collection::vec(
                (0..4_u32, 0..3_u8, prop::option::of((0..3_u8, prop::collection::vec(0..3_u32, 1..3)))), 1..60,
            ),
            often in any::<bool>(),
        ) {
            let mut routes: BTreeMap<Key, Arc<Shared>> = BTreeMap::new();
            let mut duplicates = Duplicates::default();
            let mut told: BTreeMap<IpNet, BTreeSet<Key>> = BTreeMap::new();
            let last = steps.len() - 1;
            for (at, (rd, host, what)) in steps.into_iter().enumerate() {
                let key = key(rd, host);
                match what {
                    Some((remote, targets)) => { routes.insert(key, shared(remote, &targets)); }
                    None => { routes.remove(&key); }
                }
                duplicates.note(key, routes.contains_key(&key));
                if often || at == last {
                    for finding in duplicates.look(|key| routes.get(key)) {
                        match finding {
                            Finding::Found(prefix, owners) => { told.insert(prefix, owners); }
                            Finding::Gone(prefix) => prop_assert!(told.remove(&prefix).is_some()),
                        }
                    }
                    prop_assert_eq!(&told, &oracle(&routes));
                    prop_assert_eq!(duplicates.found(), &told);
                }
            }
            for key in routes.keys() {
                duplicates.note(*key, false);
            }
            prop_assert!(duplicates.claims.is_empty(), "nothing is kept of what is gone");
        }
    }

    #[test]
    fn c7_subnets_may_have_several_gateways() {
        let mut duplicates = Duplicates::default();
        let subnet = |rd| Key {
            rd: RouteDistinguisher::as2(64512, rd),
            prefix: "10.0.0.0/24".parse().expect("a prefix"),
        };
        let routes: BTreeMap<Key, _> = [(subnet(1), shared(1, &[1])), (subnet(2), shared(2, &[1]))].into();
        for key in routes.keys() {
            duplicates.note(*key, true);
        }
        assert!(duplicates.look(|key| routes.get(key)).is_empty());
    }
}
