//! SG check: may the first packet of a session pass, and every packet whose
//! session was decided under rules or routes that have changed since.
//!
//! What passes becomes a session, so that replies pass and further packets
//! need not be asked about. What no policy applies to has no session.

use arrayvec::ArrayVec;

use crate::drop_reason::DropReason;
use crate::io::{BURST, Io};
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_hash::flow_hash;
use crate::packet::flow_key::{Family, FlowKey};
use crate::packet::headers::{icmp, protocol as number};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{icmp_type_code, tcp_flags};
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::pipeline::owner::is_stateful;
use crate::pipeline::vrf_lookup::{Resolved, resolve};
use crate::policy::{self, FirstPacket};
use crate::session::{Allowance, Decision, Direction, KeyHash, NewSession, SessionRef, Verdict};
use crate::tables::Tables;
use crate::tables::interface::Interface;
use crate::tables::next_hop::NextHop;
use crate::types::{InterfaceId, NextHopId, SgId, SgSetId, VrfId};

/// What the policies say of a flow.
enum Policed {
    /// No policy applies.
    Unfiltered,
    /// Every policy that applies allows it; replies are routed in this VRF.
    Allowed(VrfId),
}

/// The first packet of a flow, as its policies see it.
struct FirstOf<'a> {
    key: &'a FlowKey,
    ingress: InterfaceId,
    icmp: Option<(u8, u8)>,
}

/// A packet that is asked about, and the replies that it will have: what is
/// prepared for the whole burst, so that the cache misses of its packets
/// overlap.
struct Asked {
    index: u8,
    /// Of the packet's key.
    hash: KeyHash,
    route: Resolved,
    replies: FlowKey,
    replies_hash: KeyHash,
}

/// Checks undecided packets; those that may pass stay in the lane.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    let asked = prepare(cx, burst, lane);
    if asked.is_empty() {
        return;
    }
    // Flows of a burst often have both ends in common.
    let tables = cx.tables;
    let mut last = None;
    let mut dropped = 0u64;
    for asked in &asked {
        let Some((packet, meta)) = burst.packet(asked.index) else { continue };
        let between = (meta.ingress, meta.next_hop);
        let ends = match last {
            Some((same, ends)) if same == between => ends,
            _ => Ends::of(tables, meta.ingress, meta.next_hop),
        };
        last = Some((between, ends));
        if let Err(reason) = check(cx, packet.bytes(), meta, asked, &ends) {
            cx.drop(burst, asked.index, reason);
            dropped |= 1 << asked.index;
        }
    }
    lane.retain(|index| dropped >> *index & 1 == 0);
}

const _: () = assert!(BURST <= u64::BITS as usize);

/// The packets that are asked about, in order. Starts to fetch what their
/// sessions will be written to.
fn prepare<I: Io>(cx: &Context<'_, I>, burst: &Burst<I::Buf>, lane: &Lane) -> ArrayVec<Asked, BURST> {
    let mut asked = ArrayVec::new();
    for index in lane.iter().copied() {
        let (meta, note) = (burst.meta(index), burst.note(index));
        let decided =
            meta.flags.contains(PacketFlags::ALLOWED) || !meta.flags.contains(PacketFlags::UNDECIDED);
        if decided || !is_stateful(cx, meta) {
            continue;
        }
        let hash = note.hash.unwrap_or_else(|| cx.sessions.hash(&meta.key));
        let route = Resolved { next_hop: meta.next_hop, sg_set: note.sg_set, vrf: note.route_vrf };
        let replies = meta.key.reversed(route.vrf);
        let replies_hash = cx.sessions.hash(&replies);
        cx.sessions.prefetch(replies_hash);
        asked.push(Asked { index, hash, route, replies, replies_hash });
    }
    cx.sessions.prefetch_places(asked.len());
    asked
}

fn check<I: Io>(
    cx: &mut Context<'_, I>,
    bytes: &[u8],
    meta: &PacketMeta,
    asked: &Asked,
    ends: &Ends<'_>,
) -> Result<(), DropReason> {
    if let Some(at) = cx.sessions.lookup(&meta.key, asked.hash) {
        return check_again(cx, bytes, meta, at);
    }
    // An error message takes the way of the packet that it quotes.
    if meta.flags.contains(PacketFlags::ICMP_ERROR) {
        return check_first(cx, bytes, meta);
    }
    let icmp = icmp_type_code(bytes, meta);
    let flow = FirstOf { key: &meta.key, ingress: meta.ingress, icmp };
    match ends.decide(cx.tables, &flow, &asked.route)? {
        Policed::Unfiltered => Ok(()),
        Policed::Allowed(_) => begin(cx, bytes, meta, asked),
    }
}

/// A packet without a session, about which nothing is prepared.
fn check_first<I: Io>(cx: &mut Context<'_, I>, bytes: &[u8], meta: &PacketMeta) -> Result<(), DropReason> {
    let icmp = icmp_type_code(bytes, meta);
    let flow = FirstOf { key: &meta.key, ingress: meta.ingress, icmp };
    let route = resolve(cx.tables, &meta.key, flow_hash(&meta.key))?;
    let Policed::Allowed(reply_vrf) = decide_routed(cx.tables, &flow, &route)? else { return Ok(()) };
    let replies = meta.key.reversed(reply_vrf);
    let (hash, replies_hash) = (cx.sessions.hash(&meta.key), cx.sessions.hash(&replies));
    begin(cx, bytes, meta, &Asked { index: 0, hash, route, replies, replies_hash })
}

/// Begins the session of a packet that has none and is allowed.
fn begin<I: Io>(
    cx: &mut Context<'_, I>,
    bytes: &[u8],
    meta: &PacketMeta,
    asked: &Asked,
) -> Result<(), DropReason> {
    if icmp_type_code(bytes, meta).is_some() && !meta.flags.contains(PacketFlags::ICMP_QUERY) {
        return Err(DropReason::IcmpNoSession);
    }
    let vrf = cx.tables.vrfs.get(meta.key.vrf.index());
    let (generation, allowance) = vrf.map_or((0, Allowance::NONE), |vrf| (vrf.generation, vrf.sessions));
    let flags = tcp_flags(bytes, meta);
    let new = NewSession {
        forward: Decision { next_hop: meta.next_hop, generation, ingress: meta.ingress },
        reverse: None,
        tcp_flags: flags,
    };
    let (keys, hashes) = ([&meta.key, &asked.replies], [asked.hash, asked.replies_hash]);
    let at = cx.sessions.insert_absent(keys, hashes, &new, allowance, cx.now)?;
    let length = u32::from(meta.ip_length);
    if flags.is_none() {
        cx.sessions.count_first(at, length, cx.now);
        return Ok(());
    }
    match cx.sessions.touch(at, length, flags, cx.now) {
        Verdict::Pass => Ok(()),
        Verdict::FirstPacket => Err(DropReason::TcpInvalidState),
    }
}

/// A packet whose session was decided under another generation, or that came
/// in the same burst as the first of its session.
fn check_again<I: Io>(
    cx: &mut Context<'_, I>,
    bytes: &[u8],
    meta: &PacketMeta,
    at: SessionRef,
) -> Result<(), DropReason> {
    let Some(session) = cx.sessions.session(at.index()) else { return Ok(()) };
    let first = *session.flow(Direction::Forward).key();
    let ingress = session.ingress(Direction::Forward).unwrap_or(InterfaceId::NONE);
    let flow = FirstOf { key: &first, ingress, icmp: query_type(&first) };
    let reply_vrf = session.flow(Direction::Reverse).key().vrf;
    if has_moved(cx, meta, at.direction(), ingress) {
        // Other policies apply now: it is a first packet again.
        cx.sessions.remove(at.index());
        return check_first(cx, bytes, meta);
    }
    match decide(cx.tables, &flow) {
        Ok(Policed::Allowed(vrf)) if vrf == reply_vrf => {}
        Ok(_) => {
            // Replies come another way now, or nobody filters any more: what
            // this session expects has no meaning left.
            cx.sessions.remove(at.index());
            return check_first(cx, bytes, meta);
        }
        Err(reason) => return refuse_again(cx, bytes, meta, at, reason),
    }
    if !meta.flags.contains(PacketFlags::SESSION_STALE) {
        let length = u32::from(meta.ip_length);
        if cx.sessions.touch(at, length, tcp_flags(bytes, meta), cx.now) == Verdict::FirstPacket {
            return check_first(cx, bytes, meta);
        }
    }
    let generation = cx.tables.vrfs.get(meta.key.vrf.index()).map_or(0, |vrf| vrf.generation);
    cx.sessions.decide(at, &Decision { next_hop: meta.next_hop, generation, ingress: meta.ingress });
    Ok(())
}

/// Whether the end that opened a session is behind another interface than it
/// was: its packets come in there, or replies would leave there.
fn has_moved<I: Io>(
    cx: &Context<'_, I>,
    meta: &PacketMeta,
    direction: Direction,
    opener: InterfaceId,
) -> bool {
    let is_tenant_interface = |id: &InterfaceId| cx.tables.interfaces.get(id.index()).is_some_and(is_tenant);
    match direction {
        Direction::Forward => meta.ingress != opener,
        Direction::Reverse => {
            let egress = cx.egress_interface(meta.next_hop).map(|(id, _)| id).filter(is_tenant_interface);
            egress.is_some_and(|egress| egress != opener)
        }
    }
}

/// A session is not allowed any more. It stays, so that it goes on if it is
/// allowed again before its idle time is over; but a packet of the other end
/// that would be allowed as a first packet of its own begins anew.
fn refuse_again<I: Io>(
    cx: &mut Context<'_, I>,
    bytes: &[u8],
    meta: &PacketMeta,
    at: SessionRef,
    reason: DropReason,
) -> Result<(), DropReason> {
    let opens = match meta.key.protocol {
        number::TCP => meta.flags.contains(PacketFlags::TCP_OPENS),
        number::ICMP | number::ICMPV6 => meta.flags.contains(PacketFlags::ICMP_QUERY),
        _ => true,
    };
    if at.direction() == Direction::Forward || !opens {
        return Err(reason);
    }
    let flow = FirstOf { key: &meta.key, ingress: meta.ingress, icmp: icmp_type_code(bytes, meta) };
    decide(cx.tables, &flow).map_err(|_| reason)?;
    cx.sessions.remove(at.index());
    check_first(cx, bytes, meta)
}

/// The ICMP type that a session of queries began with, by its key.
fn query_type(key: &FlowKey) -> Option<(u8, u8)> {
    let kind = match (key.protocol, key.family) {
        (number::ICMP, Family::V4) if key.source_port == u16::from(icmp::V4_TIMESTAMP) => icmp::V4_TIMESTAMP,
        (number::ICMP, Family::V4) => icmp::V4_ECHO_REQUEST,
        (number::ICMPV6, Family::V6) => icmp::V6_ECHO_REQUEST,
        _ => return None,
    };
    Some((kind, 0))
}

/// Asks the policies of both ends about a flow.
fn decide(tables: &Tables, flow: &FirstOf<'_>) -> Result<Policed, DropReason> {
    decide_routed(tables, flow, &resolve(tables, flow.key, flow_hash(flow.key))?)
}

/// The same about a flow whose route is known.
fn decide_routed(tables: &Tables, flow: &FirstOf<'_>, route: &Resolved) -> Result<Policed, DropReason> {
    Ends::of(tables, flow.ingress, route.next_hop).decide(tables, flow, route)
}

/// The two ends of a flow, as far as policy is concerned.
#[derive(Clone, Copy)]
struct Ends<'a> {
    /// The interface that it comes from, if that is a tenant's.
    source: Option<&'a Interface>,
    /// `None`: it does not leave.
    target: Option<Egress<'a>>,
}

impl<'a> Ends<'a> {
    fn of(tables: &'a Tables, ingress: InterfaceId, next_hop: NextHopId) -> Self {
        let source = tables.interfaces.get(ingress.index()).filter(|interface| is_tenant(interface));
        Self { source, target: egress(tables, next_hop) }
    }

    /// Asks the policies of both about a flow between them.
    #[inline]
    fn decide(&self, tables: &Tables, flow: &FirstOf<'_>, route: &Resolved) -> Result<Policed, DropReason> {
        let Some(target) = self.target else { return Ok(Policed::Unfiltered) };
        let source_policy = self.source.and_then(|interface| interface.policy.as_ref());
        let target_policy = match target {
            Egress::Tenant(interface) => interface.policy.as_ref(),
            Egress::Tunnel => None,
        };
        if source_policy.is_none() && target_policy.is_none() {
            return Ok(Policed::Unfiltered);
        }
        if let Some(policy) = source_policy {
            let packet =
                FirstPacket { key: flow.key, icmp: flow.icmp, peer_groups: groups(tables, route.sg_set) };
            policy.allows(policy::Direction::Egress, &packet).ok_or(DropReason::SgDeniedEgress)?;
        }
        if let Some(policy) = target_policy {
            let sg_set = source_groups(tables, flow.key, self.source);
            let packet = FirstPacket { key: flow.key, icmp: flow.icmp, peer_groups: groups(tables, sg_set) };
            policy.allows(policy::Direction::Ingress, &packet).ok_or(DropReason::SgDeniedIngress)?;
        }
        Ok(Policed::Allowed(route.vrf))
    }
}

/// Where a flow leaves, as far as policy is concerned.
#[derive(Clone, Copy)]
enum Egress<'a> {
    Tenant(&'a Interface),
    Tunnel,
}

/// `None`: it does not leave; it is for an address of ours, which answers
/// everyone.
fn egress(tables: &Tables, next_hop: NextHopId) -> Option<Egress<'_>> {
    let interface = match tables.next_hops.get(next_hop.index())? {
        NextHop::Local(_) => return None,
        NextHop::Neighbour(neighbour) => tables.neighbours.get(neighbour.index())?.interface,
        NextHop::Connected(interface) => *interface,
        _ => return Some(Egress::Tunnel),
    };
    tables.interfaces.get(interface.index()).map(Egress::Tenant)
}

fn is_tenant(interface: &Interface) -> bool {
    interface.vrf != VrfId::UNDERLAY
}

/// The groups of a flow's source: of its interface, or else of the route that
/// leads back to it.
fn source_groups(tables: &Tables, key: &FlowKey, source: Option<&Interface>) -> SgSetId {
    if let Some(interface) = source {
        return interface.policy.as_ref().map_or(SgSetId::EMPTY, |policy| policy.sg_set());
    }
    let back = key.reversed(key.vrf);
    resolve(tables, &back, flow_hash(&back)).map_or(SgSetId::EMPTY, |route| route.sg_set)
}

fn groups(tables: &Tables, id: SgSetId) -> &[SgId] {
    tables.sg_sets.get(id.index()).map_or(&[], |set| set)
}
