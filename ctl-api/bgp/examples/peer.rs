//! A speaker on the command line, for trying it against other implementations.
//!
//! `cargo run -p tieline-bgp --features net --example peer -- KEY=VALUE...`
//!
//! - `asn=64512 id=198.18.0.1`: who it is
//! - `listen=198.18.0.1:179`: where it takes connections; not at all without
//! - `local=2001:db8::1`: where it connects from; its `id` without
//! - `peer=198.18.0.2 peer-asn=64513 port=179 passive=false`: its one peer
//! - `families=ipv4,vpnv4,evpn`, `md5=KEY`, `hops=1` (TTL security),
//!   `restart=SECONDS`, `long-lived=SECONDS`, `gobgp=true`: about the peer
//! - `routes=10`: announces as many routes of each family
//! - `want=64512:1`: announces a membership for a route target
//! - `seconds=60`: ends after that time, with a shutdown message
//! - `quiet=true`: prints counts instead of routes

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use tieline_bgp::net;
use tieline_bgp::rib::policy::AcceptAll;
use tieline_bgp::session::SessionConfig;
use tieline_bgp::speaker::{Event, PeerConfig, Speaker, SpeakerConfig, Transport};
use tieline_bgp::wire::attributes::ingress_replication;
use tieline_bgp::wire::notification::{Notification, cease};
use tieline_bgp::wire::{
    Attributes, Encapsulation, Evpn, ExtendedCommunity, Family, FamilySet, Label, MacAddr, Nlri, Payload,
    Route, RouteDistinguisher, RouteTarget,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

struct Options(HashMap<String, String>);

impl Options {
    fn read() -> Result<Self, Error> {
        let pair = |word: String| {
            let (key, value) =
                word.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, not {word}"))?;
            Ok::<_, Error>((key.to_owned(), value.to_owned()))
        };
        Ok(Self(std::env::args().skip(1).map(pair).collect::<Result<_, _>>()?))
    }

    fn value<T: std::str::FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<Option<T>, Error> {
        let parse = |text: &String| text.parse().map_err(|error| format!("{key}={text}: {error}").into());
        self.0.get(key).map(parse).transpose()
    }

    fn must<T: std::str::FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<T, Error> {
        self.value(key)?.ok_or_else(|| format!("{key}=... is missing").into())
    }

    fn families(&self) -> Result<FamilySet, Error> {
        let text = self.0.get("families").map_or("ipv4,ipv6,vpnv4,vpnv6,evpn", String::as_str);
        let families: Result<FamilySet, _> = text.split(',').map(str::parse::<Family>).collect();
        Ok(families?)
    }
}

/// The routes to announce, with attributes that fit their family.
fn announce(speaker: &mut Speaker, families: FamilySet, asn: u32, address: Ipv4Addr, count: u32) {
    let short = u16::try_from(asn).unwrap_or(u16::MAX);
    let rd = RouteDistinguisher::as2(short, 1);
    let v4 = |number: u32| Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + number * 256), 24);
    let v6 = |number: u32| {
        let bits = 0x2001_0db8_0000_0000_0000_0000_0000_0000 + (u128::from(number) << 64);
        Ipv6Net::new_assert(Ipv6Addr::from(bits), 64)
    };
    let plain = |nlri| Route { nlri, payload: Payload::default() };
    let label = |number: u32| Payload::labelled(Label::mpls(16 + number % 1000));
    let vni = Payload::labelled(Label::vni(5001));
    let mac = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    };
    for family in families.iter() {
        let mut attributes = Attributes::new(IpAddr::V4(address));
        let target = RouteTarget::as2(short, 1).into();
        let encapsulation = match family {
            Family::Evpn => Encapsulation::VXLAN,
            _ => Encapsulation::MPLS_UDP,
        };
        if family.has_route_targets() {
            attributes.extended = vec![target, ExtendedCommunity::encapsulation(encapsulation)];
        }
        let routes: Vec<Route> = match family {
            Family::Ipv4Unicast => (0..count).map(|number| plain(Nlri::Ipv4(v4(number)))).collect(),
            Family::Ipv6Unicast => {
                attributes.next_hop = IpAddr::V6(address.to_ipv6_mapped()).into();
                (0..count).map(|number| plain(Nlri::Ipv6(v6(number)))).collect()
            }
            Family::Vpnv4 => (0..count)
                .map(|number| Route { nlri: Nlri::Vpnv4(rd, v4(number)), payload: label(number) })
                .collect(),
            Family::Vpnv6 => (0..count)
                .map(|number| Route { nlri: Nlri::Vpnv6(rd, v6(number)), payload: label(number) })
                .collect(),
            Family::Evpn => {
                let tag = 0;
                let host = |number: u32| {
                    let ip = Some(IpAddr::V4(v4(number).network()));
                    let nlri = Nlri::Evpn(Evpn::MacIp { rd, tag, mac: mac(number), ip });
                    Route { nlri, payload: vni }
                };
                let prefix = |number: u32| {
                    let nlri = Nlri::Evpn(Evpn::Prefix { rd, tag, prefix: v4(number).into() });
                    Route { nlri, payload: vni }
                };
                let mut flood = attributes.clone();
                flood.pmsi = Some(ingress_replication(Label::vni(5001), IpAddr::V4(address)));
                let originator = IpAddr::V4(address);
                speaker.announce(flood, [plain(Nlri::Evpn(Evpn::Multicast { rd, tag, originator }))]);
                let mut routed = attributes.clone();
                routed.extended.push(ExtendedCommunity::router_mac([2, 0, 0, 0, 0, 1]));
                speaker.announce(routed, (0..count).map(prefix));
                (0..count).map(host).collect()
            }
            Family::RouteTarget => Vec::new(),
        };
        speaker.announce(attributes, routes);
    }
}

fn show(event: &Event) {
    match event {
        Event::Up { negotiated, .. } => println!("up: {negotiated:?}"),
        Event::Down { down, .. } => println!("down: {} (graceful {})", down.reason, down.graceful),
        Event::Failed { reason, .. } => println!("failed: {reason}"),
        Event::Guard { failure, .. } => {
            println!("not listened to: {}", failure.as_deref().unwrap_or("no more"));
        }
        Event::Path { nlri, attributes, payload, .. } => {
            println!(
                "path: {nlri} via {:?} label {:?} path \"{}\" {:?} {:?}",
                attributes.next_hop,
                payload.label,
                attributes.as_path,
                attributes.extended,
                attributes.communities
            );
        }
        Event::PathGone { nlri, .. } => println!("gone: {nlri}"),
        Event::Refused { nlri, reason, .. } => println!("refused: {nlri}: {reason}"),
        Event::Objected { nlri, objection, .. } => println!("objected: {nlri}: {}", objection.reason),
        Event::Unsendable { nlri, reason, .. } => println!("unsendable: {nlri}: {reason}"),
        Event::Fault { fault, .. } => println!("fault: {fault:?}"),
        Event::EndOfRib { family, .. } => println!("end of rib: {family}"),
        Event::PrefixLimit { family, count, limit, .. } => println!("limit: {family} {count}/{limit}"),
        Event::Best { .. } => {}
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let options = Options::read()?;
    let (asn, id) = (options.must("asn")?, options.must("id")?);
    let families = options.families()?;
    let seconds = |key| Ok::<_, Error>(Duration::from_secs(options.value(key)?.unwrap_or(0)));
    let session = SessionConfig {
        families,
        passive: options.value("passive")?.unwrap_or(false),
        retry: Duration::from_secs(1),
        restart_time: seconds("restart")?,
        long_lived_time: seconds("long-lived")?,
        ..SessionConfig::new(options.must("peer")?, options.must("peer-asn")?)
    };
    let transport = Transport {
        port: options.value("port")?.unwrap_or(179),
        local_address: Some(options.value("local")?.unwrap_or(IpAddr::V4(id))),
        md5: options.value("md5")?,
        ttl_security: options.value("hops")?,
    };
    transport.check(session.address)?;
    let spare_gobgp = options.value("gobgp")?.unwrap_or(false);
    let peer = PeerConfig { transport, spare_gobgp, ..PeerConfig::new(session) };
    let listen: Option<std::net::SocketAddr> = options.value("listen")?;
    let listeners = net::listen(listen.as_slice())?;
    let mut speaker = Speaker::new(SpeakerConfig::new(asn, id), AcceptAll, Duration::ZERO);
    announce(&mut speaker, families, asn, id, options.value("routes")?.unwrap_or(0));
    if let Some(target) = options.value::<RouteTarget>("want")? {
        speaker.want([target].into(), IpAddr::V4(id));
    }
    let (sender, mut events) = tokio::sync::mpsc::channel(16);
    let (handle, task) = net::run(speaker, listeners, sender);
    let task = tokio::spawn(task);
    let peer = handle.with(move |speaker, now| speaker.add_peer(now, peer)).await??;
    let quiet = options.value("quiet")?.unwrap_or(false);
    let start = std::time::Instant::now();
    let printer = tokio::spawn(async move {
        let mut paths = 0_u64;
        while let Some(batch) = events.recv().await {
            for event in &batch {
                paths += u64::from(matches!(event, Event::Path { .. }));
                if !quiet || !matches!(event, Event::Path { .. } | Event::PathGone { .. }) {
                    show(event);
                }
            }
            if quiet {
                println!("{:.3} s: {paths} paths", start.elapsed().as_secs_f64());
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(options.value("seconds")?.unwrap_or(3600))).await;
    let status = handle.with(move |speaker, _| speaker.status(peer)).await?;
    if let Some(status) = status {
        println!(
            "paths {:?}, sent {}, {:?}, faults {}",
            status.paths, status.announced, status.state, status.counters.faults
        );
    }
    let end = Notification::cease(cease::SHUTDOWN, "the example ends");
    handle.with(move |speaker, now| speaker.stop_peer(now, peer, &end)).await?;
    drop(handle);
    task.await?;
    printer.await?;
    Ok(())
}
