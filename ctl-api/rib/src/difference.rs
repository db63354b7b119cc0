//! What is different between two states: objects, forwarding entries by VRF,
//! interfaces. For people who want to know what a change would do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tieline_engine::tables::Tables;
use tieline_engine::tables::vrf::{FibEntry, Vrf};
use tieline_proto::v1;

use crate::journal::Entry;
use crate::key::Key;
use crate::rib::Rib;

/// Most objects that are named.
const MOST_OBJECTS: usize = 10_000;
/// Forwarding entries of each VRF that are shown.
const EXAMPLES: usize = 100;

/// What has become different since `before` in a RIB that has kept its journal
/// from then on.
pub fn between(before: (&Rib, &Tables), after: (&mut Rib, &Tables)) -> v1::PreviewReply {
    let (old, old_tables) = before;
    let (new, new_tables) = after;
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    for entry in new.journal.take() {
        if let Entry::Declaration(_, key) = entry {
            keys.insert(key);
        }
    }
    let new: &Rib = new;
    let mut objects = Vec::new();
    let mut interfaces = Vec::new();
    let mut more_objects = 0;
    for key in &keys {
        let Some(change) = change_of(old.message(key), new.message(key)) else { continue };
        if let Key::Interface(name) = key {
            interfaces.push(name.to_string());
        }
        if objects.len() == MOST_OBJECTS {
            more_objects += 1;
            continue;
        }
        objects.push(v1::ObjectChange { key: Some(key.into()), change: change.into() });
    }
    interfaces.extend(flipped(old, new).filter(|name| !interfaces.contains(name)).collect::<Vec<_>>());
    interfaces.sort_unstable();
    let names: BTreeSet<&str> = old.vrfs().chain(new.vrfs()).map(|(name, _)| name).collect();
    let vrfs =
        names.into_iter().filter_map(|name| vrf_change(name, (old, old_tables), (new, new_tables))).collect();
    v1::PreviewReply { objects, vrfs, interfaces, more_objects, ..Default::default() }
}

fn change_of<T: PartialEq>(before: Option<T>, after: Option<T>) -> Option<v1::Change> {
    match (before, after) {
        (None, Some(_)) => Some(v1::Change::Added),
        (Some(_), None) => Some(v1::Change::Removed),
        (Some(before), Some(after)) if before != after => Some(v1::Change::Changed),
        _ => None,
    }
}

/// Interfaces that are the same object and in force on one side only.
fn flipped<'a>(old: &'a Rib, new: &'a Rib) -> impl Iterator<Item = String> + use<'a> {
    new.store.interfaces.iter().filter_map(|(name, interface)| {
        let before = old.store.interfaces.get(name)?;
        (before.compiled.is_some() != interface.compiled.is_some()).then(|| name.to_string())
    })
}

type Routes = BTreeMap<IpNet, FibEntry>;

fn routes(vrf: Option<&Vrf>) -> Routes {
    let Some(vrf) = vrf else { return Routes::new() };
    let net = |address: IpAddr, length| IpNet::new(address, length).ok();
    let v4 = vrf.fib4.iter().filter_map(|(address, length, entry)| {
        Some((net(IpAddr::from(address.to_be_bytes()), length)?, entry))
    });
    let v6 = vrf.fib6.iter().filter_map(|(address, length, entry)| {
        Some((net(IpAddr::from(address.to_be_bytes()), length)?, entry))
    });
    v4.chain(v6).collect()
}

/// `None` if nothing about a VRF is different.
fn vrf_change(name: &str, before: (&Rib, &Tables), after: (&Rib, &Tables)) -> Option<v1::VrfChange> {
    let table = |(rib, tables): (&Rib, &Tables)| {
        let id = rib.vrf_id(name)?;
        Some((id, tables.vrfs.get(id.index())?.clone()))
    };
    let (old, new) = (table(before), table(after));
    if let (Some((old_id, old)), Some((new_id, new))) = (&old, &new)
        && (old_id, old.generation) == (new_id, new.generation)
    {
        return None;
    }
    let old_routes = routes(old.as_ref().map(|(_, vrf)| vrf));
    let new_routes = routes(new.as_ref().map(|(_, vrf)| vrf));
    let mut change = v1::VrfChange { vrf: name.to_owned(), ..Default::default() };
    let words = |(rib, tables): (&Rib, &Tables), entry: Option<&FibEntry>| {
        entry.map(|entry| rib.via(entry.next_hop, tables)).unwrap_or_default()
    };
    let prefixes: BTreeSet<&IpNet> = old_routes.keys().chain(new_routes.keys()).collect();
    for prefix in prefixes {
        let (old, new) = (old_routes.get(prefix), new_routes.get(prefix));
        // Numbers of next hops stay when what they lead to is another.
        let was = || (words(before, old), old.map(|entry| before.0.sg_set(entry.sg_set)));
        let is = || (words(after, new), new.map(|entry| after.0.sg_set(entry.sg_set)));
        let kind = match (old, new) {
            (None, Some(_)) => v1::Change::Added,
            (Some(_), None) => v1::Change::Removed,
            _ if was() != is() => v1::Change::Changed,
            _ => continue,
        };
        match kind {
            v1::Change::Added => change.routes_added += 1,
            v1::Change::Removed => change.routes_removed += 1,
            _ => change.routes_changed += 1,
        }
        if change.examples.len() < EXAMPLES {
            change.examples.push(v1::RouteChange {
                prefix: prefix.to_string(),
                change: kind.into(),
                before: words(before, old),
                after: words(after, new),
            });
        }
    }
    Some(change)
}
