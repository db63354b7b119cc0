//! Parse: from a frame to its interface and its IP headers.

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_key::Family;
use crate::packet::headers::{be16, chunk, ipv4};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::packet::parse::{EtherType, parse_ethernet, parse_ip};
use crate::pipeline::burst::{Burst, Lane};
use crate::pipeline::context::Context;
use crate::tables::port::{Port, PortRole};

/// Fills in the metadata of received frames. Express has done so for plain
/// ones, but for a few things that are of no use to itself.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, lane: &mut Lane) {
    let port = cx.tables.ports.get(burst.port.index());
    let in_tunnel = port.is_some_and(|port| port.role == PortRole::Fabric);
    lane.retain(|index| {
        let is_plain = burst.is_plain(*index);
        let Some((packet, meta)) = burst.packet(*index) else { return false };
        if is_plain {
            complete(cx, packet, meta, in_tunnel);
            return true;
        }
        let Err(reason) = parse(cx, port, packet, meta) else { return true };
        cx.drop(burst, *index, reason);
        false
    });
}

/// What parse and classify do to a plain packet that express has not done:
/// they count it, note what matters to who may have to cut it, and cut off
/// what is behind it in a tunnel packet.
#[inline]
fn complete<I: Io>(cx: &Context<'_, I>, packet: &mut I::Buf, meta: &mut PacketMeta, in_tunnel: bool) {
    if let Some(counters) = cx.counters.interface(meta.ingress) {
        counters.rx.add(packet.bytes().len());
    }
    let start = usize::from(meta.l3_offset);
    let must_stay_whole = match meta.key.family {
        Family::V4 => chunk(packet.bytes(), start + ipv4::FRAGMENT)
            .is_some_and(|field: &[u8; 2]| be16(field, 0) & ipv4::DONT_FRAGMENT != 0),
        Family::V6 => true,
    };
    if must_stay_whole {
        meta.flags.insert(PacketFlags::DONT_FRAGMENT);
    }
    if in_tunnel {
        meta.flags.insert(PacketFlags::DECAPSULATED);
        packet.truncate(start + usize::from(meta.ip_length));
    }
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
    if port.role == PortRole::Host {
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
