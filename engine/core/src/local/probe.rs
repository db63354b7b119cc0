//! Questions for neighbours: an ARP request or a neighbour solicitation, as a
//! whole frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::local::arp::{ARP_LENGTH, ArpMessage, write_arp};
use crate::local::nd::{self, ND_LENGTH, write_solicitation};
use crate::packet::buffer::PacketBuf;
use crate::packet::flow_key::Family;
use crate::tables::interface::Interface;
use crate::tables::neighbour::EthernetHeader;
use crate::types::MacAddr;

/// Writes the question for `address` on `interface` into an empty buffer. It
/// goes to the station at `last_mac`, or to all. Returns false without room.
#[must_use]
pub fn write<B: PacketBuf>(
    packet: &mut B,
    interface: &Interface,
    address: IpAddr,
    last_mac: Option<MacAddr>,
) -> bool {
    match address {
        IpAddr::V4(target) => write_arp_request(packet, interface, target, last_mac),
        IpAddr::V6(target) => write_neighbour_solicitation(packet, interface, target, last_mac),
    }
}

fn write_arp_request<B: PacketBuf>(
    packet: &mut B,
    interface: &Interface,
    target: Ipv4Addr,
    last_mac: Option<MacAddr>,
) -> bool {
    // Without an address of ours it is a probe (RFC 5227 section 2.1.1).
    let source = match interface.source_for(target.into()) {
        Some(IpAddr::V4(source)) => source,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let request = ArpMessage::request(interface.mac, source, target);
    if !packet.append(ARP_LENGTH) || !write_arp(&request, packet.bytes_mut()) {
        return false;
    }
    let destination = last_mac.unwrap_or(MacAddr::BROADCAST);
    let header = EthernetHeader::new(destination, interface.mac, interface.tags);
    if !packet.prepend(header.length()) {
        return false;
    }
    header.write_arp(packet.bytes_mut());
    true
}

fn write_neighbour_solicitation<B: PacketBuf>(
    packet: &mut B,
    interface: &Interface,
    target: Ipv6Addr,
    last_mac: Option<MacAddr>,
) -> bool {
    let source = match interface.source_for(target.into()) {
        Some(IpAddr::V6(source)) => source,
        _ => link_local(interface.mac),
    };
    let to = if last_mac.is_some() { target } else { nd::solicited_node(target) };
    let destination = last_mac.unwrap_or_else(|| nd::multicast_mac(to));
    if !packet.append(ND_LENGTH) || !write_solicitation(interface.mac, source, target, to, packet.bytes_mut())
    {
        return false;
    }
    let header = EthernetHeader::new(destination, interface.mac, interface.tags);
    if !packet.prepend(header.length()) {
        return false;
    }
    header.write(Family::V6, packet.bytes_mut());
    true
}

/// The link-local address that goes with a MAC (RFC 4291 appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::BufferPool;
    use crate::io::memory::MemoryPool;
    use crate::packet::parse::{EtherType, parse_ethernet};
    use crate::tables::interface::TunnelSources;
    use crate::tables::port::VlanTags;
    use crate::types::{PortId, VrfId};
    use std::sync::Arc;

    fn interface(local: &[&str], outer: u16) -> Interface {
        Interface {
            port: PortId(0),
            tags: VlanTags { outer, inner: 0 },
            vrf: VrfId(1),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            local_addresses: local.iter().filter_map(|text| text.parse().ok()).collect::<Arc<[_]>>(),
            policy: None,
            sources: None,
            tunnel_sources: TunnelSources::default(),
        }
    }

    fn probe(interface: &Interface, address: &str, last: Option<MacAddr>) -> Vec<u8> {
        let mut packet = MemoryPool::new(1).alloc().expect("a buffer");
        assert!(write(&mut packet, interface, address.parse().expect("an address"), last));
        packet.bytes().to_vec()
    }

    #[test]
    fn arp_asks_everybody_from_the_address_in_the_subnet() {
        let frame = probe(&interface(&["198.18.1.1/24", "198.18.2.1/24"], 7), "198.18.2.9", None);
        let link = parse_ethernet(&frame).expect("a frame");
        assert_eq!(
            (link.destination, link.ethertype, link.tags.outer),
            (MacAddr::BROADCAST, EtherType::Arp, 7)
        );
        let message = crate::local::arp::parse_arp(&frame[18..]).expect("ARP");
        assert_eq!(message.sender_ip, Ipv4Addr::new(198, 18, 2, 1));
        assert_eq!(message.target_ip, Ipv4Addr::new(198, 18, 2, 9));
    }

    #[test]
    fn arp_without_an_own_address_is_a_probe_and_a_known_station_is_asked_alone() {
        let last = MacAddr([2, 0, 0, 0, 0, 9]);
        let frame = probe(&interface(&["2001:db8::1/64"], 0), "198.18.2.9", Some(last));
        assert_eq!(parse_ethernet(&frame).expect("a frame").destination, last);
        let message = crate::local::arp::parse_arp(&frame[14..]).expect("ARP");
        assert!(message.sender_ip.is_unspecified());
    }

    #[test]
    fn nd_asks_the_solicited_node_group_and_falls_back_to_link_local() {
        let frame = probe(&interface(&["198.18.1.1/24"], 0), "2001:db8::abcd:ef01", None);
        assert_eq!(&frame[..6], &[0x33, 0x33, 0xff, 0xcd, 0xef, 0x01]);
        // Source: fe80::200:ff:fe00:1, from 02:00:00:00:00:01.
        assert_eq!(&frame[22..38], &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1]);
    }
}
