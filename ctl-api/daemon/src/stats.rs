//! Counters and tables as messages, with the names that operators gave.

use tieline_engine::engine::totals::{InterfaceTotals, VrfTotals};
use tieline_engine::engine::view::WorkerView;
use tieline_engine::session::Eviction;
use tieline_engine::stats::stages::{Stage, StageCounters};
use tieline_engine::tables::neighbour::NeighbourState;
use tieline_engine::types::{InterfaceId, PortId, VrfId};
use tieline_proto::v1;

use crate::gateway::Gateway;

/// All counters since the start.
pub fn all(gateway: &Gateway) -> v1::GetStatsReply {
    let engine = gateway.engine();
    let workers = engine.workers();
    let balance = engine.balance();
    v1::GetStatsReply {
        workers: workers.iter().map(|view| worker(gateway, view)).collect(),
        ports: ports(gateway),
        interfaces: gateway
            .rib()
            .interfaces()
            .map(|(name, id)| interface(name, &engine.interface_totals(id)))
            .collect(),
        vrfs: vrfs(gateway),
        balance: Some(v1::Balance {
            received: balance.received,
            originated: balance.originated,
            transmitted: balance.transmitted,
            punted: balance.punted,
            consumed: balance.consumed,
            dropped: balance.dropped,
            in_flight: balance.in_flight,
        }),
        uptime_nanoseconds: uptime_nanoseconds(gateway),
    }
}

fn uptime_nanoseconds(gateway: &Gateway) -> u64 {
    u64::try_from(gateway.engine().uptime().as_nanos()).unwrap_or(u64::MAX)
}

/// Where the cycles of all workers have gone since the start.
pub fn stages(gateway: &Gateway) -> v1::GetStageStatsReply {
    let engine = gateway.engine();
    v1::GetStageStatsReply {
        cycles_per_second: engine.cycles_per_second(),
        uptime_nanoseconds: uptime_nanoseconds(gateway),
        workers: engine
            .workers()
            .iter()
            .map(|view| worker_stages(view.id.0, &view.counters.stages))
            .collect(),
    }
}

fn worker_stages(worker: u16, counters: &StageCounters) -> v1::WorkerStages {
    let stage = |stage: &Stage| {
        let used = counters.of(*stage);
        v1::StageStats {
            stage: stage.name().to_owned(),
            cycles: used.cycles,
            bursts: used.bursts,
            packets: used.packets,
        }
    };
    v1::WorkerStages {
        worker: u32::from(worker),
        idle_cycles: counters.idle(),
        stages: Stage::ALL.iter().map(stage).collect(),
    }
}

fn worker(gateway: &Gateway, view: &WorkerView) -> v1::WorkerStats {
    let queues = |queues: &[(PortId, u16)]| {
        let name = |(port, queue): &(PortId, u16)| {
            format!("{}:{queue}", gateway.rib().port_name(*port).unwrap_or_default())
        };
        queues.iter().map(name).collect()
    };
    let counters = &view.counters;
    v1::WorkerStats {
        worker: u32::from(view.id.0),
        core: view.core.and_then(|core| i32::try_from(core).ok()).unwrap_or(-1),
        rx_queues: queues(&view.rx_queues),
        tx_queues: queues(&view.tx_queues),
        received_packets: counters.received.value(),
        transmitted_packets: counters.transmitted.value(),
        dropped_packets: counters.drops.total(),
        handed_over_packets: counters.handed_over.value(),
        sessions: counters.sessions.value(),
        session_capacity: view.session_capacity as u64,
        busy_loops: counters.busy_loops.value(),
        loops: counters.loops.value(),
        table_version: view.table_version,
    }
}

fn ports(gateway: &Gateway) -> Vec<v1::PortStats> {
    let message = |(name, id): (&str, PortId)| {
        let device = gateway.ports().view(id)?;
        let counters = device.counters;
        Some(v1::PortStats {
            name: name.to_owned(),
            mac: device.mac.to_string(),
            link_up: device.link_up,
            rx_packets: counters.rx_packets,
            rx_bytes: counters.rx_bytes,
            tx_packets: counters.tx_packets,
            tx_bytes: counters.tx_bytes,
            rx_missed: counters.rx_missed + counters.rx_no_buffer,
            rx_errors: counters.rx_errors,
            tx_errors: counters.tx_errors,
        })
    };
    gateway.rib().ports().filter_map(message).collect()
}

fn interface(name: &str, totals: &InterfaceTotals) -> v1::InterfaceStats {
    v1::InterfaceStats {
        name: name.to_owned(),
        rx_packets: totals.rx.packets,
        rx_bytes: totals.rx.bytes,
        tx_packets: totals.tx.packets,
        tx_bytes: totals.tx.bytes,
        dropped_packets: totals.drops.total(),
    }
}

fn vrfs(gateway: &Gateway) -> Vec<v1::VrfStats> {
    let tables = gateway.engine().snapshot();
    let message = |(name, id): (&str, VrfId)| {
        let routes = tables.vrfs.get(id.index()).map_or((0, 0), |vrf| (vrf.fib4.len(), vrf.fib6.len()));
        vrf(name, routes, &gateway.engine().vrf_totals(id))
    };
    gateway.rib().vrfs().map(message).collect()
}

fn vrf(name: &str, (ipv4_routes, ipv6_routes): (usize, usize), totals: &VrfTotals) -> v1::VrfStats {
    v1::VrfStats {
        name: name.to_owned(),
        packets: totals.routed.packets,
        bytes: totals.routed.bytes,
        dropped_packets: totals.drops.total(),
        sessions: totals.sessions,
        ipv4_routes: ipv4_routes as u64,
        ipv6_routes: ipv6_routes as u64,
        sessions_evicted_for_share: totals.evicted[Eviction::TableFull as usize],
        sessions_evicted_for_quota: totals.evicted[Eviction::Quota as usize],
    }
}

/// All neighbours.
pub fn neighbours(gateway: &Gateway) -> Vec<v1::Neighbour> {
    let tables = gateway.engine().snapshot();
    let uptime = gateway.engine().uptime();
    let interface_name = |id: InterfaceId| gateway.rib().interface_name(id).unwrap_or_default().to_owned();
    tables
        .neighbours
        .iter()
        .map(|(_, neighbour)| v1::Neighbour {
            interface: interface_name(neighbour.interface),
            address: neighbour.address.to_string(),
            mac: if neighbour.is_usable() {
                neighbour.header.destination().to_string()
            } else {
                String::new()
            },
            state: state_word(neighbour.state).to_owned(),
            age_seconds: neighbour.confirmed.map_or(0, |at| uptime.saturating_sub(at).as_secs()),
        })
        .collect()
}

fn state_word(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::Resolving => "resolving",
        NeighbourState::Resolved => "resolved",
        NeighbourState::Failed => "failed",
        NeighbourState::Static => "static",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tieline_engine::stats::Counters;

    #[test]
    fn stages_go_by_their_names() {
        let counters = Counters::new(1, 1);
        counters.stages.end(Stage::Encap, 3);
        counters.stages.end(Stage::Encap, 5);
        let message = worker_stages(7, &counters.stages);
        assert_eq!((message.worker, message.stages.len()), (7, Stage::COUNT));
        let encap = message.stages.iter().find(|stage| stage.stage == "encap").expect("the stage");
        assert_eq!((encap.bursts, encap.packets), (2, 8));
        assert_eq!(encap.cycles, counters.stages.of(Stage::Encap).cycles);
    }
}
