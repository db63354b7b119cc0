//! Two clusters, each with its own controller and gateway, joined over BGP.

use anyhow::{Result, ensure};
use tieline_e2e::federation::intent::USER_TARGET;
use tieline_e2e::federation::{Clusters, Controller, Hub};
use tieline_e2e::{Steps, with_one_and_two_workers};

/// The way to other gateways, as its operator declares it at the first.
const FABRIC: &str =
    r#"interface: {name: fabric, port: fabric, vrf: underlay, local_addresses: ["198.18.0.1/24"]}"#;

fn clusters_join_over_bgp(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(workers)?;
    clusters.start_controllers(&clusters.joined(Hub::None))?;
    steps.check("C4, C13: networks that share a user route target reach each other, IPv4 and IPv6", || {
        clusters.reach_each_other()
    });
    steps.check("N1: both controllers are killed, and not a packet is lost", || {
        clusters.controllers.iter_mut().try_for_each(Controller::kill)?;
        clusters.hosts[0].pings_lossless("10.2.0.9", 100)
    });
    steps.check("R5: they come back, and not a packet is lost", || {
        std::thread::scope(|scope| {
            let host = &clusters.hosts[0];
            let pings = scope.spawn(|| host.ping_with("10.2.0.9", "-q -i 0.01 -c 600"));
            clusters.controllers.iter_mut().try_for_each(Controller::start_again)?;
            let ping = pings.join().map_err(|_| anyhow::anyhow!("the pings panicked"))??;
            ensure!(ping.stdout.contains(" 0% packet loss"), "{}", ping.stdout.trim());
            anyhow::Ok(())
        })
    });
    steps.check("C4: removed on one side, the routes are withdrawn on both", || {
        clusters.controllers[1].apply(&clusters.intent(Hub::None, [Some(USER_TARGET), None]))?;
        clusters.are_apart()
    });
    steps.check("C4: and given back, they are there again", || {
        clusters.controllers[1].apply(&clusters.joined(Hub::None))?;
        clusters.reach_each_other()
    });
    steps.check("R3: a service's address is announced as a /32, and withdrawn with it", || {
        let (here, there) = (&clusters.gateways[0], &clusters.controllers[1]);
        clusters.hosts[1].address("10.2.0.200/24")?;
        let with_service = clusters.joined(Hub::None).replace("[10.2.0.9,", "[10.2.0.9, 10.2.0.200,");
        there.apply(&with_service)?;
        here.gets_route("10.2.0.200/32")?;
        clusters.hosts[0].reaches("10.2.0.200")?;
        there.apply(&clusters.joined(Hub::None))?;
        here.loses_route("10.2.0.200/32")?;
        clusters.hosts[0].does_not_reach("10.2.0.200")
    });
    steps.check("X6: intent, BGP and gateways agree", || {
        clusters.controllers.iter().try_for_each(|controller| controller.ask(&["audit"], "").map(drop))
    });
    steps.check("X6: a fabric that is gone is found by an audit, and no longer when it is back", || {
        let (gateway, controller) = (&clusters.gateways[0], &clusters.controllers[0]);
        gateway.delete("interface fabric")?;
        let Err(found) = controller.ask(&["audit"], "") else { anyhow::bail!("the audit finds nothing") };
        let found = found.to_string();
        ensure!(
            found.contains("gateway east-1: next_hop/bgp-198.18.0.2") && found.contains("degraded"),
            "{found}"
        );
        gateway.apply(FABRIC)?;
        controller.ask(&["audit"], "").map(drop)
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

with_one_and_two_workers!(clusters_join_over_bgp);
