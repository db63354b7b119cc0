//! Peers that send what they should not: the session stands where RFC 7606 says
//! so, nothing of it reaches a gateway, and the log names it.

use anyhow::{Result, ensure};
use tieline_e2e::Steps;
use tieline_e2e::federation::clusters::{MIDDLE, MIDDLE_ASN, SPEAKERS};
use tieline_e2e::federation::intent::{self, USER_TARGET};
use tieline_e2e::federation::raw_peer::{
    OPTIONAL, OPTIONAL_TRANSITIVE, RawPeer, VpnRoute, WELL_KNOWN, attribute, label, message, update,
};
use tieline_e2e::federation::speakers::ExaBgp;
use tieline_e2e::federation::{Clusters, ControllerConfig};
use tieline_e2e::scenario::run_scenario;

/// The most routes of the peer's contract.
const MOST: u8 = 20;

/// One gateway with a network that imports the peer's route target.
fn start() -> Result<Clusters> {
    let mut clusters = Clusters::new(1)?;
    let more = format!(", passive: true, contract: {{maxRoutes: {{vpnv4: {MOST}}}}}");
    let peer = intent::peer("east", "hostile", MIDDLE, MIDDLE_ASN, "vpnv4, rtc", &more);
    let intent = clusters.east_alone(&[SPEAKERS[0]]) + &clusters.red_and_green(Some(USER_TARGET), "") + &peer;
    clusters.start_controller(0, ControllerConfig::new("east", SPEAKERS[0]), &intent)?;
    Ok(clusters)
}

/// What must not reach a gateway: prefix, what ExaBGP says of it, and what the
/// log says.
const REFUSED: [(&str, &str, &str); 11] = [
    ("10.66.1.0/24", "attribute [ 0x99 0x40 0x01 ]", "well-known attribute that is not known"),
    ("10.66.2.0/24", "attribute [ 0x08 0xc0 0x010203 ]", "COMMUNITIES is not a list of four bytes each"),
    ("10.66.3.0/24", "label 3", "label is reserved"),
    ("10.66.4.0/24", "label 0", "label is reserved"),
    ("10.66.5.0/24", "next-hop 198.18.9.1", "the next hop is this speaker"),
    ("10.66.6.0/24", "next-hop 127.0.0.1", "the next hop is no address of a host"),
    ("10.66.7.0/24", "as-path [ 64999 64512 64998 ]", "own AS in the path"),
    ("10.66.8.0/24", "as-path [ 64998 ]", "the path does not begin with the peer's AS"),
    ("0.0.0.0/0", "", "a default route"),
    ("169.254.66.0/24", "", "a link-local prefix"),
    ("224.66.0.0/16", "", "a multicast prefix"),
];

/// A route in ExaBGP's words: nothing is wrong with it but `more`.
fn exabgp_route(prefix: &str, more: &str) -> String {
    let mut route = format!("{prefix} rd 64999:5");
    for usual in ["label 777", "next-hop 198.18.0.9", "extended-community [ target:64999:7 ]"] {
        let word = usual.split(' ').next().unwrap_or_default();
        if !more.starts_with(word) {
            route += &format!(" {usual}");
        }
    }
    format!("{route} {more}")
}

fn exabgp_is_hostile(_: usize, steps: &mut Steps) -> Result<()> {
    let clusters = start()?;
    let (controller, gateway) = (&clusters.controllers[0], &clusters.gateways[0]);
    let mut routes: Vec<String> =
        REFUSED.iter().map(|(prefix, more, _)| exabgp_route(prefix, more)).collect();
    // An unknown attribute that is passed on is no fault (RFC 4271 section 9).
    routes.push(exabgp_route("10.77.1.0/24", "attribute [ 0x99 0xe0 0x0102030405 ]"));
    routes.push(exabgp_route("10.77.2.0/24", "label 1048575"));
    routes.push(exabgp_route("10.66.10.0/24", "next-hop 198.18.0.1"));
    routes.push(exabgp_route("10.66.11.0/24", "extended-community [ target:0:0 ]"));
    routes.push(exabgp_route("10.77.9.0/24", ""));
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let Some(_exabgp) = ExaBgp::start(&clusters.net, &clusters.middle, &routes)? else { return Ok(()) };
    steps.check("what nothing is wrong with reaches the gateway", || {
        ["10.77.9.0/24", "10.77.1.0/24", "10.77.2.0/24"]
            .into_iter()
            .try_for_each(|prefix| gateway.gets_route(prefix))
    });
    for (prefix, _, reason) in REFUSED {
        let number = match reason {
            "own AS in the path" => "C15: ",
            "a default route" => "R7: ",
            _ => "",
        };
        steps.check(&format!("{number}{reason}: {prefix} is refused, and the log says so"), || {
            controller.logs(&[prefix, reason])?;
            ensure!(!gateway.holds_route(prefix)?, "the gateway has it");
            Ok(())
        });
    }
    steps.check("a gateway gets no route to itself, and none that it does not import", || {
        for prefix in ["10.66.10.0/24", "10.66.11.0/24"] {
            ensure!(!gateway.holds_route(prefix)?, "the gateway has {prefix}");
        }
        // The other gateway is not the one that the route leads to, but imports nothing.
        ensure!(!clusters.gateways[1].holds_route("10.66.10.0/24")?, "the other gateway has it");
        Ok(())
    });
    steps.check("the session has stood all the time", || {
        ensure!(controller.count_logged("BGP session up")? == 1, "it came up more than once, or never");
        ensure!(controller.count_logged("BGP session down")? == 0, "it went down");
        Ok(())
    });
    Ok(())
}

/// Updates that a session survives, with what the log says.
fn damaged() -> Vec<(Vec<u8>, &'static str)> {
    let route = |number: u8| VpnRoute::good([10, 66, number, 0], 24);
    let with = |number: u8, more: Vec<u8>| VpnRoute { more, ..route(number) }.update();
    // The last attribute says that it is longer than what is left.
    let mut cut_short = route(4).attributes();
    cut_short.extend([OPTIONAL_TRANSITIVE, 8, 40, 0, 0]);
    vec![
        (VpnRoute { origin: 9, ..route(1) }.update(), "10.66.1.0/24"),
        (with(2, attribute(WELL_KNOWN, 153, &[1])), "10.66.2.0/24"),
        (with(3, attribute(OPTIONAL, 4, &[0, 0])), "10.66.3.0/24"),
        (update(&cut_short), "10.66.4.0/24"),
        (VpnRoute { label: label(1), ..route(5) }.update(), "10.66.5.0/24"),
        (VpnRoute { communities: vec![[0x43; 8]], ..route(6) }.update(), "no route target"),
        (VpnRoute { communities: Vec::new(), ..route(7) }.update(), "10.66.7.0/24"),
        (VpnRoute { path: Vec::new(), ..route(8) }.update(), "10.66.8.0/24"),
    ]
}

/// The default membership of route target constraint (RFC 4684 section 4): no
/// fault, and the end of other speakers.
fn default_membership() -> Vec<u8> {
    let mut attributes = attribute(WELL_KNOWN, 1, &[0]);
    attributes.extend(attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xe7]));
    attributes.extend(attribute(OPTIONAL, 14, &[0, 1, 132, 4, 198, 18, 9, 3, 0, 0]));
    update(&attributes)
}

fn raw_bytes(_: usize, steps: &mut Steps) -> Result<()> {
    let clusters = start()?;
    let (controller, gateway) = (&clusters.controllers[0], &clusters.gateways[0]);
    let good = VpnRoute::good([10, 77, 1, 0], 24).update();
    steps.check("damaged updates do not end the session: a good route after them is programmed", || {
        let damaged = damaged();
        let mut messages: Vec<Vec<u8>> = damaged.iter().map(|(message, _)| message.clone()).collect();
        messages.extend([default_membership(), good.clone()]);
        let mut peer = RawPeer::start(&clusters.middle, &messages)?;
        gateway.gets_route("10.77.1.0/24")?;
        for (_, said) in &damaged {
            controller.logs(&[said])?;
        }
        let held = gateway.tlctl("list route")?.to_string();
        ensure!(!held.contains("10.66."), "the gateway has what is damaged: {held}");
        ensure!(
            peer.is_standing() && controller.count_logged("BGP session down")? == 0,
            "the session is over"
        );
        Ok(())
    });
    let header = |length: u16, kind: u8| {
        let mut bytes = message(kind, &[]);
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let mut no_marker = message(2, &[0, 0, 0, 0]);
    no_marker[3] = 0;
    // The attributes reach past the end of the message (RFC 7606 section 4).
    let past_the_end = message(2, &[0, 0, 0, 50, WELL_KNOWN, 1, 1, 0]);
    for (what, bytes, (code, subcode)) in [
        ("a broken marker", no_marker, (1, 1)),
        ("a message shorter than its header", header(5, 2), (1, 2)),
        ("a message of unknown type", header(19, 9), (1, 3)),
        ("attributes past the end of the message", past_the_end, (3, 1)),
    ] {
        steps.check(&format!("{what} ends the session with {code}/{subcode}, and the routes go"), || {
            let before = controller.count_logged("BGP session down")?;
            let mut peer = RawPeer::start(&clusters.middle, &[good.clone(), bytes])?;
            peer.is_told(code, subcode)?;
            gateway.loses_route("10.77.1.0/24")?;
            ensure!(controller.count_logged("BGP session down")? > before, "the log does not say so");
            Ok(())
        });
    }
    steps.check("and the next session is as good as any", || {
        let _peer = RawPeer::start(&clusters.middle, std::slice::from_ref(&good))?;
        gateway.gets_route("10.77.1.0/24")
    });
    steps.check("more routes than the contract allows end the session, and all of them go", || {
        let many: Vec<Vec<u8>> =
            (0..=MOST).map(|number| VpnRoute::good([10, 88, number, 0], 24).update()).collect();
        let mut peer = RawPeer::start(&clusters.middle, &many)?;
        peer.is_told(6, 1)?;
        controller.logs(&["ERROR", "hostile", "prefix limit", &format!("limit={MOST}")])?;
        (0..=MOST).try_for_each(|number| gateway.loses_route(&format!("10.88.{number}.0/24")))
    });
    Ok(())
}

#[test]
fn exabgp() {
    run_scenario("exabgp_is_hostile", 1, exabgp_is_hostile);
}

#[test]
fn raw() {
    run_scenario("raw_bytes", 1, raw_bytes);
}
