//! Forwarding while the control API is busy: a worker with a core of its own
//! forwards as fast as it can, and everything else shares the first core.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use etherparse::PacketBuilder;
use tieline_bench::daemon::{Daemon, Place};
use tieline_bench::figures::Figures;
use tieline_bench::pcap;
use tieline_bench::session::Session;
use tieline_proto::v1;
use tieline_proto::v1::control_client::ControlClient;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::operations_client::OperationsClient;
use tonic::transport::Channel;

use crate::cases::{apply, parts, target, underlay};

/// Routes in the VRF, each a /24; all of them have traffic.
const ROUTES: u32 = 100_000;
/// Routes that change together, and how often: 100,000 a second.
const TOGETHER: u32 = 1000;
const EVERY: Duration = Duration::from_millis(10);
/// Packets in the file that is played again and again.
const PACKETS: u32 = 4096;
/// Length of a sample, and how many there are of each kind.
const SAMPLE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 7;

/// What goes on beside the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Every route in turn gets another label.
    Changes,
    /// All routes are listed again and again.
    Dumps,
}

/// Packets of one sample.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    per_second: f64,
    dropped: u64,
    /// Route changes, or routes listed, a second.
    beside: f64,
}

/// Runs the case.
pub async fn run(binary: &Path, place: &Place, figures: &mut Figures) -> anyhow::Result<()> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (Some(first), Some(last)) = (cores.first(), cores.last()) else {
        anyhow::bail!("cannot tell which cores there are");
    };
    ensure!(first.id != last.id, "needs two cores: one to forward on, one for everything else");
    let file = place.file("traffic.pcap");
    pcap::write(&file, (0..PACKETS).map(frame))?;
    let daemon = Daemon::start_on(binary, place, last.id)?;
    // From here on this program stays away from the worker, too.
    ensure!(core_affinity::set_for_current(*first), "cannot run on core {}", first.id);
    daemon.keep_off(first.id)?;
    let channel = daemon.connect().await?;
    let (mut session, _) = Session::open(channel.clone(), "scale").await?;
    session.program(std::iter::once(underlay())).await?;
    session.program(std::iter::once(vec![vrf()])).await?;
    session.program(parts(ROUTES, TOGETHER).map(|part| vec![set(part, 0)])).await?;
    session.program(std::iter::once(source(&file))).await?;

    let mut samples = Vec::new();
    let mut changing = Changing::default();
    for _ in 0..ROUNDS {
        for beside in [Beside::Nothing, Beside::Changes, Beside::Dumps] {
            samples.push((beside, sample(beside, &channel, &mut session, &mut changing).await?));
        }
    }
    let of = |kind| samples.iter().filter(move |(beside, _)| *beside == kind).map(|(_, sample)| *sample);
    let alone = median(of(Beside::Nothing).map(|sample| sample.per_second));
    figures.note("forwarding_alone_mpps", alone / 1e6, "million packets/s, nothing beside");
    for (kind, name, what) in [
        (Beside::Changes, "changes", "route changes/s, each of a route with traffic"),
        (Beside::Dumps, "dumps", "routes listed/s"),
    ] {
        // Each against its neighbour: other tenants of the machine come and go.
        let pairs = of(Beside::Nothing).zip(of(kind)).map(|(alone, busy)| busy.per_second / alone.per_second);
        let rate = median(of(kind).map(|sample| sample.beside));
        figures.note(&format!("forwarding_{name}_per_second"), rate, what);
        figures.note(&format!("forwarding_with_{name}_ratio"), median(pairs), "of the packets/s alone");
        let dropped: u64 = of(kind).map(|sample| sample.dropped).sum();
        figures.note(&format!("forwarding_with_{name}_dropped"), dropped as f64, "packets");
    }
    Ok(())
}

async fn sample(
    beside: Beside,
    channel: &Channel,
    session: &mut Session,
    changing: &mut Changing,
) -> anyhow::Result<Sample> {
    let (started, before) = (Instant::now(), balance(channel).await?);
    let mut done = 0_u32;
    match beside {
        Beside::Nothing => tokio::time::sleep(SAMPLE).await,
        Beside::Changes => {
            let mut clock = tokio::time::interval(EVERY);
            while started.elapsed() < SAMPLE {
                clock.tick().await;
                session.program(std::iter::once(vec![changing.next()])).await?;
                done += TOGETHER;
            }
        }
        Beside::Dumps => {
            while started.elapsed() < SAMPLE {
                done += dump(channel, started).await?;
            }
        }
    }
    let (took, after) = (started.elapsed().as_secs_f64(), balance(channel).await?);
    let forwarded = (after.transmitted - before.transmitted) as f64;
    ensure!(forwarded > 0.0, "nothing is forwarded");
    Ok(Sample {
        per_second: forwarded / took,
        dropped: after.dropped - before.dropped,
        beside: f64::from(done) / took,
    })
}

/// Lists all routes, or as many as there is time for; returns how many.
async fn dump(channel: &Channel, started: Instant) -> anyhow::Result<u32> {
    let mut client = ControlClient::new(channel.clone());
    let mut request =
        v1::ListRequest { kind: v1::ObjectKind::Route.into(), page_size: 1000, ..Default::default() };
    let mut listed = 0;
    loop {
        let reply = client.list(request.clone()).await?.into_inner();
        listed += reply.items.len() as u32;
        request.page_token = reply.next_page_token;
        if request.page_token.is_empty() || started.elapsed() >= SAMPLE {
            return Ok(listed);
        }
    }
}

async fn balance(channel: &Channel) -> anyhow::Result<v1::Balance> {
    let stats = OperationsClient::new(channel.clone()).get_stats(v1::GetStatsRequest {}).await?;
    stats.into_inner().balance.context("the daemon's counters have no balance")
}

/// Walks over all routes, and gives each another label than it has.
#[derive(Debug, Default)]
struct Changing {
    at: u32,
    turn: u32,
}

impl Changing {
    fn next(&mut self) -> Operation {
        if self.at >= ROUTES {
            self.at = 0;
        }
        if self.at == 0 {
            self.turn += 1;
        }
        let part = self.at..self.at + TOGETHER;
        self.at += TOGETHER;
        set(part, self.turn % 2)
    }
}

fn vrf() -> Operation {
    apply(Kind::Vrf(v1::Vrf {
        name: "red".to_owned(),
        import_route_targets: vec![target(0)],
        ..Default::default()
    }))
}

/// The port that plays the file, and its interface.
fn source(file: &Path) -> Vec<Operation> {
    let port = v1::Port {
        name: "tenant".to_owned(),
        device: format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display()),
        role: v1::PortRole::Tenant.into(),
        ..Default::default()
    };
    let interface = v1::Interface {
        name: "source".to_owned(),
        port: "tenant".to_owned(),
        vrf: "red".to_owned(),
        local_mac: LOCAL_MAC.map(|byte| format!("{byte:02x}")).join(":"),
        local_addresses: vec!["198.18.1.1/24".to_owned()],
        anti_spoofing_disabled: true,
        ..Default::default()
    };
    vec![apply(Kind::Port(port)), apply(Kind::Interface(interface))]
}

const LOCAL_MAC: [u8; 6] = [0x02, 0, 0, 0, 1, 1];

fn set(part: std::ops::Range<u32>, label: u32) -> Operation {
    let attributes = v1::Route {
        rd: "64512:1".to_owned(),
        route_targets: vec![target(0)],
        next_hop: "remote".to_owned(),
        label: 100 + label,
        ..Default::default()
    };
    let prefixes = v1::RoutePrefixes { ipv4: part.flat_map(packed).collect(), ..Default::default() };
    Operation::ApplyRoutes(v1::RouteSet { attributes: Some(attributes), prefixes: Some(prefixes) })
}

fn network(n: u32) -> Ipv4Addr {
    Ipv4Addr::from((16 << 24) + (n << 8))
}

fn packed(n: u32) -> [u8; 5] {
    let [a, b, c, d] = network(n).octets();
    [a, b, c, d, 24]
}

/// A packet to one of the routes; all of the file go to different ones.
fn frame(n: u32) -> Vec<u8> {
    let to = Ipv4Addr::from(u32::from(network(n * (ROUTES / PACKETS))) | 7);
    let from = Ipv4Addr::new(198, 18, 1, 2);
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], LOCAL_MAC)
        .ipv4(from.octets(), to.octets(), 64)
        .udp(40_000, 5000);
    let mut frame = Vec::with_capacity(60);
    // The frame is in memory: nothing can fail.
    builder.write(&mut frame, &[0; 18]).unwrap_or_default();
    frame
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
