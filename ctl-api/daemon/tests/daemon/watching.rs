//! Following objects, events and exports.

use crate::support::{Daemon, PATIENCE, Place, apply, discard, hello, route, vrf};
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::watch_exports_reply::What as ExportWhat;
use tieline_proto::v1::watch_reply::What;
use tonic::Streaming;

const TARGET: &str = "64512:8000001";

async fn next(replies: &mut Streaming<v1::WatchReply>) -> (What, String) {
    let reply = tokio::time::timeout(PATIENCE, replies.message()).await.expect("a reply in time");
    let reply = reply.expect("a good stream").expect("it goes on");
    (reply.what.expect("something"), reply.resume_token)
}

async fn watch(daemon: &Daemon, kinds: &[v1::ObjectKind], token: &str) -> Streaming<v1::WatchReply> {
    let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
    let request = v1::WatchRequest { kinds, events: true, resume_token: token.to_owned() };
    daemon.control().await.watch(request).await.expect("a stream").into_inner()
}

/// The name of a next hop that is there, or that is gone.
fn name(what: &What) -> (String, bool) {
    match what {
        What::Object(v1::ObjectWithStatus {
            object: Some(v1::Object { kind: Some(Kind::NextHop(n)) }),
            ..
        }) => (n.name.clone(), true),
        What::Deleted(v1::ObjectKey { kind: Some(object_key::Kind::NextHop(name)) }) => (name.clone(), false),
        other => panic!("not a next hop: {other:?}"),
    }
}

#[tokio::test]
async fn a_watcher_sees_all_and_goes_on_where_it_was() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    session.apply(discard("n")).await;
    let kinds = [v1::ObjectKind::NextHop];
    let mut replies = watch(&daemon, &kinds, "").await;
    assert_eq!(name(&next(&mut replies).await.0), ("n".to_owned(), true));
    assert!(matches!(next(&mut replies).await.0, What::CaughtUp(_)));
    session.apply(vrf("red", TARGET)).await;
    session.apply(discard("m")).await;
    let (what, token) = next(&mut replies).await;
    assert_eq!(name(&what), ("m".to_owned(), true), "only of the kinds that are watched");
    assert!(!token.is_empty());
    drop(replies);
    session.delete(object_key::Kind::NextHop("n".into())).await;
    session.apply(discard("o")).await;
    let mut replies = watch(&daemon, &kinds, &token).await;
    assert_eq!(name(&next(&mut replies).await.0), ("n".to_owned(), false));
    let (what, token) = next(&mut replies).await;
    assert_eq!(name(&what), ("o".to_owned(), true));
    // Another start has another past.
    daemon.kill();
    let daemon = Daemon::start(&place);
    let mut replies = watch(&daemon, &kinds, &token).await;
    assert!(matches!(next(&mut replies).await.0, What::Lost(_)));
    let mut all = vec![name(&next(&mut replies).await.0), name(&next(&mut replies).await.0)];
    all.sort();
    assert_eq!(all, [("m".to_owned(), true), ("o".to_owned(), true)]);
    assert!(matches!(next(&mut replies).await.0, What::CaughtUp(_)));
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    session.apply(vrf("red", TARGET)).await;
    let mut slow = watch(&daemon, &[v1::ObjectKind::Route], "").await;
    assert!(matches!(next(&mut slow).await.0, What::CaughtUp(_)));
    // More than is remembered, and nobody reads.
    for round in 0..20_u8 {
        let ipv4 = (0..10_000_u32).flat_map(|n| {
            let [_, _, a, b] = n.to_be_bytes();
            [10 + round, a, b, 0, 24]
        });
        let attributes = v1::Route {
            rd: "64512:2".into(),
            route_targets: vec![TARGET.into()],
            next_hop: "n".into(),
            ..Default::default()
        };
        let prefixes = v1::RoutePrefixes { ipv4: ipv4.collect(), ..Default::default() };
        let set = v1::RouteSet { attributes: Some(attributes), prefixes: Some(prefixes) };
        let id = session.send(Some(Operation::ApplyRoutes(set))).await;
        let (accepted, _) = session.acknowledged(id).await;
        assert!(accepted.refused.is_empty(), "{accepted:?}");
    }
    let mut seen = 0_u32;
    loop {
        match next(&mut slow).await.0 {
            What::Lost(_) => break,
            What::Object(_) => seen += 1,
            other => panic!("{other:?}"),
        }
        assert!(seen <= 200_000);
    }
    let mut all = 0_u32;
    loop {
        match next(&mut slow).await.0 {
            What::CaughtUp(_) => break,
            What::Object(_) => all += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(all, 200_000, "and gets all of it");
}

#[tokio::test]
async fn events_tell_of_ports_controllers_and_limits() {
    let place = Place::new();
    let mut config = std::fs::read_to_string(place.config()).expect("a file");
    config.push_str("[limits]\nvrfs = 1\n");
    std::fs::write(place.config(), config).expect("a file");
    let daemon = Daemon::start(&place);
    let mut replies = watch(&daemon, &[v1::ObjectKind::StaticRoute], "").await;
    assert!(matches!(next(&mut replies).await.0, What::CaughtUp(_)));
    let mut session =
        daemon.session(v1::ControllerHello { grace_seconds: Some(1), ..hello("a", false) }).await;
    session.apply(crate::support::port("quiet", "net_null0,no-rx=1", v1::PortRole::Tenant)).await;
    session.apply(vrf("red", TARGET)).await;
    session.refused(Some(apply(Kind::Vrf(v1::Vrf { name: "blue".into(), ..Default::default() })))).await;
    drop(session);
    use v1::EventKind::{ControllerDown, ControllerUp, LimitReached, PortUp, StaleWithdrawn};
    let mut missing = vec![ControllerUp, ControllerDown, LimitReached, PortUp, StaleWithdrawn];
    let (mut last, mut tokens) = (0, 0);
    while !missing.is_empty() {
        let (What::Event(event), token) = next(&mut replies).await else { panic!("not an event") };
        assert!(!event.message.is_empty() && event.time_unix_nanoseconds > 0);
        // Of events that come together only the last has one.
        tokens += usize::from(!token.is_empty());
        assert_eq!(event.number, last + 1, "{event:?}");
        last = event.number;
        missing.retain(|kind| *kind != event.kind());
    }
    assert!(tokens > 0);
}

async fn next_export(replies: &mut Streaming<v1::WatchExportsReply>) -> ExportWhat {
    let reply = tokio::time::timeout(PATIENCE, replies.message()).await.expect("a reply in time");
    reply.expect("a good stream").expect("it goes on").what.expect("something")
}

#[tokio::test]
async fn exports_have_a_label_that_survives_a_restart() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    let red = v1::Vrf {
        name: "red".into(),
        rd: "64512:1".into(),
        export_route_targets: vec![TARGET.into()],
        ..Default::default()
    };
    let other = v1::Vrf { name: "green".into(), rd: "64512:2".into(), ..red.clone() };
    session.apply(Kind::Vrf(other)).await;
    session.apply(Kind::Vrf(red.clone())).await;
    session.apply(discard("n")).await;
    let static_route = |prefix: &str| {
        Kind::StaticRoute(v1::StaticRoute {
            vrf: "red".into(),
            prefix: prefix.into(),
            next_hop: "n".into(),
            security_groups: vec![7],
            ..Default::default()
        })
    };
    session.apply(static_route("10.0.0.0/8")).await;
    let request = || v1::WatchExportsRequest { vrfs: vec!["red".into()] };
    let mut replies = daemon.control().await.watch_exports(request()).await.expect("a stream").into_inner();
    let ExportWhat::Export(first) = next_export(&mut replies).await else { panic!("not an export") };
    assert_eq!(
        (first.vrf.as_str(), first.prefix.as_str(), first.rd.as_str()),
        ("red", "10.0.0.0/8", "64512:1")
    );
    assert_eq!(
        (first.origin(), first.route_targets.clone()),
        (v1::ExportOrigin::Static, vec![TARGET.to_owned()])
    );
    assert_eq!(first.security_groups, [7]);
    assert_eq!(first.label, 524_289, "the second that was given");
    assert!(matches!(next_export(&mut replies).await, ExportWhat::CaughtUp(_)));
    session.apply(static_route("2001:db8::/32")).await;
    let ExportWhat::Export(second) = next_export(&mut replies).await else { panic!("not an export") };
    assert_eq!((second.prefix.as_str(), second.label), ("2001:db8::/32", first.label));
    session.delete(object_key::Kind::Vrf("green".into())).await;
    session
        .delete(object_key::Kind::StaticRoute(v1::StaticRouteKey {
            vrf: "red".into(),
            prefix: "10.0.0.0/8".into(),
        }))
        .await;
    let gone = next_export(&mut replies).await;
    assert_eq!(gone, ExportWhat::Withdrawn(v1::ExportKey { vrf: "red".into(), prefix: "10.0.0.0/8".into() }));
    daemon.kill();
    let daemon = Daemon::start(&place);
    let mut replies = daemon.control().await.watch_exports(request()).await.expect("a stream").into_inner();
    assert_eq!(next_export(&mut replies).await, ExportWhat::Export(second.clone()), "before any controller");
    // Its label is nobody else's.
    let mut session = daemon.program().await;
    let taken = Kind::Vrf(v1::Vrf { name: "blue".into(), label: second.label, ..Default::default() });
    assert_eq!(session.refused(Some(apply(taken))).await.code(), v1::ErrorCode::Conflict);
    session.apply(route("10.0.0.0/8", "1:1", "n")).await;
}
