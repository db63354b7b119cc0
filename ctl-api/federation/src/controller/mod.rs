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
//! - [`plan`]: what gateways should hold
//! - `reconcile`: what the intent says is done
//! - `heard`, `learned`: what gateways say, what BGP brings
//! - `announced`: what was announced for gateways' exports
//! - `gateways`: clients of gateways, and what each was told
//! - [`peers`]: BGP peers of the intent
//! - `lately`: routes that were kept away
//! - `canary`: prefixes that peers must announce
//! - [`journal`]: what has happened
//! - `status`, `faults`: how everything is, and what of it is wrong
//! - [`questions`]: how others ask

mod announced;
mod canary;
mod faults;
mod gateways;
mod heard;
pub mod journal;
mod lately;
mod learned;
pub mod peers;
pub mod plan;
pub mod questions;
mod reconcile;
mod status;

pub use faults::ESTABLISHED;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tieline_bgp::net::{self, Handle};
use tieline_bgp::rib::PeerId;
use tieline_bgp::speaker::{Event as BgpEvent, Speaker, SpeakerConfig};
use tieline_bgp::wire::{Family, RouteTarget};
use tieline_process::essential;
use tieline_proto::federation::v1::{self, EventKind};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::exchange::{Facts, Rules};
use crate::intent::Intent;
use crate::intent::names::Name;
use crate::numbers::{Asn, RouterId};
use crate::routes::distribution::Distribution;
use crate::store::{Revision, Store, StoreError, state};
use announced::Announced;
use canary::Canaries;
use gateways::Gateways;
use journal::Journal;
use lately::Lately;
use peers::Peers;
use questions::Questions;

/// Longest time after a start in which gateways' synchronisation waits for
/// peers that do not come.
const PEERS_LIMIT: Duration = Duration::from_secs(60);
/// The same for the end of the RIB, which waits for gateways that do not come.
const GATEWAYS_LIMIT: Duration = Duration::from_secs(60);
/// How often files with passwords are looked at.
const PASSWORDS: Duration = Duration::from_secs(10);
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

impl Settings {
    /// The name in which it declares at gateways. Each controller has one of its
    /// own: all declare the same.
    pub fn name_at_gateways(&self) -> String {
        format!("federation/{}/{}", self.cluster, self.controller)
    }
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
    mut questions: Questions,
    stop: impl Future<Output = ()>,
) -> Result<(), ControllerError> {
    tokio::pin!(stop);
    let say = questions.waiting();
    let identity = tokio::select! {
        identity = identify(&settings, &*store, say) => identity?,
        () = questions.turn_away() => return Ok(()),
        () = &mut stop => return Ok(()),
    };
    let listeners = net::listen(&settings.listen)?;
    let config = SpeakerConfig {
        host_name: Some(settings.controller.to_string()),
        own_addresses: vec![identity.address],
        restart_deferral: GATEWAYS_LIMIT,
        seed: seed(),
        ..SpeakerConfig::new(identity.asn.into(), identity.router_id.address())
    };
    let speaker = Speaker::new(config, Rules::new(Facts::none(identity.asn).into()), Duration::ZERO);
    let (events, bgp_events) = mpsc::channel(BGP_BATCHES);
    let (speaker, driver) = net::run(speaker, listeners, events);
    let driver = tokio::spawn(essential::task(driver));
    info!(cluster = %settings.cluster, controller = %settings.controller, asn = %identity.asn, "controller started");
    let outcome =
        Controller::new(settings, identity, speaker, store).go_on(bgp_events, questions, &mut stop).await;
    // The speaker ends with its last handle: without a notification, so that
    // peers with graceful restart keep what they have.
    driver.abort();
    outcome
}

/// Who the controller is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    asn: Asn,
    address: IpAddr,
    router_id: RouterId,
}

impl Identity {
    fn find(settings: &Settings, intent: &Intent) -> Option<Self> {
        let cluster = intent.cluster(&settings.cluster)?;
        let own = cluster.controllers.iter().find(|own| own.name == settings.controller)?;
        Some(Self { asn: cluster.asn, address: own.address, router_id: own.router_id() })
    }
}

/// Waits until the intent says who this controller is.
async fn identify(
    settings: &Settings,
    store: &dyn Store,
    say: impl Fn(String),
) -> Result<Identity, StoreError> {
    let mut told = String::new();
    loop {
        let (reason, revision) = match state::read(store).await {
            Ok(state) => match Identity::find(settings, &state.intent) {
                Some(identity) => {
                    say(String::new());
                    return Ok(identity);
                }
                None => {
                    let (cluster, controller) = (&settings.cluster, &settings.controller);
                    let reason = format!(
                        "the intent has no cluster {cluster} with a controller {controller}; apply one"
                    );
                    (reason, state.revision)
                }
            },
            // Somebody may put it right, and gateways keep what they have until then.
            Err(error @ StoreError::Damaged { .. }) => (error.to_string(), store.read().await?.revision),
            Err(error) => return Err(error),
        };
        let problems = store.problems().into_iter().map(|problem| format!("; the store: {problem}"));
        let reason = reason + &problems.collect::<String>();
        if reason != told {
            warn!("waiting: {reason}");
            say(reason.clone());
            told = reason;
        }
        let mut watch = store.watch(revision).await?;
        if watch.next().await.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
    speaker: Handle<Rules>,
    /// What decides about paths; the speaker has the same.
    facts: Arc<Facts>,
    /// As far as the intent says it.
    intent_facts: Facts,
    /// Where gateways say that they are, beside what the intent says.
    endpoints: BTreeMap<Name, BTreeSet<IpAddr>>,
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
    canaries: Canaries,
    kept_away: Lately,
    journal: Journal,
    /// When this controller was started.
    start: Instant,
    /// When this controller was started, in seconds since 1970.
    started_at: u64,
    /// The intent that is in force.
    revision: Revision,
    /// Why a newer one is not, or may be missed.
    intent_problem: Option<String>,
    /// What is allocated in that intent.
    pools: Vec<v1::AllocationStatus>,
}

impl Controller {
    fn new(settings: Settings, identity: Identity, speaker: Handle<Rules>, store: Arc<dyn Store>) -> Self {
        Self {
            identity,
            store,
            speaker,
            facts: Arc::new(Facts::none(identity.asn)),
            intent_facts: Facts::none(identity.asn),
            endpoints: BTreeMap::new(),
            peers: Peers::default(),
            gateways: Gateways::new(&settings.name_at_gateways()),
            distribution: Distribution::new(identity.asn),
            announced: Announced::default(),
            wanted: BTreeSet::new(),
            unheard: Some(BTreeSet::new()),
            unlearned: Some(BTreeSet::new()),
            canaries: Canaries::default(),
            kept_away: Lately::default(),
            journal: Journal::new(seed()),
            start: Instant::now(),
            started_at: now(),
            revision: Revision::default(),
            intent_problem: None,
            pools: Vec::new(),
            settings,
        }
    }

    /// Notes what has happened.
    fn note(&mut self, kind: EventKind, subject: impl Into<String>, message: impl Into<String>) {
        self.journal.note(now(), kind, subject, message);
    }

    /// The time in seconds since 1970, and since the start.
    fn time(&self) -> (u64, Duration) {
        (now(), self.start.elapsed())
    }

    async fn go_on(
        mut self,
        mut bgp: mpsc::Receiver<Vec<BgpEvent>>,
        mut questions: Questions,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<(), ControllerError> {
        let state = state::read(&*self.store).await?;
        let mut watch = self.store.watch(state.revision).await?;
        self.reconcile(&state).await?;
        let peers_limit = tokio::time::sleep_until(Instant::now() + PEERS_LIMIT);
        tokio::pin!(peers_limit);
        let mut passwords = tokio::time::interval(PASSWORDS);
        loop {
            let patience = self.canaries.deadline().map(|deadline| self.start + deadline);
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
                        Err(error) => self.not_in_force(format!("it cannot be read: {error}")),
                    }
                }
                Some((gateway, event)) = self.gateways.next() => self.heard(&gateway, event).await?,
                Some(batch) = bgp.recv() => self.learned(batch).await?,
                Some(question) = questions.next() => self.answer(question).await?,
                _ = passwords.tick() => {
                    if self.peers.passwords_have_changed() && let Ok(state) = state::read(&*self.store).await {
                        self.reconcile(&state).await?;
                    }
                }
                () = &mut peers_limit, if self.unlearned.is_some() => {
                    warn!("not every peer has told all its routes: gateways are synchronised without them");
                    self.all_learned();
                }
                () = tokio::time::sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    self.look_at_canaries();
                }
                () = &mut *stop => {
                    self.gateways.stop().await;
                    return Ok(());
                }
            }
        }
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
}
