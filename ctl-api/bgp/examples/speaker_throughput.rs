//! How fast a speaker takes routes, and how much memory each one costs.
//!
//! `cargo run --release -p tieline-bgp --example speaker_throughput [ROUTES]`
//!
//! One speaker writes the routes, another reads them from the bytes into its
//! RIB and hands out the events; no socket is between them. All on one thread.

#![allow(clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tieline_bgp::rib::PeerId;
use tieline_bgp::rib::policy::AcceptAll;
use tieline_bgp::session::{ConnectionId, Input, SessionConfig};
use tieline_bgp::speaker::{Action, Event, PeerConfig, Speaker, SpeakerConfig};
use tieline_bgp::wire::{
    Attributes, Encapsulation, Evpn, ExtendedCommunity, Label, MacAddr, Nlri, Payload, Route,
    RouteDistinguisher, RouteTarget,
};

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTION: ConnectionId = ConnectionId(1);

fn address(index: u8) -> IpAddr {
    IpAddr::from([198, 18, 0, index])
}

fn speaker(asn: u32, index: u8, peer: (u32, u8)) -> (Speaker, PeerId) {
    let mut speaker =
        Speaker::new(SpeakerConfig::new(asn, Ipv4Addr::new(198, 18, 0, index)), AcceptAll, Duration::ZERO);
    let session = SessionConfig { passive: index == 2, ..SessionConfig::new(address(peer.1), peer.0) };
    let Ok(id) = speaker.add_peer(Duration::ZERO, PeerConfig::new(session)) else {
        unreachable!("the first peer of a speaker is no duplicate")
    };
    (speaker, id)
}

/// Carries out actions of one speaker; the bytes are returned.
fn act(speaker: &mut Speaker, id: PeerId) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while let Some(action) = speaker.poll_action(Duration::ZERO) {
        match action {
            Action::Connect(_) => {
                speaker.handle(Duration::ZERO, id, Input::Opened { connection: CONNECTION, outgoing: true });
            }
            Action::Transmit { connection, bytes, .. } => {
                speaker.handle(Duration::ZERO, id, Input::Sent { connection, bytes: bytes.len() });
                sent.push(bytes);
            }
            Action::Abandon(_) | Action::Close { .. } => {}
        }
    }
    sent
}

fn give(speaker: &mut Speaker, id: PeerId, bytes: &[Vec<u8>]) {
    for bytes in bytes {
        for bytes in bytes.chunks(65_536) {
            speaker.handle(Duration::ZERO, id, Input::Bytes { connection: CONNECTION, bytes });
        }
    }
}

fn drain(speaker: &mut Speaker) -> (usize, usize) {
    let (mut paths, mut bests) = (0, 0);
    while let Some(event) = speaker.poll_event() {
        match event {
            Event::Path { .. } => paths += 1,
            Event::Best { .. } => bests += 1,
            _ => {}
        }
    }
    (paths, bests)
}

fn measure(name: &str, count: u32, attributes: impl Fn(u32) -> Attributes, route: impl Fn(u32) -> Route) {
    let (mut from, to_id) = speaker(64512, 1, (64513, 2));
    let (mut to, from_id) = speaker(64513, 2, (64512, 1));
    // The speakers meet.
    let mut first = act(&mut from, to_id);
    to.handle(Duration::ZERO, from_id, Input::Opened { connection: CONNECTION, outgoing: false });
    for _ in 0..4 {
        give(&mut to, from_id, &first);
        let back = act(&mut to, from_id);
        give(&mut from, to_id, &back);
        first = act(&mut from, to_id);
    }
    for number in 0..count {
        from.announce(attributes(number), [route(number)]);
    }
    let start = Instant::now();
    let bytes = act(&mut from, to_id);
    let written = start.elapsed();
    drop(from);
    let size: usize = bytes.iter().map(Vec::len).sum();
    drain(&mut to);
    let before = IN_USE.load(Ordering::Relaxed);
    let start = Instant::now();
    let mut events = (0, 0);
    for piece in &bytes {
        give(&mut to, from_id, std::slice::from_ref(piece));
        let (paths, bests) = drain(&mut to);
        events = (events.0 + paths, events.1 + bests);
        act(&mut to, from_id);
    }
    let read = start.elapsed();
    let memory = IN_USE.load(Ordering::Relaxed) - before;
    println!(
        "{name:<32} {count} routes, {} KiB: written in {:.0} ms, read in {:.0} ms ({} path and {} best events), {} bytes a route",
        size / 1024,
        written.as_secs_f64() * 1e3,
        read.as_secs_f64() * 1e3,
        events.0,
        events.1,
        memory / count as usize,
    );
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let shared = |number: u32| {
        let mut attributes = Attributes::new(address(9));
        attributes.extended = vec![
            RouteTarget::as2(64512, 8_000_000 + number % 100).into(),
            ExtendedCommunity::encapsulation(Encapsulation::MPLS_UDP),
        ];
        attributes
    };
    let own = |number: u32| {
        let mut attributes = shared(number);
        attributes.extended.push(ExtendedCommunity::mac_mobility(false, number));
        attributes
    };
    let vpnv4 = |number: u32| Route {
        nlri: Nlri::Vpnv4(
            RouteDistinguisher::as2(64512, number % 100),
            ipnet::Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + number), 32),
        ),
        payload: Payload::labelled(Label::mpls(16 + number % 1000)),
    };
    let evpn = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        let ip = Some(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)));
        Route {
            nlri: Nlri::Evpn(Evpn::MacIp {
                rd: RouteDistinguisher::as2(64512, number % 100),
                tag: 0,
                mac: MacAddr([2, 0, 0, a, b, c]),
                ip,
            }),
            payload: Payload::labelled(Label::vni(5000 + number % 100)),
        }
    };
    measure("VPNv4, 100 sets of attributes", count, shared, vpnv4);
    measure("VPNv4, attributes of their own", count, own, vpnv4);
    measure("EVPN type 2, 100 sets", count, shared, evpn);
    measure("EVPN type 2, of their own", count, own, evpn);
}
