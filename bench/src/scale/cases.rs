//! What is measured.

use std::path::Path;
use std::time::{Duration, Instant};

use tieline_bench::daemon::{Daemon, Place};
use tieline_bench::figures::Figures;
use tieline_bench::session::Session;
use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::watch_reply::What;

use crate::forwarding;

/// Prefixes of one set of routes.
const SET: u32 = 1000;
/// VRFs of the case with many.
const VRFS: u32 = 4096;
/// Changes whose latency is measured.
const CHANGES: u32 = 2000;
/// Controllers at once.
const CONTROLLERS: u32 = 64;

/// Names and what they are about.
pub const ALL: [(&str, &str); 7] = [
    ("routes", "routes in sets of 1,000 over one stream into one VRF, until programmed; and withdrawn"),
    ("single", "the same, each route an operation of its own, 200 in a batch; a tenth as many"),
    ("vrfs", "as many routes over 4,096 VRFs"),
    ("latency", "one route changed at a time, nothing else going on"),
    (
        "forwarding",
        "packets of a worker on its own core while 100,000 routes a second change; and are listed",
    ),
    ("restart", "kill -9 with all routes, then until it forwards again; synchronised again"),
    ("controllers", "64 controllers at once; one of them watched by 10 others"),
];

/// Runs a case.
pub async fn run(name: &str, daemon: &Path, routes: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let place = Place::new()?;
    match name {
        "routes" => in_sets(daemon, &place, routes, figures).await,
        "single" => one_by_one(daemon, &place, routes / 10, figures).await,
        "vrfs" => over_vrfs(daemon, &place, routes, figures).await,
        "latency" => latency(daemon, &place, figures).await,
        "forwarding" => forwarding::run(daemon, &place, figures).await,
        "restart" => restart(daemon, &place, routes, figures).await,
        _ => controllers(daemon, &place, figures).await,
    }
}

pub fn apply(kind: Kind) -> Operation {
    Operation::Apply(v1::Object { kind: Some(kind) })
}

fn vrf(n: u32) -> Operation {
    apply(Kind::Vrf(v1::Vrf {
        name: format!("vrf-{n}"),
        import_route_targets: vec![target(n)],
        ..Default::default()
    }))
}

pub fn target(vrf: u32) -> String {
    format!("64512:{}", 1_000_000 + vrf)
}

/// A way to a remote gateway, all of it declared.
pub fn underlay() -> Vec<Operation> {
    let port = v1::Port {
        name: "fabric".to_owned(),
        device: "net_null0,no-rx=1".to_owned(),
        role: v1::PortRole::Fabric.into(),
        ..Default::default()
    };
    let neighbour =
        v1::StaticNeighbour { address: "198.18.0.2".to_owned(), mac: "02:00:00:00:00:02".to_owned() };
    let interface = v1::Interface {
        name: "fabric".to_owned(),
        port: "fabric".to_owned(),
        vrf: "underlay".to_owned(),
        local_addresses: vec!["198.18.0.1/24".to_owned()],
        static_neighbours: vec![neighbour],
        ..Default::default()
    };
    let tunnel = v1::TunnelNextHop { remote: "198.18.0.2".to_owned(), ..Default::default() };
    let next_hop =
        v1::NextHop { name: "remote".to_owned(), target: Some(v1::next_hop::Target::Tunnel(tunnel)) };
    vec![apply(Kind::Port(port)), apply(Kind::Interface(interface)), apply(Kind::NextHop(next_hop))]
}

fn attributes(vrf: u32) -> v1::Route {
    v1::Route {
        rd: format!("64512:{vrf}"),
        route_targets: vec![target(vrf)],
        next_hop: "remote".to_owned(),
        label: 16 + vrf,
        ..Default::default()
    }
}

/// The n-th /24 from 16.0.0.0 on.
fn packed(n: u32) -> [u8; 5] {
    let [a, b, c, d] = ((16 << 24) + (n << 8)).to_be_bytes();
    [a, b, c, d, 24]
}

fn prefixes(numbers: std::ops::Range<u32>) -> v1::RoutePrefixes {
    v1::RoutePrefixes { ipv4: numbers.flat_map(packed).collect(), ..Default::default() }
}

fn set(vrf: u32, numbers: std::ops::Range<u32>) -> Operation {
    Operation::ApplyRoutes(v1::RouteSet {
        attributes: Some(attributes(vrf)),
        prefixes: Some(prefixes(numbers)),
    })
}

fn no_set(vrf: u32, numbers: std::ops::Range<u32>) -> Operation {
    let rd = attributes(vrf).rd;
    Operation::DeleteRoutes(v1::RouteSetKey { rd, prefixes: Some(prefixes(numbers)) })
}

/// Parts of `0..total`.
pub fn parts(total: u32, of: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    (0..total).step_by(of as usize).map(move |start| start..(start + of).min(total))
}

async fn in_sets(binary: &Path, place: &Place, routes: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let daemon = Daemon::start(binary, place)?;
    let (mut session, _) = Session::open(daemon.connect().await?, "scale").await?;
    session.program(std::iter::once(underlay())).await?;
    session.program(std::iter::once(vec![vrf(0)])).await?;
    let before = daemon.memory()?;
    let used = daemon.processor_time()?;
    let started = Instant::now();
    session.program(parts(routes, SET).map(|part| vec![set(0, part)])).await?;
    figures.note("routes_per_second", f64::from(routes) / started.elapsed().as_secs_f64(), "/s");
    let used = (daemon.processor_time()? - used) * 1e6 / f64::from(routes);
    figures.note("routes_processor_us", used, "us a route, all threads");
    figures.note("routes_memory_bytes", (daemon.memory()? - before) / f64::from(routes), "bytes a route");
    let started = Instant::now();
    session.program(parts(routes, SET).map(|part| vec![no_set(0, part)])).await?;
    figures.note("routes_withdrawn_per_second", f64::from(routes) / started.elapsed().as_secs_f64(), "/s");
    Ok(())
}

async fn one_by_one(binary: &Path, place: &Place, routes: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let daemon = Daemon::start(binary, place)?;
    let (mut session, _) = Session::open(daemon.connect().await?, "scale").await?;
    session.program(std::iter::once(underlay())).await?;
    session.program(std::iter::once(vec![vrf(0)])).await?;
    let one = |n: u32| {
        let [a, b, c, d, length] = packed(n);
        apply(Kind::Route(v1::Route { prefix: format!("{a}.{b}.{c}.{d}/{length}"), ..attributes(0) }))
    };
    let started = Instant::now();
    session.program(parts(routes, 200).map(|part| part.map(one).collect())).await?;
    figures.note("single_routes_per_second", f64::from(routes) / started.elapsed().as_secs_f64(), "/s");
    Ok(())
}

async fn over_vrfs(binary: &Path, place: &Place, routes: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let daemon = Daemon::start(binary, place)?;
    let (mut session, _) = Session::open(daemon.connect().await?, "scale").await?;
    session.program(std::iter::once(underlay())).await?;
    session.program(parts(VRFS, 100).map(|part| part.map(vrf).collect())).await?;
    let each = (routes / VRFS).max(1);
    let before = daemon.memory()?;
    let started = Instant::now();
    // Four sets of about 250 in a batch.
    session.program(parts(VRFS, 4).map(|part| part.map(|vrf| set(vrf, 0..each)).collect())).await?;
    let total = f64::from(each * VRFS);
    figures.note("vrfs_routes_per_second", total / started.elapsed().as_secs_f64(), "/s");
    figures.note("vrfs_memory_bytes", (daemon.memory()? - before) / total, "bytes a route");
    let started = Instant::now();
    session.program(parts(VRFS, 4).map(|part| part.map(|vrf| no_set(vrf, 0..each)).collect())).await?;
    figures.note("vrfs_withdrawn_per_second", total / started.elapsed().as_secs_f64(), "/s");
    Ok(())
}

async fn latency(binary: &Path, place: &Place, figures: &mut Figures) -> anyhow::Result<()> {
    let daemon = Daemon::start(binary, place)?;
    let (mut session, _) = Session::open(daemon.connect().await?, "scale").await?;
    session.program(std::iter::once(underlay())).await?;
    session.program(std::iter::once(vec![vrf(0)])).await?;
    let mut all = Vec::new();
    for n in 0..CHANGES {
        // The stream is idle in between.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let started = Instant::now();
        session.program(std::iter::once(vec![set(0, n..n + 1)])).await?;
        all.push(started.elapsed().as_secs_f64() * 1e6);
    }
    all.sort_by(f64::total_cmp);
    figures.note("latency_p50_us", all[all.len() / 2], "us");
    figures.note("latency_p99_us", all[all.len() * 99 / 100], "us");
    Ok(())
}

async fn restart(binary: &Path, place: &Place, routes: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let daemon = Daemon::start(binary, place)?;
    figures.note("restart_empty_seconds", daemon.took.as_secs_f64(), "s, with nothing to bring back");
    let (mut session, _) = Session::open(daemon.connect().await?, "scale").await?;
    session.program(std::iter::once(underlay())).await?;
    session.program(std::iter::once(vec![vrf(0)])).await?;
    session.program(parts(routes, SET).map(|part| vec![set(0, part)])).await?;
    daemon.kill()?;
    let daemon = Daemon::start(binary, place)?;
    figures.note("restart_seconds", daemon.took.as_secs_f64(), "s until it forwards");
    let (mut session, hello) = Session::open(daemon.connect().await?, "scale").await?;
    let expected = u64::from(routes) + 4;
    anyhow::ensure!(hello.held == expected, "{} things were brought back of {expected}", hello.held);
    let started = Instant::now();
    session.program(std::iter::once(underlay())).await?;
    session.program(std::iter::once(vec![vrf(0)])).await?;
    session.program(parts(routes, SET).map(|part| vec![set(0, part)])).await?;
    let withdrawn = session.end_of_sync().await?;
    anyhow::ensure!(withdrawn == 0, "{withdrawn} things were withdrawn");
    figures.note("resync_seconds", started.elapsed().as_secs_f64(), "s, nothing changed");
    let (mut session, _) = Session::open(daemon.connect().await?, "scale").await?;
    let started = Instant::now();
    let withdrawn = session.end_of_sync().await?;
    anyhow::ensure!(withdrawn == expected, "{withdrawn} things were withdrawn of {expected}");
    figures.note("sweep_seconds", started.elapsed().as_secs_f64(), "s, everything withdrawn");
    Ok(())
}

async fn controllers(binary: &Path, place: &Place, figures: &mut Figures) -> anyhow::Result<()> {
    /// Routes of each controller.
    const EACH: u32 = 1000;
    /// Who watches.
    const WATCHERS: u64 = 10;
    let daemon = Daemon::start(binary, place)?;
    let mut sessions = Vec::new();
    let before = daemon.memory()?;
    for n in 0..CONTROLLERS {
        let (session, _) = Session::open(daemon.connect().await?, &format!("controller-{n}")).await?;
        sessions.push(session);
    }
    let memory = (daemon.memory()? - before) / f64::from(CONTROLLERS);
    figures.note("controllers_memory_bytes", memory, "bytes a session");
    sessions[0].program(std::iter::once(underlay())).await?;
    sessions[0].program(parts(CONTROLLERS, 64).map(|part| part.map(vrf).collect())).await?;
    let started = Instant::now();
    let all = sessions.iter_mut().enumerate().map(async |(n, session)| {
        let n = n as u32;
        session.program(parts(EACH, 100).map(|part| vec![set(n, part)])).await
    });
    for one in all {
        one.await?;
    }
    let rate = f64::from(CONTROLLERS * EACH) / started.elapsed().as_secs_f64();
    figures.note("controllers_routes_per_second", rate, "/s, 64 controllers after each other");

    let before = daemon.memory()?;
    let mut watchers = tokio::task::JoinSet::new();
    let (caught_up, mut all_caught_up) = tokio::sync::mpsc::channel(WATCHERS as usize);
    for _ in 0..WATCHERS {
        let mut client = ControlClient::new(daemon.connect().await?);
        let caught_up = caught_up.clone();
        watchers.spawn(async move {
            let kinds = vec![v1::ObjectKind::Route.into()];
            let request = v1::WatchRequest { kinds, ..Default::default() };
            let mut replies = client.watch(request).await?.into_inner();
            let (mut seen, mut lost, mut counting) = (0_u64, 0_u64, false);
            while seen < u64::from(EACH) * 10 {
                let Some(reply) = replies.message().await? else { break };
                match reply.what {
                    Some(What::CaughtUp(_)) => {
                        counting = true;
                        let _ = caught_up.send(()).await;
                    }
                    Some(What::Lost(_)) => lost += 1,
                    Some(What::Object(_) | What::Deleted(_)) if counting => seen += 1,
                    _ => {}
                }
            }
            anyhow::Ok((seen, lost))
        });
    }
    for _ in 0..WATCHERS {
        all_caught_up.recv().await;
    }
    let started = Instant::now();
    // Each of the ten parts has prefixes of its own: nothing is summed up.
    let parts = (0..10).map(|round| vec![set(0, (1 + round) * 100_000..(1 + round) * 100_000 + EACH)]);
    sessions[0].program(parts).await?;
    let (mut seen, mut lost) = (0, 0);
    while let Some(watcher) = watchers.join_next().await {
        let (of_one, lost_by_one) = watcher??;
        seen += of_one;
        lost += lost_by_one;
    }
    let rate = seen as f64 / started.elapsed().as_secs_f64();
    figures.note("watchers_events_per_second", rate, "/s, 10 watchers together");
    figures.note("watchers_lost", lost as f64, "times a position was lost");
    figures.note("watchers_memory_bytes", daemon.memory()? - before, "bytes, all watchers");
    Ok(())
}
