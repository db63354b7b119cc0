//! Metrics of the running controller, for Prometheus: the numbers of its status
//! in the text format of OpenMetrics.
//!
//! - [`text`]: a status as metrics
//! - [`serve`]: the listener that they are read from

mod server;

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tieline_proto::federation::v1;

use crate::controller::ESTABLISHED;

pub use server::serve;

/// What all names begin with.
const PREFIX: &str = "tieline_federation";

type Labels = Vec<(&'static str, String)>;

/// Metrics in the making.
struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Registers one number that goes up and down.
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = <Gauge>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.registry.register(name, help, gauge);
    }

    /// Registers numbers that go up and down, by their labels.
    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.registry.register(name, help, family);
    }

    /// Registers numbers that only grow, by their labels.
    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    fn controller(&mut self, status: &v1::GetStatusReply) {
        self.gauge("start_time_seconds", "When the controller was started, since 1970", status.started_at);
        self.gauge("problems", "What is wrong, as the status names it", status.faults.len() as u64);
        self.gauge("intent_revision", "Revision of the intent that is in force", status.intent_revision);
        let in_force = u64::from(status.intent_problem.is_empty());
        self.gauge("intent_in_force", "1: the newest intent is in force", in_force);
        self.gauge("routes", "Routes that gateways can use", status.routes);
        let duplicates = status.duplicates.len() as u64 + status.more_duplicates;
        self.gauge("duplicate_addresses", "Addresses that several gateways claim", duplicates);
        let refused = status.refused_exports.len() as u64 + status.more_refused_exports;
        self.gauge("refused_exports", "Exports of gateways that are not announced", refused);
        let unusable = status.unusable_routes.iter();
        let unusable = unusable.map(|one| (vec![("reason", one.reason.clone())], one.count));
        self.gauges("unusable_routes", "Routes that no gateway can use", unusable);
        let target = |one: &v1::RouteTargetStatus| vec![("route_target", one.route_target.clone())];
        let targets = || status.route_targets.iter();
        let routes = targets().map(|one| (target(one), one.routes));
        self.gauges("route_target_routes", "Routes with a route target; the 1000 with most", routes);
        let gateways = targets().map(|one| (target(one), one.gateways));
        self.gauges("route_target_gateways", "Gateways that import a route target", gateways);
        let numbers = status.allocations.iter().flat_map(|pool| {
            [("held", pool.held), ("resting", pool.resting), ("free", pool.free)].map(|(state, count)| {
                let asn = pool.asn.to_string();
                (vec![("asn", asn), ("resource", pool.resource.clone()), ("state", state.to_owned())], count)
            })
        });
        self.gauges("numbers", "Numbers of a range that are held, rest, or are free", numbers);
    }

    fn peers(&mut self, peers: &[v1::PeerStatus]) {
        let each = |value: fn(&v1::PeerStatus) -> u64| {
            peers.iter().map(move |peer| (vec![("peer", peer.name.clone())], value(peer)))
        };
        let by_reason = |counts: fn(&v1::PeerStatus) -> &[v1::ReasonCount]| {
            peers.iter().flat_map(move |peer| {
                let labels =
                    |one: &v1::ReasonCount| vec![("peer", peer.name.clone()), ("reason", one.reason.clone())];
                counts(peer).iter().map(move |one| (labels(one), one.count))
            })
        };
        self.gauges("peer_up", "1: the session stands", each(|peer| u64::from(peer.state == ESTABLISHED)));
        self.gauges("peer_waiting_routes", "Routes that wait to be sent", each(|peer| peer.waiting));
        self.counters(
            "peer_received_updates",
            "UPDATE messages that came",
            each(|peer| peer.updates_received),
        );
        self.counters(
            "peer_sent_routes",
            "Routes that were sent, again ones included",
            each(|peer| peer.routes_sent),
        );
        self.counters(
            "peer_sent_withdrawals",
            "Withdrawals that were sent",
            each(|peer| peer.withdrawals_sent),
        );
        self.counters(
            "peer_faults",
            "Errors in updates that did not end the session",
            each(|peer| peer.faults),
        );
        let routes = peers.iter().flat_map(|peer| {
            let labels =
                |one: &v1::FamilyStatus| vec![("peer", peer.name.clone()), ("family", one.name.clone())];
            peer.families.iter().map(move |one| (labels(one), one.accepted))
        });
        self.gauges("peer_routes", "Routes of the peer that were taken", routes);
        self.counters("peer_refused_routes", "Routes that were not taken", by_reason(|peer| &peer.refused));
        let help = "Routes outside the peer's contract since its session came up";
        self.gauges("peer_contract_violations", help, by_reason(|peer| &peer.violations));
        let disbeliefs = peers.iter().flat_map(|peer| {
            let labels =
                |one: &v1::Disbelief| vec![("peer", peer.name.clone()), ("reason", one.reason.clone())];
            peer.disbeliefs.iter().map(move |one| (labels(one), one.routes))
        });
        self.gauges("peer_disbelieved_routes", "Routes with what the peer is not believed about", disbeliefs);
        self.gauges(
            "peer_networks_told",
            "Networks that the peer is told of",
            each(|peer| peer.networks_told),
        );
        self.gauges(
            "peer_networks_kept",
            "Networks that nothing connects with the peer",
            each(|peer| peer.networks_kept),
        );
        let canaries = peers.iter().flat_map(|peer| {
            let labels =
                |one: &v1::CanaryStatus| vec![("peer", peer.name.clone()), ("prefix", one.prefix.clone())];
            let missing = |one: &v1::CanaryStatus| u64::from(one.state() == v1::CanaryState::Missing);
            peer.canaries.iter().map(move |one| (labels(one), missing(one)))
        });
        self.gauges("canary_missing", "1: the peer does not announce what it must", canaries);
    }

    fn gateways(&mut self, gateways: &[v1::GatewayStatus]) {
        let each = |value: fn(&v1::GatewayStatus) -> u64| {
            gateways.iter().map(move |gateway| (vec![("gateway", gateway.name.clone())], value(gateway)))
        };
        let up = each(|gateway| u64::from(gateway.connected_since > 0));
        self.gauges("gateway_up", "1: a session is open", up);
        let synchronised = each(|gateway| u64::from(gateway.synchronised));
        self.gauges("gateway_synchronised", "1: nothing from before the session is left", synchronised);
        let up_to_date = each(|gateway| u64::from(gateway.up_to_date));
        self.gauges("gateway_up_to_date", "1: all that is wanted is in force, or refused", up_to_date);
        self.gauges("gateway_objects", "Objects that should be there", each(|gateway| gateway.objects));
        self.gauges("gateway_routes", "Routes that should be there", each(|gateway| gateway.routes));
        self.gauges("gateway_refused", "Objects and routes that it refuses", each(|gateway| gateway.refused));
        self.gauges("gateway_batches", "Batches under way", each(|gateway| gateway.outstanding));
        self.gauges("gateway_exports", "What its VRFs originate", each(|gateway| gateway.exports));
    }
}

/// A status as metrics.
///
/// # Errors
/// The text cannot be written.
pub fn text(status: &v1::GetStatusReply) -> Result<String, fmt::Error> {
    let mut metrics = Metrics { registry: Registry::with_prefix(PREFIX) };
    metrics.controller(status);
    metrics.peers(&status.peers);
    metrics.gateways(&status.gateways);
    let mut text = String::new();
    encode(&mut text, &metrics.registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_status() {
        let canary = |prefix: &str, state: v1::CanaryState| v1::CanaryStatus {
            prefix: prefix.into(),
            state: state.into(),
            message: String::new(),
        };
        let peer = v1::PeerStatus {
            name: "we\"st".into(),
            state: ESTABLISHED.into(),
            families: vec![v1::FamilyStatus { name: "vpnv4".into(), accepted: 7, complete: true }],
            refused: vec![v1::ReasonCount { reason: "own AS in the path".into(), count: 3 }],
            disbeliefs: vec![v1::Disbelief { reason: "a claim".into(), routes: 4, ..Default::default() }],
            networks_kept: 2,
            canaries: vec![
                canary("1.0.0.1/32", v1::CanaryState::Present),
                canary("1.0.0.2/32", v1::CanaryState::Missing),
            ],
            ..Default::default()
        };
        let gateway = v1::GatewayStatus { name: "east-1".into(), routes: 8, ..Default::default() };
        let allocations = vec![v1::AllocationStatus {
            asn: 64512,
            resource: "vni".into(),
            held: 1,
            resting: 2,
            free: u64::MAX,
        }];
        let status = v1::GetStatusReply {
            peers: vec![peer],
            gateways: vec![gateway],
            allocations,
            more_duplicates: 5,
            ..Default::default()
        };
        let text = text(&status).expect("it can be written");
        for line in [
            "tieline_federation_peer_up{peer=\"we\\\"st\"} 1",
            "tieline_federation_peer_routes{peer=\"we\\\"st\",family=\"vpnv4\"} 7",
            "tieline_federation_peer_refused_routes_total{peer=\"we\\\"st\",reason=\"own AS in the path\"} 3",
            "tieline_federation_peer_disbelieved_routes{peer=\"we\\\"st\",reason=\"a claim\"} 4",
            "tieline_federation_peer_networks_kept{peer=\"we\\\"st\"} 2",
            "tieline_federation_canary_missing{peer=\"we\\\"st\",prefix=\"1.0.0.1/32\"} 0",
            "tieline_federation_canary_missing{peer=\"we\\\"st\",prefix=\"1.0.0.2/32\"} 1",
            "tieline_federation_gateway_up{gateway=\"east-1\"} 0",
            "tieline_federation_gateway_routes{gateway=\"east-1\"} 8",
            "tieline_federation_numbers{asn=\"64512\",resource=\"vni\",state=\"resting\"} 2",
            "tieline_federation_duplicate_addresses 5",
            "tieline_federation_intent_in_force 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
