//! What travels of one session and of one neighbour.
//!
//! A session, in this order: a byte with the number of its state and, in the
//! top bit, whether it is IPv6; the IP protocol; source and destination port,
//! two bytes each; source and destination address; then numbers of variable
//! length: the VRF of its packets and that of the replies; by direction the
//! interface that packets come in on, plus one, or 0 for none; its age; by
//! direction the time since the latest packet; by direction packets and bytes.
//! Times are in sixteenths of a second. All of it is of the first packet's
//! direction; replies have addresses and ports the other way round.
//!
//! A neighbour: a byte 4 or 6, its address, its MAC, and the interface.

use std::net::IpAddr;

use tieline_names::varint;

use super::stream::Broken;
use crate::packet::flow_key::{Family, FlowKey, addr_bytes};
use crate::session::state::State;
use crate::session::tick::Tick;
use crate::types::{InterfaceId, MacAddr, VrfId};

/// One session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRecord {
    /// The key of packets like the first one.
    pub key: FlowKey,
    /// The VRF of the replies.
    pub reply_vrf: VrfId,
    /// By direction: the interface that packets come in on;
    /// [`InterfaceId::NONE`] if none has been seen.
    pub ingress: [InterfaceId; 2],
    /// How far it has come.
    pub state: State,
    /// Ticks since it began.
    pub age: u32,
    /// By direction: ticks since the latest packet.
    pub idle: [u32; 2],
    /// By direction.
    pub packets: [u64; 2],
    /// By direction: bytes of IP packets.
    pub bytes: [u64; 2],
}

/// A neighbour that has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourRecord {
    /// Where it is.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: MacAddr,
}

/// In the first byte of a session.
const IPV6: u8 = 0x80;

/// Most bytes of a session: 38 before the numbers, and eleven numbers.
pub(crate) const LONGEST_SESSION: usize = 38 + 2 * 3 + 5 * 5 + 4 * varint::LONGEST;
/// Most bytes of a neighbour.
pub(super) const LONGEST_NEIGHBOUR: usize = 1 + 16 + 6 + varint::LONGEST;

impl SessionRecord {
    /// The keys of both directions.
    pub fn keys(&self) -> [FlowKey; 2] {
        [self.key, self.key.reversed(self.reply_vrf)]
    }

    /// Appends it.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        let key = &self.key;
        let v6 = if key.family == Family::V6 { IPV6 } else { 0 };
        to.extend_from_slice(&[self.state as u8 | v6, key.protocol]);
        to.extend_from_slice(&key.source_port.to_be_bytes());
        to.extend_from_slice(&key.destination_port.to_be_bytes());
        let length = address_length(key.family);
        to.extend_from_slice(&key.source[..length]);
        to.extend_from_slice(&key.destination[..length]);
        let numbers = [u64::from(key.vrf.0), u64::from(self.reply_vrf.0)].into_iter();
        let ingress = self.ingress.map(|id| u64::from(id.0.wrapping_add(1)));
        let ticks = [self.age, self.idle[0], self.idle[1]].map(u64::from);
        let numbers = numbers.chain(ingress).chain(ticks).chain(self.packets).chain(self.bytes);
        numbers.for_each(|number| varint::put(to, number));
    }

    /// Takes one off the front.
    pub(super) fn take(from: &mut &[u8]) -> Result<Self, Broken> {
        let [first, protocol, a, b, c, d] = take_bytes(from)?;
        let family = if first & IPV6 == 0 { Family::V4 } else { Family::V6 };
        let state = State::from_number(first & !IPV6).filter(|state| state.is_of(protocol));
        let state = state.ok_or(Broken::Value("state of a session"))?;
        let source = take_address(from, family)?;
        let destination = take_address(from, family)?;
        let mut vrf = || match varint::take_as::<u16>(from)? {
            number if number == VrfId::NONE.0 => Err(Broken::Value("VRF of a session")),
            number => Ok(VrfId(number)),
        };
        let (vrf, reply_vrf) = (vrf()?, vrf()?);
        let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let key = FlowKey { source, destination, source_port, destination_port, vrf, protocol, family };
        let mut ingress = || varint::take_as::<u32>(from).map(|number| InterfaceId(number.wrapping_sub(1)));
        let ingress = [ingress()?, ingress()?];
        let mut ticks = || match varint::take_as::<u32>(from)? {
            ticks if ticks > Tick::MAX_SPAN => Err(Broken::Value("time of a session")),
            ticks => Ok(ticks),
        };
        let (age, idle) = (ticks()?, [ticks()?, ticks()?]);
        let packets = [varint::take(from)?, varint::take(from)?];
        let bytes = [varint::take(from)?, varint::take(from)?];
        Ok(Self { key, reply_vrf, ingress, state, age, idle, packets, bytes })
    }
}

impl NeighbourRecord {
    /// Appends it.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        let family = if self.address.is_ipv4() { Family::V4 } else { Family::V6 };
        to.push(family as u8);
        to.extend_from_slice(&addr_bytes(self.address)[..address_length(family)]);
        to.extend_from_slice(&self.mac.0);
        varint::put(to, u64::from(self.interface.0));
    }

    /// Takes one off the front.
    pub(super) fn take(from: &mut &[u8]) -> Result<Self, Broken> {
        let address = match take_bytes(from)? {
            [4] => IpAddr::from(take_bytes::<4>(from)?),
            [6] => IpAddr::from(take_bytes::<16>(from)?),
            _ => return Err(Broken::Value("address of a neighbour")),
        };
        let mac = MacAddr(take_bytes(from)?);
        if !mac.is_unicast() {
            return Err(Broken::Value("MAC of a neighbour"));
        }
        Ok(Self { interface: InterfaceId(varint::take_as::<u32>(from)?), address, mac })
    }
}

fn address_length(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// An address as a key's field.
fn take_address(from: &mut &[u8], family: Family) -> Result<[u8; 16], Broken> {
    match family {
        Family::V6 => take_bytes(from),
        Family::V4 => {
            let mut field = [0; 16];
            field[..4].copy_from_slice(&take_bytes::<4>(from)?);
            Ok(field)
        }
    }
}

pub(super) fn take_bytes<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Broken> {
    let (bytes, rest) = from.split_first_chunk().ok_or(Broken::Short)?;
    *from = rest;
    Ok(*bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any session that there can be.
    pub fn session() -> impl Strategy<Value = SessionRecord> {
        let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(58), Just(136), Just(47)];
        let key = (any::<([u8; 16], [u8; 16], u16, u16, bool)>(), protocol, 0..u16::MAX);
        let key =
            key.prop_map(|((source, destination, source_port, destination_port, v6), protocol, vrf)| {
                let family = if v6 { Family::V6 } else { Family::V4 };
                let cut = |mut field: [u8; 16]| {
                    field[address_length(family)..].fill(0);
                    field
                };
                let (source, destination) = (cut(source), cut(destination));
                FlowKey {
                    source,
                    destination,
                    source_port,
                    destination_port,
                    vrf: VrfId(vrf),
                    protocol,
                    family,
                }
            });
        let times = (0..=Tick::MAX_SPAN, 0..=Tick::MAX_SPAN, 0..=Tick::MAX_SPAN);
        let counts = any::<([u64; 2], [u64; 2])>();
        (key, 0..u16::MAX, any::<[u32; 2]>(), 0..State::COUNT, times, counts).prop_map(
            |(key, reply_vrf, ingress, state, (age, forward, reverse), (packets, bytes))| SessionRecord {
                key,
                reply_vrf: VrfId(reply_vrf),
                ingress: ingress.map(InterfaceId),
                state: (0..State::COUNT)
                    .map(|step| State::ALL[(state + step) % State::COUNT])
                    .find(|state| state.is_of(key.protocol))
                    .expect("every protocol has a state"),
                age,
                idle: [forward, reverse],
                packets,
                bytes,
            },
        )
    }

    proptest! {
        #[test]
        fn a_session_comes_back_as_it_was(session in session(), tail: [u8; 2]) {
            let mut bytes = Vec::new();
            session.put(&mut bytes);
            prop_assert!(bytes.len() <= LONGEST_SESSION);
            for end in 0..bytes.len() {
                prop_assert_eq!(SessionRecord::take(&mut &bytes[..end]), Err(Broken::Short));
            }
            bytes.extend_from_slice(&tail);
            let mut rest = &bytes[..];
            prop_assert_eq!(SessionRecord::take(&mut rest), Ok(session));
            prop_assert_eq!(rest, tail);
        }

        #[test]
        fn a_neighbour_comes_back_as_it_was(address: IpAddr, mac: [u8; 6], interface: u32) {
            let mac = MacAddr([mac[0] & !1 | 2, mac[1], mac[2], mac[3], mac[4], mac[5]]);
            let neighbour = NeighbourRecord { interface: InterfaceId(interface), address, mac };
            let mut bytes = Vec::new();
            neighbour.put(&mut bytes);
            prop_assert!(bytes.len() <= LONGEST_NEIGHBOUR);
            prop_assert_eq!(NeighbourRecord::take(&mut &bytes[..]), Ok(neighbour));
            prop_assert_eq!(NeighbourRecord::take(&mut &bytes[..6]), Err(Broken::Short));
        }
    }

    #[test]
    fn an_established_session_takes_less_than_64_bytes() {
        let mut key = FlowKey { protocol: 6, vrf: VrfId(4000), family: Family::V4, ..FlowKey::ZERO };
        let mut session = SessionRecord {
            key,
            reply_vrf: VrfId(4000),
            ingress: [InterfaceId(4000), InterfaceId(7)],
            state: State::TcpEstablished,
            age: 24 * 3600 * Tick::PER_SECOND,
            idle: [16 * 60; 2],
            packets: [1 << 20; 2],
            bytes: [1 << 30; 2],
        };
        let length = |session: &SessionRecord| {
            let mut bytes = Vec::new();
            session.put(&mut bytes);
            bytes.len()
        };
        assert_eq!(length(&session), 14 + 4 + 3 + 3 + 4 + 6 + 10);
        key.family = Family::V6;
        session.key = key;
        session.packets = [5000; 2];
        session.bytes = [1 << 20; 2];
        assert!(length(&session) <= 64, "{}", length(&session));
    }

    #[test]
    fn the_numbers_of_states_are_part_of_the_format() {
        // Another release reads them: a new state gets the next number.
        let names = State::ALL.map(|state| format!("{} {}", state as u8, state.name()));
        let format = "0 SYN sent, 1 SYN received, 2 picked up, 3 established, 4 closing by the opener, \
             5 closing by the responder, 6 time wait, 7 closed, 8 unreplied, 9 replied, 10 unanswered, \
             11 answered, 12 unreplied, 13 replied";
        assert_eq!(names.join(", "), format);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut bytes = Vec::new();
        let session = SessionRecord {
            key: FlowKey { protocol: 17, ..FlowKey::ZERO },
            reply_vrf: VrfId(0),
            ingress: [InterfaceId(1), InterfaceId::NONE],
            state: State::UdpReplied,
            age: 0,
            idle: [0; 2],
            packets: [0; 2],
            bytes: [0; 2],
        };
        session.put(&mut bytes);
        let with = |at: usize, value: &[u8]| {
            let mut bytes = bytes.clone();
            bytes.splice(at..at + 1, value.iter().copied());
            SessionRecord::take(&mut &bytes[..])
        };
        assert_eq!(with(0, &[State::UdpReplied as u8]), Ok(session));
        assert_eq!(with(0, &[State::TcpEstablished as u8]), Err(Broken::Value("state of a session")));
        assert_eq!(with(0, &[State::COUNT as u8]), Err(Broken::Value("state of a session")));
        assert_eq!(with(14, &[0xff, 0xff, 0x03]), Err(Broken::Value("VRF of a session")));
        assert_eq!(with(18, &[0x81, 0x80, 0x80, 0x80, 0x04]), Err(Broken::Value("time of a session")));
    }
}
