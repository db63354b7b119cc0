//! VRF lookup: the longest prefix that matches, down to a next hop that sends.

use arrayvec::ArrayVec;

use crate::drop_reason::DropReason;
use crate::io::{BURST, Io};
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::icmp::IcmpError;
use crate::packet::meta::PacketFlags;
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::tables::Tables;
use crate::tables::next_hop::NextHop;
use crate::tables::vrf::{FibEntry, Vrf};
use crate::types::{NextHopId, SgSetId, VrfId};

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// A next hop that is neither a group nor another VRF.
    pub next_hop: NextHopId,
    /// The security groups of what is behind the route.
    pub sg_set: SgSetId,
    /// The VRF in which the route was found: replies are routed there.
    pub vrf: VrfId,
}

/// Routes the packets whose sessions have not said where they go.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    let mut routes: [Option<FibEntry>; BURST] = [None; BURST];
    let is_undecided = |index: &&u8| burst.meta(**index).flags.contains(PacketFlags::UNDECIDED);
    let undecided: Lane = lane.iter().filter(is_undecided).copied().collect();
    lookup(cx.tables, burst, &undecided, &mut routes);
    lane.retain(|index| {
        let index = *index;
        let is_plain = burst.is_plain(index);
        let meta = burst.meta_mut(index);
        if let Some(counters) = cx.counters.vrf(meta.key.vrf) {
            counters.routed.add(usize::from(meta.ip_length));
        }
        if !meta.flags.contains(PacketFlags::UNDECIDED) {
            return true;
        }
        let route = routes[usize::from(index) % BURST];
        let direct = route.filter(|route| is_plain && is_direct(cx, &meta.key, route.next_hop));
        let resolved = match direct {
            Some(FibEntry { next_hop, sg_set }) => Ok(Resolved { next_hop, sg_set, vrf: meta.key.vrf }),
            None => follow(cx.tables, &meta.key, meta.flow_hash, route),
        };
        match resolved {
            Ok(resolved) => {
                meta.next_hop = resolved.next_hop;
                let note = burst.note_mut(index);
                (note.sg_set, note.route_vrf) = (resolved.sg_set, resolved.vrf);
                true
            }
            Err(reason @ DropReason::DiscardRoute) => {
                cx.drop(burst, index, reason);
                false
            }
            Err(reason) => {
                cx.drop_with_error(burst, index, reason, IcmpError::NoRoute);
                false
            }
        }
    });
}

/// Whether a route's own next hop is where [`follow`] would come to.
#[inline]
fn is_direct<I: Io>(cx: &mut Context<'_, I>, key: &FlowKey, next_hop: NextHopId) -> bool {
    let adjacency = cx.adjacencies.get(cx.tables, next_hop, key);
    adjacency.is_some_and(|adjacency| adjacency.egress_vrf.is_none_or(|vrf| vrf == key.vrf))
}

/// Looks up packets; neighbours in the lane that share a table are looked up
/// together.
pub(super) fn lookup<B>(
    tables: &Tables,
    burst: &Burst<B>,
    lane: &Lane,
    routes: &mut [Option<FibEntry>; BURST],
) {
    let mut rest: &[u8] = lane;
    while let Some(first) = rest.first() {
        let key = &burst.meta(*first).key;
        let same_table = |index: &&u8| {
            let other = &burst.meta(**index).key;
            other.vrf == key.vrf && other.family == key.family
        };
        let (run, after) = rest.split_at(rest.iter().take_while(same_table).count());
        rest = after;
        if let [alone] = run {
            routes[usize::from(*alone) % BURST] = lookup_one(tables, key);
            continue;
        }
        let Some(vrf) = tables.vrfs.get(key.vrf.index()) else { continue };
        lookup_run(vrf, key.family, burst, run, routes);
    }
}

fn lookup_run<B>(
    vrf: &Vrf,
    family: Family,
    burst: &Burst<B>,
    run: &[u8],
    routes: &mut [Option<FibEntry>; BURST],
) {
    let mut found: [Option<FibEntry>; BURST] = [None; BURST];
    let found = &mut found[..run.len()];
    match family {
        Family::V4 => {
            let keys: ArrayVec<u32, BURST> = run.iter().map(|index| v4(&burst.meta(*index).key)).collect();
            vrf.fib4.lookup_burst(&keys, found);
        }
        Family::V6 => {
            let keys: ArrayVec<u128, BURST> = run.iter().map(|index| v6(&burst.meta(*index).key)).collect();
            vrf.fib6.lookup_burst(&keys, found);
        }
    }
    for (index, entry) in run.iter().zip(found) {
        routes[usize::from(*index) % BURST] = *entry;
    }
}

#[inline]
fn v4(key: &FlowKey) -> u32 {
    let d = &key.destination;
    u32::from_be_bytes([d[0], d[1], d[2], d[3]])
}

#[inline]
fn v6(key: &FlowKey) -> u128 {
    u128::from_be_bytes(key.destination)
}

/// The route of one packet, from its key alone.
///
/// # Errors
/// Why it cannot be sent.
pub fn resolve(tables: &Tables, key: &FlowKey, flow_hash: u32) -> Result<Resolved, DropReason> {
    follow(tables, key, flow_hash, lookup_one(tables, key))
}

/// The FIB entry of a key's destination in the key's VRF.
pub fn lookup_one(tables: &Tables, key: &FlowKey) -> Option<FibEntry> {
    let vrf = tables.vrfs.get(key.vrf.index())?;
    match key.family {
        Family::V4 => vrf.fib4.lookup(v4(key)),
        Family::V6 => vrf.fib6.lookup(v6(key)),
    }
}

/// Follows groups and at most one step to another VRF.
pub(super) fn follow(
    tables: &Tables,
    key: &FlowKey,
    flow_hash: u32,
    route: Option<FibEntry>,
) -> Result<Resolved, DropReason> {
    let mut entry = route.ok_or(DropReason::NoRoute)?;
    let mut vrf = key.vrf;
    let mut next_hop = entry.next_hop;
    loop {
        match tables.next_hops.get(next_hop.index()) {
            None | Some(NextHop::Unusable) => return Err(DropReason::NextHopUnusable),
            Some(NextHop::Discard) => return Err(DropReason::DiscardRoute),
            Some(NextHop::Group(group)) => {
                let member = group.select(flow_hash);
                if matches!(tables.next_hops.get(member.index()), Some(NextHop::Group(_))) {
                    return Err(DropReason::NextHopUnusable);
                }
                next_hop = member;
            }
            Some(NextHop::Vrf(other)) => {
                if vrf != key.vrf || *other == vrf {
                    return Err(DropReason::RoutingLoop);
                }
                // No tenant gets into the underlay.
                if *other == VrfId::UNDERLAY {
                    return Err(DropReason::NextHopUnusable);
                }
                vrf = *other;
                entry = lookup_one(tables, &FlowKey { vrf, ..*key }).ok_or(DropReason::NoRoute)?;
                next_hop = entry.next_hop;
            }
            Some(end) => {
                // Into another VRF there is one way: a next hop that says so.
                if egress_vrf(tables, end).is_some_and(|egress| egress != vrf) {
                    return Err(DropReason::NextHopUnusable);
                }
                return Ok(Resolved { next_hop, sg_set: entry.sg_set, vrf });
            }
        }
    }
}

/// The VRF of the interface that a next hop leads out of; tunnels leave by the
/// underlay whatever they carry.
fn egress_vrf(tables: &Tables, next_hop: &NextHop) -> Option<VrfId> {
    let interface = match next_hop {
        NextHop::Local(interface) | NextHop::Connected(interface) => *interface,
        NextHop::Neighbour(neighbour) => tables.neighbours.get(neighbour.index())?.interface,
        _ => return None,
    };
    Some(tables.interfaces.get(interface.index())?.vrf)
}
