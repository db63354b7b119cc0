//! How networks of clusters grow: messages, bytes, time and memory until all
//! have what they import, and what one route more, and its end, costs then.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::ensure;
use ipnet::Ipv4Net;
use rustix::time::{ClockId, clock_gettime};
use tieline_bench::figures::{Figures, say};
use tieline_bgp::wire::{
    Attributes, Encapsulation, ExtendedCommunity, Label, Nlri, Payload, Route, RouteDistinguisher,
    RouteTarget,
};

use crate::network::{Network, Passing, Sent, address};

/// Numbers of clusters, below the most.
const SIZES: [usize; 5] = [5, 10, 20, 50, 100];
/// AS of the first cluster; the others have those that follow.
const FIRST_ASN: u16 = 64512;
/// AS of the reflectors.
const REFLECTORS_ASN: u32 = 65000;
const REFLECTORS: usize = 2;
/// Routes that each cluster announces.
const ROUTES: u32 = 20;
/// Most clusters of a mesh that passes everything on in which a route ends: the
/// speakers try all ways around that they know, and there is one for each order
/// of clusters.
const HUNTED: usize = 10;
/// Clusters that each cluster imports the routes of, beside itself.
const IMPORTS: usize = 4;

/// Who is whose peer, and what they tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    /// Each with each, everything to everybody.
    Mesh,
    /// The same with route target constraint.
    ConstrainedMesh,
    /// The same, and nobody passes on what others told it.
    OwnRoutes,
    /// Each with two reflectors, with route target constraint.
    Reflectors,
}

impl Topology {
    const ALL: [Self; 4] = [Self::Mesh, Self::ConstrainedMesh, Self::OwnRoutes, Self::Reflectors];

    fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::ConstrainedMesh => "mesh_rtc",
            Self::OwnRoutes => "mesh_rtc_own",
            Self::Reflectors => "reflectors_rtc",
        }
    }

    /// Whether clusters tell each other what a third one told them.
    fn passes_on(self) -> bool {
        matches!(self, Self::Mesh | Self::ConstrainedMesh)
    }
}

/// What one network took.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Until all had everything.
    sent: Sent,
    /// Simulated time until then.
    time: Duration,
    /// Processor time of all speakers together.
    processor: Duration,
    /// Memory of all speakers together, bytes.
    memory: u64,
    /// One more route.
    announced: Sent,
    /// Its end, and how long that takes; `None` where there is no waiting for it.
    withdrawn: Option<(Sent, Duration)>,
}

/// Runs the case.
pub fn run(most: usize, figures: &mut Figures) -> anyhow::Result<()> {
    say(&format!(
        "  {ROUTES} routes a cluster, each imports those of {IMPORTS} others; updates, KiB, simulated and processor \
         time of all speakers and their memory until all have what they import; updates for one route more, and its end"
    ));
    say(&format!(
        "  {:<16} {:>8} {:>9} {:>9} {:>7} {:>8} {:>8} {:>7} {:>7}",
        "network", "clusters", "updates", "KiB", "ms", "CPU ms", "MiB", "one", "end"
    ));
    for topology in Topology::ALL {
        for size in SIZES.into_iter().filter(|size| *size < most).chain([most]) {
            show(topology, size, simulate(topology, size)?, figures);
        }
    }
    Ok(())
}

fn show(topology: Topology, size: usize, outcome: Outcome, figures: &mut Figures) {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let name = topology.name();
    say(&format!(
        "  {name:<16} {size:>8} {:>9} {:>9} {:>7.0} {:>8.0} {:>8.1} {:>7} {:>7}",
        outcome.sent.messages,
        outcome.sent.bytes / 1024,
        milliseconds(outcome.time),
        milliseconds(outcome.processor),
        outcome.memory as f64 / f64::from(1 << 20),
        outcome.announced.messages,
        outcome.withdrawn.map_or_else(|| "-".to_owned(), |(sent, _)| sent.messages.to_string()),
    ));
    for (what, value) in [
        ("messages", outcome.sent.messages as f64),
        ("bytes", outcome.sent.bytes as f64),
        ("simulated_ms", milliseconds(outcome.time)),
        ("processor_ms", milliseconds(outcome.processor)),
        ("memory_bytes", outcome.memory as f64),
        ("announce_messages", outcome.announced.messages as f64),
        ("announce_bytes", outcome.announced.bytes as f64),
    ] {
        figures.keep(&format!("simulation_{name}_{size}_{what}"), value);
    }
    if let Some((sent, time)) = outcome.withdrawn {
        figures.keep(&format!("simulation_{name}_{size}_withdraw_messages"), sent.messages as f64);
        figures.keep(&format!("simulation_{name}_{size}_withdraw_bytes"), sent.bytes as f64);
        figures.keep(&format!("simulation_{name}_{size}_withdraw_simulated_ms"), milliseconds(time));
    }
}

fn simulate(topology: Topology, size: usize) -> anyhow::Result<Outcome> {
    let memory = memory_in_use();
    let processor = clock();
    let mut network = build(topology, size)?;
    network.run();
    check(&network, size, ROUTES)?;
    let (sent, time) = (network.sent, network.last_update);
    let processor = clock() - processor;
    let memory = memory_in_use().saturating_sub(memory);
    let one = route(0, ROUTES);
    network.speakers[0].announce(attributes(0), [one.clone()]);
    network.run();
    check_one(&network, size, ROUTES, true)?;
    let announced = since(sent, network.sent);
    let withdrawn = if topology.passes_on() && size > HUNTED {
        None
    } else {
        let (before, start) = (network.sent, network.now);
        network.speakers[0].withdraw([&one.nlri]);
        network.run();
        check_one(&network, size, ROUTES, false)?;
        Some((since(before, network.sent), network.last_update - start))
    };
    Ok(Outcome { sent, time, processor, memory, announced, withdrawn })
}

fn since(before: Sent, now: Sent) -> Sent {
    Sent { messages: now.messages - before.messages, bytes: now.bytes - before.bytes }
}

/// Clusters come first, then the reflectors.
fn build(topology: Topology, size: usize) -> anyhow::Result<Network> {
    let reflectors = if topology == Topology::Reflectors { REFLECTORS } else { 0 };
    let asns: Vec<u32> = (0..size).map(asn).chain(std::iter::repeat_n(REFLECTORS_ASN, reflectors)).collect();
    let passing = Passing { own_only: topology == Topology::OwnRoutes };
    let mut network = Network::new(&asns, passing);
    for cluster in 0..size {
        let speaker = &mut network.speakers[cluster];
        let wanted = imported(cluster, size).chain([cluster]).map(target).collect();
        speaker.want(wanted, IpAddr::V4(address(cluster)));
        speaker.announce(attributes(cluster), (0..ROUTES).map(|number| route(cluster, number)));
    }
    for one in 0..size {
        if topology == Topology::Reflectors {
            for reflector in size..size + reflectors {
                network.link(one, reflector, true)?;
            }
        } else {
            for other in one + 1..size {
                network.link(one, other, topology != Topology::Mesh)?;
            }
        }
    }
    Ok(network)
}

/// The clusters that a cluster imports the routes of: those that follow.
fn imported(cluster: usize, size: usize) -> impl Iterator<Item = usize> {
    (1..=IMPORTS.min(size - 1)).map(move |step| (cluster + step) % size)
}

fn asn(cluster: usize) -> u32 {
    u32::from(short_asn(cluster))
}

fn short_asn(cluster: usize) -> u16 {
    FIRST_ASN + cluster as u16
}

fn target(cluster: usize) -> RouteTarget {
    RouteTarget::as2(short_asn(cluster), 8_000_000)
}

fn route(cluster: usize, number: u32) -> Route {
    let prefix = Ipv4Net::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number));
    let nlri = Nlri::Vpnv4(RouteDistinguisher::as2(short_asn(cluster), 1), prefix);
    Route { nlri, payload: Payload::labelled(Label::mpls(1000)) }
}

fn attributes(cluster: usize) -> Attributes {
    let mut attributes = Attributes::new(IpAddr::V4(address(cluster)));
    attributes.extended =
        vec![target(cluster).into(), ExtendedCommunity::encapsulation(Encapsulation::MPLS_UDP)];
    attributes
}

/// Every cluster has the routes that it imports, by the shortest path, with the
/// next hop of their origin.
fn check(network: &Network, size: usize, routes: u32) -> anyhow::Result<()> {
    (0..routes).try_for_each(|number| (0..size).try_for_each(|origin| has(network, size, origin, number)))
}

fn has(network: &Network, size: usize, origin: usize, number: u32) -> anyhow::Result<()> {
    let nlri = route(origin, number).nlri;
    // Through a reflector there is one AS more.
    let hops = if network.speakers.len() > size { 2 } else { 1 };
    for cluster in (0..size).filter(|cluster| imported(*cluster, size).any(|of| of == origin)) {
        let best = network.speakers[cluster].rib().best(&nlri);
        let found = best.map(|path| (path.attributes.as_path.hops(), path.attributes.next_hop.address()));
        let expected = (hops, IpAddr::V4(address(origin)));
        ensure!(found == Some(expected), "cluster {cluster} has {nlri} by {found:?}, not {expected:?}");
    }
    Ok(())
}

/// One route of the first cluster is where it is imported, or nowhere.
fn check_one(network: &Network, size: usize, number: u32, present: bool) -> anyhow::Result<()> {
    if present {
        return has(network, size, 0, number);
    }
    let nlri = route(0, number).nlri;
    let left = network.speakers.iter().filter(|speaker| speaker.rib().best(&nlri).is_some()).count();
    ensure!(left == 0, "{left} speakers still have {nlri}, which is gone");
    Ok(())
}

/// Processor time of this thread.
fn clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory that is allocated, bytes.
fn memory_in_use() -> u64 {
    // SAFETY: the call reads the allocator's own counters, under its locks, and
    // gives them back by value.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_converges() {
        for topology in Topology::ALL {
            simulate(topology, 6).unwrap_or_else(|error| panic!("{}: {error}", topology.name()));
        }
    }

    /// What is sent for one route is what the topology says: to each other
    /// cluster once, or once up to and down from each reflector to who imports it.
    #[test]
    fn one_route_costs_what_its_importers_do() {
        let size = 8;
        let own = simulate(Topology::OwnRoutes, size).expect("converges");
        assert_eq!(own.announced.messages, IMPORTS as u64);
        assert_eq!(own.withdrawn.map(|(sent, _)| sent.messages), Some(IMPORTS as u64));
        let reflected = simulate(Topology::Reflectors, size).expect("converges");
        assert_eq!(reflected.announced.messages, (REFLECTORS * (1 + IMPORTS)) as u64);
        assert_eq!(
            reflected.withdrawn.map(|(sent, _)| sent.messages),
            Some((REFLECTORS * (1 + IMPORTS)) as u64)
        );
    }
}
