//! What a test has of a client: its handle, its events, and patience.

use std::time::Duration;

use ipnet::IpNet;
use tieline_federation::gateway::events::Event;
use tieline_federation::gateway::key::Change;
use tieline_federation::gateway::{Address, Gateway, Settings};
use tieline_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::fake;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client and its events.
pub struct Owner {
    pub gateway: Gateway,
    pub events: mpsc::Receiver<Event>,
}

/// Settings that tests need not wait long for.
pub fn settings() -> Settings {
    Settings {
        heartbeat_seconds: 1,
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(200),
        retry_refused: Duration::from_secs(600),
        ..Settings::new("cluster-a")
    }
}

impl Owner {
    /// A client that leads nothing yet.
    pub fn new(fake: &fake::Gateway, settings: Settings) -> Self {
        let address = Address::new(&fake.endpoint(), None).expect("an address");
        let (gateway, events) = Gateway::start(address, settings);
        Self { gateway, events }
    }

    /// A client that leads, without an election.
    pub fn leading(fake: &fake::Gateway) -> Self {
        let owner = Self::new(fake, settings());
        owner.gateway.lead(Some(0));
        owner
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("the client lives")
    }

    /// The first event that suits; the ones before are passed over.
    pub async fn until<T>(&mut self, mut suits: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.event().await;
            if let Some(found) = suits(&event) {
                return found;
            }
        }
    }

    /// Until a session is open.
    pub async fn up(&mut self) -> v1::GatewayHello {
        self.until(|event| match event {
            Event::Up { hello } => Some(v1::GatewayHello::clone(hello)),
            _ => None,
        })
        .await
    }

    /// Until the synchronisation is over; how much was withdrawn.
    pub async fn synced(&mut self) -> u64 {
        self.until(|event| match event {
            Event::Synced { withdrawn } => Some(*withdrawn),
            _ => None,
        })
        .await
    }

    /// Until there is no session; why, and when the next one is tried.
    pub async fn down(&mut self) -> (tieline_federation::gateway::events::Cause, String, Option<Duration>) {
        self.until(|event| match event {
            Event::Down { cause, reason, retry_in } => Some((*cause, reason.clone(), *retry_in)),
            _ => None,
        })
        .await
    }

    /// Declares, and waits until that is in force.
    pub async fn program(&mut self, changes: Vec<Change>) {
        let wanted = self.gateway.change(changes);
        if !self.gateway.is_programmed(wanted) {
            self.until(|event| {
                matches!(event, Event::Programmed { revision } if *revision >= wanted).then_some(())
            })
            .await;
        }
        assert!(self.gateway.is_programmed(wanted));
    }

    /// No event comes for a while, but news of what is programmed.
    pub async fn quiet(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(event) = tokio::time::timeout_at(end, self.events.recv()).await {
            let event = event.expect("the client lives");
            assert!(matches!(event, Event::Programmed { .. }), "{event:?}");
        }
    }
}

/// Waits until something holds.
pub async fn holds(what: &str, check: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < end, "it should come to hold that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A VRF with a label.
pub fn vrf(name: &str, label: u32) -> Change {
    let vrf = v1::Vrf { name: name.to_owned(), label, ..Default::default() };
    v1::Object { kind: Some(v1::object::Kind::Vrf(vrf)) }.into()
}

/// Routes to 10.0.0.0/24 and those after it.
pub fn routes(range: std::ops::Range<u32>, label: u32) -> Change {
    let attributes = v1::Route {
        route_targets: vec!["64512:100".to_owned()],
        next_hop: "gw2".to_owned(),
        label,
        ..Default::default()
    };
    Change::Routes {
        rd: "64512:2".parse().expect("an RD"),
        attributes: Box::new(attributes),
        prefixes: range.map(prefix).collect(),
    }
}

/// None of these routes.
pub fn no_routes(range: std::ops::Range<u32>) -> Change {
    Change::NoRoutes { rd: "64512:2".parse().expect("an RD"), prefixes: range.map(prefix).collect() }
}

fn prefix(number: u32) -> IpNet {
    IpNet::new((0x0a00_0000 | number << 8).to_be_bytes().into(), 24).expect("a prefix")
}
