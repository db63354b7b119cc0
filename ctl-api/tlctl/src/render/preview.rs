//! What declarations would do: `+` added, `~` changed, `-` removed.

use std::fmt::Write as _;

use tieline_proto::v1::{Change, ErrorCode, PreviewReply, Refused, RouteChange, VrfChange};

use super::printable;
use super::program::reason;
use super::quantity::count;
use crate::kind::{display_key, display_keys};

/// Whether everything would stay as it is, and nothing would be refused.
pub fn changes_nothing(reply: &PreviewReply) -> bool {
    reply.refused.is_empty()
        && reply.objects.is_empty()
        && reply.more_objects == 0
        && reply.vrfs.is_empty()
        && reply.interfaces.is_empty()
}

/// A preview; `names` are those of the operations.
pub fn preview(reply: &PreviewReply, names: &[String]) -> String {
    let name = |index: u32| names.get(index as usize).map_or("?", String::as_str);
    let mut lines: Vec<String> = Vec::new();
    for one in &reply.refused {
        let unknown = Refused { code: ErrorCode::Unspecified.into(), ..Default::default() };
        lines.push(format!(
            "{} refused{}",
            name(one.index),
            reason(one.refused.as_ref().unwrap_or(&unknown))
        ));
    }
    for one in &reply.waiting {
        lines.push(format!("{} would wait for {}", name(one.index), display_keys(&one.waits_for)));
    }
    for one in &reply.objects {
        let key = one.key.as_ref().map(display_key).unwrap_or_default();
        lines.push(format!("{} {key}", mark(one.change())));
    }
    if reply.more_objects > 0 {
        lines.push(format!("and {} more objects", count(reply.more_objects)));
    }
    reply.vrfs.iter().for_each(|vrf| lines.extend(self::vrf(vrf)));
    if !reply.interfaces.is_empty() {
        lines.push(format!("interfaces affected: {}", reply.interfaces.join(", ")));
    }
    lines.push(summary(reply));
    lines.iter().map(|line| format!("{}\n", printable(line))).collect()
}

/// A VRF's forwarding: a line of counts, then examples.
fn vrf(vrf: &VrfChange) -> Vec<String> {
    let mut line = format!(
        "in vrf/{}: routes +{} ~{} -{}",
        vrf.vrf,
        count(vrf.routes_added),
        count(vrf.routes_changed),
        count(vrf.routes_removed)
    );
    if vrf.sessions > 0 {
        let _ = write!(line, ", {} live sessions decided again", count(vrf.sessions));
    }
    let routes = vrf.routes_added + vrf.routes_changed + vrf.routes_removed;
    let rest = routes.saturating_sub(vrf.examples.len() as u64);
    let examples = vrf.examples.iter().map(example);
    let rest = (rest > 0 && !vrf.examples.is_empty()).then(|| format!("    and {} more", count(rest)));
    [line].into_iter().chain(examples).chain(rest).collect()
}

fn example(route: &RouteChange) -> String {
    let leads_to = match (route.before.as_str(), route.after.as_str()) {
        ("", "") => String::new(),
        ("", there) => format!("  {there}"),
        (gone, "") => format!("  {gone}"),
        (before, after) => format!("  {before} -> {after}"),
    };
    format!("  {} {}{leads_to}", mark(route.change()), route.prefix)
}

fn mark(change: Change) -> char {
    match change {
        Change::Unspecified => '?',
        Change::Added => '+',
        Change::Changed => '~',
        Change::Removed => '-',
    }
}

fn summary(reply: &PreviewReply) -> String {
    let of = |change: Change| reply.objects.iter().filter(|one| one.change() == change).count();
    let forwarding = !reply.vrfs.is_empty() || !reply.interfaces.is_empty();
    let mut text = match (of(Change::Added), of(Change::Changed), of(Change::Removed)) {
        (0, 0, 0) if forwarding => "no object would change, but forwarding would".to_owned(),
        (0, 0, 0) => "no object and no forwarding entry would change".to_owned(),
        (added, changed, removed) => format!("{added} to add, {changed} to change, {removed} to remove"),
    };
    if reply.more_objects > 0 {
        let _ = write!(text, ", {} more", count(reply.more_objects));
    }
    if !reply.waiting.is_empty() {
        let _ = write!(text, ", {} would wait", reply.waiting.len());
    }
    if !reply.refused.is_empty() {
        let _ = write!(text, ", {} refused", reply.refused.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use tieline_proto::v1::{ObjectChange, ObjectKey, RefusedOperation, WaitingOperation, object_key};

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { kind: Some(object_key::Kind::Vrf(name.to_owned())) }
    }

    fn object(name: &str, change: Change) -> ObjectChange {
        ObjectChange { key: Some(key(name)), change: change.into() }
    }

    fn route(prefix: &str, change: Change, before: &str, after: &str) -> RouteChange {
        RouteChange {
            prefix: prefix.into(),
            change: change.into(),
            before: before.into(),
            after: after.into(),
        }
    }

    #[test]
    fn everything_that_would_happen_is_said() {
        let refused = Refused {
            code: ErrorCode::Conflict.into(),
            message: "label 100 is vrf/red's".into(),
            ..Default::default()
        };
        let reply = PreviewReply {
            refused: vec![RefusedOperation { index: 1, refused: Some(refused) }],
            waiting: vec![WaitingOperation { index: 0, waits_for: vec![key("x")] }],
            objects: vec![
                object("a", Change::Added),
                object("b", Change::Changed),
                object("c", Change::Removed),
            ],
            vrfs: vec![VrfChange {
                vrf: "a".into(),
                routes_added: 1500,
                routes_changed: 1,
                routes_removed: 1,
                sessions: 12,
                examples: vec![
                    route("10.0.0.0/8", Change::Added, "", "vxlan to 198.18.0.2"),
                    route("11.0.0.0/8", Change::Changed, "discard", "local"),
                    route("12.0.0.0/8", Change::Removed, "discard", ""),
                ],
            }],
            interfaces: vec!["web".into(), "db".into()],
            more_objects: 0,
        };
        assert_eq!(
            preview(&reply, &["interface/web".to_owned(), "vrf/blue".to_owned()]),
            "vrf/blue refused (conflict): label 100 is vrf/red's\n\
             interface/web would wait for vrf/x\n\
             + vrf/a\n\
             ~ vrf/b\n\
             - vrf/c\n\
             in vrf/a: routes +1,500 ~1 -1, 12 live sessions decided again\n\
             \x20 + 10.0.0.0/8  vxlan to 198.18.0.2\n\
             \x20 ~ 11.0.0.0/8  discard -> local\n\
             \x20 - 12.0.0.0/8  discard\n\
             \x20   and 1,499 more\n\
             interfaces affected: web, db\n\
             1 to add, 1 to change, 1 to remove, 1 would wait, 1 refused\n"
        );
        assert!(!changes_nothing(&reply));
    }

    #[test]
    fn nothing_is_said_to_be_nothing_and_much_is_cut() {
        let nothing = PreviewReply::default();
        assert!(changes_nothing(&nothing));
        assert_eq!(preview(&nothing, &[]), "no object and no forwarding entry would change\n");
        // An object that waits already goes on waiting: nothing would change.
        let waiting = vec![WaitingOperation { index: 0, waits_for: vec![key("x")] }];
        assert!(changes_nothing(&PreviewReply { waiting, ..Default::default() }));
        let routes = PreviewReply {
            vrfs: vec![VrfChange { vrf: "a".into(), routes_added: 5, ..Default::default() }],
            ..Default::default()
        };
        assert!(!changes_nothing(&routes));
        assert_eq!(
            preview(&routes, &[]),
            "in vrf/a: routes +5 ~0 -0\nno object would change, but forwarding would\n"
        );
        let many = PreviewReply { more_objects: 2000, ..Default::default() };
        assert!(!changes_nothing(&many));
        assert!(preview(&many, &[]).starts_with("and 2,000 more objects\n"));
    }
}
