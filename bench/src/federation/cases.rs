//! What is measured with the real programs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tieline_bench::figures::Figures;
use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::object::Kind as Object;
use tieline_proto::v1::watch_reply::What;

use crate::far::Far;
use crate::near::Near;
use crate::routes::{self, Kind};
use crate::{Args, simulation};

/// Single routes whose latency is measured.
const SINGLE: u32 = 500;
/// Between two of them: longer than one takes, so that each comes alone.
const APART: Duration = Duration::from_millis(20);
/// VRFs that import each route.
const IMPORTERS: u64 = 2;
/// How long the controller is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// Names and what they are about.
pub const ALL: [(&str, &str); 6] = [
    ("vpnv4", "VPNv4 routes of the far cluster, each imported by two VRFs, until programmed; and withdrawn"),
    ("vpnv6", "the same with VPNv6"),
    ("evpn5", "the same with EVPN type 5"),
    ("evpn2", "EVPN type 2 from speaker to speaker over TCP: gateways have no layer 2 yet"),
    ("latency", "one route at a time, until programmed; the others are there already"),
    ("simulation", "networks of clusters, without sockets and clock"),
];

/// Runs a case.
pub async fn run(name: &str, args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    match name {
        "vpnv4" => routes_of(Kind::Vpnv4, name, args, figures).await,
        "vpnv6" => routes_of(Kind::Vpnv6, name, args, figures).await,
        "evpn5" => routes_of(Kind::EvpnPrefix, name, args, figures).await,
        "evpn2" => between_speakers(name, args, figures).await,
        "latency" => latency(args, figures).await,
        _ => simulation::run(usize::from(args.clusters), figures),
    }
}

/// Both clusters, joined.
async fn join(args: &Args) -> anyhow::Result<(Near, Far)> {
    let mut far = Far::start().await?;
    let near = Near::start(&args.daemon, &args.controller, far.port).await?;
    far.joined().await?;
    Ok((near, far))
}

async fn routes_of(kind: Kind, name: &str, args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut near, far) = join(args).await?;
    let total = f64::from(args.routes);
    let empty = near.routes().await?;
    let groups = routes::groups(kind, 0..args.routes);
    let memory = near.controller.memory()?;
    let used = (near.controller.processor_time()?, near.daemon.processor_time()?);
    let started = Instant::now();
    far.announce(groups.clone()).await?;
    near.programmed(empty + IMPORTERS * u64::from(args.routes)).await?;
    figures.note(&format!("{name}_seconds"), started.elapsed().as_secs_f64(), "s until programmed");
    let each = |before: f64, now: f64| (now - before) * 1e6 / total;
    let controller = each(used.0, near.controller.processor_time()?);
    let gateway = each(used.1, near.daemon.processor_time()?);
    figures.note(&format!("{name}_controller_us"), controller, "us a route, the controller's threads");
    figures.note(&format!("{name}_gateway_us"), gateway, "us a route, the gateway's threads");
    tokio::time::sleep(SETTLE).await;
    let memory = (near.controller.memory()? - memory) / total;
    figures.note(&format!("{name}_memory_bytes"), memory, "bytes a route in the controller");
    let started = Instant::now();
    far.withdraw(groups).await?;
    near.programmed(empty).await?;
    figures.note(&format!("{name}_withdrawn_seconds"), started.elapsed().as_secs_f64(), "s until withdrawn");
    Ok(())
}

async fn between_speakers(name: &str, args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let mut far = Far::start().await?;
    let mut reader = crate::far::Reader::start(far.port).await?;
    far.joined().await?;
    let groups = routes::groups(Kind::EvpnHost, 0..args.routes);
    let started = Instant::now();
    far.announce(groups.clone()).await?;
    reader.has(args.routes).await?;
    figures.note(&format!("{name}_seconds"), started.elapsed().as_secs_f64(), "s until in the other's RIB");
    let started = Instant::now();
    far.withdraw(groups).await?;
    reader.has(0).await?;
    figures.note(&format!("{name}_withdrawn_seconds"), started.elapsed().as_secs_f64(), "s until withdrawn");
    Ok(())
}

async fn latency(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut near, far) = join(args).await?;
    let empty = near.routes().await?;
    far.announce(routes::groups(Kind::Vpnv4, 0..args.routes)).await?;
    near.programmed(empty + IMPORTERS * u64::from(args.routes)).await?;
    let kinds = vec![v1::ObjectKind::Route.into()];
    let mut client = ControlClient::new(near.daemon.connect().await?);
    let request = v1::WatchRequest { kinds, ..Default::default() };
    let mut replies = client.watch(request).await?.into_inner();
    let mut next = async || -> anyhow::Result<What> {
        let reply = tokio::time::timeout(Duration::from_secs(30), replies.message());
        let reply = reply.await.context("the gateway tells of no change")??;
        reply.and_then(|reply| reply.what).context("the watch has ended")
    };
    while !matches!(next().await?, What::CaughtUp(_)) {}
    let mut all = Vec::new();
    for number in args.routes..args.routes + SINGLE {
        tokio::time::sleep(APART).await;
        let group = routes::groups(Kind::Vpnv4, number..number + 1);
        let prefix = format!("{}/32", routes::address(number));
        let started = Instant::now();
        far.announce(group).await?;
        loop {
            match next().await? {
                What::Object(object) => {
                    let kind = object.object.and_then(|object| object.kind);
                    if matches!(kind, Some(Object::Route(route)) if route.prefix == prefix) {
                        break;
                    }
                }
                What::Lost(_) => anyhow::bail!("the gateway has lost the position of the watch"),
                _ => {}
            }
        }
        near.workers_follow().await?;
        all.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let expected = empty + IMPORTERS * u64::from(args.routes + SINGLE);
    let has = near.routes().await?;
    ensure!(has == expected, "the gateway has {has} routes, and {expected} were announced");
    all.sort_by(f64::total_cmp);
    figures.note("latency_p50_ms", all[all.len() / 2], "ms");
    figures.note("latency_p99_ms", all[all.len() * 99 / 100], "ms");
    figures.note("latency_most_ms", all[all.len() - 1], "ms");
    Ok(())
}
