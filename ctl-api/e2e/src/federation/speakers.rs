//! Other people's BGP speakers, from Debian's packages. None of them touches a
//! kernel's routing table, and none is in the path of packets.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::clusters::{ASNS, MIDDLE, MIDDLE_ASN, SPEAKERS};
use crate::command::{Background, finish, run};
use crate::net::{Namespace, Net};
use crate::scenario::{eventually, keep_log};

/// FRR's BGP daemon; its package puts it into no directory of the PATH.
const BGPD: &str = "/usr/lib/frr/bgpd";
/// Longer than any start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Lines of a log that a failure shows.
const LOG_LINES: usize = 60;

/// A speaker in a namespace. It is killed when this is dropped.
#[derive(Debug)]
pub struct Speaker {
    namespace: Namespace,
    directory: PathBuf,
    log: PathBuf,
    process: Background,
}

impl Speaker {
    fn start(net: &Net, namespace: &Namespace, name: &str, mut command: Command) -> Result<Self> {
        let log = net.directory().join(format!("{name}.log"));
        let stderr = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let process = Background::start(&mut command, Stdio::from(stderr))?;
        Ok(Self { namespace: namespace.clone(), directory: net.directory().to_owned(), log, process })
    }

    /// Waits until it takes connections.
    fn wait_until_listening(&self) -> Result<()> {
        eventually(START_LIMIT, || {
            let mut command = self.namespace.command("nc");
            let asked = finish(command.args(["-z", "-w", "1", MIDDLE, "179"]), "")?;
            ensure!(asked.status.success(), "nobody listens on {MIDDLE}:179; see {}", self.log.display());
            Ok(())
        })
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) -> Result<()> {
        self.process.stop("KILL", Duration::from_secs(5)).map(drop)
    }

    /// It must still run.
    pub fn check_alive(&mut self) -> Result<()> {
        ensure!(self.process.is_alive(), "the speaker has ended: see {}", self.log.display());
        Ok(())
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        keep_log(format!("--- {}:\n{}", self.log.display(), tail.join("\n")));
    }
}

/// Whether a program is there; says so where it is not.
fn is_installed(program: &str, package: &str) -> bool {
    let found = if program.starts_with('/') {
        Path::new(program).is_file()
    } else {
        let directories = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        directories.iter().any(|directory| Path::new(directory).join(program).is_file())
    };
    if !found {
        eprintln!("  skipped: needs Debian's package {package}");
    }
    found
}

fn write(net: &Net, name: &str, text: &str) -> Result<PathBuf> {
    let file = net.directory().join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// FRR between the clusters.
#[derive(Debug)]
pub struct Frr(pub Speaker);

impl Frr {
    /// Starts it as a route server: it passes routes on and leaves next hops
    /// alone. It must not defer its choice of paths: it forgets VPN routes that
    /// come meanwhile. `families` are FRR's names, such as "ipv4 vpn".
    pub fn start(net: &Net, namespace: &Namespace, families: &[&str]) -> Result<Option<Self>> {
        if !is_installed(BGPD, "frr") {
            return Ok(None);
        }
        let mut config = format!(
            "router bgp {MIDDLE_ASN}\n bgp router-id {MIDDLE}\n no bgp ebgp-requires-policy\n \
             no bgp default ipv4-unicast\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n \
             bgp graceful-restart select-defer-time 0\n no bgp network import-check\n"
        );
        for (speaker, asn) in SPEAKERS.iter().zip(ASNS) {
            writeln!(config, " neighbor {speaker} remote-as {asn}")?;
        }
        for family in families {
            writeln!(config, " address-family {family}")?;
            for speaker in SPEAKERS {
                writeln!(config, "  neighbor {speaker} activate")?;
                writeln!(config, "  neighbor {speaker} attribute-unchanged next-hop")?;
            }
            writeln!(config, " exit-address-family")?;
        }
        Self::run(net, namespace, &config)
    }

    /// Starts it as a route reflector of the first cluster: all its neighbours are
    /// speakers of that AS, and its clients.
    pub fn start_reflector(
        net: &Net,
        namespace: &Namespace,
        families: &[&str],
        clients: &[&str],
    ) -> Result<Option<Self>> {
        if !is_installed(BGPD, "frr") {
            return Ok(None);
        }
        let asn = ASNS[0];
        let mut config = format!(
            "router bgp {asn}\n bgp router-id {MIDDLE}\n no bgp default ipv4-unicast\n \
             bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n \
             bgp graceful-restart select-defer-time 0\n"
        );
        for client in clients {
            writeln!(config, " neighbor {client} remote-as {asn}")?;
        }
        for family in families {
            writeln!(config, " address-family {family}")?;
            for client in clients {
                writeln!(config, "  neighbor {client} activate")?;
                writeln!(config, "  neighbor {client} route-reflector-client")?;
            }
            writeln!(config, " exit-address-family")?;
        }
        Self::run(net, namespace, &config)
    }

    fn run(net: &Net, namespace: &Namespace, config: &str) -> Result<Option<Self>> {
        let file = write(net, "bgpd.conf", config)?;
        let mut command = namespace.command(BGPD);
        // No zebra: nothing is installed in any kernel.
        command.args(["-n", "-Z", "-S", "-p", "179", "-P", "0", "-f"]).arg(&file);
        command.arg("-i").arg(net.directory().join("bgpd.pid"));
        command.arg("--vty_socket").arg(net.directory());
        let speaker = Speaker::start(net, namespace, "frr", command)?;
        speaker.wait_until_listening()?;
        Ok(Some(Self(speaker)))
    }

    /// What one of its `show` commands says, in JSON.
    pub fn show(&self, what: &str) -> Result<Value> {
        let said = self.tell(&[&format!("show {what} json")])?;
        serde_json::from_str(&said).with_context(|| format!("show {what} printed no JSON: {said}"))
    }

    /// Announces an IPv4 prefix of its own, or does not any more.
    pub fn announces(&self, prefix: &str, announces: bool) -> Result<()> {
        let bgp = format!("router bgp {MIDDLE_ASN}");
        let network = format!("{}network {prefix}", if announces { "" } else { "no " });
        self.tell(&["configure terminal", &bgp, "address-family ipv4 unicast", &network]).map(drop)
    }

    fn tell(&self, commands: &[&str]) -> Result<String> {
        let mut command = self.0.namespace.command("vtysh");
        command.arg("--vty_socket").arg(&self.0.directory).args(["-d", "bgpd"]);
        run(command.args(commands.iter().flat_map(|one| ["-c", one])))
    }
}

/// GoBGP between the clusters.
#[derive(Debug)]
pub struct GoBgp(pub Speaker);

impl GoBgp {
    /// Starts it as a route server: it leaves next hops and AS paths alone.
    /// `families` are GoBGP's names, such as "l3vpn-ipv4-unicast".
    pub fn start(net: &Net, namespace: &Namespace, families: &[&str]) -> Result<Option<Self>> {
        if !is_installed("gobgpd", "gobgpd") {
            return Ok(None);
        }
        let mut config = format!("[global.config]\nas = {MIDDLE_ASN}\nrouter-id = \"{MIDDLE}\"\n");
        for (speaker, asn) in SPEAKERS.iter().zip(ASNS) {
            write!(
                config,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{speaker}\"\npeer-as = {asn}\n\
                 [neighbors.route-server.config]\nroute-server-client = true\n\
                 [neighbors.timers.config]\nconnect-retry = 1\n"
            )?;
            for family in families {
                write!(
                    config,
                    "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"
                )?;
            }
        }
        let file = write(net, "gobgpd.toml", &config)?;
        let mut command = namespace.command("gobgpd");
        command.args(["--log-plain", "--api-hosts", "127.0.0.1:50051", "-f"]).arg(&file);
        let speaker = Speaker::start(net, namespace, "gobgp", command)?;
        speaker.wait_until_listening()?;
        Ok(Some(Self(speaker)))
    }
}

/// BIRD in the middle, as the source of routes.
#[derive(Debug)]
pub struct Bird {
    speaker: Speaker,
    config: PathBuf,
}

/// What BIRD is told.
#[derive(Debug, Clone, Copy)]
pub struct BirdConfig<'a> {
    /// Sessions with the first cluster's controller, all with TTL security.
    pub sessions: &'a [BirdSession],
    /// VPN routes: RD, prefix, label, route target as "64999, 7".
    pub routes: &'a [(&'a str, &'a str, u32, &'a str)],
    /// Where these lead: an address on the network for BGP.
    pub next_hop: &'a str,
}

/// One session of BIRD.
#[derive(Debug, Clone, Copy)]
pub struct BirdSession {
    /// Its name in BIRD's answers.
    pub name: &'static str,
    /// BIRD's address in it.
    pub address: &'static str,
    /// BIRD's AS number in it.
    pub asn: u32,
    /// The key of TCP MD5.
    pub password: &'static str,
}

impl BirdConfig<'_> {
    fn text(&self) -> String {
        let mut text = format!(
            "log stderr all;\nrouter id {MIDDLE};\nvpn4 table known;\nprotocol device {{}}\n\
             protocol static sources {{\n  vpn4 {{ table known; }};\n"
        );
        for (rd, prefix, label, target) in self.routes {
            text += &format!(
                "  route {rd} {prefix} via {} mpls {label} {{ bgp_ext_community.add((rt, {target})); }};\n",
                self.next_hop
            );
        }
        text += "}\n";
        for BirdSession { name, address, asn, password } in self.sessions {
            text += &format!(
                "protocol bgp {name} {{\n  local {address} as {asn};\n  neighbor {} as {};\n  \
                 strict bind yes; password \"{password}\"; ttl security on;\n  \
                 connect retry time 1; connect delay time 1; error wait time 1, 2;\n  \
                 vpn4 mpls {{ table known; import all; export where source = RTS_STATIC; gateway recursive; }};\n}}\n",
                SPEAKERS[0], ASNS[0],
            );
        }
        text
    }
}

impl Bird {
    /// Starts it.
    pub fn start(net: &Net, namespace: &Namespace, config: BirdConfig<'_>) -> Result<Option<Self>> {
        if !is_installed("bird", "bird2") {
            return Ok(None);
        }
        let file = write(net, "bird.conf", &config.text())?;
        let mut command = namespace.command("bird");
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(net.directory().join("bird.ctl"));
        command.arg("-P").arg(net.directory().join("bird.pid"));
        let bird = Self { speaker: Speaker::start(net, namespace, "bird", command)?, config: file };
        eventually(START_LIMIT, || bird.ask("show status").map(drop))?;
        Ok(Some(bird))
    }

    /// Gives it another configuration.
    pub fn configure(&self, config: BirdConfig<'_>) -> Result<()> {
        fs::write(&self.config, config.text())?;
        let said = self.ask("configure")?;
        ensure!(said.contains("Reconfigur"), "BIRD refuses its configuration: {said}");
        Ok(())
    }

    /// What it answers to a command of `birdc`.
    pub fn ask(&self, words: &str) -> Result<String> {
        let mut command = self.speaker.namespace.command("birdc");
        command.arg("-s").arg(self.speaker.directory.join("bird.ctl")).args(words.split(' '));
        let finished = finish(&mut command, "")?;
        ensure!(finished.status.success(), "birdc {words}: {}{}", finished.stdout, finished.stderr);
        Ok(finished.stdout)
    }
}

/// ExaBGP in the middle: announces whatever it is told to.
#[derive(Debug)]
pub struct ExaBgp(pub Speaker);

impl ExaBgp {
    /// Starts it with static routes, in its own words, towards the first
    /// cluster's controller.
    pub fn start(net: &Net, namespace: &Namespace, routes: &[&str]) -> Result<Option<Self>> {
        if !is_installed("exabgp", "exabgp") {
            return Ok(None);
        }
        let mut config = format!(
            "neighbor {} {{\n  router-id {MIDDLE};\n  local-address {MIDDLE};\n  local-as {MIDDLE_ASN};\n  \
             peer-as {};\n  family {{ ipv4 mpls-vpn; }}\n  static {{\n",
            SPEAKERS[0], ASNS[0]
        );
        for route in routes {
            writeln!(config, "    route {route};")?;
        }
        config += "  }\n}\n";
        let file = write(net, "exabgp.conf", &config)?;
        let mut command = namespace.command("exabgp");
        command.arg(&file).env("exabgp.daemon.user", "root").env("exabgp.api.cli", "false");
        let mut speaker = Speaker::start(net, namespace, "exabgp", command)?;
        speaker.process.wait_for("loaded new configuration successfully", START_LIMIT)?;
        Ok(Some(Self(speaker)))
    }
}
