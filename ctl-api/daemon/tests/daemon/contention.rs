//! Controllers in each other's way: names that are taken, objects that are
//! declared twice, terms that nobody may use any more.

use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::controller_message::Message as To;
use tieline_proto::v1::object::Kind;
use tonic::Code;

use crate::support::{Daemon, PATIENCE, Place, Session, hello};

fn group(prefixes: &[&str]) -> Kind {
    let rule = |prefix: &&str| v1::SecurityGroupRule {
        direction: v1::Direction::Ingress.into(),
        remote: Some(v1::security_group_rule::Remote::RemotePrefix((*prefix).to_owned())),
        ..Default::default()
    };
    let rules = prefixes.iter().map(rule).collect();
    Kind::SecurityGroup(v1::SecurityGroup { id: 7, rules, ..Default::default() })
}

fn with_term(name: &str, term: u64, grace: Option<u32>) -> v1::ControllerHello {
    v1::ControllerHello { term, grace_seconds: grace, ..hello(name, false) }
}

/// Rules of the group that is in force.
async fn rules(daemon: &Daemon) -> usize {
    let item = daemon.get(v1::object_key::Kind::SecurityGroup(7)).await;
    match item.and_then(|item| item.object).and_then(|object| object.kind) {
        Some(Kind::SecurityGroup(group)) => group.rules.len(),
        other => panic!("no group: {other:?}"),
    }
}

async fn forget(daemon: &Daemon, controller: &str, withdraw: bool) -> Result<u64, tonic::Status> {
    let request = v1::ForgetControllerRequest { controller: controller.to_owned(), withdraw };
    Ok(daemon.control().await.forget_controller(request).await?.into_inner().withdrawn)
}

/// The session has ended, and the gateway knows it.
async fn end(daemon: &Daemon, session: Session, name: &str) {
    drop(session);
    let since = Instant::now();
    loop {
        let controllers =
            daemon.control().await.list_controllers(v1::ListControllersRequest {}).await.expect("it answers");
        let all = controllers.into_inner().controllers;
        if !all.iter().any(|info| info.name == name && info.connected) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{name} is still here");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An emptied security group of a controller whose name sorts first took all
/// traffic with it.
#[tokio::test]
async fn a_rank_decides_and_whoever_is_overridden_is_told() {
    let place = Place::new();
    place.configure("[api]\nranks = [\"central\"]\n");
    let daemon = Daemon::start(&place);
    let events = v1::WatchRequest { events: true, ..Default::default() };
    let mut events = daemon.control().await.watch(events).await.expect("a stream").into_inner();
    let mut central = daemon.controller("central").await;
    central.apply(group(&["0.0.0.0/0"])).await;
    let mut rogue = daemon.controller("aaa").await;
    rogue.apply(group(&[])).await;
    assert_eq!(rules(&daemon).await, 1, "the ranked one counts");
    let event = loop {
        let reply = tokio::time::timeout(PATIENCE, events.message()).await.expect("in time").expect("good");
        match reply.and_then(|reply| reply.what) {
            Some(v1::watch_reply::What::Event(event))
                if event.kind() == v1::EventKind::DeclarationOverridden =>
            {
                break event;
            }
            Some(_) => {}
            None => panic!("the stream has ended"),
        }
    };
    assert!(event.message.contains("as aaa declares it") && event.message.contains("central"), "{event:?}");
    // Whatever came first, and over a restart.
    end(&daemon, central, "central").await;
    daemon.kill();
    let daemon = Daemon::start(&place);
    assert_eq!(rules(&daemon).await, 1);
    let list =
        daemon.control().await.list_controllers(v1::ListControllersRequest {}).await.expect("it answers");
    let ranks: Vec<_> =
        list.into_inner().controllers.into_iter().map(|info| (info.name, info.rank)).collect();
    assert_eq!(ranks, [("aaa".to_owned(), 0), ("central".to_owned(), 1)]);
}

/// 252 sessions with a term kept everybody else out, for as long as they said.
#[tokio::test]
async fn a_peer_cannot_take_all_names() {
    let place = Place::new();
    place.configure("[api]\nnames_per_peer = 4\ngrace_s = 60\nlongest_grace_s = 3600\n");
    let daemon = Daemon::start(&place);
    for number in 0..4 {
        let name = format!("taken-{number}");
        let session = daemon.session(with_term(&name, 1, Some(u32::MAX))).await;
        assert_eq!(session.hello.grace_seconds, 3600, "no longer than it may be");
        end(&daemon, session, &name).await;
    }
    let mut refused = daemon.raw_session().await;
    refused.say(To::Hello(with_term("taken-4", 1, None))).await;
    let closing = refused.closing().await;
    assert_eq!(closing.reason(), v1::ClosingReason::Limit);
    assert!(closing.message.contains("names_per_peer") && closing.message.contains("forget"), "{closing:?}");
    // Its own names it may use, and over a restart they are still known as its.
    daemon.session(with_term("taken-0", 2, None)).await;
    daemon.kill();
    let daemon = Daemon::start(&place);
    let mut refused = daemon.raw_session().await;
    refused.say(To::Hello(with_term("taken-4", 1, None))).await;
    assert_eq!(refused.closing().await.reason(), v1::ClosingReason::Limit);
    assert_eq!(forget(&daemon, "taken-1", false).await.expect("it is away"), 0);
    daemon.session(with_term("taken-4", 1, None)).await;
}

#[tokio::test]
async fn a_controller_is_forgotten_when_an_operator_says_so() {
    let place = Place::new();
    let daemon = Daemon::start(&place);
    let mut session = daemon.session(with_term("old", 9, None)).await;
    session.apply(group(&["0.0.0.0/0"])).await;
    assert_eq!(forget(&daemon, "nobody", false).await.expect_err("unknown").code(), Code::NotFound);
    let refused = forget(&daemon, "old", true).await.expect_err("it is here");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("has a session"), "{refused}");
    end(&daemon, session, "old").await;
    let refused = forget(&daemon, "old", false).await.expect_err("it holds something");
    assert!(refused.message().contains("holds 1 objects"), "{refused}");
    assert_eq!(forget(&daemon, "old", true).await.expect("it is away"), 1);
    daemon.session(with_term("old", 1, None)).await;
    daemon.kill();
    // Its higher term is forgotten for good.
    let daemon = Daemon::start(&place);
    assert_eq!(daemon.session(with_term("old", 1, None)).await.hello.held, 0);
}
