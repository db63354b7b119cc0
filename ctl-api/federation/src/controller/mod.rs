//! The running controller of one cluster.
//!
//! ```text
//!            intent, numbers
//!   store ---------------------> controller <----------> BGP speaker <--> peers
//!                                  |     ^
//!                        programs  v     | exports
//!                                 gateways
//! ```
//!
//! One task owns everything; the store, the speaker and each gateway's client
//! are tasks of their own that it hears of by messages. Several controllers of
//! a cluster run at once, each with a name of its own at the gateways: they
//! declare the same, and either may go.
//!
//! On a start, gateways are told all that intent and BGP say before the
//! synchronisation with them ends, and peers get the end of the RIB when all
//! gateways have told what they export: nothing that is still right is taken
//! back in between.
//!
//! - `announced`: what was announced for gateways' exports
//! - `gateways`: clients of gateways, and what each was told
//! - `peers`: BGP peers of the intent

mod announced;
mod gateways;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tieline_bgp::net::{self, Handle};
use tieline_bgp::rib::PeerId;
use tieline_bgp::speaker::{Event as BgpEvent, Speaker, SpeakerConfig};
use tieline_bgp::wire::{Family, Nlri, Rd, RouteTarget};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::contracts::Contracts;
use crate::desired::desired;
use crate::gateway::events::Event as GatewayEvent;
use crate::intent::Intent;
use crate::intent::kinds::network_policy::NetworkPolicy;
use crate::intent::names::Name;
use crate::numbers::Asn;
use crate::routes::distribution::{Distribution, LocalVrf, Member};
use crate::routes::outward;
use crate::store::state::{self, State};
use crate::store::{Store, StoreError};
use announced::Announced;
use gateways::Gateways;
use peers::Peers;

/// Longest time after a start in which gateways' synchronisation waits for
/// peers that do not come.
const PEERS_LIMIT: Duration = Duration::from_secs(60);
/// The same for the end of the RIB, which waits for gateways that do not come.
const GATEWAYS_LIMIT: Duration = Duration::from_secs(60);
/// Batches of events of BGP that wait for us. A batch is up to a megabyte.
const BGP_BATCHES: usize = 2;

/// What a controller is told when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster that it serves.
    pub cluster: Name,
    /// Which of the cluster's controllers it is.
    pub controller: Name,
    /// Where it takes BGP connections.
    pub listen: Vec<SocketAddr>,
}

/// Why a controller cannot run.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("{0}: is another BGP speaker running, or does port 179 need root?")]
    Listen(#[from] std::io::Error),
    /// The speaker has ended.
    #[error(transparent)]
    Speaker(#[from] net::Ended),
}

/// Runs until `stop` comes. Gateways and peers keep what they have been told.
///
/// # Errors
/// The controller cannot start, or not go on.
pub async fn run(
    settings: Settings,
    store: Arc<dyn Store>,
    stop: impl Future<Output = ()>,
) -> Result<(), ControllerError> {
    tokio::pin!(stop);
    let identity = tokio::select! {
        identity = identify(&settings, &*store) => identity?,
        () = &mut stop => return Ok(()),
    };
    let listeners = net::listen(&settings.listen)?;
    let config = SpeakerConfig {
        host_name: Some(settings.controller.to_string()),
        own_addresses: vec![identity.address],
        restart_deferral: GATEWAYS_LIMIT,
        seed: seed(),
        ..SpeakerConfig::new(identity.asn.into(), identity.router_id)
    };
    let speaker = Speaker::new(config, Contracts::default(), Duration::ZERO);
    let (events, bgp_events) = mpsc::channel(BGP_BATCHES);
    let (speaker, driver) = net::run(speaker, listeners, events);
    let driver = tokio::spawn(driver);
    info!(cluster = %settings.cluster, controller = %settings.controller, asn = %identity.asn, "controller started");
    let outcome = Controller::new(settings, identity, speaker, store).go_on(bgp_events, &mut stop).await;
    // The speaker ends with its last handle: without a notification, so that
    // peers with graceful restart keep what they have.
    driver.abort();
    outcome
}

/// Who the controller is in its cluster.
#[derive(Debug, Clone, Copy)]
struct Identity {
    asn: Asn,
    address: IpAddr,
    router_id: Ipv4Addr,
}

impl Identity {
    fn find(settings: &Settings, intent: &Intent) -> Option<Self> {
        let cluster = intent.cluster(&settings.cluster)?;
        let own = cluster.controllers.iter().find(|own| own.name == settings.controller)?;
        let router_id = match own.address {
            IpAddr::V4(v4) => v4,
            // RFC 6286: any number that is unique in the AS. The last bytes of
            // addresses of one network differ.
            IpAddr::V6(v6) => {
                let [.., a, b, c, d] = v6.octets();
                Ipv4Addr::new(a | 1, b, c, d)
            }
        };
        Some(Self { asn: cluster.asn, address: own.address, router_id })
    }
}

/// Waits until the intent says who this controller is.
async fn identify(settings: &Settings, store: &dyn Store) -> Result<Identity, StoreError> {
    let mut told = false;
    loop {
        let state = state::read(store).await?;
        if let Some(identity) = Identity::find(settings, &state.intent) {
            return Ok(identity);
        }
        if !std::mem::replace(&mut told, true) {
            warn!(
                "waiting: the intent has no cluster {} with a controller {}; apply one",
                settings.cluster, settings.controller
            );
        }
        let mut watch = store.watch(state.revision).await?;
        if watch.next().await.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Differs from start to start; nothing secret depends on it.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

struct Controller {
    settings: Settings,
    identity: Identity,
    store: Arc<dyn Store>,
    speaker: Handle<Contracts>,
    peers: Peers,
    gateways: Gateways,
    distribution: Distribution,
    announced: Announced,
    wanted: BTreeSet<RouteTarget>,
    /// Gateways that have not told all their exports since the start; `None`
    /// when peers have been told that this is all.
    unheard: Option<BTreeSet<String>>,
    /// Peers that have not told all their routes since the start; `None` when
    /// gateways have been told that this is all.
    unlearned: Option<BTreeSet<(PeerId, Family)>>,
}

impl Controller {
    fn new(
        settings: Settings,
        identity: Identity,
        speaker: Handle<Contracts>,
        store: Arc<dyn Store>,
    ) -> Self {
        // Each controller has a name of its own: all declare the same.
        let name = format!("federation/{}/{}", settings.cluster, settings.controller);
        Self {
            identity,
            store,
            speaker,
            peers: Peers::default(),
            gateways: Gateways::new(&name),
            distribution: Distribution::new(identity.asn),
            announced: Announced::default(),
            wanted: BTreeSet::new(),
            unheard: Some(BTreeSet::new()),
            unlearned: Some(BTreeSet::new()),
            settings,
        }
    }

    async fn go_on(
        mut self,
        mut bgp: mpsc::Receiver<Vec<BgpEvent>>,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), ControllerError> {
        let state = state::read(&*self.store).await?;
        let mut watch = self.store.watch(state.revision).await?;
        self.reconcile(&state).await?;
        let peers_limit = tokio::time::sleep_until(Instant::now() + PEERS_LIMIT);
        tokio::pin!(peers_limit);
        loop {
            tokio::select! {
                update = watch.next() => {
                    if update.is_none() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    // What is there now counts, however it came about.
                    match state::read(&*self.store).await {
                        Ok(state) => {
                            if update.is_none() {
                                watch = self.store.watch(state.revision).await?;
                            }
                            self.reconcile(&state).await?;
                        }
                        Err(error) => error!("going on with the intent as it was: {error}"),
                    }
                }
                Some((gateway, event)) = self.gateways.next() => self.heard(&gateway, event).await?,
                Some(batch) = bgp.recv() => self.learned(batch).await?,
                () = &mut peers_limit, if self.unlearned.is_some() => {
                    warn!("not every peer has told all its routes: gateways are synchronised without them");
                    self.all_learned();
                }
                () = &mut *stop => {
                    self.gateways.stop().await;
                    return Ok(());
                }
            }
        }
    }

    /// The intent is this now.
    async fn reconcile(&mut self, state: &State) -> Result<(), ControllerError> {
        let Some(cluster) = state.intent.cluster(&self.settings.cluster).cloned() else {
            error!(
                "the cluster {} has gone from the intent: everything stays as it is",
                self.settings.cluster
            );
            return Ok(());
        };
        if Identity::find(&self.settings, &state.intent).is_none_or(|now| now.asn != self.identity.asn) {
            error!("the AS number or this controller has changed in the intent: restart the controller");
            return Ok(());
        }
        // The engine has no policies between networks yet: what only a policy
        // would bring is left out, or everything would pass.
        let mut intent = state.intent.clone();
        let policies: Vec<_> = intent.all::<NetworkPolicy>().map(|(key, _)| key.clone()).collect();
        for key in &policies {
            intent.remove(key);
            warn!(policy = %key, "is not in force: gateways have no policies between networks yet");
        }
        let all = match desired(&intent, &state.allocations) {
            Ok(all) => all,
            Err(error) => {
                error!("everything stays as it is: {error}");
                return Ok(());
            }
        };
        let mine: BTreeMap<String, _> = cluster
            .gateways
            .iter()
            .filter_map(|gateway| {
                let desired = all.get(&gateway.name)?;
                Some((gateway.name.to_string(), (gateway.clone(), desired.clone())))
            })
            .collect();
        for name in self.gateways.names() {
            if !mine.contains_key(&name) {
                self.gateways.forget(&name).await;
                self.distribution.forget_gateway(&name);
                let gone = self.announced.forget_gateway(&name);
                self.speaker.with(move |speaker, _| speaker.withdraw(&gone)).await?;
                info!(gateway = name, "is not in the intent any more: it keeps what it has");
            }
        }
        for (name, (gateway, desired)) in &mine {
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
            let endpoints = gateway.tunnel_addresses.iter().copied().collect();
            let vrfs: BTreeMap<Rd, LocalVrf> = desired
                .vrfs
                .iter()
                .filter_map(|(name, vrf)| {
                    let targets = vrf.imports.iter();
                    let imports = targets.filter_map(|target| target.to_string().parse().ok()).collect();
                    Some((vrf.rd.to_string().parse().ok()?, LocalVrf { name: name.clone(), imports }))
                })
                .collect();
            let imports = vrfs.values().flat_map(|vrf| vrf.imports.iter().copied()).collect();
            self.distribution.set_gateway(name, Member { imports, endpoints, vrfs });
        }
        let numbers = mine.iter().flat_map(|(name, (_, desired))| {
            desired.vrfs.iter().map(move |(vrf, of)| ((name.clone(), vrf.clone()), of.network_number))
        });
        self.announced.set_networks(numbers.collect());
        self.reconcile_peers(&state.intent).await?;
        self.want().await?;
        self.tell_gateways();
        if self.unheard.as_ref().is_some_and(BTreeSet::is_empty) {
            self.all_heard().await?;
        }
        Ok(())
    }

    async fn reconcile_peers(&mut self, intent: &Intent) -> Result<(), ControllerError> {
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
            let contract = peer.contract.clone();
            let added = self
                .speaker
                .with(move |speaker, now| {
                    let id = speaker.add_peer(now, config).map_err(|error| error.to_string())?;
                    speaker.policy_mut().set(id, contract.as_ref());
                    Ok::<_, String>(id)
                })
                .await?;
            match added {
                Ok(id) => {
                    if let Some(unlearned) = &mut self.unlearned {
                        let families =
                            peer.families.iter().map(|family| crate::contracts::bgp_family(*family));
                        let families = families.filter(|family| family.has_route_targets());
                        unlearned.extend(families.map(|family| (id, family)));
                    }
                    self.peers.added(&name, peer, id);
                }
                Err(error) => error!(peer = name, "is left out: {error}"),
            }
        }
        if self.unlearned.as_ref().is_some_and(BTreeSet::is_empty) {
            self.all_learned();
        }
        Ok(())
    }

    /// A gateway has said something.
    async fn heard(&mut self, gateway: &str, event: GatewayEvent) -> Result<(), ControllerError> {
        match event {
            GatewayEvent::Up { hello } => info!(gateway, node = hello.node_id, "connected"),
            GatewayEvent::Down { cause, reason, retry_in } => {
                warn!(gateway, %cause, ?retry_in, "not connected, and forwarding on: {reason}");
            }
            GatewayEvent::Synced { withdrawn } => info!(gateway, withdrawn, "synchronised"),
            GatewayEvent::SyncHeld { refused } => {
                warn!(gateway, refused, "not synchronised: something was refused");
            }
            GatewayEvent::Refused(refusal) => error!(gateway, "refused: {refusal}"),
            GatewayEvent::Programmed { revision } => debug!(gateway, ?revision, "programmed"),
            GatewayEvent::Export(export) => {
                let routes =
                    outward::routes(self.identity.asn, self.announced.network(gateway, &export.vrf), &export);
                let routes = routes.unwrap_or_else(|error| {
                    warn!(gateway, "{error}");
                    Vec::new()
                });
                let gone = self.announced.set(gateway, &export.vrf, &export.prefix, &routes);
                self.speaker
                    .with(move |speaker, _| {
                        speaker.withdraw(&gone);
                        for (attributes, route) in routes {
                            speaker.announce(attributes, [route]);
                        }
                    })
                    .await?;
            }
            GatewayEvent::ExportGone { vrf, prefix } => {
                let gone = self.announced.set(gateway, &vrf, &prefix, &[]);
                self.speaker.with(move |speaker, _| speaker.withdraw(&gone)).await?;
            }
            GatewayEvent::ExportsComplete => {
                if let Some(unheard) = &mut self.unheard {
                    unheard.remove(gateway);
                    if unheard.is_empty() {
                        self.all_heard().await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// BGP has brought something.
    async fn learned(&mut self, batch: Vec<BgpEvent>) -> Result<(), ControllerError> {
        // Many events of one route are one look at it.
        let mut changed: BTreeSet<Nlri> = BTreeSet::new();
        for event in batch {
            match event {
                BgpEvent::Best { nlri, .. } => {
                    changed.insert(nlri);
                }
                BgpEvent::Path { .. } | BgpEvent::PathGone { .. } => {}
                BgpEvent::Up { peer, negotiated } => {
                    self.peers.up(peer);
                    info!(peer = self.peers.name(peer), families = ?negotiated.families, "BGP session up");
                    if let Some(unlearned) = &mut self.unlearned {
                        unlearned.retain(|(of, family)| *of != peer || negotiated.families.contains(*family));
                    }
                }
                BgpEvent::Down { peer, down } => {
                    warn!(peer = self.peers.name(peer), "BGP session down: {}", down.reason);
                }
                BgpEvent::Failed { peer, reason } => match self.peers.failed(peer, &reason) {
                    Some(news) => warn!(peer = self.peers.name(peer), "no BGP session: {news}"),
                    None => debug!(peer = self.peers.name(peer), "no BGP session: {reason}"),
                },
                // Counted by the speaker, by reason: peers may send any number.
                BgpEvent::Refused { peer, nlri, reason } => {
                    debug!(peer = self.peers.name(peer), %nlri, "refused: {reason}");
                }
                BgpEvent::Unsendable { peer, nlri, reason } => {
                    warn!(peer = self.peers.name(peer), %nlri, "cannot be sent: {reason}");
                }
                BgpEvent::Fault { peer, fault } => {
                    warn!(peer = self.peers.name(peer), "damaged update: {fault:?}");
                }
                BgpEvent::EndOfRib { peer, family } => {
                    if let Some(unlearned) = &mut self.unlearned {
                        unlearned.remove(&(peer, family));
                    }
                }
                BgpEvent::PrefixLimit { peer, family, count, limit } => {
                    error!(peer = self.peers.name(peer), %family, count, limit, "prefix limit");
                }
            }
        }
        if !changed.is_empty() {
            let paths = self
                .speaker
                .with(move |speaker, _| {
                    let best = |nlri: Nlri| {
                        let path = speaker.rib().best(&nlri).cloned();
                        (nlri, path)
                    };
                    changed.into_iter().map(best).collect::<Vec<_>>()
                })
                .await?;
            for (nlri, path) in paths {
                let path = path.as_ref().map(|path| (&*path.attributes, &path.payload));
                if let Err(reason) = self.distribution.best(&nlri, path) {
                    debug!(%nlri, "not for gateways: {reason}");
                }
            }
            self.tell_gateways();
        }
        if self.unlearned.as_ref().is_some_and(BTreeSet::is_empty) {
            self.all_learned();
        }
        Ok(())
    }

    fn tell_gateways(&mut self) {
        for (name, changes) in self.distribution.take_changes() {
            self.gateways.tell(&name, &changes);
        }
    }

    /// Peers are asked for what gateways import.
    async fn want(&mut self) -> Result<(), ControllerError> {
        let wanted = self.distribution.wanted();
        if wanted != self.wanted {
            self.wanted.clone_from(&wanted);
            let address = self.identity.address;
            self.speaker.with(move |speaker, _| speaker.want(wanted, address)).await?;
        }
        Ok(())
    }

    /// All gateways have told what they export: peers are told the end.
    async fn all_heard(&mut self) -> Result<(), ControllerError> {
        self.unheard = None;
        self.speaker.with(|speaker, _| speaker.restart_complete()).await?;
        Ok(())
    }

    /// All peers have told their routes: what gateways hold beside is from
    /// another time.
    fn all_learned(&mut self) {
        self.unlearned = None;
        self.gateways.complete();
    }

    fn forget_peer(&mut self, id: PeerId) {
        if let Some(unlearned) = &mut self.unlearned {
            unlearned.retain(|(of, _)| *of != id);
        }
    }
}
