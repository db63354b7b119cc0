//! Session lookup: packets of known flows take the decision of their first.
//!
//! A decision holds while the generation of the VRF is the one that it was
//! made under; otherwise the packet is decided again, like a first one.

use crate::io::Io;
use crate::packet::buffer::PacketBuf;
use crate::packet::icmp::quoted_key;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::tcp_flags;
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::pipeline::owner::is_stateful;
use crate::session::{Direction, KeyHash, Verdict};

/// Finds the sessions of packets. All packets stay in the lane, marked
/// [`UNDECIDED`](PacketFlags::UNDECIDED) if their session does not say where
/// they go.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    for index in lane.iter().copied() {
        // Express has hashed most of the plain ones.
        if burst.plain_hash(index).is_none() {
            let hash = cx.sessions.hash(&burst.meta(index).key);
            cx.sessions.prefetch(hash);
            burst.note_mut(index).hash = Some(hash);
        }
    }
    for index in lane.iter().filter(|index| !burst.is_absent(**index)) {
        let likely = burst.note(*index).hash.and_then(|hash| cx.sessions.prefetch_session(hash));
        if let Some(at) = likely {
            cx.sessions.prefetch_state(at);
        }
    }
    for index in lane.iter().copied() {
        if burst.is_absent(index) {
            burst.meta_mut(index).flags.insert(PacketFlags::UNDECIDED);
            continue;
        }
        let Some(hash) = burst.note(index).hash else { continue };
        let Some((packet, meta)) = burst.packet(index) else { continue };
        if meta.flags.contains(PacketFlags::ALLOWED) || !is_stateful(cx, meta) {
            meta.flags.insert(PacketFlags::UNDECIDED);
            continue;
        }
        if meta.flags.contains(PacketFlags::ICMP_ERROR) {
            look_up_quoted(cx, packet.bytes(), meta);
            continue;
        }
        look_up(cx, packet.bytes(), meta, hash);
    }
}

#[inline]
fn look_up<I: Io>(cx: &mut Context<'_, I>, bytes: &[u8], meta: &mut PacketMeta, hash: KeyHash) {
    let Some(at) = cx.sessions.lookup(&meta.key, hash) else {
        meta.flags.insert(PacketFlags::UNDECIDED);
        return;
    };
    let length = u32::from(meta.ip_length);
    if cx.sessions.touch(at, length, tcp_flags(bytes, meta), cx.now) == Verdict::FirstPacket {
        meta.flags.insert(PacketFlags::UNDECIDED);
        return;
    }
    let generation = cx.tables.vrfs.get(meta.key.vrf.index()).map_or(0, |vrf| vrf.generation);
    match cx.sessions.flow(at).next_hop(generation) {
        Some(next_hop) => meta.next_hop = next_hop,
        None => meta.flags.insert(PacketFlags::UNDECIDED.union(PacketFlags::SESSION_STALE)),
    }
}

/// An ICMP error may pass if the packet that it quotes belongs to a session
/// (RFC 5508 section 4.2): it travels against that packet, to its source, and
/// the session is still allowed.
fn look_up_quoted<I: Io>(cx: &Context<'_, I>, bytes: &[u8], meta: &mut PacketMeta) {
    meta.flags.insert(PacketFlags::UNDECIDED);
    let Some(quoted) = quoted_key(bytes, meta) else { return };
    if quoted.source != meta.key.destination {
        return;
    }
    let opposite = quoted.reversed(meta.key.vrf);
    let Some(at) = cx.sessions.lookup(&opposite, cx.sessions.hash(&opposite)) else { return };
    let Some(session) = cx.sessions.session(at.index()) else { return };
    let is_current = |direction| {
        let flow = session.flow(direction);
        let generation = cx.tables.vrfs.get(flow.key().vrf.index()).map_or(0, |vrf| vrf.generation);
        flow.next_hop(generation).is_some()
    };
    if is_current(Direction::Forward) || is_current(Direction::Reverse) {
        meta.flags.insert(PacketFlags::ALLOWED);
    }
}
