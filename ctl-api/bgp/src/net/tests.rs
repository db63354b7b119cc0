//! Two speakers over the loopback interface.

use std::net::Ipv4Addr;

use super::*;
use crate::rib::policy::AcceptAll;
use crate::session::{SessionConfig, State};
use crate::speaker::{PeerConfig, SpeakerConfig};
use crate::wire::{Attributes, Family, Label, Nlri, Payload, Rd, Route};

const LIMIT: Duration = Duration::from_secs(30);

fn speaker(asn: u32, id: u8) -> Speaker {
    Speaker::new(SpeakerConfig::new(asn, Ipv4Addr::new(198, 18, 0, id)), AcceptAll, Duration::ZERO)
}

fn route(number: u32) -> Route {
    let net = ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + (number << 8)), 24).unwrap();
    Route {
        nlri: Nlri::Vpnv4(Rd::as2(64512, 1), net),
        payload: Payload::labelled(Label::mpls(16 + number % 1000)),
    }
}

/// Waits for an event, for a while.
async fn wait_for(events: &mut mpsc::Receiver<Vec<Event>>, mut wanted: impl FnMut(&Event) -> bool) {
    let search = async {
        loop {
            let batch = events.recv().await.expect("the speaker runs");
            if batch.iter().any(&mut wanted) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, search).await.expect("the event comes in time");
}

#[tokio::test]
async fn routes_cross_the_loopback_and_a_lost_peer_comes_back() {
    // Two addresses of the loopback network, so that each side knows the other.
    let one = IpAddr::from([127, 0, 0, 1]);
    let two = IpAddr::from([127, 0, 0, 2]);
    let listeners = listen(&[SocketAddr::new(two, 0)]).unwrap();
    let port = listeners[0].local_addr().unwrap().port();
    let (sender, mut events_one) = mpsc::channel(4);
    let (handle_one, task_one) = run(speaker(64512, 1), Vec::new(), sender);
    let (sender, mut events_two) = mpsc::channel(4);
    let (handle_two, task_two) = run(speaker(64513, 2), listeners, sender);
    tokio::spawn(task_one);
    tokio::spawn(task_two);
    // Who does not read events has no session: nothing is read from peers then.
    tokio::spawn(async move { while events_one.recv().await.is_some() {} });
    let transport =
        Transport { port, local_address: Some(one), ttl_security: Some(1), ..Transport::default() };
    handle_two
        .with(move |speaker, now| {
            let session = SessionConfig { passive: true, ..SessionConfig::new(one, 64512) };
            let transport = Transport { ttl_security: Some(1), ..Transport::default() };
            speaker.add_peer(now, PeerConfig { transport, ..PeerConfig::new(session) })
        })
        .await
        .unwrap()
        .unwrap();
    let peer = handle_one
        .with(move |speaker, now| {
            let session =
                SessionConfig { retry: Duration::from_millis(100), ..SessionConfig::new(two, 64513) };
            let peer = speaker.add_peer(now, PeerConfig { transport, ..PeerConfig::new(session) });
            speaker.announce(Attributes::new(IpAddr::from([198, 18, 0, 1])), (0..20_000).map(route));
            peer
        })
        .await
        .unwrap()
        .unwrap();
    let mut count = 0;
    wait_for(&mut events_two, |event| {
        count += usize::from(matches!(event, Event::Path { .. }));
        count == 20_000
    })
    .await;
    let held = handle_two.with(|speaker, _| speaker.rib().len(Family::Vpnv4)).await.unwrap();
    assert_eq!(held, 20_000);
    handle_one.with(move |speaker, now| speaker.reset_peer(now, peer, "test")).await.unwrap();
    wait_for(
        &mut events_two,
        |event| matches!(event, Event::Down { down, .. } if down.reason.contains("test")),
    )
    .await;
    wait_for(&mut events_two, |event| matches!(event, Event::Up { .. })).await;
    let state = handle_one.with(move |speaker, _| speaker.state(peer)).await.unwrap();
    assert!(matches!(state, Some(State::Established | State::OpenConfirm)), "{state:?}");
    // The last handle of the first side: its socket closes.
    drop(handle_one);
    wait_for(&mut events_two, |event| matches!(event, Event::Down { .. })).await;
}

#[test]
fn a_transport_that_cannot_be_is_named() {
    let with =
        |md5: &str, ttl_security| Transport { md5: Some(md5.into()), ttl_security, ..Transport::default() };
    assert_eq!(check_transport(&with("secret", Some(1))), Ok(()));
    assert!(check_transport(&with("", None)).is_err());
    assert!(check_transport(&with(&"x".repeat(81), None)).is_err());
    assert!(check_transport(&with("secret", Some(0))).is_err());
}
