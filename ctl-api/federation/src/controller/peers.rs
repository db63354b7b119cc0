//! BGP peers of the intent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tieline_bgp::rib::PeerId;
use tieline_bgp::session::SessionConfig;
use tieline_bgp::speaker::{PeerConfig, Transport};
use tieline_bgp::wire::FamilySet;

use crate::contracts::{bgp_family, prefix_limits};
use crate::intent::Intent;
use crate::intent::kinds::peer::{Peer, Software};
use crate::intent::names::Name;

/// How long peers keep our routes while this controller restarts (RFC 4724).
const RESTART_TIME: Duration = Duration::from_secs(120);
/// And after that, as a last resort (RFC 9494): gateways forward without us.
const LONG_LIVED_TIME: Duration = Duration::from_secs(24 * 3600);

/// The peers that the speaker has.
#[derive(Debug, Default)]
pub struct Peers {
    present: BTreeMap<String, (Peer, PeerId)>,
    /// Why the latest try of each for a session failed.
    failures: BTreeMap<PeerId, String>,
}

/// What has to be done with them.
#[derive(Debug, Default)]
pub struct Difference {
    /// To be removed, before new ones are added.
    pub gone: Vec<(String, PeerId)>,
    /// To be added.
    pub new: Vec<(String, Peer)>,
}

impl Peers {
    /// What makes them those that are wanted. One that is different is removed
    /// and added: its session begins anew.
    pub fn difference(&mut self, wanted: &BTreeMap<String, Peer>) -> Difference {
        let is_gone = |(name, (peer, _)): &(&String, &(Peer, PeerId))| wanted.get(*name) != Some(peer);
        let gone: Vec<(String, PeerId)> =
            self.present.iter().filter(is_gone).map(|(name, (_, id))| (name.clone(), *id)).collect();
        for (name, id) in &gone {
            self.present.remove(name);
            self.failures.remove(id);
        }
        let new = wanted.iter().filter(|(name, _)| !self.present.contains_key(*name));
        Difference { gone, new: new.map(|(name, peer)| (name.clone(), peer.clone())).collect() }
    }

    /// The speaker has it.
    pub fn added(&mut self, name: &str, peer: Peer, id: PeerId) {
        self.present.insert(name.to_owned(), (peer, id));
    }

    /// A peer has a session.
    pub fn up(&mut self, id: PeerId) {
        self.failures.remove(&id);
    }

    /// A try for a session has failed. Returns what the operator should hear,
    /// where it is not what failed the time before.
    pub fn failed(&mut self, id: PeerId, reason: &str) -> Option<String> {
        if self.failures.get(&id).is_some_and(|before| before == reason) {
            return None;
        }
        self.failures.insert(id, reason.to_owned());
        let protected = self.present.values().any(|(peer, of)| *of == id && peer.password.is_some());
        // The kernel drops what is signed with another key, and tells nobody.
        let hint = if protected { " (or does it have another password?)" } else { "" };
        Some(format!("{reason}{hint}"))
    }

    /// The name of a peer.
    pub fn name(&self, id: PeerId) -> &str {
        let found = self.present.iter().find(|(_, (_, of))| *of == id);
        found.map_or("(removed)", |(name, _)| name.as_str())
    }
}

/// The peers of one controller of a cluster.
pub fn wanted(intent: &Intent, cluster: &Name, controller: &Name) -> BTreeMap<String, Peer> {
    let is_ours = |peer: &Peer| {
        peer.cluster == *cluster && (peer.controllers.is_empty() || peer.controllers.contains(controller))
    };
    let all = intent.all::<Peer>().filter(|(_, peer)| is_ours(peer));
    all.map(|(key, peer)| (key.gateway_name(), peer.clone())).collect()
}

/// How the speaker is told of a peer. `own` is this controller's address.
pub fn config(peer: &Peer, own: IpAddr) -> PeerConfig {
    let families: FamilySet = peer.families.iter().map(|family| bgp_family(*family)).collect();
    let session = SessionConfig {
        passive: peer.passive,
        families,
        restart_time: RESTART_TIME,
        long_lived_time: LONG_LIVED_TIME,
        ..SessionConfig::new(peer.address, peer.asn.into())
    };
    PeerConfig {
        transport: Transport {
            port: peer.port,
            local_address: (own.is_ipv4() == peer.address.is_ipv4()).then_some(own),
            md5: peer.password.as_ref().map(|password| password.reveal().to_owned()),
            ttl_security: peer.max_hops,
        },
        prefix_limits: prefix_limits(peer.contract.as_ref()),
        enforce_first_as: !peer.route_server,
        spare_gobgp: peer.software == Some(Software::Gobgp),
        ..PeerConfig::new(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::testing::{CLUSTERS, intent};

    const PEERS: &str = "
---
apiVersion: tieline.io/v1
kind: Peer
metadata: {name: west}
spec: {cluster: east, address: 198.18.1.11, asn: 64513, families: [vpnv4, evpn], password: secret, maxHops: 1}
---
apiVersion: tieline.io/v1
kind: Peer
metadata: {name: other}
spec: {cluster: east, address: 198.18.1.12, asn: 64513, families: [vpnv4], controllers: [c1], routeServer: true, software: gobgp}
";

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn a_controller_has_its_own_peers_and_those_of_all() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let names = |cluster: &str, controller: &str| -> Vec<String> {
            wanted(&intent, &name(cluster), &name(controller)).into_keys().collect()
        };
        assert_eq!(names("east", "c1").len(), 2);
        assert_eq!(names("east", "c2").len(), 1);
        assert!(names("west", "c1").is_empty());
    }

    #[test]
    fn only_what_is_different_begins_anew() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let mut all = wanted(&intent, &name("east"), &name("c1"));
        let mut peers = Peers::default();
        let first = peers.difference(&all);
        assert_eq!((first.gone.len(), first.new.len()), (0, 2));
        for (number, (name, peer)) in first.new.into_iter().enumerate() {
            peers.added(&name, peer, PeerId(number as u32));
        }
        let same = peers.difference(&all);
        assert!(same.gone.is_empty() && same.new.is_empty());
        let changed = all.keys().next().expect("one").clone();
        all.get_mut(&changed).expect("it").port = 1179;
        let different = peers.difference(&all);
        assert_eq!(different.gone.len(), 1);
        assert_eq!(different.new.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&changed]);
    }

    #[test]
    fn r7_why_there_is_no_session_is_said_once() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let mut peers = Peers::default();
        let mut ids = Vec::new();
        for (number, (name, peer)) in wanted(&intent, &name("east"), &name("c1")).into_iter().enumerate() {
            let id = PeerId(number as u32);
            ids.push((peer.password.is_some(), id));
            peers.added(&name, peer, id);
        }
        for (protected, id) in ids {
            let said = peers.failed(id, "the peer does not answer").expect("news");
            assert_eq!(said.contains("password"), protected, "{said}");
            assert_eq!(peers.failed(id, "the peer does not answer"), None);
            assert!(peers.failed(id, "bad peer AS").is_some(), "another reason");
            peers.up(id);
            assert!(peers.failed(id, "bad peer AS").is_some(), "there was a session in between");
        }
    }

    #[test]
    fn the_transport_is_what_the_intent_says() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let all = wanted(&intent, &name("east"), &name("c1"));
        let west = all.values().find(|peer| peer.password.is_some()).expect("it");
        let own = IpAddr::from([198, 18, 0, 11]);
        let config = config(west, own);
        assert_eq!(config.transport.md5.as_deref(), Some("secret"));
        assert_eq!((config.transport.ttl_security, config.transport.local_address), (Some(1), Some(own)));
        assert!(config.session.families.contains(tieline_bgp::wire::Family::Evpn));
        assert!(!config.session.families.contains(tieline_bgp::wire::Family::Ipv4Unicast));
        assert!(config.enforce_first_as && !config.spare_gobgp);
        let other = all.values().find(|peer| peer.route_server).expect("it");
        let config = super::config(other, own);
        assert!(!config.enforce_first_as && config.spare_gobgp);
    }
}
