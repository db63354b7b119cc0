//! Connecting, leading, leaving, and silence.

use std::time::Duration;

use tieline_federation::gateway::events::{Cause, Event};
use tieline_proto::v1::{ClosingReason, ErrorCode};

use super::owner::{Owner, holds, settings, vrf};
use crate::fake::{Gateway, Order};
use crate::place::Place;

#[tokio::test]
async fn a_gateway_that_is_not_there_yet_is_waited_for() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    let mut owner = Owner::leading(&fake);
    owner.gateway.change(vec![vrf("red", 16)]);
    let (cause, reason, retry_in) = owner.down().await;
    assert_eq!(cause, Cause::Unreachable);
    assert!(reason.contains("control.sock"), "{reason}");
    assert!(retry_in.is_some_and(|pause| pause <= Duration::from_millis(20)), "{retry_in:?}");
    assert_eq!(owner.gateway.status().last_error, Some(reason));
    owner.down().await;
    fake.start();
    let hello = owner.up().await;
    assert_eq!(hello.software, "a model");
    holds("red is there", || fake.model().objects.contains_key("vrf/red")).await;
    assert_eq!(owner.gateway.status().last_error, None);
}

#[tokio::test]
async fn who_was_deposed_stays_away_until_it_leads_again() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    fake.model().term = 8;
    let mut owner = Owner::new(&fake, settings());
    owner.quiet(Duration::from_millis(100)).await;
    assert!(fake.model().hellos.is_empty(), "it does not lead");
    owner.gateway.lead(Some(7));
    let (cause, reason, retry_in) = owner.down().await;
    assert_eq!((cause, retry_in), (Cause::Closed(ClosingReason::Fenced), None));
    assert!(reason.contains("higher election term") && reason.contains("by the test"), "{reason}");
    owner.gateway.lead(Some(7));
    owner.quiet(Duration::from_millis(300)).await;
    assert_eq!(fake.model().hellos.len(), 1);
    owner.gateway.lead(Some(9));
    owner.up().await;
    // A new term begins a new session, none ends it.
    owner.gateway.lead(Some(10));
    assert_eq!(owner.down().await.0, Cause::Term);
    owner.up().await;
    owner.gateway.lead(None);
    let (cause, _, retry_in) = owner.down().await;
    assert_eq!((cause, retry_in), (Cause::Term, None));
    owner.quiet(Duration::from_millis(200)).await;
    let terms: Vec<u64> = fake.model().hellos.iter().map(|hello| hello.term).collect();
    assert_eq!(terms, [7, 9, 10]);
    owner.gateway.lead(Some(10));
    owner.up().await;
}

#[tokio::test]
async fn who_was_replaced_does_not_fight() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.up().await;
    fake.order(Order::Close(ClosingReason::Replaced));
    let (cause, _, retry_in) = owner.down().await;
    assert_eq!((cause, retry_in), (Cause::Closed(ClosingReason::Replaced), None));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.model().hellos.len(), 1);
    owner.gateway.lead(Some(0));
    owner.up().await;
    // A limit is another matter.
    fake.order(Order::Close(ClosingReason::Limit));
    let (cause, _, retry_in) = owner.down().await;
    assert_eq!(cause, Cause::Closed(ClosingReason::Limit));
    assert!(retry_in.is_some());
    owner.up().await;
}

#[tokio::test]
async fn both_sides_notice_silence() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.up().await;
    // The model closes sessions that are silent for 3 s: ours is not.
    owner.until(|event| matches!(event, Event::ExportsComplete).then_some(())).await;
    owner.quiet(Duration::from_millis(4500)).await;
    let heartbeats = fake.model().log.iter().filter(|&&said| said == "heartbeat").count();
    assert!((3..=5).contains(&heartbeats), "{heartbeats} in 4.5 s, of one a second");
    fake.model().mute = true;
    let (cause, reason, _) = owner.down().await;
    assert_eq!(cause, Cause::Silent);
    assert_eq!(reason, "nothing was heard of the gateway for 3 s");
    fake.model().mute = false;
    owner.up().await;
}

#[tokio::test]
async fn an_owner_that_does_not_listen_holds_up_only_itself() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let all = 0..4000_u32;
    let name = |number: u32| format!("red{number}");
    for number in all.clone() {
        fake.model().refuse.insert(format!("vrf/{}", name(number)), ErrorCode::InvalidField);
    }
    let mut owner = Owner::leading(&fake);
    owner.gateway.change(all.clone().map(|number| vrf(&name(number), 16)).collect());
    holds("some came", || fake.model().operations.len() > 1000).await;
    tokio::time::sleep(Duration::from_millis(4500)).await;
    let mut refused = 0;
    while refused < all.len() {
        match owner.event().await {
            Event::Refused(_) => refused += 1,
            Event::Down { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    assert_eq!(fake.model().hellos.len(), 1);
}

#[tokio::test]
async fn who_leaves_closes_the_stream_and_withdraws_nothing() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.program(vec![vrf("red", 16)]).await;
    owner.gateway.stop().await;
    assert_eq!(fake.model().log.last(), Some(&"end"));
    assert_eq!(fake.model().objects.len(), 1);
    // A client that is dropped leaves as well.
    let mut owner = Owner::leading(&fake);
    owner.up().await;
    drop(owner);
    holds("it has left", || fake.model().log.iter().filter(|&&said| said == "end").count() == 2).await;
}
