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
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::pipeline::owner::worker_of;
use crate::pipeline::vrf_lookup::{self, follow};
use crate::session::{KeyHash, SessionRef};
use crate::stats::{Counters, Traffic};
use crate::tables::vrf::FibEntry;
use crate::types::{InterfaceId, NextHopId, VrfId};
use ingress::Ingress;

/// A packet whose session may know its way.
struct Candidate {
    index: u8,
    generation: u32,
    hash: KeyHash,
    likely: Option<SessionRef>,
}

/// Takes plain packets to the end of their way: they stay in the burst, ready
/// for their ports, and leave the lane.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    let tables = cx.tables;
    if !tables.options.express {
        return;
    }
    let Some(mut ingress) = Ingress::new(tables, burst.port) else { return };
    let mut candidates: ArrayVec<Candidate, BURST> = ArrayVec::new();
    let mut stateless = Lane::new();
    for index in lane.iter().copied() {
        let Some((packet, meta)) = burst.packet(index) else { continue };
        let Some(vrf) = ingress.read(packet, meta) else { continue };
        meta.flow_hash = flow_hash(&meta.key);
        if !vrf.stateful {
            stateless.push(index);
            continue;
        }
        if worker_of(meta.flow_hash, cx.out.worker_count()) != cx.worker {
            continue;
        }
        let hash = cx.sessions.hash(&meta.key);
        cx.sessions.prefetch(hash);
        candidates.push(Candidate { index, generation: vrf.generation, hash, likely: None });
    }
    if candidates.is_empty() && stateless.is_empty() {
        return;
    }
    for candidate in &mut candidates {
        candidate.likely = cx.sessions.prefetch_session(candidate.hash);
    }
    let mut done = Done::default();
    for Candidate { index, generation, hash, likely } in candidates {
        let meta = burst.meta(index);
        let Some((at, next_hop)) = cx.sessions.settled(&meta.key, hash, likely, generation) else {
            continue;
        };
        let length = u32::from(meta.ip_length);
        if send(cx, burst, index, next_hop, &mut done) {
            cx.sessions.count(at, length, cx.now);
        }
    }
    if !stateless.is_empty() {
        let mut routes: [Option<FibEntry>; BURST] = [None; BURST];
        vrf_lookup::lookup(tables, burst, &stateless, &mut routes);
        for index in stateless {
            let meta = burst.meta(index);
            let route = routes[usize::from(index) % BURST];
            let Some(next_hop) = route.and_then(|route| end_of(cx, meta, route)) else { continue };
            send(cx, burst, index, next_hop, &mut done);
        }
    }
    done.tally.count(cx.counters);
    lane.retain(|index| !done.has(*index));
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

/// Makes a packet ready for its port, if it needs nothing but that.
#[inline(always)]
fn send<I: Io>(
    cx: &mut Context<'_, I>,
    burst: &mut Burst<I::Buf>,
    index: u8,
    next_hop: NextHopId,
    done: &mut Done,
) -> bool {
    let Some((packet, meta)) = burst.packet(index) else { return false };
    let Some(adjacency) = cx.adjacencies.get(cx.tables, next_hop, &meta.key) else { return false };
    if meta.ip_length > adjacency.mtu {
        return false;
    }
    let received = packet.bytes().len();
    let traffic_class = meta.scratch as u8;
    if adjacency.write(packet, meta, traffic_class).is_err() {
        return false;
    }
    meta.scratch = u32::from(adjacency.port.0);
    done.packets |= 1 << index;
    let sent = packet.bytes().len();
    done.tally.add(
        cx.counters,
        meta.ingress,
        meta.key.vrf,
        adjacency.interface,
        [received, usize::from(meta.ip_length), sent],
    );
    true
}

/// What has been done in a burst.
#[derive(Default)]
struct Done {
    /// A bit for each packet.
    packets: u64,
    tally: Tally,
}

impl Done {
    fn has(&self, index: u8) -> bool {
        self.packets >> index & 1 != 0
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
    fn add(
        &mut self,
        counters: &Counters,
        ingress: InterfaceId,
        vrf: VrfId,
        egress: InterfaceId,
        bytes: [usize; 3],
    ) {
        let way = Some((ingress, vrf, egress));
        if self.way != way {
            self.count(counters);
            *self = Self { way, ..Self::default() };
        }
        self.packets += 1;
        for (sum, bytes) in self.bytes.iter_mut().zip(bytes) {
            *sum += bytes as u64;
        }
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
