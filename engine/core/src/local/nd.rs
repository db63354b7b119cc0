//! Neighbour Discovery for IPv6 (RFC 4861): bytes to messages and back.

use std::net::Ipv6Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
    NdiscRepr, RawHardwareAddress,
};

use crate::packet::checksum::transport_is_valid;
use crate::packet::headers::{chunk, icmp, ipv6};
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::tables::neighbour::NeighbourState;
use crate::types::MacAddr;

/// Length of the IPv6 packets that this module writes, bytes: IPv6 40, the
/// message with its target 24, one link-layer address option 8.
pub const ND_LENGTH: usize = ipv6::LENGTH + TARGET_END + OPTION_LENGTH;

/// Where the target of a solicitation or advertisement starts in the message.
const TARGET: usize = 8;
const TARGET_END: usize = TARGET + 16;
/// Length of a router advertisement without options, bytes (RFC 4861 section 4.2).
const ROUTER_ADVERTISEMENT_LENGTH: usize = 16;
/// Its ICMPv6 type.
const ROUTER_ADVERTISEMENT: u8 = 134;
/// An option with an Ethernet address.
const OPTION_LENGTH: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// All nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An ND message that has passed the checks of RFC 4861.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdMessage {
    /// Who has `target`?
    NeighbourSolicitation(NeighbourSolicitation),
    /// `target` is here.
    NeighbourAdvertisement(NeighbourAdvertisement),
    /// Are there routers?
    RouterSolicitation {
        /// The asker; may be unspecified.
        source: Ipv6Addr,
        /// The asker's MAC.
        source_mac: Option<MacAddr>,
    },
    /// Here is a router. We are one ourselves and take nothing from it.
    RouterAdvertisement {
        /// The router; always link-local.
        source: Ipv6Addr,
    },
}

/// Who has `target`?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourSolicitation {
    /// The asker; unspecified in duplicate address detection (RFC 4862).
    pub source: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// The asker's MAC.
    pub source_mac: Option<MacAddr>,
}

/// `target` is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourAdvertisement {
    /// The sender.
    pub source: Ipv6Addr,
    /// The address that is here.
    pub target: Ipv6Addr,
    /// The target's MAC.
    pub target_mac: Option<MacAddr>,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces a MAC known before: the Override flag.
    pub overrides: bool,
}

impl NeighbourAdvertisement {
    /// The MAC that this advertisement gives to a neighbour in `state`, which
    /// was `known` at that MAC, or the one that it confirms. `None` if the
    /// neighbour stays as it is (RFC 4861 section 7.2.5).
    ///
    /// Without its Override flag an advertisement does not replace a MAC: it
    /// may come from a proxy or one of several anycast stations (section
    /// 7.2.7). RFC 4861 has the known MAC verified then; ours is asked again
    /// after its reachable time in any case.
    pub fn news_for(&self, state: NeighbourState, known: MacAddr) -> Option<MacAddr> {
        match (state, self.target_mac) {
            (NeighbourState::Static, _) => None,
            // INCOMPLETE: whatever MAC comes first is taken.
            (NeighbourState::Resolving | NeighbourState::Failed, mac) => mac,
            (NeighbourState::Resolved, Some(mac)) if mac != known => self.overrides.then_some(mac),
            // No news; a confirmation only if it was asked for.
            (NeighbourState::Resolved, _) => self.solicited.then_some(known),
        }
    }
}

/// The multicast group that a node with this address listens to (RFC 4291
/// section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., x, y, z] = target.octets();
    let low = u16::from_be_bytes([y, z]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), low)
}

/// The MAC that frames to a multicast address go to (RFC 2464 section 7).
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// Reads the message that `meta` was parsed from. `None` if it is no
/// solicitation or advertisement, or fails a check of RFC 4861 section 6.1.1,
/// 6.1.2, 7.1.1 or 7.1.2.
pub fn parse_nd(bytes: &[u8], meta: &PacketMeta) -> Option<NdMessage> {
    // The flag stands for the hop limit of 255 and for a whole packet.
    if !meta.flags.contains(PacketFlags::NEIGHBOUR_DISCOVERY) {
        return None;
    }
    let message = meta.segment(bytes)?;
    let header: &[u8; icmp::LENGTH] = chunk(message, 0)?;
    if header[icmp::CODE] != 0 || !transport_is_valid(&meta.key, message) {
        return None;
    }
    let source = Ipv6Addr::from(meta.key.source);
    let destination = Ipv6Addr::from(meta.key.destination);
    match header[icmp::TYPE] {
        icmp::ND_ROUTER_SOLICITATION => {
            let source_mac = link_layer_option(message.get(icmp::LENGTH..)?, SOURCE_LINK_LAYER)?;
            let fits = !source.is_unspecified() || source_mac.is_none();
            fits.then_some(NdMessage::RouterSolicitation { source, source_mac })
        }
        ROUTER_ADVERTISEMENT => {
            link_layer_option(message.get(ROUTER_ADVERTISEMENT_LENGTH..)?, SOURCE_LINK_LAYER)?;
            source.is_unicast_link_local().then_some(NdMessage::RouterAdvertisement { source })
        }
        icmp::ND_NEIGHBOUR_SOLICITATION => {
            let target = target(message)?;
            let source_mac = link_layer_option(message.get(TARGET_END..)?, SOURCE_LINK_LAYER)?;
            let fits =
                !source.is_unspecified() || (source_mac.is_none() && destination == solicited_node(target));
            fits.then_some(NdMessage::NeighbourSolicitation(NeighbourSolicitation {
                source,
                target,
                source_mac,
            }))
        }
        icmp::ND_NEIGHBOUR_ADVERTISEMENT => {
            let target = target(message)?;
            let target_mac = link_layer_option(message.get(TARGET_END..)?, TARGET_LINK_LAYER)?;
            let flags = header[4];
            let solicited = flags & SOLICITED != 0;
            let fits = !(destination.is_multicast() && solicited);
            fits.then_some(NdMessage::NeighbourAdvertisement(NeighbourAdvertisement {
                source,
                target,
                target_mac,
                router: flags & ROUTER != 0,
                solicited,
                overrides: flags & OVERRIDE != 0,
            }))
        }
        _ => None,
    }
}

fn target(message: &[u8]) -> Option<Ipv6Addr> {
    let target = Ipv6Addr::from(*chunk::<16>(message, TARGET)?);
    (!target.is_multicast()).then_some(target)
}

/// Walks all options. `None` if the list is not well-formed, or the MAC that
/// it holds is not that of one station; `Some(None)` without such an option.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while !options.is_empty() {
        let [kind, units] = *chunk::<2>(options, 0)?;
        let length = usize::from(units) * 8;
        if length == 0 {
            return None;
        }
        let option = options.get(..length)?;
        if kind == wanted && length == OPTION_LENGTH {
            let mac = MacAddr(*chunk::<6>(option, 2)?);
            found = Some(Some(mac).filter(|mac| mac.is_unicast())?);
        }
        options = &options[length..];
    }
    Some(found)
}

/// Writes the IPv6 packet that answers a solicitation: its target is at `mac`,
/// a router's. Returns the packet's destination, which for a solicitation
/// without source is all nodes (RFC 4861 section 7.2.4). `None`, and nothing
/// written, if there are fewer than [`ND_LENGTH`] bytes.
pub fn write_advertisement(
    solicitation: &NeighbourSolicitation,
    mac: MacAddr,
    bytes: &mut [u8],
) -> Option<Ipv6Addr> {
    let asked_by_nobody = solicitation.source.is_unspecified();
    let destination = if asked_by_nobody { ALL_NODES } else { solicitation.source };
    let mut flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::SOLICITED, !asked_by_nobody);
    let message = NdiscRepr::NeighborAdvert {
        flags,
        target_addr: solicitation.target,
        lladdr: Some(RawHardwareAddress::from(EthernetAddress(mac.0))),
    };
    write(message, solicitation.target, destination, bytes).then_some(destination)
}

/// Writes the IPv6 packet that asks for `target`, from our address `source`
/// at `mac`. It goes to `destination`: [`solicited_node`] of the target to
/// find it, the target itself to see whether it is still there. Returns false,
/// and writes nothing, if there are fewer than [`ND_LENGTH`] bytes.
#[must_use]
pub fn write_solicitation(
    mac: MacAddr,
    source: Ipv6Addr,
    target: Ipv6Addr,
    destination: Ipv6Addr,
    bytes: &mut [u8],
) -> bool {
    let message = NdiscRepr::NeighborSolicit {
        target_addr: target,
        lladdr: Some(RawHardwareAddress::from(EthernetAddress(mac.0))),
    };
    write(message, source, destination, bytes)
}

fn write(message: NdiscRepr<'_>, source: Ipv6Addr, destination: Ipv6Addr, bytes: &mut [u8]) -> bool {
    let Some(bytes) = bytes.get_mut(..ND_LENGTH) else { return false };
    bytes.fill(0);
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Icmpv6,
        payload_len: ND_LENGTH - ipv6::LENGTH,
        hop_limit: 255,
    };
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut *bytes));
    Icmpv6Repr::Ndisc(message).emit(
        &source,
        &destination,
        &mut Icmpv6Packet::new_unchecked(&mut bytes[ipv6::LENGTH..]),
        &ChecksumCapabilities::default(),
    );
    true
}

#[cfg(test)]
mod tests;
