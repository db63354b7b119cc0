//! A workload: a namespace behind a wire to its gateway.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{Background, Finished, binary, finish, run};
use crate::net::{Namespace, Net};
use crate::scenario::eventually;

const TRAFFIC: &str = "tieline-e2e-traffic";
/// For what needs a neighbour or a route first.
const SETTLE: Duration = Duration::from_secs(5);

/// A workload.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its network device.
    pub device: String,
}

impl Host {
    /// A host with device `eth0`, wired to `port` in the gateway's namespace.
    pub fn wired(net: &mut Net, role: &str, gateway: &Namespace, port: &str, mac: &str) -> Result<Self> {
        let namespace = net.namespace(role)?;
        Self::connect_wire(net, &namespace, gateway, port, mac)?;
        Ok(Self { namespace, device: "eth0".to_owned() })
    }

    /// Takes its wire out of the world, with both ends.
    pub fn unwire(&self) -> Result<()> {
        self.namespace.ip(&format!("link delete {}", self.device))
    }

    /// Gives a host whose wire was taken away a new one to the same port.
    pub fn rewire(&self, net: &Net, gateway: &Namespace, port: &str, mac: &str) -> Result<()> {
        Self::connect_wire(net, &self.namespace, gateway, port, mac)
    }

    fn connect_wire(
        net: &Net,
        namespace: &Namespace,
        gateway: &Namespace,
        port: &str,
        mac: &str,
    ) -> Result<()> {
        net.wire((namespace, "eth0"), (gateway, port))?;
        namespace.ip(&format!("link set eth0 address {mac}"))?;
        namespace.plain_frames("eth0")?;
        namespace.ip("link set eth0 up")?;
        gateway.give_to_gateway(port)
    }

    /// Gives it an address with a length.
    pub fn address(&self, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.namespace.ip(&format!("address add {address} dev {} {nodad}", self.device))
    }

    /// Sends everything to the gateway at `address`.
    pub fn default_route(&self, address: &str) -> Result<()> {
        let family = if address.contains(':') { "-6" } else { "-4" };
        self.namespace.ip(&format!("{family} route replace default via {address} dev {}", self.device))
    }

    /// Runs `ping` with options and returns how it ended.
    pub fn ping_with(&self, destination: &str, options: &str) -> Result<Finished> {
        let mut command = self.namespace.command("ping");
        command.args(["-n", "-W", "1"]).args(options.split_whitespace()).arg(destination);
        finish(&mut command, "")
    }

    /// It must reach `destination` within some seconds.
    pub fn reaches(&self, destination: &str) -> Result<()> {
        eventually(SETTLE, || {
            let ping = self.ping_with(destination, "-c 1")?;
            ensure!(ping.status.success(), "{} does not reach {destination}", self.namespace.role());
            Ok(())
        })
    }

    /// Three pings must all stay without an answer.
    pub fn does_not_reach(&self, destination: &str) -> Result<()> {
        let ping = self.ping_with(destination, "-c 3 -i 0.2")?;
        ensure!(!ping.status.success(), "{} reaches {destination}", self.namespace.role());
        Ok(())
    }

    /// `count` pings, 10 ms apart, must all be answered.
    pub fn pings_lossless(&self, destination: &str, count: u32) -> Result<()> {
        let ping = self.ping_with(destination, &format!("-q -i 0.01 -c {count}"))?;
        ensure!(ping.stdout.contains(" 0% packet loss"), "{destination}: {}", ping.stdout.trim());
        Ok(())
    }

    /// TTL or hop limit of the reply to a ping.
    pub fn reply_ttl(&self, destination: &str) -> Result<u8> {
        let ping = self.ping_with(destination, "-c 1")?.stdout;
        let ttl = ping.split("ttl=").nth(1).and_then(|rest| rest.split_whitespace().next());
        ttl.with_context(|| format!("ping shows no TTL: {ping}"))?.parse().context("a TTL")
    }

    /// The traffic tool inside this host.
    fn traffic(&self, arguments: &[&str]) -> Result<std::process::Command> {
        let mut command = self.namespace.command(binary(TRAFFIC)?);
        command.args(arguments);
        Ok(command)
    }

    fn start_traffic(&self, arguments: &[&str]) -> Result<Background> {
        let mut tool = Background::start(&mut self.traffic(arguments)?, Stdio::null())?;
        tool.wait_for("ready", SETTLE)?;
        Ok(tool)
    }

    /// A TCP server for [`Host::exchange`], [`Host::connect`] and [`Host::echo`].
    pub fn serve_tcp(&self, socket: &str) -> Result<Background> {
        self.start_traffic(&["tcp-serve", socket])
    }

    /// A UDP server that sends everything back.
    pub fn serve_udp(&self, socket: &str) -> Result<Background> {
        self.start_traffic(&["udp-serve", socket])
    }

    /// Sends `bytes` over TCP, receives as many, and compares every byte of both.
    pub fn exchange(&self, socket: &str, bytes: u64) -> Result<()> {
        run(&mut self.traffic(&["exchange", socket, &bytes.to_string()])?).map(drop)
    }

    /// Whether a TCP connection opens within a second.
    pub fn connects(&self, socket: &str) -> Result<bool> {
        Ok(finish(&mut self.traffic(&["connect", socket])?, "")?.status.success())
    }

    /// A TCP connection must open within some seconds.
    pub fn connect(&self, socket: &str) -> Result<()> {
        eventually(SETTLE, || {
            ensure!(self.connects(socket)?, "{} cannot connect to {socket}", self.namespace.role());
            Ok(())
        })
    }

    /// A TCP connection must not open.
    pub fn cannot_connect(&self, socket: &str) -> Result<()> {
        ensure!(!self.connects(socket)?, "{} can connect to {socket}", self.namespace.role());
        Ok(())
    }

    /// A TCP connection that carries a counter to and fro until it is dropped.
    pub fn echo(&self, socket: &str) -> Result<Echo> {
        let process = self.start_traffic(&["echo", socket])?;
        Ok(Echo { process, newest: 0 })
    }

    /// Sends `count` datagrams of `size` bytes one after the other and returns
    /// how many came back.
    pub fn udp(&self, socket: &str, size: usize, count: u32) -> Result<u32> {
        self.udp_flows(socket, 1, count, size)
    }

    /// As [`Host::udp`], from `flows` sockets.
    pub fn udp_flows(&self, socket: &str, flows: u32, each: u32, size: usize) -> Result<u32> {
        let figures = [flows.to_string(), each.to_string(), size.to_string()];
        let printed = run(&mut self.traffic(&["udp", socket, &figures[0], &figures[1], &figures[2]])?)?;
        let returned = printed.split_whitespace().next_back();
        returned.context("the traffic tool printed nothing")?.parse().context("a count")
    }

    /// UDP must pass.
    pub fn udp_passes(&self, socket: &str) -> Result<()> {
        eventually(SETTLE, || {
            ensure!(self.udp(socket, 64, 1)? == 1, "no answer from {socket} over UDP");
            Ok(())
        })
    }

    /// Sends random, mutated and valid frames for some seconds. `argument` are
    /// the MAC, then pairs of source and destination addresses.
    pub fn fuzz(&self, seconds: u32, seed: u64, mac: &str, pairs: &[&str]) -> Result<Background> {
        let (seconds, seed) = (seconds.to_string(), seed.to_string());
        let mut arguments = vec!["fuzz", self.device.as_str(), seconds.as_str(), seed.as_str(), mac];
        arguments.extend(pairs);
        self.start_traffic(&arguments)
    }

    /// A device of the kernel behind one or two VLAN tags of this host's wire.
    /// It exists until the returned process ends.
    pub fn tagged(&self, device: &str, outer: u16, inner: Option<u16>) -> Result<(Self, Background)> {
        let (outer, inner) = (outer.to_string(), inner.unwrap_or(0).to_string());
        let process = self.start_traffic(&["vlan", &self.device, device, &outer, &inner])?;
        Ok((Self { namespace: self.namespace.clone(), device: device.to_owned() }, process))
    }
}

/// A TCP connection that carries a counter to and fro.
#[derive(Debug)]
pub struct Echo {
    process: Background,
    newest: u64,
}

impl Echo {
    /// The last number that came back.
    pub fn newest(&mut self) -> u64 {
        if let Some(number) = self.process.newest_line().and_then(|line| line.parse().ok()) {
            self.newest = number;
        }
        self.newest
    }

    /// Numbers must come back within `limit`.
    pub fn moves(&mut self, limit: Duration) -> Result<()> {
        let before = self.newest();
        eventually(limit, || {
            if !self.process.is_alive() {
                bail!("the connection was closed");
            }
            ensure!(self.newest() > before, "nothing came back after {before}");
            Ok(())
        })
    }

    /// Nothing must come back for a second, after what is on its way has come.
    pub fn stands_still(&mut self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(300));
        let before = self.newest();
        std::thread::sleep(Duration::from_secs(1));
        ensure!(self.newest() == before, "the connection still carries data");
        Ok(())
    }
}
