//! A new daemon takes over from the one that runs: connections go on, and what
//! is lost is measured.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::gateway::{AF_XDP, number};
use tieline_e2e::sites::Underlay;
use tieline_e2e::{Gateway, Host, Sites, Steps, with_one_and_two_workers};

/// Pings that are on their way while a daemon takes over: a millisecond apart
/// while they are answered, and ten while they are not.
const PINGS: u32 = 3000;

/// Lets a daemon take over while pings are on their way, and prints how many
/// were lost.
fn take_over_under(host: &Host, destination: &str, gateway: &mut Gateway) -> Result<()> {
    take_over_by(Gateway::take_over, host, destination, gateway)
}

/// As [`take_over_under`], by this way of taking over.
fn take_over_by(
    take_over: fn(&mut Gateway) -> Result<String>,
    host: &Host,
    destination: &str,
    gateway: &mut Gateway,
) -> Result<()> {
    let ping = std::thread::scope(|scope| {
        let pings = scope.spawn(|| host.ping_with(destination, &format!("-q -i 0.001 -c {PINGS}")));
        // Some must have passed before.
        std::thread::sleep(Duration::from_millis(300));
        let said = take_over(gateway);
        let ping = pings.join().map_err(|_| anyhow::anyhow!("the pings panicked"))??;
        eprintln!("          {}", said?.split("taker: ").last().unwrap_or_default());
        anyhow::Ok(ping)
    })?;
    let before = |word: &str| -> Option<u64> {
        ping.stdout.split(word).next()?.split_whitespace().last()?.trim_start_matches('+').parse().ok()
    };
    let sent = before(" packets transmitted").context("ping tells what it sent")?;
    let received = before(" received").context("ping tells what came back")?;
    let duplicates = if ping.stdout.contains(" duplicates") { before(" duplicates").unwrap_or(0) } else { 0 };
    let lost = sent.saturating_sub(received);
    eprintln!("          {lost} of {sent} pings lost; {duplicates} twice");
    ensure!(received > sent / 2, "most pings were lost: {}", ping.stdout.trim());
    Ok(())
}

/// Packets that the session of a TCP connection has counted.
fn counted(gateway: &Gateway) -> Result<u64> {
    let sessions = gateway.tlctl("sessions --vrf blue")?;
    let list = sessions["sessions"].as_array().context("a list of sessions")?;
    let tcp =
        list.iter().find(|session| session["destination_port"] == 80 && session["state"] == "established");
    let tcp = tcp.with_context(|| format!("no established session to port 80: {sessions}"))?;
    Ok(number(&tcp["forward_packets"]) + number(&tcp["reverse_packets"]))
}

fn connections_survive(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.filter_blue()?;
    let _server = sites.blue[1].serve_tcp("10.2.0.10:80")?;
    sites.blue[0].connect("10.2.0.10:80")?;
    let mut echo = sites.blue[0].echo("10.2.0.10:80")?;
    echo.moves(Duration::from_secs(5))?;
    sites.red[0].reaches("10.2.0.10")?;

    for site in [1, 2, 1] {
        steps.check(&format!("gateway {site} is taken over while a tenant pings and another talks"), || {
            let before = counted(&sites.gateways[site - 1])?;
            ensure!(before > 0, "nothing was counted");
            take_over_under(&sites.red[0], "10.2.0.10", &mut sites.gateways[site - 1])?;
            echo.moves(Duration::from_secs(10))?;
            let after = counted(&sites.gateways[site - 1])?;
            ensure!(after >= before, "the session counts on: {before}, then {after}");
            Ok(())
        });
    }
    steps.check("a call that was not allowed before is not allowed now", || {
        let _other = sites.blue[1].serve_tcp("10.2.0.10:81")?;
        sites.blue[0].cannot_connect("10.2.0.10:81")
    });
    steps.check("the new daemons are programmed like the old ones", || {
        sites.gateways[0].apply(r#"next_hop: {name: nowhere, discard: {}}"#)?;
        sites.gateways[0].delete("next-hop nowhere")
    });
    steps.check("the books balance", || sites.check_balance());
    steps.check("they stop in order", || sites.gateways.iter_mut().try_for_each(|gateway| gateway.stop()));
    Ok(())
}

/// A virtual machine at gateway 1, played by gateway 2: vhost-user here,
/// virtio there, and a host behind gateway 1 that knows the way.
fn attach_machine(sites: &Sites, host: &Host) -> Result<()> {
    let socket = sites.net.directory().join("machine.sock");
    let socket = socket.display();
    let end = |name: &str, device: &str, vrf: &str, address: u8, more: &str| {
        format!(
            r#"
port: {{name: {name}, device: "{device}", role: tenant}}
---
interface: {{name: {name}, port: {name}, vrf: {vrf}, local_addresses: ["10.63.0.{address}/24"], anti_spoofing_disabled: true}}
{more}"#
        )
    };
    let back = end("machine", &format!("net_vhost0,iface={socket},client=1"), "red", 1, "");
    let way = r#"---
vrf: {name: machine, rd: "64512:63"}
---
next_hop: {name: host, interface: {interface: virtio, address: 10.63.0.1}}
---
static_route: {vrf: machine, prefix: 10.61.0.0/24, next_hop: host}
"#;
    let front = end("virtio", &format!("net_virtio_user0,path={socket},server=1"), "machine", 2, way);
    // The front end is there once the back end has connected, which goes on
    // when it is declared.
    let [gateway, machine] = &sites.gateways;
    gateway.apply(&back)?;
    machine.apply(&front)?;
    host.namespace.ip(&format!("route add 10.63.0.0/24 via 10.61.0.1 dev {}", host.device))?;
    host.reaches("10.63.0.2")
}

/// A tenant port with a subnet of red.
fn attachment(name: &str, device: &str, network: u8) -> String {
    format!(
        r#"
port: {{name: {name}, device: "{device}", role: tenant}}
---
interface: {{name: {name}, port: {name}, vrf: red, local_addresses: ["10.{network}.0.1/24"]}}
"#
    )
}

fn other_devices_change_hands(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start_with(workers, AF_XDP)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.red[0].reaches("10.2.0.10")?;
    let gateway = sites.gateways[0].namespace.clone();
    let tap = Host { namespace: gateway.clone(), device: "tltap".to_owned() };
    sites.gateways[0].apply(&attachment("tap", "net_tap3,iface=tltap", 61))?;
    tap.namespace.ip("link set tltap up")?;
    tap.namespace.plain_frames("tltap")?;
    tap.address("10.61.0.10/24")?;
    tap.reaches("10.61.0.1")?;
    steps.check("a TAP keeps its interface, with its addresses", || {
        let number = || gateway.run("cat /sys/class/net/tltap/ifindex");
        let before = number()?;
        take_over_under(&tap, "10.61.0.1", &mut sites.gateways[0])?;
        ensure!(number()? == before, "it is another interface");
        tap.reaches("10.61.0.1")
    });
    let xdp = Host::wired(&mut sites.net, "afxdp", &gateway, "afxdp", "02:00:00:00:0e:02")?;
    sites.gateways[0].apply(&attachment("afxdp", "net_af_xdp0,iface=afxdp", 62))?;
    xdp.address("10.62.0.10/24")?;
    xdp.reaches("10.62.0.1")?;
    steps.check("AF_XDP", || {
        take_over_under(&xdp, "10.62.0.1", &mut sites.gateways[0])?;
        xdp.reaches("10.62.0.1")
    });
    attach_machine(&sites, &tap)?;
    for (site, end) in
        [(1, "vhost-user: the back end"), (2, "virtio-user: the front end"), (1, "vhost-user again")]
    {
        steps.check(end, || {
            let take_over = if site == 2 { Gateway::take_over_from_virtio_user } else { Gateway::take_over };
            take_over_by(take_over, &tap, "10.63.0.2", &mut sites.gateways[site - 1])?;
            tap.reaches("10.63.0.2")
        });
    }
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

with_one_and_two_workers!(connections_survive);
with_one_and_two_workers!(other_devices_change_hands);
