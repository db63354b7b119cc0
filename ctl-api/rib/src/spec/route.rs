//! VPN paths and static routes.

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::prefixes::Packed;
use tieline_proto::v1;

use crate::refusal::Refusal;
use crate::spec::{Encapsulations, TunnelUse, field};
use tieline_names::Name;
use tieline_names::{RouteDistinguisher, RouteTarget};

/// Most route targets of one path.
const MAX_ROUTE_TARGETS: usize = 64;
/// Of a path that states none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Most prefixes of one set of routes.
pub const MAX_PREFIXES: usize = 10_000;
/// Longest AS path that can be counted.
const MAX_AS_PATH_LENGTH: u32 = u16::MAX as u32;

/// What VPN paths and static routes have in common, their prefixes apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSpec {
    /// Name of a next hop or group; a valid one.
    pub next_hop: String,
    /// Groups of the workloads behind it; sorted.
    pub security_groups: Vec<SgId>,
    /// What it asks of a tunnel.
    pub tunnel_use: TunnelUse,
}

/// A VPN path without its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpnSpec {
    /// Route distinguisher.
    pub rd: RouteDistinguisher,
    /// Route targets; sorted.
    pub route_targets: Vec<RouteTarget>,
    /// Higher wins; `None` counts as 100.
    pub local_pref: Option<u32>,
    /// Lower wins.
    pub med: u32,
    /// Lower wins.
    pub as_path_length: u16,
    /// Higher wins.
    pub mobility: u32,
    /// The rest.
    pub path: PathSpec,
}

impl VpnSpec {
    /// From the message of a route or of a set of routes.
    pub fn parse(message: v1::Route) -> Result<Self, Refusal> {
        let rd = field::parsed(|| "route.rd".to_owned(), &message.rd)?;
        let targets = &message.route_targets;
        let route_targets = field::sorted_set("route.route_targets", targets, MAX_ROUTE_TARGETS)?;
        if route_targets.is_empty() {
            let sentence = "no route target: no VRF could import the path; state at least one";
            return Err(Refusal::invalid("route.route_targets", sentence));
        }
        field::check_name("route.next_hop", &message.next_hop)?;
        let tunnel_use = TunnelUse {
            label: field::label("route.label", message.label)?,
            vni: field::vni("route.vni", message.vni)?,
            encapsulations: field::encapsulations("route.encapsulations", &message.encapsulations)?,
        };
        let security_groups = field::security_groups("route.security_groups", &message.security_groups)?;
        let as_path_length = u16::try_from(message.as_path_length).map_err(|_| {
            let sentence =
                format!("{} AS numbers are too many: at most {MAX_AS_PATH_LENGTH}", message.as_path_length);
            Refusal::invalid("route.as_path_length", sentence)
        })?;
        Ok(Self {
            rd,
            route_targets,
            local_pref: message.local_pref,
            med: message.med,
            as_path_length,
            mobility: message.mobility_sequence,
            path: PathSpec { next_hop: message.next_hop, security_groups, tunnel_use },
        })
    }
}

/// A VPN path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Prefix.
    pub prefix: IpNet,
    /// The rest.
    pub vpn: VpnSpec,
}

impl RouteSpec {
    /// From its message.
    pub fn parse(message: v1::Route) -> Result<Self, Refusal> {
        let prefix = field::routable_prefix("route.prefix", &message.prefix)?;
        Ok(Self { prefix, vpn: VpnSpec::parse(message)? })
    }
}

/// Many VPN paths that share all but their prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSetSpec {
    /// Prefixes; some may stand twice.
    pub prefixes: Vec<IpNet>,
    /// The rest.
    pub vpn: VpnSpec,
}

impl RouteSetSpec {
    /// From its message.
    pub fn parse(message: v1::RouteSet) -> Result<Self, Refusal> {
        let Some(attributes) = message.attributes else {
            return Err(Refusal::invalid("attributes", "no attributes: state what the routes share"));
        };
        if !attributes.prefix.is_empty() {
            let sentence = "the attributes of a set have a prefix: put it into prefixes";
            return Err(Refusal::invalid("attributes.prefix", sentence));
        }
        let prefixes = parse_prefixes(message.prefixes.as_ref())?;
        let inside = |refusal: Refusal| Refusal {
            field: refusal.field.replacen("route.", "attributes.", 1),
            ..refusal
        };
        Ok(Self { prefixes, vpn: VpnSpec::parse(attributes).map_err(inside)? })
    }
}

/// The prefixes of a set, 1 to [`MAX_PREFIXES`].
pub fn parse_prefixes(message: Option<&v1::RoutePrefixes>) -> Result<Vec<IpNet>, Refusal> {
    let empty = v1::RoutePrefixes::default();
    let message = message.unwrap_or(&empty);
    let packed = message
        .packed()
        .map_err(|error| Refusal::invalid(format!("prefixes.{}", error.field), error.to_string()))?;
    let count = message.count();
    if !(1..=MAX_PREFIXES).contains(&count) {
        let sentence = format!("{count} prefixes: state 1 to {MAX_PREFIXES}");
        return Err(Refusal::invalid("prefixes", sentence));
    }
    let mut prefixes = Vec::with_capacity(count);
    for (at, text) in message.texts.iter().enumerate() {
        // The field's name is made only for a refusal.
        let prefix = field::routable_prefix("", text)
            .map_err(|refusal| Refusal { field: format!("prefixes.texts[{at}]"), ..refusal })?;
        prefixes.push(prefix);
    }
    for one in packed {
        prefixes.push(unpacked(&one)?);
    }
    Ok(prefixes)
}

/// A packed prefix that packets may be routed to.
fn unpacked(&Packed { field, at, address, length }: &Packed) -> Result<IpNet, Refusal> {
    // The field's name is made only for a refusal.
    let refused = |sentence: String| Refusal::invalid(format!("prefixes.{field}[{at}]"), sentence);
    let net = IpNet::new(address, length)
        .map_err(|_| refused(format!("{length} is no prefix length for {address}")))?;
    field::check_routable_prefix(net).map_err(refused)?;
    Ok(net)
}

/// A route of one VRF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRouteSpec {
    /// Name of the VRF.
    pub vrf: Name,
    /// Prefix.
    pub prefix: IpNet,
    /// The rest.
    pub path: PathSpec,
}

impl StaticRouteSpec {
    /// From its message.
    pub fn parse(message: &v1::StaticRoute) -> Result<Self, Refusal> {
        let vrf = field::name("static_route.vrf", &message.vrf)?;
        let prefix = field::routable_prefix("static_route.prefix", &message.prefix)?;
        field::check_name("static_route.next_hop", &message.next_hop)?;
        let tunnel_use = TunnelUse {
            label: field::label("static_route.label", message.label)?,
            vni: field::vni("static_route.vni", message.vni)?,
            encapsulations: Encapsulations::default(),
        };
        let security_groups =
            field::security_groups("static_route.security_groups", &message.security_groups)?;
        let path = PathSpec { next_hop: message.next_hop.clone(), security_groups, tunnel_use };
        Ok(Self { vrf, prefix, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field() {
        let good = v1::Route {
            rd: "64512:1".into(),
            prefix: "10.0.0.0/24".into(),
            route_targets: vec!["64512:2".into()],
            next_hop: "n".into(),
            ..Default::default()
        };
        assert!(RouteSpec::parse(good.clone()).is_ok());
        let refused = |change: &dyn Fn(&mut v1::Route)| {
            let mut message = good.clone();
            change(&mut message);
            RouteSpec::parse(message).expect_err("refused").field
        };
        assert_eq!(refused(&|r| r.rd = "1".into()), "route.rd");
        assert_eq!(refused(&|r| r.prefix = "10.0.0.1/24".into()), "route.prefix");
        assert_eq!(refused(&|r| r.route_targets.clear()), "route.route_targets");
        assert_eq!(refused(&|r| r.route_targets.push("x".into())), "route.route_targets[1]");
        assert_eq!(refused(&|r| r.next_hop.clear()), "route.next_hop");
        assert_eq!(refused(&|r| r.label = 3), "route.label");
        assert_eq!(refused(&|r| r.vni = 1 << 24), "route.vni");
        assert_eq!(refused(&|r| r.encapsulations = vec![9]), "route.encapsulations[0]");
        assert_eq!(refused(&|r| r.as_path_length = 65_536), "route.as_path_length");
    }

    fn prefixes(texts: &[&str], ipv4: &[u8], ipv6: &[u8]) -> Result<Vec<String>, String> {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        let message = v1::RoutePrefixes { texts, ipv4: ipv4.to_vec(), ipv6: ipv6.to_vec() };
        match parse_prefixes(Some(&message)) {
            Ok(prefixes) => Ok(prefixes.iter().map(ToString::to_string).collect()),
            Err(refusal) => Err(refusal.field),
        }
    }

    #[test]
    fn prefixes_are_texts_or_packed() {
        let mut v6 = vec![0x20, 1, 0xd, 0xb8];
        v6.resize(16, 0);
        v6.push(32);
        let all = prefixes(&["10.0.0.0/8"], &[10, 1, 0, 0, 16, 0, 0, 0, 0, 0], &v6);
        let expected = ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32"];
        assert_eq!(all, Ok(expected.map(str::to_owned).to_vec()));
        let refused = |result: Result<_, String>| result.expect_err("refused");
        assert_eq!(refused(prefixes(&[], &[], &[])), "prefixes");
        assert_eq!(refused(prefixes(&vec!["10.0.0.0/8"; MAX_PREFIXES + 1], &[], &[])), "prefixes");
        assert_eq!(refused(prefixes(&["10.0.0.0/8", "x"], &[], &[])), "prefixes.texts[1]");
        assert_eq!(refused(prefixes(&[], &[10, 0, 0, 0], &[])), "prefixes.ipv4");
        assert_eq!(refused(prefixes(&[], &[10, 0, 0, 0, 33], &[])), "prefixes.ipv4[0]");
        assert_eq!(refused(prefixes(&[], &[10, 0, 0, 0, 8, 10, 0, 0, 1, 8], &[])), "prefixes.ipv4[1]");
        assert_eq!(refused(prefixes(&[], &[127, 0, 0, 0, 8], &[])), "prefixes.ipv4[0]");
        v6[16] = 129;
        assert_eq!(refused(prefixes(&[], &[], &v6)), "prefixes.ipv6[0]");
    }
}
