//! Parse: from a frame to its interface and its IP headers.

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_key::Family;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{EtherType, parse_ethernet, parse_ip};
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::tables::port::Port;

/// Fills in the metadata of received frames.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    let port = cx.tables.ports.get(burst.port.index());
    lane.retain(|index| {
        let Some((packet, meta)) = burst.packet(*index) else { return false };
        let Err(reason) = parse(cx, port, packet, meta) else { return true };
        cx.drop(burst, *index, reason);
        false
    });
}

#[inline]
fn parse<I: Io>(
    cx: &Context<'_, I>,
    port: Option<&Port>,
    packet: &I::Buf,
    meta: &mut PacketMeta,
) -> Result<(), DropReason> {
    *meta = PacketMeta::UNKNOWN;
    let bytes = packet.bytes();
    let link = parse_ethernet(bytes)?;
    let port = port.ok_or(DropReason::UnknownVlan)?;
    meta.l3_offset = link.l3_offset;
    if port.role == crate::tables::port::PortRole::Host {
        meta.key.vrf = crate::types::VrfId::UNDERLAY;
        meta.flags.insert(PacketFlags::FROM_HOST);
    } else {
        let id = port.interface(link.tags).ok_or(DropReason::UnknownVlan)?;
        let interface = cx.tables.interfaces.get(id.index()).ok_or(DropReason::UnknownVlan)?;
        meta.ingress = id;
        meta.key.vrf = interface.vrf;
        if let Some(counters) = cx.counters.interface(id) {
            counters.rx.add(bytes.len());
        }
    }
    let family = match link.ethertype {
        EtherType::Ipv4 => Family::V4,
        EtherType::Ipv6 => Family::V6,
        EtherType::Arp => {
            meta.flags.insert(PacketFlags::ARP);
            return Ok(());
        }
    };
    parse_ip(bytes, usize::from(link.l3_offset), family, packet.ip_checksum(), meta)
}
