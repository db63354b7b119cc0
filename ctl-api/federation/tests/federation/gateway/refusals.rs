//! What a gateway does not take.

use std::time::Duration;

use tieline_federation::gateway::Settings;
use tieline_federation::gateway::events::Event;
use tieline_federation::gateway::key::{Change, Key, Subject};
use tieline_proto::v1::ErrorCode;

use super::owner::{Owner, holds, routes, settings, vrf};
use crate::fake::{Gateway, Order};
use crate::place::Place;

fn red() -> Subject {
    Subject::Object(Key::Vrf("red".to_owned()))
}

async fn refused(owner: &mut Owner) -> (Subject, ErrorCode) {
    owner
        .until(|event| match event {
            Event::Refused(refusal) => Some((refusal.subject.clone(), refusal.refused.code())),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn what_is_refused_is_told_once_and_not_sent_again_and_again() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    fake.model().refuse.insert("vrf/red".to_owned(), ErrorCode::InvalidField);
    let mut owner = Owner::leading(&fake);
    owner.gateway.complete();
    owner.synced().await;
    owner.gateway.change(vec![vrf("red", 5), vrf("blue", 16)]);
    assert_eq!(refused(&mut owner).await, (red(), ErrorCode::InvalidField));
    owner.gateway.change(vec![vrf("red", 5), vrf("green", 17)]);
    owner.quiet(Duration::from_millis(300)).await;
    assert_eq!(fake.model().operations["vrf/red"], 1);
    let status = owner.gateway.status();
    assert_eq!((status.counts.refused, status.counts.objects), (1, 3));
    assert_eq!(status.last_error.as_deref(), Some("vrf/red was refused: vrf/red is not wanted here"));
    // Something else is sent.
    fake.model().refuse.clear();
    owner.program(vec![vrf("red", 18)]).await;
    assert_eq!(owner.gateway.status().counts.refused, 0);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_now_and_then() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    fake.model().refuse.insert("routes".to_owned(), ErrorCode::LimitReached);
    let retry_refused = Duration::from_millis(100);
    let mut owner = Owner::new(&fake, Settings { retry_refused, ..settings() });
    owner.gateway.lead(Some(0));
    owner.gateway.change(vec![routes(0..1, 100)]);
    let (subject, code) = refused(&mut owner).await;
    assert_eq!((subject.to_string().as_str(), code), ("route/64512:2/10.0.0.0/24", ErrorCode::LimitReached));
    refused(&mut owner).await;
    assert!(fake.model().operations["routes"] < 20, "no faster than it should");
    fake.model().refuse.clear();
    holds("nothing is refused", || owner.gateway.status().counts.refused == 0).await;
    assert_eq!(fake.model().routes.len(), 1);
}

#[tokio::test]
async fn a_synchronisation_that_would_withdraw_what_was_refused_is_held() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.gateway.complete();
    owner.synced().await;
    owner.program(vec![vrf("red", 16), vrf("blue", 17)]).await;

    // The gateway refuses what is new of red: the old one forwards.
    fake.model().refuse.insert("vrf/red".to_owned(), ErrorCode::InvalidField);
    let wanted = owner.gateway.change(vec![vrf("red", 5)]);
    refused(&mut owner).await;
    fake.order(Order::Break);
    owner.down().await;
    owner.until(|event| matches!(event, Event::SyncHeld { refused: 1 }).then_some(())).await;
    // Nothing was declared: all is held from the session before.
    owner.quiet(Duration::from_millis(200)).await;
    assert!(owner.gateway.is_programmed(wanted));
    assert_eq!(fake.model().objects.len(), 2);
    assert!(!owner.gateway.status().synced);

    // What is not wanted any more is withdrawn all the same, and ends the wait.
    owner.gateway.change(vec![Change::NoObject(Key::Vrf("blue".to_owned()))]);
    holds("blue is gone", || fake.model().objects.len() == 1).await;
    fake.model().refuse.clear();
    owner.gateway.change(vec![vrf("red", 18)]);
    assert_eq!(owner.synced().await, 0);

    // Or the owner has decided.
    fake.model().refuse.insert("vrf/red".to_owned(), ErrorCode::InvalidField);
    owner.gateway.change(vec![vrf("red", 5)]);
    fake.order(Order::Break);
    owner.until(|event| matches!(event, Event::SyncHeld { .. }).then_some(())).await;
    owner.gateway.sweep();
    assert_eq!(owner.synced().await, 1);
    assert!(fake.model().objects.is_empty());
}

#[tokio::test]
async fn a_gateway_that_stores_nothing_is_told_once() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.gateway.complete();
    owner.synced().await;
    let full = || "the store is full".to_owned();
    let kept = |event: &Event| match event {
        Event::Kept { not_stored } => Some(not_stored.clone()),
        _ => None,
    };
    fake.model().not_stored = full();
    owner.gateway.change(vec![vrf("red", 16)]);
    assert_eq!(owner.until(kept).await, Some(full()));
    let wanted = owner.gateway.change(vec![vrf("blue", 17)]);
    holds("blue is there", || owner.gateway.is_programmed(wanted)).await;
    fake.model().not_stored.clear();
    owner.gateway.change(vec![vrf("green", 18)]);
    assert_eq!(owner.until(kept).await, None, "that it is still full is no news");
}
