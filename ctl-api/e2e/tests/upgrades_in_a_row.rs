//! S2: twenty upgrades in a row with 32 ports and a slow exit: nothing that was
//! acknowledged is lost, and somebody always forwards.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::command::{Background, Finished, finish};
use tieline_e2e::gateway::Replaced;
use tieline_e2e::tls::Certificates;
use tieline_e2e::{Gateway, GatewayConfig, Host, Net, Steps, eventually};

/// As many as DPDK takes, as Debian builds it.
const PORTS: usize = 32;
const UPGRADES: usize = 20;
/// How long a start may take to open all ports on a machine with other work.
const PORTS_LIMIT: Duration = Duration::from_secs(30);
/// The daemon is killed after each of so many upgrades.
const KILLED_EVERY: usize = 5;
/// Frames in each ring of each port. The kernel frees them page by page when the
/// process ends, and waits for all processors at each socket: that takes seconds.
const FRAMES: usize = 2048;
/// Where the API is served over TCP.
const LISTEN: &str = "127.0.0.1:7070";

/// A gateway with all its ports. Behind the first two are hosts.
struct Site {
    gateway: Gateway,
    hosts: [Host; 2],
    certificates: Certificates,
    /// What must be declared: names of next hops.
    declared: Vec<String>,
    /// Daemons that were taken over from and may not have ended.
    replaced: Vec<Replaced>,
    /// Last, so that the daemon is gone before.
    _net: Net,
}

impl Site {
    fn start(workers: usize) -> Result<Self> {
        let mut net = Net::new()?;
        let namespace = net.namespace("gw")?;
        let mut host = |port: usize| {
            let mac = format!("02:00:00:00:01:{port:02x}");
            let host =
                Host::wired(&mut net, &format!("host{port}"), &namespace, &format!("port{port}"), &mac)?;
            host.address(&format!("10.{port}.0.10/24"))?;
            host.default_route(&format!("10.{port}.0.1"))?;
            anyhow::Ok(host)
        };
        let hosts = [host(0)?, host(1)?];
        let rest = net.namespace("rest")?;
        for port in 2..PORTS {
            net.wire((&rest, &format!("host{port}")), (&namespace, &format!("port{port}")))?;
            rest.ip(&format!("link set host{port} up"))?;
            namespace.give_to_gateway(&format!("port{port}"))?;
        }
        let certificates = Certificates::make(net.directory())?;
        let config = GatewayConfig { api: certificates.toml(LISTEN), ..GatewayConfig::workers(workers) };
        let gateway = Gateway::start(&net, &namespace, &config)?;
        let mut objects = "vrf: {name: red, rd: \"64512:1\"}\n".to_owned();
        for port in 0..PORTS {
            write!(
                objects,
                r#"---
port: {{name: port{port}, device: "net_af_packet{port},iface=port{port},framecnt={FRAMES}", role: tenant}}
---
interface: {{name: port{port}, port: port{port}, vrf: red, local_addresses: ["10.{port}.0.1/24"]}}
"#
            )?;
        }
        gateway.apply(&objects)?;
        hosts[0].reaches("10.1.0.10")?;
        let (declared, replaced) = (Vec::new(), Vec::new());
        Ok(Self { gateway, hosts, certificates, declared, replaced, _net: net })
    }

    /// Declares one more next hop, by the Unix socket or over TCP in turns. It must
    /// be acknowledged as stored.
    fn declare(&mut self) -> Result<()> {
        let name = format!("after-{}", self.declared.len());
        let object = format!("next_hop: {{name: {name}, discard: {{}}}}");
        let Finished { status, stdout, stderr } = match self.declared.len() % 2 {
            0 => self.gateway.tlctl_finish(&["apply", "-f", "-"], &object)?,
            _ => {
                let mut command = self.gateway.namespace.command(tieline_e2e::command::binary("tlctl")?);
                command.args(self.certificates.arguments(LISTEN)).args(["apply", "-f", "-"]);
                finish(&mut command, &object)?
            }
        };
        ensure!(status.success() && stderr.is_empty(), "{name}: tlctl ended with {status}: {stdout}{stderr}");
        self.declared.push(name);
        Ok(())
    }

    /// All that was acknowledged is there, and all ports are.
    fn check(&self) -> Result<()> {
        let there = self.gateway.tlctl("list next-hop")?.to_string();
        let lost: Vec<_> =
            self.declared.iter().filter(|name| !there.contains(&format!("\"{name}\""))).collect();
        ensure!(lost.is_empty(), "acknowledged as stored, and lost: {lost:?}");
        self.ports_are_ready()?;
        let problems = self.gateway.tlctl("problems")?;
        ensure!(problems.as_array().is_some_and(Vec::is_empty), "there are problems: {problems}");
        self.hosts[0].reaches("10.1.0.10")
    }

    fn ports_are_ready(&self) -> Result<()> {
        let ports = self.gateway.tlctl("list port")?;
        let ready = ports.as_array().context("a list")?.iter();
        let ready = ready.filter(|port| port["status"]["state"] == "ready").count();
        ensure!(ready == PORTS, "{ready} of {PORTS} ports are ready");
        Ok(())
    }

    /// An upgrade, and something that is acknowledged right after it.
    fn upgrade(&mut self) -> Result<()> {
        let (said, old) = self.gateway.replace()?;
        self.replaced.push(old);
        self.declare()?;
        let standstill = said.split("milliseconds=").nth(1).unwrap_or(&said);
        eprintln!("          standstill of {} ms", standstill.split_whitespace().next().unwrap_or_default());
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        self.declare()?;
        self.gateway.crash_and_start()?;
        // A start opens the ports one after the other.
        eventually(PORTS_LIMIT, || self.ports_are_ready())?;
        self.check()
    }

    /// Waits for all daemons that were taken over from.
    fn wait_ends(&mut self) -> Result<()> {
        let mut took = Duration::ZERO;
        for mut old in std::mem::take(&mut self.replaced) {
            took = old.wait_end()?;
        }
        eprintln!("          the last one {:.1} s after the other was ready", took.as_secs_f32());
        Ok(())
    }
}

/// Pings from one host to the other, through the gateway, until it is dropped.
struct Pings(Background);

impl Pings {
    fn start(site: &Site) -> Result<Self> {
        let mut command = site.hosts[0].namespace.command("ping");
        command.args(["-n", "-D", "-i", "0.005", "10.1.0.10"]);
        Ok(Self(Background::start(&mut command, Stdio::null())?))
    }

    /// The longest time between two answers, and how many there were.
    fn longest_gap(mut self) -> Result<(Duration, usize)> {
        self.0.stop("INT", Duration::from_secs(5))?;
        let times = self.0.remaining_lines().into_iter().filter(|line| line.contains("icmp_seq="));
        let times: Vec<f64> =
            times.filter_map(|line| line.strip_prefix('[')?.split_once(']')?.0.parse().ok()).collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        Ok((Duration::from_secs_f64(longest), times.len()))
    }
}

fn twenty_upgrades(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut site = Site::start(workers)?;
    for part in 0..UPGRADES / KILLED_EVERY {
        let pings = Pings::start(&site)?;
        for upgrade in 0..KILLED_EVERY {
            let number = part * KILLED_EVERY + upgrade + 1;
            steps.check(&format!("upgrade {number}, and what is acknowledged after it"), || site.upgrade());
        }
        steps.check("everything is there, and the hosts reach each other", || site.check());
        steps.check("somebody always forwarded", || {
            let (longest, answers) = pings.longest_gap()?;
            eprintln!("          {answers} answers, the longest gap between two {} ms", longest.as_millis());
            ensure!(answers > 0, "no ping was answered");
            Ok(())
        });
        steps.check("all that was taken over from end in order", || site.wait_ends());
        steps.check("everything is there after a kill -9 right after an acknowledgement", || site.crash());
    }
    steps.check("it stops in order", || site.gateway.stop());
    Ok(())
}

/// S2, with one worker; what two would add is in `upgrade.rs`.
#[test]
fn s2_twenty_upgrades_in_a_row() {
    tieline_e2e::scenario::run_scenario("S2: twenty upgrades in a row", 1, twenty_upgrades);
}
