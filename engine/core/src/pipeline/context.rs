//! What a stage may use, and the doors by which packets leave it.

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::local::rate_limit::RateLimits;
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_key::Family;
use crate::packet::icmp::{self, IcmpError};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::parse_ip;
use crate::pipeline::burst::Burst;
use crate::pipeline::early_fragments::EarlyFragments;
use crate::pipeline::express::adjacency::Adjacencies;
use crate::pipeline::outbox::Outbox;
use crate::session::fragments::FragmentTable;
use crate::session::table::SessionTable;
use crate::session::tick::Tick;
use crate::stats::Counters;
use crate::tables::Tables;
use crate::tables::interface::Interface;
use crate::tables::next_hop::NextHop;
use crate::types::{InterfaceId, NextHopId, VrfId, WorkerId};

/// What the stages of one worker work with.
pub struct Context<'a, I: Io> {
    /// The current snapshot.
    pub tables: &'a Tables,
    /// The worker's counters.
    pub counters: &'a Counters,
    /// The worker's sessions.
    pub sessions: &'a mut SessionTable,
    /// Fragmented packets on their way.
    pub fragments: &'a mut FragmentTable,
    /// Fragments that wait for the first of their packet.
    pub early: &'a mut EarlyFragments<I::Buf>,
    /// Next hops made ready for writing.
    pub adjacencies: &'a mut Adjacencies,
    /// Rate limits of what is answered.
    pub limits: &'a mut RateLimits,
    /// The way out.
    pub out: &'a mut Outbox<I>,
    /// New buffers.
    pub pool: &'a mut I::Pool,
    /// The time of this burst.
    pub now: Tick,
    /// This worker.
    pub worker: WorkerId,
}

impl<I: Io> std::fmt::Debug for Context<'_, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl<I: Io> Context<'_, I> {
    /// Drops a packet.
    #[inline]
    pub fn drop(&self, burst: &mut Burst<I::Buf>, index: u8, reason: DropReason) {
        let meta = burst.meta(index);
        self.counters.drop_at(reason, Some(meta.ingress), Some(meta.key.vrf));
        burst.take(index);
    }

    /// Ends a packet that has done its work here.
    #[inline]
    pub fn consume(&self, burst: &mut Burst<I::Buf>, index: u8) {
        self.counters.consumed.add(1);
        burst.take(index);
    }

    /// Sends a packet that was made here, routed in `meta.key.vrf`, after the
    /// burst. Counts it, and drops it if there is no room.
    pub fn originate(&mut self, packet: I::Buf, meta: PacketMeta) {
        self.counters.originated.add(1);
        if self.out.originate(packet, meta).is_err() {
            self.counters.drop_at(DropReason::OriginatedFull, None, Some(meta.key.vrf));
        }
    }

    /// Drops a packet and, if its sender may be told and the rate limit
    /// allows, tells it why.
    pub fn drop_with_error(
        &mut self,
        burst: &mut Burst<I::Buf>,
        index: u8,
        reason: DropReason,
        error: IcmpError,
    ) {
        let meta = *burst.meta(index);
        self.counters.drop_at(reason, Some(meta.ingress), Some(meta.key.vrf));
        let Some(mut packet) = burst.take(index) else { return };
        if meta.flags.contains(PacketFlags::ORIGINATED) || !icmp::may_answer(packet.bytes(), &meta) {
            return;
        }
        let Some(source) = self.error_source(&meta) else { return };
        if !self.limits.allow_error(self.answering_interface(&meta), self.now) {
            return;
        }
        if icmp::error_in_place(&mut packet, &meta, error, source) {
            self.originate_ip(packet, meta.key.family, meta.key.vrf, meta.ingress);
        }
    }

    /// Sends an IP packet that starts at the first byte of its buffer.
    pub fn originate_ip(&mut self, packet: I::Buf, family: Family, vrf: VrfId, ingress: InterfaceId) {
        let mut meta = PacketMeta::new(ingress);
        let checksum = crate::packet::buffer::IpChecksum::Good;
        if parse_ip(packet.bytes(), 0, family, checksum, &mut meta).is_err() {
            return;
        }
        meta.key.vrf = vrf;
        meta.flags.insert(PacketFlags::ORIGINATED.union(PacketFlags::ALLOWED).union(PacketFlags::UNDECIDED));
        self.originate(packet, meta);
    }

    /// The address that errors about a packet come from: ours on the
    /// interface that it came in on or, out of a tunnel, on the one that it
    /// would leave by.
    fn error_source(&self, meta: &PacketMeta) -> Option<std::net::IpAddr> {
        let peer = meta.key.source_addr();
        if meta.flags.contains(PacketFlags::DECAPSULATED) {
            return self.egress_interface(meta.next_hop).and_then(|(_, egress)| egress.source_for(peer));
        }
        self.tables.interfaces.get(meta.ingress.index())?.source_for(peer)
    }

    /// The interface whose rate limits an answer to a packet counts against.
    /// What came out of a tunnel counts against the tenant's, so that tenants
    /// do not share the fabric's.
    fn answering_interface(&self, meta: &PacketMeta) -> InterfaceId {
        if !meta.flags.contains(PacketFlags::DECAPSULATED) {
            return meta.ingress;
        }
        self.egress_interface(meta.next_hop).map_or(meta.ingress, |(id, _)| id)
    }

    /// The tenant interface that a next hop leads out of, if it is one.
    pub fn egress_interface(&self, next_hop: NextHopId) -> Option<(InterfaceId, &Interface)> {
        let id = match self.tables.next_hops.get(next_hop.index())? {
            NextHop::Neighbour(neighbour) => self.tables.neighbours.get(neighbour.index())?.interface,
            NextHop::Connected(interface) => *interface,
            _ => return None,
        };
        Some((id, self.tables.interfaces.get(id.index())?))
    }

    /// Drops what was originated while originated packets were sent.
    pub fn discard_originated(&mut self) {
        while let Some((_, meta)) = self.out.pop_originated() {
            self.counters.drop_at(DropReason::OriginatedFull, None, Some(meta.key.vrf));
        }
    }
}
