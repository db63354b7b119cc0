//! Two speakers over the loopback interface.

use std::net::Ipv4Addr;

use super::*;
use crate::rib::policy::AcceptAll;
use crate::session::{SessionConfig, State};
use crate::speaker::{PeerConfig, SpeakerConfig, Transport};
use crate::wire::{Attributes, Family, Label, Nlri, Payload, Route, RouteDistinguisher};

const LIMIT: Duration = Duration::from_secs(30);

fn speaker(asn: u32, id: u8) -> Speaker {
    Speaker::new(SpeakerConfig::new(asn, Ipv4Addr::new(198, 18, 0, id)), AcceptAll, Duration::ZERO)
}

fn route(number: u32) -> Route {
    let net = ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + (number << 8)), 24).unwrap();
    Route {
        nlri: Nlri::Vpnv4(RouteDistinguisher::as2(64512, 1), net),
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
fn a_peer_whose_sockets_cannot_be_protected_is_not_taken() {
    let add = |address: IpAddr, md5: &str, ttl_security| {
        let transport = Transport { md5: Some(md5.into()), ttl_security, ..Transport::default() };
        let peer = PeerConfig { transport, ..PeerConfig::new(SessionConfig::new(address, 64513)) };
        speaker(64512, 1).add_peer(Duration::ZERO, peer).map_err(|error| error.to_string())
    };
    let peer = IpAddr::from([198, 18, 0, 2]);
    assert!(add(peer, &"x".repeat(80), Some(1)).is_ok());
    for (address, key, hops, named) in [
        (peer, "x".repeat(81), None, "1 to 80 bytes, and this one has 81"),
        // Characters are not bytes.
        (peer, "\u{e9}".repeat(41), None, "has 82"),
        (peer, String::new(), None, "has 0"),
        (peer, "secret".to_owned(), Some(0), "at least one hop"),
        ("::ffff:198.18.0.2".parse().unwrap(), "secret".to_owned(), None, "write 198.18.0.2"),
    ] {
        let refusal = add(address, &key, hops).expect_err(named);
        assert!(refusal.contains(named), "{refusal}");
    }
}

#[test]
fn a_key_is_in_no_debug_output() {
    let transport = Transport { md5: Some("secret".into()), ..Transport::default() };
    assert!(!format!("{transport:?}").contains("secret"));
}

/// Listeners with demands, and clients of them.
mod guarding {
    use std::os::fd::AsRawFd as _;

    use socket2::{Domain, Socket, Type};

    use super::*;

    const HERE: [u8; 4] = [127, 0, 0, 2];
    const PEER: [u8; 4] = [127, 0, 0, 1];

    fn demand(md5: Option<&str>, hops: Option<u8>) -> Demand {
        Demand::of(&Transport { md5: md5.map(str::to_owned), ttl_security: hops, ..Transport::default() })
    }

    fn guarded(here: IpAddr) -> (Guarded, SocketAddr) {
        let listeners = listen(&[SocketAddr::new(here, 0)]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        (Guarded::new(listeners), address)
    }

    /// Begins to connect. On loopback the SYN has been judged when this returns.
    fn begin(from: IpAddr, to: SocketAddr, ttl: u32, key: Option<&str>) -> Socket {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None).unwrap();
        if from.is_ipv4() {
            socket.set_ttl_v4(ttl).unwrap();
        } else {
            socket.set_unicast_hops_v6(ttl).unwrap();
        }
        if let Some(key) = key {
            socket::set_md5(socket.as_raw_fd(), to.ip(), key).unwrap();
        }
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        let begun = socket.connect(&to.into());
        assert!(begun.is_err_and(|error| error.raw_os_error() == Some(libc::EINPROGRESS)));
        socket
    }

    fn is_connected(socket: &Socket) -> bool {
        socket.peer_addr().is_ok()
    }

    async fn accept(guard: &Guarded) -> TcpStream {
        tokio::time::timeout(LIMIT, guard.listeners()[0].accept()).await.unwrap().unwrap().0
    }

    #[tokio::test]
    async fn gtsm_holds_from_the_first_packet_and_only_for_those_who_want_it() {
        for (here, peer) in [
            (IpAddr::from(HERE), IpAddr::from(PEER)),
            (IpAddr::from(std::net::Ipv6Addr::LOCALHOST), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
        ] {
            let (mut guard, address) = guarded(here);
            guard.set([(peer, demand(None, Some(1)))].into());
            assert_eq!(guard.failure(peer), None);
            for ttl in [64, 254] {
                let far = begin(peer, address, ttl, None);
                assert!(!is_connected(&far), "a SYN from {peer} with TTL {ttl} is answered");
            }
            let near = begin(peer, address, 255, None);
            assert!(is_connected(&near));
            let stream = accept(&guard).await;
            assert_eq!(stream.peer_addr().unwrap(), near.local_addr().unwrap().as_socket().unwrap());
            assert_eq!(guard.admit(peer, &stream), Ok(()));
        }
        let (mut guard, address) = guarded(HERE.into());
        let other = IpAddr::from([127, 0, 0, 3]);
        guard.set([(PEER.into(), demand(None, Some(1))), (other, demand(None, None))].into());
        assert!(is_connected(&begin(other, address, 64, None)), "another peer on the same listener");
        assert_eq!(guard.admit(other, &accept(&guard).await), Ok(()));
    }

    #[tokio::test]
    async fn a_connection_from_before_the_rules_is_refused() {
        for wanted in [demand(None, Some(1)), demand(Some("secret"), None)] {
            let (mut guard, address) = guarded(HERE.into());
            let peer = IpAddr::from(PEER);
            let early = begin(peer, address, 64, None);
            assert!(is_connected(&early), "there are no rules yet");
            guard.set([(peer, wanted)].into());
            let refusal = guard.admit(peer, &accept(&guard).await).expect_err("it has proved nothing");
            assert!(refusal.contains("before"), "{refusal}");
        }
    }

    #[tokio::test]
    async fn keys_are_replaced_and_taken_away() {
        let (mut guard, address) = guarded(HERE.into());
        let peer = IpAddr::from(PEER);
        let takes = |key| is_connected(&begin(peer, address, 64, key));
        guard.set([(peer, demand(Some("one"), None))].into());
        assert_eq!(guard.failure(peer), None);
        assert!(takes(Some("one")) && !takes(None) && !takes(Some("two")));
        guard.set([(peer, demand(Some("two"), None))].into());
        assert!(takes(Some("two")) && !takes(None) && !takes(Some("one")), "the key is another one");
        guard.set([(peer, demand(None, None))].into());
        assert!(takes(None), "the peer has no key any more");
        guard.set([(peer, demand(Some("two"), None))].into());
        guard.set(BTreeMap::new());
        assert!(takes(None), "a key outlives its peer");
    }

    #[tokio::test]
    async fn a_peer_whose_key_cannot_be_set_is_refused_by_name() {
        let (mut guard, address) = guarded(HERE.into());
        // The kernel bounds the memory of a socket's options; a key takes more than 64 bytes.
        let memory = std::fs::read_to_string("/proc/sys/net/core/optmem_max").unwrap();
        let count = memory.trim().parse::<u32>().unwrap() / 64;
        let peers: Vec<IpAddr> =
            (0..count).map(|number| Ipv4Addr::from(0x7f01_0000 + number).into()).collect();
        guard.set(peers.iter().map(|peer| (*peer, demand(Some("secret"), None))).collect());
        let (good, bad): (Vec<&IpAddr>, Vec<&IpAddr>) =
            peers.iter().partition(|peer| guard.failure(**peer).is_none());
        assert!(!good.is_empty() && !bad.is_empty(), "{} of {count} have their keys", good.len());
        for peer in [bad[0], bad[bad.len() - 1]] {
            let failure = guard.failure(*peer).unwrap();
            assert!(failure.contains("MD5 key cannot be set") && failure.contains("optmem_max"), "{failure}");
            let unsigned = begin(*peer, address, 64, None);
            if is_connected(&unsigned) {
                assert!(guard.admit(*peer, &accept(&guard).await).is_err());
            }
        }
        let protected = *good[good.len() - 1];
        assert!(!is_connected(&begin(protected, address, 64, None)));
        assert!(is_connected(&begin(protected, address, 64, Some("secret"))));
        assert_eq!(guard.admit(protected, &accept(&guard).await), Ok(()));
        // When there is room again, the others are protected too.
        guard.set(bad.iter().take(10).map(|peer| (**peer, demand(Some("secret"), None))).collect());
        assert_eq!(guard.failure(*bad[0]), None);
    }
}
