//! NLRI from and to bytes, one family at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::family::Family;
use super::nlri::{Esi, Evpn, Label, Membership, Nlri, Payload, Route};
use super::reader::Reader;
use tieline_names::{MacAddr, RouteDistinguisher};

/// One NLRI from the wire.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// A route.
    Route(Route),
    /// An EVPN route whose frame is whole and whose content is not: it can be
    /// skipped, and nothing it could name was ever taken.
    Skipped,
}

/// Reads all NLRI of a field. `take` gets each one.
///
/// # Errors
/// Where no further NLRI can be found in the field (RFC 7606 section 5.3).
pub(crate) fn decode(
    family: Family,
    bytes: &[u8],
    mut take: impl FnMut(Decoded),
) -> Result<(), &'static str> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        take(match family {
            Family::Evpn => evpn(&mut reader)?,
            _ => Decoded::Route(prefix_like(family, &mut reader)?),
        });
    }
    Ok(())
}

const CUT: &str = "NLRI cut short";

fn prefix_like(family: Family, reader: &mut Reader<'_>) -> Result<Route, &'static str> {
    let length = reader.u8().ok_or(CUT)?;
    let mut body = reader.sub(usize::from(length).div_ceil(8)).ok_or(CUT)?;
    let mut payload = Payload::default();
    let nlri = match family {
        Family::Ipv4Unicast => Nlri::Ipv4(ipv4_net(length, body.rest())?),
        Family::Ipv6Unicast => Nlri::Ipv6(ipv6_net(length, body.rest())?),
        Family::Vpnv4 | Family::Vpnv6 => {
            let length = length.checked_sub(88).ok_or("VPN prefix shorter than label and RD")?;
            payload.label = Some(Label(body.array().ok_or(CUT)?));
            let rd = RouteDistinguisher::from_bytes(body.array().ok_or(CUT)?);
            if family == Family::Vpnv4 {
                Nlri::Vpnv4(rd, ipv4_net(length, body.rest())?)
            } else {
                Nlri::Vpnv6(rd, ipv6_net(length, body.rest())?)
            }
        }
        Family::RouteTarget => Nlri::RouteTarget(
            Membership::from_wire(length, body.rest())
                .ok_or("route target membership of a length that does not exist")?,
        ),
        Family::Evpn => return Err("EVPN has no prefix form"),
    };
    Ok(Route { nlri, payload })
}

fn ipv4_net(length: u8, bytes: &[u8]) -> Result<Ipv4Net, &'static str> {
    let mut octets = [0; 4];
    octets.get_mut(..bytes.len()).ok_or("IPv4 prefix longer than 32 bits")?.copy_from_slice(bytes);
    let net = Ipv4Net::new(Ipv4Addr::from(octets), length).map_err(|_| "IPv4 prefix longer than 32 bits")?;
    Ok(net.trunc())
}

fn ipv6_net(length: u8, bytes: &[u8]) -> Result<Ipv6Net, &'static str> {
    let mut octets = [0; 16];
    octets.get_mut(..bytes.len()).ok_or("IPv6 prefix longer than 128 bits")?.copy_from_slice(bytes);
    let net = Ipv6Net::new(Ipv6Addr::from(octets), length).map_err(|_| "IPv6 prefix longer than 128 bits")?;
    Ok(net.trunc())
}

fn evpn(reader: &mut Reader<'_>) -> Result<Decoded, &'static str> {
    let kind = reader.u8().ok_or(CUT)?;
    let length = reader.u8().ok_or(CUT)?;
    let body = reader.take(usize::from(length)).ok_or(CUT)?;
    let route = match kind {
        1 => auto_discovery(Reader::new(body)),
        2 => mac_ip(Reader::new(body)),
        3 => multicast(Reader::new(body)),
        4 => segment(Reader::new(body)),
        5 => prefix(Reader::new(body)),
        _ => Some((Evpn::Other { kind, body: body.into() }, Payload::default())),
    };
    Ok(match route {
        Some((route, payload)) => Decoded::Route(Route { nlri: Nlri::Evpn(route), payload }),
        None => Decoded::Skipped,
    })
}

fn address(bits: u8, body: &mut Reader<'_>) -> Option<IpAddr> {
    match bits {
        32 => body.array::<4>().map(IpAddr::from),
        128 => body.array::<16>().map(IpAddr::from),
        _ => None,
    }
}

fn auto_discovery(mut body: Reader<'_>) -> Option<(Evpn, Payload)> {
    let (rd, esi, tag) = (RouteDistinguisher::from_bytes(body.array()?), Esi(body.array()?), body.u32()?);
    let payload = Payload::labelled(Label(body.array()?));
    body.is_empty().then_some((Evpn::AutoDiscovery { rd, esi, tag }, payload))
}

fn mac_ip(mut body: Reader<'_>) -> Option<(Evpn, Payload)> {
    let (rd, esi, tag) = (RouteDistinguisher::from_bytes(body.array()?), Esi(body.array()?), body.u32()?);
    if body.u8()? != 48 {
        return None;
    }
    let mac = MacAddr(body.array()?);
    let ip = match body.u8()? {
        0 => None,
        bits => Some(address(bits, &mut body)?),
    };
    let label = Some(Label(body.array()?));
    let label2 = if body.is_empty() { None } else { Some(Label(body.array()?)) };
    let payload = Payload { label, label2, esi, gateway: None };
    body.is_empty().then_some((Evpn::MacIp { rd, tag, mac, ip }, payload))
}

fn multicast(mut body: Reader<'_>) -> Option<(Evpn, Payload)> {
    let (rd, tag, bits) = (RouteDistinguisher::from_bytes(body.array()?), body.u32()?, body.u8()?);
    let originator = address(bits, &mut body)?;
    body.is_empty().then_some((Evpn::Multicast { rd, tag, originator }, Payload::default()))
}

fn segment(mut body: Reader<'_>) -> Option<(Evpn, Payload)> {
    let (rd, esi, bits) = (RouteDistinguisher::from_bytes(body.array()?), Esi(body.array()?), body.u8()?);
    let originator = address(bits, &mut body)?;
    body.is_empty().then_some((Evpn::Segment { rd, esi, originator }, Payload::default()))
}

fn prefix(mut body: Reader<'_>) -> Option<(Evpn, Payload)> {
    // RFC 9136 section 3.1: 34 bytes with IPv4, 58 with IPv6, no other.
    let wide = match body.len() {
        34 => false,
        58 => true,
        _ => return None,
    };
    let (rd, esi, tag, length) =
        (RouteDistinguisher::from_bytes(body.array()?), Esi(body.array()?), body.u32()?, body.u8()?);
    let bits = if wide { 128 } else { 32 };
    let net = address(bits, &mut body)?;
    let gateway = address(bits, &mut body)?;
    let label = Some(Label(body.array()?));
    let prefix = IpNet::new(net, length).ok()?.trunc();
    let gateway = (!gateway.is_unspecified()).then_some(gateway);
    Some((Evpn::Prefix { rd, tag, prefix }, Payload { label, label2: None, esi, gateway }))
}

/// Appends one NLRI. A withdrawal carries [`Label::WITHDRAW`] where VPN routes
/// have a label (RFC 8277 section 2.4).
pub(crate) fn encode(nlri: &Nlri, payload: &Payload, withdraw: bool, out: &mut Vec<u8>) {
    let label = match (withdraw, payload.label) {
        (false, Some(label)) => label,
        _ => Label::WITHDRAW,
    };
    match nlri {
        Nlri::Ipv4(net) => {
            out.push(net.prefix_len());
            push_bits(&net.addr().octets(), net.prefix_len(), out);
        }
        Nlri::Ipv6(net) => {
            out.push(net.prefix_len());
            push_bits(&net.addr().octets(), net.prefix_len(), out);
        }
        Nlri::Vpnv4(rd, net) => {
            out.push(88 + net.prefix_len());
            out.extend_from_slice(&label.0);
            out.extend_from_slice(&rd.bytes());
            push_bits(&net.addr().octets(), net.prefix_len(), out);
        }
        Nlri::Vpnv6(rd, net) => {
            out.push(88 + net.prefix_len());
            out.extend_from_slice(&label.0);
            out.extend_from_slice(&rd.bytes());
            push_bits(&net.addr().octets(), net.prefix_len(), out);
        }
        Nlri::RouteTarget(membership) => {
            out.push(membership.length());
            out.extend_from_slice(membership.bytes());
        }
        Nlri::Evpn(route) => encode_evpn(route, payload, out),
    }
}

fn push_bits(octets: &[u8], length: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&octets[..usize::from(length).div_ceil(8)]);
}

fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn encode_evpn(route: &Evpn, payload: &Payload, out: &mut Vec<u8>) {
    // A missing label is all zeros; the field is there in withdrawals too.
    let label = payload.label.unwrap_or(Label([0; 3])).0;
    let (kind, start) = (out.len(), out.len() + 2);
    out.extend_from_slice(&[0, 0]);
    out[kind] = match route {
        Evpn::AutoDiscovery { rd, esi, tag } => {
            out.extend_from_slice(&rd.bytes());
            out.extend_from_slice(&esi.0);
            out.extend_from_slice(&tag.to_be_bytes());
            out.extend_from_slice(&label);
            1
        }
        Evpn::MacIp { rd, tag, mac, ip } => {
            out.extend_from_slice(&rd.bytes());
            out.extend_from_slice(&payload.esi.0);
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(48);
            out.extend_from_slice(&mac.0);
            out.push(ip.map_or(0, bits_of));
            if let Some(ip) = ip {
                push_address(*ip, out);
            }
            out.extend_from_slice(&label);
            if let Some(label2) = payload.label2 {
                out.extend_from_slice(&label2.0);
            }
            2
        }
        Evpn::Multicast { rd, tag, originator } => {
            out.extend_from_slice(&rd.bytes());
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(bits_of(*originator));
            push_address(*originator, out);
            3
        }
        Evpn::Segment { rd, esi, originator } => {
            out.extend_from_slice(&rd.bytes());
            out.extend_from_slice(&esi.0);
            out.push(bits_of(*originator));
            push_address(*originator, out);
            4
        }
        Evpn::Prefix { rd, tag, prefix } => {
            out.extend_from_slice(&rd.bytes());
            out.extend_from_slice(&payload.esi.0);
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(prefix.prefix_len());
            push_address(prefix.addr(), out);
            // Both addresses of a type 5 route are of one family.
            match (prefix, payload.gateway) {
                (IpNet::V4(_), Some(IpAddr::V4(gateway))) => out.extend_from_slice(&gateway.octets()),
                (IpNet::V4(_), _) => out.extend_from_slice(&[0; 4]),
                (IpNet::V6(_), Some(IpAddr::V6(gateway))) => out.extend_from_slice(&gateway.octets()),
                (IpNet::V6(_), _) => out.extend_from_slice(&[0; 16]),
            }
            out.extend_from_slice(&label);
            5
        }
        Evpn::Other { kind, body } => {
            out.extend_from_slice(body.get(..255).unwrap_or(body));
            *kind
        }
    };
    // Every form above is shorter than 256 bytes.
    out[start - 1] = u8::try_from(out.len() - start).unwrap_or(u8::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::any_route;
    use proptest::prelude::*;

    fn read(family: Family, bytes: &[u8]) -> Result<Vec<Decoded>, &'static str> {
        let mut all = Vec::new();
        decode(family, bytes, |one| all.push(one)).map(|()| all)
    }

    #[test]
    fn a_vpn_prefix_is_label_rd_and_bits() {
        let bytes = [112, 0x00, 0x3e, 0x91, 0, 0, 0xfc, 0, 0, 0, 0, 1, 10, 2, 3];
        let all = read(Family::Vpnv4, &bytes).unwrap();
        let [Decoded::Route(route)] = &all[..] else { panic!("{all:?}") };
        assert_eq!(
            route.nlri,
            Nlri::Vpnv4(RouteDistinguisher::as2(64512, 1), "10.2.3.0/24".parse().unwrap())
        );
        assert_eq!(route.payload.label.unwrap().as_mpls(), 1001);
    }

    #[test]
    fn what_cannot_be_framed_is_an_error_and_the_rest_of_evpn_is_skipped() {
        assert!(read(Family::Ipv4Unicast, &[33, 1, 2, 3, 4, 5]).is_err());
        assert!(read(Family::Ipv6Unicast, &[129; 18]).is_err());
        assert!(read(Family::Ipv4Unicast, &[24, 10]).is_err());
        assert!(read(Family::Vpnv4, &[80; 11]).is_err());
        assert!(read(Family::RouteTarget, &[16, 0, 0]).is_err());
        assert!(read(Family::Evpn, &[2, 9, 0]).is_err());
        let all = read(Family::Evpn, &[2, 1, 0, 9, 1, 7]).unwrap();
        assert!(matches!(&all[0], Decoded::Skipped));
        let Decoded::Route(other) = &all[1] else { panic!("{all:?}") };
        assert_eq!(other.nlri, Nlri::Evpn(Evpn::Other { kind: 9, body: Box::new([7]) }));
    }

    proptest! {
        #[test]
        fn a_route_comes_back(route in any_route()) {
            let mut bytes = Vec::new();
            encode(&route.nlri, &route.payload, false, &mut bytes);
            let all = read(route.nlri.family(), &bytes).unwrap();
            let [Decoded::Route(back)] = &all[..] else { panic!("{all:?}") };
            prop_assert_eq!(back, &route);
            let mut again = Vec::new();
            encode(&back.nlri, &back.payload, true, &mut again);
            let all = read(route.nlri.family(), &again).unwrap();
            let [Decoded::Route(back)] = &all[..] else { panic!("{all:?}") };
            prop_assert_eq!(&back.nlri, &route.nlri);
        }

        #[test]
        fn any_bytes_are_read_or_refused(family in 0..6_usize, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(Family::ALL[family], &bytes);
        }
    }
}
