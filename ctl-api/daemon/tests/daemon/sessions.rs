//! Controllers and their sessions.

use std::time::Duration;

use crate::support::{Daemon, PATIENCE, Place, Session, apply, discard, hello, port, route, vrf};
use tieline_proto::v1;
use tieline_proto::v1::controller_message::Message as To;
use tieline_proto::v1::gateway_message::Message as From;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key;
use tieline_proto::v1::operation::Operation;

const TARGET: &str = "64512:8000001";

fn next_hop(name: &str) -> object_key::Kind {
    object_key::Kind::NextHop(name.to_owned())
}

async fn refusal(session: &mut Session, message: To) -> v1::ClosingReason {
    session.say(message).await;
    let closing = session.closing().await;
    assert!(!closing.message.is_empty());
    closing.reason()
}

#[tokio::test]
async fn the_gateway_says_who_it_is_and_what_it_takes() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let session = daemon.controller("a").await;
    let hello = &session.hello;
    assert_eq!((hello.revision, hello.held, hello.heartbeat_seconds), (1, 0, 10));
    assert_eq!((hello.node_id.len(), hello.boot_id.len()), (32, 32));
    assert!(hello.capabilities.contains(&"route_sets".to_owned()));
    let routes = hello.limits.iter().find(|limit| limit.name == "routes").expect("a limit");
    assert_eq!(routes.value, 2_000_000);
    assert_eq!(hello.grace_seconds, 24 * 3600);
    let node_id = hello.node_id.clone();
    drop(session);
    daemon.kill();
    let daemon = Daemon::start(&place);
    let again = daemon.controller("a").await.hello;
    assert_eq!(again.node_id, node_id, "the same for ever");
}

/// DPDK may take fewer ports than the engine does.
#[tokio::test]
async fn as_many_ports_as_are_announced_can_be_declared() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.program().await;
    let limit = session.hello.limits.iter().find(|limit| limit.name == "ports").expect("a limit").value;
    let null =
        |number| port(&format!("p{number}"), &format!("net_null{number},no-rx=1"), v1::PortRole::Tenant);
    for number in 0..limit {
        session.apply(null(number)).await;
    }
    let refused = session.refused(Some(apply(null(limit)))).await;
    assert_eq!(refused.code(), v1::ErrorCode::LimitReached, "{refused:?}");
    assert_eq!(refused.limit.map(|limit| limit.value), Some(limit));
}

#[tokio::test]
async fn a_session_that_cannot_be_is_closed_with_a_reason() {
    use v1::ClosingReason::{Protocol, Revision, Silent};
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let future = v1::ControllerHello { lowest_revision: 2, highest_revision: 3, ..hello("a", false) };
    let nameless = hello("not a name!", false);
    let heartbeat = To::Heartbeat(v1::Heartbeat {});
    for (first, reason) in
        [(To::Hello(future), Revision), (To::Hello(nameless), Protocol), (heartbeat, Protocol)]
    {
        assert_eq!(refusal(&mut daemon.raw_session().await, first).await, reason);
    }
    let mut session = daemon.controller("a").await;
    assert_eq!(refusal(&mut session, To::Hello(hello("a", false))).await, Protocol);
    // Half open: it never says anything again.
    let silent = v1::ControllerHello { heartbeat_seconds: 1, ..hello("b", false) };
    let mut session = daemon.session(silent).await;
    assert_eq!(session.closing().await.reason(), Silent);
    daemon.controller("c").await.apply(discard("n")).await;
}

#[tokio::test]
async fn a_deposed_leader_cannot_write() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let with_term = |term| v1::ControllerHello { term, ..hello("cluster", false) };
    let mut old = daemon.session(with_term(3)).await;
    old.apply(discard("n")).await;
    let mut new = daemon.session(with_term(4)).await;
    assert_eq!(new.hello.held, 1);
    assert_eq!(old.closing().await.reason(), v1::ClosingReason::Fenced);
    let mut back = daemon.raw_session().await;
    assert_eq!(refusal(&mut back, To::Hello(with_term(3))).await, v1::ClosingReason::Fenced);
    new.apply(discard("m")).await;
    drop(new);
    // Terms survive the daemon.
    daemon.kill();
    let daemon = Daemon::start(&place);
    let mut back = daemon.raw_session().await;
    assert_eq!(refusal(&mut back, To::Hello(with_term(3))).await, v1::ClosingReason::Fenced);
    // The same leader comes again: the connection before was half open.
    let mut one = daemon.session(with_term(4)).await;
    let _two = daemon.session(with_term(4)).await;
    assert_eq!(one.closing().await.reason(), v1::ClosingReason::Replaced);
}

#[tokio::test]
async fn an_atomic_batch_is_all_or_nothing() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.controller("a").await;
    let operations = |kinds: Vec<Kind>| {
        kinds.into_iter().map(|kind| v1::Operation { operation: Some(apply(kind)) }).collect::<Vec<_>>()
    };
    let bad = || vec![discard("n"), vrf("red", TARGET), vrf("blue", TARGET), discard("m")];
    let batch =
        v1::Batch { mode: v1::BatchMode::Atomic.into(), operations: operations(bad()), ..Default::default() };
    let id = session.send_batch(batch.clone()).await;
    let (accepted, _) = session.acknowledged(id).await;
    let [refused] = &accepted.refused[..] else { panic!("{accepted:?}") };
    let reason = refused.refused.clone().expect("a reason");
    assert_eq!(
        (refused.index, reason.code(), reason.field.as_str()),
        (2, v1::ErrorCode::Conflict, "vrf.label")
    );
    assert!(daemon.get(next_hop("n")).await.is_none());
    let id = session.send_batch(v1::Batch { mode: v1::BatchMode::Each.into(), ..batch }).await;
    let (accepted, _) = session.acknowledged(id).await;
    assert_eq!(accepted.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [2]);
    assert!(daemon.get(next_hop("m")).await.is_some());
}

#[tokio::test]
async fn what_a_controller_does_not_declare_again_is_withdrawn() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.controller("a").await;
    session.apply(vrf("red", TARGET)).await;
    for name in ["n", "m"] {
        session.apply(discard(name)).await;
    }
    for n in 0..3 {
        session.apply(route(&format!("10.{n}.0.0/16"), TARGET, "n")).await;
    }
    drop(session);
    let mut operator = daemon.program().await;
    operator.apply(discard("m")).await;
    let mut session = daemon.controller("a").await;
    assert_eq!(session.hello.held, 6);
    let item = daemon.get(next_hop("n")).await.expect("it is kept");
    assert_eq!(
        item.holders.iter().map(|h| (h.controller.as_str(), h.stale)).collect::<Vec<_>>(),
        [("a", true)]
    );
    session.apply(vrf("red", TARGET)).await;
    session.apply(discard("n")).await;
    session.apply(route("10.1.0.0/16", TARGET, "n")).await;
    assert_eq!(session.end_of_sync().await, 3, "two routes, and a part in m");
    let request = v1::ListRoutesRequest { vrf: "red".to_owned(), ..Default::default() };
    let routes = daemon.operations().await.list_routes(request).await.expect("a VRF").into_inner().routes;
    assert_eq!(routes.iter().map(|route| route.prefix.as_str()).collect::<Vec<_>>(), ["10.1.0.0/16"]);
    let holders = daemon.get(next_hop("m")).await.expect("the operator's").holders;
    assert_eq!(
        holders.iter().map(|h| (h.controller.as_str(), h.stale)).collect::<Vec<_>>(),
        [("operator", false)]
    );
    let controllers =
        daemon.control().await.list_controllers(v1::ListControllersRequest {}).await.expect("a list");
    let words: Vec<_> = controllers
        .into_inner()
        .controllers
        .into_iter()
        .map(|c| (c.name, c.connected, c.held, c.stale, c.lasting))
        .collect();
    assert_eq!(words, [("a".into(), true, 3, 0, false), ("operator".into(), true, 1, 0, true)]);
}

#[tokio::test]
async fn grace_ends_and_what_was_kept_goes() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let short = v1::ControllerHello { grace_seconds: Some(1), ..hello("a", false) };
    let mut session = daemon.session(short).await;
    session.apply(discard("n")).await;
    drop(session);
    assert!(daemon.get(next_hop("n")).await.is_some(), "it is kept for a second");
    let gone = async {
        while daemon.get(next_hop("n")).await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("its time is over");
}

#[tokio::test]
async fn a_limit_is_named_with_its_value() {
    let place = Place::new();
    let mut config = std::fs::read_to_string(place.config()).expect("a file");
    config.push_str("[limits]\nvrfs = 1\n");
    std::fs::write(place.config(), config).expect("a file");
    let daemon = Daemon::start(&place);
    let mut session = daemon.controller("a").await;
    session.apply(vrf("red", TARGET)).await;
    let blue = Kind::Vrf(v1::Vrf { name: "blue".into(), ..Default::default() });
    let refused = session.refused(Some(apply(blue))).await;
    assert_eq!(refused.code(), v1::ErrorCode::LimitReached);
    assert_eq!(refused.limit, Some(v1::Limit { name: "vrfs".into(), value: 1 }));
}

/// X5: what a change would do is said, and not done.
#[tokio::test]
async fn x5_a_dry_run_says_what_a_change_would_do() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.controller("a").await;
    session.apply(vrf("red", TARGET)).await;
    session.apply(discard("n")).await;
    session.apply(route("10.1.0.0/16", TARGET, "n")).await;
    let lifted = v1::NextHop { name: "n".into(), target: Some(v1::next_hop::Target::Vrf("red".into())) };
    let operations: Vec<v1::Operation> = [
        apply(Kind::NextHop(lifted)),
        apply(route("10.2.0.0/16", TARGET, "n")),
        apply(route("10.1.0.0/16", "1:1", "n")),
        apply(vrf("blue", TARGET)),
        Operation::ApplyRoutes(v1::RouteSet::default()),
    ]
    .into_iter()
    .map(|one| v1::Operation { operation: Some(one) })
    .collect();
    let mut control = daemon.control().await;
    let request = v1::PreviewRequest {
        controller: "a".into(),
        batch: Some(v1::Batch { operations, ..Default::default() }),
        replaces_all: false,
    };
    let reply = control.preview(request.clone()).await.expect("a preview").into_inner();
    assert_eq!(reply.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [3, 4], "{reply:?}");
    let objects: Vec<_> = reply.objects.iter().map(|object| (object.key.clone(), object.change())).collect();
    let key = |kind| Some(v1::ObjectKey { kind: Some(kind) });
    assert_eq!(objects, [(key(next_hop("n")), v1::Change::Changed)]);
    let [red] = &reply.vrfs[..] else { panic!("{reply:?}") };
    assert_eq!(
        (red.vrf.as_str(), red.routes_added, red.routes_changed, red.routes_removed),
        ("red", 1, 0, 1)
    );
    let examples: Vec<_> =
        red.examples.iter().map(|e| (e.prefix.as_str(), e.change(), e.after.as_str())).collect();
    assert_eq!(
        examples,
        [("10.1.0.0/16", v1::Change::Removed, ""), ("10.2.0.0/16", v1::Change::Added, "VRF red")]
    );
    // Nothing was done.
    assert!(daemon.get(object_key::Kind::Vrf("blue".into())).await.is_none());
    let request_routes = v1::ListRoutesRequest { vrf: "red".to_owned(), ..Default::default() };
    let routes =
        daemon.operations().await.list_routes(request_routes).await.expect("a VRF").into_inner().routes;
    assert_eq!(routes.iter().map(|route| route.via.as_str()).collect::<Vec<_>>(), ["discard"]);
    // All else would go.
    let operations = vec![v1::Operation { operation: Some(apply(discard("n"))) }];
    let request = v1::PreviewRequest {
        batch: Some(v1::Batch { operations, ..Default::default() }),
        replaces_all: true,
        ..request
    };
    let reply = control.preview(request).await.expect("a preview").into_inner();
    let objects: Vec<_> = reply.objects.iter().map(|object| (object.key.clone(), object.change())).collect();
    assert_eq!(objects, [(key(object_key::Kind::Vrf("red".into())), v1::Change::Removed)]);
    assert_eq!(reply.vrfs.iter().map(|vrf| vrf.routes_removed).collect::<Vec<_>>(), [1]);
    assert!(matches!(session.end_of_sync().await, 0), "the session goes on");
}

#[tokio::test]
async fn heartbeats_come_when_nothing_else_does() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.session(v1::ControllerHello { heartbeat_seconds: 1, ..hello("a", false) }).await;
    for _ in 0..5 {
        session.say(To::Heartbeat(v1::Heartbeat {})).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    // Longer than three silences, and still here.
    session.apply(discard("n")).await;
    session.say(To::EndOfSync(v1::EndOfSync { id: 9 })).await;
    assert!(matches!(session.reply().await, From::Synced(_)));
}
