//! Local: packets that end here. ARP and neighbour discovery, what is for our
//! own addresses, and what is for the host.

use std::net::IpAddr;

use crate::drop_reason::DropReason;
use crate::io::Io;
use crate::local::arp::{ARP_LENGTH, ArpMessage, ArpOperation, parse_arp, write_arp};
use crate::local::nd::{
    self, ND_LENGTH, NdMessage, NeighbourAdvertisement, NeighbourSolicitation, parse_nd, write_advertisement,
};
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_key::Family;
use crate::packet::icmp::echo_reply_in_place;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::pipeline::burst::Burst;
use crate::pipeline::context::Context;
use crate::pipeline::outbox::{Learned, Said};
use crate::tables::interface::Interface;
use crate::tables::neighbour::{EthernetHeader, Neighbour, NeighbourState};
use crate::tables::port::{Port, VlanTags};
use crate::types::{InterfaceId, MacAddr, PortId, VrfId};

/// Where an ARP or ND message came in, and what we are called there.
struct Link<'a> {
    port: PortId,
    tags: VlanTags,
    mac: MacAddr,
    /// `None` on the host port, where we answer for everybody.
    interface: Option<(InterfaceId, &'a Interface)>,
}

impl Link<'_> {
    fn answers_for(&self, target: IpAddr, sender: IpAddr) -> bool {
        match self.interface {
            Some((_, interface)) => interface.is_local_address(target),
            // Not for the host itself: it would take that for a conflict.
            None => target != sender && !sender.is_unspecified(),
        }
    }

    /// Whether a message answers a question of ours: it is a reply to our MAC
    /// (RFC 826), and to the address that we asked from, if we had one.
    fn is_answer(&self, message: &ArpMessage) -> bool {
        let target = message.target_ip;
        let to_us = target.is_unspecified()
            || self.interface.is_none_or(|(_, interface)| interface.is_local_address(IpAddr::V4(target)));
        message.operation == ArpOperation::Reply && message.target_mac == self.mac && to_us
    }

    /// Whether a station may say that it has this address. It may be asking
    /// before it has one, or for its link-local one.
    fn check_claim(&self, mac: MacAddr, address: IpAddr) -> Result<(), DropReason> {
        let Some((_, interface)) = self.interface else { return Ok(()) };
        if interface.is_local_address(address) {
            return Err(DropReason::OwnSource);
        }
        match interface.check_source(mac, address) {
            Err(DropReason::SpoofedIp) if address.is_unspecified() || is_link_local(address) => Ok(()),
            checked => checked,
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn link<'a, I: Io>(cx: &Context<'a, I>, port: PortId, meta: &PacketMeta) -> Option<Link<'a>> {
    if meta.flags.contains(PacketFlags::FROM_HOST) {
        let mac = cx.tables.ports.get(port.index())?.host_side_mac();
        return Some(Link { port, tags: VlanTags::default(), mac, interface: None });
    }
    let interface = cx.tables.interfaces.get(meta.ingress.index())?;
    let known = Some((meta.ingress, interface));
    Some(Link { port: interface.port, tags: interface.tags, mac: interface.mac, interface: known })
}

/// Answers an ARP request for an address of ours; learns from any message.
pub fn arp<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8) {
    let port = burst.port;
    let Some((packet, meta)) = burst.packet(index) else { return };
    let meta = *meta;
    if is_over_limit(cx, &meta) {
        return cx.drop(burst, index, DropReason::IcmpRateLimited);
    }
    let message = packet.bytes().get(usize::from(meta.l3_offset)..).and_then(parse_arp);
    let (Some(message), Some(link)) = (message, link(cx, port, &meta)) else {
        return cx.drop(burst, index, DropReason::BadNeighbourMessage);
    };
    let sender = IpAddr::V4(message.sender_ip);
    if let Err(reason) = link.check_claim(message.sender_mac, sender) {
        return cx.drop(burst, index, reason);
    }
    let said = if link.is_answer(&message) { Said::Answer } else { Said::Claim };
    learn(cx, &link, sender, message.sender_mac, said);
    let answers =
        message.operation == ArpOperation::Request && link.answers_for(IpAddr::V4(message.target_ip), sender);
    if !answers {
        return cx.consume(burst, index);
    }
    cx.counters.consumed.add(1);
    if let Some(packet) = burst.take(index) {
        reply_arp(cx, &link, packet, &meta, &message);
    }
}

fn reply_arp<I: Io>(
    cx: &mut Context<'_, I>,
    link: &Link<'_>,
    mut packet: I::Buf,
    meta: &PacketMeta,
    request: &ArpMessage,
) {
    packet.advance(usize::from(meta.l3_offset));
    packet.truncate(ARP_LENGTH);
    if !write_arp(&request.reply(link.mac), packet.bytes_mut()) {
        return;
    }
    let header = EthernetHeader::new(request.sender_mac, link.mac, link.tags);
    if packet.prepend(header.length()) {
        header.write_arp(packet.bytes_mut());
        send_frame(cx, link, packet);
    }
}

/// Tenants are limited. The fabric is not: a storm there must not keep us from
/// hearing the answers that tunnels depend on.
fn is_over_limit<I: Io>(cx: &mut Context<'_, I>, meta: &PacketMeta) -> bool {
    meta.key.vrf != VrfId::UNDERLAY && !cx.limits.allow_neighbour_message(meta.ingress, cx.now)
}

/// Answers a neighbour solicitation for an address of ours; learns from
/// solicitations and advertisements of neighbours, and consumes those of
/// routers.
pub fn neighbour_discovery<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8) {
    let port = burst.port;
    let Some((packet, meta)) = burst.packet(index) else { return };
    let meta = *meta;
    if is_over_limit(cx, &meta) {
        return cx.drop(burst, index, DropReason::IcmpRateLimited);
    }
    let (Some(message), Some(link)) = (parse_nd(packet.bytes(), &meta), link(cx, port, &meta)) else {
        return cx.drop(burst, index, DropReason::BadNeighbourMessage);
    };
    let (address, claimed, learned) = match &message {
        NdMessage::NeighbourSolicitation(ask) => (ask.source, ask.source_mac, ask.source_mac),
        NdMessage::NeighbourAdvertisement(answer) => {
            let learned = advertised_mac(cx, &link, answer);
            (answer.target, answer.target_mac.or(learned), learned)
        }
        // Not for us to answer or to follow: the underlay's routes are configured.
        NdMessage::RouterSolicitation { source, .. } | NdMessage::RouterAdvertisement { source } => {
            (*source, None, None)
        }
    };
    let checked = claimed.map_or(Ok(()), |mac| link.check_claim(mac, IpAddr::V6(address)));
    if let Err(reason) = checked {
        return cx.drop(burst, index, reason);
    }
    if let Some(mac) = learned {
        let is_answer = matches!(&message, NdMessage::NeighbourAdvertisement(answer) if answer.solicited);
        let said = if is_answer { Said::Answer } else { Said::Claim };
        learn(cx, &link, IpAddr::V6(address), mac, said);
    }
    let NdMessage::NeighbourSolicitation(ask) = message else { return cx.consume(burst, index) };
    if !link.answers_for(IpAddr::V6(ask.target), IpAddr::V6(ask.source)) {
        return cx.consume(burst, index);
    }
    cx.counters.consumed.add(1);
    if let Some(packet) = burst.take(index) {
        advertise(cx, &link, packet, &ask);
    }
}

/// The MAC that is to be learned from an advertisement.
fn advertised_mac<I: Io>(
    cx: &Context<'_, I>,
    link: &Link<'_>,
    answer: &NeighbourAdvertisement,
) -> Option<MacAddr> {
    // Who is on the host port is the host, whatever it says of others.
    let Some((interface, _)) = link.interface else { return answer.target_mac };
    let id = cx.tables.neighbour_index.get(&(interface, IpAddr::V6(answer.target)))?;
    let neighbour = cx.tables.neighbours.get(id.index())?;
    answer.news_for(neighbour.state, neighbour.header.destination())
}

fn advertise<I: Io>(
    cx: &mut Context<'_, I>,
    link: &Link<'_>,
    mut packet: I::Buf,
    ask: &NeighbourSolicitation,
) {
    let source_mac = macs_source(packet.bytes());
    packet.truncate(0);
    let Some(to) = packet.append(ND_LENGTH).then(|| write_advertisement(ask, link.mac, packet.bytes_mut()))
    else {
        return;
    };
    let Some(to) = to else { return };
    let destination = if to.is_multicast() {
        nd::multicast_mac(to)
    } else {
        ask.source_mac.or(source_mac).unwrap_or(MacAddr::BROADCAST)
    };
    if frame(link, destination, Family::V6, &mut packet) {
        send_frame(cx, link, packet);
    }
}

fn macs_source(frame: &[u8]) -> Option<MacAddr> {
    frame.get(6..)?.first_chunk::<6>().map(|mac| MacAddr(*mac))
}

/// Puts an Ethernet header in front of an IP packet.
fn frame<B: PacketBuf>(link: &Link<'_>, destination: MacAddr, family: Family, packet: &mut B) -> bool {
    let header = EthernetHeader::new(destination, link.mac, link.tags);
    let fits = packet.prepend(header.length());
    if fits {
        header.write(family, packet.bytes_mut());
    }
    fits
}

fn send_frame<I: Io>(cx: &mut Context<'_, I>, link: &Link<'_>, packet: I::Buf) {
    cx.counters.originated.add(1);
    if let Some(counters) = link.interface.and_then(|(id, _)| cx.counters.interface(id)) {
        counters.tx.add(packet.bytes().len());
    }
    cx.out.transmit(link.port, packet, cx.counters);
}

/// Tells the neighbour service where a station is, if somebody wants to know.
fn learn<I: Io>(cx: &Context<'_, I>, link: &Link<'_>, address: IpAddr, mac: MacAddr, said: Said) {
    let item = match link.interface {
        Some((interface, _)) => {
            let Some(id) = cx.tables.neighbour_index.get(&(interface, address)) else { return };
            let is_no_news = |neighbour: &Neighbour| match neighbour.state {
                NeighbourState::Static => true,
                NeighbourState::Resolved => said == Said::Claim && neighbour.header.destination() == mac,
                NeighbourState::Resolving | NeighbourState::Failed => false,
            };
            if cx.tables.neighbours.get(id.index()).is_none_or(is_no_news) {
                return;
            }
            Learned::Neighbour { neighbour: *id, interface, address, mac, said }
        }
        None => {
            let known = |port: &Port| port.host_mac == Some(mac);
            if cx.tables.ports.get(link.port.index()).is_some_and(known) {
                return;
            }
            Learned::Host { port: link.port, mac }
        }
    };
    cx.out.tell_learned(item);
}

/// A packet for one of our addresses: echo requests are answered; in the
/// underlay the rest is for the host.
pub fn deliver<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8, interface: InterfaceId) {
    let meta = *burst.meta(index);
    if meta.flags.contains(PacketFlags::FROM_HOST) {
        return cx.drop(burst, index, DropReason::HairpinToHost);
    }
    let is_underlay =
        cx.tables.interfaces.get(interface.index()).is_none_or(|own| own.vrf == VrfId::UNDERLAY);
    if is_underlay {
        // Only a tenant's packet comes here: the fabric's own was classified.
        return cx.drop(burst, index, DropReason::NestedTunnel);
    }
    answer_echo(cx, burst, index, interface);
}

/// Answers an echo request to an address of ours on `interface`.
fn answer_echo<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8, interface: InterfaceId) {
    let meta = *burst.meta(index);
    let is_query = meta.flags.contains(PacketFlags::ICMP_QUERY);
    if !is_query || meta.flags.intersects(PacketFlags::FRAGMENT) {
        return cx.drop(burst, index, DropReason::LocalNotServed);
    }
    if !cx.limits.allow_echo(interface, cx.now) {
        return cx.drop(burst, index, DropReason::IcmpRateLimited);
    }
    let Some((packet, _)) = burst.packet(index) else { return };
    if !echo_reply_in_place(packet.bytes_mut(), &meta) {
        return cx.drop(burst, index, DropReason::LocalNotServed);
    }
    cx.counters.consumed.add(1);
    if let Some(mut packet) = burst.take(index) {
        packet.advance(usize::from(meta.l3_offset));
        packet.truncate(usize::from(meta.ip_length));
        cx.originate_ip(packet, meta.key.family, meta.key.vrf, meta.ingress);
    }
}

/// Gives an underlay packet to the host. Without a host port we answer pings
/// ourselves, so that an underlay can be checked.
pub fn punt<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8) {
    let Some(id) = cx.tables.host_port else {
        let meta = *burst.meta(index);
        return if meta.flags.contains(PacketFlags::ICMP_QUERY) {
            answer_echo(cx, burst, index, meta.ingress);
        } else {
            cx.drop(burst, index, DropReason::NoHostPort);
        };
    };
    let Some(port) = cx.tables.ports.get(id.index()) else {
        return cx.drop(burst, index, DropReason::NoHostPort);
    };
    let Some((packet, meta)) = burst.packet(index) else { return };
    packet.advance(usize::from(meta.l3_offset));
    let family = meta.key.family;
    if !host_frame(port, family, packet) {
        return cx.drop(burst, index, DropReason::NoHeadroom);
    }
    if let Some(packet) = burst.take(index) {
        cx.out.transmit(id, packet, cx.counters);
    }
}

fn host_frame<B: PacketBuf>(port: &Port, family: Family, packet: &mut B) -> bool {
    let destination = port.host_mac.unwrap_or(port.mac);
    let header = EthernetHeader::new(destination, port.host_side_mac(), VlanTags::default());
    let fits = packet.prepend(header.length());
    if fits {
        header.write(family, packet.bytes_mut());
    }
    fits
}
