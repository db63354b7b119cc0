//! Two controllers of each cluster at once, with etcd between those of one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tieline_e2e::federation::clusters::{ASNS, NAMES, SECOND_SPEAKERS, SPEAKERS};
use tieline_e2e::federation::etcd::Etcd;
use tieline_e2e::federation::intent::{self, USER_TARGET};
use tieline_e2e::federation::{Clusters, clusters};
use tieline_e2e::gateway::number;
use tieline_e2e::scenario::run_scenario;
use tieline_e2e::{Steps, eventually};

/// Longer than a session takes to come up again after a controller did.
const LIMIT: Duration = Duration::from_secs(20);

/// Two and two controllers, fully meshed.
fn intent(clusters: &Clusters, targets: [Option<&str>; 2]) -> String {
    let mut text = clusters.clusters(true) + &clusters.networks(targets);
    for (at, other) in [(0, 1), (1, 0)] {
        for (name, speakers) in [("c1", SPEAKERS), ("c2", SECOND_SPEAKERS)] {
            let name = format!("{}-{name}", NAMES[other]);
            text += &intent::peer(NAMES[at], &name, speakers[other], ASNS[other], "vpnv4, vpnv6", "");
        }
    }
    text
}

/// Each gateway holds the same of both controllers of its cluster, declared in
/// the sessions that stand: whichever dies, the other's is there.
fn both_have_declared(clusters: &Clusters) -> Result<()> {
    eventually(LIMIT, || {
        for gateway in &clusters.gateways {
            let controllers = gateway.tlctl("controllers")?;
            let all = controllers.as_array().context("a list of controllers")?;
            let of = |one: &Value| (number(&one["held"]), number(&one["stale"]), one["connected"] == true);
            let federation =
                |one: &&Value| one["name"].as_str().is_some_and(|name| name.starts_with("federation/"));
            let figures: Vec<_> = all.iter().filter(federation).map(of).collect();
            // A VRF, an interface, a next hop, and a route of each address family.
            ensure!(figures == [(5, 0, true); 2], "{}: {controllers}", gateway.namespace.role());
        }
        Ok(())
    })
}

fn controllers_die(_: usize, steps: &mut Steps) -> Result<()> {
    let mut clusters = Clusters::new(1)?;
    let Some(mut etcd) = Etcd::start(&clusters.net, &clusters.middle, clusters::MIDDLE)? else {
        return Ok(());
    };
    let joined = intent(&clusters, [Some(USER_TARGET); 2]);
    clusters.start_pairs(&etcd.url, &joined)?;
    steps.check("C2: two controllers a side, fully meshed, join the clusters", || {
        clusters.reach_each_other()?;
        both_have_declared(&clusters)
    });
    for (dies, name) in [(0, "c1"), (2, "c2")] {
        steps.check(&format!("C2: {name} of both clusters dies, and no route and no packet is lost"), || {
            clusters.controllers[dies].kill()?;
            clusters.controllers[dies + 1].kill()?;
            clusters.hosts[0].pings_lossless("10.2.0.9", 100)?;
            clusters.route_is_direct()
        });
        steps.check(&format!("C2: {name} comes back, and still none is"), || {
            std::thread::scope(|scope| {
                let host = &clusters.hosts[0];
                let pings = scope.spawn(|| host.pings_lossless("10.2.0.9", 200));
                clusters.controllers[dies].start_again()?;
                clusters.controllers[dies + 1].start_again()?;
                pings.join().map_err(|_| anyhow::anyhow!("the pings panicked"))?
            })?;
            both_have_declared(&clusters)
        });
    }
    steps.check("C4: removed at one controller, both of the cluster withdraw", || {
        clusters.controllers[3].apply(&intent(&clusters, [Some(USER_TARGET), None]))?;
        clusters.are_apart()?;
        clusters.controllers[1].apply(&joined)?;
        clusters.reach_each_other()
    });
    steps.check("K10: etcd dies: an apply is refused with the reason, and forwarding is untouched", || {
        etcd.kill()?;
        let refused = clusters.controllers[1].apply(&intent(&clusters, [Some(USER_TARGET), None]));
        let reason = format!("{:#}", refused.err().context("it was accepted")?);
        ensure!(reason.contains("etcd"), "{reason}");
        clusters.hosts[0].pings_lossless("10.2.0.9", 100)
    });
    steps.check("K10: it comes back, and writes resume", || {
        etcd.start_again()?;
        eventually(LIMIT, || {
            clusters.controllers[1].apply(&intent(&clusters, [Some(USER_TARGET), None])).map(drop)
        })?;
        clusters.are_apart()
    });
    steps.check("the books balance", || clusters.check_balance());
    Ok(())
}

#[test]
fn etcd() {
    run_scenario("controllers_die", 1, controllers_die);
}
