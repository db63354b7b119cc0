//! Encap: the headers that a packet leaves with.

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::buffer::PacketBuf;
use crate::packet::meta::PacketMeta;
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::tables::Tables;
use crate::tables::neighbour::Neighbour;
use crate::tables::next_hop::NextHop;

/// Finishes every packet of the lane, which is empty afterwards. They stay in
/// the burst, with their ports in `meta.scratch`.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    for index in lane.drain(..) {
        let Some((packet, meta)) = burst.packet(index) else { continue };
        let Some(neighbour) = cx.tables.neighbours.get(meta.scratch as usize) else {
            cx.drop(burst, index, DropReason::NextHopUnusable);
            continue;
        };
        if let Err(reason) = rewrite(cx.tables, neighbour, packet, meta) {
            cx.drop(burst, index, reason);
            continue;
        }
        if let Some(counters) = cx.counters.interface(neighbour.interface) {
            counters.tx.add(packet.bytes().len());
        }
        meta.scratch = u32::from(neighbour.port.0);
    }
}

/// Replaces everything in front of the IP packet, and cuts off the padding
/// behind it.
#[inline]
fn rewrite<B: PacketBuf>(
    tables: &Tables,
    neighbour: &Neighbour,
    packet: &mut B,
    meta: &PacketMeta,
) -> Result<(), DropReason> {
    packet.advance(usize::from(meta.l3_offset));
    packet.truncate(usize::from(meta.ip_length));
    let mut family = meta.key.family;
    if let Some(NextHop::Tunnel(tunnel)) = tables.next_hops.get(meta.next_hop.index()) {
        if !packet.prepend(tunnel.header.length()) {
            return Err(DropReason::NoHeadroom);
        }
        tunnel.header.write(packet.bytes_mut(), family, meta.flow_hash)?;
        family = tunnel.header.outer_family();
    }
    if !packet.prepend(neighbour.header.length()) {
        return Err(DropReason::NoHeadroom);
    }
    neighbour.header.write(family, packet.bytes_mut());
    Ok(())
}
