//! What is watched, a line each.

use tieline_proto::v1::watch_reply::What;
use tieline_proto::v1::{Event, EventKind, WatchReply};

use super::objects::status_of;
use super::printable;
use crate::kind::{display_key, key_of};

/// One thing that has happened, or an object as it is.
pub fn line(reply: &WatchReply) -> String {
    let text = match &reply.what {
        None => "(something that this tlctl does not know)".to_owned(),
        Some(What::Object(item)) => {
            let key = item.object.as_ref().and_then(key_of);
            format!("{} {}", key.as_ref().map(display_key).unwrap_or_default(), status_of(item))
        }
        Some(What::Deleted(key)) => format!("{} deleted", display_key(key)),
        Some(What::Event(event)) => self::event(event),
        Some(What::CaughtUp(_)) => "(these are all objects; changes follow)".to_owned(),
        Some(What::Lost(lost)) => {
            format!("(changes were missed: {}; all objects follow again)", lost.message.trim_end_matches('.'))
        }
    };
    printable(&text)
}

fn event(event: &Event) -> String {
    let kind = match event.kind() {
        EventKind::Unspecified => "event",
        EventKind::PortUp => "port up",
        EventKind::PortDown => "port down",
        EventKind::NeighbourResolved => "neighbour resolved",
        EventKind::NeighbourLost => "neighbour lost",
        EventKind::SessionsHigh => "sessions high",
        EventKind::SessionsNormal => "sessions normal",
        EventKind::LimitReached => "limit reached",
        EventKind::ControllerUp => "controller up",
        EventKind::ControllerDown => "controller down",
        EventKind::StaleWithdrawn => "stale withdrawn",
        EventKind::StoreIncomplete => "store incomplete",
        EventKind::StoreComplete => "store complete",
        EventKind::DeclarationDropped => "declaration dropped",
        EventKind::Problem => "problem",
        EventKind::ProblemOver => "problem over",
        EventKind::DeclarationOverridden => "declaration overridden",
    };
    let subject = if event.subject.is_empty() { String::new() } else { format!(" {}", event.subject) };
    let message = if event.message.is_empty() { String::new() } else { format!(": {}", event.message) };
    format!("{} {kind}{subject}{message}", utc(event.time_unix_nanoseconds))
}

/// A time as RFC 3339 has it, to the millisecond.
fn utc(unix_nanoseconds: u64) -> String {
    let milliseconds = unix_nanoseconds / 1_000_000;
    let seconds = milliseconds / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", milliseconds % 1000)
}

/// The date that so many days after 1970-01-01 is.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use tieline_proto::v1::*;

    use super::*;

    fn reply(what: What) -> WatchReply {
        WatchReply { what: Some(what), resume_token: String::new() }
    }

    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399_999_999_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_735_689_599_000_000_000), "2024-12-31T23:59:59.000Z");
        assert_eq!(utc(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000Z");
        assert!(utc(u64::MAX).starts_with("2554-07-21T"));
    }

    #[test]
    fn each_is_a_line() {
        let key = ObjectKey { kind: Some(object_key::Kind::Vrf("red".into())) };
        let object =
            Object { kind: Some(object::Kind::Vrf(Vrf { name: "red".into(), ..Default::default() })) };
        let status = ObjectStatus { state: ObjectState::Ready.into(), ..Default::default() };
        let holders = |stale| vec![Holder { controller: "a".into(), stale, differs: false }];
        let item = |stale| ObjectWithStatus {
            object: Some(object.clone()),
            status: Some(status.clone()),
            holders: holders(stale),
        };
        let event = Event {
            number: 1,
            time_unix_nanoseconds: 1_500_000_000,
            kind: EventKind::PortDown.into(),
            subject: "t0".into(),
            message: "the link\nis down".into(),
        };
        let cases = [
            (What::Object(item(false)), "vrf/red ready"),
            (What::Object(item(true)), "vrf/red stale, ready"),
            (What::Deleted(key), "vrf/red deleted"),
            (What::Event(event), "1970-01-01T00:00:01.500Z port down t0: the link is down"),
            (What::CaughtUp(CaughtUp {}), "(these are all objects; changes follow)"),
            (
                What::Lost(Lost { message: "you were slow.".into() }),
                "(changes were missed: you were slow; all objects follow again)",
            ),
        ];
        for (what, text) in cases {
            assert_eq!(line(&reply(what)), text);
        }
    }
}
