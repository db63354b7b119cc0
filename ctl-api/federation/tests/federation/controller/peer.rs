//! A BGP speaker of one test, at 127.0.0.2, that the controller at 127.0.0.1
//! connects to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tieline_bgp::net::{self, Handle};
use tieline_bgp::rib::PeerId;
use tieline_bgp::rib::policy::AcceptAll;
use tieline_bgp::session::SessionConfig;
use tieline_bgp::speaker::{PeerConfig, Speaker, SpeakerConfig};
use tieline_bgp::wire::{Attributes, Family, Label, Nlri, Payload, Route, RouteTarget};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Where it is.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Where the controller is.
const CONTROLLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));

/// The speaker.
pub struct Peer {
    asn: u32,
    port: u16,
    handle: Handle<AcceptAll>,
    running: [JoinHandle<()>; 2],
}

impl Peer {
    /// Starts it; it waits for the controller.
    pub async fn start(asn: u32) -> Self {
        let config = SpeakerConfig::new(asn, Ipv4Addr::new(198, 18, 0, 2));
        let speaker = Speaker::new(config, AcceptAll, Duration::ZERO);
        let listeners = net::listen(&[SocketAddr::new(ADDRESS, 0)]).expect("a port");
        let port = listeners[0].local_addr().expect("an address").port();
        let (events, mut heard) = mpsc::channel(16);
        let (handle, driver) = net::run(speaker, listeners, events);
        let running =
            [tokio::spawn(driver), tokio::spawn(async move { while heard.recv().await.is_some() {} })];
        let added = handle
            .with(|speaker, now| {
                let families = [Family::Ipv4Unicast, Family::Vpnv4, Family::Vpnv6].into_iter().collect();
                let session =
                    SessionConfig { passive: true, families, ..SessionConfig::new(CONTROLLER, 64512) };
                speaker.add_peer(now, PeerConfig::new(session)).map(drop)
            })
            .await;
        added.expect("it runs").expect("one peer");
        Self { asn, port, handle, running }
    }

    /// The object that makes it a peer of the cluster `east`.
    pub fn object(&self, more: &str) -> String {
        format!(
            "---\napiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: west}}\n\
             spec: {{cluster: east, address: {ADDRESS}, port: {}, asn: {}, {more}}}\n",
            self.port, self.asn
        )
    }

    /// Announces a VPN route, or with an empty distinguisher a unicast route, to a
    /// gateway 198.18.0.`gateway`.
    pub async fn announce(&self, rd: &str, prefix: &str, target: &str, gateway: u8) {
        self.announce_with(rd, prefix, target, gateway, |_| {}).await;
    }

    /// As [`Peer::announce`], with other attributes.
    pub async fn announce_with(
        &self,
        rd: &str,
        prefix: &str,
        target: &str,
        gateway: u8,
        change: impl FnOnce(&mut Attributes),
    ) {
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, gateway]));
        let mut payload = Payload::default();
        if !rd.is_empty() {
            let target: RouteTarget = target.parse().expect("a route target");
            attributes.extended.push(target.into());
            payload = Payload::labelled(Label::mpls(1000));
        }
        change(&mut attributes);
        let nlri = nlri(rd, prefix);
        let announcing =
            self.handle.with(move |speaker, _| speaker.announce(attributes, [Route { nlri, payload }]));
        announcing.await.expect("it runs");
    }

    /// Takes a route back.
    pub async fn withdraw(&self, rd: &str, prefix: &str) {
        let nlri = nlri(rd, prefix);
        self.handle.with(move |speaker, _| speaker.withdraw(&[nlri])).await.expect("it runs");
    }

    /// What the controller has told: routes, with their route targets.
    pub async fn heard(&self) -> BTreeMap<String, Vec<String>> {
        let reading = self.handle.with(|speaker, _| {
            let theirs = speaker.rib().routes(Family::Vpnv4).filter(|(_, path)| path.peer != PeerId::LOCAL);
            let words = theirs.map(|(nlri, path)| {
                (nlri.to_string(), path.attributes.route_targets().map(|target| target.to_string()).collect())
            });
            words.collect()
        });
        reading.await.expect("it runs")
    }

    /// Ends it without a word.
    pub async fn stop(self) {
        for task in self.running {
            task.abort();
            // It was aborted, or had ended.
            let _ = task.await;
        }
    }
}

fn nlri(rd: &str, prefix: &str) -> Nlri {
    let prefix = prefix.parse().expect("a prefix");
    if rd.is_empty() { Nlri::Ipv4(prefix) } else { Nlri::Vpnv4(rd.parse().expect("a distinguisher"), prefix) }
}
