//! The far cluster: a BGP speaker that listens on a loopback address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tieline_bgp::net::{self, Handle};
use tieline_bgp::rib::policy::AcceptAll;
use tieline_bgp::session::SessionConfig;
use tieline_bgp::speaker::{Event, PeerConfig, Speaker, SpeakerConfig, Transport};
use tieline_bgp::wire::{Family, FamilySet, Nlri};
use tokio::sync::{mpsc, watch};

use crate::routes::{self, Groups};

/// Where it is.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// AS of the cluster that is its peer.
pub const PEER_ASN: u32 = 64512;
/// Where its peer connects from.
pub const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// The address that the controller goes by. Route target memberships have it as
/// their next hop, which may not be a loopback address; and since its peer's is
/// of the other IP version, connections do not come from it.
pub const CONTROLLER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Longer than any start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What the far cluster knows of its peer.
#[derive(Debug, Default)]
struct State {
    /// It has said which route targets it wants.
    ready: bool,
    /// What went wrong first.
    trouble: Option<String>,
}

impl State {
    fn take(&mut self, event: Event) {
        let trouble = match event {
            Event::EndOfRib { family: Family::RouteTarget, .. } => {
                self.ready = true;
                return;
            }
            Event::Fault { fault, .. } => format!("damaged update: {fault:?}"),
            Event::Unsendable { nlri, reason, .. } => format!("{nlri} cannot be sent: {reason}"),
            Event::Down { down, .. } => format!("the session is over: {}", down.reason),
            _ => return,
        };
        self.trouble.get_or_insert(trouble);
    }
}

/// The far cluster. It ends with this.
#[derive(Debug)]
pub struct Far {
    handle: Handle<AcceptAll>,
    /// The TCP port on which it waits for its peer.
    pub port: u16,
    ready: watch::Receiver<State>,
}

impl Far {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listeners = net::listen(&[SocketAddr::from((ADDRESS, 0))])?;
        let port = listeners.first().context("no listener")?.local_addr()?.port();
        let config = SpeakerConfig::new(routes::ASN.into(), Ipv4Addr::new(198, 18, 255, 2));
        let speaker = Speaker::new(config, AcceptAll, Duration::ZERO);
        let (events, mut batches) = mpsc::channel::<Vec<Event>>(16);
        let (handle, driver) = net::run(speaker, listeners, events);
        tokio::spawn(driver);
        let session = SessionConfig {
            passive: true,
            families: FamilySet::ALL,
            restart_time: Duration::from_secs(120),
            ..SessionConfig::new(IpAddr::V4(PEER), PEER_ASN)
        };
        handle.with(move |speaker, now| speaker.add_peer(now, PeerConfig::new(session))).await??;
        let (state, ready) = watch::channel(State::default());
        tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                for event in batch {
                    state.send_modify(|state| state.take(event));
                }
            }
        });
        Ok(Self { handle, port, ready })
    }

    /// Waits until the peer is there and has said which route targets it wants.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn joined(&mut self) -> anyhow::Result<()> {
        let known = self.ready.wait_for(|state| state.ready || state.trouble.is_some());
        let state = tokio::time::timeout(START_LIMIT, known)
            .await
            .context("the controller has not connected, or not said what it wants")??;
        if let Some(trouble) = &state.trouble {
            anyhow::bail!("between the two clusters: {trouble}");
        }
        Ok(())
    }

    /// Announces routes.
    ///
    /// # Errors
    /// When the speaker has ended.
    pub async fn announce(&self, groups: Groups) -> anyhow::Result<()> {
        let announce = move |speaker: &mut Speaker, _| {
            for (attributes, routes) in groups {
                speaker.announce(attributes, routes);
            }
        };
        Ok(self.handle.with(announce).await?)
    }

    /// Takes routes back.
    ///
    /// # Errors
    /// When the speaker has ended.
    pub async fn withdraw(&self, groups: Groups) -> anyhow::Result<()> {
        let gone: Vec<Nlri> =
            groups.into_iter().flat_map(|(_, routes)| routes).map(|route| route.nlri).collect();
        Ok(self.handle.with(move |speaker, _| speaker.withdraw(&gone)).await?)
    }
}

/// A speaker in the place of a controller: it only reads.
#[derive(Debug)]
pub struct Reader {
    /// The task that it lives in ends with this.
    _handle: Handle<AcceptAll>,
    routes: watch::Receiver<u32>,
}

impl Reader {
    /// Starts it; it connects to the far cluster.
    ///
    /// # Errors
    /// When the speaker has ended.
    pub async fn start(port: u16) -> anyhow::Result<Self> {
        let speaker = Speaker::new(SpeakerConfig::new(PEER_ASN, PEER), AcceptAll, Duration::ZERO);
        let (events, mut batches) = mpsc::channel::<Vec<Event>>(16);
        let (handle, driver) = net::run(speaker, Vec::new(), events);
        tokio::spawn(driver);
        let session = SessionConfig {
            families: FamilySet::ALL,
            restart_time: Duration::from_secs(120),
            ..SessionConfig::new(IpAddr::V4(ADDRESS), routes::ASN.into())
        };
        let transport = Transport { port, local_address: Some(IpAddr::V4(PEER)), ..Transport::default() };
        let config = PeerConfig { transport, ..PeerConfig::new(session) };
        let add = move |speaker: &mut Speaker, now| {
            let wanted = (0..routes::NETWORKS).map(routes::target).collect();
            speaker.want(wanted, IpAddr::V6(CONTROLLER));
            speaker.add_peer(now, config)
        };
        handle.with(add).await??;
        let (count, routes) = watch::channel(0);
        tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                for event in &batch {
                    let Event::Best { nlri, peer } = event else { continue };
                    if nlri.family() == Family::Evpn {
                        let more = |count: &mut u32| {
                            *count = if peer.is_some() { *count + 1 } else { count.saturating_sub(1) };
                        };
                        count.send_modify(more);
                    }
                }
            }
        });
        Ok(Self { _handle: handle, routes })
    }

    /// Waits until it has so many EVPN routes.
    ///
    /// # Errors
    /// When that does not come about.
    pub async fn has(&mut self, routes: u32) -> anyhow::Result<()> {
        let waited = tokio::time::timeout(START_LIMIT, self.routes.wait_for(|now| *now == routes)).await;
        let reached = waited.map(|in_time| in_time.map(drop));
        reached.with_context(|| {
            format!("the speaker has {} routes and not {routes}", *self.routes.borrow())
        })??;
        Ok(())
    }
}
