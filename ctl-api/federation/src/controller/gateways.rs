//! The clients of the cluster's gateways, and what each was told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tieline_process::essential;
use tieline_proto::federation::v1 as federation;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tokio::sync::mpsc;

use crate::desired::DesiredGateway;
use crate::gateway::events::Event;
use crate::gateway::key::{Change, Key};
use crate::gateway::{Address, Gateway, Settings};
use crate::intent::kinds::cluster;
use crate::programs;
use crate::routes::distribution;
use crate::routes::inward::Shared;

/// Events of all gateways that wait for us.
const EVENTS: usize = 1024;
/// Refusals of a gateway that are remembered.
const REFUSALS: usize = 100;

/// The gateways.
pub struct Gateways {
    settings: Settings,
    all: BTreeMap<String, Told>,
    /// Those that cannot be programmed, and why.
    left_out: BTreeMap<String, (String, String)>,
    sender: mpsc::Sender<(String, Event)>,
    events: mpsc::Receiver<(String, Event)>,
    /// Everything was declared once: synchronisations may end.
    complete: bool,
}

/// A gateway.
struct Told {
    /// As the intent has it.
    gateway: cluster::Gateway,
    client: Gateway,
    objects: BTreeMap<(u8, String), Kind>,
    /// What it refused in this session, the last first.
    refusals: VecDeque<String>,
    /// That there is no session was told, and none has begun since.
    down: bool,
}

impl Gateways {
    /// None yet, for a controller with this name at gateways.
    pub fn new(name: &str) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        Self {
            settings: Settings::new(name),
            all: BTreeMap::new(),
            left_out: BTreeMap::new(),
            sender,
            events,
            complete: false,
        }
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.all.keys().chain(self.left_out.keys()).cloned().collect()
    }

    /// What the next of them says.
    pub async fn next(&mut self) -> Option<(String, Event)> {
        self.events.recv().await
    }

    /// A gateway should hold this; routes apart. Returns whether it is new.
    ///
    /// # Errors
    /// It cannot be reached by what the intent says of it.
    pub fn set(
        &mut self,
        name: &str,
        gateway: &cluster::Gateway,
        desired: &DesiredGateway,
    ) -> Result<bool, String> {
        let outcome = self.try_set(name, gateway, desired);
        match &outcome {
            Ok(_) => self.left_out.remove(name),
            Err(reason) => self.left_out.insert(name.to_owned(), (gateway.endpoint.clone(), reason.clone())),
        };
        outcome
    }

    fn try_set(
        &mut self,
        name: &str,
        gateway: &cluster::Gateway,
        desired: &DesiredGateway,
    ) -> Result<bool, String> {
        let objects = programs::objects(desired);
        let is_new = !self.all.contains_key(name);
        if is_new {
            let address = Address::new(&gateway.endpoint, gateway.tls.as_ref())?;
            let (client, events) = Gateway::start(address, self.settings.clone());
            tokio::spawn(essential::task(forward(name.to_owned(), events, self.sender.clone())));
            client.change(difference(&BTreeMap::new(), &objects));
            if self.complete {
                client.complete();
            }
            // Controllers beside this one have names of their own: nobody is
            // elected to program gateways.
            client.lead(Some(0));
            self.all.insert(
                name.to_owned(),
                Told { gateway: gateway.clone(), client, objects, refusals: VecDeque::new(), down: false },
            );
            return Ok(true);
        }
        if let Some(told) = self.all.get_mut(name) {
            if told.gateway.endpoint != gateway.endpoint || told.gateway.tls != gateway.tls {
                return Err("its endpoint has changed in the intent: restart the controller".to_owned());
            }
            told.client.change(difference(&told.objects, &objects));
            (told.objects, told.gateway) = (objects, gateway.clone());
        }
        Ok(false)
    }

    /// A gateway should have these routes.
    pub fn tell(&self, name: &str, changes: &[distribution::Change]) {
        if let Some(told) = self.all.get(name) {
            told.client.change(in_words(changes));
        }
    }

    /// Everything was declared once.
    pub fn complete(&mut self) {
        self.complete = true;
        for told in self.all.values() {
            told.client.complete();
        }
    }

    /// A session with a gateway has begun: everything is told again.
    pub fn up(&mut self, name: &str) {
        if let Some(told) = self.all.get_mut(name) {
            told.refusals.clear();
            told.down = false;
        }
    }

    /// There is no session with a gateway. Returns whether that is news.
    pub fn down(&mut self, name: &str) -> bool {
        self.all.get_mut(name).is_some_and(|told| !std::mem::replace(&mut told.down, true))
    }

    /// A gateway has refused something.
    pub fn refused(&mut self, name: &str, refusal: String) {
        if let Some(told) = self.all.get_mut(name) {
            told.refusals.retain(|known| *known != refusal);
            told.refusals.truncate(REFUSALS - 1);
            told.refusals.push_front(refusal);
        }
    }

    /// How they are, by name.
    pub fn status(&self) -> Vec<federation::GatewayStatus> {
        let mut all: BTreeMap<&str, federation::GatewayStatus> =
            self.all.iter().map(|(name, told)| (name.as_str(), told.status(name))).collect();
        for (name, (endpoint, reason)) in &self.left_out {
            let status = all.entry(name).or_default();
            status.name.clone_from(name);
            status.endpoint.clone_from(endpoint);
            status.left_out.clone_from(reason);
        }
        all.into_values().collect()
    }

    /// A gateway is none of ours any more.
    pub async fn forget(&mut self, name: &str) {
        self.left_out.remove(name);
        if let Some(told) = self.all.remove(name) {
            told.client.stop().await;
        }
    }

    /// Ends all sessions. Gateways keep what they have.
    pub async fn stop(&mut self) {
        for told in std::mem::take(&mut self.all).into_values() {
            told.client.stop().await;
        }
    }
}

impl Told {
    fn status(&self, name: &str) -> federation::GatewayStatus {
        let status = self.client.status();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // What was refused and is taken by now is told by nobody.
        let refusals = match status.counts.refused {
            0 => Vec::new(),
            _ => self.refusals.iter().cloned().collect(),
        };
        federation::GatewayStatus {
            name: name.to_owned(),
            endpoint: self.gateway.endpoint.clone(),
            connected_since: status.connected_since.map(seconds).unwrap_or_default(),
            synchronised: status.synced,
            software: status.software,
            node_id: status.node_id,
            objects: status.counts.objects as u64,
            routes: status.counts.routes as u64,
            refused: status.counts.refused as u64,
            outstanding: status.counts.outstanding as u64,
            up_to_date: status.programmed.is_some_and(|programmed| programmed >= status.revision),
            exports: status.exports as u64,
            last_error: status.last_error.unwrap_or_default(),
            refusals,
            left_out: String::new(),
        }
    }
}

async fn forward(name: String, mut events: mpsc::Receiver<Event>, to: mpsc::Sender<(String, Event)>) {
    while let Some(event) = events.recv().await {
        if to.send((name.clone(), event)).await.is_err() {
            return;
        }
    }
}

/// What makes objects others: what is new in the order of declaration, then
/// what is gone, in the opposite order.
fn difference(before: &BTreeMap<(u8, String), Kind>, after: &BTreeMap<(u8, String), Kind>) -> Vec<Change> {
    let object = |kind: &Kind| v1::Object { kind: Some(kind.clone()) };
    let new = after.iter().filter(|(key, kind)| before.get(*key) != Some(kind));
    let new = new.map(|(_, kind)| Change::Object(Box::new(object(kind))));
    let gone = before.iter().rev().filter(|(key, _)| !after.contains_key(*key));
    let gone = gone.filter_map(|(_, kind)| Key::of(&object(kind)).map(Change::NoObject));
    new.chain(gone).collect()
}

/// Changes of routes in the client's words; neighbours that share everything
/// are one.
fn in_words(changes: &[distribution::Change]) -> Vec<Change> {
    let mut words: Vec<Change> = Vec::new();
    let mut last: Option<*const Shared> = None;
    for change in changes {
        match change {
            distribution::Change::NextHop(next_hop) => {
                last = None;
                let kind = Some(Kind::NextHop(next_hop.object()));
                words.push(Change::Object(Box::new(v1::Object { kind })));
            }
            distribution::Change::NoNextHop(name) => {
                last = None;
                words.push(Change::NoObject(Key::NextHop(name.clone())));
            }
            distribution::Change::Route(key, shared) => {
                if last == Some(Arc::as_ptr(shared))
                    && let Some(Change::Routes { prefixes, .. }) = words.last_mut()
                {
                    prefixes.push(key.prefix);
                    continue;
                }
                let rd = key.rd;
                last = Some(Arc::as_ptr(shared));
                let attributes = Box::new(shared.message());
                words.push(Change::Routes { rd, attributes, prefixes: vec![key.prefix] });
            }
            distribution::Change::NoRoute(key) => {
                last = None;
                let rd = key.rd;
                match words.last_mut() {
                    Some(Change::NoRoutes { rd: of, prefixes }) if *of == rd => prefixes.push(key.prefix),
                    _ => words.push(Change::NoRoutes { rd, prefixes: vec![key.prefix] }),
                }
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tieline_bgp::wire::{Attributes, Label, Nlri, Payload, RouteDistinguisher, RouteTarget};

    use super::*;
    use crate::exchange::Origin;
    use crate::numbers::Asn;
    use crate::routes::distribution::{Distribution, Member, Said};

    #[test]
    fn routes_that_share_everything_are_one_change() {
        let mut all = Distribution::new(Asn::try_from(64512).expect("an AS number"));
        let target = RouteTarget::as2(64512, 1);
        all.set_gateway("a", Member { imports: [target].into(), ..Default::default() });
        let mut attributes = Attributes::new(IpAddr::from([198, 18, 0, 9]));
        attributes.extended.push(target.into());
        let payload = Payload::labelled(Label::mpls(1000));
        let said = Said { origin: Origin::Ours, attributes: &attributes, payload: &payload };
        let nlri = |n: u8| {
            let prefix = format!("10.0.{n}.0/24").parse().expect("a prefix");
            Nlri::Vpnv4(RouteDistinguisher::as2(64513, 1), prefix)
        };
        for n in 0..3 {
            all.best(&nlri(n), Some(said)).expect("usable");
        }
        let changes = all.take_changes().remove("a").expect("changes");
        let words = in_words(&changes);
        let [Change::Object(_), Change::Routes { rd, prefixes, .. }] = &words[..] else {
            panic!("{words:?}")
        };
        assert_eq!((rd.to_string().as_str(), prefixes.len()), ("64513:1", 3));
        for n in 0..3 {
            all.best(&nlri(n), None).expect("gone");
        }
        let changes = all.take_changes().remove("a").expect("changes");
        let words = in_words(&changes);
        let [Change::NoRoutes { prefixes, .. }, Change::NoObject(Key::NextHop(_))] = &words[..] else {
            panic!("{words:?}")
        };
        assert_eq!(prefixes.len(), 3);
    }

    #[test]
    fn objects_come_in_order_and_go_in_the_opposite_one() {
        let vrf = |name: &str| Kind::Vrf(v1::Vrf { name: name.to_owned(), ..Default::default() });
        let group = Kind::SecurityGroup(v1::SecurityGroup { id: 5, ..Default::default() });
        let before = BTreeMap::from([((0, "5".to_owned()), group), ((1, "red".to_owned()), vrf("red"))]);
        let words = difference(&before, &BTreeMap::new());
        assert_eq!(
            words,
            [Change::NoObject(Key::Vrf("red".to_owned())), Change::NoObject(Key::SecurityGroup(5)),]
        );
        assert!(difference(&before, &before).is_empty());
        let words = difference(&BTreeMap::new(), &before);
        assert!(matches!(&words[..], [Change::Object(_), Change::Object(_)]), "{words:?}");
    }
}
