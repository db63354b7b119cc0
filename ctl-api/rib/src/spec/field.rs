//! Texts and numbers of single fields.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;
use tieline_engine::types::{Label, MacAddr, SgId, Vni};
use tieline_proto::v1;

use crate::refusal::Refusal;
use crate::spec::{Encapsulation, Encapsulations};
use tieline_names::Name;

/// Most security groups of one interface or route.
pub const MAX_SECURITY_GROUPS: usize = 64;
/// Most characters of a client's text that a refusal repeats.
const MAX_QUOTED: usize = 64;
/// Smallest and largest MTU, in bytes.
pub const MTU: std::ops::RangeInclusive<u32> = 576..=9000;

/// A client's text in quotes for a sentence, cut to `MAX_QUOTED` characters.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// Refuses what is no name.
pub fn check_name(field: &str, text: &str) -> Result<(), Refusal> {
    if Name::is_valid(text) {
        return Ok(());
    }
    Err(Refusal::invalid(
        field,
        format!("{} is not a name: use 1 to 63 characters of a-z A-Z 0-9 . _ - /", quoted(text)),
    ))
}

/// A name.
pub fn name(field: &str, text: &str) -> Result<Name, Refusal> {
    check_name(field, text)?;
    Name::new(text).ok_or_else(|| Refusal::invalid(field, "not a name"))
}

/// An address that one host can have.
pub fn host_address(field: &str, text: &str) -> Result<IpAddr, Refusal> {
    let address: IpAddr = text.parse().map_err(|_| {
        Refusal::invalid(
            field,
            format!("{} is not an address: expected one such as 198.18.0.1 or 2001:db8::1", quoted(text)),
        )
    })?;
    match unroutable(IpNet::from(address)) {
        Some(what) => Err(Refusal::invalid(field, format!("{address} is {what}: use a unicast address"))),
        None => Ok(address),
    }
}

/// An address with the length of its subnet, such as `10.1.0.1/24`.
pub fn interface_address(field: &str, text: &str) -> Result<IpNet, Refusal> {
    let net: IpNet = text.parse().map_err(|_| {
        Refusal::invalid(
            field,
            format!("{} is not an address with a length: expected one such as 10.1.0.1/24", quoted(text)),
        )
    })?;
    if net.prefix_len() == 0 {
        return Err(Refusal::invalid(field, format!("{net} has length 0: state the subnet's length")));
    }
    if let Some(what) = unroutable(IpNet::from(net.addr())) {
        return Err(Refusal::invalid(field, format!("{net} is {what}: use a unicast address")));
    }
    let is_reserved = match net {
        IpNet::V4(v4) if v4.prefix_len() < 31 => v4.addr() == v4.network() || v4.addr() == v4.broadcast(),
        _ => false,
    };
    if is_reserved {
        let sentence = format!("{net} is the subnet's own or broadcast address: use one between them");
        return Err(Refusal::invalid(field, sentence));
    }
    Ok(net)
}

/// A prefix without host bits.
pub fn prefix(field: &str, text: &str) -> Result<IpNet, Refusal> {
    let net: IpNet = text.parse().map_err(|_| {
        Refusal::invalid(
            field,
            format!("{} is not a prefix: expected one such as 10.1.0.0/16 or 2001:db8::/32", quoted(text)),
        )
    })?;
    check_host_bits(net).map_err(|sentence| Refusal::invalid(field, sentence))?;
    Ok(net)
}

fn check_host_bits(net: IpNet) -> Result<(), String> {
    if net.addr() == net.network() {
        return Ok(());
    }
    Err(format!("{net} has host bits set: did you mean {}?", net.trunc()))
}

/// A prefix that packets may be routed to.
///
/// # Errors
/// A sentence that says why they may not.
pub fn check_routable_prefix(net: IpNet) -> Result<(), String> {
    check_host_bits(net)?;
    match unroutable(net) {
        Some(what) => Err(format!("{net} is {what}, which is never routed")),
        None => Ok(()),
    }
}

/// A prefix that packets may be routed to.
pub fn routable_prefix(field: &str, text: &str) -> Result<IpNet, Refusal> {
    let net = prefix(field, text)?;
    check_routable_prefix(net).map_err(|sentence| Refusal::invalid(field, sentence))?;
    Ok(net)
}

/// What keeps a prefix from being routed (RFC 6890), if anything does.
fn unroutable(net: IpNet) -> Option<&'static str> {
    let length = net.prefix_len();
    match net.addr() {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            match first {
                0 if length >= 8 => Some("in \"this network\" (0.0.0.0/8)"),
                127 if length >= 8 => Some("loopback"),
                169 if length >= 16 && address.is_link_local() => Some("link-local"),
                224..=239 if length >= 4 => Some("multicast"),
                255 if address == Ipv4Addr::BROADCAST => Some("the broadcast address"),
                _ => None,
            }
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            if length == 128 && address.is_unspecified() {
                Some("the unspecified address")
            } else if length == 128 && address.is_loopback() {
                Some("loopback")
            } else if length >= 10 && segments[0] & 0xffc0 == 0xfe80 {
                Some("link-local")
            } else if length >= 8 && segments[0] >> 8 == 0xff {
                Some("multicast")
            } else if length >= 96 && segments[..6] == [0, 0, 0, 0, 0, 0xffff] {
                Some("an IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2)")
            } else {
                None
            }
        }
    }
}

/// A MAC address of one station; empty is `None`.
pub fn mac(field: &str, text: &str) -> Result<Option<MacAddr>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let mac = MacAddr::from_str(text)
        .map_err(|error| Refusal::invalid(field, format!("{} is {error}", quoted(text))))?;
    if !mac.is_unicast() {
        return Err(Refusal::invalid(field, format!("{mac} is not the address of one station")));
    }
    Ok(Some(mac))
}

/// An MPLS label; 0 is `None`.
pub fn label(field: &str, value: u32) -> Result<Option<Label>, Refusal> {
    if value == 0 {
        return Ok(None);
    }
    Label::new(value).map(Some).ok_or_else(|| {
        Refusal::invalid(field, format!("{value} is not a usable label: use 16 to 1048575, or 0 for none"))
    })
}

/// A VXLAN network identifier; 0 is `None`.
pub fn vni(field: &str, value: u32) -> Result<Option<Vni>, Refusal> {
    if value == 0 {
        return Ok(None);
    }
    Vni::new(value).map(Some).ok_or_else(|| {
        Refusal::invalid(field, format!("{value} is not a VNI: use 1 to 16777215, or 0 for none"))
    })
}

/// An MTU in bytes; 0 is `None`.
pub fn mtu(field: &str, value: u32) -> Result<Option<u16>, Refusal> {
    if value == 0 {
        return Ok(None);
    }
    match u16::try_from(value) {
        Ok(mtu) if MTU.contains(&value) => Ok(Some(mtu)),
        _ => {
            Err(Refusal::invalid(field, format!("{value} is not a usable MTU: use 576 to 9000 bytes, or 0")))
        }
    }
}

/// Security group IDs, sorted, each once.
pub fn security_groups(field: &str, ids: &[u32]) -> Result<Vec<SgId>, Refusal> {
    if ids.len() > MAX_SECURITY_GROUPS {
        let sentence = format!("{} security groups are too many: at most {MAX_SECURITY_GROUPS}", ids.len());
        return Err(Refusal::invalid(field, sentence));
    }
    if let Some(at) = ids.iter().position(|id| *id == 0) {
        return Err(Refusal::invalid(format!("{field}[{at}]"), "0 is not a security group ID"));
    }
    let mut groups: Vec<SgId> = ids.iter().map(|id| SgId(*id)).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// Encapsulations in the order of preference.
pub fn encapsulations(field: &str, values: &[i32]) -> Result<Encapsulations, Refusal> {
    let mut list = Encapsulations::default();
    for (at, value) in values.iter().enumerate() {
        let encapsulation = match v1::Encapsulation::try_from(*value) {
            Ok(v1::Encapsulation::MplsUdp) => Encapsulation::MplsUdp,
            Ok(v1::Encapsulation::MplsGre) => Encapsulation::MplsGre,
            Ok(v1::Encapsulation::Vxlan) => Encapsulation::Vxlan,
            Ok(v1::Encapsulation::Unspecified) | Err(_) => {
                let sentence = format!("{value} is not an encapsulation: use MPLS_UDP, MPLS_GRE or VXLAN");
                return Err(Refusal::invalid(format!("{field}[{at}]"), sentence));
            }
        };
        if !list.push(encapsulation) {
            return Err(Refusal::invalid(format!("{field}[{at}]"), format!("{encapsulation} stands twice")));
        }
    }
    Ok(list)
}

/// A list of texts that each parse, sorted, each value once.
pub fn sorted_set<T>(field: &str, texts: &[String], most: usize) -> Result<Vec<T>, Refusal>
where
    T: FromStr + Ord,
    T::Err: std::fmt::Display,
{
    if texts.len() > most {
        return Err(Refusal::invalid(field, format!("{} entries are too many: at most {most}", texts.len())));
    }
    let mut values = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        values.push(parsed(|| format!("{field}[{at}]"), text)?);
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

/// A text that parses; the error says what was expected.
pub fn parsed<T>(field: impl Fn() -> String, text: &str) -> Result<T, Refusal>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Refusal::invalid(field(), format!("{}: {error}", quoted(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martians_are_not_routed_but_defaults_and_covering_prefixes_are() {
        for bad in [
            "127.0.0.0/8",
            "224.0.0.0/4",
            "239.1.0.0/16",
            "169.254.0.0/16",
            "0.0.0.0/8",
            "0.0.0.0/32",
            "255.255.255.255/32",
            "::/128",
            "::1/128",
            "fe80::/10",
            "fe80::/64",
            "ff00::/8",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(routable_prefix("f", bad).is_err(), "{bad}");
        }
        for good in ["0.0.0.0/0", "::/0", "128.0.0.0/1", "10.0.0.0/8", "2001:db8::/32", "169.0.0.0/8"] {
            assert!(routable_prefix("f", good).is_ok(), "{good}");
        }
    }

    #[test]
    fn refusals_repeat_no_long_texts() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(quoted(&"é".repeat(64)).chars().count(), 66);
        assert_eq!(quoted(&"é".repeat(100_000)).chars().count(), 67);
        let refusal = prefix("f", &"x".repeat(100_000)).expect_err("no prefix");
        assert!(refusal.message.len() < 200, "{refusal}");
    }

    #[test]
    fn refusals_say_where_and_what_would_be_right() {
        let refusal = prefix("route.prefix", "10.1.2.3/16").expect_err("host bits");
        assert_eq!(refusal.field, "route.prefix");
        assert!(refusal.message.contains("10.1.0.0/16"), "{refusal}");
        let refusal = security_groups("interface.security_groups", &[1, 0]).expect_err("zero");
        assert_eq!(refusal.field, "interface.security_groups[1]");
        let refusal = encapsulations("route.encapsulations", &[1, 1]).expect_err("twice");
        assert_eq!(refusal.field, "route.encapsulations[1]");
        assert!(interface_address("f", "10.0.0.0/24").is_err());
        assert!(interface_address("f", "10.0.0.255/24").is_err());
        assert!(interface_address("f", "10.0.0.0/31").is_ok());
        assert!(mtu("f", 575).is_err() && mtu("f", 9001).is_err());
        assert!(mac("f", "01:00:5e:00:00:01").is_err());
    }
}
