//! Differences between what should be there and what is, without I/O.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tieline_bgp::rib::Path;
use tieline_bgp::wire::{Attributes, Nlri, Payload, Route};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;

use super::{Difference, Holds};
use crate::desired::DesiredGateway;
use crate::gateway::key::Key;
use crate::numbers::{RouteDistinguisher, RouteTarget};
use crate::routes::distribution::Change;

const NOTHING: &str = "nothing";
/// Longest text of a value.
const WIDTH: usize = 200;

/// The parts of a route that count, in words, and with their names.
type Words = BTreeMap<&'static str, String>;

/// What is different at a gateway. `objects` and what `changes` make of nothing
/// is what it should hold.
pub fn gateway(
    place: &str,
    objects: BTreeMap<(u8, String), Kind>,
    changes: &[Change],
    desired: &DesiredGateway,
    holds: &Holds,
) -> Vec<Difference> {
    let mut wanted: BTreeMap<Key, v1::Object> = BTreeMap::new();
    let mut routes: BTreeMap<(RouteDistinguisher, IpNet), v1::Route> = BTreeMap::new();
    let hops = changes.iter().filter_map(|change| match change {
        Change::NextHop(next_hop) => Some(Kind::NextHop(next_hop.object())),
        _ => None,
    });
    for kind in objects.into_values().chain(hops) {
        let object = v1::Object { kind: Some(kind) };
        wanted.extend(Key::of(&object).map(|key| (key, object)));
    }
    for change in changes {
        match change {
            // That of a route that took another way meanwhile.
            Change::NoNextHop(name) => {
                wanted.remove(&Key::NextHop(name.clone()));
            }
            Change::Route(key, shared) => {
                routes.insert((key.rd, key.prefix), shared.message());
            }
            Change::NoRoute(key) => {
                routes.remove(&(key.rd, key.prefix));
            }
            Change::NextHop(_) => {}
        }
    }
    let mut all = compare_objects(place, &wanted, &holds.objects);
    all.extend(compare_routes(place, &routes, &holds.routes));
    all.extend(compare_forwarding(place, &routes, desired, holds));
    all
}

/// A path of a peer that should be kept away is taken.
pub fn believed(nlri: &Nlri, peer: &str, reason: &str) -> Difference {
    difference("BGP", format!("{nlri} of peer {peer}"), format!("kept away: {reason}"), "it is taken")
}

/// A route that a peer should not know was told to it.
pub fn leaked(nlri: &Nlri, peer: &str) -> Difference {
    let expected = "not announced: nothing connects it with the peer";
    difference("BGP", format!("{nlri} to peer {peer}"), expected, "it is announced")
}

fn difference(
    place: &str,
    what: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Difference {
    let cut = |text: String| match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    };
    Difference {
        place: place.to_owned(),
        what: what.into(),
        expected: cut(expected.into()),
        found: cut(found.into()),
    }
}

fn compare_objects(
    place: &str,
    wanted: &BTreeMap<Key, v1::Object>,
    found: &[v1::ObjectWithStatus],
) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for item in found {
        let Some(object) = &item.object else { continue };
        let Some(key) = Key::of(object) else { continue };
        let Some(wanted) = wanted.get(&key) else {
            all.push(difference(place, key.to_string(), NOTHING, "it is declared"));
            continue;
        };
        for (field, expected, found) in different_fields(wanted, object) {
            all.push(difference(place, format!("{key} {field}"), expected, found));
        }
        all.extend(not_in_force(item).map(|found| difference(place, key.to_string(), "in force", found)));
        seen.insert(key);
    }
    let missing = wanted.keys().filter(|key| !seen.contains(key));
    all.extend(missing.map(|key| difference(place, key.to_string(), "it is declared", NOTHING)));
    all
}

/// Why an object that is declared has no effect.
fn not_in_force(item: &v1::ObjectWithStatus) -> Option<String> {
    let status = item.status.as_ref()?;
    match status.state() {
        v1::ObjectState::Waiting => {
            let waits: Vec<String> =
                status.waits_for.iter().map(|key| message_words(&key.transcode_to_dynamic())).collect();
            Some(format!("waits for {}", waits.join(", ")))
        }
        v1::ObjectState::Degraded => Some(format!("degraded: {}", status.message)),
        v1::ObjectState::Pending => Some(format!("not in force yet: {}", status.message)),
        v1::ObjectState::Ready | v1::ObjectState::Unspecified => None,
    }
}

/// Fields of two objects that differ, with what they say.
fn different_fields(wanted: &v1::Object, found: &v1::Object) -> Vec<(String, String, String)> {
    let inner = |object: &v1::Object| {
        let message = object.transcode_to_dynamic();
        let field = message.fields().next()?.1.as_message()?.clone();
        Some(field)
    };
    let (Some(wanted), Some(found)) = (inner(wanted), inner(found)) else { return Vec::new() };
    let descriptor = wanted.descriptor();
    let different = descriptor.fields().filter_map(|field| {
        let (one, other) = (wanted.get_field(&field), found.get_field_by_name(field.name())?);
        (one != other).then(|| (field.name().to_owned(), value_words(&one), value_words(&other)))
    });
    different.collect()
}

fn value_words(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(is) => is.to_string(),
        Value::I32(number) | Value::EnumNumber(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::List(list) if list.is_empty() => "none".to_owned(),
        Value::List(list) => list.iter().map(value_words).collect::<Vec<_>>().join(", "),
        Value::Message(message) => message_words(message),
        other => format!("{other:?}"),
    }
}

fn message_words(message: &DynamicMessage) -> String {
    let fields = message.fields().map(|(field, value)| format!("{} {}", field.name(), value_words(value)));
    format!("({})", fields.collect::<Vec<_>>().join(", "))
}

fn compare_routes(
    place: &str,
    wanted: &BTreeMap<(RouteDistinguisher, IpNet), v1::Route>,
    found: &[v1::ObjectWithStatus],
) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for item in found {
        let Some(Kind::Route(route)) = item.object.as_ref().and_then(|object| object.kind.as_ref()) else {
            continue;
        };
        let what = format!("route/{}/{}", route.rd, route.prefix);
        let (Ok(rd), Ok(prefix)) = (route.rd.parse(), route.prefix.parse()) else {
            all.push(difference(place, what, "a route that can be read", "another"));
            continue;
        };
        let Some(wanted) = wanted.get(&(rd, prefix)) else {
            all.push(difference(place, what, NOTHING, "it is declared"));
            continue;
        };
        let (expected, there) = (route_words(wanted), route_words(route));
        for (field, expected) in &expected {
            let found = there.get(field).map_or("", String::as_str);
            if found != expected {
                all.push(difference(place, format!("{what} {field}"), expected, found));
            }
        }
        seen.insert((rd, prefix));
    }
    let missing = wanted.keys().filter(|key| !seen.contains(key));
    all.extend(missing.map(|(rd, prefix)| {
        difference(place, format!("route/{rd}/{prefix}"), "it is declared: the best route of BGP", NOTHING)
    }));
    all
}

fn route_words(route: &v1::Route) -> Words {
    let targets: BTreeSet<RouteTarget> =
        route.route_targets.iter().filter_map(|target| target.parse().ok()).collect();
    let groups: BTreeSet<u32> = route.security_groups.iter().copied().collect();
    let encapsulations = route.encapsulations().map(|one| one.as_str_name());
    [
        ("route_targets", listed(targets)),
        ("security_groups", listed(groups)),
        ("next_hop", route.next_hop.clone()),
        ("label", route.label.to_string()),
        ("vni", route.vni.to_string()),
        ("encapsulations", listed(encapsulations)),
        ("local_pref", route.local_pref.unwrap_or(100).to_string()),
        ("med", route.med.to_string()),
        // More than so many no gateway counts.
        ("as_path_length", route.as_path_length.min(u16::MAX.into()).to_string()),
    ]
    .into()
}

fn listed<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Each route has a forwarding entry in each VRF that imports it, whichever
/// path it leads on.
fn compare_forwarding(
    place: &str,
    routes: &BTreeMap<(RouteDistinguisher, IpNet), v1::Route>,
    desired: &DesiredGateway,
    holds: &Holds,
) -> BTreeSet<Difference> {
    let none = BTreeSet::new();
    let mut all = BTreeSet::new();
    for ((rd, prefix), route) in routes {
        let targets: BTreeSet<RouteTarget> =
            route.route_targets.iter().filter_map(|target| target.parse().ok()).collect();
        for (name, _) in desired.vrfs.iter().filter(|(_, vrf)| !vrf.imports.is_disjoint(&targets)) {
            if !holds.forwarding.get(name).unwrap_or(&none).contains(prefix) {
                let what = format!("vrf/{name} {prefix}");
                let expected = format!("forwarded: imported from {rd}");
                all.insert(difference(place, what, expected, "no forwarding entry"));
            }
        }
    }
    all
}

/// What is different between what gateways export and what is announced.
/// `exporters` says which gateway exports what. What nobody exports is only
/// told when all gateways were seen.
pub fn announcements(
    wanted: &BTreeMap<Nlri, (Attributes, Route)>,
    exporters: &BTreeMap<Nlri, String>,
    own: &BTreeMap<Nlri, Path>,
    all_seen: bool,
) -> Vec<Difference> {
    let mut all = Vec::new();
    for (nlri, (attributes, route)) in wanted {
        let exporter = exporters.get(nlri).map_or("", String::as_str);
        let expected = announcement_words(nlri, attributes, &route.payload);
        let found = match own.get(nlri) {
            Some(path) => announcement_words(nlri, &path.attributes, &path.payload),
            None => NOTHING.to_owned(),
        };
        if expected != found {
            let what = format!("{nlri}, exported by gateway {exporter}");
            all.push(difference("BGP", what, format!("announced: {expected}"), found));
        }
    }
    let orphans = own.keys().filter(|nlri| all_seen && !wanted.contains_key(*nlri));
    all.extend(
        orphans
            .map(|nlri| difference("BGP", nlri.to_string(), NOTHING, "announced, and no gateway exports it")),
    );
    all
}

fn announcement_words(nlri: &Nlri, attributes: &Attributes, payload: &Payload) -> String {
    let label = match payload.label {
        Some(label) if matches!(nlri, Nlri::Evpn(_)) => format!("VNI {}", label.as_vni()),
        Some(label) => format!("label {}", label.as_mpls()),
        None => "no label".to_owned(),
    };
    let targets: BTreeSet<String> = attributes.route_targets().map(|target| target.to_string()).collect();
    format!("next hop {}, {label}, route targets {}", attributes.next_hop.address(), listed(targets))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use tieline_bgp::rib::{PeerId, Staleness};
    use tieline_bgp::wire::{Label, RouteDistinguisher};

    use super::*;

    fn vrf(label: u32, imports: &[&str]) -> v1::Object {
        let import_route_targets = imports.iter().map(|text| (*text).to_owned()).collect();
        let vrf = v1::Vrf { name: "red".into(), label, import_route_targets, ..Default::default() };
        v1::Object { kind: Some(Kind::Vrf(vrf)) }
    }

    fn item(object: v1::Object, state: v1::ObjectState) -> v1::ObjectWithStatus {
        let waits = v1::ObjectKey { kind: Some(v1::object_key::Kind::Port("p0".into())) };
        let status =
            v1::ObjectStatus { state: state.into(), waits_for: vec![waits], message: "no carrier".into() };
        v1::ObjectWithStatus { object: Some(object), status: Some(status), holders: Vec::new() }
    }

    fn texts(all: impl IntoIterator<Item = Difference>) -> Vec<String> {
        let text = |one: Difference| format!("{} | {} | {}", one.what, one.expected, one.found);
        all.into_iter().map(text).collect()
    }

    fn objects(wanted: Option<&v1::Object>, found: Option<v1::ObjectWithStatus>) -> Vec<String> {
        let key = |object: &v1::Object| (Key::of(object).expect("a key"), object.clone());
        let wanted = wanted.into_iter().map(key).collect();
        texts(compare_objects("here", &wanted, &Vec::from_iter(found)))
    }

    #[test]
    fn x6_objects_differ_by_field_and_by_being_there() {
        let (one, other) = (vrf(1000, &["64512:1"]), vrf(1001, &["64512:1", "64512:2"]));
        let ready = v1::ObjectState::Ready;
        assert!(objects(Some(&one), Some(item(one.clone(), ready))).is_empty());
        assert_eq!(
            objects(Some(&one), Some(item(other, ready))),
            ["vrf/red import_route_targets | 64512:1 | 64512:1, 64512:2", "vrf/red label | 1000 | 1001"]
        );
        assert_eq!(objects(Some(&one), None), ["vrf/red | it is declared | nothing"]);
        assert_eq!(objects(None, Some(item(one.clone(), ready))), ["vrf/red | nothing | it is declared"]);
        assert_eq!(
            objects(Some(&one), Some(item(one.clone(), v1::ObjectState::Waiting))),
            ["vrf/red | in force | waits for (port p0)"]
        );
        assert_eq!(
            objects(Some(&one), Some(item(one.clone(), v1::ObjectState::Degraded))),
            ["vrf/red | in force | degraded: no carrier"]
        );
    }

    fn route(label: u32, targets: &[&str]) -> v1::Route {
        v1::Route {
            rd: "64513:1".into(),
            prefix: "10.2.0.0/24".into(),
            route_targets: targets.iter().map(|text| (*text).to_owned()).collect(),
            label,
            ..Default::default()
        }
    }

    fn routes(wanted: Option<v1::Route>, found: Option<v1::Route>) -> Vec<String> {
        let key =
            |route: &v1::Route| (route.rd.parse().expect("an RD"), route.prefix.parse().expect("a prefix"));
        let wanted = wanted.iter().map(|route| (key(route), route.clone())).collect();
        let found =
            found.map(|route| item(v1::Object { kind: Some(Kind::Route(route)) }, v1::ObjectState::Ready));
        texts(compare_routes("here", &wanted, &Vec::from_iter(found)))
    }

    #[test]
    fn x6_routes_differ_in_what_counts() {
        let one = || Some(route(1000, &["64512:1", "64512:2"]));
        let same = v1::Route { local_pref: Some(100), ..route(1000, &["64512:2", "64512:1"]) };
        assert!(routes(one(), Some(same)).is_empty(), "neither order nor what is left out counts");
        assert_eq!(
            routes(one(), Some(route(1001, &["64512:1"]))),
            [
                "route/64513:1/10.2.0.0/24 label | 1000 | 1001",
                "route/64513:1/10.2.0.0/24 route_targets | 64512:1, 64512:2 | 64512:1"
            ]
        );
        assert_eq!(
            routes(one(), None),
            ["route/64513:1/10.2.0.0/24 | it is declared: the best route of BGP | nothing"]
        );
        assert_eq!(routes(None, one()), ["route/64513:1/10.2.0.0/24 | nothing | it is declared"]);
        let noise = v1::Route { prefix: "everywhere".into(), ..route(1000, &[]) };
        assert_eq!(routes(None, Some(noise)).len(), 1, "what cannot be read is told");
    }

    #[test]
    fn x6_exports_and_announcements_are_compared_both_ways() {
        let nlri = |n: u8| {
            let prefix = format!("10.1.{n}.0/24").parse().expect("a prefix");
            Nlri::Vpnv4(RouteDistinguisher::as2(64512, 1), prefix)
        };
        let attributes = |host: u8| Attributes::new(IpAddr::from([198, 18, 0, host]));
        let payload = Payload::labelled(Label::mpls(1001));
        let path = |host: u8| Path {
            peer: PeerId::LOCAL,
            attributes: Arc::new(attributes(host)),
            payload,
            stale: Staleness::default(),
            objection: None,
        };
        let wanted: BTreeMap<_, _> =
            (1..=3).map(|n| (nlri(n), (attributes(1), Route { nlri: nlri(n), payload }))).collect();
        let exporters = (1..=3).map(|n| (nlri(n), "east-1".to_owned())).collect();
        let own = [(nlri(1), path(1)), (nlri(2), path(9)), (nlri(4), path(1))].into();
        let told = texts(announcements(&wanted, &exporters, &own, true));
        let right = "announced: next hop 198.18.0.1, label 1001, route targets none";
        assert_eq!(
            told,
            [
                format!(
                    "64512:1:10.1.2.0/24, exported by gateway east-1 | {right} | next hop 198.18.0.9, label 1001, route targets none"
                ),
                format!("64512:1:10.1.3.0/24, exported by gateway east-1 | {right} | nothing"),
                "64512:1:10.1.4.0/24 | nothing | announced, and no gateway exports it".to_owned(),
            ]
        );
        let told = texts(announcements(&wanted, &exporters, &own, false));
        assert_eq!(told.len(), 2, "a gateway that was not seen may export it");
    }

    #[test]
    fn long_values_are_cut() {
        let one = difference("here", "this", "\u{e4}".repeat(1000), "");
        assert_eq!(one.expected.chars().count(), WIDTH + 3);
    }
}
