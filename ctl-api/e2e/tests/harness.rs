//! The harness itself, without any gateway: hosts on a plain wire. What fails
//! here says that the machine, not Tieline, is at fault.

use std::time::Duration;

use anyhow::{Result, ensure};
use tieline_e2e::{Capture, Host, Namespace, Net, Steps, scenario::run_scenario};

fn host(namespace: Namespace) -> Result<Host> {
    namespace.plain_frames("eth0")?;
    namespace.ip("link set eth0 up")?;
    Ok(Host { namespace, device: "eth0".to_owned() })
}

fn hosts_on_a_wire(_workers: usize, steps: &mut Steps) -> Result<()> {
    let mut net = Net::new()?;
    let (a, b) = (net.namespace("a")?, net.namespace("b")?);
    net.wire((&a, "eth0"), (&b, "eth0"))?;
    let (a, b) = (host(a)?, host(b)?);
    for (host, number) in [(&a, 1), (&b, 2)] {
        host.address(&format!("10.0.0.{number}/24"))?;
        host.address(&format!("2001:db8::{number}/64"))?;
    }

    steps.check("pings", || {
        a.reaches("10.0.0.2")?;
        a.reaches("2001:db8::2")?;
        a.pings_lossless("10.0.0.2", 20)?;
        ensure!(a.reply_ttl("10.0.0.2")? == 64, "a fresh TTL is 64");
        a.does_not_reach("10.0.0.3")
    });
    steps.check("TCP", || {
        let _server = b.serve_tcp("0.0.0.0:80")?;
        a.exchange("10.0.0.2:80", 1_000_000)?;
        a.connect("10.0.0.2:80")?;
        a.cannot_connect("10.0.0.2:81")?;
        let mut echo = a.echo("10.0.0.2:80")?;
        echo.moves(Duration::from_secs(3))?;
        b.namespace.ip("link set eth0 down")?;
        echo.stands_still()?;
        b.namespace.ip("link set eth0 up")?;
        echo.moves(Duration::from_secs(5))
    });
    steps.check("UDP", || {
        let _server = b.serve_udp("[::]:53")?;
        ensure!(a.udp("10.0.0.2:53", 4000, 3)? == 3, "three datagrams in fragments");
        ensure!(a.udp_flows("10.0.0.2:53", 5, 2, 100)? == 10, "ten datagrams");
        ensure!(a.udp("10.0.0.2:54", 10, 1)? == 0, "nobody listens there");
        Ok(())
    });
    steps.check("captures", || {
        let capture = Capture::start(&net, &b.namespace, "eth0", "icmp")?;
        a.reaches("10.0.0.2")?;
        let packets = capture.stop()?;
        let found = packets.fields("icmp.type == 8", &["ip.src", "ip.ttl", "ip.checksum.status"])?;
        ensure!(found.first().is_some_and(|row| row == &["10.0.0.1", "64", "1"]), "{found:?}");
        ensure!(packets.count("tcp")? == 0, "the filter was icmp");
        Ok(())
    });
    steps.check("VLAN devices, one tag and two", || {
        for (device, outer, inner) in [("tag", 10, None), ("tags", 100, Some(200))] {
            let (a, _a) = a.tagged(device, outer, inner)?;
            let (b, _b) = b.tagged(device, outer, inner)?;
            a.address(&format!("10.{outer}.0.1/24"))?;
            b.address(&format!("10.{outer}.0.2/24"))?;
            a.reaches(&format!("10.{outer}.0.2"))?;
        }
        Ok(())
    });
    steps.check("random frames", || {
        let mut fuzz = a.fuzz(1, 7, "02:00:00:00:00:99", &["10.0.0.1", "10.0.0.2"])?;
        let sent = fuzz.wait_for("sent", Duration::from_secs(5))?;
        ensure!(sent != "sent 0", "no frame was sent");
        b.namespace.ip("link show eth0")
    });
    Ok(())
}

#[test]
fn the_tools_can_be_trusted() {
    run_scenario("hosts_on_a_wire", 0, hosts_on_a_wire);
}
