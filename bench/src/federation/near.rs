//! The cluster under measurement: a gateway and its controller, the real
//! programs.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tieline_bench::daemon::{Daemon, Place};
use tieline_bench::process::Process;
use tieline_bench::session::Session;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;
use tieline_proto::v1::operations_client::OperationsClient;
use tonic::transport::Channel;

use crate::far;
use crate::routes::{GATEWAYS, NETWORKS, gateway, target};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(120);
/// How often the gateway is asked how many routes it has.
const STEP: Duration = Duration::from_millis(10);
/// Lines of the controller's log that an error shows.
const LOG_LINES: usize = 8;

/// A gateway and its controller. They are killed with this.
#[derive(Debug)]
pub struct Near {
    /// The controller.
    pub controller: Process,
    /// The gateway.
    pub daemon: Daemon,
    operator: Session,
    operations: OperationsClient<Channel>,
    // Dropped last: all files are in it.
    place: Place,
}

impl Near {
    /// Starts both. `port` is where the far cluster listens.
    ///
    /// # Errors
    /// When one of them does not start, or refuses what it is told.
    pub async fn start(daemon: &Path, controller: &Path, port: u16) -> anyhow::Result<Self> {
        let place = Place::new()?;
        let daemon = Daemon::start(daemon, &place)?;
        let channel = daemon.connect().await?;
        let mut operator = Session::lasting(channel.clone(), "operator").await?;
        operator.program(std::iter::once(ports())).await?;
        let store = place.file("intent.redb");
        let files = place.file("intent.yaml");
        std::fs::write(&files, intent(&daemon.address(), port))?;
        let applied = Command::new(controller)
            .arg("--store")
            .arg(&store)
            .args(["apply", "-f"])
            .arg(&files)
            .output()
            .with_context(|| format!("cannot start {}", controller.display()))?;
        ensure!(
            applied.status.success(),
            "the controller refuses the intent: {}{}",
            String::from_utf8_lossy(&applied.stdout),
            String::from_utf8_lossy(&applied.stderr)
        );
        let child = Command::new(controller)
            .arg("--store")
            .arg(&store)
            .args(["run", "--cluster", "near", "--controller", "c1", "--socket"])
            .arg(place.file("federation.sock"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(place.file("controller.log"))?)
            .spawn()?;
        let controller = Process::new(child);
        let operations = OperationsClient::new(channel);
        let mut near = Self { controller, daemon, operator, operations, place };
        near.networks_are_there().await?;
        Ok(near)
    }

    /// Waits until the gateway has the VRF of each network.
    async fn networks_are_there(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + LIMIT;
        while self.vrfs().await?.len() <= NETWORKS as usize {
            self.check(until, "the gateway has not got its VRFs")?;
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }

    async fn vrfs(&mut self) -> anyhow::Result<Vec<v1::VrfStats>> {
        let stats = self.operations.get_stats(v1::GetStatsRequest {}).await?.into_inner();
        Ok(stats.vrfs.into_iter().filter(|vrf| vrf.name.contains("net-")).collect())
    }

    /// Routes in the VRFs of all networks together.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub async fn routes(&mut self) -> anyhow::Result<u64> {
        Ok(self.vrfs().await?.iter().map(|vrf| vrf.ipv4_routes + vrf.ipv6_routes).sum())
    }

    /// Waits until the VRFs have so many routes and all workers forward by them.
    ///
    /// # Errors
    /// When that does not come about.
    pub async fn programmed(&mut self, routes: u64) -> anyhow::Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            let now = self.routes().await?;
            if now == routes {
                return self.workers_follow().await;
            }
            self.check(until, &format!("the gateway has {now} routes and not {routes}"))?;
            tokio::time::sleep(STEP).await;
        }
    }

    /// Waits until all workers forward by what is in the tables now: a change
    /// that changes nothing is acknowledged then.
    ///
    /// # Errors
    /// When the session with the gateway ends.
    pub async fn workers_follow(&mut self) -> anyhow::Result<()> {
        self.operator.program(std::iter::once(vec![fabric_port()])).await
    }

    fn check(&self, until: Instant, what: &str) -> anyhow::Result<()> {
        if Instant::now() < until {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.place.file("controller.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        anyhow::bail!("{what} after {} s; the controller said last:\n{last}", LIMIT.as_secs());
    }
}

fn apply(kind: Kind) -> Operation {
    Operation::Apply(v1::Object { kind: Some(kind) })
}

fn fabric_port() -> Operation {
    apply(Kind::Port(v1::Port {
        name: "fabric".to_owned(),
        device: "net_null0,no-rx=1".to_owned(),
        role: v1::PortRole::Fabric.into(),
        ..Default::default()
    }))
}

/// What the operator declares: ports, and the way to all far gateways.
fn ports() -> Vec<Operation> {
    let tenants = v1::Port {
        name: "tenants".to_owned(),
        device: "net_null1,no-rx=1".to_owned(),
        role: v1::PortRole::Tenant.into(),
        ..Default::default()
    };
    let neighbour = |number: u32| v1::StaticNeighbour {
        address: gateway(number).to_string(),
        mac: format!("02:00:00:00:01:{number:02x}"),
    };
    let interface = v1::Interface {
        name: "fabric".to_owned(),
        port: "fabric".to_owned(),
        vrf: "underlay".to_owned(),
        local_addresses: vec!["198.18.0.1/24".to_owned()],
        static_neighbours: (0..GATEWAYS).map(neighbour).collect(),
        ..Default::default()
    };
    vec![fabric_port(), apply(Kind::Port(tenants)), apply(Kind::Interface(interface))]
}

/// One network for each of the far cluster's, and one that imports them all.
fn intent(gateway: &str, port: u16) -> String {
    let (own, far, asn) = (far::CONTROLLER, far::ADDRESS, crate::routes::ASN);
    let mut text = format!(
        "apiVersion: tieline.io/v1\nkind: Cluster\nmetadata: {{name: near}}\nspec:\n  asn: {}\n  \
         controllers: [{{name: c1, address: '{own}'}}]\n  \
         gateways: [{{name: g1, endpoint: '{gateway}', tunnelAddresses: [198.18.0.1]}}]\n\
         ---\napiVersion: tieline.io/v1\nkind: Peer\nmetadata: {{name: far}}\n\
         spec: {{cluster: near, address: {far}, port: {port}, asn: {asn}, families: [vpnv4, vpnv6, evpn, rtc]}}\n",
        far::PEER_ASN,
    );
    for number in 0..=NETWORKS {
        let imports: Vec<String> = (0..NETWORKS)
            .filter(|network| number == NETWORKS || *network == number)
            .map(|network| format!("'{}'", target(network)))
            .collect();
        let imports = imports.join(", ");
        // Nothing can fail: it is written to memory.
        let _ = write!(
            text,
            "---\napiVersion: tieline.io/v1\nkind: VirtualNetwork\nmetadata: {{name: net-{number}}}\n\
             spec: {{cluster: near, subnets: [{{prefix: 10.1.{number}.0/24}}, {{prefix: '2001:db8:1:{number}::/64'}}], \
             routeTargets: {{import: [{imports}]}}}}\n\
             ---\napiVersion: tieline.io/v1\nkind: Endpoint\nmetadata: {{name: host-{number}}}\n\
             spec: {{network: net-{number}, gateway: g1, interface: {{port: tenants, vlan: {}}}, \
             mac: '02:00:00:00:00:{number:02x}', addresses: [10.1.{number}.9, '2001:db8:1:{number}::9']}}\n",
            100 + number,
        );
    }
    text
}
