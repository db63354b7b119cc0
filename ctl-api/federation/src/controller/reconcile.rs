//! The controller does what the intent says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tieline_bgp::rib::PeerId;
use tieline_proto::federation::v1::{self, EventKind};
use tracing::{error, info, warn};

use super::plan::{Plan, member};
use super::{Controller, ControllerError, Identity, peers};
use crate::exchange::Party;
use crate::intent::Intent;
use crate::intent::kinds::Cluster;
use crate::store::state::State;

impl Controller {
    /// The intent is this now.
    pub(super) async fn reconcile(&mut self, state: &State) -> Result<(), ControllerError> {
        if Identity::find(&self.settings, &state.intent) != Some(self.identity) {
            let reason = "the AS number, or this controller's address or BGP identifier, has changed, \
                          or this controller is not in it any more: restart it";
            self.not_in_force(reason.to_owned());
            return Ok(());
        }
        let plan = match Plan::of(state, &self.settings.cluster) {
            Ok(Some(plan)) => plan,
            Ok(None) => {
                let reason = format!("the cluster {} has gone from it", self.settings.cluster);
                self.not_in_force(reason);
                return Ok(());
            }
            Err(error) => {
                self.not_in_force(error.to_string());
                return Ok(());
            }
        };
        for policy in &plan.left_out {
            warn!(%policy, "is not in force: gateways have no policies between networks yet");
        }
        self.intent_problem = state.stale.as_ref().map(|reason| format!("it may be old: {reason}"));
        self.revision = state.revision;
        self.pools = allocations(state);
        for name in self.gateways.names() {
            if !plan.gateways.contains_key(&name) {
                self.gateways.forget(&name).await;
                self.distribution.forget_gateway(&name);
                if let Some(unheard) = &mut self.unheard {
                    unheard.remove(&name);
                }
                let gone = self.announced.forget_gateway(&name);
                self.speaker.with(move |speaker, _| speaker.withdraw(&gone)).await?;
                info!(gateway = name, "is not in the intent any more: it keeps what it has");
            }
        }
        for (name, (gateway, desired)) in &plan.gateways {
            let is_new = match self.gateways.set(name, gateway, desired) {
                Ok(is_new) => is_new,
                Err(reason) => {
                    error!(gateway = name, "cannot be programmed: {reason}");
                    continue;
                }
            };
            if is_new && let Some(unheard) = &mut self.unheard {
                unheard.insert(name.clone());
            }
            self.distribution.set_gateway(name, member(gateway, desired));
        }
        self.announced.set_networks(plan.networks());
        self.endpoints.retain(|name, _| plan.gateways.contains_key(name.as_str()));
        self.intent_facts = plan.facts;
        self.reconcile_facts().await?;
        self.reconcile_peers(&state.intent).await?;
        self.want().await?;
        self.tell_gateways();
        if self.unheard.as_ref().is_some_and(BTreeSet::is_empty) {
            self.all_heard().await?;
        }
        Ok(())
    }

    /// What decides about paths is this now: the speaker looks at all of them again,
    /// and at what peers were told.
    pub(super) async fn reconcile_facts(&mut self) -> Result<(), ControllerError> {
        let mut facts = self.intent_facts.clone();
        for (gateway, endpoints) in &self.endpoints {
            endpoints.iter().for_each(|endpoint| facts.add_endpoint(gateway, *endpoint));
        }
        if facts == *self.facts {
            return Ok(());
        }
        let facts = Arc::new(facts);
        self.facts = Arc::clone(&facts);
        let peers = self.peers.see(&facts);
        self.speaker
            .with(move |speaker, _| {
                let parties = peers.iter().map(|(id, _, now)| (*id, Arc::clone(now)));
                speaker.policy_mut().set(facts, parties);
                speaker.import_again();
                for (id, before, now) in peers {
                    if before.relation != now.relation {
                        // What it is told has another form too.
                        speaker.export_again(id);
                    } else if !before.is_told_as(&now) {
                        speaker.tell_again(id);
                    }
                }
            })
            .await?;
        Ok(())
    }

    pub(super) async fn reconcile_peers(&mut self, intent: &Intent) -> Result<(), ControllerError> {
        let wanted = peers::wanted(intent, &self.settings.cluster, &self.settings.controller);
        let address = self.identity.address;
        let difference = self.peers.difference(&wanted);
        for (name, id) in difference.gone {
            self.speaker.with(move |speaker, now| speaker.remove_peer(now, id)).await?;
            self.forget_peer(id);
            info!(peer = name, "removed");
        }
        for (name, peer) in difference.new {
            let config = peers::config(&peer, address);
            let party = Arc::new(Party::new(&self.facts, &peer));
            let same = Arc::clone(&party);
            let added = self
                .speaker
                .with(move |speaker, now| {
                    let id = speaker.add_peer(now, config).map_err(|error| error.to_string())?;
                    speaker.policy_mut().add(id, same);
                    Ok::<_, String>(id)
                })
                .await?;
            match added {
                Ok(id) => {
                    if let Some(unlearned) = &mut self.unlearned {
                        let families = peer
                            .families
                            .iter()
                            .map(|family| crate::exchange::contracts::bgp_family(*family));
                        let families = families.filter(|family| family.has_route_targets());
                        unlearned.extend(families.map(|family| (id, family)));
                    }
                    self.canaries.watch(id, peer.canary.iter().map(|prefix| prefix.net()));
                    self.peers.added(&name, peer, party, id);
                }
                Err(error) => {
                    error!(peer = name, "is left out: {error}");
                    self.peers.left_out(&name, peer, error);
                }
            }
        }
        if self.unlearned.as_ref().is_some_and(BTreeSet::is_empty) {
            self.all_learned();
        }
        Ok(())
    }

    /// The newest intent cannot be followed: everything stays as it is.
    pub(super) fn not_in_force(&mut self, reason: String) {
        error!("the newest intent is not in force, and everything stays as it is: {reason}");
        let problem = format!("the newest is not in force: {reason}");
        if self.intent_problem.as_ref() != Some(&problem) {
            self.note(EventKind::IntentNotInForce, "intent", problem.clone());
        }
        self.intent_problem = Some(problem);
    }

    fn forget_peer(&mut self, id: PeerId) {
        if let Some(unlearned) = &mut self.unlearned {
            unlearned.retain(|(of, _)| *of != id);
        }
        self.kept_away.forget_peer(id);
        self.canaries.forget(id);
    }
}

/// How many numbers are allocated and free, by AS and resource.
fn allocations(state: &State) -> Vec<v1::AllocationStatus> {
    let vnis: BTreeMap<_, _> =
        state.intent.all::<Cluster>().map(|(_, cluster)| (cluster.asn, cluster.vnis)).collect();
    let pools = state.allocations.pools.iter();
    pools
        .map(|(id, pool)| v1::AllocationStatus {
            asn: id.asn.into(),
            resource: id.resource.to_string(),
            held: pool.held.len() as u64,
            resting: pool.released.len() as u64,
            free: pool.free(*id, vnis.get(&id.asn).copied().flatten()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::{Allocations, Circumstances, allocate};
    use crate::intent::testing::{CLUSTERS, intent};

    #[test]
    fn what_is_left_of_each_range_is_told() {
        let networks: String = ["red", "blue"]
            .map(|name| {
                format!(
                    "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: {name}}}\n\
                     spec: {{cluster: east, isolated: true, subnets: [{{prefix: 10.1.0.0/24}}]}}\n"
                )
            })
            .concat();
        let clusters = CLUSTERS.replace("  asn: 64512\n", "  asn: 64512\n  vnis: {first: 10, last: 14}\n");
        let with = intent(&format!("{clusters}{networks}"));
        let held = allocate(&Allocations::default(), &with, &Circumstances::default()).expect("room");
        let without = intent(&clusters);
        let resting = allocate(&held, &without, &Circumstances::default()).expect("room");
        for (intent, allocated, held, resting) in [(with, held, 2, 0), (without, resting, 0, 2)] {
            let state = State { intent, allocations: allocated, ..State::default() };
            let told = allocations(&state);
            let vni = told.iter().find(|pool| pool.resource == "vni").expect("a pool");
            assert_eq!((vni.asn, vni.held, vni.resting, vni.free), (64512, held, resting, 3));
        }
    }
}
