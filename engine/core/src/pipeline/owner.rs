//! Owner: brings a packet to the worker that owns its session, and gives
//! later fragments the ports of their first.
//!
//! Both directions of a flow hash to the same worker, whichever queue they
//! came in on. All fragments of a packet first meet at the worker of their
//! addresses, because only the first of them has ports; from there they go to
//! the owner of the session like any other packet of it.

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_hash::flow_hash;
use crate::packet::icmp::quoted_key;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::types::WorkerId;

/// Leaves the packets that this worker may go on with.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    lane.retain(|index| {
        let index = *index;
        // Express has seen that it belongs here.
        if burst.plain_hash(index).is_some() {
            return true;
        }
        let Some((packet, meta)) = burst.packet(index) else { return false };
        if meta.flags.contains(PacketFlags::ALLOWED) || !is_stateful(cx, meta) {
            return true;
        }
        let owner = match owner(cx, packet.bytes(), meta) {
            Ok(owner) => owner,
            Err(DropReason::FragmentBeforeFirst) => {
                hold_early(cx, burst, index);
                return false;
            }
            Err(reason) => {
                cx.drop(burst, index, reason);
                return false;
            }
        };
        if owner == cx.worker {
            return true;
        }
        if let Some(packet) = burst.take(index) {
            cx.out.hand_over(owner, packet, burst.meta(index), burst.is_plain(index), cx.counters);
        }
        false
    });
}

/// Whether the packet is looked up among sessions.
#[inline]
pub fn is_stateful<I: Io>(cx: &Context<'_, I>, meta: &PacketMeta) -> bool {
    cx.tables.vrfs.get(meta.key.vrf.index()).is_some_and(|vrf| vrf.stateful)
}

#[inline]
fn owner<I: Io>(
    cx: &mut Context<'_, I>,
    bytes: &[u8],
    meta: &mut PacketMeta,
) -> Result<WorkerId, DropReason> {
    if meta.flags.intersects(PacketFlags::FRAGMENT) && !meta.flags.contains(PacketFlags::PORTS_KNOWN) {
        let meeting_point = worker_of(meta.flow_hash, cx.out.worker_count());
        if meeting_point != cx.worker {
            return Ok(meeting_point);
        }
        complete_fragment(cx, meta)?;
    }
    if meta.flags.contains(PacketFlags::ICMP_ERROR)
        && let Some(quoted) = quoted_key(bytes, meta)
    {
        meta.flow_hash = flow_hash(&quoted);
    }
    Ok(worker_of(meta.flow_hash, cx.out.worker_count()))
}

/// Remembers the ports of a first fragment, or fills them into a later one.
fn complete_fragment<I: Io>(cx: &mut Context<'_, I>, meta: &mut PacketMeta) -> Result<(), DropReason> {
    if meta.flags.contains(PacketFlags::FIRST_FRAGMENT) {
        cx.fragments.remember(&meta.key, meta.scratch, cx.now)?;
        release_early(cx, meta);
    } else {
        let (source, destination) =
            cx.fragments.ports(&meta.key, meta.scratch, cx.now).ok_or(DropReason::FragmentBeforeFirst)?;
        meta.key.source_port = source;
        meta.key.destination_port = destination;
    }
    meta.flags.insert(PacketFlags::PORTS_KNOWN);
    meta.flow_hash = flow_hash(&meta.key);
    Ok(())
}

/// Keeps a fragment whose first has not come yet.
fn hold_early<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8) {
    let meta = *burst.meta(index);
    let Some(packet) = burst.take(index) else { return };
    if let Some((_, dropped)) = cx.early.hold(packet, meta, cx.now) {
        cx.counters.drop_at(DropReason::FragmentTableFull, Some(dropped.ingress), Some(dropped.key.vrf));
    }
}

/// The first fragment has come: those that wait for it come back to this
/// worker's ring, behind it.
fn release_early<I: Io>(cx: &mut Context<'_, I>, first: &PacketMeta) {
    while let Some((packet, meta)) = cx.early.release(first) {
        cx.out.hand_over(cx.worker, packet, &meta, false, cx.counters);
    }
}

/// The worker that a hash belongs to.
#[inline]
pub(crate) fn worker_of(flow_hash: u32, workers: usize) -> WorkerId {
    WorkerId(((u64::from(flow_hash) * workers as u64) >> 32) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_share_and_one_worker_gets_all() {
        let mut share = [0; 3];
        for n in 0..3000u32 {
            share[worker_of(n.wrapping_mul(0x9E37_79B1), 3).index()] += 1;
            assert_eq!(worker_of(n.wrapping_mul(0x9E37_79B1), 1), WorkerId(0));
        }
        assert!(share.iter().all(|count| (900..1100).contains(count)), "{share:?}");
    }
}
