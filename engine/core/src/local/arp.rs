//! ARP for IPv4 over Ethernet (RFC 826): bytes to messages and back.

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation as WireOperation, ArpPacket, ArpRepr, EthernetAddress};

use crate::types::MacAddr;

/// Length of a message without its Ethernet header, bytes.
pub const ARP_LENGTH: usize = 28;

/// What a message wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpMessage {
    /// What it wants.
    pub operation: ArpOperation,
    /// The sender's MAC: always that of one station.
    pub sender_mac: MacAddr,
    /// The sender's address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The target's MAC; all zero in a request.
    pub target_mac: MacAddr,
    /// The target's address.
    pub target_ip: Ipv4Addr,
}

impl ArpMessage {
    /// A request for the MAC of `target_ip`.
    pub fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        let target_mac = MacAddr::default();
        Self { operation: ArpOperation::Request, sender_mac, sender_ip, target_mac, target_ip }
    }

    /// The answer to this request: its target address is at `mac`.
    #[must_use]
    pub fn reply(&self, mac: MacAddr) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}

/// Reads the message that follows an Ethernet header; padding behind it is
/// ignored. `None` if it is not well-formed, not about IPv4 over Ethernet, or
/// if its sender cannot be a station: a group MAC, or an address that is
/// multicast, loopback or broadcast.
pub fn parse_arp(bytes: &[u8]) -> Option<ArpMessage> {
    let packet = ArpPacket::new_checked(bytes).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    let operation = match operation {
        WireOperation::Request => ArpOperation::Request,
        WireOperation::Reply => ArpOperation::Reply,
        WireOperation::Unknown(_) => return None,
    };
    let message = ArpMessage {
        operation,
        sender_mac: MacAddr(source_hardware_addr.0),
        sender_ip: source_protocol_addr,
        target_mac: MacAddr(target_hardware_addr.0),
        target_ip: target_protocol_addr,
    };
    let ip = message.sender_ip;
    let no_station = ip.is_multicast() || ip.is_loopback() || ip.is_broadcast();
    (message.sender_mac.is_unicast() && !no_station).then_some(message)
}

/// Writes a message to the first [`ARP_LENGTH`] bytes, which follow an
/// Ethernet header. Returns false, and writes nothing, if there are fewer.
#[must_use]
pub fn write_arp(message: &ArpMessage, bytes: &mut [u8]) -> bool {
    let Some(bytes) = bytes.get_mut(..ARP_LENGTH) else { return false };
    let repr = ArpRepr::EthernetIpv4 {
        operation: match message.operation {
            ArpOperation::Request => WireOperation::Request,
            ArpOperation::Reply => WireOperation::Reply,
        },
        source_hardware_addr: EthernetAddress(message.sender_mac.0),
        source_protocol_addr: message.sender_ip,
        target_hardware_addr: EthernetAddress(message.target_mac.0),
        target_protocol_addr: message.target_ip,
    };
    repr.emit(&mut ArpPacket::new_unchecked(bytes));
    true
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const ASKER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

    fn request() -> ArpMessage {
        ArpMessage::request(ASKER, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
    }

    #[test]
    fn a_request_and_its_reply_have_the_bytes_of_rfc_826() {
        let mut bytes = [0xee; 30];
        assert!(write_arp(&request(), &mut bytes));
        #[rustfmt::skip]
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1,
            0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
            0xee, 0xee,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(parse_arp(&bytes), Some(request()));

        assert!(write_arp(&request().reply(OURS), &mut bytes));
        #[rustfmt::skip]
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 2,
            2, 0, 0, 0, 0, 0xb, 10, 0, 0, 2,
            2, 0, 0, 0, 0, 0xa, 10, 0, 0, 1,
        ];
        assert_eq!(bytes[..ARP_LENGTH], expected);
        let read = etherparse::ArpPacketSlice::from_slice(&bytes).expect("well-formed");
        assert_eq!(read.operation(), etherparse::ArpOperation::REPLY);
        assert_eq!((read.sender_hw_addr(), read.target_protocol_addr()), (&OURS.0[..], &[10, 0, 0, 1][..]));
        assert!(!write_arp(&request(), &mut [0; ARP_LENGTH - 1]));
    }

    #[test]
    fn what_no_station_would_send_is_refused() {
        let mut good = [0; ARP_LENGTH];
        assert!(write_arp(&request(), &mut good));
        // Hardware type, protocol type, lengths, operation, sender MAC, sender address.
        for (at, value) in [(1, 6), (2, 9), (4, 8), (5, 16), (7, 3), (7, 0), (8, 0x03), (14, 224), (14, 127)]
        {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(parse_arp(&bad), None, "byte {at} = {value}");
        }
        for length in 0..ARP_LENGTH {
            assert_eq!(parse_arp(&good[..length]), None);
        }
        let mut probe = good;
        probe[14..18].fill(0);
        assert_eq!(parse_arp(&probe).map(|message| message.sender_ip), Some(Ipv4Addr::UNSPECIFIED));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(mut bytes in vec(any::<u8>(), 0..40), header: bool) {
            if header && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
            }
            if let Some(message) = parse_arp(&bytes) {
                let mut again = [0; ARP_LENGTH];
                prop_assert!(write_arp(&message, &mut again));
                prop_assert_eq!(&again[..], &bytes[..ARP_LENGTH]);
            }
        }
    }
}
