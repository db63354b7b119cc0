//! What has changed lately, for those who watch: a ring of keys and events with
//! ever growing positions. Who falls behind further than the ring is long has
//! lost its position, and begins again.

use std::collections::VecDeque;
use std::sync::Arc;

use ipnet::IpNet;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_rib::persist::Copy;
use tieline_rib::{ControllerId, Key, RouteDistinguisher};

/// Entries that are kept: some seconds of a busy gateway, about 4 MiB.
const LENGTH: usize = 65_536;

/// One thing that has changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An object is declared, declared otherwise, or no more.
    Object(Key),
    /// Something has happened.
    Event(Arc<v1::Event>),
}

/// The ring.
#[derive(Debug)]
pub struct Changes {
    entries: VecDeque<Change>,
    /// Position of the first entry.
    first: u64,
    length: usize,
    events: u64,
}

impl Default for Changes {
    fn default() -> Self {
        Self::of_length(LENGTH)
    }
}

impl Changes {
    fn of_length(length: usize) -> Self {
        Self { entries: VecDeque::new(), first: 0, length, events: 0 }
    }

    /// The position of the next change.
    pub fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        if self.entries.len() == self.length {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(change);
    }

    /// Adds an event.
    pub fn event(&mut self, kind: v1::EventKind, subject: &str, message: String) {
        self.events += 1;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let event = v1::Event {
            number: self.events,
            time_unix_nanoseconds: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            kind: kind.into(),
            subject: subject.to_owned(),
            message,
        };
        self.push(Change::Event(Arc::new(event)));
    }

    /// More has changed than is told: every position up to here is lost.
    pub fn forget(&mut self) {
        // One more, so that whoever had read all has lost something too.
        self.first = self.head() + 1;
        self.entries.clear();
    }

    /// Changes from a position on, at most so many. `None` if the position is
    /// lost, or was never given.
    pub fn from(&self, position: u64, most: usize) -> Option<Vec<Change>> {
        if position < self.first || position > self.head() {
            return None;
        }
        let start = usize::try_from(position - self.first).ok()?;
        Some(self.entries.iter().skip(start).take(most).cloned().collect())
    }
}

/// Takes what the RIB says has changed.
impl Copy for Changes {
    fn attributes(&mut self, _: u32, _: Option<(ControllerId, v1::Route)>) {}

    fn path(&mut self, _: u32, rd: RouteDistinguisher, prefix: IpNet) {
        self.push(Change::Object(Key::Route(rd, prefix)));
    }

    fn no_path(&mut self, _: u32, rd: RouteDistinguisher, prefix: IpNet) {
        self.push(Change::Object(Key::Route(rd, prefix)));
    }

    fn label(&mut self, _: &str, _: Option<u32>) {}

    fn declaration(&mut self, _: ControllerId, key: &Key, _: Option<Kind>) {
        self.push(Change::Object(key.clone()));
    }

    fn status(&mut self, key: &Key) {
        self.push(Change::Object(key.clone()));
    }

    fn overridden(&mut self, controller: &str, by: &str, key: &Key) {
        let subject = key.to_string();
        let message = format!(
            "{subject}, as {controller} declares it, has no effect: {by} declares it otherwise, and counts first"
        );
        self.event(v1::EventKind::DeclarationOverridden, &subject, message);
    }

    fn dropped(&mut self, controller: &str, key: &Key, why: &str) {
        let subject = key.to_string();
        let message = format!("{subject}, as {controller} declares it, came first and is refused: {why}");
        self.event(v1::EventKind::DeclarationDropped, &subject, message);
    }

    fn wants_declarations(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u32) -> Change {
        Change::Object(Key::SecurityGroup(tieline_engine::types::SgId(n)))
    }

    #[test]
    fn what_is_forgotten_is_lost_to_whoever_has_read_all_too() {
        let mut changes = Changes::of_length(10);
        changes.push(key(1));
        let read = changes.head();
        changes.forget();
        assert_eq!(changes.from(read, 9), None);
        let next = changes.head();
        changes.push(key(2));
        assert_eq!(changes.from(next, 9), Some(vec![key(2)]));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_end_of_what_came(count in 0u32..40, from in 0u64..45, most in 0usize..12) {
            let mut changes = Changes::of_length(10);
            let all: Vec<Change> = (0..count).map(key).collect();
            for change in &all {
                changes.push(change.clone());
            }
            prop_assert_eq!(changes.head(), u64::from(count));
            let lost = u64::from(count).saturating_sub(10);
            let expected = (lost..=u64::from(count)).contains(&from).then(|| {
                all.iter().skip(from as usize).take(most).cloned().collect::<Vec<_>>()
            });
            prop_assert_eq!(changes.from(from, most), expected);
        }
    }
}
