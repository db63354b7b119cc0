//! What VRFs originate, as the owner hears of it.

use std::collections::BTreeMap;

use tieline_federation::gateway::events::Event;

use super::owner::Owner;
use crate::fake::{Gateway, Order};
use crate::place::Place;

/// What is heard of exports until all were told, by prefix: the label, or gone.
async fn told(owner: &mut Owner) -> BTreeMap<String, Option<u32>> {
    let mut told = BTreeMap::new();
    loop {
        match owner.event().await {
            Event::Export(export) => {
                told.insert(export.prefix.clone(), Some(export.label));
            }
            Event::ExportGone { prefix, .. } => {
                told.insert(prefix, None);
            }
            Event::ExportsComplete => return told,
            _ => {}
        }
    }
}

fn labels<const N: usize>(of: [(&str, Option<u32>); N]) -> BTreeMap<String, Option<u32>> {
    of.map(|(prefix, label)| (prefix.to_owned(), label)).into()
}

#[tokio::test]
async fn only_differences_are_told() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.start();
    fake.export("10.1.0.0/24", Some(16));
    fake.export("10.2.0.0/24", Some(16));
    let mut owner = Owner::leading(&fake);
    assert_eq!(told(&mut owner).await, labels([("10.1.0.0/24", Some(16)), ("10.2.0.0/24", Some(16))]));

    // Changes come by themselves.
    fake.export("10.3.0.0/24", Some(17));
    let label = owner.until(|event| match event {
        Event::Export(export) => Some(export.label),
        _ => None,
    });
    assert_eq!(label.await, 17);
    fake.export("10.1.0.0/24", None);
    let gone = owner.until(|event| match event {
        Event::ExportGone { vrf, prefix } => Some((vrf.clone(), prefix.clone())),
        _ => None,
    });
    assert_eq!(gone.await, ("red".to_owned(), "10.1.0.0/24".to_owned()));
    assert_eq!(owner.gateway.status().exports, 2);

    // A lost position: all follow again, and nothing is news.
    fake.order(Order::Lose);
    assert_eq!(told(&mut owner).await, BTreeMap::new());

    // A new session: what changed meanwhile is.
    fake.order(Order::Break);
    owner.down().await;
    {
        let mut model = fake.model();
        let key = ("red".to_owned(), "10.2.0.0/24".to_owned());
        model.exports.remove(&key);
        if let Some(export) = model.exports.get_mut(&("red".to_owned(), "10.3.0.0/24".to_owned())) {
            export.label = 18;
        }
    }
    assert_eq!(told(&mut owner).await, labels([("10.2.0.0/24", None), ("10.3.0.0/24", Some(18))]));
}

#[tokio::test]
async fn a_gateway_that_cannot_tell_exports_is_not_asked() {
    let place = Place::new();
    let fake = Gateway::new(place.path());
    fake.model().capabilities = vec!["route_sets".to_owned()];
    fake.export("10.1.0.0/24", Some(16));
    fake.start();
    let mut owner = Owner::leading(&fake);
    owner.gateway.complete();
    owner.synced().await;
    owner.quiet(std::time::Duration::from_millis(300)).await;
    assert_eq!(owner.gateway.status().exports, 0);
}
