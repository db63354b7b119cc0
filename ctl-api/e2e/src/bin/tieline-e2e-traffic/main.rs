//! Traffic for the end-to-end tests, run inside of namespaces.
//!
//! - [`tcp`]: a server, verified transfers, a counter that goes to and fro
//! - [`udp`]: a server and flows of datagrams
//! - [`fuzz`]: random and mutated frames
//! - [`vlan`]: a TAP behind VLAN tags, for kernels without VLAN devices
//! - [`raw`]: raw Ethernet sockets
//!
//! What runs until it is killed prints `ready` first.
#![expect(clippy::print_stdout, reason = "standard output is how this tool talks to the tests")]

mod fuzz;
mod raw;
mod tcp;
mod udp;
mod vlan;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: tieline-e2e-traffic tcp-serve|connect|echo|udp-serve ADDRESS:PORT
       tieline-e2e-traffic exchange ADDRESS:PORT BYTES
       tieline-e2e-traffic udp ADDRESS:PORT FLOWS EACH SIZE
       tieline-e2e-traffic fuzz DEVICE SECONDS SEED MAC [SOURCE DESTINATION]...
       tieline-e2e-traffic vlan DEVICE TAP OUTER INNER";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match carry_out(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(words: &[&str]) -> Result<()> {
    match words {
        ["tcp-serve", socket] => tcp::serve(socket),
        ["connect", socket] => tcp::connect(socket).map(drop),
        ["exchange", socket, bytes] => tcp::exchange(socket, bytes.parse().context("BYTES")?),
        ["echo", socket] => tcp::echo(socket),
        ["udp-serve", socket] => udp::serve(socket),
        ["udp", socket, flows, each, size] => {
            let returned = udp::flows(
                socket,
                flows.parse().context("FLOWS")?,
                each.parse().context("EACH")?,
                size.parse().context("SIZE")?,
            )?;
            println!("returned {returned}");
            Ok(())
        }
        ["fuzz", device, seconds, seed, mac, addresses @ ..] => {
            let own = std::fs::read_to_string(format!("/sys/class/net/{device}/address"))
                .with_context(|| format!("there is no device {device}"))?;
            let plan = fuzz::Plan::parse(mac, &own, addresses)?;
            fuzz::run(device, seconds.parse().context("SECONDS")?, seed.parse().context("SEED")?, &plan)
        }
        ["vlan", device, tap, outer, inner] => {
            vlan::run(device, tap, outer.parse().context("OUTER")?, inner.parse().context("INNER")?)
        }
        _ => bail!("{USAGE}"),
    }
}
