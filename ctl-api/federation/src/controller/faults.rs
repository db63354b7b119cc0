//! What is wrong, out of how everything is: the most urgent first.

use crate::exchange::party::UNDECLARED;
use tieline_proto::federation::v1::{
    AllocationStatus, CanaryState, Disbelief, Fault, GatewayStatus, GetStatusReply, PeerStatus, ReasonCount,
};

/// Most faults in an answer.
const MOST: usize = 1000;
/// A range with fewer numbers left than one in so many is a fault.
const SCARCE: u64 = 20;

/// The state of a peer's session in which routes flow.
pub const ESTABLISHED: &str = "Established";

/// The faults of a status.
pub fn faults(status: &GetStatusReply) -> Vec<Fault> {
    let mut all = Vec::new();
    if !status.intent_problem.is_empty() {
        all.push(fault("intent", &status.intent_problem));
    }
    if !status.awaited_peers.is_empty() {
        let message = "gateways keep what they hold from before until these peers have told all their routes, or for a minute";
        all.push(fault("start", format!("{message}: {}", status.awaited_peers.join(", "))));
    }
    if !status.awaited_gateways.is_empty() {
        let message = "peers wait until these gateways have told what they export, or for a minute";
        all.push(fault("start", format!("{message}: {}", status.awaited_gateways.join(", "))));
    }
    status.gateways.iter().for_each(|gateway| all.extend(of_gateway(gateway)));
    status.peers.iter().for_each(|peer| all.extend(of_peer(peer)));
    for duplicate in &status.duplicates {
        let claims = duplicate.claims.join(", ");
        all.push(fault(format!("address {}", duplicate.prefix), format!("is claimed twice: {claims}")));
    }
    for export in &status.refused_exports {
        let message = format!("{} {} is not announced: {}", export.vrf, export.prefix, export.reason);
        all.push(fault(format!("gateway {}", export.gateway), message));
    }
    all.extend(status.allocations.iter().filter_map(of_allocation));
    all.truncate(MOST);
    all
}

fn fault(subject: impl Into<String>, message: impl Into<String>) -> Fault {
    Fault { subject: subject.into(), message: message.into() }
}

fn of_gateway(gateway: &GatewayStatus) -> Vec<Fault> {
    let of = |message: String| fault(format!("gateway {}", gateway.name), message);
    if !gateway.left_out.is_empty() {
        return vec![of(format!("cannot be programmed: {}", gateway.left_out))];
    }
    if gateway.connected_since == 0 {
        let why = match gateway.last_error.as_str() {
            "" => "not yet",
            error => error,
        };
        return vec![of(format!("is not connected, and forwards by what it has: {why}"))];
    }
    let mut all = Vec::new();
    if gateway.refused > 0 {
        let example = gateway.refusals.first().map(|one| format!("; {one}")).unwrap_or_default();
        all.push(of(format!("refuses {} of what it is told{example}", gateway.refused)));
    }
    if !gateway.synchronised {
        all.push(of("is not synchronised yet: what it holds from before stays".to_owned()));
    }
    all
}

fn of_peer(peer: &PeerStatus) -> Vec<Fault> {
    let of = |message: String| fault(format!("peer {}", peer.name), message);
    if !peer.left_out.is_empty() {
        return vec![of(format!("is not spoken with: {}", peer.left_out))];
    }
    let mut all = Vec::new();
    if peer.relation == UNDECLARED {
        all.push(of(
            "is of this cluster's AS, and not declared: it is believed about nothing that only the cluster can \
             say, and told of no network that nothing connects; add it to the controllers of the Cluster, or \
             say reflector: true if it is the cluster's route reflector, false if it is a stranger"
                .to_owned(),
        ));
    }
    if peer.state != ESTABLISHED {
        let why = match peer.last_error.as_str() {
            "" => "nothing has failed yet",
            error => error,
        };
        all.push(of(format!("has no session ({}): {why}", peer.state)));
    } else if peer.families.is_empty() {
        all.push(of(
            "agrees on no address family with us: compare spec.families with its configuration".to_owned()
        ));
    }
    for canary in peer.canaries.iter().filter(|canary| canary.state() == CanaryState::Missing) {
        all.push(of(format!("does not announce its canary {}: {}", canary.prefix, canary.message)));
    }
    for Disbelief { reason, routes, taken, examples, remedy } in &peer.disbeliefs {
        let what =
            if *taken { "which is not believed; they are taken without" } else { "and they are kept away" };
        let example = examples.first().map(|one| format!(" ({one})")).unwrap_or_default();
        all.push(of(format!("announces {routes} routes with {reason}, {what}{example}: {remedy}")));
    }
    for ReasonCount { reason, count } in &peer.violations {
        all.push(of(format!("broke its contract in {count} routes, which are kept away: {reason}")));
    }
    all
}

fn of_allocation(pool: &AllocationStatus) -> Option<Fault> {
    let all = pool.held + pool.resting + pool.free;
    let scarce = pool.free < all / SCARCE || pool.free == 0;
    scarce.then(|| {
        fault(
            format!("{} of AS {}", pool.resource, pool.asn),
            format!("only {} numbers are left: {} are held, {} rest", pool.free, pool.held, pool.resting),
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::exchange::party::UNDECLARED;
    use tieline_proto::federation::v1::{CanaryStatus, DuplicateAddress, RefusedExport};

    use super::*;

    fn peer() -> PeerStatus {
        let families = vec![Default::default()];
        PeerStatus { name: "west".into(), state: ESTABLISHED.into(), families, ..Default::default() }
    }

    fn gateway() -> GatewayStatus {
        GatewayStatus { name: "east-1".into(), connected_since: 1, synchronised: true, ..Default::default() }
    }

    fn told(status: &GetStatusReply) -> Vec<String> {
        faults(status).into_iter().map(|fault| format!("{}: {}", fault.subject, fault.message)).collect()
    }

    #[test]
    fn nothing_is_wrong_when_nothing_is() {
        let allocations = vec![AllocationStatus { held: 5, free: 100, ..Default::default() }];
        let status = GetStatusReply {
            peers: vec![peer()],
            gateways: vec![gateway()],
            allocations,
            ..Default::default()
        };
        assert_eq!(faults(&status), []);
    }

    #[test]
    fn each_fault_is_named_with_what_it_is_about() {
        let violations = vec![ReasonCount { reason: "a prefix outside its contract".into(), count: 3 }];
        let disbelief = |reason: &str, taken| Disbelief {
            reason: reason.into(),
            routes: 2,
            taken,
            examples: vec!["64513:1:10.1.0.0/24 with 64512:8000000".into(), "another".into()],
            remedy: "do something".into(),
        };
        let disbeliefs = vec![disbelief("a foreign target", false), disbelief("a foreign group", true)];
        let canary = |prefix: &str, state: CanaryState| CanaryStatus {
            prefix: prefix.into(),
            state: state.into(),
            message: "it was withdrawn".into(),
        };
        let canaries = vec![
            canary("1.0.0.1/32", CanaryState::Present),
            canary("1.0.0.2/32", CanaryState::Missing),
            canary("1.0.0.3/32", CanaryState::Waiting),
        ];
        let peers = vec![
            PeerStatus { state: "Active".into(), last_error: "connection refused".into(), ..peer() },
            PeerStatus { violations, canaries, disbeliefs, ..peer() },
            PeerStatus { families: Vec::new(), ..peer() },
            PeerStatus { relation: UNDECLARED.into(), ..peer() },
            PeerStatus { relation: "stranger".into(), ..peer() },
            PeerStatus { left_out: "its address is another's".into(), state: String::new(), ..peer() },
        ];
        let gateways = vec![
            GatewayStatus { connected_since: 0, last_error: "no such socket".into(), ..gateway() },
            GatewayStatus { refused: 2, refusals: vec!["vrf/red was refused: no".into()], ..gateway() },
            GatewayStatus { synchronised: false, ..gateway() },
        ];
        let refused = RefusedExport {
            gateway: "east-1".into(),
            vrf: "red".into(),
            prefix: "0.0.0.0/0".into(),
            reason: "it is a default route".into(),
        };
        let claims = vec!["64512:1 at 198.18.0.1".into(), "64513:1 at 198.18.1.1".into()];
        let status = GetStatusReply {
            intent_problem: "it cannot be read".into(),
            awaited_peers: vec!["north".into(), "west".into()],
            awaited_gateways: vec!["east-1".into()],
            peers,
            gateways,
            duplicates: vec![DuplicateAddress { prefix: "10.0.0.1/32".into(), claims }],
            refused_exports: vec![refused],
            allocations: vec![AllocationStatus {
                asn: 64512,
                resource: "vni".into(),
                held: 96,
                free: 4,
                resting: 0,
            }],
            ..Default::default()
        };
        assert_eq!(
            told(&status),
            [
                "intent: it cannot be read",
                "start: gateways keep what they hold from before until these peers have told all their routes, or for a minute: north, west",
                "start: peers wait until these gateways have told what they export, or for a minute: east-1",
                "gateway east-1: is not connected, and forwards by what it has: no such socket",
                "gateway east-1: refuses 2 of what it is told; vrf/red was refused: no",
                "gateway east-1: is not synchronised yet: what it holds from before stays",
                "peer west: has no session (Active): connection refused",
                "peer west: does not announce its canary 1.0.0.2/32: it was withdrawn",
                "peer west: announces 2 routes with a foreign target, and they are kept away (64513:1:10.1.0.0/24 with 64512:8000000): do something",
                "peer west: announces 2 routes with a foreign group, which is not believed; they are taken without (64513:1:10.1.0.0/24 with 64512:8000000): do something",
                "peer west: broke its contract in 3 routes, which are kept away: a prefix outside its contract",
                "peer west: agrees on no address family with us: compare spec.families with its configuration",
                "peer west: is of this cluster's AS, and not declared: it is believed about nothing that only the cluster can say, and told of no network that nothing connects; add it to the controllers of the Cluster, or say reflector: true if it is the cluster's route reflector, false if it is a stranger",
                "peer west: is not spoken with: its address is another's",
                "address 10.0.0.1/32: is claimed twice: 64512:1 at 198.18.0.1, 64513:1 at 198.18.1.1",
                "gateway east-1: red 0.0.0.0/0 is not announced: it is a default route",
                "vni of AS 64512: only 4 numbers are left: 96 are held, 0 rest",
            ]
        );
    }
}
