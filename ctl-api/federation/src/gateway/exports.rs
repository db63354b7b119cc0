//! What the VRFs of a gateway originate, told as differences.
//!
//! A watch begins with everything, again after each lost position and each new
//! session. [`Exports`] knows what its owner was told before, and makes
//! differences of that; it knows no network. [`follow`] reads the watch.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use prost::Message as _;
use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::watch_exports_reply::What;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::client::Shared;
use super::events::Event;
use super::session::status_words;

/// Most exports of one gateway: its tables hold no more routes.
const MOST: usize = 2_000_000;
/// Pauses before a watch that ended is opened again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What was told of one export.
#[derive(Debug)]
struct Told {
    /// The export, encoded.
    bytes: Box<[u8]>,
    /// The round of the beginning in which it was seen last.
    round: u32,
}

/// What the owner was told, and what it has to be told.
#[derive(Debug, Default)]
pub(super) struct Exports {
    /// By VRF and prefix.
    told: BTreeMap<(String, String), Told>,
    round: u32,
    /// Everything is being told from the beginning.
    beginning: bool,
    events: VecDeque<Event>,
}

impl Exports {
    /// Everything follows from the beginning.
    pub fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.beginning = true;
    }

    /// Takes a reply of the watch.
    ///
    /// # Errors
    /// When there is more than any gateway has.
    pub fn handle(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Export(export) => {
                let key = (export.vrf.clone(), export.prefix.clone());
                let bytes = export.encode_to_vec().into_boxed_slice();
                let before = self.told.get(&key);
                let same = before.is_some_and(|told| told.bytes == bytes);
                if before.is_none() && self.told.len() >= MOST {
                    return Err(format!("more than {MOST} exports: a gateway has no more routes"));
                }
                self.told.insert(key, Told { bytes, round: self.round });
                if !same {
                    self.events.push_back(Event::Export(Box::new(export)));
                }
            }
            What::Withdrawn(v1::ExportKey { vrf, prefix }) => {
                if self.told.remove(&(vrf.clone(), prefix.clone())).is_some() {
                    self.events.push_back(Event::ExportGone { vrf, prefix });
                }
            }
            What::CaughtUp(_) => {
                if std::mem::take(&mut self.beginning) {
                    let (round, events) = (self.round, &mut self.events);
                    self.told.retain(|(vrf, prefix), told| {
                        let stays = told.round == round;
                        if !stays {
                            let (vrf, prefix) = (vrf.clone(), prefix.clone());
                            events.push_back(Event::ExportGone { vrf, prefix });
                        }
                        stays
                    });
                }
                self.events.push_back(Event::ExportsComplete);
            }
            What::Lost(_) => self.begin(),
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Tells what there is to tell. What was not told when this is dropped is
    /// told later.
    async fn tell(&mut self, events: &mpsc::Sender<Event>) {
        while !self.events.is_empty() {
            let Ok(permit) = events.reserve().await else {
                // Nobody listens any more.
                self.events.clear();
                return;
            };
            if let Some(event) = self.events.pop_front() {
                permit.send(event);
            }
        }
    }
}

/// Follows the exports of a gateway for as long as it is polled.
pub(super) async fn follow(
    exports: &mut Exports,
    channel: Channel,
    shared: &Shared,
    events: &mpsc::Sender<Event>,
) -> Infallible {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut client = ControlClient::new(channel);
    loop {
        exports.tell(events).await;
        let error = match client.watch_exports(v1::WatchExportsRequest::default()).await {
            Ok(replies) => {
                let mut replies = replies.into_inner();
                exports.begin();
                loop {
                    match replies.message().await {
                        Ok(Some(v1::WatchExportsReply { what: Some(what) })) => {
                            let caught_up = matches!(what, What::CaughtUp(_));
                            if let Err(error) = exports.handle(what) {
                                break error;
                            }
                            shared.lock().status.exports = exports.len();
                            exports.tell(events).await;
                            if caught_up {
                                backoff.reset();
                            }
                        }
                        // Something that this controller does not know.
                        Ok(Some(v1::WatchExportsReply { what: None })) => {}
                        Ok(None) => break "it ended".to_owned(),
                        Err(status) => break status_words(&status),
                    }
                }
            }
            Err(status) => status_words(&status),
        };
        shared.error(format!("{}: the watch of exports: {error}", shared.address));
        tokio::time::sleep(backoff.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn export(number: u8, label: u32) -> v1::Export {
        let prefix = format!("10.0.{number}.0/24");
        v1::Export { vrf: "red".to_owned(), prefix, label, ..Default::default() }
    }

    /// What an owner makes of the events.
    #[derive(Default)]
    struct Owner(BTreeMap<String, u32>);

    impl Owner {
        /// Takes all events; each has to be news.
        fn hear(&mut self, exports: &mut Exports) {
            for event in exports.events.drain(..) {
                match event {
                    Event::Export(export) => {
                        assert_ne!(self.0.insert(export.prefix, export.label), Some(export.label));
                    }
                    Event::ExportGone { prefix, .. } => assert!(self.0.remove(&prefix).is_some()),
                    Event::ExportsComplete => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(u8, u32),
        Remove(u8),
        /// The watch breaks in its beginning, after so many exports.
        Break(usize),
        /// It loses its position.
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..8u8, 0..3u32).prop_map(|(number, label)| Step::Set(number, label)),
            3 => (0..8u8).prop_map(Step::Remove),
            1 => (0..8usize).prop_map(Step::Break),
            1 => Just(Step::Lose),
        ]
    }

    proptest! {
        /// The owner always ends with what the gateway has, and hears news only.
        #[test]
        fn differences_add_up(steps in proptest::collection::vec((step(), any::<bool>()), 0..60)) {
            let mut gateway: BTreeMap<u8, u32> = BTreeMap::new();
            let (mut exports, mut owner) = (Exports::default(), Owner::default());
            let mut watching = false;
            for (step, watches) in steps {
                match step {
                    Step::Set(number, label) => {
                        gateway.insert(number, label);
                        if watching {
                            exports.handle(What::Export(export(number, label))).expect("room");
                        }
                    }
                    Step::Remove(number) => {
                        let there = gateway.remove(&number).is_some();
                        if watching && there {
                            let v1::Export { vrf, prefix, .. } = export(number, 0);
                            exports.handle(What::Withdrawn(v1::ExportKey { vrf, prefix })).expect("room");
                        }
                    }
                    Step::Break(after) => {
                        watching = false;
                        exports.begin();
                        for (&number, &label) in gateway.iter().take(after) {
                            exports.handle(What::Export(export(number, label))).expect("room");
                        }
                    }
                    Step::Lose if watching => {
                        exports.handle(What::Lost(v1::Lost::default())).expect("room");
                        watching = false;
                    }
                    Step::Lose => {}
                }
                if !watching && watches {
                    exports.begin();
                    for (&number, &label) in &gateway {
                        exports.handle(What::Export(export(number, label))).expect("room");
                    }
                    exports.handle(What::CaughtUp(v1::CaughtUp {})).expect("room");
                    watching = true;
                }
                owner.hear(&mut exports);
                if watching {
                    let expected: BTreeMap<String, u32> =
                        gateway.iter().map(|(&number, &label)| (export(number, label).prefix, label)).collect();
                    prop_assert_eq!(&owner.0, &expected);
                    prop_assert_eq!(exports.len(), expected.len());
                }
            }
        }
    }
}
