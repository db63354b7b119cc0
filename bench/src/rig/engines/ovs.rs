//! Open vSwitch with DPDK, in a directory and a network namespace of its own.
//!
//! ```text
//!   in -- br-int -- vxlan ~~ br-phy (198.18.0.1, of its own) -- out
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Bed, Counters, Engine, Wiring, half_way_since, text};
use crate::case::{Case, Traffic, Way};
use crate::frames::{FABRIC_MAC, LOCAL, REMOTE, REMOTE_MAC, SERVICE, VNI};
use crate::process::{Process, await_some, pause_for, run};

const START_LIMIT: Duration = Duration::from_secs(30);
/// Caches and revalidators settle in this time after a setting has changed.
const SETTLE: Duration = Duration::from_millis(500);
/// How long each setting is tried.
const TRIAL: Duration = Duration::from_millis(1000);
/// The schema of its database, as Debian installs it.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The daemon with DPDK, as Debian installs it beside the one without.
const DAEMON: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// OpenFlow numbers of the ports of br-int.
const IN_OR_OUT: u32 = 1;
const TUNNEL: u32 = 2;
/// Bytes that VXLAN over IPv4 adds to an IP packet.
const OVERHEAD: u32 = 50;

/// Settings that are tried, with and without AVX-512.
const SETTINGS: [(&str, &[&str]); 5] = [
    ("EMC", &["emc-insert-inv-prob=100", "smc-enable=false"]),
    ("EMC for each flow", &["emc-insert-inv-prob=1", "smc-enable=false"]),
    ("SMC", &["emc-insert-inv-prob=100", "smc-enable=true"]),
    ("SMC without EMC", &["emc-insert-inv-prob=0", "smc-enable=true"]),
    ("no caches", &["emc-insert-inv-prob=0", "smc-enable=false"]),
];

/// What switches to AVX-512; the builds of distributions lack some of it.
const AVX512: [&[&str]; 4] = [
    &["dpif-netdev/dpif-impl-set", "dpif_avx512"],
    &["dpif-netdev/subtable-lookup-prio-set", "avx512_gather", "3"],
    &["dpif-netdev/miniflow-parser-set", "study"],
    &["odp-execute/action-impl-set", "avx512"],
];

/// A namespace, deleted with this.
#[derive(Debug)]
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self> {
        let name = format!("tieline-rig-{}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        Ok(Self(name))
    }

    fn ip(&self, words: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.0]).args(words.split(' '))).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nobody waits for the outcome; a name that stays harms nothing.
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

/// A running Open vSwitch. Fields are dropped in this order.
#[derive(Debug)]
pub struct Ovs {
    switch: Process,
    _database: Process,
    namespace: Namespace,
    directory: PathBuf,
    setting: String,
}

impl Ovs {
    /// Starts it and lets it forward.
    pub fn start(bed: &Bed, case: &Case, wiring: &Wiring) -> Result<Self> {
        let directory = bed.file("ovs");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let namespace = Namespace::new()?;
        let database = start_database(&directory)?;
        configure(&directory, bed, case)?;
        let switch = start_switch(&directory, &namespace)?;
        let mut ovs =
            Self { switch, _database: database, namespace, directory, setting: SETTINGS[0].0.to_owned() };
        ovs.set_up(case, wiring)
            .with_context(|| format!("Open vSwitch's log ends with:\n{}", ovs.switch.last_lines()))?;
        Ok(ovs)
    }

    fn set_up(&mut self, case: &Case, wiring: &Wiring) -> Result<()> {
        let (switch, directory) = (&mut self.switch, &self.directory);
        await_some("the control socket of Open vSwitch", START_LIMIT, || {
            switch.check_alive()?;
            Ok(directory.join("switch.ctl").exists().then_some(()))
        })?;
        self.add_bridges()?;
        let (inner, outer) = match case.way {
            Way::ToFabric => (wiring.source(1), wiring.sink()),
            Way::ToTenant => (wiring.sink(), wiring.source(1)),
        };
        // The port where packets come in comes last.
        let mtu = if case.traffic == Traffic::Imix { 1500 + OVERHEAD } else { 1500 };
        match case.way {
            Way::ToFabric => {
                self.add_port("br-phy", "out", &outer, mtu)?;
                self.program(case)?;
                self.add_port("br-int", "in", &inner, 1500)
            }
            Way::ToTenant => {
                self.add_port("br-int", "out", &inner, 1500)?;
                self.program(case)?;
                self.add_port("br-phy", "in", &outer, mtu)
            }
        }
    }

    fn add_bridges(&self) -> Result<()> {
        let mac = mac_text(FABRIC_MAC);
        self.vsctl(&[
            "add-br",
            "br-int",
            "--",
            "set",
            "bridge",
            "br-int",
            "datapath_type=netdev",
            "fail_mode=secure",
        ])?;
        self.vsctl(&[
            "add-br",
            "br-phy",
            "--",
            "set",
            "bridge",
            "br-phy",
            "datapath_type=netdev",
            "fail_mode=secure",
            &format!("other_config:hwaddr=\"{mac}\""),
        ])?;
        self.vsctl(&[
            "add-port",
            "br-int",
            "vxlan",
            "--",
            "set",
            "interface",
            "vxlan",
            "type=vxlan",
            &format!("options:remote_ip={REMOTE}"),
            &format!("options:key={VNI}"),
            &format!("ofport_request={TUNNEL}"),
        ])?;
        self.namespace.ip(&format!("address add {LOCAL}/24 dev br-phy"))?;
        self.namespace.ip("link set br-phy up")?;
        let known = || self.appctl(&["ovs/route/show"]).map(|text| text.contains("br-phy").then_some(()));
        await_some("Open vSwitch's route to the far end", START_LIMIT, known)?;
        self.appctl(&["tnl/neigh/set", "br-phy", &REMOTE.to_string(), &mac_text(REMOTE_MAC)]).map(drop)
    }

    fn add_port(&self, bridge: &str, name: &str, device: &str, mtu: u32) -> Result<()> {
        let request = if bridge == "br-int" { IN_OR_OUT } else { 1 };
        let mtu = (mtu != 1500).then(|| format!("mtu_request={mtu}"));
        let (device, request) =
            (format!("options:dpdk-devargs=\"{device}\""), format!("ofport_request={request}"));
        let mut words =
            vec!["add-port", bridge, name, "--", "set", "interface", name, "type=dpdk", &device, &request];
        words.extend(mtu.as_deref());
        self.vsctl(&words)?;
        let error = self.vsctl(&["get", "interface", name, "error"])?;
        anyhow::ensure!(error.trim() == "[]", "Open vSwitch cannot use {device}: {}", error.trim());
        Ok(())
    }

    fn program(&self, case: &Case) -> Result<()> {
        let (from, to) = match case.way {
            Way::ToFabric => (IN_OR_OUT, TUNNEL),
            Way::ToTenant => (TUNNEL, IN_OR_OUT),
        };
        for flow in flows(case, from, to) {
            self.ofctl("br-int", &flow)?;
        }
        self.ofctl("br-phy", "in_port=LOCAL,actions=output:1")?;
        self.ofctl("br-phy", "in_port=1,actions=LOCAL")
    }

    fn vsctl(&self, words: &[&str]) -> Result<String> {
        vsctl(&self.directory, words)
    }

    fn ofctl(&self, bridge: &str, flow: &str) -> Result<()> {
        let bridge = format!("unix:{}", text(&self.directory.join(format!("{bridge}.mgmt"))));
        run(command("ovs-ofctl", &self.directory).args(["-O", "OpenFlow14", "add-flow", &bridge, flow]))
            .map(drop)
    }

    fn appctl(&self, words: &[&str]) -> Result<String> {
        let target = text(&self.directory.join("switch.ctl"));
        run(command("ovs-appctl", &self.directory).args(["--timeout=10", "-t", &target]).args(words))
    }

    /// Tries the settings as they are, and returns the best and its packets a
    /// second.
    fn best_of_settings(&mut self) -> Result<(usize, f64)> {
        let mut best = (0, 0.0);
        for at in 0..SETTINGS.len() {
            self.set(at)?;
            pause_for(SETTLE)?;
            let before = self.counters()?;
            pause_for(TRIAL)?;
            let after = self.counters()?;
            let rate = after.out.saturating_sub(before.out) as f64 / (after.at - before.at).as_secs_f64();
            if rate > best.1 {
                best = (at, rate);
            }
        }
        Ok(best)
    }

    fn set(&self, setting: usize) -> Result<()> {
        for pair in SETTINGS[setting].1 {
            self.vsctl(&["set", "open_vswitch", ".", &format!("other_config:{pair}")])?;
        }
        Ok(())
    }

    /// Switches on what this build has of AVX-512; returns how much.
    fn use_avx512(&self) -> usize {
        AVX512.iter().filter(|words| self.appctl(words).is_ok()).count()
    }

    /// What it was built with is chosen by itself; this is what undoes
    /// [`Ovs::use_avx512`].
    fn use_scalar(&self) {
        let undo: [&[&str]; 4] = [
            &["dpif-netdev/dpif-impl-set", "dpif_scalar"],
            &["dpif-netdev/subtable-lookup-prio-set", "avx512_gather", "0"],
            &["dpif-netdev/miniflow-parser-set", "scalar"],
            &["odp-execute/action-impl-set", "scalar"],
        ];
        for words in undo {
            // What could not be switched on cannot be switched off.
            let _ = self.appctl(words);
        }
    }
}

impl Engine for Ovs {
    fn process(&mut self) -> &mut Process {
        &mut self.switch
    }

    fn counters(&mut self) -> Result<Counters> {
        let asked = Instant::now();
        let text = self.appctl(&["dpctl/show", "-s"])?;
        Ok(Counters { at: half_way_since(asked), out: transmitted(&text)? })
    }

    fn tune(&mut self) -> Result<()> {
        let (scalar, scalar_rate) = self.best_of_settings()?;
        let parts = self.use_avx512();
        let (vector, vector_rate) = if parts > 0 { self.best_of_settings()? } else { (scalar, 0.0) };
        let (best, avx512) = if vector_rate > scalar_rate {
            (vector, format!("AVX-512 in {parts} of {} parts", AVX512.len()))
        } else {
            self.use_scalar();
            (scalar, "without AVX-512".to_owned())
        };
        self.set(best)?;
        self.setting = format!("{}, {avx512}", SETTINGS[best].0);
        Ok(())
    }

    fn setting(&self) -> Option<String> {
        Some(self.setting.clone())
    }
}

fn command(program: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(name, directory);
    }
    command
}

fn vsctl(directory: &Path, words: &[&str]) -> Result<String> {
    let database = format!("--db=unix:{}", text(&directory.join("db.sock")));
    run(command("ovs-vsctl", directory).args(["--timeout=30", &database]).args(words))
}

fn start_database(directory: &Path) -> Result<Process> {
    let file = directory.join("conf.db");
    run(command("ovsdb-tool", directory).arg("create").arg(&file).arg(SCHEMA))?;
    let socket = directory.join("db.sock");
    let mut server = command("ovsdb-server", directory);
    server
        .arg(&file)
        .arg(format!("--remote=punix:{}", text(&socket)))
        .arg(format!("--unixctl={}", text(&directory.join("db.ctl"))));
    let mut process = Process::start("ovsdb-server", &server, &directory.join("db.log"))?;
    await_some("the socket of ovsdb-server", START_LIMIT, || {
        process.check_alive()?;
        Ok(socket.exists().then_some(()))
    })?;
    Ok(process)
}

fn configure(directory: &Path, bed: &Bed, case: &Case) -> Result<()> {
    let mask = |cores: &[usize]| cores.iter().fold(0u64, |mask, core| mask | 1 << core);
    vsctl(directory, &["--no-wait", "init"])?;
    let settings = [
        "dpdk-init=true".to_owned(),
        "dpdk-extra=\"--no-pci --in-memory --file-prefix=tieline-rig-ovs\"".to_owned(),
        format!("dpdk-lcore-mask={:#x}", mask(&[bed.control_core()])),
        format!("pmd-cpu-mask={:#x}", mask(bed.worker_cores(case.workers))),
    ];
    for setting in settings {
        vsctl(directory, &["--no-wait", "set", "open_vswitch", ".", &format!("other_config:{setting}")])?;
    }
    Ok(())
}

fn start_switch(directory: &Path, namespace: &Namespace) -> Result<Process> {
    let mut switch = command("ip", directory);
    switch
        .args(["netns", "exec", &namespace.0, DAEMON])
        .arg(format!("unix:{}", text(&directory.join("db.sock"))))
        .arg(format!("--unixctl={}", text(&directory.join("switch.ctl"))))
        .arg(format!("--pidfile={}", text(&directory.join("switch.pid"))));
    Process::start("ovs-vswitchd", &switch, &directory.join("switch.log"))
}

/// The flows of br-int: one, or connection tracking and a few rules.
fn flows(case: &Case, from: u32, to: u32) -> Vec<String> {
    if !case.stateful {
        return vec![format!("in_port={from},actions=output:{to}")];
    }
    let mut flows = Vec::new();
    for family in ["ip", "ipv6"] {
        flows.push(format!("table=0,in_port={from},ct_state=-trk,{family},actions=ct(table=1,zone=1)"));
        flows.push(format!("table=1,in_port={from},ct_state=+trk+est,{family},actions=output:{to}"));
    }
    let (tcp, udp) = if case.traffic == Traffic::Ipv6 { ("tcp6", "udp6") } else { ("tcp", "udp") };
    for (protocol, port) in [(tcp, 22), (tcp, 80), (tcp, 443), (udp, 53), (udp, SERVICE)] {
        flows.push(format!(
            "table=1,in_port={from},ct_state=+trk+new,{protocol},tp_dst={port},\
             actions=ct(commit,zone=1),output:{to}"
        ));
    }
    flows
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Packets sent by the port `out`, by what `dpctl/show -s` prints.
fn transmitted(text: &str) -> Result<u64> {
    let port = text.split("\n  port ").find(|port| port.split_whitespace().nth(1) == Some("out"));
    let rest = port.and_then(|port| port.split("TX packets:").nth(1));
    let figure = rest.and_then(|rest| rest.split_whitespace().next()).and_then(|figure| figure.parse().ok());
    figure.with_context(|| {
        format!("Open vSwitch's counters have no TX packets of the port out. It printed:\n{text}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
netdev@ovs-netdev:
  lookups: hit:113119 missed:3 lost:224
  flows: 3
  port 0: ovs-netdev (tap)
    TX packets:7 errors:0 dropped:0 aborted:0 carrier:0
  port 4: out (dpdk: configured_rx_queues=1, mtu=1500)
    RX packets:0 errors:0 dropped:0 overruns:? frame:?
    TX packets:113314 errors:0 dropped:0 aborted:? carrier:?
  port 5: in (dpdk: configured_rx_queues=1)
    TX packets:0 errors:0
";

    #[test]
    fn packets_sent_are_found_or_missed_loudly() {
        assert_eq!(transmitted(SHOWN).expect("a figure"), 113_314);
        assert!(transmitted(&SHOWN.replace(": out ", ": other ")).is_err());
        assert!(transmitted(&SHOWN.replace("TX packets:113314", "TX packets:?")).is_err());
    }
}
