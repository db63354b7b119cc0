//! What has happened, a line each.

use serde_json::json;
use tieline_proto::federation::v1;

use super::printable;

/// An event for people: position, time (UTC), what, to whom, a sentence.
pub fn line(reply: &v1::WatchEventsReply) -> String {
    let Some(event) = &reply.event else {
        return format!("events were missed: {}\n", printable(&reply.lost));
    };
    let (subject, message) = (printable(&event.subject), printable(&event.message));
    format!("{} {} {} {subject}: {message}\n", event.position, utc(event.at), kind(event))
}

/// An event as JSON in one line.
pub fn json(reply: &v1::WatchEventsReply) -> String {
    let value = match &reply.event {
        None => json!({"lost": reply.lost}),
        Some(event) => json!({
            "position": event.position,
            "at": event.at,
            "kind": kind(event),
            "subject": event.subject,
            "message": event.message,
        }),
    };
    format!("{value}\n")
}

/// Such as `peer-up`.
fn kind(event: &v1::Event) -> String {
    let name = event.kind().as_str_name();
    name.strip_prefix("EVENT_KIND_").unwrap_or(name).to_lowercase().replace('_', "-")
}

/// Seconds since 1970 as `2026-11-21T20:15:07Z`.
fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // The calendar begins with March, so that a leap day is the last of a year,
    // and repeats every 400 years of 146,097 days.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let event = v1::Event {
            position: "7.1".into(),
            at: 0,
            kind: v1::EventKind::RefusedByGateway.into(),
            subject: "east-1".into(),
            message: "no\nroom".into(),
        };
        let reply = v1::WatchEventsReply { event: Some(event), lost: String::new() };
        assert_eq!(line(&reply), "7.1 1970-01-01T00:00:00Z refused-by-gateway east-1: no room\n");
        let value: serde_json::Value = serde_json::from_str(&json(&reply)).expect("JSON");
        assert_eq!(
            (value["kind"].as_str(), value["message"].as_str()),
            (Some("refused-by-gateway"), Some("no\nroom"))
        );
        let lost = v1::WatchEventsReply { event: None, lost: "too late".into() };
        assert_eq!(line(&lost), "events were missed: too late\n");
    }
}
