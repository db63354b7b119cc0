//! The frames of a case, and what has to come out for each of them.
//!
//! ```text
//!   workload 10.1.0.10, 2001:db8:1::10        far end 10.2.0.0/16, 2001:db8:2::/48
//!        |  gateway 198.18.0.1 ====== tunnel ====== 198.18.0.2  |
//!        +-- red, VNI 5001 (VRF N: 10000 + N), label 1001 ------+
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, VlanId};
use tieline_bench_micro::random::Random;

use crate::case::{Case, Traffic, Way};

/// The workload's MAC.
pub const WORKLOAD_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 0xa];
/// The gateway's MAC towards workloads.
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 1];
/// The gateway's MAC on the fabric.
pub const FABRIC_MAC: [u8; 6] = [2, 0, 0, 0, 0xf, 1];
/// The far end's MAC on the fabric.
pub const REMOTE_MAC: [u8; 6] = [2, 0, 0, 0, 0xf, 2];
/// The gateway's router MAC, for layer 3 over VXLAN.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0xe, 1];
/// The far end's router MAC.
pub const REMOTE_ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0xe, 2];
/// The gateway's tunnel endpoint.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The far end's.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The workload's address.
pub const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 10);
/// The workload's IPv6 address.
pub const WORKLOAD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// VNI of the only VRF, both ways.
pub const VNI: u32 = 5001;
/// VNI of the first of several VRFs.
pub const FIRST_VNI: u32 = 10_000;
/// Label of the only VRF at the far end.
pub const LABEL: u32 = 2001;
/// VNIs that many routes are spread over.
pub const ROUTE_VNIS: u32 = 64;
/// Destination port of all flows; the rules allow it.
pub const SERVICE: u16 = 4433;
/// Hop limit of the inner packets.
pub const TTL: u8 = 64;
/// UDP port of VXLAN.
pub const VXLAN_PORT: u16 = 4789;
/// UDP port of MPLS-in-UDP.
pub const MPLS_PORT: u16 = 6635;

/// Sizes of an IMIX in order, bytes without FCS: 7 to 4 to 1.
const IMIX: [usize; 12] = [60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60];

/// One flow, as its packets enter the gateway's routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// Outer and inner VLAN ID, if the frame is tagged.
    pub vlans: Option<(u16, u16)>,
    /// Which VRF it belongs to, from 0.
    pub vrf: u32,
}

impl Flow {
    /// VNIs that its packets may go out with.
    pub fn vnis(&self, case: &Case) -> std::ops::Range<u32> {
        match case {
            Case { routes: 1.., .. } => VNI..VNI + ROUTE_VNIS,
            Case { vrfs: 2.., .. } => FIRST_VNI + self.vrf..FIRST_VNI + self.vrf + 1,
            _ => VNI..VNI + 1,
        }
    }
}

/// The VLAN IDs of a VRF's interface.
pub fn vlans_of(vrf: u32) -> (u16, u16) {
    (1 + (vrf / 1024) as u16, 1 + (vrf % 1024) as u16)
}

/// Prefixes of a table of so many routes: address and length, each once.
pub fn prefixes(count: u32) -> Vec<(Ipv4Addr, u8)> {
    let mut random = Random::new(17);
    let mut found = BTreeSet::new();
    let mut all = Vec::with_capacity(count as usize);
    while all.len() < count as usize {
        let length = match random.below(100) {
            0 => 16,
            1..6 => 17 + random.below(3) as u8,
            6..30 => 20 + random.below(3) as u8,
            30..45 => 23,
            45..75 => 24,
            _ => 25 + random.below(4) as u8,
        };
        // 16.0.0.0 to 111.255.255.255: nothing there has a meaning of its own.
        let address = (16 << 24) + random.below(96 << 24) as u32;
        let prefix = (address & (u32::MAX << (32 - length)), length);
        if found.insert(prefix) {
            all.push((Ipv4Addr::from_bits(prefix.0), length));
        }
    }
    all
}

/// The flows of a case, in the order of the file: a random one.
pub fn flows(case: &Case) -> Vec<Flow> {
    let mut random = Random::new(42);
    let routes = prefixes(case.routes);
    let mut flows: Vec<Flow> = (0..case.flows).map(|n| flow(case, n, &routes, &mut random)).collect();
    for last in (1..flows.len()).rev() {
        flows.swap(last, random.below(last as u64 + 1) as usize);
    }
    flows
}

fn flow(case: &Case, n: u32, routes: &[(Ipv4Addr, u8)], random: &mut Random) -> Flow {
    let vrf = n % case.vrfs;
    let (low, high) = (n & 0xFFFF, (n >> 16) as u16);
    let source_port = 1024 + (low.wrapping_mul(7919) % 4096) as u16 * 15 + high;
    let far = match case.traffic {
        Traffic::Ipv6 => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 2, low as u16, 0, 0, 0, 1)),
        _ if !routes.is_empty() => {
            let (network, length) = routes[random.below(routes.len() as u64) as usize];
            let host = random.below(1 << (32 - length)) as u32;
            IpAddr::from(Ipv4Addr::from_bits(network.to_bits() | host))
        }
        _ => IpAddr::from(Ipv4Addr::from_bits(10 << 24 | 2 << 16 | low)),
    };
    let near = if far.is_ipv6() { IpAddr::from(WORKLOAD6) } else { IpAddr::from(WORKLOAD) };
    let (source, destination) = match case.way {
        Way::ToFabric => (near, far),
        Way::ToTenant => (far, near),
    };
    let vlans = (case.vrfs > 1).then(|| vlans_of(vrf));
    Flow { source, destination, source_port, vlans, vrf }
}

/// Bytes of the frame at this place of the file, without tunnel and tags.
fn size(case: &Case, place: usize) -> usize {
    match case.traffic {
        Traffic::Smallest => 60,
        Traffic::Ipv6 => 62,
        Traffic::Imix => IMIX[place % IMIX.len()],
    }
}

/// The frame of a flow at this place of the file.
pub fn frame(case: &Case, flow: &Flow, place: usize) -> Vec<u8> {
    match case.way {
        Way::ToFabric => inner(flow, WORKLOAD_MAC, GATEWAY_MAC, size(case, place)),
        Way::ToTenant => {
            let inner = inner(flow, REMOTE_ROUTER_MAC, ROUTER_MAC, size(case, place));
            let mut payload = vec![8, 0, 0, 0];
            payload.extend_from_slice(&(VNI << 8).to_be_bytes());
            payload.extend_from_slice(&inner);
            let step = PacketBuilder::ethernet2(REMOTE_MAC, FABRIC_MAC)
                .ipv4(REMOTE.octets(), LOCAL.octets(), 64)
                .udp(49_152 + flow.source_port % 16_384, VXLAN_PORT);
            let mut frame = written(step, &payload);
            // RFC 7348: the UDP checksum should be zero.
            frame[40..42].fill(0);
            frame
        }
    }
}

fn inner(flow: &Flow, from: [u8; 6], to: [u8; 6], size: usize) -> Vec<u8> {
    let headers = match flow.destination {
        IpAddr::V4(_) => 42,
        IpAddr::V6(_) => 62,
    };
    let payload = vec![0x5A; size.saturating_sub(headers)];
    let ethernet = PacketBuilder::ethernet2(from, to);
    let id = |vlan: u16| VlanId::try_new(vlan).unwrap_or(VlanId::ZERO);
    let ip: PacketBuilderStep<IpHeaders> = match flow.vlans {
        None => match (flow.source, flow.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), TTL)
            }
            (source, destination) => ethernet.ipv6(octets6(source), octets6(destination), TTL),
        },
        Some((outer, inner)) => {
            let step = ethernet.double_vlan(id(outer), id(inner));
            match (flow.source, flow.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    step.ipv4(source.octets(), destination.octets(), TTL)
                }
                (source, destination) => step.ipv6(octets6(source), octets6(destination), TTL),
            }
        }
    };
    written(ip.udp(flow.source_port, SERVICE), &payload)
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn written(step: PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(step.size(payload.len()));
    step.write(&mut bytes, payload).expect("a payload below 64 KiB fits, and a vector takes all");
    bytes
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;
    use crate::case::CASES;

    #[test]
    fn every_flow_of_a_case_is_another() {
        for case in CASES.iter().filter(|case| case.flows <= 100_000 && case.routes == 0) {
            let flows: BTreeSet<Flow> = flows(case).into_iter().collect();
            assert_eq!(flows.len(), case.flows as usize, "{}", case.name);
        }
    }

    #[test]
    fn frames_have_the_size_and_the_ports_of_their_case() {
        for case in
            CASES.iter().filter(|case| case.flows <= 1000 || case.vrfs > 1 || case.way == Way::ToTenant)
        {
            let small = Case { flows: 4096, routes: 0, ..*case };
            let flow = flows(&small)[5];
            let frame = frame(&small, &flow, 0);
            let tags = if case.vrfs > 1 { 8 } else { 0 };
            let tunnel = if case.way == Way::ToTenant { 50 } else { 0 };
            assert_eq!(frame.len(), 60 + tags + tunnel, "{}", case.name);
            let parsed = SlicedPacket::from_ethernet(&frame).expect("a good frame");
            let Some(TransportSlice::Udp(udp)) = parsed.transport else { panic!("UDP") };
            let port = if case.way == Way::ToTenant { VXLAN_PORT } else { SERVICE };
            assert_eq!(udp.destination_port(), port);
            assert!(matches!(parsed.net, Some(NetSlice::Ipv4(_))));
        }
    }

    #[test]
    fn an_imix_is_seven_to_four_to_one() {
        let count = |size| IMIX.iter().filter(|&&of| of == size).count();
        assert_eq!((count(60), count(590), count(1514)), (7, 4, 1));
    }

    #[test]
    fn prefixes_are_distinct_and_have_no_host_bits() {
        let all = prefixes(20_000);
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (20_000, 20_000));
        for (address, length) in all {
            assert!((16..=28).contains(&length));
            assert_eq!(address.to_bits() << length, 0, "{address}/{length}");
        }
    }
}
