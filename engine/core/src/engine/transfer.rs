//! Live state of a running engine, to another process and from one.
//!
//! Sessions are copied a few at a time between bursts, so packets may flow
//! meanwhile: a first copy is made early, and once no packet moves any more, a
//! second one of what has changed since. An engine that takes them must have
//! its tables, and no port yet.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::io::Io;
use crate::packet::flow_hash::flow_hash;
use crate::pipeline::outbox::{Learned, Said};
use crate::pipeline::owner::worker_of;
use crate::session::tick::Tick;
use crate::tables::Tables;
use crate::tables::neighbour::NeighbourState;
use crate::transfer::stream::Sink;
use crate::transfer::{NeighbourRecord, SessionRecord};
use crate::types::{InterfaceId, NeighbourId, WorkerId};
use crate::worker::command::{Command, Done};
use crate::worker::transfer::{SessionExport, SessionImport, Taken};

use super::{Engine, POLL_INTERVAL, push_command};

/// Sessions that a worker gets at once.
const IMPORT_BATCH: usize = 4096;

/// Why live state was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A worker is stuck.
    #[error("worker {} has not answered within {} s", .worker.0, .timeout.as_secs_f32())]
    Timeout {
        /// Which one.
        worker: WorkerId,
        /// How long it had.
        timeout: Duration,
    },
    /// It could not be written.
    #[error("the live state could not be sent: {0}")]
    Sink(#[from] io::Error),
}

/// When each worker began to copy, in its time.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<Option<Tick>>);

/// What was copied.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// How many sessions.
    pub sessions: u64,
    /// Where a copy of later changes has to begin.
    pub marks: Marks,
}

/// What became of neighbours of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeighboursTaken {
    /// They are known here now.
    pub restored: u64,
    /// Their interface is not in force here, or has as many as it may.
    pub refused: u64,
}

impl<I: Io> Engine<I> {
    /// Writes the sessions of all workers to `sink` as chunks: all, or, with
    /// the marks of an earlier copy, those that have had packets since. Each
    /// worker has `timeout` for each chunk.
    ///
    /// # Errors
    /// See [`TransferError`]; the sessions stay as they are.
    pub fn export_sessions(
        &self,
        since: Option<&Marks>,
        timeout: Duration,
        sink: &mut Sink<'_>,
    ) -> Result<Exported, TransferError> {
        let since = |at: usize| since.and_then(|marks| marks.0.get(at).copied().flatten());
        let mut asked: VecDeque<(usize, Receiver<Box<SessionExport>>)> = (0..self.shared.workers.len())
            .map(|at| (at, self.ask_export(at, Box::new(SessionExport::new(since(at))))))
            .collect();
        let mut exported = Exported { sessions: 0, marks: Marks(vec![None; asked.len()]) };
        while let Some((at, receiver)) = asked.pop_front() {
            let mut export = receive(at, &receiver, timeout)?;
            if let Some(chunk) = export.chunk() {
                sink(chunk)?;
            }
            if export.go_on() {
                asked.push_back((at, self.ask_export(at, export)));
            } else {
                exported.sessions += export.sessions();
                exported.marks.0[at] = export.began();
            }
        }
        Ok(exported)
    }

    fn ask_export(&self, at: usize, export: Box<SessionExport>) -> Receiver<Box<SessionExport>> {
        let (done, receiver) = Done::new();
        push_command(&self.shared.workers[at], Command::ExportSessions(export, done));
        receiver
    }

    /// Begins to take sessions of another process, in this engine's numbers.
    /// Each goes to the worker that owns its flow here.
    pub fn import_sessions(&self, timeout: Duration) -> SessionImporter<'_, I> {
        let slot = || Slot { filling: Box::new(SessionImport::new(IMPORT_BATCH)), working: None };
        let slots = self.shared.workers.iter().map(|_| slot()).collect();
        SessionImporter { engine: self, timeout, slots, taken: Taken::default() }
    }

    /// Neighbours that have answered.
    pub fn export_neighbours(&self) -> Vec<NeighbourRecord> {
        let tables = self.snapshot();
        let resolved =
            tables.neighbours.iter().filter(|(_, neighbour)| neighbour.state == NeighbourState::Resolved);
        resolved
            .map(|(_, neighbour)| NeighbourRecord {
                interface: neighbour.interface,
                address: neighbour.address,
                mac: neighbour.header.destination(),
            })
            .collect()
    }

    /// Takes neighbours of another process, in this engine's numbers. They
    /// count as having answered now. An interface takes at most `limit`.
    pub fn import_neighbours(
        &self,
        neighbours: impl IntoIterator<Item = NeighbourRecord>,
        limit: usize,
    ) -> NeighboursTaken {
        let mut taken = NeighboursTaken::default();
        let (learned, _) = self.update(|tables| {
            let mut room = Room { limit, used: Vec::new() };
            let mut learned = Vec::new();
            for record in neighbours {
                match enter(tables, &record, &mut room) {
                    Some(id) => learned.push((id, record)),
                    None => taken.refused += 1,
                }
            }
            learned
        });
        taken.restored = learned.len() as u64;
        // From now on the service probes and ages them.
        for (neighbour, NeighbourRecord { interface, address, mac }) in learned {
            let said = Said::Carried;
            let mut item = Learned::Neighbour { neighbour, interface, address, mac, said };
            let deadline = Instant::now() + Duration::from_secs(1);
            while let Err(back) = self.shared.neighbour_rings.learned.push(item) {
                // What is not told is in the tables all the same, and asked
                // for again when somebody needs it.
                if Instant::now() > deadline {
                    break;
                }
                item = back;
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        taken
    }
}

/// How many neighbours each interface has got.
struct Room {
    limit: usize,
    used: Vec<(InterfaceId, usize)>,
}

impl Room {
    fn take(&mut self, interface: InterfaceId) -> bool {
        let at = match self.used.iter().rposition(|(id, _)| *id == interface) {
            Some(at) => at,
            None => {
                self.used.push((interface, 0));
                self.used.len() - 1
            }
        };
        let used = &mut self.used[at].1;
        *used += 1;
        *used <= self.limit
    }
}

/// Enters a neighbour into the tables, unless one with a configured MAC is
/// there.
fn enter(tables: &mut Tables, record: &NeighbourRecord, room: &mut Room) -> Option<NeighbourId> {
    if !record.mac.is_unicast() || !room.take(record.interface) {
        return None;
    }
    let id = tables.intern_neighbour(record.interface, record.address)?;
    let neighbour = tables.neighbours.get_mut(id.index())?;
    if neighbour.state != NeighbourState::Static {
        neighbour.state = NeighbourState::Resolved;
        neighbour.header.set_destination(record.mac);
    }
    Some(id)
}

/// Sessions on their way to one worker.
struct Slot {
    filling: Box<SessionImport>,
    working: Option<Receiver<Box<SessionImport>>>,
}

/// Gives sessions of another process to the workers that own them here.
pub struct SessionImporter<'a, I: Io> {
    engine: &'a Engine<I>,
    timeout: Duration,
    slots: Vec<Slot>,
    taken: Taken,
}

impl<I: Io> std::fmt::Debug for SessionImporter<'_, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionImporter").field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<I: Io> SessionImporter<'_, I> {
    /// Takes one. Waits for the worker while it has too many.
    ///
    /// # Errors
    /// When a worker is stuck.
    pub fn push(&mut self, session: SessionRecord) -> Result<(), TransferError> {
        let at = worker_of(flow_hash(&session.key), self.slots.len()).index();
        if self.slots[at].filling.push(session) { Ok(()) } else { self.send(at) }
    }

    /// Waits until the workers have taken all, and says what became of them.
    ///
    /// # Errors
    /// When a worker is stuck.
    pub fn finish(mut self) -> Result<Taken, TransferError> {
        for at in 0..self.slots.len() {
            if !self.slots[at].filling.is_empty() {
                self.send(at)?;
            }
        }
        for at in 0..self.slots.len() {
            self.take_back(at)?;
        }
        Ok(self.taken)
    }

    /// Gives a worker what has been collected for it.
    fn send(&mut self, at: usize) -> Result<(), TransferError> {
        let spare = self.take_back(at)?.unwrap_or_else(|| Box::new(SessionImport::new(IMPORT_BATCH)));
        let slot = &mut self.slots[at];
        let (done, receiver) = Done::new();
        let full = std::mem::replace(&mut slot.filling, spare);
        slot.working = Some(receiver);
        push_command(&self.engine.shared.workers[at], Command::ImportSessions(full, done));
        Ok(())
    }

    /// Waits for what a worker has in hand, if it has anything.
    fn take_back(&mut self, at: usize) -> Result<Option<Box<SessionImport>>, TransferError> {
        let Some(receiver) = self.slots[at].working.take() else { return Ok(None) };
        let mut import = receive(at, &receiver, self.timeout)?;
        self.taken.add(import.finish());
        Ok(Some(import))
    }
}

fn receive<T>(at: usize, receiver: &Receiver<T>, timeout: Duration) -> Result<T, TransferError> {
    let worker = WorkerId(at as u16);
    receiver.recv_timeout(timeout).map_err(|_| TransferError::Timeout { worker, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineConfig;
    use crate::io::memory::{MemoryIo, MemoryPool};
    use crate::packet::flow_key::FlowKey;
    use crate::session::Allowance;
    use crate::session::State;
    use crate::tables::vrf::Vrf;
    use crate::testbed::topology;
    use crate::transfer::stream::{Chunk, Reader, write_end};
    use crate::types::{MacAddr, VrfId};

    const TIMEOUT: Duration = Duration::from_secs(60);
    const SESSIONS: u32 = 20_000;

    fn engine(workers: usize, sessions: usize, quota: u32) -> Engine<MemoryIo> {
        let config = EngineConfig { cores: vec![None; workers], sessions, ..EngineConfig::default() };
        let engine = Engine::start(config, MemoryPool::new(16)).expect("threads");
        let (_, version) = engine.update(|tables| {
            tables.vrfs.insert(1, Vrf { sessions: Allowance { quota, ..Allowance::ALL }, ..Vrf::default() });
        });
        assert!(engine.wait_programmed(version, TIMEOUT));
        engine
    }

    fn session(number: u32, vrf: u16) -> SessionRecord {
        let mut key = FlowKey { protocol: 6, destination_port: 443, vrf: VrfId(vrf), ..FlowKey::ZERO };
        key.source[..4].copy_from_slice(&(0x0a00_0000 + number / 1000).to_be_bytes());
        key.source_port = (1024 + number % 1000) as u16;
        key.destination[..4].copy_from_slice(&[10, 2, 0, 1]);
        SessionRecord {
            key,
            reply_vrf: VrfId(vrf),
            ingress: [InterfaceId(3), InterfaceId::NONE],
            state: State::TcpEstablished,
            // Some time passes for them on the way.
            age: 160_000,
            idle: [16, 32],
            packets: [u64::from(number), 7],
            bytes: [u64::from(number) << 20, 1],
        }
    }

    fn import(engine: &Engine<MemoryIo>, sessions: impl Iterator<Item = SessionRecord>) -> Taken {
        let mut importer = engine.import_sessions(TIMEOUT);
        for session in sessions {
            importer.push(session).expect("the workers run");
        }
        importer.finish().expect("the workers run")
    }

    fn export(engine: &Engine<MemoryIo>, since: Option<&Marks>) -> (Exported, Vec<SessionRecord>) {
        let mut bytes = Vec::new();
        let mut sink = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        };
        let exported = engine.export_sessions(since, TIMEOUT, &mut sink).expect("the workers run");
        write_end(&mut sink).expect("memory takes everything");
        let (mut reader, mut sessions) = (Reader::new(&bytes[..]), Vec::new());
        loop {
            match reader.next_chunk().expect("our own stream") {
                Chunk::Sessions(records) => {
                    sessions.extend(records.map(|record| record.expect("our own stream")));
                }
                Chunk::End => break,
                other => panic!("only sessions were written: {other:?}"),
            }
        }
        sessions.sort_by_key(|session| session.packets[0]);
        (exported, sessions)
    }

    #[test]
    fn sessions_move_to_an_engine_with_another_number_of_workers() {
        let (old, new) = (engine(3, 20_000, u32::MAX), engine(2, 20_000, u32::MAX));
        let taken = import(&old, (0..SESSIONS).map(|number| session(number, 1)));
        assert_eq!(taken, Taken { restored: u64::from(SESSIONS), ..Taken::default() });
        let (exported, sessions) = export(&old, None);
        assert_eq!((exported.sessions, sessions.len()), (u64::from(SESSIONS), SESSIONS as usize));
        assert_eq!(import(&new, sessions.into_iter()), taken);
        let (_, arrived) = export(&new, None);
        assert_eq!(arrived.len(), SESSIONS as usize);
        for (number, arrived) in arrived.iter().enumerate() {
            let sent = session(number as u32, 1);
            let passed = arrived.age - sent.age;
            assert!(passed < 16 * 60, "{passed} ticks");
            let idle = sent.idle.map(|ticks| ticks + passed);
            assert!(arrived.idle.iter().zip(idle).all(|(is, most)| *is <= most), "{arrived:?}");
            assert_eq!(*arrived, SessionRecord { age: arrived.age, idle: arrived.idle, ..sent });
        }
        for view in new.sessions(None, SESSIONS as usize, TIMEOUT).expect("the workers run") {
            assert_eq!(view.worker, worker_of(flow_hash(&view.keys[0]), 2), "its owner here");
        }
        // Nothing has had a packet since the copy began: the state is idle for a second.
        let (again, changed) = export(&old, Some(&exported.marks));
        assert_eq!((again.sessions, changed.len()), (0, 0));
        old.stop();
        new.stop();
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let few = engine(1, 100, 60);
        let taken = import(&few, (0..70).map(|number| session(number, 1)));
        assert_eq!(taken, Taken { restored: 60, quota: 10, ..Taken::default() });
        let taken = import(&few, (100..150).map(|number| session(number, 0)));
        assert_eq!(taken, Taken { restored: 40, full: 10, ..Taken::default() });
        assert_eq!(import(&few, [session(9, 77)].into_iter()).quota, 1, "a VRF that is not there");
        let over = SessionRecord { idle: [16 * 7440; 2], ..session(500, 1) };
        assert_eq!(import(&few, [over].into_iter()).over, 1);
        few.stop();
    }

    #[test]
    fn a_worker_that_does_not_answer_is_an_error_and_so_is_a_sink_that_is_gone() {
        let (start, started) = std::sync::mpsc::channel::<()>();
        let started = std::sync::Mutex::new(started);
        let thread_setup = std::sync::Arc::new(move || {
            let _ = super::super::lock(&started).recv();
            Box::new(()) as Box<dyn std::any::Any>
        });
        let config = EngineConfig { sessions: 16, thread_setup, ..EngineConfig::default() };
        let engine: Engine<MemoryIo> = Engine::start(config, MemoryPool::new(1)).expect("threads");
        let late = engine.export_sessions(None, Duration::from_millis(20), &mut |_| Ok(()));
        let late = late.expect_err("nobody answers").to_string();
        assert_eq!(late, "worker 0 has not answered within 0.02 s");
        drop(start);
        import(&engine, [session(1, 0)].into_iter());
        let gone = |_: &[u8]| Err(io::Error::from(io::ErrorKind::BrokenPipe));
        let error = engine.export_sessions(None, TIMEOUT, &mut { gone }).expect_err("nobody reads");
        assert!(matches!(error, TransferError::Sink(_)), "{error}");
        assert_eq!(export(&engine, None).1.len(), 1, "it goes on as before");
        engine.stop();
    }

    #[test]
    fn neighbours_are_known_at_once_and_bounded() {
        let old = engine(1, 16, 1);
        let new = engine(1, 16, 1);
        for engine in [&old, &new] {
            engine.update(|tables| *tables = Tables { version: tables.version, ..topology::tables() });
        }
        let neighbour = |host: u8| NeighbourRecord {
            interface: topology::FABRIC_INTERFACE,
            address: [198, 18, 0, host].into(),
            mac: MacAddr([2, 0, 0, 0, 9, host]),
        };
        let unknown = NeighbourRecord { interface: InterfaceId(99), ..neighbour(1) };
        let all = [neighbour(7), neighbour(8), unknown];
        let taken = old.import_neighbours(all, 10);
        assert_eq!(taken, NeighboursTaken { restored: 2, refused: 1 });
        let mut carried = old.export_neighbours();
        carried.sort_by_key(|record| record.address);
        assert_eq!(carried, all[..2]);
        assert_eq!(new.import_neighbours(carried, 1), NeighboursTaken { restored: 1, refused: 1 });
        assert_eq!(new.export_neighbours(), [neighbour(7)]);
        // A configured MAC stays.
        let static_one =
            NeighbourRecord { address: topology::REMOTE.parse().expect("an address"), ..neighbour(1) };
        new.import_neighbours([static_one], 10);
        let mac = new.read(|tables| {
            let id = tables.neighbour_index[&(static_one.interface, static_one.address)];
            tables.neighbours.get(id.index()).map(|neighbour| neighbour.header.destination())
        });
        assert_eq!(mac, Some(topology::REMOTE_MAC));
        old.stop();
        new.stop();
    }
}
