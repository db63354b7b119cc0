//! Compares what is wanted with what is there (X6): the intent and the routes of
//! BGP with what gateways hold and forward by, what gateways export with what is
//! announced, and what peers say and are told with what they may (S3).
//!
//! Everything is read again: the intent from the store, routes from the
//! speaker, objects, routes and forwarding entries from the gateways. What the
//! controller believes it has told anybody is not asked.
//!
//! - `compare`: differences, without I/O
//! - `gateway`: what a gateway really holds
//!
//! What is on its way looks like a difference. So each is looked for a second
//! time, and only what is still different is told.

mod compare;
mod gateway;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tieline_bgp::net::{Ended, Handle};
use tieline_bgp::rib::policy::{Candidate, Policy as _, Verdict};
use tieline_bgp::rib::{Path, PeerId};
use tieline_bgp::speaker::Speaker;
use tieline_bgp::wire::{Attributes, Family, Nlri, Route};
use tieline_proto::federation::v1;
use tieline_proto::v1::Export;

use crate::controller::peers::wanted;
use crate::controller::plan::{Plan, member};
use crate::desired::NotAllocated;
use crate::exchange::{Facts, Origin, Party, Rules};
use crate::gateway::Address;
use crate::intent::Intent;
use crate::intent::names::Name;
use crate::numbers::Asn;
use crate::programs;
use crate::routes::distribution::{Distribution, Said};
use crate::routes::outward;
use crate::store::{Store, StoreError, state};
use gateway::Holds;

/// Time between two looks: what changes is with the gateways by then.
const BETWEEN: Duration = Duration::from_secs(2);
/// Longest look at one gateway.
const GATEWAY_LIMIT: Duration = Duration::from_secs(60);
/// Most differences in an answer.
const MOST: usize = 10_000;

/// What an audit needs to look.
#[derive(Clone)]
pub struct Audit {
    /// The cluster.
    pub cluster: Name,
    /// Its AS number.
    pub asn: Asn,
    /// This controller, in its cluster.
    pub own: Name,
    /// The name in which it declares at gateways.
    pub controller: String,
    /// Where the intent is.
    pub store: std::sync::Arc<dyn Store>,
    /// The BGP speaker.
    pub speaker: Handle<Rules>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Nothing can be compared.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The intent cannot be carried out.
    #[error(transparent)]
    NotAllocated(#[from] NotAllocated),
    /// The intent says nothing of the cluster.
    #[error("the cluster {0} has gone from the intent: apply it again")]
    NoCluster(Name),
    /// The speaker.
    #[error(transparent)]
    Speaker(#[from] Ended),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    place: String,
    what: String,
    expected: String,
    found: String,
}

/// What one look has brought.
#[derive(Debug, Default)]
struct Look {
    differences: BTreeSet<Difference>,
    unseen: BTreeMap<String, String>,
    objects: u64,
    routes: u64,
    exports: u64,
    revision: u64,
}

/// What BGP says.
#[derive(Debug, Default)]
struct Bgp {
    /// Best paths, each with whose word it is.
    best: Vec<(Nlri, Path, Origin)>,
    own: BTreeMap<Nlri, Path>,
    /// Paths that are taken and should not be, with the peer and why.
    believed: Vec<(Nlri, PeerId, &'static str)>,
    /// Routes that a peer was told of and should not know.
    leaked: Vec<(Nlri, PeerId)>,
}

impl Audit {
    /// Looks, and looks again at what is different.
    ///
    /// # Errors
    /// Nothing can be compared.
    pub async fn run(&self) -> Result<v1::AuditReply, AuditError> {
        let first = self.look().await?;
        let look = if first.differences.is_empty() {
            first
        } else {
            tokio::time::sleep(BETWEEN).await;
            let mut second = self.look().await?;
            let before: BTreeSet<(String, String)> =
                first.differences.into_iter().map(|one| (one.place, one.what)).collect();
            let still = |one: &Difference| before.contains(&(one.place.clone(), one.what.clone()));
            second.differences.retain(still);
            second
        };
        let more = look.differences.len().saturating_sub(MOST) as u64;
        let message = |one: Difference| v1::AuditDifference {
            place: one.place,
            what: one.what,
            expected: one.expected,
            found: one.found,
        };
        let unseen = |(place, reason)| v1::AuditUnseen { place, reason };
        Ok(v1::AuditReply {
            differences: look.differences.into_iter().take(MOST).map(message).collect(),
            more,
            unseen: look.unseen.into_iter().map(unseen).collect(),
            objects: look.objects,
            routes: look.routes,
            exports: look.exports,
            intent_revision: look.revision,
        })
    }

    async fn look(&self) -> Result<Look, AuditError> {
        let state = state::read(&*self.store).await?;
        let plan = Plan::of(&state, &self.cluster)?;
        let plan = plan.ok_or_else(|| AuditError::NoCluster(self.cluster.clone()))?;
        let (rules, peers) = self.rules(&state.intent, plan.facts.clone()).await?;
        let bgp = self.bgp(&rules).await?;
        let mut look = Look { revision: state.revision.0, ..Look::default() };
        // The routes of each gateway, worked out from nothing.
        let mut distribution = Distribution::new(self.asn);
        for (name, (gateway, desired)) in &plan.gateways {
            distribution.set_gateway(name, member(gateway, desired));
        }
        for (nlri, path, origin) in &bgp.best {
            let said = Said { origin: *origin, attributes: &path.attributes, payload: &path.payload };
            // What gateways cannot use is told by the status.
            let _ = distribution.best(nlri, Some(said));
        }
        let name = |peer: &PeerId| peers.get(peer).map_or("(removed)", String::as_str);
        for (nlri, peer, reason) in &bgp.believed {
            look.differences.insert(compare::believed(nlri, name(peer), reason));
        }
        for (nlri, peer) in &bgp.leaked {
            look.differences.insert(compare::leaked(nlri, name(peer)));
        }
        let mut routes = distribution.take_changes();
        let networks = plan.networks();
        let mut announced: BTreeMap<Nlri, (Attributes, Route)> = BTreeMap::new();
        let mut exporters: BTreeMap<Nlri, String> = BTreeMap::new();
        for (name, (gateway, desired)) in &plan.gateways {
            let place = format!("gateway {name}");
            let vrfs: Vec<String> = desired.vrfs.keys().cloned().collect();
            let holds = match Address::new(&gateway.endpoint, gateway.tls.as_ref()) {
                Ok(address) => {
                    let reading = gateway::read(&address, &self.controller, &vrfs);
                    let timed_out = |_| format!("did not tell all within {} s", GATEWAY_LIMIT.as_secs());
                    tokio::time::timeout(GATEWAY_LIMIT, reading)
                        .await
                        .map_err(timed_out)
                        .and_then(|read| read)
                }
                Err(reason) => Err(reason),
            };
            let holds = match holds {
                Ok(holds) => holds,
                Err(reason) => {
                    look.unseen.insert(place, reason);
                    continue;
                }
            };
            let changes = routes.remove(name).unwrap_or_default();
            let objects = programs::objects(desired);
            look.objects += holds.objects.len() as u64;
            look.routes += holds.routes.len() as u64;
            look.exports += holds.exports.len() as u64;
            look.differences.extend(compare::gateway(&place, objects, &changes, desired, &holds));
            for export in &holds.exports {
                let network = networks.get(&(name.clone(), export.vrf.clone())).copied();
                for (attributes, route) in self.routes_of(network, export) {
                    exporters.insert(route.nlri.clone(), name.clone());
                    announced.insert(route.nlri.clone(), (attributes, route));
                }
            }
        }
        let all_seen = look.unseen.is_empty();
        look.differences.extend(compare::announcements(&announced, &exporters, &bgp.own, all_seen));
        Ok(look)
    }

    /// The routes that an export should be announced as. Those that cannot be are
    /// told by the status.
    fn routes_of(&self, network: Option<u32>, export: &Export) -> Vec<(Attributes, Route)> {
        outward::routes(self.asn, network, export).unwrap_or_default()
    }

    /// The rules for peers, out of the intent, and the peers' names.
    async fn rules(
        &self,
        intent: &Intent,
        mut facts: Facts,
    ) -> Result<(Rules, HashMap<PeerId, String>), Ended> {
        let reading = self.speaker.with(|speaker, _| {
            let address = |id| Some((speaker.peer_config(id)?.session.address, id));
            let ids: HashMap<IpAddr, PeerId> = speaker.peers().filter_map(address).collect();
            let families = Family::ALL.into_iter().filter(|family| family.has_route_targets());
            let routes = families.flat_map(|family| speaker.rib().routes(family));
            let own = routes.filter(|(_, path)| path.peer == PeerId::LOCAL);
            let endpoints: BTreeSet<IpAddr> =
                own.map(|(_, path)| path.attributes.next_hop.address()).collect();
            (ids, endpoints)
        });
        let (ids, endpoints) = reading.await?;
        // Of which gateway each is matters to nobody here.
        endpoints.into_iter().for_each(|endpoint| facts.add_endpoint(&self.cluster, endpoint));
        let facts = Arc::new(facts);
        let mut rules = Rules::new(Arc::clone(&facts));
        let mut names = HashMap::new();
        for (name, peer) in wanted(intent, &self.cluster, &self.own) {
            if let Some(id) = ids.get(&peer.address) {
                rules.add(*id, Arc::new(Party::new(&facts, &peer)));
                names.insert(*id, name);
            }
        }
        Ok((rules, names))
    }

    /// All best routes of VPNs, this cluster's own, and what is wrong with them and
    /// with what peers were told; family by family, since the speaker does other
    /// things in between.
    async fn bgp(&self, rules: &Rules) -> Result<Bgp, Ended> {
        let mut bgp = Bgp::default();
        for family in Family::ALL {
            let rules = rules.clone();
            let part = self.speaker.with(move |speaker, _| Bgp::look(speaker, family, rules)).await?;
            bgp.best.extend(part.best);
            bgp.own.extend(part.own);
            bgp.believed.extend(part.believed);
            bgp.leaked.extend(part.leaked);
        }
        Ok(bgp)
    }
}

impl Bgp {
    fn look(speaker: &Speaker<Rules>, family: Family, mut rules: Rules) -> Self {
        let mut bgp = Self::default();
        let rib = speaker.rib();
        let of_vpns = family.has_route_targets();
        for (nlri, best) in rib.routes(family).filter(|_| of_vpns) {
            let own = rib.path_of(nlri, PeerId::LOCAL).cloned();
            bgp.own.extend(own.map(|own| (nlri.clone(), own)));
            if best.peer != PeerId::LOCAL {
                let candidate = Candidate { nlri, payload: &best.payload, attributes: &best.attributes };
                let refused = match rules.import(best.peer, candidate) {
                    Verdict::Object(objection) => objection.hides.then_some(objection.reason),
                    Verdict::Reject(reason) => Some(reason),
                    Verdict::Accept => None,
                };
                bgp.believed.extend(refused.map(|reason| (nlri.clone(), best.peer, reason)));
            }
            if let Some(origin) = rules.origin(best.peer, &best.attributes) {
                bgp.best.push((nlri.clone(), best.clone(), origin));
            }
        }
        for peer in speaker.peers() {
            let told = rib.told(family, peer);
            let best = told.filter_map(|nlri| Some((nlri, rib.best(nlri)?)));
            let leaked = best.filter(|(nlri, path)| !rules.export(peer, nlri, path));
            bgp.leaked.extend(leaked.map(|(nlri, _)| (nlri.clone(), peer)));
        }
        bgp
    }
}
