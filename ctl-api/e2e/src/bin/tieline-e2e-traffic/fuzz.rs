//! Random, mutated and valid frames, as fast as the socket takes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::raw::RawSocket;

/// Where frames are sent.
#[derive(Debug)]
pub struct Plan {
    destination: [u8; 6],
    source: [u8; 6],
    pairs: Vec<(IpAddr, IpAddr)>,
}

impl Plan {
    /// From the station's MAC, the sender's own, and pairs of source and
    /// destination addresses.
    pub fn parse(destination: &str, source: &str, addresses: &[&str]) -> Result<Self> {
        let (destination, source) = (parse_mac(destination)?, parse_mac(source)?);
        let mut pairs = Vec::new();
        for pair in addresses.chunks(2) {
            let [source, to] = pair else { anyhow::bail!("addresses come in pairs") };
            let (source, to): (IpAddr, IpAddr) = (source.parse()?, to.parse()?);
            ensure!(source.is_ipv4() == to.is_ipv4(), "{source} and {to} are of different families");
            pairs.push((source, to));
        }
        Ok(Self { destination, source, pairs })
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next().context("a short MAC")?, 16).context("a MAC")?;
    }
    Ok(mac)
}

/// Sends for some seconds, and prints how many frames there were.
pub fn run(device: &str, seconds: u64, seed: u64, plan: &Plan) -> Result<()> {
    let socket = RawSocket::open(device)?;
    println!("ready");
    let mut random = Random(seed | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut sent = 0u64;
    while Instant::now() < end {
        for _ in 0..64 {
            sent += u64::from(socket.send(&frame(&mut random, plan)));
        }
        // The point is variety, not speed: leave the cores to the gateway.
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("sent {sent}");
    Ok(())
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }
}

fn frame(random: &mut Random, plan: &Plan) -> Vec<u8> {
    let mut frame = match random.below(8) {
        0 => {
            let length = 14 + random.below(1400);
            return random.bytes(length);
        }
        _ => plan.destination.to_vec(),
    };
    match random.below(8) {
        0 => frame.extend([0x02, 0, 0, 0, 0xfe, random.below(4) as u8]),
        _ => frame.extend(plan.source),
    }
    match random.below(16) {
        0 => frame.extend([0x81, 0x00, 0x00, random.below(256) as u8]),
        1 => frame.extend([0x88, 0xa8, 0x00, random.below(256) as u8, 0x81, 0x00, 0x00, 0x05]),
        _ => {}
    }
    if plan.pairs.is_empty() {
        let length = 2 + random.below(200);
        let noise = random.bytes(length);
        frame.extend(noise);
        return frame;
    }
    let pair = plan.pairs[random.below(plan.pairs.len())];
    let inner = plan.pairs[random.below(plan.pairs.len())];
    let (protocol, payload) = payload(random, inner);
    let (ethertype, packet) = ip(random, pair, protocol, &payload);
    frame.extend(ethertype);
    let start = frame.len();
    frame.extend(packet);
    // Half of the frames are damaged, each in a few places.
    if random.below(2) == 0 {
        for _ in 0..=random.below(4) {
            let at = start + random.below((frame.len() - start).min(96));
            frame[at] = (random.next() >> 32) as u8;
        }
    }
    if random.below(8) == 0 {
        frame.truncate(14 + random.below(frame.len() - 14));
    }
    frame
}

/// A transport header with data, or a tunnel with a packet of `inner` inside.
fn payload(random: &mut Random, inner: (IpAddr, IpAddr)) -> (u8, Vec<u8>) {
    let length = random.below(300);
    let data = random.bytes(length);
    match random.below(8) {
        0 | 1 => {
            let to = 1024 + random.below(64) as u16;
            (17, udp(random, to, &data))
        }
        2 | 3 => {
            let mut segment = vec![0; 20];
            segment[0..2].copy_from_slice(&(random.next() as u16 | 1024).to_be_bytes());
            segment[2..4].copy_from_slice(&(random.below(1024) as u16).to_be_bytes());
            segment[12] = 5 << 4;
            segment[13] = (random.next() >> 40) as u8;
            segment.extend(data);
            (6, segment)
        }
        4 => {
            let mut message = vec![random.below(16) as u8, random.below(4) as u8, 0, 0, 0, 1, 0, 1];
            message.extend(data);
            (if inner.0.is_ipv4() { 1 } else { 58 }, message)
        }
        5 => {
            let label = tunnelled(random, inner, &data);
            (17, udp(random, 6635, &label))
        }
        6 => {
            let mut header = vec![0, 0, 0x88, 0x47];
            header.extend(tunnelled(random, inner, &data));
            (47, header)
        }
        _ => {
            let mut header = vec![0x08, 0, 0, 0, 0, 0x13, random.below(256) as u8, 0];
            header.extend([0x02, 0, 0, 0, 0xff, 0x01, 0x02, 0, 0, 0, 0xff, 0x02]);
            let payload = udp(random, 53, &data);
            let (ethertype, packet) = ip(random, inner, 17, &payload);
            header.extend(ethertype);
            header.extend(packet);
            (17, udp(random, 4789, &header))
        }
    }
}

/// An MPLS label stack entry, mostly one of a test's VRFs, and a packet.
fn tunnelled(random: &mut Random, inner: (IpAddr, IpAddr), data: &[u8]) -> Vec<u8> {
    let label = [1001, 1002, 2001, 2002, random.below(1 << 20)][random.below(5)] as u32;
    let entry = label << 12 | 1 << 8 | 64;
    let mut bytes = entry.to_be_bytes().to_vec();
    let payload = udp(random, 53, data);
    let (_, packet) = ip(random, inner, 17, &payload);
    bytes.extend(packet);
    bytes
}

fn udp(random: &mut Random, to: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + data.len());
    datagram.extend((random.next() as u16 | 0xc000).to_be_bytes());
    datagram.extend(to.to_be_bytes());
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    // No checksum (RFC 768); over IPv6 that makes it wrong.
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

fn ip(random: &mut Random, pair: (IpAddr, IpAddr), protocol: u8, payload: &[u8]) -> ([u8; 2], Vec<u8>) {
    match pair {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            let fragment = if random.below(8) == 0 { random.next() as u16 & 0x3fff } else { 0 };
            ([0x08, 0x00], ipv4(source, to, protocol, fragment, payload))
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => ([0x86, 0xdd], ipv6(source, to, protocol, payload)),
        _ => ([0x08, 0x06], payload.to_vec()),
    }
}

fn ipv4(source: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend([0, 1]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

fn ipv6(source: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([protocol, 64]);
    header.extend(source.octets());
    header.extend(to.octets());
    header.extend(payload);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_plan_makes_frames_of_sane_length() {
        let plans = [
            Plan::parse("02:00:00:00:00:01", "02:00:00:00:00:02", &[]).expect("a plan"),
            Plan::parse(
                "02:00:00:00:00:01",
                "02:00:00:00:00:02",
                &["10.1.0.10", "10.2.0.10", "2001:db8::1", "2001:db8::2"],
            )
            .expect("a plan"),
        ];
        let mut random = Random(42);
        for plan in &plans {
            for _ in 0..20_000 {
                let frame = frame(&mut random, plan);
                assert!((14..=1514).contains(&frame.len()), "{}", frame.len());
            }
        }
    }

    #[test]
    fn a_plan_needs_pairs_of_one_family() {
        assert!(Plan::parse("02:00:00:00:00:01", "02:00:00:00:00:02", &["10.1.0.10"]).is_err());
        assert!(
            Plan::parse("02:00:00:00:00:01", "02:00:00:00:00:02", &["10.1.0.10", "2001:db8::1"]).is_err()
        );
        assert!(Plan::parse("02:00:00", "02:00:00:00:00:02", &[]).is_err());
    }

    #[test]
    fn an_ipv4_header_sums_to_zero() {
        let packet =
            ipv4("10.1.0.10".parse().expect("v4"), "10.2.0.10".parse().expect("v4"), 17, 0, &[1, 2, 3]);
        let sum: u32 =
            packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
