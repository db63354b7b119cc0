//! The daemon that comes, and takes over from the one that runs.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_engine::transfer::{Chunk, Names, NeighbourRecord, Numbering, Reader};
use tieline_engine::types::MacAddr;
use tieline_engine::worker::transfer::Taken;
use tieline_rib::PortInfo;

use crate::upgrade::frame::{Channel, FrameError, Kind, PortFacts};
use crate::upgrade::site::{Site, wait_programmed};
use crate::upgrade::socket::Process;
use crate::upgrade::{FROZEN_PATIENCE, PREPARE_PATIENCE, WORKER_PATIENCE, check_hello, hello};

/// How long devices that are open beside the other daemon's are left alone
/// before what they have received is thrown away again.
const DRAIN_PAUSE: Duration = Duration::from_micros(100);

/// How long the kernel may take to free the AF_XDP sockets of a process that
/// has ended. It does so on the side, and the driver tries only once.
const KERNEL_PAUSE: Duration = Duration::from_millis(100);

/// Everything came over but the word that the other daemon is gone.
#[must_use]
pub struct Taking {
    channel: Channel,
    other: Process,
    frozen: Instant,
}

/// Asks the daemon at the other end for everything that it has, and forwards
/// in its place. Until [`Taking::finish`] it can still take everything back.
///
/// # Errors
/// When something cannot be taken; then the other daemon goes on, and this one
/// must end.
pub fn take(stream: UnixStream, site: &mut dyn Site, neighbours: usize) -> anyhow::Result<Taking> {
    let other = Process::of(&stream);
    let mut channel = Channel::new(stream, PREPARE_PATIENCE)?;
    let taken = take_all(&mut channel, site, neighbours);
    match taken {
        Ok(frozen) => Ok(Taking { channel, other, frozen }),
        Err(error) => {
            // It may be gone, or know already.
            let _ = channel.send(Kind::Refused, format!("{error:#}").as_bytes());
            Err(error)
        }
    }
}

impl Taking {
    /// Tells the other daemon that this one forwards, waits for its word and
    /// its end, and opens the devices that it has kept until then.
    ///
    /// # Errors
    /// When it has taken everything back: then this one must end.
    pub fn finish(mut self, site: &mut dyn Site) -> anyhow::Result<()> {
        tracing::info!(milliseconds = self.frozen.elapsed().as_millis(), "forwarding, after a standstill");
        let told = self.channel.send(Kind::Forwarding, &[]).map_err(FrameError::from);
        match told.and_then(|()| self.channel.expect(Kind::Yours).map(drop)) {
            Ok(()) => {}
            Err(FrameError::Refused(why)) => bail!("the other daemon goes on itself: {why}"),
            // A daemon that took everything back would have said so.
            Err(error) => tracing::warn!("the other daemon has ended without a word: {error}"),
        }
        if site.devices().waits_for_an_end() {
            if !self.other.wait_end(FROZEN_PATIENCE) {
                tracing::warn!("the other daemon has not ended: some of its devices may not open");
            }
            std::thread::sleep(KERNEL_PAUSE);
        }
        site.devices().finish_plan();
        tracing::info!(milliseconds = self.frozen.elapsed().as_millis(), "took over");
        Ok(())
    }
}

/// Returns when the other daemon stopped to forward.
fn take_all(channel: &mut Channel, site: &mut dyn Site, neighbours: usize) -> anyhow::Result<Instant> {
    channel.send(Kind::Hello, &hello().to_bytes())?;
    let theirs = check_hello(channel.expect(Kind::Hello)?)?;
    tracing::info!(release = theirs.release, "taking over");
    let started = Instant::now();
    let version = declare(channel, site)?;
    wait_programmed(site, version)?;
    tracing::info!(milliseconds = started.elapsed().as_millis(), "programmed what is declared");
    let mut state = State::new(neighbours);
    state.take(channel, site, Kind::Copied)?;
    site.devices().open_beside()?;
    // While the last was opened, the first have received.
    site.devices().drain();
    channel.send(Kind::Ready, &[])?;

    channel.set_patience(FROZEN_PATIENCE)?;
    while !channel.has_news()? {
        site.devices().drain();
        std::thread::sleep(DRAIN_PAUSE);
    }
    channel.expect(Kind::Detached)?;
    let frozen = Instant::now();
    channel.expect(Kind::Closed)?;
    site.devices().open_planned()?;
    let opened = frozen.elapsed();
    state.take(channel, site, Kind::Released)?;
    site.devices().attach_planned()?;
    tracing::info!(
        devices_milliseconds = opened.as_millis(),
        all_milliseconds = frozen.elapsed().as_millis(),
        "took the devices"
    );
    state.tell();
    Ok(frozen)
}

/// Declares what the other daemon has declared, with ports that are planned.
fn declare(channel: &mut Channel, site: &mut dyn Site) -> anyhow::Result<u64> {
    let (mut records, mut ports) = (Vec::new(), Vec::new());
    loop {
        match channel.receive()? {
            (Kind::Record, bytes) => records.push(bytes.to_vec()),
            (Kind::Port, bytes) => {
                let facts = PortFacts::parse(bytes).context("a port of the other daemon is damaged")?;
                ports.push((facts.name, PortInfo { mac: MacAddr(facts.mac), mtu: facts.mtu }));
            }
            (Kind::Declared, _) => break,
            (kind, _) => bail!(FrameError::Unexpected(format!("{kind:?} among records"))),
        }
    }
    tracing::info!(records = records.len(), ports = ports.len(), "declaring");
    site.devices().plan(ports.into_iter().collect());
    site.declare(&records)
}

/// Live state as it comes in.
struct State {
    numbering: Option<Numbering>,
    names: Names,
    /// Most neighbours of an interface.
    limit: usize,
    /// By part: what was copied early, and what followed.
    taken: Vec<Taken>,
    /// Sessions whose VRF or interface is not here.
    unknown: u64,
    neighbours: u64,
}

impl State {
    fn new(limit: usize) -> Self {
        Self { numbering: None, names: Names::default(), limit, taken: Vec::new(), unknown: 0, neighbours: 0 }
    }

    /// Takes what comes until `last`.
    fn take(&mut self, channel: &mut Channel, site: &mut dyn Site, last: Kind) -> anyhow::Result<()> {
        let engine: Engine<DpdkIo> = site.workers().clone();
        let mut importer = engine.import_sessions(WORKER_PATIENCE);
        loop {
            let chunk = match channel.receive()? {
                (Kind::State, chunk) => chunk,
                (kind, _) if kind == last => break,
                (kind, _) => bail!(FrameError::Unexpected(format!("{kind:?} among live state"))),
            };
            let mut reader = Reader::new(chunk);
            match reader.next_chunk()? {
                Chunk::Vrfs(names) => self.names.vrfs.extend(names),
                Chunk::Interfaces(names) => self.names.interfaces.extend(names),
                Chunk::Sessions(records) => {
                    for record in records {
                        match self.numbering(site).session(&record?) {
                            Some(ours) => importer.push(ours)?,
                            None => self.unknown += 1,
                        }
                    }
                }
                Chunk::Neighbours(records) => {
                    let records: Vec<_> = records.collect::<Result<_, _>>()?;
                    let numbering = self.numbering(site);
                    let ours: Vec<NeighbourRecord> =
                        records.iter().filter_map(|record| numbering.neighbour(record)).collect();
                    self.neighbours = engine.import_neighbours(ours, self.limit).restored;
                }
                Chunk::End => {}
            }
            ensure!(reader.into_inner().is_empty(), "a message of live state holds more than a chunk");
        }
        self.taken.push(importer.finish()?);
        Ok(())
    }

    /// Made when the first record needs it: by then all names are here.
    fn numbering(&mut self, site: &dyn Site) -> &Numbering {
        let names = &self.names;
        self.numbering.get_or_insert_with(|| site.numbering(names))
    }

    fn tell(&self) {
        let parts: Vec<u64> = self.taken.iter().map(|part| part.restored).collect();
        tracing::info!(sessions_by_part = ?parts, neighbours = self.neighbours, "took the live state");
        let sum = |count: fn(&Taken) -> u64| self.taken.iter().map(count).sum::<u64>();
        let (over, quota, full) = (sum(|part| part.over), sum(|part| part.quota), sum(|part| part.full));
        let lost = quota + full + self.unknown;
        if lost + over > 0 {
            tracing::warn!(
                over_quota = quota,
                table_full = full,
                no_such_vrf_or_interface = self.unknown,
                idle_too_long = over,
                "sessions that were not taken"
            );
        }
    }
}
