//! Linux's own VXLAN device as the far end of a tunnel.
//!
//! It carries layer 3: the gateway's router MAC is a static neighbour, and
//! everything goes to one remote.

use anyhow::Result;

use crate::command::binary;
use crate::host::Host;
use crate::net::{Namespace, Net};
use crate::sites::Underlay;

/// MAC of the VXLAN device, the router's MAC of this far end.
pub const ROUTER_MAC: &str = "02:00:00:00:ff:99";
/// Workload addresses behind it.
pub const ADDRESSES: [&str; 2] = ["10.9.0.1", "2001:db8:9::1"];
/// VNI both ways.
pub const VNI: u32 = 9001;

/// A far end.
#[derive(Debug)]
pub struct VxlanPeer {
    /// It sends and receives from [`ADDRESSES`].
    pub host: Host,
}

impl VxlanPeer {
    /// Makes the namespace and its wire `fabric` to the gateway's `fabric`. It
    /// has underlay addresses of site 2.
    pub fn new(net: &mut Net, gateway: &Namespace) -> Result<Self> {
        // What the tests run inside must exist before anything is made.
        binary("tieline-e2e-traffic")?;
        let namespace = net.namespace("peer")?;
        net.wire((&namespace, "fabric"), (gateway, "fabric"))?;
        gateway.give_to_gateway("fabric")?;
        namespace.plain_frames("fabric")?;
        namespace.ip("link set fabric up")?;
        namespace.ip(&format!("address add {}/24 dev fabric", Underlay::V4.endpoint(2)))?;
        namespace.ip(&format!("address add {}/64 dev fabric nodad", Underlay::V6.endpoint(2)))?;
        namespace.ip(&format!("address add {}/32 dev lo", ADDRESSES[0]))?;
        namespace.ip(&format!("address add {}/128 dev lo nodad", ADDRESSES[1]))?;
        Ok(Self { host: Host { namespace, device: "vxlan".to_owned() } })
    }

    /// Makes the tunnel anew. `gateway_mac` is the router's MAC of the gateway,
    /// which has underlay addresses of site 1.
    pub fn tunnel(&self, underlay: Underlay, gateway_mac: &str) -> Result<()> {
        let namespace = &self.host.namespace;
        // The first time there is none to delete.
        let _ = namespace.ip("link delete vxlan");
        let (local, remote) = (underlay.endpoint(2), underlay.endpoint(1));
        namespace.ip(&format!(
            "link add vxlan address {ROUTER_MAC} type vxlan id {VNI} local {local} remote {remote} dstport 4789 \
             nolearning"
        ))?;
        namespace.plain_frames("vxlan")?;
        namespace.ip("link set vxlan up")?;
        for (family, via) in [("-4", "169.254.1.1"), ("-6", "fe80::1")] {
            namespace.ip(&format!("neighbour add {via} lladdr {gateway_mac} dev vxlan nud permanent"))?;
            let (to, source) = match family {
                "-4" => ("10.1.0.0/22", ADDRESSES[0]),
                _ => ("2001:db8:1::/64", ADDRESSES[1]),
            };
            let onlink = if family == "-4" { "onlink" } else { "" };
            namespace.ip(&format!("{family} route add {to} via {via} dev vxlan {onlink} src {source}"))?;
        }
        Ok(())
    }
}
