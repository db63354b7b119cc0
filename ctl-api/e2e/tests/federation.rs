//! Two clusters, each with its own controller and gateway, joined over BGP.

use anyhow::{Result, ensure};
use tieline_e2e::federation::intent::USER_TARGET;
use tieline_e2e::federation::{Clusters, Controller, Hub};
use tieline_e2e::{Steps, with_one_and_two_workers};

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
    steps.check("they come back, and not a packet is lost", || {
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
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

with_one_and_two_workers!(clusters_join_over_bgp);
