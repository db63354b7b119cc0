//! Looks at the bytes that an engine sends, before its speed counts.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{EtherType, LinkSlice, NetSlice, SlicedPacket, TransportSlice};

use crate::case::{Case, Tunnel, Way};
use crate::engines::Kind;
use crate::frames::{
    FABRIC_MAC, Flow, GATEWAY_MAC, LABEL, LOCAL, MPLS_PORT, REMOTE, REMOTE_MAC, REMOTE_ROUTER_MAC, SERVICE,
    TTL, VXLAN_PORT, WORKLOAD_MAC,
};

/// Checks everything that came out for these flows; each must have come out at
/// least once.
pub fn check(kind: Kind, case: &Case, flows: &[Flow], frames: &[Vec<u8>]) -> Result<()> {
    let known: HashMap<_, _> = flows.iter().map(|flow| (key_of(flow), flow)).collect();
    let mut seen = HashSet::new();
    for frame in frames {
        let checked = match kind {
            // It changes nothing but the MACs.
            Kind::Testpmd => mac_forwarded(case, frame, &known),
            Kind::Ovs => forwarded(case, frame, &known, TTL),
            Kind::Tieline | Kind::Reference => forwarded(case, frame, &known, TTL - 1),
        };
        match checked.with_context(|| format!("{} sent {}", kind.name(), hex(frame)))? {
            Some(flow) => seen.insert(*flow),
            None => continue,
        };
    }
    ensure!(
        seen.len() == flows.len(),
        "{} sent packets of {} flows out of {}, {} packets altogether",
        kind.name(),
        seen.len(),
        flows.len(),
        frames.len()
    );
    Ok(())
}

/// What tells flows apart in what comes out: a VRF shows in its tunnel alone.
type Key = (IpAddr, IpAddr, u16);

fn key_of(flow: &Flow) -> Key {
    (flow.source, flow.destination, flow.source_port)
}

type Known<'a> = HashMap<Key, &'a Flow>;

/// One packet of testpmd: where it goes is changed, what it is is not.
fn mac_forwarded<'a>(case: &Case, frame: &[u8], known: &Known<'a>) -> Result<Option<&'a Flow>> {
    if is_arp(frame) {
        return Ok(None);
    }
    ensure!(frame.get(..6) == Some(&REMOTE_MAC), "the destination MAC is not the one that was set");
    let inner = match case.way {
        Way::ToFabric => frame,
        Way::ToTenant => frame.get(50..).context("shorter than a tunnel's headers")?,
    };
    find(inner, known, TTL).map(Some)
}

/// One packet that was put into a tunnel or taken out of one; `None` is what
/// an engine sends on its own account.
fn forwarded<'a>(case: &Case, frame: &[u8], known: &Known<'a>, ttl: u8) -> Result<Option<&'a Flow>> {
    if is_arp(frame) || is_neighbour_discovery(frame) {
        return Ok(None);
    }
    if case.way == Way::ToTenant {
        // Open vSwitch bridges: it leaves the inner frame as it was.
        if ttl < TTL {
            check_macs(frame, WORKLOAD_MAC, GATEWAY_MAC)?;
        }
        return find(frame, known, ttl).map(Some);
    }
    check_macs(frame, REMOTE_MAC, FABRIC_MAC)?;
    let payload = outer_payload(case, frame)?;
    let (number, inner) = match case.tunnel {
        Tunnel::Vxlan => vxlan(payload)?,
        Tunnel::MplsUdp => mpls(payload)?,
    };
    let flow = match case.tunnel {
        Tunnel::Vxlan => {
            if ttl < TTL {
                ensure!(inner.get(..6) == Some(&REMOTE_ROUTER_MAC), "the inner MAC is not the far router's");
            }
            find(inner, known, ttl)?
        }
        Tunnel::MplsUdp => find_ip(&SlicedPacket::from_ip(inner).context("the inner packet")?, known, ttl)?,
    };
    match case.tunnel {
        Tunnel::Vxlan => {
            let wanted = flow.vnis(case);
            ensure!(wanted.contains(&number), "VNI {number} instead of {wanted:?}");
        }
        Tunnel::MplsUdp => ensure!(number == LABEL, "label {number} instead of {LABEL}"),
    }
    Ok(Some(flow))
}

fn check_macs(frame: &[u8], destination: [u8; 6], source: [u8; 6]) -> Result<()> {
    ensure!(frame.get(..6) == Some(&destination), "the destination MAC is wrong");
    ensure!(frame.get(6..12) == Some(&source), "the source MAC is wrong");
    Ok(())
}

/// What the tunnel carries, after a look at everything around it.
fn outer_payload<'a>(case: &Case, frame: &'a [u8]) -> Result<&'a [u8]> {
    let parsed = SlicedPacket::from_ethernet(frame).context("the outer packet")?;
    let Some(NetSlice::Ipv4(ip)) = &parsed.net else { bail!("the outer packet is not IPv4") };
    let header = ip.header();
    ensure!(
        (header.source_addr(), header.destination_addr()) == (LOCAL, REMOTE),
        "the tunnel's addresses are wrong"
    );
    ensure!(
        header.to_header().calc_header_checksum() == header.header_checksum(),
        "the checksum of the outer IPv4 header is wrong"
    );
    let Some(TransportSlice::Udp(udp)) = &parsed.transport else { bail!("the outer packet is not UDP") };
    let port = match case.tunnel {
        Tunnel::Vxlan => VXLAN_PORT,
        Tunnel::MplsUdp => MPLS_PORT,
    };
    ensure!(udp.destination_port() == port, "UDP port {} instead of {port}", udp.destination_port());
    ensure!(udp.checksum() == 0, "the outer UDP checksum is {:#06x} and not zero", udp.checksum());
    Ok(udp.payload())
}

/// VNI and inner frame (RFC 7348, clause 5).
fn vxlan(payload: &[u8]) -> Result<(u32, &[u8])> {
    let (header, inner) = payload.split_at_checked(8).context("no room for a VXLAN header")?;
    ensure!(header[..4] == [8, 0, 0, 0] && header[7] == 0, "VXLAN flags or reserved bits are wrong");
    Ok((u32::from_be_bytes([0, header[4], header[5], header[6]]), inner))
}

/// Label and inner packet of a stack of one (RFC 3032, clause 2.1).
fn mpls(payload: &[u8]) -> Result<(u32, &[u8])> {
    let (entry, inner) = payload.split_first_chunk::<4>().context("no room for a label")?;
    let entry = u32::from_be_bytes(*entry);
    ensure!(entry & 0x100 != 0, "there is more than one label");
    Ok((entry >> 12, inner))
}

/// The flow of a frame.
fn find<'a>(frame: &[u8], known: &Known<'a>, ttl: u8) -> Result<&'a Flow> {
    find_ip(&SlicedPacket::from_ethernet(frame).context("the inner frame")?, known, ttl)
}

fn find_ip<'a>(packet: &SlicedPacket<'_>, known: &Known<'a>, ttl: u8) -> Result<&'a Flow> {
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { bail!("the inner packet is not UDP") };
    let (source, destination, found, sum) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            ensure!(
                header.calc_header_checksum() == ip.header().header_checksum(),
                "the checksum of the inner IPv4 header is wrong"
            );
            let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload())?;
            (IpAddr::from(header.source), IpAddr::from(header.destination), header.time_to_live, sum)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload())?;
            (IpAddr::from(header.source), IpAddr::from(header.destination), header.hop_limit, sum)
        }
        _ => bail!("the inner packet is not IP"),
    };
    ensure!(found == ttl, "TTL {found} instead of {ttl}");
    ensure!(udp.checksum() == sum, "UDP checksum {:#06x} instead of {sum:#06x}", udp.checksum());
    ensure!(udp.destination_port() == SERVICE, "the destination port is {}", udp.destination_port());
    let key = (source, destination, udp.source_port());
    known.get(&key).copied().with_context(|| format!("nobody sent {key:?}"))
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&EtherType::ARP.0.to_be_bytes())
}

/// Messages that a network stack sends on its own account (RFC 4861, 3810).
fn is_neighbour_discovery(frame: &[u8]) -> bool {
    let parsed = SlicedPacket::from_ethernet(frame);
    parsed.is_ok_and(|packet| {
        matches!(packet.link, Some(LinkSlice::Ethernet2(_)))
            && matches!(packet.transport, Some(TransportSlice::Icmpv6(_)))
    })
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{ROUTER_MAC, VNI, flows, frame};
    use etherparse::PacketBuilder;

    /// What a gateway should make of a tenant's frame.
    fn encapsulated(inner: &[u8], vni: u32, port: u16) -> Vec<u8> {
        let mut routed = [REMOTE_ROUTER_MAC, ROUTER_MAC].concat();
        routed.extend_from_slice(&inner[12..]);
        routed[22] -= 1;
        // One less in the upper half of a word is one more in its complement.
        let sum = u16::from_be_bytes([routed[24], routed[25]]);
        let (sum, carry) = sum.overflowing_add(0x100);
        routed[24..26].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        let mut payload = vec![8, 0, 0, 0];
        payload.extend_from_slice(&(vni << 8).to_be_bytes());
        payload.extend_from_slice(&routed);
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(FABRIC_MAC, REMOTE_MAC)
            .ipv4(LOCAL.octets(), REMOTE.octets(), 64)
            .udp(50_000, port)
            .write(&mut bytes, &payload)
            .expect("fits");
        bytes[40..42].fill(0);
        bytes
    }

    fn outcome(change: impl Fn(&mut Vec<u8>), vni: u32, port: u16) -> Result<()> {
        let case = Case::named("stateless_1k").expect("a case");
        let flows = flows(&Case { flows: 3, ..case });
        let frames: Vec<_> = flows
            .iter()
            .map(|flow| {
                let mut bytes = encapsulated(&frame(&case, flow, 0), vni, port);
                change(&mut bytes);
                bytes
            })
            .collect();
        check(Kind::Tieline, &case, &flows, &frames)
    }

    #[test]
    fn good_packets_pass_and_each_wrong_field_is_told() {
        outcome(|_| {}, VNI, VXLAN_PORT).expect("all is well");
        let told = |outcome: Result<()>| format!("{:#}", outcome.expect_err("something is wrong"));
        assert!(told(outcome(|_| {}, VNI + 1, VXLAN_PORT)).contains("VNI 5002"));
        assert!(told(outcome(|_| {}, VNI, 4790)).contains("UDP port 4790"));
        // Outer destination MAC, outer TTL, inner TTL, inner payload.
        assert!(told(outcome(|bytes| bytes[5] ^= 1, VNI, VXLAN_PORT)).contains("destination MAC"));
        assert!(told(outcome(|bytes| bytes[22] ^= 1, VNI, VXLAN_PORT)).contains("outer IPv4"));
        assert!(told(outcome(|bytes| bytes[72] += 1, VNI, VXLAN_PORT)).contains("inner IPv4"));
        assert!(told(outcome(|bytes| bytes[100] ^= 1, VNI, VXLAN_PORT)).contains("UDP checksum"));
    }

    #[test]
    fn a_flow_that_is_missing_is_told() {
        let case = Case::named("stateless_1k").expect("a case");
        let flows = flows(&Case { flows: 3, ..case });
        let frames = vec![encapsulated(&frame(&case, &flows[0], 0), VNI, VXLAN_PORT)];
        let error = check(Kind::Tieline, &case, &flows, &frames).expect_err("two are missing");
        assert!(error.to_string().contains("1 flows out of 3"), "{error}");
    }
}
