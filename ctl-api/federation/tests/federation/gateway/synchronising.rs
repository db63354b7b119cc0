//! Declarations, their order, their acknowledgements, and what breaks on the way.

use std::time::Duration;

use tieline_federation::gateway::Settings;
use tieline_federation::gateway::events::Event;
use tieline_federation::gateway::key::{Change, Key};

use super::owner::{Owner, holds, no_routes, routes, settings, vrf};
use crate::fake::{Gateway, Order};
use crate::place::Place;

#[tokio::test]
async fn everything_is_declared_before_the_synchronisation_ends() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut first = Owner::leading(&fake);
    first.gateway.complete();
    assert_eq!(first.synced().await, 0);
    first.program(vec![vrf("red", 16), vrf("old", 17), routes(0..3000, 100)]).await;
    first.gateway.stop().await;
    assert_eq!(fake.model().routes.len(), 3000);
    fake.model().log.clear();

    // Another life of the controller, which does not know what was before.
    let mut second = Owner::leading(&fake);
    assert_eq!(second.up().await.held, 3002);
    second.program(vec![routes(0..1500, 100)]).await;
    second.program(vec![routes(1500..2500, 100), vrf("red", 16)]).await;
    second.quiet(Duration::from_millis(200)).await;
    assert!(!fake.model().log.contains(&"sync"), "it has not said that this is all");
    assert_eq!(fake.model().routes.len(), 3000);
    second.gateway.complete();
    assert_eq!(second.synced().await, 501);
    {
        let model = fake.model();
        assert_eq!(model.routes.len(), 2500);
        assert_eq!(model.objects.keys().collect::<Vec<_>>(), ["vrf/red"]);
        assert_eq!(model.log.iter().filter(|&&said| said == "sync").count(), 1);
    }
    let status = second.gateway.status();
    assert!(status.synced && status.connected_since.is_some());
    assert_eq!((status.node_id.as_str(), status.boot_id.as_str()), ("node", "boot"));
    assert_eq!((status.counts.objects, status.counts.routes, status.counts.outstanding), (1, 2500, 0));
    assert_eq!(status.programmed, Some(status.revision));
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn what_is_the_same_is_not_sent() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.gateway.complete();
    owner.program(vec![vrf("red", 16), routes(0..100, 100)]).await;
    let operations = fake.model().operations.clone();
    let revision = owner.gateway.status().revision;
    assert_eq!(owner.gateway.change(vec![routes(0..100, 100), vrf("red", 16)]), revision);
    // Something that is sent comes after what would have been sent before it.
    owner.program(vec![vrf("blue", 17)]).await;
    let after = fake.model().operations.clone();
    assert_eq!((after["vrf/red"], after["routes"]), (operations["vrf/red"], operations["routes"]));
    owner.program(vec![Change::NoObject(Key::Vrf("red".to_owned())), no_routes(0..40)]).await;
    assert_eq!(fake.model().routes.len(), 60);
    assert_eq!(fake.model().objects.keys().collect::<Vec<_>>(), ["vrf/blue"]);
}

#[tokio::test]
async fn sessions_that_break_lose_nothing() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    fake.model().slow = Duration::from_millis(5);
    let mut owner = Owner::new(&fake, Settings { window: 4, ..settings() });
    owner.gateway.lead(Some(3));
    owner.gateway.complete();
    for round in 0..6_u32 {
        owner.up().await;
        owner.gateway.change(vec![
            routes(0..20_000, 100 + round),
            no_routes(round * 1000..round * 1000 + 1000),
            vrf("red", 16 + round),
        ]);
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 11)).await;
        assert!(owner.gateway.status().counts.outstanding <= 4);
        fake.order(Order::Break);
        let (_, reason, retry_in) = owner.down().await;
        assert!(reason.contains("killed"), "{reason}");
        assert!(retry_in.is_some());
    }
    fake.model().slow = Duration::ZERO;
    let wanted = owner.gateway.change(Vec::new());
    holds("all is programmed", || owner.gateway.is_programmed(wanted)).await;
    owner.synced().await;
    let model = fake.model();
    assert_eq!(model.routes.len(), 19_000);
    assert!(model.routes.values().all(|route| route.label == 105));
    assert_eq!(model.hellos.last().map(|hello| hello.term), Some(3));
}

#[tokio::test]
async fn a_gateway_without_route_sets_gets_routes_one_by_one() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.model().capabilities.clear();
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.program(vec![routes(0..700, 100)]).await;
    assert_eq!(fake.model().routes.len(), 700);
    assert_eq!(fake.model().operations.get("routes"), None);
}

#[tokio::test]
async fn a_change_is_programmed_quickly() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.gateway.complete();
    owner.program(vec![routes(0..50_000, 100)]).await;
    let begun = std::time::Instant::now();
    for label in 200..300 {
        owner.program(vec![routes(7..8, label)]).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for 100 changes", begun.elapsed());
    while let Ok(event) = owner.events.try_recv() {
        assert!(matches!(event, Event::Programmed { .. } | Event::ExportsComplete), "{event:?}");
    }
}
