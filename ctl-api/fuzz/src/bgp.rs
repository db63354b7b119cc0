//! What comes from BGP peers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tieline_bgp::rib::policy::AcceptAll;
use tieline_bgp::session::{ConnectionId, Input, SessionConfig, State};
use tieline_bgp::speaker::{Action, Event, PeerConfig, Speaker, SpeakerConfig};
use tieline_bgp::wire::message::{EXTENDED_LIMIT, Framer, Kind, encode_keepalive};
use tieline_bgp::wire::open::{Capabilities, GracefulRestart, Open};
use tieline_bgp::wire::update::{DecodeContext, EncodeContext, decode, encode, encode_withdrawals};
use tieline_bgp::wire::{Family, FamilySet, NextHop, Nlri};

/// The first byte says what the session agreed on; the rest is the body of an
/// UPDATE. What is taken from it can be written, and is read back the same.
pub fn update(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let context = DecodeContext { as4: first & 1 != 0, internal: first & 2 != 0, families: FamilySet::ALL };
    let Ok(update) = decode(body, &context) else { return };
    let out_context = EncodeContext { as4: true, limit: EXTENDED_LIMIT };
    let mut bytes = Vec::new();
    for group in &update.announced {
        let Some(family) = group.routes.first().map(|route| route.nlri.family()) else {
            panic!("a group without routes");
        };
        let pairs = group.routes.iter().map(|route| (&route.nlri, &route.payload));
        bytes.clear();
        if encode(family, &group.attributes, pairs, &out_context, &mut bytes).is_err() {
            continue;
        }
        let mut expected = group.attributes.clone();
        if expected.local_pref.is_none() {
            // An internal session would miss it.
            continue;
        }
        if matches!(family, Family::Ipv6Unicast | Family::Vpnv6)
            && let NextHop::V4(v4) = expected.next_hop
        {
            expected.next_hop = NextHop::V6(v4.to_ipv6_mapped(), None);
        }
        if let NextHop::V6(global, _) = expected.next_hop
            && !matches!(family, Family::Ipv6Unicast | Family::Vpnv6)
        {
            expected.next_hop = NextHop::V6(global, None);
        }
        let mut routes = Vec::new();
        each_update(&bytes, |body| {
            let back = decode(body, &DecodeContext { as4: true, internal: true, families: FamilySet::ALL });
            let Ok(back) = back else { panic!("what was written cannot be read: {back:?}") };
            assert_eq!(back.faults, []);
            for back in back.announced {
                assert_eq!(back.attributes, expected);
                routes.extend(back.routes);
            }
        });
        assert_eq!(routes, group.routes);
    }
    for family in Family::ALL {
        let gone: Vec<&Nlri> = update.withdrawn.iter().filter(|nlri| nlri.family() == family).collect();
        bytes.clear();
        encode_withdrawals(family, gone.iter().copied(), &out_context, &mut bytes);
        let mut back = Vec::new();
        each_update(&bytes, |body| {
            let Ok(update) = decode(body, &context) else { panic!("a withdrawal cannot be read") };
            back.extend(update.withdrawn);
        });
        assert_eq!(back.iter().collect::<Vec<_>>(), gone);
    }
}

fn each_update(bytes: &[u8], mut take: impl FnMut(&[u8])) {
    let mut framer = Framer::default();
    framer.push(bytes);
    loop {
        match framer.next(true) {
            Ok(Some((Kind::Update, body))) => take(body),
            Ok(None) => return,
            other => panic!("{other:?}"),
        }
    }
}

const CONNECTION: ConnectionId = ConnectionId(1);

/// Messages as the input has them: a byte for the kind, two for the length, the
/// body. They come to a standing session; a second peer gets what follows.
pub fn session(data: &[u8]) {
    let (mut speaker, peers) = speaker();
    let mut rest = data;
    let mut now = Duration::from_secs(1);
    while let Some((&[kind, high, low], body)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(body.len());
        let (body, after) = body.split_at(length);
        rest = after;
        let mut bytes = vec![0xff; 16];
        if kind < 0x80 {
            bytes.extend_from_slice(&u16::try_from(length + 19).unwrap_or(u16::MAX).to_be_bytes());
            bytes.push(1 + kind % 5);
        }
        bytes.extend_from_slice(body);
        speaker.handle(now, peers[0], Input::Bytes { connection: CONNECTION, bytes: &bytes });
        drain(&mut speaker, now);
        now += Duration::from_secs(1);
        speaker.handle_timeout(now);
    }
    // What the speaker says it has is what it has.
    let status = speaker.status(peers[0]);
    let held: usize = Family::ALL.iter().map(|family| speaker.rib().routes(*family).count()).sum();
    let counted: u32 = status.iter().flat_map(|status| status.paths).sum();
    assert_eq!(held, counted as usize);
    // Ten days later nothing of a lost peer is left.
    speaker.handle(now, peers[0], Input::Closed { connection: CONNECTION });
    for day in 1..10 {
        now += Duration::from_secs(86_400 * day);
        speaker.handle_timeout(now);
        drain(&mut speaker, now);
    }
    for family in Family::ALL {
        assert!(speaker.rib().is_empty(family), "{family}");
    }
}

fn drain(speaker: &mut Speaker, now: Duration) {
    while let Some(action) = speaker.poll_action(now) {
        if let Action::Transmit { peer, connection, bytes } = action {
            assert!(bytes.len() >= 19);
            speaker.handle(now, peer, Input::Sent { connection, bytes: bytes.len() });
        }
    }
    while let Some(event) = speaker.poll_event() {
        if let Event::Path { nlri, .. } = &event {
            assert_eq!(*nlri, nlri.clone().canonical());
        }
    }
}

/// A speaker with two standing sessions.
fn speaker() -> (Speaker, [tieline_bgp::rib::PeerId; 2]) {
    let id = |last| Ipv4Addr::new(198, 18, 0, last);
    let mut speaker = Speaker::new(SpeakerConfig::new(64512, id(1)), AcceptAll, Duration::ZERO);
    let peers = [2, 3].map(|last| {
        let asn = 64512 + u32::from(last);
        let session = SessionConfig {
            families: FamilySet::ALL,
            passive: true,
            hold_time: Duration::ZERO,
            restart_time: Duration::from_secs(60),
            long_lived_time: Duration::from_secs(600),
            ..SessionConfig::new(IpAddr::V4(id(last)), asn)
        };
        let Ok(peer) = speaker.add_peer(Duration::ZERO, PeerConfig::new(session)) else {
            panic!("the two peers have addresses of their own");
        };
        let connection = ConnectionId(u64::from(last) - 1);
        speaker.handle(Duration::ZERO, peer, Input::Opened { connection, outgoing: false });
        let mut bytes = Vec::new();
        open(asn, id(last)).encode(&mut bytes);
        encode_keepalive(&mut bytes);
        speaker.handle(Duration::ZERO, peer, Input::Bytes { connection, bytes: &bytes });
        assert_eq!(speaker.state(peer), Some(State::Established));
        peer
    });
    drain(&mut speaker, Duration::ZERO);
    (speaker, peers)
}

fn open(asn: u32, router_id: Ipv4Addr) -> Open {
    let restart = GracefulRestart {
        notification: true,
        time: 60,
        families: FamilySet::ALL,
        forwarding: FamilySet::ALL,
        ..GracefulRestart::default()
    };
    let capabilities = Capabilities {
        families: Some(FamilySet::ALL),
        route_refresh: true,
        enhanced_refresh: true,
        as4: Some(asn),
        extended_messages: true,
        graceful_restart: Some(restart),
        ..Capabilities::default()
    };
    Open { asn, hold_time: 0, router_id, capabilities }
}
