//! The thread of the neighbour service: brings it packets and the time, and
//! does what it asks for.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tieline_process::essential;

use crate::drop_reason::DropReason;
use crate::engine::{TableWriter, ThreadSetup};
use crate::io::{BufferPool, Io};
use crate::local::neighbours::{Action, MetaBox, NeighbourTimers, Neighbours};
use crate::local::probe;
use crate::packet::meta::PacketMeta;
use crate::pipeline::handover::{HandoverEnd, Work};
use crate::pipeline::outbox::{Learned, NeighbourRings};
use crate::stats::Counters;
use crate::tables::Tables;
use crate::types::{InterfaceId, MacAddr, PortId, WorkerId};

/// How often the ring is looked at. First packets to a neighbour wait this
/// long in addition to the round trip of the question.
const RING_INTERVAL: Duration = Duration::from_millis(1);
/// How often time passes for the service.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Items that are handled in one hold of the tables.
const BATCH: usize = 256;

/// What the thread is made of.
pub(crate) struct NeighbourThread<I: Io> {
    pub tables: TableWriter,
    pub rings: Arc<NeighbourRings<I::Buf>>,
    pub handover: HandoverEnd<I::Buf>,
    pub pool: I::Pool,
    pub counters: Arc<Counters>,
    pub timers: NeighbourTimers,
    pub stopping: Arc<AtomicBool>,
    pub thread_setup: ThreadSetup,
}

/// Starts it. It ends when `stopping` is set.
pub(crate) fn spawn<I: Io>(parts: NeighbourThread<I>) -> std::io::Result<JoinHandle<()>> {
    essential::spawn("neighbours", move || {
        let guard: Box<dyn Any> = (parts.thread_setup)();
        run(parts);
        drop(guard);
    })
}

fn run<I: Io>(mut parts: NeighbourThread<I>) {
    let start = Instant::now();
    let mut service = Neighbours::new(parts.timers);
    let mut actions = Vec::new();
    let mut next_poll = Duration::ZERO;
    while !parts.stopping.load(Ordering::Acquire) {
        let now = start.elapsed();
        let due = now >= next_poll;
        if due {
            next_poll = now + POLL_INTERVAL;
        }
        if due || !parts.rings.is_empty() {
            let rings = Arc::clone(&parts.rings);
            let writer = parts.tables.clone();
            writer.update(|tables| {
                let mut changed = handle_rings::<I>(&rings, &mut service, tables, now, &mut actions);
                changed |= due && service.poll(tables, now, &mut actions);
                parts.carry_out(tables, &mut actions);
                ((), changed)
            });
            parts.counters.held.set(service.waiting() as u64);
        }
        parts.handover.flush();
        if parts.rings.is_empty() {
            std::thread::sleep(RING_INTERVAL);
        }
    }
    for action in service.drain() {
        parts.finish(action);
    }
}

fn handle_rings<I: Io>(
    rings: &NeighbourRings<I::Buf>,
    service: &mut Neighbours<I::Buf>,
    tables: &mut Tables,
    now: Duration,
    actions: &mut Vec<Action<I::Buf>>,
) -> bool {
    let mut changed = false;
    for item in std::iter::from_fn(|| rings.learned.pop()).take(BATCH) {
        changed |= match item {
            Learned::Neighbour { neighbour, interface, address, mac, said } => {
                service.handle_learned(tables, (neighbour, interface, address), (mac, said), now, actions)
            }
            Learned::Host { port, mac } => learn_host(tables, port, mac),
        };
    }
    for item in std::iter::from_fn(|| rings.unresolved.pop()).take(BATCH) {
        changed |= service.handle_unresolved(tables, item, now, actions);
    }
    changed
}

fn learn_host(tables: &mut Tables, id: PortId, mac: MacAddr) -> bool {
    let known = tables.ports.get(id.index()).is_none_or(|port| port.host_mac == Some(mac));
    if known || !mac.is_unicast() {
        return false;
    }
    if let Some(port) = tables.ports.get_mut(id.index()) {
        port.host_mac = Some(mac);
    }
    true
}

impl<I: Io> NeighbourThread<I> {
    fn carry_out(&mut self, tables: &Tables, actions: &mut Vec<Action<I::Buf>>) {
        for action in actions.drain(..) {
            match action {
                Action::Probe { interface, address, last_mac } => {
                    self.probe(tables, interface, address, last_mac);
                }
                other => self.finish(other),
            }
        }
    }

    fn finish(&mut self, action: Action<I::Buf>) {
        match action {
            Action::Resume(packet, meta) => self.resume(packet, *meta),
            Action::Drop(_, meta, reason) => self.count_drop(&meta.0, reason),
            Action::Probe { .. } => {}
        }
    }

    fn resume(&mut self, packet: I::Buf, MetaBox(meta): MetaBox) {
        let at = meta.flow_hash as usize % self.handover.workers().max(1);
        self.handover.give(WorkerId(at as u16), Work::Packets, packet, &meta, &self.counters);
    }

    fn count_drop(&self, meta: &PacketMeta, reason: DropReason) {
        self.counters.drop_at(reason, Some(meta.ingress), Some(meta.key.vrf));
    }

    /// Asks for a neighbour.
    fn probe(&mut self, tables: &Tables, id: InterfaceId, address: IpAddr, last_mac: Option<MacAddr>) {
        let Some(interface) = tables.interfaces.get(id.index()) else { return };
        let Some(mut packet) = self.pool.alloc() else { return };
        if !probe::write(&mut packet, interface, address, last_mac) {
            return;
        }
        self.counters.originated.add(1);
        let meta = PacketMeta { scratch: u32::from(interface.port.0), ..PacketMeta::UNKNOWN };
        self.handover.give(WorkerId(0), Work::Frames, packet, &meta, &self.counters);
    }
}
