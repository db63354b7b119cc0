//! What is not as it should be, a line each.

use std::fmt::Write as _;

use tieline_proto::federation::v1;

use super::printable;

/// Differences, what could not be looked at, and how much was compared.
pub fn audit(reply: &v1::AuditReply) -> String {
    let mut text = String::new();
    for one in &reply.differences {
        let [place, what] = [&one.place, &one.what].map(|text| printable(text));
        let [expected, found] = [&one.expected, &one.found].map(|text| printable(text));
        let _ = writeln!(text, "{place}: {what}: expected: {expected}; found: {found}");
    }
    if reply.more > 0 {
        let _ = writeln!(text, "and {} more differences", reply.more);
    }
    for one in &reply.unseen {
        let _ =
            writeln!(text, "{}: could not be looked at: {}", printable(&one.place), printable(&one.reason));
    }
    let differences = reply.differences.len() as u64 + reply.more;
    let _ = writeln!(
        text,
        "{differences} differences at intent revision {}: {} objects, {} routes and {} exports compared, \
         {} places not seen",
        reply.intent_revision,
        reply.objects,
        reply.routes,
        reply.exports,
        reply.unseen.len(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x6_each_difference_is_a_line() {
        let difference = v1::AuditDifference {
            place: "gateway east-1".into(),
            what: "vrf/red rd".into(),
            expected: "64512:1".into(),
            found: "64512:2\n".into(),
        };
        let unseen = v1::AuditUnseen { place: "gateway east-2".into(), reason: "no answer".into() };
        let reply = v1::AuditReply {
            differences: vec![difference],
            more: 4,
            unseen: vec![unseen],
            objects: 3,
            routes: 2,
            exports: 1,
            intent_revision: 9,
        };
        assert_eq!(
            audit(&reply),
            "gateway east-1: vrf/red rd: expected: 64512:1; found: 64512:2 \n\
             and 4 more differences\n\
             gateway east-2: could not be looked at: no answer\n\
             5 differences at intent revision 9: 3 objects, 2 routes and 1 exports compared, 1 places not seen\n"
        );
    }
}
