//! Workers: the threads that move packets.
//!
//! A worker owns its receive queues, its transmit queues, its sessions and its
//! counters. It shares nothing that it writes, but for bounded rings. In the
//! loop it neither allocates, locks, logs nor enters the kernel; only idling
//! and commands from the control side do.
//!
//! - [`command`]: what the control side asks of it
//! - [`transfer`]: sessions that leave for another process, or come from one
//! - [`idle`]: what it does when there is nothing to do

pub mod command;
pub mod idle;
pub mod transfer;

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use tieline_mailbox as mailbox;

use crate::drop_reason::DropReason;
use crate::io::{BURST, Io, PacketBurst, RxQueue};
use crate::local::rate_limit::RateLimits;
use crate::pipeline::burst::Burst;
use crate::pipeline::context::Context;
use crate::pipeline::early_fragments::EarlyFragments;
use crate::pipeline::express::adjacency::Adjacencies;
use crate::pipeline::handover::{Handover, HandoverRings, Work};
use crate::pipeline::outbox::{NeighbourRings, Outbox};
use crate::pipeline::{run_handed_over, run_received, tx};
use crate::session::Eviction;
use crate::session::fragments::FragmentTable;
use crate::session::table::SessionTable;
use crate::session::tick::Tick;
use crate::stats::Counters;
use crate::stats::stages::Stage;
use crate::tables::Tables;
use crate::types::{PortId, VrfId, WorkerId};
use command::{Command, Done, SessionDump};
use idle::{Idle, IdlePolicy};
use transfer::{SessionExport, SessionImport};

/// Sessions that are looked at for expiry in one turn: more than a burst can
/// begin, or a table under attack would fill with sessions that are over.
const EXPIRE_BUDGET: usize = 2 * BURST;
/// Sessions that are copied for a dump, or to or from another process, in one
/// turn.
const DUMP_BUDGET: usize = 256;
/// How often gauges are written, in ticks.
const GAUGE_INTERVAL: u32 = Tick::PER_SECOND / 4;

/// A receive queue and where it belongs.
struct RxSlot<I: Io> {
    port: PortId,
    queue: u16,
    rx: I::Rx,
}

/// What a worker is made of.
pub struct WorkerParts<I: Io> {
    /// Which one it is.
    pub id: WorkerId,
    /// Where tables come from.
    pub tables: mailbox::Reader<Tables>,
    /// Where commands come from.
    pub commands: Arc<ArrayQueue<Command<I>>>,
    /// The rings into all workers, its own included.
    pub rings: Arc<HandoverRings<I::Buf>>,
    /// The rings to the neighbour service.
    pub neighbours: Arc<NeighbourRings<I::Buf>>,
    /// New buffers.
    pub pool: I::Pool,
    /// Its sessions.
    pub sessions: SessionTable,
    /// Its fragmented packets.
    pub fragments: FragmentTable,
    /// Its rate limits.
    pub limits: RateLimits,
    /// Its counters, which others read.
    pub counters: Arc<Counters>,
    /// What it does without work.
    pub idle: IdlePolicy,
}

/// One worker.
pub struct Worker<I: Io> {
    id: WorkerId,
    tables: mailbox::Reader<Tables>,
    commands: Arc<ArrayQueue<Command<I>>>,
    rx: Vec<RxSlot<I>>,
    burst: Box<Burst<I::Buf>>,
    received: Box<PacketBurst<I::Buf>>,
    out: Outbox<I>,
    pool: I::Pool,
    sessions: SessionTable,
    fragments: FragmentTable,
    early: EarlyFragments<I::Buf>,
    adjacencies: Adjacencies,
    limits: RateLimits,
    counters: Arc<Counters>,
    idle: Idle,
    dump: Option<Box<SessionDump>>,
    export: Option<(Box<SessionExport>, Done<Box<SessionExport>>)>,
    import: Option<(Box<SessionImport>, Done<Box<SessionImport>>)>,
    gauges_written: Tick,
    stopping: bool,
}

impl<I: Io> std::fmt::Debug for Worker<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<I: Io> Worker<I> {
    /// A worker with no ports yet.
    pub fn new(parts: WorkerParts<I>) -> Self {
        Self {
            id: parts.id,
            tables: parts.tables,
            commands: parts.commands,
            rx: Vec::new(),
            burst: Box::default(),
            received: Box::new(ArrayVec::new()),
            out: Outbox::new(parts.id, parts.rings, parts.neighbours),
            pool: parts.pool,
            sessions: parts.sessions,
            fragments: parts.fragments,
            early: EarlyFragments::default(),
            adjacencies: Adjacencies::default(),
            limits: parts.limits,
            counters: parts.counters,
            idle: Idle::new(parts.idle),
            dump: None,
            export: None,
            import: None,
            gauges_written: Tick(0),
            stopping: false,
        }
    }

    /// Works until it is told to stop.
    pub fn run(mut self) {
        let start = Instant::now();
        while !self.stopping {
            let now = Tick::at(start.elapsed());
            let busy = self.turn(now);
            self.idle.after_turn(busy);
        }
    }

    /// One turn of the loop at a given time. Returns whether there was
    /// anything to do.
    pub fn turn(&mut self, now: Tick) -> bool {
        // Sleep, and turns before that found nothing to do.
        self.counters.stages.end_idle();
        self.tables.refresh();
        let mut busy = self.obey(now);
        if busy {
            self.counters.stages.end(Stage::Housekeeping, 0);
        }
        busy |= self.poll_queues(now);
        busy |= self.poll_ring(now);
        if busy {
            // The last polls, which found nothing.
            self.counters.stages.end(Stage::Receive, 0);
        }
        self.out.flush_handovers();
        self.out.flush(&self.counters);
        busy |= self.dump.is_some() || self.out.is_handing_over();
        busy |= self.export.is_some() || self.import.is_some();
        self.keep_house(now);
        self.counters.loops.add(1);
        self.counters.busy_loops.add(u64::from(busy));
        if busy {
            self.counters.stages.end(Stage::Housekeeping, 0);
        }
        busy
    }

    fn poll_queues(&mut self, now: Tick) -> bool {
        let mut busy = false;
        for at in 0..self.rx.len() {
            let slot = &mut self.rx[at];
            let count = slot.rx.rx_burst(&mut self.received) as u64;
            let unusable = slot.rx.take_dropped();
            if unusable > 0 {
                self.counters.received.add(unusable);
                self.counters.drops.add(DropReason::MultiSegment, unusable);
            }
            if count == 0 {
                continue;
            }
            busy = true;
            self.counters.received.add(count);
            self.burst.clear();
            self.burst.port = slot.port;
            self.burst.fill(&mut self.received);
            self.counters.stages.end(Stage::Receive, count as usize);
            let (mut cx, burst) = self.context(now);
            run_received(&mut cx, burst);
        }
        busy
    }

    /// Works on what other threads have handed over until now. It has cost
    /// work already, so it goes before what is still to be received.
    fn poll_ring(&mut self, now: Tick) -> bool {
        let mut busy = false;
        for _ in 0..self.out.arrived() {
            let Some(item) = self.out.take_arrived(&self.counters) else { break };
            busy = true;
            self.work_off(item, now);
        }
        busy
    }

    fn work_off(&mut self, Handover { work, burst }: Handover<I::Buf>, now: Tick) {
        self.counters.stages.end(Stage::Handover, burst.len());
        let spare = std::mem::replace(&mut self.burst, burst);
        self.out.recycle(spare);
        let (mut cx, burst) = self.context(now);
        match work {
            Work::Packets => run_handed_over(&mut cx, burst),
            Work::Frames => tx::run_handed_over(&mut cx, burst),
        }
    }

    fn context(&mut self, now: Tick) -> (Context<'_, I>, &mut Burst<I::Buf>) {
        let cx = Context {
            tables: self.tables.current(),
            counters: &self.counters,
            sessions: &mut self.sessions,
            fragments: &mut self.fragments,
            early: &mut self.early,
            adjacencies: &mut self.adjacencies,
            limits: &mut self.limits,
            out: &mut self.out,
            pool: &mut self.pool,
            now,
            worker: self.id,
        };
        (cx, &mut self.burst)
    }

    fn keep_house(&mut self, now: Tick) {
        self.sessions.expire(now, EXPIRE_BUDGET);
        while let Some((_, meta)) = self.early.expire(now) {
            self.counters.drop_at(DropReason::FragmentBeforeFirst, Some(meta.ingress), Some(meta.key.vrf));
        }
        self.counters.held.set(self.early.len() as u64);
        if let Some(dump) = &mut self.dump
            && dump.fill(self.id, &self.sessions, now, DUMP_BUDGET)
            && let Some(dump) = self.dump.take()
        {
            dump.finish();
        }
        self.transfer(now);
        if now.since(self.gauges_written) >= GAUGE_INTERVAL {
            self.gauges_written = now;
            self.write_gauges();
        }
    }

    /// Goes on with what leaves for another process, or comes from one.
    fn transfer(&mut self, now: Tick) {
        if let Some((export, _)) = &mut self.export
            && export.fill(&self.sessions, now, DUMP_BUDGET)
            && let Some((export, done)) = self.export.take()
        {
            done.signal(export);
        }
        if let Some((import, _)) = &mut self.import
            && import.work_off(&mut self.sessions, self.tables.current(), now, DUMP_BUDGET)
            && let Some((import, done)) = self.import.take()
        {
            done.signal(import);
        }
    }

    fn write_gauges(&self) {
        self.counters.sessions.set(self.sessions.len() as u64);
        for (index, _) in self.tables.current().vrfs.iter() {
            let id = VrfId(index as u16);
            if let Some(counters) = self.counters.vrf(id) {
                counters.sessions.set(u64::from(self.sessions.vrf_len(id)));
                for (why, counter) in Eviction::ALL.iter().zip(&counters.evicted) {
                    counter.set(self.sessions.evicted(id, *why));
                }
            }
        }
    }

    /// Carries out at most one command.
    fn obey(&mut self, now: Tick) -> bool {
        if self.commands.is_empty() {
            return false;
        }
        let Some(command) = self.commands.pop() else { return false };
        match command {
            Command::AddPort(add) => {
                self.out.add_port(add.port, add.tx_owner, add.tx, add.is_host);
                self.rx.extend(add.rx.into_iter().map(|(queue, rx)| RxSlot { port: add.port, queue, rx }));
                add.done.signal(());
            }
            Command::UnroutePort { port, done } => {
                let (leaving, staying): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.rx).into_iter().partition(|slot| slot.port == port);
                self.rx = staying;
                self.out.unroute_port(port, &self.counters);
                done.signal(leaving.into_iter().map(|slot| (slot.queue, slot.rx)).collect());
            }
            Command::ReleasePort { port, done } => {
                // Frames for it that others have handed over.
                self.poll_ring(now);
                done.signal(self.out.release_port(port, &self.counters));
            }
            Command::DumpSessions(dump) => match &self.dump {
                None => self.dump = Some(dump),
                // One at a time: the newer one ends at once, with nothing.
                Some(_) => dump.finish(),
            },
            Command::ExportSessions(export, done) => {
                if let Some((earlier, done)) = self.export.replace((export, done)) {
                    done.signal(earlier);
                }
            }
            Command::ImportSessions(import, done) => {
                if let Some((earlier, done)) = self.import.replace((import, done)) {
                    done.signal(earlier);
                }
            }
            Command::Stop => self.stopping = true,
        }
        true
    }
}
