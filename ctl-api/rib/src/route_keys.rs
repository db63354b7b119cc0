//! The keys of declared routes, in order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::controllers::ControllerId;
use crate::paths::PathId;
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

/// Static routes by VRF and prefix.
pub(crate) type StaticKeys = BTreeMap<Name, BTreeMap<IpNet, PathId>>;

/// VPN paths by route distinguisher, prefix and controller, in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct VpnKeys {
    by_rd: BTreeMap<RouteDistinguisher, OfRd>,
}

/// VPN paths of one route distinguisher. Keys are numbers, which compare in one
/// step, and in the order of prefixes.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfRd {
    v4: BTreeMap<u64, PathId>,
    v6: BTreeMap<(u128, u32), PathId>,
}

/// Address, length, controller, from the most significant bit on.
fn key4(net: Ipv4Net, controller: ControllerId) -> u64 {
    u64::from(u32::from(net.addr())) << 24 | u64::from(net.prefix_len()) << 16 | u64::from(controller.0)
}

fn key6(net: Ipv6Net, controller: ControllerId) -> (u128, u32) {
    (u128::from(net.addr()), u32::from(net.prefix_len()) << 16 | u32::from(controller.0))
}

fn net4(key: u64) -> Option<(IpNet, ControllerId)> {
    let net = Ipv4Net::new(((key >> 24) as u32).into(), (key >> 16) as u8).ok()?;
    Some((IpNet::V4(net), ControllerId(key as u16)))
}

fn net6((address, rest): (u128, u32)) -> Option<(IpNet, ControllerId)> {
    let net = Ipv6Net::new(address.into(), (rest >> 16) as u8).ok()?;
    Some((IpNet::V6(net), ControllerId(rest as u16)))
}

/// The number of a path under one key.
pub(crate) enum Slot4Or6<'a> {
    V4(Entry<'a, u64, PathId>),
    V6(Entry<'a, (u128, u32), PathId>),
}

impl OfRd {
    /// The place of a key.
    pub fn entry(&mut self, prefix: IpNet, controller: ControllerId) -> Slot4Or6<'_> {
        match prefix {
            IpNet::V4(net) => Slot4Or6::V4(self.v4.entry(key4(net, controller))),
            IpNet::V6(net) => Slot4Or6::V6(self.v6.entry(key6(net, controller))),
        }
    }

    pub fn get(&self, prefix: IpNet, controller: ControllerId) -> Option<PathId> {
        match prefix {
            IpNet::V4(net) => self.v4.get(&key4(net, controller)).copied(),
            IpNet::V6(net) => self.v6.get(&key6(net, controller)).copied(),
        }
    }

    pub fn remove(&mut self, prefix: IpNet, controller: ControllerId) -> Option<PathId> {
        match prefix {
            IpNet::V4(net) => self.v4.remove(&key4(net, controller)),
            IpNet::V6(net) => self.v6.remove(&key6(net, controller)),
        }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// From a prefix and controller on, this one included.
    fn iter_from(
        &self,
        start: Option<(IpNet, ControllerId)>,
    ) -> impl Iterator<Item = (IpNet, ControllerId, PathId)> {
        let (from4, from6) = match start {
            None => (0, (0, 0)),
            Some((IpNet::V4(net), controller)) => (key4(net, controller), (0, 0)),
            Some((IpNet::V6(net), controller)) => (u64::MAX, key6(net, controller)),
        };
        let v4 = self.v4.range(from4..).filter_map(|(key, id)| Some((net4(*key)?, *id)));
        let v6 = self.v6.range(from6..).filter_map(|(key, id)| Some((net6(*key)?, *id)));
        v4.chain(v6).map(|((prefix, controller), id)| (prefix, controller, id))
    }
}

impl VpnKeys {
    pub fn get(&self, controller: ControllerId, rd: RouteDistinguisher, prefix: IpNet) -> Option<PathId> {
        self.by_rd.get(&rd)?.get(prefix, controller)
    }

    /// The paths of one distinguisher, if there are any.
    pub fn of(&self, rd: RouteDistinguisher) -> Option<&OfRd> {
        self.by_rd.get(&rd)
    }

    /// The paths of one distinguisher. Whoever leaves them empty calls
    /// [`tidy`](Self::tidy).
    pub fn of_mut(&mut self, rd: RouteDistinguisher) -> &mut OfRd {
        self.by_rd.entry(rd).or_default()
    }

    /// Forgets a distinguisher without paths.
    pub fn tidy(&mut self, rd: RouteDistinguisher) {
        if self.by_rd.get(&rd).is_some_and(OfRd::is_empty) {
            self.by_rd.remove(&rd);
        }
    }

    /// The paths to one prefix under one distinguisher, of all controllers.
    pub fn all(&self, rd: RouteDistinguisher, prefix: IpNet) -> impl Iterator<Item = (ControllerId, PathId)> {
        let of_rd = self.by_rd.get(&rd);
        let from = of_rd.into_iter().flat_map(move |of| of.iter_from(Some((prefix, ControllerId(0)))));
        from.take_while(move |(at, ..)| *at == prefix).map(|(_, controller, id)| (controller, id))
    }

    /// Keys and paths in their order, from a key on, this one included.
    pub fn iter_from(
        &self,
        start: Option<(RouteDistinguisher, IpNet, ControllerId)>,
    ) -> impl Iterator<Item = (RouteDistinguisher, IpNet, ControllerId, PathId)> {
        use std::ops::Bound::{Included, Unbounded};
        let first = start.map_or(Unbounded, |(rd, ..)| Included(rd));
        self.by_rd.range((first, Unbounded)).flat_map(move |(rd, of)| {
            let within =
                start.filter(|(at, ..)| at == rd).map(|(_, prefix, controller)| (prefix, controller));
            of.iter_from(within).map(|(prefix, controller, id)| (*rd, prefix, controller, id))
        })
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_rd.is_empty()
    }
}

impl Slot4Or6<'_> {
    /// The path that is there.
    pub fn present(&self) -> Option<PathId> {
        match self {
            Self::V4(Entry::Occupied(entry)) => Some(*entry.get()),
            Self::V6(Entry::Occupied(entry)) => Some(*entry.get()),
            Self::V4(Entry::Vacant(_)) | Self::V6(Entry::Vacant(_)) => None,
        }
    }

    /// Puts a path there.
    pub fn insert(self, id: PathId) {
        match self {
            Self::V4(entry) => put(entry, id),
            Self::V6(entry) => put(entry, id),
        }
    }
}

fn put<K: Ord>(entry: Entry<'_, K, PathId>, id: PathId) {
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(id);
        }
        Entry::Occupied(mut entry) => {
            entry.insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn prefix() -> impl Strategy<Value = IpNet> {
        let texts = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/16",
            "10.1.0.0/16",
            "::/0",
            "2001:db8::/32",
            "2001:db8::/64",
        ];
        proptest::sample::select(texts.to_vec()).prop_map(|text| text.parse().expect("a prefix"))
    }

    fn rd() -> impl Strategy<Value = RouteDistinguisher> {
        (0u8..3).prop_map(|n| RouteDistinguisher::from_bytes([0, 0, 0, 1, 0, 0, 0, n]))
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_distinguisher_prefix_and_controller(
            steps in proptest::collection::vec((any::<bool>(), rd(), prefix(), 0u16..3), 1..60),
            start in (rd(), prefix(), 0u16..3),
        ) {
            let mut keys = VpnKeys::default();
            let mut oracle = BTreeMap::new();
            for (at, (adds, rd, prefix, controller)) in steps.into_iter().enumerate() {
                let controller = ControllerId(controller);
                if adds {
                    let slot = keys.of_mut(rd).entry(prefix, controller);
                    prop_assert_eq!(slot.present(), oracle.get(&(rd, prefix, controller)).copied());
                    slot.insert(PathId(at as u32));
                    oracle.insert((rd, prefix, controller), PathId(at as u32));
                } else {
                    let removed = keys.of_mut(rd).remove(prefix, controller);
                    keys.tidy(rd);
                    prop_assert_eq!(removed, oracle.remove(&(rd, prefix, controller)));
                }
                prop_assert_eq!(keys.is_empty(), oracle.is_empty());
            }
            let start = (start.0, start.1, ControllerId(start.2));
            for from in [None, Some(start)] {
                let found: Vec<_> = keys.iter_from(from).collect();
                let expected: Vec<_> = oracle
                    .iter()
                    .filter(|(key, _)| from.is_none_or(|from| **key >= from))
                    .map(|((rd, prefix, controller), id)| (*rd, *prefix, *controller, *id))
                    .collect();
                prop_assert_eq!(found, expected);
            }
            let (rd, prefix, _) = start;
            let expected: Vec<_> =
                oracle.iter().filter(|((r, p, _), _)| (*r, *p) == (rd, prefix)).map(|((.., c), id)| (*c, *id)).collect();
            prop_assert_eq!(keys.all(rd, prefix).collect::<Vec<_>>(), expected);
        }
    }
}
