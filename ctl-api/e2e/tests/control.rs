//! What operators rely on when they change or restart a gateway that forwards:
//! it comes back as it was, and it says beforehand what a change would do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tieline_e2e::gateway::number;
use tieline_e2e::sites::{Underlay, routes};
use tieline_e2e::{Sites, Steps, Tenant, eventually, with_one_and_two_workers};

fn forwarding_is_back_without_a_controller(workers: usize, steps: &mut Steps) -> Result<()> {
    let mut sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.filter_blue()?;
    let _server = sites.blue[1].serve_tcp("10.2.0.10:80")?;
    sites.blue[0].connect("10.2.0.10:80")?;
    let before = sites.gateways[0].tlctl("routes --vrf red")?;

    steps.check("X3: killed and started again, it forwards before anyone programs it", || {
        sites.gateways[0].crash_and_start()?;
        // Neither tlctl nor a controller has been there.
        for tenant in Tenant::BOTH {
            let [first, second] = sites.hosts(tenant);
            first.reaches("10.2.0.10")?;
            second.reaches("10.1.0.10")?;
        }
        sites.blue[0].connect("10.2.0.10:80")
    });
    steps.check("X3: security groups are in force, too", || {
        let _other = sites.blue[1].serve_tcp("10.2.0.10:81")?;
        sites.blue[0].cannot_connect("10.2.0.10:81")
    });
    steps.check("X3: the tables are what they were", || {
        let after = sites.gateways[0].tlctl("routes --vrf red")?;
        ensure!(after == before, "before: {before}\nafter: {after}");
        Ok(())
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

/// What a dry run says of a VRF: routes added, changed, removed, and sessions.
fn dry_run(sites: &Sites, yaml: &str, vrf: &str) -> Result<(u64, u64, u64, u64)> {
    let arguments = ["apply", "--dry-run", "-f", "-", "-o", "json"];
    let finished = sites.gateways[0].tlctl_finish(&arguments, yaml)?;
    ensure!(finished.status.success(), "tlctl ended with {}: {}", finished.status, finished.stderr);
    let said: serde_json::Value =
        serde_json::from_str(&finished.stdout).with_context(|| format!("no JSON: {}", finished.stdout))?;
    let vrfs = said["vrfs"].as_array().with_context(|| format!("no VRFs: {said}"))?;
    let of = vrfs.iter().find(|of| of["vrf"] == vrf).with_context(|| format!("not {vrf}: {said}"))?;
    let count = |name: &str| number(&of[name]);
    Ok((count("routes_added"), count("routes_changed"), count("routes_removed"), count("sessions")))
}

fn a_dry_run_foretells_and_changes_nothing(workers: usize, steps: &mut Steps) -> Result<()> {
    let sites = Sites::start(workers)?;
    sites.connect(Underlay::V4, "mpls_udp")?;
    sites.filter_blue()?;
    let _server = sites.blue[1].serve_tcp("10.2.0.10:80")?;
    let mut echo = sites.blue[0].echo("10.2.0.10:80")?;
    echo.moves(Duration::from_secs(5))?;
    // Blue's routes lose their route target: blue at this site imports them no more.
    let moved = routes(2, Tenant::Blue, ", security_groups: [100]").replace("64512:8000002", "64512:8000009");

    steps.check("X5: the routes and the sessions that a change would take are told", || {
        // Workers tell how many sessions they have a few times a second.
        eventually(Duration::from_secs(5), || {
            let (added, changed, removed, sessions) = dry_run(&sites, &moved, "blue")?;
            let told = format!("{added} added, {changed} changed, {removed} removed, {sessions} sessions");
            ensure!((added, changed, removed) == (0, 0, 2) && sessions >= 1, "{told}");
            Ok(())
        })
    });
    steps.check("X5: nothing has changed: the connection goes on, and pings pass", || {
        echo.moves(Duration::from_secs(5))?;
        sites.blue[0].reaches("10.2.0.10")
    });
    steps.check("X5: done in earnest, it is what was said", || {
        sites.gateways[0].apply(&moved)?;
        ensure!(sites.gateways[0].route("blue", "10.2.0.0/22")?.is_none(), "the route is still there");
        echo.stands_still()?;
        sites.blue[0].does_not_reach("10.2.0.10")
    });
    steps.check("X5: a new route is told as one, and comes", || {
        let back = routes(2, Tenant::Blue, ", security_groups: [100]");
        let (added, changed, removed, _) = dry_run(&sites, &back, "blue")?;
        ensure!(
            (added, changed, removed) == (2, 0, 0),
            "{added} added, {changed} changed, {removed} removed"
        );
        sites.gateways[0].apply(&back)?;
        sites.blue[0].reaches("10.2.0.10")
    });
    steps.check("the books balance", || sites.check_balance());
    Ok(())
}

with_one_and_two_workers!(forwarding_is_back_without_a_controller);
with_one_and_two_workers!(a_dry_run_foretells_and_changes_nothing);
