//! BGP peers of the intent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tieline_bgp::rib::PeerId;
use tieline_bgp::session::SessionConfig;
use tieline_bgp::speaker::{PeerConfig, Transport};
use tieline_bgp::wire::{Family, FamilySet};

use crate::exchange::contracts::{bgp_family, is_violation, prefix_limits};
use crate::exchange::{Facts, Party};
use crate::intent::Intent;
use crate::intent::kinds::peer::{BGP_PORT, Peer, Software};
use crate::intent::names::Name;

/// How long peers keep our routes while this controller restarts (RFC 4724).
const RESTART_TIME: Duration = Duration::from_secs(120);
/// And after that, as a last resort (RFC 9494): gateways forward without us.
const LONG_LIVED_TIME: Duration = Duration::from_secs(24 * 3600);

/// The peers of the intent.
#[derive(Debug, Default)]
pub struct Peers {
    present: BTreeMap<String, Present>,
    /// Those that the speaker did not take, and why.
    left_out: BTreeMap<String, (Peer, String)>,
}

/// A peer that the speaker has.
#[derive(Debug)]
pub struct Present {
    /// As the intent has it.
    pub peer: Peer,
    /// Who it is to the cluster.
    pub party: Arc<Party>,
    /// What the speaker calls it.
    pub id: PeerId,
    /// Why its last session ended or did not come about, and when, in seconds
    /// since 1970.
    pub last_error: Option<(String, u64)>,
    /// Why the latest try for a session failed, since there was one.
    failure: Option<String>,
    /// Families of which it has told all routes in this session.
    pub complete: FamilySet,
    /// Routes outside its contract in this session, by reason.
    pub violations: BTreeMap<&'static str, u64>,
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
        let is_gone = |(name, present): &(&String, &Present)| wanted.get(*name) != Some(&present.peer);
        let gone: Vec<(String, PeerId)> =
            self.present.iter().filter(is_gone).map(|(name, present)| (name.clone(), present.id)).collect();
        for (name, _) in &gone {
            self.present.remove(name);
        }
        self.left_out.clear();
        let new = wanted.iter().filter(|(name, _)| !self.present.contains_key(*name));
        Difference { gone, new: new.map(|(name, peer)| (name.clone(), peer.clone())).collect() }
    }

    /// The speaker has it.
    pub fn added(&mut self, name: &str, peer: Peer, party: Arc<Party>, id: PeerId) {
        let present = Present {
            peer,
            party,
            id,
            last_error: None,
            failure: None,
            complete: FamilySet::EMPTY,
            violations: BTreeMap::new(),
        };
        self.present.insert(name.to_owned(), present);
    }

    /// The speaker has not taken it.
    pub fn left_out(&mut self, name: &str, peer: Peer, reason: String) {
        self.left_out.insert(name.to_owned(), (peer, reason));
    }

    /// What the intent says that decides about paths is this now. Returns how each
    /// peer was seen before and is now.
    pub fn see(&mut self, facts: &Facts) -> Vec<(PeerId, Arc<Party>, Arc<Party>)> {
        let see = |present: &mut Present| {
            let now = Arc::new(Party::new(facts, &present.peer));
            (present.id, std::mem::replace(&mut present.party, Arc::clone(&now)), now)
        };
        self.present.values_mut().map(see).collect()
    }

    /// Who a peer is to the cluster.
    pub fn party(&self, id: PeerId) -> Option<&Arc<Party>> {
        self.present.values().find(|present| present.id == id).map(|present| &present.party)
    }

    /// Those that the speaker has, by name.
    pub fn present(&self) -> impl Iterator<Item = (&str, &Present)> {
        self.present.iter().map(|(name, present)| (name.as_str(), present))
    }

    /// Those that it has not, by name, and why.
    pub fn not_present(&self) -> impl Iterator<Item = (&str, &Peer, &str)> {
        self.left_out.iter().map(|(name, (peer, reason))| (name.as_str(), peer, reason.as_str()))
    }

    /// The name of a peer.
    pub fn name(&self, id: PeerId) -> &str {
        let found = self.present.iter().find(|(_, present)| present.id == id);
        found.map_or("(removed)", |(name, _)| name.as_str())
    }

    fn get_mut(&mut self, id: PeerId) -> Option<&mut Present> {
        self.present.values_mut().find(|present| present.id == id)
    }

    /// Its session is up: what is counted by session begins anew.
    pub fn up(&mut self, id: PeerId) {
        if let Some(present) = self.get_mut(id) {
            present.failure = None;
            present.complete = FamilySet::EMPTY;
            present.violations.clear();
        }
    }

    /// It has told all routes of a family.
    pub fn complete(&mut self, id: PeerId, family: Family) {
        if let Some(present) = self.get_mut(id) {
            present.complete.insert(family);
        }
    }

    /// Its session has ended.
    pub fn ended(&mut self, id: PeerId, reason: &str, at: u64) {
        if let Some(present) = self.get_mut(id) {
            present.last_error = Some((reason.to_owned(), at));
        }
    }

    /// A try for a session has failed. Returns what the operator should hear,
    /// where it is not what failed the time before.
    pub fn failed(&mut self, id: PeerId, reason: &str, at: u64) -> Option<String> {
        let present = self.get_mut(id)?;
        // The kernel drops what is signed with another key, and tells nobody.
        let hint = if present.peer.password.is_some() { " (or does it have another password?)" } else { "" };
        let text = format!("{reason}{hint}");
        present.last_error = Some((text.clone(), at));
        let before = present.failure.replace(reason.to_owned());
        (before.as_deref() != Some(reason)).then_some(text)
    }

    /// A route of it was refused.
    pub fn refused(&mut self, id: PeerId, reason: &'static str) {
        if is_violation(reason)
            && let Some(present) = self.get_mut(id)
        {
            *present.violations.entry(reason).or_default() += 1;
        }
    }
}

/// The peers of one controller of a cluster. It is none of its own, so that one
/// Peer for each controller meshes them all.
pub fn wanted(intent: &Intent, cluster: &Name, controller: &Name) -> BTreeMap<String, Peer> {
    let own = intent.cluster(cluster).and_then(|cluster| {
        let own = cluster.controllers.iter().find(|one| one.name == *controller)?;
        Some((own.address, cluster.asn, BGP_PORT))
    });
    let is_ours = |peer: &Peer| {
        peer.cluster == *cluster
            && (peer.controllers.is_empty() || peer.controllers.contains(controller))
            && own != Some((peer.address, peer.asn, peer.port))
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
spec: {cluster: east, address: 198.18.1.12, asn: 64513, families: [vpnv4], controllers: [c1], routeServer: true, software: gobgp, transit: true}
";

    fn party(peer: &Peer) -> Arc<Party> {
        Arc::new(Party::new(&Facts::none(peer.asn), peer))
    }

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
    fn a_controller_is_no_peer_of_its_own() {
        let more = CLUSTERS.replace(
            "[{name: c1, address: 198.18.0.11}]",
            "[{name: c1, address: 198.18.0.11}, {name: c2, address: 198.18.0.12}]",
        );
        let peers: String = ["11", "12"]
            .map(|host| {
                format!(
                    "---\napiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: c{host}}}\n\
                     spec: {{cluster: east, address: 198.18.0.{host}, asn: 64512, families: [vpnv4]}}\n"
                )
            })
            .concat();
        let intent = intent(&format!("{more}{peers}"));
        let names = |controller: &str| -> Vec<String> {
            wanted(&intent, &name("east"), &name(controller)).into_keys().collect()
        };
        assert_eq!((names("c1"), names("c2")), (vec!["c12".to_owned()], vec!["c11".to_owned()]));
    }

    #[test]
    fn only_what_is_different_begins_anew() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let mut all = wanted(&intent, &name("east"), &name("c1"));
        let mut peers = Peers::default();
        let first = peers.difference(&all);
        assert_eq!((first.gone.len(), first.new.len()), (0, 2));
        for (number, (name, peer)) in first.new.into_iter().enumerate() {
            peers.added(&name, peer.clone(), party(&peer), PeerId(number as u32));
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
    fn x7_violations_are_counted_by_session() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let mut peers = Peers::default();
        for (number, (name, peer)) in wanted(&intent, &name("east"), &name("c1")).into_iter().enumerate() {
            peers.added(&name, peer.clone(), party(&peer), PeerId(number as u32));
        }
        let violation = "a prefix outside its contract";
        for reason in [violation, "own AS in the path", violation] {
            peers.refused(PeerId(1), reason);
        }
        peers.complete(PeerId(1), Family::Vpnv4);
        let counts: Vec<_> = peers.present().map(|(_, present)| present.violations.get(violation)).collect();
        assert_eq!(counts, [None, Some(&2)]);
        peers.up(PeerId(1));
        assert!(peers.present().all(|(_, present)| present.violations.is_empty()));
        assert!(peers.present().all(|(_, present)| present.complete == FamilySet::EMPTY));
    }

    #[test]
    fn r7_why_there_is_no_session_is_said_once() {
        let intent = intent(&format!("{CLUSTERS}{PEERS}"));
        let mut peers = Peers::default();
        let mut ids = Vec::new();
        for (number, (name, peer)) in wanted(&intent, &name("east"), &name("c1")).into_iter().enumerate() {
            let id = PeerId(number as u32);
            ids.push((peer.password.is_some(), id));
            peers.added(&name, peer.clone(), party(&peer), id);
        }
        for (protected, id) in ids {
            let said = peers.failed(id, "the peer does not answer", 1).expect("news");
            assert_eq!(said.contains("password"), protected, "{said}");
            assert_eq!(peers.failed(id, "the peer does not answer", 1), None);
            assert!(peers.failed(id, "bad peer AS", 1).is_some(), "another reason");
            peers.up(id);
            assert!(peers.failed(id, "bad peer AS", 1).is_some(), "there was a session in between");
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
        assert!(config.session.families.contains(Family::Evpn));
        assert!(!config.session.families.contains(Family::Ipv4Unicast));
        assert!(config.enforce_first_as && !config.spare_gobgp);
        let other = all.values().find(|peer| peer.route_server).expect("it");
        let config = super::config(other, own);
        assert!(!config.enforce_first_as && config.spare_gobgp);
    }
}
