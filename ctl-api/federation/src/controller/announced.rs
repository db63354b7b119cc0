//! What was announced for gateways' exports, to take back what is no more.

use std::collections::BTreeMap;

use tieline_bgp::wire::{Attributes, Nlri, Route};

use crate::routes::outward::NotAnnounced;

/// Announced routes, by gateway, VRF and prefix.
#[derive(Debug, Default)]
pub struct Announced {
    routes: BTreeMap<(String, String, String), Vec<Nlri>>,
    /// Exports that are not announced, and why.
    refused: BTreeMap<(String, String, String), String>,
    /// Numbers of the networks of VRFs, by gateway and VRF.
    networks: BTreeMap<(String, String), u32>,
}

impl Announced {
    /// The networks are these now. What is announced already keeps its
    /// community until it is exported again.
    pub fn set_networks(&mut self, networks: BTreeMap<(String, String), u32>) {
        self.networks = networks;
    }

    /// The number of a VRF's network.
    pub fn network(&self, gateway: &str, vrf: &str) -> Option<u32> {
        self.networks.get(&(gateway.to_owned(), vrf.to_owned())).copied()
    }

    /// An export is announced by these routes now. Returns those that were
    /// announced for it and are not any more.
    pub fn set(
        &mut self,
        gateway: &str,
        vrf: &str,
        prefix: &str,
        routes: &[(Attributes, Route)],
    ) -> Vec<Nlri> {
        let key = (gateway.to_owned(), vrf.to_owned(), prefix.to_owned());
        self.refused.remove(&key);
        let now: Vec<Nlri> = routes.iter().map(|(_, route)| route.nlri.clone()).collect();
        let before =
            if now.is_empty() { self.routes.remove(&key) } else { self.routes.insert(key, now.clone()) };
        before.unwrap_or_default().into_iter().filter(|nlri| !now.contains(nlri)).collect()
    }

    /// An export cannot be announced. Returns what was announced for it before.
    pub fn refuse(&mut self, gateway: &str, refused: NotAnnounced) -> Vec<Nlri> {
        let NotAnnounced { vrf, prefix, reason } = refused;
        let gone = self.set(gateway, &vrf, &prefix, &[]);
        self.refused.insert((gateway.to_owned(), vrf, prefix), reason);
        gone
    }

    /// Exports that are not announced: gateway, VRF, prefix, and why.
    pub fn refused(&self) -> impl ExactSizeIterator<Item = (&str, &str, &str, &str)> {
        let refused = self.refused.iter();
        refused.map(|((gateway, vrf, prefix), reason)| {
            (gateway.as_str(), vrf.as_str(), prefix.as_str(), reason.as_str())
        })
    }

    /// A gateway is none of ours any more. Returns what was announced for it.
    pub fn forget_gateway(&mut self, gateway: &str) -> Vec<Nlri> {
        self.refused.retain(|(of, ..), _| of != gateway);
        let mut gone = Vec::new();
        self.routes.retain(|(of, ..), nlris| {
            let is_it = of == gateway;
            if is_it {
                gone.append(nlris);
            }
            !is_it
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tieline_bgp::wire::{Payload, RouteDistinguisher};

    use super::*;

    fn routes(rd: u32) -> Vec<(Attributes, Route)> {
        let nlri = Nlri::Vpnv4(RouteDistinguisher::as2(64512, rd), "10.0.0.0/24".parse().expect("a prefix"));
        let attributes = Attributes::new(IpAddr::from([198, 18, 0, 1]));
        vec![(attributes, Route { nlri, payload: Payload::default() })]
    }

    #[test]
    fn what_is_no_more_is_taken_back_once() {
        let mut announced = Announced::default();
        let nlri = |rd| routes(rd).remove(0).1.nlri;
        assert!(announced.set("a", "red", "10.0.0.0/24", &routes(1)).is_empty());
        assert!(announced.set("a", "red", "10.0.0.0/24", &routes(1)).is_empty());
        assert_eq!(announced.set("a", "red", "10.0.0.0/24", &routes(2)), [nlri(1)]);
        assert_eq!(announced.set("a", "red", "10.0.0.0/24", &[]), [nlri(2)]);
        assert!(announced.set("a", "red", "10.0.0.0/24", &[]).is_empty());
        announced.set("a", "red", "10.0.0.0/24", &routes(3));
        announced.set("b", "red", "10.0.0.0/24", &routes(4));
        assert_eq!(announced.forget_gateway("a"), [nlri(3)]);
        assert!(announced.forget_gateway("a").is_empty());
    }

    #[test]
    fn what_is_refused_is_known_until_it_is_right_or_gone() {
        let mut announced = Announced::default();
        let refused = || NotAnnounced {
            vrf: "red".to_owned(),
            prefix: "10.0.0.0/24".to_owned(),
            reason: "no route target".to_owned(),
        };
        announced.set("a", "red", "10.0.0.0/24", &routes(1));
        assert_eq!(announced.refuse("a", refused()).len(), 1, "what was announced before goes");
        assert_eq!(announced.refused().collect::<Vec<_>>(), [("a", "red", "10.0.0.0/24", "no route target")]);
        announced.set("a", "red", "10.0.0.0/24", &routes(1));
        assert_eq!(announced.refused().len(), 0);
        announced.refuse("b", refused());
        announced.forget_gateway("b");
        assert_eq!(announced.refused().len(), 0);
    }
}
