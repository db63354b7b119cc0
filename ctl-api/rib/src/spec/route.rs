//! VPN paths and static routes.

use ipnet::IpNet;
use tieline_engine::types::SgId;
use tieline_proto::v1;

use crate::name::Name;
use crate::rd::{RouteDistinguisher, RouteTarget};
use crate::refusal::Refusal;
use crate::spec::{Encapsulations, TunnelUse, field};

/// Most route targets of one path.
const MAX_ROUTE_TARGETS: usize = 64;
/// Of a path that states none.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// What VPN paths and static routes have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSpec {
    /// Prefix.
    pub prefix: IpNet,
    /// Name of a next hop or group; a valid one.
    pub next_hop: String,
    /// Groups of the workloads behind it; sorted.
    pub security_groups: Vec<SgId>,
    /// What it asks of a tunnel.
    pub tunnel_use: TunnelUse,
}

/// A VPN path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Route distinguisher.
    pub rd: RouteDistinguisher,
    /// Route targets; sorted.
    pub route_targets: Vec<RouteTarget>,
    /// Higher wins; `None` counts as 100.
    pub local_pref: Option<u32>,
    /// Lower wins.
    pub med: u32,
    /// The rest.
    pub path: PathSpec,
}

impl RouteSpec {
    /// From its message.
    pub fn parse(message: v1::Route) -> Result<Self, Refusal> {
        let rd = field::parsed(|| "route.rd".to_owned(), &message.rd)?;
        let prefix = field::routable_prefix("route.prefix", &message.prefix)?;
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
        let path = PathSpec { prefix, next_hop: message.next_hop, security_groups, tunnel_use };
        Ok(Self { rd, route_targets, local_pref: message.local_pref, med: message.med, path })
    }
}

/// A route of one VRF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRouteSpec {
    /// Name of the VRF.
    pub vrf: Name,
    /// The rest.
    pub path: PathSpec,
}

impl StaticRouteSpec {
    /// From its message.
    pub fn parse(message: v1::StaticRoute) -> Result<Self, Refusal> {
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
        let path = PathSpec { prefix, next_hop: message.next_hop, security_groups, tunnel_use };
        Ok(Self { vrf, path })
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
    }
}
