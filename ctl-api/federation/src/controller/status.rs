//! How everything is: one answer, put together from what the controller knows.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tieline_bgp::rib::PeerId;
use tieline_bgp::session::State;
use tieline_bgp::speaker::PeerStatus;
use tieline_bgp::wire::{Attributes, Family, Nlri};
use tieline_proto::federation::v1;

use super::faults::{ESTABLISHED, faults};
use super::peers::Present;
use super::questions::Question;
use super::{Controller, ControllerError, GATEWAYS_LIMIT, canary, now};
use crate::audit::Audit;
use crate::exchange::believe::remedy;
use crate::intent::ObjectKey;

/// Most entries of a list that may be long.
const MOST: usize = 1000;
/// Most names of networks that a peer is not told of.
const KEPT: usize = 20;

impl Controller {
    /// Answers a question. Who asked may have gone.
    pub(super) async fn answer(&self, question: Question) -> Result<(), ControllerError> {
        match question {
            Question::Status(answer) => {
                let _ = answer.send(self.status().await?);
            }
            Question::Events(after, answer) => {
                let _ = answer.send(self.journal.after(after));
            }
            Question::Audit(answer) => {
                let _ = answer.send(Audit {
                    cluster: self.settings.cluster.clone(),
                    asn: self.identity.asn,
                    own: self.settings.controller.clone(),
                    controller: self.settings.name_at_gateways(),
                    store: Arc::clone(&self.store),
                    speaker: self.speaker.clone(),
                });
            }
        }
        Ok(())
    }

    /// How everything is.
    pub(super) async fn status(&self) -> Result<v1::GetStatusReply, ControllerError> {
        let targets = self.route_targets();
        let duplicates = self.distribution.duplicates().take(MOST).map(|(prefix, claims)| {
            let claim = |(key, remote): &(crate::routes::inward::Key, _)| format!("{} at {remote}", key.rd);
            v1::DuplicateAddress { prefix: prefix.to_string(), claims: claims.iter().map(claim).collect() }
        });
        let unusable = self.distribution.unusable();
        let refused = self.announced.refused();
        let more_refused_exports = refused.len().saturating_sub(MOST) as u64;
        let refused_exports = refused.take(MOST).map(|(gateway, vrf, prefix, reason)| v1::RefusedExport {
            gateway: gateway.to_owned(),
            vrf: vrf.to_owned(),
            prefix: prefix.to_owned(),
            reason: reason.to_owned(),
        });
        let mut status = v1::GetStatusReply {
            cluster: self.settings.cluster.to_string(),
            controller: self.settings.controller.to_string(),
            asn: self.identity.asn.into(),
            address: self.identity.address.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            intent_revision: self.revision.0,
            intent_problem: self.intent_problem.clone().unwrap_or_default(),
            faults: Vec::new(),
            peers: self.peer_statuses().await?,
            gateways: self.gateways.status(),
            routes: self.distribution.len() as u64,
            more_route_targets: targets.len().saturating_sub(MOST) as u64,
            route_targets: targets.into_iter().take(MOST).collect(),
            allocations: self.pools.clone(),
            duplicates: duplicates.collect(),
            more_duplicates: self.distribution.duplicates_len().saturating_sub(MOST) as u64,
            unusable_routes: unusable.into_iter().map(reason_count).collect(),
            refused_routes: self.refused_routes(),
            refused_exports: refused_exports.collect(),
            more_refused_exports,
            awaited_peers: self.awaited_peers(),
            awaited_gateways: self.awaited_gateways(),
        };
        status.faults = faults(&status);
        Ok(status)
    }

    fn awaited_peers(&self) -> Vec<String> {
        let awaited = self.unlearned.iter().flatten().map(|(peer, _)| self.peers.name(*peer));
        awaited.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
    }

    fn awaited_gateways(&self) -> Vec<String> {
        // Then peers are told all the same.
        let is_over = self.start.elapsed() >= GATEWAYS_LIMIT;
        self.unheard.iter().flatten().filter(|_| !is_over).cloned().collect()
    }

    fn route_targets(&self) -> Vec<v1::RouteTargetStatus> {
        let targets = self.distribution.by_target().into_iter();
        let mut targets: Vec<_> = targets
            .map(|(target, (routes, gateways))| v1::RouteTargetStatus {
                route_target: target.to_string(),
                routes,
                gateways,
            })
            .collect();
        // Stable: of those with as many routes, the lowest is first.
        targets.sort_by_key(|target| std::cmp::Reverse(target.routes));
        targets
    }

    fn refused_routes(&self) -> Vec<v1::RefusedRoute> {
        let name = |peer| if peer == PeerId::LOCAL { "" } else { self.peers.name(peer) };
        let kept = self.kept_away.iter();
        kept.map(|kept| v1::RefusedRoute {
            peer: name(kept.peer).to_owned(),
            route: kept.nlri.to_string(),
            reason: kept.reason.clone(),
            at: kept.at,
        })
        .collect()
    }

    async fn peer_statuses(&self) -> Result<Vec<v1::PeerStatus>, ControllerError> {
        let ids: Vec<PeerId> = self.peers.present().map(|(_, present)| present.id).collect();
        let statuses = self
            .speaker
            .with(move |speaker, at| {
                let one = |id: PeerId| {
                    let status = speaker.status(id)?;
                    // What is said in them tells what is not believed.
                    let examples = status.objections.values().flat_map(|objected| &objected.examples);
                    let said = |nlri: &Nlri| {
                        let path = speaker.rib().path_of(nlri, id)?;
                        Some((nlri.clone(), Arc::clone(&path.attributes)))
                    };
                    let examples: HashMap<Nlri, Arc<Attributes>> = examples.filter_map(said).collect();
                    Some((status, examples, at))
                };
                ids.into_iter().map(one).collect::<Vec<_>>()
            })
            .await?;
        let now = now();
        let mut all: Vec<v1::PeerStatus> = self
            .peers
            .present()
            .zip(statuses)
            .filter_map(|((name, present), status)| {
                let (status, examples, at) = status?;
                let since = status.since.map(|since| now - at.saturating_sub(since).as_secs().min(now));
                let canaries = self.canaries.states(present.id).map(canary).collect();
                let disbeliefs = self.disbeliefs(present, &status, &examples);
                let kept: Vec<String> =
                    present.party.kept(&self.facts).map(ObjectKey::gateway_name).collect();
                let networks = self.facts.networks().count();
                let status = peer_status(name, present, status, since.unwrap_or_default());
                Some(v1::PeerStatus {
                    canaries,
                    disbeliefs,
                    networks_told: networks.saturating_sub(kept.len()) as u64,
                    networks_kept: kept.len() as u64,
                    kept_networks: kept.into_iter().take(KEPT).collect(),
                    ..status
                })
            })
            .collect();
        all.extend(self.peers.not_present().map(|(name, peer, reason)| v1::PeerStatus {
            name: name.to_owned(),
            address: peer.address.to_string(),
            asn: peer.asn.into(),
            left_out: reason.to_owned(),
            ..Default::default()
        }));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }
}

impl Controller {
    /// What a peer says now and is not believed about.
    fn disbeliefs(
        &self,
        present: &Present,
        status: &PeerStatus,
        examples: &HashMap<Nlri, Arc<Attributes>>,
    ) -> Vec<v1::Disbelief> {
        let claim = |nlri: &Nlri| {
            let claim = self.facts.doubt(&present.party, nlri, examples.get(nlri)?)?;
            Some(format!("{nlri} with {claim}"))
        };
        let objections = status.objections.iter();
        objections
            .map(|(objection, objected)| v1::Disbelief {
                reason: objection.reason.to_owned(),
                routes: objected.count,
                taken: !objection.hides,
                examples: objected.examples.iter().filter_map(claim).collect(),
                remedy: remedy(objection).to_owned(),
            })
            .collect()
    }
}

fn reason_count<R: ToString>((reason, count): (R, u64)) -> v1::ReasonCount {
    v1::ReasonCount { reason: reason.to_string(), count }
}

/// `since` is in seconds since 1970.
fn peer_status(name: &str, present: &Present, status: PeerStatus, since: u64) -> v1::PeerStatus {
    let agreed = status.negotiated.map(|negotiated| negotiated.families).unwrap_or_default();
    // Without a session: those of which routes are kept, for its restart.
    let has_routes = |family: &Family| agreed.contains(*family) || status.paths[family.index()] > 0;
    let families = Family::ALL.into_iter().filter(has_routes);
    let family = |family: Family| v1::FamilyStatus {
        name: family.to_string(),
        accepted: status.paths[family.index()].into(),
        complete: present.complete.contains(family),
    };
    let (last_error, last_error_at) = present.last_error.clone().unwrap_or_default();
    v1::PeerStatus {
        name: name.to_owned(),
        address: present.peer.address.to_string(),
        asn: present.peer.asn.into(),
        state: state_name(status.state).to_owned(),
        since,
        last_error,
        last_error_at,
        families: families.map(family).collect(),
        updates_received: status.counters.updates_received,
        routes_sent: status.announced,
        withdrawals_sent: status.withdrawn,
        waiting: status.waiting as u64,
        faults: status.counters.faults,
        refused: status.refused.into_iter().map(reason_count).collect(),
        violations: present.violations.iter().map(|(reason, count)| reason_count((reason, *count))).collect(),
        relation: present.party.relation.to_string(),
        ..Default::default()
    }
}

fn canary((prefix, state): (ipnet::IpNet, &canary::State)) -> v1::CanaryStatus {
    let (state, message) = match state {
        canary::State::Waiting => (v1::CanaryState::Waiting, String::new()),
        canary::State::Present => (v1::CanaryState::Present, String::new()),
        canary::State::Missing(why) => (v1::CanaryState::Missing, why.clone()),
    };
    v1::CanaryStatus { prefix: prefix.to_string(), state: state.into(), message }
}

/// As RFC 4271 section 8.2.2 calls them.
const fn state_name(state: State) -> &'static str {
    match state {
        State::Idle => "Idle",
        State::Connect => "Connect",
        State::Active => "Active",
        State::OpenSent => "OpenSent",
        State::OpenConfirm => "OpenConfirm",
        State::Established => ESTABLISHED,
    }
}
