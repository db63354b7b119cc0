//! Express: plain packets all the way in one stage.
//!
//! Nearly all packets are plain: whole, UDP or TCP, of a session that knows
//! its way or of a VRF without security groups, to a next hop that is ready.
//! For them the stages come to little, so this one does all of it in few
//! passes over the burst: read, look up, write. Whatever is out of the
//! ordinary it leaves in the lane, untouched and uncounted, for the stages
//! behind, which know every case; for what it takes it does and counts exactly
//! what they would. They are its reference: a test runs both side by side.
//!
//! One thing may differ: where a TCP segment with SYN, FIN or RST and an
//! ordinary one of the same connection come in one burst, the session sees the
//! ordinary one first. On the wire they keep their order.

pub mod adjacency;
mod ingress;

use arrayvec::ArrayVec;

use crate::io::{BURST, Io};
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_hash::flow_hash;
use crate::packet::meta::PacketMeta;
use crate::packet::parse::has_plain_addresses;
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::pipeline::owner::worker_of;
use crate::pipeline::vrf_lookup::{self, follow};
use crate::prefetch::prefetch;
use crate::session::{KeyHash, SessionRef, SessionTable};
use crate::stats::{Counters, Traffic};
use crate::tables::Tables;
use crate::tables::vrf::FibEntry;
use crate::types::{InterfaceId, NextHopId, VrfId, WorkerId};
use adjacency::Adjacency;
use ingress::{Ingress, Routed, describe};

/// Takes plain packets to the end of their way: they stay in the burst, ready
/// for their ports, and leave the lane.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    if !cx.tables.options.express {
        return;
    }
    let mut found = Found::default();
    read(cx, burst, lane, &mut found);
    let mut done = Done::default();
    if !found.stateful.is_empty() {
        send_stateful(cx, burst, &found.stateful, &mut done);
    }
    if !found.stateless.is_empty() {
        send_stateless(cx, burst, &found.stateless, &mut done);
    }
    for index in found.foreign {
        burst.set_plain(index, None, false);
    }
    done.end(cx.counters, lane);
}

/// The same for plain packets that another worker has read, counted as
/// received, and handed over.
pub fn run_handed_over<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    if !burst.has_plain() || !cx.tables.options.express {
        return;
    }
    for index in lane.iter().copied() {
        // They are in another core's cache.
        if let Some((packet, _)) = burst.packet(index) {
            prefetch(packet.bytes());
        }
    }
    let mut candidates: ArrayVec<Candidate, BURST> = ArrayVec::new();
    for index in lane.iter().copied().filter(|index| burst.is_plain(*index)) {
        let key = &burst.meta(index).key;
        let Some(vrf) = cx.tables.vrfs.get(key.vrf.index()).filter(|vrf| vrf.stateful) else { continue };
        let hash = cx.sessions.hash(key);
        cx.sessions.prefetch(hash);
        candidates.push(Candidate { hash, generation: vrf.generation, index, is_unchecked: false });
    }
    let mut done = Done { counts_received: false, ..Done::default() };
    send_stateful(cx, burst, &candidates, &mut done);
    done.end(cx.counters, lane);
}

/// Plain packets of a burst.
#[derive(Default)]
struct Found {
    stateful: ArrayVec<Candidate, BURST>,
    stateless: Lane,
    /// Of sessions that other workers own.
    foreign: Lane,
}

/// A packet whose session may know its way.
struct Candidate {
    hash: KeyHash,
    generation: u32,
    index: u8,
    /// Whether its source may be an address of ours, of which no session is.
    is_unchecked: bool,
}

/// Reads packets into their metadata; the traffic class stands in `scratch`.
#[inline(never)]
fn read<I: Io>(cx: &Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &Lane, found: &mut Found) {
    let Some(mut ingress) = Ingress::new(cx.tables, burst.port) else { return };
    let (sessions, workers) = (&*cx.sessions, cx.out.worker_count());
    let mut sorter = Sorter { sessions, worker: cx.worker, workers, found };
    for index in lane.iter().copied() {
        let Some((packet, meta)) = burst.packet(index) else { continue };
        ingress.read(packet, meta, index, &mut sorter);
    }
}

/// Tells plain packets that have sessions from those that have none.
struct Sorter<'a> {
    sessions: &'a SessionTable,
    worker: WorkerId,
    workers: usize,
    found: &'a mut Found,
}

impl Sorter<'_> {
    #[inline(always)]
    fn sort(&mut self, index: u8, meta: &mut PacketMeta, packet: &Routed<'_>) {
        let Routed { plain, vrf, is_inner } = packet;
        // A tenant's source has been looked at where it came in.
        let is_from_us = || *is_inner && vrf.own_addresses.is_source_of(&plain.key);
        let flow_hash = flow_hash(&plain.key);
        describe(meta, plain);
        (meta.flow_hash, meta.scratch) = (flow_hash, u32::from(plain.traffic_class));
        if !vrf.stateful {
            if has_plain_addresses(&plain.key) && !is_from_us() {
                self.found.stateless.push(index);
            }
            return;
        }
        if worker_of(flow_hash, self.workers) != self.worker {
            if has_plain_addresses(&plain.key) && !is_from_us() {
                self.found.foreign.push(index);
            }
        } else {
            // Only packets with plain addresses that are not ours have sessions.
            let hash = self.sessions.hash(&plain.key);
            self.sessions.prefetch(hash);
            let generation = vrf.generation;
            self.found.stateful.push(Candidate { hash, generation, index, is_unchecked: *is_inner });
        }
    }
}

/// Sends packets whose sessions know their way.
#[inline(never)]
fn send_stateful<I: Io>(
    cx: &mut Context<'_, I>,
    burst: &mut Burst<I::Buf>,
    candidates: &[Candidate],
    done: &mut Done,
) {
    let mut found: ArrayVec<(&Candidate, SessionRef), BURST> = ArrayVec::new();
    for candidate in candidates {
        match cx.sessions.prefetch_session(candidate.hash) {
            Some(likely) => found.push((candidate, likely)),
            None => pass_on(cx.tables, burst, candidate, true),
        }
    }
    for (candidate, likely) in &found {
        let Some((packet, meta)) = burst.packet(candidate.index) else { continue };
        let settled = cx.sessions.settled(&meta.key, candidate.hash, *likely, candidate.generation);
        let Some(settled) = settled else {
            pass_on(cx.tables, burst, candidate, false);
            continue;
        };
        let Some(adjacency) = cx.adjacencies.get(cx.tables, settled.next_hop, &meta.key) else { continue };
        if done.send(cx.counters, packet, meta, adjacency, candidate.index) {
            settled.count(u32::from(meta.ip_length), cx.now);
        }
    }
}

/// Leaves a packet whose session does not know its way, or that has none, to
/// the stages behind: it is read already.
fn pass_on<B>(tables: &Tables, burst: &mut Burst<B>, candidate: &Candidate, absent: bool) {
    let key = &burst.meta(candidate.index).key;
    let is_from_us = || {
        let vrf = tables.vrfs.get(key.vrf.index());
        vrf.is_some_and(|vrf| vrf.own_addresses.is_source_of(key))
    };
    if has_plain_addresses(key) && !(candidate.is_unchecked && is_from_us()) {
        burst.set_plain(candidate.index, Some(candidate.hash), absent);
    }
}

/// Sends packets where the routes of their VRFs say.
#[inline(never)]
fn send_stateless<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &Lane, done: &mut Done) {
    let mut routes: [Option<FibEntry>; BURST] = [None; BURST];
    vrf_lookup::lookup(cx.tables, burst, lane, &mut routes);
    for index in lane.iter().copied() {
        let Some(route) = routes[usize::from(index) % BURST] else { continue };
        let Some((packet, meta)) = burst.packet(index) else { continue };
        let Some(next_hop) = end_of(cx, meta, route) else { continue };
        let Some(adjacency) = cx.adjacencies.get(cx.tables, next_hop, &meta.key) else { continue };
        done.send(cx.counters, packet, meta, adjacency, index);
    }
}

/// The next hop that a route comes to: mostly its own, else what groups and
/// other VRFs lead to.
#[inline(always)]
fn end_of<I: Io>(cx: &mut Context<'_, I>, meta: &PacketMeta, route: FibEntry) -> Option<NextHopId> {
    let adjacency = cx.adjacencies.get(cx.tables, route.next_hop, &meta.key);
    if adjacency.is_some_and(|adjacency| adjacency.egress_vrf.is_none_or(|vrf| vrf == meta.key.vrf)) {
        return Some(route.next_hop);
    }
    follow(cx.tables, &meta.key, meta.flow_hash, Some(route)).ok().map(|resolved| resolved.next_hop)
}

/// What has been done in a burst.
struct Done {
    /// A bit for each packet.
    packets: u64,
    /// Whether the packets have still to be counted as received.
    counts_received: bool,
    tally: Tally,
}

impl Default for Done {
    fn default() -> Self {
        Self { packets: 0, counts_received: true, tally: Tally::default() }
    }
}

impl Done {
    /// Makes a packet ready for its port, if it needs nothing but that.
    #[inline(always)]
    fn send<B: PacketBuf>(
        &mut self,
        counters: &Counters,
        packet: &mut B,
        meta: &mut PacketMeta,
        adjacency: &Adjacency,
        index: u8,
    ) -> bool {
        let received = packet.bytes().len();
        let traffic_class = meta.scratch as u8;
        if meta.ip_length > adjacency.mtu || !adjacency.write(packet, meta, traffic_class) {
            return false;
        }
        meta.scratch = u32::from(adjacency.port.0);
        self.packets |= 1 << index;
        let bytes = [received, usize::from(meta.ip_length), packet.bytes().len()];
        let ingress = if self.counts_received { meta.ingress } else { InterfaceId::NONE };
        self.tally.add(counters, (ingress, meta.key.vrf, adjacency.interface), bytes);
        true
    }

    /// Counts what was done, which leaves the lane.
    fn end(&self, counters: &Counters, lane: &mut Lane) {
        if self.packets != 0 {
            self.tally.count(counters);
            lane.retain(|index| self.packets >> *index & 1 == 0);
        }
    }
}

const _: () = assert!(BURST <= u64::BITS as usize);

/// Counts packets that come the same way together.
#[derive(Default)]
struct Tally {
    way: Option<(InterfaceId, VrfId, InterfaceId)>,
    packets: u64,
    /// Received, routed and sent.
    bytes: [u64; 3],
}

impl Tally {
    #[inline(always)]
    fn add(&mut self, counters: &Counters, way: (InterfaceId, VrfId, InterfaceId), bytes: [usize; 3]) {
        if self.way != Some(way) {
            self.turn(counters, way);
        }
        self.packets += 1;
        for (sum, bytes) in self.bytes.iter_mut().zip(bytes) {
            *sum += bytes as u64;
        }
    }

    /// Begins with another way.
    #[inline(never)]
    fn turn(&mut self, counters: &Counters, way: (InterfaceId, VrfId, InterfaceId)) {
        self.count(counters);
        *self = Self { way: Some(way), ..Self::default() };
    }

    fn count(&self, counters: &Counters) {
        let Some((ingress, vrf, egress)) = self.way else { return };
        let add = |traffic: Option<&Traffic>, bytes: u64| {
            if let Some(traffic) = traffic {
                traffic.packets.add(self.packets);
                traffic.bytes.add(bytes);
            }
        };
        let [received, routed, sent] = self.bytes;
        add(counters.interface(ingress).map(|counters| &counters.rx), received);
        add(counters.vrf(vrf).map(|counters| &counters.routed), routed);
        add(counters.interface(egress).map(|counters| &counters.tx), sent);
    }
}
