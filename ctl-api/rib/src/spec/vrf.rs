//! VRFs.

use tieline_engine::types::{Label, MacAddr, Vni};
use tieline_proto::v1;

use crate::refusal::Refusal;
use crate::spec::{UNDERLAY, field};
use tieline_names::Name;
use tieline_names::{RouteDistinguisher, RouteTarget};

/// Most route targets in one of a VRF's lists.
const MAX_ROUTE_TARGETS: usize = 1024;

/// A tenant's routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrfSpec {
    /// Name.
    pub name: Name,
    /// Of what it originates.
    pub rd: Option<RouteDistinguisher>,
    /// VPN paths with one of these land here; sorted.
    pub import: Vec<RouteTarget>,
    /// Of what it originates; sorted.
    pub export: Vec<RouteTarget>,
    /// MPLS label that leads here.
    pub label: Option<Label>,
    /// VNI that leads here.
    pub vni: Option<Vni>,
    /// Most sessions on each worker; `None`: the default.
    pub session_quota: Option<u32>,
    /// New sessions a second on each worker; `None`: the default.
    pub session_rate: Option<u32>,
    /// Our inner MAC for layer 3 over VXLAN; `None`: the default.
    pub router_mac: Option<MacAddr>,
    /// Whether what comes out of a tunnel must be routed back there.
    pub strict_sources: bool,
}

impl VrfSpec {
    /// From its message.
    pub fn parse(message: &v1::Vrf) -> Result<Self, Refusal> {
        let name = field::name("vrf.name", &message.name)?;
        if name.as_str() == UNDERLAY {
            let sentence = "the VRF \"underlay\" always exists and cannot be declared: use another name";
            return Err(Refusal::invalid("vrf.name", sentence));
        }
        let rd = match message.rd.as_str() {
            "" => None,
            text => Some(field::parsed(|| "vrf.rd".to_owned(), text)?),
        };
        let import = &message.import_route_targets;
        let export = &message.export_route_targets;
        Ok(Self {
            name,
            rd,
            import: field::sorted_set("vrf.import_route_targets", import, MAX_ROUTE_TARGETS)?,
            export: field::sorted_set("vrf.export_route_targets", export, MAX_ROUTE_TARGETS)?,
            label: field::label("vrf.label", message.label)?,
            vni: field::vni("vrf.vni", message.vni)?,
            session_quota: Some(message.session_quota).filter(|quota| *quota > 0),
            session_rate: Some(message.session_rate).filter(|rate| *rate > 0),
            router_mac: field::mac("vrf.router_mac", &message.router_mac)?,
            strict_sources: message.strict_sources,
        })
    }
}
