//! What has happened: a bounded list with numbers, for people who were not
//! there.
//!
//! Whoever reads has a position and asks for what came after it. A position
//! that is not known any more is told as such, and so is one of an earlier
//! start of the controller.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tieline_proto::federation::v1::{Event, EventKind};
use tokio::sync::watch;

/// Most events that are remembered.
const MOST: usize = 4096;
/// Events in one answer.
const PAGE: usize = 256;
/// Of events that anybody can cause in any number: so many of one cause are
/// told in each [`SPAN`], the rest is counted.
const EACH: u64 = 10;
/// See [`EACH`].
const SPAN: Duration = Duration::from_secs(60);
/// Most causes that are counted.
const CAUSES: usize = 1024;

/// A place in the list: after an event of one start of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Tells starts of controllers apart.
    start: u64,
    /// The last event that is known.
    number: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.start, self.number)
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.').and_then(|(start, number)| {
            Some(Self { start: u64::from_str_radix(start, 16).ok()?, number: number.parse().ok()? })
        });
        parts.ok_or_else(|| format!("{text:?} is no position: take one that an event came with"))
    }
}

/// Some events, and how it goes on.
#[derive(Debug)]
pub struct Page {
    /// In order; none: there are no more yet.
    pub events: Vec<Event>,
    /// Why events before these were missed.
    pub lost: Option<String>,
    /// After these.
    pub position: Position,
    /// Changes when there is more.
    pub more: watch::Receiver<u64>,
}

/// How often a cause has made events.
#[derive(Debug)]
struct Often {
    since: Duration,
    told: u64,
    untold: u64,
}

/// The list.
#[derive(Debug)]
pub struct Journal {
    start: u64,
    last: u64,
    events: VecDeque<Event>,
    often: BTreeMap<(String, &'static str), Often>,
    number: watch::Sender<u64>,
}

impl Journal {
    /// An empty one; `start` is another one at each start of the controller.
    pub fn new(start: u64) -> Self {
        Self {
            start,
            last: 0,
            events: VecDeque::new(),
            often: BTreeMap::new(),
            number: watch::Sender::new(0),
        }
    }

    /// Something has happened; `at` is in seconds since 1970.
    pub fn note(&mut self, at: u64, kind: EventKind, subject: impl Into<String>, message: impl Into<String>) {
        self.last += 1;
        if self.events.len() >= MOST {
            self.events.pop_front();
        }
        let position = Position { start: self.start, number: self.last }.to_string();
        let (subject, message) = (subject.into(), message.into());
        self.events.push_back(Event { position, at, kind: kind.into(), subject, message });
        self.number.send_replace(self.last);
    }

    /// Something has happened that others can make happen in any number: when it
    /// comes too often by the same cause it is only counted. `now` is the time
    /// since some start.
    pub fn note_often(
        &mut self,
        (at, now): (u64, Duration),
        kind: EventKind,
        subject: &str,
        cause: &'static str,
        message: impl FnOnce() -> String,
    ) {
        let key = (subject.to_owned(), cause);
        if self.often.len() >= CAUSES && !self.often.contains_key(&key) {
            self.often.retain(|_, often| now.saturating_sub(often.since) < SPAN);
        }
        let often = self.often.entry(key).or_insert(Often { since: now, told: 0, untold: 0 });
        let mut untold = 0;
        if now.saturating_sub(often.since) >= SPAN {
            untold = often.untold;
            *often = Often { since: now, told: 0, untold: 0 };
        }
        let tell = often.told < EACH;
        if tell {
            often.told += 1;
        } else {
            often.untold += 1;
        }
        if untold > 0 {
            self.note(at, kind, subject, format!("{untold} more were not told one by one: {cause}"));
        }
        if tell {
            self.note(at, kind, subject, message());
        }
    }

    /// What came after a position; none is the beginning.
    pub fn after(&self, position: Option<Position>) -> Page {
        let first = self.last - self.events.len() as u64;
        let (mut after, mut lost) = (position.map_or(first, |position| position.number), None);
        if position.is_some_and(|position| position.start != self.start || position.number > self.last) {
            lost =
                Some("the position is of another controller, or of an earlier start of this one".to_owned());
            after = first;
        } else if after < first {
            lost = Some(format!("{} events are forgotten: {MOST} are kept", first - after));
            after = first;
        }
        let skip = (after - first) as usize;
        let events: Vec<Event> = self.events.iter().skip(skip).take(PAGE).cloned().collect();
        let position = Position { start: self.start, number: after + events.len() as u64 };
        Page { events, lost, position, more: self.number.subscribe() }
    }

    /// The position after everything.
    pub const fn end(&self) -> Position {
        Position { start: self.start, number: self.last }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UP: EventKind = EventKind::PeerUp;

    fn messages(page: &Page) -> Vec<&str> {
        page.events.iter().map(|event| event.message.as_str()).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut journal = Journal::new(7);
        journal.note(1, UP, "west", "a");
        let page = journal.after(None);
        assert_eq!((messages(&page), &page.lost), (vec!["a"], &None));
        assert_eq!(page.events[0].position, page.position.to_string());
        let position = page.position.to_string().parse().expect("a position");
        assert!(journal.after(Some(position)).events.is_empty());
        journal.note(2, UP, "west", "b");
        assert!(page.more.has_changed().expect("it is there"));
        assert_eq!(messages(&journal.after(Some(position))), ["b"]);
        assert_eq!(journal.end(), journal.after(Some(position)).position);
    }

    #[test]
    fn a_lost_position_is_told() {
        let mut journal = Journal::new(7);
        journal.note(1, UP, "west", "0");
        let early = journal.after(None).position;
        for number in 1..=MOST + 5 {
            journal.note(1, UP, "west", number.to_string());
        }
        let page = journal.after(Some(early));
        assert_eq!(page.lost.as_deref(), Some("5 events are forgotten: 4096 are kept"));
        assert_eq!(messages(&page)[0], "6");
        let other = Journal::new(8);
        assert!(other.after(Some(early)).lost.expect("lost").contains("another controller"));
        let ahead = Position { start: 7, number: u64::MAX };
        assert!(journal.after(Some(ahead)).lost.is_some());
    }

    #[test]
    fn what_comes_too_often_is_counted() {
        let mut journal = Journal::new(7);
        let mut note = |seconds| {
            let time = (seconds, Duration::from_secs(seconds));
            journal.note_often(time, EventKind::RouteRefused, "west", "own AS", || "a route".to_owned());
        };
        (0..1000).for_each(|_| note(5));
        note(70);
        let page = journal.after(None);
        let told = messages(&page);
        assert_eq!(told.len(), 12);
        assert_eq!(told[9..], ["a route", "990 more were not told one by one: own AS", "a route"]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_position_or_refused(text in ".{0,24}") {
            let _ = text.parse::<Position>();
        }

        #[test]
        fn pages_leave_nothing_out(count in 0..1500_usize, from in 0..1500_usize) {
            let mut journal = Journal::new(7);
            for number in 1..=count {
                journal.note(1, UP, "", number.to_string());
            }
            let mut position = Position { start: 7, number: from.min(count) as u64 };
            let mut told = Vec::new();
            loop {
                let page = journal.after(Some(position));
                prop_assert!(page.lost.is_none());
                if page.events.is_empty() {
                    break;
                }
                told.extend(page.events.into_iter().map(|event| event.message));
                position = page.position;
            }
            let expected: Vec<String> = (from.min(count) + 1..=count).map(|number| number.to_string()).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
